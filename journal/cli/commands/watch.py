"""`journal watch` and `wait`: until a job ends, in this terminal or in a script."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import click

from journal.cli.advice import next_start
from journal.cli.find import find_job, job_argument, spoken
from journal.cli.follow import follow_job
from journal.cli.output import tell
from journal.cli.progress import Progress
from journal.cli.times import Seconds
from journal.model import Job, JobStatus, job_exit_code
from journal.service import JobService, existing_job

EXIT_TIMED_OUT = 124  # as of timeout(1)


@click.command("watch", short_help="Show how a job gets on, live, until it ends.")
@job_argument
@click.pass_context
def watch_command(ctx: click.Context, job: str) -> int:
    """Show how a job gets on, until it ends: live on a terminal, else a line every ten seconds.

    It waits across pauses, and for a job whose run died to be run again. The exit code is the
    job's: 0 all rows completed or skipped, 3 some failed or need review, 4 ended before that, or
    was deleted or moved away.

    Example: journal watch hash-stdlib
    """
    service, job_id = find_job(ctx.obj, job)
    found = existing_job(service, job_id)
    with Progress(found, quiet=False) as progress:
        for seen in follow_job(service, job_id, tell=progress.tell):
            found = seen.job
            progress.show(found, seen.state)
    return _outcome(found, service, spoken(ctx, service))


@click.command("wait", short_help="Wait until a job ends; the exit code says how.")
@job_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="Wait no longer; then the exit code is 124.",
)
@click.pass_context
def wait_command(ctx: click.Context, job: str, timeout_s: float | None) -> int:
    """Wait until a job ends, across pauses; a job whose run died is waited for until it is run again.

    The exit code is the job's: 0 all rows completed or skipped, 3 some failed or need review, 4
    ended before that, or was deleted or moved away; 124 if it hasn't ended after --timeout seconds.

    Example: journal wait hash-stdlib --timeout 3600
    """
    service, job_id = find_job(ctx.obj, job)
    begin_s = monotonic()
    found = existing_job(service, job_id)
    for seen in follow_job(service, job_id):
        found = seen.job
        if not seen.ended and timeout_s is not None and monotonic() - begin_s >= timeout_s:
            tell(f"{job_id}: has not ended after {timeout_s:g} s; it is {seen.state}")
            return EXIT_TIMED_OUT
    return _outcome(found, service, spoken(ctx, service))


def _outcome(job: Job, service: JobService, command: Callable[..., str]) -> int:
    """Say how a job has ended; its exit code is that of a run that has ended it so."""
    counts = {
        "completed": job.successful_rows,
        "skipped": job.skipped_count,
        "failed": job.failed_rows,
        "need review": job.needs_review_count,
        "not done": job.pending_count + job.processing_count,
    }
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no rows"
    tell(f"{job.id}: {job.status}: {text}")
    if counts["not done"]:
        start = next_start(job, service.root)
        how = command("reopen", job.id) if job.status is JobStatus.CANCELLED else start.text
        tell(f"to go on with what is not done: {how}")
    return job_exit_code(job)
