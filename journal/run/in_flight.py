"""Stores the attempts in flight, and ends attempts that take too long or are stopped.

An attempt is ended in three stages: it is asked to end, then forced to end, then given up. An
attempt that was given up may still be running, but its row gets an outcome: by default, the row
needs a review. If the attempt succeeds later, the row becomes completed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import Any

import msgspec

from journal.model import JobRow
from journal.run.handler import AttemptedRow, StepStore
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.retries import outcome_of_ended
from journal.run.workers.handover import Claim, Results, Workers
from journal.store.interrupted_rows import STOPPED

_GRACE_S = 5.0  # between two of the three stages that end an attempt


class Dispatched:
    """An attempt that was dispatched."""

    __slots__ = ("attempted", "claim", "deadline_s", "ends_asked", "row", "slot_lost", "timed_out")

    def __init__(self, attempted: AttemptedRow, claim: Claim, deadline_s: float | None) -> None:
        self.attempted = attempted
        self.row = attempted.row
        self.claim = claim
        self.deadline_s = deadline_s  # when to end it, by ``monotonic``
        self.timed_out = False
        self.ends_asked = 0  # how often it was asked to end
        self.slot_lost = False  # whether it was given up and still occupies its worker


class Result(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an attempt.

    - ``is_given_up``: True if the driver has given up the attempt, and has decided the outcome
      itself. The attempt may still be running.
    - ``is_late``: True if the attempt returned after it was given up. Its row already has an
      outcome then.
    - ``call``: identifies the call of the handler. All rows of one call have the same object.
    """

    ticket: int
    row: JobRow
    outcome: Outcome
    call: object = None
    is_given_up: bool = False
    is_late: bool = False


class InFlight:
    """The attempts in flight. A **ticket** is the number of an attempt.

    Only one thread may use an InFlight.

    An interrupt may come between any two statements, so:

    - an attempt is stored here before the workers get it, and stays until its result is recorded;
    - a result is stored in one place, and reading doesn't remove it.

    Therefore each attempt is still here after an interrupt, and the driver can wait for it.
    """

    def __init__(
        self,
        workers: Workers,
        results: Results,
        limits: Limits,
        steps: StepStore,
        row_type: Any = None,
    ) -> None:
        self._workers = workers
        self._row_type = row_type
        self._steps = steps
        self._results = results
        self._limits = limits
        self._timeout_s = limits.timeout_s
        self._attempts: dict[int, Dispatched] = {}
        self._verdicts: dict[int, Outcome] = {}  # of attempts for which workers return no outcome
        self._given_up: dict[int, Dispatched] = {}  # given up and not returned yet
        self._ticket = 0
        self._claim: Claim | None = None  # of the latest row, and the deadline of its call
        self._deadline_s: float | None = None
        self.next_deadline_s = math.inf  # by ``monotonic``; no attempt has an earlier deadline

    def __len__(self) -> int:
        return len(self._attempts)

    def calls(self, ending: Sequence[Result] = ()) -> int:
        """How many calls are in flight, except calls that end with the results in ``ending``."""
        if self._workers.rows_a_call == 1:
            return len(self._attempts) - sum(not result.is_late for result in ending)
        ended = {result.ticket for result in ending}
        attempts = self._attempts.items()
        return len({attempt.claim for ticket, attempt in attempts if ticket not in ended})

    @property
    def slots(self) -> int:
        """How many calls can be in flight at a time."""
        return self._workers.count - sum(attempt.slot_lost for attempt in self._given_up.values())

    def dispatch(self, row: JobRow) -> None:
        """Pass the row to the workers. The start of its attempt must already be on the disk."""
        self._ticket += 1
        claim = self._workers.claim()
        if claim is not self._claim:
            self._claim = claim
            claim.held = self._results.held
            if self._timeout_s is not None:
                self._deadline_s = monotonic() + self._timeout_s
                self.next_deadline_s = min(self.next_deadline_s, self._deadline_s)
        attempted = AttemptedRow(row, self._steps, self._row_type)
        self._attempts[self._ticket] = Dispatched(attempted, claim, self._deadline_s)
        self._workers.dispatch(self._ticket, attempted, claim)

    def flush(self) -> None:
        """Submit the dispatched rows that wait, even if they are fewer than one call can take."""
        self._workers.flush()

    def take_back(self) -> None:
        """Cancel the attempts that no worker has begun."""
        for ticket, attempt in self._attempts.items():
            self._cancel_pending(ticket, attempt)
        self._results.wake()

    def results(self, limit: int | None = None) -> list[Result]:
        """Up to ``limit`` results for which :meth:`forget` was not called yet."""
        return list(islice(self._each_result(), limit))

    def _each_result(self) -> Iterator[Result]:
        outcomes = self._results.all()
        for ticket, outcome in outcomes.items():
            attempt = self._attempts.get(ticket)
            if attempt is not None:
                yield Result(ticket, attempt.row, self._judge(attempt, outcome), attempt.claim)
            elif ticket in self._given_up:
                attempt = self._given_up[ticket]
                yield Result(ticket, attempt.row, outcome, attempt.claim, is_late=True)
            else:  # an interrupt came during forget()
                self._results.forget(ticket)
        for ticket, outcome in self._verdicts.items():
            attempt = self._attempts.get(ticket)
            if attempt is not None and ticket not in outcomes:
                judged = self._judge(attempt, outcome)
                is_given_up = ticket in self._given_up  # otherwise no worker has begun it
                call = attempt.claim
                yield Result(ticket, attempt.row, judged, call, is_given_up=is_given_up)

    def forget(self, result: Result) -> None:
        """Remove an attempt whose result is recorded.

        An attempt that was given up may still return after this.
        """
        if not result.is_given_up:
            self._given_up.pop(result.ticket, None)
        self._attempts.pop(result.ticket, None)
        self._verdicts.pop(result.ticket, None)
        if not result.is_given_up:
            self._results.forget(result.ticket)

    def _judge(self, attempt: Dispatched, outcome: Outcome) -> Outcome:
        if not attempt.ends_asked:
            return outcome
        return outcome_of_ended(outcome, self._limits, timed_out=attempt.timed_out)

    def end_due(self, stops: int) -> None:
        """End the attempts that have taken too long.

        ``stops``: how often the run was asked to stop. 1 also cancels the attempts that no worker
        has begun. 2 ends all attempts. 3 ends all attempts by force.
        """
        now_s = monotonic()
        if not stops and now_s < self.next_deadline_s:
            return
        outcomes = self._results.all()
        for ticket, attempt in self._attempts.items():
            if ticket in outcomes or ticket in self._verdicts:
                continue
            if stops and self._cancel_pending(ticket, attempt):
                continue
            if stops >= 2 and attempt.ends_asked < stops - 1:
                attempt.deadline_s = now_s
            elif attempt.deadline_s is None or attempt.deadline_s > now_s:
                continue
            elif not attempt.ends_asked:
                attempt.timed_out = True
            if not self._cancel_pending(ticket, attempt) and not self._ask_to_end(ticket, attempt):
                self._give_up(ticket, attempt)
        # This is changed last, so that after an interrupt the next call looks at all attempts
        # again.
        self.next_deadline_s = min(
            (
                attempt.deadline_s
                for ticket, attempt in self._attempts.items()
                if attempt.deadline_s is not None
                and ticket not in outcomes
                and ticket not in self._verdicts
            ),
            default=math.inf,
        )

    def _cancel_pending(self, ticket: int, attempt: Dispatched) -> bool:
        if not attempt.claim.cancel():
            return False
        self._verdicts[ticket] = Outcome(kind="unstarted")
        return True

    def _ask_to_end(self, ticket: int, attempt: Dispatched) -> bool:
        """Ask an attempt to end.

        Returns False if the attempt must be given up, because it can't be asked or was asked twice.
        """
        attempt.ends_asked += 1
        force = attempt.ends_asked > 1
        if attempt.ends_asked <= 2 and self._workers.cancel(ticket, attempt.row.id, force=force):
            attempt.deadline_s = monotonic() + _GRACE_S
            return True
        return False

    def _give_up(self, ticket: int, attempt: Dispatched) -> None:
        # The deadline is removed last, so that after an interrupt the next call of end_due calls
        # this method again.
        attempt.slot_lost = not self._workers.abandon(ticket)
        self._given_up[ticket] = attempt
        self._verdicts[ticket] = Outcome(
            kind="lost",
            error_code=STOPPED,
            error_message="it was given up",
            logs=attempt.attempted.take_logs(),  # none if the worker is another process
        )
        attempt.deadline_s = None
