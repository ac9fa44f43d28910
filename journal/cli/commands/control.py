"""`journal pause`, `resume` and `cancel`.

Each command writes one commit. A run that works on the job reads the commit and reacts.
"""

from __future__ import annotations

import os

import click

from journal.cli.advice import next_start, what_runs_pending
from journal.cli.find import (
    command_line,
    counts_text,
    find_job,
    holder_text,
    job_argument,
)
from journal.cli.output import echo_err
from journal.cli.shared_options import reason_option
from journal.errors import RefusedError
from journal.fs.system import host_name
from journal.model import Job, JobStatus
from journal.service import JobService, existing_job
from journal.text import counted


@click.command("pause", short_help="Pause a job: its run starts no more rows.")
@job_argument
@click.pass_context
def pause_command(ctx: click.Context, job: str) -> None:
    """Pause a job: its run finishes the rows in flight, and starts no more rows.

    Example: journal pause ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        if existing_job(service, job_id).status is JobStatus.PAUSED:
            echo_err(f"{job_id}: is paused already")
            return
        _refuse_ended(service, job_id, "pause")
        holder = service.run_holder(job_id)
        found = service.update_status(job_id, JobStatus.PAUSED)
    if holder is not None:
        echo_err(
            f"{job_id}: paused; {holder_text(holder)} starts no more rows and finishes the rows in flight"
        )
        return
    echo_err(f"{job_id}: paused; no run works on it")
    if found.processing_count:
        rows = counted(found.processing_count, "row|rows was|were in flight")
        echo_err(
            f"{job_id}: {rows} when its run died; the next run settles them by --on-interrupted"
        )


@click.command("resume", short_help="Resume a paused job, or one that has ended.")
@job_argument
@reason_option("Why a job that has ended is resumed. The reason is kept in the job's log.")
@click.pass_context
def resume_command(ctx: click.Context, job: str, reason: str | None) -> None:
    """Resume a paused job: its waiting run continues. A job that has ended becomes pending again.

    If a paused job has no waiting run, nothing is changed and the exit code is 4. In this case,
    start the job again with the command or script that made the job.

    If the job was cancelled or has failed, its next pass begins. Rows keep their statuses, and no
    run is started. A completed job is refused, since nothing is left to do. Only a cancelled job
    needs this command to continue: other jobs become pending by `journal retry`, by `journal redo`,
    and by a run with new or pending rows.

    Example: journal resume ship-orders --reason "the warehouse is back"
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        found = existing_job(service, job_id)
        holder = service.run_holder(job_id)
        if found.status is JobStatus.COMPLETED:
            raise RefusedError(
                f"job {job_id} is completed: nothing is left to resume; `journal redo` makes "
                "completed rows pending again, and new rows are added by the next start"
            )
        if found.status.is_ended:
            _reopen(service, job_id, reason)
            return
        if holder is None:
            raise _no_run_waits(service, found)
        if found.status is JobStatus.RUNNING:
            echo_err(f"{job_id}: is running already")
            return
        if found.status is not JobStatus.PAUSED:
            raise RefusedError(f"job {job_id} is {found.status}, not paused; nothing was changed")
        service.update_status(job_id, JobStatus.RUNNING)
        now_held = service.run_holder(job_id)
        if now_held is not None and (now_held.pid, now_held.host) == (os.getpid(), host_name()):
            # The run has ended since the check, so this process has taken the run lock.
            service.update_status(job_id, JobStatus.PAUSED)
            raise _no_run_waits(service, found)
    echo_err(f"{job_id}: running; {holder_text(holder)} continues it")


def _reopen(service: JobService, job_id: str, reason: str | None) -> None:
    found = service.reopen_job(job_id, reason)
    rows = counted(found.open_rows, "row|rows is|are not done")
    then = f"{rows}: {what_runs_pending(found, None, service.root)}"
    if not found.open_rows:
        then = "no row is pending: `journal retry` and `journal redo` make rows pending"
    echo_err(f"{job_id}: pending again: pass {found.passes}; {then}")


def _refuse_ended(service: JobService, job_id: str, verb: str) -> None:
    status = existing_job(service, job_id).status
    if status.is_ended:
        raise RefusedError(
            f"job {job_id} has ended, and is {status}: there is nothing to {verb}; `journal show "
            f"{job_id}` says what can be done"
        )


def _no_run_waits(service: JobService, job: Job) -> RefusedError:
    start = next_start(job, service.root)
    if job.status is JobStatus.PENDING:
        return RefusedError(start.text)
    return RefusedError(
        f"the run of job {job.id} has ended, nothing was changed; to continue, {start.text}"
    )


@click.command("cancel", short_help="Cancel a job: end it before all its rows are done.")
@job_argument
@click.pass_context
def cancel_command(ctx: click.Context, job: str) -> None:
    """Cancel a job: end it before all of its rows are done.

    The job's run finishes the rows in flight, and starts no more rows. To run a cancelled job
    again, use `journal resume` first.

    Example: journal cancel ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        if existing_job(service, job_id).status is JobStatus.CANCELLED:
            echo_err(f"{job_id}: is cancelled already")
            return
        _refuse_ended(service, job_id, "cancel")
        holder = service.run_holder(job_id)
        found = service.update_status(job_id, JobStatus.CANCELLED)
    undone = counts_text(
        {
            "pending": found.pending_count,
            "in flight" if holder else "in flight when the run died": found.processing_count,
            "failed": found.failed_rows,
            "to be reviewed": found.needs_review_count,
        }
    )
    total = counted(found.total_rows, "row|rows is|are done")
    echo_err(
        f"{job_id}: cancelled; {found.done_rows} of {total}{', and ' + undone if undone else ''}"
    )
    if holder is not None:
        echo_err(
            f"{job_id}: {holder_text(holder)} starts no more rows and finishes the rows in flight"
        )
    if undone:
        echo_err(f"to do the remaining rows: {command_line(ctx, service)('resume', job_id)}")
