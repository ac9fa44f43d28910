"""Slips in handlers and loops: what is meant is done, or the message says what to write."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import InvalidValueError, JobRow, RowStatus

Handler = Callable[[Any], Any]


def after(path: Path, handle: Handler, **options: Any) -> JobRow:
    with journal.open_job(path / "j", [{"n": 7}]) as job:
        job.run(handle, **options)
        return job.rows()[0]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (journal.Fail("X", "y", cost_cents=3), (RowStatus.FAILED, "X", "y", 3)),
        (journal.Retry("Busy", "later"), (RowStatus.FAILED, "Busy", "later", None)),
        (journal.Skip("old", cost_cents=1), (RowStatus.SKIPPED, None, None, 1)),
        (journal.NeedsReview("A", "is it?"), (RowStatus.NEEDS_REVIEW, "A", "is it?", None)),
    ],
)
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_an_outcome_that_is_returned_counts_as_if_it_were_raised(
    outcome: journal.Fail, expected: tuple[Any, ...], is_coroutine: bool, tmp_path: Path
) -> None:
    async def handle(_row: Any) -> Any:
        return outcome

    row = after(tmp_path, handle if is_coroutine else lambda _row: outcome)
    assert (row.status, row.error_code, row.error_message, row.cost_cents) == expected


def test_an_outcome_that_is_returned_for_a_whole_call_is_that_of_each_row(tmp_path: Path) -> None:
    with journal.open_job(tmp_path / "j", [{}, {}, {}]) as job:
        job.run(lambda _rows: journal.Fail("X", cost_cents=3), batch=5)
        assert [row.error_code for row in job.rows()] == ["X", "X", "X"]
        assert job.job.total_cost_cents == 3


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (lambda row: row["n"], "write row.data['n']"),
        (lambda row: row.n, "'AttemptedRow' object has no attribute 'n': write row.data['n']"),
        (lambda row: row.nope, "'AttemptedRow' object has no attribute 'nope'"),
        (list, "'AttemptedRow' object is not iterable"),
    ],
)
def test_the_error_of_a_row_says_what_the_handler_should_write(
    handle: Handler, message: str, tmp_path: Path
) -> None:
    row = after(tmp_path, handle)
    assert row.status is RowStatus.FAILED
    assert message in str(row.error_message)


def test_a_row_of_csv_with_more_cells_than_the_header_is_named(tmp_path: Path) -> None:
    rows = csv.DictReader(io.StringIO("a,b\n1,2,3\n"))
    with pytest.raises(InvalidValueError, match=r"beyond the columns of the header: \['3'\]"):
        journal.open_job(tmp_path / "j", rows)
    assert not (tmp_path / "j").exists()


def test_a_report_says_that_its_failed_rows_may_need_a_review(tmp_path: Path) -> None:
    def handle(row: journal.AttemptedRow) -> None:
        if row.row_number == 2:
            raise journal.NeedsReview("A", "is it?")

    with journal.open_job(tmp_path / "j", [{}, {}]) as job:
        report = job.run(handle)
    assert "1 completed, 1 failed or need review in " in repr(report)
