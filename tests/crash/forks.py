"""Forks: handlers and steps fork children that leave by an exception, and a ledger of all calls.

    python tests/crash/forks.py --rounds 20                           all modes
    python tests/crash/forks.py --modes asyncio --seed 7

The handler of each row charges in a step. Two of three rows fork a child, in the step or outside of
it. The child calls ``sys.exit``, or fails to start a program, or raises an exception, or returns. In
each round the run is killed in a step that has charged and whose child has left. A person settles the
step as the ledger says, and the run is started again. In the end, all rows are completed. No attempt
was called twice, no row was charged twice, each child has ended with its own status, and none of them
still runs.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.children import processes_with

import journal
from journal import AttemptedRow, JobService

MODES = ("threads", "asyncio", "pool", "batches")
JOB = "forks"
MARK = "FORKS"  # names, in the environment of each process, the round that it belongs to
WORKERS = 3
BATCH = 4
CHILD_S = 10.0  # a child that has not ended after this time has gone on
HANG_S = 60.0
STATUSES = {"exit": 7, "exec": 1, "raise": 1, "return": 0}  # of a child, by the way it leaves


# --- the process that is killed

_forking = threading.Lock()  # filelock refuses a fork while another thread forks


def note(*words: object) -> None:
    descriptor = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def way_of(number: int) -> str:
    return [*STATUSES][number // 3 % len(STATUSES)]


def leave(way: str) -> None:
    match way:
        case "exit":
            sys.exit(STATUSES[way])
        case "exec":
            os.execvp("no-such-program", ["no-such-program"])
        case "raise":
            raise ValueError("the child is refused")


def fork(number: int) -> bool:
    """Fork a child, and wait for its end. Returns whether this is the child."""
    with _forking:
        child = os.fork()
    if not child:
        leave(way_of(number))
        return True
    until_s = time.monotonic() + CHILD_S
    while time.monotonic() < until_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            note("child", number, way_of(number), os.waitstatus_to_exitcode(status))
            return False
        time.sleep(0.001)
    note("child", number, way_of(number), "lives")
    return False


def charge(number: int) -> str:
    note("charge", number)
    if number % 3 == 0 and fork(number):
        return "child"
    with suppress(FileNotFoundError):
        if Path("kill").read_text() == str(number):
            Path("kill").unlink()
            os.killpg(os.getpgrp(), signal.SIGKILL)
    return "parent"


def handle(row: AttemptedRow) -> str:
    note("call", row.row_number, row.attempts)
    row.step("charge", charge, row.row_number)
    return "child" if row.row_number % 3 == 1 and fork(row.row_number) else "parent"


class Client:
    """What handlers have open while they fork. Some clients wait for the loop when they close."""

    def __init__(self, number: int) -> None:
        self.waits = number % 2 == 0

    async def __aenter__(self) -> None:
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        if self.waits:
            await asyncio.sleep(0)


async def charge_async(number: int) -> str:
    async with Client(number):
        return charge(number)


async def handle_async(row: AttemptedRow) -> str:
    note("call", row.row_number, row.attempts)
    await row.step("charge", charge_async, row.row_number)
    async with Client(row.row_number):
        return "child" if row.row_number % 3 == 1 and fork(row.row_number) else "parent"


def handle_many(rows: list[AttemptedRow]) -> list[str]:
    results = list[str]()
    while len(results) < len(rows) and "child" not in results:
        results.append(handle(rows[len(results)]))
    return results


def drive(mode: str) -> None:
    with journal.open_job(Path("jobs", JOB), on_interrupted="resume", argv=[]) as job:
        options: Any = {"workers": WORKERS, "halt": "never", "tell": lambda _text: None}
        if mode == "batches":
            job.run(handle_many, batch=BATCH, **options)
        elif mode == "pool":
            job.run(handle, partial(ProcessPoolExecutor, WORKERS, get_context("fork")), **options)
        else:
            job.run(handle_async if mode == "asyncio" else handle, **options)


# --- the one that starts it again, and the person who looks at the ledger


class Round:
    """One job, whose run is killed once. ``seen`` counts what happened, and what must not happen."""

    def __init__(self, directory: Path, mode: str, rows: int, kill: int) -> None:
        self.directory, self.mode, self.rows = directory, mode, rows
        self.mark = f"{os.getpid()}-{uuid.uuid4()}"
        self.seen = Counter[str]()
        directory.mkdir(parents=True)
        (directory / "kill").write_text(str(kill))
        (directory / "ledger").touch()
        with self.service() as service:
            data: Any = [{"data": {"n": number}} for number in range(1, rows + 1)]
            service.create_job("Forks", job_id=JOB, row_data=data)

    def service(self) -> JobService:
        return JobService(self.directory / "jobs")

    def play(self) -> Counter[str]:
        for _ in range(5):
            self.start()
            self.settle()
            with self.service() as service:
                job = service.get_job(JOB)
            if job is not None and job.successful_rows == self.rows:
                break
        self.look()
        return self.seen

    def start(self) -> None:
        """Run until the end or the kill, and count what still runs a moment later."""
        top = Path(__file__).parents[1]
        environment = {
            **os.environ,
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join(
                [f"{top.parent}", f"{top}", os.environ.get("PYTHONPATH", "")]
            ),
        }
        with (self.directory / "output").open("ab") as output:
            driver = subprocess.Popen(
                [sys.executable, __file__, "--drive", self.mode], cwd=self.directory,
                env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output,
            )  # fmt: skip
        try:
            self.seen["kills"] += driver.wait(HANG_S) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            self.seen["runs that hang"] += 1
        until_s = time.monotonic() + CHILD_S
        while processes_with(MARK, self.mark) and time.monotonic() < until_s:
            time.sleep(0.01)
        for pid in processes_with(MARK, self.mark):
            self.seen["processes that still run"] += pid != driver.pid
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        driver.wait()

    def lines(self, kind: str) -> Iterator[tuple[str, ...]]:
        for line in (self.directory / "ledger").read_text().splitlines():
            first, *words = line.split()
            if first == kind:
                yield tuple(words)

    def settle(self) -> None:
        """Settle the steps in doubt as the ledger says, and have all rows go on."""
        charged = set(self.lines("charge"))
        with self.service() as service:
            with suppress(journal.JobNotFoundError):
                service.recover_job(JOB, "resume")
            for row in list(service.get_rows(JOB, "needs_review")):
                for step in service.get_steps(row.id):
                    if step.state == "started" and (str(row.row_number),) in charged:
                        service.record_step(row.id, step.name, "parent")
                    elif step.state == "started":
                        service.fail_step(row.id, step.name, "the ledger doesn't have it")
                service.retry_row(row.id)
            for row in list(service.get_rows(JOB, "failed")):
                self.seen["rows that failed"] += 1
                service.retry_row(row.id)

    def look(self) -> None:
        seen = self.seen
        seen["attempts called twice"] = _repeated(self.lines("call"))
        seen["rows charged twice"] = _repeated(self.lines("charge"))
        for number, way, status in self.lines("child"):
            seen["forks"] += 1
            waits = self.mode == "asyncio" and Client(int(number)).waits  # a child can't
            seen["children with another status"] += status != str(1 if waits else STATUSES[way])
        with self.service() as service:
            for row in service.get_rows(JOB):
                steps = {step.name: step.result for step in service.get_steps(row.id)}
                seen["rows with a child's result"] += row.result == "child"
                seen["steps with a child's result"] += steps.get("charge") == "child"
                seen["rows that are not completed"] += row.status != "completed"


def _repeated(words: Iterator[tuple[str, ...]]) -> int:
    return sum(count > 1 for count in Counter(words).values())


def faults(seen: Counter[str]) -> dict[str, int]:
    """What must not happen, of what was counted."""
    return {what: count for what, count in seen.items() if count and what not in ("forks", "kills")}


def forks(directory: Path, mode: str, *, rounds: int, rows: int, seed: int) -> Counter[str]:
    """Play some rounds, and return what was counted in all of them."""
    draw = random.Random(f"{seed} {mode}")
    seen = Counter[str]()
    for number in range(rounds):
        kill = draw.choice([row for row in range(3, rows + 1, 3) if way_of(row) != "return"])
        seen += Round(directory / f"{mode}-{number}", mode, rows, kill).play()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--drive", choices=MODES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.drive)
        return 0
    print(f"seed {given.seed}", flush=True)
    failed = 0
    for mode in given.modes:
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            size = {"rounds": given.rounds, "rows": given.rows, "seed": given.seed}
            seen = forks(Path(name), mode, **size)
        wrong = ", ".join(f"{count} {what}" for what, count in faults(seen).items())
        failed |= bool(wrong)
        done = f"{given.rounds} rounds, {seen['forks']} forks, {seen['kills']} kills"
        print(f"{mode}: {done}: {wrong or 'all is well'}; {time.monotonic() - begun_s:.0f} s")
        sys.stdout.flush()
        check_share("kills in a step whose child has left", seen["kills"], given.rounds, 1)
    return failed


if __name__ == "__main__":
    sys.exit(main())
