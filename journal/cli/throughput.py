"""Computes how many rows of a job end per second, from the times of their last changes.

If a job has more than :data:`SAMPLE_ROWS` rows, only that many rows are read, evenly spread over
the job. So the work is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

import msgspec

from journal.model import JobRow
from journal.progress.rate import RECENT_ROWS

SAMPLE_ROWS = 2000
SPARK_CELLS = 32
_SPARKS = "▁▂▃▄▅▆▇█"
_ASCII_SPARKS = "_.:-=+*#"


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of rows that ended (completed, failed or skipped) in successive spans of time.

    The first span begins at ``begin``. Each span is ``span_s`` seconds long. Each row that was read
    represents ``rows_each`` rows of the job. The numbers in ``rows`` are already multiplied by this
    factor.
    """

    begin: datetime
    span_s: float
    rows: list[float]
    rows_each: float


def end_times(rows: Sequence[JobRow], at_most: int = SAMPLE_ROWS) -> tuple[list[datetime], float]:
    """Return the times at which rows ended, in order, and how many rows each time represents.

    At most ``at_most`` rows are read.
    """
    step = max(1.0, len(rows) / at_most)
    sample = rows if step == 1 else (rows[int((n + 0.5) * step)] for n in range(at_most))
    return sorted(row.updated_at for row in sample if row.status.is_ended), step


def throughput(times: list[datetime], rows_each: float) -> Throughput | None:
    """Count the times in equal spans. Returns None if there are no times."""
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
    """Return the recent rate of rows that ended, per second; None if there are too few rows.

    The rate is the number of rows that ended after ``since``, divided by the time from ``since``
    to ``now``. So the rate falls while a run hangs. If ``times`` has more than ``RECENT_ROWS`` such
    rows, only the last of them count, and the time begins when the row before them ended.
    """
    recent = times[bisect_left(times, since) :]
    if len(recent) > RECENT_ROWS:
        since = recent[-RECENT_ROWS - 1]
        recent = recent[-RECENT_ROWS:]
    elapsed_s = (now - since).total_seconds()
    enough = len(recent) >= (1 if rows_each == 1 else 3)
    return len(recent) * rows_each / elapsed_s if enough and elapsed_s > 0 else None


def sparkline(counts: list[float], drawable: bool) -> str:
    """Return a character for each count.

    The height of the character is proportional to the count. A count of 0 gets a blank.
    """
    sparks = _SPARKS if drawable else _ASCII_SPARKS
    highest = max(counts)
    return "".join(
        " " if not count else sparks[min(int(count / highest * len(sparks)), len(sparks) - 1)]
        for count in counts
    )
