"""`journal rows` lists rows one by one. `journal errors` groups rows by error code."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

import click
import msgspec

from journal.cli.find import FoundJob, found_job_or_set
from journal.cli.listing_formats import (
    Field,
    echo_rows,
    example_text,
    limit_option,
    listing_options,
)
from journal.cli.output import as_json, echo_problems, local_text
from journal.cli.selection import Columns, Selection, selection_options, value_of
from journal.cli.sets import missing_in
from journal.cli.shared_options import columns_option
from journal.history.error_groups import ErrorGroup, group_errors
from journal.model import JobRow, RowStatus
from journal.run.exit_codes import EXIT_OK, EXIT_REFUSED
from journal.sets.shard_states import merged_rows
from journal.tables.columns import MISSING
from journal.text import as_text, cents_number, counted, headline, shorten

_MAX_CELL_CHARACTERS = 400  # a result may be 1 MiB long
_WRONG = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW)


def _outcome(row: JobRow) -> str:
    if row.due is not None:
        due = f"due at {local_text(row.due, '%Y-%m-%d %H:%M:%S')}"
        return f"{due}: {headline(row.reason)}" if row.reason else due
    if row.error_code is not None:
        return f"{row.error_code}: {headline(row.error_message or '')}"
    if row.reason is not None:
        return row.reason
    if row.tracking_number is not None:
        return row.tracking_number
    return as_text(row.result)


def _shortened(text: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda record: shorten(text(record), _MAX_CELL_CHARACTERS)


_TABLE = (
    Field(title="ROW", text=lambda row: str(row.row_number), right=True, wide=7),
    Field(title="STATUS", text=lambda row: row.status.value, status=True, wide=12),
    Field(title="ATTEMPTS", text=lambda row: str(row.attempts), right=True),
    Field(title="OUTCOME", text=_shortened(_outcome), wide=30),
    Field(title="DATA", text=_shortened(lambda row: as_json(row.data))),
)
_MEMBERS = tuple(map(Field, JobRow.__struct_fields__))
_NUMBERS = frozenset(("row_number", "attempts", "duration_s", "cost_cents", "total_cost_cents"))


def _named_field(name: str) -> Field:
    """Return the field with the value that ``name`` selects in a row: see :func:`value_of`."""

    def value(row: JobRow) -> Any:
        found = value_of(row, name)
        return None if found is MISSING else found

    return Field(
        name,
        title=name,
        value=value,
        text=_shortened(lambda row: as_text(value(row))),
        right=name in _NUMBERS,
        wide={"row_number": 7, "status": 12}.get(name, 0),
        status=name == "status",
    )


@click.command("rows", short_help="List the rows of a job.")
@found_job_or_set
@selection_options
@columns_option(
    "Show only these columns of the data and of the journal. If both have a column status, status "
    "is the data's column, and journal_status is the journal's column. result.price is a member of the result."
)
@limit_option("Only the first N rows.  [default: all]")
@listing_options
def rows_command(
    job: FoundJob,
    selection: Selection,
    columns: list[str] | None,
    limit: int | None,
    output: str,
) -> int:
    """List the rows of a job by number, with their status, outcome and data.

    --where compares numbers as numbers, even if they are text in the data, as all values from CSV
    are. Text that isn't a number, such as 4,50, is neither below nor above a number. A message
    names the first row with such text.

    --where and --columns take columns of the data, members of objects in the data, and members of
    the result (result.price). Both also take these columns of the journal: traceback, updated_at,
    and all columns of exports except started_at, duration_s and total_cost_cents. If the data has a
    column of the same name, add journal_ to the name of the journal's column.

    If --row names a row that doesn't exist, its number is reported on standard error, and the exit
    code is 4. Requested columns that no row has are reported, too.

    Example: journal rows ship-ca --status failed --where 'zip~941' --columns row_number,order,error_code
    """
    shards = job.shards
    rows: Iterable[JobRow] = merged_rows(selection.shown(job.service, shard.id) for shard in shards)
    if limit is not None:
        rows = itertools.islice(rows, limit)
    wanted = Columns([name for name in columns or () if name not in ("result", "usage")])
    fields = tuple(map(_named_field, columns or ())) or (*_TABLE, *_MEMBERS)
    total = sum(shard.read().total_rows for shard in shards)
    none = f"{job.id}: 0 of {counted(total, 'row|rows')}" if total else f"{job.id}: 0 rows"
    echo_rows(output, fields, _looked_at(rows, wanted), none=none)
    job.warn_of_cut()
    echo_problems(*selection.where.unmet(), *wanted.messages("shown"))
    missing = missing_in(job, selection.ranges)
    echo_problems(*missing)
    return EXIT_REFUSED if missing else EXIT_OK


def _looked_at(rows: Iterable[JobRow], columns: Columns) -> Iterator[JobRow]:
    for row in rows:
        columns.look(row)
        yield row


def _cost_text(group: ErrorGroup) -> str:
    return cents_number(group.cost_cents) if group.cost_cents else ""


_COST = Field("cost_cents", text=_cost_text, right=True)


ERROR_FIELDS = (
    Field("code", "CODE", text=_shortened(attrgetter("code"))),
    Field("status", "STATUS", status=True),
    Field("count", "COUNT", right=True),
    _COST,
    Field(
        "example",
        "EXAMPLE",
        attrgetter("message"),
        text=lambda group: example_text(group, _MAX_CELL_CHARACTERS),
    ),
    Field("rows", "ROWS", lambda group: group.numbers.text(), whole=True),
    Field("where"),
)


@click.command("errors", short_help="Show the errors of rows, grouped by error code.")
@found_job_or_set
@selection_options
@listing_options
def errors_command(job: FoundJob, selection: Selection, output: str) -> None:
    """Show the rows that failed or need a review, grouped by error code.

    The largest group is first.

    COUNT is the number of rows. CENTS is the cost of the attempts that gave the rows their STATUS.
    Without a cost, the table doesn't have this column. EXAMPLE has the three most frequent messages
    of the group, each cut to 400 characters. Messages that differ only in numbers count as one
    message, except if the numbers are from 100 to 599. If the first row has a Python traceback, the
    messages are followed by the place in your code that raised the exception. With --json, --nl and
    --csv, the example is the message of the first row. ROWS lists the numbers of all rows of the
    group, in the form that --row accepts.

    `journal export JOB OUT --attempts` also writes the errors of earlier attempts of rows that are
    completed now.

    Example: journal errors ship-ca
    """
    rows = (selection.shown(job.service, shard.id, _WRONG) for shard in job.shards)
    groups = group_errors(merged_rows(rows))
    # A table has the column CENTS only if there are costs.
    title = "CENTS" if any(group.cost_cents for group in groups) else ""
    cost = msgspec.structs.replace(_COST, title=title)
    fields = [cost if field is _COST else field for field in ERROR_FIELDS]
    echo_rows(output, fields, groups, none=f"{job.id}: 0 errors")
    job.warn_of_cut()
