"""A small part of ``second_user.py``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crash.second_user import ATTACKS, attack
from support.effort import IS_LONG
from support.platforms import IS_ROOT


@pytest.mark.skipif(not IS_ROOT, reason="only root can start processes of other users")
@pytest.mark.parametrize("name", ATTACKS)
def test_whatever_another_user_replaces_meanwhile_nothing_outside_of_the_store_is_changed(
    name: str, count: Callable[[str, int], None]
) -> None:
    rounds = 20 if IS_LONG else 2
    changed, replaced = attack(name, rounds)
    assert changed == 0
    count(f"directories that a second user has replaced: {name}", replaced)
