"""Finds the number of workers for ``workers="auto"``. It reads no clock, so it can be simulated.

A **level** is a number of workers. Its **throughput** is the level divided by the mean duration of
an attempt (Little's law). Levels are tried one after another:

- While the throughput grows, the level is doubled.
- When the throughput stops growing, the **limit** is set. The limit is the highest level that
  probably works well. A Hold or a timeout may set it earlier. While there is a limit, the level
  grows by half of the distance to the limit.
- At the limit, a level 20% lower is tried after a wait. It is kept if the throughput doesn't fall.
  After the next wait, a level 25% higher is tried. It is kept if the throughput grows. Each level
  that isn't kept doubles the wait.

After a Hold or a timeout the level is halved. If there is no limit yet, or if the limit is more
than 90% of the level that failed, the limit becomes 90% of this level. But a timeout at a level
that has already gone well doesn't change the limit. A level is judged only by attempts that began
at this level. After a Hold, further Holds before the next success or timeout don't count, since
they belong to the same outage.
"""

from __future__ import annotations

import re
from typing import Any

from journal.errors import InvalidValueError

DEFAULT_BOUND = 100
_FIRST = 4
_SHARE = 0.7  # the part of a level's growth by which the throughput must grow
_MIN_ROUND = 16  # successes before a level is judged, and at least one for each worker
_ROUNDS = 3  # before a level is given up because its throughput is too low
_WEIGHT_ROUNDS = 8  # how many rounds are part of the mean duration at a level
_MIN_WAIT_S = 10.0  # before another level is tried at the limit, and 5 times the cost of a hold
_WAIT_FACTOR = 5
_MAX_WAIT_S = 1800.0

_AUTO = re.compile(r"auto(?::([1-9][0-9]{0,5}))?")


class Auto:
    """The present number of workers is ``count``, from 1 to ``bound``. Times are in seconds."""

    def __init__(self, bound: int = DEFAULT_BOUND) -> None:
        self.bound = bound
        self.count = min(_FIRST, bound)
        self.limit: int | None = None
        self._good = self.count  # the level with which others are compared
        self._base_s = 0.0  # the mean duration of an attempt at that level; 0: unknown
        self._since = 0  # attempts with higher tickets began at the present level
        self._ended = 0  # successes of such attempts, except the first one of each worker
        self._total_s = 0.0  # the sum of their durations
        self._is_used = False  # whether all workers of the level had something to do
        self._tries_less = False
        self._wait_s = _MIN_WAIT_S
        self._again_s = 0.0  # when another level may be tried at the limit
        self._failed_s: float | None = None  # of the last failure, until the next success
        self._is_held = False  # whether there was a hold since the last success

    @classmethod
    def parse(cls, workers: Any) -> Auto | None:
        """Parse ``"auto"`` or ``"auto:200"``, in which 200 is the bound.

        Returns None for a number of workers, and for None. Raises InvalidValueError.
        """
        is_int = isinstance(workers, int) and not isinstance(workers, bool)
        if workers is None or (is_int and workers >= 1):
            return None
        match = _AUTO.fullmatch(workers) if isinstance(workers, str) else None
        if match is None:
            reason = "must be an int from 1, 'auto', or 'auto:200', with the largest number"
            raise InvalidValueError("workers", workers, reason)
        return cls(int(match[1] or DEFAULT_BOUND))

    @classmethod
    def largest(cls, workers: int | str | None, *, has_pool: bool) -> int | None:
        """The largest number of workers. None means the executor's own number of workers."""
        auto = cls.parse(workers)
        if auto is None:
            return None if workers is None else int(workers)
        return None if has_pool and workers == "auto" else auto.bound

    def bind(self, bound: int) -> None:
        """Set the bound to the number of workers that exist."""
        self.bound = bound
        self.count = self._good = min(self.count, bound)

    def use(self, in_flight: int) -> None:
        """Record how many attempts are in flight.

        The number of workers grows only if all of them were used.
        """
        self._is_used = self._is_used or in_flight >= self.count

    def fail(self, ticket: int, last_ticket: int, now_s: float, *, is_hold: bool) -> None:
        """Count a Hold or a timeout of an attempt.

        An attempt that began at an earlier number of workers doesn't count. After a Hold, further
        Holds don't count until an attempt succeeds or times out.

        ``ticket``: the number of the attempt. ``last_ticket``: the number of the latest attempt.
        """
        if ticket <= self._since:
            return
        self._failed_s = now_s
        if is_hold and self._is_held:
            return
        self._is_held = is_hold
        if is_hold or self.count > self._good:  # a row that hangs limits no level that went well
            self._limit_to(self.count - max(1, self.count // 10), now_s)
        self._good = max(1, self.count // 2)
        self._go_to(self._good, last_ticket)

    def succeed(self, ticket: int, took_s: float, last_ticket: int, now_s: float) -> None:
        """Count an attempt that has succeeded."""
        if ticket <= self._since:
            return
        if self._failed_s is not None:
            cost_s, self._failed_s, self._is_held = now_s - self._failed_s, None, False
            self._wait_s = min(max(self._wait_s, _WAIT_FACTOR * cost_s), _MAX_WAIT_S)
            self._again_s = now_s + self._wait_s
        self._ended += 1
        successes = self._ended - self.count
        if successes <= 0:
            return
        self._total_s += took_s
        round_size = max(self.count, _MIN_ROUND)
        if successes < round_size or successes % round_size:
            return
        mean_s = self._total_s / successes
        if self.count == self._good or not self._base_s:
            self._settle(mean_s)
        elif not self._judge(mean_s, successes, now_s):
            return
        self._go_to(self._next(now_s), last_ticket)

    def _judge(self, mean_s: float, successes: int, now_s: float) -> bool:
        """Compare this number of workers with the one before.

        Returns False if more attempts must succeed first.
        """
        growth = self.count / self._good
        throughput = growth * self._base_s / mean_s  # relative to the level before
        is_more = growth > 1
        is_last = successes >= _ROUNDS * max(self.count, _MIN_ROUND)
        if not is_more and not is_last:
            return False
        if throughput - 1 >= (growth - 1) * (_SHARE if is_more else 1 - _SHARE):
            if is_more and self.limit is not None and self.count > self.limit:
                self.limit = None
            elif not is_more:
                self.limit = self.count
                self._tries_less, self._again_s = False, now_s  # try even less at once
            self._wait_s = _MIN_WAIT_S
            self._settle(mean_s)
            return True
        if not is_last:
            return False
        if is_more:
            knee = round(self._good * throughput)
            self._limit_to(min(max(knee, self._good), self.count - 1), now_s)
            self._good = self.limit or self._good
        else:
            self._wait(now_s)
        return True

    def _settle(self, mean_s: float) -> None:
        """Make the present number of workers the one with which other numbers are compared.

        ``mean_s``: the mean duration of an attempt with this number of workers.
        """
        is_known = self.count == self._good and self._base_s
        weight = 1 / _WEIGHT_ROUNDS if is_known else 1.0
        self._base_s += (mean_s - self._base_s) * weight
        self._good = self.count

    def _limit_to(self, limit: int, now_s: float) -> None:
        is_new = self.limit is None or limit < self.limit
        if is_new:
            self.limit = max(1, limit)
        self._wait(now_s, again=not is_new)

    def _wait(self, now_s: float, *, again: bool = True) -> None:
        self._wait_s = min(2 * self._wait_s, _MAX_WAIT_S) if again else _MIN_WAIT_S
        self._again_s = now_s + self._wait_s

    def _next(self, now_s: float) -> int:
        good = self._good
        if not self._is_used:
            return good
        if self.limit is None:
            return min(2 * good, self.bound)
        if good < self.limit:
            return good + max(1, (self.limit - good) // 2)
        if now_s < self._again_s:
            return good
        self._again_s = now_s + self._wait_s
        self._tries_less = not self._tries_less
        if self._tries_less:
            return max(1, good - max(1, good // 5))
        return min(good + max(1, -(-good // 4)), self.bound)

    def _go_to(self, count: int, last_ticket: int) -> None:
        if count != self.count:
            self.count, self._since, self._is_used, self._ended = count, last_ticket, False, 0
        else:
            self._ended = count  # no further warm-up
        self._total_s = 0.0
