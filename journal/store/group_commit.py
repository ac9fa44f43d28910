"""Group commit: changes that threads request during a commit share the next commit.

Each thread puts its change into the open group, and waits for the group's turn lock. The thread
that gets the lock first makes one commit of all changes of the group, with one seal (CRC-32) and
one sync. The other threads get the lock afterwards, and find their results. Changes that are
requested after the commit has begun form the next group. No change is acknowledged before its
commit is written. A change that is refused doesn't affect other changes.
"""

from __future__ import annotations

import copy
import errno
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from journal.errors import CommitOutcomeUnknownError, JobLockedError, JournalError

Result = TypeVar("Result")


class _Request:
    """A change that a thread requests. ``result`` is valid only after the commit was written.

    ``is_withdrawn``: the thread was interrupted, and no longer waits for the change.
    """

    __slots__ = ("change", "error", "is_withdrawn", "result")

    def __init__(self, change: Callable[[], Any]) -> None:
        self.change = change
        self.result: Any = None
        self.error: JournalError | None = None
        self.is_withdrawn = False


class _Group:
    """The changes that share a commit. Hold ``turn`` to make the commit, and to read its result.

    ``is_over`` is set just before the commit is written, or when the commit has failed with
    ``error``. If the commit was interrupted before the write, nothing was written, and the next
    thread that gets ``turn`` makes the commit. If the commit was interrupted later, it may or may
    not have been written. Then ``is_written`` is False, and there is no ``error``.
    """

    __slots__ = ("error", "is_over", "is_written", "requests", "turn")

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.requests: list[_Request] = []
        self.is_over = self.is_written = False
        self.error: JournalError | None = None


class GroupCommit:
    """The changes that threads request for one journal.

    Only ``with`` statements take the locks. A signal handler can't raise between the C calls of a
    ``with`` statement, and so can't leave a lock taken.
    """

    def __init__(self, path: Path, timeout_s: float) -> None:
        """``timeout_s``: how long a commit of the journal at ``path`` waits for its locks."""
        self._path, self._timeout_s = path, timeout_s
        self._guard = threading.Lock()
        self.open = _Group()  # takes further requests
        self._last_turn = self.open.turn  # the turn of the group whose commit began last
        self.was_shared = False  # True if the last commit had several requests

    def run(self, commit: AbstractContextManager[object], change: Callable[[], Result]) -> Result:
        """Call ``change`` in a ``with commit:`` block. Returns its result, or raises its error.

        Another thread may call ``change``. If ``change`` raises a JournalError, it must have undone
        what it did. The thread that calls ``run`` must not have a commit open. If ``run`` is
        interrupted while it waits, the change may or may not be recorded.
        """
        deadline_s = time.monotonic() + self._timeout_s
        request = _Request(change)
        try:
            while True:
                with self._guard:
                    group = self.open
                    group.requests.append(request)
                with group.turn:
                    if not group.is_over:
                        self._commit(commit, group)
                # After the timeout of another thread, this thread tries again until its own
                # deadline.
                if not isinstance(group.error, JobLockedError) or time.monotonic() >= deadline_s:
                    break
        except BaseException:
            request.is_withdrawn = True
            raise
        result: Result = self._outcome(group, request)
        return result

    def _commit(self, commit: AbstractContextManager[object], group: _Group) -> None:
        """Make the commit of a group."""
        try:
            if self._last_turn is not group.turn:
                # The threads of the last group get their results first. Usually these threads are
                # about to request further changes. Without this wait, there would be 1.5 times as
                # many syncs.
                with self._last_turn:
                    pass
            with commit:
                self._close(group)
                requests = [request for request in group.requests if not request.is_withdrawn]
                self.was_shared = len(requests) > 1
                for request in requests:
                    _attempt(request)
                group.is_over = True
            group.is_written = True
        except JournalError as error:
            self._close(group)
            _drop_tracebacks(error)
            group.error, group.is_over = error, True

    def _close(self, group: _Group) -> None:
        """Let further requests form the next group."""
        with self._guard:
            if self.open is group:
                self.open, self._last_turn = _Group(), group.turn

    def _outcome(self, group: _Group, request: _Request) -> Any:
        """Return the result of a request, or raise its error. The commit must be over."""
        if group.is_written:
            error: JournalError | None = request.error
        elif group.error is None:
            reason = "the thread that was writing the commit was interrupted"
            error = CommitOutcomeUnknownError(self._path, "write", errno.EINTR, reason)
        else:
            # A refused request gets the error of the commit, too. Perhaps the request was refused
            # because of another request of the same commit, and the change of that other request is
            # lost now.
            error = copy.copy(group.error)
            error.__cause__ = group.error.__cause__
        if error is None:
            return request.result
        try:
            raise error
        finally:
            # The error would keep this frame alive, and everything that the frame references.
            request.error = error = None


def _attempt(request: _Request) -> None:
    """Carry out a request, and store its result or its JournalError in the request.

    All other exceptions propagate. They come from signal handlers or from a lack of memory, and
    aren't errors of the request.
    """
    request.error = None  # drop the error from a commit that was interrupted
    try:
        request.result = request.change()
    except JournalError as error:
        _drop_tracebacks(error)
        request.error = error


def _drop_tracebacks(error: BaseException | None) -> None:
    """Drop the tracebacks of an error and its causes.

    Tracebacks reference the requests of other threads, and the group that keeps the error. In this
    cycle of references, the journal's file would stay open until the garbage collector runs.
    """
    if error is not None:
        error.__traceback__ = None
        _drop_tracebacks(error.__cause__)
        if error.__context__ is not error.__cause__:
            _drop_tracebacks(error.__context__)
