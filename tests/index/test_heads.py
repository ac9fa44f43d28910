"""A listing of many jobs opens those that have changed, and is right whatever became of its hint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from zlib import crc32

import pytest
from support.children import FaultyOs, fails, journal_path
from support.platforms import needs_boot_ids

import journal.fs.system
from journal import JobService, JobStatus, JournalError
from journal.fs.names import HEADS_NAME

pytestmark = needs_boot_ids  # a listing trusts its hint within one boot only

JOBS = 120


@pytest.fixture(name="ages")
def fixture_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the listings is ten seconds ahead, so that all files look older."""
    real = journal.fs.system.now_ns
    monkeypatch.setattr(journal.fs.system, "now_ns", lambda: real() + 10**10)


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path, ages: None) -> Path:
    root = tmp_path / "store"
    with JobService(root, sync="none") as service:
        for number in range(JOBS):
            service.create_job(f"Job {number}", job_id=f"j{number}")
            if number % 3 == 0:
                service.start_job(f"j{number}")
    assert len(listed(root, "running")) == JOBS // 3
    assert (root / HEADS_NAME).exists()
    return root


def listed(root: Path, status: str | None = None) -> list[str]:
    with JobService(root, sync="none") as service:
        return [job.id for job in service.list_jobs(status, limit=None)]


def opened(root: Path, status: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The jobs whose journals a listing opens."""
    system = FaultyOs()
    with monkeypatch.context() as patch:
        patch.setattr("journal.fs.system.os", system)
        listed(root, status)
    paths = [Path(arguments[0]) for name, arguments in system.calls if name == "open"]
    return {path.parent.name for path in paths if path.name == "journal.jsonl"}


def test_jobs_that_have_not_changed_are_not_opened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(root, "failed", monkeypatch) == set()
    with JobService(root, sync="none") as service:
        service.start_job("j1")
    assert opened(root, "failed", monkeypatch) == {"j1"}


@pytest.mark.parametrize("status", ["pending", "running", "cancelled", None])
def test_a_listing_is_the_same_with_the_hint_as_without(root: Path, status: str | None) -> None:
    with JobService(root, sync="none") as service:
        service.update_status("j5", "cancelled")
        service.delete_job("j7")
        service.create_job("Young", job_id="young")
    found = listed(root, status)
    (root / HEADS_NAME).unlink()
    assert listed(root, status) == found
    assert ("young" in found) == (status in (None, "pending"))
    assert ("j5" in found) == (status in (None, "cancelled"))
    assert "j7" not in found


def test_a_job_that_has_taken_the_place_of_another_is_read(root: Path) -> None:
    path = journal_path(root, "j1")
    path.write_bytes(journal_path(root, "j0").read_bytes().replace(b'"j0"', b'"j1"'))
    errors: list[JournalError] = []
    with JobService(root, sync="none") as service:
        service.list_jobs("pending", limit=None, on_error=errors.append)
    assert [str(path) in str(error) for error in errors] == [True]


def test_an_edit_that_keeps_the_size_is_seen(root: Path) -> None:
    path = journal_path(root, "j3")
    content = path.read_bytes()
    stat = path.stat()
    path.write_bytes(content.replace(b'"running"', b'"RUNNING"'))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    errors: list[JournalError] = []
    with JobService(root, sync="none") as service:
        jobs = service.list_jobs("running", limit=None, on_error=errors.append)
    assert "j3" not in [job.id for job in jobs]
    assert len(errors) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"00000000", b"not a hint at all", "half", "flipped"],
)
def test_a_broken_hint_is_made_anew(root: Path, content: bytes | str) -> None:
    path = root / HEADS_NAME
    good = path.read_bytes()
    if content == "half":
        content = good[: len(good) // 2]
    elif content == "flipped":
        status = good.index(b"\n") + 1 + 32 * JOBS + 2  # of the running job j117
        content = good[:status] + bytes([good[status] ^ 3]) + good[status + 1 :]
    assert isinstance(content, bytes)
    path.write_bytes(content)
    assert len(listed(root, "running")) == JOBS // 3
    assert path.read_bytes() != content


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"j5"', b'"./j5"', id="a name that leads to a job and isn't listed"),
        pytest.param(b'"j5",', b"", id="an id less"),
        pytest.param(b'"Job 5",', b"", id="a name less"),
        pytest.param(b"", b"\0", id="a byte more"),
    ],
)
def test_a_hint_whose_heads_are_not_those_of_the_store_is_not_believed(
    root: Path, old: bytes, new: bytes
) -> None:
    path = root / HEADS_NAME
    wanted = listed(root)
    content = path.read_bytes()[8:]
    body = content.replace(old, new) if old else content + new
    assert body != content
    path.write_bytes(b"%08x" % crc32(body) + body)
    assert listed(root) == wanted


def test_a_hint_larger_than_the_memory_is_made_anew(root: Path) -> None:
    os.truncate(root / HEADS_NAME, 1 << 40)
    assert len(listed(root, "running")) == JOBS // 3
    assert (root / HEADS_NAME).stat().st_size < 1 << 20


def test_the_hint_of_another_store_is_not_believed(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    with JobService(copy, sync="none") as service:
        for number in range(0, JOBS, 3):
            service.update_status(f"j{number}", "paused")
    shutil.copy2(root / HEADS_NAME, copy / HEADS_NAME)
    assert listed(copy, "running") == []


def test_after_a_restart_of_the_system_journals_are_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.fs.system, "boot_id", lambda: "another boot")
    assert len(opened(root, "failed", monkeypatch)) == JOBS


def test_a_journal_that_has_just_changed_is_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ctime might not change with its next change."""
    (root / HEADS_NAME).unlink()
    monkeypatch.undo()  # the clock is right again, so all journals are young
    listed(root, "failed")
    assert len(opened(root, "failed", monkeypatch)) == JOBS


def test_while_another_process_writes_the_hint_a_listing_leaves_it_alone(root: Path) -> None:
    (root / HEADS_NAME).unlink()
    new = root / f"{HEADS_NAME}.new"
    new.write_bytes(b"begun")
    with new.open("rb") as file:
        journal.fs.handles.load_filelock().lock_descriptor(file.fileno(), blocking=True)
        assert len(listed(root, "running")) == JOBS // 3
        assert new.read_bytes() == b"begun"
    listed(root, "running")  # its writer has died
    listed(root, "running")
    assert (root / HEADS_NAME).exists()


def test_a_store_that_may_not_be_written_is_listed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / HEADS_NAME).unlink()
    system = FaultyOs()
    system.always("rename", fails(30))
    monkeypatch.setattr("journal.fs.system.os", system)
    assert len(listed(root, JobStatus.RUNNING.value)) == JOBS // 3
    assert not (root / HEADS_NAME).exists()
