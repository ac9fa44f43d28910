"""Records what a scenario does to the disk: every write, truncation, name and sync, in order.

A recording has numbered files and directories, not paths. So a file keeps its number after a rename
and after the removal of its name. A disk has the same knowledge. From it, :mod:`disk` builds the
states that a power cut may leave.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crash.scenarios import Scenario
from support.system_os import SYSTEM_OS

import journal.fs.system

BASE = 0  # the number of the directory that the recording is about
STORE = "srv/jobs"  # the store's root is two levels below, since a store makes its parents too

_TOP = (BASE, "")  # where the base itself would stand

# This file is not recorded. It is never synced, and after a power cut, its boot id is of an earlier
# boot, so it says nothing.
_NOT_RECORDED = "sync.mark"

Tree = dict[str, bytes | None]  # content by path below the base, None for a directory


class Write(NamedTuple):
    file: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: int
    size: int


class Names(NamedTuple):
    """One call's changes to directories: ``(directory, name, target)``, with None if the name is
    gone.

    A rename has two changes, which happen together. Other calls have one change.
    """

    changes: tuple[tuple[int, str, int | None], ...]


class Sync(NamedTuple):
    node: int


class FailedSync(NamedTuple):
    """A refused sync. The data that it should have written never reaches the disk."""

    node: int


class Acknowledged(NamedTuple):
    """From here on, what the scenario has done so far must survive."""


Operation = Write | Truncate | Names | Sync | FailedSync | Acknowledged


class View:
    """Files and directories at one moment.

    Contents are stored by number. A file without an entry is empty.
    """

    def __init__(self) -> None:
        self.directories = {BASE}
        self.contents: dict[int, bytes] = {}
        self.names: dict[tuple[int, str], int] = {}

    def copy(self) -> View:
        view = View()
        view.directories = self.directories  # a number never changes its kind: one set for all
        view.contents = dict(self.contents)
        view.names = dict(self.names)
        return view

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write(file, offset, data):
                before = self.contents.get(file, b"").ljust(offset, b"\0")
                self.contents[file] = before[:offset] + data + before[offset + len(data) :]
            case Truncate(file, size):
                self.contents[file] = self.contents.get(file, b"")[:size].ljust(size, b"\0")
            case Names(changes):
                for directory, name, node in changes:
                    if node is None:
                        self.names.pop((directory, name), None)
                    else:
                        self.names[directory, name] = node

    def tree(self) -> Tree:
        """Files and directories that can be reached from the base, by path."""
        children: dict[int, list[tuple[str, int]]] = {}
        for (directory, name), node in self.names.items():
            children.setdefault(directory, []).append((name, node))
        tree: Tree = {}
        waiting = [("", BASE)]
        while waiting:
            prefix, directory = waiting.pop()
            for name, node in children.get(directory, ()):
                if node in self.directories:
                    tree[prefix + name] = None
                    waiting.append((f"{prefix}{name}/", node))
                else:
                    tree[prefix + name] = self.contents.get(node, b"")
        return tree


class Recording(NamedTuple):
    """The disk before the scenario acts, which is all durable, and the acts of the scenario."""

    before: View
    operations: list[Operation]


class _Open:
    def __init__(self, node: int, flags: int) -> None:
        self.node = node
        self.appends = bool(flags & os.O_APPEND)
        self.position = 0


class Recorder:
    """Replaces ``journal.fs.system.os``. Each call is made, and its changes are noted.

    A call that isn't recorded is refused, unless it is known to leave the disk unchanged. So no
    change of the disk is missed.
    """

    _HARMLESS = frozenset((
        "close", "fspath", "fstat", "getcwd", "geteuid", "getpid", "getuid", "lstat", "pread", "read", "scandir", "stat",
        "statvfs", "strerror", "uname", "urandom", "fchown", "fchmod", "major", "minor",
    ))  # fmt: skip

    def __init__(self, base: Path, refused: AbstractSet[str] = frozenset()) -> None:
        """``refused``: the calls that fail with EIO.

        For example, ``fdatasync 2`` is the second call of this name.
        """
        self.operations: list[Operation] = []
        self._refused = refused
        self.never_refused = set(refused)
        for name in ("open", "rmdir"):  # shutil.rmtree compares functions by "is"
            setattr(self, name, getattr(self, name))
        self._calls: Counter[str] = Counter()
        self._base = base
        self._view = View()
        self._open: dict[int, _Open] = {}
        self._last = BASE
        self._take_over(base, BASE)
        self.before = self._view.copy()

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM_OS, name)
        assert not callable(real) or isinstance(real, type) or name in self._HARMLESS, (
            f"the recorder doesn't know what os.{name} does to the disk"
        )
        return real

    def acknowledge(self) -> None:
        self.operations.append(Acknowledged())

    def _take_over(self, path: Path, directory: int) -> None:
        """Number what is there already."""
        for entry in os.scandir(path):
            if entry.name == _NOT_RECORDED:
                continue
            node = self._number(is_directory=entry.is_dir(follow_symlinks=False))
            self._view.names[directory, entry.name] = node
            if entry.is_dir(follow_symlinks=False):
                self._take_over(Path(entry.path), node)
            else:
                self._view.contents[node] = Path(entry.path).read_bytes()

    def _number(self, *, is_directory: bool) -> int:
        self._last += 1
        if is_directory:
            self._view.directories.add(self._last)
        return self._last

    def _note(self, operation: Operation) -> None:
        self.operations.append(operation)
        self._view.apply(operation)

    def _is_ours(self, path: str | Path) -> bool:
        return Path(path).is_relative_to(self._base) and Path(path).name != _NOT_RECORDED

    def _name(self, *changes: tuple[tuple[int, str], int | None]) -> None:
        self._note(Names(tuple((*slot, node) for slot, node in changes)))

    def _slot(self, path: str | Path, dir_fd: int | None = None) -> tuple[int, str]:
        """The directory of a path, and the name in this directory.

        Unknown directories on the path were made just now by ``Path.mkdir``, which calls the real
        ``os``. They are noted here, before changes in them.
        """
        if dir_fd is not None:
            return self._open[dir_fd].node, str(path)
        *parents, name = Path(path).relative_to(self._base).parts or ("",)
        directory = BASE
        for parent in parents:
            if (directory, parent) not in self._view.names:
                self._name(((directory, parent), self._number(is_directory=True)))
            directory = self._view.names[directory, parent]
        return directory, name

    # --- the calls that change the disk

    def open(
        self, path: str | Path, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> int:
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        self._open.pop(fd, None)  # of a file that is closed
        if dir_fd not in (None, *self._open) or not (dir_fd or self._is_ours(path)):
            return fd  # the system's own, or another store's, which are only read
        slot = self._slot(path, dir_fd)
        node = BASE if slot == _TOP else self._view.names.get(slot)
        if node is None:
            assert flags & os.O_CREAT, f"{path} was made past the recorder"
            node = self._number(is_directory=False)
            self._name((slot, node))
        elif flags & os.O_TRUNC:
            self._note(Truncate(node, 0))
        self._open[fd] = _Open(node, flags)
        return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        file = self._open[fd]
        count = os.write(fd, data)
        if file.appends:
            file.position = len(self._view.contents.get(file.node, b""))
        self._note(Write(file.node, file.position, bytes(data[:count])))
        file.position += count
        return count

    def pwrite(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        count = os.pwrite(fd, data, offset)
        if fd not in self._open:
            return count
        self._note(Write(self._open[fd].node, offset, bytes(data[:count])))
        return count

    def _refuse(self, name: str) -> bool:
        self._calls[name] += 1
        call = f"{name} {self._calls[name]}"
        self.never_refused.discard(call)
        return call in self._refused

    def ftruncate(self, fd: int, size: int) -> None:
        if self._refuse("ftruncate"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.ftruncate(fd, size)
        self._note(Truncate(self._open[fd].node, size))

    def fsync(self, fd: int) -> None:
        os.fsync(fd)
        self._note(Sync(self._open[fd].node))

    def fdatasync(self, fd: int) -> None:
        if self._refuse("fdatasync"):
            self._note(FailedSync(self._open[fd].node))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        SYSTEM_OS.fdatasync(fd)
        self._note(Sync(self._open[fd].node))

    def mkdir(self, path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=dir_fd)
        self._name((self._slot(path, dir_fd), self._number(is_directory=True)))

    def rename(self, source: str | Path, target: str | Path, **options: int) -> None:
        self._rename(os.rename, source, target, options)

    def replace(self, source: str | Path, target: str | Path) -> None:
        self._rename(os.replace, source, target, {})

    def _rename(
        self,
        call: Callable[..., None],
        source: str | Path,
        target: str | Path,
        options: dict[str, int],
    ) -> None:
        call(source, target, **options)
        slot = self._slot(source, options.get("src_dir_fd"))
        named = self._slot(target, options.get("dst_dir_fd"))
        self._name((slot, None), (named, self._view.names[slot]))

    def link(self, source: str | Path, target: str | Path, **options: Any) -> None:
        os.link(source, target, **options)
        node = self._view.names[self._slot(source, options.get("src_dir_fd"))]
        self._name((self._slot(target, options.get("dst_dir_fd")), node))

    def unlink(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)
        if Path(path).name == _NOT_RECORDED:
            return
        self._name((self._slot(path, dir_fd), None))

    def rmdir(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        os.rmdir(path, dir_fd=dir_fd)
        self._name((self._slot(path, dir_fd), None))


def record(scenario: Scenario, base: Path) -> Recording:
    """Put a store below ``base``, an empty directory, through the scenario."""
    scenario.prepare(base / STORE)
    recorder = Recorder(base, scenario.refused)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", recorder)
        patch.setattr(shutil, "os", recorder)
        scenario.act(base / STORE, recorder.acknowledge)
    assert not recorder.never_refused, f"{scenario.name}: {recorder.never_refused} were not called"
    played = recorder.before.copy()
    for operation in recorder.operations:
        played.apply(operation)
    assert played.tree() == Recorder(base).before.tree(), "something got past the recorder"
    return Recording(recorder.before, recorder.operations)
