"""The steps of rows. A step is one side effect of a row, with a name that is unique in the row.

A step is in doubt if it has begun and its end isn't recorded. Call each function that appends
records in a separate ``with journal:`` block, like the functions of ``transitions.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from journal.errors import (
    InvalidStateTransition,
    InvalidValueError,
    StepInDoubtError,
)
from journal.format.commits import record_at
from journal.format.records import A_PROGRAM, UNSET_TIME, LogRecord, RowStepRecord, ranges_of
from journal.format.values import canonical_json
from journal.fs.handles import JournalFile
from journal.index.columns import PROCESSING, STATUSES, WAITING, Columns
from journal.model import LogEntry, RowStep, StepState
from journal.store.journal import Journal
from journal.store.row_reader import Read, RowSequence, moved_error, position_of
from journal.store.store import Store
from journal.store.transitions import put_back, put_logs, put_record, state_of

NAME_REUSED = "StepNameReused"  # error code of a row whose attempt has begun a step twice
IS_REUSED = (
    "is the name of a step that this attempt has begun already: give each step of a row its own "
    "name, such as 'mail 2'"
)


def get_steps(journal: Journal, number: int) -> tuple[RowStep, ...]:
    """Return the row's steps since its last redo, in the order in which they were first recorded.

    Raises RowNotFoundError.
    """
    return tuple(map(step_of, latest_records(journal, position_of(journal, number)).values()))


def latest_records(journal: Journal, position: int) -> dict[str, RowStepRecord]:
    """Return a dict from the name of each step to the record that decides the step's state.

    The first record with the state "done" decides. Without such a record, the last record decides.
    """
    heads = journal.index.columns.step_heads
    if heads is None or not heads[position]:  # the row has no step, as before its first step
        return {}
    return deciding_records(records_of_steps(journal, position))


class LatestRecords:
    """Returns the result of :func:`latest_records`. Fast for successive rows of one call.

    Rows of one call have the same records.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._head = 0
        self._records: dict[str, RowStepRecord] = {}

    def of(self, position: int) -> dict[str, RowStepRecord]:
        heads = self._journal.index.columns.step_heads
        head = 0 if heads is None else heads[position]
        if head != self._head:
            self._head, self._records = head, latest_records(self._journal, position)
        return self._records


def steps_of_rows(rows: RowSequence) -> Iterator[tuple[int, RowStep]]:
    """Yield each step of each row in a sequence, with the number of the row."""
    columns, read = rows.view.columns, rows.reader()
    if columns.step_heads is None:
        return
    last, found = 0, list[RowStep]()
    for index in range(len(rows)):
        position = rows.view.position(index)
        head = columns.step_heads[position]
        if head and head != last:  # the rows of a call have the same steps
            records = _records(columns, rows.file, read, position, exact=rows.exact)
            last, found = head, list(map(step_of, deciding_records(records).values()))
        for step in found if head else ():
            yield columns.number(position), step


def records_of_steps(journal: Journal, position: int, *, since: int = 0) -> list[RowStepRecord]:
    """Return the records of the row's steps since its last redo, in order.

    ``since``: only the records after this offset.
    """
    columns, file, exact = journal.index.columns, journal.file, journal.exact
    return _records(columns, file, journal.read_line, position, since=since, exact=exact)


def _records(
    columns: Columns, file: JournalFile, read: Read, position: int, *, since: int = 0, exact: bool
) -> list[RowStepRecord]:
    """Return the records of the row's steps since its last redo, in order."""
    number = columns.number(position)
    records = list[RowStepRecord]()
    for offset in columns.offsets_of_steps(position):
        if offset <= since:
            continue
        record = record_at(file, offset, read(offset), exact=exact)
        if not isinstance(record, RowStepRecord) or not (
            record.row == number or any(first <= number <= last for first, last in record.rows)
        ):
            raise moved_error(file, offset, f"a step of row {number}")
        records.append(record)
    return records


def deciding_records(records: Iterable[Any]) -> dict[str, Any]:
    """Return the deciding record of each step: see :func:`latest_records`.

    ``records`` are all records of a row's steps, in order, or the changes that were made from these
    records. Dropped steps, and the steps that began after a dropped step, are left out.
    """
    latest: dict[str, Any] = {}  # in the order in which the steps began
    for record in records:
        known = latest.get(record.step)
        if record.state == "dropped":
            for name in _from_step(latest, record.step):
                del latest[name]
        elif known is None or known.state != "done":
            latest[record.step] = record
    return latest


def _from_step(names: Iterable[str], name: str) -> list[str]:
    """Return the step of this name and all later steps, or nothing."""
    known = list(names)
    return known[known.index(name) :] if name in known else []


def get_step_in_doubt(store: Store, row_id: str) -> RowStep | None:
    """Return what :func:`step_in_doubt` returns for a row. Raises RowNotFoundError."""
    job_id, number = store.locate(row_id)
    with store.reading(job_id) as journal:
        return step_in_doubt(journal, position_of(journal, number))


def step_in_doubt(journal: Journal, position: int) -> RowStep | None:
    """Return the row's first step in doubt: a step that has begun and has no recorded end.

    If no step is in doubt, but the row's last attempt has begun a step twice, returns the failed
    second start. Otherwise, returns None.
    """
    columns, records = journal.index.columns, records_of_steps(journal, position)
    for record in deciding_records(records).values():
        if record.state == "started":
            return step_of(record)
    attempts, done, second = columns.attempts[position], set[str](), None
    for record in records:
        if record.state == "done":
            done.add(record.step)
        elif record.state == "dropped":
            done.clear()
            second = None
        elif record.step in done and (record.attempt, record.origin) == (attempts, None):
            second = second or record  # the record of a failed second start: see begin_step
    return None if second is None else step_of(second)


def in_doubt_text(row_id: str, step: RowStep) -> str:
    """Return the part of a message that says what to do about a step in doubt.

    A step in doubt has begun, and its end isn't recorded. ``step`` can also be the failed second
    start of a step that an attempt began twice.
    """
    if step.state == "failed":
        return f"{step.name!r} {step.error_message}"
    return str(StepInDoubtError(row_id, step.name, step.attempt))


STOP = "stop this worker"


def refuse(journal: Journal, position: int, refused: str, hint: str = STOP) -> NoReturn:
    """Raise InvalidStateTransition for a step, or a call, of the row at a position."""
    columns = journal.index.columns
    status, row = STATUSES[columns.statuses[position]], columns.number(position)
    subject = f"row {journal.id_of_rows}:{row}"
    raise InvalidStateTransition(status, status, [], subject, hint, refused)


class Doer(NamedTuple):
    """The attempt, or the turn of a call with many rows (see ``calls.py``), that does a step.

    - ``rows``: the numbers of the rows to which the step belongs.
    - ``attempt``: the number of the attempt, or None for a turn.
    - ``since``: the offset after which a turn writes its records, or 0 for an attempt.
    """

    rows: Sequence[int]
    attempt: int | None
    since: int = 0

    def has_written(self, journal: Journal, number: int, record: RowStepRecord) -> bool:
        """Return whether the doer has written a record of a step of row ``number``."""
        if self.since:  # a record of many rows has the attempt of the first row
            return record in records_of_steps(
                journal, position_of(journal, number), since=self.since
            )
        return (record.attempt, record.origin) == (self.attempt, None)

    def record(
        self, journal: Journal, rows: Sequence[int], name: str, state: StepState
    ) -> RowStepRecord:
        """Make the record of a step of these rows."""
        if self.attempt is not None:
            return _record(rows[0], self.attempt, name, state)
        record = _record(
            0, journal.index.columns.attempts[position_of(journal, rows[0])], name, state
        )
        record.rows = ranges_of(rows, state_of(journal).header.numbers[1])
        return record


def begin_step(
    journal: Journal,
    number: int,
    attempt: int,
    name: str,
    *,
    idempotent: bool,
    logs: Sequence[LogEntry] = (),
) -> RowStep | None:
    """Record that an attempt begins a step: see :func:`begin`.

    Raises RowNotFoundError, InvalidStateTransition if the attempt has ended, and StepInDoubtError.
    """
    position = position_of(journal, number)
    columns = journal.index.columns
    status, attempts = columns.statuses[position], columns.attempts[position]
    if status != PROCESSING or attempts != attempt:
        now = "" if attempts == attempt else f"attempt {attempts} is in progress: "
        refused = f"attempt {attempt} has ended and can't begin another step"
        refuse(journal, position, refused, f"{now}{STOP}")
    call = journal.index.calls.get(columns.call(position))
    doer = Doer((number,), attempt, 0 if call is None else call.turn)
    known = latest_records(journal, position).get(name)
    return begin(journal, doer, name, known, idempotent=idempotent, logs=logs)


def begin(
    journal: Journal,
    doer: Doer,
    name: str,
    known: RowStepRecord | None,
    *,
    idempotent: bool,
    logs: Sequence[LogEntry],
) -> RowStep | None:
    """Record that a step begins. The messages ``logs`` are recorded first.

    ``known``: the record that decides the state of the step, if there is one.

    If another attempt or turn has done the step, nothing is recorded, and the step is returned. If
    this same turn has done the step, InvalidValueError is raised. If this same attempt has done the
    step, the attempt has used one name for two steps. Then a failed second start is recorded and
    returned. The row needs a review, because a later attempt couldn't distinguish the two steps.
    The first step stays done.

    With ``idempotent``, ``logs`` and the start are not recorded, and a step in doubt may begin
    again. Otherwise, a step in doubt raises StepInDoubtError.
    """
    first, second = doer.rows[0], None
    if known is not None and known.state == "done":
        if not doer.has_written(journal, first, known):
            return step_of(known)
        if doer.attempt is None:
            raise InvalidValueError("name", name, IS_REUSED)
        second = doer.record(journal, doer.rows, name, "failed")
        second.error_code, second.error_message = NAME_REUSED, IS_REUSED
    elif idempotent:
        return None
    elif known is not None and known.state == "started":
        raise StepInDoubtError(f"{journal.id_of_rows}:{first}", name, known.attempt)
    put_logs(journal, first, logs)
    put_record(journal, second or doer.record(journal, doer.rows, name, "started"))
    return None if second is None else step_of(second)


def end_step(
    journal: Journal,
    number: int,
    attempt: int,
    name: str,
    *,
    result: Any = None,
    error: tuple[str, str] | None = None,
    logs: Sequence[LogEntry] = (),
) -> RowStep | None:
    """Record the end of a step that an attempt began: a result, or an error's code and message.

    The messages ``logs`` are recorded before the end.

    - A result is recorded even if the attempt has ended meanwhile, because the step has happened.
    - If another attempt, or another copy of the job, has also done the step, the result is recorded
      as a log message, and the recorded step is returned.
    - If a redo has removed the step, the result is recorded as a log message.
    - An error is not recorded if a state of the step was recorded meanwhile, by a later attempt, by
      a person or by another copy of the job.
    """
    position = position_of(journal, number)
    put_logs(journal, number, logs)
    known = latest_records(journal, position).get(name)
    done = known if known is not None and known.state == "done" else None
    if error is not None:
        is_left = known is None or _may_be_followed_by_failure(known, attempt)
    else:
        is_left = not done and (known is not None or attempt > _forgotten(journal, position))
    doer = Doer((number,), attempt)
    return end(journal, doer, doer.rows if is_left else (), done, name, result, error)


def end(
    journal: Journal,
    doer: Doer,
    left: Sequence[int],
    done: RowStepRecord | None,
    name: str,
    result: Any,
    error: tuple[str, str] | None,
) -> RowStep | None:
    """Record the end of a step for the rows ``left``.

    ``done``: the record of an earlier end of the step. If ``left`` is empty, a result is recorded
    as a log message, unless ``doer`` has written the record ``done``. Returns the step that another
    attempt or turn has done.
    """
    if left:
        record = doer.record(journal, left, name, "done" if error is None else "failed")
        record.result = result
        if error is not None:
            record.error_code, record.error_message = error
        put_record(journal, record)
    last = doer.rows[-1]
    if left or error is not None or (done is not None and doer.has_written(journal, last, done)):
        return None
    is_turn = doer.attempt is None
    why, details = "a redo has forgotten it", {"step": name, "result": result}
    if done is not None:
        why = f"another {'turn' if is_turn else 'attempt'} has done it, too"
    if not is_turn:
        details["attempt"] = doer.attempt
    by = "a turn of its call" if is_turn else f"attempt {doer.attempt}"
    message = f"step {name!r} was done by {by}, and {why}"
    log = LogRecord(
        message=message, level="WARNING", row=doer.rows[0], details=details, at=UNSET_TIME
    )
    put_record(journal, log)
    return None if done is None else step_of(done)


def _forgotten(journal: Journal, position: int) -> int:
    """Return the number of the row's last attempt that has lost steps, by a redo or a drop."""
    columns, file = journal.index.columns, journal.file
    records = _records(columns, file, journal.read_line, position, exact=journal.exact)
    dropped = [record.attempt for record in records if record.state == "dropped"]
    return max(columns.attempts_before_reset(position), *dropped, 0)


def drop_steps(journal: Journal, number: int, name: str) -> None:
    """Record that a step and the steps that began after it no longer count.

    The next attempt then begins with this step. A row in a call leaves the call and loses all steps
    of the call, because these steps are also about other rows. Raises RowNotFoundError. Raises
    InvalidValueError if the row has no such step. Raises StepInDoubtError if one of these steps is
    in doubt.
    """
    position = position_of(journal, number)
    steps = latest_records(journal, position)
    row_id = f"{journal.id_of_rows}:{number}"
    if name not in steps:
        names = ", ".join(map(repr, steps)) or "none"
        raise InvalidValueError(
            "from_step", name, f"is no step of row {row_id}; its steps: {names}"
        )
    first = next((step for step, record in steps.items() if step == name or record.rows), name)
    for step in _from_step(steps, first):
        if steps[step].state == "started":
            raise StepInDoubtError(row_id, step, steps[step].attempt)
    attempts = journal.index.columns.attempts[position]
    put_record(journal, _record(number, attempts, first, "dropped"))


def leave_call(journal: Journal, number: int) -> None:
    """Let a row in a call lose the steps of the call. Raises the errors of :func:`drop_steps`.

    A record that takes the row out of the call must follow.
    """
    position = position_of(journal, number)
    if journal.index.columns.call(position) in journal.index.calls:
        steps = latest_records(journal, position).items()
        for name in [name for name, record in steps if record.rows][:1]:
            if journal.index.columns.statuses[position] == WAITING:
                put_back(journal, position, A_PROGRAM)
            drop_steps(journal, number, name)


def _may_be_followed_by_failure(known: RowStepRecord, attempt: int) -> bool:
    if known.state == "done" or known.origin is not None or known.attempt > attempt:
        return False
    return known.state == "failed" or known.attempt == attempt


def record_step(journal: Journal, number: int, name: str, result: Any) -> RowStep:
    """Record that a step is done, and return the step.

    If a call has begun the step, the step is done for all rows of the call. If the step is already
    done with the same result, nothing is recorded. Raises RowNotFoundError. Raises
    InvalidValueError if the step is done with a different result.
    """
    position = position_of(journal, number)
    known = latest_records(journal, position).get(name)
    if known is not None and known.state == "done":
        if canonical_json(known.result) == canonical_json(result):
            return step_of(known)
        raise InvalidValueError(
            "result", result, f"step {name!r} is done already, with the result {known.result!r}"
        )
    record = _record(number, journal.index.columns.attempts[position], name, "done")
    record.result = result
    _put_for_call(journal, record, known)
    return step_of(record)


def _put_for_call(journal: Journal, record: RowStepRecord, known: RowStepRecord | None) -> None:
    """Append the record that settles a step. If a call began the step, settle all rows of the call.

    ``known``: the record that left the step in doubt. Rows for which another record decides, and
    rows in flight, aren't changed.
    """
    index, latest, first = journal.index, LatestRecords(journal), record.row
    if known is not None and known.state == "started" and known.rows:
        columns = index.columns
        rows = (
            columns.number(position)
            for position in index.rows_in(known.rows) or ()
            if columns.number(position) == first
            or (
                columns.statuses[position] != PROCESSING
                and latest.of(position).get(known.step) == known
            )
        )
        record.row, record.rows = 0, ranges_of(rows, state_of(journal).header.numbers[1])
    put_record(journal, record)


def fail_step(journal: Journal, number: int, name: str, message: str) -> RowStep:
    """Record that a step in doubt was not done, so that it may begin again. Return the step.

    If a call has begun the step, the record is about all rows of the call. Raises RowNotFoundError.
    Raises InvalidStateTransition while the row is in flight, and InvalidValueError if the step
    isn't in doubt.
    """
    position = position_of(journal, number)
    steps = latest_records(journal, position)
    known = steps.get(name)
    if known is None or known.state != "started":
        names = ", ".join(repr(step) for step, each in steps.items() if each.state == "started")
        reason = f"is not a step in doubt of row {number}; steps in doubt: {names or 'none'}"
        raise InvalidValueError("name", name, reason)
    if journal.index.columns.statuses[position] == PROCESSING:
        hint = "it is in flight: wait until its attempt ends"
        refuse(journal, position, f"its step {name!r} can't be settled", hint)
    record = _record(number, known.attempt, name, "failed")
    record.error_code, record.error_message = "not done", message
    _put_for_call(journal, record, known)
    return step_of(record)


def _record(
    number: int, attempt: int, name: str, state: StepState | Literal["dropped"]
) -> RowStepRecord:
    return RowStepRecord(row=number, attempt=attempt, step=name, state=state, at=UNSET_TIME)


def step_of(record: RowStepRecord) -> RowStep:
    assert record.state != "dropped", "such a record decides no step"
    return RowStep(
        name=record.step,
        state=record.state,
        attempt=record.attempt,
        at=record.at if record.origin is None else record.origin.at,
        result=record.result,
        error_code=record.error_code,
        error_message=record.error_message,
    )
