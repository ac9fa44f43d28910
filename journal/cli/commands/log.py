"""`journal log` shows what happened in a job."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime
from operator import attrgetter

import click
import msgspec
from click.core import ParameterSource

from journal.cli.find import FoundJob, FoundSet, found_job_or_set
from journal.cli.listing_formats import LOOK_AHEAD, Field, echo_rows, limit_option, listing_options
from journal.cli.output import as_json, echo_problems, local_text
from journal.cli.selection import rows_option
from journal.cli.sets import missing_in
from journal.cli.shared_options import option, since_option
from journal.cli.watch.follow import follow_job, gone
from journal.errors import JobNotFoundError
from journal.history.events import Choice, Event, last_events, read_events
from journal.history.history import History, read_history
from journal.model import LOG_LEVELS
from journal.run.exit_codes import EXIT_OK, EXIT_REFUSED
from journal.text import as_text, shorten

_DEFAULT_EVENTS = 50
_MAX_CHARACTERS = 400  # characters of a text on a terminal: a few lines


def _word(event: Event) -> str:
    return event.level if event.kind == "log" else event.kind.replace("_", " ")


def _text(event: Event) -> str:
    text = event.text
    if event.kind == "log" and event.details:
        text = f"{text}  {as_json(event.details)}"
    return shorten(text, _MAX_CHARACTERS) if sys.stdout.isatty() else text


# The text isn't cut at the edge of the terminal, because too little text would be left.
_TABLE = (
    Field(title="TIME", text=lambda event: local_text(event.at), wide=19),
    Field(title="EVENT", text=_word, status=True, wide=9),
    Field(title="ROW", text=lambda event: as_text(event.row_number), right=True, wide=6),
    Field(title="TEXT", text=_text, whole=True),
)
_MEMBERS = tuple(map(Field, Event.__struct_fields__))


@click.command("log", short_help="Show the events of a job, and follow the job.")
@found_job_or_set
@limit_option("Only the last N events. Default: 50, or all with --since.", "-n")
@since_option("Only events at this time or later")
@rows_option("Only events of these rows")
@option(
    "--level",
    "Only events of this level or a higher level. A failed row is an ERROR. A row that needs a "
    "review is a WARNING.",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
)
@option("-f --follow", "Also show new events, until the job ends.")
@listing_options
@click.pass_context
def log_command(
    ctx: click.Context,
    job: FoundJob,
    limit: int | None,
    since: datetime | None,
    ranges: list[range] | None,
    level: str | None,
    follow: bool,
    output: str,
) -> int:
    """Show the events of a job, oldest first: changes of the job, changes of its rows, log records.

    With -f, new events are shown until the job ends or Ctrl-C is pressed. A pause of the job
    doesn't end the command.

    The exit code is 4 if --row names a row that doesn't exist, or if the job is deleted or moved
    while -f follows the job.

    Example: journal log hash-stdlib -f --level warning
    """
    if follow and output == "json":
        raise click.UsageError(
            "--json can't be used with -f, because an array has an end: give --nl"
        )
    choice = Choice(ranges, level, since)
    chosen = ctx.get_parameter_source("limit") is not ParameterSource.DEFAULT
    if not chosen and since is None:
        limit = _DEFAULT_EVENTS
    if follow and isinstance(job, FoundSet):
        raise click.UsageError(
            f"-f follows one job: name a shard, such as {job.id}/0; "
            f"`journal watch {job.id}` shows the progress of all"
        )
    shards = job.shards
    histories = [read_history(job.service.store, shard.id) for shard in shards]
    found = [_latest(history, limit, choice) for history in histories]
    parts = [part for part, _ in found]
    if isinstance(job, FoundSet):
        parts = [_named(shard.id, part) for shard, part in zip(shards, parts, strict=True)]
    events: Iterable[Event] = heapq.merge(*parts, key=attrgetter("at"))
    more = any(is_cut for _, is_cut in found)
    if limit is not None:  # the last events of all shards together
        newest = list(deque(events, limit + 1))
        more, events = more or len(newest) > limit, newest[-limit:] if limit else []
    if more and not chosen:
        job.say(f"the last {limit} events; -n all shows all")
    absent = missing_in(job, ranges)
    echo_problems(*absent)
    if follow:
        events = itertools.chain(events, _follow(job, histories[0], limit, choice))
    look_ahead = 0 if follow else LOOK_AHEAD
    none = f"{job.id}: 0 events"
    echo_rows(output, (*_TABLE, *_MEMBERS), events, none=none, look_ahead=look_ahead)
    return EXIT_REFUSED if absent and missing_in(job, ranges) else EXIT_OK


def _named(shard_id: str, events: Iterable[Event]) -> Iterator[Event]:
    """Add the shard's name to each event that isn't about a row."""
    for event in events:
        text = f"{shard_id}: {event.text}".removesuffix(": ")
        is_of_row = event.row_number is not None
        yield event if is_of_row else msgspec.structs.replace(event, text=text)


def _latest(history: History, limit: int | None, choice: Choice) -> tuple[Iterable[Event], bool]:
    """Return the events up to now, and a flag: True if earlier events may have been left out."""
    if limit is None:
        return read_events(history, choice.begin(history), choice=choice), False
    return last_events(history, limit, choice)


def _follow(job: FoundJob, history: History, limit: int | None, choice: Choice) -> Iterator[Event]:
    """Yield the events after ``history``, until the job ends."""
    sys.stdout.flush()
    position = history.end
    for _ in follow_job(job.service, job.id, ("interrupted",)):
        try:
            history = read_history(job.service.store, job.id)
        except JobNotFoundError:
            raise gone(job.id) from None
        if history.end == position:
            continue
        if history.continues(position):
            yield from read_events(history, position, choice=choice)
        else:
            job.say("another journal has replaced its journal; starting over")
            yield from _latest(history, limit, choice)[0]
        sys.stdout.flush()
        position = history.end
