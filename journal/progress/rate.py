"""Computes how many rows of a job end per second while its progress is watched."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

RECENT_ROWS = 100  # a rate covers at least the last 100 rows,
_RECENT_S = 10.0  # and at least 10 s


class RecentRate:
    """The recent rate, in rows per second, of a job whose progress is watched."""

    def __init__(self) -> None:
        # pairs of the time when a count was first seen, and the count
        self._looks = deque[tuple[float, int]]()

    def pause(self) -> None:
        """Forget all counts.

        Call this while the job isn't running, so that the pause doesn't count.
        """
        self._looks.clear()

    def look(self, now_s: float, done: int) -> float | None:
        """Add the count ``done`` at the time ``now_s``.

        Returns the rate; None if there are too few counts.
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
        return (done - before) / (now_s - begin_s) if done > before and now_s > begin_s else None


def time_left(open_rows: int, rate: float | None) -> timedelta | None:
    """The remaining time for the open rows at this rate; None if the rate is unknown."""
    if not rate:
        return None
    try:
        return timedelta(seconds=round(open_rows / rate))
    except OverflowError:
        return None
