"""Makes any call of ``journal.fs.system`` fail, and judges the consequences.

The package's own reports are never the only evidence. The commits are read from the bytes, by the
specification of the format. The calls that were made show which commits must survive a power cut.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from zlib import crc32

import pytest
from support.children import JOURNAL_NAME, Fault, fails
from support.system_os import SYSTEM_OS

import journal.fs.system
from journal.fs.handles import load_filelock
from journal.fs.system import fcntl

filelock = load_filelock()

_MOST_CALLS = 20_000  # no scenario makes a tenth of these calls, so an actor that makes them hangs

_OPENS = {"open", "open to write", "create"}
_NAMES = {"mkdir", "rename", "unlink", "rmdir"}
_SYNCS = {"fdatasync", "fsync"}
_WRITES = {"write", "pwrite"}
_READS = {"read", "pread"}
_LOOKS = {"stat", "fstat", "lstat", "scandir"}
_LOCKS = {"lock", "unlock", "share"}
_ALL = {*_OPENS, *_NAMES, *_SYNCS, *_WRITES, *_READS, *_LOOKS, *_LOCKS, "ftruncate", "close"}
_NOTED = _ALL - {*_READS, *_LOOKS, *_LOCKS, "close"}  # what changes what a power cut could take


class Mode(StrEnum):
    """The calls that fail from the chosen call on, until the system is healed."""

    ONCE = "once"
    SAME_CALL = "the same call"
    ALL_CALLS = "all that can"


class Kind(NamedTuple):
    """A kind of failure, and the calls that can fail so.

    ``faults`` follow one another, and the last one stays.
    """

    name: str
    calls: set[str]
    faults: tuple[Fault, ...]
    modes: tuple[Mode, ...] = tuple(Mode)
    loses: bool = False  # a failed sync drops the pages that it should have written


def reads_half(real: Callable[..., Any], descriptor: int, length: int, *offset: int) -> Any:
    return real(descriptor, max(1, length // 2), *offset)


def writes_half(real: Callable[..., Any], descriptor: int, data: bytes, *offset: int) -> Any:
    return real(descriptor, data[: max(1, len(data) // 2)], *offset)


KINDS = [
    Kind("EIO", _ALL, (fails(errno.EIO),)),
    Kind("ENOSPC", {"create", *_WRITES, *_SYNCS, *_NAMES, "ftruncate"}, (fails(errno.ENOSPC),)),
    # Python makes such a call again by itself; this is one that has given up.
    Kind(
        "EINTR",
        _OPENS | _READS | _WRITES | _LOCKS | {"ftruncate", "close"},
        (fails(errno.EINTR),),
        (Mode.ONCE,),
    ),
    # Without lstat, since a path that may not be looked at counts as existing.
    Kind("EACCES", _OPENS | _NAMES | {"stat", "scandir"}, (fails(errno.EACCES),)),
    Kind("EROFS", {"open to write", "create", *_NAMES}, (fails(errno.EROFS),)),
    Kind("EMFILE", _OPENS | {"scandir"}, (fails(errno.EMFILE),)),
    Kind("ENOLCK", {"lock", "share"}, (fails(errno.ENOLCK),)),
    Kind("short read", _READS, (reads_half,)),
    Kind("short write", _WRITES, (writes_half,)),
    Kind("short write, then ENOSPC", _WRITES, (writes_half, fails(errno.ENOSPC))),
    Kind("sync that loses", _SYNCS, (fails(errno.EIO),), loses=True),
]


class FaultySystem:
    """Stands in for ``journal.fs.system.os`` and the locks: call number ``nth`` of ``kind`` fails.

    A successful sync does nothing, since no power is cut here, and syncs would take most of the
    time.
    """

    def __init__(self, kind: Kind | None = None, mode: Mode = Mode.ONCE, nth: int = 0) -> None:
        self.ledger = Ledger()
        self.calls: Counter[str] = Counter()
        self.failed = ""  # the call that was chosen
        self.refused: set[str] = set()  # all that have raised
        self._kind, self._mode, self._nth = kind, mode, nth
        self._used = 0
        self._suspended = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def locking(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            return lambda fd, *rest, **options: self._call(
                name, lambda fd: real(fd, *rest, **options), (fd,)
            )

        monkeypatch.setattr(journal.fs.system, "os", self)
        for name in ("lock_descriptor", "unlock_descriptor"):
            word = name.removesuffix("_descriptor")
            monkeypatch.setattr(filelock, name, locking(word, getattr(filelock, name)))
        flock = SimpleNamespace(**{**vars(fcntl), "flock": locking("share", fcntl.flock)})
        monkeypatch.setattr(journal.fs.system, "fcntl", flock)

    def heal(self) -> None:
        self._kind = None

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Inside, another process is at work, and on a healthy system."""
        self._suspended = True
        try:
            yield
        finally:
            self._suspended = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM_OS, name)
        if name not in _ALL or self._suspended:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            # A view that is kept, in a traceback, pins the writer's buffer.
            if memoryview in map(type, arguments):
                arguments = tuple(bytes(a) if isinstance(a, memoryview) else a for a in arguments)
            label = _label(name, arguments)
            if not options:
                return self._call(label, real, arguments)
            descriptors = [fd for option, fd in options.items() if option.endswith("dir_fd")]
            paths = [
                f"/dev/fd/{fd}/{path}" for fd, path in zip(descriptors, arguments, strict=False)
            ]
            noted = (*paths, *arguments[len(paths) :])
            return self._call(label, partial(real, **options), arguments, noted)

        return call

    def _call(
        self,
        name: str,
        real: Callable[..., Any],
        arguments: tuple[Any, ...],
        noted: tuple[Any, ...] | None = None,
    ) -> Any:
        """``noted``: the arguments by themselves, with no directory's descriptor to go by."""
        if self._suspended:
            return real(*arguments)
        self.calls[name] += 1
        assert self.calls[name] < _MOST_CALLS, "it hangs"
        if name in _SYNCS:
            real = _check_descriptor
        fault = self._next_fault(name)
        if fault is None:
            result = real(*arguments)
        else:
            if name == "close":  # the descriptor is gone whatever close() says
                real(*arguments)
            try:
                result = fault(real, *arguments)
            except OSError:
                self.refused.add(name)
                if name in _SYNCS:
                    assert self._kind is not None
                    self.ledger.sync_failed(arguments[0], loses=self._kind.loses)
                raise
        if name in _NOTED:
            self.ledger.did(name, noted or arguments, result)
        return result

    def _next_fault(self, name: str) -> Fault | None:
        kind = self._kind
        if kind is None or name not in kind.calls:
            return None
        if not self.failed:
            self._nth -= 1
            if self._nth > 0:
                return None
            self.failed = name
        over = self._mode is Mode.ONCE and self._used == len(kind.faults)
        if over or (name != self.failed and self._mode is not Mode.ALL_CALLS):
            return None
        self._used = min(self._used + 1, len(kind.faults))
        return kind.faults[self._used - 1]


def _label(name: str, arguments: tuple[Any, ...]) -> str:
    if name == "open" and arguments[1] & os.O_CREAT:
        return "create"
    if name == "open" and arguments[1] & (os.O_RDWR | os.O_WRONLY):
        return "open to write"
    return name


def _check_descriptor(descriptor: int) -> None:
    os.fstat(descriptor)


class Ledger:
    """The data and names that a power cut could still destroy, according to the calls that were
    made.

    Bytes of files by inode and place, names by the inode of their directory.
    """

    def __init__(self) -> None:
        self._unsynced: defaultdict[int, set[int]] = defaultdict(set)
        self._never_synced: defaultdict[int, set[int]] = defaultdict(set)
        self._doubtful: defaultdict[int, set[int]] = defaultdict(set)
        self._unsynced_names: defaultdict[int, set[str]] = defaultdict(set)

    def doubt_all(self, root: Path) -> None:
        """The writer of this data may have died before its sync."""
        for path in root.glob(f"[!.]*/{JOURNAL_NAME}"):
            self._unsynced[_inode(path)] = set(range(path.stat().st_size))

    def did(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        """Take note of a call that has worked."""
        if name == "write":
            end = os.lseek(arguments[0], 0, os.SEEK_CUR)
            for places in (self._unsynced, self._never_synced):
                places[_inode(arguments[0])] |= set(range(end - result, end))
        elif name == "pwrite":
            # Data in doubt after a failed sync stays in doubt. If a block was allocated for a write
            # that failed, it may be read as zeros after the next start, whatever is written to it.
            written = set(range(arguments[2], arguments[2] + result))
            self._unsynced[_inode(arguments[0])] |= written
        elif name == "ftruncate":
            inode = _inode(arguments[0])
            for places in (self._unsynced, self._never_synced, self._doubtful):
                places[inode] = {place for place in places[inode] if place < arguments[1]}
        elif name in _SYNCS:
            self._check_not_doubtful(arguments[0])
            self._forget(_inode(arguments[0]))
        elif name == "mkdir" or (name == "create" and arguments[1] & os.O_EXCL):
            self._forget(_inode(arguments[0]))  # what had the number before
            self._doubtful.pop(_inode(arguments[0]), None)
            self._add_name(arguments[0])
        elif name == "rename":
            self._add_name(arguments[0])
            self._add_name(arguments[1])

    def _forget(self, inode: int) -> None:
        self._unsynced.pop(inode, None)
        self._never_synced.pop(inode, None)
        self._unsynced_names.pop(inode, None)

    def sync_failed(self, descriptor: int, *, loses: bool) -> None:
        """The data of the sync may be lost. With ``loses``, it is lost, and the file has NULs."""
        self._check_not_doubtful(descriptor)
        inode = _inode(descriptor)
        self._doubtful[inode] |= self._unsynced.pop(inode, set())
        lost = self._never_synced[inode]  # what was on the disk before is read back as it was
        if loses and lost:
            with open(f"/dev/fd/{descriptor}", "r+b") as file:
                file.seek(min(lost))
                file.write(bytes(max(lost) + 1 - min(lost)))

    def _check_not_doubtful(self, descriptor: int) -> None:
        """The kernel takes pages that a failed sync has dropped for clean.

        So a repeated sync would lie.
        """
        doubtful = self._doubtful[_inode(descriptor)]
        assert not doubtful, (
            f"synced again without having been cut off or written to a new file: {len(doubtful)} bytes"
        )

    def _add_name(self, path: str | os.PathLike[str]) -> None:
        self._unsynced_names[_inode(Path(path).parent)].add(Path(path).name)

    def check_kept(self, root: Path, job_ids: set[str]) -> None:
        """Nothing of these jobs, which a call has just said to have changed, can be lost."""
        names = {root.parent: {root.name}, root: job_ids}
        for job_id in job_ids:
            directory = root / job_id
            if directory.exists():  # else the name's absence is what must be kept
                names[directory] = {JOURNAL_NAME}
                inode = _inode(directory / JOURNAL_NAME)
                assert not self._unsynced[inode], f"{job_id}: acknowledged, but not synced"
                assert not self._doubtful[inode], f"{job_id}: built upon bytes in doubt"
        for path, wanted in names.items():
            missing = self._unsynced_names[_inode(path)] & wanted
            assert not missing, f"acknowledged, but the names {missing} are not synced"


def _inode(file: int | Path | str) -> int:
    return os.stat(file).st_ino


# --- what the bytes say ----------------------------------------------------------------------

_SEALED_END = re.compile(rb',"crc":"([0-9a-f]{8})"}\n')
_EACH_TIME_ANOTHER = re.compile(rb'"(at|key|id)":"[^"]*"')

Commits = dict[str, tuple[bytes, ...]]  # of each job in a store
Change = dict[
    str, tuple[bytes, ...] | None
]  # a job's new commits without times and random ids; None: deleted


def commits_in(root: Path) -> Commits:
    """The commits that their seals vouch for, read from the specification."""
    return {
        path.parent.name: _commits(path.read_bytes()) for path in root.glob(f"[!.]*/{JOURNAL_NAME}")
    }


def _commits(content: bytes) -> tuple[bytes, ...]:
    commits: list[bytes] = []
    start = crc = 0
    for match in _SEALED_END.finditer(content):
        crc = crc32(content[start : match.start()], crc)
        if b"%08x" % crc != match[1]:
            break
        commits.append(content[start : match.end()])
        start = match.end()
    return tuple(commits)


def change_between(before: Commits, after: Commits) -> Change:
    """The added data. The earlier data must be unchanged."""
    change: Change = {}
    for job_id in before.keys() | after.keys():
        old, new = before.get(job_id, ()), after.get(job_id)
        if new is None:
            change[job_id] = None
        elif new != old:
            assert new[: len(old)] == old, f"the history of {job_id} was changed"
            change[job_id] = tuple(
                _EACH_TIME_ANOTHER.sub(b"", _SEALED_END.sub(b"}", commit))
                for commit in new[len(old) :]
            )
    return change


def torn_tails_in(root: Path) -> set[bytes]:
    """The bytes after the last commit, for each journal with such bytes."""
    contents = {path.read_bytes() for path in root.glob(f"[!.]*/{JOURNAL_NAME}")}
    return {content[len(b"".join(_commits(content))) :] for content in contents} - {b""}


def locked_below(root: Path) -> list[str]:
    """The journals, directories and lock files whose lock somebody holds."""
    paths = [root / ".staging", *root.glob(f"[!.]*/{JOURNAL_NAME}"), *root.glob("[!.]*/")]
    return [str(path.relative_to(root)) for path in paths if path.exists() and _is_locked(path)]


def _is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
