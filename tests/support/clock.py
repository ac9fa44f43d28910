"""The clock of timeouts, for tests that decide whether a timeout is reached."""

from __future__ import annotations

from collections.abc import Callable

_LONG_S = 3600.0


class Clock:
    """A clock that stands still until a test lets all timeouts pass.

    So no attempt is given up because the machine is slow. The clock is far ahead of the real clock.
    Instead of waiting for a time of this clock, a run waits for its next look, which comes after at
    most 0.2 s.
    """

    def __init__(self) -> None:
        self._now_s = 1e9
        self._events: list[Callable[[], bool]] = []

    def __call__(self) -> float:
        return self._now_s + _LONG_S * sum(has_come() for has_come in self._events)

    def pass_timeouts(self) -> None:
        """Let the timeouts of all attempts that are in flight now pass."""
        self._now_s += _LONG_S

    def pass_timeouts_after(self, has_come: Callable[[], bool]) -> None:
        """Let the timeouts pass as soon as ``has_come`` returns True.

        From then on, it must return True.
        """
        self._events.append(has_come)
