"""Many processes that complete rows of one job, each row in a synced commit; and pools.

``python -m benchmarks.processes SIDE ROOT FIRST STEP SECONDS ROWS`` is one of these processes. It prints
how long each of its commits took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import journal
from benchmarks.ours import complete_rows, create, open_service
from benchmarks.peers.sqlite import SqliteJobs, json_texts
from benchmarks.setting import JOB, Clock, Setting, row_dicts

SECONDS = 2.0
_ROWS = 60_000  # more than all processes complete in that time


def _sqlite(root: Path) -> SqliteJobs:
    return SqliteJobs(root / "peer.db", "FULL")


def durations(setting: Setting, side: str, processes: int) -> list[float]:
    """How long each commit of all processes took, in seconds, sorted."""
    rows = setting.count(_ROWS, 2_000)
    processes = min(processes, rows // 1_000)
    seconds = max(SECONDS * rows / _ROWS, 0.05)
    with setting.fresh() as root:
        if side == "ours":
            with open_service(root) as service:
                create(service, rows)
        else:
            with closing(_sqlite(root)) as peer:
                peer.create(JOB, json_texts(row_dicts(rows)))
        arguments = [sys.executable, "-m", "benchmarks.processes", side, str(root)]
        children = [
            subprocess.Popen(
                [*arguments, str(first), str(processes), str(seconds), str(rows)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in range(1, processes + 1)
        ]
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()  # it is ready
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        took = [json.loads(child.communicate()[0]) for child in children]
    return sorted(one for each in took for one in each)


def a_commit(setting: Setting, side: str, processes: int) -> float:
    """The time of all processes together, divided by the number of commits. Seconds."""
    took = durations(setting, side, processes)
    return sum(took) / processes / len(took)


def slowest_percent(setting: Setting, side: str, processes: int) -> float:
    """The time that 99 of 100 commits don't exceed. Seconds."""
    took = durations(setting, side, processes)
    return took[len(took) * 99 // 100]


def _complete(side: str, root: Path, first: int, step: int, seconds: float, rows: int) -> None:
    if side == "ours":
        service = open_service(root, "commit")
        service.get_job(JOB)

        def one(row_id: str) -> None:
            complete_rows(service, [row_id])
    else:
        one = _sqlite(root).complete_row
    took = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    begin_s = end_s = time.perf_counter()
    for number in range(first, rows + 1, step):
        one(f"{JOB}:{number}")
        before_s, end_s = end_s, time.perf_counter()
        took.append(end_s - before_s)
        if end_s - begin_s >= seconds:
            break
    sys.stdout.write(json.dumps(took) + "\n")


# --- pools


def do_nothing(_row: Any) -> None:
    """The handler, and what the bare executor calls."""


def run_pool(setting: Setting, rows: int, workers: int) -> float:
    """All rows of a job through a pool of processes, synced. Seconds a row."""
    count = setting.count(rows)
    with (
        setting.fresh() as root,
        journal.open_job(root / JOB, row_dicts(count), key="order") as job,
        Clock() as clock,
    ):
        report = job.run(do_nothing, partial(ProcessPoolExecutor, workers))
        assert report.completed == count
    return clock.s / count


def bare_pool(setting: Setting, rows: int, workers: int) -> float:
    """The same without a record: ``submit`` for each row, then ``result``. Seconds a row."""
    data = list(row_dicts(setting.count(rows)))
    with Clock() as clock, ProcessPoolExecutor(workers) as pool:
        for future in [pool.submit(do_nothing, each) for each in data]:
            future.result()
    return clock.s / len(data)


if __name__ == "__main__":
    side, root, first, step, seconds, rows = sys.argv[1:]
    _complete(side, Path(root), int(first), int(step), float(seconds), int(rows))
