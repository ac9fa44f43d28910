"""``limit_per``: so many rows in flight for each value of a column, and the others go on."""

import functools
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.clock import Clock

import journal
from journal import Hold, JobRow, JobRun, JobService, RunReport
from journal.run.lifecycle import RunningJob, Settings
from journal.run.outcome import Outcome
from journal.run.pacing.limit_per import PerKey
from journal.run.pacing.limits import Limits
from journal.run.row_queue import RowQueue
from journal.run.workers.base import Call
from journal.run.workers.in_flight import Result

WAIT_S = 60.0


def rows_of(*keys: Any) -> list[dict[str, Any]]:
    """A row for each key, in a column ``key``."""
    return [{"key": key} for key in keys]


def open_job(path: Path, rows: Iterable[dict[str, Any]], **options: Any) -> JobRun:
    return journal.open_job(path, rows, sync="none", **options)


class Calls:
    """A handler whose calls for some rows wait until they are let go. Notes what it was called for.

    ``most`` has the largest number of calls at a time for each value of the column ``key``.
    """

    def __init__(self, *held: int) -> None:
        self.began: list[int] = []
        self.ended: list[int] = []
        self.most: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._held = set(held)
        self._changed = threading.Condition()

    def __call__(self, row: JobRow) -> None:
        key = repr(row.data.get("key"))
        with self._changed:
            self.began.append(row.row_number)
            self._now[key] += 1
            self.most[key] = max(self.most[key], self._now[key])
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: row.row_number not in self._held, WAIT_S)
            self._now[key] -= 1
            self.ended.append(row.row_number)
            self._changed.notify_all()

    def wait_for(self, *numbers: int) -> None:
        """Wait until these rows have been called for, and have ended unless they are held."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: (
                    set(self._held) & set(numbers) <= set(self.began)
                    and set(numbers) - self._held <= set(self.ended)
                ),
                WAIT_S,
            ), self.began

    def let_go(self, *numbers: int) -> None:
        with self._changed:
            self._held.difference_update(numbers or list(self._held))
            self._changed.notify_all()


@contextmanager
def running(job: JobRun, calls: Calls, **options: Any) -> Iterator[Future[RunReport]]:
    """A run in another thread."""
    usual: dict[str, Any] = {"workers": 8, "limit_per": {"key": 1}, "tell": lambda _text: None}
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(functools.partial(job.run, calls, **usual | options))
        try:
            yield future
        finally:
            calls.let_go()


def test_rows_of_a_full_key_wait_in_their_order_while_others_go_on(path: Path) -> None:
    keys = "aaaabbcac"
    calls = Calls(1, 2)
    with open_job(path, rows_of(*keys)) as job, running(job, calls, limit_per={"key": 2}) as run:
        calls.wait_for(1, 2, 5, 6, 7, 9)
        assert sorted(calls.began) == [1, 2, 5, 6, 7, 9]
        calls.let_go(2)
        calls.wait_for(3, 4, 8)
        calls.let_go(1)
        assert run.result(WAIT_S).completed == len(keys)
    began = [number for number in calls.began if keys[number - 1] == "a"]
    assert (sorted(began[:2]), began[2:]) == ([1, 2], [3, 4, 8])
    assert calls.most["'a'"] == 2


def test_values_are_compared_as_json_and_null_has_no_limit(path: Path) -> None:
    keys = [1, "1", True, None, None, [1], ["1"], {"x": 1, "y": 2}]
    same = [1, "1", True, [1], ["1"], {"y": 2, "x": 1}]
    rows = [*rows_of(*keys), {}, {}, *rows_of(*same)]
    first = range(1, len(keys) + 3)
    calls = Calls(*first)
    with open_job(path, rows) as job, running(job, calls, workers=len(rows)) as run:
        calls.wait_for(*first)
        assert sorted(calls.began) == list(first)
        calls.let_go()
        assert run.result(WAIT_S).completed == len(rows)


def test_an_attempt_that_is_given_up_keeps_its_slot_until_it_ends(path: Path, clock: Clock) -> None:
    calls = Calls(1)
    with (
        open_job(path, rows_of("a", "a", "b")) as job,
        running(job, calls, workers=3, timeout_s=1, halt="never") as run,
    ):
        calls.wait_for(1, 3)
        clock.pass_timeouts()
        while job.rows()[0].status != "needs_review":
            assert not run.done()
        job.service.create_rows("j", [{"data": {"key": "b"}}])
        calls.wait_for(4)  # row 2 would have begun before it
        assert 2 not in calls.began
        calls.let_go(1)
        assert run.result(WAIT_S).completed == 4  # the late success settles the review
    assert calls.most["'a'"] == 1


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_no_slot_is_taken_once_no_attempt_is_in_flight(
    path: Path, timeout_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts that are taken back at a hold free their slots."""
    limits: list[PerKey] = []

    class Seen(PerKey):
        def __init__(self, limit_per: Any) -> None:
            super().__init__(limit_per)
            limits.append(self)

    monkeypatch.setattr("journal.run.row_queue.PerKey", Seen)
    calls = itertools.count(1)

    def handle(_row: JobRow) -> None:
        if next(calls) in (100, 150, 200, 250):
            raise Hold(after_s=0)

    with open_job(path, rows_of(*"ab" * 250)) as job:
        report = job.run(handle, workers=2, limit_per={"key": 8}, timeout_s=timeout_s)
    assert report.completed == 500
    (limit,) = limits
    assert limit.in_flight == {}


def test_a_run_ends_if_attempts_that_were_given_up_keep_all_that_is_left_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("journal.run.row_queue._MIN_BLOCKED_S", 0.0)
    calls = Calls(1)
    with (
        open_job(path, rows_of("a", "a", "a", "b")) as job,
        running(job, calls, workers=3, timeout_s=0.05) as run,
    ):
        calls.wait_for(1, 4)
        clock.pass_timeouts()
        report = run.result(WAIT_S)
        calls.let_go()
    assert report.reason == (
        "2 rows wait for attempts that were given up and still run, because of `limit_per`"
    )
    assert report.job.status == "paused"
    assert report.job.pending_count == 2


def test_rows_of_earlier_runs_and_failed_rows_keep_to_the_limit_too(path: Path) -> None:
    def fail(row: JobRow) -> None:
        raise journal.Fail("E", "no")

    calls = Calls()
    with open_job(path, rows_of(*"aaaaaabbbbbb")) as job:
        job.run(fail, max_rows=8, halt="never")
        report = job.run(calls, workers=6, limit_per={"key": 1}, retry_failed=True)
    assert report.completed == 12
    assert calls.most == {"'a'": 1, "'b'": 1}
    # Rows that were never started come first.
    assert [number for number in calls.began if number > 6] == [9, 10, 11, 12, 7, 8]


def test_rows_that_wait_for_a_slot_are_left_when_the_first_rows_all_fail(path: Path) -> None:
    def fail(row: JobRow) -> None:
        raise journal.Fail("E", "no")

    with open_job(path, rows_of(*"a" * 12)) as job:
        report = job.run(fail, workers=4, limit_per={"key": 1})
    assert report.failed == 10
    assert report.job.status == "paused"


def test_a_limit_of_rows_counts_only_rows_that_start(path: Path) -> None:
    calls = Calls()
    with open_job(path, rows_of(*"aaaabbbb")) as job:
        report = job.run(calls, workers=4, limit_per={"key": 1}, max_rows=5)
        assert 0 < len(calls.began) == report.completed <= 5
        report = job.run(calls, workers=4, limit_per={"key": 1})
        assert report.job.successful_rows == len(calls.began) == 8


def test_a_column_that_no_row_has_is_reported_with_one_that_it_may_mean(path: Path) -> None:
    said: list[str] = []
    with open_job(path, [{"carrier": "ups"}, {"zip": None}]) as job:
        job.run(Calls(), limit_per={"carier": 2}, tell=said.append)
    (text,) = said
    assert text == (
        "j: no row has the column 'carier', so `limit_per` limits none of them by it; "
        "did you mean 'carrier'?"
    )


# --- the queue by itself


class Queue:
    """The queue of a run that has no workers."""

    def __init__(self, path: Path, rows: list[dict[str, Any]], **limits: Any) -> None:
        with open_job(path, rows):
            pass
        self.service = JobService(path.parent, sync="none")
        self.service.start_job("j")
        limits = {"limit_per": {"key": 1}} | limits
        self.rows = RowQueue(RunningJob(self.service, "j", Settings()), Limits(**limits))

    def start(self, count: int, *, fresh_first: bool = False) -> list[int]:
        """Start up to so many rows; their numbers."""
        with self.service.batch("j"):
            rows = self.rows.start(count, self.job(), fresh_first=fresh_first)
            return [row.row_number for row in rows]

    def job(self) -> journal.Job:
        job = self.service.get_job("j")
        assert job is not None
        return job

    def is_empty(self) -> bool:
        return self.rows.is_empty(self.job())

    def row(self, number: int) -> JobRow:
        row = self.service.get_row(f"j:{number}")
        assert row is not None
        return row

    def end(self, number: int, outcome: Outcome | None = None) -> None:
        row = self.row(number)
        outcome = outcome or Outcome(kind="completed")
        self.rows.settle(row, outcome)
        self.rows.end([Result(number, row, outcome, Call((), number))])


@pytest.fixture(name="make_queue")
def fixture_make_queue(path: Path) -> Iterator[Callable[..., Queue]]:
    queues: list[Queue] = []

    def make(*keys: Any, **limits: Any) -> Queue:
        queues.append(Queue(path, rows_of(*keys), **limits))
        return queues[-1]

    yield make
    for queue in queues:
        queue.service.close()


def test_a_turn_looks_at_a_bounded_number_of_rows_and_the_next_one_goes_on(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue(*["a"] * 5000, "b")
    turns = [queue.start(2)]
    while queue.rows.next_due_s == 0.0:
        turns.append(queue.start(2))
    assert turns == [[1], [], [5001]]
    assert queue.start(2) == []


def test_a_row_that_is_due_again_waits_for_a_slot_and_then_comes_before_new_ones(
    make_queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("journal.run.row_queue.monotonic", lambda: now_s)
    queue = make_queue("a", "a", "a", max_attempts=2)
    assert queue.start(1) == [1]
    queue.end(1, Outcome(kind="failed", error_code="E", retryable=True, after_s=5.0))
    assert queue.start(2) == [2]
    assert queue.rows.next_due_s == 105.0
    now_s = 106.0
    assert queue.start(2) == []
    queue.end(2)
    assert queue.start(2) == [1]
    queue.end(1)
    assert queue.start(2) == [3]
    assert not queue.rows.has_fresh()


def test_an_attempt_that_is_said_to_have_ended_twice_frees_one_slot(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue(*"aaaa", limit_per={"key": 2})
    assert queue.start(4) == [1, 2]
    queue.end(1)
    queue.rows.end([Result(1, queue.row(1), Outcome(kind="completed"), Call((), 1))])
    assert queue.start(4) == [3]


def test_fresh_rows_that_wait_for_a_slot_do_not_stand_in_the_way_of_rows_that_are_due(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue("a", None, "a", None, max_attempts=2)
    assert queue.start(2) == [1, 2]
    queue.end(2, Outcome(kind="failed", error_code="E", retryable=True, after_s=0.0))
    assert queue.start(1, fresh_first=True) == [4]
    queue.end(4)
    assert queue.start(1, fresh_first=True) == [2]


def test_rows_that_have_waited_are_left_no_more_when_they_are_started(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue("a", "a", "b", where=lambda row: row.row_number != 3)
    assert queue.start(3) == [1]
    queue.end(1)
    assert not queue.is_empty()
    assert queue.start(3) == [2]
    assert queue.is_empty()


def test_a_row_that_was_settled_while_it_waited_is_found_again_when_it_is_retried(
    make_queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.run.row_queue._LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr("journal.run.row_queue._LOOK_AGAIN_EACH_S", 0.0)
    queue = make_queue(*"aaabb")
    assert queue.start(2) == [1, 4]
    queue.service.skip_row("j:2", "not needed")
    queue.end(1)
    assert queue.start(2) == [3]
    queue.service.retry_row("j:2")
    queue.end(3)
    assert queue.start(2) == [2]


def test_a_late_result_is_left_for_after_the_outcome_with_which_it_was_given_up(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue("a", "b")
    assert queue.start(2) == [1, 2]
    done, call = Outcome(kind="completed"), Call((), 1)
    late, plain = (Result(n, queue.row(n), done, call, is_late=n == 1) for n in (1, 2))
    assert queue.rows.settling.complete([late, plain]) == ([plain], [late])
    assert [queue.row(number).status for number in (1, 2)] == ["processing", "completed"]
