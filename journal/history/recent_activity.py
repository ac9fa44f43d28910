"""The recent activity of a job. Reads the end of the journal first, and later only new commits."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from journal.format.commits import Position
from journal.format.records import (
    CallRecord,
    HoldRecord,
    InputRecord,
    JobPauseRecord,
    JobRecord,
    JobStatusRecord,
    Record,
    RowLevelRecord,
    RowRecord,
    RowStatusRecord,
    RowStepRecord,
    RunRecord,
)
from journal.history.events import Event, event_of
from journal.history.history import History, line_start
from journal.history.row_history import OutcomeReader
from journal.progress.stalls import is_stalled, median_s

FIRST_BYTES = 4 << 20  # how much of the end of the journal is read at first
NEXT_BYTES = 1 << 18  # how much of the new commits is read at a time
_MAX_ATTEMPTS = 500
_MAX_EVENTS = 50
_MAX_STARTS = 10_000
_HOLDS = ("hold", "hold_ended")
_UNREAD = (line_start(RowRecord), line_start(RowStepRecord), line_start(CallRecord))


class Recent:
    """The latest attempts, errors and messages of a job. Memory and time are bounded.

    - ``first_bytes``: how much of the end of the journal is read at first. Default: FIRST_BYTES.
    - ``took_s``: how long the last attempts took, in the order of their ends.
    - ``quiet_since``: the last time when an attempt ended, or a run, a hold or a pause began or
      ended.
    - ``ended``: the number of rows that have ended since ``since``, in the part of the journal that
      was read. ``since``: when the last run, hold or pause began or ended, or when the first of
      these rows ended.
    - ``errors``: the last attempts that failed or need a review, the oldest first. Rows that a
      person has settled since then are left out. ``events``: the last messages, and the last
      changes of the job as a whole, the oldest first.
    """

    def __init__(self, first_bytes: int | None = None) -> None:
        self._first_bytes = FIRST_BYTES if first_bytes is None else first_bytes
        self._position: Position | None = None
        self._forget()

    def _forget(self) -> None:
        self._outcomes = OutcomeReader()
        self.took_s = deque[float](maxlen=_MAX_ATTEMPTS)
        self._timed = 0  # how many of ``took_s`` are of the last run
        self.quiet_since: datetime | None = None
        self.since: datetime | None = None
        self.ended = 0
        self.errors = deque[Event](maxlen=_MAX_EVENTS)
        self.events = deque[Event](maxlen=_MAX_EVENTS)

    @property
    def median_s(self) -> float | None:
        """The median duration of the last attempts. None if no duration is known."""
        return median_s(sorted(self.took_s)) if self.took_s else None

    def stalled_s(self, oldest: datetime, now: datetime) -> float | None:
        """The seconds in which no attempt ended, if :func:`is_stalled` calls this time too long.

        ``oldest``: when the oldest attempt in flight began.
        """
        quiet_s = (now - max(oldest, self.quiet_since or oldest)).total_seconds()
        took_s = [*self.took_s][-self._timed :] if self._timed else ()
        return quiet_s if is_stalled(took_s, quiet_s) else None

    def read(self, history: History) -> None:
        """Read the new commits: at most ``first_bytes`` in the first call, NEXT_BYTES in a later
        call.

        If the new commits are larger, only the last ones are read. A journal that was replaced is
        read anew. Raises the errors of :meth:`History.blocks`.
        """
        at_most = NEXT_BYTES
        if self._position is None or not history.continues(self._position):
            self._forget()
            at_most, self._position = self._first_bytes, None
        begin, self._position = history.last_bytes(at_most, self._position), history.end
        for block in history.blocks(begin):
            for number, line in enumerate(block.lines):
                if not line.startswith(_UNREAD):
                    self._read(history.record(block, number))
        if self._outcomes.open_count > _MAX_STARTS:  # the ends of these attempts weren't read
            self._outcomes = OutcomeReader()

    def _read(self, record: Record) -> None:
        if isinstance(record, RowStatusRecord):
            outcome = self._outcomes.read(record)
            if record.by == "person":  # no attempt has ended, and the row's error is settled
                settled = [event for event in self.errors if event.row_number == record.row]
                for event in settled:
                    self.errors.remove(event)
            elif record.status != "processing":  # a row that waits has no outcome
                self.quiet_since = record.happened_at
            if outcome is None:
                return
            if outcome.took_s is not None:
                self.took_s.append(outcome.took_s)
                self._timed += 1
            if outcome.status in ("failed", "needs_review", "repeated"):
                self.errors.append(event_of(record))
            if outcome.status != "repeated":
                self.since = self.since or outcome.ended_at
                self.ended += 1
        elif not isinstance(record, (RowLevelRecord, CallRecord, InputRecord)):
            if isinstance(record, RunRecord):
                self._timed = 0
            if isinstance(record, (RunRecord, HoldRecord, JobPauseRecord)):
                self.since, self.ended = record.at, 0
            if isinstance(record, (RunRecord, HoldRecord, JobPauseRecord, JobStatusRecord)):
                self.quiet_since = record.at
            if isinstance(record, HoldRecord) and self.events and self.events[-1].kind in _HOLDS:
                self.events.pop()  # keep only the latest of successive changes of a hold
            if not isinstance(record, JobRecord):
                self.events.append(event_of(record))
