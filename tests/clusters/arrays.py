"""Runs the shards of a job as an array of a real Slurm, kills tasks, and checks a ledger of calls.

    python tests/clusters/arrays.py --rows 20000 --shards 16 --kills 60

A handler writes the key of its row into a ledger outside of the job. Tasks are cancelled, killed,
stopped and requeued at random. After each array, no key is in the ledger twice. The keys in the
ledger are exactly the keys of the rows that are completed or named as in doubt. Then the next array
runs the open rows. In the end, rows in doubt are settled by the ledger. Each key is in the ledger
once, and the table of the set agrees with the input.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from clusters.slurm import Slurm, why_no_slurm
from support.paths import TOP

from journal import JobService, RowStatus

# $0 is ARRAY, so that a retry array can be another part of the set. Without `exec`, a signal for
# the task would reach the shell.
SCRIPT = """\
#!/bin/sh
echo $$ > processes/$SLURM_ARRAY_TASK_ID
exec {python} task.py auto/{shards}
"""

TASK = """\
import itertools, os, random, sys, time
import journal

ledger = os.open("ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

calls = itertools.count(1)
ends_at, end = int(os.environ.get("ENDS_AT", "0")), int(os.environ.get("ENDS_BY", "0"))

def ship(row):
    is_last, is_early = next(calls) == ends_at, random.random() < 0.5
    if is_last and is_early:
        os.kill(os.getpid(), end)
    os.write(ledger, f"{row.data['order']}\\n".encode())
    if is_last and not is_early:
        os.kill(os.getpid(), end)
    time.sleep(random.random() * PACE_S)
    return row.data["street"].upper()

PACE_S = float(os.environ["PACE_S"])
orders = journal.read_rows("orders.csv")
with journal.open_job("jobs/ship", orders, key="order", shard=sys.argv[1]) as job:
    report = job.run(ship)
sys.exit(report.exit_code)
"""

WAYS = ("cancel", "requeue", "kill", "kill and requeue", "stop")


class Array:
    """A set of shards in a directory, its input, and the ledger of its calls."""

    def __init__(self, directory: Path, rows: int, shards: int, pace_s: float) -> None:
        self.directory = directory
        self.rows = rows
        self.shards = shards
        self.tally: Counter[str] = Counter()
        (directory / "processes").mkdir()
        (directory / "ledger").touch()
        (directory / "task.py").write_text(TASK)
        (directory / "array.sh").write_text(SCRIPT.format(python=sys.executable, shards=shards))
        numbers = random.sample(range(10 * rows), rows)
        with (directory / "orders.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["order", "street"])
            writer.writerows([f"A-{number}", f"street {number}"] for number in numbers)
        self.environment = {**os.environ, "PYTHONPATH": str(TOP), "PACE_S": str(pace_s)}

    def journal(self, *words: str, exit_code: int = 0, given: str = "") -> str:
        """Run the command ``journal``, and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "journal", *words],
            cwd=self.directory,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == exit_code, f"{words}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def called(self) -> Counter[str]:
        return Counter((self.directory / "ledger").read_text().split())

    def check(self, root: str = "jobs") -> dict[int, str]:
        """Compare the rows with the ledger. Return the rows in doubt: their keys by number.

        Raises AssertionError.
        """
        called = self.called()
        assert set(called.values()) <= {1}, called.most_common(3)
        in_doubt = {}
        known = set()
        for path in sorted((self.directory / root / "ship").iterdir()):
            with JobService(self.directory / root, sync="none") as service:
                for row in service.get_rows(f"ship/{path.name}"):
                    key = str(row.data["order"])
                    known.add(key)
                    if row.status is RowStatus.COMPLETED:
                        assert called[key] == 1, f"{key} is completed, and was never called"
                    elif row.status in {RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW}:
                        in_doubt[row.row_number] = key
                    else:
                        assert called[key] == 0, f"{key} was called, and is {row.status}"
        assert called.keys() <= known
        return in_doubt

    def settle(self) -> None:
        """Settle the rows in review by the ledger, as a person would."""
        called = self.called()
        in_doubt = self.check()
        done = [number for number, key in in_doubt.items() if called[key]]
        undone = [number for number, key in in_doubt.items() if not called[key]]
        settled = ("--completed", "--result", '"settled"')
        for numbers, outcome in ((done, settled), (undone, ("--retry",))):
            if numbers:
                given = "".join(f"{number}\n" for number in numbers)
                self.journal("resolve", "ship", "--row", "-", *outcome, given=given)
        self.tally["rows in doubt: done"] += len(done)
        self.tally["rows in doubt: not done"] += len(undone)

    def check_end(self) -> None:
        """Check that each row was called once, and that the table of the set is the input's."""
        assert self.check() == {}
        assert len(self.called()) == self.rows
        exported = self.journal("export", "ship", "-", "--columns", "order,street,result")
        table = [*csv.reader(exported.splitlines())][1:]
        with (self.directory / "orders.csv").open(newline="") as file:
            orders = [*csv.reader(file)][1:]
        assert [row[:2] for row in table] == orders
        settled = [row for row in table if row[2] == "settled"]
        assert len(settled) == self.tally["rows in doubt: done"]
        assert all(row[2] in {row[1].upper(), "settled"} for row in table)


def run_array(slurm: Slurm, array: Array, tasks: str, kills: int) -> None:
    """Submit an array, kill tasks at random, and wait until none is left."""
    slurm.run(
        *("sbatch", f"--array={tasks}", "--requeue", "--open-mode=append", "--output=%A_%a.out"),
        "array.sh",
        cwd=array.directory,
    )
    while kills and slurm.queued():
        time.sleep(random.random() * 0.5)
        running = slurm.running()
        if running:
            way = random.choice(WAYS)
            _end(slurm, array, random.choice(running), way)
            array.tally[way] += 1
            kills -= 1
    slurm.wait()


def _end(slurm: Slurm, array: Array, task: str, way: str) -> None:
    with suppress(subprocess.CalledProcessError, ProcessLookupError, FileNotFoundError, ValueError):
        if way.startswith("kill") or way == "stop":
            process = int((array.directory / "processes" / task.partition("_")[2]).read_text())
            if b"task.py" not in Path(f"/proc/{process}/cmdline").read_bytes():
                return  # the task has ended, or its shell is still there
            os.kill(process, signal.SIGTERM if way == "stop" else signal.SIGKILL)
        if way == "cancel":
            slurm.run("scancel", task)
        if way.endswith("requeue"):
            slurm.run("scontrol", "requeue", task)


def run_on_slurm(
    directory: Path,
    *,
    rows: int,
    shards: int,
    kills: int,
    pace_s: float = 0.02,
    say: Callable[[str], object] = lambda _: None,
) -> Counter[str]:
    """Run a set as arrays of a Slurm until all of its rows are done. Returns what happened."""
    array = Array(directory, rows, shards, pace_s)
    with Slurm() as slurm:
        slurm.environment |= array.environment  # of the tasks, too
        tasks = f"0-{shards - 1}"
        while tasks:
            run_array(slurm, array, tasks, kills)
            array.tally["arrays"] += 1
            say(f"array of {tasks}: {len(array.check())} rows in doubt, {dict(array.tally)}")
            kills //= 2
            tasks = array.journal("shards", "ship", "--open").strip()
            if not tasks:
                array.settle()
                tasks = array.journal("shards", "ship", "--open").strip()
    array.check_end()
    return array.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    if why_not := why_no_slurm():
        parser.error(why_not)
    print(f"seed {given.seed}")
    random.seed(given.seed)
    size = {"rows": given.rows, "shards": given.shards, "kills": given.kills}
    with tempfile.TemporaryDirectory() as directory:
        begin = time.monotonic()
        tally = run_on_slurm(Path(directory), **size, say=print)
        seconds = time.monotonic() - begin
    print(f"{given.rows} rows, each once; the table is the input's; {dict(tally)}; {seconds:.0f} s")


if __name__ == "__main__":
    main()
