"""The changes a job can go through, each checked against the index and put into a commit.

Every function is called inside a ``with log:`` of its own. A refused change raises, and that block
leaves the commit as it was, so that a batch around it can go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from journal import system
from journal.columns import View
from journal.errors import InvalidStateTransition, InvalidValueError, RowNotFoundError
from journal.format import (
    LOST_CHECKSUM,
    UNSET_TIME,
    JobLevelRecord,
    JobStatusRecord,
    LogRecord,
    RowStatusRecord,
    encode_row,
    time_text,
)
from journal.index import (
    CODES,
    FAILED,
    NEEDS_REVIEW,
    PENDING,
    PROCESSING,
    STATUSES,
    Index,
    JobState,
    Retried,
)
from journal.log import Log
from journal.model import (
    TERMINAL_STATUSES,
    VALID_ROW_TRANSITIONS,
    VALID_TRANSITIONS,
    JobRow,
    JobStatus,
    RowStatus,
)
from journal.rows import read_row, row_from_records
from journal.validate import new_rows
from journal.values import encode_value
from journal.version import VERSION

Policy = Literal["review", "retry", "fail"]

_ALLOWED_CODES = tuple(
    frozenset(CODES[target] for target in VALID_ROW_TRANSITIONS[status]) for status in STATUSES
)
_STARTING_CODES = frozenset((CODES[RowStatus.PROCESSING], CODES[RowStatus.PENDING]))

INTERRUPTED = "interrupted"  # error code of rows whose run died with them in flight
_RUN_ENDED = "the run ended while this row was in flight"
_POLICIES: dict[str, tuple[RowStatus, str | None, str | None]] = {
    "review": (
        RowStatus.NEEDS_REVIEW,
        INTERRUPTED,
        f"{_RUN_ENDED}: whether it took effect is unknown",
    ),
    "retry": (RowStatus.PENDING, INTERRUPTED, _RUN_ENDED),
    "fail": (RowStatus.FAILED, INTERRUPTED, _RUN_ENDED),
}


def is_word_of_policy(error_code: object, error_message: object) -> bool:
    """Whether that is what a policy says of a row that it settles, and not a caller's own words."""
    return error_code == INTERRUPTED and str(error_message).startswith(_RUN_ENDED)


def check_policy(policy: str, where: str = "policy") -> None:
    if not isinstance(policy, str) or policy not in _POLICIES:
        raise InvalidValueError(where, policy, f"must be one of {', '.join(_POLICIES)}")


def put_job_record(log: Log, record: JobLevelRecord) -> None:
    """Add a record about the job itself."""
    log.append(record)
    log.index.set_job(record)


def put_log(log: Log, record: LogRecord) -> None:
    """Add what is for people; its ``at`` is filled in here."""
    record.at = log.now()
    put_job_record(log, record)


def put_log_of_caller(log: Log, job_id: str, record: LogRecord) -> None:
    """As :func:`put_log`. Raises RowNotFoundError if it is about a row that isn't there."""
    if record.row is not None and log.index.position_of(record.row) is None:
        raise RowNotFoundError(f"{job_id}:{record.row}")
    put_log(log, record)


def put_run(log: Log, resume_command: str = "") -> None:
    """Add where a run has begun, for who must know which machines worked on the job.

    The nonce tells copies apart that are gone on with by hosts, or containers, of the same name.
    Raises InvalidStateTransition if the job's unfinished rows go on in another.
    """
    check_not_retried(log)
    host = system.host_name()
    run: dict[str, Any] = {
        "host": host,
        "pid": system.process_id(),
        "user": system.user_name(),
        "version": VERSION,
        "nonce": system.nonce(),
    }
    if resume_command:
        run["resume"] = resume_command
    put_log(log, LogRecord(message=f"run started on {host}", details={"run": run}, at=UNSET_TIME))


def set_job_status(log: Log, target: JobStatus) -> None:
    """Move the job to ``target``. Raises InvalidStateTransition."""
    status = _state_status(log.index)
    if target not in VALID_TRANSITIONS[status]:
        hint = ""
        if status in TERMINAL_STATUSES:
            hint = "retry_job() makes a new job of its unfinished rows"
        raise InvalidStateTransition(
            status, target, VALID_TRANSITIONS[status], log.directory.name, hint
        )
    put_job_record(log, JobStatusRecord(status=target.value, at=log.now()))


def _state_status(index: Index) -> JobStatus:
    assert index.state is not None, "refresh() has refused a journal without a job record"
    return index.state.status


def change_row(log: Log, job_id: str, record: RowStatusRecord) -> JobRow:
    """Give a row the status that ``record`` states; its ``at`` is filled in here.

    Raises RowNotFoundError, InvalidStateTransition.
    """
    index = log.index
    number = record.row
    position = index.position_of(number)
    if position is None:
        raise RowNotFoundError(f"{job_id}:{number}")
    columns = index.columns
    code = CODES[record.status]
    old = columns.statuses[position]
    if code not in _ALLOWED_CODES[old]:
        _refuse_row(job_id, number, old, code)
    if code in _STARTING_CODES and _state_status(index) in TERMINAL_STATUSES:
        _refuse_start(job_id, f"row {number}", _state_status(index), code)
    record.at = log.now()
    # Read before anything changes: a row that can't be read must not be half changed.
    offset = columns.row_at[position]
    row = read_row(log.file, log.read_line(offset), offset, number)
    attempts = index.set_row(position, code, log.append(record), record.cost_cents)
    return row_from_records(job_id, row, record, attempts)


def _refuse_row(job_id: str, number: int, old: int, code: int) -> None:
    current = STATUSES[old]
    hint = ""
    if current is RowStatus.COMPLETED:
        hint = "what is completed is never done again; make a new row for new work"
    elif current is RowStatus.NEEDS_REVIEW:
        hint = "find out whether it took effect, then retry, complete, fail or skip it"
    raise InvalidStateTransition(
        current, STATUSES[code], VALID_ROW_TRANSITIONS[current], f"row {job_id}:{number}", hint
    )


def _refuse_start(job_id: str, what: str, status: JobStatus, code: int) -> None:
    raise InvalidStateTransition(
        status,
        JobStatus.RUNNING,
        VALID_TRANSITIONS[status],
        f"job {job_id} ({what} to {STATUSES[code].value!r})",
        "retry_job() makes a new job of its unfinished rows",
    )


def add_rows(log: Log, row_data: Any) -> View:
    """Append pending rows in the order given, all of them or none; return a view of them.

    Raises InvalidValueError, InvalidStateTransition (the job has ended), and whatever the
    iterable raises.
    """
    index = log.index
    status = _state_status(index)
    if status in TERMINAL_STATUSES:
        raise InvalidStateTransition(
            status,
            JobStatus.RUNNING,
            VALID_TRANSITIONS[status],
            f"job {log.directory.name}",
            "an ended job takes no more rows: make a new job for them",
        )
    first = index.row_count
    index.begin_rows()
    last_at = index.last_at
    at = log.now()
    at_text = time_text(at).encode()
    for number, checksum, data in new_rows(row_data, index.highest_number + 1):
        if index.last_at is not last_at:  # the iterable has changed this job meanwhile
            at = log.now()
            at_text = time_text(at).encode()
        if number <= index.highest_number and index.position_of(number) is not None:
            raise InvalidValueError(
                f"row {number}",
                number,
                "this row number is taken: each must be unique within the job",
            )
        line = encode_row(number, checksum, data, at_text)
        index.add_row(number, log.append_line(line, at, number))
        last_at = at
    return index.view_of_new(first)


def check_retry(log: Log, policy: Policy) -> JobState:
    """The job's state, if it has ended and a new job can go on with its unfinished rows.

    Raises InvalidStateTransition.
    """
    state, tallies = log.index.state, log.index.tallies
    assert state is not None
    unknown = tallies[PROCESSING] + tallies[NEEDS_REVIEW]
    to_do = tallies[PENDING] + tallies[FAILED]
    if state.status not in TERMINAL_STATUSES:
        hint = (
            "only a job that has ended is retried as a new one; retry_failed_rows() puts failed "
            "rows of this one back"
        )
    elif unknown + to_do == 0:
        hint = "it has no unfinished rows"
    elif to_do == 0 and policy == "review":
        hint = (
            "its unfinished rows all need a review: complete, fail or skip them here, or choose "
            "the policy 'retry' or 'fail' for them"
        )
    else:
        return state
    raise InvalidStateTransition(
        state.status,
        JobStatus.PENDING,
        VALID_TRANSITIONS[state.status],
        f"job {log.directory.name}",
        hint,
    )


def retried_elsewhere(job_id: str, status: JobStatus, retried: Retried) -> InvalidStateTransition:
    """What to raise for a job whose retry was made on another machine, and isn't here."""
    return InvalidStateTransition(
        status,
        JobStatus.PENDING,
        VALID_TRANSITIONS[status],
        f"job {job_id}",
        f"job {retried.job}, made on {retried.host} at {time_text(retried.at)}, goes on with its "
        f"unfinished rows: bring that one here (`journal pull`); if it is lost, and none of them may "
        f"have been done there, `journal retry {job_id} --again` or retry_job(..., again=True) makes "
        "another",
    )


def check_not_retried(log: Log) -> None:
    """Raise InvalidStateTransition for a job whose unfinished rows go on in another.

    As a rule it has ended; a copy that had not may have heard of it by a merge.
    """
    state = log.index.state
    if state is None or state.retried is None or state.status in TERMINAL_STATUSES:
        return
    raise InvalidStateTransition(
        state.status,
        JobStatus.RUNNING,
        VALID_TRANSITIONS[state.status],
        f"job {log.directory.name}",
        f"its unfinished rows go on as job {state.retried.job}, made on {state.retried.host} at "
        f"{time_text(state.retried.at)}: run that one, and `journal cancel {log.directory.name}`",
    )


def take_over_rows(log: Log, rows: Iterable[JobRow], policy: Policy) -> None:
    """Append the unfinished ones of another job's rows, under their old numbers.

    Where the outcome of one is unknown, ``policy`` decides.
    """
    status, code, message = _POLICIES[policy]
    log.index.begin_rows()
    at = log.now()
    for row in rows:
        if row.status in (RowStatus.COMPLETED, RowStatus.SKIPPED):
            continue
        data = encode_value(row.data, f"row {row.row_number}: data")
        line = encode_row(row.row_number, row.row_checksum, data, time_text(at).encode())
        log.index.add_row(row.row_number, log.append_line(line, at, row.row_number))
        unknown = row.status in (RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW)
        target = status if unknown else RowStatus.PENDING
        if row.row_checksum == LOST_CHECKSUM and target is RowStatus.PENDING:
            target = RowStatus.NEEDS_REVIEW  # there is no data to work on
        if target is not RowStatus.PENDING:
            record = _moved(
                row.row_number, target, row.error_code or code, row.error_message or message, at
            )
            position = log.index.row_count - 1
            log.index.set_row(position, CODES[target], log.append(record), None)


def settle_rows(log: Log, policy: Policy, before: int | None = None) -> int:
    """Move every row in processing to where ``policy`` says; return how many there were.

    ``before``: only those whose last record stands before that offset.
    """
    status, code, message = _POLICIES[policy]
    job_status = _state_status(log.index)
    if (
        status is RowStatus.PENDING
        and job_status in TERMINAL_STATUSES
        and log.index.tallies[PROCESSING]
    ):
        _refuse_start(log.directory.name, "rows", job_status, CODES[RowStatus.PENDING])
    return _move_all(log, PROCESSING, status, code, message, before)


def review_open_rows(
    log: Log, numbers: Iterable[int] | None, error_code: str, error_message: str
) -> int:
    """Move rows that are pending, processing or failed to needs_review; return how many.

    ``numbers`` None for all of the job's.
    """
    review = RowStatus.NEEDS_REVIEW
    if numbers is None:
        return sum(
            _move_all(log, source, review, error_code, error_message)
            for source in (PENDING, PROCESSING, FAILED)
        )
    moved = 0
    for number in numbers:
        position = log.index.position_of(number)
        assert position is not None
        if log.index.columns.statuses[position] in (PENDING, PROCESSING, FAILED):
            record = _moved(number, review, error_code, error_message, log.now())
            log.index.set_row(position, CODES[review], log.append(record), None)
            moved += 1
    return moved


def retry_failed(log: Log) -> int:
    """Move every failed row back to pending; return how many there were."""
    status = _state_status(log.index)
    if status in TERMINAL_STATUSES:
        _refuse_start(log.directory.name, "failed rows", status, CODES[RowStatus.PENDING])
    return _move_all(log, FAILED, RowStatus.PENDING, None, None)


def _moved(
    row: int, target: RowStatus, code: str | None, message: str | None, at: datetime
) -> RowStatusRecord:
    return RowStatusRecord(
        row=row, status=target.value, error_code=code, error_message=message, at=at
    )


def _move_all(
    log: Log,
    source: int,
    target: RowStatus,
    error_code: str | None,
    error_message: str | None,
    before: int | None = None,
) -> int:
    index = log.index
    moved = 0
    position = index.columns.statuses.find(source)
    while position >= 0:
        if before is None or index.columns.status_at[position] < before:
            number = index.columns.number(position)
            record = _moved(number, target, error_code, error_message, log.now())
            index.set_row(position, CODES[target], log.append(record), None)
            moved += 1
        position = index.columns.statuses.find(source, position + 1)
    return moved
