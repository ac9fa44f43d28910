"""`journal run` and `journal retry`."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import IO, Any, Literal, Self

import click

from journal.cli.exits import EXIT_OK, EXIT_REFUSED, EXIT_ROWS_OPEN
from journal.cli.jobs import find_job
from journal.cli.output import tell
from journal.command import Template
from journal.command import run_command as run_process
from journal.errors import InvalidValueError, JobBusyError, JobExistsError, JournalError
from journal.inputs import CsvInput, LineInput
from journal.model import Job, JobRow, JobSummary
from journal.run import Matched, Run, has_ended, match_rows, numbered_rows
from journal.service import JobService
from journal.validate import is_job_id, slug

Policy = Literal["review", "retry", "fail"]

_PAUSING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PROGRESS_S = 10.0

_on_interrupted = click.option(
    "--on-interrupted",
    type=click.Choice(["review", "retry", "fail"]),
    default="review",
    show_default=True,
    help="What becomes of rows that were in flight when a run died.",
)


@click.command("run")
@click.argument("rows", metavar="ROWS.csv|-")
@click.argument("command", metavar="-- COMMAND {column}...", nargs=-1, required=True)
@click.option("--job", "job_id", metavar="NAME", required=True, help="The job's id, new or not.")
@click.option(
    "-j",
    "--jobs",
    "workers",
    type=click.IntRange(min=1, max=1000),
    default=1,
    show_default=True,
    help="How many commands run at a time.",
)
@click.option("--lines", is_flag=True, help="Each line of ROWS is a row, as {line}: no CSV.")
@click.option("--encoding", default="utf-8", show_default=True, help="The encoding of ROWS.")
@_on_interrupted
@click.pass_context
def run_command(
    ctx: click.Context,
    rows: str,
    command: tuple[str, ...],
    job_id: str,
    workers: int,
    lines: bool,
    encoding: str,
    on_interrupted: Policy,
) -> int:
    """Run COMMAND once for each row of a CSV file, and record what became of it.

    The first use makes the job, the next ones go on with it: completed rows are never run
    again. {column} stands for the row's value, {{ and }} for braces; no shell is involved. The
    row's id, an idempotency key, is in JOURNAL_ROW_ID. Exit status 0 completes the row with the
    command's output as its result; anything else fails it, with the status as code and the end
    of standard error as message. Empty lines are no rows.

    Ctrl-C pauses: nothing new is started, and the commands in flight are waited for. A second
    Ctrl-C terminates them, a third kills them; their rows have failed then.

    Example: journal run orders.csv --job ship-orders -j 4 -- ./ship --zip {zip} {order}
    """
    if not is_job_id(job_id):
        raise InvalidValueError(
            "--job", job_id, f"can't be a job's id: use a-z 0-9 . _ -, such as {slug(job_id)!r}"
        )
    template = Template(command)
    _check_program(command[0])
    with _open_rows(rows) as stream, JobService(ctx.obj) as service:
        name = "standard input" if rows == "-" else rows
        reader = LineInput if lines else CsvInput
        source = reader(stream, name, encoding)
        template.check(source.columns)
        job = _prepare(service, job_id, shlex.join(command), source)
        if has_ended(job):
            tell(f"{job_id}: {job.status} already, nothing to do")
            return _finish(service, job, service.get_job_summary(job_id), 0.0)
        return _Session(service, job, template, workers).work(on_interrupted, _resume(ctx, service))


def _check_program(program: str) -> None:
    """Refuse a program that isn't there before any row fails because of it."""
    if "{" not in program and shutil.which(program) is None:
        raise InvalidValueError(
            "COMMAND", program, "there is no such program: check its name, or give its path"
        )


def _open_rows(rows: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if rows == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(rows, "rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidValueError(
            "ROWS", rows, f"can't be read: {reason}; name a CSV file, or - for stdin"
        ) from None


def _prepare(service: JobService, job_id: str, command: str, rows: CsvInput | LineInput) -> Job:
    """The job for these rows: made now together with them, or found and compared with them."""
    job = service.get_job(job_id)
    holder = service.run_holder(job_id)
    if holder is not None:  # said before the input is read; start_job decides
        raise JobBusyError(job_id, holder.host, holder.pid, holder.started_at)
    if job is None:
        new_rows = numbered_rows(enumerate(rows, 1))
        try:
            return service.create_job(
                job_id, command, mode="auto", job_id=job_id, row_data=new_rows
            )
        except JobExistsError:  # made since we looked; our input is read already
            raise JobBusyError(job_id, "", 0, "") from None
    _echo_differences(job, match_rows(service, job, rows), command)
    return service.get_job(job_id) or job


def _echo_differences(job: Job, matched: Matched, command: str) -> None:
    if command != job.original_command:
        tell(f"{job.id}: the command was {job.original_command!r} when the job was made")
    if matched.added:
        tell(f"{job.id}: {matched.added} new rows added")
    if matched.lost:
        tell(
            f"{job.id}: {matched.lost} rows of the input are not in the job, which was repaired: "
            "they may be done, and are left alone; run those that aren't as a job of their own"
        )
    if matched.gone:
        tell(
            f"{job.id}: {matched.gone} rows of the job are no longer in the input; they stay in "
            "the job, and run if they are pending"
        )


class _Session:
    """One run at a terminal: what is said, and what signals do."""

    def __init__(self, service: JobService, job: Job, template: Template, workers: int) -> None:
        self._service = service
        self._job = job
        self._template = template
        self._children = _Children()
        self._run = Run(service, job.id, self._handle, workers)
        self._told_s = time.monotonic()

    def _handle(self, row: JobRow) -> Any:
        argv = self._template.fill(row.data)
        return run_process(argv, row.id, self._children.add, self._children.remove)

    def work(self, on_interrupted: Policy, resume: str) -> int:
        job, service = self._job, self._service
        tell(f"{job.id}: {job.total_rows} rows, {job.pending_count} pending")
        if job.processing_count:
            tell(
                f"{job.id}: {job.processing_count} rows were in flight when an earlier run died; "
                f"--on-interrupted {on_interrupted}"
            )
        begin_s = time.monotonic()
        with _Signals(self._run, self._children) as signals:
            try:
                summary = self._run.work(on_interrupted, self._tell_progress)
            except JournalError:
                tell(resume)
                raise
            finally:
                for problem in self._run.problems:
                    tell(f"journal: {problem}")
        job = service.get_job(job.id) or job
        code = _finish(service, job, summary, time.monotonic() - begin_s)
        if not has_ended(job):
            tell(resume)
            if signals.received is not None:
                return 128 + signals.received
        return code

    def _tell_progress(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _PROGRESS_S:
            self._told_s = now_s
            job = self._service.get_job(self._job.id) or self._job
            done = job.total_rows - job.pending_count - job.processing_count
            tell(f"{job.id}: {done} of {job.total_rows} rows done, {job.failed_rows} failed")


def _finish(service: JobService, job: Job, summary: JobSummary, seconds: float) -> int:
    """Say how the job stands, and how to go on with what is open; return the exit code."""
    took = f" in {seconds:.1f} s" if seconds else ""
    tell(
        f"{job.id}: {summary['status']}{took}: {summary['successful_rows']} completed, "
        f"{summary['failed_rows']} failed, {summary['skipped_count']} skipped, "
        f"{summary['needs_review_count']} need review, {summary['pending_count']} pending"
    )
    journal = shlex.join([*_program(), "--root", str(service.root)])
    if summary["failed_rows"]:
        tell(f"see: {journal} rows {job.id} --status failed")
    if summary["needs_review_count"]:
        tell(f"see: {journal} rows {job.id} --status needs_review")
    unfinished = summary["total_rows"] - summary["successful_rows"] - summary["skipped_count"]
    if has_ended(job) and unfinished:
        successor = service.get_retry(job.id)
        if successor is not None:
            tell(f"its unfinished rows went on in job {successor.id}")
        else:
            tell(f"to go on: {journal} retry {job.id}")
            if summary["needs_review_count"]:
                tell("  with --on-interrupted retry or fail, if that is right for those in review")
    if not has_ended(job):
        return EXIT_REFUSED  # paused by another process, unless a signal says otherwise
    if summary["failed_rows"] or summary["needs_review_count"]:
        return EXIT_ROWS_OPEN
    return EXIT_REFUSED if unfinished else EXIT_OK


def _program() -> list[str]:
    """How this program was called, for commands that can be pasted."""
    if os.path.basename(sys.argv[0]) == "__main__.py":
        return [sys.executable, "-m", "journal"]
    return [sys.argv[0] if os.sep in sys.argv[0] else "journal"]


def _resume(ctx: click.Context, service: JobService) -> str:
    """What was typed, to be typed again, with nothing left to the environment."""
    given = ctx.params
    words = [*_program(), "--root", str(service.root), "run", given["rows"]]
    words += ["--job", given["job_id"], "-j", str(given["workers"])]
    words += ["--lines"] * given["lines"]
    if given["encoding"] != "utf-8":
        words += ["--encoding", given["encoding"]]
    words += ["--on-interrupted", given["on_interrupted"], "--", *given["command"]]
    again = "with the same standard input, " if given["rows"] == "-" else ""
    return f"to go on: {again}{shlex.join(words)}"


class _Children:
    """The commands in flight, for a second Ctrl-C."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.RLock()  # a signal handler may come while this thread holds it

    def add(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._processes.add(process)

    def remove(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._processes.discard(process)

    def send(self, number: signal.Signals) -> None:
        """Signal each command and what it has started; each leads a process group."""
        with self._lock:
            for process in self._processes:
                if process.returncode is not None:
                    continue  # reaped: its number may be another's by now
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)

    def __len__(self) -> int:
        return len(self._processes)


class _Signals:
    """While it is entered, the first signal pauses the run, the next ones hurry it."""

    def __init__(self, run: Run, children: _Children) -> None:
        self.received: int | None = None
        self._run = run
        self._children = children
        self._count = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in _PAUSING_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup has its reasons
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        self._run.stop()
        if self._count == 1:
            self.received = number
            _say(f"pausing: waiting for {len(self._children)} commands in flight")
        elif self._count == 2:
            self._children.send(signal.SIGTERM)
            _say("terminating the commands in flight; once more to kill them")
        else:
            self._children.send(signal.SIGKILL)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nothing may come out of a signal handler
        os.write(2, f"\n{text}\n".encode())  # click.echo may be what the signal has interrupted


@click.command("retry")
@click.argument("job")
@_on_interrupted
@click.pass_context
def retry_command(ctx: click.Context, job: str, on_interrupted: Policy) -> None:
    """Make a new job of an ended job's unfinished rows, and print its id.

    Pending and failed rows are pending in it; --on-interrupted decides about those that need a
    review. Run it with the same input: rows that it doesn't hold are left alone. A job is
    retried once; what is unfinished then is retried from the new job.

    Example: journal retry ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    click.echo(service.retry_job(job_id, on_interrupted).id)
