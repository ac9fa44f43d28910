"""The index of one job: the job's state, the columns of its rows, counts and queries.

This module does no I/O.
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from operator import lt
from typing import Any

from journal.format.decode import WHOLE
from journal.format.records import (
    ROW_LEVEL,
    UNSET_TIME,
    CallRecord,
    JobRecord,
    RowDataRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.index.columns import (
    CODES,
    COMPLETED,
    FAILED,
    PENDING,
    PROCESSING,
    STATUSES,
    WAITING,
    Columns,
    Lease,
    View,
)
from journal.index.job_state import EFFECTS, EPOCH, US, Calls, Counts, JobState, microseconds
from journal.model import RowStatus, added_usage, millionths

# The result of :meth:`Index.mark`.
Mark = tuple[int, JobState | None, datetime, int, dict[str, int | float], int, int]


# The sums of an index. A hint has them under the same names.
SUMS = (
    *("last_at", "status_counts", "cost_millionths", "usage", "before_attempt"),
    *("highest_number", "ascending", "calls"),
)


class Index:
    """The index of one job: see the module.

    The index isn't thread-safe. Hold the journal's mutex.
    """

    def __init__(self, columns: Columns | None = None) -> None:
        self.state: JobState | None = None
        self.last_at = UNSET_TIME
        self.columns = Columns() if columns is None else columns
        self.status_counts = [0] * len(STATUSES)
        self.cost_millionths = 0  # in millionths of a cent, since sums of integers are exact
        self.usage: dict[str, int | float] = {}  # each change makes a new dict
        # Maps the position of each row in processing to the offset of the row's status record
        # before the attempt in progress. A row in its first attempt has no entry.
        self.before_attempt: dict[int, int] = {}
        self.calls = Calls()
        self.highest_number = 0
        self.ascending = True  # whether the row numbers ascend, in the order of the columns
        self._by_number: dict[int, int] | None = None
        self._lease: weakref.ref[Lease] | None = None
        # For each changed row: its position, and the earlier before_attempt and cells. None:
        # nothing is kept. Set it to None when a commit has ended.
        self.undo: list[tuple[Any, ...]] | None = None

    # --- queries

    @property
    def row_count(self) -> int:
        return len(self.columns.statuses)

    def position_of(self, number: int) -> int | None:
        """Return the position of row ``number`` in the columns, or None if there is no such row."""
        numbers = self.columns.numbers
        if numbers is None:
            return number - 1 if 0 < number <= len(self.columns.statuses) else None
        if self.ascending:
            position = bisect_left(numbers, number)
            found = position < len(numbers) and numbers[position] == number
            return position if found else None
        return self._positions_by_number(numbers).get(number)

    def _positions_by_number(self, numbers: Iterable[int]) -> dict[int, int]:
        if self._by_number is None:
            self._by_number = {number: position for position, number in enumerate(numbers)}
        return self._by_number

    def positions(self, code: int, first: int = 0) -> Iterator[int]:
        """Yield the positions of the rows with a status code, from position ``first`` on.

        Rows may change during the iteration.
        """
        position = self.columns.statuses.find(code, first)
        while position >= 0:
            yield position
            position = self.columns.statuses.find(code, position + 1)

    @property
    def pending_count(self) -> int:
        """The number of pending rows, including rows that wait."""
        return self.status_counts[PENDING] + self.status_counts[WAITING]

    def next_due(self) -> datetime | None:
        """When the first of the waiting rows is due. None if no row waits.

        This property looks at each waiting row: 100,000 rows take 20 ms.
        """
        due_us = min(map(self.columns.due_us, self.positions(WAITING)), default=None)
        return None if due_us is None else EPOCH + due_us * US

    def view(self, statuses: Collection[RowStatus] | None) -> View:
        """Return a view of the rows that have these statuses now. None stands for all rows."""
        codes = None
        if statuses is not None:
            codes = frozenset(code for code, status in enumerate(STATUSES) if status in statuses)
        count = self.row_count if codes is None else sum(self.status_counts[code] for code in codes)
        order = None
        if not self.ascending:
            order = sorted(range(self.row_count), key=self.columns.number)
        return View(self.columns, self._take_lease(), codes, count, order=order)

    def view_of_new(self, first: int) -> View:
        """Return a view of the rows from position ``first`` on, in the order of their addition."""
        return View(self.columns, self._take_lease(), None, self.row_count - first, first=first)

    def _take_lease(self) -> Lease:
        lease = (self._lease and self._lease()) or Lease()
        self._lease = weakref.ref(lease)
        return lease

    # --- changes

    def apply(self, records: Sequence[Any], offsets: Sequence[int]) -> int:
        """Apply successive records of one type, up to the first record that can't be applied.

        A record changes the index only here, both when it is appended and when it is read. The
        records may lack members that the index doesn't need. ``offsets``: where the records are in
        the file. These records can't be applied: a record about a row that doesn't exist, a new row
        with the number of another row, and a job record after the first job record. Returns how
        many records were applied.
        """
        if self._lease is not None:
            self.detach()
        record = records[0]
        kind = WHOLE.get(type(record), type(record))
        if kind is RowStatusRecord:
            return self._set_statuses(records, offsets)
        change = _CHANGES.get(kind)
        if change is None or self.state is None:
            return self._apply_others(kind, records, offsets)
        for done, record in enumerate(records):
            position = self.position_of(record.row)
            if position is None:
                return done
            self._keep((position,))
            change(self, position, record, offsets[done])
        return len(records)

    def _keep(self, positions: Iterable[int]) -> None:
        """Keep what is needed to undo a change of rows."""
        if self.undo is not None:
            before, cells = self.before_attempt.get, self.columns.cells
            self.undo += [(position, before(position), *cells(position)) for position in positions]

    def apply_one(self, record: Any, offset: int) -> int:
        """Apply one record, as :meth:`apply` does.

        The code for the usual change of a row is inline here, since each call makes a commit
        slower.
        """
        columns = self.columns
        if type(record) is not RowStatusRecord or record.reset:
            return self.apply((record,), (offset,))
        position: int | None = record.row - 1
        if columns.numbers is not None:
            position = self.position_of(record.row)
        if position is None or position >= len(columns.statuses):
            return self.apply((record,), (offset,))
        if self._lease is not None:
            self.detach()
            columns = self.columns
        code, known = CODES[record.status], None
        statuses, places, counts = columns.statuses, columns.status_offsets, self.status_counts
        old, before, attempts = statuses[position], places[position], columns.attempts[position]
        if self.before_attempt:
            known = self.before_attempt.get(position)
        if self.undo is not None:
            self.undo.append((position, known, old, before, attempts))
        counts[old] -= 1
        counts[code] += 1
        statuses[position] = code
        places[position] = offset
        if code == PROCESSING:  # the start of an attempt has no cost
            columns.attempts[position] = attempts + 1
            if old != PROCESSING and before:
                self.before_attempt[position] = before
            return 1
        if known is not None:
            del self.before_attempt[position]
        if record.cost_cents:
            self.cost_millionths += millionths(record.cost_cents)
        if record.usage:
            self.usage = added_usage(self.usage, record.usage)
        return 1

    def _apply_others(self, kind: type, records: Sequence[Any], offsets: Sequence[int]) -> int:
        if self.state is None or kind is JobRecord:
            if self.state is not None or kind is not JobRecord:
                return 0
            self.state = JobState(header=records[0])
            return 1
        if kind is RowRecord:
            return self._add_rows(records, offsets)
        if kind is RowStepRecord:
            return self._add_steps(records, offsets)
        if kind is CallRecord:
            return self._set_calls(records, offsets)
        if kind in EFFECTS:
            for record in records:
                self.state = EFFECTS[kind](self.state, record, self.row_counts())
        return len(records)

    def _set_statuses(self, records: Sequence[Any], offsets: Sequence[int]) -> int:
        columns, status_counts, codes = self.columns, self.status_counts, CODES
        statuses, status_offsets, attempts = (
            columns.statuses,
            columns.status_offsets,
            columns.attempts,
        )
        before_attempt = self.before_attempt
        positions = self._positions(records)
        self._keep(positions)
        whole_cents = 0
        for position, record, offset in zip(positions, records, offsets, strict=False):
            code, old = codes[record.status], statuses[position]
            status_counts[old] -= 1
            status_counts[code] += 1
            statuses[position] = code
            if code == PROCESSING:  # the start of an attempt has no cost
                attempts[position] += 1
                if old != PROCESSING and (before := status_offsets[position]):
                    before_attempt[position] = before
                status_offsets[position] = offset
                continue
            status_offsets[position] = offset
            if before_attempt:
                before_attempt.pop(position, None)
            cost_cents = record.cost_cents
            if cost_cents:
                if type(cost_cents) is int:  # most costs; the sum takes one multiplication
                    whole_cents += cost_cents
                else:
                    self.cost_millionths += millionths(cost_cents)
            if record.usage:
                self.usage = added_usage(self.usage, record.usage)
            if code != PENDING:
                continue
            if record.reset in ("given_back", "wait"):
                if old == PROCESSING:
                    columns.give_back_attempt(position)
                if record.due is not None and record.reset == "wait":
                    self.leave_call(position)
                    self._wait(position, record.due)
            elif record.reset:
                columns.reset_attempts(position)
                if record.reset == "redo":
                    columns.forget_steps(position)
                    self.leave_call(position)
        self.cost_millionths += millionths(whole_cents)
        return len(positions)

    def _wait(self, position: int, due: datetime) -> None:
        """Let a pending row wait."""
        self.status_counts[PENDING] -= 1
        self.status_counts[WAITING] += 1
        self.columns.statuses[position] = WAITING
        self.columns.wait(position, microseconds(due))

    def _add_steps(self, records: Sequence[Any], offsets: Sequence[int]) -> int:
        columns = self.columns
        for done, record in enumerate(records):
            positions: Sequence[int]
            if not record.rows and (position := self.position_of(record.row)) is not None:
                positions = (position,)
            elif rows := self.rows_in(record.rows):
                positions = rows
            else:
                return done
            if self.undo is not None:
                self._keep(positions)
            if record.rows:
                columns.add_step_of_rows(positions, offsets[done])
            else:
                columns.add_step(positions[0], offsets[done])
            for position in positions if record.state == "dropped" else ():
                self.leave_call(position)
        return len(records)

    def rows_in(self, ranges: Iterable[tuple[int, int]]) -> list[int] | None:
        """Return the positions of rows, from ranges of their numbers: see ``RowRanges``.

        Returns None if ``ranges`` is empty, or if a row doesn't exist or occurs twice.
        """
        assert self.state is not None
        distance, count = self.state.header.numbers[1], 0
        for first, last in ranges:
            more, rest = divmod(last - first, distance)
            count += more + 1
            if rest or more < 0 or count > self.row_count:
                return None
        numbers = chain.from_iterable(range(a, b + 1, distance) for a, b in ranges)
        found = [at for number in numbers if (at := self.position_of(number)) is not None]
        return found if count and len(set(found)) == count else None

    def leave_call(self, position: int) -> None:
        """Take a row out of its call.

        If the row was waiting in the call, the row is in processing again.
        """
        self.calls.leave(position, self.columns, self.status_counts)

    def _set_calls(self, records: Sequence[Any], offsets: Sequence[int]) -> int:
        for done, (record, offset) in enumerate(zip(records, offsets, strict=True)):
            number, calls = int(record.id, 16), self.calls
            rows = self.rows_in(record.rows)
            if rows is None and (record.rows or number not in calls):
                return done
            if self.undo is not None:
                known = calls.rows(number, self.columns) if number in calls else []
                self._keep(chain(*known, rows or ()))
                self.undo.append((-1, number, calls.get(number)))
            if rows is not None:
                calls.begin(number, offset, rows, self.columns, self.status_counts)
            calls.set_state(number, record, offset, self.columns, self.status_counts)
        return len(records)

    def _positions(self, records: Sequence[Any]) -> list[int]:
        """Return the positions of the rows of records. Stop at the first unknown row."""
        known = self.columns.numbers
        if known is None:
            positions = [record.row - 1 for record in records]
            if max(positions) < self.row_count:
                return positions
        numbers = [record.row for record in records]
        if known is not None and self.ascending and max(numbers) <= self.highest_number:
            # For each row, this search takes less time than a call of position_of().
            positions = [bisect_left(known, number) for number in numbers]
            if [known[position] for position in positions] == numbers:
                return positions
        positions = []
        for position in map(self.position_of, numbers):
            if position is None:
                break
            positions.append(position)
        return positions

    def _add_rows(self, records: Sequence[Any], offsets: Sequence[int]) -> int:
        first, count = self.row_count + 1, len(records)
        numbers = [record.row for record in records]
        if self.columns.numbers is None and numbers == list(range(first, first + count)):
            self.columns.add_next(array("Q", offsets))
            self.status_counts[PENDING] += count
            self.highest_number += count
            return count
        for done, (number, offset) in enumerate(zip(numbers, offsets, strict=True)):
            if number <= self.highest_number and self.position_of(number) is not None:
                return done
            self.add_row(number, offset)
        return count

    def add_row(self, number: int, offset: int) -> None:
        """Add a pending row. The number must not be in use: check with :meth:`position_of`."""
        if self._lease is not None:
            self.detach()
        columns = self.columns
        statuses = columns.statuses
        statuses.append(PENDING)  # first: so rollback() notices an addition that was interrupted
        if columns.numbers is None and number == len(statuses):  # the usual case
            self.highest_number = number
        else:
            self._add_number(number)
        columns.row_offsets.append(offset)
        columns.status_offsets.append(0)
        columns.attempts.append(0)
        if columns.has_more:
            columns.append_zeros()
        self.status_counts[PENDING] += 1

    def _add_number(self, number: int) -> None:
        columns = self.columns
        if columns.numbers is None:
            columns.numbers = array("Q", range(1, len(columns.statuses)))
        if number <= self.highest_number:
            self.ascending = False
        if not self.ascending:
            self._positions_by_number(columns.numbers)[number] = len(columns.numbers)
        columns.numbers.append(number)
        self.highest_number = max(self.highest_number, number)

    def row_counts(self) -> Counts:
        """Return the counts of the rows in the index."""
        successful, failed = self.status_counts[COMPLETED], self.status_counts[FAILED]
        return Counts(self.row_count, successful + failed, successful, failed)

    def detach(self) -> None:
        """Copy the columns if a view still uses them. Call this before a change."""
        if self._lease is not None:
            if self._lease() is not None:
                self.columns = self.columns.copy()
            self._lease = None

    # --- undo

    def mark(self) -> Mark:
        """Return a mark of the current state for :meth:`rollback`.

        From the first mark on, until ``undo`` is None, the index keeps the data to undo changes.
        For a changed row, this is the row's cells in the columns. For everything else, the sums in
        the mark are enough.
        """
        undo, columns = self.undo, self.columns
        if undo is None:
            undo = self.undo = []
        return (
            len(undo),
            self.state,
            self.last_at,
            self.cost_millionths,
            self.usage,
            len(columns.statuses),
            0 if columns.step_offsets is None else len(columns.step_offsets),
        )

    def rollback(self, mark: Mark) -> None:
        """Undo all changes since ``mark``, even a change that an exception has interrupted."""
        length, self.state, self.last_at, self.cost_millionths, self.usage, count, steps = mark
        undo = self.undo or []
        if len(undo) == length and self.row_count == count:
            return
        self.detach()
        columns = self.columns
        self.calls.forget_rows()
        while len(undo) > length:
            position, before, *cells = undo[-1]
            if position < 0:
                self.calls.restore(before, *cells)
                del undo[-1]
                continue
            columns.restore(position, cells)
            self.before_attempt.pop(position, None)
            if before is not None:
                self.before_attempt[position] = before
            del undo[-1]
        has_fewer_rows = self.row_count > count
        columns.cut(count, steps)
        if has_fewer_rows:
            self._count_numbers()
        self.status_counts[:] = map(columns.statuses.count, range(len(STATUSES)))

    def _count_numbers(self) -> None:
        numbers, count = self.columns.numbers, self.row_count
        self._by_number = None
        self.highest_number = count if numbers is None else max(numbers, default=0)
        if numbers is not None:
            self.ascending = all(map(lt, numbers, numbers[1:]))
            if self.ascending and self.highest_number == count:  # row numbers are 1, 2, 3, ...
                self.columns.numbers = None


# --- what a record about a row changes, by type. Other types change nothing ----------------------


def _set_data(index: Index, position: int, _: Any, offset: int) -> None:
    index.columns.row_offsets[position] = offset
    index.leave_call(position)


def _add_cost(index: Index, _: int, record: Any, _offset: int) -> None:
    index.cost_millionths += millionths(record.cost_cents or 0)
    index.usage = added_usage(index.usage, record.usage or {})


def _only_check(_: Index, _position: int, _record: Any, _offset: int) -> None:
    """Do nothing: the record's row exists."""


_CHANGES = dict.fromkeys(ROW_LEVEL - {RowRecord, RowStatusRecord, RowStepRecord}, _only_check) | {
    RowDataRecord: _set_data,
    RowSpentRecord: _add_cost,
}
