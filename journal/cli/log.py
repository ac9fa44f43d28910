"""`journal log`: what has happened in a job, and what is happening."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import datetime

import click
from click.core import ParameterSource

from journal.cli.follow import check_reader, follow_job
from journal.cli.jobs import find_job, job_argument
from journal.cli.output import as_json, clean, echo_json_list, local_time, tell
from journal.cli.rows import parse_rows
from journal.cli.when import parse_moment
from journal.events import Choice, Event, last_events, read_events
from journal.history import History
from journal.model import LOG_LEVELS
from journal.service import JobService

_DEFAULT_EVENTS = 50


def _parse_count(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """A number from 0, or "all", which is None."""
    if value is None or value == "all":
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise click.BadParameter(f"{value!r} is no number, and not 'all'")
    return int(value)


@click.command("log")
@job_argument
@click.option(
    "-n",
    "--limit",
    callback=_parse_count,
    metavar="N|all",
    help="The last N events; 50, or all with --since.",
)
@click.option(
    "--since", callback=parse_moment, metavar="TIME", help="2026-11-24T13:35, 10m, 2h, 3d."
)
@click.option("--row", "rows", callback=parse_rows, metavar="ROWS", help="Of these: 5,12-40.")
@click.option(
    "--level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="This level and graver ones; a row that failed is an ERROR, one in review a WARNING.",
)
@click.option("--redact", multiple=True, metavar="FIELD", help="Hide its values; repeatable.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens until the job ends.")
@click.option("--json", "json_output", is_flag=True, help="One JSON array.")
@click.option("--nl", "nl_output", is_flag=True, help="A JSON object a line, each written at once.")
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
    json_output: bool,
    nl_output: bool,
) -> None:
    """Show what has happened in a job, oldest first: its own steps, its rows', and log records.

    With -f it goes on until the job ends, across pauses, or until Ctrl-C.

    Example: journal log hash-stdlib -f --level warning
    """
    if json_output and (nl_output or follow):
        other = "--nl" if nl_output else "-f, for it never ends: say --nl"
        raise click.UsageError(f"--json can't go with {other}")
    service, job_id = find_job(ctx.obj, job, redact=redact)
    choice = Choice(rows, level, since, service.redact)
    chosen = ctx.get_parameter_source("limit") is not ParameterSource.DEFAULT
    if not chosen and since is None:
        limit = _DEFAULT_EVENTS
    history = service.history(job_id)
    events, more = _latest(history, limit, choice)
    if more and not chosen:
        tell(f"{job_id}: the last {limit} events; -n all shows all of them")
    if json_output:
        echo_json_list(events)
        return
    line = as_json if nl_output else _line
    _write(events, line, at_once=nl_output)
    if follow:
        _follow(service, job_id, history, limit, choice, line)


def _latest(history: History, limit: int | None, choice: Choice) -> tuple[Iterable[Event], bool]:
    """Events up to now, and whether there are earlier ones."""
    if limit is None:
        return read_events(history, choice.begin(history), choice=choice), False
    return last_events(history, limit, choice)


def _follow(
    service: JobService,
    job_id: str,
    history: History,
    limit: int | None,
    choice: Choice,
    line: Callable[[Event], str],
) -> None:
    """Write what comes after ``history``. What a job did before it was seen to have ended is shown."""
    position = history.end
    for _ in follow_job(service, job_id, ("interrupted",)):
        check_reader()
        history = service.history(job_id)
        if history.end == position:
            continue
        if history.continues(position):
            _write(read_events(history, position, choice=choice), line)
        else:
            tell(f"{job_id}: its journal was replaced by another one; beginning anew")
            _write(_latest(history, limit, choice)[0], line)
        position = history.end


def _write(events: Iterable[Event], line: Callable[[Event], str], *, at_once: bool = True) -> None:
    for event in events:
        sys.stdout.write(line(event) + "\n")
        if at_once:
            sys.stdout.flush()
    sys.stdout.flush()


def _line(event: Event) -> str:
    """Of 40 columns and the text, which may be as long as it is."""
    word = event.level if event.kind == "log" else event.kind.replace("_", " ")
    row = "" if event.row_number is None else str(event.row_number)
    text = event.text
    if event.kind == "log" and event.details:
        text = f"{text}  {as_json(event.details)}"
    at = f"{local_time(event.at):%Y-%m-%d %H:%M:%S}"
    return f"{at}  {word:<9}  {row:>6}  {clean(text)}".rstrip()
