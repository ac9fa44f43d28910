"""A system that refuses to write, sync, truncate or read leaves a job as it was, and says so."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.children import Child, FaultyOs, fails, journal_path, read_all, works, writes_half
from support.copies import staging_of
from support.platforms import (
    IS_ROOT,
    needs_directory_descriptors,
    needs_fifos,
    needs_links,
    needs_owners,
    needs_rlimits,
    not_under_wine,
)

import journal.fs.system
from journal import (
    CommitOutcomeUnknownError,
    JobRow,
    JobService,
    JournalDamagedError,
    JournalError,
    RowStatus,
    StorageError,
)
from journal.cli.main import main
from journal.repair import repair_job
from journal.store.journal import Journal
from journal.verify import verify_job

JOB = "faulty"


@pytest.fixture(name="faulty")
def fixture_faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    """What is called instead of ``os``; works until it is told not to."""
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    return faulty


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """The journal of a job of nine pending rows."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Faulty", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, 10)])
    return journal_path(tmp_path, JOB)


@pytest.fixture(name="service")
def fixture_service(path: Path) -> Iterator[JobService]:
    """A service that has the job open, and syncs."""
    with JobService(path.parents[1]) as service:
        service.skip_row(f"{JOB}:9")
        yield service


def big_rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of 50 kB each: twenty-one of them are more than what is held back before a write."""
    return ({"data": {"pad": "x" * 50_000}} for _ in range(count))


def assert_unchanged(service: JobService, path: Path, before: bytes) -> None:
    """Neither the file, nor what the open service says, nor what a fresh one says, is new."""
    assert path.read_bytes() == before
    rows = list(service.get_rows(JOB))
    assert [row.status for row in rows] == [RowStatus.PENDING] * 8 + [RowStatus.SKIPPED]
    assert service.get_job_summary(JOB)["pending_count"] == 8
    job, fresh = read_all(service.root, JOB)
    assert fresh == rows
    assert service.get_job(JOB) == job


def assert_works_again(service: JobService, path: Path, before: bytes) -> None:
    service.complete_row(f"{JOB}:2", "T-2")
    assert path.read_bytes().startswith(before)
    rows = read_all(service.root, JOB)[1]
    assert rows[1].tracking_number == "T-2"
    assert rows == list(service.get_rows(JOB))


# --- the kernel's own short writes -----------------------------------------------------------

LIMITED = """
import resource
from pathlib import Path

sys.dont_write_bytecode = True  # a part of it, which others would find
path = Path(root) / job_id / "journal.jsonl"
service = JobService(root, sync=sys.argv[3])
service.skip_row(f"{job_id}:9")
before = path.read_bytes()
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

def big():
    return ({"data": {"pad": "x" * 50_000}} for _ in range(90))

def one():
    service.complete_row(f"{job_id}:1", "T-1")

def stream():
    service.create_rows(job_id, big())

def batch():
    with service.batch(job_id):
        for number in range(1, 9):
            service.complete_row(f"{job_id}:{number}", "T")

def batch_with_stream():
    with service.batch(job_id):
        service.complete_row(f"{job_id}:1", "T")
        service.create_rows(job_id, big())

def batch_that_goes_on_after_the_error():
    with service.batch(job_id):
        service.complete_row(f"{job_id}:1", "T")
        try:
            service.create_rows(job_id, big())
        except StorageError:
            pass
        service.complete_row(f"{job_id}:2", "T")

resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + int(sys.argv[5]), hard))
told = {"raised": None}
try:
    globals()[sys.argv[4]]()
except StorageError as error:
    told["raised"] = [type(error).__name__, error.errno, error.path]
told["unchanged"] = path.read_bytes() == before
told["pending"] = service.get_job_summary(job_id)["pending_count"]
told["rows"] = len(service.get_rows(job_id))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
told["unchanged at the next use"] = path.read_bytes() == before
service.complete_row(f"{job_id}:2", "T-2")
told["grown"] = path.read_bytes().startswith(before) and path.stat().st_size > len(before)
tell(json.dumps(told))
"""


@needs_rlimits
@pytest.mark.parametrize(
    ("action", "room_bytes", "sync"),
    [
        ("one", 0, "commit"),
        ("one", 1, "none"),
        ("one", 50, "commit"),
        ("batch", 100, "none"),
        ("batch", 400, "commit"),
        ("stream", 0, "none"),
        ("stream", 500_000, "commit"),
        ("stream", 2_500_000, "none"),
        ("stream", 4_400_000, "commit"),
        ("batch_with_stream", 50, "none"),
        ("batch_with_stream", 2_500_000, "commit"),
        ("batch_that_goes_on_after_the_error", 2_500_000, "commit"),
    ],
)
def test_a_file_size_limit_makes_a_commit_fail_whole_and_it_works_once_there_is_room(
    tmp_path: Path, path: Path, sync: str, action: str, room_bytes: int
) -> None:
    with Child(LIMITED, tmp_path, JOB, sync, action, room_bytes) as child:
        told = json.loads(child.hear())
        child.end()
    assert told == {
        "raised": ["StorageError", errno.EFBIG, str(path)],
        "unchanged": True,
        "pending": 8,
        "rows": 9,
        "unchanged at the next use": True,
        "grown": True,
    }
    rows = read_all(tmp_path, JOB)[1]
    assert [row.tracking_number for row in rows] == [None, "T-2", *[None] * 7]
    assert not list(path.parent.glob("journal.torn-*"))


# --- writes ----------------------------------------------------------------------------------


def test_a_batch_whose_write_failed_does_not_commit_even_if_the_block_caught_the_error(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    before = path.read_bytes()
    faulty.plan("write", works, fails(errno.ENOSPC))

    def batch() -> None:
        with service.batch(JOB):
            service.complete_row(f"{JOB}:1", "T-1")
            with pytest.raises(StorageError):
                service.create_rows(JOB, big_rows(80))

    with pytest.raises(StorageError):
        batch()
    assert_unchanged(service, path, before)
    assert_works_again(service, path, before)


def test_rows_returned_inside_a_batch_whose_write_failed_are_not_read_as_data(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    before = path.read_bytes()
    faulty.plan("write", fails(errno.ENOSPC))
    taken: list[Sequence[JobRow]] = []

    def batch() -> None:
        with service.batch(JOB):
            taken.append(service.create_rows(JOB, [{"data": {"n": 10}}]))
            assert taken[0][0].data == {"n": 10}

    with pytest.raises(StorageError):
        batch()
    service.create_rows(JOB, [{"data": {"n": "another"}}])
    with pytest.raises(JournalError):
        list(taken[0])
    assert path.read_bytes().startswith(before)


def test_rows_of_a_batch_that_has_failed_to_take_back_an_inner_one_are_not_read_out_of_its_rest(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    before = path.read_bytes()
    with pytest.raises(StorageError), service.batch(JOB):  # noqa: PT012  (its end raises)
        service.create_rows(JOB, [{"data": {"n": 10}}])
        faulty.plan("fdatasync", fails(errno.EIO))
        with suppress(ZeroDivisionError), service.batch(JOB):
            service.create_rows(JOB, big_rows(30))
            raise ZeroDivisionError
        with pytest.raises(StorageError):
            service.get_row(f"{JOB}:10")
    assert_unchanged(service, path, before)


@pytest.mark.parametrize("short", [False, True])
def test_a_truncation_that_fails_after_a_failed_write_is_named_and_the_next_use_recovers(
    service: JobService, path: Path, faulty: FaultyOs, *, short: bool
) -> None:
    before = path.read_bytes()
    rows = list(service.get_rows(JOB))
    faulty.plan("write", *[writes_half] * short, fails(errno.ENOSPC))
    faulty.plan("ftruncate", fails(errno.EIO))
    with pytest.raises(CommitOutcomeUnknownError) as refused:
        service.complete_row(f"{JOB}:1", "T-1")
    assert "roll back" in str(refused.value)
    assert refused.value.errno == errno.EIO
    left = path.read_bytes()
    assert left.startswith(before)
    assert list(service.get_rows(JOB)) == rows
    assert path.read_bytes() == left
    assert_works_again(service, path, before)
    saved = [one.read_bytes() for one in path.parent.glob("journal.torn-*")]
    assert saved == ([left[len(before) :]] if short else [])


def test_a_truncation_that_fails_in_a_discarded_batch_does_not_hide_the_blocks_own_error(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    before = path.read_bytes()
    rows = list(service.get_rows(JOB))
    faulty.plan("ftruncate", fails(errno.EIO))

    def batch() -> None:
        with service.batch(JOB):
            service.create_rows(JOB, big_rows(80))
            raise KeyError

    with pytest.raises(KeyError):
        batch()
    assert list(service.get_rows(JOB)) == rows
    assert_works_again(service, path, before)


# --- syncs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "rows"), [(errno.EIO, 0), (errno.ENOSPC, 0), (errno.EDQUOT, 0), (errno.EIO, 80)]
)
def test_a_commit_whose_sync_fails_is_cut_off_again_and_the_error_says_so(
    service: JobService, path: Path, faulty: FaultyOs, number: int, rows: int
) -> None:
    """With many rows, a part of it is written before its end."""
    before = path.read_bytes()
    faulty.plan("fdatasync", fails(number))
    undone = pytest.raises(StorageError, match="undone: nothing of it is recorded")
    with undone as refused, service.batch(JOB):
        service.complete_row(f"{JOB}:1", "T-1")
        service.create_rows(JOB, big_rows(rows))
    assert (refused.value.errno, refused.value.path) == (number, str(path))
    wanted = {"write", "ftruncate", "fdatasync"}
    names = [name for name, _ in faulty.calls if name in wanted]
    assert names[names.index("fdatasync") - 1 :] == ["write", "fdatasync", "ftruncate", "fdatasync"]
    assert ("write" in names[:-4]) == bool(rows)
    assert_unchanged(service, path, before)
    faulty.calls.clear()
    assert_works_again(service, path, before)
    assert faulty.count("fdatasync") == 1, "all before it is on the disk"
    assert faulty.count("rename") == 0


def leave_in_doubt(service: JobService, faulty: FaultyOs, call: str = "ftruncate") -> None:
    """Row 1 is completed by a commit whose sync fails, and so does ``call`` of what cuts it off."""
    faulty.plan("fdatasync", *[fails(errno.EIO)] * (1 + (call == "fdatasync")))
    if call == "ftruncate":
        faulty.plan("ftruncate", fails(errno.EIO))
    with pytest.raises(CommitOutcomeUnknownError):
        service.complete_row(f"{JOB}:1", "T-1")


def is_marked(path: Path) -> bool:
    return bool(path.with_name("sync.mark").read_bytes().strip())


def in_doubt(service: JobService, path: Path, faulty: FaultyOs) -> None:
    """Row 1 is completed by a commit whose sync has failed; one that isn't synced completes row 5."""
    leave_in_doubt(service, faulty)
    with JobService(path.parents[1], sync="none") as other:
        other.complete_row(f"{JOB}:5", "T-5")
    service.get_job(JOB)
    faulty.calls.clear()


def changes_of(faulty: FaultyOs) -> list[str]:
    wanted = {"write", "ftruncate", "fdatasync", "fsync", "rename"}
    return [name for name, _ in faulty.calls if name in wanted]


@pytest.mark.parametrize("call", ["ftruncate", "fdatasync"])
@pytest.mark.parametrize("who", ["the same service", "another that had it open", "a new one"])
def test_what_a_failed_sync_left_in_doubt_is_written_to_a_new_file_unless_it_is_cut_off(
    service: JobService, path: Path, faulty: FaultyOs, call: str, who: str
) -> None:
    inode, before = path.stat().st_ino, path.read_bytes()
    with JobService(service.root) as other, JobService(service.root) as new:
        other.complete_row(f"{JOB}:8", "T-8")
        service.complete_row(f"{JOB}:7", "T-7")
        if who == "another that had it open":
            other.complete_row(f"{JOB}:6", "T-6")
            with service.batch(JOB):
                pass  # now both know all, and that it is on the disk
        leave_in_doubt(service, faulty, call)
        assert is_marked(path)
        left = path.read_bytes()
        faulty.calls.clear()
        {"the same service": service, "a new one": new}.get(who, other).complete_row(f"{JOB}:3")
        first = ["fdatasync"] if call == "fdatasync" else ["write", "fdatasync", "rename"]
        again = [*first, "write", "fdatasync"]
        assert [name for name in changes_of(faulty) if name != "fsync"] == again
        assert (path.stat().st_ino == inode) is (call == "fdatasync")
        assert not is_marked(path)
        assert left.startswith(before)
        assert path.read_bytes().startswith(left)
        other.skip_row(f"{JOB}:4")
        assert_works_again(service, path, left)
    assert sorted(one.name for one in path.parent.iterdir()) == ["journal.jsonl", "sync.mark"]
    assert verify_job(path.parent).findings == []


@pytest.mark.parametrize("lost", ["deleted", "shared"])
def test_a_service_marks_the_file_that_stands_beside_the_journal_now(
    service: JobService, path: Path, faulty: FaultyOs, lost: str
) -> None:
    service.complete_row(f"{JOB}:8")
    mark = path.with_name("sync.mark")
    if lost == "deleted":
        mark.unlink()
    else:
        path.with_name("other").hardlink_to(mark)
    with JobService(service.root) as other:
        other.complete_row(f"{JOB}:7")
    with service.batch(JOB):
        pass  # now it knows all, and that it is on the disk
    leave_in_doubt(service, faulty)
    assert is_marked(path)


def test_a_service_marks_no_file_that_another_has_replaced(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    service.complete_row(f"{JOB}:8")
    mark, new = path.with_name("sync.mark"), path.with_name("new")
    new.write_bytes(mark.read_bytes())
    journal.fs.system.os.rename(new, mark)  # Windows' own call refuses, since the mark is open
    leave_in_doubt(service, faulty)
    assert is_marked(path)


def test_where_a_mark_may_not_be_written_the_whole_journal_is_in_doubt(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    def refuses_mark(real: Callable[..., int], name: Any, flags: int, *rest: Any) -> int:
        if Path(name).name == "sync.mark" and flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "refused")
        return real(name, flags, *rest)

    inode = path.stat().st_ino
    faulty.always("open", refuses_mark)
    with JobService(service.root) as other:
        other.complete_row(f"{JOB}:1", "T-1")
    assert path.stat().st_ino != inode, "written anew"


def test_an_empty_mark_that_another_copy_shares_is_given_up_for_a_clear_one(path: Path) -> None:
    mark, other = path.with_name("sync.mark"), path.with_name("other")
    mark.touch()
    other.hardlink_to(mark)
    with JobService(path.parents[1]) as service:
        service.complete_row(f"{JOB}:1", "T-1")
    assert (other.stat().st_nlink, other.read_bytes()) == (1, b"")
    assert (mark.stat().st_nlink, is_marked(path)) == (1, False)


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_mark_that_cannot_be_replaced_stays_set(
    service: JobService, path: Path, faulty: FaultyOs, call: str
) -> None:
    leave_in_doubt(service, faulty)
    path.with_name("other").hardlink_to(path.with_name("sync.mark"))
    faulty.plan(call, fails(errno.ENOSPC))
    with JobService(service.root) as new, pytest.raises(StorageError):
        new.complete_row(f"{JOB}:3", "T-3")
    assert is_marked(path)
    faulty.heal()
    with JobService(service.root) as new:
        new.skip_row(f"{JOB}:4")
    assert service.get_rows(JOB)[0].tracking_number == "T-1"


def test_several_commits_in_doubt_are_written_to_a_new_file_before_the_next(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    in_doubt(service, path, faulty)
    inode, left = path.stat().st_ino, path.read_bytes()
    service.complete_row(f"{JOB}:3", "T-3")
    anew = ["write", "fdatasync", "rename", "fsync", "write", "fdatasync"]
    assert changes_of(faulty)[-6:] == anew
    assert path.stat().st_ino != inode
    assert not is_marked(path)
    assert path.read_bytes().startswith(left)
    rows = read_all(service.root, JOB)[1]
    assert [row.tracking_number for row in rows[:5]] == ["T-1", None, "T-3", None, "T-5"]


DIES = """
import journal.fs.system

SYSTEM_OS = journal.fs.system.os

class Dies:
    def __getattr__(self, name):
        return getattr(SYSTEM_OS, name)

    def fdatasync(self, fd):
        os._exit(9)  # as after SIGKILL, nothing is cleaned up

service = JobService(root)
service.skip_row(f"{job_id}:9")
journal.fs.system.os = Dies()
tell("now")
service.complete_row(f"{job_id}:1", "T-1")
"""


def test_after_a_process_has_died_in_its_sync_the_next_one_does_not_trust_the_cache(
    tmp_path: Path, path: Path, faulty: FaultyOs
) -> None:
    with Child(DIES, tmp_path, JOB) as child:
        assert child.hear() == "now"
        assert child.wait() == 9
    left = path.read_bytes()
    with JobService(tmp_path) as service:
        assert service.get_rows(JOB)[0].tracking_number == "T-1"
        assert changes_of(faulty) == [], "reading changes nothing"
        assert_works_again(service, path, left)
    assert changes_of(faulty).count("rename") == 1


@pytest.mark.parametrize("byte", [0, 1, 18, 19, 700, 10**9, 2**64])
def test_whatever_byte_a_mark_names_no_commit_is_lost(path: Path, byte: int) -> None:
    before = path.read_bytes()
    with JobService(path.parents[1]) as service:
        service.complete_row(f"{JOB}:1", "T-1")
        log = service.store.journal(JOB)
        assert log.log._mark is not None
        log.log._mark.set(byte)
        assert_works_again(service, path, before)
        assert service.get_rows(JOB)[0].tracking_number == "T-1"
    assert verify_job(path.parent).findings == []


def test_a_mark_of_an_earlier_boot_says_nothing(path: Path) -> None:
    path.with_name("sync.mark").write_bytes(
        b'{"synced_bytes":9,"boot":"another"}'.ljust(159) + b"\n"
    )
    inode = path.stat().st_ino
    with JobService(path.parents[1]) as service:
        service.complete_row(f"{JOB}:3", "T-3")
    assert (path.stat().st_ino, is_marked(path)) == (inode, False)


@pytest.mark.parametrize(
    ("text", "is_in_doubt"),
    [
        (b'{"synced_bytes":9,"boot":"%b","by":"2.0"}', True),
        (b"a sync is under way or has failed", True),
        (b'{"synced_bytes":9', True),
        (b"", False),
        (bytes(100), False),
    ],
)
def test_after_a_mark_of_another_version_the_whole_journal_is_in_doubt(
    path: Path, text: bytes, *, is_in_doubt: bool
) -> None:
    text = text.replace(b"%b", journal.fs.system.boot_id().encode())
    path.with_name("sync.mark").write_bytes(text.ljust(159) + b"\n")
    inode = path.stat().st_ino
    with JobService(path.parents[1]) as service:
        service.complete_row(f"{JOB}:3", "T-3")
    assert (path.stat().st_ino != inode, is_marked(path)) == (is_in_doubt, False)


@pytest.mark.parametrize("call", ["write", "rename", "fdatasync", "fsync"])
def test_what_is_in_doubt_and_cannot_be_written_anew_is_refused_in_words_and_kept(
    service: JobService, path: Path, faulty: FaultyOs, call: str
) -> None:
    in_doubt(service, path, faulty)
    left = path.read_bytes()
    faulty.plan(call, fails(errno.ENOSPC))
    with pytest.raises(StorageError, match=r"since a sync of it has failed.*bytes") as refused:
        service.complete_row(f"{JOB}:3", "T-3")
    assert (refused.value.errno, refused.value.path) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == left
    assert is_marked(path)
    assert not path.with_name("journal.jsonl.new").exists()
    assert_works_again(service, path, left)


@pytest.mark.parametrize("fault", [fails(errno.ENOSPC), lambda *_: 0], ids=["fails", "no byte"])
def test_a_sync_that_cannot_be_announced_is_not_asked_for(
    service: JobService, path: Path, faulty: FaultyOs, fault: Callable[..., Any]
) -> None:
    with JobService(path.parents[1], sync="none") as other:
        other.complete_row(f"{JOB}:1", "T-1")
    before, inode = path.read_bytes(), path.stat().st_ino
    faulty.plan("pwrite", fault)
    with pytest.raises(StorageError, match=r"sync\.mark"):
        service.complete_row(f"{JOB}:3", "T-3")
    assert faulty.count("fdatasync") == 0
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)
    assert_works_again(service, path, before)


def test_what_a_writer_left_beside_the_journal_when_it_died_goes_with_the_next_commit(
    service: JobService, path: Path
) -> None:
    new = path.with_name("journal.jsonl.new")
    new.write_bytes(b"half of it")
    with JobService(service.root) as other:
        other.complete_row(f"{JOB}:3", "T-3")
    assert not new.exists()


@pytest.mark.parametrize("several", [True, False])
def test_what_the_cache_has_let_go_of_since_a_failed_sync_is_not_written_as_it_was(
    service: JobService, path: Path, faulty: FaultyOs, *, several: bool
) -> None:
    if several:
        in_doubt(service, path, faulty)
    else:
        leave_in_doubt(service, faulty)
        service.get_job(JOB)
    inode = path.stat().st_ino
    with path.open("r+b") as file:
        file.seek(600 if several else path.stat().st_size - 100)
        file.write(bytes(30))
    left = path.read_bytes()
    with pytest.raises(StorageError, match="bytes can be read again"):
        service.complete_row(f"{JOB}:3", "T-3")
    assert (path.stat().st_ino, path.read_bytes()) == (inode, left)
    with pytest.raises(JournalDamagedError):
        service.get_job(JOB)


@needs_links
@needs_fifos
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_mark_that_is_no_regular_file_is_refused_and_written_to_by_nobody(
    tmp_path: Path, path: Path, kind: str
) -> None:
    other, mark = tmp_path / "other", path.with_name("sync.mark")
    other.write_bytes(b"mine")
    if kind == "pipe":
        os.mkfifo(mark)
    else:
        mark.symlink_to(other)
    with JobService(tmp_path) as service, pytest.raises(StorageError, match=r"sync\.mark"):
        service.complete_row(f"{JOB}:3", "T-3")
    assert other.read_bytes() == b"mine"


def test_a_mark_that_another_copy_shares_is_given_up_for_one_that_says_the_same(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    leave_in_doubt(service, faulty)
    other, mark = path.with_name("other"), path.with_name("sync.mark")
    other.hardlink_to(mark)
    shared, inode = other.read_bytes(), path.stat().st_ino
    with JobService(service.root) as new:
        new.complete_row(f"{JOB}:3", "T-3")
    assert path.stat().st_ino != inode, "written anew, as the mark says"
    assert (other.read_bytes(), other.samefile(mark), is_marked(path)) == (shared, False, False)


def test_verify_says_that_what_it_has_read_may_not_be_on_the_disk(
    service: JobService, path: Path, faulty: FaultyOs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not verify_job(path.parent).in_doubt
    leave_in_doubt(service, faulty, "fdatasync")
    report = verify_job(path.parent)
    assert (report.in_doubt, report.findings) == (True, [])
    assert main(["--root", str(service.root), "verify", JOB]) == 0
    assert "  sync: a sync failed" in capsys.readouterr().out
    service.complete_row(f"{JOB}:3", "T-3")
    assert not verify_job(path.parent).in_doubt


def test_verify_takes_the_mark_of_a_writer_at_work_for_none_of_a_failed_sync(path: Path) -> None:
    with JobService(path.parents[1]) as service, service.batch(JOB):
        log = service.store.journal(JOB)
        assert log.log._mark is not None
        log.log._mark.set(0)
        assert not verify_job(path.parent).in_doubt
        log.log._mark.clear()


SHARED = """
with JobService(sys.argv[5]) as warm:  # what is imported later may not be another user's to read
    warm.create_job("Warm", job_id="warm", row_data=[{"data": {}}])
    warm.complete_row("warm:1")
os.setgroups([2000])
os.setregid(int(sys.argv[3]), int(sys.argv[3]))
os.setreuid(int(sys.argv[3]), int(sys.argv[3]))
try:
    JobService(root).complete_row(f"{job_id}:{sys.argv[4]}")
    tell("done")
except JournalError as error:
    tell(error)
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
@needs_owners
def test_a_job_that_a_group_shares_stays_its_owners_and_the_groups(
    path: Path, shared_root: Path, tmp_path: Path
) -> None:
    def as_user(number: int, row: int) -> str:
        warm = tmp_path / f"{number}-{row}"
        with Child(SHARED, shared_root, JOB, number, row, warm) as child:
            return child.hear()

    shutil.copytree(path.parents[1], shared_root, dirs_exist_ok=True)
    for one in (shared_root, *shared_root.rglob("*")):
        os.chown(one, 1000, 2000)
        one.chmod(0o770 if one.is_dir() else 0o660)
    path = journal_path(shared_root, JOB)
    mark = path.with_name("sync.mark")
    assert as_user(1001, 1) == "done"
    assert (mark.stat().st_uid, mark.stat().st_gid) == (1001, 2000)
    assert as_user(1000, 2) == "done"
    assert (mark.stat().st_gid, mark.stat().st_mode & 0o777) == (2000, 0o660)
    leave_mark(path)
    before = path.read_bytes()
    assert "it belongs to another user" in as_user(1001, 3)
    assert path.read_bytes() == before
    assert as_user(1000, 3) == "done"
    assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (
        1000,
        2000,
        0o660,
    )
    os.chown(mark, 1001, 1001)
    mark.chmod(0o600)
    assert as_user(1000, 4) == "done"


@pytest.fixture(name="shared_root")
def fixture_shared_root() -> Iterator[Path]:
    """A directory that other users get to, as they don't to pytest's."""
    with TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
@needs_owners
def test_a_mark_belongs_to_whom_the_journal_does(path: Path) -> None:
    os.chown(path, 12345, 12345)
    path.chmod(0o660)
    with JobService(path.parents[1]) as service:
        service.complete_row(f"{JOB}:3", "T-3")
    stat = path.with_name("sync.mark").stat()
    assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o777) == (12345, 12345, 0o660)


def leave_mark(path: Path) -> None:
    """As a process that died in a sync: all of the journal is in doubt."""
    log = Journal(path.parent, sync=True, lock_timeout_s=1)
    with log:
        assert log.log._mark is not None
        log.log._mark.set(0)
    log.close()


def test_what_stands_in_the_way_of_a_new_file_is_named(service: JobService, path: Path) -> None:
    leave_mark(path)
    obstacle = path.with_name("journal.jsonl.new")
    obstacle.mkdir()
    with pytest.raises(StorageError, match=r"journal\.jsonl\.new: File exists"):
        service.complete_row(f"{JOB}:3")
    obstacle.rmdir()
    service.complete_row(f"{JOB}:3")
    assert not is_marked(path)


def test_a_repair_leaves_no_mark_of_the_damaged_journal(path: Path) -> None:
    leave_mark(path)
    path.write_bytes(path.read_bytes().replace(b'"row"', b'"rwo"', 1))
    assert repair_job(path.parent).damaged_copy is not None
    assert not path.with_name("sync.mark").exists()
    inode = path.stat().st_ino
    with JobService(path.parents[1]) as service:
        service.log(JOB, "goes on")
    assert path.stat().st_ino == inode


def test_without_syncs_no_sync_is_called(path: Path, faulty: FaultyOs) -> None:
    with JobService(path.parents[1], sync="none") as service:
        service.complete_row(f"{JOB}:1")
        service.create_job("Another", job_id="another")
        service.delete_job("another")
    assert faulty.count("write") > 0
    assert faulty.count("fdatasync") == faulty.count("fsync") == 0


def test_a_commit_is_written_only_after_one_that_another_writer_left_unsynced_is_on_the_disk(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    with JobService(path.parents[1], sync="none") as other:
        other.complete_row(f"{JOB}:1")
    faulty.calls.clear()
    service.complete_row(f"{JOB}:2")
    names = [name for name, _ in faulty.calls if name in {"write", "fdatasync"}]
    assert names == ["fdatasync", "write", "fdatasync"]


def test_what_others_left_unsynced_is_written_anew_if_it_cannot_be_synced(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    with JobService(path.parents[1], sync="none") as other:
        other.complete_row(f"{JOB}:1", "T-1")
    inode, before = path.stat().st_ino, path.read_bytes()
    faulty.plan("fdatasync", fails(errno.EIO))
    service.complete_row(f"{JOB}:3", "T-3")
    assert path.stat().st_ino != inode
    assert path.read_bytes().startswith(before)
    faulty.always("fdatasync", fails(errno.EIO))
    with JobService(path.parents[1], sync="none") as other:
        other.complete_row(f"{JOB}:4", "T-4")
    before = path.read_bytes()
    with pytest.raises(StorageError) as refused:
        service.complete_row(f"{JOB}:5", "T-5")
    assert not isinstance(refused.value, CommitOutcomeUnknownError)
    assert path.read_bytes() == before
    faulty.heal()
    assert_works_again(service, path, before)


@pytest.mark.parametrize("synced", [0, 1], ids=["the job's directory", "the store"])
def test_a_directory_that_may_not_be_synced_is_named_before_a_commit_is_acknowledged(
    path: Path, monkeypatch: pytest.MonkeyPatch, synced: int
) -> None:
    before, faulty = path.read_bytes(), FaultyOs()
    with monkeypatch.context() as patch, JobService(path.parents[1]) as service:
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("fsync", *[works] * synced, fails(errno.EACCES))
        with pytest.raises(StorageError) as refused:
            service.complete_row(f"{JOB}:1", "T-1")
    assert refused.value.path == str(path.parents[synced])
    assert path.read_bytes() == before


@not_under_wine
def test_a_job_whose_first_sync_fails_is_not_there(tmp_path: Path, faulty: FaultyOs) -> None:
    with JobService(tmp_path) as service:
        faulty.plan("fdatasync", fails(errno.EIO))
        with pytest.raises(StorageError):
            service.create_job("New", job_id="new")
        assert service.get_job("new") is None
        assert staging_of(tmp_path) == []
        service.create_job("New", job_id="new")
        assert read_all(tmp_path, "new")[1] == []


@needs_directory_descriptors
@pytest.mark.parametrize("call", ["unlink", "rmdir"])
def test_a_deleted_job_whose_files_cannot_be_removed_is_a_leftover(
    service: JobService, faulty: FaultyOs, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(shutil, "os", faulty)  # rmtree calls it
    faulty.plan(call, fails(errno.EIO))
    assert service.delete_job(JOB)
    assert service.get_job(JOB) is None
    assert len(staging_of(service.root)) == 1
    service.create_job("Again", job_id=JOB)
    assert len(service.get_rows(JOB)) == 0
    assert staging_of(service.root) == []


@pytest.mark.parametrize("change", ["create", "delete"])
def test_a_change_of_names_whose_sync_fails_has_an_unknown_outcome(
    service: JobService, faulty: FaultyOs, change: str
) -> None:
    service.create_job("First", job_id="first")  # after it, the name of the root is synced
    if change == "create":
        faulty.plan("fsync", works, fails(errno.EIO))
        with pytest.raises(CommitOutcomeUnknownError):
            service.create_job("New", job_id="new")
        assert service.get_job("new") is not None
    else:
        faulty.plan("fsync", fails(errno.EIO))
        with pytest.raises(CommitOutcomeUnknownError):
            service.delete_job(JOB)
        assert service.get_job(JOB) is None


# --- reads -----------------------------------------------------------------------------------


def test_a_read_cut_short_by_the_system_is_continued(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    def reads_half(real: Any, descriptor: int, length: int, offset: int) -> bytes:
        data: bytes = real(descriptor, max(1, length // 2), offset)
        return data

    expected = list(service.get_rows(JOB))
    faulty.always("pread", reads_half)
    assert list(service.get_rows(JOB)) == expected
    assert [service.get_row(row.id) for row in expected] == expected
    assert read_all(path.parents[1], JOB)[1] == expected


# --- a journal that can only be read ---------------------------------------------------------
