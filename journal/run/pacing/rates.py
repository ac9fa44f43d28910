"""Rates. ``rate="50/s"`` limits starts. ``rate={"input_tokens": "200000/m"}`` limits usage.

While a call is in flight, the call counts with an estimate. From its end on, the call counts with
its usage, for one unit of time. So the called service may count the usage at any moment of the
call.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from time import monotonic

from journal.errors import InvalidValueError
from journal.format.arguments import ROWS, check_usage, parse_rate, rates_of
from journal.format.records import BY_OTHERS, RowStatusRecord, now
from journal.history.history import read_history
from journal.ids import row_id_of
from journal.model import JobRow
from journal.run.lifecycle import RunningJob
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.workers.base import Call
from journal.run.workers.in_flight import Result

_BURST_S = 0.05  # rows that are due within this time may start together and share a commit


class Rate:
    """Allows at most ``per_s`` starts a second.

    Starts are evenly spread, but up to ``batch`` rows may start together. After a time without
    starts, a short burst is allowed.
    """

    def __init__(self, per_s: float, batch: int = 1) -> None:
        self._per_s = per_s
        self._batch = self._wanted = batch
        self._burst = max(float(batch), per_s * _BURST_S)
        self._tokens = float(batch)
        self._at_s: float | None = None

    @classmethod
    def parse(cls, text: str, batch: int = 1) -> Rate:
        """Parse a rate such as ``"50/s"``, ``"100/m"`` or ``"2.5/h"``. Raises InvalidValueError.

        The result's ``batch`` is at most the number in the rate (100 in ``"100/m"``), rounded down,
        and at least 1.
        """
        number, unit_s = parse_rate(text)
        return cls(number / unit_s, min(batch, max(1, int(number))))

    def follow(self, former: Rate | None) -> None:
        """Take the place of another rate in a run. Recent starts under that rate count."""
        if former is not None:
            used, self._at_s = former.used
            self._tokens = max(0.0, self._tokens - used)

    @property
    def used(self) -> tuple[float, float | None]:
        """The number of recent starts, and the time of the last call of :meth:`allowed`."""
        return max(0.0, self._batch - self._tokens), self._at_s

    def allowed(self, now_s: float, pending: int = 1) -> int:
        """The number of rows that may start now.

        ``pending``: how many rows could start without this rate.
        """
        if self._at_s is not None:
            earned = (now_s - self._at_s) * self._per_s
            self._tokens = min(self._burst, self._tokens + earned)
        self._at_s = now_s
        self._wanted = max(1, min(self._batch, pending))
        return int(self._tokens) if self._tokens >= self._wanted else 0

    def use(self, count: int) -> None:
        """Count starts."""
        self._tokens -= count

    @property
    def wait_s(self) -> float:
        """Seconds until more rows may start."""
        return max(0.0, (self._wanted - self._tokens) / self._per_s)


_MAX_KNOWN = 1000  # the number of latest usages from which estimates are made
_FEW = 20  # with fewer usages, the largest usage is the estimate
_SHARE = 0.95  # with more usages, this share of them is at most as large as the estimate
_READ_BYTES = 4 << 20  # how much of the journal a starting run reads to find usages
_ROUNDED = 1 + 1e-9  # sums of floats have errors
_SHOWN_S = 1.0  # people see only longer waits
_NOT_FAILED = ("completed", "skipped", "waiting")  # kinds of outcomes, and statuses in records
_MISSING = 3  # after this number of answers without a usage, a message reports them
_OTHER = 10  # after this number of answers that name only other usages, the run ends


def row_rate(limits: Limits) -> Rate | None:
    """Make the rate of starts."""
    text = rates_of(limits.rate).get(ROWS)
    return None if text is None else Rate.parse(text, limits.batch or 1)


# --- rates by usage


class Window:
    """The usage of one quantity in a sliding unit of time. Times are those of ``monotonic``.

    - ``in_flight``: the estimates of all rows in flight.
    - ``missing``: the number of answers without a usage. ``is_reported``: whether a message has
      reported this number.
    """

    def __init__(self, name: str, rate: str) -> None:
        self.name = name
        self.change(rate)
        self.in_flight = 0.0
        self.missing = 0
        self.is_reported = False
        self._used: deque[tuple[float, float]] = deque()  # when, and how much
        self._total = 0.0
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []  # the same usages in ascending order

    def change(self, rate: str) -> None:
        """Change the rate. A longer unit begins with the usages that the former unit has kept."""
        self.rate = rate
        self.limit, self.unit_s = parse_rate(rate)

    @property
    def known(self) -> int:
        """The number of known usages."""
        return len(self._ordered)

    @property
    def estimate(self) -> float:
        """The usage of a row according to the known usages, or 0 if no usage is known."""
        if self.known < _FEW:
            return self._ordered[-1] if self._ordered else 0.0
        return self._ordered[math.ceil(self.known * _SHARE) - 1]

    def learn(self, amount: float) -> None:
        """Take the usage of a row into account for estimates."""
        self._latest.append(amount)
        insort(self._ordered, amount)
        if self.known > _MAX_KNOWN:
            del self._ordered[bisect_left(self._ordered, self._latest.popleft())]

    def use(self, amount: float, at_s: float) -> None:
        """Count an amount. ``at_s`` must not go back."""
        if amount:
            self._used.append((at_s, amount))
            self._total += amount

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until ``amount`` may be used; infinite if calls in flight must end first.

        An amount above the limit may be used if no other usage counts.
        """
        while self._used and self._used[0][0] <= now_s - self.unit_s:
            self._total -= self._used.popleft()[1]
        over = self._total + self.in_flight + min(amount, self.limit) - self.limit * _ROUNDED
        if over <= 0:
            return 0.0
        for at_s, used in self._used:
            over -= used
            if over <= 0:
                return max(at_s + self.unit_s - now_s, 0.001)
        return math.inf


class UsageRates:
    """Decides which rows may start. Only the driver uses this class.

    The estimate of a row is what ``estimate`` of :meth:`JobRun.run` says, or else the estimate of
    the :class:`Window`. As long as few usages are known, the number of calls in flight is limited
    to the number of known usages. One call is always allowed.

    ``wait_s``: after a turn, the seconds until the row that had to wait may start, or 0.
    """

    def __init__(self, limits: Limits, job: RunningJob) -> None:
        self._windows = [Window(name, rate) for name, rate in limits.usage_rates.items()]
        self._estimate = limits.estimate
        self._batch = limits.batch or 1
        self._job = job
        # The estimates of rows, by the numbers of row and attempt. Until the end of the turn, a
        # row's estimate is stored by the row's number.
        self._in_flight: dict[tuple[int, int], list[float]] = {}
        self._admitted: dict[int, list[float]] = {}
        self._pending = 0
        self.wait_s = 0.0

    def change(self, rates: Mapping[str, str]) -> None:
        """Change the rates. For a new name, rows in flight count nothing."""
        before = {window.name: window for window in self._windows}
        self._windows = [before.get(name) or Window(name, rate) for name, rate in rates.items()]
        for window in self._windows:
            window.change(rates[window.name])
        for estimates in self._in_flight.values():
            known = dict(zip(before, estimates, strict=True))
            estimates[:] = [known.get(window.name, 0.0) for window in self._windows]

    def pace(self) -> str:
        """Return text for people about the rate that rows wait for, or "" if no row waits."""
        rates = ", ".join(f"{window.name}={window.rate}" for window in self._windows)
        return f"waiting for the rate {rates}" if _SHOWN_S <= self.wait_s < math.inf else ""

    def begin_turn(self, pending: int) -> None:
        """Begin to start rows.

        ``pending``: the number of rows that could start without these rates.
        """
        self._pending, self.wait_s = pending, 0.0

    def admits(self, number: int) -> bool:
        """Return whether a row may start now, together with the rows already admitted in this turn."""
        now_s, admitted = monotonic(), len(self._admitted)
        factor = 1
        if self._estimate is None:
            known = min(window.known for window in self._windows)
            if len(self._in_flight) + admitted >= max(1, known) * self._batch:
                self.wait_s = math.inf
                return False
            if not admitted % self._batch:  # all rows of a call start together
                factor = max(1, min(self._batch, self._pending - admitted))
        estimates = self._estimates_of(number)
        pairs = zip(self._windows, estimates, strict=True)
        self.wait_s = max(window.wait_s(own * factor, now_s) for window, own in pairs)
        if self.wait_s:
            return False
        self._reserve(estimates, 1)
        self._admitted[number] = estimates
        return True

    def start(self, rows: Iterable[JobRow]) -> None:
        """End the turn. ``rows``: the admitted rows that were started."""
        for row in rows:
            self._in_flight[row.row_number, row.attempts] = self._admitted.pop(row.row_number)
        for estimates in self._admitted.values():
            self._reserve(estimates, -1)
        self._admitted.clear()

    def end(self, results: Iterable[Result]) -> None:
        """Count what attempts have used. Attempts without a usage count with their estimates.

        But without ``estimate``, an attempt that has no usage and hasn't failed counts as 0. A row
        with the usage {} is ignored, because the first row of its call has the usage.

        Raises InvalidValueError if answers lack the usage of a rate and have other usages, because
        such a rate would limit nothing.
        """
        now_s = monotonic()
        calls: dict[tuple[Call, Window], float] = {}
        missing: dict[Window, Outcome] = {}
        for result in results:
            row, outcome = result.row, result.outcome
            estimates = self._in_flight.pop((row.row_number, row.attempts), None)
            if estimates is None:
                continue  # a late result, which was counted when its call was given up
            self._reserve(estimates, -1)
            if outcome.usage == {}:
                continue
            is_free = outcome.is_given_back or (
                outcome.kind in _NOT_FAILED and self._estimate is None
            )
            for window, own in zip(self._windows, estimates, strict=True):
                amount = (outcome.usage or {}).get(window.name)
                if amount is None:
                    window.use(0.0 if is_free else own, now_s)
                    window.missing += outcome.is_answer
                    missing[window] = outcome
                else:
                    window.use(amount, now_s)
                    calls[result.call, window] = calls.get((result.call, window), 0.0) + amount
        for (call, window), amount in calls.items():
            window.learn(amount / len(call.rows))
        for window, outcome in missing.items():
            self._report_missing(window, outcome.usage)

    def _reserve(self, estimates: list[float], sign: int) -> None:
        for window, own in zip(self._windows, estimates, strict=True):
            window.in_flight += sign * own

    def _report_missing(self, window: Window, usage: Mapping[str, float] | None) -> None:
        """Report that answers lack a usage. ``usage``: the usage in the last answer."""
        enough = _OTHER if usage else _MISSING
        if window.known or window.missing < enough or self._estimate is not None:
            return
        name = window.name
        how = f'return journal.RowResult(usage={{"{name}": ...}})'
        if self._job.settings.how_to.command:
            how = f'with `--stdout json`, COMMAND prints {{"usage": {{"{name}": 12}}}}'
        problem = f"no outcome says how much {name!r} it has used"
        if usage:
            problem += f", but how much {', '.join(map(repr, usage))}: limit one of these, or {how}"
            raise InvalidValueError("rate", name, problem)
        if not window.is_reported:
            window.is_reported = True
            self._job.warn(f"{self._job.id}: {problem}, so one call is made at a time: {how}")

    def _estimates_of(self, number: int) -> list[float]:
        given: Mapping[str, float] = {}
        if self._estimate is not None:
            row = self._job.service.get_row(row_id_of(self._job.id, number))
            value = None if row is None else self._estimate(row)
            try:
                given = check_usage(value) or {}
            except InvalidValueError:
                reason = "must return a dict of numbers, such as {'input_tokens': 900}"
                raise InvalidValueError("estimate", value, f"{reason}, for row {number}") from None
        return [given.get(window.name, window.estimate) for window in self._windows]

    def read(self) -> None:
        """Count the usage of earlier runs, and the calls that were in flight when a run died.

        The usage of a failed attempt without a recorded usage is estimated, as by :meth:`end`.
        Nobody knows when a call of a dead run has ended. The assumed end of the call is the last
        record of its run, plus the duration of the longest known attempt.
        """
        history = read_history(self._job.service.store, self._job.id)
        at, now_s = now(), monotonic()
        unit = timedelta(seconds=max(window.unit_s for window in self._windows))
        begin = min(
            history.position_at(at - unit),
            history.position_before(max(0, history.end.offset - _READ_BYTES)),
            key=lambda position: position.offset,
        )
        started: dict[int, datetime] = {}
        died: list[tuple[int, datetime]] = []
        failed: list[tuple[int, datetime, Mapping[str, float]]] = []
        used: list[tuple[datetime, Mapping[str, float]]] = []
        ended, longest, last_at = 0, timedelta(), datetime.min.replace(tzinfo=at.tzinfo)
        for record in history.records(RowStatusRecord, begin=begin):
            moment, began = record.happened_at, started.pop(record.row, None)
            if record.status == "processing":
                started[record.row] = moment
            elif began is not None and record.by in BY_OTHERS:
                died.append((record.row, max(began, last_at)))
            elif began is not None:
                ended += record.usage is not None or record.status in _NOT_FAILED
                longest = max(longest, moment - began)
                if not (record.reset or record.status in _NOT_FAILED):
                    failed.append((record.row, moment, record.usage or {}))
            if record.by not in BY_OTHERS:
                last_at = max(last_at, moment)
            if record.usage:
                used.append((moment, record.usage))
        died += [(row, max(began, last_at)) for row, began in started.items()]
        self._learn([usage for _, usage in used], ended)
        names = [window.name for window in self._windows]
        for row, moment, known in [*failed, *((row, min(at, b + longest), {}) for row, b in died)]:
            if moment > at - unit:
                estimates = zip(names, self._estimates_of(row), strict=True)
                used.append((moment, {name: own for name, own in estimates if name not in known}))
        for moment, usage in sorted(used, key=lambda each: each[0]):
            for window in self._windows:
                ago_s = max(0.0, (at - moment).total_seconds())
                window.use(usage.get(window.name, 0.0), now_s - ago_s)

    def _learn(self, usages: list[Mapping[str, float]], ended: int) -> None:
        """Take the usages of earlier runs into account for estimates.

        The rows of a call aren't known. With ``batch``, the mean usage of a row is taken.
        """
        for window in self._windows:
            amounts = [usage[window.name] for usage in usages if window.name in usage]
            if self._batch > 1 and amounts:
                amounts = [sum(amounts) / max(ended, 1)]
            for amount in amounts[-_MAX_KNOWN:]:
                window.learn(amount)
