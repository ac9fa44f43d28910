"""`journal pull`: a copy brought to where another is, and two that both went on made one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_crash import (
    FaultyOs,
    fails,
    journal_path,
    place_journal,
    seal_commits,
    split_commits,
    works,
)
from helpers_transfer import (
    JOB,
    complete,
    content_of,
    go_on,
    is_well,
    journal_line,
    make_job,
    packed,
    put_artifact,
    source,
    states_of,
)

import journal
import journal.files
import journal.forward
from journal import (
    CommitOutcomeUnknownError,
    CopiesDivergedError,
    InvalidValueError,
    JobBusyError,
    JobService,
    JournalDamagedError,
    StorageError,
)
from journal.store import Store
from journal.transfer import Pulled, Source, pull_job
from journal.verify import verify_job

ROWS = 12


@pytest.fixture
def here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here", ROWS)
    return tmp_path / "here"


@pytest.fixture
def there(here: Path, tmp_path: Path) -> Path:
    shutil.copytree(here, tmp_path / "there")
    return tmp_path / "there"


def pull(here: Path, there: Path, *, merge: bool = False) -> Pulled:
    return pull_job(here, Source(there / JOB), merge=merge)


# --- forward ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["one by one", "a new file"])
def test_a_copy_that_is_behind_gets_exactly_the_commits_that_are_missing(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(journal.forward, "_SYNC_BYTES", 1 if way == "one by one" else 1 << 30)
    go_on(there, 3, 4, 5)
    inode = journal_path(here, JOB).stat().st_ino
    pulled = pull(here, there)
    assert (pulled.action, pulled.commits) == ("forwarded", 6)
    assert journal_path(here, JOB).read_bytes() == journal_path(there, JOB).read_bytes()
    assert (journal_path(here, JOB).stat().st_ino == inode) == (way == "one by one")
    is_well(here)
    assert pull(here, there).action == "identical"
    go_on(here, 6)
    assert pull(here, there).action == "ahead"
    assert states_of(here)[:7] == ["completed"] * 6 + ["pending"]


def test_a_service_that_is_open_goes_on_behind_what_was_pulled(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (1, 1 << 30):
        monkeypatch.setattr(journal.forward, "_SYNC_BYTES", size)
        with JobService(here, sync="none") as service:
            count = service.get_job_summary(JOB)["successful_rows"]
            go_on(there, count + 1)
            assert pull(here, there).action == "forwarded"
            assert service.get_job_summary(JOB)["successful_rows"] == count + 1
            complete(service, count + 2)
            assert service.get_job_summary(JOB)["successful_rows"] == count + 2
        is_well(here)
        assert pull(there, here).commits == 2


def test_a_job_that_is_not_here_is_made(here: Path, tmp_path: Path) -> None:
    put_artifact(here, "a/1.pdf", b"1")
    (here / JOB / "artifacts" / "link").symlink_to("a")
    pulled = pull(tmp_path / "new", here)
    assert (pulled.action, pulled.artifacts) == ("made", ["artifacts/a/1.pdf"])
    assert pulled.left_out == ["artifacts/link"]
    (here / JOB / "artifacts" / "link").unlink()
    assert content_of(tmp_path / "new") == content_of(here)
    is_well(tmp_path / "new")


def test_a_pack_is_pulled_as_a_directory_is_and_through_a_pipe(
    here: Path, there: Path, tmp_path: Path
) -> None:
    go_on(there, 3)
    put_artifact(there, "3.pdf", b"3")
    pack = packed(there, tmp_path / "pack")
    assert pull_job(here, source(pack)).artifacts == ["artifacts/3.pdf"]
    assert content_of(here) == content_of(there)
    is_well(here)
    command = [sys.executable, "-W", "error", "-m", "journal", "--root"]
    go_on(there, 4)
    with subprocess.Popen(
        [*command, str(there), "pack", JOB, "-o", "-"], stdout=subprocess.PIPE
    ) as sender:
        done = journal_line(here, "pull", "-", stdin=sender.stdout)
    assert (done.returncode, done.stdout) == (0, f"{JOB}: 2 commits taken over\n"), done.stderr
    assert content_of(here) == content_of(there)
    made = pull_job(tmp_path / "new", source(pack))
    assert (made.action, made.artifacts) == ("made", ["artifacts/3.pdf"])


def test_artifacts_that_are_new_are_copied_and_those_that_differ_are_kept_and_named(
    here: Path, there: Path
) -> None:
    for root, content in ((here, b"ours"), (there, b"theirs")):
        put_artifact(root, "label.pdf", content)
        put_artifact(root, "same", b"s" * 3_000_000)
        (root / JOB / "artifacts" / "dir").mkdir()
    put_artifact(there, "x/y/new.pdf", b"n" * 3_000_000)
    (there / JOB / "artifacts" / "link").symlink_to("label.pdf")
    go_on(there, 3)
    done = journal_line(here, "pull", str(there / JOB), "--json")
    pulled = json.loads(done.stdout)
    assert done.returncode == 0
    assert pulled["artifacts"] == ["artifacts/x/y/new.pdf"]
    assert pulled["differing"] == ["artifacts/label.pdf"]
    assert pulled["left_out"] == ["artifacts/link"]
    assert "the one here was kept" in done.stderr
    assert (here / JOB / "artifacts/label.pdf").read_bytes() == b"ours"
    assert (here / JOB / "artifacts/x/y/new.pdf").stat().st_size == 3_000_000
    is_well(here)


def test_torn_tails_on_either_side_do_no_harm(here: Path, there: Path) -> None:
    tail = b'{"type":"row_status","row":3,"sta'
    go_on(there, 3)
    whole = journal_path(there, JOB).read_bytes()
    for root in (here, there):
        with journal_path(root, JOB).open("ab") as file:
            file.write(tail)
    assert pull(here, there).commits == 2
    assert journal_path(here, JOB).read_bytes() == whole
    (saved,) = (here / JOB).glob("journal.torn-*")
    assert saved.read_bytes() == tail


def test_copies_that_diverged_are_refused_with_the_line_and_nothing_changes(
    here: Path, there: Path
) -> None:
    line = journal_path(here, JOB).read_bytes().count(b"\n") + 1
    go_on(here, 3)
    go_on(there, 4)
    put_artifact(there, "4.pdf", b"4")
    before = content_of(here)
    with pytest.raises(CopiesDivergedError) as caught:
        pull(here, there)
    assert (caught.value.job_id, caught.value.line) == (JOB, line)
    done = journal_line(here, "pull", str(there / JOB))
    assert done.returncode == 3
    assert f"line {line}" in done.stderr
    assert content_of(here) == before


def test_a_run_that_holds_the_job_here_is_not_disturbed(here: Path, there: Path) -> None:
    go_on(there, 3)
    before = content_of(here)
    with JobService(here, sync="none") as service:
        service.start_job(JOB)
        before = content_of(here)
        with pytest.raises(JobBusyError):
            pull(here, there)
        assert journal_line(here, "pull", str(there / JOB)).returncode == 5
    assert content_of(here) == before


def test_another_job_is_refused(here: Path, there: Path, tmp_path: Path) -> None:
    make_job(tmp_path / "again", ROWS)
    with pytest.raises(InvalidValueError, match="made on its own"):
        pull(here, tmp_path / "again")
    done = journal_line(here, "pull", str(there / JOB), "other")
    assert done.returncode == 2
    assert "another job" in done.stderr
    assert journal_line(here, "pull", str(tmp_path / "nothing")).returncode == 2
    assert journal_line(here, "pull", str(there / JOB), JOB).returncode == 0
    elsewhere = journal_line(tmp_path / "x", "pull", str(there / JOB), str(here / JOB))
    assert elsewhere.stdout == f"{JOB}: nothing to pull: the copies are identical\n"


@pytest.mark.parametrize("job_id", ["../../escaped", "ABSOLUTE/escaped", "..", ".staging", "x/y"])
def test_a_copy_whose_header_names_another_place_makes_nothing_there(
    tmp_path: Path, job_id: str
) -> None:
    job_id = job_id.replace("ABSOLUTE", str(tmp_path))
    header = b'{"type":"job","format":1,"id":"%b","name":"M","at":"2026-11-24T13:35:00.000001Z"}'
    place_journal(tmp_path / "usb", "job", seal_commits([[header % job_id.encode()]]))
    root = tmp_path / "root" / "jobs"
    root.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(JournalDamagedError, match="a job's id"):
        pull_job(root, Source(tmp_path / "usb" / "job"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_has_no_directory_for_what_is_not_below_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs", sync=False, lock_timeout_s=0)
    for job_id in ("../x", "/x", "x/y", "..", ".", ".staging", ""):
        with pytest.raises(InvalidValueError, match="job_id"):
            store.directory(job_id)


@pytest.mark.parametrize("size", [1, 1 << 30])
def test_a_copy_whose_seals_fit_and_whose_records_make_no_sense_is_not_taken_over(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    from zlib import crc32  # noqa: PLC0415

    monkeypatch.setattr(journal.forward, "_SYNC_BYTES", size)
    content = journal_path(there, JOB).read_bytes()
    body = b'{"type":"row_status","row":99,"status":"completed","at":"2126-11-24T13:35:00.000001Z"'
    crc = crc32(body, int(content[-11:-3], 16))
    with journal_path(there, JOB).open("ab") as file:
        file.write(body + b',"crc":"%08x"}\n' % crc)
    before = content_of(here)
    with pytest.raises(JournalDamagedError, match="row 99"):
        pull(here, there)
    assert content_of(here) == before


# --- when it can't -------------------------------------------------------------------------


@pytest.fixture(name="faulty_os")
def fixture_faulty_os(monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    faulty = FaultyOs()
    monkeypatch.setattr(journal.files, "os", faulty)
    return faulty


@pytest.mark.parametrize("size", [1, 1 << 30])
def test_whatever_call_is_refused_the_journal_is_as_it_was_or_as_the_other_s(
    here: Path,
    there: Path,
    faulty_os: FaultyOs,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    count: Callable[[str, int], None],
) -> None:
    monkeypatch.setattr(journal.forward, "_SYNC_BYTES", size)
    go_on(there, 3, 4)
    put_artifact(there, "3.pdf", b"3")
    before, after = content_of(here), content_of(there)
    spare = here.with_name("spare")
    shutil.copytree(here, spare)
    faulty_os.calls.clear()
    pull(here, there)
    called = {name: faulty_os.count(name) for name in ("write", "fdatasync", "fsync", "rename")}
    assert called["write"] > 3
    assert called["fdatasync"] >= 2
    tried = 0
    for name, calls in called.items():
        for number in range(calls):
            shutil.rmtree(here)
            shutil.copytree(spare, here)
            faulty_os.plan(name, *[works] * number, fails(28))
            unknown = False
            try:
                pull(here, there)
            except (StorageError, CommitOutcomeUnknownError) as error:
                unknown = isinstance(error, CommitOutcomeUnknownError)
            faulty_os.heal()
            tried += 1
            found = content_of(here)
            is_new = found["journal.jsonl"] == after["journal.jsonl"]
            assert is_new or found["journal.jsonl"] == before["journal.jsonl"]
            assert found.get("artifacts/3.pdf") in (None, b"3")
            assert not (is_new and "artifacts/3.pdf" not in found)
            assert verify_job(here / JOB).findings == []
            assert pull(here, there).action == ("identical" if is_new else "forwarded"), unknown
            assert content_of(here) == after
    count("refused calls of a pull", tried)


@pytest.mark.parametrize("size", [1, 1 << 30])
def test_commits_are_synced_before_the_next_is_written_or_before_they_appear(
    here: Path, there: Path, faulty_os: FaultyOs, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A power cut may damage the last commit only."""
    monkeypatch.setattr(journal.forward, "_SYNC_BYTES", size)
    go_on(there, 3, 4)
    missing = split_commits(journal_path(there, JOB).read_bytes())[-4:]
    pull(here, there)
    calls = [(name, arguments) for name, arguments in faulty_os.calls]
    names = [name for name, _ in calls]
    if size == 1:
        for commit in missing:
            at = next(
                n for n, (name, given) in enumerate(calls) if name == "write" and given[1] == commit
            )
            assert names[at + 1] == "fdatasync"
    else:
        assert all(("write", (commit,)) not in calls for commit in missing)
        rename = names.index("rename")
        assert names[:rename].count("fdatasync") >= 2
        assert "fsync" in names[rename:]  # of the directory
