"""What waits in a run, and when it is due, by ``monotonic``."""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")


class Due(dict[Key, float]):
    """Rows that are attempted again, or calls, each with the time when it is due.

    Use :meth:`put` and :meth:`pop_due` for changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, Key]] = []

    @property
    def next_s(self) -> float:
        """When the first is due."""
        while self._heap and self.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # it was given another time
        return self._heap[0][0] if self._heap else math.inf

    def put(self, key: Key, due_s: float) -> None:
        """Add what waits, or give it another time."""
        self[key] = due_s
        heapq.heappush(self._heap, (due_s, key))

    def pop_due(self, now_s: float) -> Key | None:
        """Remove what is due first, and return it. None if nothing is due."""
        if self.next_s > now_s:
            return None
        _, key = heapq.heappop(self._heap)
        del self[key]
        return key


class Waits:
    """The numbers of the rows that wait for somebody else (see :class:`Wait`): 16 bytes a row.

    A row may be due at a later time than here, or not wait any more, if another process has settled
    it. So look before a row is started. ``left``: how many rows wait that aren't for this run.
    """

    def __init__(self) -> None:
        self._due = array("d")  # ascending
        self._numbers = array("Q")
        self._first = 0  # those before it are gone
        self.left = 0

    def __len__(self) -> int:
        return len(self._due) - self._first

    @property
    def next_due_s(self) -> float:
        """When the first row is due."""
        return self._due[self._first] if self else math.inf

    def set(self, rows: Iterable[tuple[float, int]]) -> None:
        """Replace all rows, each given as the time when it is due, and its number."""
        due, numbers = array("d"), array("Q")
        for due_s, number in rows:
            due.append(due_s)
            numbers.append(number)
        order = array("Q", sorted(range(len(due)), key=due.__getitem__))
        self._due = array("d", map(due.__getitem__, order))
        self._numbers = array("Q", map(numbers.__getitem__, order))
        self._first = 0

    def add(self, due_s: float, number: int) -> None:
        """Add a row. It usually is due after the others, so the arrays needn't move."""
        place = bisect_right(self._due, due_s, self._first)
        self._due.insert(place, due_s)
        self._numbers.insert(place, number)

    def pop(self, now_s: float) -> int:
        """Remove the row that is due first, and return its number; 0 if none is due."""
        if self.next_due_s > now_s:
            return 0
        number = self._numbers[self._first]
        self._first += 1
        if self._first * 2 >= len(self._due):
            del self._due[: self._first], self._numbers[: self._first]
            self._first = 0
        return number

    def due(self, now_s: float) -> int:
        """How many rows are due."""
        return bisect_right(self._due, now_s, self._first) - self._first
