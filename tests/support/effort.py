"""How much a test tries: a sample in each run of the suite, everything with ``LONG=1``."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

IS_LONG = os.environ.get("LONG") == "1"
# In the environment, so that all processes of one run draw the same samples.
SEED = os.environ.setdefault("SAMPLE_SEED", str(secrets.randbits(32)))


def sample(things: Iterable[T], number: int) -> list[T]:
    """A random sample of the things, in their order; all of them with ``LONG=1``.

    Each run of the suite draws another one; a run that fails prints the SAMPLE_SEED of its own.
    """
    everything = list(things)
    if IS_LONG or number >= len(everything):
        return everything
    draw = random.Random(f"{SEED} {os.environ.get('PYTEST_CURRENT_TEST', '')}")
    return [everything[place] for place in sorted(draw.sample(range(len(everything)), number))]
