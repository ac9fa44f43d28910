"""Group commit: what threads ask for while a commit is under way becomes the next single one.

A thread that asks leaves its request in a queue. One of them, the leader, opens a commit, carries
out all the requests that it finds there, its own among them, and lets the commit end: one seal,
one sync. Whoever asks meanwhile waits, and the first of those leads next. Nobody hears "done"
before the commit is, and a request that is refused is refused alone.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from journal.errors import JournalError

Result = TypeVar("Result")

# An interrupt may take a leader away before it has named the next one, or woken those it has served.
_PATIENCE_S = 1.0


class Journal(Protocol):
    """What a group needs of a log. It is no part of the group: each would keep the other alive."""

    def __enter__(self) -> Any:
        """Begin a commit."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """End it; an exception before this leaves it undone."""

    def attempt(self, change: Callable[[], Any]) -> Any:
        """Call ``change``; what it did until it raised is undone."""

    def interrupted(self) -> JournalError:
        """What to tell those whose commit may be there, or not."""


class _Commit:
    """One commit and what became of it, which is final once it is ``over``.

    It is then ``written``, or failed with an ``error``; or it was interrupted: before it was
    ``ending`` nothing of it was written, later nobody knows.
    """

    __slots__ = ("ending", "error", "over", "written")

    def __init__(self) -> None:
        self.ending = self.written = self.over = False
        self.error: JournalError | None = None


class _Request:
    """A change that one thread asks for: in the queue until a leader takes it into its commit."""

    __slots__ = ("change", "commit", "error", "result", "wake")

    def __init__(self, change: Callable[[], Any]) -> None:
        self.change = change
        self.commit: _Commit | None = None
        self.result: Any = None  # as of within the commit: to be told when that is written
        self.error: JournalError | None = None
        self.wake = threading.Lock()  # released when there may be something new
        self.wake.acquire()

    def wake_up(self) -> None:
        try:  # noqa: SIM105  (suppress() takes longer than all the rest)
            self.wake.release()
        except RuntimeError:
            pass  # it is awake

    def outcome(self, journal: Journal) -> Any:
        """The result, or raise the error, once the commit is over."""
        commit = self.commit
        assert commit is not None
        if commit.written:
            error: JournalError | None = self.error
        elif commit.error is None:
            error = journal.interrupted()
        else:  # also for who was refused: what it was refused for was never written
            error = copy.copy(commit.error)
            error.__cause__ = commit.error.__cause__
        if error is None:
            return self.result
        try:
            raise error
        finally:
            # It would keep this frame alive, and what that refers to.
            self.error = self.commit = commit = error = None


class Group:
    """The queue before one log."""

    def __init__(self, patience_s: float) -> None:
        """Who waits for ``patience_s`` seconds looks for itself whether there still is a leader."""
        self._patience_s = min(patience_s, _PATIENCE_S)
        self._guard = threading.Lock()
        self._queue: list[_Request] = []
        self._leader: _Request | None = None

    def run(self, journal: Journal, change: Callable[[], Result]) -> Result:
        """Have ``change`` called in a commit, by whichever thread; its result or its error.

        The caller must not be in a commit itself.
        """
        request = _Request(change)
        try:
            self._queue_up(request)
            while not self._is_settled(request):
                if request.commit is None and self._leader is request:
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
            if self._leader is None:
                self._leader = request

    def _is_settled(self, request: _Request) -> bool:
        commit = request.commit
        if commit is None or not commit.over:
            return False
        if commit.ending:
            return True
        request.commit = request.error = None  # its leader was interrupted: ask again
        self._queue_up(request)
        return False

    def _wait(self, request: _Request) -> None:
        """Until there may be something new."""
        patience_s = self._patience_s if request.commit is None else _PATIENCE_S
        if not request.wake.acquire(timeout=patience_s):
            with self._guard:
                if request in self._queue:  # else a leader has it, and will say what became of it
                    self._leader = request

    def _leave(self, request: _Request) -> None:
        if request.commit is not None and self._leader is not request:
            return  # it isn't in the queue either
        with self._guard:
            if request in self._queue:  # it could not lead, or was interrupted
                self._queue.remove(request)
            if self._leader is request:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.wake_up()

    def _lead(self, journal: Journal, own: _Request) -> None:
        """Make one commit of all that is in the queue; raise why none could begin."""
        commit = _Commit()
        group: list[_Request] = []
        try:
            with journal:
                with self._guard:
                    for request in self._queue:
                        request.commit = commit
                    group += self._queue
                    self._queue.clear()
                for request in group:
                    _attempt(journal, request)
                commit.ending = True
            commit.written = True
        except JournalError as error:
            if commit.ending:
                commit.error = error.with_traceback(None)
            elif own.commit is None:  # else another leader has taken it, and made a commit
                raise
        finally:
            commit.over = True  # first, and at once: whoever waits depends on it
            for request in group:
                if request is not own:
                    request.wake_up()
            # The error's cause holds this frame: it would keep itself alive, and the open journal.
            del commit, group


def _attempt(journal: Journal, request: _Request) -> None:
    """What else is raised is none of the request's: a signal handler's, or a want of memory."""
    try:
        request.result = journal.attempt(request.change)
    except JournalError as error:
        # Without the way here, which holds what the others have asked for.
        request.error = error.with_traceback(None)
