"""The settings that limit a run: attempts per row, rate of starts, cost, and when to stop early."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import check_cost
from journal.model import Cost
from journal.run.outcome import Errors
from journal.run.pacing.halt import Halt
from journal.run.pacing.rate import Rate


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
