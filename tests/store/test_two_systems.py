"""A job that programs for Linux and for Windows want to write at the same time.

Here, locks of bytes that this process takes stand for the commit lock of a program under wine.
``tests/windows/two_systems.py`` tries the same with a real one.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.platforms import NOT_HERE

from journal import JobBusyError, JobService, StorageError
from journal.fs import system
from journal.repair import repair_job

if sys.platform != "linux":
    pytest.skip(f"{NOT_HERE}flock beside locks of bytes", allow_module_level=True)

import fcntl

from journal.fs.claims import FIRST_BYTE
from journal.fs.handles import JournalFile

JOB = "shared"
REFUSED = "another program has locked it, for example a Windows program under wine"
TAIL = b'{"type":"row_status","row":1,"sta'


class Other:
    """A program under wine, which has a file open, and may lock it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb+")

    def close(self) -> None:
        self._file.close()

    def lock(self) -> None:
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK))

    def may_not_lock(self) -> bool:
        found = fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK))
        return bool(struct.unpack("hhqqi", found)[0] != fcntl.F_UNLCK)


def _flock(kind: int) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, FIRST_BYTE, 2, 0)


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> JobService:
    """A store with a job that no program has open yet."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Shared", job_id=JOB, row_data=[{"data": {"n": 1}}])
        service.start_job(JOB)
    return JobService(tmp_path, sync="none")


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path, service: JobService) -> Path:
    del service
    return tmp_path / JOB / "journal.jsonl"


CHANGES: dict[str, Callable[[JobService], object]] = {
    "a commit": lambda service: service.set_error(JOB, "E", "an error"),
    "a deletion": lambda service: service.delete_job(JOB),
    "a repair": lambda service: repair_job(service.artifacts_dir(JOB).parent),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_windows_program_writes_is_read_and_not_changed(
    service: JobService, path: Path, change: Callable[[JobService], object]
) -> None:
    with path.open("ab") as half:  # a commit that the other program is writing
        half.write(TAIL)
    before = path.read_bytes()
    with service, closing(Other(path)) as other:
        other.lock()
        with pytest.raises(StorageError, match=REFUSED):
            change(service)
        assert path.read_bytes() == before
        job = service.get_job(JOB)
        assert job is not None
        assert job.total_rows == 1
        assert not other.may_not_lock()  # who was refused keeps nobody out
        other.close()
        change(service)


def test_a_damaged_journal_that_a_windows_program_has_open_is_not_repaired(path: Path) -> None:
    damaged = path.read_bytes().replace(b'"n":1', b'"n":2')
    path.write_bytes(damaged)
    with closing(Other(path)) as other:
        other.lock()
        with pytest.raises(StorageError, match=REFUSED):
            repair_job(path.parent)
        assert path.read_bytes() == damaged
    assert repair_job(path.parent).actions


def test_a_writer_keeps_its_claim_and_a_reader_has_none(service: JobService, path: Path) -> None:
    with closing(Other(path)) as other:
        with service:
            assert service.get_job(JOB) is not None
            assert not other.may_not_lock()
            for text in ("one", "two"):
                service.set_error(JOB, "E", text)
                assert other.may_not_lock()
        assert not other.may_not_lock()


def test_a_new_job_and_a_rewritten_journal_are_claimed(service: JobService, path: Path) -> None:
    with service:
        service.create_job("New", job_id="new", row_data=[{"data": {"n": 1}}])
        service.start_job("new")
        with closing(Other(service.root / "new" / path.name)) as other:
            assert other.may_not_lock()
        service.set_error(JOB, "E", "one")
        os.link(path, path.with_name("link"))  # so the next commit writes a copy
        service.set_error(JOB, "E", "two")
        assert path.stat().st_nlink == 1
        with closing(Other(path)) as other:
            assert other.may_not_lock()


def test_a_job_that_a_run_under_wine_works_on_is_not_run(service: JobService, path: Path) -> None:
    run_lock = path.with_name("run.lock")
    run_lock.write_text('{"host":"there","pid":3,"started_at":"2026-01-01T00:00:00Z"}\n')
    with service, closing(Other(run_lock)) as other:
        other.lock()
        with pytest.raises(JobBusyError, match="process 3 on there"), service.hold_run(JOB):
            pass
        other.close()
        with service.hold_run(JOB):
            assert service.holds_run(JOB)


def test_two_writers_of_one_system_take_turns(service: JobService, path: Path) -> None:
    with service, JobService(service.root, sync="none") as second:
        for text in ("one", "two"):
            service.set_error(JOB, "E", text)
            second.set_error(JOB, "E", text)


class OtherLocks:
    """The module ``fcntl`` on a file system with other locks."""

    def __init__(self, *, refuses_bytes: bool = False, mixes: bool = False) -> None:
        self._refuses_bytes, self._mixes = refuses_bytes, mixes

    def __getattr__(self, name: str) -> int:
        number: int = getattr(fcntl, name)
        return number

    def fcntl(self, fd: int, command: int, argument: bytes) -> bytes:
        if self._refuses_bytes:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return fcntl.fcntl(fd, command, argument)

    def flock(self, fd: int, operation: int) -> None:
        """With ``mixes``, the lock of the file is the lock of all its bytes."""
        with closing(Other(Path(f"/proc/self/fd/{fd}"))) as other:
            if self._mixes and other.may_not_lock():
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        fcntl.flock(fd, operation)


@pytest.mark.parametrize("locks", [OtherLocks(refuses_bytes=True), OtherLocks(mixes=True)])
def test_where_claims_do_not_work_there_are_none(
    path: Path, locks: OtherLocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "fcntl", locks)
    with closing(Other(path)) as other, closing(JournalFile(path)) as file:
        assert file.try_lock()
        file.claim()
        assert not other.may_not_lock()
