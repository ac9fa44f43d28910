"""Rates by usage: a call starts if what it will use stays within the limit."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from heapq import heappop, heappush
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import journal
import journal.run.pacing.rates as module
from journal import AttemptedRow, InvalidValueError, JobRow, JobRun, JobService, Retry, RowResult
from journal.cli.main import main
from journal.run.lifecycle import RunningJob, Settings
from journal.run.outcome import Outcome, failed, later, outcome_of_error
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import UsageRates, Window
from journal.run.workers.base import Call
from journal.run.workers.handler import outcomes_of_raised
from journal.run.workers.in_flight import Result

NOW = datetime(2026, 12, 1, tzinfo=UTC)
USED_9 = Outcome(kind="completed", usage={"tokens": 9})


class Simulation:
    """A run with a simulated clock, and a provider that counts in its own sliding minute."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limits: Limits, **options: Any) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now_s)
        self.rates = UsageRates(
            limits, RunningJob(JobService("unused"), "j", Settings()), **options
        )
        self._random = random.Random(5)
        self._number = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._minute: deque[tuple[float, float]] = deque()
        self._used = 0.0
        self.most = self.total = 0.0

    def run(
        self, workers: int, until_s: float, counts_at: float, usages: Callable[[], float]
    ) -> None:
        """Keep ``workers`` busy. The provider counts at this share (0 to 1) of a call's time."""
        busy = 0
        while self.now_s < until_s:
            self.rates.begin_turn(workers - busy)
            while busy < workers and self.rates.admits(self._number + 1):
                busy += 1
                self._number += 1
                row = JobRow(f"j:{self._number}", "j", self._number, "", {}, NOW, NOW, attempts=1)
                self.rates.start([row])
                self._call(row, usages(), self._random.uniform(1, 4), counts_at)
                self.rates.begin_turn(workers - busy)
            self.rates.start([])
            next_s = self._events[0][0] if self._events else self.now_s + self.rates.wait_s
            assert self._events or 0 < self.rates.wait_s <= 60
            self.now_s = min(next_s, self.now_s + (self.rates.wait_s or 60))
            while self._events and self._events[0][0] <= self.now_s:
                number, event = heappop(self._events)[1:]
                busy -= number < 0
                event()

    def _call(self, row: JobRow, used: float, took_s: float, counts_at: float) -> None:
        outcome = Outcome(kind="completed", usage={"tokens": used})
        result = Result(row.row_number, row, outcome, Call((row,), row.row_number))  # type: ignore[arg-type]
        number, end_s = row.row_number, self.now_s + took_s
        heappush(self._events, (self.now_s + took_s * counts_at, number, lambda: self._count(used)))
        heappush(self._events, (end_s, -number, lambda: self.rates.end([result])))

    def _count(self, used: float) -> None:
        self._minute.append((self.now_s, used))
        self._used += used
        self.total += used
        while self._minute[0][0] <= self.now_s - 60:
            self._used -= self._minute.popleft()[1]
        self.most = max(self.most, self._used)


@pytest.mark.parametrize("counts_at", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("mean_calls", [40, 400])
def test_no_minute_of_the_provider_has_more_than_the_limit_which_is_nearly_used_up(
    monkeypatch: pytest.MonkeyPatch, mean_calls: int, counts_at: float
) -> None:
    limit = mean_calls * 100
    simulation = Simulation(monkeypatch, Limits(rate={"tokens": f"{limit}/m"}))
    spread = random.Random(7)
    simulation.run(50, 1000.0 + 20 * 60, counts_at, lambda: spread.uniform(50, 150))
    assert simulation.most <= 1.05 * limit
    assert simulation.total >= 0.85 * 21 * limit  # in 20 minutes, the first of which begins at 0


def new_rates(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> UsageRates:
    return Simulation(monkeypatch, Limits(rate={"tokens": "100/m"}, **limits)).rates


def start(rates: UsageRates, *numbers: int, pending: int = 99) -> list[int]:
    """Start these rows, as far as they are admitted. Returns their numbers."""
    rates.begin_turn(pending)
    admitted = [number for number in numbers if rates.admits(number)]
    rates.start([row_of(number) for number in admitted])
    return admitted


def row_of(number: int) -> JobRow:
    return JobRow(f"j:{number}", "j", number, "", {}, NOW, NOW, attempts=1)


def end(rates: UsageRates, outcome: Outcome, *numbers: int) -> None:
    """End a call of these rows."""
    rows = [row_of(number) for number in numbers]
    call = Call(tuple(rows), numbers[0])  # type: ignore[arg-type]
    rates.end([Result(row.row_number, row, outcome, call) for row in rows])


def test_no_more_calls_are_in_flight_than_usages_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = new_rates(monkeypatch)
    assert start(rates, 1, 2, 3) == [1]
    end(rates, USED_9, 1)
    assert start(rates, 2, 3) == [2]
    end(rates, USED_9, 2)
    assert start(rates, 3, 4, 5) == [3, 4]


@pytest.mark.parametrize(
    ("outcome", "left"),
    [
        (Outcome(kind="completed"), 9),
        (outcome_of_error(journal.Fail("Bad"), {}), 8),
        (outcome_of_error(ValueError("no JSON"), {}), 8),
        (outcome_of_error(Retry(counts=False), {}), 9),
        (later("held", "Down", "503"), 9),
        (Outcome(kind="unstarted"), 9),
        (failed("ConnectionError", "lost", retryable=True), 8),
        (Outcome(kind="lost", error_code="Stopped"), 8),
    ],
    ids=str,
)
def test_a_failed_attempt_without_a_usage_counts_with_its_estimate_unless_it_is_given_back(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, left: int
) -> None:
    rates = new_rates(monkeypatch)
    for number in range(1, 21):
        assert start(rates, number) == [number]
        end(rates, Outcome(kind="completed", usage={"tokens": 0.5}), number)
    rates = new_rates(monkeypatch)
    for number in range(1, 11):
        start(rates, number)
        end(rates, Outcome(kind="completed", usage={"tokens": 10 if number == 1 else 0}), number)
    assert start(rates, 11) == [11]
    end(rates, outcome, 11)
    assert len(start(rates, *range(12, 30))) == left
    end(rates, outcome, 11)  # a late result of a call that was given up


def test_an_estimate_is_the_largest_of_few_usages_and_the_95th_percentile_of_the_latest() -> None:
    window = Window("tokens", "100/m")
    for amount in range(19, 0, -1):
        window.learn(amount)
    assert window.estimate == 19
    window.learn(100)
    assert window.estimate == 19
    for _ in range(1000):
        window.learn(3)
    assert (window.known, window.estimate) == (1000, 3)


def test_a_row_admitted_and_not_started_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = new_rates(monkeypatch)
    end(rates, USED_9, *start(rates, 1))
    for _ in range(12):
        rates.begin_turn(9)
        assert rates.admits(2)
        rates.start([])


def test_all_rows_of_a_call_start_together(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = new_rates(monkeypatch, batch=4)
    assert start(rates, *range(1, 9)) == [1, 2, 3, 4]
    end(rates, Outcome(kind="completed", usage={"tokens": 20}), 1, 2, 3, 4)
    assert start(rates, *range(5, 9)) == []  # 80 are used, and the call would use 80
    assert start(rates, 5, pending=1) == [5]


def test_what_a_call_has_used_is_the_use_of_all_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = new_rates(monkeypatch, batch=4)
    given: Any = [SimpleNamespace(unrecorded=None)] * 4
    shared = outcomes_of_raised(given, journal.Fail("Bad", usage={"tokens": 30}), {})
    for first in (1, 5):
        rows = [row_of(number) for number in start(rates, *range(first, first + 4))]
        call = Call(tuple(rows), first)  # type: ignore[arg-type]
        rates.end([Result(1, row, one, call) for row, one in zip(rows, shared, strict=True)])
    assert start(rates, *range(9, 13)) == [9, 10, 11, 12]  # 60 are used, and the call would use 30


def test_the_function_estimate_says_what_a_row_will_use(path: Path) -> None:
    in_flight, sums, calls = 0, list[int](), list[int]()

    async def handler(row: AttemptedRow) -> RowResult:
        nonlocal in_flight
        in_flight += row.data["tokens"]
        sums.append(in_flight)
        calls.append(row.row_number)
        await asyncio.sleep(0)
        in_flight -= row.data["tokens"]
        return RowResult(usage={"tokens": row.data["tokens"]})

    sizes = [2000, 600, 600, 300]
    with journal.open_job(path, [{"tokens": size} for size in sizes]) as job:
        report = job.run(
            handler,
            workers=5,
            rate={"rows": "500/s", "tokens": "1000/s"},
            estimate=lambda row: {"tokens": row.data["tokens"]},
        )
        assert (report.completed, job.job.usage) == (4, {"tokens": 3500})
    assert calls == [1, 2, 3, 4]  # the third row waits, and the fourth doesn't overtake it
    assert all(used <= 1000 or used == 2000 for used in sums)


def test_an_attempt_that_waits_for_a_rate_is_made_though_no_more_rows_may_start(path: Path) -> None:
    usage = {"tokens": 600}

    def handler(row: AttemptedRow) -> RowResult:
        if row.attempts == 1:
            raise Retry(after_s=0, usage=usage)
        return RowResult(usage=usage)

    with journal.open_job(path, [{"n": n} for n in range(3)]) as job:
        report = job.run(handler, max_rows=1, max_attempts=2, rate={"tokens": "1000/s"})
    assert (report.completed, report.started) == (1, 2)


def test_what_an_estimate_can_not_be_ends_the_run_with_what_to_return(path: Path) -> None:
    with journal.open_job(path, [{"n": 1}]) as job:
        wrong: Any = lambda _row: 900  # noqa: E731
        with pytest.raises(InvalidValueError, match=r"\{'input_tokens': 900\}, for row 1"):
            job.run(print, rate={"input_tokens": "9/m"}, estimate=wrong)


def read(job: JobRun, monkeypatch: pytest.MonkeyPatch, **limits: Any) -> UsageRates:
    """The rates of a run that starts now."""
    monkeypatch.setattr(module, "monotonic", lambda: 1000.0)
    given = Limits(rate={"tokens": "100/m"}, **limits)
    rates = UsageRates(given, RunningJob(job.service, "j", Settings()))
    rates.read()
    return rates


def test_a_start_reads_what_earlier_runs_have_used_and_what_was_in_flight_when_one_died(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(row: AttemptedRow) -> RowResult:
        return RowResult(usage={"tokens": 10 * row.row_number, "others": 5})

    with journal.open_job(path, [{"n": n} for n in range(6)]) as job:
        job.run(handler, max_rows=3)
        rates = read(job, monkeypatch)
        rates.begin_turn(9)
        assert rates.admits(9)  # 60 are used, and the estimate is 30
        assert not rates.admits(10)
        assert 0 < rates.wait_s <= 60
        job.service.start_row("j:4")
        assert start(read(job, monkeypatch), 9) == []
        small = read(job, monkeypatch, estimate=lambda _row: {"tokens": 20})
        assert start(small, 5, 6, 6) == [5]
        rates = read(job, monkeypatch, batch=2)  # a mean of 20, also for the row in flight
        assert start(rates, 9, pending=1) == [9]
        assert start(rates, 10, pending=1) == []


@pytest.mark.parametrize(("tokens", "is_in_flight"), [(60, False), (40, True)])
def test_a_run_waits_for_what_an_earlier_one_has_used(
    path: Path, tokens: int, *, is_in_flight: bool
) -> None:
    calls: list[int] = []

    def handler(row: AttemptedRow) -> RowResult:
        calls.append(row.row_number)
        return RowResult(usage={"tokens": tokens})

    def stop(_job: object) -> None:
        if job.pace == "waiting for the rate tokens=100/h":
            job.stop()

    with journal.open_job(path, [{"n": n} for n in range(3)]) as job:
        job.run(handler, max_rows=1)
        if is_in_flight:
            job.service.start_row("j:2")
        report = job.run(handler, rate={"tokens": "100/h"}, on_progress=stop)
    assert (calls, report.started) == ([1], 0)


def test_a_start_counts_the_estimates_of_failed_attempts_of_earlier_runs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(row: AttemptedRow) -> RowResult:
        match row.row_number:
            case 1:
                return RowResult(usage={"tokens": 10})
            case 2:
                raise ValueError("no JSON")
            case 3:
                raise journal.Fail("Bad", usage={"tokens": 5})
        job.stop()
        raise Retry(counts=False, after_s=99)

    with journal.open_job(path, [{"n": n} for n in range(9)]) as job:
        job.run(handler, workers=1)
        rates = read(job, monkeypatch, estimate=lambda _row: {"tokens": 10})
        assert len(start(rates, *range(5, 20))) == 7  # 25 are used


@pytest.mark.parametrize(("tokens", "admitted"), [(30, [5, 6]), (40, [])])
def test_a_call_that_failed_without_a_usage_lowers_no_estimate_of_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, tokens: int, admitted: list[int]
) -> None:
    def handler(rows: journal.Batch) -> RowResult:
        if rows[0].row_number == 1:
            raise ValueError
        return RowResult(result=[1, 1], usage={"tokens": tokens})

    with journal.open_job(path, [{"n": n} for n in range(9)]) as job:
        job.run(handler, batch=2, workers=1, max_rows=4)
        rates = read(job, monkeypatch, batch=2)
        assert start(rates, 5, 6, pending=2) == admitted  # as much is used as by three calls


@pytest.mark.parametrize("kind", ["command", "rows", "calls of two rows"])
def test_a_rate_of_a_name_that_is_in_no_usage_ends_the_run_with_the_names_that_are(
    work: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    size: int | None = None
    if kind == "command":
        (work / "rows.txt").write_text("1\n" * 12)
        options = ["rows.txt", "--lines", "--job", "j", "--stdout", "json", "--rate", "tokens=9/m"]
        prints = 'echo "{\\"usage\\": {\\"total\\": 7}}"'
        assert main(["run", *options, "--", "sh", "-c", prints]) == 2
        text = capsys.readouterr().err
    else:
        answer = RowResult(usage={"total": 7})
        if kind != "rows":
            answer, size = RowResult(result=[1, 1], usage={"total": 7}), 2
        with (
            journal.open_job(work / "jobs" / "j", [{"n": n} for n in range(30)]) as job,
            pytest.raises(InvalidValueError) as caught,
        ):
            job.run(lambda _: answer, rate={"tokens": "9/m"}, workers=5, batch=size)
        text = str(caught.value)
    assert "no outcome says how much 'tokens' it has used, but how much 'total': limit" in text
    with JobService("jobs") as service:
        job_ = service.get_job("j")
        assert job_ is not None
        assert (job_.status, job_.done_rows, job_.usage) == (
            "paused",
            10 * (size or 1),
            {"total": 70},
        )
    assert main(["show", "j"]) == 0
    assert "paused      InvalidValueError: rate: no outcome says" in capsys.readouterr().out


def test_a_rate_of_a_usage_that_no_outcome_has_is_reported(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    with journal.open_job(work / "jobs" / "p", [{"n": n} for n in range(4)]) as job:
        job.run(lambda _row: 1, rate={"tokens": "9/m"}, tell=said.append)
    (text,) = [line for line in said if "one call is made at a time" in line]
    assert 'return journal.RowResult(usage={"tokens": ...})' in text
    (work / "rows.txt").write_text("1\n" * 4)
    options = ["rows.txt", "--lines", "--job", "j", "--stdout", "json", "--rate", "tokens=9/m"]
    assert main(["run", *options, "--", "true"]) == 0
    assert (
        'with `--stdout json`, COMMAND prints {"usage": {"tokens": 12}}' in capsys.readouterr().err
    )


def test_commands_have_rates_of_their_usage(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "rows.txt").write_text("1\n2\n3\n")
    rates = ["--rate", "500/s", "--rate", "tokens=9000/m"]
    options = ["rows.txt", "--lines", "--job", "j", "--stdout", "json", "--limit", "2", *rates]
    prints = 'echo "{\\"usage\\": {\\"tokens\\": $1}}"'
    assert main(["run", *options, "--", "sh", "-c", prints, "sh", "{}"]) == 4
    assert "--rate 500/s --rate=tokens=9000/m" in capsys.readouterr().err
    with JobService("jobs") as service:
        job = service.get_job("j")
        assert job is not None
        assert job.usage == {"tokens": 3}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path
