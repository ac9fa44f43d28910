"""The mutation check itself takes half an hour; that it can be run is tested here."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutation.patch import Patch
from mutation.patches import PATCHES

import journal

PACKAGE = Path(journal.__file__).parent


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_patch_of_the_mutation_check_still_applies(patch: Patch) -> None:
    text = (PACKAGE / f"{patch.module}.py").read_text()
    assert text.count(patch.old) == 1
    compile(text.replace(patch.old, patch.new), patch.module, "exec")


def test_no_two_patches_have_the_same_name() -> None:
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)
