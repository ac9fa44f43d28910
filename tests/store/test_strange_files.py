"""What may stand in the place of a job's own files: links, pipes, files with another name."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from support.children import FaultyOs, journal_path
from support.commands import journal_forks
from support.copies import JOB, go_on, make_job, packed, put_artifact
from support.platforms import (
    IS_ROOT,
    needs_fifos,
    needs_links,
    needs_modes,
    needs_open_files_moved,
    needs_owners,
    needs_shell,
)
from support.unprivileged import unprivileged

import journal.fs.system
from journal import InvalidValueError, JobService, StorageError
from journal.fs.output_files import whole_file
from journal.repair import repair_job
from journal.report import write_report
from journal.tables.export import export_rows
from journal.transfer import pack_to_file, pull_job
from journal.verify import verify_job

SECONDS = 60  # no command takes that long, unless it waits for ever


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "jobs"
    make_job(root)
    with JobService(root, sync="none") as service:
        service.update_status(JOB, "paused")
    return root


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of somebody who has nothing to do with the job."""
    path = tmp_path / "victim"
    path.write_bytes(b"precious")
    return path


def start(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.start_job(JOB)


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-W", "error", "-m", "journal", "--root", str(root)]
    return subprocess.run(
        [*line, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )


# --- links


@needs_links
@pytest.mark.parametrize("kind", ["link", "hard link", "link to nothing"])
def test_run_lock_is_not_written_through_a_link(root: Path, victim: Path, kind: str) -> None:
    lock = root / JOB / "run.lock"
    lock.unlink()
    if kind == "hard link":
        os.link(victim, lock)
    else:
        lock.symlink_to(victim if kind == "link" else victim.with_name("not there"))
    with pytest.raises(
        StorageError, match="2 hard links" if kind == "hard link" else "symbolic"
    ) as refused:
        start(root)
    assert refused.value.path == str(lock)
    assert victim.read_bytes() == b"precious"
    assert not victim.with_name("not there").exists()


@needs_links
def test_a_journal_that_is_a_link_is_neither_read_nor_written(root: Path, tmp_path: Path) -> None:
    real = journal_path(root, JOB).rename(tmp_path / "real")
    before = real.read_bytes()
    journal_path(root, JOB).symlink_to(real)
    with JobService(root) as service:
        for use in (
            lambda: service.get_job(JOB),
            lambda: service.complete_row(f"{JOB}:3"),
            service.list_jobs,
            lambda: verify_job(root / JOB),
            lambda: service.delete_job(JOB),
        ):
            with pytest.raises(StorageError, match="it is a symbolic link, which is not followed"):
                use()
    assert real.read_bytes() == before


@needs_links
def test_what_a_link_in_the_place_of_the_staging_directory_leads_to_is_left_alone(
    root: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "photos").mkdir(parents=True)
    shutil.rmtree(root / ".staging")
    (root / ".staging").symlink_to(elsewhere)
    with JobService(root) as service:
        service.create_job("New", job_id="new")
        service.delete_job("new")
    assert os.listdir(elsewhere) == ["photos"]


def is_careful(flags: int) -> bool:
    """Whether an open follows no link and waits for no pipe."""
    if flags & os.O_DIRECTORY or flags & os.O_EXCL:
        return True
    return bool(flags & os.O_NOFOLLOW and flags & os.O_NONBLOCK)


@needs_links
def test_all_that_is_opened_below_a_store_is_opened_without_following_links_or_waiting(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    shutil.copytree(root, there)
    put_artifact(there, "a/1.pdf", b"1")
    go_on(there, 3, 4)
    torn = shutil.copytree(root, tmp_path / "torn")
    with journal_path(torn, JOB).open("ab") as file:
        file.write(b'{"type":"row_st')
    hurt = shutil.copytree(root, tmp_path / "hurt")
    content = journal_path(hurt, JOB).read_bytes()
    journal_path(hurt, JOB).write_bytes(content.replace(b'"n":3', b'"n":4'))
    disk = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", disk)
    pull_job(root, there / JOB)
    packed(root, tmp_path / "pack")
    go_on(torn, 3)
    repair_job(hurt / JOB)
    with JobService(root, sync="none") as service:
        service.create_job("Large", job_id="large", row_data=[{"data": {"x": "x" * 999}}] * 999)
        service.start_job("large")
        assert service.run_holder("large") is not None
        service.update_status("large", "paused")
    with JobService(root) as service:
        assert len(service.list_jobs()) == 2
        assert service.run_holder("large") is None
        assert service.delete_job(JOB)
    opens = {arguments[:2] for name, arguments in disk.calls if name == "open"}
    careless = {
        str(path)
        for path, flags in opens
        if not is_careful(flags)
        if not Path(path).is_absolute() or tmp_path in Path(path).parents[1:]
    }
    assert careless == set()
    names = {Path(path).name for path, _ in opens}
    assert {"journal.jsonl", "run.lock", "index.hint", "1.pdf"} <= names


# --- links in the middle of an artifact's path


class Swapping(FaultyOs):
    """Just before one of its calls by name, a directory is replaced by a link to another."""

    def __init__(self, moment: int, directory: Path, other: Path) -> None:
        super().__init__()
        self.swapped = False
        self._moment, self._directory, self._other = moment, directory, other

    def __getattr__(self, name: str) -> Any:
        call = super().__getattr__(name)
        self._moment -= name in {"open", "scandir", "lstat", "link", "rename", "mkdir"}
        if not self._moment and not self.swapped:
            self.swapped = True
            self._directory.rename(self._directory.with_name("was"))
            self._directory.symlink_to(self._other)
        return (lambda _descriptor: None) if name in ("fsync", "fdatasync") else call


def all_below(path: Path) -> dict[str, bytes]:
    files = (each for each in sorted(path.rglob("*")) if each.is_file() and not each.is_symlink())
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in files}


def swapped_at_every_moment(
    tmp_path: Path, root: Path, which: str, act: Callable[[Path, Path], object]
) -> Iterator[tuple[Path, Path]]:
    """The stores after ``act(ours, theirs)``, once for each call before which a link may come.

    Both have ``artifacts/d/own`` and theirs ``new`` beside it, as the directory has that the link
    leads to.
    """
    outside = tmp_path / "outside"
    for name in ("own", "new"):
        put_artifact(tmp_path, f"d/{name}", b"secret", job_id="outside")
    for moment in itertools.count(1):
        ours, theirs = tmp_path / f"{moment}", tmp_path / f"{moment}" / "theirs"
        shutil.copytree(root, ours)
        put_artifact(ours, "d/own", b"ours")
        shutil.copytree(root, theirs)
        put_artifact(theirs, "d/own", b"theirs")
        put_artifact(theirs, "d/new", b"new")
        go_on(theirs, 3)
        store = ours if which == "ours" else theirs
        disk = Swapping(moment, store / JOB / "artifacts/d", outside / "artifacts/d")
        before = all_below(outside)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(journal.fs.system, "os", disk)
            with suppress(StorageError):
                act(ours, theirs)
        assert all_below(outside) == before
        if not disk.swapped:
            assert moment > 20
            return
        yield ours, theirs
        shutil.rmtree(ours)


def pull_from(ours: Path, theirs: Path) -> None:
    pull_job(ours, theirs / JOB)


@needs_links
def test_whenever_a_directory_becomes_a_link_a_pull_writes_nothing_outside(
    tmp_path: Path, root: Path
) -> None:
    for ours, _ in swapped_at_every_moment(tmp_path, root, "ours", pull_from):
        assert b"ours" in all_below(ours / JOB).values()


@needs_links
def test_whenever_a_directory_becomes_a_link_a_pull_takes_nothing_from_outside(
    tmp_path: Path, root: Path
) -> None:
    for ours, _ in swapped_at_every_moment(tmp_path, root, "theirs", pull_from):
        assert b"secret" not in all_below(ours / JOB).values()


@needs_links
def test_whenever_a_directory_becomes_a_link_a_pack_takes_nothing_from_outside(
    tmp_path: Path, root: Path
) -> None:
    def pack(_ours: Path, theirs: Path) -> None:
        packed(theirs, theirs / "pack")

    for _, theirs in swapped_at_every_moment(tmp_path, root, "theirs", pack):
        pack_path = theirs / "pack"
        assert not pack_path.exists() or b"secret" not in gzip.decompress(pack_path.read_bytes())


@needs_links
def test_a_pull_refuses_to_go_through_a_link_and_names_it(root: Path, tmp_path: Path) -> None:
    there = shutil.copytree(root, tmp_path / "there")
    put_artifact(there, "d/e/new", b"new")
    outside = tmp_path / "outside"
    (outside / "e").mkdir(parents=True)
    (root / JOB / "artifacts").mkdir()
    link = root / JOB / "artifacts" / "d"
    link.symlink_to(outside)
    with pytest.raises(StorageError, match="it is a directory in the other copy") as refused:
        pull_job(root, there / JOB)
    assert refused.value.path == str(link)
    assert os.listdir(outside / "e") == []


# --- what is removed, and the directory in which jobs are made and deleted


@needs_owners
def test_a_staging_directory_that_another_user_has_made_is_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".staging" / "left").mkdir()
    give_away(root / ".staging", monkeypatch)
    with JobService(root) as service:
        service.create_job("New", job_id="new")
        service.delete_job("new")
    assert os.listdir(root / ".staging") == ["left"]  # it would have been removed as a leftover
    own = root / f".staging-{journal.fs.system.os.geteuid()}"
    assert (stat.S_IMODE(own.stat().st_mode), os.listdir(own)) == (0o700, [])


@needs_modes
def test_a_staging_directory_that_others_may_write_to_is_left_alone(root: Path) -> None:
    (root / ".staging" / "left").mkdir()
    (root / ".staging").chmod(0o770)
    with JobService(root) as service:
        service.create_job("New", job_id="new")
    assert os.listdir(root / ".staging") == ["left"]


@needs_owners
def test_where_files_have_no_owners_and_no_permissions_the_staging_directory_is_used(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fstat(real: Callable[[int], os.stat_result], fd: int) -> os.stat_result:
        mode, inode, device, links, _, *more = real(fd)
        return os.stat_result((mode | 0o777, inode, device, links, 12345, *more))

    (root / ".staging" / "left").mkdir()
    disk = FaultyOs()
    disk.always("fstat", fstat)
    monkeypatch.setattr(journal.fs.system, "os", disk)
    with JobService(root) as service:
        service.create_job("New", job_id="new")
    assert sorted(os.listdir(root)) == [".staging", JOB, "new"]
    assert os.listdir(root / ".staging") == []


@needs_open_files_moved
def test_a_directory_that_takes_a_jobs_place_while_the_job_is_deleted_is_not_deleted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(root / JOB, tmp_path / "other")

    def swap(real: Callable[..., None], *arguments: Any) -> None:
        (root / JOB).rename(tmp_path / "job")
        other.rename(root / JOB)
        real(*arguments)

    before = all_below(other)
    disk = FaultyOs()
    disk.plan("rename", swap)
    monkeypatch.setattr(journal.fs.system, "os", disk)
    with (
        JobService(root) as service,
        pytest.raises(StorageError, match="another directory was put in its place"),
    ):
        service.delete_job(JOB)
    assert all_below(root / JOB) == before
    assert (tmp_path / "job" / "journal.jsonl").exists()


# --- what is written for the user in a directory that others may write in, too


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file or a link belong to another user than who runs this."""
    if IS_ROOT:
        os.chown(path, 12345, 12345, follow_symlinks=False)
        return
    disk = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", disk)
    disk.always("geteuid", lambda _real: 12345)


def write_output(root: Path, command: str, out: Path) -> None:
    with JobService(root) as service:
        if command == "pack":
            pack_to_file(root / JOB, out)
        elif command == "export":
            export_rows(service, JOB, out, "csv", force=True)
        else:
            write_report(service, JOB, out, force=True)


@needs_links
@pytest.mark.parametrize("command", ["pack", "export", "report"])
@pytest.mark.parametrize("name", ["out", "link/out"])
def test_no_output_goes_through_a_link_of_another_user(
    root: Path,
    tmp_path: Path,
    shared: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    name: str,
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "out").write_bytes(b"precious")
    link = shared / name.partition("/")[0]
    link.symlink_to(mine / "out" if name == "out" else mine)
    give_away(link, monkeypatch)
    with pytest.raises(InvalidValueError, match="is a link of another user, to"):
        write_output(root, command, shared / name)
    assert os.listdir(mine) == ["out"]
    assert (mine / "out").read_bytes() == b"precious"


@needs_links
def test_an_output_stays_in_its_directory_when_a_link_takes_that_ones_place(
    tmp_path: Path, shared: Path
) -> None:
    (shared / "d").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    with whole_file(shared / "d" / "out") as output, output.stream() as stream:
        stream.write(b"text")
        (shared / "d").rename(shared / "was")
        (shared / "d").symlink_to(outside)
    assert (shared / "was" / "out").read_bytes() == b"text"
    assert os.listdir(shared / "was") == ["out"]
    assert os.listdir(outside) == []


@needs_links
def test_what_somebody_puts_in_the_place_of_an_output_that_is_being_written_is_not_taken_for_it(
    shared: Path, victim: Path
) -> None:
    def write() -> None:
        with whole_file(shared / "out") as output, output.stream() as stream:
            stream.write(b"text")
            output.path.unlink()
            output.path.symlink_to(victim)

    with pytest.raises(StorageError, match="another program has replaced the temporary file"):
        write()
    assert victim.read_bytes() == b"precious"
    assert os.listdir(shared) == []


# --- pipes


def pipe(path: Path, mode: int) -> None:
    path.unlink()
    os.mkfifo(path)
    path.chmod(mode)


@needs_modes
@needs_fifos
@pytest.mark.parametrize("mode", [0o444, 0o600])
def test_a_pipe_in_the_place_of_a_journal_keeps_no_command_waiting(root: Path, mode: int) -> None:
    prefix = unprivileged()
    pipe(journal_path(root, JOB), mode)
    rows = root.parent / "rows"
    rows.write_text("1\n")
    for done in journal_forks(
        prefix,
        *(
            ["--root", str(root), *arguments]
            for arguments in (
                ["list"],
                ["show", JOB],
                ["rows", JOB],
                ["verify", JOB],
                ["repair", JOB],
                ["pack", JOB, "-o", "-"],
                ["run", str(rows), "--lines", "--job", JOB, "--", "true"],
                ["pause", JOB],
                ["delete", JOB, "--yes"],
            )
        ),
    ):
        assert done.returncode in {1, 2, 4, 6}, done.args
        assert "it is not a regular file" in done.stdout + done.stderr, done.args
        assert "Traceback" not in done.stderr


@needs_modes
@needs_fifos
@pytest.mark.parametrize("mode", [0o444, 0o600])
def test_a_pipe_in_the_place_of_run_lock_keeps_no_command_waiting(root: Path, mode: int) -> None:
    prefix = unprivileged()
    pipe(root / JOB / "run.lock", mode)
    of_job = ("show", "rows", "verify", "repair", "delete --yes")
    commands = ("list", *(f"{each} {JOB}" for each in of_job))
    *read, repaired, deleted = journal_forks(
        prefix, *(["--root", str(root), *words.split()] for words in commands)
    )
    assert [done.returncode for done in (*read, repaired, deleted)] == [0, 0, 0, 0, 1, 0]
    why = "it is not a regular file" if mode == 0o600 else "Permission denied"
    assert f"could not write {root / JOB / 'run.lock'}: {why}" in repaired.stderr


# --- files with another name


def write(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.complete_row(f"{JOB}:3")


@needs_shell
@pytest.mark.parametrize(
    ("act", "refused"), [(write, ["journal.jsonl"]), (start, ["run.lock", "journal.jsonl"])]
)
def test_files_that_another_copy_shares_are_read_but_not_written_until_they_are_the_jobs_own(
    root: Path, tmp_path: Path, act: Callable[[Path], None], refused: list[str]
) -> None:
    copy = shutil.copytree(root, tmp_path / "copy", copy_function=os.link)
    before = {path.name: path.read_bytes() for path in (root / JOB).iterdir() if path.is_file()}
    with JobService(copy) as service:
        assert service.get_job_summary(JOB)["successful_rows"] == 2
    for name in refused:
        with pytest.raises(StorageError, match="it has 2 hard links, so a write would") as caught:
            act(copy)
        assert caught.value.path == str(copy / JOB / name)
        told = caught.value.reason.rpartition(": ")[2]
        subprocess.run(["sh", "-c", told], cwd=copy / JOB, check=True)
    act(copy)
    for name, content in before.items():
        assert (root / JOB / name).read_bytes() == content


@pytest.mark.parametrize("sync", ["none", "commit"])
def test_who_is_at_work_when_a_copy_gets_hard_links_goes_on_in_a_file_of_its_own(
    root: Path, tmp_path: Path, sync: Literal["none", "commit"]
) -> None:
    path, copy = journal_path(root, JOB), tmp_path / "snapshot"
    with JobService(root, sync=sync) as service:
        service.complete_row(f"{JOB}:3")
        os.link(path, copy)
        before = path.read_bytes()
        service.complete_row(f"{JOB}:4")
        assert (copy.read_bytes(), copy.stat().st_nlink) == (before, 1)
        assert path.read_bytes().startswith(before)
        service.complete_row(f"{JOB}:5")
        assert service.get_job_summary(JOB)["successful_rows"] == 5
    assert verify_job(path.parent).findings == []


def test_a_mark_with_a_second_hard_link_is_not_written_any_more(root: Path, tmp_path: Path) -> None:
    mark, other = root / JOB / "sync.mark", tmp_path / "mark of a copy"
    with JobService(root) as service:
        service.complete_row(f"{JOB}:3")
        os.link(mark, other)
        service.complete_row(f"{JOB}:4")
        assert (mark.stat().st_nlink, other.stat().st_nlink) == (1, 1)


@needs_fifos  # as on the systems that have sparse files
@pytest.mark.parametrize("spacing", [1 << 40, 30 << 20], ids=["a hole", "line ends in it"])
def test_a_sparse_journal_is_refused_and_not_read(root: Path, tmp_path: Path, spacing: int) -> None:
    path = journal_path(root, JOB)
    with path.open("r+b") as file:
        for offset in range(spacing, 1 << 31, spacing):
            file.seek(offset)
            file.write(b"\n")
        file.truncate(1 << 40)
    for words in (["list"], ["show", JOB], ["verify", JOB], ["pull", str(root / JOB)]):
        done = command(tmp_path / "new" if words[0] == "pull" else root, *words)
        assert "it is sparse, with more than 1 GiB of holes" in done.stderr
        assert done.returncode in {1, 6}
