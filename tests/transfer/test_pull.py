"""`journal pull`: a copy brought to where another is, and two that both went on made one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from support.children import (
    FaultyOs,
    fails,
    journal_path,
    place_journal,
    seal_commits,
    split_commits,
    works,
)
from support.copies import (
    JOB,
    change,
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
from support.platforms import needs_links, not_under_wine

import journal
import journal.fs.system
import journal.store.journal
import journal.transfer.pull
from journal import (
    CommitOutcomeUnknownError,
    CopiesDivergedError,
    InvalidValueError,
    JobBusyError,
    JobService,
    JournalDamagedError,
    StorageError,
)
from journal.fs.handles import JournalFile
from journal.store.run_lock import RunLock
from journal.transfer import Pulled, pull_job
from journal.transfer.artifacts import Artifacts
from journal.transfer.pack import Source
from journal.verify import verify_job

ROWS = 12


def pull(here: Path, there: Path, *, merge: bool = False) -> Pulled:
    return pull_job(here, Source(there / JOB), merge=merge)


# --- forward ---------------------------------------------------------------------------------


def test_a_copy_that_is_behind_gets_exactly_the_commits_that_are_missing(
    here: Path, there: Path
) -> None:
    go_on(there, 3, 4, 5)
    pulled = pull(here, there)
    assert (pulled.action, pulled.commits) == ("forwarded", 6)
    assert journal_path(here, JOB).read_bytes() == journal_path(there, JOB).read_bytes()
    is_well(here)
    assert pull(here, there).action == "identical"
    go_on(here, 6)
    assert pull(here, there).action == "ahead"
    assert states_of(here)[:7] == ["completed"] * 6 + ["pending"]


@needs_links
def test_a_journal_that_is_cut_after_a_pull_is_found_to_be_cut(here: Path, there: Path) -> None:
    before = journal_path(here, JOB).read_bytes()
    go_on(there, 3)
    assert pull(here, there).action == "forwarded"
    with JobService(here) as service:
        assert service.get_job_summary(JOB)["successful_rows"] == 3
    with journal_path(here, JOB).open("r+b") as file:
        file.truncate(len(before))
    with JobService(here) as service, pytest.raises(JournalDamagedError, match="was cut"):
        service.start_row(f"{JOB}:3")


def test_copies_that_differ_because_one_is_damaged_are_not_said_to_have_diverged(
    here: Path, tmp_path: Path
) -> None:
    go_on(here, 3, 4)
    there = shutil.copytree(here, tmp_path / "there")
    path = journal_path(here, JOB)
    *before, _, last_but_one, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*before, last_but_one, last]))
    for root, other in ((here, there), (there, here)):
        with pytest.raises(JournalDamagedError):
            pull(root, other)


@not_under_wine
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
    assert (done.returncode, done.stdout) == (
        0,
        f"{JOB}: 2 commits applied in {here / JOB} from standard input\n",
    ), done.stderr
    with JobService(there) as service:
        service.log(JOB, "one more")
    done = journal_line(here, "pull", str(there / JOB))
    assert done.stdout == f"{JOB}: 1 commit applied in {here / JOB} from {there / JOB}\n"
    assert content_of(here) == content_of(there)
    made = pull_job(tmp_path / "new", source(pack))
    assert (made.action, made.artifacts) == ("made", ["artifacts/3.pdf"])


def artifacts_of(root: Path) -> dict[str, bytes]:
    contents = content_of(root).items()
    return {name.removeprefix("artifacts/"): c for name, c in contents if "artifacts/" in name}


@needs_links
def test_artifacts_that_are_missing_are_copied_however_the_copies_stand_to_each_other(
    here: Path, there: Path
) -> None:
    for root in (here, there):
        put_artifact(root, "same", b"s" * 3_000_000)
        (root / JOB / "artifacts" / "dir").mkdir()
    (there / JOB / "artifacts" / "link").symlink_to("same")

    def found(action: str, *, merge: bool = False) -> None:
        put_artifact(there, f"x/y/{action}.pdf", b"n" * 3_000_000)
        pulled = pull(here, there, merge=merge)
        assert (pulled.action, pulled.artifacts) == (action, [f"artifacts/x/y/{action}.pdf"])
        assert (pulled.left_out, pulled.differing) == (["artifacts/link"], [])
        assert artifacts_of(here)[f"x/y/{action}.pdf"] == b"n" * 3_000_000
        is_well(here)

    found("identical")
    go_on(there, 3)
    found("forwarded")
    go_on(here, 4)
    found("ahead")
    go_on(there, 5)
    found("merged", merge=True)


def test_where_the_other_s_commits_win_so_do_its_artifacts_and_ours_are_kept_beside(
    here: Path, there: Path
) -> None:
    """Ours may be of an attempt that died: the row that is completed names the other's label."""
    put_artifact(here, "x/3.pdf", b"ours")
    put_artifact(here, "x/3.pdf.before-1", b"older")
    put_artifact(there, "x/3.pdf", b"theirs")
    put_artifact(there, "x/3.pdf.before-2", b"somebody's")
    put_artifact(here, "n" * 250, b"ours")
    put_artifact(there, "n" * 250, b"theirs")
    go_on(there, 3)
    done = journal_line(here, "pull", str(there / JOB))
    assert done.returncode == 3
    text = "artifacts/x/3.pdf differs: the file is now the other copy's; the file that was here is "
    assert f"{text}artifacts/x/3.pdf.before-3\n" in done.stderr
    assert artifacts_of(here) == {
        "x/3.pdf": b"theirs",
        "x/3.pdf.before-1": b"older",
        "x/3.pdf.before-2": b"somebody's",
        "x/3.pdf.before-3": b"ours",
        "n" * 250: b"theirs",
        "n" * 235 + ".before-1": b"ours",
    }
    is_well(here)
    again = pull(here, there)
    assert (again.action, again.differing) == ("identical", [])


def test_a_file_that_was_copied_half_is_made_whole_when_its_row_comes(
    here: Path, there: Path
) -> None:
    put_artifact(there, "3.pdf", b"half")
    change(there, lambda service: service.start_row(f"{JOB}:3"))
    assert pull(here, there).artifacts == ["artifacts/3.pdf"]
    put_artifact(there, "3.pdf", b"half and the other half")
    change(there, lambda service: service.complete_row(f"{JOB}:3", "T"))
    done = journal_line(here, "pull", str(there / JOB))
    assert (done.returncode, done.stderr) == (0, "")
    assert artifacts_of(here) == {"3.pdf": b"half and the other half"}


def test_a_merge_keeps_our_artifacts_and_puts_the_other_s_beside_them_once(
    here: Path, there: Path
) -> None:
    go_on(here, 3)
    go_on(there, 3, tracking="THEIRS")
    put_artifact(here, "3.pdf", b"ours")
    put_artifact(there, "3.pdf", b"theirs")
    both = {"3.pdf": b"ours", "3.pdf.other-1": b"theirs"}
    done = journal_line(here, "pull", str(there / JOB), "--merge-outcomes")
    assert done.returncode == 3
    assert "the file here was kept; the other copy's file is artifacts/3.pdf.other-1" in done.stderr
    assert artifacts_of(here) == both
    go_on(there, 4)
    pull(here, there, merge=True)
    assert artifacts_of(here) == both
    is_well(here)


def test_artifacts_that_differ_where_no_commits_come_are_named_and_left_as_they_are(
    here: Path, there: Path
) -> None:
    put_artifact(here, "3.pdf", b"ours")
    put_artifact(there, "3.pdf", b"theirs")
    for word in ("identical", "ahead"):
        done = journal_line(here, "pull", str(there / JOB), "--json")
        pulled = json.loads(done.stdout)
        assert (pulled["action"], pulled["differing"]) == (word, ["artifacts/3.pdf"])
        assert done.returncode == 3
        assert "the file here was kept" in done.stderr
        assert artifacts_of(here) == {"3.pdf": b"ours"}
        if word == "identical":
            go_on(here, 3)


def test_a_directory_in_the_place_of_a_file_is_named_and_nothing_is_lost(
    here: Path, there: Path
) -> None:
    go_on(there, 3)
    put_artifact(here, "x/file", b"1")
    put_artifact(here, "x.before-1", b"older")
    put_artifact(there, "x", b"2")
    pulled = pull(here, there)
    assert pulled.backups == {"artifacts/x": "artifacts/x.before-2"}
    assert artifacts_of(here) == {"x": b"2", "x.before-1": b"older", "x.before-2/file": b"1"}
    put_artifact(there, "y/file", b"1")
    put_artifact(here, "y", b"2")
    go_on(there, 4)
    before = journal_path(here, JOB).read_bytes()
    with pytest.raises(StorageError) as caught:
        pull(here, there)
    assert caught.value.path == str(here / JOB / "artifacts" / "y")
    assert "a directory in the other copy: rename it here, then pull again" in str(caught.value)
    assert journal_path(here, JOB).read_bytes() == before
    assert artifacts_of(here)["y"] == b"2"


@needs_links
def test_a_link_in_the_place_of_the_artifacts_here_is_not_followed(
    here: Path, there: Path, tmp_path: Path
) -> None:
    put_artifact(there, "3.pdf", b"3")
    go_on(there, 3)
    before = content_of(here)
    (here / JOB / "artifacts").symlink_to(tmp_path)
    with pytest.raises(StorageError, match="rename it here"):
        pull(here, there)
    assert content_of(here) == before
    assert not (tmp_path / "3.pdf").exists()


@needs_links
def test_a_link_in_the_place_of_the_other_s_artifacts_is_not_followed(
    here: Path, there: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (there / JOB / "artifacts").symlink_to(tmp_path / "secret")
    go_on(there, 3)
    pulled = pull(here, there)
    assert (pulled.artifacts, pulled.left_out) == ([], ["artifacts"])
    assert artifacts_of(here) == {}
    assert pull(tmp_path / "new", there).left_out == ["artifacts"]
    assert artifacts_of(tmp_path / "new") == {}


class Meanwhile:
    """Has something done once, just before a function of ours is called."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]
    ) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(owner, name, real)
            act()
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, call)


def test_an_artifact_that_goes_while_it_is_pulled_is_left_out_and_named(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_artifact(there, ".3.pdf.new", b"3")
    put_artifact(there, "4.pdf", b"4")
    go_on(there, 3)
    Meanwhile(monkeypatch, Artifacts, "stage", lambda: path.rename(path.with_name("3.pdf")))
    pulled = pull(here, there)
    assert (pulled.artifacts, pulled.left_out) == (["artifacts/4.pdf"], ["artifacts/.3.pdf.new"])
    assert pull(here, there).artifacts == ["artifacts/3.pdf"]


def test_what_is_written_to_our_artifact_while_the_other_s_is_copied_is_kept(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's file began with ours when the two were compared. The copying may take long."""
    ours = put_artifact(here, "log", b"1")
    put_artifact(there, "log", b"1, 2")
    put_artifact(there, "new", b"theirs")
    go_on(there, 3)

    def write() -> None:
        ours.write_bytes(b"1, ours")
        put_artifact(here, "new", b"")  # the beginning of the other's

    Meanwhile(monkeypatch, Artifacts, "install", write)
    pulled = pull(here, there)
    assert (pulled.differing, pulled.artifacts) == (["artifacts/log"], [])
    assert artifacts_of(here) == {"log": b"1, 2", "log.before-1": b"1, ours", "new": b"theirs"}


@pytest.mark.parametrize("moment", ["before the run lock", "before the commit lock"])
@pytest.mark.parametrize("action", ["identical", "ahead", "forwarded", "diverged"])
def test_what_others_do_to_the_job_while_it_is_pulled_is_looked_at_again(
    here: Path,
    there: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    action: str,
) -> None:
    shutil.copytree(here, tmp_path / "old")
    go_on(there, 3, 4)
    put_artifact(there, "3.pdf", b"3")
    further = journal_path(there, JOB).read_bytes()
    meanwhile: dict[str, bytes] = {"identical": further}
    go_on(tmp_path / "old", 3)
    meanwhile["diverged"] = journal_path(tmp_path / "old", JOB).read_bytes()
    meanwhile["forwarded"] = b"".join(split_commits(further)[:-1])
    shutil.rmtree(tmp_path / "old")
    shutil.copytree(there, tmp_path / "old")
    go_on(tmp_path / "old", 5)
    meanwhile["ahead"] = journal_path(tmp_path / "old", JOB).read_bytes()

    def commit() -> None:
        with journal_path(here, JOB).open("ab") as file:
            file.write(meanwhile[action][file.tell() :])

    if moment == "before the run lock":
        Meanwhile(monkeypatch, RunLock, "take", commit)
    else:
        Meanwhile(monkeypatch, journal.transfer.pull, "Journal", commit)
    if action == "diverged":
        with pytest.raises(CopiesDivergedError):
            pull(here, there)
        assert artifacts_of(here) == {}
    else:
        pulled = pull(here, there)
        assert pulled.action == action
        assert pulled.commits == (1 if action == "forwarded" else 0)
        assert artifacts_of(here) == {"3.pdf": b"3"}
    content = journal_path(here, JOB).read_bytes()
    assert content == (further if action == "forwarded" else meanwhile[action])
    is_well(here)


@pytest.mark.parametrize("moment", ["stage", "install"])
def test_no_run_can_be_started_while_artifacts_are_pulled(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    put_artifact(there, "3.pdf", b"3")
    go_on(there, 3)

    def start() -> None:
        with JobService(here, lock_timeout_s=0) as service, pytest.raises(JobBusyError):
            service.start_job(JOB)
        busy.append(moment)

    busy: list[str] = []
    Meanwhile(monkeypatch, Artifacts, moment, start)
    assert pull(here, there).action == "forwarded"
    assert busy == [moment]


def test_what_a_pull_that_died_left_is_removed_by_the_next_whatever_that_finds(
    here: Path, there: Path
) -> None:
    for action, forward in (("identical", here), ("ahead", there), ("diverged", None)):
        (here / JOB / ".pull").mkdir()
        (here / JOB / ".pull" / "journal.jsonl").write_bytes(b"half")
        if action == "diverged":
            assert pull(here, there, merge=True).action == "merged"
        else:
            assert pull(here, there).action == action
        is_well(here)
        if forward is not None:
            go_on(forward, 3 if forward is here else 4)


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


def test_after_a_full_merge_a_pull_and_its_dry_run_say_that_all_is_here(
    here: Path, there: Path
) -> None:
    go_on(here, 3)
    go_on(there, 4)
    assert journal_line(here, "pull", str(there / JOB), "--merge-outcomes").returncode == 0
    put_artifact(there, "4.pdf", b"4")
    merged = journal_path(here, JOB).read_bytes()
    dry_run = journal_line(here, "pull", str(there / JOB), "--dry-run")
    plain = journal_line(here, "pull", str(there / JOB))
    text = f"{JOB}: no commits to pull: the job here has everything from there"
    assert (dry_run.returncode, dry_run.stdout) == (0, f"{text}, and 3 commits of its own\n")
    assert (plain.returncode, plain.stdout) == (0, f"{text}, 1 new file\n")
    put_artifact(there, "5.pdf", b"5")
    again = pull(here, there, merge=True)
    assert (again.action, again.artifacts) == ("ahead", ["artifacts/5.pdf"])
    assert artifacts_of(here) == {"4.pdf": b"4", "5.pdf": b"5"}
    assert journal_path(here, JOB).read_bytes() == merged
    go_on(there, 5)
    assert journal_line(here, "pull", str(there / JOB)).returncode == 3


def test_another_job_is_refused(here: Path, there: Path, tmp_path: Path) -> None:
    make_job(tmp_path / "again", ROWS)
    with pytest.raises(InvalidValueError, match="neither is a copy of the other"):
        pull(here, tmp_path / "again")
    done = journal_line(here, "pull", str(there / JOB), "other")
    assert done.returncode == 2
    assert "another job" in done.stderr
    assert journal_line(here, "pull", str(tmp_path / "nothing")).returncode == 2
    assert journal_line(here, "pull", str(there / JOB), JOB).returncode == 0
    assert journal_line(tmp_path / "y", "pull", str(there / JOB), JOB).returncode == 0
    elsewhere = journal_line(tmp_path / "x", "pull", str(there / JOB), str(here / JOB))
    assert elsewhere.stdout == f"{JOB}: no commits to pull: both copies end with the same commit\n"


def forged(before: int, wanted: int, size: int) -> bytes:
    """A commit of this size behind the crc ``before`` that has the crc ``wanted``."""
    head, tail = b'{"type":"log","message":"', b'","at":"2126-11-24T13:35:00.000001Z"'
    body = bytearray(head + b"@" * (size - 19 - len(head) - len(tail)) + tail)
    difference = crc32(body, before) ^ wanted
    # CRC is linear: which of 64 bits to flip for that is found by Gauss's elimination.
    basis: dict[int, tuple[int, int]] = {}

    def reduced(vector: int, flips: int) -> tuple[int, int]:
        while vector and vector.bit_length() in basis:
            other, others = basis[vector.bit_length()]
            vector, flips = vector ^ other, flips ^ others
        return vector, flips

    for at in range(64):
        flipped = bytearray(body)
        flipped[len(head) + at] ^= 1
        vector, flips = reduced(crc32(flipped, before) ^ crc32(body, before), 1 << at)
        if vector:
            basis[vector.bit_length()] = (vector, flips)
    _, flips = reduced(difference, 0)
    for at in range(64):
        body[len(head) + at] ^= flips >> at & 1
    assert crc32(body, before) == wanted
    return bytes(body) + b',"crc":"%08x"}\n' % wanted


def test_what_is_ours_is_never_replaced_even_by_what_has_the_same_seals(
    here: Path, there: Path
) -> None:
    fork = journal_path(there, JOB).read_bytes()
    go_on(here, 3)
    ours = journal_path(here, JOB).read_bytes()
    crc = int(ours[-11:-3], 16)
    commit = forged(int(fork[-11:-3], 16), crc, len(ours) - len(fork))
    note = b'{"type":"log","message":"m","at":"2126-11-24T13:35:00.000001Z"'
    last = note + b',"crc":"%08x"}\n' % crc32(note, crc)
    journal_path(there, JOB).write_bytes(fork + commit + last)
    assert pull(here, there).commits == 1
    assert journal_path(here, JOB).read_bytes() == ours + last
    is_well(here)


@pytest.mark.parametrize("job_id", ["../../escaped", "ABSOLUTE/escaped", "..", ".staging", "x/y"])
def test_a_copy_whose_header_names_another_place_makes_nothing_there(
    tmp_path: Path, job_id: str
) -> None:
    job_id = job_id.replace("ABSOLUTE", tmp_path.as_posix())
    header = b'{"type":"job","format":1,"id":"%b","name":"M","at":"2026-11-24T13:35:00.000001Z"}'
    place_journal(tmp_path / "usb", "job", seal_commits([[header % job_id.encode()]]))
    root = tmp_path / "root" / "jobs"
    root.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(JournalDamagedError, match="a job's id"):
        pull_job(root, Source(tmp_path / "usb" / "job"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_copy_whose_seals_fit_and_whose_records_make_no_sense_is_not_taken_over(
    here: Path, there: Path
) -> None:
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


@pytest.mark.parametrize("there_too", [False, True])
def test_an_artifact_that_cannot_be_read_is_named_by_its_path_there(
    here: Path, there: Path, faulty_os: FaultyOs, there_too: bool
) -> None:
    path = put_artifact(there, "3.pdf", b"3")
    if there_too:
        put_artifact(here, "3.pdf", b"3")
    else:
        go_on(there, 3)

    def refuse(real: Callable[..., Any], *arguments: Any) -> Any:
        return (fails(13) if arguments[0] == path.name else works)(real, *arguments)

    faulty_os.always("open", refuse)
    before = content_of(here)
    with pytest.raises(StorageError) as caught:
        pull(here, there)
    assert (caught.value.path, caught.value.errno) == (str(path), 13)
    assert content_of(here) == before


def test_whatever_call_is_refused_the_journal_is_as_it_was_or_as_the_other_s(
    here: Path,
    there: Path,
    faulty_os: FaultyOs,
    count: Callable[[str, int], None],
) -> None:
    go_on(there, 3, 4)
    put_artifact(there, "3.pdf", b"3")
    put_artifact(here, "4.pdf", b"ours")
    put_artifact(there, "4.pdf", b"theirs")
    before = content_of(here)
    after = {**content_of(there), "artifacts/4.pdf.before-1": b"ours"}
    spare = here.with_name("spare")
    shutil.copytree(here, spare)
    faulty_os.calls.clear()
    pull(here, there)
    kinds = ("write", "fdatasync", "fsync", "rename")
    called = {name: faulty_os.count(name) for name in kinds}
    assert called["write"] > 3
    assert called["fdatasync"] >= 2
    tried = 0
    for name, calls in called.items():
        for number in range(calls):
            shutil.rmtree(here)
            shutil.copytree(spare, here)
            faulty_os.plan(name, *[works] * number, fails(28))
            with suppress(StorageError, CommitOutcomeUnknownError):
                pull(here, there)
            faulty_os.heal()
            tried += 1
            found = content_of(here)
            is_new = found["journal.jsonl"] == after["journal.jsonl"]
            assert is_new or found["journal.jsonl"] == before["journal.jsonl"]
            assert found.get("artifacts/3.pdf") in (None, b"3")
            assert not (is_new and "artifacts/3.pdf" not in found)
            assert b"ours" in (found["artifacts/4.pdf"], found.get("artifacts/4.pdf.before-1"))
            assert verify_job(here / JOB).findings == []
            assert pull(here, there).action == ("identical" if is_new else "forwarded")
            assert content_of(here) == after
    count("refused calls of a pull", tried)


def test_a_pull_that_can_t_write_the_journal_or_the_artifacts_changes_neither(
    here: Path, there: Path, faulty_os: FaultyOs
) -> None:
    go_on(there, 3)
    put_artifact(here, "3.pdf", b"ours")
    put_artifact(there, "3.pdf", b"theirs")
    before = content_of(here)
    faulty_os.calls.clear()
    faulty_os.plan("write", *[works] * 3, fails(28))  # run.lock, the artifact, sync.mark
    with pytest.raises(StorageError, match=r"journal\.jsonl\.new"):
        pull(here, there)
    faulty_os.heal()
    assert content_of(here) == before
    faulty_os.plan("rename", fails(13))
    with pytest.raises(StorageError, match=r"3\.pdf"):
        pull(here, there)
    faulty_os.heal()
    assert content_of(here) == before
    assert not (here / JOB / "journal.jsonl.new").exists()


def test_a_merge_that_the_disk_has_no_space_for_brings_no_artifacts(
    here: Path, there: Path, faulty_os: FaultyOs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 1)
    go_on(here, 3)
    go_on(there, 4)
    put_artifact(there, "4.pdf", b"4")
    before = journal_path(here, JOB).read_bytes()
    faulty_os.plan("write", *[works] * 4, fails(28))  # run.lock, the artifact, the copy, sync.mark
    with pytest.raises(StorageError, match=r"journal\.jsonl:"):
        pull(here, there, merge=True)
    faulty_os.heal()
    assert journal_path(here, JOB).read_bytes() == before
    assert artifacts_of(here) == {}
    assert pull(here, there, merge=True).artifacts == ["artifacts/4.pdf"]


def test_commits_are_synced_before_they_appear(
    here: Path, there: Path, faulty_os: FaultyOs
) -> None:
    """A power cut may damage the last commit only."""
    go_on(there, 3, 4)
    old = JournalFile(journal_path(here, JOB))
    before = old.read_at(0, 1 << 20)
    pull(here, there)
    names = [name for name, _ in faulty_os.calls]
    rename = names.index("rename")
    assert names[:rename].count("fdatasync") >= 1
    assert "fsync" in names[rename:]  # of the directory
    assert old.read_at(0, 1 << 20) == before


def test_what_a_pull_brings_has_its_cost_and_its_attempts_once(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with JobService(here) as service:
        service.create_job("Costs", job_id="costs", row_data=[{"data": {"n": 1}}])
    shutil.copytree(here, there)
    with JobService(there) as service:
        service.start_row("costs:1")
        service.complete_row("costs:1", cost_cents=5)
    assert pull_job(here, there / "costs").commits == 2
    with JobService(here) as service:
        job, row = service.get_job("costs"), service.get_row("costs:1")
        assert job is not None
        assert row is not None
        assert (job.total_cost_cents, row.attempts) == (5, 1)
