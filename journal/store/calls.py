"""Calls: recorded calls of a handler with many rows.

The record of a call keeps the call's rows together.

A run may call a handler with many rows at once. In three cases, the call is recorded, and the rows
must stay together from then on: the call begins its first step, asks for the key of a step, or
waits for somebody else, such as the batch endpoint of a provider. (Any other call needs no record.
Its rows may be tried again together with other rows.) In this module, "call" means a recorded call.

- The rows of a call are in processing when the call begins. The attempt of a row continues until
  the row gets its own outcome, even if the call waits and is resumed many times. So a wait adds no
  attempt, and takes one short record for any number of rows.
- A call **waits** (:func:`wait_call`): the call's rows in processing become pending, like rows that
  wait alone. The index has the code WAITING for these rows, and the rows have the due time of the
  call.
- A call is **resumed** (:func:`resume_call`): the waiting rows are in processing again. Rows that
  are pending for another reason (``Retry``, a retry by a person) begin a new attempt. Each
  beginning and each resumption of a call has a new **turn**, a unique number. Only a worker with
  the present turn may begin a step.
- The **open** rows of a call are pending or in processing. :func:`open_calls` returns the calls
  with open rows. Only :func:`resume_call` starts these rows: ``start_rows`` skips them, and
  ``start_row`` refuses them.
- A completed, failed or skipped row, or a row in review, stays in its call. If the row is retried,
  the row is open again, and the call is resumed with its id and its steps.
- A row leaves its call by a redo, by new data, by :func:`journal.store.steps.drop_steps`, or if the
  row waits alone. The row then has no step of the call, and is pending like any other row.
- A call ends (:func:`end_call`) when each of its rows is completed or has left the call.

A row of a call has the steps of the call, and may have steps of its own. A step of the call is one
record for all rows. :func:`journal.store.steps.get_steps` and all other readers of steps find this
record for each row.

If a step of the call is in doubt, ``record_step`` or ``fail_step`` for any row settles the step for
the whole call.

After a crash, ``settle_rows`` (see :mod:`journal.store.interrupted_rows`) treats the rows of a call
alike. With the policies "retry" and "resume", the call waits, and is due at once. If a step is in
doubt, "resume" puts all rows of the step in review, and each review names the step.

Call each function that appends records in a separate ``with journal:`` block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Literal

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import (
    A_RUN,
    UNSET_TIME,
    By,
    CallRecord,
    RowStatusRecord,
    ranges_of,
    writable,
)
from journal.fs import system
from journal.index.columns import COMPLETED, PENDING, PROCESSING, WAITING
from journal.index.job_state import OpenCall
from journal.model import JobRow, LogEntry, RowStep
from journal.store.journal import Journal
from journal.store.row_reader import position_of, read_call, row_of
from journal.store.steps import Doer, LatestRecords, begin, end, refuse
from journal.store.transitions import (
    change_row,
    let_start,
    put_logs,
    put_record,
    state_of,
)
from journal.text import counted


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call as it is now.

    - ``id``: a random number, which the call keeps. Records have it as 16 hex digits.
    - ``rows``: the numbers of all rows with which the call began, in order.
    - ``open``: the numbers of the rows that are still in the call and open, in the same order.
    - ``turn``: see the module. A waiting call has the number of its last turn.
    - ``waits``: whether the call waits. ``due``, ``after_s``: the time of the wait, as for a
      waiting row. ``due`` is None if the call may be resumed at once, as after a crash.
    """

    id: int
    rows: tuple[int, ...]
    open: tuple[int, ...]
    turn: int
    waits: bool
    due: datetime | None = None
    after_s: float | None = None

    @property
    def has_lost_rows(self) -> bool:
        """Whether some rows of the call aren't open.

        The answers to the call may still be about all rows.
        """
        return self.rows != self.open


def begin_call(journal: Journal, attempts: Iterable[tuple[int, int]]) -> Call:
    """Record a call of rows that are in processing, and return the call.

    ``attempts``: the number of each row and of its attempt, in order. A row is left out if somebody
    has settled the row, so that its attempt isn't in progress.

    Raises InvalidStateTransition if no row is left, or if a row is in another call: the worker must
    stop. Raises RowNotFoundError.
    """
    columns, numbers, first = journal.index.columns, list[int](), 0
    for number, attempt in attempts:
        position, first = position_of(journal, number), first or number
        if (columns.statuses[position], columns.attempts[position]) == (PROCESSING, attempt):
            if columns.call(position) in journal.index.calls:
                refuse(journal, position, "it is in another call already")
            numbers.append(number)
    if not numbers:
        refuse(journal, position_of(journal, first), _IS_OVER)
    record = _record(id_ := int(system.nonce(), 16), "started")
    record.rows = ranges_of(numbers, state_of(journal).header.numbers[1])
    put_record(journal, record)
    return get_call(journal, id_)


def get_call(journal: Journal, id_: int) -> Call:
    """Return a call that hasn't ended. Raises InvalidValueError if there is no such call."""
    return _call_of(journal, id_, _known(journal, id_))


def _known(journal: Journal, id_: int) -> OpenCall:
    found = journal.index.calls.get(id_)
    if found is None:
        raise InvalidValueError("call", id_, "is not an open call of this job")
    return found


def call_of_row(journal: Journal, number: int) -> Call | None:
    """Return the call that a row is in, or None. Raises RowNotFoundError."""
    call = journal.index.columns.call(position_of(journal, number))
    return get_call(journal, call) if call in journal.index.calls else None


def open_calls(journal: Journal) -> list[Call]:
    """Return the calls with rows that are pending or in processing.

    The call that began first is first.
    """
    index = journal.index
    statuses, calls = index.columns.statuses, index.calls
    is_open = bytes(code in _OPEN for code in range(256))
    return [
        _call_of(journal, id_, each)
        for id_, each in calls.items()
        if any(
            1 in statuses[rows.start : rows.stop].translate(is_open)
            for rows in calls.rows(id_, index.columns)
        )
    ]


def _call_of(journal: Journal, id_: int, found: OpenCall) -> Call:
    index, columns = journal.index, journal.index.columns
    began = read_call(journal.file, journal.read_line, found.first)
    rows, still_open = list[int](), list[int]()
    for position in index.rows_in(began.rows) or ():
        rows.append(columns.number(position))
        if columns.call(position) == id_ and columns.statuses[position] in _OPEN:
            still_open.append(rows[-1])
    wait = began
    if found.waits:
        wait = read_call(journal.file, journal.read_line, found.waited)
    return Call(
        id=id_,
        rows=tuple(rows),
        open=tuple(still_open),
        turn=found.turn,
        waits=found.waits,
        due=wait.due,
        after_s=wait.after_s,
    )


_OPEN = (PENDING, PROCESSING, WAITING)
_IS_OVER = "its turn of the call is over"
LEFT_BEHIND = "LeftBehind"  # error code of a row that can't come back to its call


def wait_call(
    journal: Journal, id_: int, after_s: float | None, reason: str | None = None, by: By = A_RUN
) -> None:
    """Let a call wait for ``after_s`` seconds. None: the call may be resumed at once.

    All rows that are still in processing wait. So first record the outcomes of the other rows, in
    the same commit. ``since`` of the record is the beginning of the call's first wait since its
    rows were started or retried.
    """
    call, record = _known(journal, id_), _record(id_, "waiting")
    record.at, record.after_s, record.reason, record.by = journal.now(), after_s, reason, by.by
    if call.waited:
        record.since = read_call(journal.file, journal.read_line, call.waited).since
    if after_s is not None:
        record.due = writable(record.at + timedelta(seconds=after_s))
        record.since = record.since or record.at
    journal.append(record)


def resume_call(journal: Journal, id_: int, by: By = A_RUN) -> tuple[Call, list[JobRow]]:
    """Start a call again. Returns the call with its new turn, and its open rows in order.

    Waiting rows continue their attempts. Rows that are pending for another reason begin a new
    attempt. But if the other rows have done a step without the pending row, the pending row fails,
    because no turn could be right for all rows. The caller must check the due time.

    Raises InvalidStateTransition if the job has ended, or if a row of the call is in processing.
    """
    let_start(journal, "its rows can't be started", reopens=False)
    _fail_rows_left_behind(journal, get_call(journal, id_), by)
    call, columns = get_call(journal, id_), journal.index.columns
    positions = [position_of(journal, number) for number in call.open]
    for position in positions:
        if columns.statuses[position] == PROCESSING:
            refuse(journal, position, "its call can't be resumed")
    journal.append(_record(id_, "started", journal))
    version = state_of(journal).version
    for number, position in zip(call.open, positions, strict=True):
        if journal.index.columns.statuses[position] == PENDING:
            record = RowStatusRecord(
                row=number, status="processing", version=version, at=journal.now()
            )
            journal.append(by.sign(record))
    turn = _known(journal, id_).turn
    call = msgspec.structs.replace(call, turn=turn, waits=False, due=None, after_s=None)
    return call, [row_of(journal, position) for position in positions]


def _fail_rows_left_behind(journal: Journal, call: Call, by: By) -> None:
    """Fail pending rows of a call if its other rows have done a step of the call without them.

    A pending row of this kind had ended when the other rows did the step, and was retried later.
    The row alone would do the step under the key of the other rows. A service that recognizes the
    key would then do nothing.
    """
    columns, latest = journal.index.columns, LatestRecords(journal)
    positions = [position_of(journal, number) for number in call.open]
    if all(columns.statuses[position] == WAITING for position in positions):
        return
    done = dict[int, list[str]]()
    calls = journal.index.calls
    for position in chain.from_iterable(calls.rows(call.id, columns)):
        records = latest.of(position).values()
        done[position] = [one.step for one in records if one.state == "done" and one.rows]
    names = dict.fromkeys(chain.from_iterable(done.values()))
    for number, position in zip(call.open, positions, strict=True):
        if columns.statuses[position] != PENDING:
            continue
        known = latest.of(position)
        missed = [n for n in names if n not in known or known[n].state != "done"]
        if missed:
            begin_anew = f"journal redo {journal.job_id} --row {number}"
            if done[position]:
                from journal.fs.shell import quote  # noqa: PLC0415  (`journal list` starts without it)

                first = quote(done[position][0])
                begin_anew = f"journal retry {journal.job_id} --row {number} --from-step {first}"
            message = f"the other rows of its call have done step {missed[0]!r} without it: "
            message += f"type `{begin_anew}` to begin it anew, with other rows"
            record = RowStatusRecord(
                row=number,
                status="failed",
                error_code=LEFT_BEHIND,
                error_message=message,
                at=UNSET_TIME,
            )
            change_row(journal, by.sign(record))


def end_call(journal: Journal, id_: int) -> bool:
    """End a call if each of its rows is completed. Returns whether the call has ended.

    A row that isn't completed may be retried, and then needs the call with its steps. Call this
    function in the commit that records the outcomes of a call. This function looks at each row of
    the call.
    """
    statuses = journal.index.columns.statuses
    if id_ in journal.index.calls:
        spans = journal.index.calls.rows(id_, journal.index.columns)
        if any(statuses[at] != COMPLETED for at in chain.from_iterable(spans)):
            return False
        journal.append(_record(id_, "ended", journal))
    return True


def _record(
    id_: int, state: Literal["started", "waiting", "ended"], journal: Journal | None = None
) -> CallRecord:
    return CallRecord(
        id=f"{id_:016x}", state=state, at=UNSET_TIME if journal is None else journal.now()
    )


# --- steps of a call -------------------------------------------------------------------------


def begin_step(
    journal: Journal,
    id_: int,
    turn: int,
    name: str,
    *,
    idempotent: bool,
    logs: Sequence[LogEntry] = (),
) -> RowStep | None:
    """Record that a turn of a call begins a step: like :func:`journal.store.steps.begin_step`.

    Raises InvalidStateTransition if the turn is over: the worker must stop. Raises
    InvalidValueError if this turn has already done the step, because a later turn couldn't
    distinguish the two steps. Raises InvalidValueError if a step of this name is done or begun for
    a single row of the call. Raises StepInDoubtError. ``logs`` are recorded as messages of the
    call's first open row.
    """
    call = get_call(journal, id_)
    columns, latest = journal.index.columns, LatestRecords(journal)
    rows = [n for n in call.open if columns.statuses[position_of(journal, n)] == PROCESSING]
    if call.turn != turn or call.waits or not rows:
        refuse(journal, position_of(journal, call.rows[0]), _IS_OVER)
    known = [latest.of(position_of(journal, number)).get(name) for number in rows]
    record = known[0]
    if any(other is not record and other != record for other in known):
        alone = [n for n, other in zip(rows, known, strict=True) if other and not other.rows]
        reason = (
            f"is a step that {counted(len(alone), 'row|rows')} of this call, such as row "
            f"{[*alone, *rows][0]}, began alone: give the step of the call another name, or retry "
            "these rows from this step on, so that they are done with the others"
        )
        raise InvalidValueError("name", name, reason)
    return begin(journal, Doer(rows, None, turn), name, record, idempotent=idempotent, logs=logs)


def end_step(
    journal: Journal,
    id_: int,
    turn: int,
    rows: Sequence[int],
    name: str,
    *,
    result: Any = None,
    error: tuple[str, str] | None = None,
    logs: Sequence[LogEntry] = (),
) -> RowStep | None:
    """Record the end of a step of a call: like :func:`journal.store.steps.end_step`.

    ``rows``: the rows of the turn in which the step began. A result is recorded even if the turn is
    over. The result is recorded for each of these rows, except rows whose step is done already or
    was forgotten by a redo. If another turn or copy has done the step for all rows, the result is
    recorded as a log message, and the recorded step is returned. An error is recorded only by the
    present turn.
    """
    put_logs(journal, rows[0], logs)
    call, latest = journal.index.calls.get(id_), LatestRecords(journal)
    is_present = call is not None and call.turn == turn and not call.waits
    left, done = list[int](), None
    for number in rows:
        position = position_of(journal, number)
        known, is_in = latest.of(position).get(name), journal.index.columns.call(position)
        if is_in not in (0, id_):
            continue  # a redo has forgotten the step: the row is in a later call
        if known is not None and known.state == "done":
            done = known
        elif known is not None or is_in:
            left.append(number)
    if error is not None and not is_present:
        left = []
    return end(journal, Doer(rows, None, turn), left, done, name, result, error)
