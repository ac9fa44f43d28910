"""A file system on which some names are one name, as on macOS and Windows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unicodedata import normalize

import journal.fs.system

_TAKE_A_PATH = ("open", "stat", "lstat", "mkdir", "unlink", "rmdir", "scandir")
_TAKE_TWO = ("rename", "link")


class FoldingOs:
    """Stands in for ``journal.fs.system.os``: case and the form of accents make no other name.

    A new file keeps the name that it was given first. This holds for the last part of each path.
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
        """The path as it is stored, if there is a file of that name or one that counts as it."""
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
