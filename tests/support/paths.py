"""Where the repository and its tests lie."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
TOP = TESTS.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
