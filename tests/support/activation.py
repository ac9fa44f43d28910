"""Counts how often the injections of a test took effect: faults, kills, cuts and interrupts.

An injected fault that never took effect fails its test, since the test then shows nothing.
``conftest.py`` checks this after each test. Random injections must take effect in a stated share.
"""

from __future__ import annotations


class Injected:
    """An injection that must take effect before the test ends."""

    _all: list[Injected] = []  # noqa: RUF012  (of the running test)

    def __init__(self, what: str) -> None:
        self.what = what
        self.count = 0  # how often the injection took effect
        self.faults = 0  # how often the call then differed from the real call
        self._all.append(self)

    @classmethod
    def end(cls) -> tuple[int, list[str]]:
        """Forget all injections. Return the number of faults, and the injections without effect."""
        never = [one.what for one in cls._all if not one.count]
        taken = sum(one.faults > 0 for one in cls._all)
        cls._all.clear()
        return taken, never


def check_share(what: str, count: int, tried: int, share: float) -> None:
    """Raise AssertionError if no try, or less than this share (0 to 1) of the tries, took effect."""
    assert count >= max(1, share * tried), f"{what}: only {count} of {tried}"
