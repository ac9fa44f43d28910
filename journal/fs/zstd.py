"""Finds a library for zstd."""

from __future__ import annotations

import importlib
from typing import Any


def find_zstd() -> Any:
    """Import ``compression.zstd``, or its backport if Python is older than 3.14.

    Returns None if neither is installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
