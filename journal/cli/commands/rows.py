"""`journal rows` and `journal errors`: rows one by one, and in groups by what went wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

import click

from journal.cli.conditions import MANY_COLUMNS, Where, some_columns, where_option
from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED, Refused
from journal.cli.find import find_job, job_argument
from journal.cli.listing import Field, Format, echo_rows, limit_option, listing_options
from journal.cli.output import as_json, shorten, tell
from journal.cli.redaction import check_redacted, redact_option
from journal.cli.row_ranges import missing_rows, parse_rows, rows_within
from journal.history.error_groups import group_attempts, group_errors
from journal.history.redact import redacted_members
from journal.model import Job, JobRow, RowStatus
from journal.service import JobService, existing_job
from journal.text import as_text, counted

_DATA = "data."  # before a column's name: not the row's own field of this name
_SHOWN_CHARACTERS = 400  # of a cell, at most: a result may be a mebibyte
_WITH_ERRORS = (RowStatus.PENDING, RowStatus.FAILED, RowStatus.NEEDS_REVIEW)


def _outcome(row: JobRow) -> str:
    if row.error_code is not None:
        return f"{row.error_code}: {row.error_message}"
    if row.reason is not None:
        return row.reason
    if row.tracking_number is not None:
        return row.tracking_number
    return as_text(row.result)


def _shortened(text: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda record: shorten(text(record), _SHOWN_CHARACTERS)


_TABLE = (
    Field(title="ROW", text=lambda row: str(row.row_number), right=True, wide=7),
    Field(title="STATUS", text=lambda row: row.status.value, status=True, wide=12),
    Field(title="TRIES", text=lambda row: str(row.attempts), right=True, rank=1),
    Field(title="OUTCOME", text=_shortened(_outcome), least=12, wide=30),
    Field(title="DATA", text=_shortened(lambda row: as_json(row.data)), least=12, rank=2),
)
_MEMBERS = tuple(Field(name=name, value=attrgetter(name)) for name in JobRow.__struct_fields__)
_NUMBERS = frozenset(("row_number", "attempts", "cost_cents"))


def _parse_columns(
    _ctx: click.Context, _parameter: click.Parameter, value: str | None
) -> list[str] | None:
    if value is None:
        return None
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise click.BadParameter("give names between commas, such as row_number,status,order")
    return names


def _named_field(name: str) -> Field:
    """A field of the row itself, or a column of its data."""
    if name in JobRow.__struct_fields__:
        value: Callable[[JobRow], Any] = attrgetter(name)
    else:
        column = name.removeprefix(_DATA)
        value = lambda row: row.data.get(column)  # noqa: E731  (bound to this column)
    return Field(
        name=name,
        value=value,
        title=name,
        text=_shortened(lambda row: as_text(value(row))),
        right=name in _NUMBERS,
        least=0 if name in _NUMBERS or name == "status" else 8,
        wide={"row_number": 7, "status": 12}.get(name, 0),
        status=name == "status",
    )


@click.command("rows")
@job_argument
@click.option(
    "--status",
    "statuses",
    type=click.Choice([status.value for status in RowStatus]),
    multiple=True,
    help="Only these; may be given more than once.",
)
@click.option(
    "--row", "ranges", metavar="ROWS", multiple=True, callback=parse_rows, help="Such as 5,12-40."
)
@click.option("--error-code", metavar="CODE", help="Only rows with this error.")
@where_option
@click.option(
    "--version", metavar="V", help="Only rows whose status an attempt of this version has."
)
@click.option(
    "--pass",
    "pass_number",
    type=click.IntRange(min=1),
    help="Only rows whose status changed last in this pass: 1 until the job was first reopened.",
)
@click.option(
    "--columns",
    metavar="A,B,...",
    callback=_parse_columns,
    help="Show these: fields of rows, columns of the data; data.status is the data's own.",
)
@redact_option
@limit_option("The first N of them.  [default: all]")
@listing_options
@click.pass_context
def rows_command(
    ctx: click.Context,
    job: str,
    statuses: tuple[str, ...],
    ranges: list[range] | None,
    error_code: str | None,
    where: Where,
    version: str | None,
    pass_number: int | None,
    columns: list[str] | None,
    redact: tuple[str, ...],
    limit: int | None,
    output: Format,
) -> int:
    """List rows of a job by number: what became of each, and its data.

    Numbers in the data compare as numbers, also those that are text, as all of CSV is. Rows that
    --row names and the job hasn't are named on standard error, and the exit code is 4; a column
    that no row has is named there, too.

    Example: journal rows ship-ca --status failed --where 'zip~941' --columns row_number,order,error_code
    """
    service, job_id = find_job(ctx.obj, job, redact=redact)
    check_redacted(ctx, service, [job_id], redact)
    if error_code is not None:
        statuses = statuses or _WITH_ERRORS
    rows: Iterable[JobRow] = _rows(service, job_id, statuses, ranges)
    if error_code is not None:
        rows = (row for row in rows if row.error_code == error_code)
    if version is not None:
        rows = (row for row in rows if row.version == version)
    if pass_number is not None:
        rows = _of_pass(existing_job(service, job_id), pass_number, rows)
    if where:
        rows = filter(where.holds, rows)
    if limit is not None:
        rows = itertools.islice(rows, limit)
    if service.redact:  # rows are chosen by what is stored
        rows = (redacted_members(row, service.redact) for row in rows)
    asked = _Asked(columns or [])
    if asked.absent:
        rows = asked.looked_for(rows)
    fields = (*_TABLE, *_MEMBERS) if columns is None else tuple(map(_named_field, columns))
    echo_rows(output, fields, rows)
    for text in where.absent():
        tell(f"journal: {text}")
    for column in sorted(asked.absent) if asked.shown else ():
        tell(f"journal: no row that is shown has a column {column!r}; {some_columns(asked.there)}")
    if ranges is not None:
        missing = missing_rows(job_id, service.get_rows(job_id), ranges)
        if missing is not None:
            tell(f"journal: {missing}")
            return EXIT_REFUSED
    return EXIT_OK


def _rows(
    service: JobService, job_id: str, statuses: tuple[str, ...], ranges: list[range] | None
) -> Iterator[JobRow]:
    """The rows of any of these statuses (none: all) within ``ranges``, by number."""
    rows = service.get_rows(job_id, statuses or None)
    return iter(rows) if ranges is None else rows_within(rows, ranges)


def _of_pass(job: Job, number: int, rows: Iterable[JobRow]) -> Iterator[JobRow]:
    if number > job.passes:
        raise Refused(
            f"job {job.id} has {counted(job.passes, 'pass|passes')}, and no pass {number}"
        )
    return (row for row in rows if job.pass_of(row.updated_at) == number)


class _Asked:
    """Columns that are to be shown, and what rows have of them."""

    def __init__(self, names: list[str]) -> None:
        own = JobRow.__struct_fields__
        self.absent = {name.removeprefix(_DATA) for name in names if name not in own}
        self.there: set[str] = set()
        self.shown = False

    def looked_for(self, rows: Iterable[JobRow]) -> Iterator[JobRow]:
        for row in rows:
            self.shown = True
            if self.absent:
                self.absent.difference_update(row.data)
                if len(self.there) < MANY_COLUMNS:
                    self.there.update(row.data)
            yield row


_ERROR_FIELDS = (
    Field(
        name="code",
        value=lambda group: group.code,
        title="CODE",
        text=_shortened(lambda group: group.code),
        least=12,
    ),
    Field(name="status", value=lambda group: group.status, title="STATUS", status=True, rank=1),
    Field(name="count", value=lambda group: group.count, title="COUNT", right=True),
    Field(
        name="example",
        value=lambda group: group.message,
        title="EXAMPLE",
        text=_shortened(lambda group: group.message),
        least=16,
    ),
    Field(name="rows", value=lambda group: group.numbers.text(), title="ROWS"),
)


@click.command("errors", short_help="What went wrong with rows, by error code.")
@job_argument
@click.option(
    "--attempts", is_flag=True, help="Count attempts, all there were: of rows that are done, too."
)
@click.option("--version", metavar="V", help="Only of this version.")
@redact_option
@listing_options
@click.pass_context
def errors_command(
    ctx: click.Context,
    job: str,
    attempts: bool,
    version: str | None,
    redact: tuple[str, ...],
    output: Format,
) -> None:
    """What went wrong with rows that failed or need a review, by error code, most rows first.

    EXAMPLE is what the first row of a group says, up to 1,000 characters, or 400 in a table; ROWS
    are all of them, as --row takes them. With --attempts COUNT is how often it went wrong, however
    the row ended; STATUS is repeated if the row was to be tried again.

    Example: journal errors ship-ca
    """
    service, job_id = find_job(ctx.obj, job, redact=redact)
    check_redacted(ctx, service, [job_id], redact)
    if attempts:
        history = service._history(job_id).entries()  # noqa: SLF001  (this package's own)
        groups = group_attempts(history, service.redact, version)
    else:
        rows = service.get_rows(job_id, (RowStatus.FAILED, RowStatus.NEEDS_REVIEW))
        groups = group_errors(
            redacted_members(row, service.redact) for row in rows if version in (None, row.version)
        )
    echo_rows(output, _ERROR_FIELDS, groups)
