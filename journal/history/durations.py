"""How long tries at rows took, out of a job's history.

A row knows when its status changed last, and not when that try began: the history does.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from journal.format.records import Record, RowRecord, RowStatusRecord
from journal.history.reading import Entry
from journal.index.columns import StatusColumns
from journal.index.index import Index
from journal.model import JobRow
from journal.store.transitions import is_word_of_policy


class Outcome(NamedTuple):
    """What became of a row, or of a try at it, at ``ended_at``.

    ``status`` is "repeated" for a try that failed and after which the row was put back, else that
    of the row. ``started_at`` is when the try began; None if the row was not in processing, so that
    there was no try. ``is_cut``: its run died in it, so that nobody knows when it ended.
    ``version`` is that of the run in which it began.
    """

    row_number: int
    status: str
    started_at: datetime | None
    ended_at: datetime
    is_cut: bool = False
    version: str | None = None

    @property
    def took_s(self) -> float | None:
        """How long the try took; None if that isn't known."""
        if self.started_at is None or self.is_cut:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


class Outcomes:
    """The outcomes in a history, in their order; memory for the rows in flight at a time."""

    def __init__(self, forget: Callable[[], object] = lambda: None) -> None:
        """``forget`` what was counted: it is called once :meth:`is_try` has changed its mind."""
        self._started: dict[int, datetime] = {}
        self._forget = forget
        self._is_timed = False

    def is_try(self, outcome: Outcome) -> bool:
        """Whether it counts as a try: any does, until the first comes of a row that was started."""
        if outcome.started_at is not None and not self._is_timed:
            self._is_timed = True
            self._forget()
        return outcome.started_at is not None or not self._is_timed

    def of(self, record: Record) -> Outcome | None:
        """What the next record says; None if it is no outcome."""
        if not isinstance(record, RowStatusRecord):
            return None
        status: str = record.status
        if status == "processing":
            self._started[record.row] = record.happened_at
            return None
        started_at = self._started.pop(record.row, None)
        if status in ("pending", "needs_review") and started_at is None:
            return None
        if status == "pending":
            if record.error_code is None:  # a person has put it back, or it never began
                return None
            status = "repeated"
        is_cut = is_word_of_policy(record.error_code, record.error_message)
        return Outcome(record.row, status, started_at, record.happened_at, is_cut, record.version)


class LastTries:
    """When the last try at each row began and ended: 17 bytes a row, and more if there are gaps in
    the row numbers, or these aren't in the order in which the rows were made.
    """

    def __init__(self, history: Iterable[Entry]) -> None:
        """``history`` is all of it, so that rows are known by the order of their making."""
        self._index = Index(StatusColumns())
        self._started_s, self._ended_s = array("d"), array("d")
        found = Outcomes()
        for entry in history:
            record = entry.record
            if isinstance(record, RowRecord):
                self._index.add_row(record.row, 0)
                self._started_s.append(_NEVER)
                self._ended_s.append(_NEVER)
            elif isinstance(record, RowStatusRecord):
                outcome = found.of(record)
                position = self._index.position_of(record.row)
                if position is None:  # a verified journal has none
                    continue
                if record.status == "processing":
                    self._started_s[position] = record.happened_at.timestamp()
                    self._ended_s[position] = _NEVER
                elif outcome is not None and outcome.took_s is not None:
                    self._ended_s[position] = record.happened_at.timestamp()

    def of(self, row: JobRow) -> tuple[datetime | None, float | None]:
        """The start of the row's last try, and how long it took (seconds); None if not known.

        The history may go on behind what the row is: of what came later nothing is told.
        """
        position = self._index.position_of(row.row_number)
        started_at = None if position is None else _moment(self._started_s[position])
        ended_at = row.processed_at or row.updated_at  # on another copy, if it was taken over
        if position is None or started_at is None or started_at > ended_at:
            return None, None
        if _moment(self._ended_s[position]) != ended_at:
            return started_at, None
        return started_at, (ended_at - started_at).total_seconds()


_NEVER = float("-inf")


def _moment(at_s: float) -> datetime | None:
    return None if at_s == _NEVER else moment_at(at_s)


_FIRST_S = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST_S = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def moment_at(at_s: float) -> datetime:
    """The moment ``at_s`` seconds from the epoch, or the nearest that the calendar has."""
    return datetime.fromtimestamp(min(max(at_s, _FIRST_S), _LAST_S), UTC)
