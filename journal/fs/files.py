"""Makes, replaces (wholly or not at all), copies, lists and removes files and directories."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from journal.fs import system
from journal.fs.file_names import NEW_BACKUP_NAME
from journal.fs.handles import (
    FILE_MODE,
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
from journal.fs.locks import wait_for_lock

if TYPE_CHECKING:
    from mmap import mmap


import sys
from os import DirEntry
from stat import S_ISDIR

_TO_LOOK = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK


class NewFile(Descriptor):
    """A new private file, open for writing. The methods raise ``OSError``.

    ``directory``: as for :func:`~journal.fs.handles.open_regular`.
    """

    def __init__(self, path: Path, directory: int | None = None) -> None:
        """Raises FileExistsError if there is anything at ``path``."""
        flags = system.os.O_WRONLY | system.os.O_CREAT | system.os.O_EXCL
        super().__init__(path, open_in(directory, path, flags))

    def write(self, data: bytes | memoryview) -> None:
        write_all(self.fd, data)

    def sync(self) -> None:
        """Sync the content.

        On return, the content survives a power cut. The caller syncs the file's name.
        """
        sync_data(self.fd)


class ScratchFile:
    """A private file of lines, without a name. The system deletes the file when it is closed.

    The methods raise StorageError.
    """

    def __init__(self, directory: Path | None = None) -> None:
        """Make the file in ``directory``, or by default in the system's directory of temporary
        files.
        """
        import tempfile  # noqa: PLC0415  (few commands need it, and it is slow to import)

        self.size_bytes = 0
        self._directory = directory or Path(tempfile.gettempdir())
        with refusals_of(self._directory, "make a file in"):
            self._file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115  (see close)

    def write(self, line: bytes) -> None:
        """Add the line. ``line`` has no line end."""
        try:
            self.size_bytes += self._file.write(line + b"\n")
        except OSError as error:
            raise storage_error(self._directory, "write to a file in", error) from error

    def cut(self, size_bytes: int) -> None:
        """Truncate the file to an earlier value of the attribute ``size_bytes``."""
        with refusals_of(self._directory, "truncate a file in"):
            self._file.seek(size_bytes)
            self._file.truncate()
        self.size_bytes = size_bytes

    def lines(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the lines from one value of ``size_bytes`` to another.

        Don't write to the file during an iteration.

        Several iterations may take turns.
        """
        end = self.size_bytes if end is None else end
        while begin < end:
            with refusals_of(self._directory, "read a file in"):
                self._file.seek(begin)
                line = self._file.readline()
            begin += len(line)
            yield line

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()


# --- making and replacing --------------------------------------------------------------------


def write_file(
    path: Path,
    chunks: Iterable[bytes | memoryview],
    *,
    sync: bool = False,
    directory: int | None = None,
) -> Path:
    """Make a new private file with the content ``chunks``, and return its path.

    If anything fails, no file is left. ``directory``: as for
    :func:`~journal.fs.handles.open_regular`.

    With ``sync``: on return, the content survives a power cut. Raises ``OSError``.
    """
    file = NewFile(path, directory)
    try:
        for chunk in chunks:
            file.write(chunk)
        if sync:
            file.sync()
    except BaseException:
        remove_file(path, directory)  # an incomplete file has no use; the disk may be full
        raise
    finally:
        file.close()
    return path


def replace_derived(path: Path, chunks: Callable[[int], Iterable[bytes | memoryview]]) -> None:
    """Replace ``path`` with a private file, wholly or not at all.

    ``chunks(inode)`` returns the content. ``inode`` is the inode of the new file.

    If another process is replacing ``path`` at the moment, this function does nothing. So use this
    function only for files that can be derived again. Raises ``OSError`` and StorageError.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        file = NewFile(new)
    except FileExistsError:
        leftover = DerivedFile(new)
        if leftover.try_lock():  # the file's writer died; free the name for the next call
            system.os.unlink(new)
        leftover.close()
        return
    try:
        if file.try_lock():
            for chunk in chunks(system.os.fstat(file.fd).st_ino):
                file.write(chunk)
            system.os.rename(new, path)
    except BaseException:
        remove_file(new)
        raise
    finally:
        file.close()


def save_copy(source: JournalFile, offset: int, end: int, target: Path, *, sync: bool) -> Path:
    """Copy a part of a file to the first free name of ``TARGET-1``, ``TARGET-2``, and so on.

    The part is the bytes from ``offset`` to ``end``. With ``sync``: on return, the copy's content
    survives a power cut.

    The name appears when the copy is complete. The caller must hold a lock that keeps other
    processes from making a copy at the same time.
    """
    paths = (target.with_name(f"{target.name}-{number}") for number in itertools.count(1))
    path = next(path for path in paths if not system.os.path.lexists(path))
    _copy_into_place(source.pieces(offset, end), path, sync=sync)
    return path


def keep_copy(source: JournalFile, end: int, target: Path) -> None:
    """Copy the first ``end`` bytes of ``source`` to ``target``.

    On return, the copy and its name survive a power cut. Whatever is at ``target`` is replaced. The
    caller must hold a lock that keeps other processes from making the copy at the same time.
    """
    _copy_into_place(source.pieces(0, end), target, sync=True)
    sync_directory(target.parent)


def _copy_into_place(chunks: Iterable[bytes], target: Path, *, sync: bool) -> None:
    """Write ``chunks`` to a file beside ``target``, and rename the file to ``target``."""
    new = target.with_name(NEW_BACKUP_NAME)
    remove_tree(new)  # left by a writer that died
    write_file(new, chunks, sync=sync)
    try:
        system.os.rename(new, target)
    except BaseException:
        remove_file(new)
        raise


def remove_file(path: Path, directory: int | None = None) -> None:
    """Remove a file. Errors are ignored.

    ``directory``: as for :func:`~journal.fs.handles.open_regular`.
    """
    with contextlib.suppress(OSError):
        system.os.unlink(path if directory is None else path.name, dir_fd=directory)


def rename(source: Path, target: Path) -> None:
    system.os.rename(source, target)


# --- small files -----------------------------------------------------------------------------


def read_ends(path: str, first_bytes: int, last_bytes: int) -> tuple[bytes, bytes, int]:
    """Return the first and the last bytes of a file, and its size.

    Raises ``OSError``, also for a link.

    The two parts may overlap. A listing calls this function for each job. For speed, the function
    makes fewer checks than :func:`~journal.fs.handles.open_regular`. If the bytes aren't what you
    expect, open the file with :func:`~journal.fs.handles.open_regular`.
    """
    fd = system.os.open(path, _TO_LOOK)
    try:
        size = system.os.fstat(fd).st_size
        first = system.os.pread(fd, first_bytes, 0)
        if size <= first_bytes:
            return first, first, size
        last = system.os.pread(fd, last_bytes, max(0, size - last_bytes)) if last_bytes else b""
        return first, last, size
    finally:
        close_fd(fd)


def read_small(path: Path) -> bytes:
    """Return the first 4 KiB of a file, or ``b""`` if the file is missing. Raises ``OSError``."""
    try:
        with contextlib.closing(DerivedFile(path)) as file:
            return file.read_at(0, 4096)
    except FileNotFoundError:
        return b""


def write_small(path: Path, text: bytes) -> None:
    """Overwrite a private file in place with ``text``. The text may be lost in a power cut.

    Raises ``OSError``, also for a file with more than one hard link.
    """
    file = _own(path)
    try:
        system.os.ftruncate(file.fd, 0)
        system.os.write(file.fd, text)
    finally:
        file.close()


def _own(path: Path) -> Descriptor:
    """Open a file for writing and reading, or make it. Refuses a file with a second hard link."""
    fd, stat = open_regular(path, system.os.O_RDWR | system.os.O_CREAT)
    file = Descriptor(path, fd)
    if stat.st_nlink > 1:
        file.close()
        raise OSError(errno.EMLINK, why_not_written(path, stat.st_nlink))
    return file


_MAX_SMALL_LINE_BYTES = 1 << 16
_MAX_LINES_BYTES = 1 << 26


def append_line(path: Path, line: bytes, timeout_s: float) -> None:
    """Append a line to a file to which several processes may append. Make the file if needed.

    The file gets the owner and the group of its directory, if the system allows this. Other users
    may read and write the file if they may read and write the directory. ``line`` has no line end.
    On return, the line survives a power cut.

    If this function raises ``OSError``, nothing was appended. It also raises ``OSError`` for a file
    with a second hard link, or if another process keeps the file locked for ``timeout_s`` seconds.
    """
    file = _own(path)
    fd = file.fd
    try:
        if not wait_for_lock(file, timeout_s):
            raise OSError(errno.EBUSY, "another process has locked it: try again")
        size = system.os.fstat(fd).st_size
        if not size:
            directory = system.os.stat(path.parent)
            for owner in (directory.st_uid, -1):  # -1: unchanged, since only root may change it
                with contextlib.suppress(PermissionError):
                    system.os.fchown(fd, owner, directory.st_gid)
            system.os.fchmod(fd, FILE_MODE | directory.st_mode & 0o066)
        # The last line has no LF if a process died while it appended the line.
        begin = b"" if not size or system.os.pread(fd, 1, size - 1) == b"\n" else b"\n"
        try:
            if system.os.pwrite(fd, data := begin + line + b"\n", size) < len(data):
                raise OSError(errno.ENOSPC, system.os.strerror(errno.ENOSPC))
            system.os.fsync(fd)
            sync_directory(path.parent)
        except BaseException:
            system.os.ftruncate(fd, size)
            raise
    finally:
        file.close()


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, or nothing if the file is missing.

    A line of more than 64 KiB is yielded in parts. Raises ``OSError``, also for a file of more than
    64 MiB, which can't be a list of lines, and may be sparse.
    """
    try:
        fd, stat = open_regular(path, system.os.O_RDONLY)
    except FileNotFoundError:
        return
    with open(fd, "rb") as file:
        if stat.st_size > _MAX_LINES_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {_MAX_LINES_BYTES >> 20} MiB")
        while line := file.readline(_MAX_SMALL_LINE_BYTES):
            yield line


# --- looking ---------------------------------------------------------------------------------


def exists(path: Path) -> bool:
    """Return whether anything is at ``path``. If the system denies permission, return True."""
    try:
        system.os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        pass
    except OSError as error:
        raise storage_error(path, "look at", error) from error
    return True


def free_bytes(path: Path) -> int:
    """Return the free space of the file system of ``path``. ``path`` needn't exist."""
    import shutil  # noqa: PLC0415  (few commands need it, and it is slow to import)

    path = path.resolve()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def map_new_file(path: str, size_bytes: int) -> mmap:
    """Map a new file of zeros into memory. The written bytes outlive the process."""
    from mmap import mmap  # noqa: PLC0415  (only workers of pools need it)

    with open(path, "w+b") as file:
        file.write(bytes(size_bytes))
        file.flush()
        return mmap(file.fileno(), size_bytes)


# --- directories ------------------------------------------------------------------------------

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
            if not root.is_dir():  # otherwise another process was faster
                raise
    for path in to_sync if sync else ():
        sync_directory(path)


def make_directory(path: Path) -> None:
    """Make the private directory ``path``. Raises FileExistsError if anything is there."""
    system.os.mkdir(path, DIRECTORY_MODE)


def sync_directory(path: Path) -> None:
    """Sync a directory. On return, the names in the directory survive a power cut."""
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
    try:
        yield Path(made.name)
    finally:
        with contextlib.suppress(OSError):  # on Windows, another process may have a file open
            made.cleanup()


def open_directory(path: Path | str, directory: int | None = None) -> int:
    """Open a directory. Raises NotADirectoryError if a link or a file is at ``path``.

    ``directory``: the descriptor of the directory in which a relative ``path`` is looked up.
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
    """Remove the directory ``path`` if it is empty."""
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
