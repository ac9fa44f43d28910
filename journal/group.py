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
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, TypeVar

from journal.errors import JournalError

Result = TypeVar("Result")

# An interrupt may take a leader away before it has named the next one: so nobody waits for ever.
_PATIENCE_S = 1.0


class Log(Protocol):
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


class _Request:
    """A change that one thread asks for: in the queue, then taken by a leader, then done."""

    __slots__ = ("change", "done", "error", "result", "wake")

    def __init__(self, change: Callable[[], Any]) -> None:
        self.change = change
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.wake = threading.Lock()  # released when it is done, or its turn to lead
        self.wake.acquire()

    def wake_up(self) -> None:
        with suppress(RuntimeError):  # it is awake: it was told before, or its patience was over
            self.wake.release()


class Group:
    """The queue before one log."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._queue: list[_Request] = []
        self._leader: _Request | None = None

    def run(self, log: Log, change: Callable[[], Result]) -> Result:
        """Have ``change`` called in a commit, by whichever thread; its result or its error.

        The caller must not be in a commit itself.
        """
        request = _Request(change)
        try:
            if self._must_wait(request):
                self._wait(request)
            if not request.done:
                self._lead(log, request)
        finally:
            self._leave(request)
        if request.error is not None:
            try:
                raise request.error
            finally:
                request.error = None  # it would keep this frame alive, and what that refers to
        result: Result = request.result
        return result

    def _must_wait(self, request: _Request) -> bool:
        with self._guard:
            self._queue.append(request)
            if self._leader is None:
                self._leader = request
            return self._leader is not request

    def _wait(self, request: _Request) -> None:
        """Return when the request is done, or when it is the one to lead."""
        while not request.wake.acquire(timeout=_PATIENCE_S):
            with self._guard:
                if request in self._queue:  # else a leader has it, and will say what became of it
                    self._leader = request
                    return

    def _leave(self, request: _Request) -> None:
        with self._guard:
            if request in self._queue:  # it could not lead, or was interrupted
                self._queue.remove(request)
            if self._leader is request:
                self._leader = self._queue[0] if self._queue else None
                if self._leader is not None:
                    self._leader.wake_up()

    def _lead(self, log: Log, own: _Request) -> None:
        """Make one commit of all that is in the queue."""
        group: list[_Request] = []
        ending = False
        try:
            with log:
                with self._guard:
                    group += self._queue
                    self._queue.clear()
                for request in group:
                    try:
                        request.result = log.attempt(request.change)
                    except Exception as error:  # noqa: BLE001  (it belongs to who asked)
                        request.error = error
                ending = True
        except BaseException as error:
            if ending:
                _fail(log, group, own, error)
            else:
                self._put_back(group, own)
            if not own.done:
                own.error, own.done = error, True
            if not isinstance(error, Exception):
                raise
            return
        for request in group:
            request.done = True
            request.wake_up()

    def _put_back(self, group: list[_Request], own: _Request) -> None:
        """Nothing of it was written: let the others ask again, before those who came later."""
        with self._guard:
            waiting = set(self._queue)
            self._queue[:0] = [one for one in group if one is not own and one not in waiting]
            for request in group:
                request.error = request.result = None


def _fail(log: Log, group: list[_Request], own: _Request, error: BaseException) -> None:
    """The commit failed as a whole: each has an error of its own, also who was refused in it."""
    for request in group:
        if request is not own:
            request.error = (
                copy.copy(error) if isinstance(error, JournalError) else log.interrupted()
            )
            request.done = True
            request.wake_up()
