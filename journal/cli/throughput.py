"""How fast the rows of a job end, by the times of their last changes.

In a job of more than :data:`SAMPLE_ROWS` rows only that many are read, evenly spread. Each of them
stands for its neighbours, so the work is bounded.
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
_RECENT_ROWS = 100  # a rate is that of the last 100 rows,
_RECENT_S = 10.0  # and, if a job is followed, of at least 10 s
_ENDED = (RowStatus.COMPLETED, RowStatus.FAILED, RowStatus.SKIPPED)


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows ended (completed, failed or skipped) in each of equal spans of time.

    The spans follow each other from ``begin``, each ``span_s`` seconds long. ``rows_each`` is how
    many rows one of the sample stands for; ``rows`` are multiplied by it.
    """

    begin: datetime
    span_s: float
    rows: list[float]
    rows_each: float


def end_times(rows: Sequence[JobRow], at_most: int = SAMPLE_ROWS) -> tuple[list[datetime], float]:
    """The times at which rows ended, in order, and how many rows each of them stands for.

    At most ``at_most`` rows are read.
    """
    step = max(1.0, len(rows) / at_most)
    sample = rows if step == 1 else (rows[int((n + 0.5) * step)] for n in range(at_most))
    return sorted(row.updated_at for row in sample if row.status in _ENDED), step


def throughput(times: list[datetime], rows_each: float) -> Throughput | None:
    """The times, counted in equal spans; None if there are no times."""
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
    """Rows per second of the last rows that ended after ``since``; None if they are too few.

    Time up to ``now`` counts, so the rate falls while a run hangs.
    """
    recent = times[bisect_left(times, since) :]
    if len(recent) > _RECENT_ROWS:
        since = recent[-_RECENT_ROWS - 1]
        recent = recent[-_RECENT_ROWS:]
    elapsed_s = (now - since).total_seconds()
    enough = len(recent) >= (1 if rows_each == 1 else 3)
    return len(recent) * rows_each / elapsed_s if enough and elapsed_s > 0 else None


class RecentRate:
    """The recent rows per second of a job that is followed."""

    def __init__(self) -> None:
        self._looks = deque[tuple[float, int]]()  # each count, and the time it was first seen

    def pause(self) -> None:
        """Forget the past: the time until the next look isn't working time."""
        self._looks.clear()

    def look(self, now_s: float, done: int) -> float | None:
        """The rate at ``now_s`` with ``done`` rows done; None at first."""
        looks = self._looks
        if looks and done < looks[-1][1]:  # rows were put back to pending
            looks.clear()
        if not looks or done != looks[-1][1]:
            looks.append((now_s, done))
        while (
            len(looks) > 2
            and done - looks[1][1] >= _RECENT_ROWS
            and now_s - looks[1][0] >= _RECENT_S
        ):
            looks.popleft()
        begin_s, before = looks[0]
        return (done - before) / (now_s - begin_s) if done > before and now_s > begin_s else None


def sparkline(counts: list[float], drawable: bool) -> str:
    """A character for each count, as high as its share of the highest; a blank for 0."""
    sparks = _SPARKS if drawable else _ASCII_SPARKS
    highest = max(counts)
    return "".join(
        " " if not count else sparks[min(int(count / highest * len(sparks)), len(sparks) - 1)]
        for count in counts
    )


def time_left(open_rows: int, rate: float | None) -> timedelta | None:
    """How long the open rows take at this rate; None if that is unknown."""
    if not rate:
        return None
    try:
        return timedelta(seconds=round(open_rows / rate))
    except OverflowError:
        return None
