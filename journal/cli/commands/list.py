"""`journal list`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from journal.cli.exit_codes import exit_code_of_store
from journal.cli.find import ReadingService, duration_s
from journal.cli.listing import Field, Format, echo_rows, limit_option, listing_options
from journal.cli.output import bar, tell, time_cell
from journal.cli.times import parse_moment, since_option
from journal.errors import JournalError
from journal.model import Job, JobStatus, done_rows
from journal.text import cents_text, duration_text

_INTERRUPTED = "interrupted"
_BAR_CELLS = 8


class Listed(NamedTuple):
    """A job, its status as people should see it, and how long it has taken (seconds) so far."""

    job: Job
    state: str
    duration_s: float | None


def _cost(job: Job) -> str:
    return cents_text(job.total_cost_cents) if job.total_cost_cents else ""


def _member(name: str) -> Field:
    return Field(name=name, value=lambda listed: getattr(listed.job, name))


# The table's columns in their order, and behind them what else a job has.
_COLUMNS = (
    Field(name="id", value=lambda listed: listed.job.id, title="JOB"),
    Field(name="name", value=lambda listed: listed.job.name, title="NAME", least=8, rank=5),
    Field(name="status", value=lambda listed: listed.state, title="STATUS", status=True),
    Field(
        title="PROGRESS",
        text=lambda listed: bar(done_rows(listed.job), listed.job.total_rows, _BAR_CELLS),
        rank=1,
    ),
    Field(
        title="DONE",
        text=lambda listed: f"{done_rows(listed.job)}/{listed.job.total_rows}",
        right=True,
    ),
    Field(
        name="failed_rows",
        value=lambda listed: listed.job.failed_rows,
        title="FAILED",
        right=True,
        rank=2,
    ),
    Field(
        name="pending_count",
        value=lambda listed: listed.job.pending_count,
        title="PENDING",
        right=True,
        rank=7,
    ),
    Field(
        name="needs_review_count",
        value=lambda listed: listed.job.needs_review_count,
        title="REVIEW",
        right=True,
        rank=6,
    ),
    Field(
        name="total_cost_cents",
        value=lambda listed: listed.job.total_cost_cents,
        title="COST",
        text=lambda listed: _cost(listed.job),
        right=True,
        rank=8,
    ),
    Field(
        name="started_at",
        value=lambda listed: listed.job.started_at,
        title="STARTED",
        text=lambda listed: time_cell(listed.job.started_at),
        rank=3,
    ),
    Field(
        name="duration_s",
        value=lambda listed: listed.duration_s,
        title="DURATION",
        text=lambda listed: duration_text(listed.duration_s),
        right=True,
        rank=4,
    ),
)
_FIELDS = (
    *_COLUMNS,
    *(
        _member(name)
        for name in Job.__struct_fields__
        if name not in {field.name for field in _COLUMNS}
    ),
)


@click.command("list")
@click.option(
    "--status",
    type=click.Choice([*(status.value for status in JobStatus), _INTERRUPTED]),
    help="Only these; a job whose run died is interrupted, not running.",
)
@click.option("--name", metavar="PATTERN", help="Only jobs of such a name: 'Ship *'.")
@since_option("Made")
@click.option("--until", metavar="WHEN", callback=parse_moment, help="Made before that.")
@limit_option("The newest N of them.", default="50")
@listing_options
@click.pass_context
def list_command(
    ctx: click.Context,
    status: str | None,
    name: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    output: Format,
) -> int:
    """List the jobs, newest first.

    A directory that can't be read as a job, or has lost its journal, is named on standard error and
    hides no other; the exit code is 6 then. DONE is completed and skipped rows. A narrow terminal
    shows fewer columns.

    Example: journal list --status interrupted --since 3d
    """
    service = ReadingService(ctx.obj)
    errors: list[JournalError] = []
    query: dict[str, Any] = {
        "name": name,
        "since": since,
        "until": until,
        "on_error": errors.append,
    }
    of_run = status in (JobStatus.RUNNING, _INTERRUPTED)  # only the run lock tells them apart
    jobs = service.list_jobs(
        JobStatus.RUNNING if of_run else status,
        None if of_run or limit is None else limit + 1,  # one more, to know whether there are more
        **query,
    )
    now = datetime.now(UTC)
    states = ((job, service.get_state(job)) for job in jobs)
    found = [
        Listed(job, state, duration_s(job, state, now))
        for job, state in states
        if not of_run or state == status
    ]
    shown = found[:limit]
    echo_rows(output, _FIELDS, shown, look_ahead=None)
    if len(found) > len(shown) and output.name == "table":
        tell(f"these are the newest {limit}; --limit all shows all")
    if not jobs and not service.root.exists():
        tell(f"{service.root} does not exist: no job was made there")
    elif not shown and limit != 0 and not errors and sys.stdout.isatty():
        chosen = status or name or since or until
        tell(f"no such job in {service.root}" if chosen else f"no jobs in {service.root}")
    for error in errors:
        tell(f"journal: {error}")
    return exit_code_of_store(errors)
