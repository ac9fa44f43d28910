"""How a job went, out of its history: throughput and latency over time, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from journal.format.records import (
    JobErrorRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    RowStatusRecord,
)
from journal.history.durations import Outcome, Outcomes, moment_at
from journal.history.events import reopened_text
from journal.history.reading import Entry

# Widths of a bucket in ms, each a multiple of the one before, so that buckets can be merged; the
# last is doubled from there.
_WIDTHS_MS = [
    *(100, 500, 1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000),
    *(10_800_000, 21_600_000, 43_200_000, 86_400_000, 604_800_000, 2_419_200_000),
]
MAX_BUCKETS = 60
MAX_EVENTS = 200
_BINS_PER_OCTAVE = 8  # a quantile is off by 4.5 % at most


class Latencies:
    """Durations in seconds: how many, their sum and largest, and quantiles within 5 %."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self.longest_s = 0.0
        self._bins: Counter[int] = Counter()

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.total_s += duration_s
        self.longest_s = max(self.longest_s, duration_s)
        self._bins[math.floor(math.log2(max(duration_s, 1e-6)) * _BINS_PER_OCTAVE)] += 1

    def merge(self, other: Latencies) -> None:
        self.count += other.count
        self.total_s += other.total_s
        self.longest_s = max(self.longest_s, other.longest_s)
        self._bins.update(other._bins)

    @property
    def mean_s(self) -> float | None:
        return self.total_s / self.count if self.count else None

    def quantile_s(self, share: float) -> float | None:
        """What ``share`` of the durations are at most; None if there are none."""
        rank = share * self.count
        for number in sorted(self._bins):
            rank -= self._bins[number]
            if rank <= 0:
                return min(2 ** ((number + 0.5) / _BINS_PER_OCTAVE), self.longest_s)
        return None


class Bucket:
    """What happened from ``begin`` on for the timeline's ``width_s``: ended tries, by status."""

    def __init__(self, begin: datetime) -> None:
        self.begin = begin
        self.ended: Counter[str] = Counter()
        self.latencies = Latencies()


class Timeline:
    """Outcomes in at most MAX_BUCKETS buckets, which get wider as time goes on."""

    def __init__(self) -> None:
        self._step = 0
        self._buckets: dict[int, Bucket] = {}
        self._first = self._last = 0

    @property
    def width_s(self) -> float:
        return self._width_ms(self._step) / 1000

    def add(self, outcome: Outcome) -> None:
        """Take in the next outcome; they come in the order of their times."""
        at_ms = int(outcome.ended_at.timestamp() * 1000)
        number = at_ms // self._width_ms(self._step)
        if not self._buckets:
            self._first = number
        while number - self._first >= MAX_BUCKETS:
            self._widen()
            number = at_ms // self._width_ms(self._step)
        self._last = number
        bucket = self._bucket(number)
        bucket.ended[outcome.status] += 1
        if outcome.took_s is not None and outcome.status != "skipped":
            bucket.latencies.add(outcome.took_s)

    def buckets(self) -> list[Bucket]:
        """From the first to the last in which something ended, those without anything too."""
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
        self._first //= factor
        for number, bucket in old.items():
            wider = self._bucket(number // factor)
            wider.ended.update(bucket.ended)
            wider.latencies.merge(bucket.latencies)

    @staticmethod
    def _width_ms(step: int) -> int:
        beyond = step - len(_WIDTHS_MS) + 1
        return _WIDTHS_MS[step] if beyond <= 0 else _WIDTHS_MS[-1] << beyond


class JobEvent(NamedTuple):
    """The job itself was ``what`` at ``at``; ``ended_rows`` outcomes came until the next event.

    That is "created", a status, "running again", "reopened" or "error".
    """

    at: datetime
    what: str
    detail: str
    ended_rows: int


def _run_text(details: object) -> str | None:
    """Who has begun a run, if that is what a log record's details say."""
    match details:
        case {"run": {"host": host, **run}}:
            told = {"user": "by", "pid": "as process", "version": "with rowjournal"}
            known = [f"{word} {run[name]}" for name, word in told.items() if name in run]
            return " ".join([f"on {host}", *known])
    return None


class JobStatistics:
    """What a history says; ``repeated`` counts tries that failed, with the row put back after it.

    ``timeline`` has all tries that ended, those too. A row that was settled without being in
    processing, as by somebody the day after, is in it only in a history that never says when a row
    was started.
    ``events`` are at most MAX_EVENTS, the last ones; ``earlier_events`` are those before them.
    """

    def __init__(self, history: Iterable[Entry]) -> None:
        """Reads all of it, in memory for the rows that were in flight at a time."""
        self._forget()
        self.repeated = 0
        self.events: list[JobEvent] = []
        self.earlier_events = 0
        self._ended = 0  # since the last event
        self._outcomes = Outcomes(self._forget)
        is_running = run_began = False
        for entry in history:
            record = entry.record
            if isinstance(record, RowStatusRecord):
                outcome = self._outcomes.of(record)
                if outcome is not None:
                    self._count(outcome)
            elif isinstance(record, JobRecord):
                self._note(record.at, "created", "")
            elif isinstance(record, JobReopenedRecord):
                self._note(record.at, "reopened", reopened_text(record))
                is_running = False
            elif isinstance(record, JobStatusRecord):
                if not (record.status == "running" and run_began):  # that is in the event already
                    self._note(record.at, record.status, "")
                is_running = record.status == "running"
            elif isinstance(record, LogRecord):
                began = _run_text(record.details)
                if began is not None:
                    self._note(record.at, "running again" if is_running else "running", began)
                    run_began = True
                    continue
            elif isinstance(record, JobErrorRecord):
                self._note(record.at, "error", f"{record.code}: {record.message}")
            run_began = False  # a run's status is the next record, if it is a new one
        self._close_event()
        self.latencies = Latencies()
        for bucket in self.timeline.buckets():
            self.latencies.merge(bucket.latencies)

    @property
    def tries_per_s(self) -> float | None:
        """Of the time between the first and the last try that ended; None for fewer than two."""
        if self.first_end_at is None or self.last_end_at is None:
            return None
        took_s = (self.last_end_at - self.first_end_at).total_seconds()
        ended = sum(bucket.ended.total() for bucket in self.timeline.buckets())
        return (ended - 1) / took_s if took_s > 0 else None

    def _forget(self) -> None:
        self.timeline = Timeline()
        self.first_end_at: datetime | None = None
        self.last_end_at: datetime | None = None

    def _count(self, outcome: Outcome) -> None:
        self._ended += 1
        self.repeated += outcome.status == "repeated"
        if not self._outcomes.is_try(outcome):
            return
        self.timeline.add(outcome)
        if self.first_end_at is None:
            self.first_end_at = outcome.ended_at
        self.last_end_at = outcome.ended_at

    def _note(self, at: datetime, what: str, detail: str) -> None:
        self._close_event()
        self.events.append(JobEvent(at, what, detail, 0))
        if len(self.events) > MAX_EVENTS:
            del self.events[1]  # the first says when the job was made
            self.earlier_events += 1

    def _close_event(self) -> None:
        if self.events:
            self.events[-1] = self.events[-1]._replace(ended_rows=self._ended)
        self._ended = 0
