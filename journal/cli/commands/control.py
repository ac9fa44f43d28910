"""`journal pause`, `resume` and `cancel`.

Each command writes one commit. A run that works on the job reads the commit and reacts.
"""

from __future__ import annotations

import click

from journal.cli.advice import what_runs_pending
from journal.cli.find import FoundJob, found_job
from journal.cli.job_status import counts_text, holder_text, pause_text, row_counts
from journal.cli.next_start import next_start
from journal.cli.output import echo_err
from journal.cli.shared_options import reason_option
from journal.errors import RefusedError
from journal.model import JobStatus
from journal.text import counted


@click.command("pause", short_help="Pause a job until `journal resume`.")
@found_job
def pause_command(job: FoundJob) -> None:
    """Pause a job until `journal resume`. The job's run starts no more rows, and no new run starts.

    The job may have any status, so a daily job can be paused between its runs. A run that works on
    the job finishes the rows in flight, and then waits. The next start is refused with exit code 4.
    A pause by Ctrl-C or a limit is different: the next start continues the job.

    Example: journal pause ship-orders
    """
    found = job.read()
    if found.pause is not None:
        job.say(f"is paused already, {pause_text(found.pause)}")
        return
    holder = job.service.run_holder(job.id)
    found = job.service.pause_job(job.id)
    if holder is not None and not found.status.is_ended:
        job.say(
            f"paused; {holder_text(holder)} starts no more rows and finishes the rows in flight"
        )
        return
    job.say(f"paused; no run starts until: {job.command('resume', job.id)}")


@click.command("resume", short_help="Resume a job that is paused or has ended.")
@found_job
@reason_option("Why a job that has ended is resumed. The reason is kept in the job's log.")
def resume_command(job: FoundJob, reason: str | None) -> None:
    """End the pause of a job. A run that waits continues. No run is started.

    If no run waits, start the job again with the command or script that made the job. A job that
    was cancelled, or has failed with rows pending, becomes pending. The job's next pass begins, and
    its rows keep their statuses. If there is nothing to resume, nothing is changed, and the exit
    code is 4.

    Only a job that was cancelled, or paused by `journal pause`, needs this command to continue.
    Other jobs become pending by `journal retry`, by `journal redo`, and by a run with new or
    pending rows.

    Example: journal resume ship-orders --reason "the warehouse is back"
    """
    before, holder = job.read(), job.service.run_holder(job.id)
    found = job.service.resume_job(job.id, reason)
    if before.pause is not None:
        job.say(f"the pause ({pause_text(before.pause)}) has ended")
    if holder is not None and found.status is JobStatus.RUNNING:
        is_new = before.status is not JobStatus.RUNNING
        continues = f"running; {holder_text(holder)} continues it"
        job.say(continues if is_new else "is running already")
    elif found.passes > before.passes:
        rows = counted(found.open_rows, "row|rows is|are not done")
        then = f"{rows}: {what_runs_pending(found, None, job.service.root)}"
        if not found.open_rows:
            then = "no row is pending: `journal retry` and `journal redo` make rows pending"
        job.say(f"pending again: pass {found.passes}; {then}")
    elif before.pause is None:
        then = f"to continue, {next_start(found, job.service.root).text}"
        if found.status.is_ended:
            then = f"`{job.command('show', job.id)}` says what can be done"
        why = f"job {job.id} is {found.status}, and no run of it waits: nothing was changed"
        raise RefusedError(f"{why}; {then}")
    elif not found.status.is_ended:
        job.say(f"to continue, {next_start(found, job.service.root).text}")


@click.command("cancel", short_help="Cancel a job: end it before all its rows are done.")
@found_job
def cancel_command(job: FoundJob) -> None:
    """Cancel a job: end it before all of its rows are done.

    The job's run finishes the rows in flight, and starts no more rows. A row that would be tried
    again stays pending. To run a cancelled job again, use `journal resume` first.

    Example: journal cancel ship-orders
    """
    status = job.read().status
    if status is JobStatus.CANCELLED:
        job.say("is cancelled already")
        return
    if status.is_ended:
        raise RefusedError(
            f"job {job.id} has ended, and is {status}: there is nothing to cancel; `journal "
            f"show {job.id}` says what can be done"
        )
    holder = job.service.run_holder(job.id)
    found = job.service.update_status(job.id, JobStatus.CANCELLED)
    job.say(
        f"cancelled; of {counted(found.total_rows, 'row|rows')}: {counts_text(row_counts(found))}"
    )
    if holder is not None:
        job.say(f"{holder_text(holder)} starts no more rows and finishes the rows in flight")
    if found.done_rows < found.total_rows:
        echo_err(f"to do the remaining rows: {job.command('resume', job.id)}")
