"""The open files of a journal, and the errors of their methods.

Programs that this process starts inherit no descriptor, because Python opens files close-on-exec.

A forked child closes all files of this module right after the fork. A ``flock`` lock belongs to an
open file, and parent and child share the open file. If the child kept the file open, the file would
stay locked after the parent's death.
"""

from __future__ import annotations

import contextlib
import errno
import sys
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from stat import S_ISREG
from types import ModuleType, TracebackType
from typing import Protocol

from journal.errors import CommitOutcomeUnknownError, JobNotFoundError, StorageError
from journal.fs import system
from journal.ids import split_shard_name

FILE_MODE = 0o600  # private, since rows may contain names and addresses

_READ_ONLY_ERRNOS = frozenset((errno.EPERM, errno.EACCES, errno.EROFS))
# Twice the maximum of the format, so that a reader can report the length of a line that is too
# long.
_MAX_LINE_BYTES = 128 << 20
_PIECE_BYTES = 1 << 20
_SPARE_FILES = 200  # files that a process opens in addition to the shards of a set
# A file with holes beyond this size isn't a journal, and reading the holes would take forever.
_MAX_HOLES_BYTES = 1 << 30
_NOT_REGULAR = "it is not a regular file: move it away"
_LINK = "it is a symbolic link, which is not followed here: replace it with the file itself"


class Forkable(Protocol):
    """An object that must be reset in a forked child."""

    def reset_after_fork(self) -> None:
        """Release everything that belongs to the parent process."""


_to_reset: weakref.WeakSet[Forkable] = weakref.WeakSet()
reset_in_child = _to_reset.add  # registers an object for a reset in each forked child


def _reset_in_child() -> None:
    for each in list(_to_reset):
        each.reset_after_fork()


system.call_after_fork(_reset_in_child)


@cache
def load_filelock() -> ModuleType:
    """Import the module ``filelock``, or on Windows its replacement.

    The import is late, since it takes a fifth of the start-up time of a command that only reads.
    Call this function before you start threads, since no other thread may fork while the import of
    filelock registers fork handlers.
    """
    if sys.platform == "win32":
        return system.fcntl  # filelock would lock the first byte, so others couldn't read that byte
    else:  # noqa: RET505  (mypy needs the branch)
        try:
            import filelock  # noqa: PLC0415
        except ImportError as error:  # perhaps the process has no free descriptor for the module
            number = getattr(error.__cause__, "errno", None) or errno.EMFILE
            raise OSError(number, f"filelock can't be imported: {error}") from error
        return filelock


def close_fd(fd: int) -> None:
    """Close a descriptor.

    An error is ignored, since the descriptor is closed in any case. Sync important data before
    this call.
    """
    try:  # noqa: SIM105  (suppress() takes as long as the system call, and a listing closes many)
        system.os.close(fd)
    except OSError:
        pass


def open_regular(
    path: Path, flags: int, directory: int | None = None
) -> tuple[int, system.os.stat_result]:
    """Open a regular file; return its descriptor and its ``stat``. Refuse everything else.

    Use this function for all files in a job's directory, since another user may have made these
    files. A link may lead out of the directory, a pipe would block, and a device may be endless.

    ``directory`` is an open descriptor of the directory that contains ``path``. If ``directory`` is
    given, the last part of ``path`` is looked up in that directory. Raises ``OSError``.
    """
    flags |= system.os.O_NOFOLLOW | system.os.O_NONBLOCK
    try:
        fd = open_in(directory, path, flags)
    except OSError as error:
        # ENXIO is the error for a pipe without a reader, and for a socket. On macOS, a socket has
        # EOPNOTSUPP.
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):
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
    """Open ``path``.

    With the descriptor ``directory``, open the last part of ``path`` in this directory.
    """
    if directory is None:
        return system.os.open(path, flags, FILE_MODE)
    return system.os.open(path.name, flags, FILE_MODE, dir_fd=directory)


def why_not_written(path: Path, names: int) -> str:
    """Return the reason why a file with several hard links must not be written.

    ``names`` is the number of the hard links.
    """
    why = f"it has {names} hard links, so a write would change the other copies, too"
    return f"{why}: {how_to_own(path)}"


def how_to_own(path: Path) -> str:
    """Return text that says how to copy a file with several hard links to a file with one hard
    link.
    """
    from journal.fs.shell import quote  # noqa: PLC0415  (reading a job doesn't need it)

    name, own = quote(path.name), quote(f"{path.name}.own")
    how = f"cp -p {name} {own} && mv {own} {name}"
    if sys.platform == "win32":
        how = f"copy {name} {own} && move /y {own} {name}"
    return f"make it a file of its own, in its directory: {how}"


class Guard:
    """A guard keeps other nodes from changing a file, until ``is_over``.

    This base class guards nothing.
    """

    is_over = True


class Descriptor:
    """An open file.

    The file is closed when the last reference to the object is gone. A forked child closes the file
    right after the fork.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close_fd(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.close()

    def is_at_path(self) -> bool:
        """Return whether the path still leads to this file or directory. Raises StorageError."""
        try:
            return system.os.path.samestat(system.os.stat(self.path), system.os.fstat(self.fd))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise storage_error(self.path, "look at", error) from error

    def try_lock(self) -> bool:
        """Take the exclusive lock of this open file.

        Returns False at once if another open file has the lock.
        """
        try:
            locked: bool = load_filelock().lock_descriptor(self.fd, blocking=False)
        except OSError as error:
            raise storage_error(self.path, "lock", error) from error
        return locked

    def is_held(self) -> bool:
        """Return whether a process holds the lock.

        The check takes a shared lock, so several processes can check at the same time.
        """
        try:
            system.fcntl.flock(self.fd, system.fcntl.LOCK_SH | system.fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise storage_error(self.path, "look at the lock of", error) from error
        return False

    def unlock(self) -> None:
        try:
            load_filelock().unlock_descriptor(self.fd)
        except OSError as error:
            self.close()  # closing releases the lock in any case
            raise storage_error(self.path, "unlock", error) from error

    def take_owner_of(self, other: Descriptor) -> bool:
        """Copy the owner, group and permissions of ``other``, as far as the system allows.

        Returns whether this file now has the same owner as ``other``. If the system refuses the
        group of ``other``, the file's group gets no permissions.
        """
        with refusals_of(self.path, "set the owner of"):
            stat = system.os.fstat(other.fd)
            for user in (stat.st_uid, -1):
                with contextlib.suppress(PermissionError):
                    system.os.fchown(self.fd, user, stat.st_gid)
                    break
            mine = system.os.fstat(self.fd)
            mode = stat.st_mode & (0o777 if mine.st_gid == stat.st_gid else 0o707)
            system.os.fchmod(self.fd, mode)
        return bool(mine.st_uid == stat.st_uid)


class JournalFile(Descriptor):
    """The open file ``journal.jsonl``: positional reads, appends, sync, truncation, commit lock.

    The commit lock is on the journal file itself, since a separate lock file could be deleted while
    a writer holds the lock. A process with the commit lock is the only writer, provided that the
    path still leads to the locked file.

    Every method raises StorageError if the system refuses a call.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the file.

        Raises ``OSError``, since only the caller knows what a missing file means.
        """
        flags = system.os.O_RDWR | system.os.O_APPEND
        if create:
            flags |= system.os.O_CREAT | system.os.O_EXCL
        self.writable = True
        self.refusal = ""  # why the file isn't writable
        try:
            fd, stat = open_regular(path, flags)
        except OSError as error:
            if create or error.errno not in _READ_ONLY_ERRNOS:
                raise
            fd, stat = open_regular(path, system.os.O_RDONLY)
            self._refuse_writing("it may only be read")
        super().__init__(path, fd)
        # Some file systems compress files, or don't count blocks. There, a file without holes may
        # have few blocks.
        if (
            sys.platform != "win32"
            and stat.st_size > _MAX_HOLES_BYTES
            and stat.st_size - 512 * stat.st_blocks > _MAX_HOLES_BYTES
            and system.os.lseek(fd, 0, system.os.SEEK_HOLE) < stat.st_size
        ):
            raise OSError(errno.EINVAL, "it is sparse, with more than 1 GiB of holes")
        self._path_text = system.os.fspath(path)  # stat of a Path takes 50% longer than of text
        self.inode, self.device = stat.st_ino, stat.st_dev
        self.is_shared = False  # whether the file got a second hard link after it was opened
        if stat.st_nlink > 1:
            self._refuse_writing(why_not_written(path, stat.st_nlink))
        # On a network file system: the run's claim, which keeps other nodes from changing the file.
        self.guard: Guard | None = None
        # Usually -1. If the last commit lacks only its LF, ``unended_at`` is the real size of the
        # file. In this case, reads return the file as if it ended with the LF.
        self.unended_at = -1

    def _refuse_writing(self, why: str) -> None:
        self.writable, self.refusal = False, why

    def size_bytes(self) -> int:
        with refusals_of(self.path, "read"):
            return system.os.fstat(self._live_fd()).st_size

    def size_and_change(self) -> tuple[int, int]:
        """Return the size in bytes, and the time of the last change in ns since 1970.

        The time is the ctime, which no program can choose. A change of the owner or the permissions
        also sets the ctime. Windows has no ctime. There, the time is that of the last write.
        """
        with refusals_of(self.path, "read"):
            stat = system.os.fstat(self._live_fd())
        return stat.st_size, _changed_ns(stat)

    def size_at_path(self) -> int | None:
        """Return the size of this file if the path still names the file, else None.

        If the last commit lacks its LF, the size includes this missing byte (see ``unended_at``).
        For speed, this method makes one system call. More calls are needed only if another node may
        have changed the file.
        """
        if self.guard is not None and self.guard.is_over:
            self._ask_server()
        try:
            stat = system.os.stat(self._path_text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(self.path, "read", error) from error
        if stat.st_ino == self.inode and stat.st_dev == self.device:
            self.is_shared = stat.st_nlink > 1
            size: int = stat.st_size
            return size if size != self.unended_at else size + 1
        return None

    def read_some(self, offset: int, length: int) -> bytes:
        """Read up to ``length`` bytes from ``offset``.

        This method makes only one system call, so the result may be shorter.
        """
        try:
            return system.os.pread(self.fd if self.fd >= 0 else self._live_fd(), length, offset)
        except OSError as error:
            raise storage_error(self.path, "read", error) from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes from ``offset``, or fewer if the file ends earlier."""
        data = self.read_some(offset, length)
        if len(data) == length or (not data and offset != self.unended_at):
            return data
        parts = [data]  # a signal may interrupt a read
        missing = length - len(data)
        while missing and (more := self.read_some(offset + length - missing, missing)):
            parts.append(more)
            missing -= len(more)
        if missing and offset + length - missing == self.unended_at:
            parts.append(b"\n")
        return b"".join(parts)

    def pieces(self, offset: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from ``offset`` to ``end``, or to the end of the file, in pieces."""
        while offset < end and (piece := self.read_at(offset, min(_PIECE_BYTES, end - offset))):
            yield piece
            offset += len(piece)

    def read_line(self, offset: int) -> bytes:
        """Return the line at ``offset`` without its LF.

        Raises StorageError if the LF is missing.
        """
        try:
            data = system.os.pread(self.fd, 1024, offset)  # enough for most lines
            end = data.find(b"\n")
            if end >= 0:
                return data[:end]
        except OSError:  # the file is closed in a forked child, or find_line raises the error again
            pass
        line = self.find_line(offset)
        if line is None:
            error = OSError(errno.EIO, f"no whole line at byte {offset}")
            raise storage_error(self.path, "read", error)
        return line

    def find_line(self, offset: int) -> bytes | None:
        """Return the line at ``offset`` without its LF.

        Returns None if there is no LF within ``_MAX_LINE_BYTES`` bytes.
        """
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
        """Return the number of LFs before ``end``.

        This method reads all bytes before ``end``. Use this method only to report errors.
        """
        return sum(piece.count(b"\n") for piece in self.pieces(0, end))

    def append(self, data: bytes | bytearray) -> None:
        """Append ``data``. After a StorageError, the file may contain a part of ``data``."""
        try:
            written = system.os.write(self.fd, data)
            while written < len(data):  # after a short write, the next write raises the error
                written += system.os.write(self.fd, memoryview(data)[written:])
        except OSError as error:
            raise storage_error(self.path, "write", error) from error

    def end_last_line(self) -> None:
        """Write the missing LF of the last commit, unless another writer has written the LF.

        Raises StorageError, as :meth:`append` does.
        """
        if self.size_bytes() == self.unended_at:
            self.append(b"\n")
        self.unended_at = -1

    def truncate(self, size: int) -> None:
        with refusals_of(self.path, "truncate"):
            system.os.ftruncate(self.fd, size)

    def sync(self) -> None:
        """Sync the file. On return, everything that was appended survives a power cut."""
        try:
            sync_data(self.fd)
        except OSError as error:
            raise storage_error(self.path, "sync", error) from error

    def rename(self, path: Path) -> None:
        """Rename the file to ``path``. An existing file is replaced. Raises ``OSError``."""
        system.os.rename(self.path, path)
        self.path, self._path_text = path, system.os.fspath(path)

    def _ask_server(self) -> None:
        """Find out whether other nodes have changed the file, or have replaced it at its path.

        When a file is opened, an NFS client asks the server for the size of the file. But the
        client keeps its cached pages if a program on this node has the file open for writing. Then
        the part of the last page after the file's old end reads as NULs.
        """
        flags = system.os.O_RDONLY | system.os.O_NOFOLLOW | system.os.O_NONBLOCK
        with contextlib.suppress(OSError):  # the next call of the caller raises the error
            close_fd(system.os.open(self._path_text, flags))
        self.forget_cached()

    def forget_cached(self) -> None:
        """Let the next reads get the data from the server of a network file system.

        Locking the file would have the same effect, but not if the file system has only local
        locks.
        """
        if sys.platform == "linux":
            with refusals_of(self.path, "read"):
                system.os.posix_fadvise(self.fd, 0, 0, system.os.POSIX_FADV_DONTNEED)

    def _live_fd(self) -> int:
        if self.fd < 0:  # in a forked child: open the file again, if it is still at its path
            fd, stat = open_regular(self.path, system.os.O_RDONLY)
            if (stat.st_ino, stat.st_dev) != (self.inode, self.device):
                close_fd(fd)
                raise FileNotFoundError(errno.ENOENT, "it was replaced since it was opened")
            self.fd = fd
            self._refuse_writing("it was opened by the process that forked this one")
        return self.fd


def _changed_ns(stat: system.os.stat_result) -> int:
    return stat.st_mtime_ns if sys.platform == "win32" else stat.st_ctime_ns


def open_journal(path: Path, job: str) -> JournalFile:
    """Open the journal at ``path``.

    If the journal is missing, raises JobNotFoundError with ``job`` as the id. If the journal can't
    be opened for any other reason, raises StorageError.
    """
    try:
        return JournalFile(path)
    except (FileNotFoundError, NotADirectoryError):
        raise no_job(path.parent, job) from None
    except OSError as error:
        raise storage_error(path, "open", error) from error


def no_job(directory: Path, job: str) -> JobNotFoundError:
    """Return the error for a directory that has no journal.

    The error names a shard if the directory has shards.
    """
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(filter(split_shard_name, system.os.listdir(directory)))
    return JobNotFoundError(job, f"{job}/{names[0]}" if names else "")


class DerivedFile(Descriptor):
    """A regular file, open for reading. The methods raise ``OSError``."""

    def __init__(self, path: Path, directory: int | None = None) -> None:
        """``directory``: as for :func:`open_regular`."""
        fd, stat = open_regular(path, system.os.O_RDONLY, directory)
        super().__init__(path, fd)
        self.inode = stat.st_ino

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to ``length`` bytes from ``offset``."""
        return system.os.pread(self.fd, length, offset)

    def size_bytes(self) -> int:
        return system.os.fstat(self.fd).st_size

    def count_names(self) -> int:
        """Return how many hard links the file has."""
        return system.os.fstat(self.fd).st_nlink


class Stream(Descriptor):
    """A file or pipe that a user named, open for one sequential read."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError``."""
        super().__init__(path, system.os.open(path, system.os.O_RDONLY))

    def read(self, length: int) -> bytes:
        """Read the next bytes, up to ``length``, or ``b""`` at the end. Raises StorageError."""
        with refusals_of(self.path, "read"):
            return system.os.read(self.fd, length)


def storage_error(path: Path, operation: str, error: OSError) -> StorageError:
    """Make the public error for a refused system call: "could not OPERATION PATH: …"."""
    number = error.errno or 0
    return StorageError(path, operation, number, error.strerror or system.os.strerror(number))


class _Refusals:
    # This is a class, not a generator. In Python 3.13, if a generator raises a second error, the
    # first error refers to a frame, and the frame refers to the first error. Such a cycle of
    # references keeps files open until the garbage collector runs.
    __slots__ = ("_operation", "_path")

    def __init__(self, path: Path, operation: str) -> None:
        self._path = path
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise storage_error(self._path, self._operation, error) from error


def allow_open_files(count: int) -> None:
    """Let this process open ``count`` files, and some more, as far as the system allows this."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415  (few commands need it)

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = count + _SPARE_FILES
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def refusals_of(path: Path, operation: str) -> AbstractContextManager[None]:
    """Turn an ``OSError`` in a ``with`` block into a StorageError.

    The message is "could not OPERATION PATH: …".
    """
    return _Refusals(path, operation)


def outcome_unknown(error: StorageError) -> CommitOutcomeUnknownError:
    """Return the error that replaces ``error`` if the change was already written."""
    return CommitOutcomeUnknownError(error.path, error.operation, error.errno, error.reason)


def sync_data(fd: int) -> None:
    system.os.fdatasync(fd)


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data).cast("B")
    while view:
        view = view[system.os.write(fd, view) :]
