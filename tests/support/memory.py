"""Directories in memory: a commit there doesn't wait for a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_PLACE = Path("/dev/shm")
_MIN_FREE_BYTES = 8 << 30  # the tests need 1 GB of it


def directory_in_memory() -> Path | None:
    """The directory of a file system in memory; None if there is none with enough room."""
    if not _PLACE.is_dir() or not os.access(_PLACE, os.W_OK):
        return None
    return _PLACE if shutil.disk_usage(_PLACE).free >= _MIN_FREE_BYTES else None


def fast_directory(prefix: str) -> Path:
    """A new directory, in memory if that is possible. The caller removes it."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=directory_in_memory()))
