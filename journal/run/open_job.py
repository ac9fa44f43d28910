"""``open_job``: a job made or gone on with in one call, and run.

with journal.open_job("jobs/enrich", rows=read_rows("in.csv"), key="id") as job:
    report = job.run(enrich, workers=8, max_attempts=3, retry_on=(TimeoutError,))
raise SystemExit(report.exit_code)
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from journal.errors import InvalidValueError, JobBusyError, JobExistsError, JobNotFoundError
from journal.format.arguments import check_optional_text
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.ids import is_job_id, slug
from journal.model import TERMINAL_STATUSES, Job, JobRow, JobSummary, RowStatus
from journal.run.attempts import Attempt, iterate_attempts
from journal.run.driver import Run, RunReport
from journal.run.handover import Outcomes
from journal.run.input_match import (
    Data,
    Key,
    Matched,
    OnChanged,
    check_key,
    made_with,
    match_rows,
    new_rows,
)
from journal.run.limits import Limits
from journal.run.outcome import Errors, Handler
from journal.run.plan import (
    IN_PYTHON,
    HowTo,
    Plan,
    left_alone,
    may_start,
    nothing_to_do,
    planned_rows,
    take_up,
    what_is_left,
)
from journal.run.row_queue import Tell
from journal.run.workers.choose import make_workers
from journal.service import JobService, existing_job
from journal.store.transitions import Policy, check_policy


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
    version: str | None = None,
    on_changed: OnChanged = "error",
    on_interrupted: Policy = "review",
    resume_command: str | None = None,
    sync: Literal["commit", "none"] = "commit",
    lock_timeout_s: float = LOCK_TIMEOUT_S,
    how_to: HowTo = IN_PYTHON,
) -> JobRun:
    """Make the job ``path`` (``ROOT/JOB_ID``) of these rows, or go on with it.

    ``rows``: the input, dicts of JSON values, taken one by one; None for a job that is there.
    A row is known by ``key`` (a column's name, or a function of the data; each key once), else by
    its place. Compared by checksum with what the job holds: rows may come in another order if they
    have keys, new ones are added, also to a job that has ended, which is reopened by it; and
    :attr:`JobRun.matched` counts those that are gone. Changed data raises RowChangedError, and
    nothing is done; ``on_changed="ignore"`` keeps the job's, and ``"retry"`` (with keys) gives rows
    that are not completed their new data and puts them back: :func:`journal.run.input_match.match_rows`.

    What ``row.idempotency_key`` is made of is fixed when the job is made: its ``key`` if that is a
    column, or ``idempotency_key``, a column or a function of the data, whose values are the keys.
    ``version`` names what the rows are worked on with, such as a prompt: each outcome has it
    (:attr:`JobRow.version`). ``name``, ``description``, ``mode`` and ``metadata`` are a new job's.

    ``on_interrupted`` decides about rows that are in flight when a run or its worker dies: "review"
    by a person, "retry", or "fail". ``resume_command`` is what a run tells people to type after an
    early end, by default how this program was called, in full: it and ``original_command``, which
    defaults to it, are written into the journal, and every copy and pack has them. If a secret is
    among the arguments, say another, or "" for none. ``how_to`` is how other advice is worded: of a
    command line, for commands that are built on this. ``sync``, ``lock_timeout_s`` as in
    :class:`JobService`.

    On return the job and its rows are on the disk. Raises JobNotFoundError without ``rows`` for a
    job that isn't there, JobBusyError while another run works on it, InvalidValueError,
    RowChangedError (with "retry", too, for rows that may have taken effect), InvalidStateTransition
    for new rows of a job that was cancelled, and what the iterable raises; then nothing has changed.
    """
    directory = Path(path).absolute()
    job_id = directory.name
    if not is_job_id(job_id):
        raise InvalidValueError(
            "path",
            os.fspath(path),
            f"must end in a job's id: a-z 0-9 . _ -, such as {slug(job_id)!r}",
        )
    check_policy(on_interrupted, "on_interrupted")
    if on_changed not in ("error", "retry", "ignore"):
        raise InvalidValueError("on_changed", on_changed, "must be error, retry or ignore")
    check_optional_text(version, "version")
    check_key(key, "key")
    service = JobService(directory.parent, sync=sync, lock_timeout_s=lock_timeout_s)
    try:
        resume_command = program() if resume_command is None else resume_command
        original_command = resume_command if original_command is None else original_command
        job = service.get_job(job_id)
        matched = Matched()
        if job is None:
            if rows is None:
                raise JobNotFoundError(job_id)
            job = _create(
                service,
                job_id,
                name=name or job_id,
                original_command=original_command,
                description=description,
                mode=mode,
                metadata=metadata,
                key=key if isinstance(key, str) else None,
                idempotency_key=made_with(idempotency_key),
                row_data=new_rows(rows, key, idempotency_key),
            )
            matched.added = job.total_rows
        elif rows is not None:
            with service.hold_run(job_id):  # else two could add the same new rows
                matched = match_rows(
                    service,
                    job,
                    rows,
                    key,
                    on_changed,
                    idempotency_key=idempotency_key,
                    how_to=how_to,
                )
        return JobRun(service, job_id, matched, on_interrupted, resume_command, version, how_to)
    except BaseException:
        service.close()
        raise


def _create(service: JobService, job_id: str, **given: Any) -> Job:
    try:
        return service.create_job(job_id=job_id, **given)
    except JobExistsError:  # made since we looked; our input is read already
        raise JobBusyError(job_id, "", 0, "") from None


def program() -> str:
    """How this program was called, as a line that can be pasted into a shell."""
    arguments = getattr(sys, "orig_argv", sys.argv)
    return shlex.join([sys.executable or "python", *arguments[1:]]) if arguments else ""


class JobRun:
    """A job that is open to be run; made by :func:`open_job`. A context manager that closes it.

    ``service`` is the explicit layer below, ``id`` the job's, ``matched`` how the input compared.
    """

    def __init__(
        self,
        service: JobService,
        job_id: str,
        matched: Matched,
        on_interrupted: Policy,
        resume_command: str,
        version: str | None = None,
        how_to: HowTo = IN_PYTHON,
    ) -> None:
        self.service = service
        self.id = job_id
        self.matched = matched
        self._on_interrupted: Policy = on_interrupted
        self._resume_command = resume_command
        self._version = version
        self._how_to = how_to

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
        """Let go of the job and its files."""
        self.service.close()

    @property
    def job(self) -> Job:
        """The job as of its last commit. Raises JobNotFoundError."""
        return existing_job(self.service, self.id)

    def summary(self) -> JobSummary:
        """As :meth:`JobService.get_job_summary`."""
        return self.service.get_job_summary(self.id)

    def rows(self, status: RowStatus | str | None = None) -> Sequence[JobRow]:
        """As :meth:`JobService.get_rows`."""
        return self.service.get_rows(self.id, status)

    def plan(self, *, retry_failed: bool = False) -> Plan:
        """What a run would do now, as counts of rows with the first few numbers; ``str`` says it."""
        plan, job = Plan(self.id), self.job
        for row in planned_rows(self.service, job, self._on_interrupted, retry_failed=retry_failed):
            plan.take(row)
        plan.leave(job)
        return plan

    def run(
        self,
        handler: Handler | Callable[[JobRow], Awaitable[Any]],
        executor: Executor | Callable[[], Executor] | None = None,
        *,
        workers: int | None = None,
        max_attempts: int = 1,
        retry_on: Errors = (Exception,),
        backoff_s: float = 1.0,
        max_backoff_s: float = 60.0,
        timeout_s: float | None = None,
        rate: str | None = None,
        halt: str = "first",
        max_cost_cents: int | None = None,
        max_rows: int | None = None,
        retry_failed: bool = False,
        handle_signals: bool = True,
        tell: Tell | None = None,
        on_progress: Callable[[Job], object] = lambda _job: None,
    ) -> RunReport:
        """Call ``handler(row)`` for each open row, ``workers`` at a time, and record what it says.

        What it returns is the row's result (a :class:`RowResult` for the named fields); what it
        raises fails the row with the class's name and the message; :class:`Fail`, :class:`Retry`,
        :class:`Skip` and :class:`NeedsReview` say it exactly. The start of an attempt is on the
        disk before the handler is called. ``row.idempotency_key`` is what to give to the far side.

        Handlers run in threads; coroutine functions in an event loop; or in ``executor``, any
        ``concurrent.futures.Executor``, a dask client, or a function that makes one and is called
        again if it breaks. ``workers`` defaults to 1, and to the executor's own number. An executor
        must not repeat calls by itself: dask does, and its workers are kept from it here, whatever
        its ``allowed-failures``; a row whose worker dies is settled as ``on_interrupted`` says.

        - ``retry_failed``: at the start, put rows back that failed, but for those that may have taken
          effect (:attr:`JobRow.unknown`). They come after those that were never started.
        - ``max_attempts``: how often a row is tried if it fails with one of ``retry_on``, earlier
          runs counted in, up to where it was put back. Between them ``backoff_s`` seconds, doubled each time up to
          ``max_backoff_s``, with jitter.
        - ``timeout_s``: an attempt that takes longer has failed with TimeoutError. A coroutine is
          cancelled, and so is a handler with a method ``cancel(row_id, *, force) -> bool``; another
          thread or process can't be, so its row needs a review, unless ``retry_on`` names
          TimeoutError itself.
        - ``rate``: starts at most, ``"50/s"``, ``"100/m"``.
        - ``halt``: "first": drain and pause if the first ten rows that were never started before have
          all failed in their first attempt, with one error code, and more of them are left.
          ``"soon,fail=20%,min=50"``: that, and once so many rows of this run have failed; ``now``: end
          what is in flight. "never": neither.
        - ``max_cost_cents``: start nothing more once the job has cost as much; ``max_rows``: once so
          many rows were started. The job is paused then.

        The first SIGINT, SIGTERM or SIGHUP drains and pauses, the second ends what is in flight, if
        this is the main thread and ``handle_signals``. Without, an exception out of a handler of
        yours, KeyboardInterrupt say, does the same, and is raised once the run has ended; one that
        comes meanwhile is the second. Other processes steer it: `journal pause`,
        `resume`, `cancel`, `retry`, `skip`. ``tell`` is given what a person should know (default:
        to standard error), among that how to go on after an early end; ``on_progress`` the job,
        some five times a second.

        A job that has ended with rows pending is reopened. With nothing to do it is reported as it is,
        and that is said; so is one that was cancelled. Raises JobBusyError, InvalidValueError, and
        the error of a commit that failed.
        """
        limits = Limits(
            max_attempts=max_attempts,
            backoff_s=backoff_s,
            max_backoff_s=max_backoff_s,
            timeout_s=timeout_s,
            rate=rate,
            halt=halt,
            max_cost_cents=max_cost_cents,
            max_rows=max_rows,
        )
        check_errors(retry_on)
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
        ):
            raise InvalidValueError("workers", workers, "must be an int from 1")
        say = tell or tell_stderr
        if self.matched.done:
            say(left_alone(self.id, self.matched.done, self._how_to))
        if not may_start(self.job, retry_failed=retry_failed):
            return self._report_idle(say, retry_failed=retry_failed)
        outcomes = Outcomes()
        run = Run(
            self.service,
            self.id,
            make_workers(handler, executor, workers, retry_on, outcomes),
            outcomes,
            limits,
            on_interrupted=self._on_interrupted,
            retry_on=retry_on,
            tell=say,
            on_tick=on_progress,
            resume_command=self._resume_command,
            version=self._version,
            how_to=self._how_to,
        )
        with ExitStack() as unless_it_works:
            unless_it_works.callback(run.close)
            job = take_up(self.service, self.id, retry_failed=retry_failed)
            if job.status in TERMINAL_STATUSES:
                return self._report_idle(say, retry_failed=retry_failed)
            unless_it_works.pop_all()
        report = run.work(handle_signals=handle_signals)
        in_shell = bool(self._how_to.command)
        if report.job.status in TERMINAL_STATUSES:
            left = "" if in_shell else what_is_left(self.service, report.job, self._how_to)
            if left:
                say(left)
        elif in_shell or not run.is_braked:  # who is braked was told what to change
            again = self._how_to.again if run.is_braked else ""
            say(f"to go on: {again or self._resume_command or 'run this program again'}")
        return report

    def _report_idle(self, say: Tell, *, retry_failed: bool) -> RunReport:
        job = self.job
        say(nothing_to_do(self.service, job, self._how_to, retry_failed=retry_failed))
        return RunReport(job=job)

    def attempts(
        self,
        *,
        max_attempts: int = 1,
        retry_on: Errors = (Exception,),
        backoff_s: float = 1.0,
        max_backoff_s: float = 60.0,
        tell: Tell | None = None,
    ) -> Iterator[Attempt]:
        """The open rows one by one, for a loop of your own: see :class:`Attempt`.

        The job is started at the first one, and ended when there is none left; paused if the loop
        is left before. One that has ended with rows pending is reopened. An attempt that has failed comes again, as in :meth:`run`. ``tell`` is given
        what a person should know: that another host ran the job last, or that nothing is to do.
        """
        limits = Limits(max_attempts=max_attempts, backoff_s=backoff_s, max_backoff_s=max_backoff_s)
        check_errors(retry_on)
        return iterate_attempts(
            self.service,
            self.id,
            limits,
            retry_on,
            self._on_interrupted,
            self._resume_command,
            self._version,
            tell or tell_stderr,
            self._how_to,
        )


def check_errors(retry_on: object) -> None:
    """Raise InvalidValueError for what ``except`` wouldn't take."""
    if not isinstance(retry_on, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in retry_on
    ):
        raise InvalidValueError("retry_on", retry_on, "must be a tuple of exception classes")


def tell_stderr(text: str) -> None:
    """A line to standard error; nobody need be listening."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201
    except (OSError, ValueError, AttributeError):
        return
