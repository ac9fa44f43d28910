"""`journal pause`, `resume`, `cancel` and `reopen`.

Each command writes one commit. A run that works on the job reads the commit and reacts.
"""

from __future__ import annotations

import os

import click

from journal.cli.advice import next_start, what_runs_pending
from journal.cli.exit_codes import Refused
from journal.cli.find import (
    command_line,
    counts_text,
    find_job,
    holder_text,
    job_argument,
)
from journal.cli.output import echo_err
from journal.cli.shared_options import reason_option
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


@click.command("resume")
@job_argument
@click.pass_context
def resume_command(ctx: click.Context, job: str) -> None:
    """Resume a paused job: its waiting run continues.

    If no run waits, nothing is changed and the exit code is 4. In this case, start the job again
    with the command or script that made the job.

    Example: journal resume ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        found = existing_job(service, job_id)
        holder = service.run_holder(job_id)
        _refuse_ended(service, job_id, "resume")
        if holder is None:
            raise _no_run_waits(service, found)
        if found.status is JobStatus.RUNNING:
            echo_err(f"{job_id}: is running already")
            return
        if found.status is not JobStatus.PAUSED:
            raise Refused(f"job {job_id} is {found.status}, not paused; nothing was changed")
        service.update_status(job_id, JobStatus.RUNNING)
        now_held = service.run_holder(job_id)
        if now_held is not None and (now_held.pid, now_held.host) == (os.getpid(), host_name()):
            # The run has ended since the check, so this process has taken the run lock.
            service.update_status(job_id, JobStatus.PAUSED)
            raise _no_run_waits(service, found)
    echo_err(f"{job_id}: running; {holder_text(holder)} continues it")


def _refuse_ended(service: JobService, job_id: str, verb: str) -> None:
    status = existing_job(service, job_id).status
    if status.is_ended:
        raise Refused(
            f"job {job_id} has ended, and is {status}: there is nothing to {verb}; `journal show "
            f"{job_id}` says what can be done"
        )


def _no_run_waits(service: JobService, job: Job) -> Refused:
    start = next_start(job, service.root)
    if job.status is JobStatus.PENDING:
        return Refused(start.text)
    return Refused(
        f"the run of job {job.id} has ended, nothing was changed; to continue, {start.text}"
    )


@click.command("cancel", short_help="Cancel a job: end it before all its rows are done.")
@job_argument
@click.pass_context
def cancel_command(ctx: click.Context, job: str) -> None:
    """Cancel a job: end it before all of its rows are done.

    The job's run finishes the rows in flight, and starts no more rows. To run a cancelled job
    again, use `journal reopen` first.

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
        echo_err(f"to do the remaining rows: {command_line(ctx, service)('reopen', job_id)}")


@click.command("reopen", short_help="Reopen a job that has ended, to continue it.")
@job_argument
@reason_option("Why the job is reopened. The reason is kept in the job's log.")
@click.pass_context
def reopen_command(ctx: click.Context, job: str, reason: str | None) -> None:
    """Reopen a job that has ended: the job becomes pending, and its next pass begins.

    Rows keep their statuses. Only a cancelled job needs this command: other jobs are reopened by
    `journal retry`, by `journal redo`, and by a run with new or pending rows.

    Example: journal reopen ship-orders --reason "the warehouse is back"
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        found = service.reopen_job(job_id, reason)
        echo_err(f"{job_id}: reopened: pass {found.passes}")
        if found.open_rows:
            rows = counted(found.open_rows, "row|rows is|are not done")
            echo_err(f"{job_id}: {rows}: {what_runs_pending(found, None, service.root)}")
        else:
            echo_err(
                f"{job_id}: no row is pending: `journal retry` and `journal redo` make rows pending"
            )
