"""Simulates a file system that treats some different names as the same name, as macOS does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import journal.fs.system

_TAKE_A_PATH = ("open", "stat", "lstat", "mkdir", "unlink", "rmdir", "scandir")
_TAKE_TWO = ("rename", "link")


class FoldingOs:
    """Replaces ``journal.fs.system.os``.

    Names that differ only in case or in the form of accents count as equal.

    A file keeps the name with which it was made. Only the last part of a path is treated this way.
    """

    def __init__(self) -> None:
        self._os: Any = journal.fs.system.os

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._os, name)
        if name not in (*_TAKE_A_PATH, *_TAKE_TWO):
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            paths = list(arguments)
            paths[0] = self._found(paths[0], options.get("dir_fd", options.get("src_dir_fd")))
            if name in _TAKE_TWO:
                paths[1] = self._found(paths[1], options.get("dst_dir_fd"))
            return real(*paths, **options)

        return call

    def _found(self, path: Any, directory: int | None) -> Any:
        """Return the path with the stored name, if a file with the same or an equal name exists."""
        if isinstance(path, int):
            return path
        above, last = os.path.split(os.fspath(path))
        try:
            names = self._os.listdir(above or (directory if directory is not None else "."))
        except OSError:
            return path
        same = [name for name in names if _folded(name) == _folded(last)]
        return path if last in names or not same else os.path.join(above, same[0])


def _folded(name: str) -> str:
    return normalize("NFD", name).casefold()
