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
    assert storm(tmp_path, kind, random.Random(kind)) == []
    count("signals that interrupted a run in a storm", interrupts(tmp_path))
