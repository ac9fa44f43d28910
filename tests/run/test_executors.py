"""Runs in real executors: pools of processes, loky, dask. Workers die, hang, are interrupted, left."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from multiprocessing import Pipe, get_context, resource_sharer
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any, Never

import pytest
import support.handlers
from support.clock import Clock
from support.handlers import Counting, Telling, Unloadable, act, act_many, calls, pids
from support.interrupts import failing_if_it_hangs
from support.paths import TESTS
from support.platforms import (
    needs_fork,
    needs_process_groups,
    needs_signals,
    only_long,
    skip_without,
)
from support.runs import calls_of

import journal
from journal import InvalidValueError, JobRow, RowStatus, RunReport
from journal.model import JobStatus
from journal.run.outcome import Outcome, lost
from journal.run.pacing.limits import Limits
from journal.run.pacing.retries import fate_of
from journal.run.workers.base import Results, Workers
from journal.run.workers.choose import make_workers
from journal.run.workers.dask import DaskWorkers, call_if_first
from journal.run.workers.executors import call_for_json
from journal.run.workers.handler import AttemptedRow, Target
from journal.store.interrupted_rows import NEIGHBOR_DIED

if TYPE_CHECKING:
    import distributed

# From Python 3.12 a fork says so in a process that has threads, as pytest and dask have.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
)

EVERYWHERE = ["threads", "fork", "spawn", "loky", "dask"]  # the pools of loky differ in their ends
LONG_S = 300.0  # never reached; with it no row is handed out ahead of the workers

Row = dict[str, Any]
Make = Callable[[int], Executor]


def imported_loky() -> Any:
    return pytest.importorskip("loky", reason="loky is not installed")


# A cluster looks so long after a worker was lost whether there is one of that name, and else gives
# up its place for good: also that of the next one, if that was killed just then.
_PATIENT = {"distributed.deploy.lost-worker-timeout": "1 hour"}


class Clusters:
    """A cluster for all tests; another one if dask doesn't bring back a worker that was killed."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._client: distributed.Client | None = None

    def client(self) -> distributed.Client:
        dask = pytest.importorskip("dask", reason="dask is not installed")
        distributed = pytest.importorskip("distributed", reason="distributed is not installed")
        if self._client is not None:
            try:
                self._client.wait_for_workers(2, timeout=20)
            except TimeoutError:
                self.close()
        if self._client is None:
            self._open.enter_context(dask.config.set(_PATIENT))
            cluster = distributed.LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                silence_logs=logging.CRITICAL,
            )
            self._open.enter_context(cluster)
            self._client = self._open.enter_context(distributed.Client(cluster))
        return self._client

    def close(self) -> None:
        self._client = None
        self._open.close()


@pytest.fixture(scope="module", name="clusters")
def fixture_clusters() -> Iterator[Clusters]:
    with closing(Clusters()) as clusters:
        yield clusters


@pytest.fixture(name="cluster")
def fixture_cluster(clusters: Clusters) -> distributed.Client:
    return clusters.client()


@pytest.fixture(name="makers")
def fixture_makers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Make]]:
    """``makers(kind)(count)`` makes an executor, which is shut down after the test."""
    # For the workers of Parsl: its programs, and the modules of handlers.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    monkeypatch.setenv("PATH", path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (TESTS.parent, TESTS))), os.pathsep)
    made: list[Executor] = []

    def makers(kind: str) -> Make:
        if kind == "fork":
            skip_without(needs_fork)
        clusters = request.getfixturevalue("clusters") if kind == "dask" else None

        def make(count: int) -> Executor:
            executor: Executor
            if kind == "threads":
                executor = ThreadPoolExecutor(count)
            elif kind == "dask":
                assert clusters is not None
                executor = clusters.client().get_executor()
            elif kind == "loky":
                executor = imported_loky().ProcessPoolExecutor(count)
            elif kind == "loky-reusable":
                executor = imported_loky().get_reusable_executor(count)
            else:
                executor = ProcessPoolExecutor(count, mp_context=get_context(kind))
            made.append(executor)
            return executor

        return make

    yield makers
    for executor in made:
        executor.shutdown(wait=True)


class Work:
    """A job in a directory of its own, the ledger of its calls, and a gate."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "jobs" / "j"
        self.ledger = directory / "ledger"
        self.started, self.gate = directory / "started", directory / "gate"
        make = getattr(os, "mkfifo", Path.touch)
        make(self.started)
        make(self.gate)
        # Both ends are ours: nobody's open waits for us, and no line is lost.
        self._started = os.open(self.started, os.O_RDWR)
        self._opened: int | None = None

    def rows(self, *what: str) -> list[Row]:
        return [
            {
                "n": number,
                "do": do,
                "ledger": str(self.ledger),
                "started": str(self.started),
                "gate": str(self.gate),
            }
            for number, do in enumerate(what, 1)
        ]

    def open(self, *what: str, **options: Any) -> journal.JobRun:
        rows = self.rows(*what) if what else None
        return journal.open_job(self.path, rows, argv=["again"], **options)

    def run(
        self, executor: Any, *what: str, on_interrupted: Any = "review", **options: Any
    ) -> RunReport:
        with self.open(*what, on_interrupted=on_interrupted) as job:
            return job.run(act, executor, timeout_s=LONG_S, backoff_s=0, **options)

    def outcomes(self) -> list[JobRow]:
        with self.open() as job:
            return list(job.rows())

    def statuses(self) -> list[str]:
        return [str(row.status) for row in self.outcomes()]

    def wait_until_started(self, count: int) -> list[int]:
        """Until so many workers wait at the gate; their processes."""
        said = b""
        while said.count(b"\n") < count:
            said += os.read(self._started, 4096)  # nothing yet, if it is no FIFO
        return [int(line) for line in said.splitlines()]

    def open_gate(self) -> None:
        """For those who wait now, and for who comes yet."""
        if not hasattr(os, "mkfifo"):
            self.gate.unlink()
            return
        # It stays open, with a byte for each: whoever is just about to open it gets through, too.
        self._opened = os.open(self.gate, os.O_RDWR)
        os.write(self._opened, bytes(4096))

    def close(self) -> None:
        os.close(self._started)
        if self._opened is not None:
            os.close(self._opened)


@pytest.fixture(name="work")
def fixture_work(tmp_path: Path) -> Iterator[Work]:
    with closing(Work(tmp_path)) as work:
        yield work


# --- the ordinary course of things


def parsl_pool(directory: Path, kind: str, options: Row, retries: int = 0) -> Executor:
    """A pool of Parsl, whose workers are of a kind of ``parsl.executors``."""
    concurrent = pytest.importorskip("parsl.concurrent", reason="parsl is not installed")
    config = sys.modules["parsl.config"].Config(
        executors=[getattr(sys.modules["parsl.executors"], kind)(**options)],
        retries=retries,
        strategy="none",
        usage_tracking=0,
        run_dir=str(directory),
        initialize_logging=False,
    )
    pool: Executor = concurrent.ParslPoolExecutor(config)
    return pool


@only_long
@pytest.mark.usefixtures("makers")  # which sets what workers of Parsl find programs and modules by
def test_rows_are_done_once_by_processes_of_parsl(work: Work) -> None:
    slots: Row = {"max_workers_per_node": 2, "cores_per_worker": 0.01, "encrypted": False}
    on_loopback = {"address": "127.0.0.1", "loopback_address": "127.0.0.1"}
    options = slots | on_loopback
    with parsl_pool(work.path.parent / "parsl", "HighThroughputExecutor", options) as pool:
        assert work.run(pool, *["square"] * 12, workers=2).completed == 12
    assert [row.result for row in work.outcomes()] == [n * n for n in range(1, 13)]
    assert calls(work.ledger) == dict.fromkeys(range(1, 13), 1)
    assert os.getpid() not in pids(work.ledger)


def test_a_pool_of_parsl_that_repeats_what_a_dead_worker_had_is_refused(work: Work) -> None:
    with (
        parsl_pool(work.path.parent / "parsl", "ThreadPoolExecutor", {}, retries=1) as pool,
        pytest.raises(InvalidValueError, match="retries=1: Parsl would repeat rows"),
    ):
        work.run(pool, "square", workers=1)
    assert work.statuses() == ["pending"]


@needs_signals
@pytest.mark.parametrize("kind", ["fork", "spawn", "loky"])
def test_a_ctrl_c_that_reaches_a_worker_process_is_left_to_the_driver(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    executor = makers(kind)(1)
    executor.submit(os.getpid).result()  # the process is older than the run
    work.run(executor, *["ctrl_c"] * 3)
    assert [row.result for row in work.outcomes()] == ["goes on"] * 3


# "wait_once" is before "hold", which takes back an attempt that has not begun.
SAID = {
    "raise": (RowStatus.FAILED, "ValueError", "no street 1"),
    "time_out": (RowStatus.NEEDS_REVIEW, "TimeoutError", "slow; the call may have taken effect"),
    "skip": (RowStatus.SKIPPED, None, None),
    "fail": (RowStatus.FAILED, "E7", "no such address"),
    "retry": (RowStatus.COMPLETED, None, None),
    "wait_once": (RowStatus.COMPLETED, None, None),
    "hold": (RowStatus.COMPLETED, None, None),
    "review": (RowStatus.NEEDS_REVIEW, "Unclear", "was it sent?"),
    "row_result": (RowStatus.COMPLETED, None, None),
    "own_class": (RowStatus.COMPLETED, None, None),
    "exit": (RowStatus.FAILED, "SystemExit", "enough"),
    "interrupt": (RowStatus.FAILED, "KeyboardInterrupt", "KeyboardInterrupt"),
    "not_json": (RowStatus.NEEDS_REVIEW, "InvalidResult", None),
}


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_what_a_handler_raises_and_returns_means_the_same_everywhere(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    retry_on = ("E7", ConnectionError)
    work.run(makers(kind)(1), *SAID, "log", "files", max_attempts=2, retry_on=retry_on)
    *outcomes, logged, files = work.outcomes()
    rows = dict(zip(SAID, outcomes, strict=True))
    for said, (status, code, message) in SAID.items():
        row = rows[said]
        assert (said, row.status, row.error_code) == (said, status, code)
        if message is not None:
            assert row.error_message == message
    assert rows["not_json"].error_message is not None
    assert "object can't be written as JSON" in rows["not_json"].error_message
    assert str(rows["not_json"].result).startswith("<object object at ")
    assert rows["skip"].reason == "nothing to do"
    again = ("retry", "wait_once", "hold")
    assert [rows[said].result for said in again] == ["at last"] * 3
    assert rows["own_class"].result == {"a": 1}
    row = rows["row_result"]
    assert (row.result, row.tracking_number, row.cost_cents) == ([1], "T-1", 7)
    twice = [1 + (said in ("fail", "log", *again)) for said in (*SAID, "log", "files")]
    assert calls(work.ledger) == dict(enumerate(twice, 1))
    # A worker has no file of the job open; only the driver has.
    assert kind == "threads" or not Path("/proc/self/fd").exists() or files.result == []
    _the_evidence_is_whole(rows["raise"], logged)
    assert rows["fail"].traceback is None
    with work.open() as job:
        logs = [
            entry for entry in job.service.get_logs("j") if entry.row_number == logged.row_number
        ]
    assert [(log.attempt, log.level, log.message, log.details) for log in logs] == [
        (attempt, level, message, details)
        for attempt in (1, 2)
        for level, message, details in (
            ("WARNING", "asked", {"n": logged.row_number}),
            ("ERROR", f"refused {logged.row_number}", {"logger": "far"}),
        )
    ]


def _the_evidence_is_whole(raised: JobRow, logged: JobRow) -> None:
    source = Path(support.handlers.__file__)
    lines = source.read_text().splitlines()
    number = 1 + lines.index(next(line for line in lines if "raise ValueError" in line))
    assert raised.traceback is not None
    first, *_, last_frame, code, error = raised.traceback.splitlines()[: 1 + 4]
    assert (first, error) == ("Traceback (most recent call last):", "ValueError: no street 1")
    assert last_frame == f'  File "{source}", line {number}, in act'
    assert code.strip().startswith("raise ValueError")
    assert logged.traceback is not None
    assert logged.traceback.endswith("ConnectionError: refused")


@pytest.mark.parametrize("kind", ["loky", "dask"])
def test_a_function_of_no_module_runs_where_the_executor_can_send_it(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    with work.open("", "") as job:
        assert job.run(lambda row: row.data["n"], makers(kind)(2)).completed == 2


@pytest.mark.parametrize("kind", ["fork", "spawn", "loky", "dask"])
def test_a_handler_that_cannot_be_sent_stops_the_run_and_no_row_needs_a_review(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    held = threading.Lock()
    with work.open("", "", "") as job:
        if kind in ("fork", "spawn"):
            with pytest.raises(InvalidValueError, match="can't be sent to another process"):
                job.run(lambda row: (held, row), makers(kind)(2))
        else:
            report = job.run(lambda row: (held, row), makers(kind)(2))
            assert report.job.status is JobStatus.PAUSED
            assert re.search("pickle|serialize", str(report.reason))
    assert work.statuses() == ["pending"] * 3


@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_handler_may_have_a_connection_that_the_pool_sends_to_each_process(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    ours, theirs = Pipe(duplex=False)
    with ours, theirs, work.open("", "", "") as job:
        assert job.run(Telling(theirs), makers(kind)(2)).completed == 3
        assert sorted(ours.recv() for _ in range(3) if ours.poll(10)) == [1, 2, 3]
    resource_sharer.stop()


@needs_fork
def test_each_process_of_a_pool_loads_the_handler_once_or_gives_the_rows_back(
    makers: Callable[[str], Make], work: Work
) -> None:
    with work.open("", "", "") as job:
        report = job.run(Unloadable(), makers("fork")(1))
        assert (report.job.pending_count, report.job.needs_review_count) == (3, 0)
        assert "RuntimeError('no model here')" in (report.reason or "")
        job.run(Counting(), makers("fork")(1))
        assert {row.result for row in job.rows()} == {1, 2, 3}


def test_no_more_rows_are_in_flight_than_the_executor_has_workers(
    makers: Callable[[str], Make], work: Work
) -> None:
    def count(wanted: int | None) -> int:
        return make_workers(Target(act, {}), makers("threads")(2), wanted, Results()).count

    assert [count(None), count(1), count(8)] == [2, 1, 2]


def flush(workers: Workers) -> None:
    """Call ``workers.flush()`` in a thread, as a run does: it blocks signals in its thread."""
    thread = threading.Thread(target=workers.flush)
    thread.start()
    thread.join()


class Holding(Executor):
    """Its tasks end when the test lets them."""

    def __init__(self) -> None:
        self.given: SimpleQueue[Future[Any]] = SimpleQueue()

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.put(future)
        return future


class Cancelling(Executor):
    """Cancels each of its tasks before it begins."""

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


def test_a_run_whose_executor_cancels_its_rows_pauses_and_starts_them_no_more(work: Work) -> None:
    with work.open("square", "square") as job:
        (stop := threading.Timer(60, job.stop)).start()
        report = job.run(act, Cancelling(), workers=1)
        stop.cancel()
        assert report.reason is not None
        assert report.reason.startswith("the executor takes no more rows: it has cancelled a row")
        assert (report.job.status, report.job.pending_count) == ("paused", 2)


def test_an_executor_gets_no_more_rows_than_it_has_workers_and_the_others_can_be_cancelled(
    work: Work,
) -> None:
    executor, results = Holding(), Results()
    workers = make_workers(Target(act, {}), executor, 2, results)
    with closing(workers), work.open(*["square"] * 4) as job:
        claims = calls_of(job)
        for call in claims:
            workers.dispatch(call)
        flush(workers)
        first, second = (executor.given.get(timeout=60) for _ in range(2))
        assert executor.given.empty()
        assert [call.cancel() for call in claims] == [False, False, True, True]
        first.set_exception(RuntimeError("lost"))
        second.set_exception(RuntimeError("lost"))
        flush(workers)
        assert executor.given.empty()
    assert [results.take(), results.take(), results.take()] == [
        *((call, [lost(RuntimeError("lost"))]) for call in claims[:2]),
        None,
    ]


def test_an_executor_gets_the_next_row_when_a_worker_is_free(work: Work) -> None:
    executor = Holding()
    workers = make_workers(Target(act, {}), executor, 1, Results())
    with closing(workers), work.open("square", "square") as job:
        for call in calls_of(job):
            workers.dispatch(call)
        flush(workers)
        executor.given.get(timeout=60).set_exception(RuntimeError("lost"))
        assert executor.given.get(timeout=60).running() is False


def test_a_row_that_an_executor_refuses_when_a_worker_is_free_can_be_cancelled(work: Work) -> None:
    """If a commit has failed, the driver submits no more rows, and would wait for this one."""

    class Refusing(Holding):
        def submit(self, *arguments: Any, **more: Any) -> Future[Any]:
            if may_submit:
                return super().submit(*arguments, **more)
            raise RuntimeError("refused")

    executor, may_submit = Refusing(), True
    workers = make_workers(Target(act, {}), executor, 1, Results())
    with closing(workers), work.open("square", "square") as job:
        claims = calls_of(job)
        for call in claims:
            workers.dispatch(call)
        flush(workers)
        may_submit = False
        executor.given.get(timeout=60).set_exception(RuntimeError("lost"))
        assert [call.cancel() for call in claims] == [False, True]


@pytest.mark.parametrize("kind", ["executor", "loop"])
def test_workers_of_a_run_for_which_no_thread_can_be_started_are_closed(
    kind: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, made = threading.Thread.start, list[ThreadPoolExecutor]()

    def start_others(thread: threading.Thread) -> None:
        if thread.name == "journal-driver":
            raise RuntimeError("can't start new thread")
        start(thread)

    def make() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    async def handle(_: JobRow) -> None:
        pass

    before = {*threading.enumerate()}  # another test's may be left, as by an interrupt at its end
    monkeypatch.setattr(threading.Thread, "start", start_others)
    with work.open("square") as job, pytest.raises(RuntimeError, match="can't start new thread"):
        job.run(*((act, make) if kind == "executor" else (handle,)))
    for executor in made:
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(print)
    for thread in {*threading.enumerate()} - before:
        if thread.name == "journal-loop":
            thread.join(60)
            assert not thread.is_alive()
    assert work.statuses() == ["pending"]


@pytest.mark.parametrize("kind", [None, "threads", "spawn"])
def test_no_thread_of_a_run_is_left_that_could_keep_a_file_open_when_the_program_exits(
    kind: str | None, makers: Callable[[str], Make], work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.run.workers.threads._JOIN_S", LONG_S)
    with work.open("square", "square", "square") as job:
        executor = makers(kind)(2) if kind else None
        before = {*threading.enumerate()}
        job.run(act, executor, workers=2)
        names = [thread.name for thread in {*threading.enumerate()} - before]
        assert [name for name in names if name.startswith("journal-")] == []


# --- workers that die


@pytest.mark.parametrize("kind", ["spawn", "loky-reusable", "dask"])
def test_a_row_whose_worker_dies_needs_a_review_and_no_row_is_called_twice(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    what = ["square", "die", "square", "die", "square", "square", "square", "square"]
    runs = 0
    report = None
    while report is None or report.job.status is JobStatus.PAUSED:
        report = work.run(makers(kind)(2), *what)
        runs += 1
        assert runs <= 4
    assert report.job.status is JobStatus.FAILED
    rows = work.outcomes()
    assert {row.status for row in rows} == {RowStatus.COMPLETED, RowStatus.NEEDS_REVIEW}
    assert {rows[1].status, rows[3].status} == {RowStatus.NEEDS_REVIEW}
    assert "the worker was lost while this row was in flight" in str(rows[1].error_message)
    assert set(calls(work.ledger).values()) == {1}
    if kind == "dask":  # that goes on by itself
        assert runs == 1


@pytest.mark.parametrize("kind", ["fork", "loky"])
@pytest.mark.parametrize(("policy", "attempts"), [("retry", [1, 3, 2, 1]), ("fail", [1, 1, 1, 1])])
def test_a_row_whose_worker_dies_is_tried_three_times_if_it_may_be_repeated_or_fails_if_told_so(
    kind: str, makers: Callable[[str], Make], work: Work, policy: str, attempts: list[int]
) -> None:
    report = work.run(
        partial(makers(kind), 1),
        *("square", "die", "die_once", "square"),
        on_interrupted=policy,
        workers=1,
    )
    assert (report.job.status, report.reason) == (JobStatus.FAILED, None)
    second = "completed" if policy == "retry" else "failed"
    assert work.statuses() == ["completed", "failed", second, "completed"]
    message = str(work.outcomes()[1].error_message)
    assert message.endswith("; given up after 3 attempts") == (policy == "retry")
    assert calls(work.ledger) == dict(enumerate(attempts, 1))


def test_rows_run_while_another_thread_imports_dask_parsl_or_pools_of_processes(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters = "distributed", "distributed.cfexecutor", "parsl.concurrent"
    for name in (*clusters, "concurrent.futures.process"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # nothing is in it yet
    with ThreadPoolExecutor(1) as thread:
        work.run(thread, "square")
    assert work.statuses() == ["completed"]


@pytest.mark.parametrize("kind", ["fork", "loky"])
def test_of_the_rows_of_a_pool_that_breaks_the_one_is_named_whose_process_died(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    pool = makers(kind)(3)
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(work.run, pool, *["wait"] * 3)
        died = work.wait_until_started(3)[1]
        os.kill(died, 9)
        # A pool may look at the last process that it has started only after another event.
        with suppress(BrokenExecutor):
            pool.submit(abs, 1)
        run.result(LONG_S)
    (cause,) = [
        row for row, pid in map(str.split, work.ledger.read_text().splitlines()) if int(pid) == died
    ]
    how = "died of SIGKILL" if os.name == "posix" else "exited with status 9"
    for row in work.outcomes():
        code, message = str(row.error_code), str(row.error_message)
        if row.row_number == int(cause):
            assert code != "NeighborDied"
            assert message.endswith(f"in flight: its process {how}")
        else:
            assert code == "NeighborDied"
            assert f"the process of row {cause} {how}" in message


def test_the_death_of_another_rows_process_is_no_reason_to_give_up_a_row() -> None:
    now = datetime.now(UTC)
    row = JobRow("j:1", "j", 1, "", {}, now, now, attempts=9)
    for code, fate in ((NEIGHBOR_DIED, "retry"), ("BrokenProcessPool", "fail")):
        assert fate_of(row, Outcome(kind="lost", error_code=code), Limits(), "retry") == fate


def test_a_row_that_is_told_to_fail_when_its_worker_dies_was_not_given_up(
    makers: Callable[[str], Make], work: Work
) -> None:
    assert work.run(partial(makers("fork"), 1), "die", on_interrupted="fail").failed == 1
    for _ in range(2):
        with work.open("die", on_interrupted="fail") as job:
            job.retry(1)
        work.run(partial(makers("fork"), 1), "die", on_interrupted="fail")
    (row,) = work.outcomes()
    assert row.attempts == 3
    assert "given up" not in str(row.error_message)


@pytest.mark.parametrize("kind", ["fork", "loky-reusable"])
def test_an_executor_that_breaks_pauses_the_job_and_the_next_run_goes_on(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    broken = makers(kind)(1)
    report = work.run(broken, "die", "square", "square")
    assert report.job.status is JobStatus.PAUSED
    assert "takes no more rows (a function that makes it, in its place, lets" in str(report.reason)
    assert work.statuses() == ["needs_review", "pending", "pending"]
    assert work.run(makers(kind)(1)).completed == 2
    assert calls(work.ledger) == {1: 1, 2: 1, 3: 1}


def test_an_executor_that_breaks_again_and_again_ends_the_run(
    makers: Callable[[str], Make], work: Work
) -> None:
    report = work.run(partial(makers("fork"), 1), *["die"] * 14)
    assert report.job.status is JobStatus.PAUSED
    assert work.statuses() == ["needs_review"] * 11 + ["pending"] * 3


# --- dask


@contextmanager
def allowed_failures(client: distributed.Client, count: int) -> Iterator[None]:
    def allow(dask_scheduler: Any, count: int) -> int:
        before: int = dask_scheduler.allowed_failures
        dask_scheduler.allowed_failures = count
        return before

    before = client.run_on_scheduler(allow, count=count)
    try:
        yield
    finally:
        client.run_on_scheduler(allow, count=before)


@contextmanager
def in_thread(work: Work, executor: Executor, *what: str) -> Iterator[None]:
    """A run with one worker, meanwhile; at the end it is waited for, and so are its handlers."""
    run = threading.Thread(target=work.run, args=(executor, *what), kwargs={"workers": 1})
    run.start()
    try:
        yield
    finally:
        work.open_gate()
        run.join()


@pytest.mark.parametrize("count", [0, 3])
def test_dask_calls_no_row_twice_whatever_its_allowed_failures(
    count: int, cluster: distributed.Client, makers: Callable[[str], Make], work: Work
) -> None:
    with allowed_failures(cluster, count):
        work.run(makers("dask")(2), "die", "square")
    row, _ = work.outcomes()
    assert (row.status, row.error_code) == (RowStatus.NEEDS_REVIEW, "KilledWorker")
    assert calls(work.ledger) == {1: 1, 2: 1}


@pytest.mark.parametrize("kind", ["fork", "dask"])
def test_a_batch_that_dies_with_its_worker_is_in_review_and_the_others_are_called_once(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    with work.open("square", "square", "square", "die", "square", "square") as job:
        job.run(act_many, lambda: makers(kind)(1), batch=2, workers=1)
        assert work.statuses() == [*["completed"] * 2, *["needs_review"] * 2, *["completed"] * 2]
        assert [row.result for row in job.rows("completed")] == [1, 4, 25, 36]
    assert calls(work.ledger) == dict.fromkeys(range(1, 7), 1)


def test_a_task_that_dask_runs_again_when_it_was_done_does_not_call_the_handler(
    cluster: distributed.Client, makers: Callable[[str], Make], work: Work
) -> None:
    """As it does when a result is lost with the worker that has it."""
    with work.open("square") as job:
        (call,) = calls_of(job)
    make_workers(Target(act, {}), makers("dask")(1), None, Results())
    make = partial(call_for_json, Target(act, {}))
    told = [
        cluster.submit(call_if_first, make, "run", 1, call.rows, key=f"{work.path}-{n}").result()
        for n in range(2)
    ]
    assert b'"kind":"completed"' in told[0]
    assert b'"kind":"lost"' in told[1]
    assert calls(work.ledger) == {1: 1}


def test_where_the_scheduler_of_dask_can_not_be_asked_the_handler_is_not_called(
    makers: Callable[[str], Make], work: Work
) -> None:
    with work.open("square") as job:
        (call,) = calls_of(job)
    make = partial(call_for_json, Target(act, {}))
    # A process that knows of no scheduler.
    told = makers("spawn")(1).submit(call_if_first, make, "run", 1, call.rows).result()
    assert b'"kind":"lost"' in told
    assert b"could not be asked" in told
    assert not work.ledger.exists()


class Garbling(Executor):
    """Comes back with what is no outcome."""

    def __init__(self, result: bytes = b"garbled") -> None:
        self._result = result

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self._result)
        return future


@pytest.mark.parametrize(
    ("result", "said"), [(b"garbled", "malformed"), (b'[{"kind":"completed"}] ', "1 outcome for 2")]
)
def test_what_an_executor_garbles_needs_a_review(result: bytes, said: str, work: Work) -> None:
    with work.open("square", "square") as job, failing_if_it_hangs():
        job.run(act_many, Garbling(result), batch=2)
    assert work.statuses() == ["needs_review"] * 2
    assert all(said in str(row.error_message) for row in work.outcomes())


class Ticket:
    """A future of another library, without callbacks."""

    def result(self) -> object:
        raise AssertionError("nobody waits for it")


class Refusing(Ticket):
    def add_done_callback(self, call: object) -> None:
        raise NotImplementedError


class Without(Ticket):
    add_done_callback = None


class Unreadable(Ticket):
    @property
    def add_done_callback(self) -> Any:
        raise RuntimeError


class CallingFirst(Ticket):
    """Calls back, and raises an exception then."""

    def result(self) -> object:
        return None

    def add_done_callback(self, call: Any) -> None:
        call()
        raise NotImplementedError


class Ticketing:
    """Calls the handler, and returns futures of concurrent.futures at first, then tickets."""

    def __init__(self, futures: int = 0, kind: type = Ticket) -> None:
        self.futures = futures
        self.kind = kind

    def submit(self, *call: Any) -> Any:
        result = call[0](*call[1:])
        if not self.futures:
            return self.kind()
        self.futures -= 1
        future: Future[Any] = Future()
        future.set_result(result)
        return future


@pytest.mark.parametrize(
    ("futures", "size", "kind"),
    [
        *(
            (0, None, Ticket),
            (1, None, Ticket),
            (1, 1, Ticket),
            (1, None, type(None)),
            (1, None, Refusing),
        ),
        *((1, 1, Refusing), (1, None, Without), (1, None, Unreadable), (1, None, CallingFirst)),
    ],
)
def test_a_run_ends_after_the_first_future_without_callbacks_whose_row_needs_a_review(
    futures: int, size: int | None, kind: type, work: Work
) -> None:
    executor: Any = Ticketing(futures, kind)
    with work.open(*["square"] * 4) as job:
        run = partial(job.run, act_many if size else act, batch=size)
        with pytest.raises(TypeError, match="add_done_callback"):
            run(executor, workers=2)
        assert job.job.status is JobStatus.PAUSED
    done, left = ["completed"] * futures, ["pending"] * (3 - futures)
    assert work.statuses() == [*done, "needs_review", *left]
    assert calls(work.ledger) == dict.fromkeys(range(1, futures + 2), 1)


class Hanging(Executor):
    """Its ``submit`` returns only after the run has ended."""

    def __init__(self) -> None:
        self.is_called, self.may_return = threading.Event(), threading.Event()

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.is_called.set()
        self.may_return.wait()
        return Future()


def test_a_fourth_signal_leaves_a_run_whose_executor_hangs_in_submit(work: Work) -> None:
    executor = Hanging()
    with work.open(*["square"] * 2) as job:

        def stop() -> None:
            executor.is_called.wait()
            (stops,) = job._runs
            for count in range(4):
                os.kill(os.getpid(), signal.SIGINT)
                while stops.count == count:
                    time.sleep(0.001)

        thread = threading.Thread(target=stop)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            job.run(act, executor, workers=2)
        thread.join()
        driver = next(t for t in threading.enumerate() if t.name == "journal-driver")
        executor.may_return.set()
        driver.join()
        assert job.job.status is JobStatus.PAUSED


class Forking(Executor):
    """Forks a process for each call. The process leaves ``submit`` by ``leave(0)``."""

    def __init__(self, leave: Callable[[int], Never]) -> None:
        self._leave = leave

    def submit(self, *call: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, call[0](*call[1:]))
            self._leave(0)
        os.close(writer)

        def wait() -> None:
            with open(reader, "rb") as file:  # to its end, which is the end of the child
                result = file.read()
            os.waitpid(child, 0)
            future.set_result(result)

        threading.Thread(target=wait).start()
        return future


def charge_in_a_step(row: AttemptedRow) -> Any:
    return row.step("charge", lambda: row.row_number)


def charge_many_in_steps(rows: list[AttemptedRow]) -> list[Any]:
    return [charge_in_a_step(row) for row in rows]


@needs_fork
@pytest.mark.parametrize("leave", [os._exit, sys.exit])
@pytest.mark.parametrize("in_batches", [False, True])
def test_an_executor_may_fork_a_process_for_each_call_which_records_its_steps(
    leave: Callable[[int], Never], in_batches: bool, work: Work
) -> None:
    with work.open(*["charge"] * 4) as job:
        if in_batches:
            job.run(charge_many_in_steps, Forking(leave), batch=2, workers=2)
        else:
            job.run(charge_in_a_step, Forking(leave), workers=2)
        steps = [step.result for row in job.rows() for step in job.service.get_steps(row.id)]
        assert [row.result for row in job.rows()] == steps == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", EVERYWHERE[1:])
def test_a_process_that_a_handler_forks_in_a_worker_sends_no_outcome_of_its_row(
    kind: str, makers: Callable[[str], Make], work: Work
) -> None:
    skip_without(needs_fork)
    assert work.run(makers(kind)(2), *["fork"] * 4).completed == 4
    assert [row.result for row in work.outcomes()] == [7] * 4  # the exit status of the child
    assert calls(work.ledger) == dict.fromkeys(range(1, 5), 1)


def test_rows_of_equal_data_share_no_dask_task(makers: Callable[[str], Make], work: Work) -> None:
    rows = [{**work.rows("square")[0], "n": 5} for _ in range(8)]
    with journal.open_job(work.path, rows) as job:
        assert job.run(act, makers("dask")(2)).completed == 8
    assert calls(work.ledger) == dict.fromkeys(range(1, 9), 1)


def test_a_task_that_dask_cancels_may_have_begun_and_needs_a_review(
    cluster: distributed.Client, makers: Callable[[str], Make], work: Work
) -> None:
    executor: Any = makers("dask")(2)
    with in_thread(work, executor, "wait", "square"):
        work.wait_until_started(1)
        cluster.cancel(list(executor._futures), force=True)
    assert work.statuses() == ["needs_review", "completed"]
    assert calls(work.ledger) == {1: 1, 2: 1}


def test_a_client_of_dask_is_an_executor_of_as_many_workers_as_it_has_threads(
    cluster: distributed.Client,
    makers: Callable[[str], Make],
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    makers("dask")(2)  # waits until both are there
    workers = make_workers(Target(act, {}), cluster, None, Results())
    assert isinstance(workers, DaskWorkers)
    assert workers.count == 2
    assert work.run(cluster, "square", "square").completed == 2


def test_the_scheduler_of_dask_forgets_a_run_that_has_ended(
    cluster: distributed.Client, makers: Callable[[str], Make], work: Work
) -> None:
    def runs(dask_scheduler: Any) -> int:
        kept = dask_scheduler.handlers["rowjournal_begin"].__closure__[0].cell_contents
        return len(kept)

    make_workers(Target(act, {}), makers("dask")(2), None, Results())
    before = cluster.run_on_scheduler(runs)
    assert work.run(cluster, "square").completed == 1
    assert cluster.run_on_scheduler(runs) == before


# --- workers that hang


@contextmanager
def each_has_begun(work: Work, count: int) -> Iterator[threading.Event]:
    """An event that is set when so many workers wait at the gate, which opens at the end."""
    has_begun = threading.Event()

    def wait() -> None:
        work.wait_until_started(count)
        has_begun.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield has_begun
    thread.join()
    work.open_gate()


@pytest.mark.parametrize("kind", ["threads", "fork", "dask"])
def test_a_run_of_which_all_workers_hang_pauses_and_says_so(
    kind: str, makers: Callable[[str], Make], work: Work, clock: Clock
) -> None:
    executor = makers(kind)(2)
    with work.open(*["wait"] * 4) as job, each_has_begun(work, 2) as has_begun:
        clock.pass_timeouts_after(has_begun.is_set)
        report = job.run(act, executor, timeout_s=1)
    assert report.job.status is JobStatus.PAUSED
    assert report.reason == "all 2 workers hang"
    rows = work.outcomes()
    assert [row.status for row in rows] == ["needs_review"] * 2 + ["pending"] * 2
    assert {row.error_code for row in rows[:2]} == {"TimeoutError"}


# --- a driver that is interrupted, left waiting, or killed

DRIVER = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
import journal
from support import handlers

kind, path, at, factory = sys.argv[1:]
if __name__ == "__main__":
    with journal.open_job(path, argv=["again"]) as job:
        data = job.rows()[0].data
        start = {}
        if at == "start":
            start["initializer"] = handlers.wait_at
            start["initargs"] = (data["started"], data["gate"])
        if kind == "loky":
            import loky
            make = partial(loky.ProcessPoolExecutor, 2, **start)
        else:
            context = multiprocessing.get_context(kind)
            make = partial(ProcessPoolExecutor, 2, mp_context=context, **start)
        executor = make if factory == "factory" else make()
        report = job.run(handlers.act, executor)
    sys.exit(report.exit_code)
"""


class Driver:
    """A process that drives a run, in a process group of its own: with its workers, like a shell's."""

    def __init__(self, work: Work, kind: str, at: str = "row", factory: str = "") -> None:
        skip_without(needs_process_groups)
        if kind == "loky":
            imported_loky()
        script = work.path.parents[1] / "driver.py"
        script.write_text(DRIVER)
        arguments = [kind, str(work.path), at, factory]
        paths = [str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def signal_all(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)

    def read_until(self, text: str) -> None:
        assert self.process.stderr is not None
        said = ""
        while text not in said:
            line = self.process.stderr.readline()
            assert line, said
            said += line

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.signal_all(signal.SIGKILL)
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.mark.parametrize(
    ("kind", "at", "name"),
    [("fork", "start", "SIGINT"), ("spawn", "row", "SIGHUP"), ("loky", "start", "SIGINT")],
)
def test_a_signal_to_the_whole_process_group_pauses_and_workers_finish_their_rows(
    kind: str, at: str, name: str, work: Work
) -> None:
    work.open(*["square" if at == "start" else "wait"] * 5).close()
    with closing(Driver(work, kind, at)) as driver:
        number = signal.Signals[name]
        work.wait_until_started(2)  # in a row, or before the first one
        driver.signal_all(number)
        driver.read_until("pausing; waiting for the rows in flight (2)")
        work.open_gate()
        assert driver.process.wait(60) == 128 + number
    assert work.statuses() == ["completed"] * 2 + ["pending"] * 3
    assert set(calls(work.ledger).values()) == {1}


def test_workers_that_outlive_a_killed_driver_do_not_keep_the_job(work: Work) -> None:
    work.open(*["wait"] * 5).close()
    with closing(Driver(work, "fork")) as driver:
        orphans = work.wait_until_started(2)
        driver.process.kill()
        driver.process.wait()
        with work.open() as job:
            report = job.run(lambda row: row.row_number)
        for pid in orphans:
            os.kill(pid, 0)  # they are there, and at work
    assert report.completed == 3
    assert work.statuses() == ["needs_review"] * 2 + ["completed"] * 3


@pytest.mark.parametrize("kind", ["fork", "loky"])
def test_workers_that_hang_do_not_keep_the_driver_from_exiting_if_the_run_made_them(
    kind: str, work: Work
) -> None:
    work.open(*["wait"] * 4).close()
    with closing(Driver(work, kind, factory="factory")) as driver:
        orphans = work.wait_until_started(2)
        for said in ("pausing", "ending the rows in flight"):
            driver.process.send_signal(signal.SIGINT)
            driver.read_until(said)
        assert driver.process.wait(60) == 128 + signal.SIGINT
        for pid in orphans:
            with suppress(ProcessLookupError):  # it is gone, once its new parent has asked
                while True:
                    os.kill(pid, 0)
                    time.sleep(0.001)
    assert work.statuses() == ["needs_review"] * 2 + ["pending"] * 2


def test_a_pool_forked_in_a_run_can_be_ended_when_one_of_its_workers_has_died(work: Work) -> None:
    work.open("wait", "die", *["square"] * 2).close()
    with closing(Driver(work, "fork")) as driver:
        assert driver.process.wait(60) == 3
    assert work.statuses() == ["needs_review"] * 2 + ["pending"] * 2
