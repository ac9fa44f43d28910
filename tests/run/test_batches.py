"""JobRun.run with ``batch``: outcomes of many rows from one call, and what befalls the call."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.runs import open_job

from journal import (
    AttemptedRow,
    Batch,
    Fail,
    Hold,
    JobRow,
    JobRun,
    NeedsReview,
    Retry,
    RowResult,
    Skip,
)
from journal.run.pacing.rates import Rate

WAIT_S = 60.0


def run(job: JobRun, handle: Callable[..., Any], size: int = 50, **options: Any) -> list[JobRow]:
    job.run(handle, batch=size, **options)
    return list(job.rows())


@pytest.fixture
def job(tmp_path: Path) -> Any:
    with open_job(tmp_path / "j") as opened:
        yield opened


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = RowResult(result=value)
    return value


class Locked(RowResult, frozen=True):
    """Whose members can't be read."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Masked(BaseException):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


# --- outcomes


@pytest.mark.parametrize("how", ["thread", "batch", "asyncio", "asyncio batch"])
def test_a_value_or_exception_that_cannot_be_read_settles_its_row_and_the_run_goes_on(
    tmp_path: Path, how: str
) -> None:
    made: list[Callable[[], Any]] = [lambda: nested(5000), Locked, Masked, lambda: 1]

    def answer(given: Any) -> Any:
        value = made[(given[0] if "batch" in how else given).row_number - 1]()
        if type(value) is Masked:
            raise value
        return [value] if value == 1 and "batch" in how else value

    async def aanswer(given: Any) -> Any:
        return answer(given)

    batch = 1 if "batch" in how else None
    with open_job(tmp_path / "j", len(made)) as job:
        if "asyncio" in how:
            asyncio.run(job.arun(aanswer, batch=batch, workers=1))
        else:
            job.run(answer, batch=batch, workers=1)
        found = [row.status.value for row in job.rows()]
    assert found == ["needs_review", "needs_review", "failed", "completed"]


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_row_needs_a_review_if_there_is_no_memory_for_its_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    def make(*_given: Any) -> Any:
        raise MemoryError

    def handler(_row: AttemptedRow) -> int:
        if ends == "raises":
            raise ValueError
        return 1

    name = "outcome_of_value" if ends == "returns" else "outcomes_of_raised"
    monkeypatch.setattr(f"journal.run.workers.handler.{name}", make)
    with open_job(tmp_path / "j", 1) as job:
        job.run(handler)
        (row,) = job.rows()
    assert (row.status, row.error_code) == ("needs_review", "InvalidResult")
    assert "how it ended can't be read: MemoryError" in (row.error_message or "")


def test_a_call_gets_up_to_so_many_rows_and_the_last_one_fewer(job: JobRun) -> None:
    sizes: list[int] = []

    def handle(rows: Batch) -> list[int]:
        sizes.append(len(rows))
        return [row.data["n"] ** 2 for row in rows]

    assert [row.result for row in run(job, handle, 2)] == [1, 4, 9, 16, 25]
    assert sizes == [2, 2, 1]
    assert job.job.status == "completed"


def test_each_value_means_what_it_means_for_one_row_and_an_exception_counts_as_raised(
    job: JobRun,
) -> None:
    answers = [
        RowResult(result="a", cost_cents=5),
        Fail("BadZip", "no such zip"),
        Skip("sent before"),
        NeedsReview("Unclear", "is it sent?"),
        ValueError("no street"),
    ]
    rows = run(job, lambda _rows: answers)
    found = [(row.status, row.error_code, row.cost_cents or row.reason) for row in rows]
    assert found == [
        ("completed", None, 5),
        ("failed", "BadZip", None),
        ("skipped", None, "sent before"),
        ("needs_review", "Unclear", None),
        ("failed", "ValueError", None),
    ]


@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_what_a_whole_call_has_cost_counts_once_beside_what_its_rows_have_cost(
    job: JobRun, ends: str
) -> None:
    def handle(rows: Batch) -> RowResult:
        own = {1: RowResult(cost_cents=1, usage={"n": 1}), 2: RowResult(cost_cents=2)}
        outcomes = {row.id: own.get(row.row_number, Fail("Bad")) for row in rows}
        if ends == "completed":
            outcomes |= {row.id: row.data["n"] for row in rows[2:]}
        return RowResult(result=outcomes, cost_cents=0.5, usage={"n": 7, "m": 3})

    rows = run(job, handle)
    assert [row.status for row in rows] == ["completed"] * 2 + [ends] * 3
    assert [row.usage for row in rows] == [{"n": 8, "m": 3}, *[None] * 4]
    assert (job.job.total_cost_cents, repr(job.job.usage)) == (3.5, "{'n': 8, 'm': 3}")


def test_a_row_that_the_answer_leaves_out_needs_a_review_and_the_others_have_their_outcome(
    job: JobRun,
) -> None:
    rows = run(job, lambda rows: {row.id: "done" for row in rows if row.row_number != 3})
    assert sum(row.status == "completed" for row in rows) == 4
    assert (rows[2].status, rows[2].error_code) == ("needs_review", "NoOutcome")
    assert rows[2].result is None


@pytest.mark.parametrize(
    ("answer", "said", "kept"),
    [
        ([1, 2], "returned 2 outcomes for 5 rows", [1, 2]),
        ("all sent", "returned str, not a mapping", "all sent"),
        (
            {"A-1": "sent"},
            "unknown row ids: 'A-1'; the keys must be each row.id, such as 'j:1'",
            {"A-1": "sent"},
        ),
        ([1j], "returned 1 outcome for 5 rows", "[1j]"),
    ],
    ids=["a list that is too short", "no list", "ids of something else", "no JSON value"],
)
def test_what_belongs_to_no_row_is_kept_in_the_first_review_and_the_others_name_it(
    job: JobRun, answer: Any, said: str, kept: Any
) -> None:
    first, *others = run(job, lambda _rows: answer)
    assert {row.status for row in (first, *others)} == {"needs_review"}
    assert {row.error_code for row in (first, *others)} == {"InvalidResult"}
    assert first.result == kept
    for row in others:
        assert row.result is None
        assert said in (row.error_message or "")
        assert "of the first such review of the call keeps" in (row.error_message or "")


@pytest.mark.parametrize("answer", [list, dict], ids=["a list that is too short", "unknown rows"])
def test_what_an_answer_has_cost_counts_if_it_belongs_to_no_row(job: JobRun, answer: type) -> None:
    spent = [RowResult(cost_cents=2, usage={"n": 1}), Fail("Bad", cost_cents=3), 1]
    given = spent if answer is list else {**dict(zip("abc", spent, strict=True)), "j:2": spent[0]}
    rows = run(job, lambda _rows: RowResult(result=given, cost_cents=0.5))
    assert rows[0].cost_cents == 5.5
    assert {row.status for row in rows if row.row_number != 2} == {"needs_review"}
    assert job.job.total_cost_cents == (5.5 if answer is list else 7.5)


def test_what_an_answer_has_cost_counts_if_it_is_that_of_one_row(job: JobRun) -> None:
    rows = run(job, lambda _rows: RowResult(result=[1] * 5, tracking_number="1Z", cost_cents=3))
    assert {row.status for row in rows} == {"needs_review"}
    assert job.job.total_cost_cents == 3


def test_an_outcome_of_an_unknown_row_beside_those_of_all_rows_is_logged(job: JobRun) -> None:
    rows = run(job, lambda rows: {row.id: None for row in rows} | {"j:9": "sent"})
    assert {row.status for row in rows} == {"completed"}
    (entry,) = job.service.get_logs("j", row_number=1)
    assert (entry.level, entry.details) == ("WARNING", {"returned": {"j:9": "sent"}})


def test_what_a_call_raises_is_raised_by_each_row(job: JobRun) -> None:
    def handle(_rows: Batch) -> None:
        raise Fail("Down", "no answer", cost_cents=7)

    assert [row.error_code for row in run(job, handle)] == ["Down"] * 5
    assert job.job.total_cost_cents == 7  # what the call has cost, once


def test_a_step_in_doubt_sends_its_row_to_a_review_and_no_other(job: JobRun) -> None:
    def charge() -> None:
        raise NeedsReview("Timeout", "is it charged?")

    def handle(rows: Batch) -> dict[str, str]:
        with suppress(NeedsReview):
            rows[1].step("charge", charge)
        return {row.id: "sent" for row in rows}

    rows = run(job, handle)
    assert sum(row.status == "completed" for row in rows) == 4
    assert rows[1].status == "needs_review"
    assert rows[1].result == "sent"


def test_a_batch_is_a_sequence_that_nobody_can_change(job: JobRun) -> None:
    def handle(rows: Batch) -> dict[str, int]:
        assert (rows[0].id, rows[-1].id, [row.id for row in rows[1:3]]) == (
            *("j:1", "j:5"),
            ["j:2", "j:3"],
        )
        assert (len(rows), next(reversed(rows))) == (5, rows[4])
        assert not hasattr(rows, "pop")
        return {row.id: row.data["n"] for row in rows}

    assert [row.result for row in run(job, handle)] == [1, 2, 3, 4, 5]


def test_a_hold_gives_back_no_row_of_the_call_that_is_done_and_says_so(job: JobRun) -> None:
    calls: list[int] = []

    def handle(rows: Batch) -> dict[str, Any]:
        calls.extend(row.row_number for row in rows)
        if len(calls) > 5:
            return dict.fromkeys(row.id for row in rows)
        return {row.id: None if row.row_number <= 2 else Hold(after_s=0) for row in rows}

    rows = run(job, handle)
    assert {row.status for row in rows} == {"completed"}
    assert sorted(calls) == [1, 2, 3, 3, 4, 4, 5, 5]


# --- limits count rows, and a timeout is that of the call


def test_no_row_waits_for_a_call_however_little_time_calls_take(tmp_path: Path) -> None:
    """After a crash, all rows of a call that had not begun would be in doubt."""
    with open_job(tmp_path / "j", 400, sync="none") as job:
        seen: list[int] = []

        def handle(rows: Batch) -> list[None]:
            seen.append(job.job.processing_count)
            return [None] * len(rows)

        assert job.run(handle, batch=2, workers=1).completed == 400
    assert max(seen) == 2


@pytest.mark.parametrize("cause", ["where", "hold", "max_rows"])
def test_a_batch_waits_for_a_rate_only_as_long_as_the_rows_need_that_may_start(
    job: JobRun, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending: list[int] = []
    allowed, calls = Rate.allowed, list[int]()

    def listen(rate: Rate, now_s: float, rows: int = 1) -> int:
        if len(calls) == 1:
            pending.append(rows)
        return allowed(rate, now_s, rows)

    def handle(rows: Batch) -> list[None]:
        calls.append(len(rows))
        if len(calls) == 1:
            raise Hold(after_s=0) if cause == "hold" else Retry(after_s=0)
        return [None] * len(rows)

    monkeypatch.setattr(Rate, "allowed", listen)
    causes: dict[str, Any] = {"where": lambda row: row.data["n"] < 4, "max_rows": 3}
    options = {cause: causes[cause]} if cause in causes else {}
    job.run(handle, batch=5, rate="5000/s", max_attempts=2, **options)
    assert pending[-1] == (1 if cause == "hold" else 3)
    assert sum(calls[1:]) == (5 if cause == "hold" else 3)


def test_a_rate_lets_a_whole_batch_start_and_a_batch_has_no_more_than_the_rate_names() -> None:
    rate = Rate.parse("100/s", batch=50)
    assert rate.allowed(5.0, pending=1000) == 50
    rate.use(50)
    assert rate.allowed(5.4, pending=1000) == 0
    assert rate.wait_s == pytest.approx(0.1)
    assert rate.allowed(5.4, pending=7) == 40  # all that is left
    assert rate.allowed(5.5, pending=1000) == 50
    assert Rate.parse("9/h", batch=50).allowed(5.0, pending=1000) == 9


class Cancellable:
    """A handle whose calls end when they are asked to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.has_begun = threading.Event()
        self._asked = threading.Event()

    def __call__(self, _rows: Batch) -> None:
        self.has_begun.set()
        assert self._asked.wait(WAIT_S)
        raise InterruptedError("ended")

    def cancel(self, row_id: str, *, force: bool) -> bool:
        self.asked.append((row_id, force))
        self._asked.set()
        return True


def test_all_rows_of_a_call_have_its_deadline_however_long_their_dispatch_takes(
    job: JobRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count()
    for module in ("workers.in_flight", "workers.termination"):
        monkeypatch.setattr(f"journal.run.{module}.monotonic", lambda: float(next(seconds)))
    rows = run(job, Cancellable(), timeout_s=4.5)
    assert {row.error_code for row in rows} == {"TimeoutError"}
