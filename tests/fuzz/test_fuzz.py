"""A bounded run of the fuzzer, the same each time; `python tests/fuzz/campaign.py` runs on and on."""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import campaign
from fuzz.campaign import MUTATE, TARGETS, UNCHANGED
from fuzz.mutator import Mutant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.activation import check_share
from support.platforms import needs_boot_ids, needs_open_files_moved


@pytest.mark.parametrize(
    "target",
    [pytest.param("hint", marks=needs_boot_ids), *(name for name in TARGETS if name != "hint")],
)
def test_no_mutant_is_misread_or_breaks_anything(
    tmp_path: Path, target: str, count: Callable[[str, int], None]
) -> None:
    check, good = TARGETS[target](tmp_path), UNCHANGED[target]()
    changed: list[bool] = []

    @settings(
        max_examples=200,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def try_mutant(rng: random.Random) -> None:
        mutant = MUTATE[target](rng)
        check(mutant)
        changed.append(mutant.content != good)

    try_mutant()
    check_share("mutants that were changed", sum(changed), len(changed), 0.8)
    count(f"mutants that were changed: {target}", sum(changed))


@needs_open_files_moved
def test_the_long_run_tries_the_cases_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert campaign.main(["--seconds", "0.5", "--seed", "7"]) == 0
    assert re.search(r"replay: [1-9]\d* cases, seed 7\n", capsys.readouterr().out)


def test_a_case_that_fails_is_left_in_a_file_that_tries_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[Mutant] = []

    def check(mutant: Mutant) -> str:
        seen.append(mutant)
        raise AssertionError

    monkeypatch.setitem(TARGETS, "replay", lambda _root: check)
    assert campaign.main(["--seconds", "60", "--seed", "7"]) == 1
    found = re.search(r"failed with seed 7: the case is in (.*)\n", capsys.readouterr().out)
    assert found
    assert campaign.main(["--file", found[1]]) == 1
    one, again = seen
    assert one == again
