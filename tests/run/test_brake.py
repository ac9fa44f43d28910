"""What a run says when it ends early or begins after a crash; the brake of its first rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.runs import open_job

from journal import AttemptedRow, JobRow, JobRun, NeedsReview, RunReport
from journal.run.outcome import Outcome, failed
from journal.run.pacing.early_end import Brake


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "j"


def fail(*_: object) -> None:
    raise ConnectionError("HTTP 500")


def unrecordable(_row: JobRow) -> object:
    return {1, object()}


def time_out(_row: JobRow) -> None:
    raise TimeoutError


def no_answers(_rows: list[AttemptedRow]) -> None:
    return None


def by_rows(job: JobRun, handler: Callable[..., Any]) -> RunReport:
    return job.run(handler)


def by_batches(job: JobRun, handler: Callable[..., Any]) -> RunReport:
    return job.run(handler, batch=10)


@pytest.mark.parametrize(
    ("run", "handler", "code"),
    [
        (by_rows, unrecordable, "InvalidResult"),
        (by_batches, no_answers, "NoOutcome"),
        (by_rows, time_out, "TimeoutError"),
    ],
)
def test_reviews_that_a_handler_has_not_asked_for_pause_the_run_and_are_to_be_settled(
    run: Callable[..., RunReport], handler: Callable[..., Any], code: str, path: Path
) -> None:
    with open_job(path, 60) as job:
        report = run(job, handler)
        assert report.job.needs_review_count == 10
    reason = report.reason or ""
    assert reason.startswith(f"the first 10 rows of this run all need a review: {code}: ")
    assert 'settle these rows (`job.rows("needs_review")`), fix the cause and run again' in reason
    assert "retry_failed" not in reason


def test_reviews_that_a_handler_asks_for_do_not_pause_the_run(path: Path) -> None:
    def handler(_row: JobRow) -> None:
        raise NeedsReview("Unclear", "is it sent?")

    with open_job(path, 60) as job:
        report = job.run(handler)
        assert (report.reason, report.job.needs_review_count) == (None, 60)


@pytest.mark.parametrize("kind", ["held", "unstarted"])
def test_an_attempt_given_back_decides_nothing_about_the_first_rows(path: Path, kind: Any) -> None:
    brake = Brake(is_on=True)
    with open_job(path, 60) as job:
        job.run(fail, max_rows=1, halt="never")
        (row,) = job.rows("failed")
    brake.hear(row, Outcome(kind=kind), None, again=True)
    for call in range(10):
        assert not brake.is_due
        brake.hear(row, failed("ConnectionError", "HTTP 500"), call, again=False)
    assert brake.is_due


@pytest.mark.parametrize(
    ("calls", "attempts", "after_s", "is_due"),
    [
        (range(10), 1, None, True),
        (range(50), 1, None, True),  # heard of at once
        ([1] * 50, 1, None, False),
        (range(50), 2, None, False),
        (range(50), 1, 0.0, False),
    ],
)
def test_calls_are_braked_whose_rows_are_tried_first_and_fail_alike_unless_that_was_expected(
    calls: Iterable[int], attempts: int, after_s: float | None, *, is_due: bool
) -> None:
    brake, now = Brake(is_on=True), datetime.now(UTC)
    row = JobRow("j:1", "j", 1, "", {}, now, now, attempts=attempts)
    outcome = Outcome(kind="failed", error_code="ConnectionError", after_s=after_s)
    for call in calls:
        brake.hear(row, outcome, call, again=True)
    assert brake.is_due == is_due


def test_a_run_whose_last_rows_are_the_first_that_all_fail_ends_by_itself(path: Path) -> None:
    with open_job(path, 10) as job:
        report = job.run(fail)
        assert (report.reason, report.failed, report.job.status) == (None, 10, "failed")


def test_rows_that_will_be_tried_again_are_continued_by_another_run(path: Path) -> None:
    options: dict[str, Any] = {"max_attempts": 3, "backoff_s": 0.0}
    with open_job(path, 60) as job:
        report = job.run(fail, **options)
        assert (report.job.failed_rows, report.job.pending_count) == (0, 60)
        assert report.reason == (
            "the first 10 rows of this run have all failed with ConnectionError: HTTP 500; they will be tried "
            'again: fix the cause and run again, or continue as it is with `halt="never"`'
        )
        assert job.run(lambda _row: None, **options).completed == 60


def test_after_a_halt_by_failures_the_advice_names_the_retry_of_failed_rows(path: Path) -> None:
    said: list[str] = []
    halt = 10
    with open_job(path, 60, argv=["python", "again.py"]) as job:
        job.run(lambda row: 1 // max(0, 30 - row.row_number), halt=halt, tell=said.append)
    failed = "10 rows failed: `run(..., retry_failed=True)` tries them again, unless they may have taken effect"
    assert said[-3] == f"j: paused; {failed}"
    assert said[-1].endswith("python again.py")
