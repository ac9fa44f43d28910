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
from journal.cli.output import clean
from journal.command import Template
from journal.command import run_command as run_process
from journal.errors import InvalidValueError, JobBusyError
from journal.inputs import CsvInput, LineInput
from journal.model import Job, JobStatus, JobSummary
from journal.run import Matched, Run, has_ended, match_rows
from journal.service import JobService
from journal.validate import is_job_id, slug

_PAUSING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("run")
@click.argument("rows", metavar="ROWS.csv|-")
@click.argument("command", metavar="-- COMMAND {column}...", nargs=-1, required=True)
@click.option("--job", "job_id", metavar="NAME", required=True, help="The job's id, new or not.")
@click.option(
    "-j",
    "--jobs",
    "workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many commands run at a time.",
)
@click.option("--lines", is_flag=True, help="Each line of ROWS is a row, as {line}: no CSV.")
@click.option("--encoding", default="utf-8", show_default=True, help="The encoding of ROWS.")
@click.option(
    "--on-interrupted",
    type=click.Choice(["review", "retry", "fail"]),
    default="review",
    show_default=True,
    help="What becomes of rows that were in flight when an earlier run died.",
)
@click.pass_context
def run_command(
    ctx: click.Context,
    rows: str,
    command: tuple[str, ...],
    job_id: str,
    workers: int,
    lines: bool,
    encoding: str,
    on_interrupted: Literal["review", "retry", "fail"],
) -> int:
    """Run COMMAND once for each row of a CSV file, and record what became of it.

    The first use makes the job, the next ones go on with it: completed rows are never run
    again. {column} stands for the row's value, {{ and }} for braces; no shell is involved.
    Exit status 0 completes the row with the command's output as its result; anything else
    fails it, with the status as code and the end of standard error as message.

    Ctrl-C pauses: nothing new is started, and the commands in flight are waited for. A second
    Ctrl-C terminates them, a third kills them.

    Example: journal run orders.csv --job ship-orders -j 4 -- ./ship --zip {zip} {order}
    """
    if not is_job_id(job_id):
        raise click.BadParameter(
            f"{clean(job_id)!r} can't be a job's id: use a-z 0-9 . _ -, such as {slug(job_id)!r}",
            param_hint="--job",
        )
    template = Template(command)
    _check_program(command[0])
    with _open_rows(rows) as stream, JobService(ctx.obj) as service:
        name = "standard input" if rows == "-" else rows
        reader = LineInput if lines else CsvInput
        source = reader(stream, name, encoding)
        template.check(source.columns)
        job = _prepare(service, job_id, command, source)
        if has_ended(job):
            click.echo(f"{job_id}: {job.status} already, nothing to do", err=True)
            return _finish(service, job, service.get_job_summary(job_id), 0.0)
        return _work(service, job, template, workers, on_interrupted)


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
    except OSError as error:
        raise InvalidValueError(
            "ROWS", rows, f"can't be read: {error.strerror}; name a CSV file, or - for stdin"
        ) from None


def _prepare(
    service: JobService, job_id: str, command: tuple[str, ...], rows: CsvInput | LineInput
) -> Job:
    """The job for these rows: made now, or found and compared with them."""
    job = service.get_job(job_id)
    made = job is None
    if job is None:
        job = service.create_job(job_id, shlex.join(command), mode="auto", job_id=job_id)
    else:
        holder = service.run_holder(job_id)
        if holder is not None:  # said before the input is read; start_job decides
            raise JobBusyError(job_id, holder.host, holder.pid, holder.started_at)
    try:
        matched = match_rows(service, job, rows)
    except BaseException:
        if made:  # bad input leaves nothing behind
            service.delete_job(job_id)
        raise
    if not made:
        _echo_differences(job, matched)
    return service.get_job(job_id) or job


def _echo_differences(job: Job, matched: Matched) -> None:
    if matched.added:
        click.echo(f"{job.id}: {matched.added} new rows added", err=True)
    if matched.gone:
        click.echo(
            f"{job.id}: {matched.gone} rows of the job are no longer in the input; they stay in "
            "the job, and run if they are pending",
            err=True,
        )


def _work(
    service: JobService,
    job: Job,
    template: Template,
    workers: int,
    on_interrupted: Literal["review", "retry", "fail"],
) -> int:
    children = _Children()
    run = Run(
        service,
        job.id,
        lambda row: run_process(template.fill(row.data), children.add, children.remove),
        workers,
    )
    before = service.get_job_summary(job.id)
    click.echo(
        f"{job.id}: {before['total_rows']} rows, {before['pending_count']} pending, "
        f"{workers} at a time",
        err=True,
    )
    if before["processing_count"]:
        click.echo(
            f"{job.id}: {before['processing_count']} rows were in flight when an earlier run "
            f"died; --on-interrupted {on_interrupted}",
            err=True,
        )
    begin_s = time.monotonic()
    with _Signals(run, children) as signals:
        summary = run.work(on_interrupted)
    for problem in run.problems:
        click.echo(f"journal: {clean(problem)}", err=True)
    job = service.get_job(job.id) or job
    code = _finish(service, job, summary, time.monotonic() - begin_s)
    if summary["status"] == JobStatus.PAUSED:
        click.echo(f"to go on: {_resume_command()}", err=True)
    if signals.received is not None and not has_ended(job):
        return 128 + signals.received
    return code


def _finish(service: JobService, job: Job, summary: JobSummary, seconds: float) -> int:
    """Say how the job stands, and how to go on with what is open; return the exit code."""
    took = f" in {seconds:.1f} s" if seconds else ""
    click.echo(
        f"{job.id}: {summary['status']}{took}: {summary['successful_rows']} completed, "
        f"{summary['failed_rows']} failed, {summary['skipped_count']} skipped, "
        f"{summary['needs_review_count']} need review, {summary['pending_count']} pending",
        err=True,
    )
    if summary["failed_rows"] or summary["needs_review_count"]:
        root = shlex.join(["--root", str(service.root)])
        for status in ("failed", "needs_review"):
            if summary["failed_rows" if status == "failed" else "needs_review_count"]:
                click.echo(f"see: journal {root} rows {job.id} --status {status}", err=True)
        if has_ended(job):
            click.echo(f"to go on: journal {root} retry {job.id}", err=True)
        return EXIT_ROWS_OPEN
    return EXIT_OK if summary["status"] == JobStatus.COMPLETED else EXIT_REFUSED


def _resume_command() -> str:
    """What was typed, to be typed again."""
    program = sys.argv[0]
    if os.path.basename(program) == "__main__.py":
        return shlex.join([sys.executable, "-m", "journal", *sys.argv[1:]])
    return shlex.join(["journal", *sys.argv[1:]])


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
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
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
            _say(f"\npausing: waiting for {len(self._children)} commands in flight")
        elif self._count == 2:
            _say("\nterminating the commands in flight; once more to kill them")
            self._children.send(signal.SIGTERM)
        else:
            self._children.send(signal.SIGKILL)


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode())  # click.echo may be what the signal has interrupted


@click.command("retry")
@click.argument("job")
@click.pass_context
def retry_command(ctx: click.Context, job: str) -> None:
    """Make a new job of an ended job's unfinished rows, and print its id.

    Pending and failed rows are pending in it, those that need review still do. Run it with the
    same input: rows that it doesn't hold are left alone.

    Example: journal retry ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    click.echo(service.retry_job(job_id).id)
