"""The conditions on which a run gives up: ``halt="soon,fail=20%"``, and the brake of its first rows."""

from __future__ import annotations

import re

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.outcome import Outcome
from journal.text import counted

_HALT = re.compile(
    r"(now|soon),(fail|success|done)=([1-9][0-9]{0,8})(%?)(?:,min=([1-9][0-9]{0,8}))?"
)
_HALT_VERBS = {
    "fail": "has|have failed",
    "success": "has|have succeeded",
    "done": "is|are done",
}
_MAX_ALIKE = 10  # the brake trips after this many first rows that fail with the same error code
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 3  # as in GNU parallel: a percentage of very few rows means nothing


class Halt(msgspec.Struct, frozen=True):
    """The condition on which a run gives up. Only rows that this run has ended count.

    ``what`` selects rows: "fail", "success" or "done" (both). The run gives up when ``count`` such
    rows have ended, or when they are at least ``percent`` of the ended rows and at least
    ``min_done`` rows have ended. ``now``: True if the run then ends the rows in flight, instead of
    waiting for them.
    """

    now: bool
    what: str
    count: int = 0
    percent: float = 0.0
    min_done: int = _MIN_DONE

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """Parse ``soon`` or ``now`` and a limit, as in GNU parallel: ``now,fail=20%,min=50``.

        Returns None for ``never`` and ``first``, which :class:`Brake` handles. Raises
        InvalidValueError.
        """
        if text in ("never", "first"):
            return None
        match = _HALT.fullmatch(text) if isinstance(text, str) else None
        if match is None or (match[4] and int(match[3]) > 100) or (match[5] and not match[4]):
            raise InvalidValueError(
                "halt",
                text,
                "must be 'first', 'never', or 'soon' or 'now' and a limit, such as 'soon,fail=10' "
                "or 'now,fail=20%,min=50'",
            )
        percent = float(match[3]) if match[4] else 0.0
        count = 0 if match[4] else int(match[3])
        return cls(match[1] == "now", match[2], count, percent, int(match[5] or _MIN_DONE))

    def reason(self, succeeded: int, failed: int) -> str | None:
        """Return a message that says why the run gives up now; None if the run continues."""
        done = succeeded + failed
        number = {"fail": failed, "success": succeeded, "done": done}[self.what]
        verb = _HALT_VERBS[self.what]
        if self.count:
            return counted(number, f"row|rows {verb}") if number >= self.count else None
        if done < self.min_done or number * 100 < done * self.percent:
            return None
        return f"{number} of {counted(done, f'row|rows {verb}')}, {self.percent:g} % or more"


class Brake:
    """Ends a run whose first rows all fail with the same error code.

    Such failures probably have a cause outside of the rows. Only first attempts of rows count. The
    brake is undecided until one of these happens: 10 such attempts have failed with the same code;
    one has failed with another code; or any attempt has ended without failing.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_undecided = is_on
        self.has_tripped = False
        self._count = 0
        self._code = self._message = ""

    @property
    def is_due(self) -> bool:
        return self.is_undecided and self._count >= _MAX_ALIKE

    def hear(self, row: JobRow, outcome: Outcome, *, again: bool) -> None:
        """Count the outcome of an attempt. ``again``: the row will be attempted again."""
        if not self.is_undecided or outcome.kind in ("unstarted", "held"):
            return
        # A handler that sets the time of the next attempt has expected this failure.
        if outcome.kind != "failed" or (again and outcome.after_s is not None):
            self.is_undecided = False
        elif row.attempts == 1:
            self.is_undecided = not self._count or outcome.error_code == self._code
            self._count += 1
            self._code, self._message = outcome.error_code, outcome.error_message

    def trip(self, *, rows_left: bool) -> bool:
        """Decide whether the run ends; return True if it does. It ends if some rows were never
        started.
        """
        self.is_undecided = False
        self.has_tripped = rows_left
        return rows_left

    def reason(self, retry_failed: str, never_halt: str) -> str:
        """Return a message that says why the run ends. The arguments say how to retry, and how to
        run without the brake.
        """
        said = self._message[:_MESSAGE_CHARACTERS]
        error = f"{self._code}: {said}" if said != self._code else said
        return (
            f"the first {self._count} rows have all failed with {error}; fix the cause and "
            f"continue with {retry_failed}, or continue as it is with {never_halt}"
        )
