"""``open_job`` creates or opens a job, and returns a ``JobRun``, which runs the job.

with journal.open_job("jobs/enrich", rows=read_rows("in.csv"), key="id") as job:
    report = job.run(enrich, workers=8, max_attempts=3, retry_on=ConnectionRefusedError)
raise SystemExit(report.exit_code)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, Never, Self

from journal.display.repr import job_text
from journal.display.session import program, start_again
from journal.errors import InvalidValueError, JobBusyError, JobExistsError, JournalError
from journal.format.arguments import names_unknown_keywords, no_attribute
from journal.format.keys import Data, Key
from journal.fs import shell
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.model import Cost, Job, JobRow, JobStatus, JobSummary, Policy, RowStatus
from journal.progress.messages import Tell, say_if_elsewhere
from journal.progress.show import Progress
from journal.run.advice import IN_PYTHON, HowTo, line_for_rest, nothing_to_do, what_is_left
from journal.run.caller import CallersLoop, CallersThread, of_its_job, with_options_of
from journal.run.driver import Run
from journal.run.input_match import (
    InputRules,
    OnChanged,
    OnGone,
    match_rows,
    missing_error,
    new_rows,
    split_by,
)
from journal.run.lifecycle import RunningJob, Settings, check_callbacks
from journal.run.outcome import RetryOn
from journal.run.pacing.early_end import Bounds
from journal.run.pacing.limits import Estimate, Limits
from journal.run.plan import (
    Matched,
    NothingToDo,
    Plan,
    Where,
    about_rows_left,
    may_start,
    planned_rows,
)
from journal.run.run_report import RunReport
from journal.run.signals import Stops
from journal.run.workers.base import Results
from journal.run.workers.choose import make_workers
from journal.run.workers.handler import Handler, Target
from journal.service import ExactService, JobService, existing_job, make_job, new_header
from journal.sets.input_rows import Split
from journal.sets.shard_choice import chosen_shard, job_directory, task_variables, with_variable
from journal.tables.rows import Rows
from journal.verbs import RowNumbers, Statuses, change_rows, check_where


@names_unknown_keywords
def open_job(
    path: str | os.PathLike[str],
    rows: Iterable[Data] | None = None,
    key: Key | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    mode: str = "auto",
    original_command: str | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: Key | None = None,
    shard: tuple[int, int] | str | None = None,
    version: str | None = None,
    on_changed: OnChanged = "error",
    on_gone: OnGone = "keep",
    on_interrupted: Policy = "review",
    argv: Sequence[str] | None = None,
    sync: Literal["commit", "none"] = "commit",
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    anew: bool = False,
    existing: bool = False,
    how_to: HowTo = IN_PYTHON,
) -> JobRun:
    """Open the job at ``path`` (``ROOT/JOB_ID``) to run it. Create it from ``rows`` if needed.

    **The input.** ``rows`` is an iterable of dicts, one for each row, or a data frame of pandas,
    polars or pyarrow. In a data frame, missing values and NaN become null. ``rows`` is iterated
    once, row by row. `journal help inputs` lists which values are accepted, and how each value is
    recorded. If ``rows`` is None, an existing job is opened.

    ``key`` identifies rows. It is the name of a column, a tuple of names, or a function of the
    data. The values of the key must be unique in the input. Without ``key`` a row is identified by
    its position.

    If the job exists, the input is compared with the job by checksums:

    - If there is a key, the order of the rows may change.
    - New rows are added. If the job has ended, the new rows reopen it. If a person has paused the
      job, new rows are added, too, but :meth:`JobRun.run` is refused.
    - If the data of a row has changed, ``on_changed`` decides. "error" raises RowChangedError.
      "ignore" keeps the job's data. "retry" gives the row the new data and makes the row pending,
      unless the row is completed. "redo" does the same, and also does completed rows again, under
      new idempotency keys. "retry" and "redo" need a key.
    - Rows that are no longer in the input stay in the job. If such a row isn't done, ``on_gone``
      decides. "keep" runs the open rows, and the start reports their number. "skip" skips pending
      and failed rows. But rows in flight and rows with steps go to review. Failed rows that may
      have taken effect stay failed. "error" raises RowChangedError.

    :attr:`JobRun.matched` has the numbers of new, changed and gone rows.

    **A new job.** ``name`` (default: the id), ``description``, ``mode`` and ``metadata`` (a JSON
    object) are recorded when the job is created. ``idempotency_key`` is a column with the complete
    idempotency keys of the rows, or a function that returns the idempotency key for the data of a
    row. This call checks that the keys are unique (with ``shard``, only within the shard). Without
    ``idempotency_key``, the idempotency keys are made from ``key``, if ``key`` is a column. The job
    records how the idempotency keys are made. No later start can change this. If the job was
    pruned, ``anew=True`` makes the job anew, and all of its rows are processed again. With
    ``existing=True``, an existing job is continued, and no job is made. Use ``existing`` if a
    missing job may be on another disk.

    **Shards.** With ``shard=(3, 64)``, this start works only on the rows of shard 3 of 64. The 64
    shards may run on 64 machines. ``path`` is the directory of the set (all shards), and the shard
    is the job ``path/003-of-064``. Each start reads the whole input. The SHA-256 of a row's key
    chooses the row's shard. Without ``key``, the row's position chooses the shard. "auto/64" takes
    the index, modulo 64, from the environment variable of a scheduler. If the environment has
    several such variables, name one ("RANK/64"). In three cases, the start is refused
    (RefusedError):

    - The scheduler has restarted this task, the shard's job doesn't exist, and ``anew`` isn't
      given.
    - Other shards have another key.
    - There is no key, and other shards have seen an input with other rows.

    **Runs.**

    - ``version``: a name for the version of the code, model or prompt that processes the rows
      (:attr:`JobRow.version`).
    - ``on_interrupted``: decides about a row in flight if its run or worker has died, or if its
      call timed out (:meth:`JobRun.run`). With "review", a person must find out what happened. With
      "retry", the row is attempted again. With "fail", the row becomes failed. With "resume", the
      row is attempted again, unless one of its steps is in doubt (`journal help steps`).
    - ``argv``: the words of the command that continues the job, such as ``["python", "ship.py"]``.
      The command is printed when a run ends early. The default of ``argv`` and of
      ``original_command`` is the command line of this program. Both are written into the journal,
      and so into every copy and pack. If the command line contains a secret, pass other words, or
      ``[]``.
    - ``how_to``: the wording of advice in messages. Only the command line of this package sets it.

    ``sync`` and ``lock_timeout_s`` (seconds) are the arguments of :class:`JobService`.

    On return, the job and its rows are on the disk. If this call raises an exception, nothing has
    changed. This rule has one exception: at the same moment, a start of another shard contradicts
    this start. In this case, a shard made by this call is deleted again, but rows added to an
    existing shard stay. Raises:

    - JobNotFoundError if there is no such job, and ``rows`` is None or ``existing`` is given;
    - JobPrunedError if the job was pruned, unless ``anew`` is given;
    - JobBusyError while another run has the run lock;
    - RefusedError if the shard can't be started, as described above;
    - RowChangedError with ``on_changed`` "error" if a row has changed, and with "retry" or "redo"
      if a changed row may have taken effect;
    - RowChangedError with ``on_gone`` "error" if a row that isn't done is gone, and with "skip" if
      the input has no rows at all;
    - InvalidStateTransition if the job is cancelled, and rows would be added or get new data;
    - InvalidValueError, and every exception of the iterable.
    """
    directory = job_directory(path)
    part = None if shard is None else chosen_shard(shard, how_to.name("shard"))
    job_id = directory.name if part is None else f"{directory.name}/{part.name}"
    rules = InputRules(key, idempotency_key, on_changed, on_gone, existing, how_to)
    typed, argv = (with_variable(program(), shard), program()) if argv is None else (argv, argv)
    settings = Settings(on_interrupted, typed, version, how_to)
    make = JobService if how_to is IN_PYTHON else ExactService
    service = make(directory.parent, sync=sync, lock_timeout_s=lock_timeout_s)
    new_job = {
        "name": name or directory.name,
        "original_command": shell.join(argv) if original_command is None else original_command,
        "description": description,
        "mode": mode,
        "metadata": metadata,
    }
    try:
        rules, split = split_by(rules, service, job_id, None if rows is None else part, anew=anew)
        is_new = rows is not None and not service.store.holds_job(job_id)
        matched = _take_input(service, job_id, rows, rules, split, new_job, anew=anew)
        if split is not None:
            split.check_meanwhile(is_new=is_new)
    except BaseException:
        service.close()
        raise
    if is_new and how_to is IN_PYTHON:
        say_if_elsewhere(job_id, path)
    return JobRun(service, job_id, matched, settings)


def _take_input(
    service: JobService,
    job_id: str,
    rows: Iterable[Data] | None,
    rules: InputRules,
    split: Split | None,
    new_job: dict[str, Any],
    *,
    anew: bool,
) -> Matched:
    """Create the job from ``rows``. If the job exists, compare ``rows`` with it."""
    job = None
    if rules.existing or rows is None or service.store.holds_job(job_id):
        job = service.get_job(job_id)
    if job is None and (rules.existing or rows is None):
        raise missing_error(service, job_id, rules)
    if rows is None:
        return Matched()
    if job is not None:
        rules.check_start(job)
        with service.store.hold_run(job_id):  # else two processes could add the same new rows
            return match_rows(service, job, rows, rules, split=split)
    header = new_header(
        job_id.partition("/")[0],
        key=rules.key if isinstance(rules.key, str) else None,
        idempotency_key=rules.recorded_idempotency_key,
        shard=None if split is None else split.shard,
        **new_job,
    )
    then = (lambda _: None) if split is None else split.record
    try:
        job = make_job(service, header, new_rows(rows, rules, split), anew=anew, then=then)
    except JobExistsError:  # another process has created the job, and the input can't be read again
        raise JobBusyError(job_id) from None
    return Matched(added=job.total_rows, other_inputs=[] if split is None else split.others)


_PLACES = {"job.job": Job, "job.rows()": Rows, "job.service": JobService}


class JobRun:
    """An open job, as :func:`open_job` returns it. A ``with`` block closes the job at its end.

    - ``service``: the :class:`JobService`, for calls of its methods.
    - ``id``: the job's id.
    - ``matched``: how many rows are new, changed or gone in the input: see :class:`Matched`.
    """

    def __init__(
        self, service: JobService, job_id: str, matched: Matched, settings: Settings
    ) -> None:
        self.service = service
        self.id = job_id
        self.matched = matched
        self._settings = settings
        self._matched = matched
        self._pace: Callable[[], str] = str
        self._runs: list[Stops] = []  # of the runs in progress
        self._last_stops = Stops()  # of the last run
        self._is_closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the job and its files.

        If a run is in progress, this method stops the run as :meth:`stop` does. In this case, the
        files are closed at the end of the run. If the last run was left after a fourth signal, the
        files stay open.
        """
        self._is_closing = True
        if not (self._ask_to_stop("job.close() was called") or self._last_stops.is_left):
            self.service.close()

    if not TYPE_CHECKING:  # else type checkers would accept any name

        def __getattr__(self, name: str) -> Never:
            raise no_attribute(self, name, _PLACES)

    def __repr__(self) -> str:
        try:
            return f"<JobRun {job_text(self.job)}>"
        except JournalError:  # the service is closed, or the job was deleted
            return f"<JobRun {self.id}: can't be read any more>"

    def _repr_html_(self) -> str | None:
        with suppress(JournalError):
            return self.job._repr_html_()
        return None  # the notebook shows the text

    @property
    def job(self) -> Job:
        """The job after its last commit. Raises JobNotFoundError."""
        return existing_job(self.service, self.id)

    @property
    def status(self) -> JobStatus:
        """The job's status after its last commit. More about the job is in :attr:`job`."""
        return self.job.status

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each status, after the last commit: ``job.counts["failed"]``."""
        job = self.job
        return {status.value: job.count(status) for status in RowStatus}

    @property
    def pace(self) -> str:
        """Text for people about the wait of the current run.

        After a :class:`Hold`, the text is "holding until …". If a rate by usage lets no row start,
        the text is "waiting for the rate …". If no row is in flight, the text says which rows wait.
        In all other cases, the text is "".
        """
        return self._pace()

    def summary(self) -> JobSummary:
        """The job's status, its times, its cost, and how many rows have each status.

        See :meth:`JobService.get_job_summary`.
        """
        return self.service.get_job_summary(self.id)

    @names_unknown_keywords
    def rows(self, status: Statuses = None) -> Rows:
        """The job's rows, ordered by row number: see :meth:`JobService.get_rows`.

        :class:`Rows` converts to tables: ``job.rows().to_pandas()``.
        """
        return self.service.get_rows(self.id, status)

    @names_unknown_keywords
    def retry(
        self,
        rows: RowNumbers | None = None,
        *,
        status: Statuses = None,
        error_code: str | Collection[str] | None = None,
        where: Where | None = None,
        from_step: str | None = None,
    ) -> int:
        """Make failed rows pending in one commit, so the next run does them. Returns their number.

        - ``rows``: only these rows: row numbers, rows, or text such as "5,12-40".
        - ``status``, ``error_code``: only rows with one of these statuses, and one of these error
          codes.
        - ``where``: only rows for which this function returns a true value.
        - ``from_step``: the rows do the step of this name and all later steps again: see
          :meth:`JobService.retry_row`. At least one of the rows must have a step of this name.

        Without arguments, all failed rows are retried, except rows that may have taken effect
        (:attr:`JobRow.unknown`). To retry these rows, give ``rows`` or ``error_code``. ``rows`` and
        ``status`` may also name skipped rows. If ``rows`` is the only argument, each of the rows
        must be failed or skipped. With further arguments, rows of other statuses are left out. A
        job that has ended is reopened. If a run works on the job, this run does the rows.

        Raises RefusedError, RowNotFoundError and InvalidValueError. After these errors, no row has
        changed.
        """
        if rows is None and status is None and where is None and from_step is None:
            return self.service.retry_failed_rows(self.id, error_code)
        chosen = rows, status, error_code, where, from_step
        return change_rows(self.service, self.id, "retry", self.service.retry_row, *chosen)

    @names_unknown_keywords
    def redo(
        self,
        rows: RowNumbers | None = None,
        *,
        status: Statuses = None,
        error_code: str | Collection[str] | None = None,
        where: Where | None = None,
        reason: str | None = None,
        new_key: bool = False,
        from_step: str | None = None,
    ) -> int:
        """Make completed, failed or skipped rows pending, as `journal redo` does. Returns their
        number.

        The arguments that choose rows are those of :meth:`retry`, and at least one is needed.
        ``reason`` and ``new_key``: see :meth:`JobService.redo_row`. ``from_step``: see
        :meth:`retry`.
        """
        redo = functools.partial(self.service.redo_row, reason=reason, new_key=new_key)
        chosen = rows, status, error_code, where, from_step
        return change_rows(self.service, self.id, "redo", redo, *chosen)

    @names_unknown_keywords
    def skip(
        self,
        rows: RowNumbers | None = None,
        *,
        status: Statuses = None,
        error_code: str | Collection[str] | None = None,
        where: Where | None = None,
        reason: str | None = None,
    ) -> int:
        """Skip pending or failed rows: they count as done, as with `journal skip`. Returns their
        number.

        The arguments that choose rows are those of :meth:`retry`, and at least one is needed.
        ``rows`` and ``status`` may also name rows that need a review.
        """
        skip = functools.partial(self.service.skip_row, reason=reason)
        return change_rows(self.service, self.id, "skip", skip, rows, status, error_code, where)

    @names_unknown_keywords
    def plan(self, *, retry_failed: bool = False, where: Where | None = None) -> Plan:
        """Return the plan of a run: how many and which rows the run would process.

        ``str(plan)`` is text for people. The arguments are those of :meth:`run`.
        """
        check_where(where)
        plan, job = Plan(self.id), self.job
        policy = self._settings.on_interrupted
        for row in planned_rows(self.service, job, policy, retry_failed=retry_failed, where=where):
            plan.take(row)
        plan.leave(job, self._matched)
        return plan

    @names_unknown_keywords
    def run(
        self,
        handler: Handler,
        executor: Executor | Callable[[], Executor] | None = None,
        *,
        workers: int | None = None,
        batch: int | None = None,
        max_attempts: int = 1,
        retry_on: RetryOn = (Exception,),
        backoff_s: float = 1.0,
        max_backoff_s: float = 60.0,
        timeout_s: float | None = None,
        rate: str | Mapping[str, str] | None = None,
        estimate: Estimate | None = None,
        halt: str | int = "first",
        max_cost_cents: Cost | None = None,
        max_rows: int | None = None,
        max_wait_s: float | None = None,
        max_waiting: int | None = None,
        no_wait: bool = False,
        limit_per: Mapping[str, int] | None = None,
        where: Callable[[JobRow], object] | None = None,
        retry_failed: bool = False,
        handle_signals: bool = True,
        progress: bool | None = None,
        tell: Tell | None = None,
        on_progress: Callable[[Job], object] = lambda _job: None,
    ) -> RunReport:
        """Call ``handler(row)`` for each open row and record the outcomes. Returns a report.

        **The handler.** The start of each attempt is on the disk before the handler is called.

        - The handler's return value becomes the row's result. A :class:`RowResult` also sets other
          fields.
        - If the handler raises an exception, the row fails. The name of the exception's class is
          the error code. The text of the exception is the message.
        - If the exception says that a call timed out or that its connection broke, the row needs a
          review, because the call may have taken effect. The exceptions of this kind are:

          - TimeoutError, ConnectionResetError, ConnectionAbortedError and BrokenPipeError;
          - an exception with "Timeout" (but not "ConnectTimeout" or "PoolTimeout"), "Disconnected",
            "RemoteProtocol", "IncompleteRead" or "ClientPayload" in the name of its class or of a
            base class;
          - an exception that was raised from one of these exceptions, or while one of them was
            handled.

          But the row fails as after any other exception if ``on_interrupted`` is "retry" or
          "resume", or if ``retry_on`` names the error code, the class, or a base class other than
          Exception.
        - :class:`Fail`, :class:`Retry`, :class:`Skip` and :class:`NeedsReview`, raised or returned,
          set other outcomes. With :class:`Hold`, the whole run waits. With :class:`Wait`, only the
          row waits. A waiting row takes no worker.
        - ``row.idempotency_key`` is the idempotency key to pass to the service that you call.

        **Workers.** Plain functions run in threads, and coroutine functions run in an event loop.
        If the calling thread already runs an event loop, coroutine functions are refused, except in
        IPython: use :meth:`arun`.

        - ``workers``: the number of rows that are processed at a time. The default is 1. With an
          executor, the default is the executor's number of workers.
        - ``executor``: any ``concurrent.futures.Executor``, a dask client, or a function that makes
          an executor. If the executor breaks, the function is called again. An executor must not
          repeat calls by itself. The retries of dask are switched off.
        - If a worker dies, ``on_interrupted`` decides what becomes of its row.

        **Batches.** With ``batch=50``, the handler gets a :class:`Batch`, which is a sequence of up
        to 50 open rows with the methods ``log``, ``step`` and ``step_key``. The handler returns an
        outcome for each row: a mapping with ``row.id`` as keys, or a list in the order of the rows.
        An outcome is a value that a handler of one row may return, or an exception, such as
        :class:`Fail`. An exception in the returned value counts as if a handler of this row alone
        had raised the exception. If a call has begun a step, or waits, the rows of the call stay
        together. See `journal help batches`.

        - ``RowResult(result=outcomes, cost_cents=…, usage=…)`` sets the cost of the whole call.
          This cost is recorded with the first row only.
        - A row without an outcome needs a review, because its work may already be done. Entries of
          the return value that belong to no row are stored as the result of the first row without
          an outcome.
        - If the handler raises an exception, the exception applies to each row.
        - ``workers`` is the number of calls at a time, and ``timeout_s`` limits a call. All other
          limits, such as ``rate`` and ``max_rows``, count rows.

        **Limits.**

        - ``retry_failed``: at the start, make failed rows pending again, except rows that may have
          taken effect (:attr:`JobRow.unknown`). The retried rows run after the rows that were
          never started.
        - ``max_attempts``: the maximum number of attempts at a row that fails with one of the
          errors in ``retry_on``. Attempts of earlier runs count, unless a person has retried the
          row since then. A pending row gets at least one attempt.
        - ``retry_on``: an exception class, an error code, or a collection of these. A class
          includes its subclasses. A code is compared with the row's error code (the name of the
          exception's own class, or the code of a :class:`Fail`).
        - ``backoff_s``: seconds before the second attempt, with jitter. The time doubles with each
          further attempt, up to ``max_backoff_s``.
        - ``timeout_s``: seconds after which an attempt is ended, with the error code TimeoutError.
          A coroutine is cancelled. If a handler has a method ``cancel(row_id, *, force) -> bool``,
          this method is called. In both cases, the attempt may have taken effect, so
          ``on_interrupted`` decides what becomes of the row. Other handlers can't be cancelled, so
          their rows need a review. But if ``retry_on`` has TimeoutError, the attempt counts as
          failed with every kind of handler.
        - ``rate``: the maximum number of starts per second, minute or hour: ``"50/s"``,
          ``"100/m"``, ``"9/h"``. A dict also limits the usage of calls, by the names in ``usage``:
          ``{"rows": "50/s", "input_tokens": "200000/m"}``. See `journal help outages`.
        - ``estimate``: a function that gets a row and returns the expected usage of the row's call:
          ``{"input_tokens": 900}``. Without this function, the usage is estimated from earlier
          calls.
        - ``halt``: when to stop early.

          - "first": pause if the first ten rows all fail with the same error code, and some rows
            were never started. Rows that an earlier run has started don't count. If a row needs a
            review without a request by the handler, as with InvalidResult, the row counts as
            failed.
          - 10: also pause after 10 failures without a success in between. ``"20%"``: also pause
            when at least 50 rows of this run have ended, and 20% of them have failed. The run waits
            for the rows in flight. With ``"now,10"`` or ``"now,20%"``, the run ends the rows in
            flight.
          - "never": run all rows.
        - ``max_cost_cents``: pause when all runs of the job together have cost this much, including
          failed and repeated attempts. The run still waits for the rows in flight, which may cost
          more.
        - ``max_rows``: start at most this number of rows, make their attempts, and pause. Rows that
          have waited don't count.
        - ``max_wait_s``: a row that waits (:class:`Wait`) for this many seconds fails with the
          error code WaitedTooLong. The time begins with the row's first Wait since its last retry
          or redo.
        - ``max_waiting``: while this number of rows wait or are in flight, start only rows that
          have waited.
        - ``no_wait``: pause when only waiting rows are left, or when ``max_waiting`` rows wait. The
          next run continues with the rows that are due.
        - ``limit_per``: the maximum number of rows in flight for each value of a column, such as
          ``{"carrier": 2}``. The dict has one column. Rows without the column, or with null, have
          no limit. Values are compared as JSON: 1 and "1" differ. Rows that wait for another
          attempt don't count. An attempt that was given up counts until it ends.
        - ``where``: the condition, a function that gets a row. The run takes only rows for which
          the function returns a true value. The other rows stay pending or failed, even with
          ``retry_failed``. When only rows that don't meet the condition are left, the run pauses.
          For each of these rows, the function is called only once. The thread of the run calls this
          function, so the function must be fast. If the function raises an exception, the run ends
          with this exception.

        **Stopping.** With ``handle_signals``, a run in the main thread handles signals. After the
        first SIGINT, SIGTERM or SIGHUP, the run starts no more rows, waits for the rows in flight
        and pauses the job. The second signal ends the rows in flight. The third signal ends these
        rows by force. The fourth signal leaves the run, even if a call hangs: the next start
        decides about the rows in flight, as after the death of this process. Without
        ``handle_signals``, a signal handler of the program may raise an exception, such as
        KeyboardInterrupt. Such an exception stops the run as a first signal does, and is re-raised
        at the end. An exception of ``on_progress`` does the same, and ``on_progress`` isn't called
        again. :meth:`stop` stops the run from any thread. Other processes control a run by `journal
        pause`, `resume`, `cancel`, `tune`, `retry` and `skip`.

        **Reports.**

        - ``progress``: True shows a bar on a terminal, HTML in a notebook, and lines elsewhere.
          None shows the bar or the HTML, but no lines. False shows nothing.
        - ``tell``: called with each message for people. The default prints to standard error. The
          logger "journal" gets each message, too (`journal help asyncio`).
        - ``on_progress``: called with the job about five times a second.

        ``tell`` and ``on_progress`` are called in the thread that has called this method, with the
        context of this thread. The run itself has a thread of its own, which calls ``where`` and
        ``estimate``. If an executor has broken, this thread also calls ``executor`` again.

        If the job has ended but has pending rows, it is reopened. If there is nothing to do, or if
        the job was cancelled, a message says so, and the returned report has the unchanged job.

        Raises JobBusyError and InvalidValueError. Raises JobPausedError if a person has paused the
        job. If a commit fails, raises the error of the commit.
        """
        limits = Limits.among(locals())
        check_callbacks(tell=tell, on_progress=on_progress)
        caller = self._caller(executor)
        held = RunningJob(self.service, self.id, self._settings, tell, caller.post)
        held.retry_failed, in_shell = retry_failed, bool(self._settings.how_to.command)
        is_open = may_start(self.job, retry_failed=retry_failed)
        shown = Progress(
            self.job, progress if is_open else False, pace=lambda: self.pace, in_shell=in_shell
        )
        run = None
        if is_open:
            results, stops = Results(), caller.stops
            target = Target(handler, limits.retry_kinds(type), batch is not None)
            made = make_workers(target, executor, workers, results)
            run = Run(held, made, results, limits, shown.then(on_progress), stops)
            self._pace = run.pace
        drive = functools.partial(self._drive, run, held, shown)
        report: RunReport = caller.wait(
            drive, self._in_progress(caller.stops, shown, run), handle_signals=handle_signals
        )
        return report

    def _caller(self, executor: object) -> Any:
        """Where the caller waits: its thread, or its loop. Raises InvalidValueError in a batch."""
        if isinstance(executor, CallersLoop):
            return executor
        if self.service.store.journal(self.id).in_own_commit:
            reason = "must not be run inside a batch: no start would be on the disk"
            raise InvalidValueError("job", self.id, reason)
        return CallersThread(Stops())

    def _drive(self, run: Run | None, held: RunningJob, shown: Progress) -> RunReport:
        """Run the job. Called in the thread of the driver. ``run``: None if the job has ended."""
        held.changes, held.outdated = self._matched.changes, len(self._matched.done)
        for text in about_rows_left(self.id, self._matched, self._settings.how_to):
            held.report(text)
        if run is None:
            return self._report_idle(held)
        run.has_begun = True
        error: BaseException | None = None
        with closing(run):
            try:
                report = run.work()
                held.post(functools.partial(shown.end, report.job))
            except NothingToDo:
                return self._report_idle(held)
            except BaseException as raised:
                error = raised
                raise
            finally:
                if "retried" in held.changes:  # the run has begun: later runs lack these changes
                    self._matched = Matched()
                held.post(functools.partial(shown.__exit__, type(error), error, None))
                del error  # its traceback has this frame, which keeps the job's files open
        self._report_end(held, report, run.bounds)
        return report

    @contextmanager
    def _in_progress(self, stops: Stops, shown: Progress, run: Run | None) -> Iterator[None]:
        """While the block runs, :meth:`stop` adds its request to ``stops``.

        If no thread could be started for ``run``, the workers of ``run`` are closed.
        """
        self._runs.append(stops)
        self._last_stops = stops
        try:
            with shown:
                yield
        finally:
            self._runs.remove(stops)
            if run is not None and not run.has_begun:
                run.close()
            if self._is_closing and not self._runs:
                self.close()

    @with_options_of(run)
    async def arun(
        self, handler: Handler, *, handle_signals: bool | None = None, **options: Any
    ) -> RunReport:
        """:meth:`run` for a program with an event loop: ``report = await job.arun(handler)``.

        Takes the arguments of :meth:`run`, except ``executor``. Differences:

        - A coroutine function runs in the caller's event loop, while the loop's other tasks
          continue. A plain function runs in threads. Commits are made in a thread, too.
        - ``tell`` and ``on_progress`` are called in the caller's event loop. If ``on_progress``
          raises an exception, the loop reports it, and the run continues.
        - Functions that are called in the caller's event loop have the caller's context variables.
        - If the task that awaits this call is cancelled, the run starts no more rows, waits for the
          rows in flight, pauses the job, and raises CancelledError. A second cancellation cancels
          the rows in flight, and ``on_interrupted`` decides what becomes of them. A third
          cancellation gives up rows that don't end.
        - If ``handle_signals`` is false, the owner of the loop handles signals. With
          ``asyncio.run``, the first Ctrl-C cancels the main task. With the default, None, signals
          are handled here only if a cell of IPython or Jupyter awaits this call.
        - If a handler raises KeyboardInterrupt or SystemExit, asyncio stops the loop, as asyncio
          does for every task. ``on_interrupted`` decides what becomes of the row.
        """
        if "executor" in options:
            raise TypeError(
                "arun() has no executor: write await asyncio.to_thread(job.run, handler, executor)"
            )
        run: Any = self.run  # with a loop as the executor, run() returns a coroutine
        options["handle_signals"] = handle_signals
        report: RunReport = await run(handler, CallersLoop(Stops()), **options)
        return report

    def stop(self, *, end_rows: bool = False) -> bool:
        """Stop the run in progress, as a first Ctrl-C does. Returns False if no run is in progress.

        The run starts no more rows, waits for the rows in flight, and pauses the job. With
        ``end_rows``, the rows in flight are ended, as by a second Ctrl-C. The next call with
        ``end_rows`` ends these rows by force. Any other later call has no effect.

        The call returns at once. Any thread, task, handler or signal handler of this process may
        call this method. If a handler raises :class:`Hold` after this call, the handler's row
        becomes pending again.
        """
        return self._ask_to_stop("job.stop() was called", end_rows=end_rows)

    tune = of_its_job(JobService.tune_job)

    def _ask_to_stop(self, reason: str, *, end_rows: bool = False) -> bool:
        runs = list(self._runs)
        for stops in runs:
            stops.ask(reason, end_rows=end_rows)
        return bool(runs)

    def _report_end(self, held: RunningJob, report: RunReport, bounds: Bounds) -> None:
        """Report which rows are left, and how to continue. `journal run` does this by itself."""
        job, how_to = report.job, self._settings.how_to
        if unused := bounds.unused_limit(report):
            held.warn(f"{self.id}: {unused}")
        if how_to.command or report.is_lost:
            return
        if bounds.ignores_retries:
            held.warn(f"{self.id}: `Retry` has no effect with one attempt: add max_attempts=3")
        has_ended = job.status.is_ended
        if bounds.brake.has_tripped and not has_ended:
            return  # the brake's message has said how to continue
        is_worth_a_look = has_ended or job.needs_review_count or bounds.has_halted
        if is_worth_a_look and (left := what_is_left(job, how_to)):
            held.report(f"{job.id}: {job.status}; {left}")
            self._report_see(held)
        if not has_ended:
            first = how_to.first_resume(job)
            held.report(f"to continue: {first}{line_for_rest(job.last_run) or start_again()}")

    def _report_see(self, held: RunningJob) -> None:
        """Report the command that says how to settle the rows that are left."""
        root = shell.quote(str(self.service.root))
        shown = self.id.partition("/")[0] if task_variables() else self.id
        held.report(f"see: journal --root {root} show {shown}")

    def _report_idle(self, held: RunningJob) -> RunReport:
        job, how_to = self.job, self._settings.how_to
        if not how_to.command:
            held.report(nothing_to_do(job, how_to))
            if job.done_rows < job.total_rows and job.status is not JobStatus.CANCELLED:
                self._report_see(held)
        version, last = self._settings.version, job.last_run
        if last is not None and version not in (None, last.version):
            chosen = ("--version", last.version) if last.version else ("--status", "completed")
            words = ("--root", str(self.service.root), "redo", self.id, *chosen)
            held.report(
                f"{self.id}: the last run had version {last.version!r}, and nothing is run with "
                f"{version!r}: a second version is a job of its own. To replace the results: "
                f"journal {shell.join(words)}"
            )
        return RunReport(job=job, **held.changes, outdated=held.outdated)
