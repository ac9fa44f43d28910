"""The run locks that this process holds. A run lock allows one run of a job at a time.

A store holds the run lock of a job in two cases:

- A run of this process works on the job.
- A caller has set the job's status to running, without starting a run. Such a lock is called
  "taken by hand". It prevents runs of other processes. If this process starts a run later, the
  commit that starts the run also takes over the lock from the store that holds it.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from journal.index.index import PROCESSING
from journal.model import TERMINAL_STATUSES
from journal.store.journal import Journal
from journal.store.run_lock import Identity, RunLock, identity_of


class _Hold:
    """A run lock and the store that holds it.

    - ``is_kept``: True if a run uses the lock, or if the commit that needs the lock hasn't begun
      yet.
    - ``by_hand_from``: the offset at which the journal ended when the lock was taken by hand. None
      if a run has the lock.
    - ``over``: the commit that is taking over this lock. If the commit fails, the lock goes back to
      the store that held it before.
    """

    __slots__ = ("__weakref__", "by_hand_from", "is_kept", "lock", "over", "owner")

    def __init__(self, lock: RunLock, owner: weakref.ref[RunHolds]) -> None:
        self.lock = lock
        self.owner = owner
        self.is_kept = True
        self.by_hand_from: int | None = None
        self.over: Taken | None = None

    @property
    def is_live(self) -> bool:
        return self.lock.held and self.lock.at_path


class Taken:
    """Tracks the run lock that a commit takes, until the commit has succeeded or failed.

    Create the object before the commit begins. If the lock was taken over from another store,
    ``lender`` is that store, and ``by_hand_from`` is the former ``by_hand_from`` of the
    :class:`_Hold`.
    """

    __slots__ = ("by_hand_from", "hold", "lender")

    def __init__(self) -> None:
        self.hold: _Hold | None = None
        self.lender: weakref.ref[RunHolds] | None = None
        self.by_hand_from: int | None = None


# The holds of all stores, by the identity of the job's directory: a link leads to the same job.
_holds: weakref.WeakValueDictionary[Identity, _Hold] = weakref.WeakValueDictionary()
_mutex = threading.Lock()  # guards changes of all holds


class RunHolds:
    """The run locks that one store holds. Thread-safe. A forked child holds none of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._me = weakref.ref(self)
        self._holds: dict[str, _Hold] = {}  # including holds that another store is taking over

    def __bool__(self) -> bool:
        return bool(self._holds)

    def close(self) -> None:
        for job_id in list(self._holds):
            self.release(job_id)

    def take(self, job_id: str, taken: Taken) -> bool:
        """Take the job's run lock. Raises JobBusyError.

        Returns False if this store already has the lock, or if a store of this process has taken
        the lock by hand (without a run).
        """
        hold = self._hold_of_any(job_id)
        is_there = hold is not None and (hold.owner is self._me or hold.by_hand_from is not None)
        if hold is not None and is_there and hold.is_live:
            return False
        hold = _Hold(RunLock.take(self.root / job_id, job_id), self._me)
        with _mutex:
            taken.hold = self._holds[job_id] = _holds[hold.lock.identity] = hold
        return True

    def take_over(self, job_id: str, taken: Taken, *, keep: bool) -> bool:
        """Take over a run lock that was taken by hand (without a run) in this process.

        Returns False if there is no such lock.
        """
        hold = self._hold_of_any(job_id)
        if hold is None or not hold.is_live:
            return False
        with _mutex:
            if hold.by_hand_from is None:
                return False
            self._holds[job_id] = hold
            taken.by_hand_from, taken.lender, taken.hold = hold.by_hand_from, hold.owner, hold
            hold.over, hold.owner, hold.is_kept, hold.by_hand_from = taken, self._me, keep, None
        return True

    def mark(self, taken: Taken, *, keep: bool = False, by_hand_from: int | None = None) -> None:
        """Set ``is_kept`` and ``by_hand_from`` of a run lock.

        Call this when the commit has begun.
        """
        with _mutex:
            if taken.hold is not None:
                taken.hold.is_kept, taken.hold.by_hand_from = keep, by_hand_from

    def settle(self, job_id: str, taken: Taken, *, written: bool) -> None:
        """Keep the lock if the commit was written.

        If the commit wasn't written, give the lock back to the store from which it was taken over.
        If there is no such store, release the lock.
        """
        with _mutex:
            hold = taken.hold
            if hold is None:
                return
            lender = None if taken.lender is None else taken.lender()
            if hold.over is not taken:
                if not written and hold.over is not None:
                    hold.over = None  # another store has taken over the lock, and will release it
                elif not written:
                    self._let_go(job_id, hold)
            elif written or lender is None:
                hold.over = None
                if not written:
                    self._let_go(job_id, hold)
            else:
                hold.by_hand_from, hold.is_kept = taken.by_hand_from, False
                hold.owner, hold.over = lender._me, None  # noqa: SLF001  (of this class)
            for store in (self, lender):
                if store is not None and hold.owner is not store._me:  # noqa: SLF001  (of this class)
                    store._forget(job_id, hold)  # noqa: SLF001  (of this class)
            taken.hold = None

    def keeps(self, job_id: str) -> bool:
        hold = self._mine(job_id)
        return hold is not None and hold.is_kept

    def holds(self, job_id: str) -> bool:
        hold = self._mine(job_id)
        return hold is not None and hold.is_live

    def has_lost(self, job_id: str) -> bool:
        """Return whether this store's lock is useless: another job or run is at the path now."""
        hold = self._mine(job_id)
        return hold is not None and not hold.is_live

    def release(self, job_id: str) -> None:
        with _mutex:
            hold = self._holds.get(job_id)
            if hold is None:
                return
            if hold.owner is self._me:
                self._let_go(job_id, hold)
            else:
                self._forget(job_id, hold)
                hold.over = None  # the lock won't be returned

    def leave(self, job_id: str) -> None:
        """Release the lock after the job has stopped running.

        If the lock's ``is_kept`` is True, the lock isn't released: see :class:`_Hold`.
        """
        hold = self._mine(job_id)
        if hold is not None and hold.is_kept:
            hold.over = None  # the lock won't be returned
        else:
            self.release(job_id)

    def release_if_over(self, journal: Journal) -> None:
        """Release the lock if the job has ended and no row is in flight.

        Another process may have ended the job. If the lock's ``is_kept`` is True, the lock isn't
        released: see :class:`_Hold`. The caller must hold the journal's mutex.
        """
        hold = self._mine(journal.job_id)
        if hold is not None and not hold.is_kept and not journal.in_commit and is_over(journal):
            self.release(journal.job_id)

    def _hold_of_any(self, job_id: str) -> _Hold | None:
        identity = identity_of(self.root / job_id) if _holds else None
        return None if identity is None else _holds.get(identity)

    def _mine(self, job_id: str) -> _Hold | None:
        hold = self._holds.get(job_id)
        return hold if hold is not None and hold.owner is self._me else None

    def _let_go(self, job_id: str, hold: _Hold) -> None:
        hold.lock.release()  # the first step, so that an interrupt can't leave the lock taken
        hold.by_hand_from = None
        self._forget(job_id, hold)

    def _forget(self, job_id: str, hold: _Hold) -> None:
        if self._holds.get(job_id) is hold:
            del self._holds[job_id]


def reset_after_fork() -> None:
    """In a forked child: drop all holds, and replace the mutex.

    A thread of the parent may have held the mutex during the fork.
    """
    global _mutex  # noqa: PLW0603  (one per process)
    _mutex = threading.Lock()
    _holds.clear()


def has_ended(journal: Journal) -> bool:
    """Return whether the job has ended. The caller must hold the journal's mutex."""
    state = journal.index.state
    return state is not None and state.status in TERMINAL_STATUSES


def is_over(journal: Journal) -> bool:
    """Return whether the job has ended and no row is in flight (started, without an outcome).

    The caller must hold the journal's mutex.
    """
    return has_ended(journal) and not journal.index.status_counts[PROCESSING]
