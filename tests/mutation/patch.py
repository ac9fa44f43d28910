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


REPAIR = "tests/repair/test_repair.py tests/store/test_guards.py"
PROCESSES = "tests/store/test_guards.py tests/store/test_processes.py tests/store/test_hostile_moves.py tests/store/test_writers.py"

HINT = "tests/index/test_hint.py tests/index/test_hint_files.py"
GROUP = "tests/store/test_group.py"
MERGE = "tests/transfer/test_merge.py tests/transfer/test_merge_histories.py"
