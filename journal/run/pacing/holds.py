"""Makes a run wait while the called service is down or throttles: see :class:`Hold`.

If only single calls are throttled, only their rows wait. But many successive throttled calls
mean that the whole account is throttled: see :class:`Retry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

from journal.format.records import UNSET_TIME, HoldRecord, writable
from journal.model import EarlyEnd
from journal.run.lifecycle import RunningJob
from journal.run.outcome import MAX_AFTER_S, Outcome
from journal.run.pacing.limits import Limits
from journal.run.pacing.retries import backoff_s
from journal.run.workers.in_flight import Result
from journal.text import clock_text, duration_text, shorten

MAX_HELD_S = 3600.0  # the maximum time of holds and probes without an answer, before the run pauses
# The minimum length of a hold that follows another hold, even with ``after_s=0`` or no backoff. The
# minimum doubles with each successive hold, up to a second. So the run doesn't make too many
# probes.
_LEAST_S, _MOST_LEAST_S = 0.01, 1.0
_LEAST_THROTTLED_S = 0.5  # the minimum length of a hold after throttled calls
_MIN_THROTTLED = 10  # successive throttled calls that begin a hold, even with fewer workers
_MESSAGE_CHARACTERS = 200
_SERIES_S = 60.0
_LATER_S = 1.0  # a hold that becomes longer by this time is recorded again


class Holds:
    """Decides whether rows may start. Times are those of ``monotonic``.

    While a run **holds**, it starts no rows. A hold lasts for the time in the Hold, or for a
    backoff, which grows with each successive hold. After that time, the run starts one row at a
    time as a **probe**. If the service answers a probe, the run continues. If a probe ends without
    an answer, the run holds again.

    Attempts that were in flight when the hold began belong to the same outage. If such an attempt
    raises Hold, the hold can become longer. Answers of such attempts don't end the hold.

    Throttled calls are successive if all calls that began after the first throttled call are
    throttled, too. A hold begins when the number of successive throttled calls reaches ``workers``.
    If the probe is throttled, too, the next hold is twice as long.
    """

    def __init__(self, limits: Limits, job: RunningJob, workers: int) -> None:
        self._limits = limits
        self._job = job
        self._said: list[str] = []  # unreported messages about recorded holds
        self._longest_s = 0.0  # the longest hold that was reported
        self._series_s = 0.0  # a hold that begins after this time belongs to another series
        self._is_reported = False  # whether one of the successive holds was reported
        self._recorded_s = 0.0  # the ``until_s`` of the recorded hold
        self.count = 0  # holds in succession: 0 if the run isn't held
        self.until_s = 0.0
        self._first_s = 0.0  # when the first of the holds in succession began
        self._since_s = 0.0  # when the latest of the successive holds began
        # The total time of the earlier holds in succession and their probes. Time in which the job
        # was paused doesn't count.
        self._held_s = 0.0
        self._before = 0  # the last ticket that was started before the hold
        self._last = 0  # the ticket of the latest attempt
        self._probe = 0  # the ticket of the probe in flight
        self._probe_s = 0.0  # when the probe began
        self._why = ""
        self.workers = workers
        self._throttled: set[int] = set()  # the tickets of successive throttled calls
        self._answered = 0  # the latest ticket that was not throttled, if calls were throttled

    def hear_all(self, results: Sequence[Result], others: Sequence[Result]) -> bool:
        """Take results into account. Record a hold that begins, becomes longer or ends.

        ``others``: the results that are not plain successes. A success matters only if the run
        holds, or if calls were throttled.

        Returns whether a hold has begun. Raises the errors of a commit.
        """
        asks = any(result.outcome.kind in ("held", "throttled") for result in others)
        if not (asks or self.count or self._throttled):
            return False
        before, now_s = self.count, monotonic()
        for result in results:
            if text := self.hear(result.call.ticket, result.outcome, now_s):
                if self._is_news(now_s):
                    self._said.append(text)
                self._record(now_s)
        if self.count and self.until_s > self._recorded_s + _LATER_S:
            self._record(now_s)
        return self.count > before

    def _is_news(self, now_s: float) -> bool:
        """Whether to report the beginning of a hold, or the end of successive holds.

        A hold that follows another hold within a minute is reported if it is twice as long as all
        earlier holds of the succession. An end is reported if a hold was reported since the last
        end.
        """
        if not self.count:
            was_reported, self._is_reported = self._is_reported, False
            return was_reported
        if now_s > self._series_s:
            self._longest_s = 0.0
        self._series_s = self.until_s + _SERIES_S
        length_s = max(self.until_s - now_s, 0.001)
        is_news = length_s >= 2 * self._longest_s
        if is_news:
            self._longest_s, self._is_reported = length_s, True
        return is_news

    @property
    def until(self) -> datetime | None:
        """The time until which the run starts no row. None if the run may start or probe."""
        now_s = monotonic()
        return self._until(now_s) if self.count and now_s < self.until_s else None

    def end(self) -> None:
        """Let the run probe the service now, and record the probe. Call this in a batch."""
        self.until_s = monotonic()
        self._record(self.until_s)

    def _record(self, now_s: float) -> None:
        self._recorded_s = self.until_s
        until = writable(self._until(now_s)) if self.count else None
        self._job.put(HoldRecord(until=until, reason=self._why, at=UNSET_TIME))

    def report(self) -> None:
        """Report the holds that have begun or ended since the last call."""
        while self._said:
            self._job.warn(f"{self._job.id}: {self._said.pop(0)}")

    def hear(self, ticket: int, outcome: Outcome, now_s: float) -> str:
        """Take an outcome into account. Returns a message if a hold begins or ends, else "".

        ``ticket``: the ticket of the first row of the call.
        """
        if self.count and ticket <= self._before:
            if outcome.kind in ("held", "throttled") and outcome.after_s is not None:
                self.until_s = max(self.until_s, now_s + outcome.after_s)
            return ""
        is_probe = ticket == self._probe
        if is_probe:
            self._probe = 0
        if outcome.kind == "unstarted":
            return ""
        if not (self.count or outcome.kind == "held" or self._are_throttled(ticket, outcome)):
            return ""
        if outcome.is_answer:
            held = duration_text(now_s - self._first_s)
            self._answered = ticket
            self.count, self.until_s, self._held_s, self._probe = 0, 0.0, 0.0, 0
            self._why = f"the service has answered after {held} of holding"
            return f"{self._why}: going on"
        if is_probe:
            self._held_s += self.until_s - self._since_s + now_s - self._probe_s
        self._first_s = self._first_s if self.count else now_s
        self.count += 1
        wait_s = self._wait_s(outcome)
        self._since_s, self.until_s, self._before = now_s, now_s + wait_s, self._last
        self._probe = 0  # the outcome of an earlier call doesn't end this hold
        self._why = f"{outcome.error_code}: {outcome.error_message}"
        slower = ""
        if self._throttled:
            slower = f"; to start fewer rows: {self._job.line('tune', '--rate', '5/s')}"
            self._why = f"{len(self._throttled)} successive calls were throttled: {self._why}"
            self._throttled = set()
        self._why = shorten(self._why, _MESSAGE_CHARACTERS)
        clock = clock_text(self._until(now_s), datetime.now(UTC))
        length = duration_text(min(wait_s, MAX_AFTER_S))
        return f"holding for {length}, until {clock}: {self._why}{slower}"

    def _are_throttled(self, ticket: int, outcome: Outcome) -> bool:
        """Count an outcome outside of a hold. Returns whether too many calls were throttled."""
        if outcome.kind != "throttled":
            self._answered = max(self._answered, ticket)
            self._throttled = {later for later in self._throttled if later > ticket}
        elif ticket > self._answered:
            self._throttled.add(ticket)
        return len(self._throttled) >= max(self.workers, _MIN_THROTTLED)

    def _wait_s(self, outcome: Outcome) -> float:
        """The duration of a hold after this outcome."""
        after_s = outcome.after_s
        if outcome.kind == "throttled":
            last_s = self.until_s - self._since_s if self.count > 1 else 0.0
            least_s = max(_LEAST_THROTTLED_S, min(2 * last_s, self._limits.max_backoff_s))
            return max(least_s, backoff_s(1, self._limits) if after_s is None else after_s)
        if outcome.kind != "held" or after_s is None:
            after_s = backoff_s(self.count, self._limits)
        least_s = min(_LEAST_S * 2 ** min(self.count - 1, 60), _MOST_LEAST_S)
        return after_s if self.count == 1 else max(after_s, least_s)

    def allowed(self, count: int, now_s: float, taken: int = 0) -> int:
        """How many of ``count`` rows may start now. During a hold: 0, or 1 to probe the service.

        ``taken``: the number of calls that begin beside these rows.
        """
        if not self.count:
            return count
        return 0 if now_s < self.until_s or self._probe or taken else min(count, 1)

    def start(self, count: int = 1) -> None:
        """Count the starts of a call's rows. During a hold, this call probes the service."""
        if self.count:
            self._probe, self._probe_s = self._last + 1, monotonic()
        self._last += count

    def _until(self, now_s: float) -> datetime:
        """The end of the hold."""
        wait_s = min(max(0.0, self.until_s - now_s), MAX_AFTER_S)  # so that the end has a date
        return datetime.now(UTC) + timedelta(seconds=wait_s)

    def reason_to_pause(self) -> tuple[EarlyEnd, int] | None:
        """The reason why the run must pause, and the way, as :meth:`Bounds.reached` returns them.

        None if the run continues.

        A run must pause if it has waited too long for the called service, and the service hasn't
        answered the last attempt.
        """
        if not self.count or self._held_s < MAX_HELD_S:
            return None
        text = f"no attempt has succeeded in {duration_text(self._held_s)} of holding; the last hold said: {self._why}"
        return EarlyEnd("hold", text), 1
