"""Makes directories in memory, where a commit doesn't wait for a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_PLACE = Path("/dev/shm")
_MIN_FREE_BYTES = 8 << 30  # the tests need 1 GB


def directory_in_memory() -> Path | None:
    """Return the directory of a file system in memory, or None if none has enough free space."""
    if not _PLACE.is_dir() or not os.access(_PLACE, os.W_OK):
        return None
    return _PLACE if shutil.disk_usage(_PLACE).free >= _MIN_FREE_BYTES else None


def fast_directory(prefix: str) -> Path:
    """Make a new directory, in memory if possible. The caller must remove the directory."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=directory_in_memory()))
