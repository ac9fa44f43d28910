"""Reads records and log messages of verified commits, in the order in which they were written.

The index contains only the present state of a job. A :class:`History` reads the records that led to
this state. A History needs constant memory. Reading can begin at any position, so a program can
follow a running job.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple, TypeVar

import msgspec

from journal.format.commits import (
    START,
    Block,
    Position,
    blocks_between,
    end_of_commit,
    has_seal,
    not_continued,
    record_in,
    seal_after,
    seal_before,
    time_before,
    whole_lines,
)
from journal.format.records import KnownRecord, LogRecord, Record
from journal.index.summary import job_of
from journal.model import LOG_LEVELS, Job, LogEntry, RowStatus
from journal.store.journal import Journal
from journal.store.row_reader import RowSequence
from journal.store.store import Store

# This time is used if a time can't be read. So reading begins before the unreadable record.
_LATE = datetime.max.replace(tzinfo=UTC)
# The beginning of a line as this package writes it. Other writers may order members differently.
LINE = b'{"type":"'
# The start of a run, or a record about several rows, such as a record of a call.
_A_RUN_OR_ROWS = re.compile(rb'"type"\s*:\s*"run"|"rows"\s*:\s*\[')
_PIECE_BYTES = 1 << 18
Found = TypeVar("Found", bound=KnownRecord)


def line_start(kind: type[msgspec.Struct]) -> bytes:
    """The beginning of a line with a record of this type, as this package writes it."""
    return b'%b%b",' % (LINE, str(kind.__struct_config__.tag).encode())


class Entry(NamedTuple):
    """A record with its place in the journal.

    - ``offset``: where the record begins in the file, in bytes.
    - ``after``: the position after the block of commits that contains the record.
    - ``ends``: True if the record is the last record of that block.

    To continue later, begin at the ``after`` of the last entry with ``ends``.
    """

    offset: int
    record: Record
    after: Position
    ends: bool


def read_history(store: Store, job_id: str) -> History:
    """Return the job's history up to its last commit. Raises JobNotFoundError."""
    with store.reading(job_id) as journal:
        return History(journal)


def look(
    store: Store, job_id: str, *statuses: Collection[RowStatus] | None
) -> tuple[Job, History, list[RowSequence]]:
    """Return a job, its history, and for each item of ``statuses`` the rows with these statuses.

    The item None selects all rows. All results are of the same commit. Numbers keep all their
    digits. Raises JobNotFoundError.
    """
    with store.reading(job_id) as journal:
        history = History(journal, exact=True)  # first, since this reads newer commits
        views = map(journal.index.view, statuses)
        rows = [RowSequence(journal, view, exact=True) for view in views]
        return job_of(journal.index), history, rows


class History:
    """A journal up to its last commit at the time when this object was made.

    To read later commits, make a new History, and begin to read at the ``end`` of this object. The
    methods raise StorageError, and JournalDamagedError if somebody has changed the file.
    """

    def __init__(self, journal: Journal, *, exact: bool = False) -> None:
        """Hold the journal's mutex during this call. Later reads don't need the mutex.

        ``exact``: numbers keep all their digits, even if the journal isn't opened as exact.
        """
        journal.refresh()
        self._file = journal.file
        self._exact = exact or journal.exact
        self.end = journal.log.end

    def continues(self, position: Position) -> bool:
        """Return whether reading can continue at ``position``, the end of an earlier History.

        Returns False if a different file has replaced the journal since the earlier History was
        made. This happens after a repair, or if a new job has the same id.
        """
        return position.offset <= self.end.offset and has_seal(self._file, position)

    def blocks(self, begin: Position = START, end: Position | None = None) -> Iterator[Block]:
        """Yield the verified lines from ``begin`` to ``end``, in blocks."""
        return blocks_between(self._file, begin, self.end if end is None else end)

    def blocks_about(
        self, number: int, begin: Position = START, end: Position | None = None
    ) -> Iterator[Block]:
        """Yield the lines that may be about row ``number`` or start a run, each as a block.

        The file is searched for such lines. Only the commits of these lines are verified.
        """
        end = self.end if end is None else end
        known = begin  # up to here, nothing is left to be verified
        for offset, line in self._lines_about(number, begin.offset, end.offset):
            while known.offset <= offset:
                start = seal_before(self._file, offset, known.offset) or known
                after = end_of_commit(self._file, start, end.offset)
                if after is None:
                    raise not_continued(self._file, start)
                known = after
            yield Block(offset, [line], known, offset + len(line) + 1 == known.offset, 0, False)
        if not has_seal(self._file, end):
            raise not_continued(self._file, known)

    def _lines_about(self, number: int, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield each line that may be about row ``number`` or start a run, and its offset."""
        find_row = re.compile(rb'"row"\s*:\s*%d\b' % number).finditer
        for at, piece in whole_lines(self._file, offset, end, _PIECE_BYTES):
            found = chain(find_row(piece), _A_RUN_OR_ROWS.finditer(piece))
            for begin in sorted({piece.rfind(b"\n", 0, place.start()) + 1 for place in found}):
                yield at + begin, piece[begin : piece.index(b"\n", begin)]

    def entries(self, begin: Position = START) -> Iterator[Entry]:
        """Yield all records from ``begin`` on."""
        for block in self.blocks(begin):
            offset = block.offset
            last = len(block.lines) - 1
            for number, line in enumerate(block.lines):
                record = self.record(block, number)
                yield Entry(offset, record, block.after, block.ends and number == last)
                offset += len(line) + 1

    def records(self, *types: type[Found], begin: Position = START) -> Iterator[Found]:
        """Yield the records of these types from ``begin`` on. Other records aren't decoded."""
        starts = tuple(map(line_start, types))
        for block in self.blocks(begin):
            for number, line in enumerate(block.lines):
                if line.startswith(starts) or not line.startswith(LINE):
                    record = self.record(block, number)
                    if isinstance(record, types):
                        yield record

    def record(self, block: Block, number: int) -> Record:
        """Return the record in line ``number`` (0-based) of a block."""
        return record_in(self._file, block, number, exact=self._exact)

    # --- where to begin

    def position_before(self, offset: int, lowest: Position = START) -> Position:
        """Return the later of ``lowest`` and the last position at or before ``offset`` (bytes)."""
        return seal_before(self._file, min(offset, self.end.offset), lowest.offset) or lowest

    def last_bytes(self, size_bytes: int, lowest: Position | None = None) -> Position:
        """Return where to begin to read at most ``size_bytes``, and nothing before ``lowest``.

        A commit that begins before these bytes is left out, since it may be large.
        """
        offset, end = self.end.offset - size_bytes, self.end
        if offset <= (0 if lowest is None else lowest.offset):
            return lowest or START
        return seal_after(self._file, offset, end.offset) or end

    def position_at(self, moment: datetime) -> Position:
        """Return a position just before the first record since ``moment``.

        Of the commits after this position, at most one is older than ``moment``. Times never go
        back in a journal, so a binary search finds the position in a few reads.
        """
        before = START
        low, high = 0, self.end.offset  # no position between ``before`` and ``low`` is better
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
    """Convert a log record to a LogEntry. A level that isn't known becomes INFO."""
    # An attempt makes its messages before they are committed. The clock of another machine may be
    # ahead.
    at = record.at if record.logged_at is None else min(record.at, record.logged_at)
    return LogEntry(
        at=at,
        level=record.level if record.level in LOG_LEVELS else "INFO",
        message=record.message,
        row_number=record.row,
        details=record.details,
        attempt=record.attempt,
    )
