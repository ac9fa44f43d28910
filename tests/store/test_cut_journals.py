"""A journal that lacks what its hint saw on the disk was cut: it is named, and takes no commits.

Whatever may have come about by itself is in :data:`LEGITIMATE`, and raises no alarm.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
from support.children import FaultyOs, fails, split_commits, works
from support.commands import journal as journal_command
from support.platforms import needs_boot_ids, needs_links

import journal
import journal.fs.system
import journal.index.hint
from journal import JobService, JournalDamagedError
from journal.repair import repair_job
from journal.store.interrupted_rows import start_run
from journal.store.journal import Journal
from journal.transfer import pack_to_file, pull_job
from journal.verify import verify_job

JOB = "cut"
ROWS = [{"order": f"A-{number}"} for number in range(1, 13)]


def run(root: Path, shipped: list[int] | None = None, **options: Any) -> journal.RunReport:
    """Run the job, and add the number of each row that is worked on to ``shipped``."""

    def ship(row: journal.JobRow) -> str:
        if shipped is not None:
            shipped.append(row.row_number)
        return f"T-{row.row_number}"

    with journal.open_job(root / JOB, ROWS) as job:
        return job.run(ship, workers=1, progress=False, handle_signals=False, **options)


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> Path:
    """A store whose job has run, and has stopped after 10 of its 12 rows."""
    root = tmp_path / "jobs"
    run(root, max_rows=10)
    return root


def path_of(root: Path) -> Path:
    return root / JOB / "journal.jsonl"


def hint_of(root: Path) -> Path:
    return root / JOB / "index.hint"


def cut(root: Path, bytes_gone: int) -> None:
    os.truncate(path_of(root), path_of(root).stat().st_size - bytes_gone)


def ends_of_commits(root: Path) -> list[int]:
    """How many bytes are gone if the last commit, the last two commits, and so on are cut off."""
    gone = [0]
    for commit in reversed(split_commits(path_of(root).read_bytes())[1:]):
        gone.append(gone[-1] + len(commit))
    return gone[1:]


def is_taken_for_cut(root: Path) -> bool:
    damaged = verify_job(root / JOB).damaged
    try:
        with JobService(root) as service:
            service.set_error(JOB, "E", "a commit")
    except JournalDamagedError:
        assert damaged
        return True
    assert not damaged
    return False


# --- what is named ----------------------------------------------------------------------------


def cuts(root: Path) -> list[int]:
    ends = ends_of_commits(root)
    return [2, 3, ends[0] - 1, ends[0], ends[0] + 1, 500, ends[3], ends[-1]]


@pytest.mark.parametrize("place", range(8))
def test_a_cut_is_named_with_what_is_missing_and_nothing_is_redone(root: Path, place: int) -> None:
    gone = cuts(root)[place]
    cut(root, gone)
    before = path_of(root).read_bytes()
    report = verify_job(root / JOB)
    assert [finding.kind for finding in report.findings] == ["damage"]
    finding = report.findings[0]
    assert finding.offset <= finding.end == len(before)
    part = f" after {len(before) - finding.offset} bytes of a commit that is incomplete"
    left = part if finding.offset < len(before) else ""
    assert f"{gone} bytes are missing here{left}: " in finding.message
    shipped: list[int] = []
    with pytest.raises(JournalDamagedError, match=r"delete .*index\.hint: rows that are not done"):
        run(root, shipped)
    with JobService(root) as service:
        for call in (lambda: service.start_row(f"{JOB}:11"), lambda: service.start_job(JOB)):
            with pytest.raises(JournalDamagedError):
                call()
    assert shipped == []
    assert path_of(root).read_bytes() == before
    assert sorted(path.name for path in (root / JOB).glob("journal*")) == ["journal.jsonl"]


def test_the_command_refuses_a_cut_job_with_the_exit_code_of_damage(root: Path) -> None:
    shutil.rmtree(root)
    store = ["--root", str(root)]
    words = [*store, "run", "-", "--lines", "--job", JOB, "--", "true"]
    assert journal_command(*words, text="a\nb\n").returncode == 0
    cut(root, 300)
    assert journal_command(*store, "verify", JOB).returncode == 6
    done = journal_command(*words, text="a\nb\n")
    assert done.returncode == 6
    assert f"delete {hint_of(root)}: rows that are not done in this copy will run" in done.stderr
    for others in (["wait", JOB], ["watch", JOB], [*words[2:7], "--dry-run", *words[7:]]):
        done = journal_command(*store, *others, text="a\nb\n")
        assert (done.returncode, "the journal was cut" in done.stderr) == (6, True), done.stderr


def test_what_is_left_after_a_cut_is_shown_as_such_and_nothing_is_advised_that_would_be_refused(
    root: Path,
) -> None:
    def show() -> dict[str, Any]:
        shown = journal_command("--root", str(root), "show", JOB, "--json")
        return dict(json.loads(shown.stdout))

    assert show()["damaged"] is None
    cut(root, 300)
    shown = show()
    assert "the journal was cut" in shown["damaged"]
    commands = [each["command"] for each in shown["next"]]
    assert [command.split()[3] for command in commands] == ["verify", "pull", "repair"]
    assert (
        "damaged     this is only what is left"
        in journal_command("--root", str(root), "show", JOB).stdout
    )
    for words in (["rows", JOB], ["errors", JOB], ["export", JOB, "-"]):
        done = journal_command("--root", str(root), *words)
        assert f"{JOB}: this is only what is left: the journal was cut" in done.stderr


def test_an_older_copy_that_is_written_into_the_file_is_named_however_long(root: Path) -> None:
    older = path_of(root).read_bytes()
    run(root)
    newer = path_of(root).read_bytes()
    path_of(root).write_bytes(older)
    assert is_taken_for_cut(root)
    other = root.parent / "other" / JOB
    other.mkdir(parents=True)
    (other / "journal.jsonl").write_bytes(older)
    with JobService(other.parent) as service:
        service.set_error(JOB, "E", "another history" * 200)
    longer = (other / "journal.jsonl").read_bytes()
    assert len(longer) > len(newer)
    path_of(root).write_bytes(longer)
    message = verify_job(root / JOB).findings[0].message
    assert f"the commit that ended at byte {len(newer)} is missing" in message
    assert is_taken_for_cut(root)


def test_a_reader_and_a_writer_that_is_refused_leave_the_hint_of_a_cut_job(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 1)
    cut(root, ends_of_commits(root)[2])
    hint = hint_of(root).read_bytes()
    for sync in ("commit", "none"):
        with JobService(root, sync=sync) as service:
            assert len(list(service.get_rows(JOB))) == 12
        assert hint_of(root).read_bytes() == hint
        assert is_taken_for_cut(root)
        assert hint_of(root).read_bytes() == hint


@pytest.mark.parametrize("way", ["packed", "pulled into a store", "pulled into a copy"])
def test_a_cut_job_is_not_handed_on_since_a_copy_could_not_show_the_cut(
    root: Path, tmp_path: Path, way: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    if way == "pulled into a copy":
        shutil.copytree(root / JOB, other / JOB)
        hint_of(other).unlink()
        cut(other, ends_of_commits(root)[6])
    cut(root, ends_of_commits(root)[3])
    before = {path: path.is_file() and path.read_bytes() for path in other.rglob("*")}
    act: Callable[[], object] = partial(pull_job, other, root / JOB)
    if way == "packed":
        act = partial(pack_to_file, root / JOB, other / "pack.tar.gz")
    with pytest.raises(JournalDamagedError, match="the journal was cut"):
        act()
    assert {path: path.is_file() and path.read_bytes() for path in other.rglob("*")} == before


def test_deleting_the_hint_accepts_an_older_copy(root: Path) -> None:
    cut(root, ends_of_commits(root)[4])
    hint_of(root).unlink()
    shipped: list[int] = []
    assert run(root, shipped).job.needs_review_count == 1  # a start was the last record
    assert 12 in shipped


def test_a_cut_under_a_service_that_has_the_job_open_is_named(root: Path) -> None:
    size = path_of(root).stat().st_size
    with JobService(root) as service:
        service.set_error(JOB, "E", "a commit before it")
        os.truncate(path_of(root), size - 700)
        with pytest.raises(JournalDamagedError):
            service.start_row(f"{JOB}:12")


@pytest.mark.parametrize("reaches", ["exactly", "further"])
def test_a_cut_of_what_another_process_did_is_named_by_a_service_that_stayed_open(
    root: Path, reaches: str
) -> None:
    shipped: list[int] = []
    with journal.open_job(root / JOB) as job:
        job.run(lambda _: None, max_rows=1, progress=False, handle_signals=False)
        size = path_of(root).stat().st_size
        run(root)  # a service of its own does the last row
        left = 0 if reaches == "exactly" else ends_of_commits(root)[0]
        os.truncate(path_of(root), size if not left else path_of(root).stat().st_size - left)
        with pytest.raises(JournalDamagedError, match="the journal was cut"):
            job.run(lambda row: shipped.append(row.row_number), progress=False)
        if left:
            with pytest.raises(JournalDamagedError, match="the journal was cut"):
                job.service.start_row(f"{JOB}:12")
    assert shipped == []


@needs_boot_ids
def test_a_hint_of_unsynced_commits_still_proves_what_the_synced_one_proved(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 1)
    size = path_of(root).stat().st_size
    before = hint_of(root).read_bytes()
    with JobService(root, sync="none") as service:
        service.set_error(JOB, "E", "not synced")
    assert hint_of(root).read_bytes() != before
    os.truncate(path_of(root), size)  # all that wasn't synced
    assert not verify_job(root / JOB).damaged
    cut(root, 1 + 1)
    assert verify_job(root / JOB).damaged


# --- what is no proof -------------------------------------------------------------------------


def lose_last_line_end(root: Path) -> None:
    """An editor, or a copy, has removed the last line end."""
    cut(root, 1)


def leave_torn_tail(root: Path) -> None:
    """A writer died in the middle of a commit."""
    with path_of(root).open("ab") as file:
        file.write(b'{"type":"row_status","row":11,"sta')


def restore_by_name(root: Path) -> None:
    """A backup was put in place of the file. Its rows are another file's, which nobody cut."""
    older = path_of(root).read_bytes()
    run(root)
    beside = path_of(root).with_name("backup")
    beside.write_bytes(older)
    beside.replace(path_of(root))


def restore_directory(root: Path) -> None:
    """The whole job comes from a backup, hint and all."""
    backup = root.parent / "backup"
    shutil.copytree(root / JOB, backup)
    run(root)
    shutil.rmtree(root / JOB)
    shutil.copytree(backup, root / JOB)


def copy_while_writing(root: Path) -> None:
    """A copy took the journal first, and later the hint of later commits."""
    copy = root.parent / "copy" / JOB
    copy.mkdir(parents=True)
    shutil.copy2(path_of(root), copy)
    run(root)
    shutil.copy2(hint_of(root), copy)
    shutil.rmtree(root / JOB)
    copy.rename(root / JOB)


def copy_into_same_inodes(root: Path) -> None:
    """As ``copy_while_writing``, and by chance the copied journal has the inode of the first."""
    older = path_of(root).read_bytes()
    run(root)
    hint = hint_of(root).read_bytes()
    path_of(root).write_bytes(older)
    copied = hint_of(root).with_name("copied")
    copied.write_bytes(hint)  # so it has another inode than the hint that it is a copy of
    copied.replace(hint_of(root))


@needs_boot_ids
def lose_unsynced_commits(root: Path) -> None:
    """The power was cut under a store that doesn't sync, which had left a hint."""
    size = path_of(root).stat().st_size
    with JobService(root, sync="none") as service:
        service.set_error(JOB, "E", "x" * 300_000)
    os.truncate(path_of(root), size)


def lose_commits_that_were_never_synced(root: Path) -> None:
    """As ``lose_unsynced_commits``, in a job that no synced store has written."""
    shutil.rmtree(root)
    with JobService(root, sync="none") as service:
        service.create_job("Cut", job_id=JOB, row_data=({"data": row} for row in ROWS))
    size = path_of(root).stat().st_size
    with JobService(root, sync="none") as service:
        service.set_error(JOB, "E", "x" * 300_000)
    os.truncate(path_of(root), size)


def fail_a_sync(root: Path) -> None:
    """The disk refused a commit, which was taken back; the run ended."""
    faulty = FaultyOs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", faulty)
        with JobService(root) as service:
            service.get_job(JOB)
            faulty.plan("fdatasync", works, fails(errno.EIO))
            with pytest.raises(journal.StorageError):
                service.set_error(JOB, "E", "m")


def rewrite(root: Path) -> None:
    """A copy shares the file by a hard link, so the next writer copies the journal."""
    with JobService(root) as service:
        service.get_job(JOB)
        os.link(path_of(root), root.parent / "link")
        service.set_error(JOB, "E", "m")


def repair(root: Path) -> None:
    """A damaged journal was repaired, with losses."""
    content = path_of(root).read_bytes()
    path_of(root).write_bytes(content.replace(b'"A-4"', b'"B-44"'))
    assert not repair_job(root / JOB).lossless


def repair_cut(root: Path) -> None:
    """A cut was repaired, and so accepted."""
    cut(root, 1000)
    assert not repair_job(root / JOB).lossless


def convert(root: Path) -> None:
    """A copy in text mode was repaired."""
    path_of(root).write_bytes(path_of(root).read_bytes().replace(b"\n", b"\r\n"))
    assert repair_job(root / JOB).lossless


def merge(root: Path) -> None:
    """A copy was merged, which appends."""
    shutil.copytree(root / JOB, root.parent / "copy" / JOB)
    run(root.parent / "copy", max_rows=1)
    with JobService(root) as service:
        service.set_error(JOB, "E", "m")
    assert pull_job(root, root.parent / "copy" / JOB, merge=True).action == "merged"


def forward(root: Path) -> None:
    """A copy that is ahead was pulled."""
    shutil.copytree(root / JOB, root.parent / "copy" / JOB)
    run(root.parent / "copy")
    assert pull_job(root, root.parent / "copy" / JOB).action == "forwarded"


def break_hint(root: Path) -> None:
    """A power cut has left only a part of the hint."""
    os.truncate(hint_of(root), 200)
    cut(root, 300)


def make_anew(root: Path) -> None:
    """The job was deleted and made again, and an old hint was left, by whatever means."""
    hint = hint_of(root).read_bytes()
    shutil.rmtree(root / JOB)
    run(root, max_rows=1)
    hint_of(root).write_bytes(hint)
    edit_header(root, inode=path_of(root).stat().st_ino)


LEGITIMATE: list[Callable[[Path], None]] = [
    lose_last_line_end,
    leave_torn_tail,
    restore_by_name,
    restore_directory,
    copy_while_writing,
    copy_into_same_inodes,
    lose_unsynced_commits,
    lose_commits_that_were_never_synced,
    fail_a_sync,
    rewrite,
    repair,
    repair_cut,
    convert,
    merge,
    forward,
    break_hint,
    make_anew,
]


def edit_header(root: Path, **members: Any) -> None:
    """Change the header of the hint in place. ``own_inode`` stays that of the file."""
    hint = hint_of(root)
    line, _, columns = hint.read_bytes().partition(b"\n")
    header = json.loads(line[:-18] + b"}") | {"own_inode": hint.stat().st_ino} | members
    body = json.dumps(header, separators=(",", ":")).encode()[:-1]
    hint.write_bytes(body + b',"crc":"%08x"}\n' % crc32(body) + columns)


@needs_links
@pytest.mark.parametrize("happens", LEGITIMATE, ids=lambda happens: happens.__name__)
def test_what_may_come_about_by_itself_is_not_taken_for_a_cut(
    root: Path, happens: Callable[[Path], None]
) -> None:
    happens(root)
    assert not is_taken_for_cut(root)
    run(root)  # a run that ends leaves another witness
    assert not is_taken_for_cut(root)


class NoInodes(FaultyOs):
    """A file system on which every inode is 0."""

    def fstat(self, fd: int) -> Any:
        return self._without(os.fstat(fd))

    def stat(self, *arguments: Any, **options: Any) -> Any:
        return self._without(os.stat(*arguments, **options))

    def _without(self, stat: os.stat_result) -> Any:
        members = {name: getattr(stat, name) for name in dir(stat) if name.startswith("st_")}
        return SimpleNamespace(**members | {"st_ino": 0})


def test_a_file_system_without_inodes_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.fs.system, "os", NoInodes())
    with JobService(tmp_path) as service:
        service.create_job("Cut", job_id=JOB, row_data=({"data": row} for row in ROWS))
        service.start_job(JOB)
        service.update_status(JOB, "paused")
    assert hint_of(tmp_path).exists()
    cut(tmp_path, 300)
    assert not is_taken_for_cut(tmp_path)


def test_a_hint_of_commits_that_a_service_has_not_read_yet_is_no_alarm(root: Path) -> None:
    with JobService(root) as service:
        assert service.get_job(JOB)
        run(root)
        service.set_error(JOB, "E", "after the run")
    assert verify_job(root / JOB).findings == []


# --- when a hint is written -------------------------------------------------------------------


def witness_of(root: Path) -> int:
    """The end of the last commit that the hint saw on the disk."""
    header: dict[str, int] = json.loads(hint_of(root).read_bytes().partition(b"\n")[0])
    return header["synced"]


def test_each_end_of_a_run_leaves_a_durable_hint_of_all_commits_however_small(root: Path) -> None:
    assert witness_of(root) == path_of(root).stat().st_size
    run(root)
    assert witness_of(root) == path_of(root).stat().st_size


def test_the_hint_at_the_end_of_a_run_covers_what_an_unsynced_writer_added(root: Path) -> None:
    with JobService(root) as service:
        start_run(service.store, JOB, keep=True)
        with JobService(root, sync="none") as other:
            other.set_error(JOB, "E", "not synced")
        service.get_job(JOB)
        service.store.release_run(JOB)
    assert witness_of(root) == path_of(root).stat().st_size


def test_a_run_that_syncs_nothing_leaves_no_hint(tmp_path: Path) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Cut", job_id=JOB, row_data=({"data": row} for row in ROWS))
        service.start_job(JOB)
        service.update_status(JOB, "paused")
    assert not hint_of(tmp_path).exists()


@needs_links
@pytest.mark.parametrize("replace", [rewrite, repair, repair_cut])
def test_a_replaced_journal_loses_its_hint(root: Path, replace: Callable[[Path], None]) -> None:
    replace(root)
    assert not hint_of(root).exists()


@needs_links
def test_the_hint_goes_before_the_journal_is_replaced(root: Path) -> None:
    """A later journal may get the inode that it names."""
    faulty = FaultyOs()
    with pytest.MonkeyPatch.context() as patch, JobService(root) as service:
        service.get_job(JOB)
        os.link(path_of(root), root.parent / "link")
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("rename", fails(errno.EIO))
        with pytest.raises(journal.StorageError):
            service.set_error(JOB, "E", "m")
        assert not hint_of(root).exists()


@needs_links
def test_who_has_written_a_long_journal_anew_leaves_a_hint_of_it(root: Path) -> None:
    with JobService(root) as service:
        service.create_rows(JOB, [{"data": {"pad": "x" * 100_000}} for _ in range(3)])
    with JobService(root) as service:
        service.get_job(JOB)
        os.link(path_of(root), root.parent / "link")
        service.set_error(JOB, "E", "m")
        assert not hint_of(root).exists()
    assert hint_of(root).exists()


@needs_links
def test_a_run_whose_journal_is_written_anew_at_its_end_leaves_a_hint_of_it(root: Path) -> None:
    with JobService(root) as service:
        start_run(service.store, JOB, keep=True)
        os.link(path_of(root), root.parent / "link")
        service.store.release_run(JOB)
        assert path_of(root).stat().st_nlink == 1
    cut(root, ends_of_commits(root)[0])
    assert is_taken_for_cut(root)


# --- repair -----------------------------------------------------------------------------------


def test_a_repair_keeps_the_rows_of_the_commit_in_which_a_journal_was_cut(root: Path) -> None:
    with JobService(root) as service:
        service.create_rows(JOB, [{"data": {"pad": letter * 200_000}} for letter in "ab"])
    cut(root, 100_000)
    assert repair_job(root / JOB).lost_rows == [14]
    with JobService(root) as service:
        row = service.get_row(f"{JOB}:13")
        assert row is not None
        assert row.data == {"pad": "a" * 200_000}


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_repair_that_is_refused_at_its_end_keeps_the_hint_or_has_an_unknown_outcome(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cut(root, 1000)
    faulty = FaultyOs()
    kind = journal.StorageError if call == "rename" else journal.CommitOutcomeUnknownError
    with monkeypatch.context() as patch:
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.plan(call, works, fails(errno.EIO))  # the first is that of the backup
        with pytest.raises(kind):
            repair_job(root / JOB)
    assert call == "fsync" or is_taken_for_cut(root)


def test_a_repair_of_a_cut_journal_forgets_no_loss_before_the_cut(root: Path) -> None:
    cut(root, ends_of_commits(root)[0])
    content = path_of(root).read_bytes()
    path_of(root).write_bytes(content.replace(b'"T-4"', b'"U-5"'))
    repair_job(root / JOB)
    assert {statuses(root)[number] for number in (11, 12)} == {"needs_review"}


def statuses(root: Path) -> dict[int, str]:
    with JobService(root) as service:
        return {row.row_number: row.status.value for row in service.get_rows(JOB)}


def test_a_repair_accepts_the_cut_and_sends_rows_that_lost_something_to_review(root: Path) -> None:
    before = statuses(root)
    cut(root, ends_of_commits(root)[3] - 5)
    assert journal_command("--root", str(root), "repair", JOB).returncode == 3
    after = statuses(root)
    changed = {row for row in before if after[row] != before[row]}
    assert changed
    assert {after[row] for row in changed} == {"needs_review"}
    assert {before[row] for row in changed} == {"completed"}
    assert [after[11], after[12]] == ["pending", "pending"]
    shipped: list[int] = []
    run(root, shipped)
    assert shipped == [11, 12]


def test_rows_that_an_older_and_longer_copy_shows_as_open_need_a_review(root: Path) -> None:
    newer = path_of(root).read_bytes()
    path = root.parent / "other" / JOB / "journal.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(split_commits(newer)[0])
    with JobService(root.parent / "other") as service:
        service.set_error(JOB, "E", "another history" * 1000)
    assert len(path.read_bytes()) > len(newer)
    path_of(root).write_bytes(path.read_bytes())
    repair_job(root / JOB)
    assert [*statuses(root).values()] == ["needs_review"] * 10 + ["pending"] * 2


def test_a_row_whose_last_step_was_cut_off_needs_a_review_in_any_status(root: Path) -> None:
    with JobService(root) as service:
        service.start_job(JOB, "retry")
        attempt = service.start_row(f"{JOB}:11").attempts
        service.begin_step(f"{JOB}:11", attempt, "charge")
        service.end_step(f"{JOB}:11", attempt, "charge")
        service.retry_row(f"{JOB}:11")
        service.update_status(JOB, "paused")
    cut(root, ends_of_commits(root)[4])
    assert statuses(root)[11] == "pending"
    repair_job(root / JOB)
    assert statuses(root)[11] == "needs_review"


def test_rows_that_were_cut_off_with_their_data_get_placeholders(root: Path) -> None:
    with JobService(root) as service:
        service.create_rows(JOB, [{"row_number": 20, "data": {"order": "late"}}])
        service.start_job(JOB)
        service.update_status(JOB, "paused")
    cut(root, ends_of_commits(root)[-1])  # all but the first commit, which has the first rows
    repair = repair_job(root / JOB)
    assert repair.lost_rows
    assert 20 in repair.lost_rows
    assert statuses(root)[20] == "needs_review"


def test_all_open_rows_need_a_review_if_a_run_was_at_work_when_the_hint_was_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, JobService(root) as service:
        patch.setattr(journal.index.hint, "MIN_BYTES", 1)
        service.start_job(JOB)
        service.start_row(f"{JOB}:11")
    cut(root, ends_of_commits(root)[0])
    repair_job(root / JOB)
    with JobService(root) as service:
        codes = {row.row_number: row.error_code for row in service.get_rows(JOB, "needs_review")}
    assert codes == {11: "repaired", 12: "repaired_unknown"}


def test_all_open_rows_need_a_review_if_the_rows_of_the_hint_cannot_be_read(root: Path) -> None:
    content = hint_of(root).read_bytes()
    columns = content.index(b"\n") + 1
    hint_of(root).write_bytes(content[:columns] + bytes(len(content) - columns))
    cut(root, ends_of_commits(root)[0])
    repair_job(root / JOB)
    after = statuses(root)
    assert [after[11], after[12]] == ["needs_review", "needs_review"]


# --- pull -------------------------------------------------------------------------------------


@pytest.fixture(name="copy")
def fixture_copy(root: Path) -> Path:
    """A whole copy of the job."""
    shutil.copytree(root / JOB, root.parent / "copy" / JOB)
    return root.parent / "copy" / JOB


def test_a_pull_brings_back_what_was_cut_from_a_copy_that_has_it(root: Path, copy: Path) -> None:
    whole = path_of(root).read_bytes()
    cut(root, ends_of_commits(root)[2] + 7)
    assert pull_job(root, copy).action == "forwarded"
    assert path_of(root).read_bytes() == whole
    assert not is_taken_for_cut(root)
    cut(root, ends_of_commits(root)[2])
    assert is_taken_for_cut(root), "the pull has left a hint of its own"


def test_a_hint_proves_a_cut_until_a_pull_has_brought_back_what_was_cut_off(
    root: Path, copy: Path
) -> None:
    def refuse(real: Callable[..., Any], *arguments: Any) -> Any:
        if Path(os.fsdecode(arguments[1])).name == "journal.jsonl":
            raise OSError(errno.EIO, "refused")
        return real(*arguments)

    cut(root, ends_of_commits(root)[2] + 7)
    faulty = FaultyOs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.always("rename", refuse)
        with pytest.raises(journal.StorageError):
            pull_job(root, copy)
    assert is_taken_for_cut(root)


def test_the_hint_of_a_cut_journal_is_gone_once_what_was_cut_off_is_back(
    root: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(root, ends_of_commits(root)[2] + 7)
    monkeypatch.setattr(Journal, "leave_witness", lambda _journal: None)
    assert pull_job(root, copy).action == "forwarded"
    assert not hint_of(root).exists()


def test_a_pull_into_a_cut_job_is_refused_if_the_copy_lacks_what_is_missing(
    root: Path, copy: Path
) -> None:
    run(root)
    cut(root, path_of(root).stat().st_size - (copy / "journal.jsonl").stat().st_size + 900)
    before = path_of(root).read_bytes()
    with pytest.raises(JournalDamagedError):
        pull_job(root, copy)
    with pytest.raises(JournalDamagedError):
        pull_job(root, copy, merge=True)
    assert path_of(root).read_bytes() == before
    assert hint_of(root).exists()
