"""Files: making them, whole or not at all, and reading small ones."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from stat import S_ISREG

from journal.fs import system
from journal.fs.directories import remove_tree, sync_directory
from journal.fs.handles import (
    FILE_MODE,
    DerivedFile,
    Descriptor,
    JournalFile,
    close_fd,
    open_in,
    open_regular,
    storage_error,
    sync_data,
    why_not_written,
    write_all,
)


class NewFile(Descriptor):
    """A private file that is being made; it must not be there yet.

    ``directory`` as of :func:`~journal.fs.handles.open_regular`. The methods raise ``OSError`` as it is.
    """

    def __init__(self, path: Path, directory: int | None = None) -> None:
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        super().__init__(path, open_in(directory, path, flags))

    def write(self, data: bytes | memoryview) -> None:
        write_all(self.fd, data)

    def sync(self) -> None:
        """Return when what was written survives a power cut; its name is for the caller to sync."""
        sync_data(self.fd)


class ScratchFile:
    """Lines put by in a private file without a name; the system takes it back when it is closed.

    The methods raise StorageError.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """In ``directory``, or where the system keeps such files."""
        import tempfile  # noqa: PLC0415  (nothing else needs it)

        self.size_bytes = 0
        self._directory = directory or Path(tempfile.gettempdir())
        try:
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115  (see close)
        except OSError as error:
            raise storage_error(self._directory, "make a file in", error) from error

    def write(self, line: bytes) -> None:
        """Add a line; it has no line end in it."""
        try:
            self.size_bytes += self._file.write(line + b"\n")
        except OSError as error:
            raise storage_error(self._directory, "write to a file in", error) from error

    def cut(self, size_bytes: int) -> None:
        """Forget the lines from ``size_bytes``, a former size, on."""
        try:
            self._file.seek(size_bytes)
            self._file.truncate()
        except OSError as error:
            raise storage_error(self._directory, "truncate a file in", error) from error
        self.size_bytes = size_bytes

    def lines(self) -> Iterator[bytes]:
        """All lines, from the first on; not to be mixed with writes."""
        try:
            self._file.seek(0)
            yield from self._file
        except OSError as error:
            raise storage_error(self._directory, "read a file in", error) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


def replace(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Put a private file of ``chunks`` in the place of ``path``, whole or not at all.

    Nobody is promised that it survives, nor that it is done: another process may be at the same.
    Raises ``OSError`` and StorageError as they come.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        file = NewFile(new)
    except FileExistsError:
        leftover = DerivedFile(new)
        if leftover.try_lock():  # its writer died: next time
            system.os.unlink(new)
        leftover.close()
        return
    try:
        if file.try_lock():
            for chunk in chunks:
                file.write(chunk)
            system.os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            system.os.unlink(new)
        raise
    finally:
        file.close()


def remove_file(path: Path) -> None:
    """Remove a file that may be gone already, as far as the system lets us."""
    with contextlib.suppress(OSError):
        system.os.unlink(path)


def read_head(path: str, length: int) -> bytes:
    """Up to ``length`` bytes of the beginning of what is no link; ``OSError`` as it is."""
    # As quick as can be, for a look at many jobs: who makes nothing of it opens it with care.
    flags = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK
    fd = system.os.open(path, flags)
    try:
        return system.os.pread(fd, length, 0)
    finally:
        close_fd(fd)


def read_small(path: Path) -> bytes:
    """The first 4 KiB of a file; empty if it is missing. ``OSError`` as it is."""
    try:
        fd, _ = open_regular(path, system.os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return system.os.read(fd, 4096)
    finally:
        close_fd(fd)


def write_small(path: Path, text: bytes) -> None:
    """Make ``text`` the content of a private file, in place; nobody is promised that it survives.

    ``OSError`` as it is, also for a file that has another name.
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


def write_new(path: Path, chunks: Iterable[bytes]) -> Path:
    """Make a private file of ``chunks``; nobody is promised that it survives."""
    fd = system.os.open(path, system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL, FILE_MODE)
    try:
        for chunk in chunks:
            write_all(fd, chunk)
    finally:
        close_fd(fd)
    return path


def save_copy(source: JournalFile, offset: int, end: int, target: Path, *, sync: bool) -> Path:
    """Write the bytes from ``offset`` to ``end`` of ``source`` to a new private file.

    It gets the first free name of ``target-1``, ``target-2``, ...; returned when it is synced.
    """
    for number in itertools.count(1):
        path = target.with_name(f"{target.name}-{number}")
        try:
            fd = system.os.open(
                path, system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL, FILE_MODE
            )
            break
        except FileExistsError:
            continue
    try:
        while offset < end and (data := source.read_at(offset, min(1 << 20, end - offset))):
            write_all(fd, data)
            offset += len(data)
        if sync:
            system.os.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            system.os.unlink(path)  # half a copy is no copy, and the disk may be full
        raise
    finally:
        close_fd(fd)
    return path


def keep_copy(source: JournalFile, end: int, target: Path) -> None:
    """Put the first ``end`` bytes of ``source`` into a private file, whole or not at all.

    One that is there already, of that length, is it. On return it survives a power cut.
    """
    if _is_regular_of(target, end):
        sync_directory(target.parent)  # of one that died before it had
        return
    new = target.with_name(f"{target.name}.new")
    remove_tree(new)  # of one that died
    try:
        file = NewFile(new)
        offset = 0
        while offset < end and (data := source.read_at(offset, min(1 << 20, end - offset))):
            file.write(data)
            offset += len(data)
        file.sync()
        file.close()
        rename(new, target)
    except BaseException:
        remove_tree(new)
        raise
    sync_directory(target.parent)


def _is_regular_of(path: Path, size: int) -> bool:
    try:
        stat = system.os.lstat(path)
    except FileNotFoundError:
        return False
    return S_ISREG(stat.st_mode) and stat.st_size == size


def exists(path: Path) -> bool:
    """Whether the path names anything; what may not be looked at counts as being there."""
    try:
        system.os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        pass
    except OSError as error:
        raise storage_error(path, "look at", error) from error
    return True


def rename(source: Path, target: Path) -> None:
    system.os.rename(source, target)


def device_of(path: Path) -> int:
    """The number of the file system that a file, or what a link leads to, is on."""
    return system.os.stat(path).st_dev


def free_bytes(path: Path) -> int:
    """How much may be written where ``path`` is, or would be."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    found = system.os.statvfs(path)
    return found.f_bavail * found.f_frsize
