"""Reads a damaged journal: finds every commit that still matches its seal, and judges the rest.

A seal is the chained CRC-32 at the end of a commit. ``commits.py`` reads the same format faster,
but stops at the first commit that doesn't match its seal. The reader in this file finds out what is
wrong with that commit, and continues after it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple
from zlib import crc32

from journal.format.bitflip import LOST_LINE_END, Flip
from journal.format.commits import (
    CHUNK_BYTES,
    START,
    Block,
    Position,
    Readable,
    verified_blocks,
)
from journal.format.records import MAX_LINE_BYTES
from journal.format.seal import SEAL_BYTES, SEAL_DIGITS, content_crc, digits_in, stated_crc

TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_BYTE_ORDER_MARK = "a byte order mark: an editor has saved this file"
_JOB_RECORD = b'{"type":"job",'
MAX_HOMES = 4

Kind = Literal["good", "unended", "bad", "bit_flip", "inserted", "torn", "newer"]


class Region(NamedTuple):
    """A part of the file, with one verdict.

    ``kind`` is the verdict:

    - "good": commits that match their seals (the CRC-32 at the end of each commit).
    - "unended": the last commit of the file, which matches its seal but lacks its LF.
    - "bad": bytes that aren't part of a good commit.
    - "bit_flip": a commit that would be good if one bit, ``flip``, were restored.
    - "inserted": lines that were inserted between two commits. The crc of the second commit
      continues the crc of the first.
    - "torn": a torn tail (an interrupted write).
    - "newer": the beginning of a journal in a newer format.

    The other fields:

    - ``offset``, ``end``: where the region begins and ends, in bytes.
    - ``line``, ``lines``: the number of its first line (1-based), and how many lines it has.
    - ``start``: for a good or unended region, the crc in the seal before the region. For other
      regions, the crc in the last good seal before the region.
    - ``crc``: for a good or unended region, the crc in the region's last seal. For other regions,
      the same as ``start``.
    - ``reason``: what is wrong with a region that isn't good or unended.
    - ``commits``: how many commits a good or unended region has.
    - ``seals``: how many lines of a bad region end with a seal, which needn't match.
      ``sealed_end``: where the last of these lines ends.
    """

    kind: Kind
    offset: int
    end: int
    line: int
    lines: int
    start: int
    crc: int
    reason: str = ""
    commits: int = 0
    seals: int = 0
    sealed_end: int = 0
    flip: Flip | None = None

    @property
    def good(self) -> bool:
        return self.kind in ("good", "unended")


class _Candidate(NamedTuple):
    """A guess that a commit begins at ``offset`` and continues the crc ``start``.

    ``crc`` is computed from the start value ``start`` and the commit's bytes before the current
    line.
    """

    offset: int
    line: int
    start: int
    crc: int


def good_commits(
    file: Readable,
    size: int,
    start: Position = START,
    line: int = 1,
    look: Callable[[Block, int], None] | None = None,
) -> Region | None:
    """Return the good commits after ``start`` as one region, up to the first bad commit.

    The region ends at ``size`` at the latest. ``look`` is called with each block of lines and the
    number of its first line. Reading is as fast as in a replay. Returns None if the commit at
    ``start`` isn't good.
    """
    end, number, commits = start, line, 0
    for block in verified_blocks(file, start, size):
        if look is not None:
            look(block, number)
        end, number, commits = block.after, number + len(block.lines), commits + block.commits
    if end == start:
        return None
    lines = number - line
    return Region(
        "good", start.offset, end.offset, line, lines, start.crc, end.crc, commits=commits
    )


def scan(
    file: Readable,
    size: int,
    start: Position = START,
    line: int = 1,
    homes: Iterable[int] = (),
) -> Iterator[Region]:
    """Yield the good, unended and bad regions (see :class:`Region`) in order, without gaps.

    The regions reach from ``start`` to ``size``. The crc of a commit is computed from a start
    value. A commit is good if one of these start values gives the crc that is in its seal:

    - the crc in the seal of the commit before it.
    - the correct crc of a broken commit before it. So one flipped bit in a seal or an LF doesn't
      hide the next commit.
    - the crc of the last good commit before bad bytes. So inserted lines don't hide the next
      commit, either. For bad regions before ``start``, the caller gives these crcs as ``homes``.
    """
    homes = [*homes][-MAX_HOMES:]
    last = start.crc
    candidates = _beginnings(start.offset, line, [last, *homes])
    bad_from, bad_line, seals, sealed_end = start.offset, line, 0, 0
    first_bad: bytes | None = None
    for offset, text, ended in lines_of(file, start.offset, size):
        end = offset + len(text) + ended
        if text.startswith(_JOB_RECORD) and offset > 0:  # one journal was appended to another
            candidates += _beginnings(offset, line, [START.crc])
        stated = stated_crc(text) if ended or end == size else None
        good = None
        if stated is not None:
            good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)
            good = good or _after_a_lost_line_end(text, offset, line, stated)
        if good and stated is not None:
            if good.offset > bad_from:
                reason, count = _reason(first_bad or text), good.line - bad_line
                yield Region(
                    "bad", bad_from, good.offset, bad_line, count, last, last, reason, seals=seals
                )
                homes = [*homes, last][-MAX_HOMES:]
            count = line - good.line + 1
            kind: Kind = "good" if ended else "unended"
            yield Region(kind, good.offset, end, good.line, count, good.start, stated, commits=1)
            last = stated
            candidates = _beginnings(end, line + 1, [last, *homes])
            bad_from, bad_line, seals, first_bad = end, line + 1, 0, None
        else:
            if first_bad is None:
                first_bad = text if ended else text + b"\0"
            if ended and stated is not None:
                seals, sealed_end = seals + 1, end
            following = _Candidate(end, line + 1, last, last)
            candidates = _next_candidates(candidates, text, stated, following)
            if ended and stated is None:
                candidates += [
                    c._replace(crc=crc32(b"\n", crc32(rest, c.crc)))
                    for c, rest in _lost_line_ends(text, offset, line)
                ]
        line += 1
    if bad_from < size:
        bad = Region("bad", bad_from, size, bad_line, line - bad_line, last, last)
        yield bad._replace(reason=_reason(first_bad or b""), seals=seals, sealed_end=sealed_end)


def _beginnings(offset: int, line: int, crcs: Iterable[int]) -> list[_Candidate]:
    """For each crc in ``crcs``, return the guess that a commit at ``offset`` continues this crc."""
    return [_Candidate(offset, line, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, stated: int | None, inserted: _Candidate
) -> list[_Candidate]:
    """Return the guesses after a line that doesn't end a good commit.

    - If the line has a seal (the CRC-32 that ends a commit), the guess is that the next commit
      begins after the line.
    - If the line has a part of a seal, there are two guesses. Either the commit ends here, with a
      broken seal, or the commit continues after this line.
    - If the line has a seal or isn't a JSON object, the guesses include ``inserted``, for the case
      that the line was inserted between two commits.
    """
    digits = re.fullmatch(rb"[0-9a-f]{%d}" % SEAL_DIGITS, digits_in(text))
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    crcs = []
    if digits:
        crcs.append(int(digits[0], 16))
    if framed or digits:
        crcs += [content_crc(text, c.crc) for c in candidates]
    if stated is not None or not (text.startswith(b"{") and text.endswith(b"}")):
        crcs.append(inserted.start)
    following = _beginnings(inserted.offset, inserted.line, crcs)
    if stated is None:
        following += [c._replace(crc=crc32(b"\n", crc32(text, c.crc))) for c in candidates]
    return following[:12]  # so that hostile input can't multiply the guesses


def _after_a_lost_line_end(text: bytes, offset: int, line: int, stated: int) -> _Candidate | None:
    """Find a good commit within a line, after a seal that lost its LF. Returns None if there is
    none.
    """
    for candidate, rest in _lost_line_ends(text, offset, line):
        if content_crc(rest, candidate.crc) == stated:
            return candidate
    return None


def _lost_line_ends(text: bytes, offset: int, line: int) -> Iterator[tuple[_Candidate, bytes]]:
    """Yield each place within a line where a commit may begin, and the rest of the line from there.

    A commit may begin after a seal whose LF became a different byte. Only the last four such places
    are yielded.
    """
    for match in deque(LOST_LINE_END.finditer(text), maxlen=4):
        crc = int(match[1], 16)
        yield _Candidate(offset + match.end(), line, crc, crc), text[match.end() :]


def _reason(first: bytes) -> str:
    if first.endswith(b"}\r"):
        return TEXT_MODE
    if first.startswith(b"\xef\xbb\xbf"):
        return _BYTE_ORDER_MARK
    if not first.strip(b"\0"):
        return "NUL bytes"
    if len(first) > MAX_LINE_BYTES:
        return f"a line over {MAX_LINE_BYTES} bytes"
    if first.endswith(b"\0"):
        return "a line without its end"
    if stated_crc(first) is not None:
        return "a commit that does not match its seal"
    return "lines without a seal that matches"


def lines_of(file: Readable, offset: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield ``(offset, line without LF, whether the line had an LF)`` for each line.

    A line longer than ``MAX_LINE_BYTES`` is yielded in pieces.
    """
    held: list[bytes] = []  # the pieces of a line that spans chunks
    held_bytes = 0
    while offset + held_bytes < end:
        at = offset + held_bytes
        chunk = file.read_at(at, min(CHUNK_BYTES, end - at))
        if not chunk:
            break
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*held, lines[0]))
            held, held_bytes = [], 0
        for text in lines:
            yield offset, text, True
            offset += len(text) + 1
        held.append(rest)
        held_bytes += len(rest)
        if held_bytes > MAX_LINE_BYTES:
            yield offset, b"".join(held), False
            offset += held_bytes
            held, held_bytes = [], 0
    if held_bytes:
        yield offset, b"".join(held), False
