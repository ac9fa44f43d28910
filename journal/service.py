"""``JobService``: create, change and read jobs and their rows. Each change is one commit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import TIMEOUT_MAX
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import msgspec

import journal  # for annotations: `typing.get_type_hints` imports what `journal.Rows` needs
from journal.errors import (
    InvalidValueError,
    JobNotFoundError,
    JournalError,
    RefusedError,
    StepRepeatedError,
)
from journal.format.arguments import (
    check_codes,
    check_cost,
    check_int,
    check_label_path,
    check_moment,
    check_optional_object,
    check_optional_text,
    check_step_error,
    check_step_name,
    check_text,
    check_tune,
    check_usage,
    check_words,
    names_unknown_keywords,
)
from journal.format.commits import START, Position
from journal.format.pruned import forget_pruned
from journal.format.records import (
    A_PROGRAM,
    FORMAT,
    UNSET_TIME,
    By,
    JobCountsRecord,
    JobErrorRecord,
    JobRecord,
    LogRecord,
    RowStatusRecord,
    RowStatusText,
    TunedRecord,
    TuneRecord,
)
from journal.format.values import as_json_value, load_sha256, read_back
from journal.fs import files, handles, system
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.ids import check_job_id, new_job_id
from journal.index.summary import job_of, summary_of
from journal.model import (
    Cost,
    Job,
    JobRow,
    JobStatus,
    JobSummary,
    LogEntry,
    Policy,
    RowStatus,
    RowStep,
    RunHolder,
    Shard,
    Tuned,
    Usage,
    is_at_least,
    job_status,
    log_level,
    row_statuses,
)
from journal.store import bulk, steps, transitions
from journal.store.batch import Batch as StoreBatch  # journal.Batch is another class
from journal.store.interrupted_rows import check_policy, settle_rows, start_run
from journal.store.journal import Journal
from journal.store.list_jobs import jobs_of, newest_ids
from journal.store.row_reader import RowSequence, row_of
from journal.store.run_lock import (
    has_ended,
    is_in_flight,
    run_holder,
)
from journal.store.store import Store
from journal.store.transitions import VALID_TRANSITIONS

if TYPE_CHECKING:  # imported where they are used, so that `journal list` starts fast
    from journal.history.history import History

Result = TypeVar("Result")
Made = TypeVar("Made", JobRow, RowStep)

_LOOK_S = 0.02  # how often to look whether a run has answered


class JobService:
    """The jobs of one store. One object serves all threads of a process.

    **Changes.** Each call that changes something makes one commit:

    - When the method returns, the change is in the journal. With ``sync="commit"``, the journal has
      also been synced to the disk.
    - If the method raises :class:`CommitOutcomeUnknownError`, the change may or may not be
      recorded. After any other :class:`JournalError`, nothing has changed. After an exception that
      isn't a :class:`JournalError`, such as KeyboardInterrupt, the change may be recorded, because
      Python may raise the exception after the write.
    - In a ``with`` block of :meth:`batch`, all changes of the job become one commit when the block
      ends.
    - If threads change rows of one job at the same time, their calls share a commit and a sync.
      Each call waits for the sync, and then returns its own row or raises its own exception.

    **Reads.** Getters see all commits that any process has made before the call.

    **Runs.** A run is one process that works on a job. The run has the job's **run lock**, so no
    second run can start. A row is **in flight** while an attempt at it is in progress.

    **Arguments.** A status is an enum member or its text. Times are aware datetimes.

    **Errors.** Every method may raise:

    - :class:`InvalidValueError` for an argument that is not valid;
    - :class:`StorageError` if the system refuses a read or a write;
    - :class:`JournalDamagedError` and :class:`FormatVersionError` for a journal that can't be read;
    - :class:`JobLockedError` if another writer kept the commit lock for too long. Getters raise
      this error only while another *thread* of this service has a batch open.

    If a job or row doesn't exist, methods raise :class:`JobNotFoundError` or
    :class:`RowNotFoundError`. :meth:`get_job` and :meth:`get_row` return ``None`` instead.

    Don't call methods from a signal handler: the signal may have interrupted a call that holds a
    lock.
    """

    _writes = True  # import modules for writing now, before the program starts threads or forks
    _is_exact = False  # whether numbers in rows keep their text: see own_number

    @names_unknown_keywords
    def __init__(
        self,
        root: str | os.PathLike[str] = "jobs",
        *,
        sync: Literal["commit", "none"] = "commit",
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        person: str | None = None,
    ) -> None:
        """Open the store ``root``: the directory that holds one directory for each job.

        ``root`` need not exist: the first :meth:`create_job` makes the directory. Raises
        InvalidValueError if ``root`` is a file, or the directory of a job.

        ``sync``: "commit" syncs each commit to the disk, so that the commit survives a power cut.
        "none" leaves syncing to the system: a commit survives the death of the process, but a power
        cut may lose the commits of the last seconds, or damage the journal. ``journal verify``
        reports such damage.

        ``lock_timeout_s`` (seconds): how long a change waits for another writer's commit or batch.

        ``person``: the name of the person for whom this object makes its changes. The name is
        recorded with each status that a row gets.
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
        # Absolute, so that a script that changes its directory still uses the same store.
        self.root = Path(text).absolute()
        if self._writes:
            handles.load_filelock()
            load_sha256()
        self.sync = sync
        self.lock_timeout_s = lock_timeout_s
        name = check_optional_text(person, "person")
        self._by = A_PROGRAM if name is None else By("person", name)
        # For the other rooms of this package.
        self.store = Store(self.root, sync=sync == "commit", lock_timeout_s=lock_timeout_s)
        self.store.exact = self._is_exact

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files, and release all run locks.

        If this call releases the run lock of a job with the status running, the job counts as
        interrupted.
        """
        self.store.close()

    # --- jobs

    @names_unknown_keywords
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
        anew: bool = False,
    ) -> Job:
        """Create a pending job with its first rows, in one commit. Returns the job.

        After a crash the job exists with all of these rows, or not at all.

        - ``job_id``: default: ``DATE-slug-of-name-random``.
        - ``metadata``: any JSON object.
        - ``row_data``: the first rows, as in :meth:`create_rows`.
        - ``key``: the member of the data that identifies a row. The rows' idempotency keys are made
          from this member.
        - ``idempotency_key``: the member of the data that *is* the idempotency key. With "", no
          member of the data is used: give each row its own ``idempotency_key`` when you add the
          row.
        - ``anew``: make the job even if a job with this id was pruned from the store.

        Without ``anew``, raises JobPrunedError if a job with this id was pruned. Raises
        JobExistsError if a job with this id exists, even if another process has created that job
        during the call.
        """
        record = new_header(
            "",
            name,
            original_command,
            description,
            mode,
            metadata=metadata,
            key=key,
            idempotency_key=idempotency_key,
        )
        record.id = new_job_id(name, datetime.now(UTC)) if job_id is None else check_job_id(job_id)
        if "/" in record.id:
            raise InvalidValueError(
                "job_id", job_id, "is a shard's: open_job(..., shard=) makes it"
            )
        return make_job(self, record, row_data, anew=anew)

    def get_job(self, job_id: str) -> Job | None:
        """The job after its last commit, or ``None`` if there is no such job.

        Raises JobNotFoundError for the id of a set of shards: see `journal help clusters`.
        """
        try:
            with self.store.reading(job_id) as journal:
                return job_of(journal.index)
        except JobNotFoundError as error:
            if error.shard:
                raise
            return None

    def list_jobs(
        self,
        status: JobStatus | str | None = None,
        limit: int | None = 50,
        offset: int = 0,
        *,
        since: datetime | None = None,
        on_error: Callable[[JournalError], object] | None = None,
    ) -> list[Job]:
        """Jobs, newest first by time of creation. For shards, see `journal help clusters`.

        - ``status``: only jobs with this status.
        - ``limit``, ``offset``: skip the first ``offset`` jobs, then return at most ``limit`` jobs.
          With ``None``, there is no limit.
        - ``since``: only jobs created at this time or later.
        - ``on_error``: called with the error of each job that can't be read. The list leaves this
          job out. Without ``on_error``, the first error is raised. ``on_error`` is also called for
          each directory that holds files of a job but no journal. Other directories that aren't
          jobs are ignored.
        """
        wanted = None if status is None else job_status(status)
        if limit is not None:
            check_int(limit, "limit")
        check_int(offset, "offset")
        check_moment(since, "since")
        job_ids = newest_ids(self.store, since, wanted, on_error)
        return jobs_of(self.store, job_ids, wanted, limit, offset, on_error)

    def delete_job(self, job_id: str) -> bool:
        """Delete a job, or a shard, with all its files. Returns ``False`` if there is no such job.

        A pruned job no longer counts as pruned after this call, and may be made anew.

        Raises JobBusyError while a run has the run lock of the job, even if it is a run of this
        process.
        """
        forget_pruned(self.root, check_job_id(job_id))
        return self.store.delete(job_id)

    def can_transition(self, current: JobStatus | str, target: JobStatus | str) -> bool:
        """Return whether ``update_status`` may move a job from ``current`` to ``target``.

        :data:`VALID_TRANSITIONS` has all moves of jobs. :data:`VALID_ROW_TRANSITIONS` has all moves
        of rows.
        """
        return job_status(target, "target") in VALID_TRANSITIONS[job_status(current, "current")]

    def update_status(self, job_id: str, new_status: JobStatus | str) -> Job:
        """Change the job's status. Returns the changed job.

        The status of a job that has ended (completed, failed, cancelled) can't be changed: use
        :meth:`reopen_job`. ``started_at`` is set at the first start. ``completed_at`` is set at the
        end.

        The new status ``running`` has further effects:

        - If the run lock is free, this call takes the lock and records who runs the job, as
          :meth:`start_job` does. But rows that a dead run left in processing stay in processing.
        - If a run has the lock, only the status changes. In this way, another terminal resumes a
          paused run.

        Any other new status releases the run lock if this service has the lock.

        The new status ``paused`` doesn't prevent the next start of the job. To prevent it, use
        :meth:`pause_job`.

        Raises InvalidStateTransition. Raises JobPausedError for ``running`` if a person has paused
        the job.
        """
        target = job_status(new_status, "new_status")
        take: Literal["if_free", "no"] = "if_free" if target is JobStatus.RUNNING else "no"
        with self.store.committing_run(job_id, take) as (journal, is_new_run):
            if is_new_run:
                transitions.put_run(journal)
            transitions.set_job_status(journal, target)
            return job_of(journal.index)

    def reopen_job(self, job_id: str, reason: str | None = None) -> Job:
        """Make an ended job pending again: the job's next pass begins. Returns the job.

        - Rows keep their status. If a row is in flight, the ``on_interrupted`` of the job's next
          start decides what becomes of the row.
        - ``completed_at`` is ``None`` until the job ends again.
        - The job's error is removed, unless the error says that two copies of the job have done the
          same rows.

        Raises JobBusyError while a run has the run lock. Raises InvalidStateTransition if the job
        has not ended.
        """
        check_optional_text(reason, "reason")

        def change(journal: Journal) -> Job:
            transitions.reopen(journal, reason)
            return job_of(journal.index)

        return self._change_reopening(job_id, change)

    def pause_job(self, job_id: str) -> Job:
        """Pause a job of any status until :meth:`resume_job`. Returns the job.

        Until :meth:`resume_job`, no run starts: each start raises JobPausedError. If a run works on
        the job, the job's status becomes paused. The run then starts no more rows, and waits.
        Outcomes are still recorded, and :meth:`start_row` still starts rows. If a person has
        already paused the job, nothing changes. If this service has the run lock, the lock is
        released.
        """
        with self.store.committing_run(job_id, "no") as (journal, _):
            transitions.pause(journal, self._by)
            return job_of(journal.index)

    def resume_job(self, job_id: str, reason: str | None = None) -> Job:
        """End the pause of :meth:`pause_job`. Returns the job. No run is started.

        - If a run waits because the job was paused, the status becomes running again.
        - A cancelled job is reopened, as by :meth:`reopen_job` with ``reason``. So is a failed job
          with rows pending or in flight.
        - Otherwise the job keeps its status, and the next start continues it.

        Raises JobBusyError if the job has ended but its run still waits for rows in flight.
        """
        check_optional_text(reason, "reason")

        def change(journal: Journal) -> Job:
            transitions.resume(journal, reason, self._by)
            return job_of(journal.index)

        return self._change_reopening(job_id, change)

    @names_unknown_keywords
    def tune_job(
        self,
        job_id: str,
        *,
        workers: int | None = None,
        rate: str | Mapping[str, str] | None = None,
        limit_per: Mapping[str, int] | Literal["none"] | None = None,
        max_cost_cents: Cost | Literal["none"] | None = None,
        end_hold: bool = False,
        wait_s: float = 10.0,
    ) -> Tuned | None:
        """Change the limits of the run that works on the job. Returns what the run has changed.

        Any process, any thread and any handler of the run may call this method. Rows in flight end
        as usual. Rows that wait for a worker start under the new limits. The next start of the job
        doesn't use the new limits.

        - ``workers``, ``rate``, ``limit_per``, ``max_cost_cents``: as in :meth:`JobRun.run`. "none"
          removes a limit. A dict of rates leaves the other rates as they are:
          ``{"rows": "5/s", "input_tokens": "none"}``.
        - ``end_hold``: if the run waits because a service is down or throttles, the run tries a row
          now.
        - ``wait_s``: how many seconds to wait for the run's answer. The run looks for changes five
          times a second. If the run doesn't answer in this time, the call returns None, and the run
          may still make the change. In a batch, or with 0, the call doesn't wait. Use 0 in the
          functions ``where``, ``estimate`` and ``halt``, because the run waits for these functions.

        Raises RefusedError if no run works on the job, or if the run changes nothing. Raises
        InvalidValueError.
        """
        if not isinstance(wait_s, (int, float)) or not wait_s >= 0:
            raise InvalidValueError("wait_s", wait_s, "must be seconds, 0 or more")
        values = check_tune(
            workers=workers,
            rate=rate,
            limit_per=limit_per,
            max_cost_cents=max_cost_cents,
            end_hold=end_hold,
        )
        with self._journal(job_id) as journal:
            run = transitions.state_of(journal).run
            if run is None or self.run_holder(job_id) is None:
                text = f"no run works on job {job_id!r}, so there is nothing to tune"
                raise RefusedError(f"{text}: start the job with these limits")
            tune = TuneRecord(
                id=system.nonce(), run=run.id, values=values, person=self._by.person, at=UNSET_TIME
            )
            transitions.put_record(journal, tune)
        if journal.in_own_commit or not wait_s:
            return None
        answer = self._wait_for_answer(job_id, tune, wait_s)
        if answer is not None and answer.reason and not answer.changes:
            raise RefusedError(f"the run of job {job_id!r} changes nothing: {answer.reason}")
        return None if answer is None else Tuned(changes=answer.changes, reason=answer.reason)

    def _wait_for_answer(self, job_id: str, tune: TuneRecord, wait_s: float) -> TunedRecord | None:
        until_s = time.monotonic() + wait_s
        while True:
            is_held = self.run_holder(job_id) is not None  # first: a run may answer, and end
            with self.store.reading(job_id) as journal:
                state = transitions.state_of(journal)
            for answer in state.answers:
                if answer.id == tune.id:
                    return answer
            if not is_held or state.run is None or state.run.id != tune.run:
                raise RefusedError(
                    f"the run of job {job_id!r} has ended, and the next start doesn't take the "
                    "change: start the job with these limits"
                )
            if time.monotonic() >= until_s:
                return None
            time.sleep(_LOOK_S)

    def update_counts(
        self,
        job_id: str,
        total: int | None = None,
        processed: int | None = None,
        successful: int | None = None,
        failed: int | None = None,
    ) -> Job:
        """Set the counts of a job without rows. ``None`` keeps a count unchanged.

        In a job with rows, the counts follow the rows, so this call isn't needed. If rows are added
        or change their status after this call, the counts go up or down from the values set here.
        """
        given = {"total": total, "processed": processed, "successful": successful, "failed": failed}
        counts = {key: check_int(value, key) for key, value in given.items() if value is not None}
        with self._journal(job_id) as journal:
            if counts:
                transitions.put_record(journal, JobCountsRecord(**counts, at=UNSET_TIME))
            return job_of(journal.index)

    def set_error(self, job_id: str, error_code: str, error_message: str) -> Job:
        """Record an error of the job as a whole. The job's status doesn't change."""
        code = check_text(error_code, "error_code")
        message = check_text(error_message, "error_message")
        with self._journal(job_id) as journal:
            error = JobErrorRecord(code=code, message=message, at=UNSET_TIME)
            transitions.put_record(journal, error)
            return job_of(journal.index)

    def get_job_summary(self, job_id: str) -> JobSummary:
        """The job's status, its times, its cost in cents, and how many rows have each status.

        The summary is ready for ``json.dumps``. ``processed_rows`` counts completed and failed
        rows. ``pending_count`` counts only pending rows.
        """
        with self.store.reading(job_id) as journal:
            return summary_of(journal.index)

    # --- rows

    def create_rows(self, job_id: str, row_data: Iterable[Mapping[str, Any]]) -> Sequence[JobRow]:
        """Add pending rows in one commit. If one row is not valid, no row is added.

        Each mapping in ``row_data`` may hold:

        - ``data``: a dict with text as keys. `journal help inputs` lists the values that the dict
          may have. Numbers must be finite.
        - ``row_number``: int from 1. Default: the next free number.
        - ``row_checksum``: text. Default: the SHA-256 of the data as compact JSON with sorted keys.
        - ``idempotency_key``: text. Default: see :class:`JobRow`.

        ``row_data`` may also be a data frame of pandas, polars or pyarrow. Each row of the frame
        becomes the data of one row of the job. Missing values and NaN become null. The frame's
        index is left out.

        Returns the new rows in the given order. A row is read from the file when you access the
        row.

        Each row is written when the iterable ``row_data`` yields the row, so a generator of
        millions of rows needs little memory. Other writers wait until the iterable has ended. The
        iterable may read this job, and then sees the rows yielded so far. The iterable may also
        change this job. These changes become part of the commit that adds the rows. But if the
        iterable opens a batch, it must close the batch before it yields a row.

        Raises InvalidStateTransition for a job that has ended. Exceptions of the iterable are
        raised unchanged.
        """
        # A batch, because the iterable may change the same job.
        with StoreBatch(self._journal(job_id)) as journal:
            return RowSequence(journal, bulk.add_rows(journal, row_data))

    def get_row(self, row_id: str) -> JobRow | None:
        """The row with the id ``JOB_ID:ROW_NUMBER``, or ``None`` if there is no such job or row."""
        job_id, number = self.store.locate(row_id)
        try:
            with self.store.reading(job_id) as journal:
                position = journal.index.position_of(number)
                return None if position is None else row_of(journal, position)
        except JobNotFoundError:
            return None

    def get_rows(
        self, job_id: str, status: RowStatus | str | Collection[RowStatus | str] | None = None
    ) -> journal.Rows:
        """The job's rows as they are now, ordered by row number.

        ``status``: only rows with this status, or with one of these statuses. ``None``: all rows.

        Later changes don't alter the returned sequence. ``len`` reads nothing. A row is read from
        the file when you access the row. :class:`Rows` converts to tables: ``to_pandas()``,
        ``to_arrow()``, ``to_dicts()``.
        """
        from journal.history.history import History  # noqa: PLC0415
        from journal.tables.rows import Rows  # noqa: PLC0415

        wanted = row_statuses(status)
        with self.store.reading(job_id) as journal:
            history = History(journal)  # first, since this reads newer commits
            return Rows(journal, journal.index.view(wanted), history)

    def get_pending_rows(self, job_id: str) -> journal.Rows:
        """The pending rows, as :meth:`get_rows` returns them."""
        return self.get_rows(job_id, RowStatus.PENDING)

    def get_failed_rows(self, job_id: str) -> journal.Rows:
        """The failed rows, as :meth:`get_rows` returns them."""
        return self.get_rows(job_id, RowStatus.FAILED)

    def start_row(self, row_id: str) -> JobRow:
        """Start an attempt: the row's status becomes ``processing``. Returns the row.

        The start must be committed before the side effect. So call this method outside of a batch,
        or end the batch before the side effect.

        Raises InvalidStateTransition if the row can't be started, or if the job has ended.
        """
        job_id, number = self.store.locate(row_id)
        record = RowStatusRecord(row=number, status="processing", at=UNSET_TIME)
        return self._change(job_id, self._by.sign(record))

    def complete_row(
        self,
        row_id: str,
        tracking_number: str | None = None,
        label_path: str | os.PathLike[str] | None = None,
        cost_cents: Cost | None = None,
        *,
        result: Any = None,
        usage: Usage | None = None,
    ) -> JobRow:
        """Record that the row is done. Returns the row.

        - ``tracking_number``: text.
        - ``label_path``: a path. An absolute path inside the job's directory is stored relative to
          this directory.
        - ``cost_cents``: what the attempt has cost, in cents: an int, float or Decimal from 0,
          rounded to six decimals. The cost is added to :attr:`Job.total_cost_cents`.
        - ``result``: any value that `journal help inputs` lists. It is recorded as JSON.
        - ``usage``: what the attempt has used: numbers from 0 by name, such as ``{"input_tokens":
          812}``. The numbers are added to :attr:`Job.usage`, which has at most 100 names.

        The job may have any status. Raises InvalidStateTransition, for example for a row that is
        already completed.
        """
        job_id, number = self.store.locate(row_id)
        record = RowStatusRecord(row=number, status="completed", at=UNSET_TIME)
        if self._by is not A_PROGRAM:  # one call less
            self._by.sign(record)
        if tracking_number is not None:
            record.tracking_number = check_text(tracking_number, "tracking_number")
        if label_path is not None:
            record.label_path = check_label_path(label_path, self.store.directory(job_id))
        if cost_cents is not None:
            record.cost_cents = check_cost(cost_cents)
        if usage is not None:
            record.usage = check_usage(usage)
        if result is not None:
            record.result = as_json_value(result, "result")
        row = self.store.journal(job_id).change(transitions.change_row, record)
        if result is None or record.result is result:
            return row
        return self._as_read(row)

    def fail_row(
        self,
        row_id: str,
        error_code: str,
        error_message: str,
        *,
        unknown: bool = False,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> JobRow:
        """Record that the row failed. Returns the row.

        - ``unknown``: True means that nobody knows whether the attempt took effect. The row is then
          retried only if a person selects this row.
        - ``cost_cents``, ``usage``: what the attempt has cost: see :meth:`complete_row`.

        The job may have any status. Raises InvalidStateTransition.
        """
        return self._change_to(
            row_id,
            "failed",
            error_code=check_text(error_code, "error_code"),
            error_message=check_text(error_message, "error_message"),
            unknown=unknown,
            cost_cents=check_cost(cost_cents),
            usage=check_usage(usage),
        )

    def skip_row(
        self,
        row_id: str,
        reason: str | None = None,
        *,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> JobRow:
        """Record that the row needs no work. Returns the row.

        If no run works on the job, and this call settles the job's last open row, the job ends in
        the same commit. The job's status is then failed if another row has failed or needs a
        review. Otherwise, the status is completed.

        ``cost_cents``, ``usage``: what the attempt has cost: see :meth:`complete_row`. Raises
        InvalidStateTransition.
        """
        return self._change_to(
            row_id,
            "skipped",
            reason=check_optional_text(reason, "reason"),
            cost_cents=check_cost(cost_cents),
            usage=check_usage(usage),
        )

    def retry_row(self, row_id: str, *, from_step: str | None = None) -> JobRow:
        """Make a failed, skipped, processing or needs_review row pending again. Returns the row.

        ``from_step``: the name of a step of the row. The next attempt repeats this step and all
        steps that began after this step.

        Earlier attempts no longer count for the limit of attempts and the backoff. A completed or
        failed job is reopened in the same commit. In a cancelled job, the call raises
        InvalidStateTransition until :meth:`reopen_job` is called.

        Raises InvalidStateTransition. Raises JobBusyError if the row is in flight in a run of
        another JobService. Raises JobBusyError if the job must be reopened while a run has the run
        lock. With ``from_step``, raises InvalidValueError if the row has no step of this name.
        Raises StepInDoubtError if nobody knows whether one of the steps to do again took effect.
        """
        return self._change_to(row_id, "pending", from_step=from_step, reset="retry")

    def redo_row(
        self,
        row_id: str,
        reason: str | None = None,
        *,
        new_key: bool = False,
        from_step: str | None = None,
    ) -> JobRow:
        """Make a completed, failed or skipped row pending, to do it again. Returns the row.

        No other method changes a completed row.

        - The cost of earlier attempts and the row's history stay.
        - The idempotency key stays. If a called service recognizes repeated calls by this key, the
          service repeats its old answer and does nothing. With ``new_key=True``, the row gets a new
          key, and the service does the work again.
        - The row forgets its steps. With ``from_step``, the name of a step, the row keeps the steps
          that began before this step.
        - A completed or failed job is reopened in the same commit. In a cancelled job, the call
          raises InvalidStateTransition until :meth:`reopen_job` is called.

        Raises InvalidStateTransition, for example for a row in review, which must be settled first.
        Raises JobBusyError if the job must be reopened while a run has the run lock. With
        ``from_step``, raises InvalidValueError and StepInDoubtError as :meth:`retry_row` does.
        """
        job_id, number = self.store.locate(row_id)
        check_optional_text(reason, "reason")
        redo = partial(transitions.redo_row, new_key=new_key, keeps_steps=from_step is not None)
        change = _dropping(redo, number, from_step)
        return self._change_reopening(job_id, change, number, reason, self._by)

    def update_row_data(
        self, row_id: str, data: dict[str, Any], *, new_key: bool = False
    ) -> JobRow:
        """Replace the data of a row that is pending, failed, skipped or in review. Returns the row.

        The row keeps its number and status. The history keeps the old data. ``new_key=True`` gives
        the row a new idempotency key.

        The row keeps its checksum, because the checksum describes the row's last input. So a later
        input is compared with the last input, and not with ``data``. But if damage has destroyed
        the row's data, the checksum is lost, too. In this case, the row gets the checksum of
        ``data``.

        If the row belongs to a call with many rows, the row leaves the call, and no longer has the
        steps of the call.

        Raises InvalidStateTransition for a row that is completed or in flight. Raises
        RowNotFoundError, InvalidValueError, and StepInDoubtError if a step of the row's call is in
        doubt.
        """
        job_id, number = self.store.locate(row_id)
        if not isinstance(data, dict):
            raise InvalidValueError("data", data, "must be a dict")
        data = as_json_value(data, "data")

        def change(journal: Journal) -> JobRow:
            steps.leave_call(journal, number)
            return transitions.update_data(journal, number, data, None, new_key=new_key)

        return self._journal(job_id).change(change)

    def review_row(
        self,
        row_id: str,
        error_code: str,
        error_message: str,
        *,
        cost_cents: Cost | None = None,
        usage: Usage | None = None,
    ) -> JobRow:
        """Move a row from ``processing`` to ``needs_review``. Returns the row.

        Use this method when nobody knows whether the attempt took effect. A person must find out
        what happened. No run starts the row until :meth:`complete_row`, :meth:`fail_row`,
        :meth:`skip_row` or :meth:`retry_row` settles it.

        ``cost_cents``, ``usage``: what the attempt has cost: see :meth:`complete_row`.

        Raises InvalidStateTransition.
        """
        return self._change_to(
            row_id,
            "needs_review",
            error_code=check_text(error_code, "error_code"),
            error_message=check_text(error_message, "error_message"),
            cost_cents=check_cost(cost_cents),
            usage=check_usage(usage),
        )

    # --- steps

    def get_steps(self, row_id: str) -> tuple[RowStep, ...]:
        """The row's steps since its last redo, in the order in which they were first recorded."""
        job_id, number = self.store.locate(row_id)
        with self.store.reading(job_id) as journal:
            return steps.get_steps(journal, number)

    def record_step(self, row_id: str, name: str, result: Any = None) -> RowStep:
        """Record that a step of the row is done. Returns the step. ``result``: any JSON value.

        The row may have any status. Later attempts get this result from :meth:`AttemptedRow.step`.

        A step is in doubt if nobody knows whether it took effect. This method settles a step in
        doubt. If a call with many rows caused the doubt, the step is then done for all its rows. If
        the step is already done with the same result, nothing changes. Raises InvalidValueError if
        the step is already done with a different result.
        """
        job_id, number = self.store.locate(row_id)
        check_step_name(name)
        if result is not None:
            result = as_json_value(result, "result")
        return self._as_read(self._journal(job_id).change(steps.record_step, number, name, result))

    def fail_step(self, row_id: str, name: str, message: str = "") -> RowStep:
        """Record that a step in doubt has not taken effect. Returns the step.

        A step is in doubt if it has begun and nobody knows whether it took effect. After this
        method, the step may begin again. If a call with many rows caused the doubt, the step may
        then begin again for all its rows. Raises InvalidValueError if the step is not in doubt, and
        InvalidStateTransition while the row is in processing.
        """
        job_id, number = self.store.locate(row_id)
        check_text(message, "message")
        return self._journal(job_id).change(steps.fail_step, number, name, message)

    def begin_step(
        self,
        row_id: str,
        attempt: int,
        name: str,
        *,
        idempotent: bool = False,
        logs: Sequence[LogEntry] = (),
    ) -> RowStep | None:
        """Record that an attempt begins a step. Returns None, or the step if it is already done.

        If possible, use :meth:`AttemptedRow.step` instead, which also records the end of the step.

        - ``attempt``: the number of the attempt, as in :attr:`JobRow.attempts`.
        - ``idempotent``: if True, the beginning isn't recorded, and a step in doubt may begin
          again.
        - ``logs``: messages of the attempt, which are recorded in the same commit.

        Raises InvalidStateTransition if the attempt is no longer in progress. Raises
        StepInDoubtError if nobody knows whether the step took effect in an earlier attempt. Raises
        InvalidValueError inside a batch, because the beginning would be recorded too late. Each
        step of a row must have its own name: if this attempt has already done a step of this name,
        the call raises InvalidValueError, and the attempt will end with a review.
        """
        job_id, number = self.store.locate(row_id)
        check_step_name(name)
        check_int(attempt, "attempt", bits=32)
        journal = self._journal(job_id)
        if journal.in_own_commit:
            raise InvalidValueError("batch", job_id, "is open: end it before a step begins")
        begin = partial(steps.begin_step, idempotent=idempotent, logs=logs)
        found: RowStep | None = journal.change(begin, number, attempt, name)
        if found is not None and found.state == "failed":
            raise InvalidValueError("name", name, steps.IS_REUSED)
        return found

    def end_step(
        self,
        row_id: str,
        attempt: int,
        name: str,
        result: Any = None,
        *,
        error: tuple[str, str] | None = None,
        logs: Sequence[LogEntry] = (),
    ) -> Any:
        """Record that a step is done, or has failed with ``error``. Returns the recorded result.

        ``error``: a code and a message. ``logs``: messages of the attempt, which are recorded in
        the same commit. A result is recorded even if the attempt has ended meanwhile, because the
        step has happened.

        Raises StepRepeatedError if another attempt, or another copy of the job, has also done the
        step. The result given here is then recorded in the log.
        """
        job_id, number = self.store.locate(row_id)
        recorded = None
        if result is not None:
            recorded = as_json_value(result, "result")
            result = self._read_back(recorded)
        check_step_name(name)
        attempt = check_int(attempt, "attempt", bits=32)
        end = partial(steps.end_step, result=recorded, error=check_step_error(error), logs=logs)
        other = self._journal(job_id).change(end, number, attempt, name)
        if other is not None:
            raise StepRepeatedError(row_id, name, other.attempt, attempt)
        return result

    def _change_to(
        self, row_id: str, status: RowStatusText, *, from_step: str | None = None, **members: Any
    ) -> JobRow:
        job_id, number = self.store.locate(row_id)
        record = RowStatusRecord(row=number, status=status, at=UNSET_TIME, **members)
        self._by.sign(record)
        if record.decision is None:
            return self._change(job_id, record)
        change = _dropping(transitions.change_row, number, from_step)
        return self._change_reopening(job_id, change, record, number=number)

    def _as_read(self, made: Made) -> Made:
        """Return ``made`` (a row or a step) with the result that a reader of the journal gets."""
        if type(made.result) in (NoneType, str, int, bool):
            return made
        return msgspec.structs.replace(made, result=self._read_back(made.result))

    def _read_back(self, value: Any) -> Any:
        return value if self._is_exact else read_back(value)

    def _change(self, job_id: str, record: RowStatusRecord) -> JobRow:
        return self.store.journal(job_id).change(transitions.change_row, record)

    def retry_failed_rows(
        self, job_id: str, error_code: str | Collection[str] | None = None
    ) -> int:
        """In one commit, make failed rows pending as :meth:`retry_row` does. Returns their number.

        ``error_code``: only rows that failed with this code, or with one of these codes. Without
        ``error_code``, rows that may have taken effect are left out (:attr:`JobRow.unknown`).

        Raises InvalidStateTransition in a cancelled job.
        """
        codes = check_codes(error_code)
        return self._change_reopening(job_id, transitions.retry_failed, codes, self._by)

    def _change_reopening(
        self,
        job_id: str,
        change: Callable[..., Result],
        *arguments: Any,
        number: int | None = None,
    ) -> Result:
        """Call ``change(journal, *arguments)`` in a commit.

        ``change`` may reopen a job that has ended. If the job has ended, this method has the run
        lock while ``change`` works, so that no run works on the job meanwhile.

        ``number``: a row that must not be in flight in a run of another JobService. A run takes the
        run lock before it commits. So the row is checked within the commit.
        """
        while True:
            with self.store.reading(job_id) as journal:
                is_over = has_ended(journal)
            with self.store.hold_run(job_id) if is_over else nullcontext(), journal:
                if number is not None and is_in_flight(journal, number):
                    self.store.check_no_other_run(job_id)
                # If the job has ended meanwhile, look again.
                if is_over or not has_ended(journal):
                    return change(journal, *arguments)

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
        """Write a message into the job's journal, for people. The job may have any status.

        - ``level``: one of :data:`LOG_LEVELS`, in upper or lower case.
        - ``row_number``: the row that the message is about.
        - ``details``: any JSON object.

        A message is as durable as any other commit. It doesn't change the job or its rows.

        Raises RowNotFoundError if the job has no row with that number.
        """
        number = None if row_number is None else check_int(row_number, "row_number", 1)
        record = LogRecord(
            message=check_text(message, "message"),
            level=log_level(level),
            row=number,
            details=check_optional_object(details, "details"),
            at=UNSET_TIME,
        )
        self._journal(job_id).change(transitions.put_record, record)

    def get_logs(
        self,
        job_id: str,
        level: str | None = None,
        row_number: int | None = None,
        *,
        since: datetime | None = None,
    ) -> Iterator[LogEntry]:
        """Return the job's log messages that were recorded before this call, oldest first.

        These are the messages of :meth:`log`, of handlers (:meth:`AttemptedRow.log`), and of this
        package, such as the beginning of a hold.

        - ``level``: only messages of this level or a higher level.
        - ``row_number``: only messages about this row.
        - ``since``: only messages of this time or later.

        The journal is read during the iteration, in constant memory. The iteration may raise
        JournalDamagedError.
        """
        lowest = None if level is None else log_level(level)
        number = None if row_number is None else check_int(row_number, "row_number", 1)
        check_moment(since, "since")
        from journal.history.history import log_entry  # noqa: PLC0415

        history = self._history(job_id)
        begin = START if since is None else history.position_at(since)
        return (
            entry
            for entry in map(log_entry, history.records(LogRecord, begin=begin))
            if (lowest is None or is_at_least(entry.level, lowest))
            and (number is None or entry.row_number == number)
            and (since is None or entry.at >= since)
        )

    def get_history(self, job_id: str, begin: Position = START) -> Iterator[journal.Entry]:
        """The job's records in the order in which they were written, up to the last commit.

        ``begin``: the position of the first record. To continue an earlier iteration, take its last
        :class:`Entry` whose ``ends`` is True, and pass the ``after`` of this entry.

        The journal is read during the iteration, in constant memory. The iteration may raise
        JournalDamagedError.
        """
        return self._history(job_id).entries(begin)

    def get_row_history(self, row_id: str) -> journal.RowHistory:
        """Return all that the journal holds about a row: attempts, steps, messages, changes.

        The journal is searched, piece by piece, for lines about the row. The commits of these lines
        are verified. Raises RowNotFoundError.
        """
        from journal.history.history import History  # noqa: PLC0415
        from journal.history.row_history import read_row_history  # noqa: PLC0415

        job_id, number = self.store.locate(row_id)
        with self.store.reading(job_id) as journal:
            history = History(journal)  # first, since this reads newer commits
            known_steps = steps.get_steps(journal, number)
            position = journal.index.position_of(number)
            assert position is not None, "get_steps() has refused a number that no row has"
            row = row_of(journal, position)
        return read_row_history(history, row, known_steps)

    # --- runs

    def start_job(
        self,
        job_id: str,
        on_interrupted: Policy = "review",
        *,
        argv: Sequence[str] = (),
        version: str | None = None,
    ) -> Job:
        """Start a pending, paused or interrupted job. Returns the job.

        This call takes the run lock, and sets the job's status to running.

        - ``on_interrupted``: how to settle rows that a dead run left in processing; see
          :meth:`recover_job`.
        - ``argv``: the words that a person can type in the current directory to continue the job
          (:attr:`Run.argv`).
        - ``version``: a name for the version of the code, model or prompt that processes the rows.
          It is recorded for all attempts of this run (:attr:`JobRow.version`).

        All changes are one commit. The commit also records host, process id and user
        (:attr:`Job.last_run`).

        Raises JobBusyError while the run lock is taken, even if this service itself has the lock
        from a run or from :meth:`update_status`. Raises InvalidStateTransition for a job that has
        ended. Raises JobPausedError for a job that a person has paused.
        """
        check_policy(on_interrupted, "on_interrupted")
        argv = check_words(argv, "argv")
        check_optional_text(version, "version")
        return start_run(self.store, job_id, on_interrupted, argv, version)

    def recover_job(self, job_id: str, policy: Policy = "review") -> int:
        """Settle the rows that a dead run left in processing. Returns their number.

        ``policy``:

        - "review" sets the rows to needs_review, so that no side effect is silently repeated.
        - "retry" sets them to pending, for work that may be repeated.
        - "fail" sets them to failed.
        - "resume" sets a row to pending if three conditions are true: the dead run also had this
          policy, the dead run itself began the row's attempt, and no step of the row is in doubt
          (nobody knows whether it took effect). "resume" sets all other rows to needs_review. So an
          attempt that another program has begun by :meth:`start_row` is never resumed.

        A running job becomes paused, ready for :meth:`start_job`. Raises JobBusyError while a run
        has the run lock.
        """
        check_policy(policy)
        with self.store.committing_run(job_id) as (journal, _):
            settled = settle_rows(journal, policy, transitions.state_of(journal).run)
            if transitions.state_of(journal).status is JobStatus.RUNNING:
                transitions.set_job_status(journal, JobStatus.PAUSED)
            return settled

    def run_holder(self, job_id: str) -> RunHolder | None:
        """Return host, process id and start time of the run that has the run lock, or ``None``.

        The system releases the lock when a run dies. So a job was interrupted if its status is
        running and the lock has no holder.
        """
        return run_holder(self.store.directory(check_job_id(job_id)))

    def batch(self, job_id: str) -> AbstractContextManager[object]:
        """Return a context manager. All changes of the job inside its block become one commit.

        - Code in the block sees the block's changes. Other threads and processes see these changes
          only after the commit. Until then, other threads and processes can't change the job.
        - If the block raises an exception, all changes of the block are discarded. If a nested
          batch raises an exception that the outer block catches, only the changes of the nested
          batch are discarded.
        - If the block contains an ``await``, the batch stays open while other asyncio tasks run.
          Those tasks see the uncommitted changes. If they change the job themselves, JobLockedError
          is raised.
        """
        return StoreBatch(self._journal(job_id))

    def artifacts_dir(self, job_id: str) -> Path:
        """The directory for files that belong to the job, such as labels.

        The call makes the directory if needed.

        The directory is part of the job: it is copied, packed and deleted with the job.
        """
        self.store.check_open()
        if not self.store.holds_job(check_job_id(job_id)):
            raise handles.no_job(self.store.directory(job_id), job_id)
        directory = self.store.directory(job_id) / "artifacts"
        try:
            if not directory.is_dir():  # it may be a link
                files.make_directory(directory)
        except FileNotFoundError:
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise handles.storage_error(directory, "make", error) from error
        return directory

    # --- inside

    def _history(self, job_id: str) -> History:
        from journal.history.history import read_history  # noqa: PLC0415

        return read_history(self.store, job_id)

    def _journal(self, job_id: str) -> Journal:
        return self.store.journal(check_job_id(job_id))


def _dropping(
    change: Callable[..., Result], number: int, from_step: str | None
) -> Callable[..., Result]:
    """``change``, or a function that first drops steps of the row and then calls ``change``."""
    if from_step is None:
        return change
    check_step_name(from_step)

    def drop_and_change(journal: Journal, *arguments: Any) -> Result:
        steps.drop_steps(journal, number, from_step)
        return change(journal, *arguments)

    return drop_and_change


def new_header(
    job_id: str,
    name: str,
    original_command: str,
    description: str | None,
    mode: str,
    *,
    metadata: dict[str, Any] | None,
    key: str | None,
    idempotency_key: str | None,
    shard: Shard | None = None,
) -> JobRecord:
    """Make the record of a new job. Raises InvalidValueError."""
    name = check_text(name, "name")
    if not name.strip():
        raise InvalidValueError("name", name, "must not be empty")
    if key == "":
        raise InvalidValueError("key", key, "must name a member of the data, or be None")
    return JobRecord(
        format=FORMAT,
        id=job_id,
        name=name,
        original_command=check_text(original_command, "original_command"),
        description=check_optional_text(description, "description"),
        mode=check_text(mode, "mode"),
        metadata=check_optional_object(metadata, "metadata"),
        key=check_optional_text(key, "key"),
        idempotency_key=check_optional_text(idempotency_key, "idempotency_key"),
        shard=shard,
        at=UNSET_TIME,
    )


def make_job(
    service: JobService,
    header: JobRecord,
    row_data: Iterable[Mapping[str, Any]],
    *,
    anew: bool,
    then: Callable[[Journal], object] = lambda _journal: None,
) -> Job:
    """Make a job with its rows: see :meth:`JobService.create_job`.

    ``then`` is called after the last row, in the same commit.
    """
    made: list[Job] = []

    def fill(journal: Journal) -> None:
        with journal:
            transitions.put_record(journal, header)
            bulk.add_rows(journal, row_data)
            then(journal)
        made.append(job_of(journal.index))

    service.store.create(header.job_id, fill, anew=anew)
    return made[0]


class ExactService(JobService):
    """The service that commands use. In the rows that it returns, numbers keep their text."""

    _is_exact = True


def existing_job(service: JobService, job_id: str) -> Job:
    """The job after its last commit. Raises JobNotFoundError if there is no such job."""
    job = service.get_job(job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    return job
