"""Whether each patch still applies. The mutation check itself takes too long for the suite."""

from __future__ import annotations

from collections import Counter
from functools import cache

from mutation.check import TOP, existing
from mutation.patches import PATCHES


def test_each_patch_still_applies() -> None:
    """``check.py`` finds those after which the module can't be imported."""

    @cache
    def text_of(module: str) -> str:
        return (TOP / "journal" / f"{module}.py").read_text(encoding="utf-8")

    found = {
        f"{patch.module}: {patch.name}": text_of(patch.module).count(patch.old) for patch in PATCHES
    }
    assert {name: count for name, count in found.items() if count != 1} == {}


def test_each_patch_has_a_name_of_its_own_and_names_one_test() -> None:
    assert [name for name, n in Counter(patch.name for patch in PATCHES).items() if n > 1] == []
    names = {patch.name: patch.tests for patch in PATCHES}
    assert {
        name: test for name, test in names.items() if "::" not in test or existing(test) != [test]
    } == {}
