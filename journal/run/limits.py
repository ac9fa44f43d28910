"""What bounds a run: how often a row is tried, how fast rows start, and when to give up."""

from __future__ import annotations

import math
import random
import re
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.run.outcome import Outcome
from journal.text import counted

_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}
_BURST_S = 0.05  # rows that are due within this time may start together, in one commit

_MOST_ALIKE = 10  # of the first rows of a run that may fail with one error code
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 3  # as in GNU parallel: of fewer rows a percentage says nothing


class Rate:
    """At most so many starts a second, evenly spread: the first at once, none saved up by waiting."""

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

    def used(self, count: int) -> None:
        self._tokens -= count

    @property
    def wait_s(self) -> float:
        """How long until one more may start."""
        return max(0.0, (1 - self._tokens) / self._per_s)


class Halt(msgspec.Struct, frozen=True):
    """When a run gives up: ``count`` rows, or ``percent`` of at least ``least`` rows of this run."""

    now: bool
    what: str  # fail, success or done
    count: int = 0
    percent: float = 0.0
    least: int = _MIN_DONE

    @classmethod
    def parse(cls, text: str) -> Halt | None:
        """``never`` and ``first`` are None; else as GNU parallel has it.

        That is ``soon`` or ``now``, with ``fail``, ``success`` or ``done``: ``soon,fail=5``; ``now,fail=20%,min=50``. A percentage is of the rows that this run has
        ended so far, of which there must be ``min`` (3). Raises InvalidValueError.
        """
        if text in ("never", "first"):
            return None
        match = (
            re.fullmatch(
                r"(now|soon),(fail|success|done)=([1-9][0-9]{0,8})(%?)(?:,min=([1-9][0-9]{0,8}))?",
                text,
            )
            if isinstance(text, str)
            else None
        )
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
        """Why to give up after so many rows of this run; None to go on."""
        done = succeeded + failed
        number = {"fail": failed, "success": succeeded, "done": done}[self.what]
        verb = {"fail": "has|have failed", "success": "has|have succeeded", "done": "is|are done"}[
            self.what
        ]
        if self.count:
            return counted(number, f"row|rows {verb}") if number >= self.count else None
        if done < self.least or number * 100 < done * self.percent:
            return None
        return f"{number} of {counted(done, f'row|rows {verb}')}, {self.percent:g} % or more"


class Brake:
    """Ends a run whose first rows all fail alike: that is no matter of rows.

    It counts rows that were never started before, in their first attempt, and is undecided until
    they were enough, or one attempt has not failed, or failed otherwise.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_undecided = is_on
        self.has_tripped = False
        self._count = 0
        self._code = self._message = ""

    @property
    def is_due(self) -> bool:
        return self.is_undecided and self._count >= _MOST_ALIKE

    def hear(self, row: JobRow, outcome: Outcome, *, again: bool) -> None:
        """An attempt has ended; ``again``: there is to be another one."""
        if not self.is_undecided or outcome.kind == "unstarted":
            return
        # Who says when the row is to be tried again goes by a plan of his own.
        if outcome.kind != "failed" or (again and outcome.after_s is not None):
            self.is_undecided = False
        elif row.attempts == 1:
            self.is_undecided = not self._count or outcome.error_code == self._code
            self._count += 1
            self._code, self._message = outcome.error_code, outcome.error_message

    def trip(self, *, rows_left: bool) -> bool:
        """Decide; whether the run is to end, with rows left that were never started."""
        self.is_undecided = False
        self.has_tripped = rows_left
        return rows_left

    def reason(self, retry_failed: str, never_halt: str) -> str:
        """Why the run ends; the two say how to go on once it is mended, and all the same."""
        said = self._message[:_MESSAGE_CHARACTERS]
        error = f"{self._code}: {said}" if said != self._code else said
        return (
            f"the first {self._count} rows have all failed with {error}; mend that and go on with "
            f"{retry_failed}, or with {never_halt} as it is"
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """See :meth:`JobRun.run`; checked when it is made."""

    max_attempts: int = 1
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    timeout_s: float | None = None
    rate: str | None = None
    halt: str = "first"
    max_cost_cents: int | None = None
    max_rows: int | None = None

    def __post_init__(self) -> None:
        _check_int(self.max_attempts, "max_attempts")
        _check_seconds(self.backoff_s, "backoff_s", least=0)
        _check_seconds(self.max_backoff_s, "max_backoff_s", least=0)
        if self.timeout_s is not None:
            _check_seconds(self.timeout_s, "timeout_s")
        if self.rate is not None:
            Rate.parse(self.rate)
        Halt.parse(self.halt)
        if self.max_cost_cents is not None:
            _check_int(self.max_cost_cents, "max_cost_cents", least=0)
        if self.max_rows is not None:
            _check_int(self.max_rows, "max_rows")

    def delay_s(self, attempts: int) -> float:
        """How long to wait after the attempt of this number: doubled each time, with jitter.

        Half of it is random, so that rows that failed together don't come back together.
        """
        longest = self.backoff_s * 2.0 ** min(attempts - 1, 60)
        return min(longest, self.max_backoff_s) * random.uniform(0.5, 1)  # noqa: S311  (no secret)


def _check_int(value: Any, where: str, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidValueError(where, value, f"must be an int from {least}")


def _check_seconds(value: Any, where: str, least: float | None = None) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or (value <= 0 if least is None else value < least):
        raise InvalidValueError(
            where, value, f"must be seconds, {'above 0' if least is None else '0 or more'}"
        )
