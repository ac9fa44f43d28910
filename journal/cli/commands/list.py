"""`journal list`."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import click

from journal.cli.exit_codes import exit_code_of_store
from journal.cli.find import ReadingService, duration_s, status_text
from journal.cli.listing import Field, echo_rows, limit_option, listing_options
from journal.cli.output import bar, echo_err, local_text
from journal.cli.shared_options import option
from journal.cli.times import parse_moment, since_option
from journal.errors import JournalError
from journal.model import JOB_MEMBERS, Job, JobStatus
from journal.text import cents_number, duration_text

_INTERRUPTED = "interrupted"
_BAR_CELLS = 8


class Listed(NamedTuple):
    """A job, its status in the listing, and the seconds that the job has taken so far."""

    job: Job
    state: str
    duration_s: float | None


def _of_job(name: str, title: str = "", **column: Any) -> Field:
    return Field(name, title, attrgetter(f"job.{name}"), **column)


# The columns of the table in their order, followed by all other fields of a job.
_COLUMNS = (
    _of_job("id", "JOB"),
    _of_job("name", "NAME", least=8, rank=5),
    Field(
        *("status", "STATUS", attrgetter("state")),
        text=lambda x: status_text(x.job, x.state),
        status=True,
    ),
    Field(
        title="PROGRESS", text=lambda x: bar(x.job.done_rows, x.job.total_rows, _BAR_CELLS), rank=1
    ),
    Field(title="DONE", text=lambda x: f"{x.job.done_rows}/{x.job.total_rows}", right=True),
    _of_job("failed_rows", "FAILED", right=True, rank=2),
    Field(title="IN FLIGHT", text=lambda x: str(x.job.processing_count), right=True, rank=2),
    _of_job("pending_count", "PENDING", right=True, rank=7),
    _of_job("needs_review_count", "REVIEW", right=True, rank=6),
    _of_job(
        "total_cost_cents",
        "CENTS",
        text=lambda x: cents_number(cents) if (cents := x.job.total_cost_cents) else "",
        right=True,
        rank=8,
    ),
    _of_job(
        "started_at",
        "STARTED",
        text=lambda x: local_text(x.job.started_at, "%Y-%m-%d %H:%M"),
        rank=3,
    ),
    Field("duration_s", "DURATION", text=lambda x: duration_text(x.duration_s), right=True, rank=4),
)
_SHOWN = {field.name for field in _COLUMNS}
_FIELDS = (*_COLUMNS, *(_of_job(name) for name in JOB_MEMBERS if name not in _SHOWN))


@click.command("list")
@option(
    "--status",
    "Only jobs of this status. A job whose run died is interrupted, not running.",
    type=click.Choice([*(status.value for status in JobStatus), _INTERRUPTED]),
)
@option("--name PATTERN", "Only jobs with a matching name, such as 'Ship *'.")
@since_option("Only jobs created at this time or later")
@option("--until WHEN", "Only jobs created before this time.", parse_moment)
@limit_option("Only the newest N jobs.", default="50")
@listing_options
@click.pass_context
def list_command(
    ctx: click.Context, /, status: str | None, limit: int | None, output: str, **query: Any
) -> int:
    """List the jobs, newest first.

    DONE is the number of completed and skipped rows. If a job is interrupted, its run has died, and
    the rows IN FLIGHT may have taken effect: `journal show JOB` says how to settle them. DURATION
    includes pauses and other times without a run. "paused until resume" beside a status is a pause by
    `journal pause`. A narrow terminal shows fewer columns.

    Directories that can't be read as jobs, or that have lost their journal, are reported on
    standard error. In this case, the other jobs are still listed, and the exit code is 6.

    Example: journal list --status interrupted --since 3d
    """
    service = ReadingService(ctx.obj)
    errors: list[JournalError] = []
    of_run = status in (JobStatus.RUNNING, _INTERRUPTED)  # only the run lock distinguishes them
    jobs = service.list_jobs(
        JobStatus.RUNNING if of_run else status,
        None if of_run or limit is None else limit + 1,  # one more, to know whether more jobs exist
        on_error=errors.append,
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
    none = f"0 jobs in {service.root}"
    if not service.root.exists():
        none += ", which does not exist"
    elif status or any(query.values()):
        none += " meet these conditions"
    echo_rows(output, _FIELDS, shown, none=none, look_ahead=None)
    if len(found) > len(shown) and output == "table":
        echo_err(f"these are the newest {limit} jobs; --limit all shows all")
    for error in errors:
        echo_err(f"journal: {error}")
    return exit_code_of_store(errors)
