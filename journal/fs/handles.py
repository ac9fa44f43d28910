"""Open files of a journal.

Descriptors are never inherited by programs that are started (Python opens them close-on-exec),
and a forked child closes its copies at once: a lock taken with ``flock`` belongs to the open
file, which parent and child share, so a child that kept it would keep the lock of a dead parent.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from stat import S_ISREG
from types import ModuleType

from journal.errors import CommitOutcomeUnknownError, StorageError
from journal.fs import system

FILE_MODE = 0o600  # rows hold names and addresses

_READ_ONLY_ERRNOS = frozenset((errno.EPERM, errno.EACCES, errno.EROFS))
_MAX_LINE_BYTES = 128 << 20  # twice what the format allows: the reader sees that it's over
_NOT_REGULAR = "it is not a regular file: move it away"
_LINK = "it is a link, which is not followed here: put a file of its own in its place"

_open_files: weakref.WeakSet[Descriptor] = weakref.WeakSet()


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


def close_fd(fd: int) -> None:
    """Let go of a descriptor, which the system does whatever it says; what matters was synced."""
    with contextlib.suppress(OSError):
        system.os.close(fd)


def open_regular(
    path: Path, flags: int, directory: int | None = None
) -> tuple[int, system.os.stat_result]:
    """Open a regular file, and nothing else; its descriptor and what it is. ``OSError`` as it is.

    ``directory``: the descriptor of the directory that ``path`` is in, if the way there isn't to be
    gone again. For all that is opened in a job's directory, which may come from elsewhere: a link
    may lead to what is none of the job's, a pipe would keep us waiting, and a device may be
    endless.
    """
    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK
    try:
        fd = open_in(directory, path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe that nobody reads
            raise OSError(errno.EINVAL, _NOT_REGULAR) from error
        if error.errno == errno.ELOOP and system.os.path.islink(path):
            raise OSError(errno.ELOOP, _LINK) from error
        raise
    try:
        stat = system.os.fstat(fd)
        if not S_ISREG(stat.st_mode):
            raise OSError(errno.EINVAL, _NOT_REGULAR)
    except BaseException:
        close_fd(fd)
        raise
    return fd, stat


def open_in(directory: int | None, path: Path, flags: int) -> int:
    """Open ``path``, from the descriptor of the directory that it is in if there is one."""
    if directory is None:
        return system.os.open(path, flags, FILE_MODE)
    return system.os.open(path.name, flags, FILE_MODE, dir_fd=directory)


def why_not_written(path: Path, names: int) -> str:
    """What keeps a file that has so many names from being written: it is more than the job's."""
    if names <= 1:
        return ""
    name = path.name
    return (
        f"it has {names} hard links, so a write would change the other copies, too: make it a file "
        f"of its own, in its directory: cp -p {name} {name}.own && mv {name}.own {name}"
    )


class Descriptor:
    """An open file that closes when it is no longer referenced, and in a forked child."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        _open_files.add(self)

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close_fd(fd)

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

    def take_owner_of(self, other: Descriptor) -> bool:
        """Belong to whom ``other`` does, with its permissions, as far as the system lets us.

        Returns whether the user is the same. Another group than that of ``other`` gets nothing.
        """
        try:
            stat = system.os.fstat(other.fd)
            for user in (stat.st_uid, -1):
                with contextlib.suppress(PermissionError):
                    system.os.fchown(self.fd, user, stat.st_gid)
                    break
            mine = system.os.fstat(self.fd)
            mode = stat.st_mode & (0o777 if mine.st_gid == stat.st_gid else 0o707)
            system.os.fchmod(self.fd, mode)
        except OSError as error:
            raise storage_error(self.path, "set the owner of", error) from error
        return bool(mine.st_uid == stat.st_uid)


def _close_in_child() -> None:
    for file in list(_open_files):
        file.close()


if hasattr(system.os, "register_at_fork"):
    system.os.register_at_fork(after_in_child=_close_in_child)


class JournalFile(Descriptor):
    """``journal.jsonl`` held open: positional reads, appends, sync, truncation, the commit lock.

    The commit lock is the lock of the journal itself, not of a file beside it: there is no
    second file to be deleted under a writer, and whoever holds the lock of the file that the
    path names is the only writer of it.

    Every method raises StorageError for what the system refuses.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Raises ``OSError`` as it is: what a missing file means is for the caller to say."""
        flags = (
            system.os.O_RDWR
            | system.os.O_APPEND
            | (system.os.O_CREAT | system.os.O_EXCL if create else 0)
        )
        self.writable = True
        self.refusal = ""  # why it isn't
        try:
            fd, stat = open_regular(path, flags)
        except OSError as error:
            if create or error.errno not in _READ_ONLY_ERRNOS:
                raise
            fd, stat = open_regular(path, system.os.O_RDONLY)
            self._refuse_writing("it may only be read")
        super().__init__(path, fd)
        self._path_text = system.os.fspath(path)  # a Path costs a stat half of its time again
        self.inode, self._device = stat.st_ino, stat.st_dev
        self.is_shared = False  # it has got another name since: a copy made with hard links
        if stat.st_nlink > 1:
            self._refuse_writing(why_not_written(path, stat.st_nlink))
        # Of a file whose last commit lacks nothing but its LF: it is read as if that stood there.
        self.unended_at = -1

    def _refuse_writing(self, why: str) -> None:
        self.writable, self.refusal = False, why

    def size_bytes(self) -> int:
        try:
            return system.os.fstat(self._live_fd()).st_size
        except OSError as error:
            raise storage_error(self.path, "read", error) from error

    def size_and_change(self) -> tuple[int, int]:
        """The size in bytes, and when the file was changed last, in ns since 1970.

        Also its owner or permissions: the time that no program can set back.
        """
        try:
            stat = system.os.fstat(self._live_fd())
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        return stat.st_size, stat.st_ctime_ns

    def size_at_path(self) -> int | None:
        """The size of this file if its path still names it, else None; one system call.

        A missing LF counts (see ``unended_at``).
        """
        try:
            stat = system.os.stat(self._path_text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        if stat.st_ino == self.inode and stat.st_dev == self._device:
            self.is_shared = stat.st_nlink > 1  # each commit looks here first
            size: int = stat.st_size
            return size if size != self.unended_at else size + 1
        return None

    def read_some(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` in one system call; it may return fewer."""
        try:
            return system.os.pread(self.fd if self.fd >= 0 else self._live_fd(), length, offset)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""
        data = self.read_some(offset, length)
        if len(data) == length or (not data and offset != self.unended_at):
            return data
        parts = [data]  # a signal may cut a read short
        missing = length - len(data)
        while missing and (more := self.read_some(offset + length - missing, missing)):
            parts.append(more)
            missing -= len(more)
        if missing and offset + length - missing == self.unended_at:
            parts.append(b"\n")
        return b"".join(parts)

    def read_line(self, offset: int) -> bytes:
        """The line at ``offset`` without its LF; an unfinished one is a StorageError."""
        try:
            data = system.os.pread(self.fd, 1024, offset)  # most lines, in one system call
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
            if len(data) < length or length == _MAX_LINE_BYTES:
                return None
            length = min(length * 8, _MAX_LINE_BYTES)

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
            written = system.os.write(self.fd, data)
            while written < len(data):  # short: the next call says why (ENOSPC, EFBIG)
                written += system.os.write(self.fd, memoryview(data)[written:])
        except OSError as error:
            raise storage_error(self.path, "write", error) from error

    def end_last_line(self) -> None:
        """Write the LF that the last commit lacks, unless another has. As :meth:`append`."""
        if self.size_bytes() == self.unended_at:
            self.append(b"\n")
        self.unended_at = -1

    def truncate(self, size: int) -> None:
        try:
            system.os.ftruncate(self.fd, size)
        except OSError as error:
            raise storage_error(self.path, "truncate", error) from error

    def sync(self) -> None:
        """Return when what was appended survives a power cut."""
        try:
            sync_data(self.fd)
        except OSError as error:
            raise storage_error(self.path, "sync", error) from error

    def rename(self, path: Path) -> None:
        """Have the file stand at ``path``, in the place of what is there. ``OSError`` as it is."""
        system.os.rename(self.path, path)
        self.path, self._path_text = path, system.os.fspath(path)

    def _live_fd(self) -> int:
        if self.fd < 0:  # a forked child: open the same file again, not what took its place
            fd, stat = open_regular(self.path, system.os.O_RDONLY)
            if (stat.st_ino, stat.st_dev) != (self.inode, self._device):
                close_fd(fd)
                raise FileNotFoundError(errno.ENOENT, "it was replaced since it was opened")
            self.fd = fd
            self._refuse_writing("it was opened by the process that forked this one")
        return self.fd


class DerivedFile(Descriptor):
    """A regular file held open for reading. Its methods raise ``OSError`` as it is."""

    def __init__(self, path: Path, directory: int | None = None) -> None:
        """``directory`` as of :func:`open_regular`."""
        super().__init__(path, open_regular(path, system.os.O_RDONLY, directory)[0])

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``."""
        return system.os.pread(self.fd, length, offset)

    def size_bytes(self) -> int:
        return system.os.fstat(self.fd).st_size

    def changed_ns(self) -> int:
        """When it was changed last, in ns since 1970."""
        return system.os.fstat(self.fd).st_ctime_ns


class Stream(Descriptor):
    """A file or a pipe of the caller's, read once from its beginning."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError`` as it is."""
        super().__init__(path, system.os.open(path, system.os.O_RDONLY))

    def read(self, length: int) -> bytes:
        """The next bytes, up to ``length`` of them; none at the end. Raises StorageError."""
        try:
            return system.os.read(self.fd, length)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error


def storage_error(path: Path, operation: str, error: OSError) -> StorageError:
    """The package's error for what the system has refused."""
    number = error.errno or 0
    return StorageError(path, operation, number, error.strerror or system.os.strerror(number))


@contextlib.contextmanager
def refusals_of(path: Path, operation: str) -> Iterator[None]:
    """Within the block, what the system refuses is a StorageError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, operation, error) from error


def outcome_unknown(error: StorageError) -> CommitOutcomeUnknownError:
    """What a refusal means if it comes after the change was made."""
    return CommitOutcomeUnknownError(error.path, error.operation, error.errno, error.reason)


if sys.platform == "darwin":

    def sync_data(fd: int) -> None:
        system.fcntl.fcntl(
            fd, system.fcntl.F_FULLFSYNC
        )  # fsync leaves the data in the drive's cache there
else:

    def sync_data(fd: int) -> None:
        system.os.fdatasync(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[system.os.write(fd, view) :]
