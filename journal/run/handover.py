"""What the driver of a run and its workers hand each other: rows to work on, and what came of them.

An interrupt (an exception out of a signal handler) may end the driver between any two of its steps.
So each change of hands is one operation that happens or doesn't, and can be asked about afterwards:
nothing is known only to a step that may not come.
"""

from __future__ import annotations

import threading

from journal.run.outcome import Outcome


class Claim:
    """Whose an attempt is: a worker's that has begun it, or the driver's that has taken it back.

    The first to ask has it for good, and hears the same whenever it asks again.
    """

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}

    def begin(self) -> bool:
        """Whether the worker may work on the row. For the one worker that was given it."""
        return self._owner.setdefault("owner", "worker") == "worker"

    def take_back(self) -> bool:
        """Whether no worker has begun the row: then none ever will."""
        return self._owner.setdefault("owner", "driver") == "driver"


class Outcomes:
    """What has come back, by ticket. It stays until the driver has recorded it and forgets it."""

    def __init__(self) -> None:
        self._came: dict[int, Outcome] = {}
        self._news = threading.Lock()  # released when there may be something new
        self._news.acquire()

    def put(self, ticket: int, outcome: Outcome) -> None:
        """Of an attempt that is over. For workers."""
        self._came[ticket] = outcome
        self.wake()

    def wake(self) -> None:
        """Let the driver look. For any thread, and for signal handlers."""
        try:  # noqa: SIM105  (suppress() takes longer than all the rest)
            self._news.release()
        except RuntimeError:
            pass  # it is about to look

    def wait(self, timeout_s: float) -> None:
        """Until there may be something new, or for ``timeout_s`` seconds."""
        self._news.acquire(timeout=max(0.0, timeout_s))

    def came(self) -> dict[int, Outcome]:
        return self._came.copy()

    def forget(self, ticket: int) -> None:
        self._came.pop(ticket, None)
