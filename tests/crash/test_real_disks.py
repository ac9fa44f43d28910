"""Work on a disk that fails, loses its cache and loses power, below file systems of the kernel.

``python tests/crash/power.py`` does the same work for a longer time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
from crash.disk_errors import (
    SCENARIOS,
    End,
    Scenario,
    at_random,
    restart,
)
from crash.fault_disk import KINDS, why_no_fault_disk
from crash.power import (
    FILE_SYSTEMS,
    Tally,
    cut_power,
    cut_power_in_writing_anew,
    fail,
    lose_power,
)
from support.effort import SEED as SAMPLE_SEED
from support.paths import TESTS

WHY_NOT = why_no_fault_disk()
pytestmark = [
    pytest.mark.usefixtures("real_syncs"),
    pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or ""),
    pytest.mark.filterwarnings("ignore:.*unreadable line"),  # see disk_work
]

SEED = 2024
Count = Callable[[str, int], None]


def assert_nothing_lost(tally: Tally, count: Count) -> None:
    count("failures of a disk below a real file system", tally.failures)
    count("states that a power cut has left on a real file system", tally.states)
    assert tally.lost == []
    assert tally.done > 0
    assert faults(tally) > 0


def faults(tally: Tally) -> int:
    return tally.failures + tally.lost_all + tally.lost_some


def until_a_fault(turn: Callable[[int], Tally]) -> Tally:
    """Call ``turn`` with further seeds until a disk lost or failed: all may have been flushed."""
    total = turn(SEED)
    for seed in range(SEED + 1, SEED + 30):
        if faults(total):
            break
        total.add(turn(seed))
    return total


# What takes longest runs on one file system here.
CASES = [(one, KINDS[n % 3], "power cut") for n, one in enumerate(SCENARIOS) if one is not restart]
CASES.append((restart, KINDS[0], "unmount"))


@pytest.mark.parametrize(("scenario", "kind", "end"), CASES)
def test_after_a_write_error_work_goes_on_and_nothing_acknowledged_is_lost(
    scenario: Scenario, kind: str, end: End, count: Count
) -> None:
    tally = fail(scenario, kind, end, SEED)
    assert tally.failures > 0
    assert_nothing_lost(tally, count)


@pytest.mark.parametrize("seed", range(3))
def test_errors_at_any_time_lose_nothing_acknowledged_and_say_what_is_known(
    seed: int, count: Count
) -> None:
    assert_nothing_lost(fail(at_random, KINDS[seed], "power cut", SEED + seed), count)


@pytest.mark.parametrize(("kind", "options"), FILE_SYSTEMS)
def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(
    kind: str, options: str, count: Count
) -> None:
    assert_nothing_lost(until_a_fault(partial(cut_power, kind, options, 2)), count)


def test_a_power_cut_while_a_journal_is_written_anew_loses_nothing_acknowledged(
    count: Count,
) -> None:
    tally = cut_power_in_writing_anew("ext4", "data=writeback", SEED)
    assert tally.written_anew > 0
    assert_nothing_lost(tally, count)


def test_processes_go_on_with_what_a_disk_has_left_again_and_again(count: Count) -> None:
    kind, options = Random(SAMPLE_SEED).choice(FILE_SYSTEMS)
    tally = until_a_fault(partial(lose_power, kind, options, 2))
    assert tally.generations >= 2
    assert_nothing_lost(tally, count)


USES_A_DISK = """
import sys
from crash.fault_disk import FaultDisk
with FaultDisk("ext4") as disk:
    with open(disk.mount / "open", "w") as file:
        print(disk.mount, flush=True)
        sys.stdin.read()
"""


def test_a_disk_is_taken_down_though_its_user_is_killed() -> None:
    user = subprocess.Popen(
        [sys.executable, "-c", USES_A_DISK],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert user.stdout is not None
    mount = Path(user.stdout.readline().strip())
    assert mount.is_mount()
    user.send_signal(signal.SIGKILL)
    user.communicate()
    end = time.monotonic() + 60
    while mount.parent.exists():
        assert time.monotonic() < end
        time.sleep(0.01)  # what takes it down is nobody's child
    assert str(mount.parent) not in Path("/proc/mounts").read_text()
