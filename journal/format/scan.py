"""Divides a damaged journal into regions: commits that match their seals, and the bytes between.

A seal is the chained CRC-32 at the end of a commit. ``commits.py`` reads the same format faster,
but stops at the first commit that doesn't match its seal. The reader in this file finds out what is
wrong with that commit, and continues after it. ``torn_tail.py`` gives the verdict on each region.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple
from zlib import crc32

from journal.format.bitflip import Flip
from journal.format.commits import (
    CHUNK_BYTES,
    START,
    Block,
    Position,
    Readable,
    verified_blocks,
)
from journal.format.decode import is_legible
from journal.format.records import MAX_LINE_BYTES
from journal.format.seal import SEAL_BYTES, SEAL_DIGITS, content_crc, digits_in, stated_crc

BLOCK_BYTES = 512  # a disk writes a block of this size completely or not at all
_MAX_HOMES = 4
# After this number of good commits in a row, the fast reader is used again. With a smaller number
# and many bad commits, the fast reader would often start just before a bad commit, where it stops.
_GOOD_COMMITS = 32
TOO_LONG = f"a line over {MAX_LINE_BYTES} bytes"
TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_BYTE_ORDER_MARK = "a byte order mark: an editor has saved this file"
_JOB_RECORD = b'{"type":"job",'
_SEAL_WITHIN_LINE = re.compile(rb',"crc":"([0-9a-f]{%d})"}(?!\Z)' % SEAL_DIGITS)
_SPACES = re.compile(b" +")
_MAX_TRIES = 16  # so that hostile input can't make one line be decoded too often

Kind = Literal[
    "good", "unended", "joined", "bad", "bit_flip", "inserted", "torn", "newer", "padding"
]


class Region(NamedTuple):
    """A part of the file, with one verdict.

    ``kind`` is the verdict:

    - "good": commits that match their seals (the CRC-32 at the end of each commit).
    - "unended": the last commit of the file, which matches its seal but lacks its LF.
    - "joined": a commit that matches its seal but lacks its LF, and other bytes follow.
    - "bad": bytes that aren't part of a good commit. A line with a seal ends the region, and so does
      a line that is too long.
    - "bit_flip": a commit that would be good if one bit, ``flip``, were restored. Or the LF of a
      good commit became another byte; then ``flip`` has all bits that differ.
    - "inserted": lines that were inserted between two commits. The crc of the second commit
      continues the crc of the first.
    - "torn": a torn tail (an interrupted write).
    - "newer": the beginning of a journal in a newer format.
    - "padding": spaces after the last LF.

    The other fields:

    - ``offset``, ``end``: where the region begins and ends, in bytes.
    - ``line``, ``lines``: the number of its first line (1-based), and how many lines it has.
    - ``start``, ``crc``: the crc in the seal before the region's commits, and in their last seal.
      For bytes without a commit, both are the crc in the last good seal before the region.
    - ``reason``: what is wrong with the region.
    - ``commits``: how many commits of the region match their seals.
    - ``sealed_end``: where the seal of a bad region ends, or 0 if the region has no seal.
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
    sealed_end: int = 0
    flip: Flip | None = None

    @property
    def good(self) -> bool:
        return self.kind in ("good", "unended", "joined")


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


def without_padding(file: Readable, size: int, last: int) -> int:
    """Return where the padding of a file begins: the spaces after the last LF.

    Returns ``size`` if there is no padding. ``last`` is the end of the last good commit. Nothing
    before it is padding.
    """
    end = size
    while end > last:
        begin = max(last, end - CHUNK_BYTES)
        kept = file.read_at(begin, end - begin).rstrip(b" ")
        if kept:
            return begin + len(kept) if kept.endswith(b"\n") else size
        end = begin
    return last or size  # a file of spaces alone has no padding


def scan(file: Readable, size: int, start: Position = START, line: int = 1) -> Iterator[Region]:
    """Yield the regions from ``start`` to ``size`` in order, without gaps.

    ``line`` is the number of the first line. The kinds of the regions are "good", "unended",
    "joined" and "bad", and "bit_flip" if an LF was changed. The crc of a commit is computed from a
    start value. A commit is good if one of these start values gives the crc that is in its seal:

    - the crc in the seal of the commit before it.
    - the correct crc of a broken commit before it. So one flipped bit in a seal or an LF doesn't
      hide the next commit.
    - the crc of the last good commit before bad bytes. So inserted lines don't hide the next
      commit, either.
    """
    begin, crc = (
        start.offset,
        start.crc,
    )  # where the present region begins, and the crc in the last good seal
    homes: list[int] = []  # the crcs of the last good commits before bad bytes
    while begin < size:
        quick = good_commits(file, size, Position(begin, crc), line)
        if quick is not None:
            yield quick
            begin, crc, line = quick.end, quick.crc, line + quick.lines
        first_line, reason, successive, is_rest = line, "", 0, False
        end, ending = begin, b"\n"
        candidates = _beginnings(begin, line, [crc, *homes])
        for offset, text, ending in _lines(file, begin, size, candidates):
            end, following = offset + len(text) + len(ending), line + (ending == b"\n")
            if text.startswith(_JOB_RECORD) and offset > 0:  # one journal was appended to another
                candidates += _beginnings(offset, line, [START.crc])
            is_long = len(text) >= MAX_LINE_BYTES or is_rest
            stated = None if is_long else stated_crc(text)
            fitting = (c for c in candidates if content_crc(text, c.crc) == stated)
            good = None if stated is None else next(fitting, None)
            if good is None:
                if not ending and end == size and not is_legible(text):
                    stated = None  # the file may have been cut after an object within the record
                reason = TOO_LONG if is_long else reason or _reason(text + ending)
                rest = _Candidate(end, following, crc, crc)
                candidates[:] = _next_candidates(candidates, text, ending, rest)
            if stated is not None or is_long:
                bad_end, next_line = (end, line + 1) if good is None else (good.offset, good.line)
                if bad_end > begin:
                    sealed_end = offset + len(text) if good is None and stated is not None else 0
                    yield _bad(begin, bad_end, first_line, next_line, crc, reason, sealed_end)
                    homes = [*dict.fromkeys((*homes, crc))][-_MAX_HOMES:]
                    successive = 0
                if good is not None and stated is not None:
                    yield _commit(good, end, line, ending, stated, is_last=end == size)
                    crc, successive = stated, successive + 1
                    candidates[:] = _beginnings(end, following, [crc, *homes])
                begin, first_line, reason = end, following, ""
            line, is_rest = following, is_long and not ending
            if successive == _GOOD_COMMITS and ending == b"\n":
                break
        else:
            if begin < end:
                yield _bad(begin, end, first_line, line + (ending != b"\n"), crc, reason)
            return


def _bad(
    begin: int, end: int, line: int, next_line: int, crc: int, reason: str, sealed_end: int = 0
) -> Region:
    lines = next_line - line
    return Region("bad", begin, end, line, lines, crc, crc, reason, sealed_end=sealed_end)


def _lines(
    file: Readable, start: int, size: int, candidates: list[_Candidate]
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the offset, the text and the LF of each line. A commit without its LF ends a line.

    Then the LF is empty, or the byte that it became. The caller keeps ``candidates`` up to date.
    """
    for line_offset, line, ended in lines_of(file, start, size):
        offset, text = line_offset, line
        while cut := _lost_line_end(text, offset, candidates, ended=ended):
            sealed_end, end = cut
            yield offset, text[:sealed_end], text[sealed_end:end]
            offset, text = offset + end, text[end:]
        yield offset, text, b"\n" * ended


def _lost_line_end(
    text: bytes, offset: int, candidates: list[_Candidate], *, ended: bool
) -> tuple[int, int] | None:
    """Find the end of a commit within a line: the LF after a seal was lost or changed.

    Returns the indexes after the seal and after the changed LF, if there is one. A seal within a
    line ends a commit in two cases: the commit matches the seal, or a legible line with an LF
    follows.
    """
    crcs, at = [candidate.crc for candidate in candidates], 0
    for tries, match in enumerate(_SEAL_WITHIN_LINE.finditer(text)):
        crcs = [crc32(memoryview(text)[at : match.start()], crc) for crc in crcs]
        at, end = match.span()
        is_alone = end + 1 == len(text)
        if ended:
            is_exempt = is_alone and text[end:] == b"\r"  # text mode
        else:  # the block with the LF may never have been written
            is_unwritten = (offset + end) % BLOCK_BYTES == 0
            is_exempt = is_unwritten and (is_alone or _SPACES.fullmatch(text, end) is not None)
        if is_exempt:
            return None
        changed = text[end : end + 1] != b"{" and (is_alone or text[end + 1 : end + 2] == b"{")
        fits = int(match[1], 16) in crcs
        if fits or (ended and tries < _MAX_TRIES and is_legible(text[end + changed :])):
            return end, end + changed
    return None


def _commit(
    commit: _Candidate, end: int, line: int, ending: bytes, crc: int, *, is_last: bool
) -> Region:
    """Return the region of a commit that matches its seal. ``line``: the number of its last line.

    ``ending`` is the LF after the seal, or what is left of it. ``is_last``: nothing follows.
    """
    lines, flip = line - commit.line + 1, None
    kind: Kind = "unended" if is_last else "joined"
    if ending == b"\n":
        kind = "good"
    elif ending:
        kind, flip = "bit_flip", Flip(end - 1, ord(ending) ^ ord("\n"))
    reason = "" if kind == "good" else "a commit whose LF was lost or changed"
    return Region(
        kind, commit.offset, end, commit.line, lines, commit.start, crc, reason, 1, flip=flip
    )


def _beginnings(offset: int, line: int, crcs: Iterable[int]) -> list[_Candidate]:
    """For each crc in ``crcs``, return the guess that a commit at ``offset`` continues this crc."""
    return [_Candidate(offset, line, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, ending: bytes, rest: _Candidate
) -> list[_Candidate]:
    """Return the guesses after a line that doesn't end a good commit.

    - If the line is legible and has no seal, the commits that began before it continue. If the line
      has a part of a seal, one of them may also have ended here.
    - Otherwise a commit has ended here, or the line was inserted between two commits. ``rest`` is
      what follows in that case.
    """
    digits = re.fullmatch(rb"[0-9a-f]{%d}" % SEAL_DIGITS, digits_in(text))
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    is_over = stated_crc(text) is not None or not is_legible(text)
    crcs = [rest.start] if is_over else []
    if digits:
        crcs.append(int(digits[0], 16))
    if digits or framed or is_over:
        crcs += [content_crc(text, c.crc) for c in candidates]
    following = _beginnings(rest.offset, rest.line, crcs)
    if not is_over:
        following += [c._replace(crc=crc32(ending, crc32(text, c.crc))) for c in candidates]
    return following[:12]  # so that hostile input can't multiply the guesses


def _reason(first: bytes) -> str:
    """Say what is wrong with a region whose first line, with its LF, is ``first``."""
    if first.endswith(b"}\r\n"):
        return TEXT_MODE
    if first.startswith(b"\xef\xbb\xbf"):
        return _BYTE_ORDER_MARK
    if not first.rstrip(b"\n").strip(b"\0"):
        return "NUL bytes"
    if not first.endswith(b"\n"):
        return "a line without its end"
    if stated_crc(first[:-1]) is not None:
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
