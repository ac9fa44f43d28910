"""What a copy of a job did about its rows since it parted from another copy.

Each change of a row has an id that it keeps wherever it is taken over to. So what one copy did and the
other doesn't know of is found row by row, whichever way it has gone: through third copies, and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

from journal.changes import INTERRUPTED
from journal.copies import Copy, blocks_since
from journal.format import (
    ELSEWHERE,
    SEAL_BYTES,
    SEAL_HEAD,
    LogRecord,
    Record,
    RowRecord,
    RowStatusRecord,
    UndecodableError,
    UnknownRecordError,
    decode_record,
    read_error,
)
from journal.replay import Position

IN_FLIGHT = "in_flight_elsewhere"  # error code of a row

_WORK = frozenset(("processing", "completed", "failed", "skipped"))
# Of rows that were in flight where nobody knew how they ended: what their policy made of them.
_UNKNOWN_OUTCOMES = frozenset((INTERRUPTED, IN_FLIGHT))


class Change(NamedTuple):
    """One change of a row, by the record at ``offset``.

    ``status`` is the row's, or ELSEWHERE for a log record about what a third copy did. ``is_work``:
    something may have been done for the row, or somebody says what came of it. ``is_doubt``: it needs
    a review for more reasons than that nobody knew how an attempt ended.
    """

    id: str
    offset: int
    status: str
    is_work: bool = False
    is_doubt: bool = False


class RowChanges:
    """The changes of rows since ``begin``, in their order, and where the rows made since then are.

    In memory for each change. Raises JournalDamagedError, FormatVersionError, StorageError.
    """

    def __init__(self, copy: Copy, begin: Position) -> None:
        self.added: dict[int, int] = {}
        self._of: dict[int, list[Change]] = {}
        waiting: list[tuple[int, Change]] = []  # for the seal of their commit
        for offset, line, record in _records(copy, begin):
            sealed = line[-SEAL_BYTES:].startswith(SEAL_HEAD)
            if isinstance(record, RowRecord):
                self.added[record.row] = offset
            elif isinstance(record, RowStatusRecord):
                waiting.append((record.row, _of_status(record, offset, line, sealed=sealed)))
            elif isinstance(record, LogRecord):
                id_ = id_elsewhere(record)
                if id_ is not None:
                    waiting.append((record.row, Change(id_, offset, ELSEWHERE, is_work=True)))
            if sealed:
                seal = line[-10:-2].decode()
                for row, change in waiting:
                    id_ = change.id if len(change.id) > len(seal) else seal + change.id
                    self._of.setdefault(row, []).append(change._replace(id=id_))
                waiting.clear()

    def rows(self) -> list[int]:
        """The numbers of the rows that have changed, ascending."""
        return sorted(self._of)

    def unknown_to(self, other: RowChanges, row: int) -> list[Change]:
        """The changes of a row that ``other`` doesn't hold."""
        known = {change.id for change in other._of.get(row, ())}
        return [change for change in self._of.get(row, ()) if change.id not in known]


def _of_status(record: RowStatusRecord, offset: int, line: bytes, *, sealed: bool) -> Change:
    """A change whose id still lacks the seal of its commit, unless it is another copy's.

    The seal stands for all that the copy did before, the digest for the line: no two copies that
    went on by themselves have both alike, but by an accident of odds 2^-64.
    """
    if record.origin is not None:
        id_ = record.origin.id
    else:
        body = line[:-SEAL_BYTES] + b"}" if sealed else line
        id_ = sha256(body).hexdigest()[:8]
    settled = record.error_code in _UNKNOWN_OUTCOMES
    return Change(
        id_,
        offset,
        record.status,
        is_work=record.status in _WORK and not (record.status == "failed" and settled),
        is_doubt=record.status == "needs_review" and not settled,
    )


def id_elsewhere(record: LogRecord) -> str | None:
    """The id of the change of a third copy that a log record tells of; None if it doesn't."""
    change: Any = record.details.get(ELSEWHERE) if isinstance(record.details, dict) else None
    id_ = change.get("id") if isinstance(change, dict) else None
    is_one = isinstance(id_, str) and len(id_) == 16 and isinstance(record.row, int)
    return id_ if is_one else None


def _records(copy: Copy, begin: Position) -> Iterator[tuple[int, bytes, Record]]:
    for block in blocks_since(copy, begin):
        offset = block.offset
        for line in block.lines:
            try:
                yield offset, line, decode_record(line)
            except (UndecodableError, UnknownRecordError) as error:
                number = copy.file.count_lines(offset) + 1
                raise read_error(copy.file.path, number, offset, error) from None
            offset += len(line) + 1
