"""Processes work in a directory and are killed; a command loses; others go on with what is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from crash.power import lose_by
from support.paths import TESTS
from support.platforms import needs_proc

pytestmark = needs_proc  # the processes use what only Linux has


def test_processes_go_on_with_what_was_killed_and_nothing_is_lost(
    tmp_path: Path, count: Callable[[str, int], None]
) -> None:
    command = [sys.executable, str(TESTS / "crash" / "power.py"), "--directory", str(tmp_path)]
    done = subprocess.run(
        [*command, "--lose", "true", "--rounds", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 generations" in done.stdout
    assert " 0 side effects" not in done.stdout
    count("generations of processes killed at work", 2)


def test_what_a_command_has_lost_of_rows_and_of_side_effects_is_found(tmp_path: Path) -> None:
    kinds = ["shared", "p?-[cs][at]*s"]  # of jobs: rows that were acknowledged, and runs
    journals = " ".join(f"{tmp_path}/jobs/{kind}/journal.jsonl" for kind in kinds)
    all_but_the_first_commit = """sed -i '/,"crc":"[0-9a-f]*"}$/q' $journal"""
    lose = f"for journal in {journals}; do {all_but_the_first_commit}; done"
    tally = lose_by(lose, tmp_path, 1, 1)
    for kind in kinds:
        assert any(fnmatch(loss.partition(":")[0], kind) for loss in tally.lost), tally.lost
