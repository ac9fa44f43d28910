"""What a journal says in the order in which it was written: records out of verified commits.

The index knows how things stand; this is how they came to be so. Read in constant memory, and on
from where a reader stopped, so that a live job can be followed; or from near the end, since each
seal states what the next commit continues.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from journal.errors import JournalDamagedError
from journal.format.commits import CHUNK_BYTES, START, Block, Position, verified_blocks
from journal.format.decode import UndecodableError, UnknownRecordError, decode_record, read_error
from journal.format.records import SEAL_BYTES, SEALED_LINE_END, LogRecord, Record, sealed_end
from journal.history.redact import redacted_members
from journal.ids import MAX_ROW_NUMBER
from journal.model import LOG_LEVELS, LogEntry
from journal.store.journal import Journal

_SEALED_END_BYTES = SEAL_BYTES + 1  # with its LF
_LAST_TIME = re.compile(rb'"at":"([0-9:.T-]{26})Z"\Z')
_LAST_TIME_BYTES = len('"at":"2026-11-24T13:35:00.123456Z"')
_LATE = datetime.max.replace(tzinfo=UTC)  # where a time can't be read: begin before it
_LINE = b'{"type":"'  # as a writer begins each; another may have put its members in another order
_LOG_LINE = _LINE + b'log",'


class Entry(NamedTuple):
    """A record, and the position behind the last commit that ``record`` is known to be followed by.

    ``offset`` (bytes) is where the record stands. To go on reading later, begin at ``after`` of the
    last entry that was taken *and* whose ``ends`` is true: it ends a block of whole commits.
    """

    offset: int
    record: Record
    after: Position
    ends: bool


class History:
    """A journal up to the last commit there was when this was made, in the open file.

    What is written later is for another one, which may go on from ``end``. Its methods raise
    StorageError, and JournalDamagedError if the file no longer holds what it held.
    """

    def __init__(self, journal: Journal) -> None:
        """The caller holds the log's mutex, and may let go of it before it reads anything."""
        journal.refresh()
        self._file = journal.file
        self.end = journal.position

    def continues(self, position: Position) -> bool:
        """Whether what stood before ``position`` when it was taken is what stands there now.

        False where the journal was replaced, by a repair or by another job of the same id.
        """
        if position.offset > self.end.offset:
            return False
        begin = max(position.offset - _SEALED_END_BYTES, 0)
        found = self._file.read_at(begin, position.offset - begin)
        return position == START or found == sealed_end(position.crc)

    def blocks(self, begin: Position = START, end: Position | None = None) -> Iterator[Block]:
        """The lines from one position to another, verified."""
        stop = self.end if end is None else end
        position = begin
        for block in verified_blocks(self._file, begin, stop.offset):
            yield block
            position = block.after
        if position != stop:
            raise JournalDamagedError(
                self._file.path,
                self._file.count_lines(position.offset) + 1,
                position.offset,
                f"a commit that continues crc {position.crc:08x}",
                "something else: the file was changed in place",
            )

    def entries(self, begin: Position = START) -> Iterator[Entry]:
        """All records from ``begin`` on."""
        for block in self.blocks(begin):
            offset = block.offset
            last = len(block.lines) - 1
            for number, line in enumerate(block.lines):
                record = self.record(block, number)
                yield Entry(offset, record, block.after, block.ends and number == last)
                offset += len(line) + 1

    def logs(self, begin: Position, redact: frozenset[str] = frozenset()) -> Iterator[LogEntry]:
        """The log records alone, without what ``redact`` names; other lines are not decoded."""
        for block in self.blocks(begin):
            for number, line in enumerate(block.lines):
                if line.startswith(_LOG_LINE) or not line.startswith(_LINE):
                    record = self.record(block, number)
                    if isinstance(record, LogRecord):
                        yield log_entry(redacted_members(record, redact))

    def record(self, block: Block, number: int) -> Record:
        """What line ``number`` (0-based) of a block of :meth:`blocks` says."""
        try:
            return decode_record(block.lines[number])
        except (UndecodableError, UnknownRecordError) as error:
            offset = block.offset + sum(len(line) + 1 for line in block.lines[:number])
            line_number = self._file.count_lines(offset) + 1
            raise read_error(self._file.path, line_number, offset, error) from None

    # --- where to begin

    def position_before(self, offset: int, lowest: Position = START) -> Position:
        """The last position at or before ``offset`` (bytes), looked for from there backwards.

        ``lowest`` if there is none behind that.
        """
        end = min(offset, self.end.offset)
        tail = b""  # what was read before this chunk: a seal may lie across the two
        while end > lowest.offset:
            begin = max(end - CHUNK_BYTES, lowest.offset - _SEALED_END_BYTES + 1, 0)
            chunk = self._file.read_at(begin, end - begin) + tail
            seals = list(SEALED_LINE_END.finditer(chunk))
            if seals:
                return Position(begin + seals[-1].end(), int(seals[-1][1], 16))
            tail = chunk[: _SEALED_END_BYTES - 1]
            end = begin
        return lowest

    def position_at(self, moment: datetime) -> Position:
        """A position with everything since ``moment`` behind it, and at most one commit more.

        Times never go back, so it takes a few reads however long the journal is.
        """
        before = START
        low, high = 0, self.end.offset  # no position from ``before`` to ``low`` is a better one
        while high - low > 1:
            middle = (low + high) // 2
            found = self.position_before(middle, Position(low, before.crc))
            if found.offset == low:
                low = middle
            elif self._time_before(found) < moment:
                before, low = found, middle
            else:
                high = found.offset
        return before

    def _time_before(self, position: Position) -> datetime:
        """The time of the last record before a position."""
        end = position.offset - _SEALED_END_BYTES
        match = _LAST_TIME.search(self._file.read_at(end - _LAST_TIME_BYTES, _LAST_TIME_BYTES))
        try:
            return datetime.fromisoformat(match[1].decode()).replace(tzinfo=UTC) if match else _LATE
        except ValueError:
            return _LATE


def log_entry(record: LogRecord) -> LogEntry:
    """A log record as it is told; what another program has put in its members is left out."""
    row: Any = record.row
    is_row = type(row) is int and 0 < row <= MAX_ROW_NUMBER
    return LogEntry(
        at=record.at,
        level=record.level if record.level in LOG_LEVELS else "INFO",
        message=record.message,
        row_number=row if is_row else None,
        details=record.details if isinstance(record.details, dict) else None,
    )
