"""One thing that the promise rests on, and how to take it away."""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """``old`` stands exactly once in the module; ``tests`` are the likeliest to fail without it."""

    name: str
    module: str
    old: str
    new: str
    tests: str
