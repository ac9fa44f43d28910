"""Which process of a broken pool died, with which row, and how.

A pool that breaks doesn't say this. It ends its other processes, too. So each process notes which
row it works on, in a file that outlives the process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import msgspec

from journal.fs import files, system
from journal.fs.directories import scratch_directory
from journal.run.outcome import Outcome, lost
from journal.run.platform.processes import status_code
from journal.store.interrupted_rows import NEIGHBOR_DIED

_BYTES = 8  # of a note: the number of a row


class Notes:
    """The notes of a pool's processes, as the driver reads them.

    ``directory`` has a file for each process, whose name is the process id.
    """

    def __init__(self) -> None:
        stack = ExitStack()
        self.directory = str(stack.enter_context(scratch_directory()))
        self.close = stack.close
        self._error: BaseException | None = None
        self._died: dict[int, str] = {}  # by row: how the row's process died

    def outcome(self, error: BaseException, executor: Executor, in_flight: list[int]) -> Outcome:
        """The outcome of a call whose pool has broken. Call this before the pool is replaced.

        ``in_flight``: the first row of each call in flight. The first of them is that of the call.
        """
        if error is not self._error:  # a pool that breaks gives all of its futures the same error
            self._error = error
            found = ((self._row(pid), how) for pid, how in _dead_processes(executor))
            self._died = {row: how for row, how in found if row in in_flight}
        if not self._died:
            return lost(error)
        how = self._died.get(in_flight[0])
        if how is not None:
            return lost(error, f"its process {how}")
        row, how = next(iter(self._died.items()))
        why = f"the process of row {row} {how}, and then the pool ended its other processes"
        return msgspec.structs.replace(lost(error, why), error_code=NEIGHBOR_DIED)

    def _row(self, pid: int) -> int:
        with suppress(OSError):  # the process died before its first row
            return int.from_bytes(Path(self.directory, str(pid)).read_bytes(), "little")
        return 0


def _dead_processes(executor: Executor) -> Iterator[tuple[int, str]]:
    """The ids of a pool's dead processes, and how each died."""
    processes = getattr(executor, "_processes", None) or {}
    by_sentinel = {process.sentinel: process for process in list(processes.values())}
    for sentinel in wait(by_sentinel, 0):
        process: Any = by_sentinel[sentinel]
        process.join(1)  # it has ended, but its exit status may come a moment later
        status = process.exitcode
        if status is not None:
            verb = "died of" if status < 0 else "exited with status"
            yield process.pid, f"{verb} {status_code(status)}"


def take_note(directory: str, row: int) -> None:
    """Note that this process works on the row. Only the first note makes system calls."""
    _note(directory, system.process_id())[:] = row.to_bytes(_BYTES, "little")


# A pool may have many runs, each with its notes. A forked process inherits the cache.
@functools.lru_cache(maxsize=4)
def _note(directory: str, process_id: int) -> Any:
    try:
        return files.map_new_file(f"{directory}/{process_id}", _BYTES)
    except OSError:  # then a death can't be explained
        return bytearray(_BYTES)
