"""Damage to the last commits of a journal, and real tears: both readers give one verdict on each.

One reader is the package's. The other is ``corpus/judge.py``, which knows the page `format` alone. A
sample in an ordinary run; 3,000 damages and 3,000 tears with ``LONG=1``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from corpus import judge
from fuzz.mutator import good_commits, record
from support.children import Memory, seal_commits, split_commits
from support.effort import sample

from journal.format.commits import START, verified_blocks
from journal.format.torn_tail_or_damage import judge_tail

BLOCK_BYTES = 512
GARBAGE = (bytes(512), bytes(range(128, 256)) * 4, (b'stale text {"a":1,\n' * 27)[:512])
INSERTIONS: tuple[Callable[[int], bytes], ...] = (
    bytes,
    lambda count: b" " * count,
    lambda count: (b"# a note\n" * count)[:count],
    lambda count: (b'{"a":[],' * count)[:count],
    lambda count: random.Random(count).randbytes(count),
)
LIKE_A_SEAL = [{"a": 1, "crc": "0a1b2c3d"}, {"type": "f", "crc": "00000000"}]


def draw_journal(rng: random.Random) -> list[bytes]:
    """The commits of a journal of five to eight, the last of them long or of many lines, too."""
    commits = good_commits(rng.randrange(4, 8), seed=rng.randrange(1000))
    text = "".join(rng.choice("abcd {}[],:1") for _ in range(rng.randrange(2500)))
    last = [
        [record(9, "row_status", row=1, status="failed", error_message=text)],
        [record(9, "row_status", row=1, status="skipped")] * rng.randrange(1, 24),
        [record(9, "log", message="m", details={"files": LIKE_A_SEAL})] * rng.randrange(1, 4),
    ]
    return split_commits(seal_commits([*commits, rng.choice(last)]))


def flip(rng: random.Random, content: bytearray, low: int) -> None:
    content[rng.randrange(low, len(content))] ^= 1 << rng.randrange(8)


def flip_some(rng: random.Random, content: bytearray, low: int) -> None:
    for _ in range(rng.randrange(2, 5)):
        flip(rng, content, low)


def change_a_digit(rng: random.Random, content: bytearray, low: int) -> None:
    places = [at for at in range(low, len(content)) if content[at : at + 1].isdigit()]
    content[rng.choice(places)] = ord(rng.choice("0123456789"))


def overwrite(rng: random.Random, content: bytearray, low: int) -> None:
    at, count = rng.randrange(low, len(content)), rng.choice((1, 2, 8, 40, 200, 600))
    insertion = rng.choice(INSERTIONS)(min(count, len(content) - at))
    content[at : at + count] = insertion


def insert(rng: random.Random, content: bytearray, low: int) -> None:
    at = rng.choice((rng.randrange(low, len(content)), rng.choice(line_ends(content, low)) + 1))
    content[at:at] = rng.choice(INSERTIONS)(rng.choice((1, 2, 8, 40, 200, 600, 1500)))


def cut_out(rng: random.Random, content: bytearray, low: int) -> None:
    at = rng.randrange(low, len(content))
    del content[at : at + rng.choice((1, 2, 3, 8, 40, 200, 600))]


def double(rng: random.Random, content: bytearray, low: int) -> None:
    at = rng.randrange(low, len(content))
    content[at:at] = content[at : at + rng.choice((1, 8, 40, 200, 600))]


def lose_line_ends(rng: random.Random, content: bytearray, low: int) -> None:
    for at in sorted(rng.sample(ends := line_ends(content, low), rng.randint(1, len(ends)))[:3])[
        ::-1
    ]:
        del content[at]


def change_a_line_end(rng: random.Random, content: bytearray, low: int) -> None:
    at = rng.choice(line_ends(content, low))
    instead = (b"\r\n", b" \n", b"\n\n", b"\r", b" ", b"  ", bytes(1), bytes(4), rng.randbytes(1))
    content[at : at + 1] = rng.choice(instead)


def lose_a_line(rng: random.Random, content: bytearray, low: int) -> None:
    end = rng.choice(line_ends(content, low))
    del content[content.rfind(b"\n", 0, end) + 1 : end + 1]


def overwrite_a_seal(rng: random.Random, content: bytearray, low: int) -> None:
    at = content.index(b',"crc":"', low) + rng.randrange(18)
    content[at : at + 2] = rng.randbytes(2)


def line_ends(content: bytearray, low: int) -> list[int]:
    return [at for at in range(low, len(content)) if content[at] == ord("\n")]


DAMAGES = (
    flip, flip_some, change_a_digit, overwrite, insert, cut_out, double, lose_line_ends,
    change_a_line_end, lose_a_line, overwrite_a_seal,
)  # fmt: skip


def padding(rng: random.Random) -> bytes:
    return b" " * rng.choice((0, 0, 0, 1, 40, 700))


def damaged(seed: int) -> bytes:
    """A journal, one or two of whose last three commits were damaged, in one way or in two."""
    rng = random.Random(seed)
    commits = draw_journal(rng)
    content = bytearray(b"".join(commits))
    low = len(content) - sum(map(len, commits[-rng.randint(1, 3) :]))
    for damage in rng.sample(DAMAGES, rng.choice((1, 1, 1, 2))):
        if len(line_ends(content, low)) and b',"crc":"' in content[low:]:
            damage(rng, content, low)
    return bytes(content) + padding(rng)


def torn(seed: int) -> bytes:
    """A journal whose last commit reached the disk in part, and ended early or has stale blocks."""
    rng = random.Random(seed)
    commits = draw_journal(rng)
    content = bytearray(b"".join(commits))
    low, high = len(content) - len(commits[-1]), len(content)
    missing = [
        number
        for number in range(low // BLOCK_BYTES, (high - 1) // BLOCK_BYTES + 1)
        if rng.random() < rng.choice((0.1, 0.5, 0.9))
    ]
    for number in missing:
        begin, end = number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES
        stale = rng.choice(GARBAGE)
        content[max(low, begin) : end] = stale[max(low, begin) - begin :]
    del content[high:]
    if not missing or rng.random() < 0.4:
        cut = rng.randrange(low + 1, high - 1)
        del content[cut:]
    if not content.endswith(b"\n"):  # else the padding that follows would count as overwritten
        content += padding(rng)
    return bytes(content)


def verdict(content: bytes) -> tuple[str, int]:
    """The package's verdict on the frames of a journal, and where the tail begins."""
    file, end = Memory(content), START
    for block in verified_blocks(file, START, len(content)):
        end = block.after
    if end.offset == len(content):
        return "good", end.offset
    kind = judge_tail(file, len(content), end).kind.replace("padding", "good")
    return kind if kind in {"good", "torn", "unended", "newer"} else "damaged", end.offset


def test_both_readers_give_the_same_verdict_on_damage(count: Callable[[str, int], None]) -> None:
    found = Counter[str]()
    for seed in sample(range(3000), 250):
        content = damaged(seed)
        assert verdict(content) == judge.verdict(content), seed
        found[verdict(content)[0]] += 1
    for name in sorted(found):
        count(f"damages of last commits that are {name}", found[name])
    assert found["damaged"] > 2 * found["torn"] > 0


def test_both_readers_take_a_tear_for_one(count: Callable[[str, int], None]) -> None:
    tried = 0
    for seed in sample(range(3000), 250):
        content = torn(seed)
        name, at = verdict(content)
        assert (name, at) == judge.verdict(content), seed
        assert name == ("torn" if content[at:].strip(b" ") else "good"), seed
        tried += 1
    count("tears of last commits", tried)
