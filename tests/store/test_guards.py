"""Guards that only an unlucky moment needs, each brought to that moment."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.children import Child, FaultyOs, journal_path, read_all, split_commits
from support.platforms import needs_directory_syncs, needs_fork, needs_open_files_moved
from support.system_os import SYSTEM_OS, path_of

import journal.fs.system
import journal.store.journal
import journal.store.log
import journal.store.run_lock
from journal import (
    InvalidStateTransition,
    JobLockedError,
    JobNotFoundError,
    JobService,
    JournalDamagedError,
    RowStatus,
    StorageError,
)
from journal.format import torn_tail_or_damage
from journal.fs.locks import DirectoryLock
from journal.repair import repair_job
from journal.repair.salvage import Salvage
from journal.store.run_lock import RunLock

JOB = "guarded"


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """The journal of a job of twelve rows, of which the first five are done."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Guarded", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, 13)])
        for number in range(1, 6):
            service.start_row(f"{JOB}:{number}")
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)
    return journal_path(tmp_path, JOB)


@pytest.mark.parametrize("ending", ["with its LF", "without its LF"])
def test_a_torn_tail_that_becomes_a_commit_of_the_same_length_is_seen(
    path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store.log, "_WINDOW_BYTES", 16)  # the tail is longer
    whole = path.read_bytes().removesuffix(b"\n") if "out" in ending else path.read_bytes()
    path.write_bytes(whole[:-12] + b"x" * 12)
    with JobService(path.parents[1]) as service:
        assert service.get_rows(JOB)[4].status is RowStatus.PROCESSING
        path.write_bytes(whole)
        assert service.get_rows(JOB)[4].status is RowStatus.COMPLETED


def test_a_changed_job_record_is_damage_to_a_list_that_reads_nothing_else(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Guarded", b"Garbled", 1))
    with JobService(path.parents[1]) as service, pytest.raises(JournalDamagedError):
        service.list_jobs(since=datetime(3000, 1, 1, tzinfo=UTC))


def test_two_commits_that_became_one_line_are_not_mended_if_that_is_not_all(path: Path) -> None:
    content = path.read_bytes()
    *before, last = split_commits(content)
    joined = b"".join(before)[:-1] + b"#" + last.replace(b"T-5", b"X+6")
    path.write_bytes(joined + last)
    repair_job(path.parent)
    numbers = [row.tracking_number for row in read_all(path.parents[1], JOB)[1]]
    assert "X+6" not in numbers


def test_a_row_under_another_number_does_not_vouch_for_itself(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"row":9,', b'"row":77,', 1))
    repair_job(path.parent)
    rows = {row.row_number: row.data for row in read_all(path.parents[1], JOB)[1]}
    assert rows.get(77, {}) == {}


def test_a_repair_that_would_end_with_a_damaged_journal_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(broken)
    real = Salvage.finish

    def goes_wrong(salvage: Salvage) -> int:
        salvage._journal.file.append(b"not a record\n")
        return real(salvage)

    monkeypatch.setattr(Salvage, "finish", goes_wrong)
    with pytest.raises(JournalDamagedError):
        repair_job(path.parent)
    assert path.read_bytes() == broken


@needs_open_files_moved
def test_a_run_lock_is_not_taken_of_a_directory_that_was_moved_away_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = path.parent
    real = journal.fs.locks.wait_for_lock

    def moved_while_waiting(file: Any, timeout_s: float) -> bool:
        directory.rename(directory.with_name("away"))
        shutil.copytree(directory.with_name("away"), directory)
        return real(file, timeout_s)

    monkeypatch.setattr(journal.fs.locks, "wait_for_lock", moved_while_waiting)
    with pytest.raises(JobNotFoundError):
        RunLock.take(directory, JOB)
    monkeypatch.undo()
    away = DirectoryLock(directory.with_name("away"))
    assert away.try_lock()
    away.close()


def test_a_job_is_not_deleted_while_another_process_has_a_commit_open(path: Path) -> None:
    script = """
    with JobService(root).batch(job_id):
        tell("open")
        hear()
    """
    with Child(script, path.parents[1], JOB) as child:
        assert child.hear() == "open"
        with JobService(path.parents[1], lock_timeout_s=0.05) as service:
            with pytest.raises(JobLockedError):
                service.delete_job(JOB)
            assert service.get_job(JOB) is not None
        child.tell("go on")
        child.end()


@needs_fork
def test_a_forked_child_has_none_of_the_parents_descriptors(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    assert lock.try_lock()
    script = """
    from journal.fs.locks import DirectoryLock
    from pathlib import Path
    lock = DirectoryLock(Path(root))
    pid = os.fork()
    if pid == 0:
        os._exit(0 if lock.fd == -1 else 1)
    tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "0"
    lock.close()


def test_a_stream_appends_nothing_more_to_a_journal_that_was_written_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 1000)
    copy = path.read_bytes()

    def rows() -> Any:
        for number in range(100):
            if number == 50:
                path.write_bytes(copy)  # as `cp` does, in place
            yield {"data": {"pad": "x" * 10_000}}

    with JobService(path.parents[1]) as service:
        with pytest.raises(StorageError):
            service.create_rows(JOB, rows())
        assert path.read_bytes() == copy
        assert len(service.get_rows(JOB)) == 12


def test_a_completed_row_goes_nowhere(path: Path) -> None:
    with JobService(path.parents[1]) as service:
        for move in (service.retry_row, service.start_row, service.complete_row, service.skip_row):
            with pytest.raises(InvalidStateTransition):
                move(f"{JOB}:1")


@pytest.mark.parametrize("of", ["a batch", "a commit"])
def test_what_is_taken_back_is_gone_for_sure_before_more_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    def breaks_off() -> Any:
        for _ in range(200):
            yield {"data": {"pad": "z" * 200}}
        raise KeyError

    with JobService(path.parents[1]) as service:
        service.skip_row(f"{JOB}:12")
        faulty = FaultyOs()
        monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 1000)
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        with service.batch(JOB) if of == "a batch" else nullcontext():
            if of == "a batch":
                service.skip_row(f"{JOB}:11")
            with pytest.raises(KeyError):
                service.create_rows(JOB, breaks_off())
            service.skip_row(f"{JOB}:10")
        wanted = {"write", "ftruncate", "fdatasync"}
        names = [name for name, _ in faulty.calls if name in wanted]
    assert names[names.index("ftruncate") :] == ["ftruncate", "fdatasync", "write", "fdatasync"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"row","row":9,', b'"row","row":8,', id="row"),
        pytest.param(b'"row":5,"status":"completed"', b'"row":4,"status":"completed"', id="status"),
    ],
)
def test_rows_that_were_taken_are_not_read_as_others_after_a_change_in_place(
    path: Path, old: bytes, new: bytes
) -> None:
    with JobService(path.parents[1]) as service:
        rows = service.get_rows(JOB)
        path.write_bytes(path.read_bytes().replace(old, new, 1))
        with pytest.raises(JournalDamagedError):
            list(rows)


@needs_open_files_moved
def test_the_name_of_a_journal_that_took_the_place_of_another_is_on_the_disk_before_a_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(path.parents[1]) as service:
        service.skip_row(f"{JOB}:12")
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        copy.replace(path)
        faulty = FaultyOs()
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        service.skip_row(f"{JOB}:11")
    wanted = {"write", "fsync", "fdatasync"}
    names = [name for name, _ in faulty.calls if name in wanted]
    assert names == ["fsync", "fsync", "fsync", "fdatasync", "write", "fdatasync"]


class OrderOfNames:
    """Replaces ``journal.fs.system.os``: notes which directories are synced, and renames."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(SYSTEM_OS, name)

    def fsync(self, fd: int) -> None:
        self.done.append(("synced", path_of(fd).name))
        SYSTEM_OS.fsync(fd)

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        SYSTEM_OS.rename(source, target, **options)
        self.done.append(("named", Path(target).name))


@needs_directory_syncs
def test_the_names_in_a_new_job_are_on_the_disk_before_its_own_and_so_are_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = OrderOfNames()
    monkeypatch.setattr(journal.fs.system, "os", recorder)
    with JobService(tmp_path / "srv" / "jobs") as service:
        service.create_job("New", job_id=JOB)
    named = recorder.done.index(("named", JOB))
    what, name = recorder.done[named - 1]
    assert (what, name.partition(".")[0]) == ("synced", JOB), recorder.done
    synced = [name for what, name in recorder.done if what == "synced"]
    assert {tmp_path.name, "srv", "jobs"} <= set(synced)


def test_lines_that_may_or_may_not_end_a_commit_do_not_make_the_guesses_multiply() -> None:
    line = b'{"type":"log","crc":"zzzzzzzz"}'
    candidates = torn_tail_or_damage._beginnings(0, [0])
    for number in range(2, 40):
        end = number * len(line)
        candidates = torn_tail_or_damage._next_candidates(
            candidates, line + b"%d" % number, b"\n", end, 0
        )
        candidates = torn_tail_or_damage._next_candidates(candidates, line, b"\n", end, 0)
        assert len(candidates) <= 12
