"""The conditions on which a run gives up: the option ``halt``, and a check of the first rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.outcome import WRONG_ANSWERS, Outcome
from journal.run.plan import HowTo
from journal.text import counted

_HALT = re.compile("(?:(now|soon),)?([1-9][0-9]{0,8})(%?)")
_MAX_ALIKE = 10  # if so many first rows fail with the same error code, the brake ends the run
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 50  # a percentage of fewer rows means little


class Halt(msgspec.Struct):
    """The condition on which a run gives up. Only rows that this run has ended are counted.

    - With ``count``, the run gives up after so many successive failures: rows that began
      before the last success are ignored.
    - With ``percent``, the run gives up when at least 50 rows have ended, and at least this
      percentage of them have failed.

    ``now``: True if the run then ends the rows in flight, instead of waiting for them.
    """

    now: bool = False
    count: int = 0
    percent: int = 0
    succeeded: int = 0  # the ticket of the latest attempt that has succeeded
    failed_since: list[int] = []  # the failed attempts that began after it

    @classmethod
    def parse(cls, given: Any) -> Halt | None:
        """Make the condition from ``halt``.

        Returns None for ``never`` and ``first``, which :class:`Brake` handles. Raises
        InvalidValueError.
        """
        if given in ("never", "first"):
            return None
        is_number = isinstance(given, int) and not isinstance(given, bool)
        match = _HALT.fullmatch(str(given)) if is_number or isinstance(given, str) else None
        number = int(match[2]) if match else 0
        if match is None or (match[3] and number > 100):
            raise InvalidValueError(
                "halt",
                given,
                "must be 'first', 'never', successive failures, such as '10', or a percentage of at "
                "least 50 rows, such as '20%'; 'now,10' also ends the rows in flight",
            )
        now = match[1] == "now"
        return cls(now, percent=number) if match[3] else cls(now, number)

    def hear(self, ticket: int, *, failed: bool) -> None:
        """Count a row that has ended. ``ticket``: its last attempt's number in this run.

        A success removes the failures that began before it. These failures have lower tickets,
        since tickets are in the order in which attempts began.
        """
        if not self.count:
            return
        if failed and ticket > self.succeeded:
            self.failed_since.append(ticket)
        elif not failed:
            self.succeeded = max(self.succeeded, ticket)
            self.failed_since = [later for later in self.failed_since if later > ticket]

    def reason(self, counts: Mapping[str, int]) -> str | None:
        """Return a message that says why the run gives up now; None if the run continues."""
        if self.count:
            last = counted(self.count, "row|rows has|have failed")
            return f"the last {last}" if len(self.failed_since) >= self.count else None
        failed = counts["failed"]
        done = counts["completed"] + counts["skipped"] + failed
        if done < _MIN_DONE or failed * 100 < done * self.percent:
            return None
        return f"{failed} of {done:,} rows have failed, {self.percent} % or more"


class Brake:
    """Ends a run whose first rows fail alike: at least nine of ten with the same error code.

    Such failures probably have a cause outside of the rows. Only first attempts of rows count. The
    brake is undecided until one of these happens: the run has asked after 10 such attempts failed
    alike, more than 20 have failed otherwise, or any attempt has ended without failing. A review
    that the handler has not asked for, after an invalid result or a timeout, counts as a failure.

    If a call with several rows fails, and its rows will be attempted again, they count as one
    failure. A single failed call may be a chance event.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_undecided = is_on
        self.has_tripped = False
        self._failures: Counter[str] = Counter()  # by error code
        self._rows: Counter[str] = Counter()
        self._call: object = None  # the call of the latest row that is attempted again
        self._ended: Literal["", "failed", "review"] = ""  # "": all rows are attempted again
        self._code = self._message = ""  # of the most frequent failure

    @property
    def is_due(self) -> bool:
        return self.is_undecided and self._is_alike

    @property
    def _is_alike(self) -> bool:
        alike = self._failures[self._code]
        return alike >= _MAX_ALIKE and alike * 10 >= self._failures.total() * 9

    def hear(self, row: JobRow, outcome: Outcome, call: object, *, again: bool) -> None:
        """Count the outcome of an attempt.

        ``again``: the row will be attempted again. ``call``: the same object for all rows of one
        call of the handler.
        """
        if not self.is_undecided or outcome.is_given_back:
            return
        # If the handler has set the time of the next attempt, it has expected this failure.
        if not _is_failure(outcome) or (again and outcome.after_s is not None):
            self.is_undecided = False
        elif row.attempts == 1:
            code = outcome.error_code
            self._failures[code] += call is not self._call
            self._rows[code] += 1
            if self._failures[code] >= self._failures[self._code]:
                self._code, self._message = code, outcome.error_message
            # A run with many workers may hear of more failures before it asks.
            self.is_undecided = self._is_alike or self._failures.total() <= 2 * _MAX_ALIKE
            if again:
                self._call = call
            else:
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
        rows = f"the first {self._rows[self._code]} rows of this run"
        every = "all "
        if len(self._rows) > 1:
            rows, every = f"no row of this run has succeeded, and {self._rows[self._code]} rows", ""
        what = f"{every}need a review:" if self._ended == "review" else f"have {every}failed with"
        fixed = {
            "failed": f"fix the cause and continue with {how_to.retry_failed}",
            "review": f"settle these rows ({how_to.reviews(job_id)}), fix the cause and run again",
            "": "they will be tried again: fix the cause and run again",
        }[self._ended]
        return (
            f"{rows} {what} {error}; {fixed}, or continue as it is with "
            f"{how_to.argument('halt', 'never')}"
        )


def _is_failure(outcome: Outcome) -> bool:
    is_unasked = outcome.unknown or outcome.error_code in WRONG_ANSWERS
    return outcome.kind == "failed" or (outcome.kind == "review" and is_unasked)
