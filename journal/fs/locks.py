"""Locks. The system releases a lock when the process that holds it ends."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from journal.fs import system
from journal.fs.file_names import RUN_LOCK_NAME
from journal.fs.handles import FILE_MODE, Descriptor

LOCK_TIMEOUT_S = 10.0  # how long a call waits for a lock by default
# No system call waits for a lock up to a timeout. So the lock is polled. The first pause is short,
# since a commit takes less than a millisecond. The later pauses are longer. With short pauses
# alone, the lock would pass to another process after nearly each commit. That process would have to
# wake up, and to read the commits of other processes. Processes that commit all the time would take
# four times as long. The later pauses don't grow. If they grew, a process that has waited for long
# would get the lock less often than processes that came later.
_FIRST_PAUSE_NS = 100_000
_PAUSE_NS = 5_000_000
# A random time, up to this multiple of a pause, is added to the pause. So the processes take turns.
_JITTER = 2
# A process that checks whether a lock is held takes the lock for a moment. So a run that can't take
# a lock at once tries again for this time.
PATIENCE_S = 0.25


class DirectoryLock(Descriptor):
    """The lock of a directory.

    The lock is on the directory itself. Unlike a lock file, a directory can't be deleted as long as
    it contains files. Windows can't lock a directory. There, a file is locked.
    """

    def __init__(self, directory: Path, *, to_rename: bool = False, to_look: bool = False) -> None:
        """Open the directory, or on Windows a file, to lock it. Raises ``OSError``.

        With ``to_rename``, the directory may be renamed while the lock is held. With ``to_look``,
        the caller may only call :meth:`is_held`.
        """
        self.directory = path = directory
        flags = system.os.O_RDONLY | system.os.O_DIRECTORY
        if sys.platform == "win32":
            path = directory / RUN_LOCK_NAME
            flags = system.os.O_RDWR | system.os.O_CREAT | system.os.O_NOFOLLOW
            if to_look:
                flags = system.os.O_RDONLY | system.os.O_NOFOLLOW
            if (
                to_rename
            ):  # a directory with an open file can't be renamed, so the file is beside it
                path = directory.with_name(f"{directory.name}.lock")
                flags |= system.os.O_TEMPORARY  # the file is deleted when it is closed
        super().__init__(path, system.os.open(path, flags, FILE_MODE))


def wait_for_lock(file: Descriptor, timeout_s: float) -> bool:
    """Take the lock of a file.

    Returns False if the lock isn't free within ``timeout_s`` seconds.
    """
    if file.try_lock():
        return True
    begin_s = now_s = time.monotonic()
    pause_ns = _FIRST_PAUSE_NS
    while (left_s := begin_s + timeout_s - now_s) > 0:
        # The last digits of the clock serve as the random number.
        jitter_ns = time.perf_counter_ns() % (_JITTER * pause_ns)
        time.sleep(min((pause_ns + jitter_ns) / 1e9, left_s))
        if file.try_lock():
            return True
        pause_ns, now_s = _PAUSE_NS, time.monotonic()
    return False
