"""Files: making and replacing them whole or not at all, copying, and reading small ones."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISREG

from journal.fs import system
from journal.fs.directories import remove_tree, sync_directory
from journal.fs.handles import (
    DerivedFile,
    Descriptor,
    JournalFile,
    close_fd,
    open_in,
    open_regular,
    refusals_of,
    storage_error,
    sync_data,
    why_not_written,
    write_all,
)


class NewFile(Descriptor):
    """A new private file, open for writing. Its methods raise ``OSError`` as it is.

    ``directory``: as for :func:`~journal.fs.handles.open_regular`.
    """

    def __init__(self, path: Path, directory: int | None = None) -> None:
        """Raises FileExistsError if there is anything at ``path``."""
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        super().__init__(path, open_in(directory, path, flags))

    def write(self, data: bytes | memoryview) -> None:
        write_all(self.fd, data)

    def sync(self) -> None:
        """Return when the content survives a power cut. The name is for the caller to sync."""
        sync_data(self.fd)


class ScratchFile:
    """Lines in a private file without a name. The system deletes it when it is closed.

    The methods raise StorageError.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Make it in ``directory``, or else where the system keeps temporary files."""
        import tempfile  # noqa: PLC0415  (few commands need it, and it is slow to import)

        self.size_bytes = 0
        self._directory = directory or Path(tempfile.gettempdir())
        with refusals_of(self._directory, "make a file in"):
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115  (see close)

    def write(self, line: bytes) -> None:
        """Add a line, given without its line end."""
        try:
            self.size_bytes += self._file.write(line + b"\n")
        except OSError as error:
            raise storage_error(self._directory, "write to a file in", error) from error

    def cut(self, size_bytes: int) -> None:
        """Drop the lines from ``size_bytes`` on, an earlier value of ``size_bytes``."""
        with refusals_of(self._directory, "truncate a file in"):
            self._file.seek(size_bytes)
            self._file.truncate()
        self.size_bytes = size_bytes

    def lines(self) -> Iterator[bytes]:
        """All lines. Don't write while you iterate."""
        with refusals_of(self._directory, "read a file in"):
            self._file.seek(0)
            yield from self._file

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


# --- making and replacing --------------------------------------------------------------------


def write_file(path: Path, chunks: Iterable[bytes | memoryview], *, sync: bool = False) -> Path:
    """Make a new private file of ``chunks``, whole or not at all; return its path.

    ``sync``: return when the content survives a power cut. Raises ``OSError`` as it is.
    """
    file = NewFile(path)
    try:
        for chunk in chunks:
            file.write(chunk)
        if sync:
            file.sync()
    except BaseException:
        remove_file(path)  # half a file is no file, and the disk may be full
        raise
    finally:
        file.close()
    return path


def replace_file(path: Path, chunks: Iterable[bytes | memoryview], *, sync: bool = False) -> None:
    """Put a private file of ``chunks`` in the place of ``path``, whole or not at all.

    Nothing happens if another process is doing the same. ``sync``: return when the file and its
    name survive a power cut. Raises ``OSError`` and StorageError as they come.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        file = NewFile(new)
    except FileExistsError:
        leftover = DerivedFile(new)
        if leftover.try_lock():  # its writer died: the next call finds the name free
            system.os.unlink(new)
        leftover.close()
        return
    try:
        if file.try_lock():
            for chunk in chunks:
                file.write(chunk)
            if sync:
                file.sync()
            system.os.rename(new, path)
    except BaseException:
        remove_file(new)
        raise
    finally:
        file.close()
    if sync:
        sync_directory(path.parent)


def save_copy(source: JournalFile, offset: int, end: int, target: Path, *, sync: bool) -> Path:
    """Copy the bytes from ``offset`` to ``end`` to the first free name of ``TARGET-1``, ``-2``, ...

    ``sync``: return when the content survives a power cut.
    """
    number = 1
    while True:
        path = target.with_name(f"{target.name}-{number}")
        try:
            return write_file(path, source.pieces(offset, end), sync=sync)
        except FileExistsError:
            number += 1


def keep_copy(source: JournalFile, end: int, target: Path) -> None:
    """Copy the first ``end`` bytes to ``target``; return when the copy survives a power cut.

    A file of that length is taken for the copy. The caller holds a lock against others.
    """
    if _is_regular_of(target, end):
        sync_directory(target.parent)  # its writer may have died before it did
        return
    remove_tree(target.with_name(f"{target.name}.new"))  # left by a writer that died
    replace_file(target, source.pieces(0, end), sync=True)


def _is_regular_of(path: Path, size: int) -> bool:
    try:
        stat = system.os.lstat(path)
    except FileNotFoundError:
        return False
    return S_ISREG(stat.st_mode) and stat.st_size == size


def remove_file(path: Path) -> None:
    """Remove a file if it is there and the system lets us."""
    with contextlib.suppress(OSError):
        system.os.unlink(path)


def rename(source: Path, target: Path) -> None:
    system.os.rename(source, target)


# --- small files -----------------------------------------------------------------------------


def read_head(path: str, length: int) -> bytes:
    """Up to ``length`` bytes from the beginning of a file; raises ``OSError`` as it is.

    It follows no link, but skips the other checks of :func:`~journal.fs.handles.open_regular`, because a listing calls it for
    each job. Open the file properly if the bytes make no sense.
    """
    flags = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK
    fd = system.os.open(path, flags)
    try:
        return system.os.pread(fd, length, 0)
    finally:
        close_fd(fd)


def read_small(path: Path) -> bytes:
    """The first 4 KiB of a file; empty if it is missing. Raises ``OSError`` as it is."""
    try:
        fd, _ = open_regular(path, system.os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return system.os.read(fd, 4096)
    finally:
        close_fd(fd)


def write_small(path: Path, text: bytes) -> None:
    """Overwrite a private file in place with ``text``; it may not survive a power cut.

    Raises ``OSError`` as it is, also for a file with more than one hard link.
    """
    fd, stat = open_regular(path, system.os.O_WRONLY | system.os.O_CREAT)
    try:
        refusal = why_not_written(path, stat.st_nlink)
        if refusal:
            raise OSError(errno.EMLINK, refusal)
        system.os.ftruncate(fd, 0)
        system.os.write(fd, text)
    finally:
        close_fd(fd)


# --- looking ---------------------------------------------------------------------------------


def exists(path: Path) -> bool:
    """Whether there is anything at ``path``. What we may not look at counts as there."""
    try:
        system.os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        pass
    except OSError as error:
        raise storage_error(path, "look at", error) from error
    return True


def device_of(path: Path) -> int:
    """The number of the file system that holds ``path``. Links are followed."""
    return system.os.stat(path).st_dev


def free_bytes(path: Path) -> int:
    """The free space of the file system that holds ``path``, or would hold it."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    found = system.os.statvfs(path)
    return found.f_bavail * found.f_frsize
