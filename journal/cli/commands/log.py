"""`journal log`: what has happened in a job, and what is happening."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter

import click
from click.core import ParameterSource
from msgspec import structs

from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED
from journal.cli.find import find_job, job_argument
from journal.cli.follow import check_reader, follow_job, gone
from journal.cli.listing import LOOK_AHEAD, Field, Format, echo_rows, limit_option, listing_options
from journal.cli.output import as_json, local_time, shorten, tell
from journal.cli.redaction import check_redacted, redact_option
from journal.cli.row_ranges import missing_rows, parse_rows
from journal.cli.times import since_option
from journal.errors import JobNotFoundError
from journal.history.events import Choice, Event, last_events, read_events
from journal.history.reading import History
from journal.model import LOG_LEVELS
from journal.service import JobService
from journal.text import as_text

_DEFAULT_EVENTS = 50


def _word(event: Event) -> str:
    return event.level if event.kind == "log" else event.kind.replace("_", " ")


def _text(event: Event) -> str:
    if event.kind == "log" and event.details:
        return f"{event.text}  {as_json(event.details)}"
    return event.text


_ON_TERMINAL = 400  # characters of a text: some lines of it, and not a screen

# Of 40 columns and the text, which runs over the edge: cut there, it would say too little.
_TABLE = (
    Field(title="TIME", text=lambda event: f"{local_time(event.at):%Y-%m-%d %H:%M:%S}", wide=19),
    Field(title="EVENT", text=_word, status=True, wide=9),
    Field(title="ROW", text=lambda event: as_text(event.row_number), right=True, wide=6),
    Field(title="TEXT", text=_text),
)
_MEMBERS = tuple(Field(name=name, value=attrgetter(name)) for name in Event.__struct_fields__)


@click.command("log", short_help="Show what has happened in a job, and follow it.")
@job_argument
@limit_option("The last N events; 50, or all with --since.", "-n")
@since_option("What happened")
@click.option(
    "--row", "rows", multiple=True, callback=parse_rows, metavar="ROWS", help="Of these: 5,12-40."
)
@click.option(
    "--level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="This level and graver ones; a row that failed is an ERROR, one in review a WARNING.",
)
@redact_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens until the job ends.")
@listing_options
@click.pass_context
def log_command(
    ctx: click.Context,
    job: str,
    limit: int | None,
    since: datetime | None,
    rows: list[range] | None,
    level: str | None,
    redact: tuple[str, ...],
    follow: bool,
    output: Format,
) -> int:
    """Show what has happened in a job, oldest first: its own steps, its rows', and log records.

    With -f it goes on until the job ends, across pauses, or until Ctrl-C. Rows that --row names and
    the job hasn't are named on standard error, and the exit code is 4; so it is if the job is
    deleted or moved away meanwhile.

    Example: journal log hash-stdlib -f --level warning
    """
    if follow and output.name == "json":
        raise click.UsageError("--json can't go with -f, for an array has an end: say --nl")
    service, job_id = find_job(ctx.obj, job, redact=redact)
    check_redacted(ctx, service, [job_id], redact)
    choice = Choice(rows, level, since, service.redact)
    chosen = ctx.get_parameter_source("limit") is not ParameterSource.DEFAULT
    if not chosen and since is None:
        limit = _DEFAULT_EVENTS
    history = service._history(job_id)  # noqa: SLF001  (this package's own)
    events, more = _latest(history, limit, choice)
    if more and not chosen:
        tell(f"{job_id}: the last {limit} events; -n all shows all of them")
    absent = _absent(service, job_id, rows)
    if absent:
        tell(f"journal: {absent}")
    if follow:
        events = itertools.chain(events, _follow(service, job_id, history, limit, choice))
    echo_rows(output, (*_table(), *_MEMBERS), events, look_ahead=0 if follow else LOOK_AHEAD)
    return EXIT_REFUSED if absent and _absent(service, job_id, rows) else EXIT_OK


def _absent(service: JobService, job_id: str, rows: list[range] | None) -> str | None:
    """What to say of rows that were named and aren't there (yet)."""
    return None if rows is None else missing_rows(job_id, service.get_rows(job_id), rows)


def _table() -> Sequence[Field]:
    if not sys.stdout.isatty():
        return _TABLE
    *others, text = _TABLE
    return *others, structs.replace(text, text=lambda event: shorten(_text(event), _ON_TERMINAL))


def _latest(history: History, limit: int | None, choice: Choice) -> tuple[Iterable[Event], bool]:
    """Events up to now, and whether there are earlier ones."""
    if limit is None:
        return read_events(history, choice.begin(history), choice=choice), False
    return last_events(history, limit, choice)


def _follow(
    service: JobService, job_id: str, history: History, limit: int | None, choice: Choice
) -> Iterator[Event]:
    """What comes after ``history``. What a job did before it was seen to have ended is in it."""
    sys.stdout.flush()
    position = history.end
    for _ in follow_job(service, job_id, ("interrupted",)):
        check_reader()
        try:
            history = service._history(job_id)  # noqa: SLF001  (this package's own)
        except JobNotFoundError:
            raise gone(job_id) from None
        if history.end == position:
            continue
        if history.continues(position):
            yield from read_events(history, position, choice=choice)
        else:
            tell(f"{job_id}: its journal was replaced by another one; beginning anew")
            yield from _latest(history, limit, choice)[0]
        sys.stdout.flush()
        position = history.end
