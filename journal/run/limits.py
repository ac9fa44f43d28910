"""The limits of a run: attempts per row, rate of starts, cost, and when to stop early."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import check_cost
from journal.model import Cost, JobRow
from journal.run.outcome import Errors, Outcome
from journal.text import counted

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}
_HALT = re.compile(
    r"(now|soon),(fail|success|done)=([1-9][0-9]{0,8})(%?)(?:,min=([1-9][0-9]{0,8}))?"
)
_HALT_VERBS = {
    "fail": "has|have failed",
    "success": "has|have succeeded",
    "done": "is|are done",
}
_BURST_S = 0.05  # rows due within this time may start together, so that they share a commit

_MAX_ALIKE = 10  # the brake trips after this many first rows that fail with the same error code
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 3  # as in GNU parallel: a percentage of very few rows means nothing


class Rate:
    """Allows at most ``per_s`` starts a second, evenly spread, with a short burst after a pause."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._tokens = 1.0
        self._at_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Rate:
        """``"50/s"``, ``"100/m"``, ``"2.5/h"``. Raises InvalidValueError."""
        match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
        per_s = float(match[1]) / _UNIT_S[match[2]] if match else 0.0
        if not 1e-9 < per_s < 1e9:
            raise InvalidValueError("rate", text, "must be a number above 0 and /s, /m or /h: 50/s")
        return cls(per_s)

    def allowed(self, now_s: float) -> int:
        """How many rows may start now."""
        if self._at_s is not None:
            earned = (now_s - self._at_s) * self._per_s
            self._tokens = min(self._burst, self._tokens + earned)
        self._at_s = now_s
        return int(self._tokens)

    def use(self, count: int) -> None:
        """Count starts."""
        self._tokens -= count

    @property
    def wait_s(self) -> float:
        """Seconds until one more row may start."""
        return max(0.0, (1 - self._tokens) / self._per_s)


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
        if not self.is_undecided or outcome.kind == "unstarted":
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


def exception_classes(given: Errors | type[BaseException]) -> Errors:
    """The classes in ``retry_on``: one class, or a tuple of them. Raises InvalidValueError."""
    classes = given if isinstance(given, tuple) else (given,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in classes):
        return classes
    raise InvalidValueError(
        "retry_on", given, "must be an exception class or a tuple of exception classes"
    )


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a run: see :meth:`JobRun.run`. The constructor raises InvalidValueError."""

    max_attempts: int = 1
    retry_on: Errors = (Exception,)
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    timeout_s: float | None = None
    rate: str | None = None
    halt: str = "first"
    max_cost_cents: Cost | None = None
    max_run_cost_cents: Cost | None = None
    max_rows: int | None = None

    def __post_init__(self) -> None:
        check_int(self.max_attempts, "max_attempts")
        _check_seconds(self.backoff_s, "backoff_s", above_0=False)
        _check_seconds(self.max_backoff_s, "max_backoff_s", above_0=False)
        if self.timeout_s is not None:
            _check_seconds(self.timeout_s, "timeout_s", above_0=True)
        if self.rate is not None:
            Rate.parse(self.rate)
        Halt.parse(self.halt)
        for name in ("max_cost_cents", "max_run_cost_cents"):  # as totals are: int or float
            cents = check_cost(getattr(self, name), name)
            msgspec.structs.force_setattr(self, name, cents)
        if self.max_rows is not None:
            check_int(self.max_rows, "max_rows")


def check_int(value: Any, where: str, lowest: int = 1) -> None:
    """Raise InvalidValueError unless ``value`` is an int of at least ``lowest``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InvalidValueError(where, value, f"must be an int from {lowest}")


def _check_seconds(value: Any, where: str, *, above_0: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (above_0 and not value):
        raise InvalidValueError(
            where, value, f"must be seconds, {'above 0' if above_0 else '0 or more'}"
        )
