"""Gives verdicts on the regions of a journal: good commits, a torn tail, damage, a newer format.

A torn tail is an interrupted write. It was never acknowledged, so nothing is lost with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from journal.errors import FormatVersionError, JournalError
from journal.format.bitflip import Flip, Unflipped, possible_flips
from journal.format.commits import START, Position, Readable
from journal.format.decode import is_legible, newer_format
from journal.format.extent import not_continued
from journal.format.scan import (
    BLOCK_BYTES,
    TEXT_MODE,
    TOO_LONG,
    Region,
    lines_of,
    scan,
    without_padding,
)
from journal.format.seal import SEAL_BYTES, stated_crc
from journal.fs.handles import JournalFile

_INSERTED = "inserted lines: the commits before and after them fit each other"
# How many bad regions are searched for a flipped bit. If there are more bad regions, the cause of
# the damage isn't flipped bits.
_MAX_FLIPS = 100


def survey(file: Readable, size: int, start: Position = START, line: int = 1) -> list[Region]:
    """Return all regions of a journal from ``start`` to ``size``, in order and without gaps.

    Padding at the end of the file is no region.

    ``start`` is the beginning of the file, or the end of the good commits at its beginning.

    Each commit continues the crc of the commit before it. So the commits from the start of the file
    are a chain. Other regions may interrupt the chain. If a later commit continues the chain, the
    regions in between were inserted.
    """
    found = list(scan(file, without_padding(file, size, start.offset), start, line))
    regions: list[Region] = []
    chain, after_chain = start.crc, 0  # the crc at its end, and how many regions there are up to it
    judgements = 0
    for number, region in enumerate(found, 1):
        judgement, following = region, found[number : number + 2]
        if region.commits and region.start == chain:
            if inserted := regions[after_chain:]:
                merged = _merged(inserted[0], inserted[-1])
                merged = merged._replace(kind="inserted", reason=_INSERTED, commits=0, flip=None)
                regions[after_chain:] = [merged]
            chain, after_chain = region.crc, len(regions) + 1
        if region.kind == "bad" and (judgements < _MAX_FLIPS or len(following) < 2):
            judgements += 1
            judgement = judged(file, region, following)
        if regions and regions[-1].kind == judgement.kind == "bad":
            regions[-1] = _merged(regions[-1], region)
        else:
            regions.append(judgement)
        if judgement.kind == "torn":
            break
    return regions


def _merged(first: Region, last: Region) -> Region:
    """Return one region for a series of regions."""
    lines = last.line + last.lines - first.line
    return first._replace(end=last.end, lines=lines, sealed_end=0)


def judge_tail(file: Readable, size: int, last: Position) -> Region:
    """Return the first region after ``last``, with a verdict.

    ``last`` is the end of the last good commit. The verdict is the region's ``kind``:

    - "torn": everything after ``last`` is a torn tail (an interrupted write).
    - "padding": everything after ``last`` is padding.
    - "unended": one more commit follows, which lacks its LF.
    - "newer": the file has a newer format. ``reason`` names it.
    - All other kinds are damage. ``reason`` says what was found.
    """
    offset, crc = last.offset, last.crc
    end = without_padding(file, size, offset)
    if end == offset < size:
        return Region("padding", offset, size, 1, 0, crc, crc)
    regions = scan(file, end, last)
    nothing = Region("bad", offset, offset, 1, 0, crc, crc, "nothing")  # a writer has cut the file
    first = next(regions, nothing)
    if first.kind == "bad":
        return judged(file, first, islice(regions, 2))
    if first.start != last.crc:
        return first._replace(kind="bad", reason="one that continues another")
    return first


def judged(file: Readable, region: Region, following: Iterable[Region]) -> Region:
    """Return a bad region with its verdict. ``following``: the next two regions, if there are any.

    The verdict is "torn" only if the region is a part of one unfinished commit at the end of the
    file, in any state that a power cut can leave. Then the returned region reaches to the end. The
    page ``format`` lists the conditions.
    """
    if region.reason == TOO_LONG:
        return region
    flip = _find_flip(file, region)
    if region.offset == 0:  # a journal is created with its first commit in it
        newer = _stated_newer_format(file if flip is None else Unflipped(file, flip), region)
        if newer is not None:
            return region._replace(kind="newer", reason=newer)
    if flip is not None:
        return region._replace(kind="bit_flip", flip=flip)
    if region.offset == 0:
        return region
    last = region
    for last in following:
        if last.kind != "bad" or last.sealed_end or last.reason == TOO_LONG:
            return region  # a writer that dies leaves at most one unfinished commit, with one seal
    if region.reason == TEXT_MODE or file.read_at(last.end - 3, 3) == b"}\r\n":
        return region
    if region.sealed_end and _was_changed(file, region):
        return region
    lines = last.line + last.lines - region.line
    return region._replace(kind="torn", end=last.end, lines=lines)


def _find_flip(file: Readable, region: Region) -> Flip | None:
    """Find the bit whose flip makes a bad region one good commit. Returns None if no bit does.

    The region may have any length. If a commit of one megabyte has damage other than one flipped
    bit, the probability is 1 in 512 that the crc looks as if one bit were flipped. Some commits
    that look so are excluded, because one of their lines isn't legible.
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


def _was_changed(file: Readable, region: Region) -> bool:
    """Return whether the lines of a bad region with a seal show that it was changed after the write.

    A disk writes a block of 512 bytes completely or not at all. So a block was written if it holds
    a byte of a legible line or half of the seal. A power cut makes a line illegible only if a block
    of the line wasn't written. If all lines are legible, the commit is complete.
    """
    written = {(region.sealed_end - SEAL_BYTES // 2) // BLOCK_BYTES}
    illegible = []
    for offset, text, _ in lines_of(file, region.offset, region.sealed_end):
        end = offset + len(text)  # the LF is a part of the line
        blocks = range(offset // BLOCK_BYTES, end // BLOCK_BYTES + 1)
        if is_legible(text):
            written.update(blocks)
        else:
            illegible.append(blocks)
    return not illegible or any(written.issuperset(blocks) for blocks in illegible)


def _stated_newer_format(file: Readable, first: Region) -> str | None:
    """Return a message if the first line of the file states a newer format, else None.

    ``first`` is a bad region at the beginning of the file. The region may be bad because a newer
    format has different seals.
    """
    line = next((text for _, text, _ in lines_of(file, first.offset, first.end)), b"")
    # An editor may have added a byte order mark.
    return newer_format(line.removeprefix(b"\xef\xbb\xbf"))


def tail_error(file: JournalFile, last: Position, tail: Region) -> JournalError:
    """Return the public error for ``tail``, a region after ``last``.

    ``tail`` is damage, or the beginning of a journal in a newer format.
    """
    if tail.kind == "newer":
        return FormatVersionError(file.path, tail.reason)
    return not_continued(file, last, tail.reason)
