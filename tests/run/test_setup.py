"""``setup`` of run and arun: made once, lives where handlers run, closed whatever comes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_open_files_moved, needs_signals

import journal
from journal import AttemptedRow, InvalidValueError, JobNotFoundError, JobRow, JobRun, RunReport
from journal.run.signals import Stops
from journal.run.workers.handover import Results
from journal.run.workers.setup import LoopSetup, StoppedInSetupError

pytestmark = pytest.mark.usefixtures("no_threads_left")

WAIT_S = 60.0


def open_job(path: Path, count: int = 3) -> JobRun:
    return journal.open_job(path, ({"n": n} for n in range(1, count + 1)))


class Client:
    """Notes what happens to it, and in which thread."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.threads: set[int] = set()

    def note(self, event: str) -> None:
        self.events.append(event)
        self.threads.add(threading.get_ident())

    @asynccontextmanager
    async def in_loop(self) -> AsyncIterator[Client]:
        self.note("enter")
        self.loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        yield self
        await asyncio.sleep(0)
        self.note("leave")

    @contextmanager
    def plain(self) -> Iterator[Client]:
        self.note("enter")
        yield self
        self.note("leave")

    async def call(self, row: JobRow | AttemptedRow) -> int:
        self.note(f"row {row.row_number}")
        return row.row_number


async def call(row: JobRow, client: Client) -> int:
    assert asyncio.get_running_loop() is client.loop
    return await client.call(row)


async def call_plain(row: JobRow, client: Client) -> int:
    return await client.call(row)


def by_run(job: JobRun, handler: Callable[..., Any], **options: Any) -> RunReport:
    return job.run(handler, **options)


def by_arun(job: JobRun, handler: Callable[..., Any], **options: Any) -> RunReport:
    return asyncio.run(job.arun(handler, **options))


BOTH = pytest.mark.parametrize("run", [by_run, by_arun])
IN_ORDER = ["enter", "row 1", "row 2", "row 3", "leave"]


@BOTH
@pytest.mark.parametrize("is_async", [True, False])
def test_the_value_of_a_setup_is_the_second_argument_and_lives_in_the_loop_of_the_handlers(
    run: Callable[..., RunReport], path: Path, *, is_async: bool
) -> None:
    client = Client()
    with open_job(path) as job:
        if is_async:
            report = run(job, call, setup=client.in_loop)
        else:
            report = run(job, call_plain, setup=client.plain)
        assert (client.events, len(client.threads)) == (IN_ORDER, 1)
        assert report.completed == 3


@BOTH
def test_a_plain_function_gets_the_value_of_a_plain_setup(
    run: Callable[..., RunReport], path: Path
) -> None:
    client = Client()

    def handler(row: JobRow, client: Client) -> None:
        client.note(f"row {row.row_number}")

    with open_job(path) as job:
        run(job, handler, setup=client.plain)
    assert client.events == IN_ORDER


def test_a_function_of_batches_that_does_not_take_the_value_is_refused(path: Path) -> None:
    client = Client()
    with open_job(path) as job, pytest.raises(InvalidValueError, match="the value of setup"):
        job.run_batches(lambda rows: rows, setup=client.plain)
    assert client.events == []


def test_batches_get_the_value_too(path: Path) -> None:
    client = Client()

    async def handle(rows: list[AttemptedRow], client: Client) -> list[int]:
        return [await client.call(row) for row in rows]

    with open_job(path) as job:
        assert job.run_batches(handle, 2, setup=client.in_loop).completed == 3
    assert client.events == IN_ORDER


@BOTH
def test_an_error_of_a_setup_is_raised_as_it_is_and_the_job_stays_as_it_was(
    run: Callable[..., RunReport], path: Path
) -> None:
    class NoKeyError(Exception):
        pass

    @asynccontextmanager
    async def no_key() -> AsyncIterator[None]:
        while path:
            raise NoKeyError
        yield

    def no_factory() -> None:
        raise NoKeyError

    with open_job(path) as job:
        before = job.job
        for setup in (no_key, no_factory):
            with pytest.raises(NoKeyError):
                run(job, call, setup=setup)
        with pytest.raises(NoKeyError):
            run(job, lambda row, _: row, setup=no_factory)
        assert job.job == before
        assert job.service.run_holder("j") is None


@BOTH
def test_an_error_of_closing_is_raised_when_all_is_recorded(
    run: Callable[..., RunReport], path: Path
) -> None:
    @asynccontextmanager
    async def fails_to_close() -> AsyncIterator[Client]:
        async with Client().in_loop() as client:
            yield client
        raise ZeroDivisionError

    with open_job(path) as job:
        with pytest.raises(ZeroDivisionError):
            run(job, call, setup=fails_to_close)
        assert (job.job.status, job.service.run_holder("j")) == ("completed", None)


@BOTH
def test_without_work_no_setup_is_made(run: Callable[..., RunReport], path: Path) -> None:
    with open_job(path) as job:
        run(job, call, setup=Client().in_loop)
        client = Client()
        run(job, call, setup=client.in_loop)
        assert client.events == []


async def nobody() -> AsyncIterator[None]:
    yield


async def coroutine() -> None:
    pass


@pytest.mark.parametrize(
    ("setup", "handler", "words"),
    [
        ("client", call, "must be a function that makes a context manager"),
        (nobody, call, "contextlib.asynccontextmanager"),
        (coroutine, call, "contextlib.asynccontextmanager"),
        (dict, call, "is no context manager"),
        (Client().in_loop, lambda row, _: row, "make the handler a coroutine function"),
        (Client().plain, lambda row: row, "must take the value of setup as its second argument"),
    ],
)
@BOTH
def test_a_setup_that_can_not_serve_is_refused_with_what_to_write(
    run: Callable[..., RunReport], setup: Any, handler: Any, words: str, path: Path
) -> None:
    with open_job(path) as job:
        with pytest.raises(InvalidValueError, match=words):
            run(job, handler, setup=setup)
        assert job.job.status == "pending"


def test_executors_have_no_setup(path: Path) -> None:
    with open_job(path) as job, ThreadPoolExecutor(1) as pool:
        with pytest.raises(InvalidValueError, match="the executor's own initializer"):
            job.run(lambda row, _: row, pool, setup=Client().plain)
        assert job.job.status == "pending"


# --- stops


class Slow:
    """A client that takes for ever to enter or to leave, until it is cancelled."""

    def __init__(self, when: str) -> None:
        self.when = when
        self.begun = threading.Event()
        self.was_cancelled = False

    async def _pass(self, when: str) -> None:
        if when == self.when:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.was_cancelled = True
                raise

    @asynccontextmanager
    async def setup(self) -> AsyncIterator[None]:
        await self._pass("enter")
        yield
        await self._pass("leave")


async def ignore(_row: JobRow, _client: None) -> None:
    pass


@pytest.mark.parametrize("when", ["enter", "leave"])
@BOTH
def test_a_stop_cancels_a_setup_that_takes_too_long(
    run: Callable[..., RunReport], when: str, path: Path
) -> None:
    slow, said = Slow(when), list[str]()

    def stop() -> None:
        assert slow.begun.wait(WAIT_S)
        job.stop()

    with open_job(path) as job:
        stopper = threading.Thread(target=stop)
        stopper.start()
        report = run(job, ignore, setup=slow.setup, tell=said.append)
        stopper.join()
        assert slow.was_cancelled
        if when == "enter":
            assert report == RunReport(job=job.job, reason="job.stop() was called")
            assert (job.job.status, job.job.processed_rows) == ("pending", 0)
            assert said == ["j: stopped before its setup was complete: no row was started"]
        else:
            assert report.job.status == "completed"


def test_cancelling_arun_in_its_setup_leaves_the_job_as_it_was(path: Path) -> None:
    async def main(job: JobRun) -> None:
        slow = Slow("enter")
        task = asyncio.create_task(job.arun(ignore, setup=slow.setup))
        await asyncio.to_thread(slow.begun.wait, WAIT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with open_job(path) as job:
        before = job.job
        asyncio.run(main(job))
        assert job.job == before


@pytest.mark.parametrize("run", [by_run, by_arun])
@pytest.mark.parametrize("when", ["enter", "leave"])
def test_a_cancellation_that_the_setup_itself_raises_is_raised_and_not_taken_for_a_stop(
    path: Path, run: Callable[..., RunReport], when: str
) -> None:
    @asynccontextmanager
    async def setup() -> AsyncIterator[None]:
        if when == "leave":
            yield
        raise asyncio.CancelledError("by a library")

    said: list[str] = []
    with open_job(path) as job:
        with pytest.raises(asyncio.CancelledError, match="by a library"):
            run(job, ignore, setup=setup, tell=said.append)
        assert job.job.status == ("pending" if when == "enter" else "completed")
    assert said == []


def test_a_stop_before_the_setup_makes_none() -> None:
    client, stops = Client(), Stops()
    stops.add()
    setup = LoopSetup(client.in_loop, Results(), stops)
    loop = asyncio.new_event_loop()
    with pytest.raises(StoppedInSetupError):
        setup.enter(loop, lambda begin: begin())
    loop.close()
    assert client.events == []


def test_a_stop_right_after_the_call_of_arun_starts_no_row(path: Path) -> None:
    async def main(job: JobRun) -> RunReport:
        task = asyncio.create_task(job.arun(call, setup=Client().in_loop))
        await asyncio.sleep(0)
        assert job.stop()
        return await task

    with open_job(path) as job:
        report = asyncio.run(main(job))
        assert (report.reason, report.started) == ("job.stop() was called", 0)


def test_a_setup_that_is_cancelled_before_its_first_step_is_heard() -> None:
    client = Client()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        setup = LoopSetup(client.in_loop, Results(), Stops())

        def begin_and_cancel(begin: Callable[[], object]) -> None:
            def both() -> None:
                begin()
                setup._cancel()

            loop.call_soon_threadsafe(both)

        with pytest.raises(StoppedInSetupError):
            await asyncio.to_thread(setup.enter, loop, begin_and_cancel)

    asyncio.run(main())
    assert client.events == []


def test_a_cancelled_run_closes_its_setup_after_the_last_row(path: Path) -> None:
    client = Client()

    async def main(job: JobRun) -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def handler(row: JobRow, client: Client) -> None:
            begun.set()
            await may_end.wait()
            client.note(f"row {row.row_number}")

        task = asyncio.create_task(
            job.arun(handler, setup=client.in_loop, tell=lambda _text: may_end.set())
        )
        await begun.wait()
        for other in asyncio.all_tasks() - {asyncio.current_task(), task}:
            if "_host" in repr(other):  # as a loop that shuts down cancels all of its tasks
                other.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with open_job(path) as job:
        asyncio.run(main(job))
        assert client.events == ["enter", "row 1", "leave"]
        assert job.job.status == "paused"


@needs_signals
def test_an_interrupt_in_a_setup_of_run_leaves_it_and_the_job(path: Path) -> None:
    slow = Slow("enter")

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    def press() -> None:
        assert slow.begun.wait(WAIT_S)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    presser = threading.Thread(target=press)
    try:
        with open_job(path) as job:
            presser.start()
            with pytest.raises(Interrupted):
                job.run(ignore, setup=slow.setup)
            assert job.job.status == "pending"
        presser.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert slow.was_cancelled


def test_a_signal_while_the_setup_is_left_is_a_stop(path: Path) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        yield
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(WAIT_S)
        finally:
            events.append("left")

    async def handle(row: JobRow, _client: None) -> int:
        return row.row_number

    with open_job(path) as job:
        report = job.run(handle, setup=client)
    assert (report.completed, report.signal, events) == (3, signal.SIGINT, ["left"])


@needs_signals
def test_a_third_signal_gives_up_a_setup_that_hangs_while_it_is_left(path: Path) -> None:
    events: list[str] = []

    @contextmanager
    def client() -> Iterator[None]:
        yield
        for number in range(3):
            events.append(f"signal {number}")
            signal.raise_signal(signal.SIGINT)
        threading.Event().wait(WAIT_S)
        events.append("left")

    with open_job(path) as job:
        with pytest.raises(KeyboardInterrupt):
            job.run(lambda _row, _client: None, setup=client)
        assert (job.job.status, events[-1]) == ("completed", "signal 2")


@needs_open_files_moved
def test_a_setup_is_left_if_the_run_can_not_begin_after_it(path: Path) -> None:
    events: list[str] = []

    @contextmanager
    def client() -> Iterator[None]:
        events.append("enter")
        shutil.rmtree(path)
        try:
            yield
        finally:
            events.append("leave")
            raise ConnectionError("no answer")

    with open_job(path) as job, pytest.raises(JobNotFoundError) as raised:
        job.run(lambda _row, _client: None, setup=client)
    assert events == ["enter", "leave"]
    assert raised.value.__notes__ == ["leaving the setup raised ConnectionError: no answer"]


def test_the_exit_code_of_a_run_whose_setup_a_signal_stopped_names_the_signal(path: Path) -> None:
    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(WAIT_S)
        yield

    with open_job(path) as job:
        report = asyncio.run(job.arun(call, setup=client, handle_signals=True))
    assert (report.signal, report.exit_code) == (signal.SIGTERM, 128 + signal.SIGTERM)
