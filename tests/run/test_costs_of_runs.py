"""What runs spend: the costs of all attempts, limits of cost, and costs that can't be recorded."""

import errno
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, fails
from support.clock import Clock
from support.runs import open_job

import journal
import journal.fs.system
from journal import (
    Fail,
    JobRow,
    JobService,
    JournalError,
    NeedsReview,
    Retry,
    RowResult,
    RowStatus,
    Skip,
    StorageError,
)
from journal.run.lifecycle import RunningJob, Settings
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.row_queue import RowQueue


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "calls"


ENDLESS: dict[str, Any] = {}
ENDLESS["usage"] = ENDLESS
SPENT: dict[str, Any] = {"cost_cents": 0.06, "usage": {"tokens": 812}}
OUTCOMES: dict[int, Callable[[], Any]] = {
    1: lambda: RowResult(result="done", **SPENT),
    2: lambda: Fail("declined", "no money", **SPENT),
    3: lambda: Retry("busy", **SPENT),
    4: lambda: Skip("known", **SPENT),
    5: lambda: NeedsReview("Unclear", "is it sent?", **SPENT),
}
STATUSES = ["completed", "failed", "failed", "skipped", "needs_review"]


def spend(row: JobRow) -> RowResult:
    """Each row spends the same, whatever becomes of it. Row 3 is attempted twice."""
    outcome = OUTCOMES[row.data["n"]]()
    if isinstance(outcome, RowResult):
        return outcome
    raise outcome


async def spend_async(row: JobRow) -> RowResult:
    return spend(row)


def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"))


@pytest.mark.parametrize(
    ("handler", "executor"),
    [
        pytest.param(spend, None, id="threads"),
        pytest.param(spend_async, None, id="event loop"),
        pytest.param(spend, pool, id="process pool"),
    ],
)
def test_each_attempt_counts_whatever_becomes_of_it(
    path: Path, handler: Callable[[JobRow], Any], executor: Any
) -> None:
    with open_job(path, 5) as job:
        report = job.run(handler, executor=executor, max_attempts=2, backoff_s=0, halt="never")
        assert [row.status for row in job.rows()] == STATUSES
        assert (report.job.total_cost_cents, report.job.usage) == (0.36, {"tokens": 6 * 812})
        assert {row.cost_cents for row in job.rows()} == {0.06}


@pytest.mark.parametrize("kind", [RowResult, Fail, Retry, Skip, NeedsReview])
@pytest.mark.parametrize(
    "bad",
    [{"cost_cents": float("nan")}, {"usage": {"tokens": -1}}, {"usage": ENDLESS}],
    ids=["cost", "usage", "endless"],
)
def test_a_cost_that_can_not_be_recorded_needs_a_review_which_names_it(
    path: Path, kind: Any, bad: dict[str, Any]
) -> None:
    def handler(_: JobRow) -> Any:
        if kind is RowResult:
            return RowResult(result="kept", **bad)
        raise kind("kept", *["why"] * (kind is NeedsReview), **bad)

    with open_job(path, 1) as job:
        job.run(handler, max_attempts=3, backoff_s=0)
        row = job.rows()[0]
        assert (row.status, row.attempts) == ("needs_review", 1)
        assert next(iter(bad)) in str(row.error_message)
        kept = (row.result, row.error_code, row.reason)
        assert "kept" in kept or "kept" in str(row.error_message)


def test_the_nested_usage_of_a_service_is_counted_by_names_with_dots(path: Path) -> None:
    details = {"cached_tokens": 2, "audio_tokens": None}
    usage = {"tokens": 9, "tokens_details": details, "other_details": None}
    with open_job(path, 2) as job:
        job.run(lambda _: RowResult(result="hi", usage=usage))  # type: ignore[arg-type]
        assert job.status == "completed"
        assert job.job.usage == {"tokens": 18, "tokens_details.cached_tokens": 4}


class Answer:
    """As of an SDK: JSON can't hold it."""

    def __init__(self, text: str) -> None:
        self.text = text


def answer(_: JobRow) -> RowResult:
    return RowResult(result=Answer("hi"), cost_cents=2, usage={"tokens": 9}, tracking_number="T-1")


@pytest.mark.parametrize("executor", [None, pool], ids=["threads", "process pool"])
def test_a_result_that_can_not_be_recorded_costs_all_the_same_and_reaches_the_limit(
    path: Path, executor: Any
) -> None:
    with open_job(path, 40) as job:
        report = job.run(answer, executor, workers=1, max_cost_cents=4, halt="never")
        assert report.started < 40
        assert report.job.total_cost_cents == 2 * report.started
        assert report.job.usage == {"tokens": 9 * report.started}
        row = job.rows()[0]
    assert (row.status, row.error_code) == ("needs_review", "InvalidResult")
    assert (row.cost_cents, row.tracking_number) == (2, "T-1")
    assert row.result == "<Answer {'text': 'hi'}>"


def test_a_result_with_one_usage_name_too_many_needs_a_review_and_keeps_its_cost(
    path: Path,
) -> None:
    with open_job(path, 2) as job:
        report = job.run(
            lambda row: RowResult(
                result={"row": row.row_number},
                cost_cents=5,
                usage=dict.fromkeys((f"{row.row_number}-{n}" for n in range(60)), 1),
            )
        )
        assert [row.status for row in job.rows()] == ["completed", "needs_review"]
        assert report.job.total_cost_cents == 10
        assert [row.result for row in job.rows()] == [{"row": 1}, {"row": 2}]
        assert "'2-59': 1" in str(job.rows()[1].error_message)


def test_an_attempt_given_up_has_a_cost_if_it_fails_after_all(path: Path, clock: Clock) -> None:
    is_given_up = threading.Event()
    hanging: list[threading.Thread] = []

    def handler(row: JobRow) -> None:
        if row.row_number == 1:
            hanging.append(threading.current_thread())
            clock.pass_timeouts()
            assert is_given_up.wait(60)
            raise Fail("declined", "no money", **SPENT)
        is_given_up.set()
        hanging[0].join(60)  # its outcome is with the driver now

    with open_job(path, 2) as job:
        job.run(handler, timeout_s=1, workers=1)
        assert (job.job.total_cost_cents, job.job.usage) == (0.06, {"tokens": 812})
        assert str(job.rows()[0].status) == "needs_review"
        (change,) = job.service.get_row_history("calls:1").changes
        late = "attempt 1 ended after its row was settled, cost 0.06 cents, tokens 812"
        assert (change.kind, change.text) == ("spent", late)


def test_an_attempt_that_succeeds_after_its_repetition_has_a_cost_though_both_cost_the_same(
    path: Path, clock: Clock
) -> None:
    is_repeated = threading.Event()
    hanging: list[threading.Thread] = []

    def handler(row: JobRow) -> RowResult:
        if row.row_number == 1 and row.attempts == 1:
            hanging.append(threading.current_thread())
            clock.pass_timeouts()
            assert is_repeated.wait(60)
        elif row.row_number == 3:
            assert str(job.rows()[0].status) == "completed"
            is_repeated.set()
            hanging[0].join(60)  # its outcome is with the driver now
        return RowResult(result="done", **SPENT)

    with open_job(path, 3) as job:
        report = job.run(
            handler, timeout_s=1, workers=1, max_attempts=2, retry_on=(TimeoutError,), backoff_s=0
        )
        assert (report.completed, len(report.problems)) == (3, 1)
        assert (job.job.total_cost_cents, job.job.usage) == (0.24, {"tokens": 4 * 812})


@pytest.mark.parametrize("commit_fails", [False, True])
def test_an_attempt_whose_row_was_settled_meanwhile_is_told_and_has_a_cost(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, commit_fails: bool
) -> None:
    def handler(row: JobRow) -> RowResult:
        with JobService(path.parent) as other:
            other.fail_row(row.id, "E", "not worth it", cost_cents=1)
        if commit_fails:
            faulty = FaultyOs()
            monkeypatch.setattr(journal.fs.system, "os", faulty)
            faulty.plan("write", fails(errno.ENOSPC))
        return RowResult(result="done", **SPENT)

    with open_job(path, 1) as job:
        with pytest.raises(StorageError) if commit_fails else nullcontext():
            report = job.run(handler)
            assert (report.completed, report.failed) == (0, 0)
            (problem,) = report.problems
            assert "row calls:1 ended as completed and this could not be recorded" in problem
        assert (job.job.total_cost_cents, job.job.usage) == (1.06, {"tokens": 812})


def test_an_outcome_that_was_recorded_counts_though_its_row_was_attempted_again(path: Path) -> None:
    with open_job(path, 1) as job:
        held = RunningJob(job.service, job.id, Settings())
        queue = RowQueue(held, Limits(max_attempts=3))
        held.start()
        (first,) = queue.start(1, held.job())
        outcome = Outcome(kind="failed", error_code="busy", **SPENT)
        queue.settle(first, outcome)
        job.service.retry_row(first.id)
        job.service.start_row(first.id)
        assert queue.settling.settle_once(first, outcome)
        held.release()
    with JobService(path.parent) as other:
        assert other.get_job_summary(path.name)["total_cost_cents"] == 0.06
        assert other.get_rows(path.name)[0].status is RowStatus.PROCESSING


def test_a_run_ends_within_what_is_in_flight_when_the_limit_is_reached(path: Path) -> None:
    in_flight: list[int] = []
    with open_job(path, 900) as job:  # enough for the run to know that its handler is fast

        def handler(_row: JobRow) -> RowResult:
            in_flight.append(job.job.processing_count)
            return RowResult(cost_cents=10)

        report = job.run(handler, workers=4, max_cost_cents=6000)
        assert 6000 <= report.job.total_cost_cents <= 6000 + 3 * 10
    assert max(in_flight) <= 4  # none waits for a worker


def test_a_limit_that_the_last_row_reaches_pauses_nothing(path: Path) -> None:
    with open_job(path, 3) as job:
        report = job.run(lambda _row: RowResult(cost_cents=0.1), max_cost_cents=0.3)
        assert (report.job.status, report.reason) == ("completed", None)


@pytest.mark.parametrize("refused", [("write",), ("fdatasync", "ftruncate")])
def test_a_late_success_whose_commit_fails_is_recorded_with_its_cost_once(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    is_given_up, has_failed = threading.Event(), threading.Event()
    hanging: list[threading.Thread] = []

    def handler(row: JobRow) -> RowResult:
        if row.row_number == 1:
            hanging.append(threading.current_thread())
            clock.pass_timeouts()
            assert is_given_up.wait(60)
        else:
            faulty = FaultyOs()
            monkeypatch.setattr(journal.fs.system, "os", faulty)
            for call in refused:
                faulty.plan(call, fails(errno.EIO))
            is_given_up.set()
            assert has_failed.wait(60)
        return RowResult(result="done", **SPENT)

    def hear(text: str) -> None:
        if "in flight" in text and is_given_up.is_set():
            has_failed.set()

    with open_job(path, 2) as job:
        with pytest.raises(JournalError):
            job.run(handler, timeout_s=1, workers=1, tell=hear)
        assert [str(row.status) for row in job.rows()] == ["completed", "completed"]
        assert (job.job.total_cost_cents, job.job.usage) == (0.12, {"tokens": 2 * 812})


# --- limits


def test_nothing_more_is_started_once_the_job_has_cost_enough(path: Path) -> None:
    with open_job(path, 9) as job:
        report = job.run(lambda _row: RowResult(cost_cents=0.1), max_cost_cents=0.3)
        assert (report.completed, report.reason) == (
            3,
            "the job has cost 0.3 cents, and `max_cost_cents` is 0.3: start again with a higher limit",
        )
        assert (report.job.status, report.exit_code) == ("paused", 4)
        assert job.run(lambda _row: 1, max_cost_cents=Decimal("0.3")).started == 0
        assert job.run(lambda _row: 1, max_cost_cents=Decimal("0.31")).completed == 6


def test_a_run_says_which_limit_it_has_reached_first(path: Path) -> None:
    reached = threading.Event()

    def handle(row: JobRow) -> RowResult:
        if row.row_number == 1:
            return RowResult(cost_cents=1)
        assert reached.wait(60.0)
        raise Fail("no")

    def hear(text: str) -> None:
        if "the job has cost" in text:
            reached.set()

    with open_job(path, 3) as job:
        report = job.run(handle, workers=2, max_cost_cents=1, halt="soon,1", tell=hear)
    assert (report.started, report.failed) == (2, 1)
    assert str(report.reason).startswith("the job has cost 1 cent")
