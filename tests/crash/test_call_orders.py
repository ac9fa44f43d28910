"""Two actors on one job or store, whose system calls come in any order. See ``call_orders.py``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from crash.call_orders import SCENARIOS, Scenario, explore
from support.effort import IS_LONG, SEED
from support.memory import fast_directory
from support.platforms import needs_flock

pytestmark = needs_flock

ORDERS = 2000 if IS_LONG else 25

# How many different ends each scenario has, at least: fewer means that the orders make no difference.
ENDS = {"two starts": 1, "two starts of a job that stays open": 1, "two commits": 1}


@pytest.fixture(name="base")
def fixture_base() -> Iterator[Path]:
    base = fast_directory("orders-")
    yield base
    shutil.rmtree(base)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.name for scenario in SCENARIOS])
def test_no_order_of_system_calls_loses_repeats_or_confuses_anything(
    scenario: Scenario, base: Path, count: Callable[[str, int], None]
) -> None:
    seed = Random(SEED).randrange(1 << 32)
    ends, cut = explore(scenario, base / "base", ORDERS, seed)
    count("orders of the system calls of two actors that stop one between two calls", cut)
    assert len(ends) >= ENDS.get(scenario.name, 2)
