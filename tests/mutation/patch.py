"""One thing that the promise rests on, how to take it away, and the test that then fails."""

from __future__ import annotations

from typing import NamedTuple


class Patch(NamedTuple):
    """``old`` stands exactly once in the module.

    ``tests`` is the test that fails with the patch. While it is looked for, see ``check.py
    --search``, it may be the paths of some tests.
    """

    name: str
    module: str
    old: str
    new: str
    tests: str
