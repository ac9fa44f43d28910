"""Guards of those who write, read, hold and make journals: each brought to the moment that needs it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from support.children import (
    Child,
    FaultyOs,
    append_commit,
    fails,
    journal_path,
    read_all,
    seal_commits,
    writes_half,
)
from support.copies import staging_of
from support.platforms import needs_boot_ids, needs_fork, needs_links, needs_windows

import journal.format.records
import journal.fs.system
import journal.index.hint
import journal.store.journal
import journal.store.store
from journal import (
    CommitOutcomeUnknownError,
    InvalidValueError,
    JobBusyError,
    JobExistsError,
    JobLockedError,
    JobNotFoundError,
    JobRow,
    JobService,
    JournalDamagedError,
    JournalError,
    RowStatus,
    ServiceClosedError,
    StorageError,
)
from journal.fs import files, system
from journal.fs.handles import JournalFile
from journal.fs.locks import DirectoryLock
from journal.index.hint import read_hint
from journal.store.interrupted_rows import start_run
from journal.verify import verify_job

JOB = "guarded"


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """The journal of a job of nine rows, the first of them done."""
    root = tmp_path / "store"
    with JobService(root, sync="none") as service:
        service.create_job("Guarded", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(9)])
        service.complete_row(f"{JOB}:1", "T-1")
    return journal_path(root, JOB)


@pytest.fixture(name="service")
def fixture_service(path: Path) -> Iterator[JobService]:
    with JobService(path.parents[1], lock_timeout_s=0.2) as service:
        service.skip_row(f"{JOB}:9")
        yield service


@pytest.fixture(name="faulty")
def fixture_faulty(monkeypatch: pytest.MonkeyPatch, service: JobService) -> FaultyOs:
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    return faulty


@contextmanager
def discarded(service: JobService) -> Iterator[None]:
    with suppress(KeyError), service.batch(JOB):
        yield
        raise KeyError


def status_of(root: Path, number: int) -> RowStatus:
    return read_all(root, JOB)[1][number - 1].status


def in_a_thread(act: Callable[[], object]) -> None:
    """As another thread hears it: its error is raised here."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


# --- what others do to the file while a batch is open --------------------------------------------


def went_on(path: Path, name: str, tracking: str) -> bytes:
    """The journal of a copy that went on by one commit."""
    root = path.parents[2] / name
    shutil.copytree(path.parents[1], root)
    with JobService(root, sync="none") as service:
        service.complete_row(f"{JOB}:2", tracking)
    return journal_path(root, JOB).read_bytes()


@needs_links
def test_a_journal_that_was_written_anew_is_locked_until_its_commit_has_ended(
    service: JobService, path: Path, tmp_path: Path
) -> None:
    os.link(path, tmp_path / "link")
    with JobService(service.root, lock_timeout_s=0) as other:
        with service.batch(JOB), pytest.raises(JobLockedError):
            other.complete_row(f"{JOB}:3")
        assert other.complete_row(f"{JOB}:3").status is RowStatus.COMPLETED


def test_who_has_met_the_bytes_of_another_still_cuts_off_half_of_its_own_commit(
    service: JobService, path: Path, faulty: FaultyOs
) -> None:
    theirs = went_on(path, "copy", "T-2")
    with pytest.raises(StorageError), service.batch(JOB):  # noqa: PT012  (its end raises)
        service.complete_row(f"{JOB}:3")
        path.write_bytes(theirs)
    faulty.plan("write", writes_half, fails(errno.ENOSPC))
    with pytest.raises(StorageError):
        service.complete_row(f"{JOB}:3")
    assert path.read_bytes() == theirs


@needs_boot_ids
def test_a_journal_is_closed_without_a_hint_of_what_may_not_be_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(path.parents[1]) as service:
        service.create_rows(JOB, [{"data": {"pad": "x" * 100_000}} for _ in range(3)])
    path.with_name("index.hint").unlink()
    faulty = FaultyOs()
    with monkeypatch.context() as patch, JobService(path.parents[1]) as service:
        service.get_job(JOB)
        path.with_name("index.hint").unlink()
        service.store.journal(JOB).log.hint_end = 0
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("write", fails(errno.EIO))
        faulty.plan("ftruncate", fails(errno.EIO))
        with pytest.raises(CommitOutcomeUnknownError):
            service.complete_row(f"{JOB}:2")
    assert status_of(path.parents[1], 2) is RowStatus.PENDING


@pytest.mark.parametrize("is_spilled", [False, True], ids=["at-the-end", "in-between"])
@pytest.mark.parametrize("theirs", ["longer", "of-the-same-length"])
def test_what_was_written_over_the_journal_during_a_batch_is_neither_cut_nor_built_upon(
    path: Path, service: JobService, monkeypatch: pytest.MonkeyPatch, theirs: str, is_spilled: bool
) -> None:
    if is_spilled:
        monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 300)
    others = went_on(path, "other", "THEIRS")
    if theirs == "of-the-same-length":
        service.complete_row(f"{JOB}:2", "MYOWNS")
        assert path.stat().st_size == len(others)

    def change() -> None:
        with service.batch(JOB):
            path.write_bytes(others)  # as `cp` does, in place
            if is_spilled:
                with discarded(service):
                    service.create_rows(JOB, [{"data": {"pad": "x" * 200}}] * 3)
            service.skip_row(f"{JOB}:3")

    with pytest.raises(StorageError, match="written over"):
        change()
    assert path.read_bytes() == others
    row = service.get_row(f"{JOB}:2")
    assert row is not None
    assert row.tracking_number == "THEIRS"
    service.skip_row(f"{JOB}:3")
    assert path.read_bytes().startswith(others)


def test_what_an_inner_block_has_spilled_is_not_cut_out_of_a_journal_that_others_wrote_over(
    path: Path, service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 300)
    others = went_on(path, "other", "T" * 5000)

    def change() -> None:
        with service.batch(JOB):
            with discarded(service):
                service.create_rows(JOB, [{"data": {"pad": "x" * 200}}] * 3)
                path.write_bytes(others)
            service.skip_row(f"{JOB}:3")

    with pytest.raises(StorageError, match="written over"):
        change()
    assert path.read_bytes() == others


# --- what a block leaves behind that was undone, or could not begin ------------------------------


@pytest.mark.parametrize("is_inner", [False, True], ids=["commit", "inner-block"])
def test_a_time_that_nothing_was_written_with_holds_nobody_up(
    path: Path, service: JobService, monkeypatch: pytest.MonkeyPatch, is_inner: bool
) -> None:
    real = datetime.now
    ahead = timedelta(hours=1)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real(tz) + ahead

    monkeypatch.setattr(journal.format.records, "datetime", Ahead)

    def undone() -> None:
        nonlocal ahead
        with discarded(service):
            service.skip_row(f"{JOB}:3")
        ahead = timedelta(0)

    with service.batch(JOB) if is_inner else nullcontext():
        undone()
        service.skip_row(f"{JOB}:4")
    last = msgspec.json.decode(path.read_bytes().splitlines()[-1])
    assert datetime.fromisoformat(last["at"]) < real().astimezone() + timedelta(minutes=30)


@pytest.mark.parametrize("is_inner", [False, True], ids=["commit", "inner-block"])
@pytest.mark.parametrize("spill_bytes", [1 << 20, 300], ids=["kept", "spilled"])
def test_of_what_was_undone_nothing_is_left_and_all_that_was_before_it(
    path: Path,
    service: JobService,
    monkeypatch: pytest.MonkeyPatch,
    spill_bytes: int,
    is_inner: bool,
) -> None:
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", spill_bytes)

    made: list[Sequence[JobRow]] = []

    def undone() -> None:
        with discarded(service):
            service.skip_row(f"{JOB}:3")
            made.append(service.create_rows(JOB, [{"data": {"undone": "x" * 200}}] * 4))

    with service.batch(JOB) if is_inner else nullcontext():
        service.skip_row(f"{JOB}:2")
        undone()
        service.create_rows(JOB, [{"data": {"later": n}} for n in range(4)])
    with pytest.raises(ServiceClosedError, match="discarded"):
        list(made[0])
    rows = list(service.get_rows(JOB))
    assert rows == read_all(path.parents[1], JOB)[1]
    assert [row.row_number for row in rows if row.status == "skipped"] == [2, 9]
    assert [row.data.get("later") for row in rows[9:]] == [0, 1, 2, 3]
    assert verify_job(path.parent).findings == []


def test_a_journal_opened_for_reading_is_opened_anew_for_a_change(
    path: Path, faulty: FaultyOs
) -> None:
    faulty.plan("open", fails(errno.EACCES))
    with JobService(path.parents[1]) as service:
        service.get_job(JOB)
        service.skip_row(f"{JOB}:2")


@pytest.mark.parametrize("refused", ["fdatasync", "fsync"])
def test_a_commit_that_cannot_begin_leaves_no_lock_behind(
    path: Path, faulty: FaultyOs, service: JobService, refused: str
) -> None:
    """The journal can't be written anew, or its name can't be synced once it is in its place."""
    other = JobService(path.parents[1], sync="none", lock_timeout_s=0.2)
    other.skip_row(f"{JOB}:2")  # which the service has to sync before its own
    faults = {"fdatasync": [fails(errno.EDQUOT)], "fsync": []}
    faults[refused].append(fails(errno.EDQUOT))
    for name, planned in faults.items():
        faulty.plan(name, *planned)
    with pytest.raises(StorageError):
        service.skip_row(f"{JOB}:3")
    in_a_thread(lambda: service.get_job(JOB))
    other.skip_row(f"{JOB}:4")
    in_a_thread(lambda: service.skip_row(f"{JOB}:5"))
    other.close()


def test_a_service_that_is_closed_within_a_batch_writes_it_when_it_ends(
    path: Path, service: JobService
) -> None:
    with service.batch(JOB):
        service.skip_row(f"{JOB}:2")
        service.close()
    assert status_of(path.parents[1], 2) is RowStatus.SKIPPED


# --- what a reader holds on to -------------------------------------------------------------------


def test_what_a_reader_took_of_a_bad_commit_goes_with_it(path: Path, service: JobService) -> None:
    good = path.read_bytes()
    line = b'{"type":"row_status","row":%d,"status":"completed","at":"2999-11-24T13:35:00.000001Z"}'
    append_commit(path, line % 2, line % 99)
    for _ in range(2):
        with pytest.raises(JournalDamagedError, match="row 99"):
            service.get_job(JOB)
    path.write_bytes(good)
    append_commit(path, line % 3)
    assert [row.row_number for row in service.get_rows(JOB, "completed")] == [1, 3]


def test_who_has_found_damage_keeps_nobody_out(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"n":3', b'"n":7'))
    with JobService(path.parents[1]) as first, JobService(path.parents[1]) as other:
        for service in (first, other, first):
            with pytest.raises(JournalDamagedError):  # and not JobLockedError
                service.get_job(JOB)
        other.store.lock_timeout_s = 0.05
        with pytest.raises(JournalDamagedError):
            other.skip_row(f"{JOB}:3")


@needs_fork
def test_rows_are_not_read_out_of_a_journal_that_replaced_theirs_before_a_fork(path: Path) -> None:
    script = """
    import shutil
    rows = JobService(root).get_rows(job_id)
    path = f"{root}/{job_id}/journal.jsonl"
    shutil.copy(path, path + ".new")
    os.rename(path + ".new", path)
    pid = os.fork()
    if not pid:
        try:
            tell([row.row_number for row in rows])
        except StorageError as error:
            tell("replaced" if "replaced" in str(error) else error)
        os._exit(0)
    os.waitpid(pid, 0)
    """
    with Child(script, path.parents[1], JOB) as child:
        assert child.hear() == "replaced"


@pytest.mark.parametrize("boot_id", ["", "this start"])
def test_a_hint_over_unsynced_commits_needs_a_start_of_the_system_and_a_version_that_is_known(
    path: Path, monkeypatch: pytest.MonkeyPatch, boot_id: str
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 1)
    monkeypatch.setattr(journal.fs.system, "boot_id", lambda: boot_id)
    hint = path.parent / "index.hint"
    hint.unlink(missing_ok=True)
    with JobService(path.parents[1], sync="none") as service:
        service.skip_row(f"{JOB}:2")
    assert hint.exists() == bool(boot_id)
    if boot_id:
        file = JournalFile(path)
        assert read_hint(path.parent, file)
        line, _, columns = hint.read_bytes().partition(b"\n")
        body = re.sub(rb'"hint":(\d+)', rb'"hint":9\1', line[:-18])
        hint.write_bytes(body + b',"crc":"%08x"}\n' % crc32(body) + columns)
        assert read_hint(path.parent, file) is None


# --- stores --------------------------------------------------------------------------------------


def test_of_many_jobs_those_that_were_used_last_stay_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store.store, "MAX_OPEN_JOURNALS", 2)
    with JobService(path.parents[1], sync="none", lock_timeout_s=0.2) as service:
        for job_id in "abc":
            service.create_job("x", job_id=job_id, row_data=[{}])
        for job_id in "abac":
            service.get_job(job_id)
        assert list(service.store._journals) == ["a", "c"]
        with service.batch("a"):
            for job_id in "bcb":
                service.get_job(job_id)
            service.skip_row("a:1")
        row = service.get_row("a:1")
    assert row is not None
    assert row.status is RowStatus.SKIPPED


def test_a_kept_run_outlasts_the_status_and_not_the_service(
    path: Path, service: JobService
) -> None:
    start_run(service.store, JOB, keep=True)
    service.update_status(JOB, "paused")
    with JobService(path.parents[1]) as other:
        with pytest.raises(JobBusyError):
            other.start_job(JOB)
        service.close()
        other.start_job(JOB)
        with pytest.raises(ServiceClosedError):
            service.delete_job(JOB)
        assert other.get_job(JOB) is not None


def test_a_run_that_is_kept_outlasts_a_job_that_another_process_has_ended(
    path: Path, service: JobService
) -> None:
    start_run(service.store, JOB, keep=True)
    with JobService(path.parents[1]) as other:
        other.update_status(JOB, "cancelled")
    job = service.get_job(JOB)
    assert job is not None
    assert job.status == "cancelled"
    assert service.store.runs.holds(JOB)


def test_what_is_in_the_way_of_a_store_is_named_at_once(path: Path) -> None:
    with pytest.raises(InvalidValueError):
        JobService(path)
    staging = path.parents[1] / ".staging"
    shutil.rmtree(staging)
    for name in (".staging", f".staging-{system.os.geteuid()}"):
        staging.with_name(name).write_text("in the way")
    with JobService(path.parents[1]) as service, pytest.raises(StorageError, match="remove one"):
        service.create_job("x")


def test_a_job_that_is_being_made_is_no_leftover_for_others(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service, JobService(tmp_path) as other:

        def rows() -> Iterator[dict[str, Any]]:
            yield {"data": {"n": 1}}
            other.create_job("Other", job_id="other")
            yield {"data": {"n": 2}}

        service.create_job("Slow", job_id="slow", row_data=rows())
        assert [row.data["n"] for row in other.get_rows("slow")] == [1, 2]


def test_only_an_empty_directory_gives_way_to_a_new_job(path: Path) -> None:
    root = path.parents[1]
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "full" / "mine.txt").write_text("kept")
    with JobService(root) as service:
        with pytest.raises(InvalidValueError):
            service.create_job("x", job_id="empty", row_data=[{"weight": object()}])
        assert list((root / "empty").iterdir()) == []
        assert service.create_job("x", job_id="empty").id == "empty"
        with pytest.raises(InvalidValueError, match="exists but has no journal"):
            service.create_job("x", job_id="full")
    assert (root / "full" / "mine.txt").read_text() == "kept"


@needs_windows  # elsewhere, one rename moves the whole directory away
def test_a_deletion_leaves_a_job_that_is_made_in_its_place_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = path.parents[1]
    staged, emptied, created = threading.Event(), threading.Event(), threading.Event()
    rename = journal.fs.system.os.rename

    def rename_and_wait(source: str | Path, target: Path, **directories: int) -> None:
        rename(source, target, **directories)
        left = Path(source).parent
        if left == root / "x" and not any(left.iterdir()):
            emptied.set()
            assert created.wait(60)

    def rows() -> Iterator[dict[str, Any]]:
        staged.set()
        assert emptied.wait(60)
        yield {"data": {"a": 1}}

    def create() -> None:
        with JobService(root) as service:
            service.create_job("second", job_id="x", row_data=rows())
        created.set()

    thread = threading.Thread(target=create)
    thread.start()
    assert staged.wait(60)
    with JobService(root) as service:
        service.create_job("first", job_id="x")
        monkeypatch.setattr(journal.fs.system.os, "rename", rename_and_wait)
        assert service.delete_job("x")
        thread.join()
        assert [row.data for row in service.get_rows("x")] == [{"a": 1}]


@needs_links
def test_a_link_to_an_empty_directory_does_not_give_way_to_a_new_job(path: Path) -> None:
    root = path.parents[1]
    (root / "empty").mkdir()
    (root / "link").symlink_to("empty")
    with JobService(root) as service, pytest.raises(InvalidValueError, match="exists but has no"):
        service.create_job("x", job_id="link")
    assert (root / "link").is_symlink()


def test_what_begins_with_no_job_is_damage_to_whoever_reads_no_more_than_that(path: Path) -> None:
    log = b'{"type":"log","message":"x","at":"2026-11-24T13:35:00.000002Z"}'
    for content in (b"", seal_commits([[log]])):
        path.write_bytes(content)
        with JobService(path.parents[1]) as service:
            with pytest.raises(JournalDamagedError):
                service.get_job(JOB)
            with pytest.raises(JournalDamagedError):
                service.list_jobs()


@pytest.mark.parametrize(
    ("made", "error"), [(True, JobExistsError), (False, JobNotFoundError)], ids=["made", "deleted"]
)
def test_what_becomes_of_a_name_while_a_job_is_made_is_named(
    path: Path, faulty: FaultyOs, service: JobService, made: bool, error: type[JournalError]
) -> None:
    def rename(real: Callable[..., Any], source: Path, target: Path) -> None:
        if made:
            shutil.copytree(path.parent, target)
        real(source, target)
        if not made:
            shutil.rmtree(target)

    faulty.plan("rename", rename)
    with pytest.raises(error):
        service.create_job("x", job_id="new")
    assert staging_of(path.parents[1]) == []


def test_an_undeletable_job_can_be_run(path: Path, faulty: FaultyOs, service: JobService) -> None:
    faulty.plan("rename", fails(errno.EACCES))
    with pytest.raises(StorageError) as kept:  # and with it all that the call held
        service.delete_job(JOB)
    with JobService(path.parents[1]) as other:
        other.start_job(JOB)
    assert kept.value.errno == errno.EACCES


@needs_links
def test_cleaning_up_follows_no_link_and_what_it_cannot_remove_it_leaves(
    path: Path, faulty: FaultyOs, service: JobService
) -> None:
    staging = path.parents[1] / ".staging"
    for name in ("left", "link"):
        outside = path.parents[2] / name
        outside.mkdir()
        (outside / "mine").write_text("mine")
    (staging / "left").mkdir()
    (staging / "left" / "within").symlink_to(path.parents[2] / "left")
    (staging / "link").symlink_to(path.parents[2] / "link")
    faulty.always("unlink", fails(errno.EACCES))
    service.create_job("x", job_id="first")
    assert os.listdir(staging) == ["link"]
    faulty.heal()
    service.create_job("x", job_id="second")
    assert os.listdir(staging) == []
    for name in ("left", "link"):
        assert (path.parents[2] / name / "mine").read_text() == "mine"


def test_two_who_ask_whether_a_lock_is_held_do_not_see_each_other(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    assert [first.is_held(), second.is_held()] == [False, False]
    first.close()
    second.close()


def test_a_directory_that_was_moved_is_not_at_its_path_and_what_may_not_be_looked_at_is(
    path: Path, faulty: FaultyOs
) -> None:
    lock = DirectoryLock(path.parent)
    assert lock.is_at_path()
    faulty.plan("lstat", fails(errno.EACCES), fails(errno.ENOENT))
    assert [files.exists(path), files.exists(path)] == [True, False]
    path.parent.rename(path.parent.with_name("away"))
    assert not lock.is_at_path()
    path.parent.mkdir()
    assert not lock.is_at_path()
    lock.close()


# --- forks ---------------------------------------------------------------------------------------


@needs_fork
def test_a_forked_child_carries_out_nothing_that_was_asked_for_in_its_parent(path: Path) -> None:
    script = """
    import threading, time
    import journal.fs.system

    SYSTEM_OS = journal.fs.system.os

    class SlowOs:
        def __getattr__(self, name):
            return getattr(SYSTEM_OS, name)
        def fdatasync(self, fd):
            syncing.set()
            threading.Event().wait()

    syncing = threading.Event()
    service = JobService(root)
    service.skip_row(f"{job_id}:2")
    journal.fs.system.os = SlowOs()
    threading.Thread(target=service.skip_row, args=(f"{job_id}:3",), daemon=True).start()
    syncing.wait()
    threading.Thread(target=service.skip_row, args=(f"{job_id}:4",), daemon=True).start()
    while not service.store.journal(job_id)._group.open.requests:
        time.sleep(0.001)  # it tells nobody that it has grown
    if not os.fork():
        journal.fs.system.os = SYSTEM_OS
        service.skip_row(f"{job_id}:5")
        tell("done")
    os._exit(0)
    """
    with Child(script, path.parents[1], JOB) as child:
        assert child.hear() == "done"
    assert status_of(path.parents[1], 4) is RowStatus.PENDING
    assert status_of(path.parents[1], 5) is RowStatus.SKIPPED
