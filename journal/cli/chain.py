"""A job, the jobs whose unfinished rows it took over, and those that took over its own."""

from __future__ import annotations

import msgspec

from journal.errors import JournalError
from journal.model import Job
from journal.service import JobService


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over a chain of retries. Rows were completed once, in one of its jobs.

    ``rows`` are those of the first job; ``open`` what is left in the last one.
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
    first, last = jobs[0], jobs[-1]
    return Chain(
        jobs=jobs,
        problems=problems,
        totals=Totals(
            rows=max(first.total_rows, last.total_rows),
            completed=sum(each.successful_rows for each in jobs),
            skipped=sum(each.skipped_count for each in jobs),
            open=last.total_rows - last.successful_rows - last.skipped_count,
            cost_cents=sum(each.total_cost_cents for each in jobs),
        ),
    )
