"""Decides how many cases a test tries: usually a sample, and all cases with ``LONG=1``."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

IS_LONG = os.environ.get("LONG") == "1"
# The seed is fixed, so if the suite fails, a change is the reason. Another seed tries other things.
SEED = os.environ.get("SAMPLE_SEED", "0")


def sample(things: Iterable[T], number: int) -> list[T]:
    """Return a random sample of the things, in their order. With ``LONG=1``, return all of them.

    The sample depends on the test and on the environment variable SAMPLE_SEED.
    """
    everything = list(things)
    if IS_LONG or number >= len(everything):
        return everything
    draw = random.Random(f"{SEED} {os.environ.get('PYTEST_CURRENT_TEST', '')}")
    return [everything[place] for place in sorted(draw.sample(range(len(everything)), number))]
