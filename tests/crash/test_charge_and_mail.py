"""A small part of ``charge_and_mail.py``; with ``LONG=1`` all of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from crash.charge_and_mail import MODES, POLICIES, charge_and_mail
from support.effort import IS_LONG
from support.platforms import needs_fork

from journal.model import Policy

pytestmark = needs_fork

SIZE = (200, 60) if IS_LONG else (12, 2)
OF_COMMANDS = (200, 60) if IS_LONG else (5, 2)  # which take a hundred times as long


@pytest.mark.parametrize(
    ("mode", "policy"),
    list(product(MODES, POLICIES))
    if IS_LONG
    else [("threads", "review"), *((mode, "resume") for mode in MODES[1:])],
)
def test_no_effect_comes_twice_and_no_row_is_lost_whatever_is_killed(
    tmp_path: Path, mode: str, policy: Policy, count: Callable[[str, int], None]
) -> None:
    rows, kills = OF_COMMANDS if mode == "commands" else SIZE
    tally = charge_and_mail(tmp_path / "work", mode, policy, rows=rows, kills=kills, seed=1)
    count("kills of a run with steps", tally.kills)
    count("steps in doubt that were settled as the ledger says", tally.done + tally.not_done)
    tally.check(mode, kills)
