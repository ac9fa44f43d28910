"""Which parts of a journal may mention a row. A row's history is read without the other parts.

A **span** is a part of the journal of about 1 MiB. It begins where the span before it ends. It ends
after a whole line, which may be inside a large commit. For each span, the index keeps the lowest
and the highest number of the rows that the span's records are about. Most jobs create and process
their rows in order, so only a few spans may mention a given row.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from journal.format.commits import PART_BYTES, Position
from journal.format.records import LogRecord
from journal.ids import MAX_ROW_NUMBER
from journal.index.columns import Columns

SPAN_BYTES = PART_BYTES  # so a span may end after each part of a large commit
_FIELDS = 4  # of a span in ``Spans.ended``
_MAX = (1 << 64) - 1


class Span(NamedTuple):
    """A part of the journal up to ``end``. It mentions no row below ``low`` or above ``high``."""

    end: Position
    low: int
    high: int


class Spans:
    """The ended spans of a journal, and the current span, which hasn't ended.

    - ``ended``: the four numbers of each ended span, in order: the offset (bytes) and the crc at
      its end, and the lowest and the highest row number.
    - ``end``: the offset (bytes) at which the last ended span ends.
    - ``low``, ``high``: the lowest and the highest row number in the current span. Records that
      add a row don't count. If a change was undone, ``low`` may be too low and ``high`` too high.
    """

    __slots__ = ("_rows", "end", "ended", "high", "low")

    def __init__(self, ended: array[int] | None = None, rows: int = 0) -> None:
        """Use the ended spans of a hint.

        ``rows``: how many rows were added before the end of the last of these spans.
        """
        self.ended = array("Q") if ended is None else ended
        self.end: int = self.ended[-_FIELDS] if self.ended else 0
        self.low, self.high = _MAX, 0
        self._rows = rows

    def add(self, low: int, high: int) -> None:
        """Record that the current span mentions rows from ``low`` to ``high``."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    def add_log(self, record: LogRecord) -> None:
        """Record the row that a log record is about."""
        row: Any = record.row
        if type(row) is int and 0 < row <= MAX_ROW_NUMBER:  # as in log_entry()
            self.add(row, row)

    def add_all_rows(self) -> None:
        """Record that the current span has the start of a run, which is about all of its rows."""
        self.add(0, _MAX)

    def end_at(self, position: Position, columns: Columns) -> None:
        """End the current span at ``position``, after the last record that ``columns`` include.

        If nothing was written since the last span ended, do nothing.
        """
        if position.offset == self.end:
            return
        rows = len(columns.statuses)
        if self._rows < rows:
            added = columns.numbers
            if added is None:
                self.add(self._rows + 1, rows)
            else:
                self.add(min(added[self._rows :]), max(added[self._rows :]))
        # In this order, so that an interrupt leaves spans that may mention too many rows.
        self.ended.extend((*position, self.low, self.high))
        self.end, self._rows = position.offset, rows
        self.low, self.high = _MAX, 0

    def cut(self, offset: int, columns: Columns) -> None:
        """Forget the end of each span that ends after ``offset``.

        The caller cuts the journal back to ``offset``.
        """
        # An interrupt of end_at() may have left ``end`` older than ``ended``.
        while self.ended and self.ended[-_FIELDS] > offset:
            self.add(*self.ended[-2:])
            del self.ended[-_FIELDS:]
        self.end = self.ended[-_FIELDS] if self.ended else 0
        self._rows = min(self._rows, len(columns.statuses))

    def until(self, offset: int) -> Iterator[Span]:
        """Yield the spans that end at or before ``offset``, the end of a commit.

        Other threads may add spans meanwhile, and forget those of a commit that they undo.
        """
        for place in itertools.count(0, _FIELDS):
            found = self.ended[place : place + _FIELDS]
            if not found or found[0] > offset:
                return
            yield Span(Position(*found[:2]), *found[2:])


def are_valid(ended: array[int], end: int) -> bool:
    """Return whether the numbers of a hint can be spans of a journal up to the offset ``end``."""
    ends = ended[::_FIELDS]
    return (
        len(ended) % _FIELDS == 0
        and all(before < after for before, after in pairwise((0, *ends)))
        and ends[-1:] == array("Q", [end])
        and all(crc < 1 << 32 for crc in ended[1::_FIELDS])
    )
