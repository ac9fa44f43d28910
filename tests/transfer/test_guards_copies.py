"""Guards of pulls, packs, kept files and outputs: what is synced in which order, and whose it is."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import FaultyOs, fails, journal_path, seal_commits, writes_half
from support.copies import JOB, content_of, go_on, make_job, packed, put_artifact
from support.platforms import IS_ROOT, needs_descriptor_paths, needs_links, needs_modes
from support.system_os import path_of

import journal.format.commits
import journal.fs.system
import journal.transfer.pull
from journal import CommitOutcomeUnknownError, JournalDamagedError, StorageError
from journal.format.commits import START, Position, blocks_between, seal_after, seal_before
from journal.fs import files
from journal.fs.file_names import JOURNAL_NAME, NEW_BACKUP_NAME, NEW_JOURNAL_NAME
from journal.fs.handles import JournalFile
from journal.transfer import pack_to_file, pull_job, unpack_job
from journal.transfer.copies import holds, open_copy
from journal.transfer.pack import Snapshot, Source

pytestmark = needs_descriptor_paths


class Trail(FaultyOs):
    """Notes by name what is synced, renamed and cut, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def __getattr__(self, name: str) -> Any:
        call = super().__getattr__(name)

        def noted(*arguments: Any, **options: Any) -> Any:
            result = call(*arguments, **options)
            if name == "rename":
                self.steps.append(f"name {Path(arguments[1]).name}")
            else:
                step = "cut" if name == "ftruncate" else "sync"
                self.steps.append(f"{step} {path_of(arguments[0]).name}")
            return result

        return noted if name in ("fsync", "fdatasync", "ftruncate", "rename") else call


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(name="there")
def fixture_there(here: Path) -> Path:
    """A copy that has gone on by four commits."""
    there = Path(shutil.copytree(here, here.with_name("there")))
    go_on(there, 3, 4)
    return there


@pytest.fixture(name="trail")
def fixture_trail(monkeypatch: pytest.MonkeyPatch, here: Path, there: Path) -> Trail:
    assert there.parent == here.parent
    trail = Trail()
    monkeypatch.setattr(journal.fs.system, "os", trail)
    return trail


# --- a pull --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["name", "sync"])
def test_a_pull_has_an_unknown_outcome_only_once_its_journal_is_in_place(
    here: Path, there: Path, trail: Trail, fault: str
) -> None:
    before = content_of(here)

    def refuse(real: Callable[..., Any], what: Any, *more: Any, **options: Any) -> Any:
        is_in_place = f"name {JOURNAL_NAME}" in trail.steps
        if fault == "name" and str(what).endswith(NEW_JOURNAL_NAME):
            raise OSError(errno.EIO, "Input/output error")
        if fault == "sync" and is_in_place and path_of(what).name == JOB:
            raise OSError(errno.EIO, "Input/output error")
        return real(what, *more, **options)

    trail.always("rename" if fault == "name" else "fsync", refuse)
    with pytest.raises(StorageError if fault == "name" else CommitOutcomeUnknownError):
        pull_job(here, Source(there / JOB))
    assert (content_of(here) == before) == (fault == "name")


@needs_modes
@pytest.mark.parametrize("may_give", [True, False])
def test_a_journal_that_is_written_anew_belongs_to_whom_it_did_as_far_as_it_may_be_given(
    here: Path, there: Path, trail: Trail, may_give: bool
) -> None:
    path = journal_path(here, JOB)
    path.chmod(0o640)
    if IS_ROOT:
        os.chown(path, 12345, 54321)
    was = path.stat()
    asked = []

    def chown(real: Callable[..., Any], fd: int, user: int, group: int) -> None:
        asked.append((user, group))
        (real if may_give else fails(errno.EPERM)(real) or real)(fd, user, group)

    trail.plan("fchown", chown)
    assert pull_job(here, Source(there / JOB)).action == "forwarded"
    now = path.stat()
    assert now.st_ino != was.st_ino
    assert asked == [(was.st_uid, was.st_gid)]
    assert now.st_mode == was.st_mode
    if may_give:
        assert (now.st_uid, now.st_gid) == (was.st_uid, was.st_gid)
    at = trail.steps.index("name journal.jsonl")
    assert trail.steps[at - 1 : at + 2] == [
        "sync journal.jsonl.new",
        "name journal.jsonl",
        f"sync {JOB}",
    ]


def test_what_is_left_of_a_journal_that_a_pull_died_over_is_no_hindrance_to_the_next(
    here: Path, there: Path
) -> None:
    (here / JOB / ".pull").mkdir()
    (here / JOB / ".pull" / "0").write_bytes(b"half")  # as the first artifact is called there
    put_artifact(there, "new.pdf", b"whole")
    (here / JOB / "journal.jsonl.new").write_bytes(b"half")
    assert pull_job(here, Source(there / JOB)).action == "forwarded"
    assert content_of(here) == content_of(there)


def test_a_seal_is_found_wherever_a_piece_of_the_file_ends(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JournalFile(journal_path(here, JOB))
    size = file.size_bytes()
    wanted = seal_before(file, size - 1), seal_after(file, 1, size)
    assert None not in wanted
    for chunk in range(1, 60):
        monkeypatch.setattr(journal.format.commits, "CHUNK_BYTES", chunk)
        assert (seal_before(file, size - 1), seal_after(file, 1, size)) == wanted


LOG = b'{"type":"log","message":"x","at":"2026-11-24T13:35:00.000002Z"}'


def test_a_copy_is_damaged_if_its_last_commit_does_not_fit_its_seal_or_it_begins_as_no_job(
    here: Path, tmp_path: Path
) -> None:
    content = journal_path(here, JOB).read_bytes()
    at = content.rindex(b"T-2")
    for number, broken in enumerate(
        (
            content[:at] + b"U" + content[at + 1 :],
            seal_commits([[LOG]]),
            seal_commits([[content.split(b"\n")[0].replace(b'"moved"', b'"../up"')]]),
        )
    ):
        journal_path(here, JOB).write_bytes(broken)
        with pytest.raises(JournalDamagedError):
            open_copy(here / JOB, str(number))


def test_a_copy_holds_a_seal_only_where_it_has_it_and_its_commits_must_lead_to_its_end(
    here: Path,
) -> None:
    copy = open_copy(here / JOB)
    offset, crc = copy.end.offset, copy.end.crc
    assert holds(copy, copy.end)
    assert not holds(copy, Position(offset, crc ^ 1))
    assert not holds(copy._replace(end=START), copy.end)
    assert list(blocks_between(copy.file, START, copy.end))
    for end in (Position(offset, crc ^ 1), Position(offset - 1, crc)):
        with pytest.raises(JournalDamagedError):
            list(blocks_between(copy.file, START, end))


# --- packs ---------------------------------------------------------------------------------------


def test_all_files_of_an_unpacked_job_and_their_names_are_on_the_disk_before_its_own(
    there: Path, trail: Trail, tmp_path: Path
) -> None:
    put_artifact(there, "a/b.pdf", b"b")
    pack = packed(there, tmp_path / "pack")
    trail.steps.clear()
    unpack_job(tmp_path / "new", pack)
    before = trail.steps[: trail.steps.index(f"name {JOB}")]
    assert [step for step in before if step in ("sync journal.jsonl", "sync b.pdf")] == [
        "sync journal.jsonl",
        "sync b.pdf",
    ]
    assert {"sync artifacts", "sync a"} <= set(before)
    assert trail.steps[-1] == "sync new"


def test_a_pack_is_on_the_disk_before_it_has_its_name_which_is_synced_then(
    here: Path, trail: Trail, tmp_path: Path
) -> None:
    (tmp_path / "packs").mkdir()
    pack_to_file(here / JOB, tmp_path / "packs" / "pack")
    at = trail.steps.index("name pack")
    assert trail.steps[at - 1].startswith("sync .")  # under the name that it has on its way
    assert trail.steps[at + 1 :] == ["sync packs"]


@needs_links
def test_a_link_in_the_place_of_the_artifacts_is_left_out_of_a_pack(
    here: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("secret")
    (here / JOB / "artifacts").symlink_to(tmp_path / "elsewhere")
    snapshot = Snapshot(open_copy(here / JOB))
    assert snapshot.names == ["journal.jsonl"]
    assert snapshot.left_out == ["artifacts"]


# --- files that are kept -------------------------------------------------------------------------


def half_of_it(kept: Path, _whole: Path) -> None:
    kept.write_bytes(b"half")


def link_to_it(kept: Path, whole: Path) -> None:
    kept.symlink_to(whole)


@pytest.mark.parametrize("leave", [half_of_it, pytest.param(link_to_it, marks=needs_links)])
def test_a_history_is_kept_whole_and_on_the_disk_whatever_was_left_of_it(
    here: Path, trail: Trail, tmp_path: Path, leave: Callable[[Path, Path], None]
) -> None:
    file = JournalFile(journal_path(here, JOB))
    end = file.size_bytes()
    kept = tmp_path / "kept" / "journal.other-1"
    kept.parent.mkdir()
    leave(kept, file.path)
    kept.with_name(NEW_BACKUP_NAME).mkdir()
    trail.plan("write", writes_half)
    files.keep_copy(file, end, kept)
    assert trail.steps == ["sync journal.backup.new", "name journal.other-1", "sync kept"]
    assert not kept.is_symlink()
    assert kept.read_bytes() == file.read_at(0, end)


def test_a_history_that_somebody_else_begins_to_keep_is_not_said_to_be_kept(
    here: Path, trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = JournalFile(journal_path(here, JOB))
    kept = tmp_path / "journal.other-1"
    monkeypatch.setattr(files, "remove_tree", lambda path: path.touch())
    with pytest.raises(FileExistsError):
        files.keep_copy(file, 100, kept)
    assert not kept.exists()


def test_a_copy_has_its_name_when_it_is_whole(here: Path, trail: Trail, tmp_path: Path) -> None:
    file = JournalFile(journal_path(here, JOB))
    (tmp_path / "copy-1").touch()
    left = tmp_path / NEW_BACKUP_NAME
    left.write_bytes(b"of a writer that died")
    copy = files.save_copy(file, 0, 100, tmp_path / "copy", sync=True)
    assert trail.steps == [f"sync {left.name}", "name copy-2"]
    assert copy.read_bytes() == file.read_at(0, 100)
    assert not left.exists()


def test_of_what_cannot_be_kept_nothing_is_left(here: Path, trail: Trail, tmp_path: Path) -> None:
    file = JournalFile(journal_path(here, JOB))
    for keep in (
        lambda target: files.keep_copy(file, 100, target),
        lambda target: files.save_copy(file, 0, 100, target, sync=True),
    ):
        target = tmp_path / "kept" / "copy"
        target.parent.mkdir(exist_ok=True)
        trail.plan("write", fails(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            keep(target)
        assert os.listdir(target.parent) == []
