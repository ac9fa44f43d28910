"""The calls with many rows of an index, and the statuses of their rows.

While a call waits, those of its rows that are in processing have the code of rows that wait. So a
record of a call changes the rows in slices: a call of 10,000 rows may wait and be resumed thousands
of times.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any

import msgspec

from journal.index.columns import PROCESSING, WAITING, Columns

EPOCH, US = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return a time in µs since 1970, at least 0."""
    return max(0, (at - EPOCH) // US)


class OpenCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that hasn't ended: the offsets of some of its records.

    - ``first``: of the record that has its rows.
    - ``turn``: of the last record that has started it.
    - ``waited``: of the last record by which it waits. 0: none since its rows were started anew.
    """

    first: int
    turn: int
    waited: int

    @property
    def waits(self) -> bool:
        return self.waited > self.turn


class Calls(dict[int, OpenCall]):
    """The calls that haven't ended, by their ids as numbers."""

    def __init__(self, known: Iterable[tuple[int, OpenCall]] = ()) -> None:
        super().__init__(known)
        self._rows: dict[int, list[range]] = {}  # of some of them

    def rows(self, call: int, columns: Columns) -> list[range]:
        """Return the positions of the rows that are in a call."""
        if call not in self._rows:
            self._rows, start = {call: []}, 0
            for found, rows in groupby(columns.calls or ()):
                stop = start + len(list(rows))
                if found in self:
                    self._rows.setdefault(found, []).append(range(start, stop))
                start = stop
        return self._rows[call]

    def forget_rows(self) -> None:
        """The column of calls has changed."""
        self._rows = {}

    def leave(self, position: int, columns: Columns, counts: list[int]) -> None:
        """Take a row out of its call. If it was waiting in the call, it is in processing again."""
        if call := columns.call(position):
            if columns.statuses[position] == WAITING:
                columns.statuses[position] = PROCESSING
                counts[WAITING] -= 1
                counts[PROCESSING] += 1
            columns.set_call(position, 0)
            self._rows.pop(call, None)

    def begin(
        self, call: int, offset: int, rows: list[int], columns: Columns, counts: list[int]
    ) -> None:
        """Begin a call with exactly these rows, which the record at ``offset`` has.

        A row that waits by itself stays out of the call, since a call would end its wait. No writer
        begins a call with such a row.
        """
        for position in chain(rows, *(self.rows(call, columns) if call in self else ())):
            self.leave(position, columns, counts)
        spans = list[range]()
        for position in rows:
            if columns.statuses[position] == WAITING:
                continue
            columns.set_call(position, call)
            if spans and spans[-1].stop == position:
                spans[-1] = range(spans[-1].start, position + 1)
            else:
                spans.append(range(position, position + 1))
        self[call], self._rows[call] = OpenCall(offset, 0, 0), spans

    def set_state(
        self, call: int, record: Any, offset: int, columns: Columns, counts: list[int]
    ) -> None:
        """Let a call wait, resume it, or end it, as the record at ``offset`` says."""
        known, waits, moved = self[call], record.state == "waiting", 0
        if record.state == "ended":
            for position in chain(*self.rows(call, columns)):
                self.leave(position, columns, counts)
            del self[call]
            return
        if waits and columns.due is None:
            columns.wait(0, 0)
        statuses, due = columns.statuses, columns.due
        old, new = (PROCESSING, WAITING) if waits else (WAITING, PROCESSING)
        for rows in self.rows(call, columns):
            part = statuses[rows.start : rows.stop]
            moved += (count := part.count(old))
            statuses[rows.start : rows.stop] = part.replace(bytes((old,)), bytes((new,)))
            counts[old] -= count
            counts[new] += count
            if waits and due is not None:
                at_us = 0 if record.due is None else microseconds(record.due)
                due[rows.start : rows.stop] = array("Q", (at_us,)) * len(rows)
        if waits:
            self[call] = OpenCall(known.first, known.turn, offset)
        else:
            self[call] = OpenCall(known.first, offset, known.waited if moved else 0)

    def restore(self, call: int, known: OpenCall | None) -> None:
        """Undo a change of a call, which was ``known`` before, or None if it hadn't begun.

        The rows must be restored, too.
        """
        self.pop(call, None)
        if known is not None:
            self[call] = known
