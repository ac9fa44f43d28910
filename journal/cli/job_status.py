"""A job's status, pause, counts and duration in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from journal.cli.output import bar, local_text
from journal.model import (
    SHOWN_STATUSES,
    Job,
    JobStatus,
    Pause,
    RunHolder,
    hold_of,
    hold_text,
    pausing_text,
)
from journal.text import counted


def duration_s(job: Job, state: str, now: datetime) -> float | None:
    """The duration of a job's passes so far, in seconds.

    The time of a pass begins with its first run, and lasts until the job ends. If the pass hasn't
    ended, its time lasts up to ``now`` for a running job, and up to the job's last record for any
    other job.
    """
    if job.started_at is None:
        return None
    if job.pass_started_at is None:
        return job.worked_s
    end = now if state == JobStatus.RUNNING else job.updated_at
    return job.worked_s + max(0.0, (end - job.pass_started_at).total_seconds())


def status_text(job: Job, state: str = "") -> str:
    """The status of a job (or its ``state``) in words.

    A job without failed rows counts as failed, too, if some rows need a review. In this case, the
    text says how many rows need a review. A person's pause and the hold of a working run are named,
    too.
    """
    reviews, text = job.needs_review_count, state or job.status.value
    if job.status is JobStatus.FAILED and not job.failed_rows and reviews:
        text = f"{job.status.value} ({counted(reviews, 'row|rows needs|need a review')})"
    if (hold := hold_of(job, state)) is not None:
        text = hold_text(hold)
    text = pausing_text(job, state) or text
    if job.pause is None:
        return text
    return _PAUSED if job.status is JobStatus.PAUSED else f"{text}, {_PAUSED}"


_PAUSED = "paused until resume"


def pause_text(pause: Pause) -> str:
    """Who has paused a job, and when."""
    by = f"by {pause.person} " if pause.person else ""
    return f"{by}since {local_text(pause.since, '%Y-%m-%d %H:%M:%S %Z')}"


def holder_text(holder: RunHolder) -> str:
    """Describe the process that runs a job.

    If the run has just begun, its process may be unknown.
    """
    return f"process {holder.pid} on {holder.host}" if holder.pid else "a run"


def row_counts(job: Job) -> dict[str, int]:
    """A dict from each status to the number of rows with this status."""
    return {status.value: job.count(status) for status in SHOWN_STATUSES}


def counts_text(counts: Mapping[str, int]) -> str:
    """Return the counts as text, such as "3 completed, 1 failed".

    Zeros are left out. If all counts are zero, the text is "".
    """
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def progress_text(job: Job, more: str = "") -> str:
    """How much of a job is done, as a bar and counts. ``more``: text after the counts."""
    total, done = job.total_rows, job.done_rows
    percent = f"{100 * done // total}%" if total else "no rows yet"
    counts, rows = counts_text(row_counts(job)) + more, counted(total, "row|rows")
    return f"{bar(done, total, 24)} {percent}, {f'of {rows}: {counts}' if counts else rows}"
