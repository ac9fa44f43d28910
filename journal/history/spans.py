"""Finds when a job had passes, runs, holds, waits of rows, and pauses of a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from journal.format.records import (
    BY_OTHERS,
    ROW_LEVEL,
    CallRecord,
    HoldRecord,
    JobPauseRecord,
    JobReopenedRecord,
    JobStatusRecord,
    Record,
    RowStatusRecord,
    RunRecord,
)
from journal.history.reading import Entry
from journal.model import JobStatus

SPANS = ("passes", "runs", "holds", "waits", "pauses")


class Span(NamedTuple):
    """The time from ``begin`` to ``end``. ``text``: the reason, or who decided it."""

    begin: datetime
    end: datetime
    text: str


class SpanReader:
    """Collects the spans of a history in ``found``, by the names in SPANS.

    - "passes": from the first start or a reopening to the end of the job. "runs": a process at
      work. The span of a run that died ends with the last status that it has set.
    - "holds": holds in succession. "waits": at least one row waits for somebody else. "pauses": a
      person has paused the job.

    Memory grows with the number of rows that wait at the same time.
    """

    def __init__(self) -> None:
        self.found: dict[str, list[Span]] = {name: [] for name in SPANS}
        self._open: dict[str, tuple[datetime, str]] = {}
        self._waiting: set[int | str] = set()  # rows and calls

    def read(self, history: Iterable[Entry], until: datetime | None = None) -> Iterator[Entry]:
        """Yield the entries of a history, and collect its spans.

        ``until``: the present time if a run works on the job. Spans that haven't ended then end
        there, else with the last record.
        """
        worked_at = last_at = None  # of the last run's last status; of the last record
        for entry in history:
            record = entry.record
            last_at = record.at
            if isinstance(record, RowStatusRecord):  # first, since most records are statuses
                if record.by not in BY_OTHERS:
                    worked_at = last_at
                if record.due is not None or self._waiting:
                    self._wait(record.row, last_at, waits=record.waits)
            elif type(record) not in ROW_LEVEL:
                if isinstance(record, RunRecord):
                    self._end_run(worked_at or last_at)
                if isinstance(record, RunRecord | HoldRecord):
                    worked_at = last_at
                self._add(record)
            yield entry
        if last_at is not None:
            self._end_run(until or worked_at or last_at)
            for name in SPANS:
                self._end(name, until or last_at)

    def _add(self, record: Record) -> None:
        match record:
            case CallRecord():
                self._wait(record.id, record.at, waits=record.state == "waiting")
            case RunRecord():
                self._begin("runs", record.at)
            case JobStatusRecord(status=JobStatus.RUNNING):
                self._begin("passes", record.at)
                if "runs" not in self._open and self.found["runs"]:  # the paused run continues
                    begin, _, text = self.found["runs"].pop()
                    self._begin("runs", begin, text)
            case JobStatusRecord():
                self._end_run(record.at)
                if JobStatus(record.status).is_ended:
                    self._end("passes", record.at)
            case JobReopenedRecord():
                self._begin("passes", record.at, record.reason)
            case HoldRecord(until=None):
                self._end("holds", record.at)
            case HoldRecord():
                self._begin("holds", record.at, record.reason)
            case JobPauseRecord(ended=False):
                by = f"by {record.person}" if record.person else ""
                self._begin("pauses", record.at, by)
            case JobPauseRecord():
                self._end("pauses", record.at)

    def _wait(self, key: int | str, at: datetime, *, waits: bool) -> None:
        if waits:
            self._waiting.add(key)
            self._begin("waits", at)
        elif key in self._waiting:
            self._waiting.remove(key)
            if not self._waiting:
                self._end("waits", at)

    def _end_run(self, at: datetime) -> None:
        self._end("holds", at)
        self._end("runs", at)

    def _begin(self, name: str, at: datetime, text: str | None = None) -> None:
        self._open.setdefault(name, (at, text or ""))

    def _end(self, name: str, at: datetime) -> None:
        if name in self._open:
            begin, text = self._open.pop(name)
            self.found[name].append(Span(begin, max(begin, at), text))
