"""Reads the part of an open journal between two positions, as verified commits or as records.

Also finds the seal (the chained CRC-32 at the end of a commit) before or after an offset.

The errors name the line of the file. To count lines, the file must be read from its start. So lines
are counted only when there is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from journal.errors import JournalDamagedError
from journal.format.commits import CHUNK_BYTES, START, Block, Position, Readable, verified_blocks
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.format.records import Record
from journal.format.seal import SEALED_END_BYTES, SEALED_LINE_END, crc_digits, sealed_end
from journal.fs.file_names import HINT_NAME
from journal.fs.handles import JournalFile

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
        return record_at(file, offset, line)  # raises, with the line's number


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
    """Make the public error that reports that no valid commit follows ``position``.

    ``found`` says what follows instead.
    """
    line = file.count_lines(position.offset) + 1
    expected = f"a commit that continues crc {crc_digits(position.crc)}"
    return JournalDamagedError(file.path, line, position.offset, expected, found)


def cut_error(file: JournalFile, end: int, missing: Position) -> JournalDamagedError:
    """Make the public error for a journal that ends at ``end``, and once had ``missing``."""
    line = file.count_lines(end) + 1
    hint = file.path.with_name(HINT_NAME)
    return JournalDamagedError(
        file.path,
        line,
        end,
        f"the commit that ended at byte {missing.offset} and was on the disk ({HINT_NAME} shows it)",
        "that the journal was cut, or an older copy restored in its place",
        "`journal pull` brings back what a newer copy or pack has; if you restored an older copy on "
        f"purpose, delete {hint}: rows that are not done in it will run",
    )


# --- seals -----------------------------------------------------------------------------------


def has_seal(file: Readable, position: Position) -> bool:
    """Return whether the commit before ``position`` has the seal that ``position`` states.

    A seal is the chained CRC-32 at the end of a commit, and covers all bytes before the seal. So
    two files with the same seal at the same offset have the same content up to that offset. If the
    file ends there, the LF after the seal may be missing.
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
    ``SEAL`` as ``seal``, its LF may be missing. Then a text in the data of a row may match, too.
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
