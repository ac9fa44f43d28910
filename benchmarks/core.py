"""The core's costs beside a hand-written sqlite3, in one run: ``python benchmarks/core.py``.

Each pair is run in turn, ours and the peer's, seven times; printed are medians and the ratio of
medians. One core is enough: ``taskset -c 0 python benchmarks/core.py``.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from peers import SqliteJobs

from journal import JobService
from journal.log import Log

ROUNDS = 7
DATA = {"order": "A-1", "zip": "94107"}
JOB = "bench"


def ours(root: Path, rows: int, *, sync: bool) -> JobService:
    service = JobService(root, sync="commit" if sync else "none")
    service.delete_job(JOB)
    service.create_job("Benchmark", job_id=JOB)
    service.create_rows(JOB, ({"data": DATA} for _ in range(rows)))
    return service


def time_ours(root: Path, rows: int, *, sync: bool = False, batch: bool = False) -> float:
    """Microseconds a completed row."""
    with ours(root, rows, sync=sync) as service:
        ids = [f"{JOB}:{number}" for number in range(1, rows + 1)]
        begin = time.perf_counter()
        if batch:
            with service.batch(JOB):
                for row_id in ids:
                    service.complete_row(row_id, "1Z999", None, 1250)
        else:
            for row_id in ids:
                service.complete_row(row_id, "1Z999", None, 1250)
        return (time.perf_counter() - begin) / rows * 1e6


def time_sqlite(root: Path, rows: int, synchronous: str, *, index: bool = True) -> float:
    """Microseconds a completed row; ``index`` False: without the index for pending rows."""
    peer = SqliteJobs(root / "peer.db", synchronous)
    if not index:
        peer.connection.execute("DROP INDEX job_rows_by_status")
    peer.create(JOB, ('{"order":"A-1","zip":"94107"}' for _ in range(rows)))
    ids = [f"{JOB}:{number}" for number in range(1, rows + 1)]
    begin = time.perf_counter()
    for row_id in ids:
        peer.complete_row(JOB, row_id, "1Z999", 1250)
    spent = time.perf_counter() - begin
    peer.connection.close()
    return spent / rows * 1e6


def pair(name: str, one: Callable[[], float], other_name: str, other: Callable[[], float]) -> None:
    figures: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        gc.collect()
        figures.append((one(), other()))
    a, b = (statistics.median(column) for column in zip(*figures, strict=True))
    print(f"| {name} | {a:.1f} µs | {other_name}: {b:.1f} µs | {a / b:.2f} |", flush=True)


def replay(root: Path, records: int) -> None:
    """Half rows in one commit, half completions in commits of their own, read back."""
    rows = records // 2
    with ours(root, rows, sync=False) as service:
        for number in range(1, rows + 1):
            service.complete_row(f"{JOB}:{number}", "1Z999", None, 1250)
    figures = []
    for _ in range(ROUNDS):
        log = Log(root / JOB, sync=False, lock_timeout_s=1)
        gc.collect()
        begin = time.perf_counter()
        log.refresh()
        figures.append((time.perf_counter() - begin) / records * 1e6)
    per_record = statistics.median(figures)
    tracemalloc.start()
    log = Log(root / JOB, sync=False, lock_timeout_s=1)
    log.refresh()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    per_row = f"{held / rows:.0f} bytes a row (peak {peak / rows:.0f})"
    print(f"| replay of {records:,} records | {per_record:.2f} µs a record | | |", flush=True)
    print(f"| memory of the open job, {rows:,} rows | {per_row} | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--synced-rows", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--dir", help="where to work; it decides which disk is measured")
    arguments = parser.parse_args()
    rows, synced = arguments.rows, arguments.synced_rows
    print("| work | ours | against | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.dir) as directory:
        root = Path(directory)
        pair(
            "`complete_row`, unsynced",
            lambda: time_ours(root, rows),
            "sqlite3 WAL, NORMAL",
            lambda: time_sqlite(root, rows, "NORMAL"),
        )
        pair(
            "the same",
            lambda: time_ours(root, rows),
            "the same without an index for pending rows",
            lambda: time_sqlite(root, rows, "NORMAL", index=False),
        )
        pair(
            "`complete_row`, synced",
            lambda: time_ours(root, synced, sync=True),
            "sqlite3 WAL, FULL",
            lambda: time_sqlite(root, synced, "FULL"),
        )
        pair(
            "`complete_row` in a `batch`",
            lambda: time_ours(root, rows, batch=True),
            "one at a time, unsynced",
            lambda: time_ours(root, rows),
        )
        replay(root, arguments.records)


if __name__ == "__main__":
    main()
