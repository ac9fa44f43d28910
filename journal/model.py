"""Jobs, rows and their statuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, TypedDict, TypeVar

import msgspec

from journal.display.colors import HTML, TERMINAL
from journal.display.repr import job_html, job_text, row_text
from journal.errors import InvalidValueError
from journal.ids import MAX_SHARDS, shard_name
from journal.text import clock_text, counted


class JobStatus(StrEnum):
    """The status of a job.

    A **pass** begins when the job is created or reopened, and ends with the status ``completed``,
    ``failed`` or ``cancelled``. :meth:`JobService.reopen_job` begins the next pass.
    """

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"

    @property
    def is_ended(self) -> bool:
        """Whether the job's pass has ended."""
        return self in _ENDED_JOBS

    @property
    def ansi(self) -> int | None:
        """The color on a terminal (SGR)."""
        return TERMINAL.get(self)


_ENDED_JOBS = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)


class RowStatus(StrEnum):
    """The status of a row.

    ``processing`` means that an attempt is in progress. If the process of the attempt dies, nobody
    knows whether the attempt took effect. So by default, the row becomes ``needs_review``.
    ``completed`` is final, so that no row is done twice: only :meth:`JobService.redo_row` resets a
    completed row.
    """

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    NEEDS_REVIEW = "needs_review"

    @property
    def is_open(self) -> bool:
        """Whether the row is pending or in processing."""
        return self in _OPEN

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: the row is completed or skipped."""
        return self in _DONE

    @property
    def is_ended(self) -> bool:
        """Whether the row has an outcome: it is completed, failed or skipped."""
        return self in _ENDED

    @property
    def needs_person(self) -> bool:
        """Whether the row has failed, or is in review."""
        return self in _FOR_A_PERSON

    @property
    def label(self) -> str:
        """The status in words."""
        return self.replace("_", " ")

    @property
    def color(self) -> str:
        """The color in HTML."""
        return HTML[self]

    @property
    def ansi(self) -> int | None:
        """The color on a terminal (SGR)."""
        return TERMINAL.get(self)


_OPEN = (RowStatus.PENDING, RowStatus.PROCESSING)
_DONE = (RowStatus.COMPLETED, RowStatus.SKIPPED)
_ENDED = (*_DONE, RowStatus.FAILED)
_FOR_A_PERSON = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW)
SHOWN_STATUSES = tuple(map(RowStatus, HTML))  # the order of counts for people

Status = TypeVar("Status", JobStatus, RowStatus)


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


# A cost in cents: see :meth:`JobService.complete_row`. Usage: numbers by name.
Cost = int | float | Decimal
Usage = Mapping[str, int | float]


class EarlyEnd(msgspec.Struct, frozen=True):
    """Why a run has ended before all rows were done.

    - ``kind``: one of these words.

      - "failures": too many rows have failed. "first_rows": too many of the first rows have failed.
      - "cost", "max_rows": this limit was reached.
      - "hold": the called service has asked to wait for too long.
      - "where": no row that is left meets the condition.
      - "limit_per": rows wait for attempts that were given up and still run. "workers": all workers
        are busy with such attempts.
      - "not_started": a program or a worker can't be started.
      - "in_flight_elsewhere": another program has rows in flight.
      - "lost": the run has lost its job.
      - "stopped": a program has asked the run to stop. "signal": a signal has asked the run to
        stop.
      - "waiting": rows wait, and the run doesn't wait for them.
      - "error": an exception has ended the run.
    - ``message``: the reason in words, for people.
    """

    kind: str
    message: str


class Shard(msgspec.Struct, frozen=True, omit_defaults=True):
    """A **shard** is the part of an input that one job has. The shards of an input are a **set**.

    - ``count``: the number of shards in the set. ``index``: from 0 to ``count`` - 1.
    - ``key``: the columns that identify a row and choose its shard. () means that a function of the
      data chooses the shard. None means that the row's position in the input chooses the shard.
    """

    index: int
    count: int
    key: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count <= MAX_SHARDS:
            reason = f"must be an index and a count: 0 <= index < count <= {MAX_SHARDS}"
            raise InvalidValueError("shard", f"{self.index}/{self.count}", reason)

    @property
    def name(self) -> str:
        """The name of the shard's directory, such as ``003-of-064``."""
        return shard_name(self.index, self.count)

    @property
    def numbers(self) -> tuple[int, int]:
        """The first row number of the shard, and the distance between row numbers."""
        return self.index + 1, self.count


class InputSeen(msgspec.Struct, frozen=True):
    """The whole input of a set, as the last start of a shard has seen it.

    - ``rows``: how many rows the input has.
    - ``digest``: a digest of the keys, whatever their order is. Without a key, a digest of the rows
      in the order of the input. Inputs with equal digests are the same.
    - ``at``: when a start first saw this input. If other shards have seen another input since then,
      ``at`` is when a start saw this input again.
    """

    rows: int
    digest: str
    at: datetime


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it was recorded at its start.

    - ``host``, ``user``, ``pid``: the host, user and process id of the run.
    - ``argv``: the words that a person types in ``directory`` to run the job again. If
      ``is_command`` is True, the words are a `journal run`. Otherwise, they start a program. Read
      the words before you run them: a journal from another machine has the words of that machine.
    - ``version``: the version of the run's attempts. ``on_interrupted``: the run's policy, see
      :meth:`JobService.recover_job`.
    - ``ended_early``: why the run has ended early. While the run still works on the job: why the
      run starts no more rows (see :func:`pausing_text`). None if the run doesn't end early.
    - ``id``: random digits.
    - ``limits``: the limits with which the run began, by the names of the arguments of
      :meth:`JobService.tune_job`. ``tuned``: the limits that were changed since then. In both
      dicts, there is no limit if the name is missing or its value is None.
    """

    id: str
    host: str
    user: str
    pid: int
    started_at: datetime
    argv: tuple[str, ...] = ()
    directory: str = ""
    is_command: bool = False
    version: str | None = None
    on_interrupted: str = "review"
    ended_early: EarlyEnd | None = None
    limits: dict[str, Any] = {}
    tuned: dict[str, Any] = {}


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has changed: see :meth:`JobService.tune_job`.

    - ``changes``: for each name, the value before the change and the value after the change. None
      means no limit. For ``end_hold``, the first value is the end of the hold without the change,
      as text, and the second value is None.
    - ``reason``: why the run has not made all requested changes. None if the run has made all of
      them.
    """

    changes: dict[str, tuple[Any, Any]] = {}
    reason: str | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """A pause by :meth:`JobService.pause_job`. The pause lasts until :meth:`JobService.resume_job`.

    ``person``: who has paused the job. None if the name isn't known.
    """

    since: datetime
    person: str | None = None


class HoldState(msgspec.Struct, frozen=True, kw_only=True):
    """A hold: the run starts no row until ``until``, and after that one row at a time.

    See :class:`Hold`.

    ``reason``: why the run holds. ``since``: when the first hold of an unbroken series of holds began.
    """

    reason: str
    until: datetime
    since: datetime


def hold_text(hold: HoldState) -> str:
    """A hold as text: ``holding until 14:03:20``.

    After this time, the text is ``holding since 14:01:07, one row is tried``.
    """
    now = datetime.now(UTC)
    if now < hold.until:
        return f"holding until {clock_text(hold.until, now)}"
    return f"holding since {clock_text(hold.since, now)}, one row is tried"


def pausing_text(job: Job, state: str) -> str:
    """Text about a run that ends early: ``pausing, 3 rows in flight``. "" for other runs.

    ``state``: the job's status, or "interrupted" if its run has died.
    """
    works = state == job.status == JobStatus.RUNNING
    if not works or job.last_run is None or job.last_run.ended_early is None:
        return ""
    return f"pausing, {counted(job.processing_count, 'row|rows')} in flight"


def usage_rates_text(job: Job) -> str:
    """The rates by usage of the job's last run: ``total_tokens=60000/m``. "" if the run has none.

    Such a rate allows an amount per unit of time. A run uses up the amount at once, and then waits. So
    the end of the run can't be computed from the speed at which rows end.
    """
    run = job.last_run
    rates = None if run is None else (run.limits | run.tuned).get("rate")
    return ", ".join(f"{name}={rate}" for name, rate in (rates or {}).items() if name != "rows")


def hold_of(job: Job, state: str) -> HoldState | None:
    """The hold of a job's run. None if the run doesn't hold, ends early, or has died.

    ``state``: as in :func:`pausing_text`.
    """
    return job.hold if state == JobStatus.RUNNING and not pausing_text(job, state) else None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was after a certain commit. Later commits don't change the object.

    All times are aware datetimes in UTC.

    Counts: ``counts`` is a dict from each status to the number of rows with this status.
    ``successful_rows`` (completed rows), ``failed_rows``, ``pending_count``, ``processing_count``,
    ``skipped_count`` and ``needs_review_count`` are numbers from this dict. ``done_rows`` is the
    number of completed and skipped rows. ``open_rows`` is the number of pending and processing rows.
    ``processed_rows`` is the number of completed and failed rows. ``waiting_count`` is the
    number of pending rows that wait for their time: see :class:`Wait`.

    Spending: ``total_cost_cents`` is the exact sum of the costs of all attempts, including failed
    and repeated ones. It is an int if it is whole, else a float. ``usage`` has the sum of all
    reported numbers for each name.

    Passes: the first pass begins when the job is created. Each time that the job is reopened,
    another pass begins. ``reopened_at`` is the time of the last reopening. ``created_at`` and
    ``started_at`` belong to the first pass. ``completed_at``, ``error_code`` and ``error_message``
    belong to the last pass. ``pass_started_at`` is the start of the current pass. ``worked_s`` is
    the duration of all passes that have ended, in seconds.

    Other attributes:

    - ``metadata``: the caller's JSON object.
    - ``key``: the column that identifies rows, chosen when the job was created.
    - ``idempotency_key``: the column with the idempotency keys of the rows, or "" if each row was
      added with an idempotency key of its own.
    - ``repaired``: True if a repair has lost lines. In this case, rows may be missing.
    - ``hosts``: the hosts of the runs; the latest is last. ``last_run``: the last run.
    - ``pause``: a person's pause of the job, whatever the job's status is. None if no person has
      paused the job.
    - ``hold``: the hold of the last run. None if this run doesn't hold. If the run has died, the hold
      stays until the next run.
    - ``shard``: the part of an input that the job has. None if the job has all rows.
    - ``input``: if the job is a shard, the whole input as the last start of the shard has seen it.
    """

    id: str
    name: str
    original_command: str = ""
    description: str | None = None
    mode: str = "confirm"
    metadata: dict[str, Any] | None = None
    key: str | None = None
    idempotency_key: str | None = None
    passes: int = 1
    reopened_at: datetime | None = None
    status: JobStatus = JobStatus.PENDING
    total_rows: int = 0
    processed_rows: int = 0
    counts: dict[RowStatus, int] = {}
    waiting_count: int = 0
    total_cost_cents: int | float = 0
    usage: dict[str, int | float] = {}
    error_code: str | None = None
    error_message: str | None = None
    repaired: bool = False
    hosts: tuple[str, ...] = ()
    last_run: Run | None = None
    pause: Pause | None = None
    hold: HoldState | None = None
    shard: Shard | None = None
    input: InputSeen | None = None
    created_at: datetime
    started_at: datetime | None = None
    pass_started_at: datetime | None = None
    worked_s: float = 0.0
    completed_at: datetime | None = None
    updated_at: datetime

    def count(self, *statuses: RowStatus) -> int:
        """Return how many rows have one of these statuses."""
        return sum(self.counts.get(status, 0) for status in statuses)

    @property
    def successful_rows(self) -> int:
        return self.count(RowStatus.COMPLETED)

    @property
    def failed_rows(self) -> int:
        return self.count(RowStatus.FAILED)

    @property
    def pending_count(self) -> int:
        return self.count(RowStatus.PENDING)

    @property
    def processing_count(self) -> int:
        return self.count(RowStatus.PROCESSING)

    @property
    def skipped_count(self) -> int:
        return self.count(RowStatus.SKIPPED)

    @property
    def needs_review_count(self) -> int:
        return self.count(RowStatus.NEEDS_REVIEW)

    @property
    def done_rows(self) -> int:
        return self.count(*(status for status in self.counts if status.is_done))

    @property
    def open_rows(self) -> int:
        return self.count(*(status for status in self.counts if status.is_open))

    def __repr__(self) -> str:
        return f"<Job {job_text(self)}>"

    def _repr_html_(self) -> str:
        return job_html(self)


# The members of a job in listings, exports and JSON. Each count is a member.
JOB_MEMBERS = tuple(
    shown
    for name in Job.__struct_fields__
    for shown in (
        (name,)
        if name != "counts"
        else (
            *("successful_rows", "failed_rows", "pending_count", "processing_count"),
            *("skipped_count", "needs_review_count"),
        )
    )
)


_MILLION = 1_000_000


def millionths(cents: float) -> int:
    """A cost in millionths of a cent, as a whole number. Costs are summed in this unit."""
    return cents * _MILLION if isinstance(cents, int) else round(cents * _MILLION)


def added_usage(
    sums: dict[str, int | float], usage: dict[str, int | float]
) -> dict[str, int | float]:
    """The sums by name, with the numbers of ``usage`` added."""
    return sums | {name: sums.get(name, 0) + number for name, number in usage.items()}


def cents_of(total_millionths: int) -> int | float:
    """A cost in cents, from millionths: an int if it is whole, else a float."""
    whole, rest = divmod(total_millionths, _MILLION)
    return total_millionths / _MILLION if rest else whole


def expected_cost_cents(job: Job) -> float | None:
    """The expected cost of the whole job, if open rows cost as much on average as ended rows.

    None if the job has no costs, if no row has ended, or if no row is open.
    """
    ended = job.total_rows - job.open_rows
    if not job.total_cost_cents or not job.open_rows or ended <= 0:
        return None
    return job.total_cost_cents * job.total_rows / ended


class JobRow(msgspec.Struct, frozen=True):
    """A row as it was after a certain commit. Later commits don't change the object.

    All times are aware datetimes in UTC.

    - ``id``: ``JOB_ID:ROW_NUMBER``. The id never changes.
    - ``idempotency_key``: the key to send to the service that you call. All attempts at a row have
      the same key, in all copies of the job, until a call with ``new_key=True`` changes the key.
      Two rows have the same key only if you gave both rows this key, or if both have the same value
      in the key column.
    - ``attempts``: how often the row was started.
    - ``earlier_attempts``: how many attempts don't count for ``max_attempts``. Attempts before the
      last retry or redo don't count. Attempts that did nothing, such as attempts that ended with
      :class:`Hold`, don't count either.
    - ``processed_at``: when the row was completed, failed or skipped. ``updated_at``: when the
      status last changed.
    - ``error_code``, ``error_message``: the error of the failure. A pending row has the error of
      its last attempt.
    - ``traceback``: the end of the traceback, as text, if the error was a Python exception.
    - ``unknown``: True if the row failed and nobody knows whether the attempt took effect.
    - ``reason``: why the row was skipped, or why it is to be done again.
    - ``label_path``: the path that the caller gave. By convention, it is relative to the job's
      directory.
    - ``cost_cents``, ``usage``: the cost and usage that were recorded with the current status. The
      cost and usage of earlier attempts are in the row's history, and in the sums of the job. Tables
      of rows have the column ``total_cost_cents``, which counts all attempts.
    - ``version``: the version of the run in which the current or last attempt began. None if the
      status doesn't come from an attempt.
    - ``row_checksum``: the checksum of the row's last input. :meth:`JobService.update_row_data` can
      change ``data`` and keep this checksum.
    - ``place``: in a shard with a key, the row's position in the input that first had the row.
    - ``due``: when a waiting row is due. ``waiting_since``: when the row began to wait for the
      first time since its last retry or redo. Both are None if the row doesn't wait. See
      :class:`Wait`.
    """

    id: str
    job_id: str
    row_number: int
    row_checksum: str
    data: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    status: RowStatus = RowStatus.PENDING
    attempts: int = 0
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: int | float | None = None
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    reason: str | None = None
    processed_at: datetime | None = None
    idempotency_key: str = ""
    earlier_attempts: int = 0
    version: str | None = None
    unknown: bool = False
    usage: dict[str, int | float] | None = None
    traceback: str | None = None
    place: int | None = None
    due: datetime | None = None
    waiting_since: datetime | None = None

    def __repr__(self) -> str:
        return f"<JobRow {row_text(self)}>"


# The columns that the journal adds to tables of rows, in this order. The values are members of a
# row, or come from its history. True: a table has the column only if a row has a value for it.
ROW_COLUMNS = {
    "job_id": False,
    "row_number": False,
    "status": False,
    "place": True,
    "attempts": False,
    "earlier_attempts": True,
    "version": True,
    "error_code": False,
    "error_message": False,
    "unknown": True,
    "reason": True,
    "due": True,
    "waiting_since": True,
    "tracking_number": True,
    "label_path": True,
    "cost_cents": True,
    "total_cost_cents": True,
    "usage": True,
    "result": False,
    "created_at": False,
    "started_at": False,
    "processed_at": False,
    "duration_s": False,
    "idempotency_key": False,
}
# Columns from the history: the beginning of the last attempt, its duration in seconds (None if the
# duration is unknown), and the cost of all attempts.
HISTORY_COLUMNS = {
    "started_at": datetime | None,
    "duration_s": float | None,
    "total_cost_cents": int | float | None,
}


# How to settle rows that were in flight when their run died: see :meth:`JobService.recover_job`.
Policy = Literal["review", "retry", "fail", "resume"]

StepState = Literal["started", "done", "failed"]


class RowStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a row: one side effect, recorded by :meth:`AttemptedRow.step`.

    - ``name``: unique in the row.
    - ``state``: "done" means that ``result`` is known. "failed" means that the step has not
      happened, and may begin again. "started" means that the step is in progress, or is in doubt
      (nobody knows whether it took effect).
    - ``attempt``: the number of the attempt that recorded this state. ``at``: the time of that
      record, as an aware datetime in UTC.
    - ``result``: any JSON value. ``error_code``, ``error_message``: the error of a failed step.
    """

    name: str
    state: StepState
    attempt: int
    at: datetime
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry in a job's log.

    - ``at``: an aware datetime in UTC.
    - ``level``: one of :data:`LOG_LEVELS`.
    - ``row_number``: the row that the entry is about, or None. ``attempt``: the number of the
      attempt that has logged the entry by :meth:`AttemptedRow.log`, or None.
    - ``details``: the caller's JSON object, or None.
    """

    at: datetime
    level: str
    message: str
    row_number: int | None = None
    details: dict[str, Any] | None = None
    attempt: int | None = None


class JobSummary(TypedDict):
    """Counts, status and times of a job, as a dict for ``json.dumps``. Times are ISO 8601 text."""

    total_rows: int
    processed_rows: int
    successful_rows: int
    failed_rows: int
    pending_count: int
    processing_count: int
    skipped_count: int
    needs_review_count: int
    total_cost_cents: int | float
    usage: dict[str, int | float]
    status: str
    created_at: str
    started_at: str | None
    completed_at: str | None


class RunHolder(msgspec.Struct, frozen=True):
    """The holder of a job's run lock. ``started_at`` is ISO 8601 text."""

    host: str = ""
    pid: int = 0
    started_at: str = ""


def job_status(value: JobStatus | str, where: str = "status") -> JobStatus:
    """A job status from the enum or its text. Raises InvalidValueError."""
    try:
        return JobStatus(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidValueError(where, value, f"must be one of {', '.join(JobStatus)}") from None


def row_statuses(
    value: RowStatus | str | Collection[RowStatus | str] | None,
) -> frozenset[RowStatus] | None:
    """A set of row statuses from one status or several. For None (all statuses), returns None."""
    if value is None:
        return None
    is_one = isinstance(value, (str, bytes)) or not isinstance(value, Collection)
    return frozenset(map(_row_status, (value,) if is_one else value))


def _row_status(value: object) -> RowStatus:
    try:
        return RowStatus(value if isinstance(value, str) else "")
    except ValueError:
        raise InvalidValueError("status", value, f"must be one of {', '.join(RowStatus)}") from None


def log_level(value: object) -> str:
    """One of :data:`LOG_LEVELS`, from its name in upper or lower case."""
    level = str.upper(value) if isinstance(value, str) else ""
    if level not in LOG_LEVELS:
        raise InvalidValueError("level", value, f"must be one of {', '.join(LOG_LEVELS)}")
    # Return the object in LOG_LEVELS: msgspec omits a value only if it is the default object
    # itself.
    return LOG_LEVELS[LOG_LEVELS.index(level)]


def is_at_least(level: str, lowest: str) -> bool:
    """Return whether ``level`` is at least as severe as ``lowest``."""
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(lowest)
