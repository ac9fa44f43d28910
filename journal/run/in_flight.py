"""The attempts that workers have, and what becomes of those that take too long or are stopped.

An attempt is asked to end, then forced to, then given up. One that was given up may still go on: its
row is settled without it, and when it comes back after all, its outcome settles the review.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import monotonic

import msgspec

from journal.model import JobRow
from journal.run.handover import Claim, Outcomes
from journal.run.outcome import Errors, Outcome
from journal.run.workers.choose import Workers

_GRACE_S = 5.0  # between asking an attempt to end, forcing it to, and giving it up


class HandedOut:
    """An attempt as the run sees it: a row that workers have, and until when."""

    __slots__ = ("claim", "deadline_s", "place_lost", "row", "timed_out", "tries")

    def __init__(self, row: JobRow, deadline_s: float | None) -> None:
        self.row = row
        self.claim = Claim()
        self.deadline_s = deadline_s
        self.timed_out = False
        self.tries = 0  # to end it
        self.place_lost = False  # if it was given up: whether no other can take its place


class CameBack(msgspec.Struct, frozen=True):
    """What an attempt has come to.

    ``is_given_up``: says us, who have given it up. ``is_late``: after that, and its row is settled.
    """

    ticket: int
    row: JobRow
    outcome: Outcome
    is_given_up: bool = False
    is_late: bool = False


class InFlight:
    """See the module. For one thread; an attempt is known by its ticket until it is forgotten.

    An interrupt may come between any two steps. An attempt is in here before workers hear of it,
    and until what it has come to is recorded; what it comes to is in one place from which it is
    only read. So whoever goes on after an interrupt finds each attempt, and can ask for each.
    """

    def __init__(
        self, workers: Workers, outcomes: Outcomes, timeout_s: float | None, retry_on: Errors
    ) -> None:
        """``retry_on``: the errors after which an attempt may be repeated; TimeoutError among them
        means one that has taken too long, too.
        """
        self._workers = workers
        self._outcomes = outcomes
        self._timeout_s = timeout_s
        self._retry_on = retry_on
        self._attempts: dict[int, HandedOut] = {}
        self._verdicts: dict[int, Outcome] = {}  # ours, on those that workers won't give one
        self._given_up: dict[int, HandedOut] = {}  # and not come back yet
        self._ticket = 0

    def __len__(self) -> int:
        return len(self._attempts)

    def holds(self, row: JobRow) -> bool:
        """Whether this very attempt is in flight."""
        return any(attempt.row is row for attempt in self._attempts.values())

    @property
    def places(self) -> int:
        """How many rows may be worked on at a time."""
        lost = sum(attempt.place_lost for attempt in self._given_up.values())
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
        attempt = self._attempts[self._ticket] = HandedOut(row, deadline_s)
        self._workers.hand_out(self._ticket, row, attempt.claim)

    def came_back(self, most: int | None = None) -> list[CameBack]:
        """What has come back and is not forgotten, up to ``most`` of it."""
        return list(islice(self._come_back(), most))

    def _come_back(self) -> Iterator[CameBack]:
        came = self._outcomes.came()
        for ticket, outcome in came.items():
            attempt = self._attempts.get(ticket)
            if attempt is not None:
                yield CameBack(ticket, attempt.row, self._judge(attempt, outcome))
            elif ticket in self._given_up:
                yield CameBack(ticket, self._given_up[ticket].row, outcome, is_late=True)
            else:  # an interrupt came while it was forgotten
                self._outcomes.forget(ticket)
        for ticket, outcome in self._verdicts.items():
            attempt = self._attempts.get(ticket)
            if attempt is not None and ticket not in came:
                judged = self._judge(attempt, outcome)
                yield CameBack(ticket, attempt.row, judged, is_given_up=True)

    def forget(self, one: CameBack) -> None:
        """What it has come to is recorded. One that was given up may yet come back."""
        if not one.is_given_up:
            self._given_up.pop(one.ticket, None)
        self._attempts.pop(one.ticket, None)
        self._verdicts.pop(one.ticket, None)
        if not one.is_given_up:
            self._outcomes.forget(one.ticket)

    def _judge(self, attempt: HandedOut, outcome: Outcome) -> Outcome:
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

    def end_due(self, stops: int) -> None:
        """End those that have taken too long, and all if ``stops`` is 2 or more: to end at once.

        If it is 1 or more, those that no worker has begun are taken back.
        """
        now_s = monotonic()
        at_once = stops >= 2
        if not stops and self._timeout_s is None:
            return
        came = self._outcomes.came()
        for ticket, attempt in self._attempts.items():
            if ticket in came or ticket in self._verdicts:
                continue
            if stops and self._take_back(ticket, attempt):
                continue
            if at_once and attempt.tries < stops - 1:
                attempt.deadline_s = now_s
            elif attempt.deadline_s is None or attempt.deadline_s > now_s:
                continue
            elif not attempt.tries:
                attempt.timed_out = True
            if not self._take_back(ticket, attempt) and not self._ask_to_end(ticket, attempt):
                self._give_up(ticket, attempt)

    def _take_back(self, ticket: int, attempt: HandedOut) -> bool:
        if not attempt.claim.take_back():
            return False
        self._verdicts[ticket] = Outcome(kind="unstarted")
        return True

    def _ask_to_end(self, ticket: int, attempt: HandedOut) -> bool:
        """Whether it could be asked: what can't be, or was asked twice, is to be given up."""
        attempt.tries += 1
        force = attempt.tries > 1
        if attempt.tries <= 2 and self._workers.cancel(ticket, attempt.row.id, force=force):
            attempt.deadline_s = monotonic() + _GRACE_S
            return True
        return False

    def _give_up(self, ticket: int, attempt: HandedOut) -> None:
        # Until there is a verdict its deadline stands, so that the next look gives it up once more.
        attempt.place_lost = not self._workers.abandon(ticket)
        self._given_up[ticket] = attempt
        what = Outcome(kind="lost", error_code="stopped", error_message="it was given up")
        self._verdicts[ticket] = what
        attempt.deadline_s = None
