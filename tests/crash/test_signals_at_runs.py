"""A part of the table of ``signals.py``: one cell of each kind of run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from crash.signals import Cell, cells, run_cell
from support.effort import IS_LONG
from support.platforms import needs_fifos, needs_proc, needs_signals

pytestmark = [needs_signals, needs_fifos, needs_proc]

SAMPLE = {
    "threads, where hangs: INT+INT+INT+INT",
    "coroutines, lock: INT+INT",
    "batches, paused by another process: INT",
    "fork, in flight: INT+INT to the group",
    "spawn, on_progress: INT+INT",
    "command, reading the input again: INT",
    "threads exiting, in flight: TERM+TERM",
    "command -n, backoff: TERM",
    "arun handling, rate: INT",
    "other thread, in flight: INT+INT",
    "fork unhandled, in flight: INT to the group",
    "coroutines unhandled, in flight: TERM",
}


@pytest.mark.parametrize(
    "cell", [cell for cell in cells() if IS_LONG or str(cell) in SAMPLE], ids=str
)
def test_a_run_that_gets_signals_ends_as_the_pages_say(
    cell: Cell, tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    if "loky" in cell.where:
        pytest.importorskip("loky", reason="loky is not installed")
    run_cell(cell, tmp_path)
    count("signals sent to a run at work", len(cell.signals.split("+")))
