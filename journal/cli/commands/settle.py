"""`journal retry`, `redo`, `skip` and `resolve`: a person's word on rows, each call one commit."""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import click
import msgspec

from journal.cli.advice import taken_up
from journal.cli.conditions import Selection, row_options
from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED, Refused
from journal.cli.find import find_job, job_argument
from journal.cli.output import tell
from journal.cli.row_ranges import parse_rows
from journal.format.records import LOST_CHECKSUM, MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.history.error_groups import Numbers
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.service import JobService, existing_job
from journal.text import counted


@click.command("retry", short_help="Put failed rows back, to be tried again.")
@job_argument
@row_options
@click.pass_context
def retry_command(ctx: click.Context, job: str, selection: Selection) -> None:
    """Put failed rows back to pending, and reopen the job if it has ended; print their number.

    All failed rows, or those that are meant; with --row skipped ones too, and of a lone --row all
    or none. A row that failed so that nobody knows whether it took effect is put back only if it is
    named by --row or --error-code: look before. A run in progress takes them up.

    Example: journal retry ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    is_named = selection.ranges is not None or selection.error_code is not None
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
                tell(f"{job_id}: no row has failed")
        else:
            named = (RowStatus.FAILED, RowStatus.SKIPPED)
            count = _change(
                service,
                job_id,
                selection,
                named,
                (RowStatus.FAILED,),
                lambda row: None if is_left(row) else service.retry_row(row.id),
            )
        click.echo(count)
        if unknown.count:
            failed = "row|rows failed, and nobody knows whether it|they took effect"
            rows = counted(unknown.count, failed)
            tell(f"{job_id}: {rows}: look, then name them by --row or --error-code")
        if lost.count:
            rows = counted(lost.count, "row|rows can't be retried: damage has taken its|their data")
            tell(f"{job_id}: {rows}; `journal skip {job_id} --row {lost.text()}`")
        _tell_pending(service, job_id, count)


@click.command("redo", short_help="Do rows again, completed ones too.")
@job_argument
@row_options
@click.option("--version", metavar="V", help="Rows whose outcome is of this version.")
@click.option("--new-key", is_flag=True, help="Under new idempotency keys.")
@click.option("--reason", help="Why they are done again.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.pass_context
def redo_command(
    ctx: click.Context,
    job: str,
    selection: Selection,
    new_key: bool,
    reason: str | None,
    yes: bool,
) -> int:
    """Put rows that are completed, failed or skipped back to pending: what they do is done again.

    All that are meant, or none; the job is reopened if it has ended. What they cost stays spent, and
    their earlier outcomes stay in the log. A far side that honours idempotency keys answers as it
    did before, unless --new-key gives them others. Asks before; where nobody can answer it refuses,
    unless --yes is given. Prints their number.

    Example: journal redo ship-orders --version prompt-2 --reason "wrong labels"
    """
    if selection.is_empty:
        raise click.UsageError("say which rows: by --row, --error-code, --where or --version")
    service, job_id = find_job(ctx.obj, job)
    ended = (RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.SKIPPED)
    with service:
        _check_not_cancelled(existing_job(service, job_id))
        numbers, moments = array("Q"), array("d")  # of the rows, and of what they were asked about
        statuses: Counter[str] = Counter()
        for row in selection.rows(service, job_id, ended, ended):
            numbers.append(row.row_number)
            moments.append(row.updated_at.timestamp())
            statuses[row.status.value] += 1
        if not numbers:
            _tell_none(job_id, selection)
        elif not yes and not _is_confirmed(job_id, statuses, new_key=new_key):
            return EXIT_REFUSED
        with service.batch(job_id):
            for number, moment in zip(numbers, moments, strict=True):
                found = service.get_row(f"{job_id}:{number}")
                is_same = found is not None and found.updated_at.timestamp() == moment
                if found is None or not is_same or not selection.where.holds(found):
                    raise Refused(f"rows of {job_id} have changed meanwhile; nothing was changed")
                service.redo_row(found.id, reason, new_key=new_key)
        click.echo(len(numbers))
        _tell_pending(service, job_id, len(numbers))
    return EXIT_OK


def _is_confirmed(job_id: str, statuses: Counter[str], *, new_key: bool) -> bool:
    """Whether somebody says that these rows are to be done again. Refused if nobody can."""
    rows = counted(statuses.total(), "row|rows is|are done again")
    some = ", ".join(f"{count} {status}" for status, count in statuses.items())
    keys = (
        "under new idempotency keys: no far side knows that it did the same before"
        if new_key
        else "under the idempotency keys that they had: a far side that honours keys answers as before"
    )
    tell(f"{job_id}: {rows} ({some}), with all that they do, {keys}; what they cost stays spent")
    if not sys.stdin.isatty():
        raise click.UsageError("nothing was changed: nobody is there to ask, so say --yes")
    if click.confirm("Do them again?", err=True):
        return True
    tell("nothing was changed")
    return False


def _check_not_cancelled(job: Job) -> None:
    if job.status is JobStatus.CANCELLED:
        raise Refused(
            f"job {job.id} was cancelled: `journal reopen {job.id}` first; nothing was changed"
        )


def _tell_pending(service: JobService, job_id: str, count: int) -> None:
    """What becomes of rows that are pending again."""
    if count:
        then = taken_up(existing_job(service, job_id), service.run_holder(job_id), service.root)
        tell(f"{job_id}: {counted(count, 'row|rows is|are pending again')}: {then}")


@click.command("skip", short_help="Skip rows that need nothing done.")
@job_argument
@row_options
@click.option("--reason", help="Why they need nothing done.")
@click.pass_context
def skip_command(ctx: click.Context, job: str, selection: Selection, reason: str | None) -> None:
    """Skip rows that are pending or failed, or named by number and need a review; print their number.

    All that a lone --row names, or none. With --error-code those that failed so.

    Example: journal skip ship-orders --row 5,12-40 --reason "the customer has cancelled"
    """
    if selection.is_empty:
        raise click.UsageError("say which rows: by --row, --error-code or --where")
    service, job_id = find_job(ctx.obj, job)
    found = (RowStatus.PENDING, RowStatus.FAILED)
    with service:
        before = existing_job(service, job_id)
        named = (*found, RowStatus.NEEDS_REVIEW)
        click.echo(
            _change(
                service,
                job_id,
                selection,
                named,
                found,
                lambda row: service.skip_row(row.id, reason),
            )
        )
        _tell_completed(service, before)


def _change(
    service: JobService,
    job_id: str,
    selection: Selection,
    named: Collection[RowStatus],
    found: Collection[RowStatus],
    change: Callable[[JobRow], object],
) -> int:
    """Call ``change`` for the rows that are meant, in one commit; how often it returned anything."""
    count = seen = 0
    with service.batch(job_id):
        for row in selection.rows(service, job_id, named, found):
            seen += 1
            count += change(row) is not None
    if not seen:
        _tell_none(job_id, selection)
    return count


def _tell_none(job_id: str, selection: Selection) -> None:
    for text in selection.why_none(job_id):
        tell(f"{job_id}: {text}")


def _tell_completed(service: JobService, before: Job) -> None:
    """Say so if a failed job has become completed, for the last of its rows was settled."""
    if before.status is JobStatus.FAILED:
        job = existing_job(service, before.id)
        if job.status is JobStatus.COMPLETED:
            tell(f"{job.id}: completed, for nothing is left to be done")


# What may be said of each way to settle a row.
_DETAILS = {
    "completed": ("tracking_number", "cost_cents", "label_path", "result"),
    "failed": ("error_code", "error_message"),
    "retry": (),
    "skip": ("reason",),
}


@click.command("resolve", short_help="Settle rows that need a review, once you have looked.")
@job_argument
@click.option(
    "--row",
    "rows",
    multiple=True,
    callback=parse_rows,
    required=True,
    help="Row numbers, such as 5,12-40.",
)
@click.option("--completed", is_flag=True, help="They have taken effect.")
@click.option("--tracking-number", help="With --completed.")
@click.option("--cost-cents", type=click.IntRange(min=0), help="With --completed: of each row.")
@click.option("--label-path", help="With --completed.")
@click.option("--result", help="With --completed: JSON, or else text.")
@click.option("--failed", is_flag=True, help="They have not, and count as failed.")
@click.option("--error-code", help="With --failed.")
@click.option("--error-message", help="With --failed.")
@click.option("--retry", is_flag=True, help="They have not, and are to be tried again.")
@click.option("--skip", is_flag=True, help="They need nothing done any more.")
@click.option("--reason", help="With --skip.")
@click.pass_context
def resolve_command(ctx: click.Context, /, job: str, rows: list[range], **given: Any) -> None:
    """Settle rows that need a review, once you have looked whether they took effect.

    All that are named, or none if one of them needs no review. Prints how many there were. In a
    job that has ended too: --retry reopens it.

    Example: journal resolve ship-orders --row 7 --completed --tracking-number 1Z999
    """
    how = _how(given)
    service, job_id = find_job(ctx.obj, job)
    with service:
        before = existing_job(service, job_id)
        if how == "retry":
            _check_not_cancelled(before)
        details = {name: given[name] for name in _DETAILS[how]}
        if details.get("result") is not None:
            details["result"] = _json_or_text(details["result"])
        changes: dict[str, Callable[..., object]] = {
            "completed": service.complete_row,
            "failed": service.fail_row,
            "retry": service.retry_row,
            "skip": service.skip_row,
        }
        allowed, how_to = (RowStatus.NEEDS_REVIEW,), changes[how]
        count = _change(
            service,
            job_id,
            Selection(rows),
            allowed,
            allowed,
            lambda row: how_to(row.id, **details),
        )
        click.echo(count)
        _tell_completed(service, before)
        if how == "retry":
            _tell_pending(service, job_id, count)


def _how(given: dict[str, Any]) -> str:
    """The one way to settle that was said, with nothing said that belongs to another."""
    chosen = [how for how in _DETAILS if given[how]]
    if len(chosen) != 1:
        raise click.UsageError("say one of --completed, --failed, --retry and --skip")
    (how,) = chosen
    for other, names in _DETAILS.items():
        for name in names:
            if other != how and given[name] is not None:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} goes with --{other}, not --{how}"
                )
    if how == "failed" and (given["error_code"] is None or given["error_message"] is None):
        raise click.UsageError("--failed needs --error-code and --error-message")
    return how


def _json_or_text(text: str) -> Any:
    try:
        if not nests_deeper_than(text.encode(), MAX_DEPTH - 1):
            return msgspec.json.decode(text)
    except (*DECODE_ERRORS, UnicodeEncodeError):  # the latter is refused with its name later
        pass
    return text
