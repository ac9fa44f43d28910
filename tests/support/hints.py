"""Helpers for the tests of hints. A hint is the file in which the index of a job is saved."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.children import Fault, FaultyOs, journal_path
from support.system_os import SYSTEM_OS, path_of

import journal.fs.system
import journal.index.hint
from journal import JobService, RowStatus
from journal.fs.handles import load_filelock

JOB = "hinted"
lock_descriptor = load_filelock().lock_descriptor
DENSE, SPARSE, UNORDERED = range(1, 12), range(10, 120, 10), range(110, 0, -10)


class CountingOs(FaultyOs):
    """Counts the bytes that are read from journals, and can refuse calls on a new hint."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = self.longest_read_bytes = 0
        self.refused: dict[str, Fault] = {}  # by the name of the call

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self.longest_read_bytes = max(self.longest_read_bytes, length)
        data: bytes = SYSTEM_OS.pread(fd, length, offset)
        if path_of(fd).name == "journal.jsonl":
            self.read_bytes += len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        real = super().__getattr__(name)
        if name not in self.refused:
            return real

        def call(what: Any, *rest: Any, **options: Any) -> Any:
            file = (path_of(what) if isinstance(what, int) else Path(what)).name
            if name == "close" and file == "index.hint":  # by then, it has its name
                real(what)
            elif file != "index.hint.new":
                return real(what, *rest, **options)
            return self.refused[name](real)

        return call

    def locking(self, fd: int, **options: Any) -> bool:
        """Replaces the function that takes a lock."""
        if path_of(fd).name == "index.hint.new":
            self.refused["flock"](lock_descriptor)
        return bool(lock_descriptor(fd, **options))


def make_job(root: Path, numbers: range = DENSE, sync: Any = "commit") -> Path:
    """Make a job that uses every part of an index. Return the path of its hint."""
    rows = ({"row_number": n, "data": {"pad": "x" * 500, "n": n}} for n in numbers)
    ids = [f"{JOB}:{n}" for n in numbers]
    with JobService(root, sync=sync) as service:
        service.create_job("Hinted", job_id=JOB, row_data=rows)
        service.start_job(JOB)
        service.start_row(ids[3])
    with JobService(root, sync=sync) as service:
        service.recover_job(JOB, "review")
        with service.batch(JOB):
            service.complete_row(ids[0], "T-1", cost_cents=7)
            service.complete_row(ids[9], "T-10", cost_cents=5)
            service.fail_row(ids[1], "E", "no such address")
            service.retry_row(ids[1])
            service.start_row(ids[1])
            service.skip_row(ids[2])
            service.fail_row(ids[7], "E", "no such address")
            service.update_counts(JOB, total=40, failed=3)
            service.set_error(JOB, "E", "message")
    return root / JOB / "index.hint"


def answers(service: JobService) -> Any:
    """Return all that the service reports about the job."""
    rows = list(service.get_rows(JOB))
    by_status = [list(service.get_rows(JOB, status)) for status in RowStatus]
    single = [service.get_row(row.id) for row in rows]
    pending = service.get_pending_rows(JOB)
    with service.store.reading(JOB) as journal:
        next_due = journal.index.next_due()
    return [
        service.get_job(JOB),
        service.get_job_summary(JOB),
        service.list_jobs(),
        list(pending),
        rows,
        by_status,
        single,
        pending[0] if pending else None,
        next_due,
    ]


def opened(root: Path) -> Any:
    with JobService(root, sync="none") as service:
        return answers(service)


def quick_answers(root: Path) -> Any:
    """Return most of what :func:`answers` returns, in less time."""
    with JobService(root, sync="none") as service:
        return service.get_job_summary(JOB), list(service.get_rows(JOB))


def replayed(root: Path) -> Any:
    """Return the answers about a copy of the job without a hint."""
    copy = root.with_name(f"{root.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("index.hint"))
    return opened(copy)


def is_believed(root: Path, disk: CountingOs) -> bool:
    """Return whether the hint is used: opening the job reads less than half of the journal."""
    before = disk.read_bytes
    with JobService(root, sync="none") as service:
        service.get_job_summary(JOB)
    return disk.read_bytes - before < journal_path(root, JOB).stat().st_size // 2


def edit(path: Path, old: bytes, new: bytes) -> None:
    """Change a file in place, and set its time one second later."""
    content = path.read_bytes()
    assert old in content
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(content.replace(old, new, 1))
    os.utime(path, ns=(before, before + 10**9))


@pytest.fixture(name="disk", autouse=True)
def fixture_disk(monkeypatch: pytest.MonkeyPatch) -> CountingOs:
    """Count reads, and make hints also for small jobs."""
    disk = CountingOs()
    monkeypatch.setattr(journal.fs.system, "os", disk)
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 1)
    return disk


@pytest.fixture(name="hint")
def fixture_hint(tmp_path: Path) -> Path:
    return make_job(tmp_path)
