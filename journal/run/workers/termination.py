"""Ends calls that take too long or are stopped, and decides about their outcomes.

A call is ended in three stages. It is asked to end, then forced to end, then given up. A call that
was given up may still be running, but its rows get outcomes. By default, the rows need a review. If
an attempt succeeds later, the row becomes completed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Literal

import msgspec

from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.platform.processes import GRACE_S
from journal.run.signals import END_ROWS
from journal.run.workers.base import Call, Workers
from journal.store.interrupted_rows import STOPPED, TIMED_OUT


class Termination:
    """Ends calls. Only the driver uses it.

    - ``given_up``: the calls that were given up and have not returned yet.
    - ``next_deadline_s``: the earliest possible deadline of a call, by ``monotonic``.
    """

    def __init__(self, workers: Workers, limits: Limits) -> None:
        self._workers = workers
        self._limits = limits
        self.given_up: set[Call] = set()
        self.next_deadline_s = math.inf

    def set_deadline(self, call: Call, timeout_s: float) -> None:
        """Set the deadline of a call that was just dispatched."""
        call.deadline_s = call.dispatched_s + timeout_s
        self.next_deadline_s = min(self.next_deadline_s, call.deadline_s)

    def end_due(
        self, calls: Iterable[Call], stops: int, now_s: float
    ) -> Iterator[tuple[Call, list[Outcome]]]:
        """End the calls that have taken too long.

        Yields each call that ends at once, with the outcomes of its rows. The caller then sets
        ``is_ended`` of the call.

        ``stops``: how often the run was asked to stop. 1 also cancels the calls that no worker has
        begun. 2 ends all calls. 3 ends all calls by force.
        """
        self.next_deadline_s = math.inf
        for call in calls:
            if not call.is_ended:
                outcomes = self._end_if_due(call, stops, now_s)
                if outcomes is not None:
                    yield call, outcomes
                elif call.deadline_s is not None:
                    self.next_deadline_s = min(self.next_deadline_s, call.deadline_s)

    def _end_if_due(self, call: Call, stops: int, now_s: float) -> list[Outcome] | None:
        if stops and call.cancel():
            return unstarted(call)
        if stops >= END_ROWS and call.ends_asked < stops - 1:
            call.deadline_s = now_s
        elif call.deadline_s is None or call.deadline_s > now_s:
            return None
        elif not call.ends_asked:
            call.timed_out = True
        if call.cancel():
            return unstarted(call)
        return None if self._ask_to_end(call) else self._give_up(call)

    def _ask_to_end(self, call: Call) -> bool:
        """Ask a call to end.

        Returns False if the call must be given up, because it can't be asked, or was asked twice.
        """
        call.ends_asked += 1
        force = call.ends_asked > 1
        if call.ends_asked <= 2 and self._workers.cancel(call, force=force):
            call.deadline_s = monotonic() + GRACE_S
            return True
        return False

    def _give_up(self, call: Call) -> list[Outcome]:
        call.slot_lost = not self._workers.abandon(call)
        call.is_given_up = True
        self.given_up.add(call)
        lost = Outcome(kind="lost", error_code=STOPPED, error_message="it was given up")
        judged = self.judge(call, lost)
        # From a worker in another process, there are no logs.
        return [msgspec.structs.replace(judged, logs=row.take_logs()) for row in call.rows]

    def judge(self, call: Call, outcome: Outcome) -> Outcome:
        """The final outcome of an attempt that was asked to end.

        ``outcome``: the outcome that the worker has reported.

        - An outcome other than "failed" and "lost" stays as it is. For example, the attempt may
          have completed before it could be ended.
        - An attempt that took longer than ``timeout_s`` is lost, because it may have taken effect.
          If the attempt may still be running, its row needs a review. But if ``retry_on`` has
          TimeoutError, the attempt has failed in both cases.
        - An attempt that was ended because the run ends is lost.
        """
        if outcome.kind not in ("failed", "lost"):
            return outcome
        if not call.timed_out:
            message = f"it was ended while in flight ({outcome.error_code})"
            return msgspec.structs.replace(
                outcome, kind="lost", error_code=STOPPED, error_message=message, retryable=False
            )
        message = f"it took longer than {self._limits.timeout_s:g} s"
        kind: Literal["failed", "review", "lost"]
        is_named = self._limits.names_timeouts
        if is_named:  # the author accepts that the effect may happen twice
            kind = "failed"
        elif outcome.kind == "lost":
            kind, message = "review", f"{message}, and may still go on"
        else:
            kind, message = "lost", f"{message}, and may have taken effect"
        return msgspec.structs.replace(
            outcome,
            kind=kind,
            error_code=TIMED_OUT,
            error_message=message,
            retryable=is_named,
            unknown=False,
        )


def unstarted(call: Call) -> list[Outcome]:
    """The outcomes of the rows of a call that no worker has begun."""
    return [Outcome(kind="unstarted")] * len(call.rows)
