"""The records of a run that begins attempts, and that ends attempts without an outcome."""

from __future__ import annotations

from typing import Any

from journal import JobRow, JobService
from journal.format.arguments import check_cost
from journal.format.records import A_RUN, UNSET_TIME, RowStatusRecord, RowStatusText
from journal.ids import split_row_id
from journal.store.transitions import change_row


def start(service: JobService, row_id: str) -> JobRow:
    """A run begins an attempt."""
    return _put(service, row_id, "processing", by=A_RUN.by)


def try_again(service: JobService, row_id: str, code: str, message: str, **members: Any) -> JobRow:
    """The attempt has failed with an error that lets the row be attempted again."""
    return _put(service, row_id, "pending", error_code=code, error_message=message, **members)


def give_back(service: JobService, row_id: str, reason: str | None = None, **spent: Any) -> JobRow:
    """The attempt has never begun, or has done nothing. Such an attempt doesn't count."""
    return _put(service, row_id, "pending", reason=reason, reset="given_back", **spent)


def wait(service: JobService, row_id: str, after_s: float = 60.0, **members: Any) -> JobRow:
    """The attempt has handed the row to somebody, so the row waits."""
    return _put(service, row_id, "pending", reset="wait", after_s=after_s, by="run", **members)


def _put(service: JobService, row_id: str, status: RowStatusText, **members: Any) -> JobRow:
    job_id, number = split_row_id(row_id)
    members["cost_cents"] = check_cost(members.get("cost_cents"))
    record = RowStatusRecord(row=number, status=status, at=UNSET_TIME, **members)
    return service.store.journal(job_id).change(change_row, record)
