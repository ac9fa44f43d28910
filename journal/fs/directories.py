"""Makes, syncs, lists and removes directories."""

from __future__ import annotations

import contextlib
import errno
import itertools
import sys
from collections.abc import Iterator
from os import DirEntry
from pathlib import Path
from stat import S_ISDIR

from journal.fs import system
from journal.fs.handles import close_fd, refusals_of

DIRECTORY_MODE = 0o700  # private, since rows may contain names and addresses


def make_store(root: Path, *, sync: bool) -> None:
    """Make the private directory ``root`` and missing parents.

    With ``sync``: on return, the new directories survive a power cut.
    """
    root = root.resolve()  # the parent of ".." is not "."
    missing = itertools.takewhile(lambda path: not path.is_dir(), root.parents)
    to_sync = [root.parent, *(path.parent for path in missing)]
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        make_directory(root)
    for path in to_sync if sync else ():
        sync_directory(path)


def make_directory(path: Path) -> None:
    """Make the private directory ``path`` if it is missing.

    Raises FileExistsError if a file or a link is at ``path``.
    """
    try:
        system.os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError as error:
        if not S_ISDIR(system.os.lstat(path).st_mode):
            raise FileExistsError(
                error.errno, f"{path.name} exists and is not a directory"
            ) from error


def sync_directory(path: Path) -> None:
    """Sync a directory. On return, the names in it survive a power cut."""
    fd = system.os.open(path, system.os.O_RDONLY | system.os.O_DIRECTORY)
    try:
        system.os.fsync(fd)
    finally:
        close_fd(fd)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Make a private temporary directory for a ``with`` block. Raises StorageError."""
    import tempfile  # noqa: PLC0415  (few commands need it, and it is slow to import)

    with refusals_of(Path("TMPDIR"), "make a directory in"):
        path = Path(tempfile.gettempdir()) / f"journal-{system.os.urandom(6).hex()}"
        system.os.mkdir(path, DIRECTORY_MODE)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            remove_tree(path)


def remove_tree(path: Path) -> None:
    """Remove the directory ``path`` with everything in it, or the file or link ``path``.

    If nothing is at ``path``, do nothing. A tree may be so deep that its paths are too long for the
    system. So subdirectories are moved up to ``path`` before they are removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if not S_ISDIR(system.os.lstat(path).st_mode):
            system.os.unlink(path)
            return
        while directories := _remove_files(path):
            for directory in directories:
                for deeper in _remove_files(directory):
                    system.os.rename(deeper, path / f".{system.os.urandom(6).hex()}")
                system.os.rmdir(directory)
        system.os.rmdir(path)


def is_empty(path: Path) -> bool:
    """Return whether ``path`` is an empty directory. A link to a directory doesn't count."""
    try:
        return S_ISDIR(system.os.lstat(path).st_mode) and next(names_in(path), None) is None
    except OSError:
        return False


if sys.platform == "win32":

    def move_away(directory: Path, target: Path, last: str) -> None:
        """Move a directory, even if other processes have files in it open. Raises ``OSError``.

        Windows refuses to rename a directory in which a file is open (Microsoft's page
        "FILE_RENAME_INFORMATION structure"). So the files are moved one by one, and the file
        ``last`` is moved last. If a file can't be moved, the files that were already moved are
        moved back. If this process dies, ``last`` is in one of the two directories.
        """
        system.os.mkdir(target, DIRECTORY_MODE)
        moved = list[str]()
        try:
            for name in [*(name for name in names_in(directory) if name != last), last]:
                system.os.rename(directory / name, target / name)
                moved.append(name)
        except BaseException:
            with contextlib.suppress(OSError):
                for name in reversed(moved):
                    system.os.rename(target / name, directory / name)
                system.os.rmdir(target)
            raise
        # This call fails if another process has its current directory here, or has already put a
        # new job here. An empty directory that stays is in nobody's way: see Store._check_free.
        with contextlib.suppress(OSError):
            system.os.rmdir(directory)

    def move_into_place(directory: Path, target: Path) -> None:
        """Rename a directory. If ``target`` is an empty directory, replace it. Raises ``OSError``."""
        if is_empty(target):  # rmdir alone would also remove a link to a directory
            with contextlib.suppress(OSError):
                system.os.rmdir(target)
        system.os.rename(directory, target)
else:

    def move_away(directory: Path, target: Path, last: str) -> None:
        """Move a directory, even if other processes have files in it open. Raises ``OSError``."""
        del last
        system.os.rename(directory, target)

    def move_into_place(directory: Path, target: Path) -> None:
        """Rename a directory. If ``target`` is an empty directory, replace it. Raises ``OSError``."""
        system.os.rename(directory, target)


def _remove_files(path: Path) -> list[Path]:
    """Remove the files and links in a directory; return its subdirectories."""
    directories = []
    with system.os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(Path(entry.path))
            else:
                system.os.unlink(entry.path)
    return directories


def size_bytes(path: Path) -> int:
    """Return the sum of the sizes of all files below a directory. Links aren't followed."""
    total, waiting = 0, [path]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total


def subdirectories(path: Path) -> Iterator[str]:
    """Yield the names of the directories in ``path``, except hidden ones.

    A link to a directory is included, unless the link leads to itself. If ``path`` is missing,
    nothing is yielded.
    """
    for entry in _entries(path):
        if not entry.name.startswith(".") and _is_directory(entry):
            yield entry.name


def names_in(path: Path) -> Iterator[str]:
    """Yield the names of everything in a directory. A missing directory counts as empty."""
    for entry in _entries(path):
        yield entry.name


def _entries(path: Path) -> Iterator[DirEntry[str]]:
    try:
        entries = system.os.scandir(path)
    except FileNotFoundError:
        return
    with entries:
        yield from entries


def _is_directory(entry: DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
