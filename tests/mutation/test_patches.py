"""Whether each patch still applies. The mutation check itself takes too long for the suite."""

from __future__ import annotations

import ast

import pytest
from mutation.check import TOP, existing
from mutation.patches import PATCHES


@pytest.mark.parametrize("module", sorted({patch.module for patch in PATCHES}))
def test_the_patches_of_a_module_still_apply(module: str) -> None:
    text = (TOP / "journal" / f"{module}.py").read_text(encoding="utf-8")
    patches = [patch for patch in PATCHES if patch.module == module]
    assert {
        patch.name: text.count(patch.old) for patch in patches if text.count(patch.old) != 1
    } == {}
    for patch in patches:
        ast.parse(text.replace(patch.old, patch.new), patch.name)


def test_each_patch_has_a_name_of_its_own_and_names_one_test() -> None:
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)
    names = {patch.name: patch.tests for patch in PATCHES}
    assert {
        name: test for name, test in names.items() if "::" not in test or existing(test) != [test]
    } == {}
