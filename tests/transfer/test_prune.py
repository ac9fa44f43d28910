"""`prune_jobs` and `journal prune`: old jobs that have ended go, and never without their pack."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, fails, journal_path
from support.copies import JOB, change, complete, make_job, put_artifact
from support.platforms import (
    needs_links,
    needs_modes,
    needs_open_files_moved,
)
from support.system_os import SYSTEM_OS

import journal
import journal.fs.system
import journal.transfer.prune
from journal import (
    InvalidValueError,
    JobBusyError,
    JobLockedError,
    JobPrunedError,
    JobRow,
    JobService,
    StorageError,
)
from journal.cli.main import main
from journal.fs import files
from journal.store.store import Store
from journal.transfer import Pruned, prune_jobs, pull_job, unpack_job
from journal.transfer.pack import Contents, Snapshot, write_pack

Capture = pytest.CaptureFixture[str]
LATER = datetime.now(UTC) + timedelta(days=1)  # all jobs of these tests are older


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture(name="archive")
def fixture_archive(tmp_path: Path) -> Path:
    path = tmp_path / "archive"
    path.mkdir()
    return path


def make(root: Path, job_id: str, status: str = "completed", rows: int = 3) -> None:
    with JobService(root, sync="none") as service:
        service.create_job(
            job_id, job_id=job_id, row_data=[{"data": {"n": n}} for n in range(rows)]
        )
        service.start_job(job_id)
        for number in range(1, rows + 1):
            service.start_row(f"{job_id}:{number}")
            service.complete_row(f"{job_id}:{number}")
        if status != "running":
            service.update_status(job_id, status)


def prune(root: Path, before: datetime = LATER, **more: Any) -> dict[str, Pruned]:
    return {pruned.job_id: pruned for pruned in prune_jobs(root, before, **more)}


def jobs(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.startswith("."))


def test_a_job_whose_claims_cannot_be_listed_is_kept_since_late_results_may_be_there(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "old")
    (root / "old/claims").mkdir()
    names_in = files.names_in

    def refuse(path: Path) -> Any:
        if path.name == "claims":
            raise PermissionError(errno.EACCES, "Permission denied")
        return names_in(path)

    monkeypatch.setattr(files, "names_in", refuse)
    assert "claims: Permission denied; there may be results of rows" in str(
        prune(root)["old"].reason
    )
    assert jobs(root) == ["old"]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_job_whose_last_line_has_no_end_is_deleted(
    root: Path, archive: Path, is_packed: bool
) -> None:
    make(root, "a")
    path = journal_path(root, "a")
    path.write_bytes(path.read_bytes()[:-1])
    pruned = prune(root, to=archive if is_packed else None, lock_timeout_s=0)
    assert pruned["a"].action == "deleted"
    assert names(archive) == ["a.tar.gz"] * is_packed


def test_only_old_jobs_that_have_ended_are_deleted(root: Path) -> None:
    for job_id, status in (("a", "completed"), ("b", "failed"), ("c", "cancelled")):
        make(root, job_id, status)
    make(root, "paused", "paused")
    now = datetime.now(UTC)
    make(root, "young")
    pruned = prune(root, now)
    assert jobs(root) == ["paused", "young"]
    assert {job_id: one.action for job_id, one in pruned.items()} == {
        **dict.fromkeys("abc", "deleted"),
        "paused": "left",
    }
    assert pruned["paused"].reason == "it is paused: jobs with this status are not deleted"
    assert pruned["a"].pack is None


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_completed_job_with_rows_to_do_or_to_review_after_a_merge_is_left(
    root: Path, tmp_path: Path, *, dry_run: bool
) -> None:
    for name, act in (
        ("review", lambda service: complete(service, 3)),
        ("open", lambda service: service.create_rows(JOB, [{"data": {"n": 4}}])),
    ):
        make_job(root, 3)
        there = Path(shutil.copytree(root, tmp_path / name))
        change(root, lambda service: complete(service, 3))
        change(root, lambda service: service.update_status(JOB, "completed"))
        change(there, act)
        pull_job(root, there / JOB, merge=True)
        pruned = prune(root, dry_run=dry_run)[JOB]
        reason = {"review": "1 row needs a review", "open": "1 row is open"}[name]
        assert (pruned.action, pruned.reason) == ("left", reason)
        shutil.rmtree(root)


def test_a_dry_run_changes_nothing(root: Path, archive: Path) -> None:
    make(root, "a")
    before = names(root / "a")
    (archive / "a.tar.gz").write_bytes(b"another file")
    found = prune(root, to=archive, dry_run=True)["a"]
    assert (found.action, found.pack) == ("would_delete", str(archive / "a.2.tar.gz"))
    assert names(root / "a") == before
    assert names(archive) == ["a.tar.gz"]


def test_a_pack_is_all_of_the_job(root: Path, archive: Path, tmp_path: Path) -> None:
    make(root, "a")
    put_artifact(root, "labels/1.pdf", b"label", job_id="a")
    (root / "a" / "journal.torn-5-1").write_bytes(b"evidence")
    text = journal_path(root, "a").read_bytes()
    pruned = prune(root, to=archive)["a"]
    assert pruned.pack == str(archive / "a.tar.gz")
    assert jobs(root) == []
    assert unpack_job(tmp_path / "other", archive / "a.tar.gz").job_id == "a"
    assert journal_path(tmp_path / "other", "a").read_bytes() == text
    assert (tmp_path / "other" / "a" / "artifacts/labels/1.pdf").read_bytes() == b"label"
    assert (tmp_path / "other" / "a" / "journal.torn-5-1").read_bytes() == b"evidence"


def test_no_file_is_overwritten(root: Path, archive: Path) -> None:
    make(root, "a")
    shutil.copytree(root, archive.parent / "copy")
    (archive / "a.tar.gz").write_bytes(b"mine")
    for number in (2, 3):
        assert prune(root, to=archive)["a"].pack == str(archive / f"a.{number}.tar.gz")
        shutil.copytree(archive.parent / "copy" / "a", root / "a")
    assert names(archive) == ["a.2.tar.gz", "a.3.tar.gz", "a.tar.gz"]
    assert (archive / "a.tar.gz").read_bytes() == b"mine"


@needs_links
@pytest.mark.parametrize(
    "name", ["notes.txt", "artifacts/link", "journal.damaged-by-me", "index.hint.notes"]
)
def test_a_job_with_a_file_that_no_pack_can_hold_is_left(
    root: Path, archive: Path, name: str
) -> None:
    make(root, "a")
    (root / "a" / "artifacts").mkdir(exist_ok=True)
    if name.endswith("link"):
        (root / "a" / name).symlink_to("elsewhere")
    else:
        (root / "a" / name).write_text("mine")
    pruned = prune(root, to=archive)["a"]
    assert pruned.action == "left"
    assert f"no pack can hold {name}" in str(pruned.reason)
    assert jobs(root) == ["a"]
    assert names(archive) == []
    assert prune(root)["a"].action == "deleted"


@pytest.mark.parametrize("goes", [False, True])
def test_a_job_whose_artifact_grows_or_goes_while_it_is_packed_is_left(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    make(root, "a")
    path = put_artifact(root, "1.pdf", b"label", job_id="a")
    real = Snapshot.contents

    def changing(snapshot: Snapshot) -> Any:
        if goes:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(path.read_bytes() + b"more")
        return real(snapshot)

    monkeypatch.setattr(Snapshot, "contents", changing)
    pruned = prune(root, to=archive)["a"]
    assert pruned.reason == "its files differ from those in its pack: somebody writes to them"
    assert (jobs(root), names(archive)) == (["a"], [])


@needs_modes
def test_a_pack_is_private_as_the_journal_in_it(root: Path, archive: Path) -> None:
    make(root, "a")
    prune(root, to=archive)
    assert (archive / "a.tar.gz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_cancelled_job_is_left_while_a_run_works_on_its_last_rows(
    root: Path, dry_run: bool
) -> None:
    pruned: list[Pruned] = []

    def handler(_row: JobRow) -> None:
        job.service.update_status("a", "cancelled")
        pruned.append(prune(root, dry_run=dry_run, lock_timeout_s=0.05)["a"])

    with journal.open_job(root / "a", [{"n": 1}], sync="none") as job:
        job.run(handler, tell=lambda _text: None)
        assert job.rows("completed")
    assert [one.action for one in pruned] == ["left"]


@needs_links
@pytest.mark.parametrize("is_packed", [True, False])
def test_a_link_to_a_job_is_left_since_the_files_of_the_job_would_stay(
    root: Path, archive: Path, tmp_path: Path, is_packed: bool
) -> None:
    make(root, "a")
    (root / "a").rename(tmp_path / "elsewhere")
    (root / "a").symlink_to(tmp_path / "elsewhere")
    pruned = prune(root, to=archive if is_packed else None)["a"]
    assert (pruned.action, names(archive)) == ("left", [])
    assert (
        str(pruned.reason)
        == f"its directory is a link to {tmp_path}/elsewhere, whose files would stay"
    )
    assert journal_path(root, "a").exists()


def test_a_job_that_is_locked_or_damaged_is_left_and_named(root: Path, archive: Path) -> None:
    make(root, "damaged")
    make(root, "locked")
    path = journal_path(root, "damaged")
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    with JobService(root, sync="none") as service, service.batch("locked"):
        service.log("locked", "in a commit")
        pruned = prune(root, to=archive, lock_timeout_s=0.05)
    assert {one.action for one in pruned.values()} == {"left"}
    assert isinstance(pruned["locked"].error, JobLockedError)
    assert pruned["damaged"].status is None
    assert names(archive) == []
    assert jobs(root) == ["damaged", "locked"]


def test_nothing_is_committed_between_the_pack_and_the_deletion(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    faulty = FaultyOs()
    refused: list[type[Exception]] = []

    def write(real: Callable[..., Any], *arguments: Any) -> Any:
        with JobService(root, sync="none", lock_timeout_s=0.05) as other:
            for act in (lambda: other.log("a", "late"), lambda: other.reopen_job("a")):
                with pytest.raises((JobLockedError, JobBusyError)) as raised:
                    act()
                refused.append(raised.type)
        return real(*arguments)

    faulty.plan("link", write)  # the pack gets its name
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    assert prune(root, to=archive)["a"].action == "deleted"
    assert refused == [JobLockedError, JobBusyError]


def test_a_job_that_was_deleted_meanwhile_is_passed_over(root: Path) -> None:
    make(root, "a")
    make(root, "b")
    pruning = prune_jobs(root, LATER)
    assert next(pruning).job_id == "a"
    shutil.rmtree(root / "b")
    assert list(pruning) == []


def test_a_job_that_got_newer_meanwhile_is_left_and_the_reason_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    delete = Store.delete

    def log(store: Store, *arguments: Any) -> bool:
        with JobService(root, sync="none") as other:
            other.log("a", "late")
        return delete(store, *arguments)

    monkeypatch.setattr(Store, "delete", log)
    pruned = prune(root, datetime.now(UTC))["a"]
    assert pruned.reason == "it was changed meanwhile, and is no longer old enough"
    assert jobs(root) == ["a"]


def test_a_job_whose_files_cant_be_listed_is_left_and_the_next_one_is_deleted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "one")
    make(root, "two")
    faulty = FaultyOs()
    faulty.plan("scandir", lambda real, *some: real(*some), fails(errno.EIO))  # of the first one
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    one, two = prune_jobs(root, LATER)
    assert (one.job_id, one.action, two.action) == ("one", "left", "deleted")
    assert "Input/output error" in str(one.reason)


def test_a_time_without_a_zone_is_refused_at_the_call(root: Path) -> None:
    make(root, "a")
    with pytest.raises(InvalidValueError, match="has no time zone"):
        prune_jobs(root, LATER.replace(tzinfo=None))


def test_a_full_target_leaves_the_job_and_no_part_of_a_pack(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    faulty = FaultyOs()
    faulty.always("fsync", fails(errno.ENOSPC))
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    pruned = prune(root, to=archive)["a"]
    monkeypatch.undo()
    assert isinstance(pruned.error, StorageError)
    assert pruned.reason is not None
    assert "No space left" in pruned.reason
    assert names(archive) == []
    assert jobs(root) == ["a"]


@pytest.mark.parametrize("where", [0.5, 0.99], ids=["in the middle", "at the end"])
def test_a_pack_that_reads_back_differently_is_no_reason_to_delete(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, where: float
) -> None:
    make(root, "a")
    put_artifact(root, "photo", os.urandom(1 << 20), job_id="a")

    def spoiled(write: Callable[[bytes], object], job_id: str, contents: Contents) -> None:
        pieces: list[bytes] = []
        write_pack(pieces.append, job_id, contents)
        data = bytearray(b"".join(pieces))
        data[int(len(data) * where)] ^= 1
        write(bytes(data))

    monkeypatch.setattr(journal.transfer.prune, "write_pack", spoiled)
    pruned = prune(root, to=archive)["a"]
    assert pruned.action == "left"
    assert (jobs(root), names(archive)) == (["a"], [])


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_another_process_makes_meanwhile_is_not_overwritten(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    make(root, "a")
    faulty = FaultyOs()

    def make_too(real: Callable[..., Any], *arguments: Any) -> None:
        (archive / "a.tar.gz").write_bytes(b"of another root")
        real(*arguments)

    faulty.plan("fsync", make_too)  # the pack is complete, and has no name yet
    if not has_links:
        faulty.always("link", fails(errno.EPERM))
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    assert "exists already" in str(prune(root, to=archive)["a"].reason)
    assert (archive / "a.tar.gz").read_bytes() == b"of another root"
    assert (jobs(root), names(archive)) == (["a"], ["a.tar.gz"])


def test_a_file_that_appears_just_before_the_pack_is_made_is_no_pack(
    root: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    faulty = FaultyOs()
    pack = archive / "a.tar.gz"

    def look(real: Callable[..., Any], path: Any) -> Any:
        try:
            return real(path)
        finally:
            if path == pack:
                pack.write_bytes(b"of another root")

    faulty.always("lstat", look)
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    assert "exists already" in str(prune(root, to=archive)["a"].reason)
    assert (archive / "a.tar.gz").read_bytes() == b"of another root"


_CHANGES = {"open", "write", "pwrite", "ftruncate", "fsync", "rename", "link", "unlink"}
_CHANGES |= {"rmdir", "mkdir"}


class Killed(BaseException):
    pass


class KilledOs:
    """The system of a process that is killed at call number ``at``: nothing but closing follows."""

    def __init__(self, at: int) -> None:
        self._left = at

    @property
    def is_alive(self) -> bool:
        return self._left > 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM_OS, name)
        if name not in _CHANGES:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if not self.is_alive:
                raise Killed
            return real(*arguments, **options)

        return call


@needs_open_files_moved
def test_kill_9_at_any_moment_leaves_the_job_or_its_pack(
    root: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    put_artifact(root, "1.pdf", b"label", job_id="a")
    text = journal_path(root, "a").read_bytes()
    shutil.copytree(root, tmp_path / "before")
    kills = states = 0
    seen: set[tuple[bool, bool]] = set()
    while True:
        kills += 1
        killed = KilledOs(kills)
        with monkeypatch.context() as patch:
            patch.setattr(journal.fs.system, "os", killed)
            try:
                prune(root, to=archive)
            except Killed:
                states += 1
        packs = list(archive.glob("*.tar.gz"))
        seen.add((bool(jobs(root)), bool(packs)))
        if jobs(root):
            assert journal_path(root, "a").read_bytes() == text
            assert (root / "a/artifacts/1.pdf").read_bytes() == b"label"
        else:
            with pytest.raises(JobPrunedError):
                make(root, "a")
        prune(root, to=archive)  # by the next process
        assert jobs(root) == []
        for pack in archive.glob("*.tar.gz"):
            unpack_job(tmp_path / "other", pack)
            assert journal_path(tmp_path / "other", "a").read_bytes() == text
            shutil.rmtree(tmp_path / "other")
        if killed.is_alive:
            break
        for path in (root, archive):
            shutil.rmtree(path)
        archive.mkdir()
        shutil.copytree(tmp_path / "before", root)
    assert states > 20
    assert seen == {(True, False), (True, True), (False, True)}


@pytest.mark.parametrize("to", ["missing", "jobs/a", "jobs/a/artifacts", "file"])
def test_a_directory_for_packs_exists_and_is_no_part_of_a_job(root: Path, to: str) -> None:
    make(root, "a")
    (root / "a" / "artifacts").mkdir(exist_ok=True)
    (root.parent / "file").touch()
    with pytest.raises(InvalidValueError, match="to"):
        prune_jobs(root, LATER, to=root.parent / to)


# --- the command


def run(root: Path, *options: str) -> int:
    when = LATER.isoformat()
    return main(["--root", str(root), "prune", "--older-than", when, *options])


def test_the_command_lists_what_it_did_and_sums_it_up(root: Path, capsys: Capture) -> None:
    make(root, "a")
    make(root, "b", "paused")
    assert run(root, "--dry-run", "--json") == 0
    captured = capsys.readouterr()
    assert [one["action"] for one in json.loads(captured.out)] == ["would_delete", "left"]
    assert captured.err == "1 job would be deleted; 1 old job left\n"
    assert run(root, "--yes") == 0
    captured = capsys.readouterr()
    assert "left: it is paused: jobs with this status are not deleted" in captured.out
    assert captured.err == "1 job deleted; 1 old job left\n"
    assert jobs(root) == ["b"]
    make(root, "c")
    make(root, "d", "failed")
    assert run(root, "--yes", "--status", "failed", "--csv") == 0
    assert jobs(root) == ["b", "c"]
    assert run(root, "--to", str(root / "missing")) == 2
    assert "is not a directory: make it first" in capsys.readouterr().err


def test_the_command_asks_unless_each_job_is_packed(
    root: Path, archive: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "a")
    with open(os.devnull, encoding="utf-8") as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        assert run(root) == 2
        assert "give --yes" in capsys.readouterr().err
        assert jobs(root) == ["a"]
        assert run(root, "--to", str(archive)) == 0
    assert names(archive) == ["a.tar.gz"]


def test_one_command_unpacks_many_packs_and_names_those_that_it_can_not_unpack(
    root: Path, archive: Path, capsys: Capture
) -> None:
    for job_id in "abc":
        make(root, job_id)
    prune(root, to=archive)
    unpack_job(root, archive / "b.tar.gz")
    (archive / "a.tar.gz").write_bytes(b"no pack")
    packs = [str(archive / f"{job_id}.tar.gz") for job_id in "abc"]
    assert main(["--root", str(root), "unpack", *packs]) == 6
    out, err = capsys.readouterr()
    assert out == "c\n"
    assert f"journal: {archive / 'a.tar.gz'}" in err
    assert "journal: job 'b' exists already; nothing was changed" in err
    assert jobs(root) == ["b", "c"]
    assert main(["--root", str(root / "new"), "unpack", *packs[1:]]) == 0
    assert capsys.readouterr().out == "b\nc\n"
    assert main(["--root", str(root), "unpack", packs[1]]) == 4
