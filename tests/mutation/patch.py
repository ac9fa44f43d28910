"""One thing that the promise rests on, how to take it away, and the tests that are asked first."""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """``old`` stands exactly once in the module; ``tests`` are the likeliest to fail without it."""

    name: str
    module: str
    old: str
    new: str
    tests: str


EXPLORER = "tests/test_guards.py tests/crash/test_explorer.py"
FAULTS = "tests/test_guards.py tests/test_faults.py tests/crash/test_fault_matrix.py"
DAMAGE = "tests/test_guards.py tests/test_damage.py tests/test_hostile.py tests/test_format.py tests/fuzz"
REPAIR = "tests/test_repair.py tests/test_guards.py"
KILLS = "tests/test_crash.py tests/test_guards.py"
PROCESSES = (
    "tests/test_guards.py tests/test_processes.py tests/test_hostile_moves.py tests/test_writers.py"
)

HINT = "tests/test_hint.py tests/test_hint_files.py"
GROUP = "tests/test_group.py"
MERGE = "tests/test_merge.py tests/test_merge_histories.py"
