"""Handlers that any worker can import. They record their calls.

The data of a row states what the handler does (``do``) and the file in which calls are recorded
(``ledger``). ``started`` and ``gate`` are FIFOs. A worker that waits writes a line to ``started``.
The worker continues when a writer has opened and closed ``gate``. On systems without FIFOs, both
are files, and the worker continues when ``gate`` is removed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import journal
from journal import JobRow

logging.getLogger("far").addHandler(journal.RowLogHandler())  # in each importing process


def note(row: JobRow | journal.AttemptedRow) -> None:
    """Append a line about this call to the ledger. Such a short write is atomic."""
    descriptor = os.open(row.data["ledger"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{row.row_number} {os.getpid()}\n".encode())
    os.close(descriptor)


def calls(ledger: Path) -> Counter[int]:
    """Return how often a handler was called for each row."""
    return Counter(int(line.split()[0]) for line in ledger.read_text().splitlines())


def pids(ledger: Path) -> set[int]:
    return {int(line.split()[1]) for line in ledger.read_text().splitlines()}


def wait_at(started: str, gate: str) -> None:
    """Write a line to ``started``, and wait until the gate is opened."""
    descriptor = os.open(started, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)
    while not hasattr(os, "mkfifo"):
        if not os.path.exists(gate):
            return
        time.sleep(0.02)
    descriptor = os.open(gate, os.O_RDONLY)  # until somebody opens it for writing
    os.read(descriptor, 1)
    os.close(descriptor)


def files_of_jobs() -> list[str]:
    """Return the paths in stores that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the path of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if "/jobs/" in path or path.endswith("/jobs")]


def act(row: JobRow | journal.AttemptedRow) -> Any:
    """Do what the row's data states."""
    note(row)
    match row.data["do"]:
        case "square":
            return row.data["n"] ** 2
        case "files":
            return files_of_jobs()
        case "raise":
            raise ValueError(f"no street {row.data['n']}")
        case "time_out":
            raise TimeoutError("slow")
        case "log":
            assert isinstance(row, journal.AttemptedRow)
            row.log("asked", "warning", n=row.data["n"])
            logging.getLogger("far").error("refused %d", row.data["n"])
            raise ConnectionError("refused")
        case "skip":
            raise journal.Skip("nothing to do")
        case "fail":
            raise journal.Fail("E7", "no such address")
        case "retry":
            if row.attempts == 1:
                raise journal.Retry(after_s=0)
            return "at last"
        case "hold":
            if row.attempts == 1:
                raise journal.Hold(after_s=0)
            return "at last"
        case "wait_once":
            return journal.Wait(0) if row.attempts == 1 else "at last"
        case "review":
            raise journal.NeedsReview("Unclear", "was it sent?")
        case "row_result":
            return journal.RowResult(result=[1], tracking_number="T-1", cost_cents=7)
        case "not_json":
            return object()
        case "own_class":

            class Answer(dict[str, int]):
                """A class that no other process can import."""

            return Answer(a=1)
        case "exit":
            sys.exit("enough")
        case "interrupt":
            raise KeyboardInterrupt
        case "fork":
            return forked(lambda: sys.exit(7))
        case "ctrl_c":
            os.kill(os.getpid(), signal.SIGINT)
            return "goes on"
        case "die":
            os.kill(os.getpid(), 9)  # SIGKILL; on Windows, it ends by force, too
        case "die_once":
            if row.attempts == 1:
                os.kill(os.getpid(), 9)  # SIGKILL; on Windows, it ends by force, too
        case "wait":
            wait_at(row.data["started"], row.data["gate"])
    return None


def act_many(rows: list[journal.AttemptedRow]) -> list[Any]:
    """Do what the data of each row states, one row after the other."""
    return [act(row) for row in rows]


FORKED_S = 10.0
_forking = threading.Lock()  # filelock refuses a fork while another thread forks


def forked(leave: Callable[[], object]) -> int | str | None:
    """Fork a child that calls ``leave``. Returns its exit status, and None in the child.

    A child that has not ended after FORKED_S seconds is ended, and the result is "lives".
    """
    with _forking:
        child = os.fork()
    if not child:
        leave()
        return None
    for _ in range(round(FORKED_S / 0.002)):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "lives"


class Counting:
    """A handler that counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _row: JobRow) -> int:
        self.count += 1
        return self.count


class Unloadable(Counting):
    """A handler that can be sent to a process, but can't be loaded there."""

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return _load_nothing, ()


def _load_nothing() -> object:
    raise RuntimeError("no model here")


class Telling:
    """A handler that sends the number of each row to a connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __call__(self, row: JobRow) -> None:
        self.connection.send(row.row_number)
