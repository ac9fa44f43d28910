"""A job, the jobs whose unfinished rows it took over, and those that took over its own."""

from __future__ import annotations

import msgspec

from journal.errors import JournalError
from journal.model import Job
from journal.service import JobService


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over a chain of retries. Rows were completed or skipped once, in one of its jobs.

    ``open`` are the :func:`open_rows` of the last job, ``rows`` all of these.
    """

    rows: int
    completed: int
    skipped: int
    open: int
    cost_cents: int


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """``jobs`` in the order of their making; ``problems`` are about jobs of it that can't be read."""

    jobs: list[Job]
    problems: list[JournalError]
    totals: Totals


def open_rows(job: Job) -> int:
    """How many rows are neither completed nor skipped, which a retry would go on with."""
    return job.pending_count + job.processing_count + job.needs_review_count + job.failed_rows


def chain_of(service: JobService, job: Job) -> Chain:
    """The chain of retries that a job is part of: it alone, mostly."""
    jobs = [job]
    problems: list[JournalError] = []
    seen = {job.id}  # an edited store may go in circles
    try:
        earlier: Job | None = job
        while earlier is not None and earlier.retry_of is not None:
            earlier = service.get_job(earlier.retry_of)
            if earlier is None or earlier.id in seen:
                break
            seen.add(earlier.id)
            jobs.insert(0, earlier)
    except JournalError as error:
        problems.append(error)
    try:
        while (later := service.get_retry(jobs[-1].id)) is not None and later.id not in seen:
            seen.add(later.id)
            jobs.append(later)
    except JournalError as error:
        problems.append(error)
    completed = sum(each.successful_rows for each in jobs)
    skipped = sum(each.skipped_count for each in jobs)
    still_open = open_rows(jobs[-1])
    return Chain(
        jobs=jobs,
        problems=problems,
        totals=Totals(
            rows=completed + skipped + still_open,
            completed=completed,
            skipped=skipped,
            open=still_open,
            cost_cents=sum(each.total_cost_cents for each in jobs),
        ),
    )
