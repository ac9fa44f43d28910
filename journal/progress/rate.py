"""Computes how fast the rows of a job end, and the remaining time."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from journal.model import Job, usage_rates_text
from journal.progress.stalls import STALL_S

RECENT_ROWS = 100  # a rate covers at least the last 100 rows,
_RECENT_S = 10.0  # and at least 10 s


class RecentRate:
    """The recent rate, in rows per second, of a job whose progress is watched."""

    def __init__(self) -> None:
        # pairs of the time when a count was first seen, and the count
        self._looks = deque[tuple[float, int]]()

    def pause(self) -> None:
        """Forget all counts.

        Call this method while the job isn't running. Then the rate doesn't include the pause.
        """
        self._looks.clear()

    def look(self, now_s: float, done: int) -> float | None:
        """Add the count ``done`` at the time ``now_s``.

        Returns the rate. Returns None if there are too few counts. Also returns None if the count
        hasn't changed for a minute, and for ten times as long as usual.
        """
        looks = self._looks
        if looks and done < looks[-1][1]:  # rows became pending again
            looks.clear()
        if not looks or done != looks[-1][1]:
            looks.append((now_s, done))
        while (
            len(looks) > 2
            and done - looks[1][1] >= RECENT_ROWS
            and now_s - looks[1][0] >= _RECENT_S
        ):
            looks.popleft()
        begin_s, before = looks[0]
        if done <= before or now_s <= begin_s:
            return None
        quiet_s, mean_s = now_s - looks[-1][0], (looks[-1][0] - begin_s) / (done - before)
        return None if quiet_s >= max(STALL_S, 10 * mean_s) else (done - before) / (now_s - begin_s)


def time_left(job: Job, rate: float | None) -> timedelta | None:
    """The remaining time for the open rows at this rate.

    None if the rate is unknown, or if a rate of usage limits the run: see :func:`usage_rates_text`.
    """
    if not rate or usage_rates_text(job):
        return None
    try:
        return timedelta(seconds=round(job.open_rows / rate))
    except OverflowError:
        return None
