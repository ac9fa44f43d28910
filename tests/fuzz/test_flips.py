"""Every single bit of a journal of some hundred commits, flipped: none gets past the readers.

All of them at the level of :mod:`journal.format.commits`, against a window of the commit and what follows
it: what stands before a commit is read as it always was, whatever happens behind. Some by a whole
service, and by ``verify``. One bit of every sixth byte, drawn by lot, in an ordinary run; all of them with
``LONG=1 python -m pytest tests/fuzz/test_flips.py``.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from fuzz.campaign import Said, place, read
from fuzz.mutator import good_commits, record
from support.children import seal_commits, split_commits
from support.effort import IS_LONG

from journal import JournalDamagedError
from journal.format.commits import Position, verified_blocks
from journal.format.torn_tail_or_damage import judge_tail, scan
from journal.verify import verify_job

COMMITS = split_commits(seal_commits(good_commits(300, seed=3)))
CONTENT = b"".join(COMMITS)
STARTS = [0, *itertools.accumulate(map(len, COMMITS))]
WINDOW_COMMITS = 4


class Window:
    """Some bytes of a file, from ``offset`` on, in memory; those are changed in place."""

    def __init__(self, offset: int, content: bytes) -> None:
        self.offset = offset
        self.content = bytearray(content)

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= self.offset
        return bytes(self.content[offset - self.offset : offset - self.offset + length])

    def flips(self, length: int) -> Iterator[int]:
        """Flip the bits of the first ``length`` bytes, one after the other; the place of each."""
        rng = random.Random(self.offset)
        for at in range(length) if IS_LONG else range(rng.randrange(6), length, 6):
            for bit in range(8) if IS_LONG else (rng.randrange(8),):
                self.content[at] ^= 1 << bit
                yield self.offset + at
                self.content[at] ^= 1 << bit


def test_the_journal_holds_all_that_a_journal_may() -> None:
    kinds = b"job", b"row", b"row_status", b"job_status", b"job_counts", b"job_error", b"log"
    assert all(b'{"type":"%b",' % kind in CONTENT for kind in kinds)
    assert len(COMMITS) == 300
    assert sum(commit.count(b"\n") > 1 for commit in COMMITS) > 50
    assert max(map(len, COMMITS)) > 3000


def stated(number: int) -> int:
    """What the seal before commit ``number`` states."""
    return int(COMMITS[number - 1][-11:-3], 16) if number else 0


def test_no_flipped_bit_gets_a_commit_past_its_seal(count: Callable[[str, int], None]) -> None:
    flips = 0
    for number, commit in enumerate(COMMITS):
        start = STARTS[number]
        window = Window(start, b"".join(COMMITS[number : number + WINDOW_COMMITS]))
        end = start + len(window.content)
        before = Position(start, stated(number))
        assert [block.after.offset for block in verified_blocks(window, before, end)] == [end]
        for at in window.flips(len(commit)):
            flips += 1
            assert not list(verified_blocks(window, before, end)), f"read past a flip at {at}"
            verdict = judge_tail(window, end, before)
            assert verdict.kind != "torn", f"cut off at a flip at {at}"
            assert verdict.offset == start, at
    count("flipped bits", flips)
    assert flips == len(CONTENT) * 8 if IS_LONG else flips > len(CONTENT) / 8


def test_a_flipped_bit_hides_at_most_the_commit_behind_it() -> None:
    """The thorough reader vouches again for what follows."""
    for number in range(0, len(COMMITS) - WINDOW_COMMITS, 3):
        start = STARTS[number]
        window = Window(start, b"".join(COMMITS[number : number + WINDOW_COMMITS]))
        end = start + len(window.content)
        for at in window.flips(len(COMMITS[number])):
            bad, *good = scan(window, end, Position(start, stated(number)))
            assert (bad.good, bad.offset) == (False, start), at
            assert bad.end <= STARTS[number + 2], at
            assert all(span.good for span in good), at


def test_a_lost_line_end_before_a_last_commit_of_many_lines_is_damage() -> None:
    """Or the last two commits, both acknowledged, would be cut off as one torn tail."""
    records = [record(9, "log", message="J*", detail=number) for number in range(3)]
    commits = split_commits(seal_commits([*good_commits(20, seed=3), records[:1], records]))
    start = sum(map(len, commits[:-2]))
    window = Window(start, commits[-2] + commits[-1])
    before = Position(start, int(commits[-3][-11:-3], 16))
    for bit in range(8):
        window.content[len(commits[-2]) - 1] = 10 ^ (1 << bit)
        verdict = judge_tail(window, start + len(window.content), before)
        assert verdict.kind != "torn", bit


def test_a_service_and_verify_name_the_commit_of_a_flipped_bit(tmp_path: Path) -> None:
    path = place(tmp_path, CONTENT)
    said = read(tmp_path)
    assert isinstance(said, Said)
    place(tmp_path, CONTENT[: STARTS[-2]])
    before_last = read(tmp_path)
    rng = random.Random(5)
    places = [rng.randrange(len(CONTENT)) for _ in range(150)]
    places += [rng.randrange(STARTS[-2], len(CONTENT)) for _ in range(50)]
    for at, bit in sorted((at, rng.randrange(8)) for at in places):
        flipped = bytearray(CONTENT)
        flipped[at] ^= 1 << bit
        place(tmp_path, bytes(flipped))
        number = next(n for n, end in enumerate(STARTS[1:]) if at < end)
        line = CONTENT.count(b"\n", 0, STARTS[number]) + 1
        found = read(tmp_path)
        if number == len(COMMITS) - 1:
            assert found == before_last or isinstance(found, JournalDamagedError), (at, bit)
        else:
            assert isinstance(found, JournalDamagedError), (at, bit)
            assert (found.line, found.offset) == (line, STARTS[number]), (at, bit)
        first = verify_job(path.parent).findings[0]
        assert (first.line, first.offset) == (line, STARTS[number]), (at, bit)
