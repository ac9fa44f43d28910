"""After a power cut at any moment, everything acknowledged is there and work goes on.

:mod:`disk` builds the states that a power cut may leave, from the recording of :mod:`recorder`.
:mod:`explore` has the checks of each state. Each run tests a sample. This command tests 20,000
states: ``LONG=1 python -m pytest tests/crash/test_explorer.py``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import crash.explore
import pytest
from crash.disk import GARBAGE, Cut, crash_states
from crash.explore import (
    OF_MEGABYTES,
    AfterTheCut,
    Case,
    explore,
    explore_recoveries,
    main,
    record_all,
    recoveries,
)
from crash.recorder import (
    Acknowledged,
    Operation,
    Recorder,
    Recording,
    Sync,
    Tree,
    Write,
)
from support.effort import IS_LONG
from support.effort import SEED as SAMPLE_SEED
from support.memory import fast_directory
from support.platforms import needs_directory_syncs

pytestmark = needs_directory_syncs

SEED = 2024  # of the tests that find what is missing; the others draw with another in each run
DRAWS, SHARE, MIN_STATES, RECOVERIES = (2000, 1, 20_000, 100) if IS_LONG else (20, 0.08, 240, 2)


@pytest.fixture(name="base", scope="module")
def fixture_base() -> Iterator[Path]:
    base = fast_directory("crash-")
    yield base
    shutil.rmtree(base)


@pytest.fixture(name="cases", scope="module")
def fixture_cases(base: Path) -> dict[str, Case]:
    return {case.name: case for case in record_all(base, DRAWS)}


def test_no_state_that_a_power_cut_may_leave_has_lost_what_was_acknowledged(
    cases: dict[str, Case], base: Path, count: Callable[[str, int], None]
) -> None:
    states: set[int] = set()
    seed = SEED if IS_LONG else Random(SAMPLE_SEED).randrange(1 << 32)
    for case in cases.values():
        explore(case, base / "state", seed, states, SHARE)
    count("distinct disk states that a power cut may leave", len(states))
    assert len(states) >= MIN_STATES


def test_no_cut_of_a_recovery_loses_what_was_acknowledged_before_or_by_it(
    cases: dict[str, Case], base: Path, count: Callable[[str, int], None]
) -> None:
    states: set[int] = set()
    seed = SEED if IS_LONG else Random(SAMPLE_SEED).randrange(1 << 32)
    for case in cases.values():
        if IS_LONG or case.name not in OF_MEGABYTES:
            explore_recoveries(case, base / "state", seed, RECOVERIES, states, SHARE)
    count("distinct disk states that power cuts may leave of recoveries", len(states))
    assert len(states) >= MIN_STATES // 2


# --- the explorer finds what it is there for --------------------------------------------------


def without(case: Case, forgotten: Callable[[Operation], bool]) -> Case:
    """The case on a disk that has forgotten some of what it was told."""
    before, operations = case.recording
    kept = [operation for operation in operations if not forgotten(operation)]
    assert len(kept) < len(operations)
    return case._replace(recording=Recording(before, kept))


@pytest.mark.parametrize(
    "name", ["single commits", "batch", "torn-tail recovery", "taking over", "small stream"]
)
def test_a_commit_that_is_not_synced_is_found_to_be_lost(
    name: str, cases: dict[str, Case], base: Path
) -> None:
    case = without(cases[name], lambda operation: isinstance(operation, Sync))
    with pytest.raises(Exception, match=r"and not one of|damaged|bytes are lost"):
        explore(case, base / "state", SEED, set())


def test_a_state_that_was_right_is_checked_again_where_more_was_acknowledged(
    cases: dict[str, Case], base: Path
) -> None:
    directories = cases["create job"].recording.before.directories
    case = without(
        cases["create job"],
        lambda operation: isinstance(operation, Sync) and operation.node in directories,
    )
    unpromised = without(case, lambda operation: isinstance(operation, Acknowledged))
    states: set[int] = set()
    explore(unpromised, base / "state", SEED, states)
    with pytest.raises(AssertionError, match="and not one of"):
        explore(case, base / "state", SEED, states)


def test_a_recovery_that_is_not_synced_is_found_to_lose_what_it_acknowledged(
    cases: dict[str, Case], base: Path
) -> None:
    (recovery,) = recoveries(cases["torn-tail recovery"], base / "state", SEED, 1)
    case = without(recovery, lambda operation: isinstance(operation, Sync))
    with pytest.raises(AssertionError, match=r"and not one of|bytes are lost"):
        explore(case, base / "state", SEED, set())


@pytest.mark.parametrize("name", ["create job", "delete"])
def test_a_name_that_is_not_synced_is_found_to_be_lost(
    name: str, cases: dict[str, Case], base: Path
) -> None:
    directories = cases[name].recording.before.directories
    case = without(
        cases[name],
        lambda operation: isinstance(operation, Sync) and operation.node in directories,
    )
    with pytest.raises(AssertionError, match=r"and not one of|that was deleted"):
        explore(case, base / "state", SEED, set())


def test_a_torn_tail_that_is_not_saved_is_found_to_be_lost(
    cases: dict[str, Case], base: Path
) -> None:
    case = cases["torn-tail recovery"]
    case = without(case, lambda operation: isinstance(operation, Write) and operation.offset == 0)
    with pytest.raises(AssertionError, match="bytes are lost"):
        explore(case, base / "state", SEED, set())


def test_a_hint_that_is_believed_over_commits_that_nobody_synced_is_found_out(
    cases: dict[str, Case], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system is not started anew: so hints that are bound to that are believed."""
    monkeypatch.setattr(
        AfterTheCut, "boot_id", Path("/proc/sys/kernel/random/boot_id").read_bytes()
    )
    with pytest.raises(Exception, match=r"assert \(Job|damaged"):
        explore(cases["hints"], base / "state", SEED, set())


def test_the_command_tries_the_chosen_cases_and_says_how_to_see_a_failure_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seed", "7", "--recoveries", "1", "create j"]
    monkeypatch.setattr(sys, "argv", ["explore.py", *words])
    main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "  create job",
        "seed 7",
    ]

    def lose(base: Path, tree: Tree, cut: Cut) -> None:
        raise AssertionError("lost")

    monkeypatch.setattr(crash.explore, "check_service", lose)
    with pytest.raises(AssertionError, match="lost") as raised:
        main()
    again = "python tests/crash/explore.py --seed 7 --recoveries 1 'create job'"
    assert raised.value.__notes__[-1] == f"the same again: {again}"


# --- the model of the disk --------------------------------------------------------------------


def states_after(base: Path, act: Callable[[Recorder, Path], None]) -> list[Tree]:
    """What the last cut may leave of a directory that held ``old``, a file of three blocks."""
    (base / "old").write_bytes(b"a" * 512 * 3)
    recorder = Recorder(base)
    act(recorder, base)
    recording = Recording(recorder.before, recorder.operations)
    end = len(recorder.operations)
    return [tree for cut, tree in crash_states(recording, Random(1), 9) if cut.after == end]


def write(disk: Recorder, path: Path, data: bytes, flags: int) -> int:
    fd = disk.open(path, flags, 0o600)
    disk.write(fd, data)
    return fd


def test_an_unsynced_write_may_be_there_in_any_part_with_zeros_and_garbage(
    tmp_path: Path,
) -> None:
    def act(disk: Recorder, base: Path) -> None:
        disk.close(write(disk, base / "old", b"b" * 512 * 2, disk.O_WRONLY | disk.O_APPEND))

    a, b, zeros, garbage = b"a" * 512 * 3, b"b" * 512, bytes(512), GARBAGE[:512]
    found = {tree["old"] for tree in states_after(tmp_path, act)}
    blocks = [b, zeros, garbage]
    at_4_kib = {a + b + b, a + b, a + bytes(512) + bytes(512), a + bytes(512)}
    assert found == {a, *(a + x for x in blocks), *(a + x + y for x in blocks for y in blocks)}
    assert found >= at_4_kib


@pytest.mark.parametrize("cut", [True, False])
def test_what_a_failed_sync_was_to_write_is_lost_whatever_is_written_and_synced_later_unless_it_is_cut_off(
    tmp_path: Path, *, cut: bool
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"a" * 4096)
    disk = Recorder(tmp_path, {"fdatasync 1"})
    fd = write(disk, old, b"b" * 6000, disk.O_RDWR | disk.O_APPEND)
    with pytest.raises(OSError, match="Input/output"):
        disk.fdatasync(fd)
    if cut:
        disk.ftruncate(fd, 4096)
        disk.write(fd, b"c" * 6000)
    else:
        disk.pwrite(fd, b"c" * 6000, 4096)
    disk.write(fd, b"d" * 4096)
    disk.fdatasync(fd)
    states = crash_states(Recording(disk.before, disk.operations), Random(1), 9)
    found = {tree["old"] for at, tree in states if at.after == len(disk.operations)}
    tail = b"c" * 6000 + b"d" * 4096 if cut else bytes(8192) + b"d" * (6000 + 4096 - 8192)
    assert found == {b"a" * 4096 + tail}


def test_a_rename_is_atomic_and_lost_unless_one_of_its_directories_is_synced(
    tmp_path: Path,
) -> None:
    def act(disk: Recorder, base: Path) -> None:
        disk.mkdir(base / "sub")
        disk.rename(base / "old", base / "sub" / "moved")
        disk.mkdir(base / "late")

    def act_and_sync(disk: Recorder, base: Path) -> None:
        act(disk, base)
        fd = disk.open(base, disk.O_RDONLY)
        disk.fsync(fd)
        disk.close(fd)

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    found = {frozenset(tree) for tree in states_after(first, act)}
    assert found == {
        frozenset(names) | late
        for names in (["old"], ["old", "sub"], [], ["sub", "sub/moved"])
        for late in (frozenset(), frozenset(["late"]))
    }
    assert {frozenset(tree) for tree in states_after(second, act_and_sync)} == {
        frozenset(["sub", "sub/moved", "late"])
    }


def test_changes_of_one_name_are_lost_from_the_last_on(tmp_path: Path) -> None:
    def act(disk: Recorder, base: Path) -> None:
        disk.close(write(disk, base / "new", b"new", disk.O_WRONLY | disk.O_CREAT))
        disk.unlink(base / "old")
        disk.rename(base / "new", base / "old")

    found = {(tree.get("old"), "new" in tree) for tree in states_after(tmp_path, act)}
    a = b"a" * 512 * 3
    fresh = {b"new", b"", bytes(3), GARBAGE[:3]}
    assert found == {(a, False), (a, True), (None, False), (None, True)} | {
        (content, False) for content in fresh
    }
