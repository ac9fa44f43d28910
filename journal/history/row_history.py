"""Reads everything that a journal contains about one row: attempts, steps, messages, changes.

Also finds the outcomes and durations of attempts. The state of a row has only the time of its last
change. The history also has the start of the row's attempt.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from journal.format.records import (
    A_RUN,
    BY_OTHERS,
    LogRecord,
    RowDataRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
    RunRecord,
)
from journal.history.events import Choice, Event, event_of
from journal.history.history import History, log_entry
from journal.model import JobRow, LogEntry, RowStep, cents_of, millionths
from journal.text import before_text


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


# --- the history of a row ---------------------------------------------------------------------


class RowAttempt(msgspec.Struct, kw_only=True):
    """An attempt at a row.

    - ``number``: the number of the attempt. The row's first attempt has number 1.
    - ``outcome``: one of these words.

      - "completed", "failed", "skipped" and "needs_review": the row's status after the attempt.
      - "repeated": the attempt failed, and the row became pending again.
      - "given_back": the attempt never began, or did nothing.
      - "waited": the attempt has handed the work to somebody, or has asked whether the work is
        done.
      - "processing": the attempt has no outcome yet.

    - ``started_at``, ``ended_at``: aware datetimes in UTC.
    - ``duration_s``: the duration in seconds. None if unknown, for example because the run died.
    - ``host``, ``version``: the host and the version of the run in which the attempt began.
      ``host`` is None if the attempt began without a run, or in another copy of the job.
    - The other members are those of :class:`JobRow`.
    """

    number: int
    outcome: str
    started_at: datetime
    ended_at: datetime | None = None
    duration_s: float | None = None
    host: str | None = None
    version: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    traceback: str | None = None
    unknown: bool = False
    reason: str | None = None
    result: Any = None
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: int | float | None = None
    usage: dict[str, int | float] | None = None


class RowHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a journal contains about one row. Items are in the order of time.

    - ``row``: the row as it is now.
    - ``attempts``: the row's attempts.
    - ``total_cost_cents``: the cost of all attempts: an int if the cost is whole, else a float.
    - ``steps``: the row's steps since its last redo.
    - ``logs``: the messages about the row, from its attempts and from :meth:`JobService.log`.
    - ``changes``: all other changes of the row: new data, retries and redos by a person, and
      settled reviews. Each change has ``at``, ``kind``, ``text`` and ``details``, as in
      ``journal log``.
    """

    row: JobRow
    attempts: tuple[RowAttempt, ...]
    steps: tuple[RowStep, ...]
    logs: tuple[LogEntry, ...]
    changes: tuple[Event, ...]
    total_cost_cents: int | float = 0


_OF_ERROR = ("error_code", "error_message", "traceback")
_OF_OUTCOME = {*RowAttempt.__struct_fields__} & {*RowStatusRecord.__struct_fields__} - {"version"}


class AttemptReader:
    """Makes the attempts at one or more rows. Call :meth:`read` with each status, in order.

    - ``open``: the attempts in progress, by the position of their rows.
    - ``host``: the host of the last run. The caller sets this attribute.
    """

    def __init__(self, rows: int = 1) -> None:
        self.open: dict[int, RowAttempt] = {}
        self.host: str | None = None
        self._counts = array("I", [0]) * rows
        self._outcomes = OutcomeReader()

    def read(self, record: RowStatusRecord, position: int = 0) -> RowAttempt | None:
        """Return the attempt that a status ends.

        If the status begins an attempt, add it to ``open``.
        """
        outcome = self._outcomes.read(record)
        attempt = self.open.pop(position, None)
        if record.status == "processing":
            self._counts[position] += 1
            self.open[position] = RowAttempt(
                number=self._counts[position],
                outcome="processing",
                started_at=record.happened_at,
                host=self.host if record.by == A_RUN.by and record.origin is None else None,
                version=record.version,
            )
        elif attempt is not None:
            attempt.outcome = "given_back" if outcome is None else outcome.status
            if record.reset == "wait":
                attempt.outcome = "waited"
            attempt.ended_at = record.happened_at
            if outcome is not None:
                attempt.duration_s = outcome.took_s
            for name in _OF_OUTCOME if record.decision is None else ():
                if not (record.reset and name in _OF_ERROR):  # not the error of an earlier attempt
                    setattr(attempt, name, getattr(record, name))
        return attempt


def read_row_history(history: History, row: JobRow, steps: tuple[RowStep, ...]) -> RowHistory:
    """Read the history of a row.

    ``row`` and ``steps`` must be as they were after the last commit of ``history``. Raises the
    errors of :meth:`History.blocks`.
    """
    number, reader, spent = row.row_number, AttemptReader(), 0  # spent: in millionths of a cent
    attempts, logs, changes = list[RowAttempt](), list[LogEntry](), list[Event]()
    choice, data = Choice([range(number, number + 1)]), dict[str, Any]()
    for block in history.blocks_about(number):
        record = history.record(block, 0)
        event: Event | None = None
        match record:
            case RunRecord():
                reader.host = record.host
            case _ if not choice.has_record(record):
                pass
            case LogRecord():
                logs.append(log_entry(record))
            case RowRecord():
                data = record.data
            case RowStatusRecord(status="processing"):
                reader.read(record)
                attempts.append(reader.open[0])
            case RowStatusRecord():
                spent += millionths(record.cost_cents or 0)
                if reader.read(record) is None or record.decision is not None:
                    event = event_of(record)
            case RowStepRecord() if record.state != "dropped":
                pass  # the present state of the step is shown
            case RowDataRecord():
                changed = event_of(record)
                text = changed.text + before_text(data, record.data)
                event, data = msgspec.structs.replace(changed, text=text), record.data
            case _:
                if isinstance(record, RowSpentRecord):
                    spent += millionths(record.cost_cents or 0)
                event = event_of(record)
        if event is not None:
            changes.append(event)
    return RowHistory(
        row=row,
        attempts=tuple(attempts),
        steps=steps,
        logs=tuple(logs),
        changes=tuple(changes),
        total_cost_cents=cents_of(spent),
    )
