"""`journal pause`, `resume`, `cancel` and `tune`.

Each command writes one commit. A run that works on the job reads the commit and reacts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import click

from journal.cli.advice import what_runs_pending
from journal.cli.find import FoundJob, found_job
from journal.cli.job_status import counts_text, holder_text, pause_text, row_counts
from journal.cli.next_start import next_start
from journal.cli.output import echo_err
from journal.cli.shared_options import (
    MAX_COMMANDS,
    option,
    parse_cents,
    parse_limit_per,
    parse_rates,
    reason_option,
)
from journal.display.repr import tuned_text
from journal.errors import RefusedError
from journal.format.arguments import NONE
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
    `journal retry`, `journal redo`, and a run with new or pending rows make other jobs pending.

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

    The job's run finishes the rows in flight, and starts no more rows. A row that would be
    attempted again stays pending. To run a cancelled job again, use `journal resume` first.

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


def _or_none(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Accept "none", too. The errors of ``parse`` then say that "none" is accepted."""

    def parsed(value: Any) -> Any:
        if value in (NONE, (NONE,)):
            return NONE
        try:
            return parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or none") from None

    return parsed


_TUNE_WAIT_S = 10.0  # a run looks for changes five times a second, but may wait before it commits


@click.command("tune", short_help="Change the limits of a run while it works.")
@found_job
@option(
    "-j --jobs N workers", "Run up to N commands at a time.", type=click.IntRange(1, MAX_COMMANDS)
)
@option(
    "--rate RATE",
    "The maximum number of starts: 50/s, 100/m, 9/h or none. Or the maximum amount of a usage: "
    "input_tokens=200000/m or input_tokens=none. Other rates stay as they are. Repeatable.",
    _or_none(partial(parse_rates, or_none=True)),
    multiple=True,
)
@option(
    "--limit-per COLUMN=N",
    "Run at most N commands at a time for each value of COLUMN. none: no limit.",
    _or_none(parse_limit_per),
    multiple=True,
)
@option(
    "--max-cost-cents CENTS",
    "Pause when all runs of the job together have cost this much. none: no limit.",
    _or_none(parse_cents),
)
@option("--end-hold", "If the run waits because a service is down or throttles, try a row now.")
def tune_command(job: FoundJob, **asked: Any) -> None:
    """Change the limits of the run that works on a job, and print what the run has changed.

    The run may have been started by `journal run` or by a program, on any terminal. The run's rows
    in flight end as usual. Limits whose options are left out stay as they are. The new limits don't
    apply to the next run, which has its own limits.

    The exit code is 4 if no run works on the job, if the run changes nothing, or if the run doesn't
    answer within 10 seconds.

    Example: journal tune ship-orders -j 16 --rate 5/s
    """
    if not any(asked.values()) and asked["max_cost_cents"] is None:
        names = "-j, --rate, --limit-per, --max-cost-cents or --end-hold"
        raise click.UsageError(f"say what to change: {names}")
    try:
        tuned = job.service.tune_job(job.id, **asked, wait_s=_TUNE_WAIT_S)
    except KeyboardInterrupt:
        echo_err(f"{job.id}: the run may still take the change")
        raise
    if tuned is None:
        raise RefusedError(
            f"the run of job {job.id} hasn't answered within {_TUNE_WAIT_S:.0f} s, and may still take the "
            f"change: {job.command('log', job.id)}"
        )
    job.say(tuned_text(tuned) or "the run has these limits already: nothing was changed")
