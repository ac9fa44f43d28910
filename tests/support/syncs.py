"""Syncs return at once in the processes of the tests, except where a disk loses its power.

Without a power cut, nobody can see the effect of a sync. On a slow disk, two thirds of the time of
the suite would be spent waiting for syncs. The tests of power cuts record the calls, or use the
fixture ``real_syncs``.
"""

from __future__ import annotations

import os
import sys

from support.paths import TESTS

# In each process that the tests have started, such as a worker of pytest, the syncs of `os` return
# at once.
_SYSTEM = sys.modules.get("posix") or sys.modules["nt"]
_REAL = {name: getattr(_SYSTEM, name) for name in ("fsync", "fdatasync") if hasattr(os, name)}
_DIRECTORY = str(TESTS / "support" / "no_syncs")


def skip_syncs() -> None:
    """From now on, neither this process nor the processes that it starts wait for a disk."""
    from support.no_syncs import sitecustomize  # noqa: PLC0415  (its import is not only for this)

    sitecustomize.skip_syncs()
    # The path comes last, so another sitecustomize on the path takes precedence.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, paths), _DIRECTORY])


def make_syncs_real() -> None:
    for name, call in _REAL.items():
        setattr(os, name, call)
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path != _DIRECTORY)
