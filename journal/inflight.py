"""The attempts that workers have, and what becomes of those that take too long or are stopped.

An attempt is asked to end, then forced to, then given up. One that was given up may still go on: its
row is settled without it, and when it comes back after all, its outcome settles the review.
"""

from __future__ import annotations

from time import monotonic

import msgspec

from journal.model import JobRow
from journal.outcome import Errors, Outcome
from journal.workers import Workers

_GRACE_S = 5.0  # between asking an attempt to end, forcing it to, and giving it up

CameBack = list[tuple[int, Outcome]]  # of the attempts with these tickets


class HandedOut:
    """An attempt as the run sees it: a row that workers have, and until when."""

    __slots__ = ("deadline_s", "row", "timed_out", "tries")

    def __init__(self, row: JobRow, deadline_s: float | None) -> None:
        self.row = row
        self.deadline_s = deadline_s
        self.timed_out = False
        self.tries = 0  # to end it


class InFlight:
    """See the module. For one thread; an attempt is known by its ticket until it is forgotten."""

    def __init__(self, workers: Workers, timeout_s: float | None, retry_on: Errors) -> None:
        """``retry_on``: the errors after which an attempt may be repeated; TimeoutError among them
        means one that has taken too long, too.
        """
        self._workers = workers
        self._timeout_s = timeout_s
        self._retry_on = retry_on
        self._attempts: dict[int, HandedOut] = {}
        self._given_up: dict[int, tuple[JobRow, bool]] = {}  # and whether its place is lost
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._attempts

    @property
    def places(self) -> int:
        """How many rows may be worked on at a time."""
        lost = sum(place_lost for _, place_lost in self._given_up.values())
        return self._workers.count - lost

    @property
    def next_deadline_s(self) -> float | None:
        """When the next one will have taken too long, by ``monotonic``."""
        if self._timeout_s is None:
            return None
        deadlines = (attempt.deadline_s for attempt in self._attempts.values())
        return min((at_s for at_s in deadlines if at_s), default=None)

    def hand_out(self, row: JobRow) -> None:
        """Have the row worked on; its start is on the disk."""
        self._ticket += 1
        deadline_s = None if self._timeout_s is None else monotonic() + self._timeout_s
        self._attempts[self._ticket] = HandedOut(row, deadline_s)
        self._workers.hand_out(self._ticket, row)

    def get(self, ticket: int) -> HandedOut | None:
        """The attempt of this ticket, unless it was given up or forgotten."""
        return self._attempts.get(ticket)

    def row_given_up(self, ticket: int) -> JobRow | None:
        """The row of an attempt that was given up, and has come back after all."""
        return self._given_up.get(ticket, (None, False))[0]

    def forget(self, ticket: int) -> HandedOut | None:
        """It has come back, and that is settled; None if it was given up before."""
        attempt = self._attempts.pop(ticket, None)
        if attempt is None:
            self._given_up.pop(ticket, None)
        return attempt

    def judge(self, attempt: HandedOut, outcome: Outcome) -> Outcome:
        """What an attempt that we have ended has come to."""
        if not attempt.tries or outcome.kind not in ("failed", "lost"):
            return outcome
        replace = msgspec.structs.replace
        if not attempt.timed_out:
            message = f"it was ended while in flight ({outcome.error_code})"
            return replace(outcome, kind="lost", error_code="stopped", error_message=message)
        message = f"it took longer than {self._timeout_s:g} s"
        if outcome.kind == "lost" and TimeoutError not in self._retry_on:
            return replace(
                outcome,
                kind="review",
                error_code="TimeoutError",
                error_message=f"{message}, and may still go on",
            )
        return replace(
            outcome,
            kind="failed",
            error_code="TimeoutError",
            error_message=message,
            retryable=issubclass(TimeoutError, self._retry_on),
        )

    def end_due(self, stops: int, came_back: CameBack) -> None:
        """End those that have taken too long, and all if ``stops`` is 2 or more: to end at once.

        ``came_back``: those that have already. Added to it are those that had not begun, if
        ``stops`` is 1 or more, and those given up.
        """
        if stops:
            unstarted = Outcome(kind="unstarted")
            came_back += [(ticket, unstarted) for ticket in self._workers.take_back()]
        now_s = monotonic()
        at_once = stops >= 2
        if not at_once and self._timeout_s is None:
            return
        back = {ticket for ticket, _ in came_back}
        for ticket, attempt in list(self._attempts.items()):
            if ticket in back:
                continue
            if at_once and attempt.tries < stops - 1:
                attempt.deadline_s = now_s
            elif attempt.deadline_s is None or attempt.deadline_s > now_s:
                continue
            elif not attempt.tries:
                attempt.timed_out = True
            if not self._ask_to_end(ticket, attempt):
                self._give_up(ticket, attempt, came_back)

    def _ask_to_end(self, ticket: int, attempt: HandedOut) -> bool:
        """Whether it could be asked: what can't be, or was asked twice, is to be given up."""
        attempt.tries += 1
        force = attempt.tries > 1
        if attempt.tries <= 2 and self._workers.cancel(ticket, attempt.row.id, force=force):
            attempt.deadline_s = monotonic() + _GRACE_S
            return True
        return False

    def _give_up(self, ticket: int, attempt: HandedOut, came_back: CameBack) -> None:
        # An interrupt may come anywhere in here. Until the attempt has changed its ticket, at once,
        # what came back is of none, and its deadline stands: the next look gives it up once more.
        what = Outcome(kind="lost", error_code="stopped", error_message="it was given up")
        self._given_up[ticket] = attempt.row, not self._workers.abandon(ticket)
        # Under a ticket of its own, for the attempt may yet come back with the one it has.
        self._ticket += 1
        came_back.append((self._ticket, what))
        attempts = self._attempts.copy()
        attempts[self._ticket] = attempts.pop(ticket)
        self._attempts = attempts
        attempt.deadline_s = None
        attempt.tries = 3
