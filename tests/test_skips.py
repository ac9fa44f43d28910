"""In the checks of `.ci/run` no test is skipped unnoticed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash.fault_disk import NO_FAULT_DISK

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("reason", "no_skips", "status"),
    [("just so", "1", 1), (f"{NO_FAULT_DISK}FUSE", "1", 0)],
)
def test_with_no_skips_set_a_skip_fails_the_run_but_for_want_of_a_disk_with_faults(
    tmp_path: Path, reason: str, no_skips: str, status: int
) -> None:
    skipped = tmp_path / "test_skipped.py"
    skipped.write_text(
        f"import pytest\n\n@pytest.mark.skip(reason={reason!r})\ndef test_it():\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--rootdir", tmp_path, skipped],
        env={**os.environ, "PYTHONPATH": str(TESTS), "NO_SKIPS": no_skips},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("NO_SKIPS is set" in done.stdout) == bool(status)
