"""A small part of ``charge_and_mail.py``; with ``LONG=1`` all of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash.charge_and_mail import MODES, POLICIES, charge_and_mail
from support.effort import IS_LONG

from journal.model import Policy

SIZES = {"commands": (200, 60) if IS_LONG else (8, 3)}
SIZE = (200, 60) if IS_LONG else (24, 5)
hits: Counter[str] = Counter()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
def test_no_effect_comes_twice_and_no_row_is_lost_whatever_is_killed(
    tmp_path: Path, mode: str, policy: Policy
) -> None:
    rows, kills = SIZES.get(mode, SIZE)
    tally = charge_and_mail(tmp_path / "work", mode, policy, rows=rows, kills=kills, seed=1)
    hits[f"kills of a run by {mode}"] += tally.kills
    hits["steps in doubt that a person settled"] += tally.done + tally.not_done
    if IS_LONG:
        assert tally.kills > kills / 2
        assert tally.done
        assert tally.not_done
        assert tally.refused or mode not in ("pool", "commands")
