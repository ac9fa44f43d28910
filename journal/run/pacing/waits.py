"""Decides how long a row waits for somebody else (see :class:`Wait`), and stores the waiting rows."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable

from msgspec.structs import replace

from journal.run.outcome import MAX_AFTER_S, WAITED_TOO_LONG, Outcome, failed
from journal.run.pacing.limits import Limits

MIN_WAIT_S = 0.1  # the minimum of a Wait, since each Wait adds two commits to the journal


def with_time(outcome: Outcome, waited_s: float, limits: Limits) -> Outcome:
    """An outcome "waiting" with its ``after_s``, or a failure if the row has waited too long.

    ``waited_s``: how long the row has waited. Without an ``after_s``, each wait is as long as all
    earlier waits together.
    """
    most_s = limits.max_wait_s
    if most_s is not None and waited_s >= most_s:
        message = f"it has waited for {waited_s:.0f} s" + f": {outcome.reason or ''}".rstrip(": ")
        spent = {"cost_cents": outcome.cost_cents, "usage": outcome.usage}
        return replace(failed(WAITED_TOO_LONG, message), logs=outcome.logs, **spent)
    after_s = outcome.after_s
    if after_s is None:
        after_s = max(limits.backoff_s, min(waited_s, limits.max_backoff_s))
    left_s = math.inf if most_s is None else most_s - waited_s
    after_s = max(after_s, MIN_WAIT_S)
    return replace(outcome, after_s=min(after_s, left_s, MAX_AFTER_S))


class Waits:
    """The numbers of the rows that wait for somebody else (see :class:`Wait`).

    A row takes 16 bytes.

    If another process has settled a row, the row may no longer wait, or may be due later. So check
    a row before you start it. ``left``: the number of waiting rows that aren't for this run.
    """

    def __init__(self) -> None:
        self._due = array("d")  # ascending
        self._numbers = array("Q")
        self._first = 0  # the items before it are gone
        self.left = 0

    def __len__(self) -> int:
        return len(self._due) - self._first

    @property
    def next_due_s(self) -> float:
        """The due time of the first row."""
        return self._due[self._first] if self else math.inf

    def set(self, rows: Iterable[tuple[float, int]]) -> None:
        """Replace all rows. Each row is given by its due time and its number."""
        due, numbers = array("d"), array("Q")
        for due_s, number in rows:
            due.append(due_s)
            numbers.append(number)
        order = array("Q", sorted(range(len(due)), key=due.__getitem__))
        self._due = array("d", map(due.__getitem__, order))
        self._numbers = array("Q", map(numbers.__getitem__, order))
        self._first = 0

    def add(self, due_s: float, number: int) -> None:
        """Add a row. It is usually due after all other rows, so the arrays needn't move."""
        place = bisect_right(self._due, due_s, self._first)
        self._due.insert(place, due_s)
        self._numbers.insert(place, number)

    def pop(self, now_s: float) -> int:
        """Remove the row that is due first. Returns its number, or 0 if no row is due."""
        if self.next_due_s > now_s:
            return 0
        number = self._numbers[self._first]
        self._first += 1
        if self._first * 2 >= len(self._due):
            del self._due[: self._first], self._numbers[: self._first]
            self._first = 0
        return number

    def due(self, now_s: float) -> int:
        """The number of rows that are due."""
        return bisect_right(self._due, now_s, self._first) - self._first
