"""JobRun.run with threads and coroutines: outcomes, attempts, limits, and words from outside."""

import asyncio
import errno
import os
import pickle
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from support import attempts
from support.children import FaultyOs, fails
from support.clock import Clock
from support.runs import calls_of, open_job, statuses

import journal
import journal.fs.system
from journal import (
    Fail,
    Hold,
    InvalidValueError,
    Job,
    JobNotFoundError,
    JobRow,
    JobRun,
    JobService,
    NeedsReview,
    Retry,
    RowResult,
    RunReport,
    Skip,
    StorageError,
)
from journal.format.records import RunRecord
from journal.fs import shell
from journal.fs.handles import Descriptor
from journal.run.caller import CallersThread, _Driver
from journal.run.driver import Run
from journal.run.outcome import later
from journal.run.pacing.rates import Rate
from journal.run.settling import Settling
from journal.run.signals import Stops
from journal.run.workers.base import Results
from journal.run.workers.choose import make_workers
from journal.run.workers.handler import AttemptedRow, Target

pytestmark = pytest.mark.usefixtures("no_threads_left")

WAIT_S = 60.0


class Gate:
    """A handler whose calls wait until they are let go; tells who has arrived."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self._changed = threading.Condition()
        self._open = 0

    def __call__(self, row: JobRow) -> int:
        with self._changed:
            self.calls.append(row.row_number)
            turn = len(self.calls)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._open >= turn, WAIT_S)
        return row.row_number

    def wait_for(self, calls: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= calls, WAIT_S)

    def let_go(self, calls: int = 1_000_000) -> None:
        """Let so many calls return, in the order in which they came."""
        with self._changed:
            self._open = calls
            self._changed.notify_all()


class Background:
    """A run in another thread, with what it said."""

    def __init__(self, job: JobRun, handler: Callable[[JobRow], Any], **options: Any) -> None:
        self.said: list[str] = []
        self._heard = threading.Condition()
        self._report: list[RunReport | BaseException] = []

        def work() -> None:
            try:
                self._report.append(job.run(handler, tell=self._hear, **options))
            except BaseException as error:  # noqa: BLE001
                self._report.append(error)

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def _hear(self, text: str) -> None:
        with self._heard:
            self.said.append(text)
            self._heard.notify_all()

    def wait_for(self, text: str) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: any(text in line for line in self.said), WAIT_S)

    def report(self) -> RunReport:
        self._thread.join(WAIT_S)
        (report,) = self._report
        if isinstance(report, BaseException):
            raise report
        return report


# --- the ordinary course of things


def test_each_row_is_handled_once_and_its_return_value_is_its_result(path: Path) -> None:
    with open_job(path) as job:
        report = job.run(lambda row: {"square": row.data["n"] ** 2}, workers=3)
        assert [row.result["square"] for row in job.rows()] == [1, 4, 9, 16, 25]
        assert {row.attempts for row in job.rows()} == {1}
    assert (report.exit_code, report.started, report.completed) == (0, 5, 5)
    assert report.job.status == "completed"


def test_a_start_is_on_the_disk_before_the_handler_is_called(path: Path) -> None:
    def handler(row: JobRow) -> None:
        with JobService(path.parent) as other:
            seen = other.get_row(row.id)
        assert seen is not None
        assert (seen.status, seen.attempts) == ("processing", 1)

    with open_job(path) as job:
        assert job.run(handler, workers=2).exit_code == 0


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text to be had")


class UnreadableFail(Fail):
    """Of which a part raises when it is asked for."""

    @property
    def code(self) -> str:
        raise RuntimeError

    @code.setter
    def code(self, _code: str) -> None: ...


def test_coroutines_run_so_many_at_a_time_and_end_when_they_take_too_long(
    path: Path, clock: Clock
) -> None:
    at_once = most = 0

    async def handler(row: JobRow) -> str:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            await asyncio.sleep(0 if row.row_number != 4 else WAIT_S)
        finally:
            at_once -= 1
        return f"did {row.row_number}"

    def look(now: Job) -> None:
        if now.successful_rows == 29:  # only row 4 is in flight
            clock.pass_timeouts()

    with open_job(path, 30) as job:
        report = job.run(handler, workers=7, timeout_s=1, on_progress=look)
        assert statuses(job) == {"completed": 29, "needs_review": 1}
        assert job.rows()[3].error_code == "TimeoutError"
    assert 1 < most <= 7
    assert report.exit_code == 3


def raising(error: BaseException) -> Callable[[JobRow], Any]:
    def handler(_row: JobRow) -> Any:
        raise error

    return handler


@pytest.mark.parametrize(
    ("handler", "status", "code", "message"),
    [
        (raising(ValueError("bad zip")), "failed", "ValueError", "bad zip"),
        (raising(KeyError()), "failed", "KeyError", "KeyError"),
        (raising(Odd()), "failed", "Odd", "Odd"),
        (raising(Fail("E42", "no stock")), "failed", "E42", "no stock"),
        (raising(UnreadableFail("E")), "failed", "UnreadableFail", None),
        (raising(Retry(after_s=0)), "failed", "Retry", "the handler asked for another attempt"),
        (raising(Skip("test order")), "skipped", None, None),
        (raising(NeedsReview("Slow", "timed out")), "needs_review", "Slow", "timed out"),
        (raising(SystemExit(3)), "failed", "SystemExit", "3"),
        (raising(KeyboardInterrupt()), "failed", "KeyboardInterrupt", "KeyboardInterrupt"),
        (raising(GeneratorExit()), "failed", "GeneratorExit", "GeneratorExit"),
        (raising(asyncio.CancelledError()), "failed", "CancelledError", "CancelledError"),
        (raising(ValueError("\ud800")), "failed", "ValueError", "\\ud800"),
        (lambda _row: object(), "needs_review", "InvalidResult", "object can't be written as JSON"),
        (lambda _row: {None: 2}, "needs_review", "InvalidResult", "keys must be text"),
        (lambda _row: float("nan"), "needs_review", "InvalidResult", "finite"),
        (lambda _row: RowResult(cost_cents=-1), "needs_review", "InvalidResult", "cost_cents"),
        (lambda _row: RowResult(label_path=5), "needs_review", "InvalidResult", "int"),  # type: ignore[arg-type]
        (lambda _row: "x" * (65 << 20), "needs_review", "InvalidResult", "67108846 bytes"),
    ],
)
def test_whatever_a_handler_does_ends_in_a_named_outcome(
    path: Path, handler: Callable[[JobRow], Any], status: str, code: str, message: str | None
) -> None:
    with open_job(path, 2) as job:
        report = job.run(handler, workers=2)
        assert report.problems == ()
        for row in job.rows():
            assert (row.status, row.error_code) == (status, code)
            assert message is None or message in (row.error_message or "")
        assert job.job.status == ("completed" if status == "skipped" else "failed")


@pytest.mark.parametrize("kind", [Retry, Hold])
@pytest.mark.parametrize(
    "after_s", [-1, float("inf"), float("nan"), True, 10**400, 1.79e12, b"-1", [1]]
)
def test_what_is_no_time_to_wait_is_refused_with_its_value(
    kind: type[Retry | Hold], after_s: Any
) -> None:
    words = f"after_s must be 0 to 31,622,400 seconds (366 days), not {after_s!r}"
    with pytest.raises(ValueError, match=re.escape(words) + "$"):
        kind(after_s=after_s)


@pytest.mark.parametrize("kind", [Retry, Hold])
@pytest.mark.parametrize("after_s", [2.5, "2.5", Decimal("2.5"), "2.50 "])
def test_seconds_may_be_text_as_in_a_header(kind: type[Retry | Hold], after_s: Any) -> None:
    assert kind(after_s=after_s).after_s == 2.5


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
)
def test_a_time_to_wait_may_be_a_date_in_each_form_of_http(form: str) -> None:
    asked = datetime.now(UTC)
    at = asked.replace(microsecond=0) + timedelta(hours=1)
    waits_s = later("held", "Down", "503", after_s=at.strftime(form)).after_s
    assert waits_s is not None
    assert asked <= at - timedelta(seconds=waits_s) <= datetime.now(UTC)
    assert Retry(after_s=(asked - timedelta(days=1)).strftime(form)).after_s == 0.0


@pytest.mark.parametrize("kind", [Retry, Hold])
@pytest.mark.parametrize("after_s", ["soon", "-1", "nan", "", "1790000000", "Wed, 1", "1 2 3 4 5"])
def test_text_that_is_no_time_to_wait_is_ignored_with_a_warning_in_the_log_of_its_row(
    path: Path, kind: type[Retry | Hold], after_s: str
) -> None:
    def handler(row: AttemptedRow) -> None:
        if row.attempts == 1:
            row.log("asked")
            raise kind("Throttled", "429", after_s=after_s)

    with open_job(path, 1) as job:
        job.run(handler, max_attempts=2, backoff_s=0)
        (row,) = job.rows("completed")
        asked, warning = job.service.get_row_history(row.id).logs
    assert (asked.message, warning.level) == ("asked", "WARNING")
    assert f"after_s={after_s!r} is ignored" in warning.message


@pytest.mark.parametrize(
    ("call", "arguments", "to_write"),
    [
        (Retry, (30,), "Retry(after_s=30)"),
        (Retry, (1.5, "E"), "Retry(after_s=1.5)"),
        (Retry, (None,), "Retry()"),
        (Hold, (30,), "Hold(after_s=30)"),
    ],
)
def test_seconds_in_place_of_a_code_are_refused_with_what_to_write(
    call: Any, arguments: tuple[Any, ...], to_write: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(f"write {to_write}") + "$"):
        call(*arguments)


def test_outcomes_come_back_from_a_pickle_whole() -> None:
    for error in (Retry("E", "busy", after_s=3), NeedsReview("E", "look"), Fail("E", "no")):
        assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


def test_a_run_inside_a_batch_is_refused_for_no_start_would_be_on_the_disk(path: Path) -> None:
    with open_job(path) as job:
        with job.service.batch("j"), pytest.raises(InvalidValueError, match="batch"):
            job.run(lambda _row: 1)
        assert job.run(lambda _row: 1).exit_code == 0


def test_where_each_run_was_started_is_written_down_and_a_change_of_hosts_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    for host in ("one", "two", "two", "one"):
        monkeypatch.setattr("journal.fs.system.host_name", lambda host=host: host)
        with open_job(path, 9, argv=["on", host]) as job:
            job.run(lambda _row: 1, max_rows=2, tell=said.append)
            assert job.job.hosts[-1] == host
            line = shell.in_directory(os.getcwd(), ["on", host])
            assert f"to continue: {line}" in said or not job.job.pending_count
    assert [text for text in said if "last run on" in text] == [
        f"j: was last run on {host}; make sure that nothing of that run is still running there"
        for host in ("one", "two")
    ]
    with JobService(path.parent) as service:
        job_now = service.get_job("j")
        records = [entry.record for entry in service.get_history("j")]
    assert job_now is not None
    assert job_now.hosts == ("two", "one")
    runs = [record for record in records if isinstance(record, RunRecord)]
    assert [run.host for run in runs] == ["one", "two", "two", "one"]
    assert len({run.id for run in runs}) == 4
    assert (runs[0].pid, runs[0].argv, runs[0].directory) == (
        *(os.getpid(), ("on", "one"), os.getcwd()),
    )


# --- attempts


def test_a_row_that_waits_for_a_retry_gets_it_though_no_more_rows_may_start(path: Path) -> None:
    calls: list[int] = []

    def handler(row: JobRow) -> None:
        calls.append(row.row_number)
        if row.row_number < 3:
            raise OSError

    limit: dict[str, Any] = {"limit_per": {"key": 1}}
    for limits in ({}, limit):
        rows = [{"key": "a"}] * 4
        with journal.open_job(path.with_name(f"j{len(limits)}"), rows) as job:
            report = job.run(
                handler, max_attempts=3, backoff_s=0.01, max_rows=3, workers=2, **limits
            )
        assert sorted(calls) == [1, 1, 1, 2, 2, 2, 3]
        assert report.reason == "3 rows were started, as many as were asked for"
        calls.clear()


def test_attempts_are_counted_over_runs(path: Path) -> None:
    calls = 0

    def handler(_row: JobRow) -> None:
        nonlocal calls
        calls += 1
        job.stop()
        raise OSError

    for _ in range(3):
        with open_job(path, 1) as job:
            job.run(handler, max_attempts=3)
    assert calls == 3
    with open_job(path, 1) as job:
        assert (job.job.status, job.rows()[0].status, job.rows()[0].attempts) == (
            ("failed", "failed", 3)
        )


@pytest.mark.parametrize("most", [1, 2])
@pytest.mark.parametrize("policy", ["retry", "resume"])
@pytest.mark.parametrize("lost", ["run", "worker", "given back"])
def test_a_row_that_was_lost_is_tried_again_whatever_max_attempts_says(
    path: Path, lost: str, policy: Any, most: int
) -> None:
    with open_job(path, 1) as job:
        for _ in range(2):
            job.service.start_job("j", policy)
            attempts.start(job.service, "j:1")
            job.service.update_status("j", "paused")
        if lost == "worker":
            attempts.try_again(job.service, "j:1", "SIGKILL", "it died", by="policy")
        if lost == "given back":
            job.service.start_job("j", policy)
            attempts.start(job.service, "j:1")
            attempts.give_back(job.service, "j:1", by="run")
    with open_job(path, 1, on_interrupted=policy) as job:
        assert job.run(lambda _row: 1 / 0, max_attempts=most, backoff_s=0).started == 1
        (row,) = job.rows()
    assert (row.status, row.error_code) == ("failed", "ZeroDivisionError")
    assert row.attempts - row.earlier_attempts == 3


def test_a_run_that_ends_while_another_program_has_a_row_in_flight_names_it(path: Path) -> None:
    def handler(_row: JobRow) -> None:
        with JobService(path.parent) as other, other.batch("j"):
            other.create_rows("j", [{"data": {}}])
            other.start_row("j:2")

    with open_job(path, 1) as job:
        report = job.run(handler)
    assert report.reason == "row 2 is in flight in another program"
    assert (report.job.status, report.exit_code) == ("paused", 4)


def test_a_start_says_that_no_run_has_left_a_row_in_flight(path: Path) -> None:
    said = list[str]()
    with open_job(path, 2) as job:
        with JobService(path.parent) as other:
            other.start_row("j:2")
        job.run(lambda _row: 1, tell=said.append)
    assert any("1 row was in flight in another program and may have taken" in text for text in said)


def test_a_row_that_a_person_has_put_back_gets_one_more_attempt(path: Path) -> None:
    def handler(row: JobRow) -> int:
        if row.row_number == 1 and row.attempts < 3:
            raise OSError
        return row.attempts

    with open_job(path, 3) as job:
        job.run(handler, max_attempts=2, backoff_s=0, max_rows=2)
        assert statuses(job) == {"failed": 1, "completed": 1, "pending": 1}
        job.service.retry_failed_rows("j")
        assert job.run(handler, max_attempts=2).exit_code == 0
        assert job.rows()[0].result == 3


def test_a_row_that_was_given_back_stays_among_those_that_were_asked_for(path: Path) -> None:
    calls: Counter[int] = Counter()

    def handler(row: JobRow) -> None:
        calls[row.row_number] += 1
        if calls[row.row_number] == 1:
            raise OSError if row.row_number == 1 else Hold(after_s=0.0)

    with open_job(path, 4) as job:
        run = Background(job, handler, workers=2, max_rows=2, max_attempts=2, backoff_s=0.5)
        assert run.report().reason == "2 rows were started, as many as were asked for"
        assert calls == {1: 2, 2: 2}
        assert statuses(job) == {"completed": 2, "pending": 2}


def test_rows_that_fail_together_are_tried_as_often_as_asked_and_no_sooner(path: Path) -> None:
    """Each comes back in a commit of its own, in which the next ones start."""
    calls: Counter[int] = Counter()
    ended: dict[int, float] = {}
    early = []

    def handler(row: JobRow) -> None:
        calls[row.row_number] += 1
        if row.attempts > 1 and monotonic() - ended[row.row_number] < 0.1:
            early.append(row.row_number)
        sleep(0.01 * row.row_number)
        ended[row.row_number] = monotonic()
        if row.attempts == 1:
            raise ConnectionError
        raise Fail("BAD", "for good")

    with open_job(path, 8) as job:
        report = job.run(handler, workers=8, max_attempts=5, backoff_s=0.2)
        assert calls == dict.fromkeys(range(1, 9), 2)
        assert (report.failed, report.started) == (8, 16)
        assert early == []


# --- time


def hanging(clock: Clock, gate: Gate) -> Callable[[JobRow], int]:
    """``gate``, for calls that take too long."""

    def handler(row: JobRow) -> int:
        clock.pass_timeouts()
        return gate(row)

    return handler


def test_a_thread_that_takes_too_long_is_given_up_and_its_row_needs_a_review(
    path: Path, clock: Clock
) -> None:
    gate = Gate()
    hang = hanging(clock, gate)
    with open_job(path, 3) as job:
        report = job.run(
            lambda row: hang(row) if row.row_number == 2 else 1, timeout_s=1, workers=1
        )
        rows = list(job.rows())
        gate.let_go()
    assert [str(row.status) for row in rows] == ["completed", "needs_review", "completed"]
    assert (rows[1].error_code, report.job.status) == ("TimeoutError", "failed")
    assert "may still go on" in (rows[1].error_message or "")


def test_an_attempt_that_was_given_up_and_succeeds_after_all_settles_its_review(
    path: Path, clock: Clock
) -> None:
    slow, other = Gate(), Gate()
    hang = hanging(clock, slow)
    with open_job(path, 2) as job:
        run = Background(
            job,
            lambda row: hang(row) if row.row_number == 1 else other(row),
            timeout_s=1,
            workers=1,
        )
        other.wait_for(1)
        assert str(job.rows()[0].status) == "needs_review"
        slow.let_go()
        while str(job.rows()[0].status) != "completed":
            assert job.job.status == "running"
        other.let_go()
        report = run.report()
        assert (report.completed, report.failed, report.exit_code) == (2, 0, 0)


def test_an_attempt_that_was_given_up_and_fails_after_all_leaves_its_review_to_a_person(
    path: Path, clock: Clock
) -> None:
    slow, other, fails = Gate(), Gate(), threading.Event()

    def handler(row: JobRow) -> None:
        if row.row_number == 1:
            hanging(clock, slow)(row)
            fails.set()
            raise ValueError("after all")
        other(row)

    with open_job(path, 3) as job:
        run = Background(job, handler, timeout_s=1, workers=1)
        other.wait_for(1)
        slow.let_go()
        assert fails.wait(60)
        other.let_go(1)
        other.wait_for(2)
        other.let_go()
        report = run.report()
        assert (report.completed, report.failed) == (2, 1)
        first = job.rows()[0]
        assert (first.status, first.error_code) == ("needs_review", "TimeoutError")


def test_a_run_survives_another_writer_that_holds_the_lock_for_long(path: Path) -> None:
    gate = Gate()
    with open_job(path, 4, lock_timeout_s=0.05) as job, JobService(path.parent) as other:
        run = Background(job, gate, workers=2)
        gate.wait_for(2)
        with other.batch("j"):
            gate.let_go()
            other.skip_row("j:4")
            run.wait_for("still waiting")
            with (
                JobService(path.parent, lock_timeout_s=0.3) as third,  # the run tries again
                pytest.raises(journal.JobLockedError),
            ):
                third.skip_row("j:3")
        report = run.report()
        assert (report.completed, report.job.skipped_count) == (3, 1)
        assert sum("still waiting" in text for text in run.said) == 1


def test_an_attempt_that_succeeds_while_repeated_is_no_failure_less(
    path: Path, clock: Clock
) -> None:
    slow, again = Gate(), Gate()
    hang = hanging(clock, slow)
    with open_job(path, 1) as job:
        run = Background(
            job,
            lambda row: hang(row) if row.attempts == 1 else again(row),
            timeout_s=1,
            max_attempts=2,
            retry_on=(TimeoutError,),
            backoff_s=0,
        )
        again.wait_for(1)
        slow.let_go()
        while str(job.rows()[0].status) != "completed":
            assert job.job.status == "running"
        again.let_go()
        report = run.report()
        assert (report.completed, report.failed) == (1, 0)


def test_a_late_result_that_cannot_be_recorded_leaves_the_attempt_in_flight_alone(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, again = Gate(), Gate()
    is_tried = threading.Event()
    settle_late = Settling.settle_late

    def settle(*arguments: Any, **options: Any) -> bool:
        try:
            return settle_late(*arguments, **options)
        finally:
            is_tried.set()

    monkeypatch.setattr(Settling, "settle_late", settle)

    def handler(row: JobRow) -> RowResult | int:
        if row.attempts > 1:
            return again(row)
        hanging(clock, slow)(row)
        return RowResult(tracking_number="x" * (65 << 20))

    with open_job(path, 1) as job:
        run = Background(
            job, handler, timeout_s=1, max_attempts=2, retry_on=(TimeoutError,), backoff_s=0
        )
        again.wait_for(1)
        slow.let_go()
        assert is_tried.wait(WAIT_S)
        again.let_go()
        report = run.report()
        assert (report.completed, report.failed) == (1, 0)
        assert "must be at most" in report.problems[0]
        assert [str(row.status) for row in job.rows()] == ["completed"]


def test_a_row_that_waits_for_another_attempt_and_was_failed_by_a_person_stays_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    is_due = threading.Event()
    monkeypatch.setattr("journal.run.row_queue.monotonic", lambda: 3600.0 * is_due.is_set())

    def handler(row: JobRow) -> None:
        calls.append(row.row_number)
        if row.row_number == 1:
            raise Retry(after_s=60)
        if row.row_number == 2:
            with JobService(path.parent) as other:
                other.fail_row("j:1", "E", "not worth it")
            is_due.set()

    with open_job(path, 3) as job:
        report = job.run(handler, max_attempts=3, timeout_s=WAIT_S)
        assert (calls, report.job.status) == ([1, 2, 3], "failed")
        assert job.rows()[0].error_code == "E"


def test_no_more_threads_work_than_asked_for_after_one_was_given_up(
    path: Path, clock: Clock
) -> None:
    slow, others = Gate(), Gate()
    threads: list[threading.Thread] = []

    def handler(row: JobRow) -> int:
        threads.append(threading.current_thread())
        return hanging(clock, slow)(row) if row.row_number == 1 else others(row)

    before = set(threading.enumerate())
    with open_job(path, 6) as job:
        run = Background(job, handler, timeout_s=1, workers=1)
        others.wait_for(1)  # by the thread that has taken the other one's place
        slow.let_go()
        threads[0].join(WAIT_S)
        while str(job.rows()[0].status) != "completed":
            assert job.job.status == "running"
        new = set(threading.enumerate()) - before
        assert [thread.name for thread in new].count("journal-worker") == 1
        others.let_go()
        assert run.report().completed == 6


def test_threads_that_are_closed_begin_none_of_the_rows_that_wait_for_them(path: Path) -> None:
    gate = Gate()
    with open_job(path, 3) as job:
        workers = make_workers(Target(gate, {}), None, 1, Results())
        before = set(threading.enumerate())
        for call in calls_of(job):
            workers.dispatch(call)
        gate.wait_for(1)
        workers.close()
        gate.let_go()
        for thread in set(threading.enumerate()) - before:
            thread.join(WAIT_S)
        assert gate.calls == [1]


def test_no_more_coroutines_are_begun_than_were_asked_for_however_many_wait(path: Path) -> None:
    active, most = 0, 0
    are_two, dispatched = asyncio.Event(), threading.Event()

    async def coroutine(_row: JobRow) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        if active == 2:
            are_two.set()
        await are_two.wait()
        await asyncio.to_thread(dispatched.wait, WAIT_S)
        for _ in range(20):  # in each turn of the loop, another row could begin
            await asyncio.sleep(0)
        active -= 1

    outcomes = Results()
    with open_job(path, 9) as job:
        workers = make_workers(Target(coroutine, {}), None, 2, outcomes)
        for call in calls_of(job):
            workers.dispatch(call)
        dispatched.set()
        for _ in range(9):
            while outcomes.take() is None:
                outcomes.wait(WAIT_S)
        workers.close()
    assert most == 2


@pytest.mark.parametrize(
    ("options", "attempts", "status"),
    [
        ({}, 1, "needs_review"),
        ({"max_attempts": 2}, 1, "needs_review"),
        ({"max_attempts": 2, "retry_on": (TimeoutError,)}, 2, "failed"),
        ({"max_attempts": 2, "retry_on": "TimeoutError"}, 2, "failed"),
        ({"max_attempts": 1, "retry_on": "TimeoutError"}, 1, "failed"),
    ],
)
def test_an_attempt_that_was_ended_at_its_timeout_is_repeated_only_where_timeouts_are_named(
    path: Path, options: dict[str, Any], attempts: int, status: str, clock: Clock
) -> None:
    calls = 0

    async def handler(_row: JobRow) -> None:
        nonlocal calls
        calls += 1
        clock.pass_timeouts()
        await asyncio.sleep(WAIT_S)

    with open_job(path, 1) as job:
        job.run(handler, timeout_s=1, backoff_s=0, **options)
        row = job.rows()[0]
    assert (calls, row.status, row.error_code) == (attempts, status, "TimeoutError")


@pytest.mark.parametrize(
    ("policy", "calls", "status"),
    [("review", 1, "needs_review"), ("fail", 1, "failed"), ("retry", 3, "failed")],
)
@pytest.mark.parametrize("in_own_loop", [True, False])
def test_on_interrupted_settles_a_row_whose_attempt_was_ended_at_its_timeout(
    path: Path, policy: Any, calls: int, status: str, in_own_loop: bool, clock: Clock
) -> None:
    called = 0

    async def handler(_row: JobRow) -> None:
        nonlocal called
        called += 1
        clock.pass_timeouts()
        await asyncio.sleep(WAIT_S)

    with journal.open_job(path, [{}], on_interrupted=policy) as job:
        if in_own_loop:
            job.run(handler, timeout_s=1, backoff_s=0)
        else:
            asyncio.run(job.arun(handler, timeout_s=1, backoff_s=0))
        row = job.rows()[0]
        assert (called, row.status, row.unknown) == (calls, status, status == "failed")
        assert job.run(handler, timeout_s=1, retry_failed=True).started == 0


@pytest.mark.parametrize(
    "error",
    [
        *(SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()),
        UnreadableFail("E"),
    ],
)
def test_a_coroutine_that_raises_fails_its_row_alone(path: Path, error: BaseException) -> None:
    async def handler(row: JobRow) -> None:
        if row.row_number == 2:
            raise error

    with open_job(path, 3) as job:
        assert job.run(handler, workers=2).job.successful_rows == 2
        assert job.rows()[1].error_code == type(error).__name__


def test_tasks_that_coroutines_left_are_cancelled_at_the_end_and_may_clean_up(path: Path) -> None:
    ended: list[int] = []
    left: list[asyncio.Task[None]] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as a client that closes its connections
                await asyncio.sleep(0)
            ended.append(number)

    async def handler(row: JobRow) -> None:
        left.append(asyncio.create_task(wait(row.row_number)))
        await asyncio.sleep(0)

    with open_job(path, 3) as job:
        assert job.run(handler, workers=3).completed == 3
        assert sorted(ended) == [1, 2, 3]
        assert all(task.cancelled() for task in left)


def test_a_run_all_of_whose_workers_hang_ends_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr("journal.run.workers.termination.GRACE_S", 0.0)
    gate = Gate()
    hang = hanging(clock, gate)

    async def handler(row: JobRow) -> None:
        hang(row)  # blocks the loop

    with open_job(path, 3) as job:
        report = job.run(handler, timeout_s=1, workers=1)
        gate.let_go()
        assert report.reason == "all 1 workers hang"
        assert statuses(job) == {"needs_review": 1, "pending": 2}
        assert (report.job.status, report.exit_code) == ("paused", 3)


# --- giving up


class QuickThenSlow:
    """Takes no time, so that many rows are handed out at once; then waits at the gate."""

    def __init__(self, quick: int) -> None:
        self.gate = Gate()
        self._quick = quick

    def __call__(self, row: JobRow) -> None:
        if row.row_number > self._quick:
            self.gate(row)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_rows_that_no_worker_has_begun_are_given_back_when_the_run_is_to_stop(
    path: Path, is_coroutine: bool
) -> None:
    slow = QuickThenSlow(1500)

    async def coroutine(row: JobRow) -> None:
        if row.row_number > 1500:
            await asyncio.to_thread(slow.gate, row)

    with open_job(path, 3000) as job:
        run = Background(job, coroutine if is_coroutine else slow, workers=4)
        slow.gate.wait_for(4)
        job.stop()
        run.wait_for("waiting for the rows in flight")
        while job.job.processing_count > 4:
            pass
        job.stop(end_rows=True)
        slow.gate.let_go()
        run.report()
        assert len(slow.gate.calls) == 4
        assert job.job.pending_count == 3000 - 1504
        assert job.job.processing_count == 0


def test_a_stopped_run_waits_once_for_a_locked_job_whatever_the_number_of_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []

    def wait(file: Descriptor, _timeout_s: float) -> bool:
        waits.append(file.try_lock())
        return waits[-1]

    gate = Gate()
    with open_job(path, 30) as job, JobService(path.parent) as other:
        run = Background(job, gate, workers=30)
        gate.wait_for(30)
        with other.batch("j"):
            monkeypatch.setattr("journal.store.log.wait_for_lock", wait)
            gate.let_go()
            run.wait_for("still waiting")
            job.stop()
            job.stop(end_rows=True)
            asked = len(waits)
            with pytest.raises(journal.JobLockedError):
                run.report()
        # For a commit in progress, for one more, for outcomes that came before and after the rows
        # were given up, and for the hint of the end.
        assert len(waits) - asked <= 5
        told = {text.split()[1] for text in run.said if "could not be recorded" in text}
        assert told == {row.id for row in job.rows()}
        assert statuses(job) == {"processing": 30}


@pytest.mark.parametrize(("halt", "in_flight"), [("1", "completed"), ("now,1", "needs_review")])
def test_a_run_that_halts_waits_for_what_is_in_flight_or_leaves_it_to_a_person(
    path: Path, halt: str, in_flight: str
) -> None:
    gate = Gate()

    def handler(row: JobRow) -> None:
        if row.row_number == 2:
            gate.wait_for(1)
            raise ValueError
        gate(row)

    with open_job(path, 9) as job:
        run = Background(job, handler, workers=2, halt=halt)
        run.wait_for("the last 1 row has failed: pausing")
        if halt == "1":
            gate.let_go()
        report = run.report()
        gate.let_go()
        assert statuses(job) == {in_flight: 1, "failed": 1, "pending": 7}
    assert (report.reason, report.job.status, report.exit_code) == (
        *("the last 1 row has failed", "paused"),
        3,
    )
    is_now = any("ending the rows in flight" in line for line in run.said)
    assert is_now == (halt != "1")
    assert "to continue: " in run.said[-1]


def test_a_rate_is_kept_by_rows_of_any_number_of_workers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    use = Rate.use

    def noted(rate: Rate, count: int) -> None:
        used.append(count)
        use(rate, count)

    monkeypatch.setattr(Rate, "use", noted)
    with open_job(path, 5) as job:
        report = job.run(lambda _row: 1, workers=5, rate="100/s")
    assert report.completed == sum(used) == 5
    assert report.elapsed_s >= 4 / 100


def test_a_run_waits_for_its_rate_instead_of_looking_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    wait = Results.wait

    def noted(self: Results, timeout_s: float, wanted: int) -> None:
        waits.append(timeout_s)
        wait(self, timeout_s, wanted)

    monkeypatch.setattr(Results, "wait", noted)
    with open_job(path, 4) as job:
        assert job.run(lambda _row: 1, rate="50/s").completed == 4
    assert min(waits) > 0


# --- words from outside


def test_a_job_that_is_paused_with_its_last_rows_in_flight_ends_with_them(path: Path) -> None:
    gate = Gate()
    with open_job(path, 2) as job, JobService(path.parent) as other:
        run = Background(job, gate, workers=2)
        gate.wait_for(2)
        other.update_status("j", "paused")
        run.wait_for("paused by another process")
        gate.let_go()
        report = run.report()
        assert (report.job.status, report.completed, report.exit_code) == ("completed", 2, 0)
        assert other.run_holder("j") is None


def replace_by_a_copy(path: Path) -> None:
    path.rename(path.with_name("away"))
    shutil.copytree(path.with_name("away"), path)


@pytest.fixture(name="looking")
def fixture_looking(monkeypatch: pytest.MonkeyPatch) -> threading.Lock:
    """Held while a run looks at its job, which would be missing in the middle of a replacement."""
    lock, look = threading.Lock(), Run._look

    def locked(run: Run) -> Job:
        with lock:
            return look(run)

    monkeypatch.setattr(Run, "_look", locked)
    return lock


REPLACED = "was replaced: make sure that no other run continues it"


def test_a_run_that_has_lost_its_lock_starts_no_more_rows_and_leaves_the_job_to_others(
    path: Path, looking: threading.Lock
) -> None:
    gate = Gate()
    with open_job(path, 4) as job:
        run = Background(job, gate)
        gate.wait_for(1)
        with looking:
            replace_by_a_copy(path)
        run.wait_for(REPLACED)
        gate.let_go()
        report = run.report()
        assert gate.calls == [1]
        assert REPLACED in str(report.reason)
        assert (report.completed, statuses(job)) == (0, {"processing": 1, "pending": 3})
        (problem,) = report.problems
        assert "row j:1 ended as completed and this could not be recorded" in problem
        assert REPLACED in problem
        assert problem.endswith("its outcome: '1'")
        assert problem in run.said
        assert job.job.status == "running"
    with open_job(path, 4) as job:
        assert job.run(gate).completed == 3


def delete(path: Path) -> None:
    shutil.rmtree(path)


def rename(path: Path) -> None:
    path.rename(path.with_name("away"))


@pytest.mark.parametrize("lose", [rename, delete])
def test_a_run_whose_job_was_moved_or_deleted_says_so_and_names_the_outcome_that_it_has(
    path: Path, lose: Callable[[Path], None]
) -> None:
    gate = Gate()
    with open_job(path, 4) as job:
        run = Background(job, gate)
        gate.wait_for(1)
        lose(path)
        run.wait_for(f"{path} was moved or deleted, so this run records nothing more: pausing")
        gate.let_go()
        with pytest.raises(JobNotFoundError):
            run.report()
        (problem,) = [text for text in run.said if "row j:1" in text]
        assert f"could not be recorded ({path} was moved or deleted" in problem
        assert not any("another run" in text for text in run.said)


def test_a_run_whose_lock_was_lost_ends_though_the_other_one_has_paused_the_job(
    path: Path, looking: threading.Lock
) -> None:
    gate = Gate()
    with open_job(path, 4) as job, JobService(path.parent) as other:
        run = Background(job, gate)
        gate.wait_for(1)
        with looking:
            replace_by_a_copy(path)
        other.update_status("j", "paused")
        gate.let_go()
        assert run.report().job.status == "paused"


def test_a_run_goes_on_though_somebody_has_tidied_up_the_file_that_names_it(path: Path) -> None:
    gate = Gate()
    with open_job(path, 2) as job:
        run = Background(job, gate)
        gate.wait_for(1)
        (path / "run.lock").unlink()
        gate.let_go()
        assert run.report().completed == 2


@pytest.mark.parametrize(
    ("error", "code", "counted"), [(OSError(), "OSError", 1), (Hold(), None, 0)]
)
def test_a_row_in_flight_that_could_be_tried_again_stays_pending_in_a_job_that_was_cancelled(
    path: Path, error: Exception, code: str | None, counted: int
) -> None:
    gate = Gate()

    def handler(row: JobRow) -> None:
        gate(row)
        raise error

    with open_job(path, 2) as job, JobService(path.parent) as other:
        run = Background(job, handler, max_attempts=5)
        gate.wait_for(1)
        other.update_status("j", "cancelled")
        gate.let_go()
        assert run.report().problems == ()
        assert (job.job.status, statuses(job)) == ("cancelled", {"pending": 2})
        row = job.rows()[0]
    assert (row.error_code, row.attempts - row.earlier_attempts) == (code, counted)


def test_rows_put_back_or_added_by_another_process_are_taken_up(path: Path) -> None:
    gate = Gate()

    def handler(row: JobRow) -> int:
        if row.row_number == 1 and row.attempts == 1:
            raise ValueError
        return gate(row)

    with open_job(path, 3) as job, JobService(path.parent) as other:
        run = Background(job, handler, workers=1)
        gate.wait_for(1)
        assert other.retry_failed_rows("j") == 1
        other.create_rows("j", [{"data": {"n": 4}}])
        gate.let_go()
        assert run.report().job.successful_rows == 4
    assert gate.calls in ([2, 3, 1, 4], [2, 3, 4, 1])


# --- when the disk is full


def in_flight(
    job: JobRun, gate: Gate, count: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Background, FaultyOs]:
    """A run with so many rows in flight, and the system that fails it from now on as is planned."""
    run, faulty = Background(job, gate, workers=count, **options), FaultyOs()
    gate.wait_for(count)
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    return run, faulty


def test_what_came_back_is_recorded_once_the_disk_has_space_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    with open_job(path, 4) as job:
        run, faulty = in_flight(job, gate, 2, monkeypatch)
        faulty.plan("write", fails(errno.ENOSPC))
        gate.let_go()
        with pytest.raises(StorageError):
            run.report()
        assert statuses(job) == {"completed": 2, "pending": 2}
        assert job.job.status == "paused"
        assert job.run(gate).completed == 2


def test_once_a_commit_has_failed_rows_that_wait_for_a_worker_are_not_begun(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty, gate = FaultyOs(), Gate()

    def handler(row: JobRow) -> None:
        if row.row_number > 100:  # until then rows take no time, so others are queued
            gate(row)

    with open_job(path, 200, sync="none") as job:
        run = Background(job, handler, workers=1)
        gate.wait_for(1)
        while job.job.successful_rows < 100:
            sleep(0.001)
        while job.job.processing_count < 3:  # the rows after 101 are to wait for the worker
            sleep(0.001)
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("write", fails(errno.ENOSPC))
        gate.let_go(1)
        until_s = monotonic() + 10.0
        while job.job.processing_count > 1 and monotonic() < until_s:
            sleep(0.001)
        gate.let_go()
        with pytest.raises(StorageError):
            run.report()
        begun = len(gate.calls)
        assert statuses(job) == {"completed": 100 + begun, "pending": 100 - begun}
    assert gate.calls in ([101], [101, 102]), "the second may have begun before the commit failed"


def run_with_a_failed_commit(
    job: JobRun, gate: Gate, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Background:
    """A run whose first of two rows has ended with a commit that failed."""
    run, faulty = in_flight(job, gate, 2, monkeypatch, **options)
    faulty.plan("write", fails(errno.ENOSPC))
    gate.let_go(1)
    run.wait_for("in flight")
    while job.job.processing_count > 1:
        sleep(0.001)
    return run


def test_after_a_failed_commit_an_attempt_has_its_timeout_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    gate = Gate()
    with open_job(path, 2, sync="none") as job:
        run = run_with_a_failed_commit(job, gate, monkeypatch, timeout_s=1)
        clock.pass_timeouts()
        with pytest.raises(StorageError):
            run.report()
        gate.let_go()
        assert statuses(job) == {"completed": 1, "needs_review": 1}


def test_after_a_failed_commit_nothing_is_recorded_in_another_job_at_the_path(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, away = Gate(), path.with_name("away")
    with open_job(path, 2, sync="none") as job:
        run = run_with_a_failed_commit(job, gate, monkeypatch)
        path.rename(away)
        shutil.copytree(away, path)
        gate.let_go()
        with pytest.raises(StorageError):
            run.report()
        assert any("could not be recorded" in text for text in run.said)
    with JobService(path.parent) as other:
        assert [str(row.status) for row in other.get_rows("j")].count("processing") == 1


def test_what_came_back_and_can_not_be_recorded_is_told_row_by_row(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    with open_job(path, 4) as job:
        run, faulty = in_flight(job, gate, 2, monkeypatch)
        faulty.always("write", fails(errno.ENOSPC))
        gate.let_go()
        with pytest.raises(StorageError):
            run.report()
        faulty.heal()
        assert job.service.run_holder("j") is None
    assert sum("could not be recorded" in text for text in run.said) == 2
    with open_job(path, 4) as job:
        assert job.run(gate).completed == 2
        assert statuses(job) == {"completed": 2, "needs_review": 2}


@pytest.mark.parametrize("cut", [True, False])
def test_after_a_failed_sync_each_outcome_is_recorded_and_none_is_told_as_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, cut: bool
) -> None:
    gate = Gate()
    with open_job(path, 2) as job:
        run, faulty = in_flight(job, gate, 2, monkeypatch)
        faulty.plan("fdatasync", fails(errno.EIO))
        if not cut:
            faulty.plan("ftruncate", fails(errno.EIO))
        gate.let_go()
        kind = journal.StorageError if cut else journal.CommitOutcomeUnknownError
        with pytest.raises(kind):
            run.report()
        assert statuses(job) == {"completed": 2}
        assert not any("could not be recorded" in text for text in run.said)


@pytest.mark.parametrize("batch", [None, 1])
def test_a_row_that_was_started_by_a_commit_of_unknown_outcome_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None
) -> None:
    faulty, gate = FaultyOs(), Gate()
    handle: Any = gate if batch is None else lambda rows: [gate(rows[0])]
    with open_job(path, 2) as job:
        run = Background(job, handle, workers=1, batch=batch)
        gate.wait_for(1)
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("fdatasync", fails(errno.EIO))
        faulty.plan("ftruncate", fails(errno.EIO))
        gate.let_go()
        with pytest.raises(journal.CommitOutcomeUnknownError):
            run.report()
        assert statuses(job) == {"completed": 1, "pending": 1}


def test_an_error_of_the_one_who_watches_pauses_the_job_with_nothing_in_flight(path: Path) -> None:
    def complain(_job: journal.Job) -> None:
        raise OSError("nobody watches")

    def until_stopped(_row: JobRow) -> None:
        while not job._runs[0].count:
            sleep(0.001)

    with open_job(path, 4) as job:
        with pytest.raises(OSError, match="nobody"):
            job.run(until_stopped, on_progress=complain)
        assert job.job.status == "paused"
        assert job.run(lambda _row: 1).exit_code == 0


def test_what_the_driver_has_posted_is_called_though_the_driver_has_ended() -> None:
    called: list[str] = []

    def drive() -> Any:
        caller.post(threading.current_thread().join)
        caller.post(lambda: called.append("the last message"))
        return "the report"

    caller = CallersThread(Stops())
    report: object = caller.wait(drive, nullcontext(), handle_signals=False)
    assert (report, called) == ("the report", ["the last message"])


def test_a_driver_that_was_kept_from_its_start_begins_nothing() -> None:
    begun: list[str] = []

    def drive() -> Any:
        begun.append("the run")

    driver = _Driver(drive, lambda: begun.append("the end"))
    assert driver.is_over()
    driver.thread.start()
    driver.thread.join()
    assert begun == []
