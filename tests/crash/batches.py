"""Batches and ``limit_per``: runs killed with SIGKILL, and a ledger of the calls.

    python tests/crash/batches.py --rows 2000 --kills 50              all modes
    python tests/crash/batches.py --modes asyncio --seed 7

The modes "threads" and "asyncio" call many rows at a time, the others one row.

A call writes its row numbers into a ledger outside of the job, in one line. The driver is killed at a
random moment. Then the rows in doubt are those of calls that began, and of no others; all other rows
that the ledger has are completed; and no row is ever called twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.children import Child

import journal
from journal import JobService
from journal.verify import verify_job

SIZE = 20
WORKERS = 3
KEYS, PER_KEY = (
    5,
    2,
)  # rows have one of so many keys; with "limit_per", so many of each are in flight
MODES = {  # and the most rows in flight
    "threads": SIZE * WORKERS,
    "asyncio": SIZE * WORKERS,
    "limit_per": KEYS * PER_KEY,
}

RUNNER = """
import asyncio, random, time, journal

ledger = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
rows_in_all, size, workers, keys, per_key = map(int, sys.argv[4:9])
mode = sys.argv[9]

def note(rows):
    os.write(ledger, (" ".join(str(row.row_number) for row in rows) + "\\n").encode())
    tell("called")
    if rows[-1].row_number == rows_in_all:
        tell("last")
        hear()  # the run can't end before it is killed
    return {row.id: row.row_number for row in rows}

def handle(rows):
    answer = note(rows)
    time.sleep(random.choice([0, 0, 0.001, 0.004]))
    return answer

async def handle_async(rows):
    answer = note(rows)
    await asyncio.sleep(random.choice([0, 0, 0.001, 0.004]))
    return answer

def handle_one(row):
    handle([row])

def quiet(text):
    pass

rows = ({"n": n, "key": n % keys} for n in range(rows_in_all))
with journal.open_job(f"{root}/{job_id}", rows) as job:
    tell("opened")
    if mode == "limit_per":
        job.run(handle_one, workers=workers, limit_per={"key": per_key}, tell=quiet)
    else:
        handler = handle_async if mode == "asyncio" else handle
        job.run(handler, batch=size, workers=workers, tell=quiet)
tell("ended")
"""


class Loss(AssertionError):
    """A row was called twice, or is in doubt for no reason, or is lost."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise Loss(what)


def kill_once(work: Path, mode: str, rows: int, calls: int, after_s: float) -> bool:
    """Continue the run, and kill it so many seconds after the begin of a call. Returns whether it
    was killed before its end.
    """
    arguments = (work / "ledger", rows, SIZE, WORKERS, KEYS, PER_KEY, mode)
    with Child(RUNNER, work / "jobs", "j", *arguments) as child:
        for _ in range(1 + calls):  # the first time, it has opened the job
            said = child.hear()
            if said == "ended":
                return False
            if said == "last":
                break
        time.sleep(after_s)
        child.kill()
        with JobService(work / "jobs") as service:
            job = service.get_job("j")
        return job is not None and job.status == "running"


def check(work: Path, mode: str, reviewed: set[int]) -> set[int]:
    """Compare the job with the ledger. Returns the rows in doubt, also those of earlier kills."""
    ledger = work / "ledger"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    called = Counter(int(number) for line in lines for number in line.split())
    expect(not called or max(called.values()) == 1, f"called twice: {called.most_common(1)}")
    with JobService(work / "jobs") as service:
        in_flight = {row.row_number for row in service.get_rows("j", "processing")}
        done = {row.row_number for row in service.get_rows("j", "completed")}
    expect(len(in_flight) <= MODES[mode], f"{len(in_flight)} rows in flight")
    of_keys = Counter((number - 1) % KEYS for number in in_flight)
    if mode == "limit_per":
        expect(all(count <= PER_KEY for count in of_keys.values()), f"in flight: {of_keys}")
    begun = called.keys() - reviewed
    # Of the rows in flight, those of a call that a worker had not begun yet are in no ledger.
    expect(begun <= done | in_flight, f"called and not known: {sorted(begun - done - in_flight)}")
    expect(done <= called.keys(), f"done and never called: {sorted(done - called.keys())}")
    verify_job(work / "jobs" / "j")
    return reviewed | in_flight


def batches(work: Path, mode: str, *, rows: int, kills: int, seed: int) -> int:
    """Kill a run again and again, and let it end. Returns how many kills came before its end."""
    draw = random.Random(f"{seed} {mode}")
    count, reviewed = 0, set[int]()
    work.mkdir(parents=True, exist_ok=True)
    for _ in range(kills):
        count += kill_once(work, mode, rows, draw.randint(1, 6), draw.uniform(0.0, 0.005))
        reviewed = check(work, mode, reviewed)
    with journal.open_job(work / "jobs" / "j") as job:
        job.run(lambda given: [None] * len(given), batch=SIZE, tell=lambda _text: None)
        left = {row.row_number for row in job.rows("needs_review")}
        expect(left == reviewed, f"in review: {sorted(left ^ reviewed)} for no reason")
        expect(len(job.rows("completed")) == rows - len(left), "a row is lost")
    check_share("kills before the end of a run", count, kills, 0.5)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=[*MODES])
    given = parser.parse_args()
    print(f"seed {given.seed}")
    for mode in given.modes:
        with tempfile.TemporaryDirectory() as directory:
            size = {"rows": given.rows, "kills": given.kills, "seed": given.seed}
            count = batches(Path(directory), mode, **size)
        print(
            f"{mode}: {count} of {given.kills} kills before the end; no row called twice, none lost"
        )


if __name__ == "__main__":
    main()
