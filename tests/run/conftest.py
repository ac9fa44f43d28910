"""What the tests of runs share by pytest's own rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

WAIT_S = 60.0


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """Where the job of a test is to be."""
    return tmp_path / "jobs" / "j"


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Whatever a run was through, its threads are gone once its handlers have returned.

    But for the threads that record steps, which stay for further steps.
    """
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("journal-") and not thread.name.startswith("journal-step"):
            thread.join(WAIT_S)
            assert not thread.is_alive()
