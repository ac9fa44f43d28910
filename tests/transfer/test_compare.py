"""`journal compare`: what two copies of a job are to each other, from a few reads."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
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
from support.copies import JOB, change, go_on, journal_line, make_job, packed, put_artifact

import journal.fs.system
import journal.store.journal
from journal import InvalidValueError, JobService, JournalDamagedError, PackError
from journal.cli.main import main
from journal.format.extent import seal_after, seal_before
from journal.fs.handles import JournalFile
from journal.transfer import compare_copies
from journal.transfer.compare import Comparison
from journal.transfer.copies import (
    find_fork,
    open_copy,
    relate,
)
from journal.transfer.source import Source


@pytest.fixture
def here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here", 20)
    return tmp_path / "here"


@pytest.fixture
def there(here: Path, tmp_path: Path) -> Path:
    shutil.copytree(here, tmp_path / "there")
    return tmp_path / "there"


def compared(here: Path, there: Path) -> Comparison:
    return compare_copies(Source(here / JOB), Source(there / JOB))


def test_copies_are_identical_or_one_is_ahead_by_its_commits(here: Path, there: Path) -> None:
    assert compared(here, there).relation == "identical"
    go_on(there, 3, 4, 5)
    found = compared(here, there)
    assert (found.relation, found.ours.commits, found.theirs.commits) == ("behind", 0, 6)
    assert compared(there, here).relation == "ahead"
    assert found.line is None
    assert found.theirs.row_statuses == {"processing": 3, "completed": 3}


def test_a_member_that_only_looks_like_a_seal_ends_no_commit(here: Path, there: Path) -> None:
    path = journal_path(there, JOB)
    start = int(path.read_bytes()[-11:-3], 16)
    log = b'{"type":"log","level":"INFO","message":"m","at":"2999-01-01T00:00:00.000001Z"'
    body = log + b',"crc":"ABCDEF01"}\n' + log
    with path.open("ab") as file:
        file.write(body + b',"crc":"%08x"}\n' % crc32(body, start))
    assert compared(here, there).theirs.commits == 1


def test_copies_that_diverged_are_told_with_the_line_and_what_each_did_since(
    here: Path, there: Path
) -> None:
    lines = journal_path(here, JOB).read_bytes().count(b"\n")
    go_on(here, 3)
    go_on(there, 3, 4)
    change(there, lambda service: service.fail_row(f"{JOB}:5", "E", "no"))
    change(there, lambda service: service.create_rows(JOB, [{"data": {}}]))
    change(there, lambda service: service.update_status(JOB, "paused"))
    found = compared(here, there)
    assert (found.relation, found.line) == ("diverged", lines + 1)
    assert found.fork.offset == len(
        b"".join(split_commits(journal_path(here, JOB).read_bytes())[:-2])
    )
    assert found.ours.row_statuses == {"processing": 1, "completed": 1}
    assert found.theirs.row_statuses == {"processing": 2, "completed": 2, "failed": 1}
    assert (found.theirs.rows_added, found.theirs.job_statuses) == (1, ["paused"])
    assert found.theirs.commits == 7


def test_what_was_logged_about_rows_is_not_listed_among_the_messages_of_the_job(
    here: Path, there: Path
) -> None:
    def tell(service: JobService) -> None:
        for number in range(1, 31):
            service.log(JOB, "about one", row_number=number % 9 + 1)
        service.log(JOB, "about all")

    change(there, tell)
    assert compared(here, there).theirs.messages == ["about all"]


def test_a_torn_tail_is_no_difference_and_a_writer_may_be_at_work(here: Path, there: Path) -> None:
    with journal_path(there, JOB).open("ab") as file:
        file.write(b'{"type":"row_status","row":3,"sta')
    assert compared(here, there).relation == "identical"
    with journal_path(there, JOB).open("ab") as file:
        file.write(b'tus":"completed","at":"2026-11-24T13:35:00.000001Z","crc":"00000000"}\n')
    with pytest.raises(JournalDamagedError):  # whole, and doesn't fit: no writer leaves that
        compared(here, there)


def test_a_last_commit_that_ends_with_a_seal_that_does_not_fit_is_not_taken_for_the_end(
    here: Path, there: Path
) -> None:
    with journal_path(there, JOB).open("ab") as file:
        file.write(bytes(600) + b'","at":"2026-11-24T13:35:00.000001Z","crc":"00000000"}\n')
    assert compared(here, there).relation == "identical"


def test_different_jobs_are_told_from_copies_of_one(here: Path, tmp_path: Path) -> None:
    make_job(tmp_path / "other", job_id="other")
    make_job(tmp_path / "again")
    for root, job_id, text in (
        ("other", "other", "another job than"),
        ("again", JOB, "neither is a copy of the other"),
    ):
        with pytest.raises(InvalidValueError, match=text):
            compare_copies(Source(here / JOB), Source(tmp_path / root / job_id))
        done = journal_line(here, "compare", JOB, str(tmp_path / root / job_id))
        assert done.returncode == 2
        assert text in done.stderr


def test_retries_redos_changed_data_and_reopenings_are_told(here: Path, there: Path) -> None:
    with JobService(there, sync="none") as service:
        service.update_row_data(f"{JOB}:3", {"n": "new"})
        service.update_status(JOB, "completed")
        service.redo_row(f"{JOB}:2")
    side = compared(here, there).theirs
    assert (side.data_changes, side.resets, side.job_statuses) == (
        1,
        {"redo": 1},
        ["completed", "pending"],
    )
    done = journal_line(here, "compare", JOB, str(there / JOB))
    assert "data of 1 changed, redone 1, pending 1, job pending" in done.stdout


def resume_by_hand(service: JobService, job_id: str) -> None:
    service.update_status(job_id, "paused")
    service.update_status(job_id, "running")


@pytest.mark.parametrize("start", [JobService.start_job, resume_by_hand])
def test_copies_differ_that_twins_have_gone_on_with_under_clocks_that_are_held(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., object]
) -> None:
    """Host name, process id and times are the same: two containers after a clock that was ahead."""
    monkeypatch.setattr(journal.store.journal, "now", lambda: datetime.fromtimestamp(0, UTC))
    for root in (here, there):
        with JobService(root) as service:
            start(service, JOB)
            service.complete_row(f"{JOB}:3", "T-3")
    assert compared(here, there).relation == "diverged"


def test_the_exit_codes_and_the_json_say_which_it_is(here: Path, there: Path) -> None:
    def code(*arguments: str) -> int:
        return journal_line(here, "compare", JOB, str(there / JOB), *arguments).returncode

    assert code() == 0
    go_on(there, 3)
    assert code() == 1
    assert journal_line(there, "compare", JOB, str(here / JOB)).returncode == 1
    go_on(here, 4)
    assert code() == 3
    done = journal_line(here, "compare", JOB, str(there / JOB), "--json")
    found = json.loads(done.stdout)
    assert (found["relation"], found["ours"]["commits"]) == ("diverged", 2)
    with journal_path(there, JOB).open("r+b") as file:
        file.seek(found["fork"]["offset"] + 10)
        file.write(b"?")
    assert code() == 6
    assert journal_line(here, "compare", JOB, str(here / "nothing")).returncode == 2
    assert journal_line(here, "compare", "nothing", JOB).returncode == 4
    assert journal_line(here, "compare", "-", "-").returncode == 2


def test_what_keeps_copies_from_being_compared_is_never_told_as_one_being_ahead(
    here: Path, there: Path
) -> None:
    path = journal_path(there, JOB)
    header = HEADER.replace(b'"format":1', b'"format":9')
    path.write_bytes(seal_commits([[header]]))  # FormatVersionError
    done = journal_line(here, "compare", JOB, str(there / JOB))
    assert (done.returncode, "newer version" in done.stderr) == (6, True)
    path.unlink()
    path.mkdir()  # StorageError
    done = journal_line(here, "compare", JOB, str(there / JOB))
    assert (done.returncode, done.stdout) == (6, "")


@pytest.mark.parametrize("call", ["open", "pread", "write", "read"])
@pytest.mark.parametrize("number", [5, 28])
def test_whatever_the_system_refuses_a_comparison_ends_with_six(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    pack = packed(here, tmp_path / "pack")
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    arguments = ["--root", str(here), "compare", JOB, str(pack)]
    assert main(arguments) == 0
    calls = faulty.count(call)
    assert calls > 0
    for refused in range(calls):
        faulty.plan(call, *[works] * refused, fails(number))
        assert main(arguments) in ((2, 6) if call == "open" else (6,))  # 2: no such source
        faulty.heal()


def test_not_even_a_fault_of_ours_is_told_as_one_copy_being_ahead(
    here: Path, there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read_some(_file: JournalFile, _offset: int, _length: int) -> bytes:
        raise RuntimeError("a fault")

    monkeypatch.setattr(JournalFile, "read_some", read_some)
    assert main(["--root", str(here), "compare", JOB, str(there / JOB)]) == 6
    assert "RuntimeError: a fault" in capsys.readouterr().err


def test_a_comparison_of_packs_writes_their_journals_and_syncs_nothing(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_artifact(here, "large", bytes(5_000_000))
    pack = packed(here, tmp_path / "pack")
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    assert compare_copies(here / JOB, pack).relation == "identical"
    written = sum(len(given[1]) for name, given in faulty.calls if name == "write")
    assert written == journal_path(here, JOB).stat().st_size
    assert faulty.count("fsync") == faulty.count("fdatasync") == 0
    with pytest.raises(PackError, match="--max-bytes"):
        compare_copies(here / JOB, pack, max_bytes=1_000_000)


def test_packs_are_compared_as_directories_are(here: Path, there: Path, tmp_path: Path) -> None:
    go_on(there, 3)
    pack = packed(there, tmp_path / "pack.tar.gz")
    assert journal_line(there, "compare", JOB, str(pack)).returncode == 0
    done = journal_line(here, "compare", str(pack), JOB)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1,
        f"ahead     {JOB}: A is ahead of B by 2 commits",
    )
    with pack.open("rb") as stream:
        assert journal_line(there, "compare", JOB, "-", stdin=stream).returncode == 0


def test_a_copy_s_directory_may_be_called_anything(here: Path, tmp_path: Path) -> None:
    shutil.copytree(here / JOB, tmp_path / "Copy of it (1)")
    assert compare_copies(Source(here / JOB), Source(tmp_path / "Copy of it (1)")).relation == (
        "identical"
    )


@pytest.mark.parametrize("job_id", ["../../escaped", "/escaped", "..", ".staging", "a/b", ""])
def test_a_header_that_names_another_place_as_its_job_is_damage(
    here: Path, tmp_path: Path, job_id: str
) -> None:
    header = HEADER.replace(b'"moved"', b'"%b"' % job_id.encode())
    place_journal(tmp_path / "usb", "job", seal_commits([[header]]))
    with pytest.raises(JournalDamagedError, match="a job's id"):
        compare_copies(Source(here / JOB), Source(tmp_path / "usb" / "job"))


# --- the search ------------------------------------------------------------------------------

HEADER = b'{"type":"job","format":1,"id":"moved","name":"M","at":"2026-11-24T13:35:00.000001Z"}'


def note(text: str) -> bytes:
    return b'{"type":"log","message":"%b","at":"2026-11-24T13:35:00.000001Z"}' % text.encode()


class Counting:
    """Counts the reads of every journal, and their bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.size = 0
        real = JournalFile.read_some

        def read_some(file: JournalFile, offset: int, length: int) -> bytes:
            data = real(file, offset, length)
            self.reads += 1
            self.size += len(data)
            return data

        monkeypatch.setattr(JournalFile, "read_some", read_some)


@pytest.mark.parametrize("seed", range(40))
def test_the_fork_is_found_wherever_it_is(tmp_path: Path, seed: int) -> None:
    """Histories of commits of all sizes, some larger than what is read at once."""
    draw = random.Random(seed)

    def commits(count: int, who: str) -> list[list[bytes]]:
        sizes = [draw.choice([1, 40, 3000, 70_000, 200_000]) for _ in range(count)]
        return [
            [note(f"{who}{n}" + "x" * size)] * draw.choice([1, 1, 3])
            for n, size in enumerate(sizes)
        ]

    common = [[HEADER], *commits(draw.randrange(25), "both")]
    ours = commits(draw.choice([0, 1, 9]), "ours")
    theirs = commits(draw.choice([0, 1, 9]), "them")
    place_journal(tmp_path / "a", JOB, seal_commits(common + ours))
    place_journal(tmp_path / "b", JOB, seal_commits(common + theirs))
    a, b = open_copy(tmp_path / "a" / JOB), open_copy(tmp_path / "b" / JOB)
    assert find_fork(a, b).offset == len(seal_commits(common))
    found = compare_copies(tmp_path / "a" / JOB, tmp_path / "b" / JOB)
    assert (found.ours.commits, found.theirs.commits) == (len(ours), len(theirs))
    expected = {
        (False, False): "identical",
        (True, False): "ahead",
        (False, True): "behind",
        (True, True): "diverged",
    }
    assert found.relation == expected[bool(ours), bool(theirs)]


def test_a_long_common_history_costs_a_few_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = [[note("x" * 60)]] * 100_000
    place_journal(tmp_path / "c", JOB, seal_commits([[HEADER], *history]))
    with JobService(tmp_path / "c", sync="none") as service:
        service.create_rows(JOB, [{"data": {}}] * 1000)
    whole = journal_path(tmp_path / "c", JOB).read_bytes()
    for root, number in (("a", 1), ("b", 2)):
        shutil.copytree(tmp_path / "c", tmp_path / root)
        go_on(tmp_path / root, number)
    counting = Counting(monkeypatch)
    for other, most in (("c", 20), ("b", 80)):
        counting.reads = counting.size = 0
        a, b = open_copy(tmp_path / "a" / JOB), open_copy(tmp_path / other / JOB)
        assert find_fork(a, b).offset == len(whole)
        assert counting.reads <= most
        assert counting.size < len(whole) // 5
    counting.reads = counting.size = 0
    a, b = open_copy(tmp_path / "a" / JOB), open_copy(tmp_path / "b" / JOB)
    assert relate(a, b)[0] == "diverged"
    assert counting.size < len(whole) // 5
    found = compare_copies(Source(tmp_path / "a" / JOB), Source(tmp_path / "b" / JOB))
    assert found.line == whole.count(b"\n") + 1
    counting.reads = 0
    assert compare_copies(Source(tmp_path / "a" / JOB), Source(tmp_path / "c" / JOB)).relation == (
        "ahead"
    )
    assert counting.reads <= 30


def test_a_commit_of_the_same_length_at_the_same_place_is_not_taken_for_the_same(
    tmp_path: Path,
) -> None:
    common = [[HEADER], [note("both")]]
    for root, word in (("a", "x"), ("b", "y")):
        place_journal(
            tmp_path / root, JOB, seal_commits([*common, [note(word)], [note("the same")]])
        )
    a, b = open_copy(tmp_path / "a" / JOB), open_copy(tmp_path / "b" / JOB)
    assert find_fork(a, b).offset == len(seal_commits(common))


@pytest.mark.parametrize("pad", [65_500, 65_517, 65_518, 65_519, 65_520, 65_530, 65_536])
def test_a_seal_across_the_border_of_what_is_read_at_once_is_found(
    tmp_path: Path, pad: int
) -> None:
    content = seal_commits([[HEADER], [note("x" * (pad - len(note("")) - 200))], [note("y" * 30)]])
    path = place_journal(tmp_path, JOB, content)
    file = JournalFile(path)
    ends, offset = [], 0
    for commit in split_commits(content):
        offset += len(commit)
        ends.append(offset)
    for limit in [*range(1, 400), *range(pad - 300, len(content) + 1)]:
        before = [end for end in ends if end <= limit]
        found = seal_before(file, limit)
        assert (found and found.offset) == (before[-1] if before else None)
        behind = seal_after(file, limit, len(content))
        after = [end for end in ends if end > limit]
        assert (behind and behind.offset) == (after[0] if after else None)


@pytest.mark.parametrize("action", ["flip", "cut"])
def test_damage_in_what_only_one_copy_holds_is_found(here: Path, there: Path, action: Any) -> None:
    fork = journal_path(here, JOB).stat().st_size
    go_on(there, 3, 4, 5)
    path = journal_path(there, JOB)
    content = bytearray(path.read_bytes())
    if action == "flip":
        content[fork + 10] ^= 1
    else:
        del content[fork + 10 : fork + 40]
    path.write_bytes(content)
    with pytest.raises(JournalDamagedError):
        compared(here, there)
