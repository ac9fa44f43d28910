"""Handlers, steps and callbacks that fork: no child continues the run of its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path

import pytest
from support.paths import TESTS
from support.platforms import needs_fork

from journal.run.signals import OwnProcess

pytestmark = [
    needs_fork,
    pytest.mark.filterwarnings(
        "ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"
    ),
]

PRELUDE = """
import asyncio, os, signal, sys, warnings
from pathlib import Path
import journal
from support.handlers import forked

warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
path = sys.argv[1]

def refuse():
    raise ValueError("the child is refused")

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def quiet(text):
    pass

def fork(leave=refuse):
    status = forked(leave)
    if status is not None:  # this is the parent
        say("child", status)

def handle(row):
    say("call", row.row_number)
    return end(row.row_number)

async def handle_async(row):
    return handle(row)

def handle_many(rows):
    for row in rows:
        say("call", row.row_number)
    return end([row.row_number for row in rows])

async def handle_many_async(rows):
    return handle_many(rows)

ways = [lambda: None, refuse]

def fork_twice(*_):  # in two calls, and then no more
    if ways:
        fork(ways.pop())
"""


def run(tmp_path: Path, script: str) -> tuple[list[str], str]:
    """The lines that a script and its children write to standard output, and what else they say."""
    code = PRELUDE + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "jobs" / "j")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def status_of_forked(leave: Callable[[], object]) -> int:
    """The exit status of a child that leaves a block of its parent's."""
    parent = os.getpid()
    try:
        with OwnProcess():
            child = os.fork()
            if not child:
                leave()
    finally:
        if os.getpid() != parent:  # it has left the block
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def raise_error(error: BaseException) -> Callable[[], object]:
    def leave() -> None:
        raise error

    return leave


@pytest.mark.parametrize(
    ("leave", "status", "said"),
    [
        (lambda: None, 0, ""),
        (sys.exit, 0, ""),
        (lambda: sys.exit(7), 7, ""),
        (lambda: sys.exit(-1), 255, ""),
        (lambda: sys.exit(1 << 40), 0, ""),
        (lambda: sys.exit("enough"), 1, "enough\n"),
        (lambda: os.execvp("no-such-program", ["-"]), 1, "FileNotFoundError: [Errno 2]"),
        (raise_error(ValueError("refused")), 1, "ValueError: refused\n"),
        (raise_error(KeyboardInterrupt()), 130, "KeyboardInterrupt\n"),
        (lambda: os._exit(5), 5, ""),
    ],
)
def test_a_forked_process_ends_as_python_ends_after_the_same_exception(
    leave: Callable[[], object], status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert status_of_forked(leave) == status
    shown = capfd.readouterr().err
    assert (said in shown) if said else not shown
    assert ("Traceback" in shown) is ("Error: " in said or status == 130)


def test_a_forked_process_writes_what_it_has_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with open(os.dup(1), "w") as out:  # buffered, as standard output is in a pipe
        before, sys.stdout = sys.stdout, out
        try:
            status_of_forked(lambda: print("from the child"))
        finally:
            sys.stdout = before
    assert capfd.readouterr().out == "from the child\n"


HANDLERS = {
    "threads": "job.run(handle, workers=2, tell=quiet)",
    "asyncio": "job.run(handle_async, workers=2, tell=quiet)",
    "arun": "asyncio.run(job.arun(handle_async, workers=2, tell=quiet))",
    "batches": "job.run(handle_many, batch=3, workers=2, tell=quiet)",
    "async batches": "job.run(handle_many_async, batch=3, workers=2, tell=quiet)",
}


@pytest.mark.parametrize("workers", HANDLERS)
def test_a_process_that_a_handler_forks_is_no_second_worker(tmp_path: Path, workers: str) -> None:
    lines, shown = run(
        tmp_path,
        f"""
        def end(result):
            fork_twice()
            return result

        with journal.open_job(path, [{{}}] * 6) as job:
            {HANDLERS[workers]}
            say([row.result for row in job.rows()], [row.attempts for row in job.rows()])
        """,
    )
    calls = [f"call {number}" for number in range(1, 7)]
    assert sorted(lines[:-1]) == [*calls, "child 0", "child 1"]
    assert lines[-1] == f"{[*range(1, 7)]} {[1] * 6}"
    assert shown.count("ValueError: the child is refused") == 1


FORKING = """
from collections.abc import Mapping

parent, has_forked = os.getpid(), []

def forks():
    if not has_forked:
        has_forked.append(True)
        fork(lambda: None)
        if os.getpid() == parent:
            say("steps:", *(step.state for step in job.service.get_steps("j:1")))

class Refusal(Exception):
    def __str__(self):
        forks()
        return "refused"

class Answer(Mapping):
    def __iter__(self):
        forks()
        return iter(())

    def __len__(self):
        return 0

    def __getitem__(self, name):
        raise KeyError(name)
"""


@pytest.mark.parametrize(
    ("workers", "leave"),
    [*zip(HANDLERS, cycle(["raise Refusal", "return Answer()"]), strict=False)],
)
def test_a_process_that_the_code_of_an_outcome_forks_is_no_second_worker(
    tmp_path: Path, workers: str, leave: str
) -> None:
    lines, _ = run(
        tmp_path,
        FORKING
        + textwrap.dedent(f"""
        def end(_):
            {leave}

        with journal.open_job(path, [{{}}] * 6) as job:
            {HANDLERS[workers].replace("quiet", "quiet, halt='never'")}
            say([row.attempts for row in job.rows()])
        """),
    )
    calls = [f"call {number}" for number in range(1, 7)]
    assert sorted(lines[:-1]) == [*calls, "child 0", "steps:"]
    assert lines[-1] == f"{[1] * 6}"


@pytest.mark.parametrize("leave", ["raise Refusal", "return Answer()"])
def test_a_process_that_the_code_of_a_steps_end_forks_records_no_end_of_the_step(
    tmp_path: Path, leave: str
) -> None:
    lines, _ = run(
        tmp_path,
        FORKING
        + textwrap.dedent(f"""
        def charge():
            {leave}

        def handle(row):
            row.step("charge", charge)

        with journal.open_job(path, [{{}}]) as job:
            job.run(handle, tell=quiet)
        """),
    )
    assert lines == ["child 0", "steps: started"]


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_process_that_a_step_forks_records_no_end_of_the_step(tmp_path: Path, kind: str) -> None:
    lines, _ = run(
        tmp_path,
        f"""
        parent = os.getpid()

        {kind}def charge(row):
            fork_twice()
            if os.getpid() == parent:
                say([step.state for step in job.service.get_steps(row.id)])
            return "by the parent" if os.getpid() == parent else "by the child"

        {kind}def handle(row):
            return {"await" if kind else ""} row.step("charge", charge, row)

        with journal.open_job(path, [{{}}] * 2) as job:
            job.run(handle, tell=quiet)
            say([step.result for row in job.rows() for step in job.service.get_steps(row.id)])
        """,
    )
    started = "['started']"
    assert lines == ["child 1", started, "child 0", started, "['by the parent', 'by the parent']"]


def test_a_process_that_a_handler_forks_begins_no_step(tmp_path: Path) -> None:
    lines, shown = run(
        tmp_path,
        """
        def handle(row):
            say("child", forked(lambda: row.step("charge", say, "charged")))

        with journal.open_job(path, [{}]) as job:
            job.run(handle, tell=quiet)
            say(job.service.get_steps("j:1"))
        """,
    )
    assert lines == ["child 1", "()"]
    assert "ServiceClosedError: this row belongs to the process that forked this one" in shown


FORKS_IN_A_LOOP = {
    "handler": "await fork_and_wait()",
    "step": "await row.step('fork', fork_and_wait)",
    "task": "await asyncio.gather(fork_and_wait())",
    "task that ends": "await asyncio.gather(fork_async())",
    "thread": "await asyncio.to_thread(row.step, 'fork', fork)",
}


@pytest.mark.parametrize(
    ("runs", "where"),
    [*(("job.run({})", where) for where in FORKS_IN_A_LOOP), ("asyncio.run(job.arun({}))", "task")],
)
def test_a_forked_process_runs_no_task_of_its_parents_event_loop(
    tmp_path: Path, runs: str, where: str
) -> None:
    lines, shown = run(
        tmp_path,
        f"""
        parent, ended = os.getpid(), asyncio.Event()

        async def fork_and_wait():
            child = os.fork()
            try:
                if not child:
                    refuse()
            finally:
                await asyncio.sleep(0)  # as a client does that is closed
            status = (await asyncio.to_thread(os.waitpid, child, 0))[1]
            say("child", os.waitstatus_to_exitcode(status))

        async def fork_async():
            fork()

        async def other():
            while not ended.is_set():
                if os.getpid() != parent:
                    say("the child runs a task of its parent")
                await asyncio.sleep(0)

        async def handle(row):
            if row.row_number > 1:
                return await asyncio.gather(other())
            {FORKS_IN_A_LOOP[where]}
            ended.set()

        with journal.open_job(path, [{{}}] * 4) as job:
            {runs.format("handle, workers=4, tell=quiet")}
            say(job.job.successful_rows)
        """,
    )
    assert lines == ["child 1", "4"]
    assert "ValueError: the child is refused" in shown


@pytest.mark.parametrize("kind", ["default pool", "own pool", "threads"])
def test_a_process_that_a_task_of_a_thread_pool_forks_takes_no_task_of_its_parent(
    tmp_path: Path, kind: str
) -> None:
    lines, shown = run(
        tmp_path,
        f"""
        import threading
        from concurrent.futures import ThreadPoolExecutor

        parent, pool = os.getpid(), ThreadPoolExecutor(1)
        queued, all_queued = [], threading.Event()

        def charge(number):
            if os.getpid() != parent:
                say("the child charges", number)
                os._exit(9)
            all_queued.wait()
            fork_twice()

        def submit(row, submit_to, *pools):
            call = submit_to(*pools, charge, row.row_number)
            queued.append(row)
            if len(queued) == 4:
                all_queued.set()
            return call

        def handle(row):
            submit(row, pool.submit).result()

        async def handle_async(row):
            loop = asyncio.get_running_loop()
            loop.set_default_executor(pool)
            pools = pool if {kind == "own pool"} else None
            await submit(row, loop.run_in_executor, pools)

        with journal.open_job(path, [{{}}] * 4) as job:
            job.run({"handle" if kind == "threads" else "handle_async"}, workers=4, tell=quiet)
            say(job.job.successful_rows)
        """,
    )
    assert lines == ["child 1", "child 0", "4"]
    assert shown.count("ValueError: the child is refused") == 1


@pytest.mark.parametrize(
    ("runs", "options"),
    [
        *product(
            ["job.run({})", "asyncio.run(job.arun({}))"],
            ["tell=fork_twice", "on_progress=fork_twice"],
        ),
        ("job.run({})", "where=lambda row: fork_twice() or True"),
    ],
)
def test_a_process_that_a_callback_forks_is_no_second_driver(
    tmp_path: Path, runs: str, options: str
) -> None:
    lines, _ = run(
        tmp_path,
        f"""
        def handle(row):
            say("call", row.row_number)
            job.stop()  # a message, and one more run

        with journal.open_job(path, [{{}}] * 3) as job:
            while job.job.pending_count:
                {runs.format("handle, " + options)}
            say(job.job.status, [row.attempts for row in job.rows()])
        """,
    )
    assert sorted(lines[:-1]) == ["call 1", "call 2", "call 3", "child 0", "child 1"]
    assert lines[-1] == "completed [1, 1, 1]"


@pytest.mark.parametrize("when", ["while the driver starts", "in a row"])
def test_a_process_forked_by_a_signal_handler_is_no_second_driver(
    tmp_path: Path, when: str
) -> None:
    lines, _ = run(
        tmp_path,
        f"""
        import threading

        has_forked, start = threading.Event(), threading.Thread.start

        def fork_and_continue(*_):
            fork(lambda: sys.exit(7))
            has_forked.set()

        def start_and_interrupt(thread):
            if thread.name == "journal-driver":
                signal.raise_signal(signal.SIGUSR1)
            start(thread)

        def end(number):
            if number == 1 and {when == "in a row"}:
                os.kill(os.getpid(), signal.SIGUSR1)
            has_forked.wait()

        signal.signal(signal.SIGUSR1, fork_and_continue)
        if {when != "in a row"}:
            threading.Thread.start = start_and_interrupt
        with journal.open_job(path, [{{}}] * 3) as job:
            job.run(handle, tell=quiet)
            say(job.job.status)
        """,
    )
    assert sorted(lines) == ["call 1", "call 2", "call 3", "child 7", "completed"]
