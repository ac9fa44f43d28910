"""The stages in which attempts in flight are ended: asked to end, forced to end, given up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support.interrupts import failing_if_it_hangs

from journal import JobRow, JobService
from journal.run.caller import CallersThread
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.signals import Stops
from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.in_flight import InFlight, Result
from journal.run.workers.steps import StepStore

TIMEOUT_S = 60.0
SOON_S, GRACE_S = 4.9, 5.1  # before and after a stage has lasted as long as it may


class Hanging(Workers):
    """Two workers whose calls don't end. They note what they are asked for."""

    count = 2

    def __init__(self, *, can_be_asked: bool = True, has_other_place: bool = False) -> None:
        self.calls: list[Call] = []
        self.asked: list[tuple[str, bool]] = []
        self.given_up: list[int] = []
        self._can_be_asked = can_be_asked
        self._has_other_place = has_other_place

    def dispatch(self, call: Call) -> None:
        if len(self.calls) < self.count:
            assert call.begin()
        self.calls.append(call)

    def cancel(self, call: Call, *, force: bool) -> bool:
        self.asked.append((call.rows[0].id, force))
        return self._can_be_asked

    def abandon(self, call: Call) -> bool:
        self.given_up.append(call.ticket)
        return self._has_other_place


class Stage:
    """The calls in flight of a run, at a time that the test sets."""

    def __init__(self, workers: Hanging, **limits: Any) -> None:
        self.now_s = 1000.0
        self.results = Results()
        self.attempts = InFlight(
            workers, self.results, Limits(**limits), StepStore(JobService("unused"), "j")
        )

    def dispatch(self, *numbers: int) -> None:
        """Dispatch a call for each row."""
        for number in numbers:
            self.dispatch_as_one(number)

    def dispatch_as_one(self, *numbers: int) -> None:
        at = datetime.now(UTC)
        rows = [
            JobRow(f"j:{number}", "j", number, "", {}, at, at, attempts=1) for number in numbers
        ]
        self.attempts.dispatch(rows)

    def turn(self, stops: int, after_s: float = 0.0) -> list[Result]:
        """A turn of the driver, which has been asked so often to stop; what has ended."""
        self.now_s += after_s
        self.attempts.end_due(stops)
        return self.attempts.results()


@pytest.fixture(name="at")
def fixture_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    stages: list[Stage] = []

    def make(*arguments: Any, **options: Any) -> Stage:
        stages.append(Stage(*arguments, **options))
        return stages[0]

    for module in ("workers.in_flight", "workers.termination"):
        monkeypatch.setattr(f"journal.run.{module}.monotonic", lambda: stages[0].now_s)
    return make


def test_the_first_stop_takes_back_what_has_not_begun_and_leaves_the_rest(at: Any) -> None:
    workers = Hanging()
    stage = at(workers)
    stage.dispatch(1, 2, 3)
    assert stage.turn(0) == []
    (result,) = stage.turn(1, 3600.0)
    assert (result.ticket, result.outcome, result.call.is_given_up) == (
        3,
        Outcome(kind="unstarted"),
        False,
    )
    assert workers.asked == []


def test_the_second_stop_asks_each_attempt_once_and_the_third_forces_it_once(at: Any) -> None:
    workers = Hanging()
    stage = at(workers)
    stage.dispatch(1, 2)
    for _ in range(3):
        assert stage.turn(2) == []
    assert workers.asked == [("j:1", False), ("j:2", False)]
    for _ in range(3):
        assert stage.turn(3) == []
    assert workers.asked[2:] == [("j:1", True), ("j:2", True)]
    assert workers.given_up == []
    stage.results.put(workers.calls[0], [Outcome(kind="completed")])  # in spite of that
    assert [result.outcome.kind for result in stage.turn(3)] == ["completed"]


@pytest.mark.parametrize(
    ("stops", "after_s", "code"), [(0, 1.1, "TimeoutError"), (2, 0.0, "stopped")]
)
def test_each_stage_has_its_time_until_the_attempt_is_given_up(
    at: Any, stops: int, after_s: float, code: str
) -> None:
    workers = Hanging()
    stage = at(workers, timeout_s=TIMEOUT_S)
    stage.dispatch(1)
    assert stage.turn(0, TIMEOUT_S - 1.0) == []
    assert workers.asked == []
    assert stage.turn(stops, after_s) == []
    assert stage.turn(stops, SOON_S) == []
    assert workers.asked == [("j:1", False)]
    assert stage.turn(stops, GRACE_S - SOON_S) == []
    assert stage.turn(stops, SOON_S) == []
    assert workers.asked == [("j:1", False), ("j:1", True)]
    assert workers.given_up == []
    (result,) = stage.turn(stops, GRACE_S - SOON_S)
    assert (result.call.is_given_up, result.outcome.error_code) == (True, code)
    assert (workers.given_up, len(workers.asked)) == ([1], 2)


def test_an_attempt_that_has_ended_is_not_asked_to(at: Any) -> None:
    workers = Hanging()
    stage = at(workers, timeout_s=TIMEOUT_S)
    stage.dispatch(1)
    failed = Outcome(kind="failed", error_code="E", error_message="no")
    stage.results.put(workers.calls[0], [failed])
    for stops in (2, 3):
        (result,) = stage.turn(stops, 2 * TIMEOUT_S)
        assert result.outcome.error_code == "E"  # it ended by itself
    assert workers.asked == []


@pytest.mark.parametrize("has_other_place", [False, True])
def test_an_attempt_that_was_given_up_takes_its_slot_until_it_returns(
    at: Any, has_other_place: bool
) -> None:
    workers = Hanging(can_be_asked=False, has_other_place=has_other_place)
    stage = at(workers)
    stage.dispatch(1)
    results = stage.turn(2)
    assert (len(results), len(stage.attempts)) == (1, 1)
    stage.attempts.forget(results)
    assert (stage.attempts.slots, len(stage.attempts)) == (1 + has_other_place, 0)
    stage.results.put(workers.calls[0], [Outcome(kind="completed")])
    (late,) = stage.turn(2)
    assert (late.is_late, late.outcome.kind) == (True, "completed")
    stage.attempts.forget([late])
    assert (stage.attempts.slots, len(stage.attempts), stage.turn(2)) == (2, 0, [])


def test_results_that_are_not_recorded_yet_are_returned_again(at: Any) -> None:
    workers = Hanging()
    stage = at(workers)
    stage.dispatch(1, 2)
    stage.results.put(workers.calls[1], [Outcome(kind="completed")])
    (second,) = stage.turn(0)
    stage.results.put(workers.calls[0], [Outcome(kind="completed")])
    assert stage.turn(0)[0] is second
    assert (stage.attempts.calls, len(stage.attempts)) == (0, 2)
    stage.attempts.forget([second])
    (first,) = stage.turn(0)
    assert (first.row.id, stage.attempts.calls, len(stage.attempts)) == ("j:1", 0, 1)


# --- calls with many rows


def test_a_call_is_asked_forced_and_given_up_once_for_all_of_its_rows(at: Any) -> None:
    workers = Hanging()
    stage = at(workers)
    stage.dispatch_as_one(1, 2, 3)
    assert stage.turn(2) == []
    assert stage.turn(3) == []
    assert workers.asked == [("j:1", False), ("j:1", True)]
    results = stage.turn(3, GRACE_S)
    assert [result.call.is_given_up for result in results] == [True] * 3
    assert workers.given_up == [1]
    stage.attempts.forget(results)
    assert stage.attempts.slots == 1  # and not three less


def test_a_call_that_was_given_up_may_still_have_an_outcome_for_each_of_its_rows(at: Any) -> None:
    workers = Hanging(can_be_asked=False)
    stage = at(workers)
    stage.dispatch_as_one(1, 2)
    stage.attempts.forget(stage.turn(2))
    stage.results.put(workers.calls[0], [Outcome(kind="completed")] * 2)
    late = stage.turn(2)
    assert [(result.ticket, result.is_late) for result in late] == [(1, True), (2, True)]


def test_a_call_that_never_began_gives_back_each_of_its_rows(at: Any) -> None:
    workers = Hanging()
    stage = at(workers)
    stage.dispatch_as_one(1, 2, 3)
    unstarted = Outcome(kind="unstarted", error_code="E", error_message="no such worker")
    stage.results.put_for_each(workers.calls[0], unstarted)
    assert [(result.ticket, result.outcome) for result in stage.turn(0)] == [
        (ticket, unstarted) for ticket in (1, 2, 3)
    ]


@pytest.mark.parametrize("is_late", [False, True])
def test_while_an_outcome_holds_the_run_no_worker_begins_a_call(at: Any, is_late: bool) -> None:
    workers = Hanging(can_be_asked=False)
    stage = at(workers)
    stage.dispatch(1, 2, 3)
    if is_late:
        stage.attempts.forget(stage.turn(2)[:1])
    stage.results.put(workers.calls[0], [Outcome(kind="held", error_code="Down")])
    assert workers.calls[1].begin()  # the same answer again
    next_one = Call((), 9, stage.results.held)
    assert not next_one.begin()
    stage.attempts.forget(stage.attempts.results())
    assert next_one.begin()


# --- what counts as a stop


@pytest.mark.parametrize("wanted", [1, 3])
def test_an_outcome_that_was_left_needs_no_news_and_no_other_outcomes(wanted: int) -> None:
    results, calls = Results(), [Call((), 1), Call((), 2)]
    for call in calls:
        results.put(call, [])
    with failing_if_it_hangs():
        for call in calls:  # there is only one piece of news
            results.wait(3600.0, wanted)
            assert results.take() == (call, [])
    assert results.take() is None


def test_a_limit_that_ends_rows_counts_on_from_a_stop_and_a_plain_one_does_not() -> None:
    stops = Stops()
    stops.ask("enough")
    stops.ask("enough")
    assert (stops.count, stops.reason) == (1, "enough")
    stops.ask("now", end_rows=True)
    assert stops.count == 2
    stops.ask("now", end_rows=True)
    assert stops.count == 3
    stops.ask("now", end_rows=True)
    stops.ask("later")
    assert (stops.count, stops.reason) == (3, "enough")


@pytest.mark.parametrize("in_loop", [False, True])
def test_each_stop_is_reported_once_and_the_first_signal_is_that_of_the_run(in_loop: bool) -> None:
    stops = Stops()
    if not in_loop:  # which doesn't leave a run
        CallersThread(stops)
    assert list(stops.messages(2, None)) == []
    stops.add(15, "the first")
    stops.add(2, "the second")
    first, second = stops.messages(2, None)
    assert first == "pausing; waiting for the rows in flight (2); a further Ctrl-C ends them"
    assert second.startswith("ending the rows in flight (2); ")
    assert list(stops.messages(2, None)) == []
    for _ in range(3):
        stops.add()
    leaves = "" if in_loop else "; a further Ctrl-C leaves them"
    assert list(stops.messages(1, None)) == [f"ending the rows in flight (1) by force{leaves}"]
    assert (stops.signal, stops.reason, stops.count) == (15, "the first", 5)


def test_the_first_signal_kills_no_rows_that_are_being_ended_for_another_reason() -> None:
    stops = Stops()
    stops.ask("enough", end_rows=True)
    assert len(list(stops.messages(2, None))) == 2
    stops.add(2)
    assert (stops.count, stops.signal) == (2, 2)
    (said,) = stops.messages(2, None)
    assert said == "ending the rows in flight (2); a further Ctrl-C kills them"
    stops.add(2)
    assert stops.count == 3


@pytest.mark.parametrize(("stops", "after_s"), [(1, 0.0), (0, TIMEOUT_S + 1.0)])
def test_rows_of_a_call_that_no_worker_has_begun_are_taken_back_together(
    at: Any, stops: int, after_s: float
) -> None:
    workers = Hanging()
    stage = at(workers, timeout_s=TIMEOUT_S)
    stage.dispatch(1, 2)
    stage.dispatch_as_one(3, 4)
    assert [row.id for row in workers.calls[2].rows] == ["j:3", "j:4"]
    assert [result.outcome.kind for result in stage.turn(stops, after_s)] == ["unstarted"] * 2
    assert ("j:3", False) not in workers.asked
