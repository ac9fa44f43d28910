"""A listing by status reads the ends of each journal, and opens a job only if they don't say enough."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, journal_path, split_commits
from support.system_os import SYSTEM_OS

import journal.fs.system
from journal import JobService, JournalError

STATUSES = {"p": "pending", "r": "running", "d": "completed", "c": "cancelled", "again": "pending"}


class CountingOs(FaultyOs):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0
        self.reads = 0

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        data: bytes = SYSTEM_OS.pread(fd, length, offset)
        self.read_bytes += len(data)
        self.reads += 1
        return data


def make(service: JobService, job_id: str, messages: int = 0) -> None:
    status = STATUSES[job_id]
    service.create_job(job_id, job_id=job_id, row_data=[{"data": {}}])
    for _ in range(messages):
        service.log(job_id, "x" * 300)
    if status != "pending":
        service.start_job(job_id)
    if status not in ("pending", "running"):
        service.update_status(job_id, status)
    if job_id == "again":
        service.update_status(job_id, "cancelled")
        service.reopen_job(job_id)


@pytest.fixture(name="root", params=[0, 50], ids=["small", "large"])
def fixture_root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    with JobService(tmp_path, sync="none") as service:
        for job_id in STATUSES:
            make(service, job_id, request.param)
    return tmp_path


def listed(root: Path, status: Any) -> list[str]:
    with JobService(root, sync="none") as service:
        return [job.id for job in service.list_jobs(status, limit=None)]


def test_a_job_of_another_status_is_read_at_its_ends_only(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = CountingOs()
    monkeypatch.setattr(journal.fs.system, "os", disk)
    assert listed(root, "failed") == []
    # The pending job of many messages has no record of its status near its end: it is opened.
    large = journal_path(root, "p").stat().st_size > 1 << 13
    assert disk.reads <= 2 * len(STATUSES) + 5 * large
    assert disk.read_bytes <= 5 * (len(STATUSES) * 1024 + 4096 * large * 2) + 20_000 * large


def test_rows_after_the_last_record_of_the_status_do_not_hide_it(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        make(service, "r")
        service.create_rows("r", [{"data": {"pad": "x" * 9000}}])
        for number in (1, 2):
            service.start_row(f"r:{number}")
            service.complete_row(f"r:{number}", "T" * 3000)
    assert listed(tmp_path, "running") == ["r"]
    assert listed(tmp_path, "pending") == []


def test_a_job_that_has_taken_the_place_of_another_is_named(root: Path) -> None:
    path = journal_path(root, "p")
    path.write_bytes(journal_path(root, "r").read_bytes())
    errors: list[JournalError] = []
    with JobService(root, sync="none") as service:
        service.list_jobs("pending", limit=None, on_error=errors.append)
    assert [str(path.parent) in str(error) for error in errors] == [True]


def test_an_edit_of_the_status_is_no_status(root: Path) -> None:
    path = journal_path(root, "r")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"running"', b'"pending"'))
    errors: list[JournalError] = []
    with JobService(root, sync="none") as service:
        jobs = service.list_jobs("pending", limit=None, on_error=errors.append)
    assert "r" not in [job.id for job in jobs]
    assert len(errors) == 1


def test_a_torn_tail_after_the_last_commit_changes_no_listing(root: Path) -> None:
    path = journal_path(root, "d")
    last = split_commits(path.read_bytes())[-1]
    with path.open("ab") as file:
        file.write(last[:-30])
    assert listed(root, "completed") == ["d"]
    os.truncate(path, path.stat().st_size - len(last[:-30]) - 1)  # without its last line end
    assert listed(root, "completed") == ["d"]
