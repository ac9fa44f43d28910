"""Orders in which threads may go on, explored by frontrun. See ``interleavings.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.effort import IS_LONG


def test_no_order_of_threads_loses_a_change_of_a_group_commit_or_a_call_of_the_driver(
    count: Callable[[str, int], None],
) -> None:
    pytest.importorskip("frontrun", reason="frontrun isn't installed")
    command = [sys.executable, str(Path(__file__).with_name("interleavings.py"))]
    done = subprocess.run(
        [*command, "--executions", "5000" if IS_LONG else "8"],
        env={**os.environ, "FRONTRUN_ACTIVE": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    orders = done.stdout.split("\n")[-2]
    count("orders of threads", int(orders.removesuffix(" orders")))
