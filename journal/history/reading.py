"""Reads records and log messages of verified commits, in the order in which they were written.

The index holds only the present state of a job. A :class:`History` reads the records that led to
this state, in constant memory and from any position. So a program can follow a running job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from journal.format.commits import START, Block, Position
from journal.format.extent import (
    blocks_between,
    blocks_with,
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

# replaces a time that can't be read, so that reading begins before it
_LATE = datetime.max.replace(tzinfo=UTC)
_LINE = b'{"type":"'  # the beginning of a line as this package writes it; other writers may order members differently
_LOG_LINE = _LINE + b'log",'


class Entry(NamedTuple):
    """A record, its position, and the position after it.

    - ``offset``: where the record begins in the file, in bytes.
    - ``after``: the end of the block of whole commits that holds the record.
    - ``ends``: whether the record is the last one of that block.

    To continue later, begin at ``after`` of the last entry whose ``ends`` is true.
    """

    offset: int
    record: Record
    after: Position
    ends: bool


class History:
    """A journal up to its last commit at the time when this object is made.

    A later History can continue at ``end``. Methods raise StorageError, and, if the file was
    changed, JournalDamagedError.
    """

    def __init__(self, journal: Journal) -> None:
        """The caller holds the journal's mutex during this call, but not during later reads."""
        journal.refresh()
        self._file = journal.file
        self._exact = journal.exact
        self.end = journal.position

    def continues(self, position: Position) -> bool:
        """Return whether reading can continue at ``position``, which is the end of an earlier
        History.

        Returns False if another file has replaced the journal since then: after a repair, or
        because there is another job with this id.
        """
        return position.offset <= self.end.offset and has_seal(self._file, position)

    def blocks(self, begin: Position = START, end: Position | None = None) -> Iterator[Block]:
        """The verified lines from one position to another."""
        return blocks_between(self._file, begin, self.end if end is None else end)

    def blocks_of_row(
        self,
        number: int,
        begin: Position = START,
        end: Position | None = None,
        others: Collection[bytes] = (),
    ) -> Iterator[Block]:
        """Verified lines from one position to another, with all records and log messages of a row.

        ``others``: lines that hold one of these texts are in the blocks, too. Most other lines are
        left out, and aren't verified.
        """
        row = b'"row":%d' % number
        elsewhere = b'"row": %d' % number  # as other writers may write it
        texts = (row + b",", row + b"}", elsewhere, *others)
        return blocks_with(self._file, texts, begin, self.end if end is None else end)

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
        """The log messages, with the fields in ``redact`` hidden. Other lines are not decoded."""
        for block in self.blocks(begin):
            for number, line in enumerate(block.lines):
                if line.startswith(_LOG_LINE) or not line.startswith(_LINE):
                    record = self.record(block, number)
                    if isinstance(record, LogRecord):
                        yield log_entry(redacted_members(record, redact))

    def record(self, block: Block, number: int) -> Record:
        """The record in line ``number`` (0-based) of a block."""
        return record_in(self._file, block, number, exact=self._exact)

    # --- where to begin

    def position_before(self, offset: int, lowest: Position = START) -> Position:
        """Return the last position up to ``offset`` (bytes), or ``lowest`` if that is later."""
        return seal_before(self._file, min(offset, self.end.offset), lowest.offset) or lowest

    def position_at(self, moment: datetime) -> Position:
        """Return a position before all records since ``moment``, close to the first of these
        records.

        Times never go back in a journal, so a binary search finds the position in a few reads. At
        most one commit after the position is older than ``moment``.
        """
        before = START
        low, high = 0, self.end.offset  # no position between ``before`` and ``low`` is a better one
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
    """A log record as a LogEntry. Members with a wrong type, written by other programs, are
    dropped.
    """
    row: Any = record.row
    is_row = type(row) is int and 0 < row <= MAX_ROW_NUMBER
    return LogEntry(
        at=_logged_at(record),
        level=record.level if record.level in LOG_LEVELS else "INFO",
        message=record.message,
        row_number=row if is_row else None,
        details=record.details if isinstance(record.details, dict) else None,
        attempt=record.attempt if type(record.attempt) is int else None,
    )


def _logged_at(record: LogRecord) -> datetime:
    """When the message was made: before its commit, if an attempt has logged it."""
    if record.logged_at is None:
        return record.at
    try:
        at = msgspec.convert(record.logged_at, datetime)
    except msgspec.ValidationError:
        return record.at
    # The clock of another machine may be wrong.
    return record.at if at.tzinfo is None else min(record.at, at.astimezone(UTC))
