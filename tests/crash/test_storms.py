"""A small part of ``storms.py``."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from crash.storms import KINDS, interrupts, storm
from support.platforms import needs_signals

pytestmark = needs_signals


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_a_storm_of_signals_ends_and_calls_no_row_twice(
    kind: str, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    if kind == "loky":
        pytest.importorskip("loky", reason="loky is not installed")
    draw, hit = random.Random(kind), 0
    for number in range(10):  # on a busy machine, a run may end before the first signal
        directory = tmp_path / str(number)
        assert storm(directory, kind, draw) == []
        hit += interrupts(directory)
        if hit:
            break
    assert hit, "no signal has interrupted a run"
    count("signals that interrupted a run in a storm", hit)
