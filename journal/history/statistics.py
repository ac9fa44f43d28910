"""Computes throughput and latency over time, and the spans of runs, holds and pauses, from a history."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import chain
from typing import NamedTuple

from journal.format.records import (
    BY_OTHERS,
    ROW_LEVEL,
    CallRecord,
    HoldRecord,
    JobErrorRecord,
    JobPauseRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    MergeRecord,
    Record,
    RowStatusRecord,
    RunEndedRecord,
    RunRecord,
    TunedRecord,
)
from journal.history.events import Event, event_of
from journal.history.history import Entry
from journal.history.row_history import OutcomeReader, RecordedOutcome, moment_at
from journal.model import JobStatus

SPANS = ("passes", "runs", "holds", "waits", "pauses")


class Span(NamedTuple):
    """The time from ``begin`` to ``end``. ``text``: the reason, or who has caused the span."""

    begin: datetime
    end: datetime
    text: str


class SpanReader:
    """Collects the spans of a history in ``found``, by the names in SPANS.

    - "passes": from the first start or a reopening to the end of the job. "runs": a process at
      work. The span of a run that died ends with the last status that the run has set.
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

        ``until``: the present time if a run works on the job. Open spans end at this time. Without
        ``until``, open spans end with the last record.
        """
        worked_at = last_at = None  # times of the last run's last status, and of the last record
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


# --- statistics -------------------------------------------------------------------------------

MAX_BUCKETS = 60
MAX_EVENTS = 200
_OUTCOMES = ("completed", "failed", "repeated", "needs_review", "skipped")
# The widths of a bucket in ms. A longer job has buckets of twice the last width, and so on.
_WIDTHS_MS = (
    *(100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000),
    *(10_800_000, 21_600_000, 43_200_000, 86_400_000),
    *(604_800_000 << doubled for doubled in range(24)),
)


class Bucket(NamedTuple):
    """The attempts that ended from ``begin`` until the next bucket begins.

    ``ended``: the number of attempts by outcome. ``took_s``: the durations of these attempts, in
    ascending order.
    """

    begin: datetime
    ended: Counter[str]
    took_s: list[float]


def quantile_s(took_s: Sequence[float], share: float) -> float | None:
    """Return the quantile ``share`` (above 0, up to 1) of ascending durations, if there are any."""
    return took_s[math.ceil(share * len(took_s)) - 1] if took_s else None


# The records that become events of the job. The status "running" becomes no event, since the record
# of the run becomes an event.
_OF_JOB = (
    *(JobRecord, RunRecord, RunEndedRecord, JobReopenedRecord, JobPauseRecord, JobStatusRecord),
    *(HoldRecord, JobErrorRecord, MergeRecord, TunedRecord),
)


class JobStatistics:
    """Throughput, latency, job events and spans of a history.

    - ``buckets``: all attempts that ended, including repeated attempts, in at most MAX_BUCKETS
      buckets of ``width_s`` seconds. The buckets also cover all spans. A row that was settled
      without a start, for example by a person, counts only if the job records no starts.
    - ``attempts``: how many attempts ended. ``spans``: see :class:`SpanReader`. The spans are
      ordered by ``begin``.
    - ``repeated``: how many attempts failed and were followed by another attempt.
    - ``took_s``: how long attempts took, in ascending order.
    - ``events``: the last events of the job as a whole, at most MAX_EVENTS.
    - ``earlier_events``: how many events before these events were left out.
    """

    def __init__(
        self, *histories: Iterable[Entry], until: Sequence[datetime | None] = (None,)
    ) -> None:
        """Read a whole history, or one history for each shard of a set.

        ``until``: for each history, see :meth:`SpanReader.read`. This call takes 17 bytes of memory
        for each attempt.
        """
        self._forget()
        self._until_ms = [int(at.timestamp() * 1000) for at in until if at is not None]
        self.repeated = 0
        self.events = deque[Event](maxlen=MAX_EVENTS)
        reader = OutcomeReader(self._forget)
        events = 0
        readers = [SpanReader() for _ in histories]
        given = zip(readers, histories, until, strict=True)
        read = (each.read(history, end) for each, history, end in given)
        for entry in merge(*read, key=lambda entry: entry.record.at):
            record = entry.record
            if isinstance(record, RowStatusRecord):
                outcome = reader.read(record)
                if outcome is not None:
                    self.repeated += outcome.status == "repeated"
                    if reader.is_attempt(outcome):
                        self._add(outcome)
            elif isinstance(record, _OF_JOB) and getattr(record, "status", "") != "running":
                event = event_of(record)
                if event.kind == "hold" and self.events and self.events[-1].kind == "hold":
                    continue  # only the first of successive holds becomes an event
                events += 1
                self.events.append(event)
        self.earlier_events = events - len(self.events)
        self.attempts = len(self._ended_ms)
        self.spans: dict[str, list[Span]] = {
            name: sorted(span for each in readers for span in each.found[name]) for name in SPANS
        }
        self.buckets = self._in_buckets()
        self.took_s = sorted(took_s for bucket in self.buckets for took_s in bucket.took_s)

    @property
    def attempts_per_s(self) -> float | None:
        """The average number of attempts that ended per second, from the first end to the last end.

        While a run works, the time extends to the present.

        ``None`` for fewer than 2 attempts, and if all attempts ended at the same time.
        """
        to_ms = max((*self._until_ms, *self._ended_ms), default=0)
        took_ms = to_ms - min(self._ended_ms, default=to_ms)
        return (len(self._ended_ms) - 1) * 1000 / took_ms if took_ms else None

    @property
    def ended_at(self) -> datetime | None:
        """When the last attempt ended."""
        return moment_at(max(self._ended_ms) / 1000) if self._ended_ms else None

    def _forget(self) -> None:
        self._ended_ms, self._took_s, self._outcomes = array("q"), array("d"), bytearray()

    def _add(self, outcome: RecordedOutcome) -> None:
        self._ended_ms.append(int(outcome.ended_at.timestamp() * 1000))
        took_s = None if outcome.status == "skipped" else outcome.took_s
        self._took_s.append(math.nan if took_s is None else took_s)
        self._outcomes.append(_OUTCOMES.index(outcome.status))

    def _in_buckets(self) -> list[Bucket]:
        edges = (at for spans in self.spans.values() for span in spans for at in span[:2])
        moments = array("q", (int(at.timestamp() * 1000) for at in edges))
        if not (moments or self._ended_ms):
            return []
        low, high = (of(chain(moments, self._ended_ms)) for of in (min, max))
        width = next(each for each in _WIDTHS_MS if high // each - low // each < MAX_BUCKETS)
        self.width_s, first = width / 1000, low // width
        numbers = range(first, high // width + 1)
        buckets = [Bucket(moment_at(number * width / 1000), Counter(), []) for number in numbers]
        ends = zip(self._ended_ms, self._took_s, self._outcomes, strict=True)
        for ended_ms, took_s, outcome in ends:
            bucket = buckets[ended_ms // width - first]
            bucket.ended[_OUTCOMES[outcome]] += 1
            if not math.isnan(took_s):
                bucket.took_s.append(took_s)
        for bucket in buckets:
            bucket.took_s.sort()
        return buckets
