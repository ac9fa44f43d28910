"""Judges bytes of a journal that aren't good commits: a torn tail, damage, or a newer format.

A torn tail is an interrupted write. The write was never acknowledged, so no acknowledged change is
lost. The page ``format`` states the rules, and :func:`judged` applies them in their order.

A seal is the chained CRC-32 at the end of a commit. ``commits.py`` reads the same format faster,
but stops at the first commit that doesn't match its seal. :func:`scan` classifies this commit, and
continues after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Literal, NamedTuple
from zlib import crc32

from journal.errors import FormatVersionError, JournalError
from journal.format.bitflip import Flip, Unflipped, possible_flips
from journal.format.commits import (
    CHUNK_BYTES,
    START,
    Position,
    Readable,
    not_continued,
    verified_blocks,
)
from journal.format.decode import is_legible, newer_format
from journal.format.seal import SEAL, SEAL_BYTES, SEAL_DIGITS, content_crc, digits_in, stated_crc
from journal.format.size_limits import MAX_LINE_BYTES
from journal.fs.handles import JournalFile

_BLOCK_BYTES = 512  # a disk writes a block of this size completely or not at all
_JOB_RECORD = b'{"type":"job",'
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SEAL_WITHIN_LINE = re.compile(SEAL.pattern + rb"(?!\Z)")
_SPACES = re.compile(b" +")
_TOO_LONG = f"a line over {MAX_LINE_BYTES} bytes"
_TEXT_MODE = "a CR before the LF: this copy was made in text mode"
_INSERTED = "inserted lines: the commits before and after them fit each other"
# After this number of good commits in a row, the fast reader is used again. With a smaller number
# and many bad commits, the fast reader would often start just before a bad commit, where it stops.
_GOOD_COMMITS = 32
_MAX_HOMES = 4
_MAX_TRIES = 16  # limits how often hostile input can cause the decoding of one line
# The number of bad regions that are searched for a flipped bit. If there are more bad regions, the
# cause of the damage isn't flipped bits.
_MAX_FLIPS = 100

Kind = Literal[
    "good", "unended", "joined", "bad", "bit_flip", "inserted", "torn", "newer", "padding"
]


class Region(NamedTuple):
    """A part of the file, with one verdict.

    ``kind`` is the verdict:

    - "good": commits that match their seals (the CRC-32 at the end of each commit).
    - "unended": the last commit of the file, which matches its seal but lacks its LF.
    - "joined": a commit that matches its seal but lacks its LF, and other bytes follow.
    - "bad": bytes that aren't part of a good commit. A line with a seal ends the region, and so
      does a line that is too long.
    - "bit_flip": a commit that is good if one bit, ``flip``, is restored. Or the LF of a good
      commit became another byte. For the changed LF, ``flip`` has all bits that differ.
    - "inserted": lines that were inserted between two commits. The crc of the second commit
      continues the crc of the first.
    - "torn": a torn tail (an interrupted write).
    - "newer": the beginning of a journal in a newer format.
    - "padding": spaces after the last LF.

    The other fields:

    - ``offset``, ``end``: where the region begins and ends, in bytes.
    - ``start``, ``crc``: the crc in the seal before the region's commits, and the crc in their last
      seal. For bytes without a commit, both are the crc in the last good seal before the region.
    - ``reason``: what is wrong with the region.
    - ``commits``: how many commits of the region match their seals.
    - ``sealed_end``: where the seal of a bad region ends, or 0 if the region has no seal.
    - ``line``, ``lines``: the number of the region's first line (1-based), and how many lines the
      region has. Only :func:`survey` counts lines.
    """

    kind: Kind
    offset: int
    end: int
    start: int
    crc: int
    reason: str = ""
    commits: int = 0
    sealed_end: int = 0
    flip: Flip | None = None
    line: int = 0
    lines: int = 0

    @property
    def good(self) -> bool:
        return self.kind in ("good", "unended", "joined")


# --- the verdict -----------------------------------------------------------------------------


def judge_tail(file: Readable, size: int, last: Position) -> Region:
    """Return the first region after ``last``, with a verdict.

    ``last`` is the end of the last good commit. The verdict is the region's ``kind``:

    - "torn": everything after ``last`` is a torn tail (an interrupted write).
    - "padding": everything after ``last`` is padding.
    - "unended": one more commit follows, which lacks its LF.
    - "newer": the file has a newer format. ``reason`` names the format.
    - All other kinds are damage. ``reason`` says what was found.
    """
    offset, crc = last.offset, last.crc
    end = without_padding(file, size, offset)
    if end == offset < size:
        return Region("padding", offset, size, crc, crc)
    regions = scan(file, end, last)
    nothing = Region("bad", offset, offset, crc, crc, "nothing")  # if a writer has cut the file
    first = next(regions, nothing)
    if first.kind == "bad":
        return judged(file, first, islice(regions, 2))
    if first.start != crc:
        return first._replace(kind="bad", reason="one that continues another")
    return first


def judged(file: Readable, region: Region, following: Iterable[Region]) -> Region:
    """Return a bad region with its verdict. ``following``: the next two regions, if there are any.

    The verdict is "torn" only if the region is a part of one unfinished commit at the end of the
    file, in any state that a power cut can leave. In this case, the returned region reaches to the
    end of the file. The letters in comments name the conditions for damage on the page ``format``.
    """
    if region.reason == _TOO_LONG:  # f
        return region
    flip = _find_flip(file, region)
    if region.offset == 0:
        view = file if flip is None else Unflipped(file, flip)
        line = next((text for _, text, _ in lines_of(view, 0, region.end)), b"")
        # A newer format may have other seals. An editor may have added a byte order mark.
        newer = newer_format(line.removeprefix(_BYTE_ORDER_MARK))
        if newer is not None:
            return region._replace(kind="newer", reason=newer)
    if flip is not None:  # d
        return region._replace(kind="bit_flip", flip=flip)
    if region.offset == 0:  # b
        return region
    last = region
    for last in following:
        if last.kind != "bad" or last.sealed_end or last.reason == _TOO_LONG:  # a, c, f
            return region
    if region.reason == _TEXT_MODE or file.read_at(last.end - 3, 3) == b"}\r\n":  # e
        return region
    if region.sealed_end and _was_changed(file, region, last.end):  # g, h
        return region
    return region._replace(kind="torn", end=last.end)


def _find_flip(file: Readable, region: Region) -> Flip | None:
    """Find the bit whose flip makes a bad region one good commit.

    Returns None if there is no such bit.

    The region may have any length. In a commit of one megabyte, other damage looks like one flipped
    bit with a probability of 1 in 512. Some of these commits are excluded, because one of their
    lines isn't legible.
    """
    for flip in possible_flips(file, region.offset, region.end, region.start):
        seals = 0
        for _, text, ended in lines_of(Unflipped(file, flip), region.offset, region.end):
            if not ended or not is_legible(text):
                break
            seals += stated_crc(text) is not None
        else:
            if seals == 1:
                return flip
    return None


def _was_changed(file: Readable, region: Region, end: int) -> bool:
    """Return whether a bad region with a seal proves that the file was changed after the write.

    A disk writes a block of 512 bytes completely or not at all. So a block was written if it holds
    the middle of the seal, or a byte of a legible line before ``end``. A power cut makes a line
    illegible only if a block of the line wasn't written. If all lines are legible, the commit is
    complete.
    """
    written = {(region.sealed_end - SEAL_BYTES // 2) // _BLOCK_BYTES}
    illegible = []
    lines = lines_of(file, region.offset, region.sealed_end)
    for offset, text, _ in chain(lines, lines_of(file, region.end, end)):
        last = offset + len(text)  # the LF is a part of the line
        blocks = range(offset // _BLOCK_BYTES, last // _BLOCK_BYTES + 1)
        if is_legible(text):
            written.update(blocks)
        elif offset < region.sealed_end:
            illegible.append(blocks)
    return not illegible or any(written.issuperset(blocks) for blocks in illegible)


def tail_error(file: JournalFile, last: Position, tail: Region) -> JournalError:
    """Return the public error for ``tail``, a region after ``last``.

    ``tail`` is damage, or the beginning of a journal in a newer format.
    """
    if tail.kind == "newer":
        return FormatVersionError(file.path, tail.reason)
    return not_continued(file, last, tail.reason)


# --- all of a journal --------------------------------------------------------------------------


def survey(file: Readable, size: int, start: Position = START, line: int = 1) -> list[Region]:
    """Return all regions of a journal from ``start`` to ``size``, in order and without gaps.

    Padding at the end of the file is no region.

    ``start`` is the beginning of the file, or the end of the good commits at its beginning.
    ``line`` is the number of the first line.

    Each commit continues the crc of the commit before it. So the commits from the start of the file
    are a chain. Other regions may interrupt the chain. If a later commit continues the chain, the
    regions in between were inserted.
    """
    found = list(scan(file, without_padding(file, size, start.offset), start))
    regions: list[Region] = []
    # The crc at the end of the chain, and the number of regions up to this end.
    chain, after_chain = start.crc, 0
    judgements = 0
    for number, region in enumerate(found, 1):
        judgement, following = region, found[number : number + 2]
        if region.commits and region.start == chain:
            if inserted := regions[after_chain:]:
                first, end = inserted[0], inserted[-1].end
                regions[after_chain:] = [
                    Region("inserted", first.offset, end, first.start, first.crc, _INSERTED)
                ]
            chain, after_chain = region.crc, len(regions) + 1
        if region.kind == "bad" and (judgements < _MAX_FLIPS or len(following) < 2):
            judgements += 1
            judgement = judged(file, region, following)
        if regions and regions[-1].kind == judgement.kind == "bad":
            regions[-1] = regions[-1]._replace(end=region.end, sealed_end=0)
        else:
            regions.append(judgement)
        if judgement.kind == "torn":
            break
    return list(_numbered(file, regions, line))


def _numbered(file: Readable, regions: Iterable[Region], line: int) -> Iterator[Region]:
    """Yield regions with the numbers of their lines. ``line`` is the number of the first line."""
    for region in regions:
        ends, piece = 0, b""
        for at in range(region.offset, region.end, CHUNK_BYTES):
            piece = file.read_at(at, min(CHUNK_BYTES, region.end - at))
            ends += piece.count(b"\n")
        yield region._replace(line=line, lines=ends + (not piece.endswith(b"\n")))
        line += ends


# --- good commits, and the bytes between them --------------------------------------------------


class _Candidate(NamedTuple):
    """A guess that a commit begins at ``offset`` and continues the crc ``start``.

    ``crc`` is computed from the start value ``start`` and the commit's bytes before the current
    line.
    """

    offset: int
    start: int
    crc: int


def scan(file: Readable, size: int, start: Position = START) -> Iterator[Region]:
    """Yield the regions from ``start`` to ``size`` in order, without gaps.

    The kinds of the regions are "good", "unended", "joined" and "bad", and "bit_flip" if an LF was
    changed. The crc of a commit is computed from a start value. A commit is good if one of these
    start values gives the crc that is in its seal:

    - the crc in the seal of the commit before it.
    - the correct crc of a broken commit before it. So one flipped bit in a seal or an LF doesn't
      hide the next commit.
    - the crc of the last good commit before bad bytes. So inserted lines don't hide the next
      commit, either.
    """
    # Where the present region begins, and the crc in the last good seal.
    begin, crc = start.offset, start.crc
    homes: list[int] = []  # the crcs of the last good commits before bad bytes
    while begin < size:
        after, commits = Position(begin, crc), 0
        for block in verified_blocks(file, after, size):
            after, commits = block.after, commits + block.commits
        if commits:
            yield Region("good", begin, after.offset, crc, after.crc, commits=commits)
            begin, crc = after.offset, after.crc
        end, reason, successive, is_rest = begin, "", 0, False
        candidates = _beginnings(begin, [crc, *homes])
        for offset, text, ending in _lines(file, begin, size, candidates):
            end = offset + len(text) + len(ending)
            if text.startswith(_JOB_RECORD) and offset > 0:  # a journal after another journal
                candidates += _beginnings(offset, [START.crc])
            is_long = len(text) >= MAX_LINE_BYTES or is_rest
            is_rest = is_long and not ending
            stated = None if is_long else stated_crc(text)
            good = next((c for c in candidates if content_crc(text, c.crc) == stated), None)
            if good is None:
                if not ending and end == size and not is_legible(text):
                    stated = None  # the file may have been cut after an object within the record
                reason = _TOO_LONG if is_long else reason or _reason(text + ending)
                candidates[:] = _next_candidates(candidates, text, ending, end, crc)
                if stated is None and not is_long:
                    continue
            bad_end = end if good is None else good.offset
            if bad_end > begin:
                sealed_end = offset + len(text) if good is None and stated is not None else 0
                yield Region("bad", begin, bad_end, crc, crc, reason, sealed_end=sealed_end)
                homes = [*dict.fromkeys((*homes, crc))][-_MAX_HOMES:]
                successive = 0
            if good is not None and stated is not None:
                yield _commit(good, end, ending, stated, is_last=end == size)
                crc, successive = stated, successive + 1
                candidates[:] = _beginnings(end, [crc, *homes])
            begin, reason = end, ""
            if successive >= _GOOD_COMMITS and ending == b"\n":
                break
        else:
            if begin < end:
                yield Region("bad", begin, end, crc, crc, reason)
            return


def _lines(
    file: Readable, start: int, size: int, candidates: list[_Candidate]
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the offset, the text and the LF of each line. A commit without its LF also ends a line.

    In this case, b"" or the changed byte is yielded for the LF. The caller keeps ``candidates`` up
    to date.
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
    """Find the end of a commit within a line.

    The LF after the seal of this commit was lost or changed.

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
            is_exempt = is_alone and text[end:] == b"\r"  # CR LF (text mode)
        else:  # the block with the LF may never have been written
            is_unwritten = (offset + end) % _BLOCK_BYTES == 0
            is_exempt = is_unwritten and (is_alone or _SPACES.fullmatch(text, end) is not None)
        if is_exempt:
            return None
        changed = text[end : end + 1] != b"{" and (is_alone or text[end + 1 : end + 2] == b"{")
        fits = int(match[1], 16) in crcs
        if fits or (ended and tries < _MAX_TRIES and is_legible(text[end + changed :])):
            return end, end + changed
    return None


def _commit(commit: _Candidate, end: int, ending: bytes, crc: int, *, is_last: bool) -> Region:
    """Return the region of a commit that matches its seal.

    ``ending`` is the LF after the seal, or what is left of the LF. ``is_last``: nothing follows.
    """
    kind: Kind = "unended" if is_last else "joined"
    flip = None
    if ending == b"\n":
        kind = "good"
    elif ending:
        kind, flip = "bit_flip", Flip(end - 1, ord(ending) ^ ord("\n"))
    reason = "" if kind == "good" else "a commit whose LF was lost or changed"
    return Region(kind, commit.offset, end, commit.start, crc, reason, commits=1, flip=flip)


def _beginnings(offset: int, crcs: Iterable[int]) -> list[_Candidate]:
    """For each crc in ``crcs``, return the guess that a commit at ``offset`` continues this crc."""
    return [_Candidate(offset, crc, crc) for crc in dict.fromkeys(crcs)]


def _next_candidates(
    candidates: list[_Candidate], text: bytes, ending: bytes, end: int, crc: int
) -> list[_Candidate]:
    """Return the guesses after a line that doesn't end a good commit. The line ends at ``end``.

    - If the line is legible and has no seal, the commits that began before the line continue. If
      the line has a part of a seal, one of these commits may also have ended here.
    - Otherwise a commit has ended here, or the line was inserted after the last good commit, whose
      seal has ``crc``.
    """
    digits = re.fullmatch(rb"[0-9a-f]{%d}" % SEAL_DIGITS, digits_in(text))
    framed = re.fullmatch(rb',"crc":".{8}"}', text[-SEAL_BYTES:], re.DOTALL)
    is_over = stated_crc(text) is not None or not is_legible(text)
    crcs = [crc] if is_over else []
    if digits:
        crcs.append(int(digits[0], 16))
    if digits or framed or is_over:
        crcs += [content_crc(text, c.crc) for c in candidates]
    following = _beginnings(end, crcs)
    if not is_over:
        following += [c._replace(crc=crc32(ending, crc32(text, c.crc))) for c in candidates]
    return following[:12]  # hostile input must not multiply the guesses


def _reason(first: bytes) -> str:
    """Describe the error in a region. ``first``: the region's first line, with its LF."""
    if first.endswith(b"}\r\n"):
        return _TEXT_MODE
    if first.startswith(_BYTE_ORDER_MARK):
        return "a byte order mark: an editor has saved this file"
    if not first.rstrip(b"\n").strip(b"\0"):
        return "NUL bytes"
    if not first.endswith(b"\n"):
        return "a line without its end"
    if stated_crc(first[:-1]) is not None:
        return "a commit that does not match its seal"
    return "lines without a seal that matches"


# --- lines and padding -------------------------------------------------------------------------


def lines_of(file: Readable, offset: int, end: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield ``(offset, line without LF, whether the line had an LF)`` for each line.

    A line longer than ``MAX_LINE_BYTES`` is yielded in pieces.
    """
    held = bytearray()  # the beginning of a line that spans chunks
    while chunk := file.read_at(at := offset + len(held), min(CHUNK_BYTES, end - at)):
        held += chunk
        if b"\n" not in chunk and len(held) <= MAX_LINE_BYTES:
            continue
        *lines, rest = bytes(held).split(b"\n")
        for text in lines:
            yield offset, text, True
            offset += len(text) + 1
        held = bytearray(rest)
        if not lines:
            yield offset, rest, False
            offset += len(rest)
            held.clear()
    if held:
        yield offset, bytes(held), False


def without_padding(file: Readable, size: int, last: int) -> int:
    """Return where the padding of a file (the spaces after the last LF) begins.

    Returns ``size`` if there is no padding. ``last`` is the end of the last good commit. Nothing
    before this end is padding.
    """
    end = size
    while end > last:
        begin = max(last, end - CHUNK_BYTES)
        kept = file.read_at(begin, end - begin).rstrip(b" ")
        if kept:
            return begin + len(kept) if kept.endswith(b"\n") else size
        end = begin
    return last or size  # a file of spaces alone has no padding
