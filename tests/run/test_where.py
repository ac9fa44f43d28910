"""`run(where=...)`: a part of the open rows is run, and the rest stays open."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import JobRow, Retry
from journal.run.lifecycle import RunningJob, Settings
from journal.run.open_job import JobRun
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.row_queue import RowQueue


def rows(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "zip": "941" if n % 2 else "100"} for n in range(1, count + 1)]


def open_job(root: Path, count: int = 10, **more: Any) -> JobRun:
    return journal.open_job(root / "j", rows(count), "n", sync="none", argv=[], **more)


def is_west(row: JobRow) -> bool:
    return bool(row.data["zip"] == "941")


def numbers(job: JobRun, status: str) -> list[int]:
    return [row.row_number for row in job.rows(status)]


def test_only_rows_that_meet_the_condition_are_run(tmp_path: Path) -> None:
    said: list[str] = []
    with open_job(tmp_path) as job:
        report = job.run(lambda row: row.data["n"], where=is_west, workers=2, tell=said.append)
        assert (report.started, report.completed) == (5, 5)
        assert numbers(job, "completed") == [1, 3, 5, 7, 9]
        assert numbers(job, "pending") == [2, 4, 6, 8, 10]
        assert report.job.status == "paused"
        assert report.reason == "5 rows stay open, since the run is for others"
        assert f"j: {report.reason}: pausing" in said
        assert report.exit_code == 4
        assert job.run(lambda _row: None).job.status == "completed"
        assert {row.attempts for row in job.rows()} == {1}


def test_a_row_that_stays_open_is_asked_about_once(tmp_path: Path) -> None:
    asked: Counter[int] = Counter()

    def where(row: JobRow) -> bool:
        asked[row.row_number] += 1
        return is_west(row)

    def handle(row: journal.AttemptedRow) -> None:
        if row.attempts < 3:
            raise Retry("busy", "later", after_s=0)

    with open_job(tmp_path, 500) as job:
        report = job.run(handle, where=where, workers=4, max_attempts=5)
        assert (report.completed, report.started) == (250, 750)
        assert {asked[n] for n in range(2, 501, 2)} == {1}  # the rows that stay open
        assert len(asked) == 500


def test_failed_rows_are_retried_only_if_they_meet_the_condition(tmp_path: Path) -> None:
    def fail(row: journal.AttemptedRow) -> None:
        raise journal.Fail("zip", "no such zip")

    with open_job(tmp_path) as job:
        assert job.run(fail, halt="never").job.status == "failed"
        plan = job.plan(retry_failed=True, where=is_west)
        assert (plan.counts["retry"], plan.counts["failed"]) == (5, 5)
        report = job.run(lambda _row: None, where=is_west, retry_failed=True)
        assert report.job.status == "failed"  # no row is open
        assert numbers(job, "completed") == [1, 3, 5, 7, 9]
        assert numbers(job, "failed") == [2, 4, 6, 8, 10]
        assert {row.error_code for row in job.rows("failed")} == {"zip"}


def test_a_search_that_is_not_at_its_end_keeps_the_run(tmp_path: Path) -> None:
    with open_job(tmp_path, 2500) as job:
        held = RunningJob(job.service, "j", Settings())
        queue = RowQueue(held, Limits(where=lambda row: row.row_number > 2400))
        held.start()
        assert queue.start(1, held.job()) == []
        with job.service.batch("j"):  # no more rows are pending than the condition has passed over
            for number in range(1, 601):
                job.service.skip_row(f"j:{number}", "not needed")
        assert not queue.is_empty(held.job())
        assert [row.row_number for row in queue.start(1, held.job())] == [2401]
        held.release()


def test_a_row_that_waits_for_another_attempt_keeps_the_run(tmp_path: Path) -> None:
    asked: list[int] = []

    def where(row: JobRow) -> bool:
        asked.append(row.row_number)
        return is_west(row)

    with open_job(tmp_path, 4) as job:
        held = RunningJob(job.service, "j", Settings())
        queue = RowQueue(held, Limits(where=where, backoff_s=3600, max_attempts=2))
        held.start()
        first, third = queue.start(4, held.job())
        failed = Outcome(kind="failed", error_code="busy", retryable=True)
        assert queue.settle(first, failed)[1]
        queue.settle(third, Outcome(kind="completed"))
        assert queue.start(1, held.job()) == []
        job.service.skip_row("j:2", "not needed")
        assert not queue.is_empty(held.job())
        job.service.skip_row("j:1", "not needed")
        assert queue.is_empty(held.job())
        assert asked == [1, 2, 3, 4]
        held.release()


def test_an_error_of_the_condition_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    def where(row: JobRow) -> bool:
        if row.row_number == 300:
            raise LookupError("no such column")
        return True

    with open_job(tmp_path, 500) as job:
        done: list[int] = []

        def handle(row: journal.AttemptedRow) -> None:
            done.append(row.row_number)

        with pytest.raises(LookupError, match="no such column"):
            job.run(handle, where=where, workers=3)
        assert numbers(job, "completed") == sorted(done)
        assert job.job.status == "paused"
        assert not numbers(job, "processing")
