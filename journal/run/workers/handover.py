"""What the driver and the workers of a run share: workers, claims on calls, and results.

A **ticket** is the number of an attempt. A **claim** decides whether a worker begins a call, or the
driver cancels it.

An interrupt is an exception raised by a signal handler. It may stop the driver between any two
statements. So each change of these objects is one atomic operation. After an interrupt, the driver
can find out whether a change was made.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from time import monotonic
from typing import Any, Protocol

from journal.run.outcome import Outcome

_JOIN_S = 0.5


class Claim:
    """Decides whether a worker begins a call or the driver cancels it.

    The first of the two that asks gets the call. A repeated question gets the same answer. While
    ``held`` has an item, no worker gets a new call: see :class:`Results`.
    """

    __slots__ = ("_owner", "held")

    def __init__(self) -> None:
        self._owner: dict[str, str] = {}
        self.held: Collection[int] = ()

    def begin(self) -> bool:
        """Return whether the worker may process the row. Called by the worker."""
        if self.held and not self._owner:
            return False
        return self._owner.setdefault("owner", "worker") == "worker"

    def cancel(self) -> bool:
        """Cancel the attempt if no worker has begun it. Return whether it is cancelled.

        No worker begins a cancelled attempt. Called by the driver.
        """
        return self._owner.setdefault("owner", "driver") == "driver"


class Workers(Protocol):
    """The interface of workers, which process up to ``count`` calls at a time.

    Only one thread uses a ``Workers`` object.

    - ``rows_a_call``: the maximum number of rows in a call.
    - ``queues``: whether more than ``count`` calls may be dispatched, so that some wait for a free
      worker. This is False if a dying worker also loses rows that had not begun, since all these
      rows would need a review.
    """

    rows_a_call: int
    queues: bool

    @property
    def count(self) -> int:
        """How many calls can be processed at a time."""

    def dispatch(self, ticket: int, row: Any, claim: Claim) -> None:
        """Pass the row to a worker, which calls ``claim.begin()`` before it processes the row.

        If ``claim.begin()`` returns True, the worker stores exactly one outcome for ``ticket`` in
        the :class:`Results`. If the row can't be started at all, the worker stores the outcome
        "unstarted". Errors of a row become outcomes and are not raised. This method blocks only
        while an executor's ``submit`` blocks, and no longer after the third stop. Raises TypeError
        for an executor that can't be used.
        """

    def claim(self) -> Claim:
        """The :class:`Claim` for the next row to dispatch. All rows of a call share it."""

    def flush(self) -> None:
        """Submit the dispatched rows that wait, if workers are free. They needn't fill a call."""

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:
        """Ask an attempt to end now.

        Returns False if the attempt can't be asked. Such an attempt may never end.
        """

    def abandon(self, ticket: int) -> bool:
        """Give up an attempt. Returns True if another attempt can take its place."""

    def close(self) -> None:
        """Stop taking rows. Doesn't wait for attempts that were given up."""


class SingleRows:
    """Workers whose calls each take one row."""

    rows_a_call = 1

    def claim(self) -> Claim:
        """A new claim."""
        return Claim()

    def flush(self) -> None:
        """Do nothing, since no row waits for others."""


class Results:
    """The outcomes of attempts, by ticket (the number of an attempt).

    An outcome stays until the driver has recorded it.

    ``held``: the tickets of the outcomes "held" (see :class:`Hold`). While there is such an
    outcome, workers begin no rows. Without this rule, workers would begin queued rows before the
    driver has seen the outcome.
    """

    def __init__(self) -> None:
        self.held: set[int] = set()
        self._outcomes: dict[int, Outcome] = {}
        self._news = threading.Lock()  # released when the driver should look
        self._news.acquire()

    def put(self, ticket: int, outcome: Outcome) -> None:
        """Add the outcome of an attempt. Called by workers."""
        if outcome.kind == "held":
            self.held.add(ticket)
        self._outcomes[ticket] = outcome
        self.wake()

    def put_all(self, outcomes: dict[int, Outcome]) -> None:
        """Add the outcomes of a batch. The driver sees all of them, or none."""
        self.held.update(ticket for ticket, outcome in outcomes.items() if outcome.kind == "held")
        self._outcomes.update(outcomes)
        self.wake()

    def wake(self) -> None:
        """Make the driver look for changes. May be called by any thread and by signal handlers."""
        try:  # noqa: SIM105  (suppress() takes longer than the rest of this method)
            self._news.release()
        except RuntimeError:
            pass  # the driver is about to look anyway

    def wait(self, timeout_s: float) -> None:
        """Wait for an outcome or a call of :meth:`wake`, at most ``timeout_s`` seconds."""
        self._news.acquire(timeout=max(0.0, timeout_s))

    def all(self) -> dict[int, Outcome]:
        """A copy of all outcomes that the driver has not removed yet."""
        return self._outcomes.copy()

    def forget(self, ticket: int) -> None:
        self._outcomes.pop(ticket, None)
        self.held.discard(ticket)


def join(threads: Sequence[threading.Thread]) -> None:
    """Wait a short time for the threads to end. Some of them may hang.

    If a daemon thread still runs when the program exits, its objects are not freed. So a file that
    the handler has open would not be flushed.
    """
    until_s = monotonic() + _JOIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - monotonic()))
