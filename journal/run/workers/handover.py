"""The objects that the driver and the workers of a run share: the interface of workers, claims on
attempts, and results.

An interrupt (an exception raised by a signal handler) may stop the driver between any two of its
steps. So each change of these objects is one atomic operation, and afterwards the driver can ask
whether the change was made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from typing import Any, Protocol, Self

from journal.run.outcome import Outcome

_JOIN_S = 0.5


class Claim:
    """Decides whether a worker begins a call or the driver cancels it.

    The first of the two that asks gets the call. If one of them asks again, the answer is the same
    as before. While ``held`` has an item, no worker gets another call: see :class:`Results`.
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
        """Whether the attempt is cancelled: no worker has begun it, and none will. Called by the
        driver.
        """
        return self._owner.setdefault("owner", "driver") == "driver"


class Workers(Protocol):
    """The interface of workers, which process ``count`` calls at a time. Called by one thread.

    - ``rows_a_call``: the maximum number of rows in a call.
    - ``queues``: whether more than ``count`` calls may be dispatched, so that some wait for a free
      worker. It is False if a dying worker also loses rows that had not begun, since all of them
      would need a review.
    """

    rows_a_call: int
    queues: bool

    @property
    def count(self) -> int:
        """How many calls can be processed at a time."""

    def dispatch(self, ticket: int, row: Any, claim: Claim) -> None:
        """Pass the row to a worker, which calls ``claim.begin()`` before it processes the row.

        If the worker could begin the claim, it stores exactly one outcome for ``ticket`` in the
        :class:`Results`. It also stores one, "unstarted", if the row can't be started at all.
        Errors of a row become outcomes and are not raised. Blocks only while an executor's
        ``submit`` blocks.
        """

    def claim(self) -> Claim:
        """The claim for the next row to dispatch. All rows of a call have the same."""

    def flush(self) -> None:
        """Start the last call for the dispatched rows, even if it isn't full."""

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:
        """Ask an attempt to end now.

        Returns False if the attempt can't be asked, and so may never end.
        """

    def abandon(self, ticket: int) -> bool:
        """Give up an attempt. Returns True if another attempt can take its slot."""

    def close(self) -> None:
        """Stop taking rows. Doesn't wait for attempts that were given up."""


class Leaving:
    """Closes the workers of a run at its end, which exits its setup. Only the first call counts.

    As a context manager, it always closes them at the end of the block. If the block raises an
    exception and exiting the setup raises another one, the second becomes a note of the first.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self._open = [workers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, raised: BaseException | None, _traceback: object) -> None:
        try:
            self.close()
        except Exception as error:
            if raised is None:
                raise
            raised.add_note(_not_left(error))

    @property
    def has_begun(self) -> bool:
        """Whether the workers are being closed, or are closed."""
        return not self._open

    def close(self) -> None:
        """Close the workers. Raises exceptions of exiting the setup."""
        if self._open:
            self._open.pop().close()

    def close_after(
        self, raised: Exception | None, problems: list[str], report: Callable[[str], object]
    ) -> Exception | None:
        """Close the workers after a run that ``raised``. Returns the most important exception.

        An exception of exiting the setup is added to the problems. It is reported, unless it is the
        exception that is returned.
        """
        try:
            self.close()
        except Exception as error:  # noqa: BLE001  (the caller raises it)
            problems.append(_not_left(error))
            if raised is None:
                return error
            report(problems[-1])
        return raised


def _not_left(error: Exception) -> str:
    return f"leaving the setup raised {type(error).__name__}: {error}"


class SingleRows:
    """Workers whose calls each take one row."""

    rows_a_call = 1

    def claim(self) -> Claim:
        """A new claim."""
        return Claim()

    def flush(self) -> None:
        """Do nothing, since no row waits for others."""


class Results:
    """The outcomes of attempts, by ticket. An outcome stays until the driver has recorded it.

    ``held``: the tickets of the outcomes "held". While there is such an outcome, workers begin no
    rows. Otherwise they would begin queued rows before the driver has seen the outcome.
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
        try:  # noqa: SIM105  (suppress() takes longer than all the rest)
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
    """Wait until the threads have ended, but only for a moment, since some may hang.

    If a daemon thread still runs when the program exits, its objects are not freed. So a file that
    the handler has open would not be flushed.
    """
    until_s = monotonic() + _JOIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - monotonic()))
