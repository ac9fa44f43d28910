"""Makes ``Job`` and ``JobSummary`` from an index."""

from __future__ import annotations

from copy import deepcopy
from typing import cast

from journal.format.records import JobRecord
from journal.index.columns import CODES, WAITING
from journal.index.index import Index
from journal.index.job_state import Counts, JobState, Progress
from journal.model import SHOWN_STATUSES, Job, JobSummary, RowStatus, cents_of
from journal.text import time_text

# The members that a job's record, or its state, has under the same name as the job.
_OF_HEADER = [name for name in Job.__struct_fields__ if name in JobRecord.__struct_fields__][1:]
_OF_STATE = [
    name
    for name in Job.__struct_fields__
    if name in Progress.__struct_fields__ and name != "counts"
]


def job_of(index: Index) -> Job:
    """Make the ``Job`` as it is after the last commit that the index covers."""
    state = index.state
    assert state is not None, "refresh() refuses a journal without a job record"
    header = state.header
    counts = _shown_counts(index, state)
    shown = {
        RowStatus.COMPLETED: counts.successful,
        RowStatus.FAILED: counts.failed,
        RowStatus.PENDING: index.pending_count,
    }
    code, message = (state.error.code, state.error.message) if state.error else (None, None)
    members = {name: getattr(header, name) for name in _OF_HEADER}
    members |= {name: getattr(state, name) for name in _OF_STATE}
    members["metadata"] = deepcopy(header.metadata)  # a copy, because the caller may change it
    return Job(
        **members,
        id=header.job_id,
        total_rows=counts.total,
        processed_rows=counts.processed,
        counts={
            status: shown.get(status, index.status_counts[CODES[status]])
            for status in SHOWN_STATUSES
        },
        waiting_count=index.status_counts[WAITING],
        total_cost_cents=cents_of(index.cost_millionths),
        usage=dict(index.usage),
        error_code=code,
        error_message=message,
        last_run=state.run,
        created_at=header.at,
        updated_at=index.last_at,
    )


def summary_of(index: Index) -> JobSummary:
    """Make the job's summary as it is after the last commit that the index covers."""
    job = job_of(index)
    summary = {name: getattr(job, name) for name in JobSummary.__annotations__}
    summary["status"] = job.status.value
    for name in ("created_at", "started_at", "completed_at"):
        at = summary[name]
        summary[name] = None if at is None else time_text(at)
    return cast("JobSummary", summary)


def _shown_counts(index: Index, state: JobState) -> Counts:
    """Return the counts of the rows, plus the corrections that ``update_counts`` has made."""
    rows, extra = index.row_counts(), state.counts
    # If a caller has set a count too low, the retry of a failed row would make the count negative.
    return Counts(
        max(0, rows.total + extra.total),
        max(0, rows.processed + extra.processed),
        max(0, rows.successful + extra.successful),
        max(0, rows.failed + extra.failed),
    )
