"""Group commit: changes that threads request during a commit share the next commit.

Each thread puts its request into a queue. One of these threads, the leader, opens a commit, carries
out all requests in the queue, and ends the commit with one seal (CRC-32) and one sync. A request
that arrives during the commit waits for the next commit. The thread that made the first waiting
request is the next leader. No request is acknowledged before its commit is written. A request that
is refused doesn't affect other requests.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from journal.errors import JournalError

Result = TypeVar("Result")

# A leader may be interrupted before it names the next leader, or before it wakes the other threads.
# So after this time, a waiting thread checks the state of its request even if nobody has woken it.
_PATIENCE_S = 1.0


class Journal(Protocol):
    """The methods of a journal that a group needs.

    A group doesn't reference its journal, since that would make a reference cycle.
    """

    def __enter__(self) -> Any:
        """Begin a commit."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End the commit: write it, or discard it after an exception."""

    def attempt(self, change: Callable[[], Any]) -> Any:
        """Call ``change``. If the call raises, its changes are undone."""

    def interrupted(self) -> JournalError:
        """Return the error for requests whose commit may or may not have been written."""


class _Commit:
    """The result of one commit. The result is final when ``over`` is set.

    There are three results: the commit was ``written``, the commit failed with ``error``, or an
    exception interrupted it. ``ending`` is set just before the commit is written. If the commit was
    interrupted before ``ending`` was set, nothing was written. If the commit was interrupted after
    ``ending`` was set, the commit may or may not have been written.
    """

    __slots__ = ("ending", "error", "over", "written")

    def __init__(self) -> None:
        self.ending = self.written = self.over = False
        self.error: JournalError | None = None


class _Request:
    """A change that a thread requests.

    The change is queued until a leader makes the next commit.
    """

    __slots__ = ("change", "commit", "error", "result", "wake")

    def __init__(self, change: Callable[[], Any]) -> None:
        self.change = change
        self.commit: _Commit | None = None
        self.result: Any = None  # valid only after the commit was written
        self.error: JournalError | None = None
        self.wake = threading.Lock()  # released when the state of the request may have changed
        self.wake.acquire()

    def wake_up(self) -> None:
        try:  # noqa: SIM105  (suppress() would take longer than the rest of this method)
            self.wake.release()
        except RuntimeError:
            pass  # the thread is awake

    def outcome(self, journal: Journal) -> Any:
        """Return the result, or raise the error. The commit must be over."""
        commit = self.commit
        assert commit is not None
        if commit.written:
            error: JournalError | None = self.error
        elif commit.error is None:
            error = journal.interrupted()
        else:  # also if the request was refused, since the cause may be a lost change of the commit
            error = copy.copy(commit.error)
            error.__cause__ = commit.error.__cause__
        if error is None:
            return self.result
        try:
            raise error
        finally:
            # The error would keep this frame alive, and everything that the frame references.
            self.error = self.commit = commit = error = None


class Group:
    """The queue of the changes that threads request for one journal."""

    def __init__(self, patience_s: float) -> None:
        """If no leader takes a thread's request within ``patience_s``, the thread itself leads.

        A thread waits for a leader at most ``_PATIENCE_S``, even if ``patience_s`` is longer.
        """
        self._patience_s = min(patience_s, _PATIENCE_S)
        self._guard = threading.Lock()
        self._queue: list[_Request] = []
        self.leader: _Request | None = None  # None if no thread waits for a commit of the group
        self.was_shared = False  # True if the last commit of the group had several requests

    def run(self, journal: Journal, change: Callable[[], Result]) -> Result:
        """Call ``change`` in a commit; return its result or raise its error.

        If another thread is the leader, that thread calls ``change``. The thread that calls ``run``
        must not have a commit open.
        """
        request = _Request(change)
        try:
            self._queue_up(request)
            while not self._is_settled(request):
                if request.commit is None and self.leader is request:
                    self._lead(journal, request)
                else:
                    self._wait(request)
        finally:
            self._leave(request)
        result: Result = request.outcome(journal)
        return result

    def _queue_up(self, request: _Request) -> None:
        with self._guard:
            if request not in self._queue:
                self._queue.append(request)
            if self.leader is None:
                self.leader = request

    def _is_settled(self, request: _Request) -> bool:
        commit = request.commit
        if commit is None or not commit.over:
            return False
        if commit.ending:
            return True
        request.commit = request.error = None  # the leader was interrupted before writing: retry
        self._queue_up(request)
        return False

    def _wait(self, request: _Request) -> None:
        """Wait until a leader wakes this thread, or until this thread should lead."""
        patience_s = self._patience_s if request.commit is None else _PATIENCE_S
        if not request.wake.acquire(timeout=patience_s):
            with self._guard:
                if request in self._queue:  # else a leader has taken it, and will wake this thread
                    self.leader = request

    def _leave(self, request: _Request) -> None:
        if request.commit is not None and self.leader is not request:
            return  # a leader has taken the request from the queue
        with self._guard:
            if request in self._queue:  # this thread couldn't lead, or was interrupted
                self._queue.remove(request)
            if self.leader is request:
                self.leader = self._queue[0] if self._queue else None
                if self.leader is not None:
                    self.leader.wake_up()

    def _lead(self, journal: Journal, own: _Request) -> None:
        """Make one commit of all requests in the queue. Raises if the commit couldn't begin."""
        commit = _Commit()
        group: list[_Request] = []
        try:
            with journal:
                with self._guard:
                    for request in self._queue:
                        request.commit = commit
                    group += self._queue
                    self._queue.clear()
                self.was_shared = len(group) > 1
                for request in group:
                    _attempt(journal, request)
                commit.ending = True
            commit.written = True
        except JournalError as error:
            if commit.ending:
                commit.error = error.with_traceback(None)
            elif own.commit is None:  # else another leader has taken this request into a commit
                raise
        finally:
            commit.over = True  # set before the threads are woken, since they check it
            for request in group:
                if request is not own:
                    request.wake_up()
            # The cause of the error references this frame, which would keep the journal open.
            del commit, group


def _attempt(journal: Journal, request: _Request) -> None:
    """Carry out a request, and store its result or its JournalError in the request.

    All other exceptions propagate. They come from signal handlers or from a lack of memory, and
    aren't errors of the request.
    """
    try:
        request.result = journal.attempt(request.change)
    except JournalError as error:
        # Drop the traceback, which references the requests of other threads.
        request.error = error.with_traceback(None)
