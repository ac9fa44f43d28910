"""The longer runs that the pages name are commands of their own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from support.platforms import IS_WINDOWS

TOP = Path(__file__).parent.parent
COMMANDS = sorted(set(re.findall(r"python (tests/\S+\.py)", (TOP / "tests/README.md").read_text())))
# In one process: most of the time would go by until Python has started. None of them needs pytest.
EACH = """
import contextlib, io, json, runpy, sys

paths = sys.argv[1:]
for path in paths:
    sys.argv = [path, "--help"]
    sys.path = [entry for entry in sys.path if not entry.endswith("tests")]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            print(json.dumps([path, end.code or 0, shown.getvalue()]), file=sys.__stdout__)
"""


def test_each_command_for_a_longer_run_starts_without_pytest(tmp_path: Path) -> None:
    left_out = ("code_lines", "fakes", *(["windows/run"] if IS_WINDOWS else []))
    paths = [str(TOP / path) for path in COMMANDS if not any(part in path for part in left_out)]
    done = subprocess.run(
        [sys.executable, "-c", EACH, *paths],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [path for path, *_ in answers] == paths, done.stderr
    for path, code, shown in answers:
        assert (code, shown.startswith("usage: ")) == (0, True), path
        examples = [line for line in shown.splitlines() if "python tests/" in line]
        assert all(re.match(r" +(\w+=\S+ )?python tests/", line) for line in examples), examples
