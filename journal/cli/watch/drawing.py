"""The lines of a live view, for a width and a height. They depend only on the data that was read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from journal.cli.job_status import counts_text, pause_text, row_counts, status_text
from journal.cli.listing_formats import next_lines
from journal.cli.output import bar, cut, local_text, pad, width_of
from journal.cli.sets import shards_text
from journal.cli.watch.reading import InFlight, SeenJob, SeenSet, SeenShard
from journal.display.repr import limits_text
from journal.history.events import Event
from journal.model import (
    Job,
    JobStatus,
    expected_cost_cents,
    hold_of,
    pausing_text,
    usage_rates_text,
)
from journal.progress.rate import time_left
from journal.sets.shard_states import INTERRUPTED, PAUSED, UNREADABLE
from journal.text import clock_text, counted, duration_text, escaped, shorten, spent_text

_MAX_TEXT = 1000  # characters of an error: no terminal is wider
_SLOW = 10  # an attempt is marked after this many times the median
_MAX_BAR = 40
_MIN_HEIGHT_WITH_GAPS = 18  # from this height on, empty lines stand before tables
_MIN_TABLE = 4  # lines of a table that come before the lines of less valuable parts
# The shards that need a person come first.
_ATTENTION = (UNREADABLE, INTERRUPTED, "unknown", PAUSED, "paused", "failed", "cancelled")
# The heads of tables, and whether their columns are numbers.
_SHARD_HEADS = (
    *(("SHARD", False), ("STATE", False), ("DONE", True), ("RATE", True), ("IN FLIGHT", True)),
    *(("FAILED", True), ("OLDEST", True), ("", False)),
)
_IN_FLIGHT_HEADS = (
    *(("ROW", True), ("AGE", True), ("MEDIAN", True), ("ATTEMPT", True)),
    *(("STEP", False), ("DATA", False)),
)


# A text, and the status in whose colour it is shown ("" for none).
Line = tuple[str, str]


class _Part(NamedTuple):
    """A part of a view.

    ``least``: this number of lines comes before the lines of less valuable parts.
    """

    lines: Sequence[Line]
    least: int


def job_lines(seen: SeenJob, width: int, height: int) -> list[Line]:
    """Draw a job. At most ``height`` lines, each of at most ``width`` cells."""
    job = seen.job
    limits = ""
    if job.last_run is not None and seen.state == JobStatus.RUNNING:
        limits = limits_text(job.last_run)
    cost = spent_text(job.total_cost_cents, expected_cost_cents(job))
    tables = (
        [("next", ""), *((f"  {line}", "") for line in next_lines(seen.next, width))],
        _in_flight_lines(seen),
        [("errors, newest first", ""), *map(_event_line, reversed(seen.errors))],
        [("log, newest first", ""), *map(_event_line, reversed(seen.events))],
    )
    following, in_flight, errors, log = (table if len(table) > 1 else [] for table in tables)
    parts = [
        _Part([_bar_line(job, seen.rate, seen.left, width)], 1),
        _Part([(f"{job.id}: {_state_text(seen)}", seen.state)], 1),
        _Part([*_notices(seen)], 9),
        _Part([(counts_text(row_counts(job)), "")], 1),
        _Part(following, len(following)),
        _Part(in_flight, _MIN_TABLE),
        _Part(errors, _MIN_TABLE),
        _Part([(f"cost {cost}", "")] if cost else [], 1),
        _Part([(f"limits {limits}", "")] if limits else [], 1),
        _Part(log, 0),
    ]
    return _fit(parts, width, height)


def set_lines(seen: SeenSet, width: int, height: int) -> list[Line]:
    """Draw a set of shards. At most ``height`` lines, each of at most ``width`` cells."""
    whole, job = seen.whole, seen.whole.job
    cost = spent_text(job.total_cost_cents, expected_cost_cents(job))
    shards = sorted(seen.shards, key=lambda shard: _attention(shard, seen.now))
    table = _table(
        _SHARD_HEADS,
        [_shard_cells(shard, seen.now) for shard in shards],
        [_color(shard) for shard in shards],
    )
    left = None if any(map(usage_rates_text, whole.jobs)) else time_left(job, seen.rate)
    parts = [
        _Part([_bar_line(job, seen.rate, left, width)], 1),
        _Part([(f"{whole.id}: {whole.state}; {shards_text(whole)}", whole.state)], 1),
        _Part([(counts_text(row_counts(job)), "")], 1),
        _Part(table, len(table)),
        _Part([(f"cost {cost}", "")] if cost else [], 1),
    ]
    return _fit(parts, width, height)


def _fit(parts: Sequence[_Part], width: int, height: int) -> list[Line]:
    """Choose the lines for which there is room. The first parts are the most valuable.

    Each part gets its least number of lines first, then a third of the height, then all of its lines.
    """
    tables = sum(len(part.lines) > 1 for part in parts)
    gap = [("", "")] if height > _MIN_HEIGHT_WITH_GAPS else []
    room, taken = height - tables * len(gap), [0] * len(parts)
    for at_most in (0, height // 3, height):
        for number, part in enumerate(parts):
            wanted = min(len(part.lines), max(part.least, at_most))
            more = min(wanted - taken[number], room)
            taken[number] += more
            room -= more
    found: list[Line] = []
    for part, room_of in zip(parts, taken, strict=True):
        count = room_of if room_of > 1 else min(room_of, part.least)  # no title alone
        found += gap if count > 1 else []
        found += [(cut(escaped(text).rstrip(), width), color) for text, color in part.lines[:count]]
    return found


def _bar_line(job: Job, rate: float | None, left: timedelta | None, width: int) -> Line:
    total, done = job.total_rows, job.done_rows
    percent = f"{100 * done // total}%" if total else "no rows yet"
    text = f"{percent}  {done}/{counted(total, 'row|rows')}"
    if rate is not None:
        text += f"  {rate:.0f}/s" if rate >= 100 else f"  {rate:.3g}/s"
    if left:
        text += f"  {left} left"
    room = min(width - width_of(text) - 2, _MAX_BAR)
    return (f"{bar(done, total, room)}  {text}" if room >= 5 else text), ""


def _state_text(seen: SeenJob) -> str:
    run = seen.job.last_run
    if seen.state == JobStatus.RUNNING and run is not None:
        took = duration_text((seen.now - run.started_at).total_seconds())
        return f"{seen.state} for {took}, process {run.pid} on {run.host}"
    text = status_text(seen.job, seen.state)
    return f"{text}: its run died" if seen.state == INTERRUPTED else text


def _notices(seen: SeenJob) -> Iterable[Line]:
    job = seen.job
    if job.error_code:
        yield f"{job.error_code}: {shorten(job.error_message or '', _MAX_TEXT)}", "failed"
    if job.pause is not None:
        yield f"paused {pause_text(job.pause)}", "paused"
    early = None if job.last_run is None else job.last_run.ended_early
    pausing = pausing_text(job, seen.state)
    if early is not None and (pausing or job.status is JobStatus.PAUSED):
        yield f"{pausing}: {early.message}" if pausing else early.message, "paused"
    if (hold := hold_of(job, seen.state)) is not None:
        if hold.until > seen.now:
            text = f"holding until {_at(hold.until, seen.now)}"
        else:
            text = f"holding since {clock_text(hold.since, seen.now)}, one row is tried"
        yield f"{text}: {hold.reason}", "paused"
    if seen.stalled_s is not None:
        yield f"STALLED: no attempt has ended for {duration_text(seen.stalled_s)}", "failed"
    if job.waiting_count:
        rows = counted(job.waiting_count, "row|rows waits|wait")
        due = "now"
        if seen.next_due is not None and seen.next_due > seen.now:
            due = f"at {_at(seen.next_due, seen.now)}"
        yield f"{rows} for somebody else, the next is due {due}", ""


def _at(at: datetime, now: datetime) -> str:
    """A future time, and the time until then."""
    return f"{clock_text(at, now)} (in {duration_text((at - now).total_seconds())})"


def _in_flight_lines(seen: SeenJob) -> list[Line]:
    if not seen.in_flight:
        return []
    count, half = counted(seen.job.processing_count, "row|rows"), ""
    if seen.median_s is not None:
        half = f"; median of the last {counted(seen.timed, 'attempt|attempts')}: "
        half += duration_text(seen.median_s)
    rows = [_in_flight_cells(each, seen) for each in seen.in_flight]
    colors = ["paused" if cells[2] else "" for cells in rows]
    return [(f"{count} in flight, oldest first{half}", ""), *_table(_IN_FLIGHT_HEADS, rows, colors)]


def _in_flight_cells(each: InFlight, seen: SeenJob) -> tuple[str, ...]:
    age_s = (seen.now - each.began).total_seconds()
    times = age_s / seen.median_s if seen.median_s else 0.0
    step = each.step
    if each.step_at is not None and each.step_state == "started":
        step += f" ({duration_text((seen.now - each.step_at).total_seconds())})"
    elif step:
        step = f"after {step}" if each.step_state == "done" else f"{step} {each.step_state}"
    return (
        f"{each.row}" + (f" +{each.others}" if each.others else ""),
        duration_text(age_s) if seen.state == JobStatus.RUNNING else "",
        f"{times:.0f}x" if times >= _SLOW else "",
        str(each.attempt),
        step,
        each.data,
    )


def _event_line(event: Event) -> Line:
    word = event.level if event.kind == "log" else event.kind.replace("_", " ")
    row = "" if event.row_number is None else f"row {event.row_number}: "
    text = f"{row}{shorten(event.text, _MAX_TEXT)}"
    color = event.level if event.kind == "log" else word
    return f"  {local_text(event.at, '%H:%M:%S')}  {word:<9} {text}", color


# --- sets


def _attention(shard: SeenShard, now: datetime) -> tuple[int, float, int]:
    """Sort key: shards that need a person first, then the oldest attempts in flight."""
    job, states = shard.part.job, shard.part.states
    rank = next((n for n, state in enumerate(_ATTENTION) if state in states), len(_ATTENTION))
    if rank == len(_ATTENTION):
        needs = job is not None and (job.failed_rows or job.needs_review_count)
        rank += 0 if needs else 1 if job is not None and not job.status.is_ended else 2
    age_s = 0.0 if shard.oldest is None else (now - shard.oldest).total_seconds()
    return rank, -age_s, shard.part.index


def _color(shard: SeenShard) -> str:
    return "paused" if shard.part.is_paused else shard.part.state


def _shard_cells(shard: SeenShard, now: datetime) -> tuple[str, ...]:
    part, job = shard.part, shard.part.job
    name = part.id.rpartition("/")[2]
    state = ", ".join(sorted(part.states, key=lambda state: state != part.state))
    if job is None:
        return name, state, "", "", "", "", "", part.error or ""
    age = "" if shard.oldest is None else duration_text((now - shard.oldest).total_seconds())
    return (
        name,
        state,
        f"{job.done_rows}/{job.total_rows}",
        "" if shard.rate is None else f"{shard.rate:.3g}/s",
        str(job.processing_count or ""),
        str(job.failed_rows or ""),
        age,
        part.error or "",
    )


# --- tables


def _table(
    heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]], colors: Iterable[str]
) -> list[Line]:
    """A table with its heads. Columns without a value are left out, and long cells are cut."""
    rows = [[escaped(cell) for cell in row] for row in rows]
    columns = [
        (number, right, max(width_of(head), *(width_of(row[number]) for row in rows)))
        for number, (head, right) in enumerate(heads)
        if any(row[number] for row in rows)
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (pad(cells[n], wide, right=right) for n, right, wide in columns)
        return "  " + "  ".join(padded).rstrip()

    titles = line([head for head, _ in heads])
    return [(titles, ""), *((line(row), color) for row, color in zip(rows, colors, strict=True))]
