"""The run locks that one store holds, and why: for a run, or for a status that was set by hand.

The second kind keeps other processes away. In this process nobody is at work on the job yet, so a
run takes such a lock over, from whichever store has it.
"""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from journal.index import PROCESSING
from journal.log import Log
from journal.model import TERMINAL_STATUSES
from journal.runlock import RunLock


class _Hold:
    """A lock. ``is_kept``: by a run at work. ``by_hand_from``: where the journal ended, by hand."""

    __slots__ = ("by_hand_from", "is_kept", "lock")

    def __init__(self, lock: RunLock, *, is_kept: bool) -> None:
        self.lock = lock
        self.is_kept = is_kept
        self.by_hand_from: int | None = None


class RunHolds:
    """See the module. Thread-safe; a forked child has none."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mutex = threading.Lock()
        self._holds: dict[str, _Hold] = {}

    def __bool__(self) -> bool:
        return bool(self._holds)

    def close(self) -> None:
        for job_id in list(self._holds):
            self.release(job_id)

    def take(self, job_id: str, *, keep: bool = False) -> bool:
        """Hold the job's run lock; False if this store holds it already. Raises JobBusyError.

        ``keep``: until it is let go of for itself, and not because the job has left its status.
        """
        if self.holds(job_id):
            return False
        hold = _Hold(RunLock.take(self.root / job_id, job_id), is_kept=keep)
        with self._mutex:
            self._holds[job_id] = hold
        return True

    def keeps(self, job_id: str) -> bool:
        hold = self._holds.get(job_id)
        return hold is not None and hold.is_kept

    def holds(self, job_id: str) -> bool:
        hold = self._holds.get(job_id)
        return hold is not None and hold.lock.held and hold.lock.at_path

    def release(self, job_id: str) -> None:
        hold = self._holds.get(job_id)
        if hold is not None:
            hold.lock.release()  # first: an interrupt that comes now leaves none that nobody frees
            with self._mutex:
                if self._holds.get(job_id) is hold:
                    del self._holds[job_id]
            if hold.by_hand_from is not None:
                self._forget_by_hand(job_id)

    def release_if_over(self, log: Log) -> None:
        """Release what isn't kept once another process has ended the job.

        The caller holds the log's mutex.
        """
        job_id = log.directory.name
        hold = self._holds.get(job_id)
        if hold is not None and not hold.is_kept and not log.in_commit and is_over(log):
            self.release(job_id)

    # --- by hand

    def mark_by_hand(self, job_id: str, end: int) -> None:
        """What was just taken is for a status set by hand; the journal ended at ``end`` by then."""
        self._holds[job_id].by_hand_from = end
        with _by_hand_guard:
            _by_hand[self.root / job_id] = weakref.ref(self)

    def is_by_hand(self, job_id: str) -> bool:
        """Whether any store of this process holds the lock by hand."""
        return self._holder_by_hand(job_id) is not None

    def take_over(self, job_id: str) -> int | None:
        """Have the lock that any store of this process holds by hand; where the journal ended then."""
        holder = self._holder_by_hand(job_id)
        if holder is None:
            return None
        with holder._mutex:  # noqa: SLF001
            hold = holder._holds.pop(job_id, None)  # noqa: SLF001
        if hold is None or hold.by_hand_from is None:
            return None
        with self._mutex:
            self._holds[job_id] = hold
        self.mark_by_hand(job_id, hold.by_hand_from)
        return hold.by_hand_from

    def end_by_hand(self, job_id: str, *, keep: bool) -> None:
        """From now on a run holds what it took over."""
        hold = self._holds[job_id]
        hold.by_hand_from = None
        hold.is_kept = keep
        self._forget_by_hand(job_id)

    def _forget_by_hand(self, job_id: str) -> None:
        with _by_hand_guard:
            found = _by_hand.get(self.root / job_id)
            if found is not None and found() in (self, None):
                del _by_hand[self.root / job_id]

    def _holder_by_hand(self, job_id: str) -> RunHolds | None:
        with _by_hand_guard:
            found = _by_hand.get(self.root / job_id)
        holder = None if found is None else found()
        if holder is None or not holder.holds(job_id):
            return None
        hold = holder._holds.get(job_id)  # noqa: SLF001
        return None if hold is None or hold.by_hand_from is None else holder


_by_hand: dict[Path, weakref.ref[RunHolds]] = {}  # whose it is, of this process
_by_hand_guard = threading.Lock()


def reset_after_fork() -> None:
    """In a forked child: another thread may have held the guard."""
    global _by_hand_guard  # noqa: PLW0603
    _by_hand_guard = threading.Lock()
    _by_hand.clear()


def is_over(log: Log) -> bool:
    """Whether the job has ended and no row is in flight. The caller holds the log's mutex."""
    state = log.index.state
    ended = state is not None and state.status in TERMINAL_STATUSES
    return ended and not log.index.tallies[PROCESSING]
