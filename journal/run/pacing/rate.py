"""The rate of starts: ``rate="50/s"``. See also ``usage_rate``."""

from __future__ import annotations

from journal.format.arguments import parse_rate

_BURST_S = 0.05  # rows that are due within this time may start together and share a commit


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

    def follow(self, former: Rate | None) -> None:
        """Take the place of another rate in a run: what has just started by that one counts."""
        if former is not None:
            used, self._at_s = former.used
            self._tokens = max(0.0, self._tokens - used)

    @property
    def used(self) -> tuple[float, float | None]:
        """How many rows have just started, and when this was asked for the last time."""
        return max(0.0, self._batch - self._tokens), self._at_s

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
