"""Signals without end at runs that leave them to Python: none hangs, and no row is called for twice.

    python tests/crash/storms.py --rounds 300           threads, coroutines, pools of processes, loky
    python tests/crash/storms.py --kinds fork --seed 7  one kind

In each round a process works on a job with ``handle_signals=False`` and begins again whenever an
interrupt has ended that. It is sent signals at random moments, which raise KeyboardInterrupt in it;
then another process goes on in peace. Each call of the handler is a line in a ledger beside the job.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share

import journal
from journal import JobRow, JobService, RowStatus

KINDS = ("threads", "asyncio", "fork", "spawn", "loky")
ROWS = 60
HANG_S = 60.0
INTERRUPTED = b"interrupted by the storm\n"


def note(row: JobRow) -> None:
    descriptor = os.open(row.data["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{row.row_number}\n".encode())
    os.close(descriptor)


def ship(row: JobRow) -> int:
    note(row)
    time.sleep(row.data["s"])
    return row.row_number


async def ship_async(row: JobRow) -> int:
    note(row)
    await asyncio.sleep(row.data["s"])
    return row.row_number


def executor_of(kind: str) -> Any:
    if kind in ("fork", "spawn"):
        return partial(ProcessPoolExecutor, 2, mp_context=get_context(kind))
    if kind == "loky":
        import loky  # noqa: PLC0415  (slow to import, and an extra)

        return partial(loky.ProcessPoolExecutor, 2)
    return None


# --- the process that is sent signals


def work(directory: Path, kind: str) -> None:
    """Until no row is open; an interrupt anywhere in here is an interrupt of a program."""
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    handler = ship_async if kind == "asyncio" else ship
    print("ready", flush=True)
    while True:
        try:
            with journal.open_job(directory / "jobs" / "j") as job:
                report = job.run(
                    handler,
                    executor_of(kind),
                    workers=None if executor_of(kind) else 2,
                    handle_signals=False,
                    tell=lambda text: print(text, file=sys.stderr, flush=True),
                )
            if report.job.status in ("completed", "failed"):
                return
        except KeyboardInterrupt:
            os.write(sys.stderr.fileno(), INTERRUPTED)


# --- one round


def storm(directory: Path, kind: str, random_: random.Random) -> list[str]:
    """What was wrong in one round."""
    directory.mkdir(exist_ok=True)
    ledger = directory / "ledger"
    rows = [{"s": random_.choice((0, 0, 0.001, 0.004)), "ledger": str(ledger)} for _ in range(ROWS)]
    with JobService(directory / "jobs", sync="none") as service:
        service.create_job("Storm", job_id="j", row_data=[{"data": data} for data in rows])
    is_slow = kind in ("fork", "spawn", "loky")
    child = start(directory, kind)
    for _ in range(random_.randint(1, 6)):
        time.sleep(random_.uniform(0, 0.25 if is_slow else 0.03))
        # Of these two, workers are kept from the first alone.
        number = random_.choice((signal.SIGINT, signal.SIGUSR1))
        if child.poll() is not None:
            break
        if number == signal.SIGINT and random_.random() < 0.5:
            os.killpg(child.pid, number)  # as Ctrl-C does
        else:
            child.send_signal(number)
    problems = wait_for(child, "it hangs after the storm")
    problems += wait_for(start(directory, kind), "it hangs when it goes on in peace")
    return problems + what_is_wrong(directory)


def interrupts(directory: Path) -> int:
    """How many signals of the storm were raised in the run."""
    return (directory / "said").read_bytes().count(INTERRUPTED)


def start(directory: Path, kind: str) -> subprocess.Popen[str]:
    with (directory / "said").open("a") as said:
        child = subprocess.Popen(
            [sys.executable, __file__, "--work", str(directory), kind],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def wait_for(child: subprocess.Popen[str], what: str) -> list[str]:
    assert child.stdout is not None
    child.stdout.close()
    try:
        child.wait(HANG_S)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGUSR2)
        time.sleep(1.0)
        return [what]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # what is left of its pool
        child.wait()
    return []


def what_is_wrong(directory: Path) -> list[str]:
    ledger = directory / "ledger"
    calls = Counter(map(int, ledger.read_text().split())) if ledger.exists() else Counter[int]()
    problems = [f"row {row} was called for {n} times" for row, n in calls.items() if n > 1]
    with JobService(directory / "jobs") as service:
        for row in service.get_rows("j"):
            if row.status is RowStatus.COMPLETED:
                if not calls[row.row_number]:
                    problems.append(f"row {row.row_number} is completed and was not called for")
            elif row.status is not RowStatus.NEEDS_REVIEW:
                problems.append(f"row {row.row_number} is {row.status}: {row.error_message}")
        said = (directory / "said").read_text()
        problems += [line for line in said.splitlines() if "could not be recorded" in line]
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work[0]), options.work[1])
        return 0
    kinds = options.kinds.split(",")
    bad = 0
    reviews: Counter[str] = Counter()
    hit = 0
    for number in range(options.rounds):
        kind = kinds[number % len(kinds)]
        seed = options.seed * 1_000_000 + number
        with tempfile.TemporaryDirectory() as name:
            problems = storm(Path(name), kind, random.Random(seed))
            hit += bool(interrupts(Path(name)))
            with JobService(Path(name) / "jobs") as service:
                reviews[kind] += len(service.get_rows("j", "needs_review"))
            if problems:
                bad += 1
                print(f"round {number} ({kind}):", *problems, sep="\n  ")
                print((Path(name) / "said").read_text()[-6000:], flush=True)
        if number % 20 == 19:
            print(f"{number + 1}/{options.rounds}, {bad} bad", flush=True)
    print(f"{options.rounds} rounds, {bad} bad; rows in review: {dict(reviews)}")
    print(f"{hit} rounds in which the run was interrupted")
    check_share("rounds in which the run was interrupted", hit, options.rounds, 0.7)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
