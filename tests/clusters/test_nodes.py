"""Two nodes share a directory: a sample of what `nodes.py` plays."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.platforms import needs_fork, skip_without

ROUNDS = 10


def test_nothing_happens_twice_and_no_answer_is_lost_when_nodes_die_freeze_and_come_back(
    count: Callable[[str, int], None],
) -> None:
    skip_without(needs_fork)
    nodes = Path(__file__).with_name("nodes.py")
    options = ("--rounds", str(ROUNDS), "--seed", "11")
    done = subprocess.run(
        [sys.executable, nodes, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    met = re.findall(r"(\d+) nodes: ", done.stdout)
    assert sum(map(int, met)) >= ROUNDS
    assert "nodes that ended: lost" in done.stdout
    count("nodes that died, froze or were cut off", sum(map(int, met)))
