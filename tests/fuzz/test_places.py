"""``verify`` says where the damage is, and where it ends: line, byte offset, and the first good byte.

What follows broken history continues a seal that is lost: so a finding may take in one more commit
than was touched. It never begins late and never hides what is behind.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from fuzz.campaign import Said, place, read
from fuzz.mutator import good_commits
from support.children import seal_commits, split_commits
from support.effort import sample

from journal import JournalDamagedError
from journal.verify import Finding, verify_job

COMMITS = split_commits(seal_commits(good_commits(60, seed=6)))
CONTENT = b"".join(COMMITS)
STARTS = [0, *itertools.accumulate(map(len, COMMITS))]
OTHER = split_commits(seal_commits(good_commits(60, seed=7, job_id="other")))
MIDDLE = range(1, len(COMMITS) - 3)


def findings(root: Path, content: bytes) -> list[Finding]:
    """What verify reports, having checked that lines and offsets go together."""
    found = verify_job(place(root, content).parent).findings
    said = read(root)
    if found and found[0].kind == "damage":
        assert isinstance(said, JournalDamagedError)
        assert (said.line, said.offset) == (found[0].line, found[0].offset)
    else:
        assert isinstance(said, Said)
    for finding in found:
        assert finding.line == content.count(b"\n", 0, finding.offset) + 1
        assert finding.offset < finding.end <= len(content)
    assert all(one.end <= two.offset for one, two in itertools.pairwise(found))
    return found


def places(root: Path, commits: list[bytes]) -> list[tuple[str, int, int]]:
    """The kinds of the findings, and where they begin and end, counted in commits."""
    starts = [0, *itertools.accumulate(map(len, commits))]
    found = findings(root, b"".join(commits))
    return [(f.kind, starts.index(f.offset), starts.index(f.end)) for f in found]


def assert_refused_at(root: Path, line: int, offset: int) -> None:
    said = read(root)
    assert isinstance(said, JournalDamagedError)
    assert (said.line, said.offset) == (line, offset)


def test_a_removed_commit_is_named_where_it_is_missing(tmp_path: Path) -> None:
    for at in range(1, len(COMMITS) - 1):
        assert places(tmp_path, [*COMMITS[:at], *COMMITS[at + 1 :]]) == [("damage", at, at + 1)]


def test_a_repeated_commit_is_named_where_it_comes_again(tmp_path: Path) -> None:
    for at in range(len(COMMITS)):
        repeated = [*COMMITS[: at + 1], *COMMITS[at:]]
        assert places(tmp_path, repeated) == [("damage", at + 1, at + 2)]


def test_two_swapped_commits_are_named_and_the_one_that_continues_neither(tmp_path: Path) -> None:
    for at in MIDDLE:
        swapped = [*COMMITS[:at], COMMITS[at + 1], COMMITS[at], *COMMITS[at + 2 :]]
        assert places(tmp_path, swapped) == [
            ("damage", at, at + 1),
            ("damage", at + 2, at + 3),
        ]


def test_a_commit_of_another_job_is_named_where_it_was_put_in(tmp_path: Path) -> None:
    for at in MIDDLE:
        spliced = [*COMMITS[:at], OTHER[at + 1], *COMMITS[at:]]
        assert places(tmp_path, spliced) == [("damage", at, at + 1)]


def test_some_commits_of_another_job_are_named_from_end_to_end(tmp_path: Path) -> None:
    for at in MIDDLE:
        spliced = [*COMMITS[:at], *OTHER[at + 1 : at + 4], *COMMITS[at:]]
        length = len(spliced) - len(COMMITS)
        assert places(tmp_path, spliced) == [("damage", at, at + length)]


def test_a_tail_of_another_job_is_named_at_the_seam(tmp_path: Path) -> None:
    for at in MIDDLE:
        spliced = [*COMMITS[:at], *OTHER[at + 1 :]]
        assert places(tmp_path, spliced) == [("damage", at, at + 1)]
        line = b"".join(COMMITS[:at]).count(b"\n") + 1
        assert_refused_at(tmp_path, line, STARTS[at])


def test_a_line_removed_repeated_or_swapped_is_named_at_its_commit(tmp_path: Path) -> None:
    lines = CONTENT.splitlines(keepends=True)
    line_starts = [0, *itertools.accumulate(map(len, lines))]
    last = STARTS[-3]
    for at in range(1, len(lines)):
        if line_starts[at] >= last:
            break
        commit = max(start for start in STARTS if start <= line_starts[at])
        touched = min(end for end in STARTS if end > line_starts[at])
        for changed in (
            [*lines[:at], *lines[at + 1 :]],
            [*lines[: at + 1], *lines[at:]],
            [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        ):
            first, *more = findings(tmp_path, b"".join(changed))
            repeats_a_commit = first.offset == touched and len(changed) > len(lines)
            assert first.offset == commit or repeats_a_commit, at
            assert first.kind == "damage"
            assert len(more) <= 1, at  # of two swapped commits, the one that continues neither


def test_two_damages_far_apart_are_both_named(tmp_path: Path) -> None:
    changed = bytearray(CONTENT)
    for at in (STARTS[10] + 20, STARTS[40] + 20):
        changed[at] ^= 4
    found = findings(tmp_path, bytes(changed))
    assert [(f.kind, f.offset, f.end) for f in found] == [
        ("damage", STARTS[10], STARTS[11]),
        ("damage", STARTS[40], STARTS[41]),
    ]


def test_a_line_end_lost_32_commits_after_damage_changes_no_number_of_a_line(
    tmp_path: Path,
) -> None:
    assert any(COMMITS[at].count(b"\n") > 1 for at in range(33, 53))
    for at in range(20):
        changed = bytearray(CONTENT)
        for place_of_it in (STARTS[at] + 20, STARTS[55] + 20):
            changed[place_of_it] ^= 4
        del changed[STARTS[at + 33] - 1]
        found = findings(tmp_path, bytes(changed))
        assert [f.offset for f in found] == [STARTS[at], STARTS[at + 32], STARTS[55] - 1]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        pytest.param(CONTENT.replace(b"\n", b"\r\n"), "text mode", id="CRLF"),
        pytest.param(CONTENT.decode().encode("utf-16"), None, id="UTF-16 with its mark"),
        pytest.param(CONTENT.decode().encode("utf-16-le"), None, id="UTF-16"),
        pytest.param(CONTENT.decode().encode("utf-32"), None, id="UTF-32"),
        pytest.param(CONTENT.replace(b"\n", b"\r"), "LF was lost or changed", id="CR"),
        pytest.param(bytes(len(CONTENT)), "NUL", id="NULs"),
    ],
)
def test_a_file_that_was_changed_throughout_is_damage_from_its_first_byte(
    tmp_path: Path, content: bytes, cause: str | None
) -> None:
    first, *_ = findings(tmp_path, content)
    assert (first.kind, first.line, first.offset) == ("damage", 1, 0)
    assert cause is None or cause in first.message
    assert_refused_at(tmp_path, 1, 0)


def test_empty_lines_put_in_everywhere_are_damage_from_the_first_on(tmp_path: Path) -> None:
    first, *_ = findings(tmp_path, CONTENT.replace(b"\n", b"\n\n"))
    assert (first.kind, first.line, first.offset) == ("damage", 2, STARTS[1])
    assert_refused_at(tmp_path, 2, STARTS[1])


def test_a_byte_order_mark_is_named_with_the_first_commit_alone(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, b"\xef\xbb\xbf" + CONTENT)
    assert (found.kind, found.line, found.offset, found.end) == ("damage", 1, 0, 3 + STARTS[1])
    assert "byte order mark" in found.message


def test_crlf_on_one_line_is_named_at_its_commit(tmp_path: Path) -> None:
    for at in MIDDLE:
        changed = CONTENT[: STARTS[at + 1] - 1] + b"\r" + CONTENT[STARTS[at + 1] - 1 :]
        (found,) = findings(tmp_path, changed)
        assert (found.kind, found.offset) == ("damage", STARTS[at])
        assert found.end <= STARTS[at + 2] + 1


@pytest.mark.parametrize("count", [1, 512])
def test_nuls_put_in_are_named_at_the_commit_that_they_stand_in(tmp_path: Path, count: int) -> None:
    for at in MIDDLE:
        middle = (STARTS[at] + STARTS[at + 1]) // 2
        for where in (STARTS[at], middle):
            changed = CONTENT[:where] + bytes(count) + CONTENT[where:]
            (found,) = findings(tmp_path, changed)
            place_of_it = (found.kind, found.offset, found.end)
            assert place_of_it == ("damage", STARTS[at], STARTS[at + 1] + count)


def test_a_block_that_became_something_else_is_named_from_the_commit_it_begins_in(
    tmp_path: Path,
) -> None:
    block = 4096
    assert len(CONTENT) > 3 * block
    for start in range(0, len(CONTENT) - 2 * block, 1024):
        source = start + block if start + 2 * block < STARTS[-2] else 0
        for other in (bytes(block), CONTENT[source : source + block], b"\xff" * block):
            found = findings(tmp_path, CONTENT[:start] + other + CONTENT[start + block :])
            assert {finding.kind for finding in found} == {"damage"}
            assert found[0].offset == max(s for s in STARTS if s <= start)
            ends = [s for s in STARTS if s >= start + block]
            assert found[-1].end <= ends[1]


def test_a_file_cut_anywhere_is_torn_at_its_last_commit_or_clean(tmp_path: Path) -> None:
    commits = COMMITS[:12]
    content = b"".join(commits)
    assert any(commit.count(b"\n") > 1 for commit in commits)
    for cut in sample(range(1, len(content)), len(content) // 2):
        if content[cut - 2 : cut + 2] == b"xxxx":
            continue  # one place within the padding is as good as the next
        found = findings(tmp_path, content[:cut])
        start = max(s for s in STARTS if s <= cut)
        if start == cut:
            assert not found
            continue
        kind = "torn" if start else "damage"
        if cut + 1 in STARTS:
            kind = "unended"
        assert [(f.kind, f.offset, f.end) for f in found] == [(kind, start, cut)], cut


def test_two_illegible_commits_at_the_end_are_damage_and_not_a_torn_tail(tmp_path: Path) -> None:
    """One writer dies in one commit: each line that ends like a seal was one."""
    changed = bytearray(CONTENT)
    changed[STARTS[-3]] = changed[STARTS[-2]] = 0xFF
    found, *further = findings(tmp_path, bytes(changed))
    assert (found.kind, found.offset) == ("damage", STARTS[-3])
    assert [found, *further][-1].end == len(CONTENT)
    assert_refused_at(tmp_path, found.line, found.offset)


def test_what_is_read_in_front_of_a_torn_tail_is_what_was_there_before_it(tmp_path: Path) -> None:
    for number in range(1, len(COMMITS)):
        place(tmp_path, CONTENT[: STARTS[number]])
        whole = read(tmp_path)
        assert isinstance(whole, Said)
        place(tmp_path, CONTENT[: STARTS[number + 1] - 2])
        assert read(tmp_path) == whole
