"""The rate of starts: ``rate="50/s"``. See also ``usage_rate``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from journal.errors import InvalidValueError

ROWS = "rows"  # in a dict of rates: the rate of starts
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}
_BURST_S = 0.05  # rows that are due within this time may start together and share a commit


def parse_rate(text: str, where: str = "rate") -> tuple[float, int]:
    """The number in a rate, and its unit in seconds. Raises InvalidValueError."""
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    number, unit_s = (float(match[1]), _UNIT_S[match[2]]) if match else (0.0, 1)
    if not 1e-9 < number / unit_s < 1e9:
        is_number = match is None and _RATE.fullmatch(f"{text}/s") and float(text)
        such_as = f"{text}/s" if is_number else "50/s"
        reason = f"must be a number above 0 and /s, /m or /h: {such_as}"
        raise InvalidValueError(where, text, reason)
    return number, unit_s


def rates_of(given: str | Mapping[str, str] | None) -> dict[str, str]:
    """The rates in an argument ``rate``, by what they limit. Raises InvalidValueError."""
    if not isinstance(given, Mapping):
        given = {} if given is None else {ROWS: given}
    for name, text in given.items():
        if not isinstance(name, str) or not name:
            reason = "must be text, or a dict such as {'rows': '50/s', 'input_tokens': '200000/m'}"
            raise InvalidValueError("rate", given, reason)
        parse_rate(text, "rate" if name == ROWS else f"rate[{name!r}]")
    return {**given}


class Rate:
    """Allows at most ``per_s`` starts a second.

    Starts are evenly spread, but up to ``batch`` rows may start together. After a time without
    starts, a short burst is allowed.
    """

    def __init__(self, per_s: float, batch: int = 1) -> None:
        self._per_s = per_s
        self._batch = self._wanted = batch
        self._burst = max(float(batch), per_s * _BURST_S)
        self._tokens = float(batch)
        self._at_s: float | None = None

    @classmethod
    def parse(cls, text: str, batch: int = 1) -> Rate:
        """Parse a rate such as ``"50/s"``, ``"100/m"`` or ``"2.5/h"``. Raises InvalidValueError.

        If ``batch`` is larger than the number in the rate (100 in ``"100/m"``), it is reduced to
        this number, rounded down, but not below 1.
        """
        number, unit_s = parse_rate(text)
        return cls(number / unit_s, min(batch, max(1, int(number))))

    def allowed(self, now_s: float, pending: int = 1) -> int:
        """How many rows may start now, if ``pending`` rows could start without the rate limit."""
        if self._at_s is not None:
            earned = (now_s - self._at_s) * self._per_s
            self._tokens = min(self._burst, self._tokens + earned)
        self._at_s = now_s
        self._wanted = max(1, min(self._batch, pending))
        return int(self._tokens) if self._tokens >= self._wanted else 0

    def use(self, count: int) -> None:
        """Count starts."""
        self._tokens -= count

    @property
    def wait_s(self) -> float:
        """Seconds until more rows may start."""
        return max(0.0, (self._wanted - self._tokens) / self._per_s)
