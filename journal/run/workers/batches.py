"""Calls with many rows: the workers process a batch of rows as one task.

For the driver, each row has its own ticket (the number of its attempt) and its own outcome.
:class:`BatchWorkers` groups the rows that one commit has started. It passes each group to other
workers as one task, which is a :class:`RowBatch`. The handler of these workers calls the
function of :class:`Batches`, and makes an outcome for each row from the return value.
:class:`BatchResults` passes these outcomes to the driver.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, TypeVar

import msgspec

from journal.model import Cost, Job, JobRow, LogEntry
from journal.progress.messages import Tell
from journal.run.handler import (
    AttemptedRow,
    Handler,
    is_coroutine_function,
    outcome_of_raised,
    with_unrecorded,
)
from journal.run.handler import outcome_of_returned as outcome_of_one
from journal.run.outcome import (
    INVALID_RESULT,
    NO_OUTCOME,
    Errors,
    Outcome,
    RetryOn,
    RowOutcome,
    RowResult,
    lost,
    outcome_of_error,
    outcome_of_value,
    repr_of_lost,
    text_of,
)
from journal.run.pacing.halt import HaltOn
from journal.run.signals import OwnProcess
from journal.run.workers.handover import Claim, Results, Workers
from journal.text import counted

Function = TypeVar("Function", bound=Callable[..., Any])


class RunOptions(TypedDict, total=False):
    """The options of :meth:`JobRun.run`, for a function that passes them on."""

    workers: int | None
    max_attempts: int
    retry_on: RetryOn
    backoff_s: float
    max_backoff_s: float
    timeout_s: float | None
    rate: str | None
    halt: HaltOn
    max_cost_cents: Cost | None
    max_rows: int | None
    limit_per: Mapping[str, int] | None
    where: Callable[[JobRow], object] | None
    retry_failed: bool
    handle_signals: bool
    progress: bool | None
    tell: Tell | None
    on_progress: Callable[[Job], object]


def passing_options_to(run: Callable[..., Any]) -> Callable[[Function], Function]:
    """Return a decorator for functions that pass their ``**options`` on to ``run``.

    For such a function, ``inspect`` shows the options of ``run``, with their defaults, in place of
    ``**options``.
    """

    def decorate(function: Function) -> Function:
        own = inspect.signature(function)
        mine = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        theirs = inspect.signature(run).parameters.values()
        shown = [*mine, *(one for one in theirs if one.kind is one.KEYWORD_ONLY)]
        function.__signature__ = own.replace(parameters=shown)  # type: ignore[attr-defined]
        return function

    return decorate


class Answer(NamedTuple):
    """The return value of a call, split by row.

    - ``by_row``: a dict from a row's id to the outcome, value or exception of the row.
    - ``rest``: the parts that belong to no row. ``problem``: a message about them, or "".
    - ``left_out``: the message for the review of a row without an outcome.
    """

    by_row: dict[str, Any]
    rest: Any = None
    problem: str = ""
    left_out: str = "the handler returned no outcome for this row, and its work may be done"


class RowBatch:
    """The rows of one call.

    Workers treat a batch like a row. A batch can be sent to another process.
    """

    unrecorded = None  # that of a row counts for the row alone

    def __init__(self, rows: Iterable[AttemptedRow]) -> None:
        self.rows = tuple(rows)

    def __reduce__(self) -> tuple[type[RowBatch], tuple[tuple[AttemptedRow, ...]]]:
        return RowBatch, (self.rows,)

    def begin(self) -> None:
        """Begin the attempts in this process. The rows share the place where steps are recorded."""
        self.rows[0].begin()

    def log(self, message: object, /, level: str | int = "INFO", **details: Any) -> None:
        """Store a message about the whole call. It is stored with the call's first row."""
        self.rows[0].log(message, level, **details)

    def take_logs(self) -> tuple[LogEntry, ...]:
        """Return no messages, since the outcomes of the rows have them."""
        return ()


# --- the call, in a worker


class Batches(NamedTuple):
    """A function that takes a list of up to ``size`` rows. It is used in place of a handler."""

    handle: Callable[..., Any]
    size: int

    def handler(self, retry_on: Errors) -> Handler:
        """The handler that takes a :class:`RowBatch` as its row."""
        is_coroutine = is_coroutine_function(self.handle)
        return (_CoroutineBatchHandler if is_coroutine else _BatchHandler)(self.handle, retry_on)


class _BatchHandler:
    def __init__(self, handle: Callable[..., Any], retry_on: Errors) -> None:
        self._handle = handle
        self._retry_on = retry_on
        if hasattr(handle, "cancel"):
            self.cancel = handle.cancel

    def __repr__(self) -> str:
        return repr(self._handle)

    def __call__(self, batch: RowBatch) -> Outcome:
        try:
            with OwnProcess():
                value = self._handle(list(batch.rows))  # the function may change its list
        except BaseException as error:  # noqa: BLE001  (any exception is an outcome of the rows)
            return _each(batch, outcomes_of_raised(batch.rows, error, self._retry_on))
        return _each(batch, outcomes_of_answer(batch.rows, value, self._retry_on))


class _CoroutineBatchHandler(_BatchHandler):
    async def __call__(self, batch: RowBatch) -> Outcome:  # type: ignore[override]
        try:
            with OwnProcess():
                value = await self._handle(list(batch.rows))
        except BaseException as error:  # noqa: BLE001  (any exception is an outcome of the rows)
            return _each(batch, outcomes_of_raised(batch.rows, error, self._retry_on))
        return _each(batch, outcomes_of_answer(batch.rows, value, self._retry_on))


def _each(batch: RowBatch, outcomes: list[Outcome]) -> Outcome:
    for place, row in enumerate(batch.rows):
        logs = row.take_logs()
        if logs:
            outcomes[place] = msgspec.structs.replace(outcomes[place], logs=logs)
    return Outcome(kind="completed", of_rows=tuple(outcomes))


def outcomes_of_raised(
    rows: Sequence[AttemptedRow], error: BaseException, retry_on: Errors
) -> list[Outcome]:
    """The outcomes of a call that raised ``error``. A cost of the exception counts one time."""
    first = outcome_of_error(error, retry_on)
    other = msgspec.structs.replace(first, cost_cents=None, usage=None)
    outcomes = [first, *[other] * (len(rows) - 1)]
    return list(map(with_unrecorded, rows, outcomes))


def outcomes_of_answer(rows: Sequence[AttemptedRow], value: Any, retry_on: Errors) -> list[Outcome]:
    """The outcomes of a call that returned ``value``.

    A row needs a review if the value has no outcome for it. The first of these reviews keeps the
    part of the value that belongs to no row. If the value is a RowOutcome, the outcomes are those
    of a call that raised this RowOutcome.
    """
    if issubclass(type(value), RowOutcome):
        return outcomes_of_raised(rows, value, retry_on)
    try:
        answer = _matched(rows, value)
    except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
        problem = f"what the handler returned can't be read: {text_of(error)}"
        answer = Answer({}, value, problem)
    outcomes = []
    kept_by = ""  # the id of the row whose review keeps the rest
    for row in rows:
        if row.id in answer.by_row:
            outcomes.append(_outcome_of_one(row, answer.by_row[row.id], retry_on))
        else:
            outcomes.append(with_unrecorded(row, _review(answer, kept_by)))
            kept_by = kept_by or row.id
    if answer.problem and not kept_by:
        rows[0].log(f"{answer.problem}; each row has an outcome", "WARNING", returned=answer.rest)
    return outcomes


def _outcome_of_one(row: AttemptedRow, value: Any, retry_on: Errors) -> Outcome:
    if issubclass(type(value), BaseException):  # as asyncio.gather returns it
        return outcome_of_raised(row, value, retry_on)
    return outcome_of_one(row, value)


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
        problem = f"the handler returned outcomes for unknown row ids: {names}{more}"
        return Answer(answers, unknown, problem)
    if not issubclass(kind, Sequence) or issubclass(kind, str | bytes | bytearray):
        return Answer({}, value, f"the handler returned {kind.__name__}, not a mapping or a list")
    listed = list(value)
    if len(listed) != len(rows):
        outcomes = counted(len(listed), "outcome|outcomes")
        problem = f"the handler returned {outcomes} for {counted(len(rows), 'row|rows')}"
        return Answer({}, value, problem)
    return Answer({row.id: one for row, one in zip(rows, listed, strict=True)})


def _review(answer: Answer, kept_by: str) -> Outcome:
    """The review of a row without an outcome.

    The first such review of a call keeps the rest of the answer.

    ``kept_by``: the id of the row whose review keeps the rest; "" if this is the first review.
    """
    if not answer.problem:
        return Outcome(kind="review", error_code=NO_OUTCOME, error_message=answer.left_out)
    kept, where = Outcome(kind="review"), f"the review of row {kept_by}"
    if not kept_by:
        kept, where = outcome_of_value(RowResult(result=answer.rest)), "this review"
    message = f"{answer.problem}; {answer.left_out}; the result of {where} keeps what it was"
    return msgspec.structs.replace(
        kept, kind="review", error_code=INVALID_RESULT, error_message=message
    )


# --- the workers, for the driver


class _Batch(Claim):
    """A call with all its rows.

    Either its worker begins all of them, or the driver cancels all of them.
    """

    __slots__ = ("abandoned", "cancelled", "number", "rows", "tickets")

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.rows: list[AttemptedRow] = []
        self.tickets: list[int] = []
        # The answers of the workers to cancel(), without and with force, and to abandon().
        self.cancelled: dict[bool, bool] = {}
        self.abandoned: tuple[int, bool] | None = None


class BatchResults(Results):
    """Receives the outcome of each call. Puts the outcomes of the call's rows into ``results``."""

    def __init__(self, results: Results) -> None:
        super().__init__()
        self._results = results
        self.open: dict[int, _Batch] = {}  # the calls that have not returned, by number
        self.by_ticket: dict[int, _Batch] = {}  # the same, by the tickets of their rows

    def put(self, ticket: int, outcome: Outcome) -> None:
        """Add the outcome of a call. If it has no ``of_rows``, it is the outcome of each row.

        Raises no exception: nobody would see it, and the run would wait for these rows forever.
        """
        tickets = self.open.pop(ticket).tickets
        outcomes = outcome.of_rows
        if not outcomes:  # its worker is lost, or the call never began
            outcomes = (outcome,) * len(tickets)
        elif outcome.elapsed_s:
            first = msgspec.structs.replace(outcomes[0], elapsed_s=outcome.elapsed_s)
            outcomes = (first, *outcomes[1:])
        if len(outcomes) != len(tickets):  # nobody knows which outcome belongs to which row
            problem = f"{counted(len(outcomes), 'outcome|outcomes')} for {len(tickets)}"
            outcomes = (lost(ValueError(problem)),) * len(tickets)
        self._results.put_all(dict(zip(tickets, outcomes, strict=True)))
        for of_row in tickets:
            self.by_ticket.pop(of_row, None)


class BatchWorkers:
    """Groups up to ``rows_a_call`` rows into each call, and passes the calls to other workers."""

    # If the run is killed, nobody knows whether the queued rows have begun. A call has many rows.
    queues = False

    def __init__(self, workers: Workers, results: BatchResults, rows_a_call: int) -> None:
        self.rows_a_call = rows_a_call
        self._workers = workers
        self._results = results
        self._gathered = _Batch(0)

    @property
    def count(self) -> int:
        return self._workers.count

    def claim(self) -> Claim:
        return self._gathered

    def dispatch(self, ticket: int, row: AttemptedRow, claim: Claim) -> None:  # noqa: ARG002
        batch = self._gathered
        batch.rows.append(row)
        batch.tickets.append(ticket)
        if len(batch.rows) >= self.rows_a_call:
            self.flush()

    def flush(self) -> None:
        batch = self._gathered
        if batch.rows:
            self._gathered = _Batch(batch.number + 1)
            self._results.open[batch.number] = batch
            self._results.by_ticket.update(dict.fromkeys(batch.tickets, batch))
            self._workers.dispatch(batch.number, RowBatch(batch.rows), batch)
        self._workers.flush()

    def cancel(self, ticket: int, row_id: str, *, force: bool) -> bool:  # noqa: ARG002
        """Ask the call of this row to end.

        The workers are asked only once for all rows of a call, with the id of the call's first row.
        With ``force``, they are asked once more. A repeated request gets the answer to the first
        request with the same ``force``.
        """
        batch = self._results.by_ticket.get(ticket)
        if batch is None:  # the call has returned meanwhile
            return True
        if force not in batch.cancelled:
            batch.cancelled[force] = self._workers.cancel(
                batch.number, batch.rows[0].id, force=force
            )
        return batch.cancelled[force]

    def abandon(self, ticket: int) -> bool:
        """Give up the call of this row.

        If no other row of the call was given up before, returns whether another call can take the
        place of this call. Otherwise returns True, so that a lost place counts only once.
        """
        batch = self._results.by_ticket.get(ticket)
        if batch is None:
            return True
        if batch.abandoned is None:
            batch.abandoned = ticket, self._workers.abandon(batch.number)
        first, has_slot = batch.abandoned
        return has_slot or ticket != first

    def close(self) -> None:
        self._workers.close()
