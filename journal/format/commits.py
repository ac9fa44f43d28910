"""Reads verified commits fast, from a whole journal or from the part between two positions.

A commit ends with a seal, which is a chained CRC-32. The reader stops at the first commit that
doesn't match its seal. ``torn_tail_or_damage.py`` finds out why the commit doesn't match. The
reader needs constant memory. A commit that is larger than a chunk isn't held in memory. The reader
reads this commit twice: first to verify the commit, then to yield its lines.

The errors name the line of the file. To count lines, the file must be read from its start. So lines
are counted only when there is an error.
"""

from __future__ import annotations

import re
import sys
from array import array
from binascii import hexlify
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import itemgetter
from typing import NamedTuple, Protocol
from zlib import crc32

import msgspec

from journal.errors import JournalDamagedError
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.format.records import Record
from journal.format.seal import (
    SEAL_BYTES,
    SEAL_HEAD,
    SEALED_END_BYTES,
    SEALED_LINE_END,
    crc_digits,
    sealed_end,
)
from journal.format.size_limits import MAX_LINE_BYTES
from journal.fs.file_names import HINT_NAME
from journal.fs.handles import JournalFile

# The fastest of the sizes 2^15 to 2^20, since the lines stay in the CPU cache while they are
# processed.
CHUNK_BYTES = 1 << 16

# Slices for map(). Each slice object is made once, and not for each line.
_seal_of = itemgetter(slice(-SEAL_BYTES, None))
_body_of = itemgetter(slice(None, -SEAL_BYTES))


class Readable(Protocol):
    """A file from which commits can be read. Only the method ``read_at`` is needed."""

    def read_at(self, offset: int, length: int) -> bytes: ...


class Position(msgspec.Struct, frozen=True):
    """A place between two commits, or between two lines of a commit.

    ``offset`` is in bytes. ``crc`` is the crc of all commits up to the offset. Between two commits,
    ``crc`` is the crc in the seal (at the end) of the previous commit.
    """

    offset: int
    crc: int


START = Position(0, 0)


class Block(NamedTuple):
    """Whole lines of verified commits.

    - ``lines``: the lines without LF. The first line is at ``offset``.
    - ``after``: the position after the last commit that has lines in this block.
    - ``ends``: True if the last line of the block ends at ``after``. False if that line belongs to
      a large commit whose lines continue in the next block.
    - ``commits``: how many commits end in this block.
    - ``ascii``: True if all bytes are ASCII. Such lines need no check for valid UTF-8.
    """

    offset: int
    lines: list[bytes]
    after: Position
    ends: bool
    commits: int
    ascii: bool


def verified_blocks(file: Readable, start: Position, size: int) -> Iterator[Block]:
    """Yield the commits from ``start`` to ``size`` (bytes) as blocks of lines.

    Each commit is verified before its first line is yielded. The iterator ends before the first
    commit that is incomplete or doesn't match its seal (the CRC-32 at its end). To find out whether
    everything was read, compare the last position with ``size``.
    """
    position = start
    while position.offset < size:
        chunk = file.read_at(position.offset, min(CHUNK_BYTES, size - position.offset))
        if len(chunk) < CHUNK_BYTES or SEALED_LINE_END.search(chunk):
            lines, after, commits = verified_lines(chunk, position)
            if not lines:
                return
            yield Block(position.offset, lines, after, True, commits, chunk.isascii())
        else:
            end = end_of_commit(file, position, size)
            if end is None:
                return
            after = end
            yield from _blocks_of_large_commit(file, position.offset, after)
        position = after


def verified_lines(chunk: bytes, position: Position) -> tuple[list[bytes], Position, int]:
    """Return the lines of the valid commits at the beginning of ``chunk``.

    Also returns the position after these commits, and the number of these commits.
    """
    lines = chunk.split(b"\n")
    lines.pop()  # drop the part after the last LF
    crc = _crc_of_single_records(lines, position.crc)
    if crc is not None:
        return lines, Position(position.offset + chunk.rfind(b"\n") + 1, crc), len(lines)
    after, commits = end_of_good_commits(chunk, position)
    lines = chunk[: after.offset - position.offset].split(b"\n")
    lines.pop()
    return lines, after, commits


def _crc_of_single_records(lines: list[bytes], crc: int) -> int | None:
    """Return the crc of the last commit if each line is a valid commit of one record, else None."""
    seals = b"".join(map(_seal_of, lines))
    if seals.count(SEAL_HEAD) != len(lines):
        return None
    crcs = [crc := crc32(body, crc) for body in map(_body_of, lines)]
    # Formatting and comparing all digits in one step takes a tenth of the time of a loop.
    if b"".join((SEAL_HEAD, _hex(crcs).replace(b"|", b'"}' + SEAL_HEAD), b'"}')) != seals:
        return None
    return crc


def end_of_good_commits(chunk: bytes, position: Position) -> tuple[Position, int]:
    """Return the position after the valid commits at the start of ``chunk``, and their number."""
    *parts, _ = SEALED_LINE_END.split(chunk)  # body, digits, body, digits, ...
    bodies, digits = parts[::2], parts[1::2]
    commits = 0
    offset, crc = position.offset, position.crc
    for body, stated in zip(bodies, digits, strict=True):
        found = crc32(body, crc)
        if b"%08x" % found != stated:
            break
        offset, crc = offset + len(body) + SEALED_END_BYTES, found
        commits += 1
    return Position(offset, crc), commits


def _hex(crcs: list[int]) -> bytes:
    """Return the eight hex digits of each crc, separated by ``|``."""
    values = array("I", crcs)
    if sys.byteorder == "little":
        values.byteswap()
    return hexlify(values, b"|", values.itemsize)


def end_of_commit(file: Readable, start: Position, size: int) -> Position | None:
    """Return the end of the commit that begins at ``start``, or None if the commit is invalid.

    A commit of any size is verified in constant memory.
    """
    crc = start.crc
    offset = start.offset
    held = b""  # the last bytes read, since a seal may lie across two chunks
    line_bytes = 0
    while offset < size:
        chunk = file.read_at(offset, min(CHUNK_BYTES, size - offset))
        if not chunk:
            return None
        last_lf = chunk.rfind(b"\n")
        line_bytes = line_bytes + len(chunk) if last_lf < 0 else len(chunk) - last_lf - 1
        if line_bytes > MAX_LINE_BYTES:
            return None
        offset += len(chunk)
        held += chunk
        match = SEALED_LINE_END.search(held)
        if match:
            crc = crc32(held[: match.start()], crc)
            if b"%08x" % crc != match[1]:
                return None
            return Position(offset - len(held) + match.end(), crc)
        crc = crc32(memoryview(held)[:-SEAL_BYTES], crc)
        held = held[-SEAL_BYTES:]
    return None


def _blocks_of_large_commit(file: Readable, offset: int, after: Position) -> Iterator[Block]:
    """Yield, in blocks of about one chunk, the lines from ``offset`` to the end of the commit."""
    for begin, piece in whole_lines(file, offset, after.offset, CHUNK_BYTES):
        lines = piece.split(b"\n")
        lines.pop()
        ends = begin + len(piece) == after.offset
        yield Block(begin, lines, after, ends, int(ends), piece.isascii())


def whole_lines(
    file: Readable, offset: int, end: int, piece_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """Yield the lines from ``offset`` to ``end`` in pieces, each with its offset.

    A piece ends with an LF. A piece has at most ``piece_bytes``, or more if a line is longer. The
    iterator ends early if the file has shrunk, or a line is too long.
    """
    length = piece_bytes
    while offset < end:
        piece = file.read_at(offset, min(length, end - offset))
        size = piece.rfind(b"\n") + 1
        if size:
            yield offset, piece[:size]
            offset, length = offset + size, piece_bytes
        elif len(piece) < length or length > MAX_LINE_BYTES:
            return
        else:
            length *= 2


# --- the part of an open journal between two positions ----------------------------------------

CHANGED_IN_PLACE = "something else: the file was changed in place"
_LAST_TIME = rb'"at":"([0-9T:.-]{26})Z"' + SEALED_LINE_END.pattern + rb"\Z"
_LAST_TIME_BYTES = len('"at":"2026-11-24T13:35:00.123456Z"') + SEALED_END_BYTES


def blocks_between(file: JournalFile, begin: Position, end: Position) -> Iterator[Block]:
    """Yield the commits from ``begin`` to ``end``.

    Raises JournalDamagedError if one of these commits is invalid, or if no commit ends at ``end``.
    """
    position = begin
    for block in verified_blocks(file, begin, end.offset):
        yield block
        position = block.after
    if position != end:
        raise not_continued(file, position)


def records_between(
    file: JournalFile, begin: Position, end: Position
) -> Iterator[tuple[int, bytes, Record]]:
    """Yield the offset, the text (without LF) and the record of each line between two positions."""
    for block in blocks_between(file, begin, end):
        offset = block.offset
        for line in block.lines:
            yield offset, line, record_at(file, offset, line)
            offset += len(line) + 1


def record_in(file: JournalFile, block: Block, number: int, *, exact: bool) -> Record:
    """Return the record in line ``number`` (0-based) of a block.

    ``exact``: see :func:`decode_record`.

    Raises JournalDamagedError and FormatVersionError.
    """
    line = block.lines[number]
    try:
        return decode_record(line, exact=exact)
    except (UndecodableError, UnknownRecordError):
        offset = block.offset + sum(len(line) + 1 for line in block.lines[:number])
        return record_at(file, offset, line)  # raises the error, with the line's number


def record_at(file: JournalFile, offset: int, line: bytes, *, exact: bool = True) -> Record:
    """Return the record in ``line``, which is at ``offset`` of the file.

    ``exact``: see :func:`decode_record`.

    Raises JournalDamagedError and FormatVersionError.
    """
    try:
        return decode_record(line, exact=exact)
    except (UndecodableError, UnknownRecordError) as error:
        raise read_error(file.path, file.count_lines(offset) + 1, offset, error) from None


def not_continued(
    file: JournalFile, position: Position, found: str = CHANGED_IN_PLACE
) -> JournalDamagedError:
    """Make the public error for a missing or invalid commit after ``position``.

    ``found`` says what follows instead.
    """
    line = file.count_lines(position.offset) + 1
    expected = f"a commit that continues crc {crc_digits(position.crc)}"
    return JournalDamagedError(file.path, line, position.offset, expected, found)


def cut_error(file: JournalFile, end: int, missing: Position) -> JournalDamagedError:
    """Make the public error for a journal that ends at ``end``, but once reached ``missing``."""
    line = file.count_lines(end) + 1
    hint = file.path.with_name(HINT_NAME)
    return JournalDamagedError(
        file.path,
        line,
        end,
        f"the commit that ended at byte {missing.offset} and was on the disk ({HINT_NAME} shows it)",
        "that the journal was cut, or an older copy was restored",
        "`journal pull` brings back the commits of a newer copy or pack; if you restored an "
        f"older copy on purpose, delete {hint}: rows that are not done in this copy will run",
    )


# --- seals -----------------------------------------------------------------------------------


def has_seal(file: Readable, position: Position) -> bool:
    """Return whether the commit before ``position`` has the seal that ``position`` states.

    A seal is the chained CRC-32 at the end of a commit, and covers all bytes before the seal. So if
    two files have the same seal at the same offset, they have the same content up to this offset.
    If the file ends at ``position``, the LF after the seal may be missing.
    """
    begin = position.offset - SEALED_END_BYTES
    if begin < 0:
        return position == START
    found, seal = file.read_at(begin, SEALED_END_BYTES), sealed_end(position.crc)
    return found == seal or found == seal[:-1]


def seals_before(file: Readable, offset: int, floor: int = 0) -> Iterator[Position]:
    """Yield the ends of commits, from ``offset`` (included) back to ``floor`` (excluded).

    A commit ends with a seal (a CRC-32). The seals are found, but not verified.
    """
    high = offset
    while high > floor:
        low = max(floor, high - CHUNK_BYTES)
        begin = max(low - SEALED_END_BYTES + 1, 0)  # a seal may lie across two chunks
        data = file.read_at(begin, high - begin)
        for found in reversed(list(SEALED_LINE_END.finditer(data))):
            yield Position(begin + found.end(), int(found[1], 16))
        high = low


def seal_before(file: Readable, offset: int, floor: int = 0) -> Position | None:
    """Return the end of the last commit that ends after ``floor``, and at or before ``offset``.

    Returns None if there is no such commit. The seal (the CRC-32 at this end) isn't verified.
    """
    return next(seals_before(file, offset, floor), None)


def seal_after(
    file: Readable, offset: int, limit: int, seal: re.Pattern[bytes] = SEALED_LINE_END
) -> Position | None:
    """Return the end of the first commit that ends after ``offset``, and at or before ``limit``.

    Returns None if there is no such commit. The seal (the CRC-32 at this end) isn't verified. With
    ``SEAL`` as ``seal``, the LF may be missing. Then a text in the data of a row may match, too.
    """
    while offset < limit:
        begin = max(offset - SEALED_END_BYTES + 1, 0)
        high = min(offset + CHUNK_BYTES, limit)
        match = seal.search(file.read_at(begin, high - begin))
        if match is not None:
            return Position(begin + match.end(), int(match[1], 16))
        offset = high
    return None


def time_before(file: Readable, offset: int) -> datetime | None:
    """Return the time of the last record of the commit that ends at ``offset``.

    Returns None if no commit ends there.
    """
    begin = max(offset - _LAST_TIME_BYTES, 0)
    match = re.search(_LAST_TIME, file.read_at(begin, offset - begin))
    try:
        return match and datetime.fromisoformat(match[1].decode()).replace(tzinfo=UTC)
    except ValueError:
        return None
