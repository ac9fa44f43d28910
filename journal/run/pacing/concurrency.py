"""Decides how many rows and calls a run may start now, by its workers, its rate and its holds."""

from __future__ import annotations

import math
from time import monotonic

from journal.model import Job, JobStatus
from journal.run.pacing.early_end import Bounds
from journal.run.pacing.holds import Holds
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import row_rate
from journal.run.row_queue import RowQueue
from journal.run.signals import Stops
from journal.run.workers.base import Workers
from journal.run.workers.in_flight import InFlight

# The queued rows, beside the rows in processing: 8 per worker, at least 32 and at most 256 in
# total.
_MAX_AHEAD_EACH = 8
_MIN_AHEAD = 32
_MAX_AHEAD = 256
_WEIGHT = 0.2  # the weight of the latest value in a moving average


class Ahead:
    """The number of rows that may be queued, beside the rows in processing.

    ``rows``: the last result of :meth:`look`.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._commit_s = 0.0  # moving average of a commit's duration
        self._handler_s = 1.0  # moving average of a handler's duration

    def hear_commit(self, elapsed_s: float) -> None:
        self._commit_s += (elapsed_s - self._commit_s) * _WEIGHT

    def hear_handler(self, elapsed_s: float) -> None:
        self._handler_s += (max(elapsed_s, 1e-6) - self._handler_s) * _WEIGHT

    def look(self, slots: int) -> int:
        """Return how many rows may be queued for this number of workers.

        A worker that finishes during a commit takes its next row from the queue. If handlers are
        slow, no queue is needed. If handlers are faster than a sync, the queue must be long: four
        times the number of rows that end during a commit. Some commits take longer than others, and
        results that gather meanwhile share a commit.
        """
        rows = int(4 * slots * self._commit_s / self._handler_s)
        self.rows = min(rows, max(slots * _MAX_AHEAD_EACH, _MIN_AHEAD), _MAX_AHEAD)
        return self.rows


class Starts:
    """The starts that a run may make now. ``rate``: the rate of starts.

    ``ahead``: the rows that are queued.
    """

    def __init__(
        self,
        limits: Limits,
        workers: Workers,
        in_flight: InFlight,
        queue: RowQueue,
        holds: Holds,
        bounds: Bounds,
        stops: Stops,
    ) -> None:
        self._limits = limits
        self._in_flight = in_flight
        self._queue = queue
        self._bounds, self._brake = bounds, bounds.brake
        self._holds = holds
        self._stops = stops
        self.rate = row_rate(limits)
        self.ahead = Ahead()
        self._workers = workers
        self.change()

    def change(self) -> None:
        """Take the current limits. Call this after a change of the limits."""
        limits = self._limits
        # In three cases, rows aren't queued. If attempts have a timeout, the time in the queue
        # would count for the timeout. If an outcome may end the run, no more rows may start after
        # this outcome. With batches, all rows of a call that had not begun would be in doubt after
        # a crash.
        is_plain = limits.timeout_s is None and limits.batch is None
        ends_soon = self._bounds.depend_on_outcomes
        self._may_queue = self._workers.queues and is_plain and not ends_soon

    def next_s(self, job: Job, now_s: float) -> float:
        """The time, by ``monotonic``, at which the next row may start if no attempt ends first."""
        if not (self._room(job) or (self._queue.calls and self.free_calls(job))):
            return math.inf
        allowed_s, until_s = now_s, math.inf
        if self.rate is not None:
            allowed_s += max(self.rate.wait_s, 0.001)
            until_s = allowed_s
        if self._queue.usage is not None and self._queue.usage.wait_s:
            allowed_s = max(allowed_s, now_s + self._queue.usage.wait_s)
            until_s = min(until_s, allowed_s)
        if self._queue.next_due_s is not None:
            until_s = min(until_s, max(self._queue.next_due_s, allowed_s))
        return until_s

    def free_calls(self, job: Job) -> int:
        """The number of calls that may be resumed now."""
        if job.status is not JobStatus.RUNNING or self._stops.count:
            return 0
        in_flight = self._in_flight
        return self._holds.allowed(max(0, in_flight.slots - in_flight.calls), monotonic())

    def free_slots(self, job: Job, taken: int = 0) -> int:
        """The number of rows that may start now. ``taken``: the calls that are resumed."""
        room = self._room(job, taken)
        if not room or self.rate is None:
            return room
        return min(room, self.rate.allowed(monotonic(), min(room, self._queue.most(job))))

    def _room(self, job: Job, taken: int = 0) -> int:
        """The number of rows that may start without the rate limit."""
        if job.status is not JobStatus.RUNNING or self._stops.count:
            return 0
        slots = self._in_flight.slots
        ahead = self.ahead.look(slots)
        if not self._may_queue or (self._brake.is_undecided and not self._queue.is_past_fresh):
            # Until the brake has decided, start only the rows that the brake needs.
            ahead = self.ahead.rows = 0
        count = (slots + ahead - self._in_flight.calls - taken) * (self._limits.batch or 1)
        count = min(count, self._queue.places)
        return max(0, self._holds.allowed(count, monotonic(), taken))
