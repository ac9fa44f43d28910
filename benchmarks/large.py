"""Works about large journals and large stores, beside what they can't do without."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

from benchmarks import ours
from benchmarks.ours import many_jobs, open_service, rebuild, replayable
from benchmarks.peers import sqlite
from benchmarks.setting import JOB, JOURNAL, Clock, Setting, in_child, row_dicts, start_python
from benchmarks.table import MS, US_A_RECORD, US_A_ROW, Goal, Side, Work
from journal.verify import verify_job

RECORDS = 3_000_000
MANY = 1_000_000
JOBS = 10_000


def verify(setting: Setting, records: int, *, batch: bool) -> float:
    """A sound journal verified. Seconds a record."""
    directory = replayable(setting, records, batch=batch) / JOB
    with Clock() as clock:
        report = verify_job(directory)
    assert not report.findings
    return clock.s / report.records


def create_rows_of_their_own(setting: Setting, rows: int) -> float:
    """Rows with a number and a checksum of their own, in one commit. Seconds a row."""
    count = setting.count(rows)
    with setting.fresh() as root, open_service(root) as service:
        service.create_job("Benchmark", job_id=JOB)
        with Clock() as clock:
            service.create_rows(
                JOB,
                (
                    {"row_number": number, "row_checksum": f"{number:064x}", "data": data}
                    for number, data in enumerate(row_dicts(count), 1)
                ),
            )
    return clock.s / count


def row_history(setting: Setting, records: int) -> float:
    """All that a journal holds about one row. Seconds."""
    root = replayable(setting, records, batch=False)
    rows = setting.count(records // 3)
    with open_service(root) as service, Clock() as clock:
        found = service.get_row_history(f"{JOB}:{rows // 2}")
    assert len(found.attempts) == 1
    return clock.s


def read_file(setting: Setting, records: int) -> float:
    """The journal read as bytes. Seconds."""
    path = replayable(setting, records, batch=False) / JOB / "journal.jsonl"
    with path.open("rb", buffering=0) as file, Clock() as clock:
        while file.read(1 << 20):
            pass
    return clock.s


def list_status(setting: Setting, jobs: int) -> float:
    """The jobs of a status that no job has, in a new process. Seconds."""
    return in_child("benchmarks.child", "list-status", str(many_jobs(setting, jobs)))


def look_at_each(setting: Setting, jobs: int) -> float:
    """The directory read, and an lstat of each journal. Seconds."""
    root = os.fspath(many_jobs(setting, jobs))
    with Clock() as clock, os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                os.lstat(f"{root}/{entry.name}/journal.jsonl")
    return clock.s


def packed(setting: Setting, rows: int) -> Path:
    """A directory with the pack ``job.tar.gz`` of a job half done."""
    root = ours.half_done(setting, rows)

    def build(directory: Path) -> None:
        _journal(root, "pack", JOB, "-o", str(directory / "job.tar.gz"))

    return setting.kept(f"packed-{setting.count(rows)}", build)


def pack(setting: Setting, rows: int, *, tar: bool) -> float:
    root = ours.half_done(setting, rows)
    with setting.fresh() as directory, Clock() as clock:
        target = str(directory / "job.tar.gz")
        if tar:
            subprocess.run(("tar", "czf", target, "-C", str(root), JOB), check=True)
        else:
            _journal(root, "pack", JOB, "-o", target)
    return clock.s


def unpack(setting: Setting, rows: int, *, tar: bool) -> float:
    source = str(packed(setting, rows) / "job.tar.gz")
    with setting.fresh() as directory, Clock() as clock:
        if tar:
            subprocess.run(("tar", "xzf", source, "-C", str(directory)), check=True)
        else:
            _journal(directory, "unpack", source)
    return clock.s


def _journal(root: Path, *arguments: str) -> None:
    start_python("-c", JOURNAL, "--root", str(root), *arguments)


def _verifying(name: str, title: str, *, batch: bool) -> Work:
    return Work(
        name,
        f"verify a sound journal, {title}",
        US_A_RECORD,
        Side("**rowjournal**", partial(verify, records=RECORDS, batch=batch)),
        (Side("open without a hint", partial(rebuild, records=RECORDS, batch=batch)),),
        Goal(1.5, ("open without a hint",)),
    )


def _listing(name: str, jobs: int, goal: float, *, full: bool) -> Work:
    return Work(
        name,
        f"a listing: the jobs of {jobs:,} with a status that none has, in a new process",
        MS,
        Side("**rowjournal**", partial(list_status, jobs=jobs)),
        (Side("lstat of each journal", partial(look_at_each, jobs=jobs), floor=True),),
        Goal(goal),
        full_only=full,
    )


LARGE = (
    _verifying("verify-single", "the records in commits of their own", batch=False),
    _verifying("verify-batch", "the records in one batch", batch=True),
    Work(
        "create-rows-own",
        "create_rows from a generator, rows with a number and a checksum of their own",
        US_A_ROW,
        Side("**rowjournal**", partial(create_rows_of_their_own, rows=MANY)),
        (
            Side(
                "sqlite3 executemany, msgspec",
                partial(sqlite.create_rows, rows=MANY, texts="msgspec"),
            ),
        ),
        Goal(0.4, ("sqlite3 executemany, msgspec",)),
    ),
    Work(
        "row-history",
        f"all about one row, in a journal of {RECORDS:,} records",
        MS,
        Side("**rowjournal**", partial(row_history, records=RECORDS)),
        (Side("read the file", partial(read_file, records=RECORDS), floor=True),),
    ),
    _listing("list-status", JOBS, 150, full=False),
    _listing("list-status-full", 10 * JOBS, 3000, full=True),
    Work(
        "pack",
        f"`journal pack` of a job of {MANY:,} rows, the whole process",
        MS,
        Side("**rowjournal**", partial(pack, rows=MANY, tar=False)),
        (Side("tar czf", partial(pack, rows=MANY, tar=True), program="tar"),),
        Goal(1.1, ("tar czf",)),
    ),
    Work(
        "unpack",
        f"`journal unpack` of a job of {MANY:,} rows, the whole process",
        MS,
        Side("**rowjournal**", partial(unpack, rows=MANY, tar=False)),
        (Side("tar xzf", partial(unpack, rows=MANY, tar=True), program="tar"),),
        Goal(1.1, ("tar xzf",)),
    ),
)
