"""Computes throughput and latency over time from a job's history."""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import merge
from itertools import chain
from typing import NamedTuple

from journal.format.records import (
    HoldRecord,
    JobErrorRecord,
    JobPauseRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    MergeRecord,
    RowStatusRecord,
    RunEndedRecord,
    RunRecord,
    TunedRecord,
)
from journal.history.durations import OutcomeReader, RecordedOutcome, moment_at
from journal.history.events import Event, event_of
from journal.history.reading import Entry
from journal.history.spans import SPANS, Span, SpanReader

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

    ``ended``: their number by outcome. ``took_s``: how long they took, in ascending order.
    """

    begin: datetime
    ended: Counter[str]
    took_s: list[float]


def quantile_s(took_s: Sequence[float], share: float) -> float | None:
    """Return the quantile ``share`` (above 0, up to 1) of ascending durations, if there are any."""
    return took_s[math.ceil(share * len(took_s)) - 1] if took_s else None


# The records that tell the story of a job. A run is one of them, so "running" isn't.
_OF_JOB = (
    *(JobRecord, RunRecord, RunEndedRecord, JobReopenedRecord, JobPauseRecord, JobStatusRecord),
    *(HoldRecord, JobErrorRecord, MergeRecord, TunedRecord),
)


class JobStatistics:
    """Throughput, latency, job events and spans of a history.

    - ``buckets``: all attempts that ended, including repeated attempts, in at most MAX_BUCKETS
      buckets of ``width_s`` seconds, which cover all spans, too. Rows that were settled without
      being started, for example by a person, count only if the job records no starts.
    - ``attempts``: how many attempts ended. ``spans``: see :class:`SpanReader`, by their begin.
    - ``repeated``: how many attempts failed and were followed by another attempt.
    - ``took_s``: how long attempts took, in ascending order.
    - ``events``: the last events of the job as a whole, at most MAX_EVENTS.
    - ``earlier_events``: how many events before them were left out.
    """

    def __init__(
        self, *histories: Iterable[Entry], until: Sequence[datetime | None] = (None,)
    ) -> None:
        """Read all of the history: of a set, one history for each shard.

        ``until``: for each history, see :meth:`SpanReader.read`. It takes 17 bytes of memory for
        each attempt.
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
                    continue  # of holds in succession, the first one
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
        """How many attempts ended per second on average, from the first end to the last end, or to
        the present time while a run works.

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
