"""JobRun.arun: handlers in the caller's own loop, which lives on; cancelling, stopping, closing."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.clock import Clock
from support.interrupts import failing_if_it_hangs
from support.runs import calls_of, open_job, statuses

import journal
from journal import JobRow, JobRun
from journal.run.driver import Run
from journal.run.lifecycle import RunningJob, Settings
from journal.run.pacing.limits import Limits
from journal.run.workers.base import Results
from journal.run.workers.choose import make_workers
from journal.run.workers.event_loop import LoopWorkers
from journal.run.workers.handler import Target

pytestmark = pytest.mark.usefixtures("no_threads_left")

WAIT_S = 60.0
Value = TypeVar("Value")


def run(main: Coroutine[Any, Any, Value]) -> Value:
    async def limited() -> Value:
        return await asyncio.wait_for(main, WAIT_S)

    return asyncio.run(limited())


class Gate:
    """A coroutine function whose calls wait until it is opened, in one loop."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.calls: list[int] = []
        self.open = asyncio.Event()
        self._stubborn = stubborn
        self._changed = asyncio.Condition()

    async def __call__(self, row: JobRow) -> int:
        self.calls.append(row.row_number)
        async with self._changed:
            self._changed.notify_all()
        while not self.open.is_set():
            try:
                await self.open.wait()
            except asyncio.CancelledError:
                if not self._stubborn:
                    raise
        return row.row_number

    async def wait_for(self, calls: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.calls) >= calls)


async def until_true(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110  (threads set no event of asyncio)
        await asyncio.sleep(0.001)


async def until(said: list[str], text: str) -> None:
    await until_true(lambda: any(text in line for line in said))


async def raises(kind: type[BaseException], task: asyncio.Future[Any]) -> BaseException:
    with pytest.raises(kind) as caught:
        await task
    return caught.value


# --- the caller's loop


def test_handlers_and_messages_run_in_the_loop_and_the_context_of_the_caller(path: Path) -> None:
    request = contextvars.ContextVar[str]("request")
    seen: list[object] = []

    async def handler(row: JobRow) -> str:
        seen.append((threading.get_ident(), asyncio.get_running_loop(), request.get()))
        await asyncio.sleep(0)
        return f"{request.get()}-{row.row_number}"

    def hear(_message: object) -> None:
        seen.append((threading.get_ident(), asyncio.get_running_loop(), request.get()))

    async def main(job: JobRun) -> None:
        request.set("r7")
        report = await job.arun(handler, workers=2, tell=hear, on_progress=hear)
        assert (report.completed, report.job.status) == (5, "completed")
        assert await job.arun(handler, tell=hear) == journal.RunReport(job=job.job)
        here = (threading.get_ident(), asyncio.get_running_loop(), "r7")
        assert set(seen) == {here}
        assert len(seen) >= 7

    with open_job(path) as job:
        run(main(job))
        assert [row.result for row in job.rows()] == [f"r7-{n}" for n in range(1, 6)]


def test_a_plain_function_runs_in_threads_and_the_loop_lives_on(path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def handler(_row: JobRow) -> str:
        begun.set()
        assert may_end.wait(WAIT_S)
        return threading.current_thread().name

    async def main(job: JobRun) -> None:
        task = asyncio.create_task(job.arun(handler, workers=2))
        await until_true(begun.is_set)
        may_end.set()
        await task

    with open_job(path) as job:
        run(main(job))
        assert {row.result for row in job.rows()} == {"journal-worker"}


def end_of_run(job: JobRun) -> str:
    """Why the run ended early, as it is recorded."""
    found = job.service.get_job("j")
    assert found is not None
    assert found.last_run is not None
    assert found.last_run.ended_early is not None
    return found.last_run.ended_early.message


# --- cancelling


def test_cancelling_drains_pauses_and_a_second_run_does_the_rest_once(path: Path) -> None:
    async def main(job: JobRun) -> None:
        gate, said = Gate(), list[str]()
        task = asyncio.create_task(job.arun(gate, workers=2, tell=said.append))
        await gate.wait_for(2)
        task.cancel()
        await until(said, "its task was cancelled: pausing; waiting for the rows in flight (2)")
        assert statuses(job) == {"processing": 2, "pending": 3}
        gate.open.set()
        await raises(asyncio.CancelledError, task)
        assert (job.job.status, statuses(job)) == ("paused", {"completed": 2, "pending": 3})
        assert job.service.run_holder("j") is None
        await job.arun(gate)
        assert gate.calls == [1, 2, 3, 4, 5]

    with open_job(path) as job:
        run(main(job))
        assert statuses(job) == {"completed": 5}


def test_a_second_cancellation_cancels_the_rows_in_flight_and_a_third_gives_up_on_them(
    path: Path, clock: Clock
) -> None:
    async def main(job: JobRun, *, stubborn: bool) -> None:
        gate, said = Gate(stubborn=stubborn), list[str]()
        task = asyncio.create_task(job.arun(gate, workers=2, tell=said.append))
        await gate.wait_for(2)
        for text in ("waiting for the rows", "ending the rows", "by force")[: 2 + stubborn]:
            task.cancel()
            await until(said, text)
        while not task.done():  # the time passes in which what was ended by force may end
            clock.pass_timeouts()
            await asyncio.sleep(0.001)
        await raises(asyncio.CancelledError, task)
        gate.open.set()

    for name, stubborn in (("j", False), ("k", True)):
        with open_job(path.parent / name) as job:
            run(main(job, stubborn=stubborn))
            assert (job.job.status, statuses(job)) == ("paused", {"needs_review": 2, "pending": 3})


def test_a_timeout_and_a_task_group_cancel_as_everywhere(path: Path) -> None:
    async def main(job: JobRun) -> None:
        gate = Gate()

        async def leave() -> None:
            await gate.wait_for(1)
            raise ZeroDivisionError

        def let_go(_text: str) -> None:
            gate.open.set()

        async def in_a_group() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(job.arun(gate, tell=let_go))
                group.create_task(leave())

        async def in_time() -> None:
            async with asyncio.timeout(None) as limit:
                task = asyncio.create_task(gate.wait_for(2))
                task.add_done_callback(lambda _: limit.reschedule(0))
                await job.arun(gate, tell=let_go)

        with pytest.raises(ExceptionGroup) as caught:
            await in_a_group()
        assert list(map(type, caught.value.exceptions)) == [ZeroDivisionError]
        assert (job.job.status, len(gate.calls)) == ("paused", 1)
        gate.open.clear()
        with pytest.raises(TimeoutError):
            await in_time()
        assert (job.job.status, len(gate.calls)) == ("paused", 2)

    with open_job(path) as job:
        run(main(job))
        assert statuses(job) == {"completed": 2, "pending": 3}


def test_a_failed_commit_is_raised_although_the_task_was_cancelled(path: Path) -> None:
    async def main(job: JobRun) -> None:
        gate = Gate()
        task = asyncio.create_task(job.arun(gate))
        await gate.wait_for(1)
        task.cancel()
        await asyncio.sleep(0)
        path.joinpath("journal.jsonl").rename(path / "away")
        gate.open.set()
        await raises(journal.JournalError, task)

    with open_job(path) as job:
        run(main(job))


def test_a_row_whose_task_somebody_else_cancels_needs_a_review(path: Path) -> None:
    async def main(job: JobRun) -> None:
        async def handler(row: JobRow) -> None:
            if row.row_number == 1:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                await asyncio.sleep(0)
            nobody: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nobody.cancel()
            await nobody

        await job.arun(handler, halt="never")

    with open_job(path, 2) as job:
        run(main(job))
        review, failed = job.rows()
        assert (review.status, review.error_code) == ("needs_review", "CancelledError")
        assert (failed.status, failed.error_code) == ("failed", "CancelledError")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_stops_a_loop_goes_to_its_owner_and_the_row_to_review(
    path: Path, kind: type[BaseException]
) -> None:
    async def handler(row: JobRow) -> None:
        if row.row_number == 2:
            raise kind

    with open_job(path, 99) as job:
        with pytest.raises(kind):
            run(job.arun(handler))
        first, second = job.rows()[:2]
        assert (first.status, second.status) == ("completed", "needs_review")
        assert second.error_code == kind.__name__
        assert job.job.status == "paused"


def test_a_loop_that_is_closed_before_the_end_ends_the_run(path: Path) -> None:
    loop = asyncio.new_event_loop()
    tasks: list[Any] = []

    async def begin(job: JobRun) -> None:
        gate = Gate()
        tasks.append(loop.create_task(job.arun(gate, workers=2)))
        await gate.wait_for(2)

    with open_job(path) as job:
        loop.run_until_complete(begin(job))
        driver = next(t for t in threading.enumerate() if t.name == "journal-driver")
        tasks[1:] = asyncio.all_tasks(loop) - {tasks[0]}
        loop.close()
        assert driver.daemon  # a program that ends doesn't wait for it
        driver.join(WAIT_S)
        assert (job.job.status, statuses(job)) == ("paused", {"needs_review": 2, "pending": 3})
        assert job.service.run_holder("j") is None
        assert end_of_run(job) == "the event loop was closed before the end of the run"
    for task in tasks:  # as when they are collected, without asyncio's complaint
        task._log_destroy_pending = False
        with suppress(RuntimeError):
            task.get_coro().close()


def test_a_run_whose_task_is_destroyed_waits_for_its_rows_in_flight_and_pauses(path: Path) -> None:
    async def main(job: JobRun) -> None:
        gate = Gate()
        run_of_job = job.arun(gate, workers=2)
        task = asyncio.create_task(run_of_job)
        await gate.wait_for(2)
        driver = next(t for t in threading.enumerate() if t.name == "journal-driver")
        run_of_job.close()
        gate.open.set()
        await asyncio.to_thread(driver.join, WAIT_S)
        task.cancel()  # nothing else wakes it
        await raises(RuntimeError, task)

    with open_job(path) as job:
        run(main(job))
        assert (job.job.status, statuses(job)) == ("paused", {"completed": 2, "pending": 3})
        assert end_of_run(job) == "its task was destroyed before its end"


# --- signals


def test_with_handle_signals_a_signal_pauses_the_run_and_cancels_no_task(path: Path) -> None:
    async def main(job: JobRun) -> journal.RunReport:
        gate = Gate()
        task = asyncio.create_task(job.arun(gate, handle_signals=True))
        await gate.wait_for(1)
        signal.raise_signal(signal.SIGTERM)
        gate.open.set()
        return await task

    def of_the_owner(_number: int, _frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, of_the_owner)
    with open_job(path) as job:
        report = run(main(job))
        assert (report.signal, report.job.status, report.completed) == (signal.SIGTERM, "paused", 1)
    assert signal.signal(signal.SIGTERM, before) is of_the_owner


# --- stop


def test_stops_from_several_handlers_at_once_end_no_row_in_flight(path: Path) -> None:
    barrier = threading.Barrier(4)

    def handler(row: JobRow) -> str:
        barrier.wait(WAIT_S)
        assert job.stop()
        barrier.wait(WAIT_S)
        if row.row_number % 2:
            raise journal.Hold("NoMoney")
        return "done"

    with open_job(path, 20) as job:
        report = job.run(handler, workers=4)
        assert (report.reason, report.completed) == ("job.stop() was called", 2)
        assert statuses(job) == {"completed": 2, "pending": 18}


def test_a_job_that_is_closed_during_a_run_is_closed_once_its_rows_are_recorded(path: Path) -> None:
    async def main() -> journal.RunReport:
        gate = Gate()
        with open_job(path, 9) as job:
            task = asyncio.create_task(job.arun(gate, workers=2))
            await gate.wait_for(2)
        gate.open.set()
        report = await task
        with pytest.raises(journal.ServiceClosedError):
            job.summary()
        return report

    report = run(main())
    assert (report.reason, report.completed) == ("job.close() was called", 2)
    with open_job(path) as job:
        assert statuses(job) == {"completed": 2, "pending": 7}


# --- other tasks that use the service


def test_a_run_waits_for_the_batch_of_another_task_however_long_that_is_open(path: Path) -> None:
    async def main(job: JobRun) -> None:
        gate, said = Gate(), list[str]()
        task = asyncio.create_task(job.arun(gate, workers=2, tell=said.append))
        await gate.wait_for(2)
        with job.service.batch("j"):
            job.service.log("j", "one")
            gate.open.set()
            await until(said, "still waiting, so that no result is lost")
            job.service.log("j", "two")
        assert (await task).completed == 2

    with open_job(path, 2, lock_timeout_s=0.05) as job:
        run(main(job))
        messages = [entry.message for entry in job.service.get_logs("j")]
        assert messages[messages.index("one") + 1] == "two"


def test_the_end_of_a_run_waits_for_the_batch_of_another_thread(path: Path) -> None:
    said, waits, results = list[str](), threading.Event(), Results()

    def hear(text: str) -> None:
        said.append(text)
        waits.set()

    with open_job(path, 1, lock_timeout_s=0.01) as job:
        held = RunningJob(job.service, "j", Settings(), hear)
        workers = make_workers(Target(lambda _row: None, {}), None, 1, results)
        driven = Run(held, workers, results, Limits())
        held.start()
        end = threading.Thread(target=driven._leave)
        with job.service.batch("j"):
            end.start()
            assert waits.wait(WAIT_S)
        end.join()
        assert ["still waiting" in text for text in said] == [True]
        assert job.job.status == "paused"
        held.release()
        driven.close()


@pytest.mark.parametrize(("count", "most"), [(1, 33), (8, 72), (100, 356)])
def test_a_bounded_number_of_rows_waits_for_workers_however_fast_handlers_are(
    path: Path, count: int, most: int
) -> None:
    with open_job(path, 1) as job:
        held, results = RunningJob(job.service, "j", Settings()), Results()
        workers = make_workers(Target(lambda _row: None, {}), None, count, results)
        driven = Run(held, workers, results, Limits(halt="never"))
        held.start()
        for _ in range(100):
            driven._starts.ahead.hear_commit(1.0)
            driven._starts.ahead.hear_handler(1e-6)
        assert driven._starts._room(held.job()) == most
        held.release()
        driven.close()


# --- the workers by themselves


async def workers_in_this_loop(
    handler: Callable[..., Any], count: int, results: Results
) -> LoopWorkers:
    return LoopWorkers(Target(handler, {}), count, results, loop=asyncio.get_running_loop())


def test_a_task_that_is_cancelled_before_its_first_step_was_not_started(path: Path) -> None:
    async def main(job: JobRun) -> None:
        results = Results()
        workers = await workers_in_this_loop(Gate(), 1, results)
        workers.dispatch(*calls_of(job))
        before = asyncio.all_tasks()
        await asyncio.sleep(0)  # the loop begins its task
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await until_true(lambda: results._ended)
        ended = results.take()
        assert ended is not None
        assert [outcome.kind for outcome in ended[1]] == ["unstarted"]

    with open_job(path, 1) as job, failing_if_it_hangs():
        asyncio.run(main(job))


def test_closed_workers_make_no_tasks_for_rows_that_were_cancelled(path: Path) -> None:
    async def handler(_row: JobRow) -> None:
        pytest.fail("the driver has cancelled it")

    async def main(job: JobRun) -> None:
        workers = await workers_in_this_loop(handler, 100, Results())
        before = asyncio.all_tasks()
        for call in calls_of(job):
            workers.dispatch(call)
            assert call.cancel()
        workers.close()
        made = []  # tasks by turn of the loop: the first turn begins before it hears of the end
        for _ in range(5):
            await asyncio.sleep(0)
            made.append(len(asyncio.all_tasks() - before))
        assert made[-1] == 0
        assert sum(made) < 50

    with open_job(path, 200) as job, failing_if_it_hangs():
        asyncio.run(main(job))


def test_workers_whose_loop_is_closed_start_no_row_and_cannot_end_one(path: Path) -> None:
    async def handler(_row: JobRow) -> None:
        pytest.fail("its loop is closed")

    results = Results()
    workers = asyncio.run(workers_in_this_loop(handler, 1, results))
    with open_job(path, 1) as job:
        (call,) = calls_of(job)
        workers.dispatch(call)
    ended = results.take()
    assert ended is not None
    (outcome,) = ended[1]
    assert (outcome.kind, outcome.error_code) == ("unstarted", "RuntimeError")
    assert "Event loop is closed" in outcome.error_message
    assert not workers.cancel(call, force=False)
