"""Nodes that share a directory of jobs. The locks of a node don't reach the other nodes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journal.fs.handles import Descriptor

Patch = Callable[[object, str, object], None]


class OsOfNode:
    """The ``os`` of a node that caches the names in ``directory``, until the node changes this
    directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: list[os.DirEntry[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def scandir(self, where: Any) -> Any:
        if where != self._directory:
            return os.scandir(where)
        self._known = self._known or list(os.scandir(where))
        return _Names(self._known)

    def mkdir(self, where: Any, *arguments: Any, **options: Any) -> None:
        os.mkdir(where, *arguments, **options)
        if Path(where).parent == self._directory:
            self._known = []


class _Names(list[os.DirEntry[str]]):
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@contextmanager
def two_mounts(directory: Path) -> Iterator[tuple[Path, Path]]:
    """Make one directory with two paths.

    The paths are two mounts if this user may mount, else two names.
    """
    shared, paths = directory / "shared", (directory / "node-a", directory / "node-b")
    shared.mkdir()
    mounted = []
    for path in paths:
        path.mkdir()
        bind = ["mount", "--bind", str(shared), str(path)]
        try:
            is_mounted = not subprocess.run(bind, capture_output=True, check=False).returncode
        except FileNotFoundError:
            is_mounted = False
        if is_mounted:
            mounted.append(path)
        else:
            path.rmdir()
            path.symlink_to(shared)
    try:
        yield paths
    finally:
        for path in mounted:
            subprocess.run(["umount", "-l", str(path)], check=True)


def separate_locks(
    patch: Patch, place: Path, node_of: Callable[[Path], str], of: type[Descriptor] = Descriptor
) -> None:
    """Let locks reach only the processes of the same node.

    ``node_of`` gets the path of the locked file or directory. ``of=DirectoryLock``: only locks of
    directories, as on NFS, where other nodes see the locks of files. For each lock, a file in
    ``place`` is locked.
    """
    import fcntl  # noqa: PLC0415  (not on Windows)

    place.mkdir(exist_ok=True)
    taken: dict[int, int] = {}  # descriptors in ``place``, by those of the real files
    close = Descriptor.close

    def opened(file: Descriptor) -> int:
        name = f"{node_of(file.path)}-{os.fstat(file.fd).st_ino}"
        return os.open(place / name, os.O_RDWR | os.O_CREAT)

    def lock(file: Descriptor, operation: int) -> int | None:
        fd = opened(file)
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def try_lock(file: Descriptor) -> bool:
        if file.fd in taken:
            return True
        fd = lock(file, fcntl.LOCK_EX)
        if fd is not None:
            taken[file.fd] = fd
        return fd is not None

    def is_held(file: Descriptor) -> bool:
        fd = lock(file, fcntl.LOCK_SH)
        if fd is not None:
            os.close(fd)
        return fd is None

    def unlock(file: Descriptor) -> None:
        if (fd := taken.pop(file.fd, None)) is not None:
            os.close(fd)

    def close_both(file: Descriptor) -> None:
        unlock(file)
        close(file)

    calls: dict[str, Any] = {"try_lock": try_lock, "is_held": is_held, "unlock": unlock}
    for name, call in (calls | {"close": close_both}).items():
        patch(of, name, call)
