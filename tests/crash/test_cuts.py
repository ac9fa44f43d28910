"""A cut beside a durable hint is named; what a power cut leaves is not taken for one.

A sample of what ``python tests/crash/cuts.py`` does at length.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crash.cuts import closed_service, cut_everywhere, cut_power, ended_run
from crash.fault_disk import why_no_fault_disk
from support.effort import IS_LONG

WHY_NOT = why_no_fault_disk()
STEP = {ended_run: 61, closed_service: 400}


@pytest.mark.parametrize("make", STEP, ids=lambda make: make.__name__)
def test_each_cut_beside_a_durable_hint_is_named_and_nothing_is_done_again(
    make: Callable[..., list[dict[str, int]]], count: Callable[[str, int], None]
) -> None:
    cuts, wrong = cut_everywhere(make, 2000, 1 if IS_LONG else STEP[make])
    count("cuts beside a durable hint", cuts)
    assert wrong == []


@pytest.mark.usefixtures("real_syncs")
@pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
def test_what_a_power_cut_leaves_is_not_taken_for_a_cut(count: Callable[[str, int], None]) -> None:
    tally = cut_power("ext4", "data=writeback", 40 if IS_LONG else 4, 1)
    count("power cuts under unsynced stores with hints", tally.states)
    assert tally.alarms == []
