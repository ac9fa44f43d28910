"""The only code that touches the disk for a journal.

Everything goes through this module's ``os``, so that a test can put a faulty one in its place.
Descriptors are never inherited by programs that are started (Python opens them close-on-exec),
and a forked child closes its copies at once: a lock taken with ``flock`` belongs to the open
file, which parent and child share, so a child that kept it would keep the lock of a dead parent.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import pwd
import sys
import time
import weakref
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from stat import S_ISREG
from types import ModuleType
from typing import IO

from journal.errors import CommitOutcomeUnknownError, StorageError

DIRECTORY_MODE = 0o700  # rows hold names and addresses
FILE_MODE = 0o600

_READ_ONLY_ERRNOS = frozenset((errno.EPERM, errno.EACCES, errno.EROFS))
_LONGEST_LINE_BYTES = 128 << 20  # twice what the format allows: the reader sees that it's over
_LOCK_POLL_FIRST_S = 0.000_05
_LOCK_POLL_LAST_S = 0.005

_open_files: weakref.WeakSet[_Descriptor] = weakref.WeakSet()


@cache
def load_filelock() -> ModuleType:
    """Imported late: for a command that only reads it would be a fifth of its start.

    But before there are threads, for it has its say in each fork of the process, and must not
    appear in the middle of one.
    """
    try:
        import filelock  # noqa: PLC0415
    except ImportError as error:  # there may be no descriptor left to read it with
        number = getattr(error.__cause__, "errno", None) or errno.EMFILE
        raise OSError(number, f"filelock can't be imported: {error}") from error
    return filelock


def _close(fd: int) -> None:
    """Let go of a descriptor, which the system does whatever it says; what matters was synced."""
    with contextlib.suppress(OSError):
        os.close(fd)


class _Descriptor:
    """An open file that closes when it is no longer referenced, and in a forked child."""

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self._path_text = os.fspath(path)  # a Path costs a stat half of its time again
        self.fd = os.open(path, flags, FILE_MODE)
        _open_files.add(self)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            _close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def try_lock(self) -> bool:
        """Take the exclusive lock of this open file, or say at once that it is taken."""
        try:
            locked: bool = load_filelock().lock_descriptor(self.fd, blocking=False)
        except OSError as error:
            raise storage_error(self.path, "lock", error) from error
        return locked

    def unlock(self) -> None:
        try:
            load_filelock().unlock_descriptor(self.fd)
        except OSError as error:
            self.close()  # which lets go of the lock, whatever the system says
            raise storage_error(self.path, "unlock", error) from error


def _close_in_child() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


class JournalFile(_Descriptor):
    """``journal.jsonl`` held open: positional reads, appends, sync, truncation, the commit lock.

    The commit lock is the lock of the journal itself, not of a file beside it: there is no
    second file to be deleted under a writer, and whoever holds the lock of the file that the
    path names is the only writer of it.

    Every method raises StorageError for what the system refuses.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Raises ``OSError`` as it is: what a missing file means is for the caller to say."""
        flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT | os.O_EXCL if create else 0)
        self.writable = True
        try:
            super().__init__(path, flags)
        except OSError as error:
            if create or error.errno not in _READ_ONLY_ERRNOS:
                raise
            super().__init__(path, os.O_RDONLY)
            self.writable = False
        stat = os.fstat(self.fd)
        if not S_ISREG(stat.st_mode):  # a device may be endless, and a pipe silent
            self.close()
            raise OSError(errno.EINVAL, "it is not a regular file")
        self.inode, self._device = stat.st_ino, stat.st_dev

    def size_bytes(self) -> int:
        try:
            return os.fstat(self._live_fd()).st_size
        except OSError as error:
            raise storage_error(self.path, "read", error) from error

    def size_and_change(self) -> tuple[int, int]:
        """The size in bytes, and when the file was changed last, in ns since 1970.

        Also its owner or permissions: the time that no program can set back.
        """
        try:
            stat = os.fstat(self._live_fd())
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        return stat.st_size, stat.st_ctime_ns

    def size_at_path(self) -> int | None:
        """The size of this file if its path still names it, else None; one system call."""
        try:
            stat = os.stat(self._path_text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        if stat.st_ino == self.inode and stat.st_dev == self._device:
            return stat.st_size
        return None

    def read_some(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` in one system call; it may return fewer."""
        try:
            return os.pread(self.fd if self.fd >= 0 else self._live_fd(), length, offset)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""
        data = self.read_some(offset, length)
        if len(data) == length or not data:
            return data
        parts = [data]  # a signal may cut a read short
        missing = length - len(data)
        while missing and (more := self.read_some(offset + length - missing, missing)):
            parts.append(more)
            missing -= len(more)
        return b"".join(parts)

    def read_line(self, offset: int) -> bytes:
        """The line at ``offset`` without its LF; an unfinished one is a StorageError."""
        try:
            data = os.pread(self.fd, 1024, offset)  # most lines, in one system call
            end = data.find(b"\n")
            if end >= 0:
                return data[:end]
        except OSError:  # closed in a forked child, or what the next try says
            pass
        line = self.find_line(offset)
        if line is None:
            error = OSError(errno.EIO, f"no whole line at byte {offset}")
            raise storage_error(self.path, "read", error)
        return line

    def find_line(self, offset: int) -> bytes | None:
        """The line at ``offset`` without its LF; None if it has none within what a line may be."""
        length = 1024
        while True:
            data = self.read_at(offset, length)
            end = data.find(b"\n")
            if end >= 0:
                return data[:end]
            if len(data) < length or length == _LONGEST_LINE_BYTES:
                return None
            length = min(length * 8, _LONGEST_LINE_BYTES)

    def count_lines(self, end: int) -> int:
        """How many LFs stand before ``end``: for error messages, which alone need it."""
        lines = offset = 0
        while offset < end and (chunk := self.read_at(offset, min(1 << 20, end - offset))):
            lines += chunk.count(b"\n")
            offset += len(chunk)
        return lines

    def append(self, data: bytes | bytearray) -> None:
        """Write all of ``data`` at the end. On StorageError a part of it may be there."""
        try:
            written = os.write(self.fd, data)
            while written < len(data):  # short: the next call says why (ENOSPC, EFBIG)
                written += os.write(self.fd, memoryview(data)[written:])
        except OSError as error:
            raise storage_error(self.path, "write", error) from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise storage_error(self.path, "truncate", error) from error

    def sync(self) -> None:
        """Return when what was appended survives a power cut."""
        try:
            _sync_data(self.fd)
        except OSError as error:
            raise storage_error(self.path, "sync", error) from error

    def take_owner_of(self, other: JournalFile) -> None:
        """Belong to whom ``other`` does, with its permissions, as far as the system lets us."""
        try:
            stat = os.fstat(other.fd)
            with contextlib.suppress(PermissionError):
                os.fchown(self.fd, stat.st_uid, stat.st_gid)
            os.fchmod(self.fd, stat.st_mode & 0o777)
        except OSError as error:
            raise storage_error(self.path, "set the owner of", error) from error

    def rewrite(self, offset: int, end: int) -> None:
        """Write the bytes from ``offset`` to ``end`` over themselves, so that a sync writes them.

        After a failed sync the kernel may take pages for clean that never reached the disk.
        """
        try:
            fd = os.open(self.path, os.O_WRONLY)  # not this one: O_APPEND would write at the end
            try:
                if not os.path.samestat(os.fstat(fd), os.fstat(self.fd)):
                    return  # replaced: what was in doubt is gone with the old file
                while offset < end and (data := self.read_at(offset, min(1 << 20, end - offset))):
                    offset += os.pwrite(fd, data, offset)
            finally:
                _close(fd)
        except OSError as error:
            raise storage_error(self.path, "write", error) from error

    def _live_fd(self) -> int:
        if self.fd < 0:  # a forked child: open the same file again, not what took its place
            fd = os.open(self.path, os.O_RDONLY)
            stat = os.fstat(fd)
            if (stat.st_ino, stat.st_dev) != (self.inode, self._device):
                _close(fd)
                raise FileNotFoundError(errno.ENOENT, "it was replaced since it was opened")
            self.fd = fd
            self.writable = False
        return self.fd


def storage_error(path: Path, operation: str, error: OSError) -> StorageError:
    """The package's error for what the system has refused."""
    number = error.errno or 0
    return StorageError(path, operation, number, error.strerror or os.strerror(number))


def outcome_unknown(error: StorageError) -> CommitOutcomeUnknownError:
    """What a refusal means if it comes after the change was made."""
    return CommitOutcomeUnknownError(error.path, error.operation, error.errno, error.reason)


if sys.platform == "darwin":

    def _sync_data(fd: int) -> None:
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync leaves the data in the drive's cache there
else:

    def _sync_data(fd: int) -> None:
        os.fdatasync(fd)


class DerivedFile(_Descriptor):
    """A file made of others, held open for reading; it may be anything, and the methods may fail.

    They raise ``OSError`` as it is.
    """

    def __init__(self, path: Path) -> None:
        # Neither a link to what is none of ours, nor a pipe that keeps us waiting.
        super().__init__(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``."""
        return os.pread(self.fd, length, offset)

    def size_bytes(self) -> int:
        stat = os.fstat(self.fd)
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        return stat.st_size

    def changed_ns(self) -> int:
        """When it was changed last, in ns since 1970."""
        return os.fstat(self.fd).st_ctime_ns


class Stream(_Descriptor):
    """A file or a pipe of the caller's, read once from its beginning."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError`` as it is."""
        super().__init__(path, os.O_RDONLY)

    def read(self, length: int) -> bytes:
        """The next bytes, up to ``length`` of them; none at the end. Raises StorageError."""
        try:
            return os.read(self.fd, length)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error


class NewFile(_Descriptor):
    """A private file that is being made; it must not be there yet.

    ``into``: a pipe or a device instead, which is. The methods raise ``OSError`` as it is.
    """

    def __init__(self, path: Path, *, into: bool = False) -> None:
        super().__init__(path, os.O_WRONLY | (0 if into else os.O_CREAT | os.O_EXCL))

    def write(self, data: bytes | memoryview) -> None:
        _write_all(self.fd, data)

    def sync(self) -> None:
        """Return when what was written survives a power cut; its name is for the caller to sync."""
        _sync_data(self.fd)


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


def new_output(path: Path, target: Path) -> None:
    """Make the empty file ``path``, for the user, which is to stand at ``target``.

    Private if it replaces a file, for that may be; else as any new file. ``OSError`` as it is.
    """
    mode = FILE_MODE if exists(target) else 0o666
    _close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def open_output(path: Path) -> IO[bytes]:
    """A file of :func:`new_output`, to be written through the stream. ``OSError`` as it is."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_TRUNC), "wb")


def put_output(path: Path, target: Path) -> None:
    """Let what was written to ``path`` stand at ``target``, synced, and its name too.

    It takes over the permissions of the file that it replaces. ``OSError`` as it is.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(fd, os.stat(target).st_mode & 0o777)
        os.fsync(fd)
    finally:
        _close(fd)
    os.rename(path, target)
    sync_directory(target.parent)


def remove_file(path: Path) -> None:
    """Remove a file that may be gone already, as far as the system lets us."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def replace(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Put a private file of ``chunks`` in the place of ``path``, whole or not at all.

    Nobody is promised that it survives, nor that it is done: another process may be at the same.
    Raises ``OSError`` and StorageError as they come.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        file = _Descriptor(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        leftover = DerivedFile(new)
        if leftover.try_lock():  # its writer died: next time
            os.unlink(new)
        leftover.close()
        return
    try:
        if file.try_lock():
            for chunk in chunks:
                _write_all(file.fd, chunk)
            os.rename(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    finally:
        file.close()


class LockFile(_Descriptor):
    """A file that is there to be locked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_RDWR | os.O_CREAT)

    def acquire(self, timeout_s: float) -> bool:
        """Hold the lock of the file that the path names, waiting up to ``timeout_s`` seconds."""
        if not wait_for_lock(self, timeout_s):
            return False
        try:
            current = os.stat(self.path)
        except FileNotFoundError:
            current = None
        mine = os.fstat(self.fd)
        if current and (current.st_ino, current.st_dev) == (mine.st_ino, mine.st_dev):
            return True
        self.close()  # the file was deleted while we waited: lock the one that is there now
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        return self.acquire(timeout_s)


class DirectoryLock(_Descriptor):
    """The lock of a directory itself: it can't be deleted while what it guards is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, os.O_RDONLY | os.O_DIRECTORY)

    def is_held(self) -> bool:
        """Whether somebody holds the lock. Those who ask share it, and don't see each other."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise storage_error(self.path, "look at the lock of", error) from error
        return False

    def is_at_path(self) -> bool:
        """Whether the path still names this directory."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise storage_error(self.path, "look at", error) from error


def wait_for_lock(file: _Descriptor, timeout_s: float) -> bool:
    """Take the file's lock within ``timeout_s`` seconds; False if it stayed taken."""
    if file.try_lock():
        return True
    deadline_s = time.monotonic() + timeout_s
    pause_s = _LOCK_POLL_FIRST_S
    while time.monotonic() < deadline_s:
        time.sleep(pause_s)
        if file.try_lock():
            return True
        pause_s = min(pause_s * 2, _LOCK_POLL_LAST_S)
    return False


def read_head(path: str, length: int) -> bytes:
    """Up to ``length`` bytes of the beginning of a file, whatever it is; ``OSError`` as it is."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
    try:
        return os.pread(fd, length, 0)
    finally:
        _close(fd)


def read_small(path: Path) -> bytes:
    """The first 4 KiB of a file; empty if it is missing."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, 4096)
    finally:
        _close(fd)


def write_small(path: Path, text: bytes) -> None:
    """Make ``text`` the content of a private file; nobody is promised that it survives."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        os.write(fd, text)
    finally:
        _close(fd)


def write_new(path: Path, chunks: Iterable[bytes]) -> Path:
    """Make a private file of ``chunks``; nobody is promised that it survives."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        for chunk in chunks:
            _write_all(fd, chunk)
    finally:
        _close(fd)
    return path


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(fd, view) :]


def make_store(root: Path, *, sync: bool) -> None:
    """Make ``root``, private, and its parents if they are missing; sync their names."""
    root = root.resolve()  # the parent of ".." is not "."
    missing = itertools.takewhile(lambda path: not path.is_dir(), root.parents)
    to_sync = [root.parent, *(path.parent for path in missing)]
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        make_directory(root)
    for path in to_sync if sync else ():
        sync_directory(path)


def make_directory(path: Path) -> None:
    """Make ``path``, private, unless it is there already."""
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise


def sync_directory(path: Path) -> None:
    """Return when the names in ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        _close(fd)


def exists(path: Path) -> bool:
    """Whether the path names anything; what may not be looked at counts as being there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        pass
    except OSError as error:
        raise storage_error(path, "look at", error) from error
    return True


def free_bytes(path: Path) -> int:
    """How much may be written where ``path`` is, or would be."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A private directory for as long as the block lasts. Raises StorageError."""
    import tempfile  # noqa: PLC0415  (of little use to most commands, and slow)

    try:
        path = Path(tempfile.gettempdir()) / f"journal-{os.urandom(6).hex()}"
        make_directory(path)
    except OSError as error:
        raise storage_error(Path("TMPDIR"), "make a directory in", error) from error
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            remove_tree(path)


def device_of(path: Path) -> int:
    """The number of the file system that a file, or what a link leads to, is on."""
    return os.stat(path).st_dev


def rename(source: Path, target: Path) -> None:
    os.rename(source, target)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, or a file or link; what is gone already is fine.

    However deep it is, and longer than a path may be: directories further down are moved up first.
    """
    if path.is_symlink() or path.is_file():
        os.unlink(path)
        return
    with contextlib.suppress(FileNotFoundError):
        while directories := _remove_files(path):
            for directory in directories:
                for deeper in _remove_files(directory):
                    os.rename(deeper, path / f".{os.urandom(6).hex()}")
                os.rmdir(directory)
        os.rmdir(path)


def _remove_files(path: Path) -> list[Path]:
    """Remove what is in a directory but for the directories in it, which are returned."""
    directories = []
    with os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(Path(entry.path))
            else:
                os.unlink(entry.path)
    return directories


def subdirectories(path: Path) -> Iterator[str]:
    """The names of the directories in ``path``, hidden ones left out; none if it is missing.

    A link that leads to itself is none.
    """
    try:
        entries = os.scandir(path)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if not entry.name.startswith(".") and _is_directory(entry):
                yield entry.name


def names_in(path: Path) -> Iterator[str]:
    """The names of all that is in a directory; none if it is missing."""
    try:
        entries = os.scandir(path)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            yield entry.name


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


def tree(path: Path) -> Iterator[tuple[str, bool]]:
    """Each file below ``path`` by its path from there, and whether it is a regular one.

    Links are neither followed nor regular, nor is a directory too deep for its path to be opened.
    None if ``path`` is missing; ``OSError`` as it is.
    """
    below = [""]
    while below:
        prefix = below.pop()
        try:
            with os.scandir(path / prefix) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:  # never there, or removed since it was listed
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            yield prefix.rstrip("/"), False
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.is_file(follow_symlinks=False)


def make_directories(path: Path, below: Path) -> None:
    """Make ``path`` and what is missing between it and ``below``, private."""
    for missing in reversed((path, *path.parents)):
        if missing.is_relative_to(below) and missing != below:
            make_directory(missing)


def save_copy(source: JournalFile, offset: int, end: int, target: Path, *, sync: bool) -> Path:
    """Write the bytes from ``offset`` to ``end`` of ``source`` to a new private file.

    It gets the first free name of ``target-1``, ``target-2``, ...; returned when it is synced.
    """
    for number in itertools.count(1):
        path = target.with_name(f"{target.name}-{number}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
            break
        except FileExistsError:
            continue
    try:
        while offset < end and (data := source.read_at(offset, min(1 << 20, end - offset))):
            _write_all(fd, data)
            offset += len(data)
        if sync:
            os.fsync(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)  # half a copy is no copy, and the disk may be full
        raise
    finally:
        _close(fd)
    return path


def keep_copy(source: JournalFile, end: int, target: Path) -> None:
    """Put the first ``end`` bytes of ``source`` into a private file, whole or not at all.

    One that is there already, of that length, is it. On return it survives a power cut.
    """
    if exists(target) and target.stat().st_size == end:
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


def now_ns() -> int:
    """The time, in ns since 1970, by the clock that file systems go by."""
    return time.time_ns()


def host_name() -> str:
    return os.uname().nodename


def process_id() -> int:
    return os.getpid()


def user_name() -> str:
    """Who runs this, by name or else by number."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def nonce() -> str:
    """16 hex digits that nobody else has had, whatever its host, process id and clock."""
    return os.urandom(8).hex()


def boot_id() -> str:
    """What the system calls itself until it starts anew; empty where it has no such name."""
    try:
        return read_small(Path("/proc/sys/kernel/random/boot_id")).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
