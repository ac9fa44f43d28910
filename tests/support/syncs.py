"""Syncs return at once in the processes of the tests, except where a disk loses its power.

What a sync does can't be seen unless the power is cut. On a slow disk, two thirds of the time of
the suite would be spent waiting for syncs. The tests of power cuts record the calls, or use the
fixture ``real_syncs``.
"""

from __future__ import annotations

import os
import sys

from support.paths import TESTS

# Those of `os` return at once in each process that the tests have started, as workers of pytest are.
_SYSTEM = sys.modules.get("posix") or sys.modules["nt"]
_REAL = {name: getattr(_SYSTEM, name) for name in ("fsync", "fdatasync") if hasattr(os, name)}
_DIRECTORY = str(TESTS / "support" / "no_syncs")


def skip_syncs() -> None:
    """From now on, neither this process nor those that it starts wait for a disk."""
    from support.no_syncs import sitecustomize  # noqa: PLC0415  (its import is not only for this)

    sitecustomize.skip_syncs()
    # At the end: a sitecustomize that somebody else has put there comes first.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, paths), _DIRECTORY])


def make_syncs_real() -> None:
    for name, call in _REAL.items():
        setattr(os, name, call)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path != _DIRECTORY)
