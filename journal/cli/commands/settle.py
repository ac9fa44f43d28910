"""`journal retry`, `redo`, `skip` and `resolve`.

With these commands, a person settles rows. The rows of a job or shard are changed in one commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from typing import Any, NamedTuple

import click

from journal.cli.advice import echo_steps, what_runs_pending
from journal.cli.find import FoundJob, FoundSet, found_job_or_set
from journal.cli.job_status import counts_text
from journal.cli.outcome_file import from_option
from journal.cli.resolution import Resolution, how_of
from journal.cli.selection import Selection, selection_options
from journal.cli.sets import ranges_of_shards, report_changed
from journal.cli.shared_options import (
    confirm,
    option,
    parse_cents,
    reason_option,
    yes_option,
)
from journal.errors import JournalError, RefusedError
from journal.format.records import LOST_CHECKSUM
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.run.exit_codes import EXIT_REFUSED
from journal.text import Numbers, counted
from journal.verbs import VERBS, FromStep, Verb


class _Done(NamedTuple):
    """What a command has done with the rows of a job.

    - ``changed``: how many rows.
    - ``pending``: the number of pending rows, which need a run. ``how``: the end of the message
      about these rows.
    """

    changed: int
    pending: int = 0
    how: str = "again"

    def report(self, job: FoundJob) -> None:
        """Print the count, and which run will process the pending rows."""
        click.echo(self.changed)
        if self.pending:
            then = what_runs_pending(job.read(), job.service.run_holder(job.id), job.service.root)
            job.say(f"{counted(self.pending, f'row|rows is|are pending {self.how}')}: {then}")


def _of_shards(command: Callable[..., _Done]) -> Callable[..., None]:
    """Let a command that changes rows of a job also change rows in all shards of a set.

    First, all chosen rows are checked. Each shard is changed in a commit of its own.
    """
    name = command.__name__.removesuffix("_command")

    @wraps(command)
    def on_each(job: FoundJob, selection: Selection, **given: Any) -> None:
        if not isinstance(job, FoundSet):
            command(job=job, selection=selection, **given).report(job)
            return
        verb = VERBS["resolve --step" if given.get("step") else name]
        if not (name == "retry" and selection.is_empty):
            _check_chosen(selection)
        chosen: list[tuple[FoundJob, Selection, _Met]] = []
        ranges = dict(ranges_of_shards(job, selection.ranges))
        for shard in job.shards if selection.ranges is None else ranges:
            part = selection._replace(ranges=ranges.get(shard))
            met = _Met(part.rows(job.service, shard.id, verb))  # this checks all rows
            if met.statuses:
                job.service.store.check_uncut(shard.id)
                chosen.append((shard, part, met))
                if name in ("retry", "redo"):
                    _check_not_cancelled(shard.read())
        if not chosen:
            for text in ["no row has failed"] if selection.is_empty else selection.why_none(job.id):
                job.say(text)
        if name == "redo" and not given["yes"]:
            statuses = sum((met.statuses for *_, met in chosen), Counter[str]())
            _confirm(job, statuses, new_key=given["new_key"])
        done: list[int] = []
        try:
            for shard, part, met in chosen:
                more = {"shown": met} if name == "redo" else {}
                done.append(command(job=shard, selection=part, **given, **more).changed)
        except JournalError:  # the earlier shards stay changed
            if done:
                report_changed(job, done)
            raise
        report_changed(job, done)

    return on_each


_from_step_option = option(
    "--from-step NAME", "Do this step and all later steps of the rows again."
)


@click.command("retry", short_help="Retry failed rows: make them pending again.")
@found_job_or_set
@selection_options
@_from_step_option
@_of_shards
def retry_command(job: FoundJob, selection: Selection, from_step: str | None) -> _Done:
    """Retry failed rows: make them pending again, and reopen the job if it has ended.

    Without options, all failed rows are retried, except rows that may have taken effect. --row and
    --status may also name skipped rows. With --row alone, each named row must be failed or skipped.
    Otherwise, no row is retried. With further options, rows that can't be retried are left out.

    With --from-step, the rows do the named step and all later steps again, and keep the earlier
    steps. For example, use --from-step if a provider's batch has expired and must be submitted
    again.

    Some failed rows may have taken effect, for example after --on-interrupted fail. These rows are
    retried only if --row or --error-code selects them. Before you retry such rows, find out what
    happened.

    The active run processes the rows. Without an active run, the next run processes them.

    Prints how many rows became pending.

    Example: journal retry ship-orders
    """
    service = job.service
    is_named = selection.ranges is not None or bool(selection.error_codes)
    lost, unknown = Numbers(), Numbers()

    def is_left(row: JobRow) -> bool:
        if row.row_checksum == LOST_CHECKSUM and selection.ranges is None:
            lost.add(row.row_number)
        elif row.unknown and not is_named:
            unknown.add(row.row_number)
        else:
            return False
        return True

    def retry(row: JobRow) -> object:
        return None if is_left(row) else change(row.id)

    change = FromStep(service, service.retry_row, from_step)
    _check_not_cancelled(job.read())
    if selection.is_empty and from_step is None:
        count = service.retry_failed_rows(job.id)
        if not sum(map(is_left, service.get_failed_rows(job.id))) and not count:
            job.say("no row has failed")
    else:
        with _batch(job, reopens=True):
            count = _change(job, selection, VERBS["retry"], retry, reopens=False).count
            change.check(count)
    if unknown.count:
        failed = "row|rows failed, and it is unknown whether it|they took effect"
        rows = counted(unknown.count, failed)
        job.say(f"{rows}: look first, then name them by --row or --error-code")
    if lost.count:
        rows = counted(lost.count, "row|rows can't be retried: its|their data is lost by damage")
        job.say(f"{rows}; `journal skip {job.id} --row {lost.text()}`")
    return _Done(count, count)


@click.command("redo", short_help="Do rows again, even completed rows.")
@found_job_or_set
@selection_options
@option("--new-key", "Give the rows new idempotency keys.")
@_from_step_option
@reason_option("Why the rows are done again. The reason is kept in the rows' history.")
@yes_option
@_of_shards
def redo_command(
    job: FoundJob,
    selection: Selection,
    new_key: bool,
    from_step: str | None,
    reason: str | None,
    yes: bool,
    shown: _Met | None = None,
) -> _Done:
    """Do rows again: make completed, failed or skipped rows pending.

    --row and --status may also name rows in review that are completed in one of two merged copies.

    The side effects of the rows may happen again. Either all chosen rows are changed, or none. If
    the job has ended, it is reopened. The log keeps the earlier outcomes, and their costs still
    count.

    The rows keep their idempotency keys. A service that recognizes repeated calls by these keys
    returns its old answer and does nothing. Use --new-key if the service must do the work again.

    The rows forget their steps. With --from-step NAME, the rows keep the steps that began before
    step NAME.

    The command asks for confirmation. Without a terminal, give --yes.

    Prints how many rows became pending.

    Example: journal redo ship-orders --version prompt-2 --reason "wrong labels"
    """
    _check_chosen(selection)
    service, verb = job.service, VERBS["redo"]
    _check_not_cancelled(job.read())
    redone = _Met()

    def redo(row: JobRow) -> object:
        redone.add(row)
        return change(row.id)

    change = FromStep(service, partial(service.redo_row, reason=reason, new_key=new_key), from_step)

    if not yes and shown is None:
        shown = _Met(selection.rows(service, job.id, verb))
        _confirm(job, shown.statuses, new_key=new_key)
    with _batch(job, reopens=True):
        count = _change(job, selection, verb, redo, reopens=False).count
        change.check(count)
        if shown is not None and redone.digest != shown.digest:
            raise RefusedError(
                f"rows of {job.id} were changed by another process; this command changed none of them"
            )
    return _Done(count, count)


class _Met:
    """The statuses of rows, and a digest of the rows' numbers and of the times of their changes.

    A list of the rows might need gigabytes.
    """

    def __init__(self, rows: Iterable[JobRow] = ()) -> None:
        self.statuses: Counter[str] = Counter()
        self.digest = 0
        for row in rows:
            self.add(row)

    def add(self, row: JobRow) -> None:
        self.statuses[row.status.value] += 1
        self.digest = hash((self.digest, row.row_number, row.updated_at))


def _confirm(job: FoundJob, statuses: Counter[str], *, new_key: bool) -> None:
    """Ask before rows are done again. If a person declines, the command ends."""
    if not statuses:
        return
    rows = counted(statuses.total(), "row|rows") + " would be done again"
    keys = (
        "under new idempotency keys: a service can't see that it did the same work before"
        if new_key
        else "under the same idempotency keys: a service that honours them answers as before"
    )
    job.say(f"{rows} ({counts_text(statuses)}), with all side effects, {keys}")
    job.say("the cost of their earlier outcomes stays in the cost of the job")
    if not confirm("Do them again?", "nothing was changed"):
        click.get_current_context().exit(EXIT_REFUSED)


def _check_chosen(selection: Selection) -> None:
    if selection.is_empty:
        how = "choose rows by --row, --status, --error-code, --where or --version"
        raise click.UsageError(how)


def _check_not_cancelled(job: Job) -> None:
    if job.status is JobStatus.CANCELLED:
        raise RefusedError(
            f"job {job.id} was cancelled: `journal resume {job.id}` first; nothing was changed"
        )


@click.command("skip", short_help="Skip rows, so that they are not run.")
@found_job_or_set
@selection_options
@reason_option("Why the rows are skipped. The reason is kept with the rows.")
@_of_shards
def skip_command(job: FoundJob, selection: Selection, reason: str | None) -> _Done:
    """Skip pending or failed rows, so that they are not run. Skipped rows count as done.

    --row and --status may also name rows that need a review. With --row alone, no row is skipped if
    one of the named rows is completed, skipped or in flight. With further options, rows that can't
    be skipped are left out.

    Prints how many rows were skipped.

    Example: journal skip ship-orders --row 5,12-40 --reason "the customer has cancelled"
    """
    _check_chosen(selection)
    before = job.read()

    def skip(row: JobRow) -> JobRow:
        return job.service.skip_row(row.id, reason)

    count = _change(job, selection, VERBS["skip"], skip, reopens=False).count
    _report_completed(job, before)
    return _Done(count)


@contextmanager
def _batch(job: FoundJob, *, reopens: bool) -> Iterator[None]:
    """One commit of a job. ``reopens``: whether the block may reopen a job that has ended.

    Reopening needs the run lock, which can't be taken within the block on a network file system.
    """
    is_reopened = reopens and job.read().status.is_ended
    held = job.service.store.hold_run(job.id) if is_reopened else nullcontext()
    with held, job.service.batch(job.id):
        yield


def _change(
    job: FoundJob,
    selection: Selection,
    verb: Verb,
    change: Callable[[JobRow], object],
    *,
    reopens: bool,
) -> Numbers:
    """Call ``change`` for the chosen rows in one commit.

    ``reopens``: whether ``change`` may reopen a job that has ended.

    Returns the numbers of the rows for which ``change`` didn't return None. Reports why no row was
    chosen, or which chosen rows could not be compared.
    """
    changed, is_any = Numbers(), False
    with _batch(job, reopens=reopens):
        for row in selection.rows(job.service, job.id, verb):
            is_any = True
            if change(row) is not None:
                changed.add(row.row_number)
    for text in selection.where.unmet() if is_any else selection.why_none(job.id):
        job.say(text)
    return changed


def _report_completed(job: FoundJob, before: Job) -> None:
    """Report if the job has become completed because its last open row was settled."""
    if before.status is not JobStatus.COMPLETED and job.read().status is JobStatus.COMPLETED:
        job.say("completed, since nothing is left to be done")


@click.command("resolve", short_help="Settle rows that need a review.")
@found_job_or_set
@selection_options
@option("--completed", "The rows took effect: complete them.")
@option(
    "--tracking-number TEXT", "With --completed: the tracking number that each of the rows gets."
)
@option(
    "--cost-cents CENTS",
    "With --completed: the cost of each of the rows, added to the cost of the row's attempts.",
    parse_cents,
)
@option("--label-path PATH", "With --completed: the label path that each of the rows gets.")
@option("--result JSON", "With --completed or --step: the result. A value that isn't JSON is text.")
@option("--failed CODE", "The rows took no effect: fail them. CODE is their error code.")
@option("--error-message TEXT", "With --failed: the message of the rows.")
@option(
    "--retry",
    "The rows took no effect, except by steps recorded as done: make the rows pending again.",
)
@option("--skip", "The rows need no work any more: skip them.")
@reason_option("Why you settle the rows like this. The reason is kept in the job's log.")
@option(
    "--step NAME",
    "Settle only this step of the rows. The step must be in doubt. Give --result or --not-done.",
)
@option("--not-done", "With --step: the step took no effect.")
@from_option
@_of_shards
def resolve_command(
    job: FoundJob,
    selection: Selection,
    reason: str | None,
    values: dict[int, dict[str, Any]],
    **given: Any,
) -> _Done:
    """Settle rows that need a review, after you have checked whether they took effect.

    Give exactly one of --completed, --failed, --retry, --skip and --step. With --row alone, nothing
    is changed if one of the named rows needs no review. If the job has ended, --retry reopens it.
    Before the next run starts, you can also settle the rows that a dead run left in flight: name
    these rows by --row or --status. Commands of a killed `journal run` may still be running: first
    look for them, for example with `ps`.

    With --step, only the named step is settled. If a row has no other step in doubt, it becomes
    pending again. Its next attempt doesn't repeat steps that are done. The row stays in review if
    the review has another cause. For example, the handler asked for a review, or the run died
    without --on-interrupted resume.

    With --from, FILE names rows as --row does: `journal resolve ship-orders --completed --from
    portal.csv`. FILE has any format of `journal help inputs`. The column of the job's --key names
    the row. In a job without --key, the column row_number names the row. With --completed, the
    columns tracking_number, cost_cents, label_path and result have the values of the row. With
    --failed, the column error_message has the message of the row. For an empty cell, the option
    named like the column applies. Other columns are not used, and a message names them. Nothing is
    changed if such a column may have a misspelt name, or if a row of FILE isn't in the job, needs
    no review, occurs twice, or has an invalid value or no value. --status needs_review,processing
    leaves out rows that need no review.

    The rows of a job or shard are settled in one commit: after a crash, all of them are settled, or
    none. The job's log records who has settled each row, on which host, and the --reason.

    Prints how many rows were settled.

    Example: journal resolve ship-orders --row 7 --completed --tracking-number 1Z999
    """
    how = how_of(given, in_file=bool(values))
    _check_chosen(selection)
    before = job.read()
    if how in ("retry", "step"):
        _check_not_cancelled(before)
    resolution = Resolution(job, how, reason, given, values)
    is_step = how == "step"
    verb = VERBS["resolve --step" if is_step else "resolve"]
    with _settleable(job, selection, verb) as (chosen, verb):
        settle = resolution.settle_step if is_step else resolution.settle_row
        changed = _change(job, chosen, verb, settle, reopens=how in ("retry", "step"))
    count = len(resolution.settled) or changed.count
    done = _Done(count, *resolution.report(before, count))
    echo_steps(job, changed, is_completed=how == "completed")
    _report_completed(job, before)
    return done


@contextmanager
def _settleable(
    job: FoundJob, selection: Selection, verb: Verb
) -> Iterator[tuple[Selection, Verb]]:
    """The rows that the block may settle, and their statuses.

    If a chosen row was in flight when its run died, no run starts during the block. If no row was
    in flight, the block must refuse rows in flight: a run has started these rows meanwhile.

    Raises JobBusyError if a chosen row is in flight and a run has the run lock.
    """
    flight = RowStatus.PROCESSING
    if any(row.status is flight for row in selection.rows(job.service, job.id, verb)):
        with job.service.store.hold_run(job.id):
            yield selection, verb
    else:
        settled = [status for status in selection.statuses if status is not flight]
        selection = selection._replace(statuses=tuple(settled) or selection.statuses)
        named = tuple(status for status in verb.named if status is not flight)
        yield selection, verb._replace(named=named)
