"""The settings that limit a run: attempts per row, rate of starts, cost, and early end."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import ROWS, check_cost, check_count, check_limit_per, rates_of
from journal.model import Cost, JobRow
from journal.run.outcome import Repeated, RetryOn
from journal.run.plan import Where
from journal.verbs import check_where

_HALT = re.compile("(?:(now|soon),)?([1-9][0-9]{0,8})(%?)")

# A function that gets a row and returns numbers by the names of usages.
Estimate = Callable[[JobRow], Mapping[str, float]]


class Limits(msgspec.Struct, kw_only=True):
    """The limits of a run: see :meth:`JobRun.run`. The constructor raises InvalidValueError.

    If a run is tuned, the limits change.
    """

    max_attempts: int = 1
    retry_on: Any = (Exception,)  # first RetryOn, then the result of _kinds()
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    timeout_s: float | None = None
    rate: str | Mapping[str, str] | None = None
    estimate: Estimate | None = None
    halt: str | int = "first"
    max_cost_cents: Cost | None = None
    max_rows: int | None = None
    max_wait_s: float | None = None
    max_waiting: int | None = None
    no_wait: bool = False
    workers: int | None = None
    batch: int | None = None
    limit_per: Mapping[str, int] | None = None
    where: Where | None = None

    @classmethod
    def among(cls, given: Mapping[str, Any]) -> Self:
        """The limits among the arguments of a function. Raises InvalidValueError."""
        return cls(**{name: given[name] for name in cls.__struct_fields__ if name in given})

    def __post_init__(self) -> None:
        check_count(self.max_attempts, "max_attempts")
        self.retry_on = _kinds(self.retry_on)
        _check_seconds(self.backoff_s, "backoff_s", above_0=False)
        _check_seconds(self.max_backoff_s, "max_backoff_s", above_0=False)
        for name in ("timeout_s", "max_wait_s"):
            if getattr(self, name) is not None:
                _check_seconds(getattr(self, name), name, above_0=True)
        rates_of(self.rate)
        if self.estimate is not None and not (callable(self.estimate) and self.usage_rates):
            reason = (
                "must be a function of a row, with rate={'input_tokens': '200000/m'} or the like"
            )
            raise InvalidValueError("estimate", self.estimate, reason)
        parse_halt(self.halt)
        for name in ("workers", "batch", "max_rows", "max_waiting"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
        cents: Any = check_cost(self.max_cost_cents, "max_cost_cents")
        self.max_cost_cents = cents  # int or float, like totals of costs
        if self.limit_per is not None:
            check_limit_per(self.limit_per)
        check_where(self.where)

    @property
    def usage_rates(self) -> dict[str, str]:
        """The rates of usage, by the names of the limited quantities."""
        return {name: rate for name, rate in rates_of(self.rate).items() if name != ROWS}

    @property
    def tunable(self) -> dict[str, Any]:
        """The limits that may be tuned and are set, by name."""
        per = None if self.limit_per is None else {**self.limit_per}
        rates, most = rates_of(self.rate), self.max_cost_cents
        of = {"workers": self.workers, "rate": rates, "limit_per": per, "max_cost_cents": most}
        return {name: limit for name, limit in of.items() if limit not in (None, {})}

    def retry_kinds(self, of: type) -> tuple[Any, ...]:
        """The classes in ``retry_on`` (``of=type``), or the error codes in ``retry_on``
        (``of=str``).

        Workers compare the classes with exceptions. The driver doesn't get exceptions. It compares
        the codes with the error codes of outcomes.
        """
        return tuple(kind for kind in self.retry_on if isinstance(kind, of))

    @property
    def has_budget(self) -> bool:
        """Whether a limit counts for the whole job. In a set, each shard has its own limit."""
        budgets = (self.rate, self.max_cost_cents, self.max_rows, self.max_waiting, self.limit_per)
        return any(budget is not None for budget in budgets)

    @property
    def retries_nothing(self) -> bool:
        """Whether ``retry_on`` was given but has no effect, because a row has one attempt."""
        named = {*self.retry_on} - {Exception, TimeoutError, TimeoutError.__name__}
        return bool(named) and self.max_attempts == 1

    @property
    def names_timeouts(self) -> bool:
        """Whether ``retry_on`` has TimeoutError itself, as a class or as an error code."""
        return TimeoutError in self.retry_on or TimeoutError.__name__ in self.retry_on


class HaltRule(NamedTuple):
    """The condition on which a run gives up: see :class:`Halt`."""

    now: bool
    failures: int
    percent: int


def parse_halt(given: Any) -> HaltRule | None:
    """Parse ``halt``.

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
    failures, percent = (0, number) if match[3] else (number, 0)
    return HaltRule(match[1] == "now", failures, percent)


def _kinds(retry_on: RetryOn) -> tuple[Repeated, ...]:
    """The classes and codes of ``retry_on``."""
    named = retry_on if isinstance(retry_on, tuple | list | set | frozenset) else (retry_on,)
    for kind in named:
        _check_kind(kind)
    return tuple(named)


def _check_kind(kind: Any) -> None:
    """Raise InvalidValueError unless ``kind`` is an exception class or an error code."""
    if (isinstance(kind, str) and kind) or (
        isinstance(kind, type) and issubclass(kind, BaseException)
    ):
        return
    instead = ""
    if isinstance(kind, BaseException):
        instead = f": write {type(kind).__name__}, the class"
    elif isinstance(kind, int):
        instead = f': write "{kind}", if that is the error code'
    elif callable(kind):
        instead = ": raise journal.Fail(code, message) in the handler, and name the code"
    reason = f"must be an exception class, an error code as text, or a collection of these{instead}"
    raise InvalidValueError("retry_on", kind, reason)


def _check_seconds(value: Any, where: str, *, above_0: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (above_0 and not value):
        raise InvalidValueError(
            where, value, f"must be seconds, {'above 0' if above_0 else '0 or more'}"
        )
