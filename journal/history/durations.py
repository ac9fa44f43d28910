"""Finds the outcomes and durations of attempts in a job's history.

The state of a row has only the time of its last change. The history also has the start of the
row's attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from journal.format.records import BY_OTHERS, RowStatusRecord


class RecordedOutcome(NamedTuple):
    """The outcome that a row or an attempt had at ``ended_at``.

    - ``status``: the row's status. It is "repeated" if the attempt failed and another attempt
      follows.
    - ``started_at``: when the attempt began. ``None`` if the row was settled without an attempt.
    - ``is_cut``: True if the run or the worker died during the attempt, or gave it up. Then the
      attempt's real end is unknown.
    """

    row_number: int
    status: str
    started_at: datetime | None
    ended_at: datetime
    is_cut: bool = False

    @property
    def took_s(self) -> float | None:
        """The duration of the attempt in seconds, or ``None`` if it is unknown."""
        if self.started_at is None or self.is_cut:
            return None
        return max(0.0, (self.ended_at - self.started_at).total_seconds())


class OutcomeReader:
    """Turns statuses into outcomes. Call :meth:`read` with each status of a row, in order.

    Memory grows with the number of rows that were started and have no outcome yet.
    """

    def __init__(self, forget: Callable[[], object] = lambda: None) -> None:
        """:meth:`is_attempt` calls ``forget`` once, at the first outcome of a started row.

        ``forget`` drops the earlier outcomes, which don't count as outcomes of attempts.
        """
        self._started: dict[int, datetime] = {}
        self._forget = forget
        self._has_starts = False

    @property
    def open_count(self) -> int:
        """How many rows were started and have no outcome yet."""
        return len(self._started)

    def is_attempt(self, outcome: RecordedOutcome) -> bool:
        """Return whether the outcome counts as the outcome of an attempt.

        Until the first outcome of a started row, all outcomes count, since a script may settle rows
        without starting them. From then on, only outcomes of started rows count.
        """
        if outcome.started_at is not None and not self._has_starts:
            self._has_starts = True
            self._forget()
        return outcome.started_at is not None or not self._has_starts

    def read(self, record: RowStatusRecord) -> RecordedOutcome | None:
        """Return the outcome in the row's next status record, or None if there is no outcome."""
        status: str = record.status
        if status == "processing":
            self._started[record.row] = record.happened_at
            return None
        started_at = self._started.pop(record.row, None)
        if status in ("pending", "needs_review") and started_at is None:
            return None
        if status == "pending":
            if record.error_code is None or record.reset:  # given back, or retried by a person
                return None
            status = "repeated"
        is_cut = record.by in BY_OTHERS
        return RecordedOutcome(record.row, status, started_at, record.happened_at, is_cut)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST_S = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def moment_at(at_s: float) -> datetime:
    """Return the time ``at_s`` seconds after 1970, or the nearest time that datetime can hold."""
    # On Windows, fromtimestamp refuses times before 1970 and after 3000.
    return _EPOCH + timedelta(seconds=min(max(at_s, _FIRST_S), _LAST_S))
