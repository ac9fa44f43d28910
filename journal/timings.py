"""How long tries at rows took, out of a job's history.

A row knows when its status changed last, and not when that try began: the history does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from journal.format import RowStatusRecord
from journal.history import Entry
from journal.model import JobRow

_OUTCOMES = frozenset(("completed", "failed", "skipped"))


class Outcome(NamedTuple):
    """A row was completed, failed or skipped at ``ended_at``, or a try at it is to be repeated.

    ``status`` is "pending" for the latter. ``started_at`` is when the try began; None if the row
    was not in processing, so that nothing is known of how long it took.
    """

    row_number: int
    status: str
    started_at: datetime | None
    ended_at: datetime


class Outcomes:
    """The outcomes in a history, in their order; memory for the rows in flight at a time.

    A row that ends in needs_review has no outcome: nobody knows when its try ended.
    """

    def __init__(self) -> None:
        self._started: dict[int, datetime] = {}

    def of(self, record: RowStatusRecord) -> Outcome | None:
        """What the next record says; None if it is no outcome."""
        if record.status == "processing":
            self._started[record.row] = record.happened_at
            return None
        started_at = self._started.pop(record.row, None)
        failed_try = record.status == "pending" and record.error_code is not None
        if record.status in _OUTCOMES or (failed_try and started_at is not None):
            return Outcome(record.row, record.status, started_at, record.happened_at)
        return None


def outcomes(history: Iterable[Entry]) -> Iterator[Outcome]:
    """All outcomes in a history."""
    found = Outcomes()
    for entry in history:
        if isinstance(entry.record, RowStatusRecord):
            outcome = found.of(entry.record)
            if outcome is not None:
                yield outcome


class LastTries:
    """When the last try at each row began, and how long it took: 16 bytes a row."""

    def __init__(self, history: Iterable[Entry]) -> None:
        self._started_s, self._took_s = _ByNumber(), _ByNumber()
        found = Outcomes()
        for entry in history:
            record = entry.record
            if not isinstance(record, RowStatusRecord):
                continue
            outcome = found.of(record)
            if record.status == "processing":
                self._started_s.put(record.row, record.happened_at.timestamp())
                self._took_s.put(record.row, _NEVER)
            elif outcome is not None and outcome.started_at is not None:
                took = outcome.ended_at - outcome.started_at
                self._took_s.put(record.row, took.total_seconds())

    def of(self, row: JobRow) -> tuple[datetime | None, float | None]:
        """The start of the row's last try, and how long it took (seconds); None if not known.

        The history may go on behind what the row is: a later try's start isn't told.
        """
        started_s = self._started_s.get(row.row_number)
        if started_s is None:
            return None, None
        started_at = datetime.fromtimestamp(started_s, UTC)
        if started_at > row.updated_at:
            return None, None
        return started_at, self._took_s.get(row.row_number)


class _ByNumber:
    """Numbers of rows to moments; most jobs number their rows without large gaps."""

    def __init__(self) -> None:
        self._dense = array("d")
        self._sparse: dict[int, float] = {}

    def put(self, number: int, value: float) -> None:
        dense = self._dense
        missing = number + 1 - len(dense)
        if missing > len(dense) + 4096:
            self._sparse[number] = value
            return
        if missing > 0:
            dense.extend([_NEVER] * missing)
        dense[number] = value

    def get(self, number: int) -> float | None:
        value = self._dense[number] if number < len(self._dense) else _NEVER
        if value == _NEVER:
            value = self._sparse.get(number, _NEVER)
        return None if value == _NEVER else value


_NEVER = float("-inf")
