"""Decides which attempts are retried, and when: after an error, a timeout or a lost worker.

``Due`` and ``Waits`` store rows and calls with their due times, by ``monotonic``.
"""

from __future__ import annotations

import heapq
import math
import random
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import Literal, TypeVar

import msgspec

from journal.model import JobRow, Policy
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.store.interrupted_rows import NEIGHBOR_DIED

_LOST_ATTEMPTS = 3  # the attempts at a row whose workers die, if on_interrupted="retry"


def with_unknown(outcome: Outcome, limits: Limits, on_interrupted: Policy) -> Outcome:
    """The outcome to record for a failed attempt whose call may have taken effect.

    The row needs a review, or fails without another attempt, as ``on_interrupted`` decides. If the
    author has declared that repeating the call is harmless, the attempt has simply failed.
    """
    is_named = outcome.error_code in limits.retry_kinds(str)
    if is_named or on_interrupted in ("retry", "resume"):
        return msgspec.structs.replace(outcome, unknown=False)
    return msgspec.structs.replace(
        outcome,
        kind="failed" if on_interrupted == "fail" else "review",
        error_message=f"{outcome.error_message}; the call may have taken effect",
        retryable=False,
    )


def fate_of(
    row: JobRow,
    outcome: Outcome,
    limits: Limits,
    on_interrupted: Policy,
    *,
    in_doubt: bool = False,
) -> Literal["retry", "fail", "review"]:
    """Decide what becomes of a row after an attempt that failed or was lost.

    ``in_doubt``: True if nobody knows whether a step of the row took effect.
    """
    attempts = _attempts_since_reset(row)
    if outcome.kind == "lost":
        if on_interrupted == "resume":
            on_interrupted = "review" if in_doubt else "retry"
        # Each death of a pool counts for the row that caused it, if this row is known.
        is_counted = on_interrupted == "retry" and outcome.error_code != NEIGHBOR_DIED
        if is_counted and attempts >= max(limits.max_attempts, _LOST_ATTEMPTS):
            return "fail"
        return on_interrupted
    is_named = outcome.retryable or outcome.error_code in limits.retry_kinds(str)
    return "retry" if is_named and attempts < limits.max_attempts else "fail"


def delay_s(row: JobRow, outcome: Outcome, limits: Limits) -> float:
    """Seconds until the next attempt.

    The handler has set them, or :func:`backoff_s` computes them.
    """
    if outcome.after_s is not None:
        return outcome.after_s
    return backoff_s(_attempts_since_reset(row), limits)


def _attempts_since_reset(row: JobRow) -> int:
    """Return how often the row was attempted since its last retry or redo."""
    return row.attempts - row.earlier_attempts


def backoff_s(attempts: int, limits: Limits) -> float:
    """Seconds to wait after this number of attempts. The wait doubles each time, with jitter.

    Half of the wait is random, so rows that failed together are not retried together. Calls with
    many rows have no jitter, since jitter would make their rows come back in calls of a few rows.
    """
    longest = limits.backoff_s * 2.0 ** min(attempts - 1, 60)
    share = 1.0 if limits.batch else random.uniform(0.5, 1)  # noqa: S311  (no secret)
    return min(longest, limits.max_backoff_s) * share


Key = TypeVar("Key")


class Due(dict[Key, float]):
    """Rows or calls that are attempted again, each with its due time.

    Use :meth:`put` and :meth:`pop_due` for changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[float, Key]] = []

    @property
    def next_s(self) -> float:
        """The first due time."""
        while self._heap and self.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # replaced by another time
        return self._heap[0][0] if self._heap else math.inf

    def put(self, key: Key, due_s: float) -> None:
        """Add a row or call, or give it another due time."""
        self[key] = due_s
        heapq.heappush(self._heap, (due_s, key))

    def pop_due(self, now_s: float) -> Key | None:
        """Remove the first item that is due, and return it. None if no item is due."""
        if self.next_s > now_s:
            return None
        _, key = heapq.heappop(self._heap)
        del self[key]
        return key


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
