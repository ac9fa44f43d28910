"""`journal retry`, `redo`, `skip` and `resolve`.

With each of these commands, a person settles rows in one commit.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click

from journal.cli.advice import what_may_run, what_runs_pending
from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED
from journal.cli.find import command_line, counts_text, find_job, job_argument
from journal.cli.output import echo_err
from journal.cli.selection import Selection, selection_options
from journal.cli.shared_options import (
    Cents,
    confirm,
    json_or_text,
    reason_option,
    yes_option,
)
from journal.errors import RefusedError
from journal.format.records import LOST_CHECKSUM, MAYBE_DONE_TWICE
from journal.fs import system
from journal.history.error_groups import Numbers
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.run.plan import step_commands
from journal.service import JobService, existing_job
from journal.store.interrupted_rows import INTERRUPTED, STEP_IN_DOUBT, STEP_NOT_RECORDED, settle_row
from journal.text import as_text, counted, shorten
from journal.verbs import VERBS, Verb


@click.command("retry", short_help="Retry failed rows: make them pending again.")
@job_argument
@selection_options
@click.pass_context
def retry_command(ctx: click.Context, job: str, selection: Selection) -> None:
    """Retry failed rows: make them pending again, and reopen the job if it has ended.

    Without options, all failed rows are retried, except rows that may have taken effect. --row and
    --status may also name skipped rows. With --row alone, each named row must be failed or skipped.
    If one of them isn't, no row is retried. With further options, rows that can't be retried are
    left out.

    Some failed rows may have taken effect, for example after --on-interrupted fail. These rows are
    retried only if --row or --error-code selects them. Before you retry one of these rows, find out
    what happened.

    If a run of the job is active, this run processes the rows. Otherwise the next run does. If
    standard output isn't a terminal, the command prints how many rows became pending.

    Example: journal retry ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
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

    with service:
        _check_not_cancelled(existing_job(service, job_id))
        if selection.is_empty:
            count = service.retry_failed_rows(job_id)
            if not sum(map(is_left, service.get_failed_rows(job_id))) and not count:
                echo_err(f"{job_id}: no row has failed")
        else:
            count = _change(
                service,
                job_id,
                selection,
                VERBS["retry"],
                lambda row: None if is_left(row) else service.retry_row(row.id),
            ).count
        _echo_count(count)
        if unknown.count:
            failed = "row|rows failed, and it is unknown whether it|they took effect"
            rows = counted(unknown.count, failed)
            echo_err(f"{job_id}: {rows}: look first, then name them by --row or --error-code")
        if lost.count:
            rows = counted(
                lost.count, "row|rows can't be retried: its|their data is lost by damage"
            )
            echo_err(f"{job_id}: {rows}; `journal skip {job_id} --row {lost.text()}`")
        _report_pending(service, job_id, count)


@click.command("redo", short_help="Do rows again, also completed ones.")
@job_argument
@selection_options
@click.option("--new-key", is_flag=True, help="Give the rows new idempotency keys.")
@reason_option("Why the rows are done again. The reason is kept in the rows' history.")
@yes_option()
@click.pass_context
def redo_command(
    ctx: click.Context,
    job: str,
    selection: Selection,
    new_key: bool,
    reason: str | None,
    yes: bool,
) -> int:
    """Do rows again: make completed, failed or skipped rows pending.

    --row and --status may also name rows in review that are completed in one of two merged copies.

    The side effects of the rows may happen again. Either all chosen rows are changed, or none. If
    the job has ended, it is reopened. The log keeps the earlier outcomes, and their costs still
    count.

    The rows keep their idempotency keys. A service that recognizes repeated calls by these keys
    returns its old answer and does nothing. Use --new-key if the service must do the work again.

    The command asks for confirmation. Without a terminal, give --yes. If standard output isn't a
    terminal, the command prints how many rows became pending.

    Example: journal redo ship-orders --version prompt-2 --reason "wrong labels"
    """
    if selection.is_empty:
        raise click.UsageError(_CHOOSE)
    service, job_id = find_job(ctx.obj, job)
    with service:
        _check_not_cancelled(existing_job(service, job_id))
        chosen: list[tuple[str, datetime]] = []
        statuses: Counter[str] = Counter()
        for row in selection.rows(service, job_id, VERBS["redo"]):
            chosen.append((row.id, row.updated_at))
            statuses[row.status.value] += 1
        _report_unmet(job_id, selection, len(chosen))
        if chosen and not yes and not _is_confirmed(job_id, statuses, new_key=new_key):
            return EXIT_REFUSED
        with service.batch(job_id):
            for row_id, moment in chosen:
                found = service.get_row(row_id)
                if found is None or found.updated_at != moment or not selection.matches(found):
                    raise RefusedError(
                        f"rows of {job_id} were changed by another process; this command changed nothing"
                    )
                service.redo_row(row_id, reason, new_key=new_key)
        _echo_count(len(chosen))
        _report_pending(service, job_id, len(chosen))
    return EXIT_OK


def _is_confirmed(job_id: str, statuses: Counter[str], *, new_key: bool) -> bool:
    rows = counted(statuses.total(), "row|rows") + " would be done again"
    keys = (
        "under new idempotency keys: a service can't see that it did the same work before"
        if new_key
        else "under the same idempotency keys: a service that honours them answers as before"
    )
    echo_err(f"{job_id}: {rows} ({counts_text(statuses)}), with all side effects, {keys}")
    echo_err(f"{job_id}: the cost of their earlier outcomes stays in the cost of the job")
    return confirm("Do them again?", "nothing was changed")


def _check_not_cancelled(job: Job) -> None:
    if job.status is JobStatus.CANCELLED:
        raise RefusedError(
            f"job {job.id} was cancelled: `journal resume {job.id}` first; nothing was changed"
        )


def _echo_count(count: int) -> None:
    """Print the number of changed rows for scripts. People see the number in the next message."""
    if not sys.stdout.isatty():
        click.echo(count)


def _report_pending(service: JobService, job_id: str, count: int, how: str = "again") -> None:
    """Report which run will process the ``count`` pending rows. ``how``: how they are pending."""
    if count:
        job = existing_job(service, job_id)
        then = what_runs_pending(job, service.run_holder(job_id), service.root)
        echo_err(f"{job_id}: {counted(count, f'row|rows is|are pending {how}')}: {then}")


@click.command("skip", short_help="Skip rows, so that they are not run.")
@job_argument
@selection_options
@reason_option("Why the rows are skipped. The reason is kept with the rows.")
@click.pass_context
def skip_command(ctx: click.Context, job: str, selection: Selection, reason: str | None) -> None:
    """Skip pending or failed rows, so that they are not run. They count as done.

    --row and --status may also name rows that need a review. With --row alone, no row is skipped if
    one of the named rows is completed, skipped or in flight. With further options, rows that can't
    be skipped are left out.

    Prints how many rows were skipped.

    Example: journal skip ship-orders --row 5,12-40 --reason "the customer has cancelled"
    """
    if selection.is_empty:
        raise click.UsageError(_CHOOSE)
    service, job_id = find_job(ctx.obj, job)
    with service:
        before = existing_job(service, job_id)
        changed = _change(
            *(service, job_id, selection, VERBS["skip"]),
            lambda row: service.skip_row(row.id, reason),
        )
        click.echo(changed.count)
        _report_completed(service, before)


_CHOOSE = "choose rows by --row, --status, --error-code, --where or --version"


def _change(
    service: JobService,
    job_id: str,
    selection: Selection,
    verb: Verb,
    change: Callable[[JobRow], object],
) -> Numbers:
    """Call ``change`` for the chosen rows in one commit.

    Returns the numbers of the rows for which it didn't return None.
    """
    changed, seen = Numbers(), 0
    with service.batch(job_id):
        for row in selection.rows(service, job_id, verb):
            seen += 1
            if change(row) is not None:
                changed.add(row.row_number)
    _report_unmet(job_id, selection, seen)
    return changed


def _report_unmet(job_id: str, selection: Selection, count: int) -> None:
    """Report why no row was chosen, or which chosen rows could not be compared."""
    for text in selection.where.without_number() if count else selection.why_none(job_id):
        echo_err(f"{job_id}: {text}")


def _report_completed(service: JobService, before: Job) -> None:
    """If a failed job has become completed because its last open row was settled, report that."""
    if before.status is JobStatus.FAILED:
        job = existing_job(service, before.id)
        if job.status is JobStatus.COMPLETED:
            echo_err(f"{job.id}: completed, since nothing is left to be done")


# Ways to settle a row: a method of the service, and the options that become its arguments.
_WAYS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "completed": (
        JobService.complete_row,
        ("tracking_number", "cost_cents", "label_path", "result"),
    ),
    "failed": (JobService.fail_row, ("error_message",)),
    "retry": (JobService.retry_row, ()),
    "skip": (JobService.skip_row, ()),
    "step": (JobService.record_step, ("result", "not_done")),
}


@click.command("resolve", short_help="Settle rows that need a review.")
@job_argument
@selection_options
@click.option("--completed", is_flag=True, help="The rows took effect: complete them.")
@click.option(
    "--tracking-number",
    metavar="TEXT",
    help="With --completed: the tracking number that each of the rows gets.",
)
@click.option(
    "--cost-cents",
    metavar="CENTS",
    type=Cents(),
    help="With --completed: the cost of each of the rows, added to what its attempts have cost.",
)
@click.option(
    "--label-path",
    metavar="PATH",
    help="With --completed: the label path that each of the rows gets.",
)
@click.option(
    "--result",
    metavar="JSON",
    help="With --completed or --step: the result. What isn't JSON is text.",
)
@click.option(
    "--failed",
    metavar="CODE",
    help="The rows took no effect: fail them. CODE is their error code.",
)
@click.option("--error-message", metavar="TEXT", help="With --failed: the message of the rows.")
@click.option(
    "--retry",
    is_flag=True,
    help="The rows took no effect, except by steps that are recorded as done: make them pending again.",
)
@click.option("--skip", is_flag=True, help="The rows need no work any more: skip them.")
@reason_option("Why you settle the rows like this. The reason is kept in the job's log.")
@click.option(
    "--step",
    metavar="NAME",
    help="Settle only this step of the rows. The step must be in doubt. Give --result or --not-done.",
)
@click.option("--not-done", is_flag=True, help="With --step: the step took no effect.")
@click.pass_context
def resolve_command(
    ctx: click.Context, /, job: str, selection: Selection, reason: str | None, **given: Any
) -> None:
    """Settle rows that need a review, after you have checked whether they took effect.

    Give exactly one of --completed, --failed, --retry, --skip and --step. If --row is the only
    option that chooses rows, and one of the rows needs no review, nothing is changed. If the job has
    ended, --retry reopens it. Rows that were in flight when their run died can be settled before the
    next run starts, if --row or --status names them. Commands of a `journal run` that was killed may
    still be running: look first, for example with `ps`.

    With --step, only the named step is settled. If the row has no other step in doubt, it becomes
    pending again. Its next attempt doesn't repeat steps that are done. The row stays in review if
    the review has another cause: for example, the handler asked for a review, or the run died and
    did not have --on-interrupted resume.

    The job's log records who has settled each row, on which host, and the --reason.

    Prints how many rows were settled.

    Example: journal resolve ship-orders --row 7 --completed --tracking-number 1Z999
    """
    how = _how(given)
    if selection.is_empty:
        raise click.UsageError(_CHOOSE)
    service, job_id = find_job(ctx.obj, job)
    command = command_line(ctx, service)
    with service:
        before = existing_job(service, job_id)
        if how in ("retry", "step"):
            _check_not_cancelled(before)
        if how == "step":
            changed = _resolve_step(command, service, job_id, selection, reason, given)
        else:
            changed = _resolve(service, before, selection, how, reason, given)
        _report_doubts(command, service, job_id, changed)
        if how == "completed":
            _report_steps(service, job_id, changed)
        _report_completed(service, before)


def _resolve(
    service: JobService,
    job: Job,
    selection: Selection,
    how: str,
    reason: str | None,
    given: dict[str, Any],
) -> Numbers:
    """Settle the rows in one commit. Returns their numbers."""
    settle, names = _WAYS[how]
    details = {name: given[name] for name in names}
    if how == "failed":
        details["error_code"] = given["failed"]
    if how == "skip":
        details["reason"] = reason
    if details.get("result") is not None:
        details["result"] = json_or_text(details["result"])
    cut = Numbers()  # the rows whose run died

    def settle_one(row: JobRow) -> object:
        if row.status is RowStatus.PROCESSING or row.error_code == INTERRUPTED:
            cut.add(row.row_number)
        if row.status is RowStatus.PROCESSING:  # else its attempt would seem to last until now
            settle_row(service.store, row, "review")
        _log_settled(service, row, f"resolve --{how}", reason)
        # The outcome that stands beside the review stays, if no other is given.
        kept = row if how == "completed" and row.error_code == MAYBE_DONE_TWICE else None
        outcome = {n: getattr(kept, n, None) if v is None else v for n, v in details.items()}
        return settle(service, row.id, **outcome)

    with _settleable(service, job.id, selection, VERBS["resolve"]) as verb:
        changed = _change(service, job.id, selection, verb, settle_one)
    if cut.count and how != "completed" and (warning := what_may_run(job)):
        echo_err(f"{job.id}: {warning}")
    if how == "retry":
        _echo_count(changed.count)
        _report_pending(service, job.id, changed.count)
    else:
        click.echo(changed.count)
        left = existing_job(service, job.id)
        _report_pending(service, job.id, left.pending_count, "as before")
    return changed


def _log_settled(service: JobService, row: JobRow, what: str, reason: str | None) -> None:
    """Record in the log who settles the row, and why."""
    details = {"by": f"{system.user_name()}@{system.host_name()}"}
    if reason is not None:
        details["reason"] = reason
    message = f"settled by hand: {what}"
    service.log(row.job_id, message, row_number=row.row_number, details=details)


@contextmanager
def _settleable(
    service: JobService, job_id: str, selection: Selection, verb: Verb
) -> Iterator[Verb]:
    """The statuses of the rows that the block may settle.

    If a chosen row was in flight when its run died, no run starts during the block. If no row was
    in flight, the block must refuse rows in flight, since a run has started them meanwhile.

    Raises JobBusyError if a chosen row is in flight and a run holds the job.
    """
    flight = RowStatus.PROCESSING
    if any(row.status is flight for row in selection.rows(service, job_id, verb)):
        with service.store.hold_run(job_id):
            yield verb
    else:
        yield verb._replace(named=tuple(status for status in verb.named if status is not flight))


def _resolve_step(
    command: Callable[..., str],
    service: JobService,
    job_id: str,
    selection: Selection,
    reason: str | None,
    given: dict[str, Any],
) -> Numbers:
    """Settle one step of each of the rows, in one commit. Returns the numbers of the rows.

    Rows that have no other step in doubt become pending.
    """
    name = given["step"]
    result = None if given["not_done"] else json_or_text(given["result"])
    pending = Numbers()
    others: dict[str, Numbers] = {}  # from the error code of another open question to its rows

    def settle_one(row: JobRow) -> bool:
        _check_in_doubt(command, service, row, name)
        if row.status is RowStatus.PROCESSING:
            # It has a step in doubt, so this puts it in review, as the next start would.
            row = settle_row(service.store, row, "resume")
        if given["not_done"]:
            service.fail_step(row.id, name)
        else:
            service.record_step(row.id, name, result)
        _log_settled(service, row, f"step {name!r}", reason)
        if row.status is RowStatus.NEEDS_REVIEW and not service.get_step_in_doubt(row.id):
            if row.error_code in (STEP_IN_DOUBT, STEP_NOT_RECORDED):
                service.retry_row(row.id)
                pending.add(row.row_number)
            else:
                others.setdefault(row.error_code or "", Numbers()).add(row.row_number)
        return True

    with _settleable(service, job_id, selection, VERBS["resolve --step"]) as verb:
        changed = _change(service, job_id, selection, verb, settle_one)
    _echo_count(changed.count)
    state = "not done" if given["not_done"] else "done"
    rows = counted(changed.count, "row|rows")
    echo_err(f"{job_id}: step {name!r} of {rows} is recorded as {state}")
    _report_pending(service, job_id, pending.count)
    for code, numbers in others.items():
        rows = counted(numbers.count, "row|rows still needs|need a review")
        echo_err(f"{job_id}: {rows} ({code}): --row {numbers.text()}")
    return changed


def _check_in_doubt(
    command: Callable[..., str], service: JobService, row: JobRow, name: str
) -> None:
    steps = {step.name: step for step in service.get_steps(row.id)}
    doubts = ", ".join(repr(step.name) for step in steps.values() if step.state == "started")
    state: str = steps[name].state if name in steps else "not known"
    if state != "started":
        if state == "done":
            state += f", with the result {shorten(as_text(steps[name].result), 200)!r}"
        why = f"step {name!r} of row {row.id} is {state}; steps in doubt: {doubts or 'none'}"
        if not doubts and row.status is RowStatus.NEEDS_REVIEW:
            retry = command("resolve", row.job_id, "--row", str(row.row_number), "--retry")
            why += f": `{retry}` continues the row"
        raise RefusedError(f"{why}; nothing was changed")


def _report_doubts(
    command: Callable[..., str], service: JobService, job_id: str, settled: Numbers
) -> None:
    """Report which of the rows have a step in doubt.

    Another attempt would not settle these rows.
    """
    doubts: dict[str, Numbers] = {}
    for number in settled:
        step = service.get_step_in_doubt(f"{job_id}:{number}")
        if step is not None and step.state == "started":
            doubts.setdefault(step.name, Numbers()).add(number)
    for name, numbers in doubts.items():
        (done, _), (not_done, _) = step_commands(command, job_id, name, numbers)
        rows = counted(numbers.count, "row|rows")
        echo_err(f"{job_id}: step {name!r} of {rows} is in doubt: `{done}` or `{not_done}`")


def _report_steps(service: JobService, job_id: str, settled: Numbers) -> None:
    """Report which steps of completed rows are done: no attempt will do the others."""
    found: dict[str, Numbers] = {}
    for number in settled:
        steps = service.get_steps(f"{job_id}:{number}")
        if done := [step.name for step in steps if step.state == "done"]:
            found.setdefault(", ".join(done), Numbers()).add(number)
    for names, numbers in found.items():
        echo_err(f"{job_id}: only these steps of --row {numbers.text()} are done: {names}")


def _how(given: dict[str, Any]) -> str:
    """Return the name of the given option that settles rows, such as "completed".

    Raises UsageError if another given option can't be combined with it.
    """
    chosen = [how for how in _WAYS if given[how] not in (None, False)]
    if len(chosen) != 1:
        *others, last = (f"--{way}" for way in _WAYS)
        raise click.UsageError(f"give exactly one of {', '.join(others)} and {last}")
    (how,) = chosen
    users: dict[str, list[str]] = {}
    for way, (_, names) in _WAYS.items():
        for name in names:
            users.setdefault(name, []).append(way)
    for name, ways in users.items():
        if given[name] not in (None, False) and how not in ways:
            belongs = " and ".join(f"--{way}" for way in ways)
            raise click.UsageError(f"--{name.replace('_', '-')} belongs to {belongs}, not --{how}")
    if how == "failed" and given["error_message"] is None:
        raise click.UsageError("--failed needs --error-message")
    if how == "step" and (given["result"] is None) is not given["not_done"]:
        raise click.UsageError("--step needs either --result or --not-done")
    return how
