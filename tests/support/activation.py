"""Counts how often what a test injects took effect: faults, kills, cuts and interrupts.

A fault that was injected and never took effect fails its test, since the test then shows nothing.
``conftest.py`` sees to it for each test. What is random must take effect in a stated share.
"""

from __future__ import annotations


class Injected:
    """Something that is injected now, and must take effect before the test ends."""

    _all: list[Injected] = []  # noqa: RUF012  (of the running test)

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0  # how often it took effect
        self.faults = 0  # how often the call then did something else than it does by itself
        self._all.append(self)

    @classmethod
    def end(cls) -> tuple[int, list[str]]:
        """Forget all that was injected. Return how many were faults, and which never took effect."""
        never = [one.what for one in cls._all if not one.count]
        taken = sum(one.faults > 0 for one in cls._all)
        cls._all.clear()
        return taken, never


def check_share(what: str, count: int, tried: int, share: float) -> None:
    """Raise AssertionError if fewer than this share (0 to 1) of what was tried took effect, or none."""
    assert count >= max(1, share * tried), f"{what}: only {count} of {tried}"
