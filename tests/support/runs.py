"""Jobs with small rows, for tests of runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import journal
from journal import AttemptedRow, JobRun
from journal.run.workers.base import Call
from journal.run.workers.steps import StepStore


def open_job(path: Path, count: int = 5, **options: Any) -> JobRun:
    """Open a job whose rows have the data ``{"n": 1}`` and so on."""
    return journal.open_job(path, ({"n": n} for n in range(1, count + 1)), **options)


def statuses(job: JobRun) -> Counter[str]:
    return Counter(str(row.status) for row in job.rows())


def calls_of(job: JobRun) -> list[Call]:
    """Return a call for each row of the job."""
    steps = StepStore(job.service, job.id)
    return [Call((AttemptedRow(row, steps),), row.row_number) for row in job.rows()]
