"""A small part of ``forks.py``; with ``LONG=1`` all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.forks import MODES, faults, forks
from support.effort import IS_LONG
from support.platforms import needs_fork, needs_proc

pytestmark = [needs_fork, needs_proc]

ROUNDS, ROWS = (20, 24) if IS_LONG else (1, 9)


@pytest.mark.parametrize("mode", MODES)
def test_no_forked_process_calls_a_row_or_settles_a_step_of_its_parent(
    tmp_path: Path, mode: str, count: Callable[[str, int], None]
) -> None:
    seen = forks(tmp_path, mode, rounds=ROUNDS, rows=ROWS, seed=1)
    assert not faults(seen)
    assert seen["kills"] == ROUNDS
    assert seen["forks"] >= ROUNDS * ROWS // 3
    count(f"forks in a run: {mode}", seen["forks"])
