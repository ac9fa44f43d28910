"""What follows the last commit: a torn tail (an interrupted write), one more commit, or damage."""

from __future__ import annotations

from journal.errors import FormatVersionError, JournalError
from journal.format.bitflip import Flip, Unflipped, crc_of, possible_flips
from journal.format.commits import START, Position, Readable
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    newer_format,
)
from journal.format.extent import not_continued
from journal.format.records import (
    SEAL_BYTES,
    SEALED_END_BYTES,
    stated_crc,
)
from journal.format.scan import TEXT_MODE, Region, lines_of, scan
from journal.fs.handles import JournalFile

_BLOCK_BYTES = 512


def could_be_torn(file: Readable, region: Region) -> bool:
    """Whether a bad region at the end of the file is a torn tail: what one dying writer can leave.

    That is a part of one commit, in whatever state a power cut left it. It is damage instead if

    1. two lines end like a seal: these are two commits; or
    2. it has a seal, and each line that doesn't decode could not have been left unwritten: then
       something in the commit or before it was changed; or
    3. it is a whole commit but for one flipped bit; or
    4. it begins the file: a journal is created with its first commit in it; or
    5. it went through text mode.
    """
    if region.seals > 1 or region.offset == 0 or region.reason == TEXT_MODE:
        return False
    if region.seals:  # judged up to its seal: what follows may be part of the next commit
        region = region._replace(end=region.sealed_end)
        if _is_legible(file, region) or _matches_seal(file, region):
            return False
    return find_flip(file, region) is None


def find_flip(file: Readable, region: Region) -> Flip | None:
    """The bit by which a bad region differs from a commit whose lines decode, if there is one.

    It may be of any length. One in 512 commits of a megabyte that are broken in another way looks
    like that by chance. But then most of these have a line that doesn't decode.
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


def _matches_seal(file: Readable, region: Region) -> bool:
    """Whether a bad region that ends with a seal matches it: then it has a line over the bound."""
    seal = region.end - SEALED_END_BYTES
    stated = stated_crc(file.read_at(seal, SEAL_BYTES))
    return stated is not None and crc_of(file, region.offset, seal, region.start) == stated


def _is_legible(file: Readable, region: Region) -> bool:
    """Whether some line of a sealed region must have been written as it is, or all lines decode.

    A disk writes blocks of 512 bytes whole. A block was written if a line that decodes, or the
    seal, begins or ends in it. So a line within such a block was written, too.
    """
    seal = region.end - SEALED_END_BYTES
    written = {seal // _BLOCK_BYTES, (region.end - 1) // _BLOCK_BYTES}
    illegible: set[int] = set()  # blocks that have a whole line which doesn't decode
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
        decode_record(text)
    except UndecodableError:
        return False
    except UnknownRecordError:
        return True
    return True


def judge_tail(file: Readable, size: int, last: Position) -> Region:
    """The first region after ``last``, the end of the last commit that was read, with a verdict.

    - "torn": all that follows is a torn tail.
    - "unended": it is one more commit, which lacks its LF.
    - "newer": the file is of a newer format, as ``reason`` says.
    - All other kinds are damage, and ``reason`` says what was found.
    """
    first: Region | None = None
    good_after = False
    for region in scan(file, size, last):
        first = first or region
        if first.kind == "unended":
            return first
        if region.good:  # after bad bytes: history was changed
            first = first._replace(reason=first.reason or "one that continues another")
            good_after = True
            break
    if first is None:  # the file shrank meanwhile: a writer has cut off the tail
        offset, crc = last
        first = Region("bad", offset, offset, 1, 0, crc, crc, "nothing")
    if last == START and not first.good:
        newer = stated_newer_format(file, first)
        if newer is not None and find_flip(file, first) is None:
            return first._replace(kind="newer", reason=newer)
    is_torn = not good_after and could_be_torn(file, first)
    return first._replace(kind="torn") if is_torn else first


def stated_newer_format(file: Readable, first: Region) -> str | None:
    """What to report if a bad region at the beginning states a newer format, which may have other
    seals. A flipped bit may have made the number, too: the caller has looked for one.
    """
    line = next((text for _, text, _ in lines_of(file, first.offset, first.end)), b"")
    return newer_format(line)


def tail_error(file: JournalFile, last: Position, tail: Region) -> JournalError:
    """The public error for what follows ``last``, if that is neither torn nor a commit."""
    if tail.kind == "newer":
        return FormatVersionError(file.path, tail.reason)
    return not_continued(file, last, tail.reason)
