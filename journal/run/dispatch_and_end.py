"""Stores the calls in flight, and ends calls that take too long or are stopped.

A call is ended in three stages: it is asked to end, then forced to end, then given up. A call that
was given up may still be running, but its rows get outcomes: by default, they need a review. If an
attempt succeeds later, its row becomes completed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from time import monotonic

import msgspec

from journal.model import JobRow
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.pacing.retries import outcome_of_ended
from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.handler import AttemptedRow, Batch, Rows
from journal.run.workers.steps import StepStore, Turn
from journal.store.calls import Call as StoredCall
from journal.store.interrupted_rows import STOPPED

_GRACE_S = 5.0  # between two of the three stages that end a call


class Result(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an attempt. All rows of one call have the same ``call``.

    - ``ticket``: the number of the attempt in this run.
    - ``is_late``: True if the call returned after it was given up. Its rows already have outcomes
      then.
    """

    ticket: int
    row: JobRow
    outcome: Outcome
    call: Call
    is_late: bool = False


class InFlight:
    """The calls in flight. Only the driver uses an InFlight."""

    def __init__(
        self,
        workers: Workers,
        results: Results,
        limits: Limits,
        steps: StepStore,
    ) -> None:
        self._workers = workers
        self._steps = steps
        self._results = results
        self._limits = limits
        self._calls: dict[Call, None] = {}  # in order, until their outcomes are recorded
        self._ended = 0  # how many of them have outcomes
        self._unrecorded: list[Result] = []
        self._given_up: set[Call] = set()  # and not returned yet
        self._ticket = 0
        self._rows = 0
        self.next_deadline_s = math.inf  # by ``monotonic``; no call has an earlier deadline

    def __len__(self) -> int:
        """How many rows are in flight, until their outcomes are recorded."""
        return self._rows

    @property
    def calls(self) -> int:
        """How many calls have no outcomes yet."""
        return len(self._calls) - self._ended

    @property
    def rows(self) -> Iterator[JobRow]:
        """The rows of all attempts that haven't ended or aren't recorded, also of those given up."""
        for call in {*self._calls, *self._given_up}:
            yield from (row.row for row in call.rows)

    @property
    def may_work(self) -> bool:
        """Whether a call has not returned yet, and so may still write a step."""
        return bool(self.calls or self._given_up)

    @property
    def slots(self) -> int:
        """How many calls can be in flight at a time."""
        return self._workers.count - sum(call.slot_lost for call in self._given_up)

    def dispatch(self, rows: Sequence[JobRow], resumed: StoredCall | None = None) -> None:
        """Pass the rows to the workers, as one call. Their starts must already be on the disk.

        ``resumed``: the recorded call of the rows.
        """
        steps = self._steps
        attempted = tuple([AttemptedRow(row, steps) for row in rows])
        given: Rows = attempted
        if resumed is not None:
            turn, is_whole = Turn(resumed.id, resumed.turn), not resumed.has_lost_rows
            given = Batch(attempted, steps, turn, is_whole=is_whole)
        elif self._limits.batch is not None:
            given = Batch(attempted, steps)
        call = Call(given, self._ticket + 1, self._results.held)
        call.dispatched_s = monotonic()
        if self._limits.timeout_s is not None:
            call.deadline_s = call.dispatched_s + self._limits.timeout_s
            self.next_deadline_s = min(self.next_deadline_s, call.deadline_s)
        self._ticket += len(rows)
        self._rows += len(rows)
        self._calls[call] = None
        self._workers.dispatch(call)

    def unended(self) -> list[Call]:
        """The calls that have no outcomes yet, the oldest first."""
        return [call for call in self._calls if not call.is_ended]

    def take_back(self) -> None:
        """Cancel the calls that no worker has begun."""
        for call in self._calls:
            if not call.is_ended:
                self._cancel_pending(call)
        self._results.wake()

    def results(self, limit: float = math.inf) -> list[Result]:
        """The results for which :meth:`forget` was not called yet. At ``limit``, no call is added."""
        while len(self._unrecorded) < limit and (ended := self._results.take()) is not None:
            call, outcomes = ended
            if call.is_given_up:
                self._given_up.discard(call)
            elif call.ends_asked:
                outcomes = [self._judge(call, outcome) for outcome in outcomes]
            self._settle(call, outcomes, is_late=call.is_given_up)
        return self._unrecorded.copy()

    def _settle(self, call: Call, outcomes: Sequence[Outcome], *, is_late: bool = False) -> None:
        if not is_late:
            call.is_ended = True
            self._ended += 1
        ticket = call.ticket
        for row, outcome in zip(call.rows, outcomes, strict=True):
            self._unrecorded.append(Result(ticket, row.row, outcome, call, is_late))
            ticket += 1

    def forget(self, results: Sequence[Result]) -> None:
        """Remove the first results, which are recorded. The other ones stay.

        A call that was given up may still return after this.
        """
        del self._unrecorded[: len(results)]
        held = self._results.held
        for result in results:
            call = result.call
            if held:
                held.discard(call)
            if result.is_late:
                continue
            self._rows -= 1
            if call in self._calls:
                del self._calls[call]
                self._ended -= 1

    def _judge(self, call: Call, outcome: Outcome) -> Outcome:
        return outcome_of_ended(outcome, self._limits, timed_out=call.timed_out)

    def end_due(self, stops: int) -> None:
        """End the calls that have taken too long.

        ``stops``: how often the run was asked to stop. 1 also cancels the calls that no worker has
        begun. 2 ends all calls. 3 ends all calls by force.
        """
        now_s = monotonic()
        if not stops and now_s < self.next_deadline_s:
            return
        self.results()  # a call that has ended isn't asked to end
        self.next_deadline_s = math.inf
        for call in self._calls:
            if not call.is_ended:
                self._end_if_due(call, stops, now_s)
            if not call.is_ended and call.deadline_s is not None:
                self.next_deadline_s = min(self.next_deadline_s, call.deadline_s)

    def _end_if_due(self, call: Call, stops: int, now_s: float) -> None:
        if stops and self._cancel_pending(call):
            return
        if stops >= 2 and call.ends_asked < stops - 1:
            call.deadline_s = now_s
        elif call.deadline_s is None or call.deadline_s > now_s:
            return
        elif not call.ends_asked:
            call.timed_out = True
        if not self._cancel_pending(call) and not self._ask_to_end(call):
            self._give_up(call)

    def _cancel_pending(self, call: Call) -> bool:
        if not call.cancel():
            return False
        self._settle(call, [Outcome(kind="unstarted")] * len(call.rows))
        return True

    def _ask_to_end(self, call: Call) -> bool:
        """Ask a call to end.

        Returns False if the call must be given up, because it can't be asked or was asked twice.
        """
        call.ends_asked += 1
        force = call.ends_asked > 1
        if call.ends_asked <= 2 and self._workers.cancel(call, force=force):
            call.deadline_s = monotonic() + _GRACE_S
            return True
        return False

    def _give_up(self, call: Call) -> None:
        call.slot_lost = not self._workers.abandon(call)
        call.is_given_up = True
        self._given_up.add(call)
        lost = Outcome(kind="lost", error_code=STOPPED, error_message="it was given up")
        judged = self._judge(call, lost)
        # The logs are empty if the worker is another process.
        self._settle(
            call, [msgspec.structs.replace(judged, logs=row.take_logs()) for row in call.rows]
        )
