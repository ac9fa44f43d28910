"""What stands in for the calls of POSIX on Windows."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from support.children import Child, journal_path, read_all
from support.copies import staging_of
from support.paths import TESTS
from support.platforms import needs_windows, not_under_wine

from journal import (
    InvalidValueError,
    JobBusyError,
    JobNotFoundError,
    JobService,
    RowStatus,
)
from journal.fs import files, handles, locks, output_files, safe_paths, system
from journal.store.run_lock import RunLock

pytestmark = needs_windows

JOB = "demo"
APPENDING = system.os.O_RDWR | system.os.O_APPEND | system.os.O_CREAT


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> JobService:
    service = JobService(tmp_path)
    service.create_job("Demo", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(9)])
    return service


def test_what_is_appended_comes_to_the_end_whatever_others_read_or_truncate(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fd = system.os.open(path, APPENDING)
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            system.os.pread(fd, 7, 3)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1000):
        system.os.write(fd, b"%06d\r\n" % number)
        system.os.write(fd, b"not this")
        system.os.ftruncate(fd, 8 * (number + 1))
    stop.set()
    for reader in readers:
        reader.join()
    system.os.close(fd)
    assert path.read_bytes() == b"".join(b"%06d\r\n" % number for number in range(1000))


def test_a_read_beyond_the_end_is_short_and_a_write_at_an_offset_stays_there(
    tmp_path: Path,
) -> None:
    fd = system.os.open(tmp_path / "file", system.os.O_RDWR | system.os.O_CREAT)
    assert system.os.pwrite(fd, b"at two", 2) == 6
    assert system.os.pread(fd, 100, 0) == b"\0\0at two"
    assert system.os.pread(fd, 100, 8) == b""
    assert system.os.pread(fd, 3, 2) == b"at "
    system.os.close(fd)


def test_a_locked_file_can_be_read_and_written_by_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = handles.JournalFile(path, create=True)
    file.append(b"one\n")
    assert file.try_lock()
    child = (
        "file = open(root, 'ab'); file.write(b'two\\n'); file.close(); tell(len(open(root).read()))"
    )
    with Child(child, path, JOB) as other:
        assert other.hear() == "8"
    second = handles.JournalFile(path)
    assert not second.try_lock()
    file.unlock()
    assert second.try_lock()
    second.close()
    file.close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = """
    from pathlib import Path
    from journal.fs.locks import DirectoryLock
    lock = DirectoryLock(Path(root))
    tell(lock.try_lock())
    hear()
    """
    lock = locks.DirectoryLock(tmp_path)
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "True"
        assert not lock.try_lock()
        child.kill()
        assert locks.wait_for_lock(lock, 60)
    lock.close()


def test_a_file_that_others_read_is_replaced_and_they_read_on(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    reader = handles.DerivedFile(old)
    files.rename(new, old)
    assert old.read_bytes() == b"new"
    assert reader.read_at(0, 9) == b"old"
    reader.close()
    assert os.listdir(tmp_path) == ["old"]


@pytest.mark.parametrize(
    "name",
    ["aux", "Con.txt", "LPT1.a.b", "nul ", "a:b", "a?", 'a"b', "dot.", "space ", "a\tb", "x" * 256],
)
def test_a_name_that_means_something_else_to_windows_is_refused(tmp_path: Path, name: str) -> None:
    below = safe_paths.Below(tmp_path)
    with pytest.raises(OSError, match="Windows allows no file of the name"):
        below.write(name, [b"text"])
    assert not below.exists(name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["auxiliary", "com", "com10.txt", ".hidden", "a.b c", "é"])
def test_a_name_that_is_like_those_is_allowed(tmp_path: Path, name: str) -> None:
    below = safe_paths.Below(tmp_path)
    below.write(name, [b"text"])
    assert below.is_file(name)
    assert os.listdir(tmp_path) == [name]


def test_an_output_goes_to_a_path_with_a_drive_and_either_separator(tmp_path: Path) -> None:
    there = tmp_path / "a"
    there.mkdir()
    for path in (f"{there}\\x", f"{there.as_posix()}/y", f"{there}/../a/./z"):
        assert output_files.real_path(path).parent == there
    whole = output_files.whole_file(f"{there.as_posix()}/")
    with pytest.raises(InvalidValueError, match="is a directory's name"), whole:
        pass


def test_a_job_is_deleted_while_others_read_it(service: JobService, tmp_path: Path) -> None:
    script = """
    service = JobService(root)
    tell(len(service.get_rows(job_id)))
    hear()
    tell(service.get_job(job_id))
    """
    (tmp_path / JOB / "artifacts").mkdir()
    (tmp_path / JOB / "artifacts" / "a.txt").write_text("text")
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "9"
        assert service.delete_job(JOB)
        assert not journal_path(tmp_path, JOB).exists()
        assert list(service.store.job_ids()) == []
        child.tell("look")
        assert child.hear() == "None"
    service.create_job("Demo", job_id=JOB)
    assert list(service.store.job_ids()) == [JOB]
    service.close()


@not_under_wine
def test_what_another_program_has_open_stays_when_its_job_is_deleted(
    service: JobService, tmp_path: Path
) -> None:
    kept = tmp_path / JOB / "artifacts" / "kept.txt"
    kept.parent.mkdir()
    kept.write_text("text")
    with kept.open():  # without FILE_SHARE_DELETE
        assert service.delete_job(JOB)
    assert service.get_job(JOB) is None
    assert kept.read_text() == "text"
    service.close()


def test_a_run_whose_lock_file_was_deleted_has_lost_its_lock(
    service: JobService, tmp_path: Path
) -> None:
    run = RunLock.take(tmp_path / JOB, JOB)
    with pytest.raises(JobBusyError):
        RunLock.take(tmp_path / JOB, JOB)
    system.os.rename(tmp_path / JOB / "run.lock", tmp_path / "away")
    assert run.why_lost()
    other = RunLock.take(tmp_path / JOB, JOB)
    assert not other.why_lost()
    other.release()
    run.release()
    service.close()


def test_who_only_looks_makes_no_lock_file(service: JobService, tmp_path: Path) -> None:
    assert service.run_holder(JOB) is None
    assert not (tmp_path / JOB / "run.lock").exists()
    service.close()


def test_a_staged_job_is_no_leftover_while_its_maker_lives(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    lock = locks.DirectoryLock(staged, to_rename=True)
    assert lock.try_lock()
    other = locks.DirectoryLock(staged, to_rename=True)
    assert not other.try_lock()
    other.close()
    files.rename(staged, tmp_path / "job")
    lock.close()
    assert os.listdir(tmp_path) == ["job"]


def test_jobs_are_listed_and_read_while_another_process_makes_and_deletes_them(
    tmp_path: Path,
) -> None:
    script = """
    sys.path.append(sys.argv[3])
    from support.pipes import ready
    turns = 0
    with JobService(root) as service:
        while not ready([0], 0):
            for number in range(3):
                service.create_job("x", job_id=f"job-{number}", row_data=[{"data": {"n": 1}}])
            for number in range(3):
                assert service.delete_job(f"job-{number}")
            turns += 1
    tell("did", turns)
    """
    with Child(script, tmp_path, JOB, TESTS) as child, JobService(tmp_path) as service:
        seen = 0
        while seen < 20:
            for job in service.list_jobs():
                assert job.total_rows == 1
                seen += 1
                with suppress(JobNotFoundError):
                    assert len(service.get_rows(job.id)) == 1
        child.tell("enough")
        assert child.hear().startswith("did ")
    with JobService(tmp_path) as service:  # the next writer removes what couldn't be removed
        service.create_job("last")
    assert staging_of(tmp_path) == []


def test_line_ends_and_ctrl_z_are_bytes_like_others(service: JobService, tmp_path: Path) -> None:
    service.complete_row(f"{JOB}:1", "a\r\nb\x1ac")
    service.close()
    assert b"\r" not in journal_path(tmp_path, JOB).read_bytes()
    row = read_all(tmp_path, JOB)[1][0]
    assert (row.status, row.tracking_number) == (RowStatus.COMPLETED, "a\r\nb\x1ac")


def test_a_name_may_have_characters_of_two_utf_16_units(tmp_path: Path) -> None:
    top = tmp_path / "\U0001f600\U0001f601\U0001f602"
    top.mkdir()
    (top / "old").write_bytes(b"text")
    files.rename(top / "old", top / "\U0001f603\U0001f604")
    assert os.listdir(top) == ["\U0001f603\U0001f604"]


@pytest.mark.parametrize("names", [[], ["file"]])
def test_no_file_takes_the_place_of_a_directory(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "directory").mkdir()
    for name in names:
        (tmp_path / "directory" / name).write_bytes(b"text")
    (tmp_path / "new").write_bytes(b"new")
    with pytest.raises(OSError, match=r"directory|denied"):
        files.rename(tmp_path / "new", tmp_path / "directory")
    assert sorted(os.listdir(tmp_path)) == ["directory", "new"]
    assert os.listdir(tmp_path / "directory") == names


@pytest.mark.parametrize("job_id", ["x\\y", "x/y", "C:x", "C:/x", "..\\x", "x:y"])
def test_no_job_id_leads_out_of_the_store(tmp_path: Path, job_id: str) -> None:
    with JobService(tmp_path) as service, pytest.raises(InvalidValueError, match="job_id"):
        service.get_job(job_id)
