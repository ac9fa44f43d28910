"""File locks. The system releases a lock when the process that holds it ends."""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path

from journal.fs import system
from journal.fs.handles import Descriptor, close_fd, open_regular, storage_error
from journal.fs.names import RUN_LOCK_NAME

LOCK_TIMEOUT_S = 10.0  # how long a call waits for a lock by default
# Pauses between two tries, which don't grow: if they did, a process that has waited for long would
# wait longer than those that come later. No system call waits for a lock and for a time.
_PAUSE_NS = 50_000  # and up to twice as much more, at random, so that waiting processes take turns
_LONG_WAIT_S = 1.0  # after this time, a batch is open: trying so often only takes CPU time
_LONG_PAUSE_S = 0.000_5


class LockFile(Descriptor):
    """A file that exists only to be locked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, open_regular(path, system.os.O_RDWR | system.os.O_CREAT)[0])

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock of the file at the path.

        Returns False if that takes over ``timeout_s`` seconds.
        """
        if not wait_for_lock(self, timeout_s):
            return False
        if self.is_at_path():
            return True
        self.close()  # the file was deleted during the wait: lock the file that is there now
        self.fd, _ = open_regular(self.path, system.os.O_RDWR | system.os.O_CREAT)
        return self.acquire(timeout_s)


class DirectoryLock(Descriptor):
    """The lock of a directory itself. The directory exists as long as the files in it."""

    def __init__(self, directory: Path, *, to_rename: bool = False, to_look: bool = False) -> None:
        """Open what is locked. Raises ``OSError``.

        ``to_rename``: the directory may be renamed while the lock is held. ``to_look``: only
        :meth:`is_held` will be called.
        """
        self.directory = directory
        path, self._flags = _locked_file(directory, to_rename, to_look)
        super().__init__(path, _open(path, self._flags))

    if sys.platform == "win32":

        def try_lock(self) -> bool:
            while super().try_lock():
                if self.is_at_path():
                    return True
                self.close()  # the file was deleted: lock the file that is there now
                self.fd = _open(self.path, self._flags)
            return False

    def is_held(self) -> bool:
        """Return whether somebody holds the lock.

        The check itself takes a shared lock, so that several processes can check at the same time.
        """
        try:
            system.fcntl.flock(self.fd, system.fcntl.LOCK_SH | system.fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            raise storage_error(self.path, "look at the lock of", error) from error
        return False


if sys.platform == "win32":

    def _locked_file(directory: Path, to_rename: bool, to_look: bool) -> tuple[Path, int]:
        # Directories can't be locked. And a directory can't be renamed while a file in it is open:
        # then the locked file is beside the directory, and disappears when it is closed.
        flags = system.os.O_RDWR | system.os.O_CREAT
        if to_rename:
            path = directory.with_name(f"{directory.name}.lock")
            return path, flags | system.os.O_TEMPORARY
        path = directory / RUN_LOCK_NAME
        return path, system.os.O_RDONLY if to_look else flags

    def _open(path: Path, flags: int) -> int:
        try:
            return open_regular(path, flags)[0]
        except PermissionError:  # a lock needs no right to write
            if not system.os.path.lexists(path):
                raise
            return open_regular(path, system.os.O_RDONLY)[0]
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise storage_error(path, "lock", error) from error
            raise
else:

    def _locked_file(directory: Path, to_rename: bool, to_look: bool) -> tuple[Path, int]:
        del to_rename, to_look
        return directory, system.os.O_RDONLY | system.os.O_DIRECTORY

    def _open(path: Path, flags: int) -> int:
        return system.os.open(path, flags)


def is_locked_under_wine(path: Path) -> bool:
    """Return whether a program under wine, which no ``flock`` hinders, has locked the file.

    Raises ``OSError``.
    """
    from journal.fs import claims  # noqa: PLC0415  (who only reads doesn't need it)

    try:
        fd, _ = open_regular(path, system.os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return claims.is_locked_under_wine(fd)
    finally:
        close_fd(fd)


def wait_for_lock(file: Descriptor, timeout_s: float) -> bool:
    """Take the lock of a file. Returns False if it isn't released within ``timeout_s`` seconds."""
    if file.try_lock():
        return True
    begin_s = now_s = time.monotonic()
    while now_s < begin_s + timeout_s:
        is_long = now_s - begin_s > _LONG_WAIT_S
        # The last digits of the clock are random enough.
        jitter_ns = time.perf_counter_ns() % (2 * _PAUSE_NS)
        time.sleep(_LONG_PAUSE_S if is_long else (_PAUSE_NS + jitter_ns) / 1e9)
        if file.try_lock():
            return True
        now_s = time.monotonic()
    return False
