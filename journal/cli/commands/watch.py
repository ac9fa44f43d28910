"""`journal watch` and `wait`, which follow a job until it ends, on a terminal or in a script."""

from __future__ import annotations

from time import monotonic

import click

from journal.cli.advice import next_start
from journal.cli.exit_codes import EXIT_TIMED_OUT
from journal.cli.find import command_line, counts_text, find_job, job_argument
from journal.cli.follow import follow_job
from journal.cli.output import echo_err
from journal.cli.progress import Progress
from journal.cli.times import Seconds
from journal.model import Job, JobStatus, job_exit_code
from journal.service import JobService, existing_job


@click.command("watch", short_help="Show the progress of a job until it ends.")
@job_argument
@click.pass_context
def watch_command(ctx: click.Context, job: str) -> int:
    """Show the progress of a job until it ends: a bar on a terminal; elsewhere a line every 10
    seconds.

    If the job is paused or its run dies, the command waits for the next run.

    The exit code is 0 if all rows are completed or skipped, 3 if some rows failed or need a review,
    and 4 if the job ended before its rows were done, or was deleted or moved away.

    Example: journal watch hash-stdlib
    """
    service, job_id = find_job(ctx.obj, job)
    found = existing_job(service, job_id)
    with Progress(found, quiet=False) as progress:
        for seen in follow_job(service, job_id, report=progress.echo_err):
            found = seen.job
            progress.show(found, seen.state)
    return _outcome(ctx, service, found)


@click.command("wait", short_help="Wait until a job ends. The exit code says how the job ended.")
@job_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Give up after this time, with exit code 124. Default: no limit.",
)
@click.pass_context
def wait_command(ctx: click.Context, job: str, timeout_s: float | None) -> int:
    """Wait until a job ends. The exit code says how the job ended.

    If the job is paused or its run dies, the command waits for the next run.

    The exit code is 0 if all rows are completed or skipped, 3 if some rows failed or need a review,
    4 if the job ended before its rows were done, or was deleted or moved away, and 124 if the job
    didn't end within --timeout.

    Example: journal wait hash-stdlib --timeout 3600
    """
    service, job_id = find_job(ctx.obj, job)
    begin_s = monotonic()
    found = existing_job(service, job_id)
    for seen in follow_job(service, job_id):
        found = seen.job
        if not seen.ended and timeout_s is not None and monotonic() - begin_s >= timeout_s:
            echo_err(f"{job_id}: has not ended after {timeout_s:g} s; it is {seen.state}")
            return EXIT_TIMED_OUT
    return _outcome(ctx, service, found)


def _outcome(ctx: click.Context, service: JobService, job: Job) -> int:
    """Print how a job has ended. Returns the exit code of its run."""
    counts = {
        "completed": job.successful_rows,
        "skipped": job.skipped_count,
        "failed": job.failed_rows,
        "need review": job.needs_review_count,
        "not done": job.pending_count + job.processing_count,
    }
    echo_err(f"{job.id}: {job.status}: {counts_text(counts) or 'no rows'}")
    if counts["not done"]:
        how = next_start(job, service.root).text
        if job.status is JobStatus.CANCELLED:
            how = command_line(ctx, service)("reopen", job.id)
        echo_err(f"to do the remaining rows: {how}")
    return job_exit_code(job)
