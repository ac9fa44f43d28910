"""Marks for tests that need a feature that some systems lack. Each feature has one reason text.

A mark skips a test if the feature is missing, and states the reason. ``pytestmark = needs_fifos``
marks a file. ``pytest.param(…, marks=needs_fifos)`` marks a case. A test that needs the feature
only in some cases calls ``skip_without(needs_fifos)``. At the end of a run, the skipped tests are
counted for each reason.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
from support.effort import IS_LONG

IS_WINDOWS = sys.platform == "win32"
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


# The beginning of each reason of these marks. No other reason begins with this text.
NOT_HERE = "not on this system: "
# The beginning of each reason of tests/clusters, if a needed program isn't installed.
NO_CLUSTER = "no cluster here: "
# The reason of a test that takes many seconds. Smaller tests prove the same subject.
ONLY_LONG = "only with LONG=1"
only_long = pytest.mark.skipif(not IS_LONG, reason=ONLY_LONG)


def _needs(is_there: bool, what: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_there, reason=f"{NOT_HERE}{what}")


def skip_without(mark: pytest.MarkDecorator) -> None:
    """Skip the running test if the feature of the mark is missing."""
    if mark.args[0]:
        pytest.skip(mark.kwargs["reason"])


@cache
def _makes_links() -> bool:
    with tempfile.TemporaryDirectory() as directory:
        link = Path(directory) / "link"
        try:
            link.symlink_to("target")
        except OSError:  # on Windows, making a link takes a right that users don't have
            return False
        return link.is_symlink()  # wine makes nothing, without an error


def _is_wine() -> bool:
    if sys.platform == "win32":
        import ctypes  # noqa: PLC0415

        return hasattr(ctypes.windll.ntdll, "wine_get_version")
    return False


# --- processes -----------------------------------------------------------------------------------

needs_fork = _needs(hasattr(os, "fork"), "fork")
needs_signals = _needs(not IS_WINDOWS, "signals of POSIX, sent by kill, with handlers and masks")
needs_process_groups = _needs(hasattr(os, "killpg"), "process groups and sessions")
needs_rlimits = _needs(not IS_WINDOWS, "limits and use of resources (setrlimit, getrusage)")
needs_terminals = _needs(not IS_WINDOWS, "pseudo-terminals")
needs_shell = _needs(shutil.which("sh") is not None and not IS_WINDOWS, "sh and POSIX's tools")
needs_time_zones = _needs(hasattr(time, "tzset"), "other time zones for one process (tzset)")
needs_proc = _needs(sys.platform == "linux", "/proc")
needs_descriptor_paths = _needs(sys.platform in ("linux", "win32"), "the path of an open file")

# --- files ---------------------------------------------------------------------------------------

needs_flock = _needs(not IS_WINDOWS, "flock: locks of files and directories that readers ignore")
needs_modes = _needs(not IS_WINDOWS, "permissions by mode bits")
needs_owners = _needs(hasattr(os, "geteuid"), "numbers of users and groups")
needs_fifos = _needs(hasattr(os, "mkfifo"), "named pipes in directories")
# wine finds /dev on the drive Z.
needs_devices = _needs(os.path.exists("/dev/null") and not IS_WINDOWS, "devices in /dev")
needs_links = _needs(_makes_links(), "symbolic links that any user may make")
needs_any_names = _needs(not IS_WINDOWS, "file names of any bytes, in which case counts")
needs_deep_paths = _needs(not IS_WINDOWS, "paths through thousands of directories")
needs_open_files_moved = _needs(not IS_WINDOWS, "open files and directories that may be moved")
needs_directory_descriptors = _needs(os.open in os.supports_dir_fd, "paths relative to descriptors")
needs_boot_ids = _needs(not IS_WINDOWS, "ids of boots, without which unsynced bytes aren't trusted")
needs_directory_syncs = _needs(not IS_WINDOWS, "syncs of directories")
WINDOWS_ONLY = "the calls, consoles and batch files of Windows"
needs_windows = _needs(IS_WINDOWS, WINDOWS_ONLY)

# --- the limits of wine as a proof -----------------------------------------------------------------

not_under_wine = _needs(not _is_wine(), "it is as Windows documents it, but not under wine")
