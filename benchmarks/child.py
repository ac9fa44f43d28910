"""What has to be measured in a process of its own: ``python -m benchmarks.child TASK PATH [ROWS]``.

Prints one figure, in seconds or bytes. Memory is the resident set, which counts what the
extensions allocate and what is mapped, too; only Linux tells it.
"""

from __future__ import annotations

import gc
import json
import resource
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import journal
from benchmarks.ours import Undone, create, open_service, ship
from benchmarks.peers.sqlite import SqliteJobs, json_texts
from benchmarks.setting import JOB, Clock, row_dicts

STATUS_FILE = Path("/proc/self/status")


def resident_bytes(key: str) -> int:
    """``VmRSS`` is the set as it is now, ``VmHWM`` its peak since the process began."""
    for line in STATUS_FILE.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(key)


def growth(key: str, before: int) -> int:
    """By how many bytes since; what is less than a page can't be told."""
    return max(resident_bytes(key) - before, resource.getpagesize())


def open_job(root: Path, key: str) -> int:
    with open_service(root.parent / "none") as service:  # what a first call allocates once
        service.get_job(JOB)
    gc.collect()
    before = resident_bytes("VmRSS")
    with open_service(root) as service:
        service.get_job_summary(JOB)
        row = service.get_pending_rows(JOB)[0]
        with suppress(Undone), service.batch(JOB):  # a change reads the columns of the hint
            service.start_row(row.id)
            raise Undone
        gc.collect()
        return growth(key, before)


def create_rows(root: Path, rows: int) -> int:
    with open_service(root) as service:
        service.create_job("Benchmark", job_id="first")
        before = resident_bytes("VmRSS")
        create(service, rows)
        return growth("VmHWM", before)


def run(root: Path, rows: int) -> int:
    with journal.open_job(root / JOB, row_dicts(rows)) as job:
        job.run(ship, max_rows=100, tell=lambda _text: None)  # what a first run allocates once
        gc.collect()
        before = resident_bytes("VmRSS")
        job.run(ship, workers=4)
        return growth("VmHWM", before)


def create_rows_in_sqlite(directory: Path, rows: int) -> int:
    peer = SqliteJobs(directory / "peer.db", "NORMAL")
    before = resident_bytes("VmRSS")
    peer.create(JOB, json_texts(row_dicts(rows)))
    return growth("VmHWM", before)


def list_jobs(root: Path) -> float:
    with Clock() as clock:
        service = open_service(root)
        jobs = service.list_jobs(limit=50)
    assert len(jobs) == 50
    return clock.s


def list_status(root: Path) -> float:
    with Clock() as clock:
        service = open_service(root)
        jobs = service.list_jobs("paused", limit=50)
    assert not jobs
    return clock.s


def list_jobs_in_sqlite(directory: Path) -> float:
    with Clock() as clock:
        connection = sqlite3.connect(directory / "peer.db")
        jobs = connection.execute(
            "SELECT * FROM jobs ORDER BY created_at DESC, id DESC LIMIT 50"
        ).fetchall()
    assert len(jobs) == 50
    return clock.s


def main() -> None:
    task, path = sys.argv[1], Path(sys.argv[2])
    rows = int(sys.argv[3]) if sys.argv[3:] else 0
    tasks: dict[str, Callable[[], float]] = {
        "open-held": lambda: open_job(path, "VmRSS"),
        "open-peak": lambda: open_job(path, "VmHWM"),
        "run": lambda: run(path, rows),
        "create-rows": lambda: create_rows(path, rows),
        "create-rows-sqlite": lambda: create_rows_in_sqlite(path, rows),
        "list-jobs": lambda: list_jobs(path),
        "list-status": lambda: list_status(path),
        "list-jobs-sqlite": lambda: list_jobs_in_sqlite(path),
    }
    print(json.dumps(tasks[task]()))


if __name__ == "__main__":
    main()
