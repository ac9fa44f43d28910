"""``verify`` says where the damage is, and where it ends: line, byte offset, and the first good byte.

What follows broken history continues a seal that is lost: so a finding may take in one more commit
than was touched. It never begins late and never hides what is behind.
"""

from __future__ import annotations

import itertools
from pathlib import Path

from fuzz.campaign import Said, place, read
from fuzz.mutator import good_commits
from support.children import seal_commits, split_commits

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


def test_some_commits_of_another_job_are_named_from_end_to_end(tmp_path: Path) -> None:
    for at in MIDDLE:
        spliced = [*COMMITS[:at], *OTHER[at + 1 : at + 4], *COMMITS[at:]]
        length = len(spliced) - len(COMMITS)
        assert places(tmp_path, spliced) == [("damage", at, at + length)]


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
