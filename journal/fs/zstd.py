"""Finds a library for zstd."""

from __future__ import annotations

import importlib
from typing import Any


def find_zstd() -> Any:
    """Import ``compression.zstd``, or before Python 3.14 its backport.

    Returns None if neither is installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
