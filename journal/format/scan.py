"""Reading a damaged journal: every commit that a seal still vouches for, and a verdict on the rest.

``commits.py`` reads the same grammar fast, and stops at the first commit that doesn't match its
seal. This reader finds out what is wrong there, and goes on after it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple
from zlib import crc32

from journal.format.bitflip import LOST_LINE_END, Flip
from journal.format.commits import CHUNK_BYTES, START, Position, Readable
from journal.format.records import (
    MAX_LINE_BYTES,
    SEAL_BYTES,
    content_crc,
    stated_crc,
)

TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_BYTE_ORDER_MARK = "a byte order mark: an editor has saved this file"
_JOB_RECORD = b'{"type":"job",'

Kind = Literal["good", "unended", "bad", "bit_flip", "inserted", "torn", "newer"]


class Region(NamedTuple):
    """A part of the file that has one verdict.

    ``kind`` is that verdict:

    - "good": commits that match their seals. ``commits`` counts them.
    - "unended": one such commit at the end of the file that lacks its LF.
    - "bad": bytes that no seal vouches for.
    - "bit_flip": a commit but for one flipped bit, ``flip``.
    - "inserted": lines between two commits of which the second continues the first.
    - "torn": a torn tail, that is an interrupted write.
    - "newer": the beginning of a journal in a newer format.

    It reaches from ``offset`` to ``end`` (bytes). ``line`` is the number of its first line
    (1-based), and ``lines`` counts them. If it is good or unended, ``start`` is the crc that it
    continues, and ``crc`` its own. Else both are the crc of the last good seal before it, and
    ``reason`` says what is wrong. ``seals`` counts the lines in a bad region that end like a seal;
    the last of these ends at ``sealed_end``.
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
    """A guess that a commit begins at ``offset`` and continues ``start``.

    ``crc`` is that of what was read of it so far.
    """

    offset: int
    line: int
    start: int
    crc: int


def scan(file: Readable, size: int, start: Position = START, line: int = 1) -> Iterator[Region]:
    """Yield the good, unended and bad regions from ``start`` to ``size``, in order, without gaps.

    A commit is good if it matches its seal when it is continued from one of these:

    - the crc that the commit before it states,
    - the crc that a broken commit before it should have stated, so one flipped bit in a seal or an
      LF doesn't hide the next commit,
    - the crc of the last good commit before bad bytes, so neither do inserted lines.
    """
    homes: list[int] = []  # crcs of the last good seals before bad regions
    last = start.crc
    candidates = _beginnings(start.offset, line, [last])
    bad_from, bad_line, seals, sealed_end = start.offset, line, 0, 0
    first_bad: bytes | None = None
    for offset, text, ended in lines_of(file, start.offset, size):
        end = offset + len(text) + ended
        if text.startswith(_JOB_RECORD) and offset > 0:  # a copy after another one
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
                homes = [*homes[-3:], last]
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
    """The guesses that a commit begins at ``offset``, continuing each of ``crcs``."""
    return [_Candidate(offset, line, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, stated: int | None, inserted: _Candidate
) -> list[_Candidate]:
    """The guesses after a line that ended no good commit.

    - If the line has a seal, the next commit begins after it.
    - If it has only a part of a seal, it may be a broken seal or an ordinary line: both are tried.
    - If it is no record at all, it may have been ``inserted`` between two commits.
    """
    digits = re.fullmatch(rb"[0-9a-f]{8}", text[-10:-2])
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
    return following[:12]  # hostile input must not make the guesses multiply


def _after_a_lost_line_end(text: bytes, offset: int, line: int, stated: int) -> _Candidate | None:
    """A good commit within one line, after a seal whose LF became another byte."""
    for candidate, rest in _lost_line_ends(text, offset, line):
        if content_crc(rest, candidate.crc) == stated:
            return candidate
    return None


def _lost_line_ends(text: bytes, offset: int, line: int) -> Iterator[tuple[_Candidate, bytes]]:
    """Where in a line a commit may begin, and what follows there; only the last few places."""
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
    """Yield ``(offset, line without its LF, whether it had one)``; a line over the bound is cut."""
    held: list[bytes] = []  # pieces of a line that spans chunks, joined once: it may be long
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
