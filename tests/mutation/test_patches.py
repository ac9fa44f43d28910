"""Whether each patch still applies. The mutation check itself takes too long for the suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutation.patches import PATCHES

import journal

PACKAGE = Path(journal.__file__).parent


@pytest.mark.parametrize("module", sorted({patch.module for patch in PATCHES}))
def test_the_patches_of_a_module_still_apply(module: str) -> None:
    text = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    patches = [patch for patch in PATCHES if patch.module == module]
    assert {
        patch.name: text.count(patch.old) for patch in patches if text.count(patch.old) != 1
    } == {}
    for patch in patches:
        compile(text.replace(patch.old, patch.new), patch.name, "exec")


def test_no_two_patches_have_the_same_name() -> None:
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)
