"""Wait: the work was handed to somebody, and its row waits without a worker until it is due."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from support.attempts import start, try_again
from support.attempts import wait as wait_in_flight
from support.runs import open_job

import journal
from journal import AttemptedRow, Batch, JobRow, JobRun, JobService, Retry, Wait
from journal.model import Job
from journal.run.lifecycle import RunningJob, Settings
from journal.run.outcome import Outcome, later
from journal.run.pacing.limits import Limits
from journal.run.pacing.waits import MIN_WAIT_S, with_time
from journal.run.row_queue import RowQueue
from journal.run.workers.base import Call
from journal.run.workers.in_flight import Result


def wait(service: JobService, row_id: str, after_s: float) -> JobRow:
    """A run starts a row, which waits."""
    start(service, row_id)
    return wait_in_flight(service, row_id, after_s)


def numbers(rows: list[JobRow]) -> list[int]:
    return [row.row_number for row in rows]


class Held:
    """The queue of a run that holds a job, without workers."""

    def __init__(self, job: JobRun, workers: int = 1, **limits: Any) -> None:
        self._held = RunningJob(job.service, job.id, Settings())
        self.queue = RowQueue(self._held, Limits(**limits), workers)
        self._held.start()

    @property
    def job(self) -> Job:
        return self._held.job()

    def start(self, count: int) -> list[JobRow]:
        return self.queue.start(count, self.job)

    def settle(self, row: JobRow, outcome: Outcome) -> None:
        self.queue.settle(row, outcome)
        self.queue.end([Result(row.row_number, row, outcome, Call((), row.row_number))])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.release()


def test_rows_may_start_that_are_due_or_wait_for_a_slot_or_never_waited(path: Path) -> None:
    with journal.open_job(path, ({"n": n, "to": "x"} for n in range(5)), sync="none") as job:
        for number, after_s in ((1, 0), (2, 0), (3, 0), (4, 3600)):
            wait(job.service, f"j:{number}", after_s)
        with Held(job, workers=2, limit_per={"to": 1}) as run:
            assert run.queue.most(run.job) == 1
            assert numbers(run.start(2)) == [1]
            assert run.queue.most(run.job) == 3  # rows 2 and 3, and 5, which is parked, too


def test_rows_that_are_due_come_first_with_half_of_the_workers(path: Path) -> None:
    with open_job(path, 12) as job:
        for number in range(5, 10):
            wait(job.service, f"j:{number}", 0)
        with Held(job, workers=4) as run:
            first = run.start(4)
            assert numbers(first) == [5, 6, 1, 2]
            run.settle(first[2], Outcome(kind="completed"))
            assert numbers(run.start(1)) == [3], "two of four workers ask for rows that wait"
            assert numbers(run.start(9)) == [4, 10, 11, 12, 7, 8, 9], "nothing else is left"


def test_one_worker_alternates_between_what_is_due_and_what_never_waited(path: Path) -> None:
    with open_job(path, 6) as job:
        for number in (2, 3, 4):
            wait(job.service, f"j:{number}", 0)
        with Held(job) as run:
            found = []
            for _ in range(6):
                (row,) = run.start(1)
                found.append(row.row_number)
                run.settle(row, Outcome(kind="completed"))
    assert found == [2, 1, 3, 5, 4, 6]


@pytest.mark.parametrize("batch", [None, 1])
def test_what_is_always_due_keeps_one_worker_from_no_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    asked: list[int] = []

    def handler(given: Any) -> Any:
        row = given if batch is None else given[0]
        given.step("submit", int)
        asked.append(row.row_number)
        waits = len(set(asked)) < 6 and len(asked) < 200
        return Wait(0) if waits else {row.id: None}

    monkeypatch.setattr("journal.run.pacing.waits.MIN_WAIT_S", 0.0)
    with open_job(path, 6) as job:
        assert job.run(handler, workers=1, batch=batch).completed == 6
    assert len(asked) < 50


def test_a_wait_is_never_shorter_than_its_minimum(path: Path) -> None:
    def handler(row: AttemptedRow) -> Any:
        return Wait(0) if row.attempts == 1 else None

    with open_job(path, 2) as job:
        job.run(handler, workers=2, backoff_s=0)
        assert job.job.status == "completed"
        found = [getattr(entry.record, "after_s", None) for entry in job.service.get_history("j")]
    assert [after_s for after_s in found if after_s is not None] == [MIN_WAIT_S] * 2


@pytest.mark.parametrize("end", [lambda wait: wait, None], ids=["returned", "raised"])
def test_a_row_that_waits_is_attempted_again_and_no_attempt_counts(
    path: Path, end: Callable[[Wait], Any] | None
) -> None:
    def handler(row: AttemptedRow) -> Any:
        if row.attempts < 3:
            row.log("asked")
            submitted = Wait(0.01, "in batch b1", cost_cents=2)
            if end is None:
                raise submitted
            return end(submitted)
        return row.row_number

    with open_job(path, 4) as job:
        report = job.run(handler, workers=2)
        rows = job.rows()
        history = job.service.get_row_history("j:1")
    assert (report.exit_code, report.completed, report.job.waiting_count) == (0, 4, 0)
    assert [row.result for row in rows] == [1, 2, 3, 4]
    assert {(row.attempts, row.earlier_attempts) for row in rows} == {(3, 2)}
    assert {(row.due, row.waiting_since) for row in rows} == {(None, None)}
    assert report.job.total_cost_cents == 16
    told = [(attempt.outcome, attempt.reason) for attempt in history.attempts]
    assert told == [*[("waited", "in batch b1")] * 2, ("completed", None)]
    assert [entry.message for entry in history.logs] == ["asked", "asked"]


def test_rows_of_one_call_wait_each_for_itself_or_all_together(path: Path) -> None:
    calls: list[list[int]] = []

    def handler(batch: Batch) -> Any:
        calls.append([row.row_number for row in batch])
        if len(calls) == 1:
            return [1, Wait(0.001), Wait(0.001)]
        if len(calls) == 2:
            raise Wait(0.001, cost_cents=5)
        return dict.fromkeys((row.id for row in batch), 2)

    with open_job(path, 3) as job:
        report = job.run(handler, batch=3)
        assert [row.result for row in job.rows()] == [1, 2, 2]
    assert calls[0] == [1, 2, 3]
    assert {number for call in calls[1:] for number in call} == {2, 3}
    assert report.job.total_cost_cents == 5


def test_without_waiting_a_run_pauses_and_the_next_one_too_until_a_row_is_due(path: Path) -> None:
    def handler(_row: AttemptedRow) -> Any:
        return Wait(3600)

    with open_job(path, 4) as job:
        for _ in range(2):
            report = job.run(handler, no_wait=True)
            assert (report.exit_code, report.job.status) == (4, "paused")
            assert report.reason is not None
            assert report.reason.startswith("4 rows wait for somebody else; the next is due at 20")
            assert report.job.last_run is not None
            assert report.job.last_run.ended_early is not None
            assert report.job.last_run.ended_early.kind == "waiting"
        for row in job.rows():
            job.service.skip_row(row.id)
            job.service.redo_row(row.id)
        report = job.run(lambda _row: None, no_wait=True)
        assert (report.exit_code, report.completed) == (0, 4)


def test_a_start_knows_what_waits_from_the_journal(path: Path) -> None:
    with open_job(path, 6) as job:
        wait(job.service, "j:2", 3600)
        wait(job.service, "j:4", 0)
        wait(job.service, "j:5", 1800)
    with open_job(path, 6) as job, Held(job, workers=6) as run:
        assert numbers(run.start(6)) == [4, 1, 3, 6]
        due_s = run.queue.next_due_s
        assert due_s is not None
        assert len(run.queue._waits) == 2
        for row in run.start(6):
            raise AssertionError(row)


def test_no_more_rows_are_out_than_max_waiting_allows(path: Path) -> None:
    with open_job(path, 9) as job:
        wait(job.service, "j:1", 3600)
        wait(job.service, "j:2", 0)
        with Held(job, workers=8, max_waiting=4) as run:
            started = run.start(8)
            assert numbers(started) == [2, 3, 4], "with row 1, which waits, four rows are out"
            assert run.start(8) == []
            run.settle(started[1], later("waiting", "", "", 3600))
            assert run.start(8) == []
            run.settle(started[0], Outcome(kind="completed"))
            assert numbers(run.start(8)) == [5]
            assert run.queue.reason_to_stop(run.job) is None


@pytest.mark.parametrize("batch", [None, 2])
def test_a_run_that_does_not_wait_ends_when_it_has_started_all_rows_that_it_may(
    path: Path, batch: int | None
) -> None:
    with open_job(path, 6) as job:
        (stop := threading.Timer(60, job.stop)).start()
        limits: dict[str, Any] = {"max_rows": 2, "no_wait": True, "batch": batch}
        report = job.run(lambda _given: Wait(3600), **limits)
        stop.cancel()
        assert (report.exit_code, job.job.waiting_count) == (4, 2)
        assert (report.reason or "").startswith("2 rows wait for somebody else")


def test_a_row_that_waits_takes_no_slot_of_its_key(path: Path) -> None:
    in_flight, most, lock = [0], [0], threading.Lock()

    def handler(row: AttemptedRow) -> Any:
        with lock:
            in_flight[0] += 1
            most[0] = max(most[0], in_flight[0])
        with lock:
            in_flight[0] -= 1
        return Wait(0.001) if row.attempts < 4 else None

    with journal.open_job(path, ({"n": n, "to": "x"} for n in range(20)), sync="none") as job:
        report = job.run(handler, workers=4, limit_per={"to": 1})
    assert (report.completed, most[0]) == (20, 1)


def test_rows_that_have_waited_are_none_of_the_rows_that_were_asked_for(path: Path) -> None:
    def handler(row: AttemptedRow) -> Any:
        return Wait(0.001) if row.attempts == 1 else None

    with open_job(path, 9) as job:
        wait(job.service, "j:9", 0)
        report = job.run(handler, max_rows=3)
        assert numbers(list(job.rows("completed"))) == [1, 2, 3, 9]
        assert report.reason == "3 rows were started, as many as were asked for"


def test_a_row_that_has_waited_too_long_fails_with_a_code_of_its_own(path: Path) -> None:
    def handler(row: AttemptedRow) -> Any:
        if row.attempts == 3:
            return Retry("Busy", after_s=0)  # what a row has waited before it counts
        return Wait(3600 if row.attempts == 2 else 0.001, "in batch b1")

    with open_job(path, 1) as job:
        report = job.run(handler, max_wait_s=0.05, max_attempts=3)
        (row,) = job.rows()
        assert (row.status, row.error_code) == ("failed", "WaitedTooLong")
        assert row.error_message == "it has waited for 0 s: in batch b1"
        assert (report.exit_code, row.unknown) == (3, False)


def test_a_row_waits_no_longer_than_max_wait_s() -> None:
    waiting = Outcome(kind="waiting", after_s=3600)
    assert with_time(waiting, 4.0, Limits(max_wait_s=10)).after_s == 6.0


def test_only_a_retry_begins_a_wait_anew(path: Path) -> None:
    with open_job(path, 1) as job:
        since = wait(job.service, "j:1", 0).waiting_since
        start(job.service, "j:1")
        try_again(job.service, "j:1", "E", "no")
        again = wait(job.service, "j:1", 0)
        assert again.waiting_since == since
        start(job.service, "j:1")
        job.service.retry_row("j:1")
        with Held(job, max_rows=1) as run:
            assert (numbers(run.start(1)), run.queue.places) == ([1], 0)
            assert run.queue._polled == set()
            again = wait_in_flight(job.service, "j:1", 0)
        assert again.waiting_since == again.updated_at


def test_an_attempt_of_a_run_that_died_does_not_end_a_wait(path: Path) -> None:
    with open_job(path, 1) as job:
        since = wait(job.service, "j:1", 0).waiting_since
        with Held(job) as run:
            assert numbers(run.start(1)) == [1]
        job.service.recover_job(job.id, "retry")
        assert job.rows()[0].status == "pending"
        assert wait(job.service, "j:1", 9).waiting_since == since


def test_a_row_that_others_have_settled_while_it_waited_is_not_asked_for(path: Path) -> None:
    with open_job(path, 2) as job:
        wait(job.service, "j:1", 0)
        wait(job.service, "j:2", 0)
        with Held(job, workers=2) as run:
            assert numbers(run.start(1)) == [1]
            job.service.complete_row("j:2", "by hand")
            assert run.start(2) == []
            assert run.queue.next_due_s is None


def test_a_row_whose_input_is_gone_while_it_waits_needs_a_review(path: Path) -> None:
    def rows(*keys: str) -> list[dict[str, str]]:
        return [{"id": key} for key in keys]

    with journal.open_job(path, rows("a", "b", "c"), key="id", sync="none") as job:
        wait(job.service, "j:1", 3600)
    with journal.open_job(path, rows("c"), key="id", on_gone="skip", sync="none") as job:
        assert [(row.status, row.error_code) for row in job.rows()] == [
            *[("needs_review", "gone")],
            *[("skipped", None), ("pending", None)],
        ]
