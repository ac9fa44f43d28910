"""Exceptions out of signal handlers, at each step of a run: it ends, and its rows say the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_interrupts import check_each_step, check_each_step_of_the_end

KINDS = ["threads", "asyncio", "executor"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_at_any_step_of_a_run_loses_no_row_and_calls_none_twice(
    kind: str, tmp_path: Path
) -> None:
    assert check_each_step(kind, tmp_path, (1, 3), bytecodes=False) > 300


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_interrupt_at_any_step_of_the_end_gives_up_what_is_in_flight_and_no_more(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("journal.run._POLL_S", 0.001)
    monkeypatch.setattr("journal.inflight._GRACE_S", 0.01)
    assert check_each_step_of_the_end(kind, tmp_path, bytecodes=False) > 50
