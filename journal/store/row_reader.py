"""Reads rows: makes ``JobRow`` objects on demand, from the records at the offsets in a view."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, overload

from msgspec import structs

from journal.errors import JournalDamagedError, RowNotFoundError, ServiceClosedError
from journal.format.commits import CHANGED_IN_PLACE, record_at
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_record,
    decode_sane,
    decode_sane_exact,
)
from journal.format.records import AnyRow, CallRecord, RowDataRecord, RowRecord, RowStatusRecord
from journal.format.size_limits import SANE_RECORD_BYTES
from journal.format.values import DECODE_ERRORS, is_sane
from journal.fs.handles import JournalFile
from journal.index.columns import CODES, WAITING, Columns, View
from journal.index.job_state import OpenCall
from journal.model import JobRow, RowStatus
from journal.store.journal import Journal
from journal.store.store import Store
from journal.text import counted

READ_AHEAD_BYTES = 1 << 18
# Few rows: the first row must come fast.
_SLICE_ROWS = 256

_STATUS_OF = {status.value: status for status in RowStatus}
_ENDED = frozenset(filter(lambda status: status.is_ended, RowStatus))  # one call less for each row


def row_from_records(
    job_id: str,
    row: AnyRow,
    latest: RowStatusRecord | None,
    attempts: int,
    earlier_attempts: int,
) -> JobRow:
    """Make a row from its record and its latest status record."""
    number, created_at = row.row, row.at
    row_id = key = f"{job_id}:{number}"
    if row.key is not None:
        key = row.key
        if isinstance(row, RowDataRecord):  # a record of this kind always has a key
            created_at = row.created_at
    checksum, data = row.checksum, row.data
    if latest is None:
        made = (row_id, job_id, number, checksum, data, created_at, created_at)
        if row.place is None:  # one argument less for most rows
            return JobRow(*made, idempotency_key=key)
        return JobRow(*made, idempotency_key=key, place=row.place)
    status = _STATUS_OF[latest.status]
    updated_at, origin = latest.at, latest.origin
    # The arguments are positional, since keyword arguments take 50% longer for every row.
    found = JobRow(
        row_id,
        job_id,
        number,
        checksum,
        data,
        created_at,
        updated_at,
        status,
        attempts,
        latest.tracking_number,
        latest.label_path,
        latest.cost_cents,
        latest.result,
        latest.error_code,
        latest.error_message,
        latest.reason,
        (updated_at if origin is None else origin.at) if status in _ENDED else None,
        key,
        earlier_attempts,
        latest.version,
        latest.unknown,
        latest.usage,
        latest.traceback,
        row.place,
    )
    if latest.due is None or not latest.waits:
        return found
    return structs.replace(found, due=latest.due, waiting_since=latest.since)


def position_of(journal: Journal, number: int) -> int:
    """Return the position of row ``number`` in the journal's index. Raises RowNotFoundError."""
    position = journal.index.position_of(number)
    if position is None:
        raise row_not_found(journal, number)
    return position


def row_not_found(journal: Journal, number: int) -> RowNotFoundError:
    return RowNotFoundError(f"{journal.id_of_rows}:{number}")


def row_of(journal: Journal, position: int) -> JobRow:
    """Return the row at a position of the journal's index. The caller must hold the mutex."""
    index = journal.index
    return _row_at(
        journal, index.columns, index.calls, position, journal.row_line, journal.read_line
    )


def _row_at(
    source: Journal | RowSequence,
    columns: Columns,
    calls: Mapping[int, OpenCall],
    position: int,
    rows: Read,
    statuses: Read,
) -> JobRow:
    """Return the row at a position. ``rows`` and ``statuses`` read the lines of its records."""
    file, exact, number = source.file, source.exact, columns.number(position)
    offset = columns.row_offsets[position]
    row = read_row(file, rows(offset), offset, number, exact=exact)
    latest = read_status(file, statuses, columns.status_offsets[position], number, exact=exact)
    if columns.statuses[position] == WAITING:
        latest = waiting_status(file, statuses, latest, calls, columns.call(position))
    attempts, before = columns.attempts[position], columns.earlier_attempts(position)
    return row_from_records(source.id_of_rows, row, latest, attempts, before)


def waits_since(journal: Journal, position: int) -> datetime | None:
    """Return when a row in flight began to wait for the first time since its last retry or redo."""
    index = journal.index
    if not index.columns.due_us(position):
        return None
    offset, number = index.before_attempt.get(position, 0), index.columns.number(position)
    before = read_status(journal.file, journal.read_line, offset, number)
    return None if before is None else before.since


def status_of_attempt(journal: Journal, position: int) -> RowStatusRecord | None:
    """Return the record that began the row's attempt in progress."""
    columns = journal.index.columns
    offset, number = columns.status_offsets[position], columns.number(position)
    return read_status(journal.file, journal.read_line, offset, number)


def version_of_attempt(journal: Journal, position: int) -> str | None:
    """Return the version of the run in which the row's attempt in progress began."""
    state = journal.index.state
    if state is None or not state.has_versions:  # most jobs: no record must be read
        return None
    began = status_of_attempt(journal, position)
    return None if began is None else began.version


class FoundRow(NamedTuple):
    """A row without its data.

    ``position``: the row's place in the order in which rows were added, from 0. ``attempts``: the
    number of attempts since the last retry or redo. ``is_fresh``: True if the row was never
    started.
    """

    position: int
    row_number: int
    attempts: int
    is_fresh: bool


def find_rows(
    store: Store, job_id: str, status: RowStatus, first: int = 0, limit: int = 1000
) -> list[FoundRow]:
    """Return up to ``limit`` rows with this status, in order of creation, from position ``first``.

    Pending rows that wait for a time aren't found: see :class:`Wait`.
    To go through a job of any size in constant memory, continue at the ``position`` of the last
    found row, plus 1. Raises JobNotFoundError.
    """
    with store.reading(job_id) as journal:
        columns = journal.index.columns
        attempts = columns.attempts
        return [
            FoundRow(
                at,
                columns.number(at),
                (count := attempts[at]) and count - columns.earlier_attempts(at),
                not count,
            )
            for at in islice(journal.index.positions(CODES[status], first), limit)
        ]


Read = Callable[[int], bytes]  # returns the line at an offset, without its LF


def read_row(
    file: JournalFile, line: bytes, offset: int, number: int, *, exact: bool = True
) -> AnyRow:
    """Decode the record of row ``number`` in ``line``. ``offset`` is the line's offset."""
    if (
        len(line) <= SANE_RECORD_BYTES or is_sane(line)
    ) and line.isascii():  # the usual case: one call decodes the line
        try:
            row = (decode_sane_exact if exact else decode_sane)(line)
            if type(row) is RowRecord and row.row == number and row.at.tzinfo is UTC:
                return row
        except DECODE_ERRORS:
            pass  # record_at raises the error
    record = record_at(file, offset, line, exact=exact)
    if not isinstance(record, (RowRecord, RowDataRecord)) or record.row != number:
        raise moved_error(file, offset, f"row {number}")
    return record


def read_status(
    file: JournalFile, read: Read, offset: int, number: int, *, exact: bool = True
) -> RowStatusRecord | None:
    """Read the status record of row ``number`` at ``offset``.

    Returns None for the offset 0, which means that the row has no status record.
    """
    if not offset:
        return None
    record = record_at(file, offset, read(offset), exact=exact)
    if not isinstance(record, RowStatusRecord) or record.row != number:
        raise moved_error(file, offset, f"a status of row {number}")
    return record


def waiting_status(
    file: JournalFile,
    read: Read,
    own: RowStatusRecord | None,
    calls: Mapping[int, OpenCall],
    call: int,
) -> RowStatusRecord | None:
    """Return the status of a waiting row, or the status of its call while the call waits."""
    if own is None or own.status == "pending":
        return own
    record = read_call(file, read, calls[call].waited)
    return RowStatusRecord(
        row=own.row,
        status="pending",
        reset="wait",
        due=record.due,
        after_s=record.after_s,
        since=record.since,
        reason=record.reason,
        by=record.by,
        at=record.at,
    )


def read_call(file: JournalFile, read: Read, offset: int) -> CallRecord:
    """Read the record of a call at ``offset``."""
    record = record_at(file, offset, read(offset))
    if not isinstance(record, CallRecord):
        raise moved_error(file, offset, "a call")
    return record


def moved_error(file: JournalFile, offset: int, expected: str) -> JournalDamagedError:
    """Return the error for a changed file, in which the record at ``offset`` isn't as expected."""
    return JournalDamagedError(
        file.path,
        file.count_lines(offset) + 1,
        offset,
        f"{expected}, which was there when the job was opened",
        CHANGED_IN_PLACE,
    )


if TYPE_CHECKING:
    _Base = Sequence[JobRow]
else:
    # At run time, RowSequence is no subclass of Sequence. From a Sequence, polars would make one
    # column of objects, and would ignore the Arrow stream.
    class _Base:
        __contains__, index, count = Sequence.__contains__, Sequence.index, Sequence.count


class RowSequence(_Base):
    """The rows of a job as they were when the sequence was made. Later changes don't affect them.

    ``len`` is fast. Each row is read and decoded on demand. The file stays open as long as the
    sequence is in use. Reading raises JournalDamagedError if the file was changed in place.
    """

    def __init__(self, journal: Journal, view: View, *, exact: bool | None = None) -> None:
        """The caller must hold the journal's mutex.

        ``exact``: as in :func:`decode_record`. With None, ``exact`` of the journal decides.
        """
        self.job_id, self.id_of_rows = journal.job_id, journal.id_of_rows
        self.file = journal.file
        self.view = view
        self._journal = journal
        # If a commit is open, the list gets one item at the end of the commit: whether the commit
        # was written.
        self._outcome: list[bool] | None = [] if journal.depth else None
        if self._outcome is not None:
            journal.at_end(self._outcome.append)
        self.exact = journal.exact if exact is None else exact
        self._calls = journal.index.calls.copy()

    def __len__(self) -> int:
        return self.view.count

    @overload
    def __getitem__(self, index: int) -> JobRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[JobRow]: ...
    def __getitem__(self, index: int | slice) -> JobRow | list[JobRow]:
        if isinstance(index, slice):
            return list(self._rows(range(*index.indices(len(self)))))
        index = operator.index(index)
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        read = self.reader()
        return _row_at(self, self.view.columns, self._calls, self.view.position(number), read, read)

    def __iter__(self) -> Iterator[JobRow]:
        return self._rows(range(len(self)))

    def __reversed__(self) -> Iterator[JobRow]:
        return self._rows(range(len(self) - 1, -1, -1))

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'row|rows')} of job {self.job_id!r}>"

    def _rows(self, numbers: range) -> Iterator[JobRow]:
        # In the file, rows are near other rows, and statuses are near other statuses. So rows are
        # read through one window of the file, and statuses through a second window.
        rows, statuses = self.reader(), self.reader()
        job_id, columns = self.id_of_rows, self.view.columns
        row_numbers, codes = columns.numbers, columns.statuses
        some_wait = bool(self._calls)
        all_count = columns.earlier is None and columns.given_back is None
        exact = self.exact
        decode = decode_sane_exact if exact else decode_sane
        row_offsets, status_offsets = columns.row_offsets, columns.status_offsets
        slices = (numbers[at : at + _SLICE_ROWS] for at in range(0, len(numbers), _SLICE_ROWS))
        for position in chain.from_iterable(map(self.view.positions, slices)):
            # The usual case is inlined for speed. _row_at handles all other cases.
            number = position + 1 if row_numbers is None else row_numbers[position]
            row, latest = None, None
            try:
                line = rows(row_offsets[position])
                short = len(line) <= SANE_RECORD_BYTES or is_sane(line)
                row = decode(line) if short else decode_record(line, exact=exact)
                if status_offset := status_offsets[position]:
                    line = statuses(status_offset)
                    short = len(line) <= SANE_RECORD_BYTES or is_sane(line)
                    latest = decode(line) if short else decode_record(line, exact=exact)
            except (*DECODE_ERRORS, UndecodableError, UnknownRecordError):
                row = None
            if (
                not (some_wait and codes[position] == WAITING)
                and isinstance(row, RowRecord)
                and row.row == number
                and row.at.tzinfo is UTC
                and (
                    latest is None
                    or (
                        isinstance(latest, RowStatusRecord)
                        and latest.row == number
                        and latest.at.tzinfo is UTC
                        and (latest.origin or latest.since or latest.due) is None
                    )
                )
            ):
                before = 0 if all_count else columns.earlier_attempts(position)
                yield row_from_records(job_id, row, latest, columns.attempts[position], before)
            else:
                yield _row_at(self, columns, self._calls, position, rows, statuses)

    def reader(self) -> Read:
        outcome = self._outcome
        if outcome is None:
            return window_reader(self.file)
        # The rows were read inside a batch. The batch's records aren't in the file before the batch
        # ends.
        window = window_reader(self.file)

        def read(offset: int) -> bytes:
            with self._journal.mutex:
                if outcome == [False]:
                    raise ServiceClosedError("these rows were discarded together with their batch")
                if not outcome:
                    return self._journal.read_line(offset)
            return window(offset)

        return read


def window_reader(file: JournalFile) -> Read:
    """Return a function that returns the line at an offset of the file, without its LF.

    The function keeps a window of the file in memory. So the function is fast for lines near each
    other.
    """
    start, data = 0, b""
    length = 1024  # grows while the window is used, so that reading one row is cheap

    def read(offset: int) -> bytes:
        nonlocal start, data, length
        begin = offset - start
        if begin >= 0:
            end = data.find(b"\n", begin)
            if end >= 0:
                return data[begin:end]
            if begin < len(data):
                length = min(length * 4, READ_AHEAD_BYTES)
        data = file.read_at(offset, length)
        start = offset
        end = data.find(b"\n")
        return data[:end] if end >= 0 else file.read_line(offset)

    return read
