"""Hold: the far side is down or throttles, and the whole run waits for it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.runs import open_job

import journal
import journal.run.pacing.holds
from journal import AttemptedRow, Fail, Hold, JobService, NeedsReview, Retry, Skip
from journal.format.records import UNSET_TIME, HoldRecord, now
from journal.model import EarlyEnd, Job
from journal.run.lifecycle import RunningJob, Settings
from journal.run.outcome import Outcome, later, outcome_of_error
from journal.run.pacing.holds import Holds
from journal.run.pacing.limits import Limits
from journal.run.workers.base import Call, Results
from journal.store.transitions import put_record

WORKERS = 4


class FarSide:
    """Refuses the next ``refusals`` calls, and answers all others."""

    def __init__(self, refusals: int, after_s: float | None = 0.0) -> None:
        self.calls = 0
        self.refused = 0
        self._refusals = refusals
        self._after_s = after_s
        self._lock = threading.Lock()

    def __call__(self, row: AttemptedRow) -> int:
        with self._lock:
            self.calls += 1
            if row.data["n"] > 20 and self.refused < self._refusals:
                self.refused += 1
                raise Hold("Throttled", "429", after_s=self._after_s)
        return int(row.data["n"])

    def refuse(self, _row: AttemptedRow) -> None:
        raise Hold("Down", "503", after_s=0)


def holds_in(service: JobService) -> list[HoldRecord]:
    records = (entry.record for entry in service.get_history("j"))
    return [record for record in records if isinstance(record, HoldRecord)]


def in_threads(far_side: Callable[[AttemptedRow], Any]) -> Any:
    return far_side


def in_a_loop(far_side: Callable[[AttemptedRow], Any]) -> Any:
    async def handler(row: AttemptedRow) -> Any:
        await asyncio.sleep(0)
        return far_side(row)

    return handler


@pytest.mark.parametrize("place", [in_threads, in_a_loop])
def test_an_outage_costs_no_row_an_attempt_and_one_call_a_hold(path: Path, place: Any) -> None:
    far_side, said = FarSide(WORKERS + 5), list[str]()
    with open_job(path, 60) as job:
        report = job.run(place(far_side), workers=WORKERS, tell=said.append)
        rows = job.rows()
        holds = holds_in(job.service)
    assert [row.result for row in rows] == list(range(1, 61))
    assert {row.attempts - row.earlier_attempts for row in rows} == {1}
    assert (report.started, report.completed, report.exit_code) == (60, 60, 0)
    assert far_side.calls == 60 + far_side.refused
    held = [line for line in said if "j: holding for " in line]
    count = len(holds) - 1
    assert count >= 6  # the calls in flight at the beginning are one hold, each probe another
    assert 1 <= len(held) < count
    assert all(line.endswith("Throttled: 429") for line in held)
    assert [line for line in said if line not in held] == [f"j: {holds[-1].reason}: going on"]
    assert [record.reason for record in holds[:-1]] == ["Throttled: 429"] * count
    assert [record.until is not None for record in holds] == [True] * count + [False]


def test_a_hold_is_seen_from_outside_with_its_latest_end_until_the_run_ends(path: Path) -> None:
    """A row in flight that asks for a longer hold makes it longer, and begins none."""
    both, is_held, seen, paces = (
        threading.Barrier(2, timeout=60), threading.Event(), list[Job](), list[str](),
    )  # fmt: skip

    def handler(row: AttemptedRow) -> None:
        both.wait()
        if row.data["n"] == 2:
            assert is_held.wait(60)
        raise Hold("Down", "503", after_s=100 * row.data["n"] ** 4)

    def watch(_: Job) -> None:
        with JobService(path.parent) as other:
            found = other.get_job("j")
        if found and found.hold and not seen:
            seen.append(found)
            is_held.set()
        elif found and found.hold and found.hold.until != (seen[0].hold and seen[0].hold.until):
            paces.append(job.pace)
            seen.append(found)
            job.stop()

    with open_job(path, 2) as job:
        job.run(handler, workers=2, on_progress=watch)
        (first, longer, end), after = holds_in(job.service), job.job
    holds = [found.hold for found in seen]
    assert [hold.reason for hold in holds if hold] == ["Down: 503"] * 2
    assert [hold.since for hold in holds if hold] == [first.at] * 2
    assert first.until
    assert longer.until
    assert (first.until - first.at).total_seconds() == pytest.approx(100, abs=1)
    assert (longer.until - longer.at).total_seconds() == pytest.approx(1600, abs=1)
    assert re.fullmatch(r"holding until .*[0-9:]+: Down: 503", paces[0])
    assert (end.until, end.reason, after.hold) == (None, "the run has ended", None)


def test_a_hold_of_a_run_that_has_died_ends_with_the_next_run(path: Path) -> None:
    with open_job(path, 1) as job:
        hold = HoldRecord(until=now(), reason="Down: 503", at=UNSET_TIME)
        job.service.store.journal("j").change(put_record, hold)
        assert job.job.hold
        seen: list[Any] = []
        job.run(lambda _row: seen.append(job.job.hold))
    assert seen == [None]


def test_a_hold_that_a_person_ends_lets_one_row_try_whether_the_service_answers(path: Path) -> None:
    with open_job(path, 1) as job:
        holds = Holds(Limits(), RunningJob(job.service, "j", Settings()), WORKERS)
        assert holds.until is None
        holds.start(4)
        holds.hear(1, later("held", "Down", "503", after_s=3600), monotonic())
        assert holds.allowed(9, monotonic()) == 0
        holds.end()
        assert holds.allowed(9, monotonic()) == 1
        (record,) = holds_in(job.service)
        assert record.until is not None
        assert record.until - record.at < timedelta(minutes=1)
        holds.start()
        assert holds.hear(
            5, later("held", "Down", "503", after_s=3600), monotonic()
        )  # it is still down
        assert holds.allowed(9, monotonic()) == 0


def test_a_held_attempt_is_given_back_with_its_cost_its_logs_and_its_reason(path: Path) -> None:
    def handler(row: AttemptedRow) -> None:
        row.log("asked")
        if row.attempts == 1:
            raise Hold("Empty", "no credit", after_s=0, cost_cents=2, usage={"calls": 1})

    with open_job(path, 1) as job:
        job.run(handler)
        (row,) = job.rows()
        history = job.service.get_row_history(row.id)
        assert (row.status, job.job.total_cost_cents, job.job.usage) == (
            *("completed", 2),
            {"calls": 1},
        )
    first = history.attempts[0]
    assert (first.outcome, first.reason, first.error_code) == (
        *("given_back", "Empty: no credit"),
        None,
    )
    assert [entry.message for entry in history.logs] == ["asked", "asked"]


def test_a_held_attempt_leaves_its_row_the_error_that_it_had(path: Path) -> None:
    calls: list[int] = []

    def handler(row: AttemptedRow) -> None:
        calls.append(row.attempts)
        raise ValueError("bad") if len(calls) <= 2 else Hold("Down", "no answer", after_s=60)

    with open_job(path, 1) as job:
        job.run(handler, max_attempts=5, backoff_s=0, tell=lambda _: job.stop())
        (row,) = job.rows()
        assert (row.error_code, row.error_message) == ("ValueError", "bad")


def test_a_throttled_row_waits_while_the_others_go_on(path: Path) -> None:
    def handler(row: AttemptedRow) -> None:
        if row.row_number == 1:
            raise Retry("Throttled", "429", after_s=3600, counts=False, cost_cents=1)
        if row.row_number == 9:
            job.stop()

    with open_job(path, 9) as job:
        report = job.run(handler)
        first, *others = job.rows()
        (attempt,) = job.service.get_row_history(first.id).attempts
        assert (first.status, first.attempts - first.earlier_attempts) == ("pending", 0)
        assert {str(row.status) for row in others} == {"completed"}
        assert (report.started, report.completed, job.job.total_cost_cents) == (8, 8, 1)
        assert (attempt.outcome, attempt.reason) == ("given_back", "Throttled: 429")


@pytest.mark.parametrize("place", [in_threads, in_a_loop])
def test_a_limit_of_the_account_holds_the_run_and_costs_no_attempt_and_one_call_a_hold(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: Any
) -> None:
    monkeypatch.setattr(journal.run.pacing.holds, "_LEAST_THROTTLED_S", 0.001)
    said, refusals = list[str](), iter(range(50))

    def far_side(row: AttemptedRow) -> None:
        if row.data["n"] > 20 and next(refusals, None) is not None:
            raise Retry("Throttled", "429", after_s=0, counts=False)

    with open_job(path, 60) as job:
        options: dict[str, Any] = {"workers": WORKERS, "tell": said.append, "max_backoff_s": 0.01}
        report = job.run(place(far_side), timeout_s=60, **options)  # so that no row is queued
        assert {row.attempts - row.earlier_attempts for row in job.rows()} == {1}
    assert (report.started, report.completed, report.exit_code) == (60, 60, 0)
    held = [line for line in said if "j: holding for " in line]
    assert (
        "successive calls were throttled: Throttled: 429; to start fewer rows: journal" in held[0]
    )
    assert sum("going on" in line for line in said) >= 1


# --- when rows may start


DONE = Outcome(kind="completed")


def new_holds(limits: Limits) -> Holds:
    return Holds(limits, RunningJob(JobService("unused"), "j", Settings()), WORKERS)


def test_only_what_was_started_after_a_hold_ends_it() -> None:
    holds = new_holds(Limits())
    assert holds.allowed(9, 0.0) == 9
    holds.start(8)
    assert "30.0s" in holds.hear(3, later("held", "Down", "503", after_s=30), 100.0)
    assert (holds.allowed(9, 129.9), holds.allowed(9, 130.0)) == (0, 1)
    assert holds.hear(4, DONE, 101.0) == ""
    assert holds.hear(5, later("held", "Down", "503", after_s=40), 102.0) == ""
    assert holds.hear(6, later("held", "Down", "503", after_s=1), 103.0) == ""
    assert (holds.count, holds.until_s) == (1, 142.0)  # the longest of them
    holds.start(1)
    assert holds.allowed(9, 143.0) == 0  # one probe at a time
    assert holds.hear(9, Outcome(kind="unstarted"), 143.0) == ""
    assert holds.allowed(9, 143.0) == 1
    holds.start(1)
    assert "going on" in holds.hear(10, DONE, 144.0)
    assert holds.allowed(9, 144.0) == 9


def test_a_hold_that_begins_while_a_probe_is_in_flight_has_a_probe_of_its_own() -> None:
    holds, down = new_holds(Limits()), later("held", "Down", "503", after_s=1)
    holds.start(2)
    assert holds.hear(1, down, 100.0)
    holds.start(1)
    assert holds.allowed(9, 101.0, taken=1) == 0
    holds.start(1)  # the probe is the latest call
    assert holds.hear(3, down, 101.0)
    assert holds.hear(4, down, 101.5) == ""
    assert holds.allowed(9, 103.0, taken=1) == 0
    assert holds.allowed(9, 103.0) == 1


def test_as_many_throttled_calls_as_workers_and_at_least_ten_in_a_row_begin_a_hold() -> None:
    holds = new_holds(Limits())
    holds.start(40)
    for ticket in (*range(1, 8), 3, 3, 3):  # a call of many rows counts once
        assert holds.hear(ticket, later("throttled", "Busy", "429", after_s=0.1), 100.0) == ""
    assert holds.hear(20, raised(Retry("Slow", "no")), 100.0) == ""  # begun after them
    for ticket in (8, 9, *range(21, 30)):
        assert holds.hear(ticket, later("throttled", "Busy", "429", after_s=0.1), 100.0) == ""
        assert holds.hear(10, DONE, 100.0) == ""  # begun before them
    assert holds.hear(31, Outcome(kind="unstarted"), 100.0) == ""
    text = holds.hear(32, later("throttled", "Busy", "429", after_s=0.1), 100.0)
    assert "10 successive calls were throttled: Busy: 429" in text
    assert (holds.until_s, holds.allowed(9, 100.4), holds.allowed(9, 100.5)) == (100.5, 0, 1)
    many = Holds(Limits(), RunningJob(JobService("unused"), "j", Settings()), 50)
    said = [many.hear(ticket, later("throttled", "Busy", "429"), 100.0) for ticket in range(1, 51)]
    assert [bool(text) for text in said] == [False] * 49 + [True]


@pytest.mark.parametrize(
    "error", [Fail("NoCredit", "bad row"), Skip("later"), NeedsReview("Sent", "was it sent?")]
)
def test_an_attempt_whose_handler_decides_on_its_row_ends_a_hold(error: Exception) -> None:
    holds = new_holds(Limits(retry_on=("NoCredit",)))  # such a failure is an answer, too
    holds.start(1)
    holds.hear(1, later("held", "Down", "503", after_s=0), 100.0)
    holds.start(1)
    assert "going on" in holds.hear(2, outcome_of_error(error, {}), 101.0)


def raised(error: Exception) -> Outcome:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001
        return outcome_of_error(caught, {})


@pytest.mark.parametrize(
    "outcome",
    [
        raised(ConnectionError("refused")),
        raised(Retry("Busy", "no")),
        raised(Retry("Busy", "no", counts=False, after_s=9)),
        raised(TimeoutError()),
        Outcome(kind="lost", error_code="Stopped", error_message="it was given up"),
    ],
)
def test_an_attempt_without_an_answer_holds_the_run_again_by_its_backoff(outcome: Outcome) -> None:
    holds = new_holds(Limits(backoff_s=8.0))
    holds.start(1)
    holds.hear(1, later("held", "Down", "503", after_s=0), 100.0)
    holds.start(1)
    assert outcome.error_code in holds.hear(2, outcome, 101.0)
    assert holds.count == 2
    assert 8.0 <= holds.until_s - 101.0 <= 16.0


def test_holds_in_succession_take_longer_each_time_up_to_the_longest_backoff() -> None:
    holds = new_holds(Limits(backoff_s=1.0, max_backoff_s=5.0))
    for ticket, longest in enumerate((1.0, 2.0, 4.0, 5.0, 5.0), 1):
        holds.start(1)
        holds.hear(ticket, later("held", "Down", "503"), 100.0)
        assert longest / 2 <= holds.until_s - 100.0 <= longest


def test_no_backoff_is_too_long_for_the_message_of_a_hold() -> None:
    holds = new_holds(Limits(backoff_s=1e300, max_backoff_s=1e300))
    holds.start(1)
    assert "until" in holds.hear(1, later("held", "Down", "503"), 0.0)


@pytest.mark.parametrize("after_s", [0, None])
def test_a_hold_that_follows_another_has_a_least_time_up_to_a_second(after_s: int | None) -> None:
    holds = new_holds(Limits(backoff_s=0, max_backoff_s=0))
    waits = []
    for ticket in range(1, 11):
        holds.start(1)
        holds.hear(ticket, later("held", "Down", "503", after_s=after_s), 100.0)
        waits.append(round(holds.until_s - 100, 2))
    assert waits == [0.0, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]


def test_a_throttled_probe_doubles_the_hold_up_to_the_longest_backoff_or_what_it_says() -> None:
    holds = new_holds(Limits(max_backoff_s=6.0))
    for ticket in range(1, 10):
        holds.hear(ticket, later("throttled", "Busy", "429"), 100.0)
    waits = []
    for ticket, after_s in enumerate((0.7, 0.7, None, 0.7, 0.7, 7.0, 0.7), 10):
        holds.start(10 if ticket == 10 else 1)
        holds.hear(ticket, later("throttled", "Busy", "429", after_s=after_s), 100.0)
        waits.append(round(holds.until_s - 100, 2))
    assert waits == [0.7, 1.4, 2.8, 5.6, 6.0, 7.0, 6.0]


def test_a_pause_by_a_person_is_no_time_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(journal.run.pacing.holds, "monotonic", lambda: now_s)
    holds = new_holds(Limits())
    holds.start(1)
    holds.hear(1, later("held", "Down", "503", after_s=60), 0.0)
    now_s = 90_000.0
    holds.start(1)
    holds.hear(2, later("held", "Down", "503", after_s=60), now_s + 10)
    assert holds.reason_to_pause() is None


def test_an_outage_lasts_from_its_first_hold_to_an_answer_and_the_next_one_counts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0
    monkeypatch.setattr(journal.run.pacing.holds, "monotonic", lambda: now_s)
    holds = new_holds(Limits())
    for ticket in (1, 4):
        for number in range(2):
            holds.start(1)
            holds.hear(ticket + number, later("held", "Down", "503", after_s=2400), now_s)
            assert holds.reason_to_pause() is None
            now_s += 2400
        holds.start(1)
        assert "answered after 1h20m of holding" in holds.hear(ticket + 2, DONE, now_s)
    holds.start(1)
    holds.hear(7, later("held", "Down", "503", after_s=2400), now_s)
    assert holds.reason_to_pause() is None


def test_an_hour_of_holds_without_a_success_pauses_the_run_and_says_how_to_go_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(journal.run.pacing.holds, "monotonic", lambda: now_s)
    holds = new_holds(Limits())
    for ticket in range(1, 62):
        assert holds.reason_to_pause() is None
        holds.start()
        holds.hear(
            ticket, later("held", "Down", "503", after_s=50), now_s + 10
        )  # a probe takes 10 s
        now_s += 60
    reason = "no attempt has succeeded in 1h00m of holding; the last hold said: Down: 503"
    assert holds.reason_to_pause() == (EarlyEnd("hold", reason), 1)
    monkeypatch.undo()
    monkeypatch.setattr(journal.run.pacing.holds, "MAX_HELD_S", 0.0)
    said: list[str] = []
    with open_job(path, 3, argv=["python", "again.py"]) as job:
        report = job.run(FarSide(0).refuse, tell=said.append)
        assert (report.job.status, report.exit_code) == ("paused", 4)
        assert any("no attempt has succeeded" in line and "pausing" in line for line in said)
        assert "to continue: " in said[-1]
        assert said[-1].endswith("python again.py")


def test_a_hold_is_in_force_before_the_driver_can_take_its_outcome() -> None:
    results, call = Results(), Call((), 1)

    class Ended(deque[Any]):
        def append(self, item: Any) -> None:
            assert item[0] in results.held
            super().append(item)

    results._ended = Ended()
    results.put(call, [Outcome(kind="held")])
    assert results.take() == (call, [Outcome(kind="held")])


def test_a_recorded_call_of_many_rows_may_be_the_first_after_a_hold(tmp_path: Path) -> None:
    calls = 0

    def handler(_rows: journal.Batch) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            return journal.Wait(0)
        if calls < 4:
            raise journal.Hold("Down", after_s=0)
        return [1, 1]

    with journal.open_job(tmp_path / "j", [{"n": n} for n in range(2)]) as job:
        timer = threading.Timer(20, job.stop)  # without it, a failure would hang
        timer.start()
        assert job.run(handler, batch=2, workers=1).completed == 2
        timer.cancel()
