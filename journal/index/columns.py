"""The rows of an index as columns, and read-only views that later changes don't affect.

A row takes about 21 bytes: its status, the offset of its ``row`` record, the offset of its latest
``row_status`` record, and its number of attempts. The columns correspond to the key directory of
Bitcask. The data of the rows stays in the journal.

A new view shares the columns of the index and copies nothing. The view references the **lease** of
the columns: an object that stands for the right to read them. Before a change, the index checks
whether a view still references the lease. If so, the index first copies the columns.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import Any

from journal.model import RowStatus

# The index has a separate code for pending rows that wait for a time (see :class:`Wait`). So a
# search for rows that may start doesn't look at waiting rows, and a search for waiting rows looks
# only at them.
STATUSES: tuple[RowStatus, ...] = (*RowStatus, RowStatus.PENDING)
CODES: dict[str, int] = {status.value: code for code, status in enumerate(RowStatus)}
PENDING, PROCESSING, COMPLETED, FAILED, SKIPPED, NEEDS_REVIEW, WAITING = range(len(STATUSES))
# The columns with one entry for each row, except ``statuses``, and the types of their integers. The
# hint has the columns in this order, after ``statuses``.
OF_ROWS = {
    "status_offsets": "Q",
    "attempts": "I",
    "row_offsets": "Q",
    "earlier": "I",
    "given_back": "I",
    "step_heads": "I",
    "due": "Q",
    "calls": "Q",
    "numbers": "Q",
}
# The columns with an entry for each ``row_step`` record, in the order of these records.
OF_STEPS = {"step_offsets": "Q", "step_previous": "I"}
# A column of these is None until it is needed.
OPTIONAL = frozenset(("numbers", "earlier", "given_back", "step_heads", "due", "calls", *OF_STEPS))
_cells_of = attrgetter("statuses", *[name for name in OF_ROWS if name != "numbers"])


class Columns:
    """The columns of an index. Rows are in the order in which they were added."""

    # ``stored`` has the columns of a hint that weren't read yet.
    __slots__ = ("__weakref__", "stored", "has_more", "statuses", *OF_ROWS, *OF_STEPS)
    stored: Any

    def __init__(self) -> None:
        self.has_more = False  # whether a column of OPTIONAL was needed
        self.statuses = bytearray()
        self.row_offsets = array("Q")
        self.status_offsets = array("Q")  # 0: no row_status record yet (offset 0 is the job record)
        self.attempts = array("I")
        # For each row: the number of attempts before its last retry or redo (``earlier``), and the
        # number of later attempts that give_back_attempt() excluded (``given_back``). Limits don't
        # count these attempts. A column that is None stands for 0 in all rows.
        self.earlier: array[int] | None = None
        self.given_back: array[int] | None = None
        # For each row that has waited since its last retry or redo: when the row was last due, in
        # µs since 1970. None and 0 mean that the row hasn't waited.
        self.due: array[int] | None = None
        self.numbers: array[int] | None = None  # None: row numbers are 1, 2, 3, ...
        # For each row: the id of the row's call, as a number. 0 means no call. See Index.calls.
        self.calls: array[int] | None = None
        # The steps of all rows are in three columns, which are None until the first step.
        # ``step_offsets`` and ``step_previous`` have an entry for each ``row_step`` record: the
        # record's offset, and the number of the previous entry of the same row. ``step_heads`` has
        # an entry for each row: the number of its latest step entry. Numbers begin at 1. 0 means
        # that the row has had no step since its last redo. The entries before a redo stay, unused.
        # Rows with the same records of steps, such as the rows of a call, share their entries.
        self.step_heads: array[int] | None = None
        self.step_offsets: array[int] | None = None
        self.step_previous: array[int] | None = None

    def copy(self) -> Columns:
        new = Columns()
        new.has_more = self.has_more
        for name in ("statuses", *OF_ROWS, *OF_STEPS):
            column = getattr(self, name)
            setattr(new, name, None if column is None else column[:])
        return new

    def add_next(self, offsets: array[int]) -> None:
        """Add pending rows with the next row numbers. The columns must not have ``numbers``."""
        count = len(offsets)
        self.statuses.extend(bytes(count))  # the code of pending is 0
        self.row_offsets.extend(offsets)
        for name, kind in OF_ROWS.items():
            column = getattr(self, name)
            if column is not None and name != "row_offsets":
                column.extend(array(kind, bytes(array(kind).itemsize * count)))

    def cells(self, position: int) -> tuple[int, ...]:
        """Return the values of one row in the columns, except its number, which never changes."""
        earlier, given_back, steps = self.earlier, self.given_back, self.step_heads
        due, calls = self.due, self.calls
        return (
            self.statuses[position],
            self.status_offsets[position],
            self.attempts[position],
            self.row_offsets[position],
            0 if earlier is None else earlier[position],
            0 if given_back is None else given_back[position],
            0 if steps is None else steps[position],
            0 if due is None else due[position],
            0 if calls is None else calls[position],
        )

    def restore(self, position: int, cells: Iterable[int]) -> None:
        """Set a row to the values that :meth:`cells` returned, or to the first few values."""
        for column, cell in zip(_cells_of(self), cells, strict=False):
            if column is not None:
                column[position] = cell

    def cut(self, count: int, steps: int) -> None:
        """Drop all rows after the first ``count``, and all steps after the first ``steps``."""
        del self.statuses[count:]
        for names, length in ((OF_ROWS, count), (OF_STEPS, steps)):
            for name in names:
                column = getattr(self, name)
                if column is not None:
                    del column[length:]

    def number(self, position: int) -> int:
        return position + 1 if self.numbers is None else self.numbers[position]

    def earlier_attempts(self, position: int) -> int:
        """Return how many attempts of the row don't count for limits.

        These are the attempts before the row's last retry or redo, and the later attempts that
        :meth:`give_back_attempt` excluded.
        """
        given_back = 0 if self.given_back is None else self.given_back[position]
        return self.attempts_before_reset(position) + given_back

    def attempts_before_reset(self, position: int) -> int:
        """Return how many attempts the row had before its last retry or redo."""
        return 0 if self.earlier is None else self.earlier[position]

    def reset_attempts(self, position: int) -> None:
        """Count the row's attempts from zero again."""
        if self.earlier is None:
            self.earlier = self._zeros()
        self.earlier[position] = self.attempts[position]
        if self.given_back is not None:
            self.given_back[position] = 0
        if self.due is not None:
            self.due[position] = 0

    def give_back_attempt(self, position: int) -> None:
        """Exclude the row's last attempt from the count for limits."""
        if self.given_back is None:
            self.given_back = self._zeros()
        self.given_back[position] += 1

    def due_us(self, position: int) -> int:
        """When the row was last due, in µs since 1970, or 0 if the row hasn't waited."""
        return 0 if self.due is None else self.due[position]

    def wait(self, position: int, due_us: int) -> None:
        """Set when the row is due."""
        if self.due is None:
            self.due = self._zeros("Q")
        self.due[position] = due_us

    def call(self, position: int) -> int:
        """Return the id of the call that the row is in, or 0."""
        return 0 if self.calls is None else self.calls[position]

    def set_call(self, position: int, call: int) -> None:
        """Put a row into a call. With 0, take the row out of its call."""
        if self.calls is None:
            self.calls = self._zeros("Q")
        self.calls[position] = call

    def _zeros(self, kind: str = "I") -> array[int]:
        """Return a column of zeros for all rows, and set ``has_more``."""
        self.has_more = True
        return array(kind, bytes(array(kind).itemsize * len(self.statuses)))

    def append_zeros(self) -> None:
        """Add a row to the columns that may be None, except ``numbers``."""
        for column in (self.earlier, self.given_back, self.step_heads, self.due, self.calls):
            if column is not None:
                column.append(0)

    def add_step(self, position: int, offset: int) -> None:
        """Add the ``row_step`` record at ``offset`` to the row's steps."""
        if self.step_heads is None or self.step_offsets is None or self.step_previous is None:
            self.step_offsets, self.step_previous = array("Q"), array("I")
            self.step_heads = self._zeros()
        self.step_offsets.append(offset)
        self.step_previous.append(self.step_heads[position])
        self.step_heads[position] = len(self.step_offsets)

    def add_step_of_rows(self, positions: Iterable[int], offset: int) -> None:
        """Add a ``row_step`` record to several rows. Rows with the same steps share the entry."""
        heads, entries = self.step_heads or self._zeros(), dict[int, int]()
        for position in positions:
            entry = entries.get(head := heads[position])
            if entry is None:
                self.add_step(position, offset)
                assert self.step_heads is not None
                heads = self.step_heads
                entries[head] = heads[position]
            else:
                heads[position] = entry

    def forget_steps(self, position: int) -> None:
        """Forget the row's steps, as a redo does."""
        if self.step_heads is not None:
            self.step_heads[position] = 0

    def offsets_of_steps(self, position: int) -> list[int]:
        """Return the offsets of the row's ``row_step`` records since its last redo, in order."""
        if self.step_heads is None or self.step_offsets is None or self.step_previous is None:
            return []
        offsets, entry = [], self.step_heads[position]
        while entry:
            offsets.append(self.step_offsets[entry - 1])
            entry = self.step_previous[entry - 1]
        return offsets[::-1]


class Lease:
    """An object that all views of the same columns reference.

    As long as a view references the lease, the columns must not change.
    """

    __slots__ = ("__weakref__",)


class View:
    """Rows of an index at one moment. These are all rows, new rows, or rows with certain statuses.

    Later changes don't affect the view. Rows are ordered by number, but new rows are in the order
    of their addition.
    """

    __slots__ = ("_finding", "_first", "_found", "_lease", "_next", "_wanted", "columns", "count")

    def __init__(
        self,
        columns: Columns,
        lease: Lease,
        codes: Collection[int] | None,
        count: int,
        *,
        first: int = 0,
        order: list[int] | None = None,
    ) -> None:
        self.columns = columns
        self.count = count
        self._first = first
        self._lease = lease
        self._next = 0
        self._finding = threading.Lock()  # threads may share a view
        # Positions are searched on demand: the first of a million pending rows must come fast.
        self._found: array[int] | None = None
        if order is not None:
            statuses = columns.statuses
            self._found = array("Q", (p for p in order if codes is None or statuses[p] in codes))
        elif codes is not None and count < len(columns.statuses):
            self._found = array("Q")
            self._wanted = _marked(columns.statuses, codes)

    def chosen(self, numbers: Iterable[int]) -> View:
        """A view of the rows at these places (from 0) in this view."""
        found = array("Q", map(self.position, numbers))
        view = View(self.columns, self._lease, None, len(found))
        view._found = found
        return view

    def position(self, number: int) -> int:
        """Return a row's position in the columns.

        ``number``: the row's place in the view, from 0.
        """
        found = self._found
        if found is None:
            return number + self._first
        if len(found) <= number:
            with self._finding:
                while len(found) <= number:
                    statuses, code = self._wanted
                    at = statuses.find(code, self._next)
                    self._next = at + 1
                    found.append(at)
        return found[number]

    def row_number(self, number: int) -> int:
        """Return the row number of the row at a place (from 0) in the view."""
        position, numbers = self.position(number), self.columns.numbers
        return position + 1 if numbers is None else numbers[position]

    def positions(self, numbers: range) -> list[int]:
        """Return the positions of rows, faster than several calls of :meth:`position`."""
        found = self._found
        if found is None:
            first = self._first
            return [number + first for number in numbers]
        if not numbers:
            return []
        self.position(max(numbers[0], numbers[-1]))  # also finds all positions before it
        return [found[number] for number in numbers]


def _marked(statuses: bytearray, codes: Collection[int]) -> tuple[bytearray, int]:
    """Return a byte for each row, and the value that marks the rows with one of ``codes``."""
    if len(codes) == 1:
        return statuses, next(iter(codes))
    return statuses.translate(bytes(code in codes for code in range(256))), 1
