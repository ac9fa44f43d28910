"""What a journal says in the order in which it was written: records out of verified commits.

The index knows how things stand; this is how they came to be so. Read in constant memory, and on
from where a reader stopped, so that a live job can be followed; or from near the end, since each
seal states what the next commit continues.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from journal.format.commits import START, Block, Position
from journal.format.extent import (
    blocks_between,
    has_seal,
    record_in,
    seal_before,
    time_before,
)
from journal.format.records import LogRecord, Record
from journal.history.redact import redacted_members
from journal.ids import MAX_ROW_NUMBER
from journal.model import LOG_LEVELS, LogEntry
from journal.store.journal import Journal

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
        return position.offset <= self.end.offset and has_seal(self._file, position)

    def blocks(self, begin: Position = START, end: Position | None = None) -> Iterator[Block]:
        """The lines from one position to another, verified."""
        return blocks_between(self._file, begin, self.end if end is None else end)

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
        return record_in(self._file, block, number)

    # --- where to begin

    def position_before(self, offset: int, lowest: Position = START) -> Position:
        """The last position at or before ``offset`` (bytes), looked for from there backwards.

        ``lowest`` if there is none behind that.
        """
        return seal_before(self._file, min(offset, self.end.offset), lowest.offset) or lowest

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
            elif (time_before(self._file, found.offset) or _LATE) < moment:
                before, low = found, middle
            else:
                high = found.offset
        return before


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
