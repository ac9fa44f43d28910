"""Starts and completions of many rows in one commit.

The records and rules are those of ``transitions.change_row``. For many rows, these functions are
faster: rows are read through a window of the file, and all records have the same time.

Call each function in a separate ``with journal:`` block, as for ``transitions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC
from typing import Any

from journal.errors import InvalidValueError
from journal.format.decode import decode_sane, decode_sane_exact
from journal.format.records import SANE_BYTES, RowRecord, RowStatusRecord
from journal.format.values import DECODE_ERRORS
from journal.index.index import PENDING, PROCESSING
from journal.model import JobRow
from journal.store.journal import Journal
from journal.store.rows import position_of, read_row, row_from_records, window_reader
from journal.store.transitions import let_start, put_row_status, version_of_attempt

# Called with the position and the data of a row; None if the row isn't pending any more.
Admits = Callable[[int, dict[str, Any] | None], bool]


def start_rows(
    journal: Journal, numbers: Iterator[int], count: int, admits: Admits | None = None
) -> list[JobRow]:
    """Start up to ``count`` of the rows that are pending, and return them.

    ``admits`` decides whether a row may start. The next number is read after ``admits`` has decided
    about the rows before it. Raises InvalidStateTransition if the job has ended, and
    RowNotFoundError.
    """
    let_start(journal, "its rows can't be started", reopens=False)
    index, file, exact = journal.index, journal.file, journal.exact
    index.detach()
    window, decode = window_reader(file), decode_sane_exact if exact else decode_sane
    state = index.state
    assert state is not None
    record = RowStatusRecord(row=0, status="processing", version=state.version, at=journal.now())
    started: list[JobRow] = []
    while len(started) < count and (number := next(numbers, 0)):
        position = position_of(journal, number)
        columns = index.columns  # others, if the caller's code has read rows meanwhile
        if columns.statuses[position] != PENDING:  # another process has settled it
            if admits is not None:
                admits(position, None)
            continue
        offset = columns.row_offsets[position]
        # A record after the journal's end is in the open commit.
        line = window(offset) if offset < journal.end else journal.read_line(offset)
        try:  # the usual case; read_row deals with all others, and with errors
            row = decode(line) if len(line) <= SANE_BYTES and line.isascii() else None
        except DECODE_ERRORS:
            row = None
        if type(row) is not RowRecord or row.row != number or row.at.tzinfo is not UTC:
            row = read_row(file, line, offset, number, exact=exact)
        if admits is not None and not admits(position, row.data):
            continue
        record.row = number
        attempts = put_row_status(journal, position, record)
        before = columns.earlier_attempts(position)
        started.append(row_from_records(journal.job_id, row, record, attempts, before, index.keyed))
    return started


def complete_rows(journal: Journal, records: Iterable[RowStatusRecord]) -> list[bool]:
    """Complete those rows of the records that are in processing. Returns a flag for each row.

    The flag is True if the row was completed. If a row isn't in the usual state, it isn't changed.
    Then call ``change_row``, which raises the error. This function sets ``at`` and ``version`` of
    the records.
    """
    index = journal.index
    index.detach()
    columns, at = index.columns, journal.now()
    state = index.state
    assert state is not None
    done = []
    for record in records:
        position = index.position_of(record.row)
        is_plain = (
            position is not None
            and columns.statuses[position] == PROCESSING
            and (columns.step_heads is None or not columns.step_heads[position])
            and (not record.usage or record.usage.keys() <= index.usage.keys())
        )
        if is_plain:
            assert position is not None
            if state.has_versions:
                record.version = version_of_attempt(journal, position)
            record.at = at
            try:
                put_row_status(journal, position, record)
            except InvalidValueError:  # its record is too long
                is_plain = False
        done.append(is_plain)
    return done
