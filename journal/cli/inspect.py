"""`journal list`, `show` and `rows`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from journal.cli.exits import EXIT_OK, exit_code_of
from journal.cli.jobs import ReadingService, find_job, state_of
from journal.cli.output import (
    as_json,
    clean,
    echo_json_list,
    echo_table,
    local_time,
    shorten,
    tell,
)
from journal.errors import JobNotFoundError, JournalError
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.service import JobService

_json_option = click.option("--json", "json_output", is_flag=True, help="JSON instead of a table.")


@click.command("list")
@click.option("--status", type=click.Choice([status.value for status in JobStatus]))
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@_json_option
@click.pass_context
def list_command(ctx: click.Context, status: str | None, limit: int, json_output: bool) -> int:
    """List the jobs, newest first.

    A job that can't be read is named on standard error and doesn't hide the others.

    Example: journal list --status running
    """
    service = ReadingService(ctx.obj)
    errors: list[JournalError] = []
    jobs = service.list_jobs(status, limit, on_error=errors.append)
    if json_output:
        echo_json_list(_job_json(service, job) for job in jobs)
    elif jobs:
        header = ("JOB", "STATUS", "DONE", "FAILED", "REVIEW", "CREATED", "NAME")
        echo_table(header, [_job_line(service, job) for job in jobs])
    elif not service.root.exists():
        tell(f"{service.root} does not exist: no job was made there")
    for error in errors:
        tell(f"journal: {error}")
    return max(map(exit_code_of, errors), default=EXIT_OK)


def _job_line(service: JobService, job: Job) -> tuple[str, ...]:
    done = job.successful_rows + job.skipped_count
    return (
        job.id,
        state_of(service, job),
        f"{done}/{job.total_rows}",
        str(job.failed_rows),
        str(job.needs_review_count),
        f"{local_time(job.created_at):%Y-%m-%d %H:%M:%S}",
        shorten(clean(job.name), 60),
    )


def _job_json(service: JobService, job: Job) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(job)
    return {**fields, "interrupted": state_of(service, job) == "interrupted"}


@click.command("show")
@click.argument("job")
@_json_option
@click.pass_context
def show_command(ctx: click.Context, job: str, json_output: bool) -> None:
    """Show one job: its summary, and what to do if it needs something.

    Example: journal show hash-stdlib
    """
    service, job_id = find_job(ctx.obj, job)
    found = service.get_job(job_id)
    if found is None:  # deleted since it was found
        raise JobNotFoundError(job_id)
    if json_output:
        click.echo(as_json(_job_json(service, found)))
        return
    state = state_of(service, found)
    times = {
        name: f"{local_time(at):%Y-%m-%d %H:%M:%S %Z}" if at else ""
        for name, at in (
            ("created", found.created_at),
            ("started", found.started_at),
            ("ended", found.completed_at),
        )
    }
    holder = service.run_holder(job_id)
    facts = {
        "job": found.id,
        "name": found.name,
        "description": found.description or "",
        "status": state,
        "run by": f"process {holder.pid} on {holder.host}" if holder else "",
        "command": found.original_command,
        "retry of": found.retry_of or "",
        **times,
        "error": f"{found.error_code}: {found.error_message}" if found.error_code else "",
        "cost": f"{found.total_cost_cents / 100:.2f}" if found.total_cost_cents else "",
    }
    for name, value in facts.items():
        if value:
            click.echo(f"{name:<12}{clean(value)}")
    counts = {
        "rows": found.total_rows,
        "completed": found.successful_rows,
        "failed": found.failed_rows,
        "skipped": found.skipped_count,
        "pending": found.pending_count,
        "processing": found.processing_count,
        "needs_review": found.needs_review_count,
    }
    click.echo(f"{'counts':<12}" + "  ".join(f"{name} {n}" for name, n in counts.items()))
    for advice in _advice(found, state, service.get_retry(job_id)):
        click.echo(f"{'next':<12}{advice}")


def _advice(job: Job, state: str, successor: Job | None) -> list[str]:
    advice = []
    if state == "interrupted":
        advice.append(
            f"its run died with {job.processing_count} rows in flight: run it again, with "
            "--on-interrupted review (the default), retry or fail"
        )
    if job.failed_rows:
        advice.append(f"journal rows {job.id} --status failed")
    if job.needs_review_count:
        advice.append(f"journal rows {job.id} --status needs_review")
    if job.status in (JobStatus.FAILED, JobStatus.CANCELLED):
        if successor is None:
            advice.append(f"journal retry {job.id}   (a new job of its unfinished rows)")
        else:
            advice.append(f"journal show {successor.id}   (its unfinished rows went on there)")
    return advice


@click.command("rows")
@click.argument("job")
@click.option("--status", type=click.Choice([status.value for status in RowStatus]))
@_json_option
@click.pass_context
def rows_command(ctx: click.Context, job: str, status: str | None, json_output: bool) -> None:
    """List the rows of a job, by number.

    Example: journal rows hash-stdlib --status failed
    """
    service, job_id = find_job(ctx.obj, job)
    rows = service.get_rows(job_id, status)
    if json_output:
        echo_json_list(rows)
        return
    if rows:  # widths are fixed: a million rows are written as they are read
        click.echo(f"{'ROW':>7}  {'STATUS':<12}  {'TRIES':>5}  {'OUTCOME':<40}  DATA")
    for row in rows:
        data = shorten(as_json(row.data), 80)
        outcome = shorten(clean(_outcome(row)), 40)
        line = f"{row.row_number:>7}  {row.status:<12}  {row.attempts:>5}  {outcome:<40}  {data}"
        click.echo(line)


def _outcome(row: JobRow) -> str:
    if row.error_code is not None:
        return f"{row.error_code}: {row.error_message}"
    if row.reason is not None:
        return row.reason
    if row.tracking_number is not None:
        return row.tracking_number
    if row.result is not None:
        return row.result if isinstance(row.result, str) else as_json(row.result)
    return ""
