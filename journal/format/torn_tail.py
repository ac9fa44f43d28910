"""Judges the bytes after the last commit: a torn tail, one more commit without LF, or damage.

A torn tail is an interrupted write. It was never acknowledged, so nothing is lost with it.
"""

from __future__ import annotations

from journal.errors import FormatVersionError, JournalError
from journal.format.bitflip import Flip, Unflipped, possible_flips
from journal.format.commits import START, Position, Readable
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    newer_format,
)
from journal.format.extent import not_continued
from journal.format.records import MAX_LINE_BYTES
from journal.format.scan import TEXT_MODE, Region, lines_of, scan
from journal.format.seal import SEALED_END_BYTES, stated_crc
from journal.fs.handles import JournalFile

_BLOCK_BYTES = 512


def could_be_torn(file: Readable, region: Region) -> bool:
    """Return whether a bad region at the end of the file is a torn tail.

    A torn tail is one unfinished commit, in any state that a power cut can leave. The region is
    damage instead if one of these holds:

    1. Two or more lines have a seal (the CRC-32 that ends a commit). A writer that dies leaves at
       most one unfinished commit.
    2. The region is at the beginning of the file. A journal is created with its first commit in it.
    3. The file was copied in text mode.
    4. The region has a seal, and its lines show that the region was changed after the write: see
       :func:`_is_legible`.
    5. The region would be a good commit if one bit were restored.
    6. A line is longer than ``MAX_LINE_BYTES``. No writer has written such a line.

    If the region has a seal, cases 4 and 5 are about the part up to that seal. The bytes after the
    seal may be a torn tail that follows a damaged commit.
    """
    if region.seals > 1 or region.offset == 0 or region.reason == TEXT_MODE:
        return False
    if _has_long_line(file, region.offset, region.end):
        return False
    if region.seals:
        region = region._replace(end=region.sealed_end)
        if _is_legible(file, region):
            return False
    return find_flip(file, region) is None


def find_flip(file: Readable, region: Region) -> Flip | None:
    """Find the bit whose flip makes a bad region one good commit. Returns None if no bit does.

    The region may have any length. If a commit of one megabyte has damage other than one flipped
    bit, the probability is 1 in 512 that the crc looks as if one bit were flipped. Most commits
    that look so are excluded, because one of their lines doesn't decode.
    """
    for flip in possible_flips(file, region.offset, region.end, region.start):
        lines = lines_of(Unflipped(file, flip), region.offset, region.end)
        seals = 0
        for _, text, ended in lines:
            if not ended or not _is_record(text):
                break
            seals += stated_crc(text) is not None
        else:
            if seals == 1:
                return flip
    return None


def _has_long_line(file: Readable, offset: int, end: int) -> bool:
    if end - offset < MAX_LINE_BYTES:
        return False
    return any(len(text) >= MAX_LINE_BYTES for _, text, _ in lines_of(file, offset, end))


def _is_legible(file: Readable, region: Region) -> bool:
    """Return whether the lines of a bad region show that the region is damage.

    The region must end with a seal (a CRC-32) that doesn't match. An interrupted write can leave
    such a region, too. In two cases, it can't have done so:

    - All lines decode. Then the commit was written completely, and a byte has changed since.
    - Some line doesn't decode, lies within one disk block, and this block was written. Then the
      line was written with the block, and has changed since.

    A disk writes a block of 512 bytes completely or not at all. So a block was written if a line
    that decodes begins or ends in the block, or if the block contains a part of the seal.
    """
    seal = region.end - SEALED_END_BYTES
    written = {seal // _BLOCK_BYTES, (region.end - 1) // _BLOCK_BYTES}
    illegible: set[int] = set()  # blocks that contain the whole of a line that doesn't decode
    whole = True
    for offset, text, ended in lines_of(file, region.offset, region.end):
        blocks = range(offset // _BLOCK_BYTES, (offset + len(text)) // _BLOCK_BYTES + 1)
        if ended and _is_record(text):
            written |= {blocks[0], blocks[-1]}
        else:
            whole = False
            if len(blocks) == 1:
                illegible.add(blocks[0])
    return whole or not written.isdisjoint(illegible)


def _is_record(text: bytes) -> bool:
    try:
        decode_record(text, exact=False)
    except UndecodableError:
        return False
    except UnknownRecordError:
        return True
    return True


def judge_tail(file: Readable, size: int, last: Position) -> Region:
    """Return the first region after ``last``, with a verdict.

    ``last`` is the end of the last good commit.
    The verdict is the region's ``kind``:

    - "torn": everything after ``last`` is a torn tail (an interrupted write).
    - "unended": one more commit follows, which lacks its LF.
    - "newer": the file has a newer format. ``reason`` names it.
    - All other kinds are damage. ``reason`` says what was found.

    Nothing is read after a line that is longer than ``MAX_LINE_BYTES``, since a sparse file may be
    endless.
    """
    first: Region | None = None
    is_long = _has_long_line(file, last.offset, size)
    if is_long:
        reason = f"a line over {MAX_LINE_BYTES} bytes"
        first = Region("bad", last.offset, size, 1, 1, last.crc, last.crc, reason)
    good_after = False
    for region in () if is_long else scan(file, size, last):
        first = first or region
        if first.kind == "unended":
            return first
        if region.good:  # its start value isn't the crc at ``last``, or bad bytes precede it
            first = first._replace(reason=first.reason or "one that continues another")
            good_after = True
            break
    if first is None:  # the file has shrunk: a writer has truncated the tail
        offset, crc = last
        first = Region("bad", offset, offset, 1, 0, crc, crc, "nothing")
    if last == START and not first.good:
        newer = stated_newer_format(file, first)
        if newer is not None and find_flip(file, first) is None:
            return first._replace(kind="newer", reason=newer)
    is_torn = not good_after and could_be_torn(file, first)
    return first._replace(kind="torn") if is_torn else first


def stated_newer_format(file: Readable, first: Region) -> str | None:
    """Return a message if the first line of the file states a newer format, else None.

    ``first`` is a bad region at the beginning of the file. The region may be bad because a newer
    format has different seals. A flipped bit can also make the format number look newer. The caller
    must exclude this case.
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
