"""Shards on nodes with disks of their own, gathered by rsync; a small form of ``engines.py``."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clusters.engines import run_on_nodes
from support.platforms import needs_signals


@needs_signals
@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_shards_on_nodes_of_their_own_are_gathered_and_no_row_is_called_twice(
    tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    random.seed(7)
    tally = run_on_nodes(tmp_path, rows=30, shards=3, kills=2)
    count("tasks of an array that were killed", tally["killed"])
