"""The longer runs that the pages name are commands of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.platforms import needs_owners

TOP = Path(__file__).parent.parent
COMMANDS = sorted(set(re.findall(r"python (tests/\S+\.py)", (TOP / "tests/README.md").read_text())))
MARKS = {"tests/windows/run.py": needs_owners}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=MARKS.get(path, ()))
        for path in COMMANDS
        if "code_lines" not in path
    ],
)
def test_each_command_for_a_longer_run_starts_without_pytest(path: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, TOP / path, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith("usage: ")) == (0, True), done.stderr
    examples = [line for line in done.stdout.splitlines() if "python tests/" in line]
    assert all(re.match(r" +(\w+=\S+ )?python tests/", line) for line in examples), examples
