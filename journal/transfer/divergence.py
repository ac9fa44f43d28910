"""What a copy of a job did about its rows since it parted from another copy.

Each change of a row has an id that it keeps wherever it is taken over to. So what one copy did and
the other doesn't know of is found row by row, whichever way it has gone: through third copies, and
back.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from journal.format.commits import Position
from journal.format.decode import decode_record
from journal.format.extent import records_between, seal_after
from journal.format.idempotency import AnyRow, idempotency_key
from journal.format.records import (
    BOTH_COPIES,
    ELSEWHERE,
    LOST_CHECKSUM,
    SEAL_BYTES,
    JobRecord,
    LogRecord,
    Record,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
    crc_digits,
    is_sealed,
)
from journal.store.transitions import is_word_of_policy
from journal.transfer.copies import Copy

IN_FLIGHT = "in_flight_elsewhere"  # error code of a row
RENUMBERED = "renumbered"  # error code of a row
DATA = "row_data"

_WORK = frozenset(("processing", "completed", "failed", "skipped"))
_WORDS_OF_MERGES = frozenset((IN_FLIGHT, RENUMBERED, BOTH_COPIES))


class Change(NamedTuple):
    """One change of a row, by the record at ``offset``.

    ``status`` is the row's, or DATA if it got other data, or ELSEWHERE for a log record about what
    a third copy did. ``is_work``: something may have been done for the row, or somebody says what
    came of it. ``is_doubt``: it needs a review, and neither a merge nor a policy said so, which know
    no more than the work they are about. ``is_alarm``: what a third copy did to a row that is
    completed here. ``reset``: somebody has decided that it is to be retried, or redone.
    ``is_renumbering``: a review for no more than its other number on that copy.
    ``is_data_of_merge``: data that it was given by another copy first.
    """

    id: str
    offset: int
    status: str
    is_work: bool = False
    is_doubt: bool = False
    is_alarm: bool = False
    reset: str | None = None
    is_renumbering: bool = False
    is_data_of_merge: bool = False

    @property
    def matters(self) -> bool:
        return self.is_work or self.is_doubt

    @property
    def is_status(self) -> bool:
        return self.status not in (ELSEWHERE, DATA)


class Made(NamedTuple):
    """A row that was made at ``offset``. ``is_lost``: its data and key, to damage on this copy.

    ``key`` is then one that only those rows have which were taken over from here.
    """

    offset: int
    key: str
    is_lost: bool


class RowChanges:
    """The changes of rows since ``begin``, in their order, and the rows made since then, in theirs.

    A row that was made was thereby given its first data, which is a change like any other.
    ``marks``: an older version's of the jobs in which the unfinished rows go on. ``merges`` says how
    far other copies were merged. ``news_at`` is the offset of the last record that isn't of a merge,
    nor of a run's beginning.

    ``rows``: of these alone. In memory for each change. Raises JournalDamagedError,
    FormatVersionError, StorageError.
    """

    def __init__(self, copy: Copy, begin: Position, rows: Container[int] | None = None) -> None:
        self.added: dict[int, Made] = {}
        self.marks: list[LogRecord] = []
        self.merges: list[Position] = []
        self.news_at = -1
        self._of: dict[int, list[Change]] = {}
        waiting: list[tuple[int, Change]] = []  # for the seal of their commit
        lost: list[int] = []  # rows without a key, for the same
        is_of_merge = False  # the commit
        for offset, line, record in records_between(copy.file, begin, copy.end):
            sealed = is_sealed(line)
            if isinstance(record, RowRecord):
                if rows is None or record.row in rows:
                    is_lost = record.checksum == LOST_CHECKSUM
                    has_no_key = is_lost and record.key is None
                    self.added[record.row] = Made(offset, key_of(record, copy.header), has_no_key)
                    if has_no_key:
                        lost.append(record.row)
                    elif not is_lost:
                        first = Change(content_id(record, copy.header), offset, DATA)
                        waiting.append((record.row, first))
            elif isinstance(record, RowStatusRecord):
                waiting.append((record.row, _of_status(record, offset, line, sealed=sealed)))
            elif isinstance(record, RowDataRecord):
                id_, is_merged = _id_of(record, line, sealed=sealed), record.origin is not None
                waiting.append((record.row, Change(id_, offset, DATA, is_data_of_merge=is_merged)))
            elif isinstance(record, LogRecord):
                is_of_merge = self._note(record) or is_of_merge
                if told := id_elsewhere(record):
                    waiting.append((record.row, _of_log(record, told, offset)))
            if not is_of_merge and _is_news(record):
                self.news_at = offset
            if sealed:
                is_of_merge = False
                seal = line[-10:-2].decode()
                for row, change in waiting:
                    if rows is not None and row not in rows:
                        continue
                    id_ = change.id if len(change.id) > len(seal) else seal + change.id
                    self._of.setdefault(row, []).append(change._replace(id=id_))
                waiting.clear()
                for row in lost:
                    made = self.added[row]
                    self.added[row] = made._replace(key=f"{made.key}.{seal}")
                lost.clear()

    def _note(self, record: LogRecord) -> bool:
        """Note what it marks; whether it is that with which a merge begins."""
        match record.details:
            case {"retry": {"job": str(), "host": str()}}:
                self.marks.append(record)
            case {"merge": {"offset": int(end), "crc": str(crc)}}:
                with suppress(ValueError):
                    self.merges.append(Position(end, int(crc, 16)))
                return True
        return False

    def renumber(self, numbers: dict[int, int]) -> None:
        """Call the rows that were made since ``begin`` by other numbers."""
        self.added = {numbers[row]: made for row, made in self.added.items()}
        self._of = {numbers.get(row, row): changes for row, changes in self._of.items()}

    def data_of(self, row: int) -> list[Change]:
        """The changes of the row's data."""
        return [change for change in self._of.get(row, ()) if change.status == DATA]

    def rows(self) -> list[int]:
        """The numbers of the rows that have changed, ascending."""
        return sorted(self._of)

    def rows_of_before(self) -> set[int]:
        """The numbers of the rows of which a merge may have told, or put back, what was before."""
        return {
            row
            for row, changes in self._of.items()
            if any(change.status == ELSEWHERE or change.is_data_of_merge for change in changes)
        }

    def unknown_to(self, other: RowChanges, row: int, shared: RowChanges) -> list[Change]:
        """The changes of a row that neither ``other`` nor ``shared``, what both have, holds.

        But for what came to nothing: no work and no doubt, before a status that it does hold; and
        data before other data that it does hold.
        """
        known = {change.id for change in (*other._of.get(row, ()), *shared._of.get(row, ()))}
        changes, unknown = self._of.get(row, []), list[Change]()
        is_settled = {True: False, False: False}  # its data, and its status
        for change in reversed(changes):
            is_data = change.status == DATA
            if change.id in known:
                is_settled[is_data] = is_settled[is_data] or change.status != ELSEWHERE
            elif change.matters or not is_settled[is_data]:
                unknown.append(change)
        return unknown[::-1]

    def end_with(self, row: int, changes: list[Change]) -> bool:
        """Whether the row has got no other status after the last one of these changes."""
        last = [c for c in changes if c.is_status][-1:]
        return not last or last == [c for c in self._of[row] if c.is_status][-1:]

    def alarms(self, row: int, other: RowChanges) -> list[Change]:
        """What other copies did to the row, which is completed here, and ``other`` isn't alarmed of."""
        known = {change.id for change in other._of.get(row, ()) if change.is_alarm}
        return [c for c in self._of.get(row, ()) if c.is_alarm and c.id not in known]


def _id_of(record: RowStatusRecord | RowDataRecord, line: bytes, *, sealed: bool) -> str:
    """The id of a change, which still lacks the seal of its commit, unless it is another copy's.

    The seal stands for all that the copy did before, the digest for the line: no two copies that
    went on by themselves have both alike, but by an accident of odds 2^-64.
    """
    if record.origin is not None:
        return record.origin.id
    body = line[:-SEAL_BYTES] + b"}" if sealed else line
    return sha256(body).hexdigest()[:8]


def data_id(copy: Copy, offset: int) -> str:
    """The id of the change that gave a row the data which the record at ``offset`` holds."""
    line = copy.file.read_line(offset)
    record, seal = decode_record(line), seal_after(copy.file, offset, copy.end.offset)
    if isinstance(record, RowRecord):
        return content_id(record, copy.header)
    assert isinstance(record, RowDataRecord)
    assert seal is not None
    id_ = _id_of(record, line, sealed=is_sealed(line))
    return id_ if record.origin is not None else crc_digits(seal.crc) + id_


def key_of(row: AnyRow, header: JobRecord) -> str:
    """The idempotency key of a row of any copy: the same in all, whatever its number is there."""
    return idempotency_key(f"{header.id}:{row.row}", row, header)


def content_of(row: AnyRow, header: JobRecord) -> bytes:
    """A row's data and key; equal only for what is equal as JSON: 1, 1.0 and true are not."""
    return msgspec.json.encode((row.data, key_of(row, header)), order="deterministic")


def content_id(row: AnyRow, header: JobRecord) -> str:
    """The id of the change that gave a row its first data: the same wherever it was made."""
    return sha256(content_of(row, header)).hexdigest()[:16]


def _of_status(record: RowStatusRecord, offset: int, line: bytes, *, sealed: bool) -> Change:
    return Change(
        _id_of(record, line, sealed=sealed),
        offset,
        record.status,
        *_weigh(record.status, record.error_code, record.error_message),
        reset=record.reset,
        is_renumbering=record.error_code == RENUMBERED,
    )


def _of_log(record: LogRecord, id_: str, offset: int) -> Change:
    told = record.details[ELSEWHERE]
    is_work, is_doubt = _weigh(
        told.get("status"), told.get("error_code"), told.get("error_message")
    )
    is_doubt = is_doubt or "data" in told  # which of two is right
    is_alarm = record.level == "ERROR"
    return Change(id_, offset, ELSEWHERE, is_work, is_doubt, is_alarm, reset=told.get("reset"))


def _weigh(status: Any, code: Any, message: Any) -> tuple[bool, bool]:
    """Whether a status is work, and whether it is a doubt: see :class:`Change`.

    The words of merges and policies are neither: they know no more than the work before them.
    """
    if code in _WORDS_OF_MERGES or is_word_of_policy(code, message):
        return status in _WORK - {"failed"}, False
    return status in _WORK, status == "needs_review"


def _is_news(record: Record) -> bool:
    if isinstance(record, LogRecord):
        match record.details:
            case {"run": {"host": _, "nonce": _}}:
                return False
        return id_elsewhere(record) is None
    return True


def id_elsewhere(record: LogRecord) -> str | None:
    """The id of the change of a third copy that a log record tells of; None if it doesn't."""
    change: Any = record.details.get(ELSEWHERE) if isinstance(record.details, dict) else None
    id_ = change.get("id") if isinstance(change, dict) else None
    is_one = isinstance(id_, str) and len(id_) == 16 and isinstance(record.row, int)
    return id_ if is_one else None
