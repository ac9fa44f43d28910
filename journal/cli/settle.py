"""`journal retry`, `skip` and `resolve`: a person's word on rows, each call one commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from journal.cli.exits import Refused
from journal.cli.jobs import existing_job, find_job, holder_text, job_argument
from journal.cli.output import tell
from journal.cli.rows import parse_rows, rows_of
from journal.format import MAX_DEPTH
from journal.model import JobRow, RowStatus
from journal.service import JobService
from journal.text import counted
from journal.values import DECODE_ERRORS, nests_deeper_than


@click.command("retry", short_help="Put failed rows back, to be tried again.")
@job_argument
@click.option("--row", "rows", callback=parse_rows, help="Only these rows, such as 5,12-40.")
@click.option("--error-code", help="Only rows that failed with this code.")
@click.pass_context
def retry_command(
    ctx: click.Context, job: str, rows: list[range] | None, error_code: str | None
) -> None:
    """Put failed rows back to pending, and reopen the job if it has ended; print their number.

    All failed rows but those of which nobody knows whether they took effect, or those that are
    named; skipped rows do if they are named. A run in progress takes them up.

    Example: journal retry ship-orders
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        if rows is None and error_code is None:
            count = service.retry_failed_rows(job_id)
        else:
            count = _retry_some(service, job_id, rows, error_code)
        click.echo(count)
        if count:
            holder = service.run_holder(job_id)
            then = f"{holder_text(holder)} takes them up" if holder else "run the job again"
            tell(f"{job_id}: {counted(count, 'row|rows is|are pending again')}: {then}")


def _retry_some(
    service: JobService, job_id: str, rows: list[range] | None, error_code: str | None
) -> int:
    if error_code is not None:
        return _change_failed(
            service, job_id, rows, error_code, lambda row: service.retry_row(row.id)
        )
    allowed = (RowStatus.FAILED, RowStatus.SKIPPED)
    return _change(service, job_id, rows or [], allowed, lambda row: service.retry_row(row.id))


def _change_failed(
    service: JobService,
    job_id: str,
    ranges: list[range] | None,
    error_code: str,
    change: Callable[[JobRow], object],
) -> int:
    """Change, in one commit, the rows that failed with this code, of these or (None) of all."""
    count = 0
    with service.batch(job_id):
        failed = service.get_failed_rows(job_id)
        every = service.get_rows(job_id)
        chosen = iter(failed) if ranges is None else rows_of(job_id, every, ranges)
        for row in chosen:
            if row.status is RowStatus.FAILED and row.error_code == error_code:
                change(row)
                count += 1
    if not count:
        which = "row" if ranges is None else "row of these"
        tell(
            f"{job_id}: no {which} failed with code {error_code!r}: `journal errors {job_id}` names "
            "the codes"
        )
    return count


@click.command("skip", short_help="Skip rows that need nothing done.")
@job_argument
@click.option("--row", "rows", callback=parse_rows, help="Row numbers, such as 5,12-40.")
@click.option("--error-code", help="Rows that failed with this code; with --row: only of those.")
@click.option("--reason", help="Why they need nothing done.")
@click.pass_context
def skip_command(
    ctx: click.Context,
    job: str,
    rows: list[range] | None,
    error_code: str | None,
    reason: str | None,
) -> None:
    """Skip rows that are pending, failed or need a review: all that --row names, or none.

    With --error-code, those that failed so. Prints how many there were.

    Example: journal skip ship-orders --row 5,12-40 --reason "the customer has cancelled"
    """
    if rows is None and error_code is None:
        raise click.UsageError("say which rows: by --row, by --error-code, or by both")
    service, job_id = find_job(ctx.obj, job)
    allowed = (RowStatus.PENDING, RowStatus.FAILED, RowStatus.NEEDS_REVIEW)

    def skip(row: JobRow) -> object:
        return service.skip_row(row.id, reason)

    with service:
        if error_code is None:
            click.echo(_change(service, job_id, rows or [], allowed, skip))
        else:
            click.echo(_change_failed(service, job_id, rows, error_code, skip))


def _change(
    service: JobService,
    job_id: str,
    ranges: list[range],
    allowed: tuple[RowStatus, ...],
    change: Callable[[JobRow], object],
) -> int:
    """Change the rows in one commit, or none if one of them has another status."""
    count = 0
    with service.batch(job_id):
        for row in rows_of(job_id, service.get_rows(job_id), ranges):
            if row.status not in allowed:
                raise Refused(
                    f"row {row.id} is {row.status}, which is not {' or '.join(allowed)}; nothing "
                    "was changed, of any row"
                )
            change(row)
            count += 1
    return count


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
    "--row", "rows", callback=parse_rows, required=True, help="Row numbers, such as 5,12-40."
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
        existing_job(service, job_id)
        details = {name: given[name] for name in _DETAILS[how]}
        if details.get("result") is not None:
            details["result"] = _json_or_text(details["result"])
        changes: dict[str, Callable[..., object]] = {
            "completed": service.complete_row,
            "failed": service.fail_row,
            "retry": service.retry_row,
            "skip": service.skip_row,
        }
        allowed = (RowStatus.NEEDS_REVIEW,)
        count = _change(service, job_id, rows, allowed, lambda row: changes[how](row.id, **details))
        click.echo(count)
        if how == "retry" and service.run_holder(job_id) is None:
            tell(f"{job_id}: {counted(count, 'row|rows is|are pending')}: run the job again")


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
