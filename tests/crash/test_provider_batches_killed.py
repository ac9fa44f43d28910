"""A small part of ``provider_batches.py``; with ``LONG=1`` all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.provider_batches import MODES, killed
from support.effort import IS_LONG

SIZE = (
    {"rows": 10_000, "size": 1_000, "kills": 30}
    if IS_LONG
    else {"rows": 200, "size": 20, "kills": 4}
)


@pytest.mark.parametrize("mode", MODES)
def test_no_prompt_is_in_two_batches_of_the_provider_whenever_a_run_is_killed(
    tmp_path: Path, mode: str, count: Callable[[str, int], None]
) -> None:
    _, kills = killed(tmp_path, mode, seed=1, **SIZE)
    count(f"kills of a run: {mode}", kills)
