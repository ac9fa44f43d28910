"""Adds, starts or completes many rows in one commit.

The records and rules are the same as in ``transitions.py``. For many rows, these functions are
faster than those there, because they do less for each row and read rows through a window of the
file.

Call each function in a separate ``with journal:`` block, like the functions of ``transitions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from journal.errors import InvalidValueError
from journal.format.arguments import new_row, row_items
from journal.format.keys import numbered_key
from journal.format.records import (
    By,
    RowStatusRecord,
    encode_row,
    row_end,
)
from journal.format.values import encode_sorted, load_sha256, plain_json
from journal.fs import system
from journal.ids import MAX_ROW_NUMBER
from journal.index.columns import PENDING, PROCESSING, WAITING, View
from journal.model import JobRow
from journal.store.journal import Journal
from journal.store.row_reader import position_of, read_row, row_from_records, version_of_attempt
from journal.store.transitions import let_start, state_of

# Called with the position and the data of a row. If the row is no longer pending, the data is None.
Admits = Callable[[int, dict[str, Any] | None], bool]


def start_rows(
    journal: Journal, numbers: Iterator[int], count: int, by: By, admits: Admits | None = None
) -> list[JobRow]:
    """Start up to ``count`` pending rows, and return them.

    ``numbers`` yields the row numbers to consider. Rows that aren't pending are skipped. ``admits``
    decides whether a row may start. A number is read from ``numbers`` only after ``admits`` has
    decided about the previous row. Raises RowNotFoundError, and InvalidStateTransition if the job
    has ended.
    """
    let_start(journal, "its rows can't be started", reopens=False)
    index, log, exact = journal.index, journal.log, journal.exact
    index.detach()
    file, end = log.file, log.end.offset
    state = state_of(journal)
    record = RowStatusRecord(row=0, status="processing", version=state.version, at=journal.now())
    by.sign(record)
    started: list[JobRow] = []
    while len(started) < count and (number := next(numbers, 0)):
        position = position_of(journal, number)
        columns = index.columns  # new columns if the caller's code has read rows meanwhile
        # Skip a row that another process has settled, or whose call is resumed as a whole.
        is_open = columns.statuses[position] in (PENDING, WAITING)
        if not is_open or (columns.calls and columns.calls[position] in index.calls):
            if admits is not None:
                admits(position, None)
            continue
        offset = columns.row_offsets[position]
        # A record after the journal's end is in the open commit.
        line = log.row_line(offset) if offset < end else journal.read_line(offset)
        row = read_row(file, line, offset, number, exact=exact)
        if admits is not None and not admits(position, row.data):
            continue
        record.row = number
        if record.at < index.last_at:  # the caller's code has changed this job
            record.at = journal.now()
        journal.append(record)
        columns = index.columns
        attempts, before = columns.attempts[position], columns.earlier_attempts(position)
        started.append(row_from_records(journal.id_of_rows, row, record, attempts, before))
    return started


def complete_rows(journal: Journal, records: Iterable[RowStatusRecord]) -> list[bool]:
    """Complete the rows of ``records`` that are in processing. Returns a flag for each record.

    The flag is True if the row was completed. The flag False means that the row wasn't changed, for
    example because the row isn't in processing. For each such row, call ``change_row``, which
    completes the row or raises the reason as an error. ``complete_rows`` sets ``at`` and
    ``version`` of the records.
    """
    index = journal.index
    index.detach()
    columns, at = index.columns, journal.now()
    state = state_of(journal)
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
                journal.append(record)
            except InvalidValueError:  # the record is too long
                is_plain = False
        done.append(is_plain)
    return done


def add_rows(journal: Journal, row_data: Any) -> View:
    """Append pending rows in the given order, and return a view of the new rows.

    If anything fails, no row is added. Raises InvalidStateTransition if the job has ended. Also
    raises InvalidValueError, and the errors of the iterable ``row_data``.
    """
    let_start(journal, "it takes no more rows", reopens=False)
    index, header = journal.index, state_of(journal).header
    has_keys = header.key is not None or header.idempotency_key is not None
    first, (lowest, distance) = index.row_count, header.numbers
    before = lowest - distance
    nonce = system.nonce()[:8] if journal.log.end.offset else None
    at, end, end_with_key = index.last_at, b"", b""
    sha256, depth = load_sha256(), journal.depth
    for place, item in enumerate(row_items(row_data), 1):
        if journal.depth > depth:  # a failure of the iterable's open batch would undo the row
            raise InvalidValueError(
                "row_data",
                f"element {place}",
                "was yielded inside a batch that the iterable has opened: yield it after the batch",
            )
        # The iterable's own code may have added rows, too.
        number = (index.highest_number or before) + distance
        given = item.get("data") if type(item) is dict and len(item) == 1 else None
        data = plain_json(given) if type(given) is dict and not has_keys else None
        is_plain = data is not None and number <= MAX_ROW_NUMBER
        if data is not None and is_plain:  # does the same as new_row(), in less time
            checksum, key, seen = sha256(encode_sorted(given)).hexdigest(), None, None
        else:
            number, checksum, data, key, seen = new_row(place, item, number, header, nonce)
            if (number - lowest) % distance:
                reason = f"the numbers of this shard are {lowest}, {lowest + distance}, and so on"
                raise InvalidValueError(f"row {number}", number, reason)
        if index.last_at is not at or not end:  # the iterable's own code has changed this job
            at = journal.now()
            end = row_end(at)
            if nonce is not None:
                keys = numbered_key(header.id, "%d", nonce)
                end_with_key = b',"key":"%b"%b' % (keys.encode(), end)
        if number <= index.highest_number and index.position_of(number) is not None:
            raise InvalidValueError(
                f"row {number}",
                number,
                "this row number is in use: each must be unique within the job",
            )
        ending = end_with_key % number if is_plain and nonce is not None else end
        line = encode_row(number, checksum, data, ending, key, seen)
        index.add_row(number, journal.append_line(line, at, number))
    return index.view_of_new(first)
