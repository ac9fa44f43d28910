"""The calls in flight, from their dispatch to workers until their outcomes are recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from time import monotonic

import msgspec

from journal.model import JobRow
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.workers.base import Call, Results, Workers
from journal.run.workers.handler import AttemptedRow, Batch, Rows
from journal.run.workers.steps import StepStore, Turn
from journal.run.workers.termination import Termination, unstarted
from journal.store.calls import Call as StoredCall


class Result(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an attempt. All rows of one call have the same ``call``.

    - ``ticket``: the number of the attempt in this run.
    - ``is_late``: True if the call returned after it was given up. Its rows then already have
      outcomes.
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
        self._ended = 0  # the number of these calls with outcomes
        self._unrecorded: list[Result] = []
        self._termination = Termination(workers, limits)
        self._ticket = 0
        self._rows = 0

    def __len__(self) -> int:
        """The number of rows in flight. A row counts until its outcome is recorded."""
        return self._rows

    @property
    def calls(self) -> int:
        """The number of calls without outcomes."""
        return len(self._calls) - self._ended

    @property
    def rows(self) -> Iterator[JobRow]:
        """The rows of all attempts that are in progress, not yet recorded, or given up."""
        for call in {*self._calls, *self._termination.given_up}:
            yield from (row.row for row in call.rows)

    @property
    def may_work(self) -> bool:
        """Whether a call has not returned yet. Such a call may still write a step."""
        return bool(self.calls or self._termination.given_up)

    @property
    def slots(self) -> int:
        """The maximum number of calls in flight."""
        return self._workers.count - sum(call.slot_lost for call in self._termination.given_up)

    @property
    def next_deadline_s(self) -> float:
        """The earliest possible deadline of a call, by ``monotonic``."""
        return self._termination.next_deadline_s

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
            self._termination.set_deadline(call, self._limits.timeout_s)
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
            if not call.is_ended and call.cancel():
                self._settle(call, unstarted(call))
        self._results.wake()

    def results(self, limit: float = math.inf) -> list[Result]:
        """The results that :meth:`forget` hasn't removed.

        With ``limit`` or more results, no further call adds results.
        """
        while len(self._unrecorded) < limit and (ended := self._results.take()) is not None:
            call, outcomes = ended
            if call.is_given_up:
                self._termination.given_up.discard(call)
            elif call.ends_asked:
                outcomes = [self._termination.judge(call, outcome) for outcome in outcomes]
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
        """Remove the first results, which are recorded. All other results stay.

        A call that was given up may still return later.
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

    def end_due(self, stops: int) -> None:
        """End the calls that have taken too long, and the calls that a stop ends: see
        :class:`Termination`.

        ``stops``: how often the run was asked to stop.
        """
        now_s = monotonic()
        if not stops and now_s < self.next_deadline_s:
            return
        self.results()  # so that no ended call is asked to end
        for call, outcomes in self._termination.end_due(self._calls, stops, now_s):
            self._settle(call, outcomes)
