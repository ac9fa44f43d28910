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
        try:
            make_directory(root)
        except FileExistsError:
            if not root.is_dir():  # else another process was faster
                raise
    for path in to_sync if sync else ():
        sync_directory(path)


def make_directory(path: Path) -> None:
    """Make the private directory ``path``. Raises FileExistsError if anything is there."""
    system.os.mkdir(path, DIRECTORY_MODE)


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
        made = tempfile.TemporaryDirectory(prefix="journal-", ignore_cleanup_errors=True)
    with made as path:
        yield Path(path)


def open_directory(path: Path | str, directory: int | None = None) -> int:
    """Open a directory. Raises NotADirectoryError if a link or a file is at ``path``.

    ``directory``: the descriptor of the directory that a relative ``path`` is looked up in.
    """
    flags = system.os.O_RDONLY | system.os.O_DIRECTORY | system.os.O_NOFOLLOW
    try:
        return system.os.open(path, flags, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:  # the error for a link on some systems
            raise NotADirectoryError(errno.ENOTDIR, system.os.strerror(errno.ENOTDIR)) from error
        raise


def remove_tree(path: Path, directory: int | None = None) -> None:
    """Remove the directory ``path`` with everything in it, or the file or link ``path``.

    If nothing is at ``path``, do nothing. With the descriptor ``directory``, the last part of
    ``path`` is looked up in that directory.

    On POSIX, ``shutil.rmtree`` opens each directory without following links. So nothing outside of
    the tree is removed, even if another process replaces a directory with a link. Raises
    ``OSError``, also if the tree is deeper than Python can remove.
    """
    import shutil  # noqa: PLC0415  (few commands need it, and it is slow to import)

    if sys.platform == "win32":
        directory = None
    name = path if directory is None else path.name
    with contextlib.suppress(FileNotFoundError):
        if not S_ISDIR(system.os.lstat(name, dir_fd=directory).st_mode):
            system.os.unlink(name, dir_fd=directory)
            return
        try:
            shutil.rmtree(name, dir_fd=directory)
        except RecursionError as error:
            raise OSError(errno.ENAMETOOLONG, "it has too many levels of directories") from error


def is_empty(path: Path) -> bool:
    """Return whether ``path`` is an empty directory. A link to a directory doesn't count."""
    try:
        return S_ISDIR(system.os.lstat(path).st_mode) and next(names_in(path), None) is None
    except OSError:
        return False


def remove_if_empty(path: Path) -> None:
    """Remove the directory ``path``, unless there is anything in it."""
    with contextlib.suppress(OSError):
        system.os.rmdir(path)


def subdirectories(path: Path | int) -> Iterator[str]:
    """Yield the names of the directories in ``path``, except hidden ones.

    ``path`` may be the descriptor of an open directory.

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


def _entries(path: Path | int) -> Iterator[DirEntry[str]]:
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
