"""Compares a file's state or checksum to find out whether the file has changed since it was read.

The time of a file's last change has at best the resolution of the system's clock. If a file changes
just before it is read, it may change again within the same tick of that clock. Its size and times
may then stay the same, so only a checksum of the whole file shows the change.
"""

from __future__ import annotations

import os
import stat
from typing import IO

import msgspec

from journal.format.values import load_sha256
from journal.fs import system

_END_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
# The longest tick of all file systems. FAT has it.
_TICK_NS = 2_000_000_000


class FileState(msgspec.Struct, frozen=True):
    """The state of a file, to find changes. ``ends``: SHA-256 of its first and last 64 KiB."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    ends: str


class ReadState(msgspec.Struct, frozen=True):
    """The state of a file when it was read.

    ``sha256``: the checksum of the whole file, or "" if ``state`` is enough to find changes.
    """

    state: FileState
    sha256: str = ""


def read_state(path: str, *, before: ReadState | None = None) -> ReadState | None:
    """The state of the file now; None if it can't be read, or is no regular file.

    Call this function before the file is read, and again afterwards with the first result as
    ``before``. If both results are equal, the file has not changed in between.

    A call without ``before`` computes the checksum of the whole file if the file's last change is
    so recent that :class:`FileState` might not show the next change. A call with ``before``
    computes the checksum if ``before`` has a checksum.
    """
    now_ns = system.now_ns()
    if not os.path.isfile(path):  # opening a pipe would wait for its writer
        return None
    try:
        with open(path, "rb", buffering=0) as file:
            state = _state(file)
            if state is None:
                return None
            recent = now_ns - max(state.mtime_ns, state.ctime_ns) < _TICK_NS
            is_needed = recent if before is None else bool(before.sha256)
            return ReadState(state, _sha256(file) if is_needed else "")
    except OSError:
        return None


def _state(file: IO[bytes]) -> FileState | None:
    found = system.os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        return None
    digest = load_sha256()(system.os.pread(file.fileno(), _END_BYTES, 0))
    begin = max(found.st_size - _END_BYTES, 0)
    digest.update(system.os.pread(file.fileno(), _END_BYTES, begin))
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return FileState(found.st_dev, found.st_ino, found.st_size, *times, digest.hexdigest())


def _sha256(file: IO[bytes]) -> str:
    digest = load_sha256()(b"")
    file.seek(0)
    while data := file.read(_PIECE_BYTES):
        digest.update(data)
    text: str = digest.hexdigest()
    return text
