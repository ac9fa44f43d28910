"""Sends signals to each kind of run, in each of its states, and checks exit codes and rows.

    python tests/crash/signals.py                      all cells of the table, some minutes
    python tests/crash/signals.py threads hold         the cells whose names contain these words

A cell is a kind of run, a state of the run, and the signals that the run gets. "INT+INT to the
group" are two signals, each to the whole process group. The run reports its state in a pipe. The
next signal is sent after such a report. After the end of the run, its exit code and its rows must
agree with the pages, and no process may be left. A later run must do the rest. No row is called for
twice, and rows that were in flight are named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.children import wait_until_it_has_looked
from support.paths import TOP
from support.pipes import ready

import journal
from journal import JobService, JobStatus, JournalError

HANG_S = 60.0
ROWS, WORKERS = 5, 2
LONG_S = 3600.0
POOLS = ("fork", "spawn", "loky")
COMMANDS = ("command", "command -n")
# The effects in a script that leaves its signals to Python ("unhandled"), or handles none in arun.
SCRIPTS = ("threads", "coroutines", "batches", *POOLS)


class Cell(NamedTuple):
    """``rows``: their statuses at the end. ``code``: the exit code; negative if a signal killed it."""

    where: str
    state: str
    signals: str
    code: int
    rows: dict[str, int]
    job: str = "paused"

    def __str__(self) -> str:
        return f"{self.where}, {self.state}: {self.signals}"


def drained(done: int = WORKERS) -> dict[str, int]:
    return {"completed": done, "pending": ROWS - done} if done else {"pending": ROWS}


def ended(status: str = "needs_review", count: int = WORKERS) -> dict[str, int]:
    return {status: count, "pending": ROWS - count}


def cells() -> Iterator[Cell]:
    handling = (*SCRIPTS, *COMMANDS, "arun handling")
    for where in handling:
        for name, code in (("INT", 130), ("TERM", 143), ("HUP", 129)):
            yield Cell(where, "in flight", name, code, drained())
        # A terminal sends Ctrl-C and the hang-up to all of its processes.
        for name, code in (("INT", 130), ("HUP", 129)):
            yield Cell(where, "in flight", f"{name} to the group", code, drained())
        yield Cell(where, "in flight", "INT+INT", 130, ended())
        yield Cell(where, "in flight", "INT+INT to the group", 130, ended())
        yield Cell(where, "in flight", "TERM+TERM", 143, ended())
        yield Cell(where, "in flight", "TERM+INT", 143, ended())
        for state in ("hold", "backoff", "rate"):
            rows = drained(1) if state == "rate" else drained(0)
            yield Cell(where, state, "INT", 130, rows)
            yield Cell(where, state, "TERM", 143, rows)
        yield Cell(where, "paused by another process", "INT", 130, drained())
        yield Cell(where, "lock", "INT", 130, drained())
        yield Cell(where, "lock", "INT+INT", 5, ended("processing"), "running")
    for where in ("coroutines", *COMMANDS):
        yield Cell(where, "stubborn", "INT+INT+INT", 130, ended())
        yield Cell(where, "stubborn", "INT+TERM+HUP", 130, ended())
    for where in (*SCRIPTS, "arun handling"):
        for state in ("tell", "on_progress"):
            yield Cell(where, state, "INT", 130, drained())
            yield Cell(where, state, "INT+INT", 130, ended())
    for where in SCRIPTS:
        for state in ("tell hangs", "on_progress hangs"):
            yield Cell(where, state, "INT+INT+INT+INT", -2, ended())
            yield Cell(where, state, "TERM+TERM+TERM+TERM", 143, ended())
        yield Cell(where, "where hangs", "INT+INT+INT+INT", -2, drained(0), "running")
    # A SIGTERM to all processes ends those of a pool.
    for where in ("fork", "spawn"):
        yield Cell(where, "in flight", "TERM to the group", 143, ended())

    # The signals are Python's: SIGINT raises KeyboardInterrupt, SIGTERM kills.
    for kind in SCRIPTS:
        where = f"{kind} unhandled"
        yield Cell(where, "in flight", "INT", -2, drained())
        yield Cell(where, "in flight", "INT to the group", -2, drained())
        yield Cell(where, "in flight", "INT+INT", -2, ended())
        yield Cell(where, "in flight", "TERM", -15, ended("processing"), "running")
        for state in ("hold", "backoff", "rate"):
            yield Cell(where, state, "INT", -2, drained(1) if state == "rate" else drained(0))
        for state in ("tell", "on_progress"):
            yield Cell(where, state, "INT", -2, drained())
            yield Cell(where, state, "INT+INT", -2, ended())
    yield Cell("coroutines unhandled", "stubborn", "INT+INT+INT", -2, ended())
    # A handler of the program's, which raises SystemExit.
    for kind in SCRIPTS:
        yield Cell(f"{kind} exiting", "in flight", "TERM", 143, drained())
        yield Cell(f"{kind} exiting", "in flight", "TERM+TERM", 143, ended())
    # asyncio.run cancels the main task at the first SIGINT.
    for state, rows in (("in flight", drained()), ("hold", drained(0)), ("backoff", drained(0))):
        yield Cell("arun", state, "INT", -2, rows)
    yield Cell("arun", "in flight", "INT+INT", -2, ended())
    yield Cell("arun", "in flight", "TERM", -15, ended("processing"), "running")
    # A run in another thread than the main one: the program calls ``job.stop()``.
    yield Cell("other thread", "in flight", "INT", 4, drained())
    yield Cell("other thread", "in flight", "INT+INT", 3, ended())
    yield Cell("other thread", "hold", "INT", 4, drained(0))

    # Before the job is there, and after the end of the run.
    for where in ("threads", "command"):
        yield Cell(where, "reading the input", "INT", -2 if where == "threads" else 130, {}, "")
        yield Cell(where, "reading the input", "TERM", -15, {}, "")
        code = -2 if where == "threads" else 130
        yield Cell(where, "reading the input again", "INT", code, drained(0), "pending")
        yield Cell(where, "reading the input again", "TERM", -15, drained(0), "pending")


# --- the process that gets the signals


class Files(NamedTuple):
    """The files of a cell: ``events`` is the pipe in which the run says what it does."""

    directory: Path

    @property
    def events(self) -> Path:
        return self.directory / "events"

    @property
    def gate(self) -> Path:
        return self.directory / "gate"

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger"

    def say(self, text: str) -> None:
        append(self.events, text)

    def call(self, number: int) -> None:
        append(self.ledger, str(number))
        self.say(f"begun {number}")

    def wait(self) -> None:
        while not self.gate.exists():
            time.sleep(0.005)


def append(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def act(files: Files, state: str, number: int) -> bool:
    """Begin the work on a row. Returns whether it is to wait for the gate."""
    files.call(number)
    if state == "hold":
        raise journal.Hold("Busy", after_s=LONG_S)
    if state == "backoff":
        raise journal.Retry("Again", after_s=LONG_S)
    return state != "rate"


def handle(files: Files, state: str, row: Any) -> int:
    if act(files, state, row.row_number):
        files.wait()
    return int(row.row_number)


async def handle_async(files: Files, state: str, row: Any) -> int:
    if act(files, state, row.row_number):
        while not files.gate.exists():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                if state != "stubborn":
                    raise
    return int(row.row_number)


def handle_batch(files: Files, state: str, rows: Any) -> list[int]:
    return [handle(files, state, row) for row in rows]


def executor_of(kind: str) -> Any:
    if kind in ("fork", "spawn"):
        return partial(ProcessPoolExecutor, WORKERS, mp_context=get_context(kind))
    if kind == "loky":
        import loky  # noqa: PLC0415  (slow to import, and an extra)

        return partial(loky.ProcessPoolExecutor, WORKERS)
    return None


class Callbacks:
    """The caller's functions that the run calls. In some states, one of them waits for the gate."""

    def __init__(self, files: Files, state: str) -> None:
        self._files = files
        self._state = state
        self.job: journal.JobRun | None = None

    def options(self, kind: str) -> dict[str, Any]:
        options: dict[str, Any] = {
            "workers": 1 if self._state in ("hold", "rate") else WORKERS,
            "tell": self._tell,
            "on_progress": self._progress,
            "progress": False,
            "max_attempts": 2,
            "retry_on": journal.Retry,
        }
        if kind == "batches":
            options["batch"] = 1
        if self._state == "rate":
            options["rate"] = "1/h"
        if self._state == "where hangs":
            options["where"] = lambda _row: self._hang("where")
        return options

    def _tell(self, text: str) -> None:
        self._files.say(f"told: {text}")
        if self._state.startswith("tell") and "waiting for the rows in flight" in text:
            self._hang("tell")

    def _progress(self, job: journal.Job) -> None:
        if self._state.startswith("on_progress") and job.processing_count == WORKERS:
            self._hang("on_progress")

    def _hang(self, what: str) -> bool:
        self._files.say(f"{what} is called")
        assert self.job is not None
        (stops,) = self.job._runs
        heard = 0
        while not self._files.gate.exists():
            if stops.count > heard:
                heard += 1
                self._files.say(f"signal {heard}")
            time.sleep(0.005)
        return True


def input_of(files: Files, state: str) -> Iterator[dict[str, Any]]:
    for number in range(1, ROWS + 1):
        if state.startswith("reading") and number == 2:
            files.say("reading")
            files.wait()
        yield {"line": str(number)}


def work(directory: Path, where: str, state: str) -> int:
    """A script as users write it. Returns its exit code."""
    files = Files(directory)
    kind, _, how = where.partition(" ")
    function = {"coroutines": handle_async, "arun": handle_async, "batches": handle_batch}
    handler: Any = partial(function.get(kind, handle), files, state)
    callbacks = Callbacks(files, state)
    options = callbacks.options(kind)
    rows = input_of(files, state)
    path = directory / "jobs" / "j"
    try:
        with journal.open_job(path, rows, argv=[], lock_timeout_s=0.3) as job:
            callbacks.job = job
            if kind == "arun":
                if how == "handling":
                    options["handle_signals"] = True
                return asyncio.run(_arun(job, handler, options))
            if kind == "other":
                return _in_other_thread(job, handler, options)
            options["handle_signals"] = not how
            if how == "exiting":
                signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
            return job.run(handler, executor_of(kind), **options).exit_code
    except JournalError as error:
        return error.exit_code


async def _arun(job: journal.JobRun, handler: Any, options: dict[str, Any]) -> int:
    return (await job.arun(handler, **options)).exit_code


def _in_other_thread(job: journal.JobRun, handler: Any, options: dict[str, Any]) -> int:
    codes: list[int] = []
    stops: list[int] = []

    def stop(number: int, _frame: object) -> None:
        stops.append(number)  # first: the next signal may come while the run is told of this one
        job.stop(end_rows=len(stops) > 1)

    signal.signal(signal.SIGINT, stop)
    thread = threading.Thread(target=lambda: codes.append(job.run(handler, **options).exit_code))
    thread.start()
    while thread.is_alive():  # a signal just before a join without a timeout would not end it
        thread.join(0.05)
    return codes[0]


# Commands say the same in the same pipe.
SCRIPT = """
for number do
    echo $number >> ledger
    echo "begun $number" >> events
done
case $STATE in
    hold) exit 75;;
    backoff) exit 1;;
    rate) exit 0;;
    stubborn) trap '' TERM INT;;
esac
until [ -e gate ]; do sleep 0.02; done
"""


def command_of(files: Files, where: str, state: str) -> list[str]:
    (files.directory / "row.sh").write_text(SCRIPT)
    (files.directory / "rows").write_text("".join(f"{n}\n" for n in range(1, ROWS + 1)))
    workers = "1" if state in ("hold", "rate") else str(WORKERS)
    options = ["--backoff", "1h", "--on", "75=hold", "--max-attempts", "2", "-j", workers]
    if state == "rate":
        options += ["--rate", "1/h"]
    if where == "command -n":
        options += ["-n", "1"]
    source = "-" if state.startswith("reading") else "rows"
    return [
        *(sys.executable, "-m", "journal", "--root", "jobs", "run", source, "--lines"),
        *("--job", "j", *options, "--", "sh", "row.sh", "{line}"),
    ]


# --- one cell


class Wrong(AssertionError):
    """A run didn't end as the table says."""


# The report of the run in the state in which it gets the first signal.
_SAYS = {
    "hold": "Busy",
    "tell": "begun",
    "on_progress": "on_progress is called",
    "where": "where is called",
    "reading": "reading",
}


class Running:
    """The process of a cell, and its reports in the pipe."""

    def __init__(self, cell: Cell, directory: Path) -> None:
        self.cell = cell
        self.files = files = Files(directory)
        os.mkfifo(files.events)
        self._events = os.open(files.events, os.O_RDWR)  # so that it has no end
        self.said = ""
        if cell.state.endswith("again"):
            journal.open_job(directory / "jobs" / "j", input_of(files, ""), argv=[]).close()
        command = [sys.executable, __file__, "--work", str(directory), cell.where, cell.state]
        if cell.where in COMMANDS:
            command = command_of(files, cell.where, cell.state)
        paths = [str(TOP), str(TOP / "tests"), os.environ.get("PYTHONPATH", "")]
        self.process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "STATE": cell.state},
            stdin=subprocess.PIPE,
            stdout=self._events,
            stderr=self._events,
            start_new_session=True,
        )

    def awaits(self, text: str, times: int = 1) -> None:
        while self.said.count(text) < times:
            if not ready([self._events], HANG_S / 2):
                raise Wrong(f"it hangs before {text!r}")
            self.hear()

    def hear(self) -> None:
        while ready([self._events], 0):
            self.said += os.read(self._events, 1 << 16).decode()

    def send(self, name: str, *, to_group: bool) -> None:
        number = getattr(signal, f"SIG{name}")
        if to_group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def ends(self) -> int:
        try:
            return self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise Wrong("it hangs") from None
        finally:
            self.hear()

    def is_alone(self) -> bool:
        """Whether no process of its group is left after a moment. Trackers of pools take one."""
        until_s = time.monotonic() + HANG_S / 4
        while time.monotonic() < until_s:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.01)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        os.close(self._events)


def run_cell(cell: Cell, directory: Path) -> float:
    """Run a cell. Returns how long its end took, in seconds. Raises Wrong."""
    with Running(cell, directory) as running, ExitStack() as stack:
        try:
            _reach(cell, running, stack)
            from_s = time.monotonic()
            _signal(cell, running, stack)
            code = running.ends()
            took_s = time.monotonic() - from_s
            stack.close()
            if code != cell.code:
                raise Wrong(f"its exit code is {code} instead of {cell.code}")
            if cell.code >= 0 and "other" not in cell.where and not running.is_alone():
                raise Wrong("processes are left")
        except (Wrong, AssertionError) as error:
            running.hear()
            raise Wrong(f"{error}\n{running.said}") from None
    try:
        _check(cell, Files(directory))
    except Wrong as error:
        raise Wrong(f"{error}\n{running.said}") from None
    return took_s


def _reach(cell: Cell, running: Running, stack: ExitStack) -> None:
    """Wait until the run is in the state of the cell."""
    state = cell.state
    if cell.where in COMMANDS and state == "hold":
        running.awaits("hold")
    elif state.startswith("reading") and cell.where in COMMANDS:
        assert running.process.stdin is not None
        running.process.stdin.write(b"1\n")
        running.process.stdin.flush()
        # It has opened the job's directory by now, or not: both are the same to the user.
        _until_asleep(running.process.pid)
    elif state in ("backoff", "rate"):
        _until_row(running, "pending" if state == "backoff" else "completed")
    else:
        word = next((_SAYS[each] for each in _SAYS if state.startswith(each)), "begun")
        running.awaits(word, WORKERS if word == "begun" else 1)
        if word == "on_progress is called":
            running.awaits("begun", WORKERS)
    if state == "lock":
        service = stack.enter_context(JobService(running.files.directory / "jobs"))
        stack.enter_context(service.batch("j"))
        running.files.gate.touch()
        running.awaits("still waiting")
    if state == "paused by another process":
        with JobService(running.files.directory / "jobs") as service:
            service.update_status("j", JobStatus.PAUSED)
        running.awaits("paused by another process")
        running.files.gate.touch()
        _until_row(running, "completed", WORKERS)


def _until_asleep(pid: int) -> None:
    """Until the process waits for its input."""
    until_s = time.monotonic() + HANG_S / 2
    while "pipe_read" not in Path(f"/proc/{pid}/wchan").read_text():
        if time.monotonic() > until_s:
            raise Wrong("it doesn't read")
        time.sleep(0.01)


def _until_row(running: Running, status: str, count: int = 1, *, is_paused: bool = False) -> None:
    """Until so many rows that were started have this status, and the job is paused if it must be."""
    until_s = time.monotonic() + HANG_S / 2
    with JobService(running.files.directory / "jobs") as service:
        while True:
            job = service.get_job("j")
            rows = [] if job is None else service.get_rows("j", status)
            is_right = job is not None and (not is_paused or job.status is JobStatus.PAUSED)
            if is_right and sum(row.attempts > 0 for row in rows) >= count:
                return
            if time.monotonic() > until_s:
                raise Wrong(f"no row becomes {status}")
            time.sleep(0.01)


def _signal(cell: Cell, running: Running, stack: ExitStack) -> None:
    """Send the signals.

    Each signal is sent after the run has answered the last signal. Then open the gate.
    """
    words = cell.signals.removesuffix(" to the group")
    names = words.split("+")
    for count, name in enumerate(names, 1):
        running.send(name, to_group=words != cell.signals)
        if cell.code == -signal.SIGTERM:
            return
        is_in_callback = cell.state.startswith(("tell", "on_progress", "where"))
        if is_in_callback and "unhandled" not in cell.where:
            if count < 4:  # then the process ends
                running.awaits(f"signal {count}")
            if count == 3 and cell.job == "paused":  # else the process may end before the run's end
                _until_row(running, "needs_review", WORKERS, is_paused=True)
        elif is_in_callback or cell.state == "lock":
            # What would answer is interrupted or waits. After a second signal, the process may end.
            if count < len(names) or is_in_callback or len(names) == 1:
                wait_until_it_has_looked(running.process.pid)
        elif count < len(names) or (cell.state == "in flight" and len(names) == 1):
            running.awaits(("pausing", "ending the rows in flight")[count - 1])
    if "other" in cell.where and len(names) == 2:
        return
    if len(names) == 1 or cell.state in ("tell", "on_progress"):
        if cell.state in ("tell", "on_progress") and len(names) == 2:
            _until_row(running, "needs_review", WORKERS)
        running.files.gate.touch()
    if cell.state == "lock" and len(names) == 1:
        stack.close()


def _check(cell: Cell, files: Files) -> None:
    """Compare the job with the table. Then let a run do the rest, and compare it with the ledger."""
    path = files.directory / "jobs" / "j"
    if not cell.job:
        if (path / "journal.jsonl").exists():
            raise Wrong("there is a job")
        return
    with JobService(path.parent) as service:
        job = service.get_job("j")
        rows = service.get_rows("j")
        statuses = Counter(str(row.status) for row in rows)
        if cell.signals == "TERM to the group":
            # The pool may have died before the run saw the signal. Then a new pool took more rows.
            statuses += Counter(pending=statuses.pop("completed", 0))
        found = (None if job is None else job.status, statuses, service.run_holder("j"))
    if found != (cell.job, cell.rows, None):
        raise Wrong(f"found {found}, instead of {cell.job}, {cell.rows}")
    calls = Counter(files.ledger.read_text().split()) if files.ledger.exists() else Counter[str]()
    in_flight = {
        str(row.row_number) for row in rows if row.status in ("processing", "needs_review")
    }
    if not in_flight <= calls.keys():
        raise Wrong(f"rows {in_flight - calls.keys()} were never called for")
    with journal.open_job(path, argv=[]) as job_run:
        job_run.run(lambda row: calls.update([str(row.row_number)]), tell=lambda _text: None)
        after = {str(row.row_number): row.status for row in job_run.rows()}
    for number, status in after.items():
        if status != ("needs_review" if number in in_flight else "completed"):
            raise Wrong(f"row {number} is {status} after a second run")
        again = 1 + (cell.state in ("hold", "backoff"))  # these may be called for again
        if calls[number] > again:
            raise Wrong(f"row {number} was called for {calls[number]} times")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="words of the names of the cells")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(Path(options.work[0]), *options.work[1:])
    bad, count, longest = 0, 0, 0.0
    for cell in cells():
        if not all(word in str(cell) for word in options.words):
            continue
        count += 1
        with tempfile.TemporaryDirectory() as name:
            try:
                took_s = run_cell(cell, Path(name))
            except Wrong as error:
                bad += 1
                print(f"WRONG {cell}: {error}", flush=True)
                continue
        longest = max(longest, took_s)
        print(f"{cell}: {cell.code}, {took_s:.1f} s", flush=True)
    print(f"{count} cells, {bad} wrong; the longest end took {longest:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
