"""What a copy of a job did about its rows since it parted from another copy.

Each change of a row has an id that it keeps wherever it is taken over to. So what one copy did and
the other doesn't know of is found row by row, whichever way it has gone: through third copies, and
back.
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
    time_text,
)
from journal.replay import Position

IN_FLIGHT = "in_flight_elsewhere"  # error code of a row
BOTH_COPIES = "both_copies"  # error code of rows, and of a job, that two copies have worked on

_WORK = frozenset(("processing", "completed", "failed", "skipped"))
# Of reviews that policies and merges ask for: what there is to know stands in the work before them.
_REVIEWS_OF_WORK = frozenset((INTERRUPTED, IN_FLIGHT, BOTH_COPIES))


class Change(NamedTuple):
    """One change of a row, by the record at ``offset``.

    ``status`` is the row's, or ELSEWHERE for a log record about what a third copy did. ``is_work``:
    something may have been done for the row, or somebody says what came of it. ``is_doubt``: it
    needs a review, and neither a merge nor a policy said so, which know no more than the work they
    are about. ``is_alarm``: what a third copy did to a row that is completed here.
    """

    id: str
    offset: int
    status: str
    is_work: bool = False
    is_doubt: bool = False
    is_alarm: bool = False


class Retry(NamedTuple):
    """A job that goes on with the unfinished rows of this one; ``at`` tells two of a name apart."""

    job: str
    host: str
    at: str


class RowChanges:
    """The changes of rows since ``begin``, in their order, and where the rows made since then are.

    ``retries`` are the log records that say in which job the unfinished rows go on: their offsets
    by the job, the host that made it, and when.

    In memory for each change. Raises JournalDamagedError, FormatVersionError, StorageError.
    """

    def __init__(self, copy: Copy, begin: Position) -> None:
        self.added: dict[int, int] = {}
        self.retries: dict[Retry, int] = {}
        self._of: dict[int, list[Change]] = {}
        waiting: list[tuple[int, Change]] = []  # for the seal of their commit
        for offset, line, record in _records(copy, begin):
            sealed = line[-SEAL_BYTES:].startswith(SEAL_HEAD)
            if isinstance(record, RowRecord):
                self.added[record.row] = offset
            elif isinstance(record, RowStatusRecord):
                waiting.append((record.row, _of_status(record, offset, line, sealed=sealed)))
            elif isinstance(record, LogRecord):
                retry = retry_of(record)
                if retry is not None:
                    self.retries[retry] = offset
                id_ = id_elsewhere(record)
                if id_ is not None:
                    waiting.append((record.row, _of_log(record, id_, offset)))
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
        """The changes of a row that ``other`` doesn't hold.

        But for what came to nothing: no work and no doubt, before a status that it does hold.
        """
        known = {change.id for change in other._of.get(row, ())}
        changes, unknown = self._of.get(row, []), list[Change]()
        is_settled = False
        for change in reversed(changes):
            if change.id in known:
                is_settled = is_settled or change.status != ELSEWHERE
            elif change.is_work or change.is_doubt or not is_settled:
                unknown.append(change)
        return unknown[::-1]

    def ends_with(self, row: int, change: Change) -> bool:
        """Whether no status has followed that change."""
        changes = self._of[row]
        return all(later.status == ELSEWHERE for later in changes[changes.index(change) + 1 :])

    def alarms_about(self, other: RowChanges, row: int) -> bool:
        """Whether a row was completed here, and ``other`` worked on it too, and that is told here."""
        did = {change.id for change in other._of.get(row, ()) if change.status != ELSEWHERE}
        return any(change.is_alarm and change.id in did for change in self._of.get(row, ()))


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
    is_work = _is_work(record.status, record.error_code)
    is_doubt = record.status == "needs_review" and record.error_code not in _REVIEWS_OF_WORK
    return Change(id_, offset, record.status, is_work, is_doubt)


def _of_log(record: LogRecord, id_: str, offset: int) -> Change:
    told = record.details[ELSEWHERE]
    is_work = _is_work(told.get("status"), told.get("error_code"))
    return Change(id_, offset, ELSEWHERE, is_work, is_alarm=record.level == "ERROR")


def _is_work(status: Any, error_code: Any) -> bool:
    """Not what a policy made of a row in flight: it knows no more than that the row was."""
    return status in _WORK and not (status == "failed" and error_code in _REVIEWS_OF_WORK)


def retry_of(record: LogRecord) -> Retry | None:
    """The retry of the job that a log record tells of, whichever copy has made it."""
    match record.details:
        case {"retry": {"job": str(job), "host": str(host), **rest}}:
            at = rest.get("at")
            return Retry(job, host, at if isinstance(at, str) else time_text(record.at))
    return None


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
