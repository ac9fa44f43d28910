"""What ``limit_per`` costs: ``python -m benchmarks.limits_by_key --rows 1000000``.

Runs a handler that does nothing, unsynced, with 64 workers and ``limit_per={"key": 2}``. Compares a
run in which the rows of one key hang with one in which none does, and the memory of each with that
of a run without ``limit_per``. Each run is in a process of its own, and time ends when the last row
of the other keys has been handled.

- even: 1,000 keys with as many rows each.
- skewed: the first 90% of the rows have the same key, which hangs.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import journal
from benchmarks.child import growth, resident_bytes

HANGS = "key-0"
LIMIT = 2
WORKERS = 64


class Case(NamedTuple):
    shape: str
    is_limited: bool = False
    hangs: bool = False

    def __str__(self) -> str:
        limit = f"limit_per {LIMIT}" if self.is_limited else "no limit_per"
        return f"{self.shape}, {limit}{', one key hangs' * self.hangs}"


CASES = (
    Case("even"),
    Case("even", is_limited=True),
    Case("even", is_limited=True, hangs=True),
    Case("skewed"),
    Case("skewed", is_limited=True, hangs=True),
)


def keys(shape: str, rows: int, count: int) -> Iterator[str]:
    same = rows * 9 // 10 if shape == "skewed" else 0
    return (f"key-{0 if number < same else number % count}" for number in range(rows))


def run(case: Case, path: Path, others: int) -> dict[str, float]:
    """Run the job. Returns the seconds and CPU seconds until ``others`` rows have been handled, and
    the memory of the run in bytes.
    """
    handled = itertools.count(1)
    release = threading.Event()
    ends: list[tuple[float, float]] = []

    def handle(row: Any) -> None:
        if case.hangs and row.data["key"] == HANGS:
            release.wait()
        elif next(handled) == others:
            ends.append((perf_counter(), process_time()))
            job.stop()  # the rows that wait for the key that hangs are left
            release.set()

    options: dict[str, Any] = {"workers": WORKERS, "tell": lambda _text: None}
    if case.is_limited:
        options["limit_per"] = {"key": LIMIT}
    few = path.with_name("few")  # what a first run allocates once
    with journal.open_job(few, ({"key": str(n)} for n in range(100)), sync="none") as job:
        job.run(lambda _row: None, **options)
    with journal.open_job(path, sync="none") as job:
        gc.collect()
        before, begin = resident_bytes("VmRSS"), (perf_counter(), process_time())
        job.run(handle, **options)
        bytes_more = growth("VmHWM", before)
    (end,) = ends
    return {"s": end[0] - begin[0], "cpu_s": end[1] - begin[1], "bytes": bytes_more}


def measure(case: Case, made: Path, others: int) -> dict[str, float]:
    """Run a copy of the job in a process of its own."""
    copy = Path(shutil.copytree(made, made.with_name("copy")))
    try:
        command = [sys.executable, "-m", __spec__.name, "--child", json.dumps([*case, others])]
        done = subprocess.run(
            [*command, "--dir", str(copy)], stdout=subprocess.PIPE, text=True, check=True
        )
        measured: dict[str, float] = json.loads(done.stdout)
        return measured
    finally:
        shutil.rmtree(copy)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dir", type=Path, help="where to work; default: a temporary directory")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        shape, is_limited, hangs, others = json.loads(given.child)
        print(json.dumps(run(Case(shape, is_limited, hangs), given.dir / "j", others)))
        return 0
    figures: dict[Case, list[dict[str, float]]] = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory(dir=given.dir) as directory:
        others = {}
        for shape in ("even", "skewed"):
            rows = ({"key": key} for key in keys(shape, given.rows, given.keys))
            journal.open_job(Path(directory) / shape / "j", rows, sync="none").close()
            others[shape] = sum(key != HANGS for key in keys(shape, given.rows, given.keys))
        for _ in range(given.rounds):
            for case in CASES:
                count = others[case.shape] if case.hangs else given.rows
                one = measure(case, Path(directory) / case.shape, count)
                figures[case].append({name: value / count for name, value in one.items()})
                figures[case][-1]["bytes"] = one["bytes"] / given.rows
    return report(figures)


def report(figures: dict[Case, list[dict[str, float]]]) -> int:
    """Print the medians and whether they keep to the goals; 1 if they don't."""
    median = {
        case: {name: statistics.median(one[name] for one in ones) for name in ones[0]}
        for case, ones in figures.items()
    }
    for case, one in median.items():
        print(
            f"{case!s:40} {one['s'] * 1e6:8.1f} us a row {one['cpu_s'] * 1e6:8.1f} us of CPU "
            f"{one['bytes']:8.1f} bytes a row"
        )
    even, limited, hanging, skewed, skewed_hanging = (median[case] for case in CASES)
    ratio = limited["s"] / hanging["s"]
    more = max(
        hanging["bytes"] - even["bytes"],
        limited["bytes"] - even["bytes"],
        skewed_hanging["bytes"] - skewed["bytes"],
    )
    print(f"throughput while a key hangs: {ratio:.2f} of that without (goal: at least 0.9)")
    print(f"memory for limit_per: {more:.1f} bytes a row more (goal: at most 8)")
    return 0 if ratio >= 0.9 and more <= 8 else 1


if __name__ == "__main__":
    sys.exit(main())
