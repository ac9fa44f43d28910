"""`journal show`: all that somebody needs to know who is called because a job stopped."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from journal.cli.advice import advice
from journal.cli.find import (
    duration_s,
    find_job,
    job_argument,
    spoken,
)
from journal.cli.listing import color_option
from journal.cli.output import (
    bar,
    can_show,
    clean,
    colored,
    cut,
    echo_json,
    local_time,
    shorten,
    terminal_width,
    use_color,
)
from journal.cli.redaction import check_redacted, redact_option
from journal.cli.throughput import (
    SAMPLE_ROWS,
    Throughput,
    end_times,
    recent_rate,
    sparkline,
    throughput,
    time_left,
)
from journal.format.records import BOTH_COPIES
from journal.fs.names import JOURNAL_NAME
from journal.history.error_groups import ErrorGroup, Numbers, group_errors
from journal.history.redact import redacted_members
from journal.model import Job, JobStatus, RowStatus, RunHolder, done_rows
from journal.service import JobService, existing_job
from journal.text import cents_text, counted, duration_text

# Of a job with more, or with larger rows, `journal errors` reads all: this answers at once.
READ_ROWS = 10_000
_READ_BYTES = 32 << 20
_READ_AT_LEAST = 100
_SHOWN_RANGES = 8
_WORTH_A_LINE_S = 1  # of a shorter time a throughput says nothing
_OPEN_TO_DOUBT = (RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW)


class Shown(msgspec.Struct, kw_only=True):
    """What `show` has found out about a job; ``--json`` writes it as it is.

    ``rate`` is rows a second, of late, while it runs. Of more than ``read_rows`` rows that are
    wrong only the first are in ``errors``, and ``partial`` is true; of those in flight or in review
    in ``doubtful``, which is cut then.
    """

    job: Job
    state: str
    holder: RunHolder | None
    duration_s: float | None
    rate: float | None
    left_s: float | None
    throughput: Throughput | None
    errors: list[ErrorGroup]
    doubtful: dict[str, Numbers]
    read_rows: int
    partial: bool
    next: list[tuple[str, str]]


@click.command("show", short_help="Show how one job stands, what went wrong, and what to do.")
@job_argument
@click.option("--json", "json_output", is_flag=True, help="All of it as one JSON object.")
@redact_option
@color_option
@click.pass_context
def show_command(
    ctx: click.Context, job: str, json_output: bool, redact: tuple[str, ...], color: str
) -> None:
    """Show one job: how it stands, how fast it is, what went wrong, and what to do about it.

    Throughput is completed, failed and skipped rows over time; of more than 2,000 rows as many are
    looked at, evenly spread. Errors are those of the first 10,000 rows that failed or need a
    review, or fewer if rows are large: `journal errors` has all. The last line is for awk and the
    like: key=value pairs, always the same ones.

    Example: journal show hash-stdlib
    """
    service, job_id = find_job(ctx.obj, job, redact=redact)
    check_redacted(ctx, service, [job_id], redact)
    command = spoken(ctx, service)
    shown = _look(service, existing_job(service, job_id), command)
    if json_output:
        echo_json(_plain(shown))
        return
    width = terminal_width()
    colors = use_color(color)
    for name, value in _lines(shown, command, width and max(width, 40)):
        text = clean(value).rstrip()
        if name == "status" and colors:
            text = colored(text, shown.state)
        elif name in _CUT and width is not None:
            text = cut(text, max(width - 12, 20))
        sys.stdout.write(f"{name:<12}{text}\n")
    sys.stdout.write(" ".join(f"{key}={value}" for key, value in counts_of(shown).items()) + "\n")


# What may be long and is looked at, not pasted.
_CUT = frozenset(("name", "description", "throughput"))


def _look(service: JobService, job: Job, command: Callable[..., str]) -> Shown:
    now = datetime.now(UTC)
    state = service.get_state(job)
    holder = service.run_holder(job.id) if state != "unknown" else None
    read_rows = _rows_to_read(service, job)
    times, rows_each = end_times(service.get_rows(job.id), min(read_rows, SAMPLE_ROWS))
    rate = None
    if state == JobStatus.RUNNING:
        rate = recent_rate(times, rows_each, _began(job, holder), now)
    left = time_left(job.pending_count + job.processing_count, rate)
    wrong = service.get_rows(job.id, (RowStatus.FAILED, RowStatus.NEEDS_REVIEW))
    names = service.redact
    errors = group_errors(
        redacted_members(row, names) for row in itertools.islice(wrong, read_rows)
    )
    doubtful = {}
    for status in _OPEN_TO_DOUBT:
        numbers = doubtful[status.value] = Numbers()
        found = service.find_rows(job.id, status, limit=read_rows + 1)
        numbers.is_cut = len(found) > read_rows
        for number in sorted(row.row_number for row in found[:read_rows]):
            numbers.add(number)
    is_merged = any(group.code == BOTH_COPIES for group in errors)
    job = redacted_members(job, names)
    return Shown(
        job=job,
        state=state,
        holder=holder,
        duration_s=duration_s(job, state, now),
        rate=rate,
        left_s=None if left is None else left.total_seconds(),
        throughput=throughput(times, rows_each),
        errors=errors,
        doubtful=doubtful,
        read_rows=read_rows,
        partial=len(wrong) > read_rows,
        next=advice(job, state, holder, doubtful, service.root, command, is_merged=is_merged),
    )


def _rows_to_read(service: JobService, job: Job) -> int:
    """How many rows of a status may be read: fewer where rows are large, as results may be."""
    try:
        size_bytes = os.stat(service.root / job.id / JOURNAL_NAME).st_size
    except OSError:  # deleted since
        size_bytes = 0
    row_bytes = max(1, size_bytes // max(1, job.total_rows))
    return max(_READ_AT_LEAST, min(READ_ROWS, _READ_BYTES // row_bytes))


def _began(job: Job, holder: RunHolder | None) -> datetime:
    """When the run that is at work began; what earlier ones did says nothing about its speed."""
    try:
        return datetime.fromisoformat(holder.started_at if holder else "").astimezone(UTC)
    except ValueError:  # its name isn't written yet
        return job.pass_started_at or job.created_at


def _lines(
    shown: Shown, command: Callable[..., str], width: int | None
) -> Iterator[tuple[str, str]]:
    """Names and values of the lines for people; a command to paste has a line of its own."""
    job, holder = shown.job, shown.holder
    total = job.total_rows
    done = done_rows(job)
    percent = f"{100 * done // total}%" if total else "no rows yet"
    facts = {
        "job": job.id,
        "name": job.name,
        "description": job.description or "",
        "status": shown.state,
        "run by": f"process {holder.pid} on {holder.host}" if holder else "",
        "hosts": ", ".join(job.hosts),
        "command": job.original_command,
        "created": _time_text(job.created_at),
        "started": _time_text(job.started_at),
        "passes": _passes_text(job),
        "ended": _time_text(job.completed_at),
        "duration": duration_text(shown.duration_s),
        "error": f"{job.error_code}: {job.error_message}" if job.error_code else "",
        "repaired": "with losses: rows may be missing" if job.repaired else "",
        "cost": cents_text(job.total_cost_cents) if job.total_cost_cents else "",
        "progress": f"{bar(done, total, 24)} {percent}, {_counts_text(job)}",
        "rate": _rate_text(shown),
        "throughput": _throughput_text(shown.throughput),
    }
    yield from ((name, value) for name, value in facts.items() if value)
    name = "errors"
    for group in shown.errors[:10]:
        yield name, _group_text(group)
        name = ""
    if len(shown.errors) > 10 or (shown.errors and shown.partial):
        more = len(shown.errors) - 10
        text = f"{counted(more, 'more code|codes')}; " if more > 0 else ""
        wrong = job.failed_rows + job.needs_review_count
        if wrong > shown.read_rows:
            text += (
                f"of {wrong} rows that failed or need a review, "
                f"the first {shown.read_rows} were read; "
            )
        yield name, f"{text}`{command('errors', job.id)}` has all"
    for name, status in (("in flight", "processing"), ("in review", "needs_review")):
        numbers = shown.doubtful[status]
        if numbers.count:
            yield (
                name,
                f"{'row' if numbers.count == 1 else 'rows'} {numbers.text(', ', _SHOWN_RANGES)}",
            )
    name = "next"
    for pasted, why in shown.next:
        for line in textwrap.wrap(why, width - 14, break_on_hyphens=False) if width else [why]:
            yield name, f"# {line}"
            name = ""
        if pasted:
            yield name, pasted


def _passes_text(job: Job) -> str:
    if job.passes == 1:
        return ""
    return f"{job.passes}, the last one since {_time_text(job.reopened_at[-1])}"


def _time_text(at: datetime | None) -> str:
    return "" if at is None else f"{local_time(at):%Y-%m-%d %H:%M:%S %Z}"


def _counts_text(job: Job) -> str:
    counts = {
        "completed": job.successful_rows,
        "failed": job.failed_rows,
        "skipped": job.skipped_count,
        "pending": job.pending_count,
        "processing": job.processing_count,
        "needs_review": job.needs_review_count,
    }
    some = [f"{count} {name}" for name, count in counts.items() if count]
    rows = counted(job.total_rows, "row|rows")
    return f"of {rows}: {', '.join(some)}" if some else rows


def _rate_text(shown: Shown) -> str:
    if shown.rate is None:
        return ""
    left = "" if shown.left_s is None else f", {duration_text(shown.left_s)} left"
    return f"{_figure(shown.rate)} rows/s{left}"


def _figure(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def _throughput_text(found: Throughput | None) -> str:
    if found is None or found.span_s * len(found.rows) < _WORTH_A_LINE_S:
        return ""
    highest = max(found.rows) / found.span_s
    line = sparkline(found.rows, can_show("▁█"))
    return f"{line} {duration_text(found.span_s)} each, at most {_figure(highest)} rows/s"


def _group_text(group: ErrorGroup) -> str:
    count = group.numbers.count
    rows = f"row{'s' if count > 1 else ''} {group.numbers.text(', ', _SHOWN_RANGES)}"
    message = shorten(group.message, 200)
    code = shorten(group.code or "no code", 60) + (
        " (review)" if group.status == RowStatus.NEEDS_REVIEW else ""
    )
    return f"{count} x {code}: {rows}: {message}"


def counts_of(shown: Shown) -> dict[str, Any]:
    """The pairs of the last line. Keys and their order stay as they are: scripts read them."""
    job = shown.job
    return {
        "job": job.id,
        "status": shown.state,
        "total": job.total_rows,
        "done": done_rows(job),
        "completed": job.successful_rows,
        "failed": job.failed_rows,
        "skipped": job.skipped_count,
        "pending": job.pending_count,
        "processing": job.processing_count,
        "needs_review": job.needs_review_count,
        "cost_cents": job.total_cost_cents,
    }


def _plain(shown: Shown) -> dict[str, Any]:
    """The JSON object: the job's own members, with its status as people see it, and the rest."""
    return {
        **msgspec.to_builtins(shown.job),
        "status": shown.state,
        "run_holder": shown.holder,
        "duration_s": shown.duration_s,
        "rows_per_s": shown.rate,
        "left_s": shown.left_s,
        "throughput": shown.throughput,
        "errors": [
            {
                "code": group.code,
                "status": group.status,
                "count": group.numbers.count,
                "example": group.message,
                "rows": group.numbers.text(),
            }
            for group in shown.errors
        ],
        "errors_partial": shown.partial,
        "processing_rows": shown.doubtful["processing"].text(),
        "needs_review_rows": shown.doubtful["needs_review"].text(),
        "next": [{"command": command, "why": why} for command, why in shown.next],
    }
