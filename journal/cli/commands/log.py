"""`journal log` shows what happened in a job. `watch` and `wait` follow a job until it ends."""

from __future__ import annotations

import heapq
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from operator import attrgetter
from time import monotonic, sleep
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from journal.cli.advice import echo_advice
from journal.cli.find import FoundJob, FoundSet, found_job_or_set
from journal.cli.job_status import counts_text, row_counts, status_text
from journal.cli.listing_formats import LOOK_AHEAD, Field, echo_rows, limit_option, listing_options
from journal.cli.output import as_json, echo_err, echo_problems, local_text
from journal.cli.selection import rows_option
from journal.cli.sets import missing_in, shards_text, states_text
from journal.cli.shared_options import option, parse_seconds, since_option
from journal.cli.watch.follow import follow_job, follow_set, gone
from journal.cli.watch.screen import LiveView, QuitError, can_draw
from journal.errors import JobNotFoundError
from journal.history.events import Choice, Event, last_events, read_events
from journal.history.history import History, read_history
from journal.model import LOG_LEVELS, Job, JobStatus
from journal.progress.show import Progress
from journal.progress.terminal import has_terminal
from journal.run.exit_codes import (
    EXIT_DAMAGED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_TIMED_OUT,
    job_exit_code,
)
from journal.sets.shard_states import INTERRUPTED, PAUSED, UNREADABLE, look_at_set
from journal.store.list_jobs import state_of_job
from journal.text import as_text, shorten

_DEFAULT_EVENTS = 50
# The states of shards that need a person.
_STUCK = (INTERRUPTED, JobStatus.PAUSED.value, PAUSED, UNREADABLE)
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


# --- watch and wait ---------------------------------------------------------------------------


def _until_end(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `watch` and `wait` to a command."""
    timeout = "Give up after this time, with exit code 124. Default: no limit."
    command = option("--timeout DURATION timeout_s", timeout, parse_seconds)(command)
    return found_job_or_set(command)


@click.command("watch", short_help="Show the progress of a job until it ends.")
@_until_end
def watch_command(job: FoundJob, timeout_s: float | None) -> int:
    """Show a job live until it ends.

    The view has the progress, rate and forecast, the rows in flight and their steps, holds, waits,
    the last errors and messages, the cost, and advice.

    The view is drawn in place, and fits the terminal. The age of a row is shown beside the median
    duration of recent attempts. The key q or Ctrl-C ends only the view, with exit code 130. The
    last state stays on the terminal. Without a terminal, or with TERM=dumb, a line every 10 seconds
    shows the progress. The command only reads the journal, so it also shows a copy, or a job on
    another host.

    A set of shards has a line for each shard. Shards that need a person come first.

    If the job is paused and its run is alive, the command waits, because `journal resume` can
    continue this run. If the job is paused without a run, the command ends and says how to
    continue. If the run of a running job dies and rows are open, the command waits for the next
    run.

    For a set, the command waits until each shard has ended, is paused without a run, or can't be
    read. The command also waits for shards that aren't here.

    The exit code is 0 if all rows are completed or skipped, and 3 if some rows failed or need a
    review. Exit code 4 means that the job ended before its rows were done, or was deleted or moved
    away. Exit code 6 means that a shard can't be read. Exit code 124 means that the job didn't end
    within --timeout.

    Example: journal watch hash-stdlib
    """
    return _follow_to_end(job, timeout_s, is_shown=True)


@click.command("wait", short_help="Wait until a job ends. The exit code says how the job ended.")
@_until_end
def wait_command(job: FoundJob, timeout_s: float | None) -> int:
    """Wait until a job ends. The exit codes are those of `journal watch`.

    For a set, the command reports which shards it waits for.

    Example: journal wait hash-stdlib --timeout 1h
    """
    return _follow_to_end(job, timeout_s, is_shown=False)


def _follow_to_end(job: FoundJob, timeout_s: float | None, *, is_shown: bool) -> int:
    begin_s = monotonic()

    def is_over() -> bool:
        return timeout_s is not None and monotonic() - begin_s >= timeout_s

    live = LiveView(job) if is_shown and can_draw() else None
    try:
        if isinstance(job, FoundSet):
            return _follow_set(job, is_over, live, is_shown=is_shown)
        return _follow_one(job, is_over, live, is_shown=is_shown)
    except _LateError as error:
        job.say(f"has not ended after {timeout_s:g} s; it is {error}")
        return EXIT_TIMED_OUT
    except (QuitError, KeyboardInterrupt):
        if live is None:
            raise
        job.say("only this view has ended")
        if live.has_advice:
            echo_advice(job.service, job.read(), job.command)
        return EXIT_INTERRUPTED


class _LateError(Exception):
    """The job hasn't ended in time. The text is the job's state."""


def _follow_one(
    job: FoundJob, is_over: Callable[[], bool], live: LiveView | None, *, is_shown: bool
) -> int:
    found, state = job.read(), ""
    if is_shown and not has_terminal() and not found.status.is_ended:
        job.say(f"{state_of_job(job.service.store, found)}: {_counts_text(found)}")
    progress = Progress(found, progress=is_shown, in_shell=True)
    say, wait = (echo_err, sleep) if live is None else (str, live.wait)
    with live or progress:
        for seen in follow_job(job.service, job.id, say=say, wait=wait):
            found, state = seen.job, seen.state
            if live is None:
                progress.show(found, seen.state)
            else:
                live.show_job(seen.state, ended=seen.ended)
            if not seen.ended and is_over():
                raise _LateError(seen.state)
    job.say(f"{status_text(found, state)}: {_counts_text(found)}")
    is_left = found.open_rows or not found.status.is_ended
    if is_left if live is None else live.has_advice:
        echo_advice(job.service, found, job.command)
    return job_exit_code(found)


def _follow_set(
    found: FoundSet, is_over: Callable[[], bool], live: LiveView | None, *, is_shown: bool
) -> int:
    """Wait until each shard of a set has ended, or needs a person: see :func:`follow_set`."""
    whole, stuck = look_at_set(found.service, found.id), ""
    if is_shown and not has_terminal():
        found.say(f"{whole.state}: {_counts_text(whole.job)}; {shards_text(whole)}")
    progress = Progress(whole.job, progress=is_shown, in_shell=True)
    wait = sleep if live is None else live.wait
    with live or progress:
        for whole, has_ended in follow_set(found.service, found.id, wait=wait):
            if live is None:
                progress.show(whole.job, whole.state)
            else:
                live.show_set(whole, ended=has_ended)
            if has_ended:
                break
            if live is None and stuck != (stuck := states_text(whole, _STUCK)) and stuck:
                found.say(f"{stuck}; still waiting")
            if is_over():
                raise _LateError(f"{whole.state}: {shards_text(whole)}")
    has_ended = whole.job.status.is_ended and not whole.errors
    more = "" if has_ended else f"; {shards_text(whole)}"
    found.say(f"{whole.state}: {_counts_text(whole.job)}{more}")
    echo_problems(*whole.errors)
    return EXIT_DAMAGED if whole.errors else job_exit_code(whole.job)


def _counts_text(job: Job) -> str:
    return counts_text(row_counts(job)) or "no rows"
