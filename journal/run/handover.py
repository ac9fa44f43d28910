"""What the driver and the workers of a run share: who has an attempt, and the results.

An interrupt (an exception raised by a signal handler) may stop the driver between any two of its
steps. So each change here is one operation that happens or doesn't, and its effect can be asked for
afterwards.
"""

from __future__ import annotations

import threading

from journal.run.outcome import Outcome


class Claim:
    """Who has an attempt: the worker that began it, or the driver that cancelled it while pending.

    The first of them to ask has it for good, and gets the same answer each time it asks.
    """

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}

    def begin(self) -> bool:
        """Whether the worker may process the row. For the worker that has the row."""
        return self._owner.setdefault("owner", "worker") == "worker"

    def cancel(self) -> bool:
        """Whether no worker has begun the row. Then none ever will."""
        return self._owner.setdefault("owner", "driver") == "driver"


class Results:
    """The outcomes of attempts, by ticket. Each stays until the driver has recorded it."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._news = threading.Lock()  # released when there may be something new
        self._news.acquire()

    def put(self, ticket: int, outcome: Outcome) -> None:
        """Add the outcome of an attempt. For workers."""
        self._outcomes[ticket] = outcome
        self.wake()

    def wake(self) -> None:
        """Let the driver look. For any thread, and for signal handlers."""
        try:  # noqa: SIM105  (suppress() takes longer than all the rest)
            self._news.release()
        except RuntimeError:
            pass  # it is about to look

    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something new, at most ``timeout_s`` seconds."""
        self._news.acquire(timeout=max(0.0, timeout_s))

    def all(self) -> dict[int, Outcome]:
        """A copy of all outcomes that are not forgotten."""
        return self._outcomes.copy()

    def forget(self, ticket: int) -> None:
        self._outcomes.pop(ticket, None)
