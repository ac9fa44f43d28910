"""Holds a run back while the far side is down or throttles: after each :class:`Hold` of a handler."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from time import monotonic

from journal.run.held_job import HeldJob
from journal.run.in_flight import Result
from journal.run.outcome import Outcome
from journal.run.pacing.auto import Auto
from journal.run.pacing.limits import Limits
from journal.run.retries import backoff_s
from journal.text import counted, shorten

MAX_HELD_S = 3600.0  # of holds without one success, before the run pauses
_LOG_S = 30.0  # between two log records about the number of workers
_MESSAGE_CHARACTERS = 200


class Holds:
    """Says whether rows may start. Times are those of ``monotonic``.

    A run holds for the time that the Hold states, or else for a backoff by the number of holds in
    succession. Then it is half open: one row at a time, as a probe, until an attempt succeeds that
    was started after the hold.

    Attempts that were in flight when the hold began belong to the same outage. Their outcomes
    "held" can only make the hold longer, and their successes don't end it.
    """

    def __init__(self, limits: Limits, job: HeldJob) -> None:
        self._limits = limits
        self.auto = Auto.parse(limits.workers)
        self._logged_s = 0.0  # when the number of workers was logged, and which
        self._logged = 0 if self.auto is None else self.auto.count
        self._job = job
        self._said: list[str] = []  # messages that are logged, and not reported
        self.count = 0  # holds in succession: 0 if the run isn't held
        self.until_s = 0.0
        self._first_s = 0.0  # when the first of the holds in succession began
        self._before = 0  # the last ticket that was started before the hold
        self._probe = 0  # the ticket of the probe in flight
        self._why = ""

    def hear_all(self, results: Iterable[Result], last_ticket: int) -> None:
        """Take results into account. If a hold begins or ends, a log record says so.

        ``last_ticket`` is that of the latest attempt. Raises the errors of a commit.
        """
        now_s = monotonic()
        for result in results:
            if self.auto is not None:
                _tell(self.auto, result, last_ticket, now_s)
            said = self.hear(result.ticket, result.outcome, last_ticket, now_s)
            if said:
                self._said.append(said)
                self._job.service.log(self._job.id, said, "WARNING")
        if self.auto is not None and self.auto.count != self._logged:
            self._log_workers(self.auto.count, now_s)

    def _log_workers(self, count: int, now_s: float) -> None:
        if now_s - self._logged_s >= _LOG_S:
            text = f"{counted(count, 'worker|workers')}, before that {self._logged}"
            self._job.service.log(self._job.id, text)
            self._logged, self._logged_s = count, now_s

    def report(self) -> None:
        """Report the holds that have begun or ended since the last call."""
        while self._said:
            self._job.report(f"{self._job.id}: {self._said.pop(0)}")

    def hear(self, ticket: int, outcome: Outcome, last_ticket: int, now_s: float) -> str:
        """Take an outcome into account. Returns a message if a hold begins or ends; else ""."""
        if ticket == self._probe:
            self._probe = 0
        is_of_same_outage = self.count > 0 and ticket <= self._before
        if outcome.kind == "held":
            after_s = outcome.after_s
            if is_of_same_outage:
                if after_s is not None:
                    self.until_s = max(self.until_s, now_s + after_s)
                return ""
            self._first_s = self._first_s if self.count else now_s
            self.count += 1
            wait_s = backoff_s(self.count, self._limits) if after_s is None else after_s
            self.until_s, self._before = now_s + wait_s, last_ticket
            self._why = f"{outcome.error_code}: {outcome.error_message}"
            return f"holding for {self.text(now_s)}"
        if outcome.kind in ("completed", "skipped") and self.count and not is_of_same_outage:
            held_s = timedelta(seconds=round(now_s - self._first_s))
            self.count, self.until_s = 0, 0.0
            return f"an attempt has succeeded after {held_s} of holding: going on"
        return ""

    def slots(self, slots: int) -> int:
        """How many of the workers may be used."""
        return slots if self.auto is None else min(slots, self.auto.count)

    def pace(self) -> str:
        """What the run waits for, or its number of workers with "auto"; else ""."""
        held = self.text(monotonic())
        if held:
            return f"holding for {held}"
        return "" if self.auto is None else counted(self.auto.count, "worker|workers")

    def allowed(self, count: int, now_s: float) -> int:
        """How many rows may start now, of ``count`` if the run isn't held."""
        if not self.count:
            return count
        return 0 if now_s < self.until_s or self._probe else min(count, 1)

    def start(self, ticket: int) -> None:
        """Count the start of an attempt. Each start while the run is held is a probe."""
        if self.count:
            self._probe = ticket

    def text(self, now_s: float) -> str:
        """Until when the run holds, and why; "" if it doesn't."""
        if not self.count:
            return ""
        wait_s = max(0.0, self.until_s - now_s)
        at = datetime.now().astimezone() + timedelta(seconds=wait_s)
        why = shorten(self._why, _MESSAGE_CHARACTERS)
        return f"{wait_s:.3g} s, until {at:%H:%M:%S}: {why}"

    def reason_to_pause(self, now_s: float) -> tuple[str, int] | None:
        """Why the run must pause, and how: see :meth:`Bounds.reached`. It was held too long without
        a success. None if it goes on.
        """
        if not self.count or now_s - self._first_s < MAX_HELD_S:
            return None
        held = timedelta(seconds=round(now_s - self._first_s))
        why = shorten(self._why, _MESSAGE_CHARACTERS)
        return f"no attempt has succeeded in {held} of holding; the last hold said: {why}", 1


def _tell(auto: Auto, result: Result, last_ticket: int, now_s: float) -> None:
    outcome = result.outcome
    if outcome.kind == "held":
        auto.fail(result.ticket, last_ticket, now_s, is_hold=True)
    elif outcome.error_code == "TimeoutError":
        auto.fail(result.ticket, last_ticket, now_s, is_hold=False)
    elif outcome.kind in ("completed", "skipped") and outcome.elapsed_s:
        auto.succeed(result.ticket, outcome.elapsed_s, last_ticket, now_s)
