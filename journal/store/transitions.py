"""All changes of a job and its rows, and the two tables of allowed changes of a status.

A change is checked against the index, then appended.

Call each function in a separate ``with journal:`` block. If a change is refused, the function
raises, and the block undoes the change. So a surrounding batch can continue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from journal.errors import InvalidStateTransition, InvalidValueError, JobPausedError
from journal.format.arguments import check_optional_object, check_text
from journal.format.keys import next_key, row_key
from journal.format.records import (
    A_PROGRAM,
    LOST_CHECKSUM,
    UNSET_TIME,
    AnyRow,
    By,
    JobPauseRecord,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    RowDataRecord,
    RowStatusRecord,
    RunRecord,
    SingleRecord,
    is_maybe_done_twice,
    writable,
)
from journal.format.size_limits import MAX_USAGE_NAMES
from journal.format.values import canonical_json, checksum_of
from journal.fs import system
from journal.index.columns import (
    CODES,
    COMPLETED,
    FAILED,
    NEEDS_REVIEW,
    PENDING,
    PROCESSING,
    SKIPPED,
    STATUSES,
    WAITING,
)
from journal.index.index import Index
from journal.index.job_state import JobState
from journal.model import (
    JobRow,
    JobStatus,
    LogEntry,
    Pause,
    Policy,
    RowStatus,
    Usage,
    log_level,
)
from journal.store.journal import Journal
from journal.store.row_reader import (
    position_of,
    read_row,
    read_status,
    row_from_records,
    row_not_found,
    row_of,
    status_of_attempt,
    version_of_attempt,
    waits_since,
)
from journal.store.run_lock import has_run
from journal.text import time_text
from journal.version import VERSION

Status = TypeVar("Status", JobStatus, RowStatus)


def _transitions(kind: type[Status], **targets: str) -> Mapping[Status, tuple[Status, ...]]:
    table = {kind(source): tuple(map(kind, words.split())) for source, words in targets.items()}
    return MappingProxyType(table)


# The transitions that a caller can ask for within a pass. JobService.reopen_job() begins another
# pass. The table lacks one change: when a person settles the last open row of a failed job, or of a
# pending job that was started before, the job ends.
VALID_TRANSITIONS = _transitions(
    JobStatus,
    pending="running cancelled",
    running="completed failed cancelled paused",
    paused="running cancelled",
    completed="",
    failed="",
    cancelled="",
)
VALID_ROW_TRANSITIONS = _transitions(
    RowStatus,
    pending="processing completed failed skipped",
    processing="completed failed skipped pending needs_review",
    failed="processing pending skipped",
    needs_review="pending completed failed skipped",
    skipped="pending",
    completed="",
)

_ALLOWED_CODES = tuple(
    frozenset(CODES[target] for target in VALID_ROW_TRANSITIONS[status]) for status in STATUSES
)
# The statuses that a redo resets to pending. The table of transitions doesn't apply to a redo.
_REDONE = (COMPLETED, FAILED, SKIPPED)
_MAYBE_DONE_TWICE = (
    "it is completed in one of the merged copies: use redo_row() or `journal redo` to do it again, "
    "or record what became of it by `journal resolve`"
)
_STARTING_CODES = frozenset((CODES[RowStatus.PROCESSING], CODES[RowStatus.PENDING]))
_NEVER_ENDED_BY_ROWS = (JobStatus.COMPLETED, JobStatus.CANCELLED)


def put_record(journal: Journal, record: SingleRecord) -> None:
    """Set the time of a record, and append it. Raises RowNotFoundError."""
    if row := getattr(record, "row", None):
        position_of(journal, row)
    record.at = journal.now()
    journal.append(record)


def put_logs(journal: Journal, number: int, logs: Iterable[LogEntry]) -> None:
    """Append messages that an attempt at row ``number`` has logged earlier."""
    for entry in logs:
        record = LogRecord(
            message=check_text(entry.message, "message"),
            level=log_level(entry.level),
            row=number,
            attempt=entry.attempt,
            details=check_optional_object(entry.details, "details"),
            logged_at=entry.at,
            at=UNSET_TIME,
        )
        put_record(journal, record)


def put_run(
    journal: Journal,
    argv: Sequence[str] = (),
    version: str | None = None,
    *,
    policy: Policy = "review",
    is_command: bool = False,
    changes: Mapping[str, Any] = {},
) -> None:
    """Append the record of a run's start. ``is_command``: ``argv`` is a `journal run`.

    ``changes``: the members "added", "changed", "retried", "gone" and "limits" of the record.

    Raises JournalDamagedError if the journal was cut: rows that were done would be done again.
    Raises JobPausedError.
    """
    journal.check_uncut()
    check_unpaused(journal.job_id, state_of(journal).pause)
    record = RunRecord(
        id=system.nonce(),
        host=system.host_name(),
        user=system.user_name(),
        pid=system.process_id(),
        package=VERSION,
        argv=tuple(argv),
        directory=system.current_directory() if argv else "",
        is_command=is_command,
        version=version,
        on_interrupted=policy,
        **changes,
        at=UNSET_TIME,
    )
    put_record(journal, record)


def set_job_status(journal: Journal, target: JobStatus) -> None:
    """Move the job to ``target``. Raises InvalidStateTransition and JobPausedError."""
    status = state_of(journal).status
    if target is JobStatus.RUNNING:
        check_unpaused(journal.job_id, state_of(journal).pause)
    if target not in VALID_TRANSITIONS[status]:
        hint = _HAS_ENDED if status.is_ended else ""
        _refuse_job(journal, target, _REOPEN_FIRST if status is JobStatus.CANCELLED else hint)
    put_record(journal, JobStatusRecord(status=target.value, at=UNSET_TIME))


_REOPEN_FIRST = "reopen it first: reopen_job(), or `journal resume`"
_HAS_ENDED = (
    "the job has ended: `journal retry` or retry_failed_rows() retries failed rows; "
    "`journal show` says what else to do"
)


def _refuse_job(journal: Journal, target: JobStatus, hint: str, refused: str = "") -> NoReturn:
    status, subject = state_of(journal).status, f"job {journal.job_id}"
    allowed = VALID_TRANSITIONS[status]
    raise InvalidStateTransition(status, target, allowed, subject, hint, refused)


def _refuse_row(
    journal: Journal, position: int, target: RowStatus, hint: str = "", refused: str = ""
) -> NoReturn:
    columns = journal.index.columns
    status = STATUSES[columns.statuses[position]]
    allowed = [allowed for allowed in VALID_ROW_TRANSITIONS[status] if allowed is not target]
    if not hint and status is RowStatus.COMPLETED:
        hint = "use redo_row() or `journal redo` to do a completed row again"
    elif not hint and status is RowStatus.NEEDS_REVIEW:
        hint = "find out whether it took effect, then retry, complete, fail or skip it"
    subject = f"row {journal.id_of_rows}:{columns.number(position)}"
    raise InvalidStateTransition(status, target, allowed, subject, hint, refused)


def state_of(journal: Journal) -> JobState:
    """Return the facts about the job itself. Hold the mutex, and refresh the journal first."""
    state = journal.index.state
    assert state is not None, "refresh() refuses a journal without a job record"
    return state


def _made(journal: Journal, position: int) -> AnyRow:
    """Return the record with the row's data."""
    columns = journal.index.columns
    offset = columns.row_offsets[position]
    return read_row(journal.file, journal.read_line(offset), offset, columns.number(position))


_NOT_IN_FLIGHT = "only an attempt in progress can be given back"
_IN_A_CALL = "it is in a call with other rows, which only a run resumes"
_LOST = "it can't be set back to pending: its data was lost to damage"


def change_row(journal: Journal, record: RowStatusRecord, *, redoes: bool = False) -> JobRow:
    """Give a row the status in ``record``. Returns the row.

    This function sets ``at``, ``version``, ``due`` and ``since`` of the record. ``redoes``: the
    change is a redo, so the row may be completed. Raises RowNotFoundError and
    InvalidStateTransition.
    """
    index, number = journal.index, record.row
    gives_back = record.reset is not None and record.decision is None
    position = index.position_of(number)
    if position is None:
        raise row_not_found(journal, number)
    columns = index.columns
    code, old = CODES[record.status], columns.statuses[position]
    is_done = code == PENDING and old == NEEDS_REVIEW and _is_maybe_done_twice(journal, position)
    if redoes or record.reset == "redo":
        if old not in _REDONE and not is_done:
            hint = "" if old == NEEDS_REVIEW else "only a row that has ended can be redone"
            _refuse_row(journal, position, RowStatus.PENDING, hint, "it can't be redone")
    elif is_done:
        _refuse_row(journal, position, RowStatus.PENDING, _MAYBE_DONE_TWICE)
    elif code not in _ALLOWED_CODES[old]:
        _refuse_row(journal, position, STATUSES[code])
    elif code == PROCESSING and index.calls and columns.call(position) in index.calls:
        _refuse_row(journal, position, STATUSES[code], _IN_A_CALL)
    elif gives_back and old != PROCESSING:
        _refuse_row(journal, position, RowStatus.PENDING, _NOT_IN_FLIGHT)
    if record.usage:
        _check_usage(index, record.usage)
    # Read the row first. If the row can't be read, nothing may be changed.
    offset = columns.row_offsets[position]
    row = read_row(journal.log.file, journal.row_line(offset), offset, number, exact=journal.exact)
    if row.checksum == LOST_CHECKSUM and record.decision:
        hint = "give it data by update_row_data(), or skip it by skip_row() or `journal skip`"
        _refuse_row(journal, position, RowStatus.PENDING, hint, _LOST)
    state = state_of(journal)
    is_ending = code == PENDING and old == PROCESSING and not record.decision
    if code in _STARTING_CODES and not is_ending and state.status.is_ended:
        verb = "started" if code == PROCESSING else "set back to pending"
        let_start(journal, f"row {number} can't be {verb}", reopens=record.decision is not None)
    if code == PROCESSING:
        record.version = state.version
    elif gives_back:
        _keep_error(journal, position, record)
    elif old == PROCESSING and (code != PENDING or record.error_code is not None):
        record.version = version_of_attempt(journal, position)
    record.at = journal.now()
    if is_ending:
        _set_times_of_wait(journal, position, record)
    journal.append(record)
    if state.started_at is not None and old != PROCESSING and code not in _STARTING_CODES:
        end_if_settled(journal)
    columns = index.columns
    all_count = columns.earlier is None and columns.given_back is None
    before = 0 if all_count else columns.earlier_attempts(position)
    return row_from_records(journal.id_of_rows, row, record, columns.attempts[position], before)


def _check_usage(index: Index, usage: Usage) -> None:
    if len(index.usage.keys() | usage.keys()) > MAX_USAGE_NAMES:
        names = ", ".join(usage.keys() - index.usage.keys())
        reason = f"would give the job more than {MAX_USAGE_NAMES} names of usage"
        raise InvalidValueError("usage", names, reason)


def _is_maybe_done_twice(journal: Journal, position: int) -> bool:
    record = status_of_attempt(journal, position)
    return record is not None and is_maybe_done_twice(record)


def _keep_error(journal: Journal, position: int, record: RowStatusRecord) -> None:
    """Set the error in ``record`` to the error that the row had before its attempt in progress."""
    offset = journal.index.before_attempt.get(position, 0)
    before = read_status(journal.file, journal.read_line, offset, record.row)
    if before is not None:
        record.error_code, record.error_message = before.error_code, before.error_message
        record.traceback = before.traceback


def _set_times_of_wait(journal: Journal, position: int, record: RowStatusRecord) -> None:
    record.since = waits_since(journal, position)
    if record.reset == "wait":
        record.since = record.since or record.at
        record.due = writable(record.at + timedelta(seconds=record.after_s or 0))


def let_start(journal: Journal, refused: str, *, reopens: bool) -> None:
    """Check that the job's status allows its rows to become pending or processing.

    With ``reopens``, a completed or failed job is reopened instead of refused.
    """
    status = state_of(journal).status
    if status.is_ended:
        if not reopens or status is JobStatus.CANCELLED:
            is_cancelled = status is JobStatus.CANCELLED
            hint = _REOPEN_FIRST if is_cancelled else "reopen it first: reopen_job()"
            _refuse_job(journal, JobStatus.RUNNING, hint, refused)
        reopen(journal, None)


def end_if_settled(journal: Journal, *, is_run: bool = False) -> None:
    """End a started job if no row is open. If a row failed or needs a review, the job fails.

    While a run works on the job, only the run ends it. ``is_run``: the caller is this run.
    """
    state, status_counts = state_of(journal), journal.index.status_counts
    is_open = any(status_counts[code] for code in (PENDING, WAITING, PROCESSING))
    if is_open or state.started_at is None or state.status in _NEVER_ENDED_BY_ROWS:
        return
    is_failed = status_counts[FAILED] or status_counts[NEEDS_REVIEW]
    target = JobStatus.FAILED if is_failed else JobStatus.COMPLETED
    if target is not state.status and (is_run or not has_run(journal)):
        put_record(journal, JobStatusRecord(status=target.value, at=UNSET_TIME))


def reopen(journal: Journal, reason: str | None) -> None:
    """Set an ended job back to pending, for its next pass. Raises InvalidStateTransition."""
    state, refused = state_of(journal), "it can't be reopened"
    if not state.status.is_ended:
        _refuse_job(journal, JobStatus.PENDING, "only a job that has ended is reopened", refused)
    put_record(journal, JobReopenedRecord(reason=reason, at=UNSET_TIME))


def check_unpaused(job_id: str, pause: Pause | None) -> None:
    """Raise JobPausedError if a person has paused the job."""
    if pause is not None:
        raise JobPausedError(job_id, time_text(pause.since), pause.person or "")


def pause(journal: Journal, by: By) -> None:
    """Record a person's pause, unless the job has one already. A running job becomes paused."""
    if state_of(journal).pause is None:
        put_record(journal, JobPauseRecord(person=by.person, at=UNSET_TIME))
    if state_of(journal).status is JobStatus.RUNNING:
        set_job_status(journal, JobStatus.PAUSED)


def resume(journal: Journal, reason: str | None, by: By) -> None:
    """End a person's pause. If a run waits, the job is running again.

    A cancelled job, or a failed job with rows pending or in flight, is reopened.
    """
    status, index = state_of(journal).status, journal.index
    if state_of(journal).pause is not None:
        put_record(journal, JobPauseRecord(ended=True, person=by.person, at=UNSET_TIME))
    has_open = index.pending_count or index.status_counts[PROCESSING]
    if status is JobStatus.CANCELLED or (status is JobStatus.FAILED and has_open):
        reopen(journal, reason)
    elif status is JobStatus.PAUSED and has_run(journal):
        set_job_status(journal, JobStatus.RUNNING)


def redo_row(
    journal: Journal,
    number: int,
    reason: str | None,
    by: By,
    *,
    new_key: bool,
    keeps_steps: bool = False,
) -> JobRow:
    """Set a completed, failed or skipped row back to pending.

    If the job has ended, the job is reopened. With ``new_key``, the row gets a new idempotency key.
    ``keeps_steps``: the row keeps the steps that count. Raises RowNotFoundError and
    InvalidStateTransition.
    """
    record = RowStatusRecord(
        row=number,
        status="pending",
        reason=reason,
        reset="retry" if keeps_steps else "redo",
        at=UNSET_TIME,
    )
    row = change_row(journal, by.sign(record), redoes=True)
    if not new_key:
        return row
    put_row_data(journal, row, None, row.row_checksum, new_key=True)
    return row_of(journal, position_of(journal, number))


def put_row_data(
    journal: Journal, row: JobRow, data: dict[str, Any] | None, checksum: str, *, new_key: bool
) -> None:
    """Give a row new data, and with ``new_key`` also a new idempotency key.

    If ``data`` is None, the row keeps its data. All copies of the job make the same new key, unless
    a nonce is added. In two cases, the new key might not be unique, so a nonce is added:

    - The caller chose the row's key, or chooses the keys of the job. The caller may have given the
      new key to another row.
    - The job was repaired. The repair may have lost the record that used the new key.
    """
    number = row.row_number
    position = position_of(journal, number)
    made = _made(journal, position)
    key, keys = row.idempotency_key, made.key_count if isinstance(made, RowDataRecord) else 1
    if made.checksum == LOST_CHECKSUM and data is not None:
        key = made.key or row_key(state_of(journal).header, number, data, None) or row.id
    if new_key:
        state = state_of(journal)
        is_ours = state.header.idempotency_key is None and key.startswith(f"{state.header.id}:")
        nonce = None if is_ours and not state.repaired else system.nonce()[:8]
        key, keys = next_key(key, keys, nonce), keys + 1
    record = RowDataRecord(
        row=number,
        checksum=checksum,
        data=made.data if data is None else data,
        key=key,
        key_count=keys,
        place=made.place,
        created_at=writable(row.created_at),
        at=journal.now(),
    )
    journal.append(record)


def update_data(
    journal: Journal,
    number: int,
    data: dict[str, Any],
    checksum: str | None,
    *,
    new_key: bool,
) -> JobRow:
    """Give new data to a row that is neither completed nor in flight (processing).

    ``checksum`` is the checksum of the input from which the data comes. None means that somebody
    has edited the data: the row keeps its checksum. Raises RowNotFoundError, InvalidStateTransition
    and InvalidValueError.
    """
    position = position_of(journal, number)
    row = row_of(journal, position)
    header = state_of(journal).header
    if row.status in (RowStatus.PROCESSING, RowStatus.COMPLETED):
        hint = (
            "it is in flight: wait until its attempt ends"
            if row.status is RowStatus.PROCESSING
            else ""
        )
        _refuse_row(journal, position, row.status, hint, "its data can't be changed")
    is_lost = row.row_checksum == LOST_CHECKSUM
    for column in (header.key, header.idempotency_key):
        if column and not is_lost and _as_json(data, column) != _as_json(row.data, column):
            raise InvalidValueError(
                f"data[{column!r}]",
                data.get(column),
                f"must stay {row.data.get(column)!r}: rows of job {journal.job_id} are known by it",
            )
    if checksum is None:
        checksum = checksum_of(data) if is_lost else row.row_checksum
    columns = journal.index.columns
    if columns.statuses[position] == WAITING and columns.call(position):
        put_back(journal, position, A_PROGRAM)  # the row leaves its call
    put_row_data(journal, row, data, checksum, new_key=new_key)
    return row_of(journal, position)


def _as_json(data: dict[str, Any], column: str) -> bytes:
    """Encode a column's value as JSON, for comparisons in which 1, 1.0 and true differ."""
    return canonical_json(data.get(column))


def take_input(journal: Journal, number: int, data: dict[str, Any], checksum: str, by: By) -> None:
    """Give a row new data from its input. If the row was ever started, set it back to pending.

    A completed row is redone under a new idempotency key: with the old key, the called service
    would answer for the old data. The job must not have ended. Raises the errors of
    :func:`update_data`.
    """
    row = row_of(journal, position_of(journal, number))
    is_redone = row.status is RowStatus.COMPLETED
    if is_redone:
        redo_row(journal, number, None, by, new_key=False)
    row = update_data(journal, number, data, checksum, new_key=is_redone)
    if not is_redone and (row.attempts or row.status is not RowStatus.PENDING):
        put_back(journal, position_of(journal, number), by)


def put_back(journal: Journal, position: int, by: By) -> None:
    """Set a row back to pending, and count its attempts from zero again.

    The job must not have ended.
    """
    number = journal.index.columns.number(position)
    record = RowStatusRecord(row=number, status="pending", reset="retry", at=journal.now())
    journal.append(by.sign(record))


def retry_failed(journal: Journal, codes: set[str] | None, by: By) -> int:
    """Set failed rows back to pending. Returns the number of these rows. An ended job is reopened.

    With ``codes``, only rows that failed with one of these codes are changed. With None, all failed
    rows are changed, except rows whose outcome is unknown.
    """
    index = journal.index
    moved = 0
    for position in index.positions(FAILED):
        number = index.columns.number(position)
        offset = index.columns.status_offsets[position]
        failed = read_status(journal.file, journal.row_line, offset, number)
        if (
            failed is not None
            and (not failed.unknown if codes is None else failed.error_code in codes)
            and _made(journal, position).checksum != LOST_CHECKSUM
        ):
            if not moved:
                let_start(journal, "its rows can't be set back to pending", reopens=True)
            put_back(journal, position, by)
            moved += 1
    return moved
