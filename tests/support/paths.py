"""The paths of the repository and of its tests."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
TOP = TESTS.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
