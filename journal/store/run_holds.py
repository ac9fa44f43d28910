"""The run locks that the stores of this process hold, for a run or for a status set by hand.

The second kind keeps other processes away. In this process nobody is at work on the job yet, so a
run takes such a lock over, from whichever store has it, within its commit: there is one at a time.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from journal.index.index import PROCESSING
from journal.model import TERMINAL_STATUSES
from journal.store.journal import Journal
from journal.store.run_lock import RunLock


class _Hold:
    """A lock, and which store has it.

    ``is_kept``: by a run at work, or until the commit that it was taken for has begun.
    ``by_hand_from``: where the journal ended when the status was set by hand.
    ``over``: who has taken it over and may have to put it back.
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
    """What a commit or a block has taken, or taken over, until that is settled. Made before it."""

    __slots__ = ("by_hand_from", "hold", "lender")

    def __init__(self) -> None:
        self.hold: _Hold | None = None
        self.lender: weakref.ref[RunHolds] | None = None  # from whom it was taken over, ...
        self.by_hand_from: int | None = None  # ... and where the journal ended by then


_holds: weakref.WeakValueDictionary[Path, _Hold] = weakref.WeakValueDictionary()  # of all stores
_mutex = threading.Lock()  # for changes of any hold


class RunHolds:
    """Those of one store. Thread-safe; a forked child has none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._me = weakref.ref(self)
        self._holds: dict[str, _Hold] = {}  # also what another store has taken over, until settled

    def __bool__(self) -> bool:
        return bool(self._holds)

    def close(self) -> None:
        for job_id in list(self._holds):
            self.release(job_id)

    def take(self, job_id: str, taken: Taken) -> bool:
        """Hold the job's run lock; raises JobBusyError.

        False if this store holds it already, or one of this process by hand.
        """
        hold = _holds.get(self.root / job_id)
        is_there = hold is not None and (hold.owner is self._me or hold.by_hand_from is not None)
        if hold is not None and is_there and hold.is_live:
            return False
        hold = _Hold(RunLock.take(self.root / job_id, job_id), self._me)
        with _mutex:
            taken.hold = self._holds[job_id] = _holds[self.root / job_id] = hold
        return True

    def take_over(self, job_id: str, taken: Taken, *, keep: bool) -> bool:
        """Have what any store of this process holds by hand; False if none does."""
        hold = _holds.get(self.root / job_id)
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
        """What was taken is for this; by then the commit has begun."""
        with _mutex:
            if taken.hold is not None:
                taken.hold.is_kept, taken.hold.by_hand_from = keep, by_hand_from

    def settle(self, job_id: str, taken: Taken, *, written: bool) -> None:
        """What was taken stays if that was written; else it is let go of, or goes back by hand."""
        with _mutex:
            hold = taken.hold
            if hold is None:
                return
            lender = None if taken.lender is None else taken.lender()
            if hold.over is not taken:
                if not written and hold.over is not None:
                    hold.over = None  # whoever has taken it over since lets go of it
                elif not written:
                    self._let_go(job_id, hold)
            elif written or lender is None:
                hold.over = None
                if not written:
                    self._let_go(job_id, hold)
            else:
                hold.by_hand_from, hold.is_kept = taken.by_hand_from, False
                hold.owner, hold.over = lender._me, None  # noqa: SLF001
            for store in (self, lender):
                if store is not None and hold.owner is not store._me:  # noqa: SLF001
                    store._forget(job_id, hold)  # noqa: SLF001
            taken.hold = None

    def keeps(self, job_id: str) -> bool:
        hold = self._mine(job_id)
        return hold is not None and hold.is_kept

    def holds(self, job_id: str) -> bool:
        hold = self._mine(job_id)
        return hold is not None and hold.is_live

    def has_lost(self, job_id: str) -> bool:
        """Whether it has the lock, and another job or run has its place."""
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
                hold.over = None  # it doesn't go back

    def leave(self, job_id: str) -> None:
        """The job isn't running any more: release what isn't kept."""
        hold = self._mine(job_id)
        if hold is not None and hold.is_kept:
            hold.over = None  # nor does it go back by hand
        else:
            self.release(job_id)

    def release_if_over(self, journal: Journal) -> None:
        """Release what isn't kept once another process has ended the job.

        The caller holds the log's mutex.
        """
        hold = self._mine(journal.job_id)
        if hold is not None and not hold.is_kept and not journal.in_commit and is_over(journal):
            self.release(journal.job_id)

    def _mine(self, job_id: str) -> _Hold | None:
        hold = self._holds.get(job_id)
        return hold if hold is not None and hold.owner is self._me else None

    def _let_go(self, job_id: str, hold: _Hold) -> None:
        hold.lock.release()  # first: an interrupt that comes now leaves none that nobody frees
        hold.by_hand_from = None
        self._forget(job_id, hold)

    def _forget(self, job_id: str, hold: _Hold) -> None:
        if self._holds.get(job_id) is hold:
            del self._holds[job_id]


def reset_after_fork() -> None:
    """In a forked child: another thread may have held the mutex."""
    global _mutex  # noqa: PLW0603
    _mutex = threading.Lock()
    _holds.clear()


def has_ended(journal: Journal) -> bool:
    """Whether the job has. The caller holds the log's mutex."""
    state = journal.index.state
    return state is not None and state.status in TERMINAL_STATUSES


def is_over(journal: Journal) -> bool:
    """Whether the job has ended and no row is in flight. The caller holds the log's mutex."""
    return has_ended(journal) and not journal.index.status_counts[PROCESSING]
