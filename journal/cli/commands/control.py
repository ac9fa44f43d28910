"""`journal pause`, `resume`, `cancel` and `reopen`.

They write to the journal, as any process may; a run that works on the job reads it there and obeys.
"""

from __future__ import annotations

import os

import click

from journal.cli.advice import next_start, taken_up
from journal.cli.exit_codes import Refused
from journal.cli.find import find_job, holder_text, job_argument, spoken
from journal.cli.output import tell
from journal.fs.system import host_name
from journal.model import TERMINAL_STATUSES, Job, JobStatus, done_rows
from journal.service import JobService, existing_job
from journal.text import counted


@click.command("pause", short_help="Let the run of a job start nothing more.")
@job_argument
@click.pass_context
def pause_command(ctx: click.Context, job: str) -> None:
    """Let the run of a job start nothing more; what it has in flight goes on to its end.

    Example: journal pause ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        if existing_job(service, job_id).status is JobStatus.PAUSED:
            tell(f"{job_id}: is paused already")
            return
        holder = service.run_holder(job_id)
        found = service.update_status(job_id, JobStatus.PAUSED)
    if holder is not None:
        tell(
            f"{job_id}: paused; {holder_text(holder)} starts no more rows and ends those in flight"
        )
        return
    tell(f"{job_id}: paused; no run works on it")
    if found.processing_count:
        tell(
            f"{job_id}: {counted(found.processing_count, 'row|rows was|were in flight')} when its run "
            "died: the next one settles that by --on-interrupted"
        )


@click.command("resume")
@job_argument
@click.pass_context
def resume_command(ctx: click.Context, job: str) -> None:
    """Let a run go on that waits because its job was paused.

    If none waits, what made the job must be run again: nothing is changed, and the exit code is 4.

    Example: journal resume ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        found = existing_job(service, job_id)
        holder = service.run_holder(job_id)
        if found.status in TERMINAL_STATUSES:
            service.update_status(job_id, JobStatus.RUNNING)  # which says why it can't
        if holder is None:
            raise _nobody_waits(service, found)
        if found.status is JobStatus.RUNNING:
            tell(f"{job_id}: is running already")
            return
        if found.status is not JobStatus.PAUSED:
            raise Refused(f"job {job_id} is {found.status}, not paused; nothing was changed")
        service.update_status(job_id, JobStatus.RUNNING)
        now_held = service.run_holder(job_id)
        if now_held is not None and (now_held.pid, now_held.host) == (os.getpid(), host_name()):
            # The run has left since we looked: the job's run lock was free, and is ours now.
            service.update_status(job_id, JobStatus.PAUSED)
            raise _nobody_waits(service, found)
    tell(f"{job_id}: running; {holder_text(holder)} goes on with it")


def _nobody_waits(service: JobService, job: Job) -> Refused:
    start = next_start(job, service.root)
    if job.status is JobStatus.PENDING:
        return Refused(start.text)
    return Refused(f"no run waits for job {job.id}, which stays as it is; to go on, {start.text}")


@click.command("cancel", short_help="End a job before all of its rows are done.")
@job_argument
@click.pass_context
def cancel_command(ctx: click.Context, job: str) -> None:
    """End a job before all of its rows are done, or before it was ever run.

    A run that works on it starts nothing more; what it has in flight goes on to its end, and is
    recorded. Nothing goes on with it, by mistake too, until `journal reopen` says so.

    Example: journal cancel ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        if existing_job(service, job_id).status is JobStatus.CANCELLED:
            tell(f"{job_id}: is cancelled already")
            return
        holder = service.run_holder(job_id)
        found = service.update_status(job_id, JobStatus.CANCELLED)
    undone = {
        "pending": found.pending_count,
        "in flight" if holder else "in flight when the run died": found.processing_count,
        "failed": found.failed_rows,
        "to be reviewed": found.needs_review_count,
    }
    text = ", ".join(f"{count} {word}" for word, count in undone.items() if count)
    tell(
        f"{job_id}: cancelled; {done_rows(found)} of "
        f"{counted(found.total_rows, 'row|rows is|are done')}{', and ' + text if text else ''}"
    )
    if holder is not None:
        tell(f"{job_id}: {holder_text(holder)} starts no more rows and ends those in flight")
    if text:
        tell(f"to go on with what is undone: {spoken(ctx, service)('reopen', job_id)}")


@click.command("reopen", short_help="Put a job that has ended back, to be gone on with.")
@job_argument
@click.option("--reason", help="Why.")
@click.pass_context
def reopen_command(ctx: click.Context, job: str, reason: str | None) -> None:
    """Put a job that has ended back to pending: its next pass begins. Its rows stay as they are.

    Only a cancelled job needs it: `journal retry`, `journal redo` and a run with new or pending
    rows reopen others by themselves.

    Example: journal reopen ship-orders --reason "the warehouse is back"
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        found = service.reopen_job(job_id, reason)
        tell(f"{job_id}: reopened: pass {found.passes}")
        if found.pending_count or found.processing_count:
            rows = counted(found.pending_count + found.processing_count, "row|rows is|are not done")
            tell(f"{job_id}: {rows}: {taken_up(found, None, service.root)}")
        else:
            tell(f"{job_id}: no row is pending: `journal retry` and `journal redo` put rows back")
