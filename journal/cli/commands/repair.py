"""`journal repair`."""

from __future__ import annotations

import click

from journal.cli.exit_codes import EXIT_OK, EXIT_ROWS_OPEN
from journal.cli.find import find_job, job_argument, spoken
from journal.cli.output import clean, echo_json, tell
from journal.repair import Repair, repair_job
from journal.repair.salvage import OpenRows
from journal.text import counted


@click.command("repair", short_help="Make a damaged job whole from what its seals still vouch for.")
@job_argument
@click.option(
    "--open-rows",
    type=click.Choice(["review", "keep"]),
    default="review",
    show_default=True,
    help="If lines are lost: rows that aren't done need a review, or stay as they are.",
)
@click.option("--json", "json_output", is_flag=True, help="One JSON object.")
@click.pass_context
def repair_command(ctx: click.Context, job: str, open_rows: OpenRows, json_output: bool) -> int:
    """Make a damaged job whole again from all that its seals still vouch for.

    The damaged journal is kept beside the new one as journal.damaged-N. Text mode, a byte order
    mark, single flipped bits and lines that were put in are undone without loss. If lines are lost,
    what happened to a row may be among them: rows that look open need a review then, unless
    the work may be repeated (--open-rows keep).

    Exit code 0 if nothing is lost, 3 if lines are.

    Example: journal repair ship-ca
    """
    service, job_id = find_job(ctx.obj, job)
    with service:
        repair = repair_job(service.root / job_id, open_rows=open_rows)
    if json_output:
        echo_json(repair)
    else:
        click.echo(text_of(repair))
    if not repair.lossless:
        tell("some of it is lost, or kept on trust: compare it with what you know was done")
    if repair.review_count:
        rows = spoken(ctx, service)("rows", job_id, "--status", "needs_review")
        tell(f"look at the rows with: {rows}")
    return EXIT_OK if repair.lossless else EXIT_ROWS_OPEN


def text_of(repair: Repair) -> str:
    """What was done, for people; a line for each stretch of the damaged file."""
    if not repair.actions:
        return f"ok       {repair.job_id}: nothing to repair"
    word = "repaired" if repair.lossless else "LOSSES"
    holds = f"{counted(repair.records, 'record|records')}, {counted(repair.rows, 'row|rows')}"
    lines = [f"{word:<8} {repair.job_id}: holds {holds}"]
    for action in repair.actions:
        last = action.line + action.lines - 1
        where = f"lines {action.line} to {last}" if action.lines > 1 else f"line {action.line}"
        rows = f"; about row {ranges(action.rows)}" if action.rows else ""
        lines.append(f"  {action.kind}: {where}: {action.message}{rows}")
    if repair.lost_rows:
        lines.append(f"  the data of these rows is lost: {ranges(repair.lost_rows)}")
    if repair.review_count:
        lines.append(f"  rows that need a review by it: {repair.review_count}")
    if repair.damaged_copy:
        lines.append(f"  the journal as it was: {repair.damaged_copy}")
    return "\n".join(map(clean, lines))


def ranges(numbers: list[int]) -> str:
    """Ascending numbers as text: ``1-3, 7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
