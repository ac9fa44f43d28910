"""How many rows wait for a worker: enough that none idles during a commit, and no more."""

from __future__ import annotations

# Rows queued beyond those being processed: 8 per worker, at least 32 and at most 256 in total.
_MAX_AHEAD_EACH = 8
_MIN_AHEAD = 32
_MAX_AHEAD = 256
_WEIGHT = 0.2  # of the latest value in a moving average


class Ahead:
    """How many rows may be queued beyond those being processed: ``rows``, as of the last look."""

    def __init__(self) -> None:
        self.rows = 0
        self._commit_s = 0.0  # moving average of a commit's duration
        self._handler_s = 1.0  # moving average of a handler's duration

    def hear_commit(self, elapsed_s: float) -> None:
        self._commit_s += (elapsed_s - self._commit_s) * _WEIGHT

    def hear_handler(self, elapsed_s: float) -> None:
        self._handler_s += (max(elapsed_s, 1e-6) - self._handler_s) * _WEIGHT

    def look(self, slots: int) -> int:
        """Return how many rows may be queued for so many workers.

        A worker that finishes during a commit takes its next row from the queue. If handlers are
        slow, no queue is needed. If handlers are faster than a sync, the queue must be long: four
        times as many rows as end during a commit, since some commits take longer than others, and
        results that gather in the meantime share a commit.
        """
        rows = int(4 * slots * self._commit_s / self._handler_s)
        self.rows = min(rows, max(slots * _MAX_AHEAD_EACH, _MIN_AHEAD), _MAX_AHEAD)
        return self.rows
