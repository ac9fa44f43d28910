"""``JobService``: jobs and their rows by explicit calls, each of them one commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import TIMEOUT_MAX
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from journal.errors import (
    InvalidValueError,
    JobBusyError,
    JobNotFoundError,
    JournalError,
    StorageError,
)
from journal.format.arguments import (
    check_count,
    check_label_path,
    check_moment,
    check_optional_text,
    check_row_number,
    check_text,
)
from journal.format.commits import START, Position
from journal.format.records import (
    FORMAT,
    UNSET_TIME,
    JobCountsRecord,
    JobErrorRecord,
    JobRecord,
    LogRecord,
    RowStatusRecord,
    RowStatusText,
)
from journal.format.values import encode_value, load_sha256
from journal.fs import directories, handles
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.history.reading import Entry, History
from journal.history.redact import check_fields, redacted_members
from journal.ids import check_job_id, new_job_id, split_row_id
from journal.index.summary import job_of, summary_of
from journal.model import (
    VALID_TRANSITIONS,
    FoundRow,
    Job,
    JobRow,
    JobStatus,
    JobSummary,
    LogEntry,
    RowStatus,
    RunHolder,
    is_at_least,
    job_status,
    log_level,
    row_status,
    row_statuses,
)
from journal.store.batch import Batch
from journal.store.journal import Journal
from journal.store.listing import check_name, jobs_of, newest_ids
from journal.store.rows import RowSequence, row_at
from journal.store.run_holds import Taken, has_ended
from journal.store.run_lock import busy_error, run_holder
from journal.store.store import Store
from journal.store.transitions import (
    Policy,
    add_rows,
    change_row,
    check_policy,
    put_job_record,
    put_log_of_caller,
    put_run,
    redo_row,
    reopen,
    retry_failed,
    set_job_status,
    settle_rows,
    update_data,
)

Result = TypeVar("Result")


class JobService:
    """The jobs of one store, for one process and all of its threads.

    A method that changes something is one commit: when it returns, the change is in the file
    and, with ``sync="commit"``, on the disk; when it raises, nothing has changed, except after
    :class:`CommitOutcomeUnknownError`, which says so. Within :meth:`batch` all changes of a job
    become one commit. Getters read what other processes have committed up to the call.
    Threads that change rows of one job at the same time share commits, and their syncs; each hears
    of its own row, and not before the sync. Not to be called from signal handlers, which may
    come in the middle of a call.

    Every method raises :class:`InvalidValueError` for arguments that can't be, and may raise
    :class:`StorageError`, :class:`JournalDamagedError`, :class:`FormatVersionError` and
    :class:`JobLockedError` (getters only while another *thread* of this service has a batch
    open). Changes of what isn't there raise :class:`JobNotFoundError` or
    :class:`RowNotFoundError`; ``get_job`` and ``get_row`` return ``None``. Statuses may be given
    as text.
    """

    _writes = True  # so what that needs is loaded at once, before there are threads and forks

    def __init__(
        self,
        root: str | os.PathLike[str] = "jobs",
        *,
        sync: Literal["commit", "none"] = "commit",
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        redact: Collection[str] = (),
    ) -> None:
        """``root`` is made by the first :meth:`create_job`; a file there is a StoreError.

        ``sync="commit"`` waits for the disk in every commit: it survives a power cut. ``"none"``
        leaves that to the system: it survives the death of the process, and a power cut may take
        the last seconds or leave damage for ``journal verify`` to name. ``lock_timeout_s``
        (seconds) bounds the wait for another writer's commit or batch. ``redact`` names fields, of
        any case, whose values :meth:`get_logs`, :meth:`get_history`, exports and reports replace by
        "[REDACTED]": keys in JSON values at any depth, and members of :class:`Job`, :class:`JobRow`
        and :class:`LogEntry` that hold text or JSON of yours. What is stored, and what other
        getters return, stays as it is.
        """
        if sync not in ("commit", "none"):
            raise InvalidValueError("sync", sync, "must be 'commit' or 'none'")
        text = os.fspath(root) if isinstance(root, (str, os.PathLike)) else None
        if not isinstance(text, str) or not text or "\0" in text:
            raise InvalidValueError("root", root, "must be the path of a directory")
        number = isinstance(lock_timeout_s, (int, float)) and not isinstance(lock_timeout_s, bool)
        if not number or not lock_timeout_s >= 0:
            raise InvalidValueError("lock_timeout_s", lock_timeout_s, "must be 0 or more seconds")
        lock_timeout_s = min(lock_timeout_s, TIMEOUT_MAX)
        self.redact = check_fields(redact)
        # Absolute, so that a script that changes its directory goes on in the same store.
        self.root = Path(text).absolute()
        if self._writes:
            handles.load_filelock()
            load_sha256()
        self.sync = sync
        self.lock_timeout_s = lock_timeout_s
        self._store = Store(self.root, sync=sync == "commit", lock_timeout_s=lock_timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and run locks; a job left running is then an interrupted one."""
        self._store.close()

    # --- jobs

    def create_job(
        self,
        name: str,
        original_command: str = "",
        description: str | None = None,
        mode: str = "confirm",
        *,
        job_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        row_data: Iterable[Mapping[str, Any]] = (),
    ) -> Job:
        """Make a pending job. A crash leaves it whole, with its rows, or not there at all.

        ``job_id`` defaults to ``DATE-slug-of-name-random``. ``metadata`` is any JSON object.
        ``row_data`` is as in :meth:`create_rows`. ``key`` names the member of the data by which
        rows are known, also those that are added later: their idempotency keys are made of it.
        ``idempotency_key`` names a member that is one; "" says that no member is, and that each row
        is added with its own. Raises JobExistsError, StoreError, and JobBusyError while another
        process makes a job of this id.
        """
        name = check_text(name, "name")
        if not name.strip():
            raise InvalidValueError("name", name, "must not be empty")
        if metadata is not None:
            if not isinstance(metadata, dict):
                raise InvalidValueError("metadata", metadata, "must be a dict or None")
            encode_value(metadata, "metadata")
        if key == "":
            raise InvalidValueError("key", key, "must name a member of the data, or be None")
        record = JobRecord(
            format=FORMAT,
            id="",
            name=name,
            original_command=check_text(original_command, "original_command"),
            description=check_optional_text(description, "description"),
            mode=check_text(mode, "mode"),
            metadata=metadata,
            key=check_optional_text(key, "key"),
            idempotency_key=check_optional_text(idempotency_key, "idempotency_key"),
            at=UNSET_TIME,
        )
        if job_id is None:
            job_id = new_job_id(name, datetime.now(UTC))
        return self._create(record, job_id, lambda journal: add_rows(journal, row_data))

    def _create(self, record: JobRecord, job_id: str, add: Callable[[Journal], object]) -> Job:
        made: list[Job] = []

        def fill(journal: Journal) -> None:
            with journal:
                record.id, record.at = job_id, journal.now()
                put_job_record(journal, record)
                add(journal)
            made.append(job_of(journal.index))

        self._store.create(check_job_id(job_id), fill)
        return made[0]

    def get_job(self, job_id: str) -> Job | None:
        """The job as of its last commit, or ``None``."""
        with self._reading(job_id) as journal:
            return None if journal is None else job_of(journal.index)

    def list_jobs(
        self,
        status: JobStatus | str | None = None,
        limit: int | None = 50,
        offset: int = 0,
        *,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        on_error: Callable[[JournalError], object] | None = None,
    ) -> list[Job]:
        """Jobs, newest first by creation; ``limit`` None for all.

        ``name`` is a shell pattern for the whole name; ``since`` <= created < ``until``, both
        aware. The first job that can't be read raises, unless ``on_error`` takes its error (as
        in ``os.walk``): then the list goes on without it. It is also told of directories that
        hold files of a job and no journal; others that are no jobs are passed over.
        """
        wanted = None if status is None else job_status(status)
        check_count(limit, "limit")
        if check_count(offset, "offset") is None:
            raise InvalidValueError("offset", offset, "must be an int")
        check_optional_text(name, "name")
        check_moment(since, "since")
        check_moment(until, "until")
        job_ids = newest_ids(self._store, name, since, until, on_error)
        return jobs_of(self._store, job_ids, wanted, limit, offset, on_error)

    def delete_job(self, job_id: str) -> bool:
        """Remove the job and all its files; ``False`` if there is none.

        Raises JobBusyError while a run holds it, in this process too, unless it has ended and no
        row of it is in flight.
        """
        return self._store.delete(check_job_id(job_id))

    def can_transition(self, current: JobStatus | str, target: JobStatus | str) -> bool:
        """Whether a job may go from ``current`` to ``target``."""
        return job_status(target, "target") in VALID_TRANSITIONS[job_status(current, "current")]

    def update_status(self, job_id: str, new_status: JobStatus | str) -> Job:
        """Move the job within its pass; one that has ended stays so: see :meth:`reopen_job`.

        Sets ``started_at`` at its first start, ``completed_at`` at its end.

        To ``running`` takes the run lock if it is free, and says who does, as :meth:`start_job`; it
        writes its record either way: that is how another terminal resumes a run that waits. A run
        of this process, :meth:`start_job` or :meth:`JobRun.run`, may take that lock over. Any
        other status lets go of the run lock if this service holds it. Raises
        InvalidStateTransition.
        """
        target = job_status(new_status, "new_status")
        with self._taking(job_id) as taken:
            is_new = False
            if target is JobStatus.RUNNING:
                with suppress(JobBusyError):
                    is_new = self._store.take_run(check_job_id(job_id), taken)
            with self._committing_run(job_id, taken) as journal:
                if is_new:
                    put_run(journal)
                    self._store.runs.mark(taken, by_hand_from=journal.end)
                set_job_status(journal, target)
                return job_of(journal.index)

    def reopen_job(self, job_id: str, reason: str | None = None) -> Job:
        """Put a job that has ended back to ``pending``: its next pass begins.

        Its rows stay as they are. ``completed_at`` is None until it ends again, and its error is
        cleared, unless that names rows which two copies have done. Raises JobBusyError while a run
        works on it, that is, holds its run lock, and InvalidStateTransition for a job that has not
        ended. Rows in flight stay so if whoever started them has let go of that lock: the next
        start's policy settles them.
        """
        check_optional_text(reason, "reason")

        def change(journal: Journal) -> Job:
            reopen(journal, reason)
            return job_of(journal.index)

        return self._change_reopening(job_id, change)

    def update_counts(
        self,
        job_id: str,
        total: int | None = None,
        processed: int | None = None,
        successful: int | None = None,
        failed: int | None = None,
    ) -> Job:
        """Set counts by hand, for a script that keeps no rows; ``None`` leaves one as it is.

        Rows need no such call: counts follow them, and later rows add to what is set here.
        """
        given = {"total": total, "processed": processed, "successful": successful, "failed": failed}
        counts = {key: check_count(value, key) for key, value in given.items()}
        with self._journal(job_id) as journal:
            if any(value is not None for value in counts.values()):
                put_job_record(journal, JobCountsRecord(**counts, at=journal.now()))
            return job_of(journal.index)

    def set_error(self, job_id: str, error_code: str, error_message: str) -> Job:
        """Record why the job as a whole is in trouble; its status stays."""
        code = check_text(error_code, "error_code")
        message = check_text(error_message, "error_message")
        with self._journal(job_id) as journal:
            put_job_record(journal, JobErrorRecord(code=code, message=message, at=journal.now()))
            return job_of(journal.index)

    def get_job_summary(self, job_id: str) -> JobSummary:
        """Counts by status, cost in cents, status and times; goes into ``json.dumps`` as it is.

        ``processed_rows`` is completed plus failed; ``pending_count`` counts pending rows only.
        Raises JobNotFoundError.
        """
        with self._reading(job_id) as journal:
            if journal is None:
                raise JobNotFoundError(job_id)
            return summary_of(journal.index)

    # --- rows

    def create_rows(self, job_id: str, row_data: Iterable[Mapping[str, Any]]) -> Sequence[JobRow]:
        """Add pending rows in one commit: all of them, or none if anything is wrong with one.

        Each mapping may hold ``row_number`` (int from 1; default: the next one),
        ``row_checksum`` (text; default: SHA-256 of the data as compact JSON with sorted keys),
        ``idempotency_key`` (text; default: see :class:`JobRow`) and ``data`` (a dict of JSON
        values; tuples read back as lists). The iterable is taken
        row by row and written as it goes, so that a generator of millions needs little memory;
        other writers wait meanwhile, and changes that it makes to this job itself join the commit.
        Returns the new rows in the order given, decoded when they are asked for. Raises what
        the iterable raises, and InvalidStateTransition for a job that has ended.
        """
        with Batch(
            self._journal(job_id)
        ) as journal:  # the iterable may change the job that it adds to
            return RowSequence(job_id, journal, add_rows(journal, row_data))

    def get_row(self, row_id: str) -> JobRow | None:
        """The row ``JOB_ID:ROW_NUMBER``, or ``None``."""
        job_id, number = split_row_id(row_id)
        with self._reading(job_id) as journal:
            position = None if journal is None else journal.index.position_of(number)
            if journal is None or position is None:
                return None
            return row_at(job_id, journal, position)

    def get_rows(
        self, job_id: str, status: RowStatus | str | Collection[RowStatus | str] | None = None
    ) -> Sequence[JobRow]:
        """The job's rows, all or of a status or several, by row number; as they are now, for good.

        ``len`` is free; a row is read from the file when it is asked for. Raises
        JobNotFoundError.
        """
        wanted = row_statuses(status)
        with self._reading(job_id) as journal:
            if journal is None:
                raise JobNotFoundError(job_id)
            return RowSequence(job_id, journal, journal.index.view(wanted))

    def get_pending_rows(self, job_id: str) -> Sequence[JobRow]:
        """As :meth:`get_rows`, those that are pending."""
        return self.get_rows(job_id, RowStatus.PENDING)

    def get_failed_rows(self, job_id: str) -> Sequence[JobRow]:
        """As :meth:`get_rows`, those that failed."""
        return self.get_rows(job_id, RowStatus.FAILED)

    def find_rows(
        self, job_id: str, status: RowStatus | str, first: int = 0, limit: int = 1000
    ) -> list[FoundRow]:
        """Up to ``limit`` rows of one status without reading them, in the order of their making.

        ``first`` is the position to look from: 0, or one behind the last that was found, to go
        through a job of any size in constant memory. Raises JobNotFoundError.
        """
        wanted = row_status(status)
        with self._reading(job_id) as journal:
            if journal is None:
                raise JobNotFoundError(job_id)
            columns = journal.index.columns
            attempts, earlier = columns.attempts, columns.earlier
            return [
                FoundRow(
                    at,
                    columns.number(at),
                    attempts[at] - (0 if earlier is None else earlier[at]),
                    not attempts[at],
                )
                for at in journal.index.find(wanted, first, limit)
            ]

    def start_row(self, row_id: str) -> JobRow:
        """Begin an attempt: to ``processing``. Commit this before the side effect begins.

        Raises InvalidStateTransition, in a job that has ended too.
        """
        job_id, number = split_row_id(row_id)
        return self._change(job_id, RowStatusRecord(row=number, status="processing", at=UNSET_TIME))

    def complete_row(
        self,
        row_id: str,
        tracking_number: str | None = None,
        label_path: str | os.PathLike[str] | None = None,
        cost_cents: int | None = None,
        *,
        result: Any = None,
    ) -> JobRow:
        """Record that the row is done, whatever the job's status; final.

        ``cost_cents`` (an int from 0) adds to the job's total. ``result`` is any JSON value.
        A ``label_path`` inside the job's directory is kept relative to it. Raises
        InvalidStateTransition, for a row that is completed already too.
        """
        job_id, number = split_row_id(row_id)
        if result is not None:
            encode_value(result, "result")
        record = RowStatusRecord(
            row=number,
            status="completed",
            tracking_number=(
                None if tracking_number is None else check_text(tracking_number, "tracking_number")
            ),
            label_path=(
                None
                if label_path is None
                else check_label_path(label_path, self._store.directory(job_id))
            ),
            cost_cents=None if cost_cents is None else check_count(cost_cents, "cost_cents"),
            result=result,
            at=UNSET_TIME,
        )
        return self._change(job_id, record)

    def fail_row(
        self, row_id: str, error_code: str, error_message: str, *, unknown: bool = False
    ) -> JobRow:
        """Record that the attempt failed, whatever the job's status. InvalidStateTransition.

        ``unknown``: whether it took effect isn't known, so that nothing retries it unless it is
        named.
        """
        code = check_text(error_code, "error_code")
        message = check_text(error_message, "error_message")
        return self._change_to(
            row_id, "failed", error_code=code, error_message=message, unknown=unknown
        )

    def give_back_row(self, row_id: str) -> JobRow:
        """Put a row in processing back to pending, for its attempt never began.

        Raises InvalidStateTransition.
        """
        return self._change_to(row_id, "pending")

    def skip_row(self, row_id: str, reason: str | None = None) -> JobRow:
        """Record that the row needs nothing done. Raises InvalidStateTransition."""
        return self._change_to(row_id, "skipped", reason=check_optional_text(reason, "reason"))

    def retry_row(
        self, row_id: str, error_code: str | None = None, error_message: str | None = None
    ) -> JobRow:
        """Put a failed, skipped, processing or needs_review row back to pending.

        Its limit of attempts, and its backoff, begin anew; a job that has ended is reopened in the
        same commit (JobBusyError while a run works on it: see :meth:`reopen_job`). Raises
        InvalidStateTransition, in a cancelled job too: reopen that first.

        With ``error_code`` and ``error_message``, what an attempt died of that is to be repeated,
        it is the next attempt of the same: nothing begins anew, and an ended job refuses it.
        """
        code = check_optional_text(error_code, "error_code")
        message = check_optional_text(error_message, "error_message")
        reset: Literal["retry"] | None = "retry" if code is None else None
        return self._change_to(
            row_id, "pending", error_code=code, error_message=message, reset=reset
        )

    def redo_row(self, row_id: str, reason: str | None = None, *, new_key: bool = False) -> JobRow:
        """Put a completed, failed or skipped row back to pending: it will be done again.

        The only way out of ``completed``. What it cost stays spent, and its history stays. A job
        that has ended is reopened in the same commit (JobBusyError while a run works on it: see
        :meth:`reopen_job`). The idempotency key stays, so that a far side which honours it answers
        as before; ``new_key`` gives the row another. Raises InvalidStateTransition, in a cancelled
        job too, and for a row in review: settle that first.
        """
        job_id, number = split_row_id(row_id)
        check_optional_text(reason, "reason")
        return self._change_reopening(
            job_id, lambda journal: redo_row(journal, job_id, number, reason, new_key=new_key)
        )

    def update_row_data(
        self, row_id: str, data: dict[str, Any], *, new_key: bool = False
    ) -> JobRow:
        """Give a row that is pending, failed, skipped or in review other data.

        Its number and status stay, and its history keeps the old data. An input is compared with
        what the last input said of the row, not with this data. ``new_key`` gives it another
        idempotency key, too. Raises InvalidStateTransition for a row that is completed or in flight.
        """
        job_id, number = split_row_id(row_id)
        if not isinstance(data, dict):
            raise InvalidValueError("data", data, "must be a dict")
        encode_value(data, "data")
        return self._journal(job_id).change(
            lambda journal: update_data(journal, job_id, number, data, None, new_key=new_key)
        )

    def review_row(self, row_id: str, error_code: str, error_message: str) -> JobRow:
        """Give a row in processing whose outcome is unknown to a person: to ``needs_review``.

        Nothing starts it until :meth:`complete_row`, :meth:`fail_row`, :meth:`skip_row` or
        :meth:`retry_row` has settled it. Raises InvalidStateTransition.
        """
        code = check_text(error_code, "error_code")
        message = check_optional_text(error_message, "error_message")
        return self._change_to(row_id, "needs_review", error_code=code, error_message=message)

    def _change_to(self, row_id: str, status: RowStatusText, **members: Any) -> JobRow:
        job_id, number = split_row_id(row_id)
        record = RowStatusRecord(row=number, status=status, at=UNSET_TIME, **members)
        if record.reset is None:
            return self._change(job_id, record)
        return self._change_reopening(job_id, lambda journal: change_row(journal, job_id, record))

    def _change(self, job_id: str, record: RowStatusRecord) -> JobRow:
        return self._store.journal(job_id).change(change_row, job_id, record)

    def retry_failed_rows(self, job_id: str, error_code: str | None = None) -> int:
        """Put failed rows back to pending, as :meth:`retry_row`, in one commit; returns how many.

        ``error_code``: those that failed with it. Without, those of unknown outcome are left out
        (:attr:`JobRow.unknown`). Raises InvalidStateTransition in a cancelled job.
        """
        check_optional_text(error_code, "error_code")
        return self._change_reopening(job_id, lambda journal: retry_failed(journal, error_code))

    def _change_reopening(self, job_id: str, change: Callable[[Journal], Result]) -> Result:
        """Call ``change`` in a commit; with the run lock, if the job has ended, to be reopened."""
        journal = self._journal(job_id)
        while True:
            with self._reading(job_id) as found:
                is_over = found is not None and has_ended(found)
            with self.hold_run(job_id) if is_over else nullcontext(), journal:
                if is_over or not has_ended(journal):  # else it has ended since we looked
                    return change(journal)

    # --- what happened

    def log(
        self,
        job_id: str,
        message: str,
        level: str = "INFO",
        *,
        row_number: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Write a line for people into the job's journal, whatever the job's status.

        ``level`` is one of ``LOG_LEVELS``, in any case: DEBUG, INFO, WARNING, ERROR, CRITICAL.
        ``row_number`` names the row that it is about, ``details`` is any JSON object. It changes
        nothing about the job, is as durable as any other commit, and goes when the job is deleted.
        Raises JobNotFoundError and, if the job has no row of that number, RowNotFoundError.
        """
        number = check_row_number(row_number, "row_number")
        if details is not None:
            if not isinstance(details, dict):
                raise InvalidValueError("details", details, "must be a dict or None")
            encode_value(details, "details")
        record = LogRecord(
            message=check_text(message, "message"),
            level=log_level(level),
            row=number,
            details=details,
            at=UNSET_TIME,
        )
        self._journal(job_id).change(put_log_of_caller, record)

    def get_logs(
        self,
        job_id: str,
        level: str | None = None,
        row_number: int | None = None,
        *,
        since: datetime | None = None,
    ) -> Iterator[LogEntry]:
        """What :meth:`log` has written, oldest first, as of the last commit there is now.

        ``level`` is the lowest to be given; ``row_number`` gives only what is about that row,
        ``since`` (aware) what is no older. In constant memory; read as it is iterated. What the
        service is to ``redact`` is replaced. Raises JobNotFoundError, and while it is iterated
        JournalDamagedError.
        """
        lowest = None if level is None else log_level(level)
        number = check_row_number(row_number, "row_number")
        check_moment(since, "since")
        history = self._history(job_id)
        begin = START if since is None else history.position_at(since)
        return (
            entry
            for entry in history.logs(begin, self.redact)
            if (lowest is None or is_at_least(entry.level, lowest))
            and (number is None or entry.row_number == number)
            and (since is None or entry.at >= since)
        )

    def get_history(self, job_id: str, begin: Position = START) -> Iterator[Entry]:
        """The job's records in the order of their writing, up to the last commit there is now.

        ``begin`` is where an earlier call stopped: ``after`` of the last :class:`Entry` with
        ``ends``. In constant memory, whatever the job's size; what is written meanwhile is for the
        next call. What the service is to ``redact`` is replaced. Raises JobNotFoundError, and while
        it is iterated JournalDamagedError.
        """
        entries = self._history(job_id).entries(begin)
        if not self.redact:
            return entries
        return (
            entry._replace(record=redacted_members(entry.record, self.redact)) for entry in entries
        )

    # --- runs

    def start_job(
        self,
        job_id: str,
        on_interrupted: Policy = "review",
        *,
        keep_lock: bool = False,
        resume_command: str = "",
        version: str | None = None,
    ) -> Job:
        """Take the run lock and set a pending, paused or interrupted job running.

        With ``keep_lock`` only :meth:`release_run` and :meth:`close` let go of it again, whatever
        the job's status: while rows are in flight, no other run may take them.

        Rows left in processing by a run that died are settled by ``on_interrupted`` as in
        :meth:`recover_job`, and the job's log says who takes it over: host, pid, user, and
        ``resume_command``, what a person types, in any directory, to go on (:attr:`Job.hosts`,
        :attr:`Job.resume_command`); all in one commit. ``version`` names what the rows are worked
        on with, such as a prompt: attempts have it that begin before the next run or pass does
        (:attr:`JobRow.version`). Raises JobBusyError while another run holds the job, this
        service's own included, and InvalidStateTransition for a job that has ended. One that was
        set running by :meth:`update_status` in this process has no run yet: it is taken over, with
        the rows that are in flight since.
        """
        check_policy(on_interrupted, "on_interrupted")
        check_text(resume_command, "resume_command")
        check_optional_text(version, "version")
        if keep_lock and self._journal(job_id).in_own_commit:
            raise InvalidValueError(
                "batch", job_id, "is open: no start of a row would be on the disk before its work"
            )
        runs = self._store.runs
        with self._taking(job_id) as taken:
            is_new = self._store.take_run(check_job_id(job_id), taken)
            with self._committing_run(job_id, taken) as journal:
                if is_new:
                    runs.mark(taken, keep=keep_lock)
                else:
                    is_new = runs.take_over(job_id, taken, keep=keep_lock)
                state = journal.index.state
                assert state is not None
                status = state.status
                if not is_new and (status is JobStatus.RUNNING or not runs.holds(job_id)):
                    raise busy_error(journal.directory, job_id)
                if is_new or version != state.version:
                    put_run(journal, resume_command, version)
                if status is not JobStatus.RUNNING:
                    set_job_status(journal, JobStatus.RUNNING)
                if is_new:  # those begun since are in flight in this process, as all are else
                    settle_rows(journal, on_interrupted, taken.by_hand_from)
                return job_of(journal.index)

    def recover_job(self, job_id: str, policy: Policy = "review") -> int:
        """Settle what a run that died left behind; returns how many rows were in processing.

        ``review`` moves them to needs_review (nothing with a side effect is silently repeated),
        ``retry`` to pending (for idempotent work), ``fail`` to failed. A job whose status is
        running becomes paused, ready for :meth:`start_job`. Raises JobBusyError while a run
        holds the job.
        """
        check_policy(policy)
        with self._taking(job_id) as taken:
            if not self._store.take_run(check_job_id(job_id), taken):
                raise busy_error(self._store.directory(job_id), job_id)
            with self._committing_run(job_id, taken) as journal:
                self._store.runs.mark(taken)
                settled = settle_rows(journal, policy)
                if job_of(journal.index).status is JobStatus.RUNNING:
                    set_job_status(journal, JobStatus.PAUSED)
                return settled

    @contextmanager
    def hold_run(self, job_id: str) -> Iterator[None]:
        """Keep runs away from the job for the length of the block, without being one.

        Raises JobBusyError while a run works on it, JobNotFoundError.
        """
        runs, taken = self._store.runs, Taken()
        try:
            is_held = self._store.take_run(check_job_id(job_id), taken)
            if not is_held and not runs.take_over(job_id, taken, keep=True):
                raise busy_error(self._store.directory(job_id), job_id)
            yield
        finally:
            runs.settle(job_id, taken, written=False)

    def release_run(self, job_id: str) -> None:
        """Let go of the job's run lock, if this service holds it: a running job is interrupted."""
        self._store.runs.release(check_job_id(job_id))

    def holds_run(self, job_id: str) -> bool:
        """Whether this service holds the job's run lock, and the job is still where it was."""
        return self._store.runs.holds(check_job_id(job_id))

    def has_lost_run(self, job_id: str) -> bool:
        """Whether this service holds the run lock of a job that isn't at its path any more."""
        return self._store.runs.has_lost(check_job_id(job_id))

    def keeps_run(self, job_id: str) -> bool:
        """Whether this service holds the job's run lock for a run at work: started to keep it."""
        return self._store.runs.keeps(check_job_id(job_id))

    def is_over(self, job_id: str) -> bool:
        """Whether the job has ended and no row of it is in flight; False if it can't be read."""
        return self._store.is_over(check_job_id(job_id))

    def run_holder(self, job_id: str) -> RunHolder | None:
        """Host, pid and start of the run that works on the job; ``None`` if none does.

        A running job without a holder was interrupted: the system frees the lock of a dead run.
        """
        return run_holder(self._store.directory(check_job_id(job_id)))

    def get_state(self, job: Job) -> str:
        """The job's status in a word, or what it doesn't tell: whether the run still lives.

        "interrupted" for a running job whose run died; "unknown" if that may not be looked at.
        """
        try:
            if job.status is JobStatus.RUNNING and self.run_holder(job.id) is None:
                return "interrupted"
        except StorageError:
            return "unknown"  # one job that may not be looked at must not hide the others
        return job.status.value

    def list_interrupted_jobs(self) -> list[Job]:
        """Jobs whose status is running and whose run died, newest first."""
        running = self.list_jobs(JobStatus.RUNNING, limit=None)
        return [job for job in running if self.run_holder(job.id) is None]

    def batch(self, job_id: str) -> AbstractContextManager[object]:
        """All changes of the job inside the block become one commit, at its end.

        The block sees its own changes; other threads and processes see none of them and wait
        with theirs. An exception discards all of them; in a batch within a batch, those of the
        inner one.

        A block with an ``await`` in it stays open while other asyncio tasks run. They read its
        changes, and their own are refused with JobLockedError until it ends.
        """
        return Batch(self._journal(job_id))

    def artifacts_dir(self, job_id: str) -> Path:
        """The directory for the job's own files, such as labels; made if it is missing.

        It moves with the job and goes when the job is deleted. Raises JobNotFoundError.
        """
        self._store.check_open()
        if not self._store.holds_job(check_job_id(job_id)):
            raise JobNotFoundError(job_id)
        directory = self._store.directory(job_id) / "artifacts"
        try:
            if not directory.is_dir():  # it may be a link
                directories.make_directory(directory)
        except FileNotFoundError:
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise handles.storage_error(directory, "make", error) from error
        return directory

    def directory_names(self) -> Iterator[str]:
        """The names of all directories with a journal, also those that can't be a job's id."""
        return self._store.directory_names()

    def check_directory(self, name: str) -> None:
        """Raise JobMismatchError if the directory's name isn't the id of the job in it."""
        check_name(self._store, name, self._store.header(name))

    def job_ids(self) -> Iterator[str]:
        """The ids of all jobs in the store, in no order, without reading their journals."""
        return self._store.job_ids()

    # --- inside

    @contextmanager
    def _taking(self, job_id: str) -> Iterator[Taken]:
        """What the block takes of the run lock; it is given back after an error."""
        taken = Taken()
        try:
            yield taken
        except BaseException:
            self._store.runs.settle(job_id, taken, written=False)
            raise

    def _history(self, job_id: str) -> History:
        """The job's journal as it is now, for reading parts of it. Raises JobNotFoundError."""
        with self._reading(job_id) as journal:
            if journal is None:
                raise JobNotFoundError(job_id)
            return History(journal)

    def _look(
        self, job_id: str, statuses: Collection[RowStatus] | None
    ) -> tuple[Job, Sequence[JobRow], History]:
        """The job, its rows of these statuses (None: all) and its history, all of one moment."""
        with self._reading(job_id) as journal:
            if journal is None:
                raise JobNotFoundError(job_id)
            history = History(journal)  # it looks for the newest commit
            rows = RowSequence(job_id, journal, journal.index.view(statuses))
            return job_of(journal.index), rows, history

    @contextmanager
    def _committing_run(self, job_id: str, taken: Taken) -> Iterator[Journal]:
        """A commit that may move the job; its run lock follows once the commit is settled.

        ``taken``: for this commit, and goes if the commit does.
        """

        def settle(written: bool) -> None:
            with journal.mutex:
                state = journal.index.state
                running = state is not None and state.status is JobStatus.RUNNING
            self._store.runs.settle(job_id, taken, written=written)
            # A commit whose sync has failed may be there: if it ended the run, so does this.
            if not running and (written or journal.in_doubt):
                self._store.runs.leave(job_id)

        with self._journal(job_id) as journal:
            journal.at_end(settle)
            yield journal

    def _journal(self, job_id: str) -> Journal:
        return self._store.journal(check_job_id(job_id))

    @contextmanager
    def _reading(self, job_id: str) -> Iterator[Journal | None]:
        """The job's log, up to date and still for the length of the block; None for no job."""
        journal = self._journal(job_id)
        journal.acquire()
        try:
            try:
                journal.refresh()
            except JobNotFoundError:
                self._store.forget(job_id)
                yield None
                return
            if self._store.runs:
                self._store.runs.release_if_over(journal)
            yield journal
        finally:
            journal.mutex.release()
