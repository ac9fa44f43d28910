"""How fast a job's rows end, from when the latest word on each was written.

Of a job of more than :data:`SAMPLE_ROWS` rows, so many are looked at, evenly over their numbers:
the work is bounded, and each of them stands for its neighbours.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from journal.model import JobRow, RowStatus

SAMPLE_ROWS = 2000
SPARK_CELLS = 32
_SPARKS = "▁▂▃▄▅▆▇█"
_ASCII_SPARKS = "_.:-=+*#"
_RECENT = 100  # rows of the sample, over which the rate is taken
_RECENT_S = 10.0  # and of what is looked at as it goes: at least so long
_ENDED = (RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.SKIPPED)


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that ended (completed, failed, skipped) in equal spans of time.

    ``rows`` holds how many in each of ``span_s`` seconds from ``begin`` on; of a sample, each
    times ``rows_each``, how many rows one that was looked at stands for.
    """

    begin: datetime
    span_s: float
    rows: list[float]
    rows_each: float


def end_times(rows: Sequence[JobRow], at_most: int = SAMPLE_ROWS) -> tuple[list[datetime], float]:
    """When rows ended, in order, and how many rows each of these moments stands for.

    No more than ``at_most`` rows are read.
    """
    step = max(1.0, len(rows) / at_most)
    looked_at = (
        iter(rows) if step == 1 else (rows[int((number + 0.5) * step)] for number in range(at_most))
    )
    return sorted(row.updated_at for row in looked_at if row.status in _ENDED), step


def throughput(times: list[datetime], rows_each: float) -> Throughput | None:
    """The times in equal spans; None if there are none."""
    if not times:
        return None
    begin = times[0]
    length_s = (times[-1] - begin).total_seconds()
    cells = SPARK_CELLS if length_s > 0 else 1
    span_s = length_s / cells
    counts = [0.0] * cells
    for at in times:
        cell = int((at - begin).total_seconds() / span_s) if span_s else 0
        counts[min(cell, cells - 1)] += rows_each
    return Throughput(begin=begin, span_s=span_s, rows=counts, rows_each=rows_each)


def recent_rate(
    times: list[datetime], rows_each: float, since: datetime, now: datetime
) -> float | None:
    """Rows a second of late, of those that ended after ``since``; None if there are too few to say.

    Up to now: of a run that hangs, the rate falls.
    """
    recent = times[bisect_left(times, since) :]
    if len(recent) > _RECENT:
        since = recent[-_RECENT - 1]
        recent = recent[-_RECENT:]
    elapsed_s = (now - since).total_seconds()
    enough = len(recent) >= (1 if rows_each == 1 else 3)
    return len(recent) * rows_each / elapsed_s if enough and elapsed_s > 0 else None


class RecentRate:
    """Rows a second of late, from one look at a job to the next."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = (
            deque()
        )  # when a count was first seen, and the count

    def pause(self) -> None:
        """Nobody works on it: the time until the next look is none that rows have taken."""
        self._looks.clear()

    def look(self, now_s: float, done: int) -> float | None:
        """The rate now that so many rows are done, over the last 100 of them or ten seconds; None at first."""
        looks = self._looks
        if looks and done < looks[-1][1]:  # rows were put back
            looks.clear()
        if not looks or done != looks[-1][1]:
            looks.append((now_s, done))
        while len(looks) > 2 and done - looks[1][1] >= _RECENT and now_s - looks[1][0] >= _RECENT_S:
            looks.popleft()
        begin_s, before = looks[0]
        return (done - before) / (now_s - begin_s) if done > before and now_s > begin_s else None


def sparkline(counts: list[float], drawable: bool) -> str:
    """A character for each count, by its share of the highest; a blank for none."""
    sparks = _SPARKS if drawable else _ASCII_SPARKS
    highest = max(counts)
    return "".join(
        " " if not count else sparks[min(int(count / highest * len(sparks)), len(sparks) - 1)]
        for count in counts
    )


def time_left(open_rows: int, rate: float | None) -> timedelta | None:
    """How long the rest takes at this rate; None if nobody can say."""
    if not rate:
        return None
    try:
        return timedelta(seconds=round(open_rows / rate))
    except OverflowError:
        return None
