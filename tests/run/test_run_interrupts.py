"""Exceptions out of signal handlers, at each step of a run: it ends, and its rows say the truth."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.interrupts import HANG_S, check_each_step, check_each_step_of_the_end
from support.platforms import needs_fork, needs_signals
from support.work import contained

import journal
from journal import JobRow
from journal.run.workers.base import Call

KINDS = ["threads", "asyncio", "executor", "batches"]


@contained
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_step_of_a_run_loses_no_row_and_calls_none_twice(
    kind: str, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    steps = check_each_step(kind, tmp_path, (1, 3))
    assert steps > 5
    count("steps of runs that were interrupted", steps)


@contained
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_interrupt_at_any_step_of_the_end_gives_up_what_is_in_flight_and_no_more(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: Callable[[str, int], None]
) -> None:
    monkeypatch.setattr("journal.run.driver.POLL_S", 0.001)
    monkeypatch.setattr("journal.run.caller.POLL_S", 0.001)
    monkeypatch.setattr("journal.run.workers.termination.GRACE_S", 0.01)
    steps = check_each_step_of_the_end(kind, tmp_path)
    assert steps > 2
    count("steps of runs that were interrupted", steps)


@needs_fork
# From Python 3.12 a fork says so in a process that has threads.
@pytest.mark.filterwarnings("ignore:This process .* multi-threaded, use of fork:DeprecationWarning")
def test_a_process_that_is_forked_in_a_run_is_ended_by_a_sigterm_at_once(tmp_path: Path) -> None:
    ends: list[int] = []

    def fork_and_end(_row: JobRow) -> None:
        while len(ends) < 10 and set(ends) <= {-signal.SIGTERM}:
            child = os.fork()
            if child == 0:
                time.sleep(HANG_S)
                os._exit(1)
            os.kill(child, signal.SIGTERM)  # mostly before the child's first line of Python
            ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with journal.open_job(tmp_path / "job", [{"n": 1}], key="n") as job:
        job.run(fork_and_end, workers=1)
    assert ends == [-signal.SIGTERM] * 10


def test_whoever_claims_a_row_first_has_it_and_hears_the_same_again() -> None:
    taken, begun = Call((), 1), Call((), 2)
    assert [taken.cancel(), taken.cancel(), taken.begin()] == [True, True, False]
    assert [begun.begin(), begun.cancel(), begun.cancel()] == [True, False, False]


@needs_signals
def test_each_further_interrupt_makes_the_end_quicker_and_none_keeps_it_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As signals do: the second asks what is in flight to end, the third by force."""
    monkeypatch.setattr("journal.run.workers.termination.GRACE_S", 0.01)
    may_end = threading.Event()
    begun = threading.Event()

    async def stubborn(_row: JobRow) -> None:
        begun.set()
        until_s = time.monotonic() + HANG_S
        while not may_end.is_set() and time.monotonic() < until_s:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    def interrupt_once_more_whenever_it_was_heard(job: journal.JobRun) -> None:
        begun.wait(HANG_S)
        until_s = time.monotonic() + HANG_S
        (stops,) = job._runs
        for count in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            while stops.count <= count and time.monotonic() < until_s:
                time.sleep(0.001)

    is_at_work = True

    def interrupt(_number: int, _frame: object) -> None:
        if is_at_work:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    with journal.open_job(tmp_path / "j", [{}, {}]) as job:
        other = threading.Thread(target=interrupt_once_more_whenever_it_was_heard, args=(job,))
        other.start()
        with pytest.raises(KeyboardInterrupt):
            job.run(stubborn, handle_signals=False)
        is_at_work = False
        other.join()
        signal.signal(signal.SIGUSR1, before)
        may_end.set()
        assert [str(row.status) for row in job.rows()] == ["needs_review", "pending"]
        assert (job.job.status, job.service.run_holder("j")) == ("paused", None)


@needs_signals
@pytest.mark.parametrize("name", ["tell", "on_progress", "where"])
def test_a_fourth_signal_leaves_a_run_in_which_code_of_the_caller_hangs(
    name: str, tmp_path: Path
) -> None:
    may_return = threading.Event()

    def hang(_given: object) -> bool:
        (stops,) = job._runs
        for count in range(stops.count, 4):
            os.kill(os.getpid(), signal.SIGTERM)
            while stops.count <= count and not may_return.is_set():
                time.sleep(0.001)
        return not may_return.wait(HANG_S)

    with journal.open_job(tmp_path / "j", [{}]) as job:
        job.service.log("j", "so that there is something to report")
        options: dict[str, Any] = {"tell": lambda _text: None, name: hang}
        if name == "tell":
            options["retry_on"] = (ValueError,)  # which has no effect, as it says
        with pytest.raises(SystemExit) as caught:
            job.run(lambda _row: may_return.wait(HANG_S), **options)
        assert caught.value.code == 128 + signal.SIGTERM
        job.close()  # doesn't wait for the thread of the driver
        driver = next(t for t in threading.enumerate() if t.name == "journal-driver")
        may_return.set()
        driver.join()
        assert job.service.run_holder("j") is None


def work_and_interrupt(
    job: journal.JobRun, result: object, before: Callable[[], object]
) -> list[str]:
    """A run of one row, interrupted while that is in flight; what it said."""
    begun, may_end = threading.Event(), threading.Event()
    said: list[str] = []

    def handler(_row: JobRow) -> object:
        begun.set()
        may_end.wait(HANG_S)
        return result

    def interrupt(_job: journal.Job) -> None:
        if begun.is_set() and not may_end.is_set():
            try:
                before()
            finally:
                may_end.set()

    with pytest.raises(KeyboardInterrupt):
        job.run(handler, on_progress=interrupt, tell=said.append)
    return said


def interrupt_now() -> None:
    raise KeyboardInterrupt


def test_what_comes_back_after_an_interrupt_and_is_too_long_is_a_matter_for_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.store.journal.MAX_RECORD_BYTES", 20_000)  # stands for 64 MiB
    monkeypatch.setattr("journal.format.values.MAX_REPR_BYTES", 1_000)  # stands for 1 MiB
    with journal.open_job(tmp_path / "j", [{}], on_interrupted="retry") as job:
        work_and_interrupt(job, "y" * 30_000, interrupt_now)
        (row,) = job.rows()
        assert (row.status, row.error_code) == ("needs_review", "InvalidResult")
        assert row.result == f"'{'y' * 999}\n[29002 more bytes of the repr were not kept]"


def test_what_comes_back_after_an_interrupt_is_told_if_the_job_is_another_runs_by_then(
    tmp_path: Path,
) -> None:
    def lose_and_interrupt() -> None:
        (tmp_path / "j").rename(tmp_path / "away")
        shutil.copytree(tmp_path / "away", tmp_path / "j")
        raise KeyboardInterrupt

    with journal.open_job(tmp_path / "j", [{}]) as job:
        said = work_and_interrupt(job, "paid", lose_and_interrupt)
        (row,) = job.rows()
        assert row.status == "processing"
        assert any("could not be recorded" in text and "'paid'" in text for text in said)
