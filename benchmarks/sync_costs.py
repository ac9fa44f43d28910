"""What a sync costs that appends, and one that overwrites: ``python -m benchmarks.sync_costs``.

An append changes the file's size, so fdatasync also writes the journal of the file system. A write
into blocks that were written before doesn't. This is the most that a preallocated ring beside the
journal could save. Prints the medians and the tenth percentiles.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.floors import LINE

_RING_BYTES = 256 << 10
_SLOT_BYTES = 512
_REPEATS = 40

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no other


def _opened(path: Path, content: bytes, flags: int = 0) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags)
    os.write(fd, content)
    os.fsync(fd)
    return fd


def ways(directory: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the ways to commit a line."""
    appended = _opened(directory / "appended", LINE, os.O_APPEND)
    unsynced = _opened(directory / "unsynced", LINE, os.O_APPEND)
    mark = _opened(directory / "mark", b" " * 160)
    ring = _opened(directory / "ring", bytes(_RING_BYTES))
    slots = cycle(range(0, _RING_BYTES, _SLOT_BYTES))

    def append() -> None:
        os.write(appended, LINE)
        _sync(appended)

    def append_with_mark() -> None:
        os.write(appended, LINE)
        os.pwrite(mark, b"s" * 160, 0)
        _sync(appended)
        os.pwrite(mark, b" " * 160, 0)

    def overwrite() -> None:
        os.pwrite(ring, LINE, next(slots))
        _sync(ring)

    def append_and_overwrite() -> None:
        os.write(unsynced, LINE)
        slot = next(slots)
        os.pwrite(ring, LINE, slot)
        _sync(ring)
        if not slot:
            _sync(unsynced)

    yield "append, sync", append
    yield "the same, with sync.mark", append_with_mark
    yield "overwrite, sync", overwrite
    yield "append, overwrite, sync of the overwritten file", append_and_overwrite


def main(rounds: int) -> None:
    with TemporaryDirectory(dir=".") as directory:
        all_ways = dict(ways(Path(directory)))
        took: dict[str, list[float]] = {name: [] for name in all_ways}
        for _ in range(rounds):
            for name, way in all_ways.items():
                for _ in range(_REPEATS):
                    begin_s = time.perf_counter()
                    way()
                    took[name].append(time.perf_counter() - begin_s)
    for name, each in took.items():
        tenth_s = statistics.quantiles(each, n=10)[0]
        median_us, tenth_us = statistics.median(each) * 1e6, tenth_s * 1e6
        sys.stdout.write(f"{name}: median {median_us:.0f} µs, 10 % below {tenth_us:.0f} µs\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 25)
