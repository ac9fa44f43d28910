"""The conditions on which a run gives up: the option ``halt``, and a check of the first rows."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.outcome import WRONG_ANSWERS, Outcome
from journal.run.plan import HowTo
from journal.text import counted

_NUMBER = "([1-9][0-9]{0,8})"
_HALT = re.compile(
    f"(now|soon),(?:(fail|success|done)={_NUMBER}(?:(%)(?:,min={_NUMBER})?)?"
    f"|fail={_NUMBER} in a row)"
)
_HALT_VERBS = {
    "fail": "has|have failed",
    "success": "has|have succeeded",
    "done": "is|are done",
}
_MAX_ALIKE = 10  # if so many first rows fail with the same error code, the brake ends the run
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 3  # as in GNU parallel: a percentage of very few rows means nothing


class Halt(msgspec.Struct):
    """The condition on which a run gives up. Only rows that this run has ended are counted.

    ``what`` selects rows: "fail", "success" or "done" (both).

    - With ``count``, the run gives up when this many selected rows have ended. With ``in_a_row``,
      rows that began before the last success are ignored.
    - With ``percent``, the run gives up when at least ``min_done`` rows have ended, and at least
      this percentage of them are selected rows.

    ``now``: True if the run then ends the rows in flight, instead of waiting for them.
    """

    now: bool
    what: str
    count: int = 0
    percent: float = 0.0
    min_done: int = _MIN_DONE
    in_a_row: bool = False
    succeeded: int = 0  # the ticket of the latest attempt that has succeeded
    failed_since: list[int] = []  # the failed attempts that began after it

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """Parse a condition in the syntax of GNU parallel, such as ``now,fail=20%,min=50``.

        Returns None for ``never`` and ``first``, which :class:`Brake` handles. Raises
        InvalidValueError.
        """
        if text in ("never", "first"):
            return None
        match = _HALT.fullmatch(text) if isinstance(text, str) else None
        percent = int(match[3]) if match and match[4] else 0
        if match is None or percent > 100:
            raise InvalidValueError(
                "halt",
                text,
                "must be 'first', 'never', or 'soon' or 'now' and a limit, such as 'soon,fail=10', "
                "'now,fail=20%,min=50' or 'soon,fail=10 in a row'",
            )
        now = match[1] == "now"
        if match[6]:
            return cls(now, "fail", count=int(match[6]), in_a_row=True)
        if match[4]:
            return cls(now, match[2], percent=percent, min_done=int(match[5] or _MIN_DONE))
        return cls(now, match[2], count=int(match[3]))

    def hear(self, ticket: int, *, failed: bool) -> None:
        """Count a row that has ended. ``ticket``: its last attempt's number in this run.

        With ``in_a_row``, a success removes the failures that began before it. These failures have
        lower tickets, since tickets are in the order in which attempts began.
        """
        if self.in_a_row and failed and ticket > self.succeeded:
            self.failed_since.append(ticket)
        elif self.in_a_row and not failed:
            self.succeeded = max(self.succeeded, ticket)
            self.failed_since = [later for later in self.failed_since if later > ticket]

    def reason(self, succeeded: int, failed: int) -> str | None:
        """Return a message that says why the run gives up now; None if the run continues."""
        done = succeeded + failed
        number = {"fail": failed, "success": succeeded, "done": done}[self.what]
        verb = _HALT_VERBS[self.what]
        if self.in_a_row:
            last = counted(self.count, f"row|rows {verb}")
            return f"the last {last}" if len(self.failed_since) >= self.count else None
        if self.count:
            return counted(number, f"row|rows {verb}") if number >= self.count else None
        if done < self.min_done or number * 100 < done * self.percent:
            return None
        return f"{number} of {counted(done, f'row|rows {verb}')}, {self.percent:g} % or more"


class Brake:
    """Ends a run whose first rows all fail with the same error code.

    Such failures probably have a cause outside of the rows. Only first attempts of rows count. The
    brake is undecided until one of these happens: 10 such attempts have failed with the same code,
    one has failed with another code, or any attempt has ended without failing. If a handler returns
    an invalid result, its row needs a review. Here, such a row counts as failed.

    If a call with several rows fails, and its rows will be attempted again, they count as one
    failure. A single failed call may be a chance event.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_undecided = is_on
        self.has_tripped = False
        self._count = 0  # of failures
        self._rows = 0
        self._call: object = None  # the call of the latest row that is attempted again
        self._ended: Literal["", "failed", "review"] = ""  # "": all rows are attempted again
        self._code = self._message = ""

    @property
    def is_due(self) -> bool:
        return self.is_undecided and self._count >= _MAX_ALIKE

    def hear(self, row: JobRow, outcome: Outcome, call: object, *, again: bool) -> None:
        """Count the outcome of an attempt.

        ``again``: the row will be attempted again. ``call``: the same object for all rows of one
        call of the handler.
        """
        if not self.is_undecided or outcome.kind in ("unstarted", "held"):
            return
        # If the handler has set the time of the next attempt, it has expected this failure.
        if not _is_failure(outcome) or (again and outcome.after_s is not None):
            self.is_undecided = False
        elif row.attempts == 1:
            self.is_undecided = not self._count or outcome.error_code == self._code
            self._count += call is not self._call
            self._rows += 1
            self._code, self._message = outcome.error_code, outcome.error_message
            if again:
                self._call = call
            elif self._ended != "failed":
                self._ended = "review" if outcome.kind == "review" else "failed"

    def trip(self, *, rows_left: bool) -> bool:
        """Decide whether the run ends. ``rows_left``: whether some rows were never started.

        If all rows were started, the run doesn't end early. Returns the decision.
        """
        self.is_undecided = False
        self.has_tripped = rows_left
        return rows_left

    def reason(self, how_to: HowTo, job_id: str) -> str:
        """Return a message that says why the run ends, and how to continue."""
        said = self._message[:_MESSAGE_CHARACTERS]
        error = f"{self._code}: {said}" if said != self._code else said
        what = "all need a review:" if self._ended == "review" else "have all failed with"
        fixed = {
            "failed": f"fix the cause and continue with {how_to.retry_failed}",
            "review": f"settle these rows ({how_to.reviews(job_id)}), fix the cause and run again",
            "": "they will be tried again: fix the cause and run again",
        }[self._ended]
        return (
            f"the first {self._rows} rows of this run {what} {error}; {fixed}, or continue as it is with "
            f"{how_to.never_halt}"
        )


def _is_failure(outcome: Outcome) -> bool:
    is_wrong_answer = outcome.kind == "review" and outcome.error_code in WRONG_ANSWERS
    return outcome.kind == "failed" or is_wrong_answer
