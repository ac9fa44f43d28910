"""Computes how many rows of a job end per second, from the times of their last changes.

If a job has more than :data:`SAMPLE_ROWS` rows, only that many rows are read, evenly spread over
the job. So the work is bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import datetime

from journal.model import JobRow
from journal.progress.rate import RECENT_ROWS

SAMPLE_ROWS = 2000


def end_times(rows: Sequence[JobRow], at_most: int = SAMPLE_ROWS) -> tuple[list[datetime], float]:
    """Return the times at which rows ended, in order, and how many rows each time represents.

    At most ``at_most`` rows are read.
    """
    step = max(1.0, len(rows) / at_most)
    sample = rows if step == 1 else (rows[int((n + 0.5) * step)] for n in range(at_most))
    return sorted(row.updated_at for row in sample if row.status.is_ended), step


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
