"""Notices that no row of a run ends any more, and names the rows in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from journal.errors import JournalError
from journal.progress.stalls import is_stalled, median_s
from journal.run.lifecycle import RunningJob
from journal.run.workers.base import Call
from journal.run.workers.in_flight import InFlight, Result
from journal.text import Numbers, counted, duration_text

_MAX_DURATIONS = 1000  # the latest durations, one of each commit
_MAX_CALLS, _MAX_RANGES = 3, 3  # named in the message


class Stalls:
    """Says once that the run has stalled, and again only after rows have ended.

    Calls that were named before are no reason to report the stall again.
    """

    def __init__(self, job: RunningJob, in_flight: InFlight) -> None:
        self._job = job
        self._in_flight = in_flight
        self._took_s = deque[float](maxlen=_MAX_DURATIONS)
        self._since_s = monotonic()  # since then, no row has ended, although a row could have ended
        self._is_said = False
        self._named: set[Call] = set()  # among the calls in flight

    def hear(self, results: Sequence[Result]) -> None:
        """Take the results of a commit into account.

        The time of this call doesn't depend on the number of results.
        """
        self._since_s, self._is_said = monotonic(), False
        outcome = results[0].outcome  # the first row of a call has the call's duration
        if outcome.elapsed_s and not outcome.is_given_back:
            self._took_s.append(outcome.elapsed_s)

    def look(self, *, may_end: bool) -> None:
        """Warn if the run has stalled. ``may_end``: whether a row in flight can be expected to end.

        Raises the errors of a commit.
        """
        now_s = monotonic()
        if not may_end:
            self._since_s = now_s
            return
        if self._is_said or not is_stalled(self._took_s, now_s - self._since_s):
            return
        if self._in_flight.results(1):  # calls have ended and only have to be recorded
            return
        calls = self._in_flight.unended()
        slow = [call for call in calls if is_stalled(self._took_s, now_s - call.dispatched_s)]
        if self._named.issuperset(slow):
            return
        text = self._text(slow, now_s)
        self._job.service.log(self._job.id, text, "WARNING")
        self._is_said, self._named = True, self._named.intersection(calls) | set(slow)
        self._job.warn(f"{self._job.id}: {text}")

    def _text(self, calls: Sequence[Call], now_s: float) -> str:
        """The text of the warning. ``calls``: the oldest first."""
        quiet, usual = (
            duration_text(s) for s in (now_s - self._since_s, median_s(sorted(self._took_s)))
        )
        parts = [self._call_text(call, now_s) for call in calls[:_MAX_CALLS]]
        if len(calls) > _MAX_CALLS:
            parts.append(counted(len(calls) - _MAX_CALLS, "other call|calls"))
        timeout = "--timeout" if self._job.settings.how_to.command else "timeout_s"
        number = str(calls[0].rows[0].row_number)
        return (
            f"no row has ended for {quiet}, and the median attempt took {usual}; in flight: "
            f"{'; '.join(parts)}; look at one with: {self._job.line('show', '--row', number)}; "
            f"`{timeout}` of the next start ends attempts that hang"
        )

    def _call_text(self, call: Call, now_s: float) -> str:
        rows = Numbers(sorted(row.row_number for row in call.rows)).words(_MAX_RANGES)
        text = f"{rows} for {duration_text(now_s - call.dispatched_s)}"
        with suppress(JournalError):
            steps = self._job.service.get_steps(call.rows[0].id)
            if steps and steps[-1].state == "started":
                text += f" in step {steps[-1].name!r}"
        return text
