"""A disk with a volatile write cache and faults on demand, under a real file system.

The disk is a file that a FUSE process serves. A loop device uses the file, and the kernel's own
ext4, xfs or btrfs uses the loop device. Like a real drive, the disk acknowledges a write as soon as
the write is in the cache. A flush makes the write durable. The state after a power cut is mounted
beside the disk, from a copy::

    with FaultDisk("ext4", "data=writeback") as disk:
        ...                            # work below disk.mount
        disk.fail_writes(1, b'"crc":') # the next write that holds these bytes fails: EIO
        disk.fail_flushes(1)           # the next flush fails; drop=True: the cache is lost with it
        disk.slow_down(0.05)           # each flush, and each failing write, takes this time
        with disk.cut(seed=7) as cut:  # a power cut now; unflushed writes are kept by chance
            ...                        # below cut.root; the disk itself can still be used
        with disk.lose(seed=7):        # a power cut of the disk itself, for the block
            ...                        # kill the users of the disk; it is mounted anew at the end

A keeper, which is a separate process, waits for the end of the process that uses the disk. Then the
keeper unmounts everything, even if that process was killed. Nothing hangs for ever. The FUSE
process ends by itself after ``LIFETIME_S``. Then each call that waits for the disk gets an error.

Run as a program, this module is the FUSE process.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

KINDS = ("ext4", "xfs", "btrfs")
LIFETIME_S = 600
COMMAND_S = 30
# The unit that a drive writes as a whole, since a btrfs doesn't survive half of its superblock.
_SECTOR_BYTES = {"ext4": 512, "xfs": 512, "btrfs": 4096}
REQUEST_KB = 4  # many small writes: more states; FUSE takes at most 128 at a time

DISK_NAME = "disk"  # and a number: how often it has lost its power

# The beginning of each reason to skip a test that needs such a disk. No other reason begins so.
NO_FAULT_DISK = "no disk with faults can be made here: "

_SIZES = {"ext4": "64M", "xfs": "320M", "btrfs": "256M"}
_MAKE = {
    "ext4": "mkfs.ext4 -q -F -b 4096 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    "xfs": "mkfs.xfs -q -f -K",
    "btrfs": "mkfs.btrfs -q -f -K",
}
# A copy of a file system is mounted beside it.
_COPY_OPTIONS = {"ext4": "loop", "xfs": "loop,nouuid", "btrfs": "loop"}

# Ends with the process that uses the disk, or after a line from it. A mount by "loop" removes its
# device itself.
_KEEPER = """
trap '' INT HUP TERM
read -r _
for mount in "$1"/cut-*/mount "$1/mount" "$1/fuse"; do
    findmnt "$mount" >/dev/null || continue
    timeout -k 1 20 umount "$mount" 2>/dev/null || umount -l "$mount"
done
rm -rf --one-file-system "$1"
"""


class Cut(NamedTuple):
    """The state after a power cut: its mount point, the number of writes, and how many of them are
    there.
    """

    root: Path
    pending: int
    kept: int
    torn: int


def why_no_fault_disk() -> str | None:
    """The reason to skip a test if something is missing here, or None if a disk can be made."""
    lacking = [name for name, there in _needed().items() if not there()]
    return f"{NO_FAULT_DISK}there is no {', '.join(lacking)}" if lacking else None


def _needed() -> dict[str, Callable[[], bool]]:
    tools = ["losetup", "findmnt", *(f"mkfs.{kind}" for kind in KINDS)]
    return {
        "Linux 6.7 or newer": _is_new_linux,  # older ones don't mount a copy of a btrfs
        "root, who may mount": _may_mount,
        "FUSE": lambda: _opens("/dev/fuse"),
        "loop devices": lambda: _opens("/dev/loop-control") and _has_free_loop(),
        **{name: _found(name) for name in tools},
        **{f"{kind} in the kernel": _in_kernel(kind) for kind in KINDS},
        "mfusepy with libfuse": _has_mfusepy,
    }


def _is_new_linux() -> bool:
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    version = tuple(map(int, found.groups())) if found else (0, 0)
    return sys.platform == "linux" and version >= (6, 7)


def _may_mount() -> bool:
    status = Path("/proc/self/status")
    if not hasattr(os, "geteuid") or os.geteuid() or not status.exists():
        return False
    (mask,) = [line for line in status.read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(mask.split()[1], 16) >> 21 & 1)  # CAP_SYS_ADMIN


def _opens(device: str) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        return False
    return True


def _has_free_loop() -> bool:
    if shutil.which("losetup") is None:
        return False
    done = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and os.path.exists(done.stdout.strip())


def _found(tool: str) -> Callable[[], bool]:
    return lambda: shutil.which(tool) is not None


def _in_kernel(kind: str) -> Callable[[], bool]:
    def there() -> bool:
        listed = Path("/proc/filesystems")
        if not listed.exists():
            return False
        if kind not in listed.read_text().split() and shutil.which("modprobe"):
            subprocess.run(["modprobe", "-q", kind], capture_output=True, check=False)
        return kind in listed.read_text().split()

    return there


def _has_mfusepy() -> bool:
    try:
        import mfusepy  # noqa: F401, PLC0415
    except (ImportError, OSError):  # OSError: there is no libfuse
        return False
    return True


class FaultDisk:
    """See the module. ``options`` are those of mount."""

    def __init__(self, kind: str, options: str = "") -> None:
        self.kind = kind
        self._options = f"loop,{options}" if options else "loop"
        self._server: subprocess.Popen[str] | None = None
        self._number = 0
        self._lock = threading.Lock()  # one question to the server at a time

    def __enter__(self) -> Self:
        from support.memory import fast_directory  # noqa: PLC0415  (not in the process of the disk)

        self._dir = fast_directory(f"fault-disk-{self.kind}-")
        self.mount, fuse, base = (self._dir / name for name in ("mount", "fuse", "base"))
        self._keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, "keeper", self._dir],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for who uses the disk
        )
        try:
            self.mount.mkdir()
            fuse.mkdir()
            run("truncate", "-s", _SIZES[self.kind], base)
            run(*_MAKE[self.kind].split(), base)
            self._server = subprocess.Popen(
                [sys.executable, __file__, fuse, base, str(_SECTOR_BYTES[self.kind])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._ask("wait until it is there")
            self._mount()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._take_down()

    def _take_down(self) -> None:
        server, stdin = self._server, self._keeper.stdin
        assert stdin is not None
        try:
            if server is not None and server.poll() is None:
                self.heal()
        finally:
            stdin.close()
            try:
                self._keeper.wait(2 * COMMAND_S)
            finally:
                if server is not None:
                    server.kill()  # what still waits for the disk gets an error
                    server.communicate()

    def _mount(self) -> None:
        image = self._dir / "fuse" / f"{DISK_NAME}{self._number}"
        run("mount", "-o", self._options, image, self.mount)
        _limit_requests(self.mount)

    def unmount(self) -> None:
        """Cleanly: what the file system still holds is written, as far as the disk takes it."""
        run("umount", self.mount)

    def fail_writes(self, count: int, pattern: bytes = b"") -> None:
        """The next ``count`` writes that hold ``pattern`` fail, and nothing of them is written."""
        self._ask("fail writes", count, pattern.decode("latin-1"))

    def fail_flushes(self, count: int, *, drop: bool = False) -> None:
        """The next ``count`` flushes fail; ``drop``: and what was cached is gone."""
        self._ask("fail flushes", count, drop)

    def slow_down(self, seconds: float) -> None:
        """Each flush, and each failing write, takes this time."""
        self._ask("slow down", seconds)

    def heal(self) -> None:
        """No more faults, and quick."""
        self._ask("heal")

    def failures(self) -> int:
        """The number of failed writes and flushes."""
        failed: int = self._ask("failures")
        return failed

    @contextmanager
    def cut(self, seed: int | None = None) -> Iterator[Cut]:
        """The state after a power cut at this moment, mounted for the block. The disk itself goes
        on.

        All unflushed writes are lost. With a ``seed``, a random choice of them is there, in a
        random order, and some are torn at a sector.
        """
        with tempfile.TemporaryDirectory(prefix="cut-", dir=self._dir) as name:
            image, mount = Path(name) / "image", Path(name) / "mount"
            mount.mkdir()
            counts = self._ask("cut", str(image), seed)
            run("mount", "-o", _COPY_OPTIONS[self.kind], image, mount)
            try:
                yield Cut(mount, *counts)
            finally:
                run("umount", mount)

    @contextmanager
    def lose(self, seed: int | None = None) -> Iterator[Cut]:
        """The power goes now, as in :meth:`cut`, and comes back after the block, without faults.

        Within the block, all writes and flushes fail, and the users of the disk must be killed. The
        file system is mounted anew, from a file with another name. So neither cached blocks nor
        late writes of the kernel can change the state after the cut.
        """
        counts = self._ask("power off", seed)
        self._number += 1
        yield Cut(self.mount, *counts)
        run("umount", self.mount)
        self._mount()

    def _ask(self, *words: object) -> Any:
        server = self._server
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        with self._lock:
            server.stdin.write(json.dumps(words) + "\n")
            server.stdin.flush()
            answer = server.stdout.readline()
        if not answer:
            raise RuntimeError("the disk's process has ended")
        return json.loads(answer)


def _limit_requests(mount: Path) -> None:
    """Make each request to the loop device one request to FUSE.

    If the second of two requests failed, the loop device would count the first request as all,
    without an error.
    """
    words = ["findmnt", "-n", "-o", "SOURCE", str(mount)]
    device = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    queue = Path("/sys/block") / Path(device).name / "queue"
    (queue / "max_sectors_kb").write_text(str(REQUEST_KB))


def run(*words: object) -> None:
    """Run a command that must succeed, and soon."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{words[0]} {words[1:]}: {done.stderr.strip()}")


# --- the process that serves it ----------------------------------------------------------------


class Platter:
    """The content of the disk and of its cache, and the planned faults."""

    def __init__(self, base: str, sector_bytes: int) -> None:
        self.size = os.path.getsize(base)
        self.slow_s = 0.0
        self._base = base
        self._sector_bytes = sector_bytes
        self._fd = os.open(base, os.O_RDWR)  # what is durable
        self._lock = threading.Lock()
        self._pending: list[tuple[int, bytes]] = []  # in the order of the writes
        self._failing_writes = 0
        self._pattern = b""
        self._failing_flushes = 0
        self._drop = False
        self._failed = 0
        self._number = 0

    def read(self, length: int, offset: int) -> bytes:
        with self._lock:
            data = bytearray(os.pread(self._fd, length, offset))
            end = offset + len(data)
            for at, piece in self._pending:
                first, last = max(at, offset), min(at + len(piece), end)
                if first < last:
                    data[first - offset : last - offset] = piece[first - at : last - at]
            return bytes(data)

    def write(self, path: str, data: bytes, offset: int) -> bool:
        """Whether it is in the cache."""
        with self._lock:
            fails = self._failing_writes > 0 and self._pattern in data
            if fails:
                self._failing_writes -= 1
                self._failed += 1
            elif self._has_power(path):
                self._pending.append((offset, data))
            fails = fails or not self._has_power(path)
        if fails:
            time.sleep(self.slow_s)
        return not fails

    def flush(self, path: str) -> bool:
        """Whether all writes are durable."""
        time.sleep(self.slow_s)
        with self._lock:
            if not self._has_power(path):
                return False
            fails = self._failing_flushes > 0
            if fails:
                self._failing_flushes -= 1
                self._failed += 1
            else:
                _apply(self._fd, self._pending)
            if not fails or self._drop:
                self._pending.clear()
            return not fails

    def _has_power(self, path: str) -> bool:
        return path == f"/{DISK_NAME}{self._number}"

    def answer(self, words: list[Any]) -> object:
        with self._lock:
            match words:
                case ["wait until it is there"]:
                    return None
                case ["heal"]:
                    self._heal()
                    return None
                case ["fail writes", count, pattern]:
                    self._failing_writes, self._pattern = count, pattern.encode("latin-1")
                    return None
                case ["fail flushes", count, drop]:
                    self._failing_flushes, self._drop = count, drop
                    return None
                case ["slow down", seconds]:
                    self.slow_s = seconds
                    return None
                case ["failures"]:
                    return self._failed
                case ["cut", image, seed]:
                    subprocess.run(["cp", "--sparse=always", self._base, image], check=True)
                    with open(image, "r+b", buffering=0) as file:
                        return self._keep_some(file.fileno(), seed)
                case ["power off", seed]:
                    counts = self._keep_some(self._fd, seed)
                    self._heal()
                    self._pending.clear()
                    self._number += 1
                    return counts
                case _:
                    raise ValueError(words)

    def _heal(self) -> None:
        self._failing_writes = self._failing_flushes = 0
        self.slow_s = 0.0

    def _keep_some(self, fd: int, seed: int | None) -> tuple[int, int, int]:
        """The numbers of unflushed writes, of kept writes among them, and of torn writes among the
        kept ones.
        """
        draw, writes = Random(seed), self._pending
        # Few, half or most of the writes; in their order, or in any; some of them torn.
        share = 0.0 if seed is None else draw.choice((0.1, 0.5, 0.9))
        kept = [write for write in writes if draw.random() < share]
        if draw.random() < 0.5:
            draw.shuffle(kept)
        parts = [self._torn(write, draw) if draw.random() < 0.2 else write for write in kept]
        _apply(fd, parts)
        torn = sum(part != write for part, write in zip(parts, kept, strict=True))
        return len(writes), len(kept), torn

    def _torn(self, write: tuple[int, bytes], draw: Random) -> tuple[int, bytes]:
        """A run of its sectors."""
        offset, data = write
        size = self._sector_bytes
        sectors = -(-len(data) // size)
        first = draw.randrange(sectors)
        end = draw.randint(first + 1, sectors)
        return offset + first * size, data[first * size : end * size]


def _apply(fd: int, writes: list[tuple[int, bytes]]) -> None:
    for at, piece in writes:
        os.pwrite(fd, piece, at)


def serve(mount_point: str, base: str, sector_bytes: str) -> None:
    import mfusepy  # noqa: PLC0415  (only who makes a disk needs it)

    platter = Platter(base, int(sector_bytes))
    owner = {"st_uid": 0, "st_gid": 0, "st_atime": 0, "st_mtime": 0, "st_ctime": 0}
    directory = {**owner, "st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
    file = {**owner, "st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": platter.size}

    class Operations(mfusepy.Operations):  # type: ignore[misc]  # it has no types
        use_ns = True

        def getattr(self, path: str, _fh: int | None = None) -> dict[str, int]:
            if path != "/" and not path.startswith(f"/{DISK_NAME}"):
                raise mfusepy.FuseOSError(errno.ENOENT)
            return directory if path == "/" else file

        def readdir(self, _path: str, _fh: int) -> list[str]:
            return [".", ".."]

        def open(self, _path: str, _flags: int) -> int:
            return 1

        def read(self, _path: str, size: int, offset: int, _fh: int) -> bytes:
            return platter.read(size, offset)

        def write(self, path: str, data: bytes, offset: int, _fh: int) -> int:
            if not platter.write(path, bytes(data), offset):
                raise mfusepy.FuseOSError(errno.EIO)
            return len(data)

        def fsync(self, path: str, _datasync: int, _fh: int) -> int:
            if not platter.flush(path):
                raise mfusepy.FuseOSError(errno.EIO)
            return 0

        def init(self, _path: str) -> None:
            threading.Thread(target=_listen, args=(platter,), daemon=True).start()

    signal.alarm(LIFETIME_S)
    options = {"big_writes": True} if mfusepy.fuse_version_major == 2 else {}
    mfusepy.FUSE(Operations(), mount_point, foreground=True, nothreads=True, **options)


def _listen(platter: Platter) -> None:
    for line in sys.stdin:
        print(json.dumps(platter.answer(json.loads(line))), flush=True)
    platter.answer(["heal"])  # who used it has ended


if __name__ == "__main__":
    serve(*sys.argv[1:])
