"""What is injected and never takes effect fails its test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.activation import check_share
from support.paths import TESTS

FAULTS = """
import errno, os, pytest
from support.children import FaultyOs, fails, works

def use(faulty):
    faulty.close(faulty.open(os.devnull, os.O_RDONLY))

@pytest.fixture
def fails_later():
    FaultyOs().plan("close", fails(errno.EIO))
    raise ValueError

def test_of_a_setup_that_fails(fails_later):
    pass

def test_of_calls_that_are_made():
    faulty = FaultyOs()
    faulty.plan("close", lambda real, fd: real(fd))
    faulty.always("open", lambda real, path, _flags: real(path, os.O_RDWR))
    use(faulty)

def test_of_a_second_call_that_is_not_made():
    faulty = FaultyOs()
    faulty.plan("close", works, fails(errno.EIO))
    use(faulty)

def test_of_a_fault_that_changes_nothing():
    faulty = FaultyOs()
    faulty.always("open", works)
    use(faulty)
"""


def test_a_fault_that_never_takes_effect_fails_its_test_and_the_others_are_counted(
    tmp_path: Path,
) -> None:
    (tmp_path / "test_faults.py").write_text(FAULTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 failed, 1 passed, 1 error" in done.stdout
    assert "injected, and never took effect: fault 2 of os.close" in done.stdout
    assert "injected, and never took effect: the fault of each os.open" in done.stdout
    assert "1 single system calls with a fault" in done.stdout


@pytest.mark.parametrize(("count", "tried"), [(0, 0), (0, 9), (4, 9)])
def test_too_few_kills_that_hit_something_are_an_error(count: int, tried: int) -> None:
    with pytest.raises(AssertionError, match=f"kills: only {count} of {tried}"):
        check_share("kills", count, tried, 0.5)
    check_share("kills", 5, 9, 0.5)
