"""Computes throughput and latency over time from a job's history, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime

from journal.format.records import (
    JobErrorRecord,
    JobPauseRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    MergeRecord,
    RowStatusRecord,
    RunEndedRecord,
    RunRecord,
)
from journal.history.durations import OutcomeReader, RecordedOutcome, moment_at
from journal.history.events import Event, event_of
from journal.history.reading import Entry

# Widths of a bucket in ms. Each width is a multiple of the previous one, so that buckets can be
# merged. If wider buckets are needed, their width is a power of 2 times the last width.
_WIDTHS_MS = [
    *(100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000),
    *(10_800_000, 21_600_000, 43_200_000, 86_400_000, 604_800_000, 2_419_200_000),
]
MAX_BUCKETS = 60
MAX_EVENTS = 200
_BINS_PER_OCTAVE = 8  # quantiles have an error of at most 4.5 %


class Latencies:
    """A histogram of durations in seconds: their number, maximum, and quantiles within 5 %."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0
        self._bins: Counter[int] = Counter()

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.longest_s = max(self.longest_s, duration_s)
        self._bins[math.floor(math.log2(max(duration_s, 1e-6)) * _BINS_PER_OCTAVE)] += 1

    def merge(self, other: Latencies) -> None:
        self.count += other.count
        self.longest_s = max(self.longest_s, other.longest_s)
        self._bins.update(other._bins)

    def quantile_s(self, share: float) -> float | None:
        """Return the quantile ``share`` (0 to 1) of all durations, in seconds.

        Returns ``None`` if there are no durations.
        """
        rank = share * self.count
        for number in sorted(self._bins):
            rank -= self._bins[number]
            if rank <= 0:
                return min(2 ** ((number + 0.5) / _BINS_PER_OCTAVE), self.longest_s)
        return None


class Bucket:
    """Counts the attempts that ended from ``begin`` until the next bucket begins, by status."""

    def __init__(self, begin: datetime) -> None:
        self.begin = begin
        self.ended: Counter[str] = Counter()
        self.latencies = Latencies()


class Timeline:
    """Counts outcomes in at most MAX_BUCKETS buckets of time.

    The buckets get wider as time passes.
    """

    def __init__(self) -> None:
        self._step = 0
        self._buckets: dict[int, Bucket] = {}
        self._first = self._last = 0  # the numbers of the first and the last bucket

    @property
    def width_s(self) -> float:
        return self._width_ms(self._step) / 1000

    def add(self, outcome: RecordedOutcome) -> None:
        """Count an outcome. Its time may be before those of earlier calls, as after a merge."""
        at_ms = int(outcome.ended_at.timestamp() * 1000)
        number = at_ms // self._width_ms(self._step)
        if not self._buckets:
            self._first = self._last = number
        while max(number, self._last) - min(number, self._first) >= MAX_BUCKETS:
            self._widen()
            number = at_ms // self._width_ms(self._step)
        self._first, self._last = min(number, self._first), max(number, self._last)
        bucket = self._bucket(number)
        bucket.ended[outcome.status] += 1
        if outcome.took_s is not None and outcome.status != "skipped":
            bucket.latencies.add(outcome.took_s)

    def buckets(self) -> list[Bucket]:
        """Return the buckets from the first to the last outcome, including empty buckets."""
        if not self._buckets:
            return []
        return [self._bucket(number) for number in range(self._first, self._last + 1)]

    def _bucket(self, number: int) -> Bucket:
        found = self._buckets.get(number)
        if found is None:
            begin_s = number * self._width_ms(self._step) / 1000
            found = self._buckets[number] = Bucket(moment_at(begin_s))
        return found

    def _widen(self) -> None:
        factor = self._width_ms(self._step + 1) // self._width_ms(self._step)
        old, self._buckets = self._buckets, {}
        self._step += 1
        self._first, self._last = self._first // factor, self._last // factor
        for number, bucket in old.items():
            wider = self._bucket(number // factor)
            wider.ended.update(bucket.ended)
            wider.latencies.merge(bucket.latencies)

    @staticmethod
    def _width_ms(step: int) -> int:
        beyond = step - len(_WIDTHS_MS) + 1
        return _WIDTHS_MS[step] if beyond <= 0 else _WIDTHS_MS[-1] << beyond


# The records that tell the story of a job. A run is one of them, so "running" isn't.
_OF_JOB = (
    *(JobRecord, RunRecord, RunEndedRecord, JobReopenedRecord, JobPauseRecord, JobStatusRecord),
    *(JobErrorRecord, MergeRecord),
)


class JobStatistics:
    """Throughput, latency and job events of a history.

    - ``timeline``: all attempts that ended, including repeated attempts. Rows that were settled
      without being started, for example by a person, count only if the job records no starts.
    - ``repeated``: how many attempts failed and were followed by another attempt.
    - ``latencies``: how long attempts took.
    - ``events``: the last events of the job as a whole, at most MAX_EVENTS.
    - ``earlier_events``: how many events before them were left out.
    """

    def __init__(self, history: Iterable[Entry]) -> None:
        """Read all of the history. Memory grows with the number of rows in flight at one moment."""
        self._forget()
        self.repeated = 0
        self.events = deque[Event](maxlen=MAX_EVENTS)
        self._reader = OutcomeReader(self._forget)
        events = 0
        for record in (entry.record for entry in history):
            if isinstance(record, RowStatusRecord):
                outcome = self._reader.read(record)
                if outcome is not None:
                    self._count(outcome)
            elif isinstance(record, _OF_JOB) and getattr(record, "status", "") != "running":
                events += 1
                self.events.append(event_of(record))
        self.earlier_events = events - len(self.events)
        self.latencies = Latencies()
        for bucket in self.timeline.buckets():
            self.latencies.merge(bucket.latencies)

    @property
    def attempts_per_s(self) -> float | None:
        """How many attempts ended per second on average, from the first end to the last end.

        ``None`` for fewer than 2 attempts, and if all attempts ended at the same time.
        """
        if self.first_end_at is None or self.last_end_at is None:
            return None
        took_s = (self.last_end_at - self.first_end_at).total_seconds()
        ended = sum(bucket.ended.total() for bucket in self.timeline.buckets())
        return (ended - 1) / took_s if took_s > 0 else None

    def _forget(self) -> None:
        self.timeline = Timeline()
        self.first_end_at: datetime | None = None
        self.last_end_at: datetime | None = None

    def _count(self, outcome: RecordedOutcome) -> None:
        self.repeated += outcome.status == "repeated"
        if not self._reader.is_attempt(outcome):
            return
        self.timeline.add(outcome)
        self.first_end_at = min(self.first_end_at or outcome.ended_at, outcome.ended_at)
        self.last_end_at = max(self.last_end_at or outcome.ended_at, outcome.ended_at)
