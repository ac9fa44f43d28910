"""`journal repair`."""

from __future__ import annotations

import click

from journal.cli.exit_codes import EXIT_OK, EXIT_ROWS_OPEN
from journal.cli.find import command_line, find_job, job_argument
from journal.cli.output import clean, echo_err, echo_json
from journal.cli.shared_options import json_option
from journal.history.error_groups import Numbers
from journal.repair import Repair, repair_job
from journal.repair.salvage import OpenRows
from journal.text import counted


@click.command("repair", short_help="Repair a damaged job, as far as its checksums prove the data.")
@job_argument
@click.option(
    "--open-rows",
    type=click.Choice(["review", "keep"]),
    default="review",
    help="If lines are lost: put pending rows and rows in flight under review, or keep them.",
)
@json_option
@click.pass_context
def repair_command(ctx: click.Context, job: str, open_rows: OpenRows, json_output: bool) -> int:
    """Repair a damaged job, as far as its checksums prove the data.

    The damaged journal is kept beside the new one as journal.damaged-N.

    Repaired without loss: line ends changed by a transfer in text mode, a byte order mark, single
    flipped bits, and, between two commits, inserted lines that aren't records and inserted copies
    of whole commits.

    All other damaged lines are lost. A lost line may have recorded the outcome of a row. So if
    lines are lost, rows that look pending or in flight are put under review.

    The exit code is 0 if nothing is lost, and 3 if lines are lost.

    Example: journal repair ship-ca
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        repair = repair_job(service.root / job_id, open_rows=open_rows)
    if json_output:
        echo_json(repair)
    else:
        click.echo(_text(repair))
    if not repair.lossless:
        echo_err(
            "some records are lost, or couldn't be proved: compare the job with what you know was done"
        )
    if repair.review_count:
        rows = command_line(ctx, service)("rows", job_id, "--status", "needs_review")
        echo_err(f"see the rows that need a review: {rows}")
    return EXIT_OK if repair.lossless else EXIT_ROWS_OPEN


def _text(repair: Repair) -> str:
    """A description of the repair, with one line for each region of the damaged file."""
    if not repair.actions:
        return f"ok       {repair.job_id}: nothing to repair"
    word = "repaired" if repair.lossless else "LOSSES"
    holds = f"{counted(repair.records, 'record|records')}, {counted(repair.rows, 'row|rows')}"
    lines = [f"{word:<8} {repair.job_id}: holds {holds}"]
    for action in repair.actions:
        last = action.line + action.lines - 1
        where = f"lines {action.line} to {last}" if action.lines > 1 else f"line {action.line}"
        word = "row" if len(action.rows) == 1 else "rows"
        rows = f"; about {word} {Numbers(action.rows).text(', ')}" if action.rows else ""
        lines.append(f"  {action.kind}: {where}: {action.message}{rows}")
    if repair.lost_rows:
        lines.append(f"  the data of these rows is lost: {Numbers(repair.lost_rows).text(', ')}")
    if repair.review_count:
        lines.append(f"  rows put under review: {repair.review_count}")
    if repair.damaged_copy:
        lines.append(f"  the journal as it was: {repair.damaged_copy}")
    return "\n".join(map(clean, lines))
