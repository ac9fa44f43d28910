"""What two copies of a job are to each other, from a few reads, and what a pull would do."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.children import (
    FaultyOs,
    journal_path,
    place_journal,
    seal_commits,
    split_commits,
)
from support.copies import (
    JOB,
    change,
    content_of,
    go_on,
    journal_line,
    make_job,
    packed,
    put_artifact,
    relation_of,
)

import journal.fs.system
import journal.store.journal
from journal import InvalidValueError, JobService, JournalDamagedError
from journal.format.commits import Position, has_seal, seal_after, seal_before
from journal.fs.handles import JournalFile
from journal.transfer import Preview, preview_pull, pull_job
from journal.transfer.copies import (
    find_fork,
    open_copy,
    relate,
)
from journal.transfer.pack import Source


@pytest.fixture
def here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here", 20)
    return tmp_path / "here"


def compared(here: Path, there: Path) -> Preview:
    """What a pull would do, which changes nothing."""
    before = [content_of(root) for root in (here, there)]
    found = preview_pull(here, Source(there / JOB))
    assert [content_of(root) for root in (here, there)] == before
    return found


def test_copies_are_identical_or_one_is_ahead_by_its_commits(here: Path, there: Path) -> None:
    assert compared(here, there).action == "identical"
    go_on(there, 3, 4, 5)
    found = compared(here, there)
    assert (found.action, found.our_commits, found.commits) == ("forwarded", 0, 6)
    assert (compared(there, here).action, compared(there, here).our_commits) == ("ahead", 6)
    assert (found.line, found.rows) == (None, [])
    assert preview_pull(here / "nowhere", there / JOB).action == "made"
    assert not (here / "nowhere").exists()


def test_a_dry_run_judges_each_row_that_the_other_copy_has_changed_as_the_pull_then_does(
    here: Path, there: Path
) -> None:
    for root in (here, there):
        change(root, lambda service: service.create_rows(JOB, [{"data": {"n": root.name}}]))  # noqa: B023
        go_on(root, 3)
    go_on(there, 4, 9, 10, 11)
    change(there, lambda service: service.start_row(f"{JOB}:5"))
    go_on(here, 6)
    change(here, lambda service: service.start_row(f"{JOB}:7"))
    change(there, lambda service: service.redo_row(f"{JOB}:1"))
    go_on(here, 8)
    change(there, lambda service: service.skip_row(f"{JOB}:8"))
    change(there, lambda service: service.retry_row(f"{JOB}:8"))
    done = journal_line(here, "pull", str(there / JOB), "--dry-run")
    assert done.returncode == 3
    head, *rows = done.stdout.splitlines()
    assert re.match(rf"{JOB}: diverged at line \d+: 15 commits there; 8 commits here$", head)
    assert rows == [
        "take   row 1: completed here, pending there",
        "review row 3: completed here, completed there",
        "take   rows 4, 9-11: pending here, completed there",
        "review row 5: pending here, processing there",
        "review row 8: completed here, pending there",
        "add    row 22 (there 21): not here, pending there",
    ]
    found = compared(here, there)
    shown = json.loads(journal_line(here, "pull", str(there / JOB), "--dry-run", "--json").stdout)
    assert [row["verdict"] for row in shown["rows"]] == [row.verdict for row in found.rows]
    pulled = pull_job(here, there / JOB, merge=True)
    assert (pulled.action, pulled.merged and pulled.merged.review) == (found.action, [3, 5, 8])
    for word, root, other in (
        (
            "no commits to pull: the job here has everything from there, and 9 commits of its own",
            here,
            there,
        ),
        ("row 3: ", there, here),
    ):
        assert word in journal_line(root, "pull", str(other / JOB), "--dry-run").stdout


def test_a_dry_run_takes_a_pack_and_a_stream_and_says_what_a_fast_forward_would_append(
    here: Path, there: Path, tmp_path: Path
) -> None:
    go_on(there, 3)
    put_artifact(there, "label.txt", b"x" * 1000)
    pack = packed(there, tmp_path / "pack.tar.gz")
    done = journal_line(here, "pull", str(pack), "--dry-run")
    assert (done.returncode, "behind: 2 commits there" in done.stdout) == (0, True)
    with pack.open("rb") as stream:
        done = journal_line(there, "pull", "-", "--dry-run", stdin=stream)
    assert (done.returncode, "the same commit" in done.stdout) == (0, True)


def test_a_torn_tail_is_no_difference_and_a_writer_may_be_at_work(here: Path, there: Path) -> None:
    with journal_path(there, JOB).open("ab") as file:
        file.write(b'{"type":"row_status","row":3,"sta')
    assert compared(here, there).action == "identical"
    with journal_path(there, JOB).open("ab") as file:
        file.write(b'tus":"completed","at":"2026-11-24T13:35:00.000001Z","crc":"00000000"}\n')
    with pytest.raises(JournalDamagedError):  # whole, and doesn't fit: no writer leaves that
        compared(here, there)


def test_a_last_commit_that_ends_with_a_seal_that_does_not_fit_is_not_taken_for_the_end(
    here: Path, there: Path
) -> None:
    with journal_path(there, JOB).open("ab") as file:
        file.write(bytes(600) + b'","at":"2026-11-24T13:35:00.000001Z","crc":"00000000"}\n')
    assert compared(here, there).action == "identical"


def test_different_jobs_are_told_from_copies_of_one(here: Path, tmp_path: Path) -> None:
    make_job(tmp_path / "other", job_id="other")
    make_job(tmp_path / "again")
    for root, job_id, text in (
        ("other", "other", "another job than"),
        ("again", JOB, "neither is a copy of the other"),
    ):
        with pytest.raises(InvalidValueError, match=text):
            relation_of(here / JOB, tmp_path / root / job_id)
        done = journal_line(here, "pull", str(tmp_path / root / job_id), JOB, "--dry-run")
        assert done.returncode == 2
        assert text in done.stderr


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
    assert relation_of(here / JOB, there / JOB) == "diverged"


def test_a_comparison_of_packs_writes_their_journals_and_syncs_nothing(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_artifact(here, "large", bytes(5_000_000))
    pack = packed(here, tmp_path / "pack")
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    assert preview_pull(here, pack).action == "identical"
    written = sum(len(given[1]) for name, given in faulty.calls if name == "write")
    assert written == journal_path(here, JOB).stat().st_size
    assert faulty.count("fsync") == faulty.count("fdatasync") == 0


# --- the search ------------------------------------------------------------------------------

HEADER = b'{"type":"job","format":1,"id":"moved","name":"M","at":"2026-11-24T13:35:00.000001Z"}'


def note(text: str) -> bytes:
    return b'{"type":"log","message":"%b","at":"2026-11-24T13:35:00.000001Z"}' % text.encode()


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
    found = preview_pull(tmp_path / "a", tmp_path / "b" / JOB)
    assert (found.our_commits, found.commits) == (len(ours), len(theirs))
    expected = {
        (False, False): "identical",
        (True, False): "ahead",
        (False, True): "behind",
        (True, True): "diverged",
    }
    assert relate(a, b)[0] == expected[bool(ours), bool(theirs)]


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
    for position in [end + more for end in ends for more in (-1, 0, 1)]:
        assert (position in ends) == (seal_after(file, position - 1, position) is not None)
        assert (position in ends) == (seal_before(file, position, position - 1) is not None)
    assert not has_seal(file, Position(1, 0))


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
