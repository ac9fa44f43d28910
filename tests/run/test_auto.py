"""``workers="auto"``: where the number of workers settles, by simulated servers, and in runs."""

from __future__ import annotations

import heapq
import random
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from click.testing import CliRunner

import journal
from journal import AttemptedRow, Hold, InvalidValueError
from journal.cli.main import cli
from journal.run.pacing.auto import DEFAULT_BOUND, Auto
from journal.run.pacing.limits import Limits

WORK_S = 0.1
HOLD_S = 1.0
# Called with the time and the calls in flight. Returns whether a call is refused, and how long it takes.
Server = Callable[[float, int], tuple[bool, float]]


def limited(size: int) -> Server:
    """Refuses calls above so many at a time."""
    return lambda _now_s, in_flight: (in_flight > size, WORK_S if in_flight <= size else 0.002)


def saturated(size: int, noise: float = 0.0) -> Server:
    """Works on so many calls at a time. The others wait."""
    free = [0.0] * size
    luck = random.Random(size)

    def serve(now_s: float, _in_flight: int) -> tuple[bool, float]:
        took_s = WORK_S * luck.uniform(1 - noise, 1 + noise)
        end_s = max(now_s, heapq.heappop(free)) + took_s
        heapq.heappush(free, end_s)
        return False, end_s - now_s

    return serve


def simulate(auto: Auto, server: Server, seconds: float = 60.0) -> tuple[list[int], int]:
    """The numbers of workers in the second half, one for each attempt, and how often all held."""
    now_s, ticket, until_s, before, holds = 0.0, 0, 0.0, 0, 0
    calls: list[tuple[float, int, bool, float]] = []
    counts: list[int] = []
    probe, is_held = 0, False
    while now_s < seconds:
        room = auto.count - len(calls)
        if is_held:
            room = int(now_s >= until_s and not probe)
        for _ in range(room):
            ticket += 1
            probe = ticket if is_held else 0
            is_refused, took_s = server(now_s, len(calls) + 1)
            heapq.heappush(calls, (now_s + took_s, ticket, is_refused, took_s))
            auto.use(len(calls))
        if not calls:
            now_s = until_s
            continue
        now_s, ended, is_refused, took_s = heapq.heappop(calls)
        probe = 0 if ended == probe else probe
        if is_refused:
            if not (is_held and ended <= before):
                is_held, until_s, before, holds = True, now_s + HOLD_S, ticket, holds + 1
            auto.fail(ended, ticket, now_s, is_hold=True)
        else:
            is_held = is_held and ended <= before
            auto.succeed(ended, took_s, ticket, now_s)
        counts.append(auto.count)
    return counts[len(counts) // 2 :], holds


@pytest.mark.parametrize("size", [1, 2, 5, 10, 30, 64])
def test_the_number_settles_below_the_calls_that_a_server_admits(size: int) -> None:
    counts, holds = simulate(Auto(), limited(size))
    assert 0.8 * size <= median(counts) <= size
    assert holds <= 6


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 5, 10, 30, 64])
def test_the_number_settles_where_more_workers_bring_nothing(size: int, noise: float) -> None:
    counts, _ = simulate(Auto(), saturated(size, noise))
    assert 0.8 * size <= median(counts) <= 1.2 * size


def test_the_number_never_leaves_its_bound() -> None:
    counts, _ = simulate(Auto(7), saturated(50))
    assert set(counts) == {7}
    auto = Auto(7)
    for ticket in range(1, 20):
        auto.fail(ticket, ticket, ticket, is_hold=True)
        assert 1 <= auto.count <= 7


def test_the_number_halves_once_for_all_failures_of_a_level() -> None:
    auto = Auto()
    auto.fail(1, 4, 0.0, is_hold=True)
    assert auto.count == 2
    auto.fail(4, 4, 0.1, is_hold=True)  # began before
    assert auto.count == 2
    auto.fail(5, 6, 5.0, is_hold=False)
    assert auto.count == 1


def test_the_number_halves_once_for_all_holds_of_an_outage() -> None:
    auto = Auto()
    down_s = [20.0, 40.0]

    def serve(now_s: float, _in_flight: int) -> tuple[bool, float]:
        is_down = down_s[0] <= now_s < down_s[1]
        return is_down, 0.002 if is_down else WORK_S

    before, _ = simulate(auto, serve, 19.0)
    at_least = min(before) // 2
    after, holds = simulate(auto, serve, 44.0)
    assert holds > 10
    assert min(after) >= at_least


def test_the_number_goes_on_falling_while_all_attempts_take_too_long() -> None:
    auto = Auto()
    auto.count = 64
    for ticket in range(1, 4):
        auto.fail(100 * ticket, 100 * ticket + 50, 10.0 * ticket, is_hold=False)
    assert auto.count == 8


def test_the_number_does_not_grow_while_workers_have_nothing_to_do() -> None:
    auto = Auto()
    for ticket in range(1, 1000):
        auto.use(2)
        auto.succeed(ticket, 0.1, ticket, ticket / 10)
    assert auto.count == 4


def test_a_server_that_admits_more_than_before_gets_more() -> None:
    auto = Auto()
    simulate(auto, limited(8), 30.0)
    assert auto.limit is not None
    simulate(auto, limited(64), 120.0)
    assert auto.count > 16


@pytest.mark.parametrize(
    "given", [0, -1, True, 1.5, "8", "auto:", "auto:0", "auto:x", "Auto", "auto 8", [4]]
)
def test_a_number_of_workers_that_can_not_be_is_refused(given: Any) -> None:
    with pytest.raises(InvalidValueError, match="must be an int from 1, 'auto', or 'auto:200'"):
        Limits(workers=given)


def test_the_bound_is_the_one_that_is_given_or_that_of_the_pool() -> None:
    assert Auto.largest("auto", has_pool=False) == DEFAULT_BOUND
    assert Auto.largest("auto:200", has_pool=False) == 200
    assert Auto.largest("auto", has_pool=True) is None
    assert Auto.largest("auto:3", has_pool=True) == 3
    assert (Auto.largest(8, has_pool=True), Auto.largest(None, has_pool=False)) == (8, None)


# --- in runs


class Crowd:
    """A handler that refuses calls above so many at a time, and waits until others have come.

    It waits for a moment. If ``at_least`` returns a number, it waits until so many have come at a
    time once, however long that takes on a slow machine.
    """

    def __init__(self, size: int, at_least: Callable[[], int] = lambda: 0) -> None:
        self._size = size
        self._at_least = at_least
        self._changed = threading.Condition()
        self.in_flight = 0
        self.most = 0

    def __call__(self, _row: AttemptedRow) -> None:
        with self._changed:
            if self.in_flight >= self._size:
                raise Hold("Throttled", "429", after_s=0)
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.in_flight >= self._size, 0.002)
            at_least = self._at_least()
            assert self._changed.wait_for(lambda: self.most >= at_least, 60)
            self.in_flight -= 1


def open_job(tmp_path: Path, count: int) -> journal.JobRun:
    rows = ({"n": n} for n in range(count))
    return journal.open_job(tmp_path / "jobs" / "j", rows, sync="none")


def test_a_run_with_auto_uses_more_workers_than_it_began_with_and_says_so(tmp_path: Path) -> None:
    paces = set[str]()
    with open_job(tmp_path, 600) as job:
        crowd = Crowd(1000, lambda: 5 if job.pace == "8 workers" else 0)

        def look(_job: journal.Job) -> None:
            paces.add(job.pace)

        report = job.run(crowd, workers="auto:12", on_progress=look, tell=paces.add)
        assert report.completed == 600
        assert 4 < crowd.most <= 12
        assert any("workers, before that 4" in entry.message for entry in logs(job))
    assert any(pace.endswith(" workers") for pace in paces)


def logs(job: journal.JobRun) -> list[journal.LogEntry]:
    return list(job.service.get_logs("j"))


def test_a_run_with_auto_goes_on_with_half_of_its_workers_after_a_hold(tmp_path: Path) -> None:
    paces: list[str] = []
    with open_job(tmp_path, 400) as job:

        def handler(row: AttemptedRow) -> None:
            paces.append(job.pace)
            if row.row_number == 200 and row.attempts == 1:
                raise Hold(after_s=0)

        # Bound to the number it begins with, it can't grow between the hold and the next handler.
        assert job.run(handler, workers="auto:4", tell=lambda _text: None).completed == 400
    numbers = [int(pace.split()[0]) for pace in paces if pace.endswith((" worker", " workers"))]
    assert (4, 2) in pairwise(numbers)


def test_a_run_with_auto_is_bound_by_its_pool(tmp_path: Path) -> None:
    crowd = Crowd(1000)
    with open_job(tmp_path, 200) as job, ThreadPoolExecutor(6) as pool:
        assert job.run(crowd, pool, workers="auto").completed == 200
    assert crowd.most <= 6


@pytest.mark.parametrize("jobs", ["auto", "auto:3", "2"])
def test_commands_run_with_auto(tmp_path: Path, jobs: str) -> None:
    rows = tmp_path / "rows.txt"
    rows.write_text("a\nb\n")
    words = ["--root", str(tmp_path), "run", str(rows), "--lines", "--job", "j", "-j", jobs]
    done = CliRunner().invoke(cli, [*words, "--", sys.executable, "-c", ""])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("jobs", ["0", "1001", "auto:", "auto:0", "auto:1001", "many"])
def test_a_number_of_commands_that_can_not_be_is_refused(tmp_path: Path, jobs: str) -> None:
    words = ["--root", str(tmp_path), "run", "-", "--job", "j", "-j", jobs, "--", "true"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert "must be a number from 1 to 1000, auto, or auto with a maximum" in done.output
