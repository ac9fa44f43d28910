"""The objects that the driver and the workers of a run share: claims on attempts, and results.

An interrupt (an exception raised by a signal handler) may stop the driver between any two of its
steps. So each change of these objects is one atomic operation, and afterwards the driver can ask
whether the change was made.
"""

from __future__ import annotations

import threading

from journal.run.outcome import Outcome


class Claim:
    """Decides who gets an attempt: the worker, to begin it, or the driver, to cancel it.

    The first of the two that asks gets the attempt. If one of them asks again, the answer is the
    same as before.
    """

    __slots__ = ("_owner",)

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}

    def begin(self) -> bool:
        """Return whether the worker may process the row. Called by the worker."""
        return self._owner.setdefault("owner", "worker") == "worker"

    def cancel(self) -> bool:
        """Whether the attempt is cancelled: no worker has begun it, and none will. Called by the
        driver.
        """
        return self._owner.setdefault("owner", "driver") == "driver"


class Results:
    """The outcomes of attempts, by ticket. An outcome stays until the driver has recorded it."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome] = {}
        self._news = threading.Lock()  # released when the driver should look
        self._news.acquire()

    def put(self, ticket: int, outcome: Outcome) -> None:
        """Add the outcome of an attempt. Called by workers."""
        self._outcomes[ticket] = outcome
        self.wake()

    def wake(self) -> None:
        """Make the driver look for changes. May be called by any thread and by signal handlers."""
        try:  # noqa: SIM105  (suppress() takes longer than all the rest)
            self._news.release()
        except RuntimeError:
            pass  # the driver is about to look anyway

    def wait(self, timeout_s: float) -> None:
        """Wait for an outcome or a call of :meth:`wake`, at most ``timeout_s`` seconds."""
        self._news.acquire(timeout=max(0.0, timeout_s))

    def all(self) -> dict[int, Outcome]:
        """A copy of all outcomes that are not forgotten."""
        return self._outcomes.copy()

    def forget(self, ticket: int) -> None:
        self._outcomes.pop(ticket, None)
