"""The run lock: held for as long as one run works on a job, freed by the system when it dies.

It is the lock of the job's directory. ``run.lock`` in there only names the holder, for people.
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

# Looking who holds the lock takes it for an instant, so a try that fails is repeated for a while.
_PATIENCE_S = 0.25


class RunLock:
    """Held from :meth:`take` to :meth:`release`."""

    def __init__(self, lock: locks.DirectoryLock, signature: bytes) -> None:
        """``signature``: what ``run.lock`` says of us; empty if it says nothing."""
        self._lock = lock
        self._signature = signature
        self._seen: tuple[int, ...] | None = None  # of the file, when it was found to hold that

    @classmethod
    def take(cls, directory: Path, job_id: str, *, sign: bool = True) -> RunLock:
        """Hold the job's run lock, or raise JobBusyError with its holder."""
        text = b""
        try:
            lock = locks.DirectoryLock(directory)
            try:
                if not locks.wait_for_lock(lock, _PATIENCE_S):
                    raise busy_error(directory, job_id)
                if not lock.is_at_path() or not files.exists(directory / JOURNAL_NAME):  # deleted
                    raise JobNotFoundError(job_id)
                if sign:
                    text = _sign(directory / RUN_LOCK_NAME)
            except BaseException:  # the error may be kept, and the lock with it
                lock.close()
                raise
        except (FileNotFoundError, NotADirectoryError):
            raise JobNotFoundError(job_id) from None
        except OSError as error:
            raise handles.storage_error(directory, "lock", error) from error
        return cls(lock, text)

    @property
    def held(self) -> bool:
        """False in a forked child: the lock stays with the parent."""
        return self._lock.fd >= 0

    @property
    def at_path(self) -> bool:
        """Whether the job is where it was, and no other run has written its name beside it.

        Else the directory was moved away, and what is there now is another one; or it was copied
        with hard links, and another run works on the same files.
        """
        return self._lock.is_at_path() and (not self._signature or self._names_us())

    def _names_us(self) -> bool:
        path = self._lock.path / RUN_LOCK_NAME
        try:
            stat = system.os.stat(path)
            seen = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen != self._seen:
                if files.read_small(path) not in (self._signature, b""):
                    return False
                self._seen = seen
        except FileNotFoundError:  # somebody has tidied up: the lock is the directory's
            return True
        except OSError as error:
            raise handles.storage_error(path, "look at", error) from error
        return True

    def release(self) -> None:
        if self.held:  # unlocked, not only closed: a command may be between its fork and exec
            with suppress(StorageError):
                self._lock.unlock()
        self._lock.close()


def busy_error(directory: Path, job_id: str) -> JobBusyError:
    """What to raise when another run holds the job."""
    holder = _read_holder(directory)
    return JobBusyError(job_id, holder.host, holder.pid, holder.started_at)


def run_holder(directory: Path) -> RunHolder | None:
    """Who works on the job in ``directory`` now; None if nobody does. Raises StorageError."""
    try:
        lock = locks.DirectoryLock(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise handles.storage_error(directory, "look at", error) from error
    try:
        return _read_holder(directory) if lock.is_held() else None
    finally:
        lock.close()


def last_holder(directory: Path) -> RunHolder | None:
    """Who ran the job in ``directory`` last, as far as the file says that came along with it."""
    holder = _read_holder(directory)
    return holder if holder.host else None


def _sign(path: Path) -> bytes:
    """Write down who holds the lock; what is written."""
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
    """Who wrote its name last; an empty name if nobody has, or it can't be read."""
    try:
        return msgspec.json.decode(files.read_small(directory / RUN_LOCK_NAME), type=RunHolder)
    except (msgspec.MsgspecError, UnicodeDecodeError, OSError):
        return RunHolder()
