"""A job that was pruned isn't made anew by accident."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.children import FaultyOs, fails, journal_path
from support.copies import JOB, complete, make_job, packed
from support.platforms import needs_links, needs_shell

import journal.fs.system
from journal import JobPrunedError, JobService, StorageError, open_job
from journal.cli.main import main
from journal.fs import files, locks
from journal.store.store import Store
from journal.transfer import prune_jobs, pull_job, unpack_job

ROWS = [{"n": 1}, {"n": 2}]
LINES = ".pruned.jsonl"


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """A store from which a job was pruned, into ``pack``."""
    root = tmp_path / "jobs"
    make_ended_job(root)
    shutil.copytree(root, tmp_path / "copy")
    (tmp_path / "archive").mkdir()
    prune(root, tmp_path / "archive")
    assert not (root / JOB).exists()
    return root


@pytest.fixture(name="pack")
def fixture_pack(root: Path) -> Path:
    return root.parent / "archive" / f"{JOB}.tar.gz"


def make_ended_job(root: Path) -> None:
    make_job(root)
    with JobService(root, sync="none") as service:
        service.update_status(JOB, "cancelled")


def prune(root: Path, to: Path | None = None) -> list[str]:
    later = datetime.now(UTC) + timedelta(days=1)
    return [pruned.action for pruned in prune_jobs(root, later, to=to)]


def create(root: Path, **options: Any) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("New", job_id=JOB, **options)


def is_refused(root: Path) -> bool:
    try:
        create(root)
    except JobPrunedError:
        return True
    shutil.rmtree(root / JOB)
    return False


@pytest.mark.parametrize(
    "make",
    [
        create,
        lambda root: open_job(root / JOB, ROWS),
        lambda root: open_job(root / JOB),
    ],
    ids=["create_job", "open_job", "open_job without rows"],
)
def test_a_pruned_job_is_not_made_and_the_error_says_where_its_pack_is(
    root: Path, pack: Path, make: Callable[[Path], object]
) -> None:
    with pytest.raises(JobPrunedError, match="would process all of its rows again") as refused:
        make(root)
    assert (refused.value.job_id, refused.value.pack) == (JOB, str(pack))
    assert f" into {pack}: " in str(refused.value)
    assert not (root / JOB).exists()


def test_a_job_that_was_pruned_without_a_pack_is_not_made_anew_either(tmp_path: Path) -> None:
    make_ended_job(tmp_path)
    assert prune(tmp_path) == ["deleted"]
    with pytest.raises(JobPrunedError, match="without a pack"):
        create(tmp_path)


@needs_shell
def test_journal_run_makes_a_pruned_job_only_with_anew(
    root: Path, pack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows").write_text("1\n2\n")
    words = ["--root", str(root), "run", str(tmp_path / "rows"), "--lines", "--job", JOB]
    for option in ([], ["--dry-run"]):
        assert main([*words, *option, "--", "true", "{line}"]) == 4
        assert f"into {pack}" in capsys.readouterr().err
    assert main(["--root", str(root), "show", JOB]) == 4
    assert f"into {pack}" in capsys.readouterr().err
    assert main([*words, "--anew", "--", "true", "{line}"]) == 0
    assert b'"--anew"' not in journal_path(root, JOB).read_bytes()  # in what is typed to resume it


def test_a_job_that_others_make_and_prune_while_it_is_made_counts_as_pruned(
    tmp_path: Path,
) -> None:
    def rows() -> Any:
        yield {"data": {}}
        make_ended_job(tmp_path)
        prune(tmp_path, tmp_path)

    with pytest.raises(JobPrunedError):
        create(tmp_path, row_data=rows())
    assert not (tmp_path / JOB).exists()


def test_a_deleted_job_no_longer_counts_as_pruned(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(root), "delete", JOB, "--yes"]) == 0
    assert "no longer counts as pruned" in capsys.readouterr().err
    assert not is_refused(root)


@pytest.mark.parametrize("way", [unpack_job, pull_job])
def test_a_copy_that_lacks_commits_of_the_pruned_job_does_not_take_its_place(
    root: Path, tmp_path: Path, way: Callable[[Path, Path], object]
) -> None:
    make_ended_job(tmp_path / "other")
    older = packed(tmp_path / "copy", tmp_path / "older.tar.gz")
    unpack_job(root, older)
    with JobService(root) as service:
        service.reopen_job(JOB)
        complete(service, 3)
        service.update_status(JOB, "cancelled")
    prune(root)
    with pytest.raises(JobPrunedError, match=r"older\.tar\.gz lacks its last commits"):
        way(root, older)
    assert not (root / JOB).exists()
    with JobService(root) as service:
        service.delete_job(JOB)
    way(root, older)
    assert (root / JOB).exists()


def test_lines_that_can_not_be_read_are_skipped_and_named(root: Path) -> None:
    lines = root / LINES
    lines.write_bytes(b"{\n\xff\n" + lines.read_bytes() + b"[" * 200_000 + b"\n")
    with pytest.warns(UserWarning, match=r"unreadable lines were skipped, .*: 1, 2, 4") as warned:
        assert is_refused(root)
    assert str(lines) in str(warned[0].message)


def test_a_line_after_one_that_a_dead_process_did_not_end_is_a_line_of_its_own(root: Path) -> None:
    lines = root / LINES
    lines.write_bytes(lines.read_bytes()[:-9])
    make_ended_job(root.parent / "next")
    shutil.move(root.parent / "next" / JOB, root / JOB)
    prune(root)
    with pytest.warns(UserWarning, match="1 unreadable line was skipped"):
        assert is_refused(root)


def test_a_line_that_another_process_appends_before_it_lets_go_of_the_lock_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / LINES, locks.wait_for_lock

    def wait(lock: Any, timeout_s: float) -> bool:
        path.write_bytes(b"theirs\n")
        return real(lock, timeout_s)

    monkeypatch.setattr(files, "wait_for_lock", wait)
    files.append_line(path, b"ours", 1)
    assert path.read_bytes() == b"theirs\nours\n"


@pytest.mark.filterwarnings("ignore:.*unreadable line")
@pytest.mark.parametrize("call", ["pwrite", "fsync", "ftruncate"])
def test_a_job_is_left_whose_line_can_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def writes_half(real: Callable[..., int], fd: int, data: bytes, offset: int) -> int:
        return real(fd, data[:20], offset)

    make_ended_job(tmp_path)
    faulty = FaultyOs()
    if call == "ftruncate":
        faulty.always("pwrite", writes_half)
    faulty.always(call, fails(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(journal.fs.system, "os", faulty)
        assert prune(tmp_path) == ["left"]
    assert (tmp_path / JOB / "journal.jsonl").exists()
    assert prune(tmp_path) == ["deleted"]
    with JobService(tmp_path, sync="none") as service, pytest.raises(JobPrunedError):
        service.create_job("New", job_id=JOB)


def test_a_job_that_another_deletes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ended_job(tmp_path)
    real = Store.delete

    def delete(store: Store, *arguments: Any) -> bool:
        shutil.rmtree(tmp_path / JOB)
        return real(store, *arguments)

    monkeypatch.setattr(Store, "delete", delete)
    assert prune(tmp_path) == []


def test_of_two_who_prune_at_once_each_job_has_one_line(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        for number in range(8):
            service.create_job("Job", job_id=f"job-{number}")
            service.update_status(f"job-{number}", "cancelled")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(prune, [tmp_path, tmp_path]))
    lines = [msgspec.json.decode(line) for line in (tmp_path / LINES).read_bytes().splitlines()]
    assert sorted(line["directory"] for line in lines) == [f"job-{number}" for number in range(8)]


@needs_links
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_the_lines_is_not_written_through(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    make_ended_job(tmp_path / "jobs")
    (tmp_path / "mine").write_bytes(b"mine\n")
    link(tmp_path / "mine", tmp_path / "jobs" / LINES)
    assert prune(tmp_path / "jobs") == ["left"]
    assert (tmp_path / "mine").read_bytes() == b"mine\n"


def test_lines_that_may_not_be_read_keep_a_job_from_being_made(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(real: Callable[..., int], path: Any, *more: Any, **options: Any) -> int:
        if Path(path).name == LINES:
            raise OSError(errno.EACCES, "Permission denied")
        return real(path, *more, **options)

    faulty = FaultyOs()
    faulty.always("open", refuse)
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    with pytest.raises(StorageError, match="could not read"):
        create(root, anew=False)
