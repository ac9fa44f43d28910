"""The call of a handler in a worker: its argument (a row or a batch) and the rows' outcomes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple, Never, overload

import msgspec

from journal.format.keys import step_key
from journal.fs import system
from journal.model import JobRow, LogEntry
from journal.run.outcome import (
    INVALID_RESULT,
    NO_OUTCOME,
    Errors,
    NeedsReview,
    Outcome,
    RowOutcome,
    RowResult,
    outcome_of_error,
    outcome_of_value,
    repr_of_lost,
    text_of,
    with_cost,
    with_missing,
    with_sums,
)
from journal.run.signals import OwnProcess
from journal.run.workers.row_log import RowLog, current_row
from journal.run.workers.steps import CallSteps, HasSteps, RowSteps, StepStore, Turn
from journal.text import counted

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

    An AttemptedRow has the members of :class:`JobRow`, with their values at the beginning of the
    attempt. It also has:

    - :meth:`step`, which records a side effect, so that no later attempt repeats it;
    - :meth:`log`, which stores a message with the attempt.

    An AttemptedRow can be sent to another process.
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
        # The review that the attempt needs, even if the handler catches this exception. Either the
        # result of a done step isn't recorded, or the name of a step was used twice.
        self.unrecorded: NeedsReview | None = None
        self._store = store
        self._begun: set[str] = set()  # steps of this attempt, without failed steps
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

    __iter__ = None  # otherwise __getitem__ would make the row iterable
    __contains__ = None

    def __repr__(self) -> str:
        return f"<row {self.row.id}, attempt {self.row.attempts}>"

    @property
    def id(self) -> str:
        """``JOB_ID:ROW_NUMBER``."""
        return self.row.id

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of the row, for the service that you call: see :class:`JobRow`."""
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
        before this commit, the message is lost. An attempt stores at most 1,000 messages, and at
        most 256 KiB in all. If messages were dropped, one more message says how many.
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
# because an AttemptedRow has all members of a JobRow.
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


class Target(NamedTuple):
    """The handler of a run. A Target can be sent to another process.

    ``is_batch``: whether the handler gets a :class:`Batch` instead of a row.
    """

    handler: Handler
    retry_on: Errors
    is_batch: bool = False

    def given(self, rows: Rows) -> AttemptedRow | Batch:
        """The argument of the handler."""
        return rows if type(rows) is Batch else rows[0]  # isinstance() would take 0.3 µs

    def raised(self, rows: Rows, error: BaseException) -> list[Outcome]:
        """The outcomes of the rows, after the handler has raised ``error``."""
        try:
            return outcomes_of_raised(rows, error, self.retry_on)
        except Exception as failure:  # noqa: BLE001  (without outcomes, the run would never end)
            return _unread(rows, failure)

    def returned(self, rows: Rows, value: Any) -> list[Outcome]:
        """The outcomes of the rows, after the handler has returned ``value``."""
        try:
            if not self.is_batch:
                return [outcome_of_returned(rows[0], value)]
            return outcomes_of_answer(rows, value, self.retry_on)
        except Exception as failure:  # noqa: BLE001  (such as MemoryError)
            return _unread(rows, failure)


def _unread(rows: Rows, failure: Exception) -> list[Outcome]:
    """Reviews of rows whose handler has ended.

    Making the outcomes of these rows has raised ``failure``.
    """
    text = f"the handler has ended, but how it ended can't be read: {type(failure).__name__}"
    return [Outcome(kind="review", error_code=INVALID_RESULT, error_message=text)] * len(rows)


def call_handler(target: Target, rows: Rows) -> list[Outcome]:
    """Call the handler with the rows, in the worker. Returns the outcome of each row."""
    first = rows[0]
    first.begin()
    token = current_row.set(first)
    own_process = OwnProcess()
    begin_s = perf_counter()
    with own_process:  # the code of the value or of the exception may fork, too
        try:
            value = target.handler(target.given(rows))
        except BaseException as error:  # noqa: BLE001  (any exception is an outcome of the rows)
            own_process.end_child(error)
            outcomes = target.raised(rows, error)
        else:
            outcomes = target.returned(rows, value)
    elapsed_s = perf_counter() - begin_s
    current_row.reset(token)
    return with_logs(rows, outcomes, elapsed_s)


def with_logs(
    rows: Sequence[AttemptedRow], outcomes: list[Outcome], elapsed_s: float
) -> list[Outcome]:
    """The outcomes with the rows' messages. The first outcome has the call's duration."""
    for place, row in enumerate(rows):
        logs = row.take_logs()
        if logs:
            logs += outcomes[place].logs
            outcomes[place] = msgspec.structs.replace(outcomes[place], logs=logs)
    outcomes[0] = msgspec.structs.replace(outcomes[0], elapsed_s=elapsed_s)
    return outcomes


# --- calls with many rows


class Batch(HasSteps, Sequence[AttemptedRow]):
    """The rows of one call, as a handler gets them: see ``batch`` of :meth:`JobRun.run`.

    :meth:`step` records one side effect for all rows of the call. From the first step on, the rows
    stay together. After a crash, a pause or a :class:`Wait`, the handler gets one batch with all
    rows that are still open. A Batch can be sent to another process.
    """

    __slots__ = ("_begun", "_call", "_rows", "_store", "_turn", "is_whole")

    def __init__(
        self,
        rows: tuple[AttemptedRow, ...],
        store: StepStore,
        turn: Turn | None = None,
        *,
        is_whole: bool = True,
    ) -> None:
        """``turn``: the turn of a recorded call.

        ``is_whole``: whether these are all rows of the recorded call.
        """
        self._rows, self._store, self._turn, self.is_whole = rows, store, turn, is_whole
        self._begun: set[str] = set()
        self._call: CallSteps | None = None  # made at the first use

    def __reduce__(self) -> tuple[Any, ...]:
        return _batch, (self._rows, self._store, self._turn, self.is_whole)

    def __iter__(self) -> Iterator[AttemptedRow]:
        return iter(self._rows)

    @overload
    def __getitem__(self, place: int) -> AttemptedRow: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[AttemptedRow, ...]: ...
    def __getitem__(self, place: int | slice) -> AttemptedRow | tuple[AttemptedRow, ...]:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<Batch of {counted(len(self), 'row|rows')}, from {self._rows[0].id}>"

    def log(self, message: object, /, level: str | int = "INFO", **details: Any) -> None:
        """Store a message about the whole call: :meth:`AttemptedRow.log` of the call's first row."""
        self._rows[0].log(message, level, **details)

    # --- steps

    @property
    def call(self) -> CallSteps:
        """The call in the journal: its record, and its steps."""
        if self._call is None:
            attempts = [(row.row.row_number, row.row.attempts) for row in self._rows]
            self._call = CallSteps(self._rows[0].row.job_id, attempts, self._turn)
        return self._call

    def step_key(self, name: str) -> str:
        """The idempotency key of a step, for the service that the step calls.

        The key is the same whenever these rows come back as a batch. For this, the call must be
        recorded. If no step has recorded the call, this method makes a commit.
        """
        return self.call.key(self._store.service(), name)

    @property
    def _steps(self) -> CallSteps:
        return self.call

    def _will_need_review(self, review: NeedsReview) -> None:
        first, *others = self._rows
        first.unrecorded = review
        for row in others:  # only the first row has the repr of a result
            row.unrecorded = NeedsReview(review.code, review.message)

    def take_logs(self) -> tuple[LogEntry, ...]:
        return self._rows[0].take_logs()  # the log of the first row is the log of the call

    def _put_back(self, logs: tuple[LogEntry, ...]) -> None:
        self._rows[0]._put_back(logs)  # noqa: SLF001


def _batch(*arguments: Any) -> Batch:
    *others, is_whole = arguments
    return Batch(*others, is_whole=is_whole)


Rows = tuple[AttemptedRow, ...] | Batch  # of one call


class Answer(NamedTuple):
    """The return value of a call, split by row.

    - ``by_row``: a dict from a row's id to the outcome, value or exception of the row.
    - ``rest``: the parts that belong to no row. ``problem``: a message about them, or "".
    - ``left_out``: the message for the review of a row without an outcome.
    - ``spent``: outcomes with the costs of ``rest``.
    """

    by_row: dict[str, Any]
    rest: Any = None
    problem: str = ""
    left_out: str = "the handler returned no outcome for this row, and its work may be done"
    spent: Sequence[Outcome] = ()


def outcomes_of_raised(
    rows: Sequence[AttemptedRow], error: BaseException, retry_on: Errors
) -> list[Outcome]:
    """The outcomes of a call that raised ``error``.

    A cost of the exception counts once, and a warning about the cost is logged once. Only the first
    row keeps a result.
    """
    first = outcome_of_error(error, retry_on)
    usage: dict[str, int | float] | None = {} if first.usage else None
    other = msgspec.structs.replace(first, result=None, cost_cents=None, usage=usage, logs=())
    outcomes = [first, *[other] * (len(rows) - 1)]
    return list(map(with_unrecorded, rows, outcomes))


def outcomes_of_answer(rows: Sequence[AttemptedRow], value: Any, retry_on: Errors) -> list[Outcome]:
    """The outcomes of a call that returned ``value``.

    A row needs a review if the value has no outcome for it. The first of these reviews keeps the
    part of the value that belongs to no row, and what this part has cost. A RowOutcome as the value
    counts as if the call had raised this RowOutcome. If the value is a RowResult, its result has
    the outcomes, and its cost counts once, with the first row.
    """
    try:
        if issubclass(type(value), RowOutcome):
            return outcomes_of_raised(rows, value, retry_on)
        if issubclass(type(value), RowResult) and value.tracking_number is value.label_path is None:
            return _outcomes_of_charged(rows, value, retry_on)
        answer = _matched(rows, value)
    except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
        problem = f"what the handler returned can't be read: {text_of(error)}"
        answer = Answer({}, value, problem)
    outcomes = []
    is_kept = False
    spent = answer.spent or _spent(answer.rest)
    for row in rows:
        if row.id in answer.by_row:
            outcomes.append(_outcome_of_one(row, answer.by_row[row.id], retry_on))
        else:
            outcomes.append(with_unrecorded(row, _review(answer, is_first=not is_kept)))
            is_kept = True
    if spent:
        first = next((n for n, row in enumerate(rows) if row.id not in answer.by_row), 0)
        outcomes[first] = with_sums(outcomes[first], (outcomes[first], *spent))
    if answer.problem and not is_kept:
        rows[0].log(f"{answer.problem}; each row has an outcome", "WARNING", returned=answer.rest)
    return outcomes


def _outcomes_of_charged(
    rows: Sequence[AttemptedRow], value: RowResult, retry_on: Errors
) -> list[Outcome]:
    first, *others = outcomes_of_answer(rows, value.result, retry_on)
    blank = msgspec.structs.replace(first, cost_cents=None, usage=None)
    charged = with_cost(blank, value.cost_cents, value.usage)
    if charged.usage:
        others = [
            msgspec.structs.replace(one, usage={}) if one.usage is None else one for one in others
        ]
    return [with_sums(charged, (first, charged)), *others]


def _spent(rest: Any) -> list[Outcome]:
    """The cost of the parts of an answer that belong to no row."""
    spent: list[Outcome] = []
    with suppress(BaseException):  # a value's own code may raise anything
        parts = rest.values() if issubclass(type(rest), dict) else rest
        spent.extend(
            with_cost(Outcome(kind="review"), part.cost_cents, part.usage)
            for part in (parts if issubclass(type(rest), dict | list | tuple) else [rest])
            if issubclass(type(part), RowResult | RowOutcome)
        )
    return spent


def _outcome_of_one(row: AttemptedRow, value: Any, retry_on: Errors) -> Outcome:
    if issubclass(type(value), BaseException):  # from asyncio.gather
        return outcome_of_raised(row, value, retry_on)
    return outcome_of_returned(row, value)


def _matched(rows: Sequence[AttemptedRow], value: Any) -> Answer:
    kind = type(value)
    if value is None:
        return Answer({})
    if issubclass(kind, Answer):  # from a handler of this package
        answer: Answer = value
        return answer
    if issubclass(kind, Mapping):
        ids = {row.id for row in rows}
        answers = dict(value.items())
        unknown = {key: answers.pop(key) for key in answers.keys() - ids}
        if not unknown:
            return Answer(answers)
        names = ", ".join(map(repr_of_lost, itertools.islice(unknown, 3)))
        more = ", ..." if len(unknown) > 3 else ""
        problem = (
            f"the handler returned outcomes for unknown row ids: {names}{more}; "
            f"the keys must be each row.id, such as {rows[0].id!r}"
        )
        if isinstance(rows, Batch) and rows._begun:  # noqa: SLF001  (of this module)
            steps = ", ".join(sorted(map(repr, rows._begun)))  # noqa: SLF001
            problem += f"; a retry repeats no step that is done: {steps}"
        return Answer(answers, unknown, problem)
    if not issubclass(kind, Sequence) or issubclass(kind, str | bytes | bytearray):
        return Answer({}, value, f"the handler returned {kind.__name__}, not a mapping or a list")
    listed = list(value)
    if isinstance(rows, Batch) and not rows.is_whole:
        problem = (
            "the handler returned a list, but some rows of the call are no longer in it: return a "
            "mapping by row.id"
        )
        return Answer({}, value, problem)
    if len(listed) != len(rows):
        outcomes = counted(len(listed), "outcome|outcomes")
        problem = f"the handler returned {outcomes} for {counted(len(rows), 'row|rows')}"
        return Answer({}, value, problem)
    return Answer({row.id: one for row, one in zip(rows, listed, strict=True)})


def _review(answer: Answer, *, is_first: bool) -> Outcome:
    """The review of a row without an outcome.

    The first such row of a call keeps the rest of the answer.
    """
    if not answer.problem:
        return Outcome(kind="review", error_code=NO_OUTCOME, error_message=answer.left_out)
    kept = outcome_of_value(RowResult(result=answer.rest) if is_first else None)
    where = "the first such review of the call"
    message = f"{answer.problem}; {answer.left_out}; the result of {where} keeps what it was"
    return msgspec.structs.replace(
        kept, kind="review", error_code=INVALID_RESULT, error_message=message
    )
