"""Defines the row that a handler gets, and the outcome of a handler for one row."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Never

from journal.format.idempotency import step_key
from journal.fs import system
from journal.model import JobRow, LogEntry
from journal.run.outcome import (
    Errors,
    NeedsReview,
    Outcome,
    RowOutcome,
    outcome_of_error,
    outcome_of_value,
    with_missing,
)
from journal.run.workers.row_log import RowLog
from journal.run.workers.step_records import RowSteps
from journal.run.workers.steps import HasSteps, StepStore

# Two threads of one handler may log at the same time, before the attempt has a RowLog. Only one of
# them may make the RowLog. The class RowLog explains why the lock is an RLock.
_new_log = threading.RLock()


def claim_of(row: JobRow | AttemptedRow) -> int:
    """The number of the claim of the run that attempts a row: see :meth:`StepStore.claim`.

    0 if no run attempts the row.
    """
    return row._store.claim() if isinstance(row, AttemptedRow) else 0  # noqa: SLF001


class AttemptedRow(HasSteps):
    """The row of an attempt, as a handler gets it.

    It has the members of :class:`JobRow`, with their values at the beginning of the attempt. It
    also has:

    - :meth:`step`, which records a side effect, so that no later attempt repeats it;
    - :meth:`log`, which stores a message with the attempt.

    It can be sent to another process.
    """

    __slots__ = (
        "_begun",
        "_log",
        "_store",
        "row",
        "unrecorded",
    )

    def __init__(self, row: JobRow, store: StepStore) -> None:
        self.row = row
        # Why the attempt needs a review, even if the handler catches this exception: a step is done
        # and its result isn't recorded, or a name of a step was used twice.
        self.unrecorded: NeedsReview | None = None
        self._store = store
        self._begun: set[str] = set()  # steps of this attempt, except those that have failed
        self._log: RowLog | None = None  # made by the first message

    def begin(self) -> None:
        """Begin the attempt in this process: see :class:`StepStore`."""
        self._store.process = system.process_id()

    def __reduce__(self) -> tuple[type[AttemptedRow], tuple[JobRow, StepStore]]:
        return AttemptedRow, (self.row, self._store)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return getattr(self.row, name)
        except AttributeError:
            where = f": write row.data[{name!r}]" if name in self.row.data else ""
            text = f"'AttemptedRow' object has no attribute {name!r}{where}"
            raise AttributeError(text, name=name, obj=self) from None

    def __getitem__(self, name: object) -> Never:
        raise TypeError(f"a row isn't its data: write row.data[{name!r}]")

    __iter__ = None  # otherwise __getitem__ would make it iterable
    __contains__ = None

    def __repr__(self) -> str:
        return f"<row {self.row.id}, attempt {self.row.attempts}>"

    @property
    def id(self) -> str:
        """``JOB_ID:ROW_NUMBER``."""
        return self.row.id

    @property
    def idempotency_key(self) -> str:
        """The idempotency key, for the service that you call: see :class:`JobRow`."""
        return self.row.idempotency_key

    @property
    def row_number(self) -> int:
        return self.row.row_number

    @property
    def data(self) -> dict[str, Any]:
        return self.row.data

    @property
    def attempts(self) -> int:
        """How often the row was started, including this attempt."""
        return self.row.attempts

    # --- steps

    def step_key(self, name: str) -> str:
        """The idempotency key of a step, for the service that the step calls."""
        return step_key(self.row.idempotency_key, name)

    @property
    def _steps(self) -> RowSteps:
        row = self.row
        return RowSteps(row.id, row.attempts, row.idempotency_key)

    def _will_need_review(self, review: NeedsReview) -> None:
        self.unrecorded = review

    # --- logs

    def log(self, message: object, /, level: str | int = "INFO", **details: Any) -> None:
        """Store a message with this attempt. Raises no exception.

        - ``level``: one of :data:`LOG_LEVELS`, in upper or lower case, or a numeric level of the
          module ``logging``. Another level counts as "INFO".
        - ``details``: JSON values. Other values are kept as text.

        The message isn't on the disk when this method returns. It is written in the same commit as
        the attempt's next record: the start or end of a step, or the outcome. If the process dies
        before that, the message is lost. An attempt stores at most 1,000 messages, and at most 256
        KiB in all. If messages were dropped, one more message says how many.
        """
        if self._log is None:
            with _new_log:
                self._log = self._log or RowLog(self.row.row_number, self.row.attempts)
        self._log.add(message, level, details)

    def take_logs(self) -> tuple[LogEntry, ...]:
        """The messages for the next commit of this attempt.

        Several steps may run at the same time. Each message is returned to only one of them.
        """
        return () if self._log is None else self._log.take()

    def _put_back(self, logs: tuple[LogEntry, ...]) -> None:
        if logs and self._log is not None:
            self._log.put_back(logs)


# A handler is called with an :class:`AttemptedRow`. The handler may declare its row as a JobRow,
# since an AttemptedRow has all members of a JobRow.
Handler = Callable[..., Any]


def outcome_of_raised(row: AttemptedRow, error: BaseException, retry_on: Errors) -> Outcome:
    """Return the outcome of a handler that raised an exception."""
    return with_unrecorded(row, outcome_of_error(error, retry_on))


def outcome_of_returned(row: AttemptedRow, value: Any) -> Outcome:
    """Return the outcome of a handler that returned a value.

    A returned :class:`RowOutcome` counts as if it were raised.
    """
    if issubclass(type(value), RowOutcome):
        return outcome_of_raised(row, value, {})
    return with_unrecorded(row, outcome_of_value(value))


def with_unrecorded(row: AttemptedRow, outcome: Outcome) -> Outcome:
    """The outcome, or a review in its place: see :attr:`AttemptedRow.unrecorded`."""
    if row.unrecorded is None:
        return outcome
    return with_missing(outcome_of_error(row.unrecorded, {}), outcome)
