"""Runs commands to which file permissions apply, even if root runs the tests."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest
from support.platforms import needs_modes, skip_without

UNPRIVILEGED = """
import ctypes, os, sys
if os.geteuid() == 0:
    libc = ctypes.CDLL(None)
    for capability in (1, 2):
        if libc.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit("could not drop a capability")
os.execv(sys.argv[1], sys.argv[1:])
"""


@cache
def unprivileged() -> list[str]:
    """Return the prefix for a command to which file permissions must apply.

    Skips the test if the system can't do this.
    """
    skip_without(needs_modes)
    prefix = [sys.executable, "-S", "-c", UNPRIVILEGED]
    tried = subprocess.run([*prefix, "/bin/true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"permissions don't hold for root here: {tried.stderr.strip()[-200:]}")
    return prefix
