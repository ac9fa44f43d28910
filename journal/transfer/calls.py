"""Imports calls with many rows, and their steps, in a merge: one record for all rows that take it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from journal.format.records import CallRecord, Origin, ranges_of, writable
from journal.store.journal import Journal
from journal.transfer.three_way import CALL, STEP, Change, Row, Side


class CallImports:
    """Collects the rows that take a record about several rows. :meth:`write` appends the records."""

    def __init__(self, journal: Journal, here: Side, there: Side) -> None:
        self._journal, self._here, self._there = journal, here, there
        # By the offset of the record there and the id that it gets: a dict from the numbers there
        # to the numbers here.
        self._rows: dict[tuple[int, str], dict[int, int]] = {}

    def add(self, row: Row, change: Change, id_: str, later: Sequence[Change]) -> bool:
        """Let a row take a change there. Returns False if the row needs a record of its own.

        A row does if a later change forgets the step, since these records are written last.
        ``id_``: the id that the record gets here. ``later``: the later changes of the row.
        """
        forgets = any(other.reset == "redo" or other.state == "dropped" for other in later)
        if not change.is_of_rows or (change.what == STEP and forgets):
            return False
        self._rows.setdefault((change.offset, id_), {})[row.theirs] = row.number
        return True

    def write(self) -> None:
        """Append the records."""
        there, journal = self._there, self._journal
        distance = there.copy.header.numbers[1]
        for (offset, id_), rows in sorted(self._rows.items()):
            record = there.read(Change(id_, offset, STEP, ""))
            at = journal.now()
            record.origin = Origin(id=id_, at=(record.origin or record).at)
            if isinstance(record, CallRecord):
                self._set_call(record, rows)
            else:
                record.row, record.rows = 0, ranges_of(sorted(rows.values()), distance)
            record.at = at
            journal.append(record)

    def _set_call(self, record: CallRecord, rows: dict[int, int]) -> None:
        """Make a record of a call there one of the call here, to which ``rows`` come."""
        there, call = self._there, int(record.id, 16)
        began = there.read(Change("", there.index.calls[call].first, CALL, ""))
        order = there.numbers(there.index.rows_in(began.rows) or ())
        numbers = [rows[number] for number in order if number in rows]
        here = self._here.in_call(call)
        record.rows = ()
        if not set(numbers) <= set(here):
            record.rows = ranges_of(dict.fromkeys((*here, *numbers)), there.copy.header.numbers[1])
        if record.due is not None:  # the clock there may be ahead
            wait = timedelta(seconds=record.after_s or 0)
            record.due = writable(min(record.due, self._journal.now() + wait))
