"""The run lock of a job. A run holds the lock while it works, so a job has one run at a time.

The run lock is the lock of the job's directory. If the process dies, the system releases the lock.
The file ``run.lock`` only names the holder, for messages.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from journal.errors import JobBusyError, JobNotFoundError, StorageError
from journal.format.records import now
from journal.fs import files, handles, locks, system
from journal.fs.names import JOURNAL_NAME, RUN_LOCK_NAME
from journal.model import RunHolder
from journal.text import time_text

# To check whether the lock is held, a process takes the lock for a moment. So if a run can't take
# the lock, the run tries again for this time.
_PATIENCE_S = 0.25

Identity = tuple[int, int]  # the device and the inode of a directory


class RunLock:
    """The run lock of a job, held from :meth:`take` to :meth:`release`."""

    def __init__(self, lock: locks.DirectoryLock, signature: bytes) -> None:
        """``signature``: what this process wrote to ``run.lock`` (``b""`` if it wrote nothing)."""
        self._lock = lock
        self.identity = identity_of(lock.directory) or (0, 0)
        self._signature = signature
        # Parts of the stat of run.lock when the file was last seen with this content.
        self._seen: tuple[int, ...] | None = None

    @classmethod
    def take(cls, directory: Path, job_id: str, *, sign: bool = True) -> RunLock:
        """Take the job's run lock. With ``sign``, write the name of this process to ``run.lock``.

        Raises JobBusyError, which names the holder. Also raises JobNotFoundError and StorageError.
        """
        text = b""
        try:
            lock = locks.DirectoryLock(directory)
            try:
                if not locks.wait_for_lock(lock, _PATIENCE_S):
                    raise busy_error(directory)
                if not lock.is_at_path() or not files.exists(directory / JOURNAL_NAME):  # deleted
                    raise JobNotFoundError(job_id)
                if sign:
                    text = _sign(directory / RUN_LOCK_NAME)
            except BaseException:  # close, since a caller may keep the error, and so the lock
                lock.close()
                raise
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise handles.storage_error(directory, "lock", error) from error
        return cls(lock, text)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock. False in a forked child: the parent has the lock."""
        return self._lock.fd >= 0

    @property
    def at_path(self) -> bool:
        """Whether the path still names this directory, and ``run.lock`` still names this process.

        If not, there are two possible causes:

        - The directory was moved away, and a different directory is in its place.
        - The job was copied with hard links, and another run works on the same files.
        """
        return self._lock.is_at_path() and (not self._signature or self._names_us())

    def _names_us(self) -> bool:
        path = self._lock.directory / RUN_LOCK_NAME
        try:
            stat = system.os.stat(path)
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen != self._seen:
                if files.read_small(path) not in (self._signature, b""):
                    return False
                self._seen = seen
        except FileNotFoundError:  # a deleted run.lock doesn't release the directory's lock
            return True
        except OSError as error:
            raise handles.storage_error(path, "look at", error) from error
        return True

    def release(self) -> None:
        if self.held:  # unlock first: a child between fork and exec has the file open, too
            with suppress(StorageError):
                self._lock.unlock()
        self._lock.close()


def identity_of(directory: Path) -> Identity | None:
    """Return what identifies a directory, by whatever path. None if the system doesn't say."""
    try:
        stat = system.os.stat(directory)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def busy_error(directory: Path) -> JobBusyError:
    """Make the error for a job on which another run works."""
    holder = _read_holder(directory)
    return JobBusyError(directory.name, holder.host, holder.pid, holder.started_at)


def run_holder(directory: Path) -> RunHolder | None:
    """Return the run that works on the job now, or None. Raises StorageError."""
    try:
        lock = locks.DirectoryLock(directory, to_look=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise handles.storage_error(directory, "look at", error) from error
    try:
        return _read_holder(directory) if lock.is_held() else None
    finally:
        lock.close()


def last_holder(directory: Path) -> RunHolder | None:
    """Return the last run of the job according to ``run.lock``, or None.

    The file may have been copied from another machine.
    """
    holder = _read_holder(directory)
    return holder if holder.host else None


def _sign(path: Path) -> bytes:
    """Write the name of this process to ``run.lock``; return the content."""
    holder = RunHolder(system.host_name(), system.process_id(), time_text(now()))
    text = msgspec.json.encode(holder) + b"\n"
    try:
        files.write_small(path, text)
    except FileNotFoundError:  # the directory was deleted
        raise
    except OSError as error:
        raise handles.storage_error(path, "write", error) from error
    return text


def _read_holder(directory: Path) -> RunHolder:
    """Return the holder that ``run.lock`` names.

    If the file is missing or unreadable, all fields are empty.
    """
    try:
        return msgspec.json.decode(files.read_small(directory / RUN_LOCK_NAME), type=RunHolder)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return RunHolder()
