"""The clock of timeouts, for tests in which a timeout must be reached, or must not."""

from __future__ import annotations

from collections.abc import Callable

_LONG_S = 3600.0


class Clock:
    """Stands still until a test lets all timeouts pass.

    So no attempt is given up because the machine is slow. The clock is far ahead of the real one. A
    run that would wait until one of its times waits for its next look instead: at most 0.2 s.
    """

    def __init__(self) -> None:
        self._now_s = 1e9
        self._events: list[Callable[[], bool]] = []

    def __call__(self) -> float:
        return self._now_s + _LONG_S * sum(has_come() for has_come in self._events)

    def pass_timeouts(self) -> None:
        """Let the timeouts of all attempts pass that are in flight now."""
        self._now_s += _LONG_S

    def pass_timeouts_after(self, has_come: Callable[[], bool]) -> None:
        """Do so as soon as ``has_come`` returns True, which it does from then on."""
        self._events.append(has_come)
