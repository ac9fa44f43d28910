"""A small part of ``batches.py``; with ``LONG=1`` all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.batches import MODES, batches
from support.effort import IS_LONG

SIZE = {"rows": 2000, "kills": 50} if IS_LONG else {"rows": 400, "kills": 2}


@pytest.mark.parametrize("mode", MODES)
def test_only_rows_of_calls_in_flight_are_in_doubt_whenever_a_run_is_killed(
    tmp_path: Path, mode: str, count: Callable[[str, int], None]
) -> None:
    kills = batches(tmp_path, mode, seed=1, **SIZE)
    count(f"kills of a run: {mode}", kills)
