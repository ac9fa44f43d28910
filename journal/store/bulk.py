"""Adds, starts or completes many rows in one commit.

The records and rules are the same as in ``transitions.py``, but for many rows these functions are
faster: they read rows through a window of the file, and add rows in blocks. All records have the
same time.

Call each function in a separate ``with journal:`` block, like those of ``transitions.py``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from itertools import accumulate
from typing import Any

from journal.errors import InvalidValueError
from journal.format.arguments import NewRow, check_new_rows, plain_rows, row_items
from journal.format.decode import decode_sane, decode_sane_exact
from journal.format.records import (
    SANE_BYTES,
    RowRecord,
    RowStatusRecord,
    encode_row,
    row_end,
)
from journal.format.values import DECODE_ERRORS
from journal.fs import system
from journal.ids import MAX_ROW_NUMBER
from journal.index.columns import View
from journal.index.index import PENDING, PROCESSING
from journal.model import JobRow
from journal.store.journal import Journal
from journal.store.rows import position_of, read_row, row_from_records, window_reader
from journal.store.transitions import let_add, let_start, put_row_status, version_of_attempt

_MAX_BLOCK_ROWS = 64  # larger blocks aren't faster, and take more memory
_BLOCK_BYTES = 1 << 16

# Called with the position and the data of a row. If the row is no longer pending, the data is None.
Admits = Callable[[int, dict[str, Any] | None], bool]


def start_rows(
    journal: Journal, numbers: Iterator[int], count: int, admits: Admits | None = None
) -> list[JobRow]:
    """Start up to ``count`` pending rows, and return them.

    ``numbers`` yields the row numbers to consider. Rows that aren't pending are skipped. ``admits``
    decides whether a row may start. A number is read from ``numbers`` only after ``admits`` has
    decided about the previous row. Raises InvalidStateTransition if the job has ended, and
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
        columns = index.columns  # new columns if the caller's code has read rows meanwhile
        if columns.statuses[position] != PENDING:  # another process has settled the row
            if admits is not None:
                admits(position, None)
            continue
        offset = columns.row_offsets[position]
        # A record after the journal's end is in the open commit.
        line = window(offset) if offset < journal.end else journal.read_line(offset)
        try:  # the usual case; read_row handles all other cases, and errors
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
    """Complete the rows of ``records`` that are in processing. Returns a flag for each record.

    The flag is True if the row was completed. A row with any other status isn't changed. For such a
    row, call ``change_row``, which raises the error. This function sets ``at`` and ``version`` of
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
            except InvalidValueError:  # the record is too long
                is_plain = False
        done.append(is_plain)
    return done


def add_rows(journal: Journal, row_data: Any) -> View:
    """Append pending rows in the given order, and return a view of the new rows.

    If anything fails, no row is added. Raises InvalidValueError, InvalidStateTransition if the job
    has ended, and the errors of the iterable.
    """
    let_add(journal)
    items = row_items(row_data)
    first = journal.index.row_count
    journal.index.begin_rows()
    block = _Block(journal)
    # The iterable's own code may read or change the job. It must find the rows that it has yielded.
    outer, journal.append_held = journal.append_held, block.append_early
    try:
        block.fill(items)
    finally:
        journal.append_held = outer
    return journal.index.view_of_new(first)


class _Block:
    """Rows that the iterable has yielded, and that aren't yet appended to the commit."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._depth = journal.depth
        self._refused: InvalidValueError | None = None
        self._items: list[Any] = []
        self._place = 1  # the place of the block's first item in the iterable
        self._max_rows = 1
        header = journal.index.keyed
        self._keys = [] if header is None else [header.key, header.idempotency_key]
        self._nonce = system.nonce()[:8] if journal.end else None
        self._at = journal.index.last_at
        self._end = self._end_after_key = b""

    def fill(self, items: Iterable[Any]) -> None:
        """Add the rows of an iterable."""
        held = self._items
        for item in items:
            held.append(item)
            if len(held) >= self._max_rows:
                self.append()
        self.append()

    def append(self) -> None:
        """Append the rows to the commit, and add them to the index."""
        if self._refused is not None:
            raise self._refused
        items, place = self._items[:], self._place
        if not items:
            return
        self._items.clear()
        self._place += len(items)
        index = self._journal.index
        if not self._end or index.last_at is not self._at:  # the iterable has changed the job
            self._at = self._journal.now()
            self._end = row_end(self._at, nonce=self._nonce)
            self._end_after_key = row_end(self._at)
        first = index.highest_number + 1
        rows: Iterable[NewRow] | None = None
        if first + len(items) <= MAX_ROW_NUMBER:
            rows = plain_rows(items, first)
        if rows is None:
            keys = [key for key in self._keys if key]
            rows = check_new_rows(items, first, place, keys)
        self._append(rows, index.highest_number)

    def append_early(self) -> None:
        """Append the rows, because the iterable's own code is about to read or change the job."""
        if self._journal.depth < self._depth:  # a signal handler has raised as the block ended
            self._journal.append_held = None
            return
        try:
            self.append()
        except InvalidValueError as error:
            self._refused = error
        except BaseException:
            # The iterable may catch the exception and continue. Then these rows would be missing.
            self._journal.discard("an exception interrupted the adding of rows")
            raise

    def _append(self, rows: Iterable[NewRow], highest: int) -> None:
        numbers: list[int] = []
        lines: list[bytes] = []
        end = self._end
        for number, checksum, data, key in rows:
            if number > highest:
                highest = number
            else:
                self._append_lines(numbers, lines)
                numbers, lines = [], []
                if self._journal.index.position_of(number) is not None:
                    raise InvalidValueError(
                        f"row {number}",
                        number,
                        "this row number is in use: each must be unique within the job",
                    )
            line = encode_row(
                number, checksum, data, end if key is None else self._end_after_key, key
            )
            numbers.append(number)
            lines.append(line)
        self._append_lines(numbers, lines)

    def _append_lines(self, numbers: Sequence[int], lines: list[bytes]) -> None:
        """Append encoded rows. Their numbers must ascend."""
        if not lines:
            return
        index, count = self._journal.index, len(lines)
        offset = self._journal.append_lines(lines, self._at, numbers)
        offsets = array("Q", accumulate(map(len, lines), initial=offset))
        size = offsets.pop() - offset
        self._max_rows = min(_MAX_BLOCK_ROWS, _BLOCK_BYTES * count // size + 1)
        next_number = index.row_count + 1
        is_next = (numbers[0], numbers[-1]) == (next_number, next_number + count - 1)
        if index.columns.numbers is None and is_next:
            index.add_next_rows(offsets)
        else:
            for number, offset in zip(numbers, offsets, strict=True):
                index.add_row(number, offset)
