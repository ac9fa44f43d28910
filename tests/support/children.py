"""Helpers for the tests of crashes, processes, damage and faults."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any, Self
from zlib import crc32

from support.activation import Injected
from support.pipes import ready
from support.system_os import SYSTEM_OS

import journal
from journal import Job, JobRow, JobService

JOURNAL_NAME = "journal.jsonl"
SEAL_BYTES = 18

_PRELUDE = """\
import json, os, random, signal, sys
{imports}

def tell(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def hear():
    line = b""
    while not line.endswith(b"\\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(0)  # the test has ended
        line += byte
    return line.decode().strip()

root, job_id = sys.argv[1:3]
"""


class Child:
    """A Python process that runs a script, and exchanges lines with the test.

    The script can use the functions ``tell`` and ``hear``, and the variables ``root`` and
    ``job_id``. Further arguments are in ``sys.argv[3:]``.
    """

    def __init__(self, script: str, root: Path, job_id: str, *arguments: object) -> None:
        # Only these names, since importing the modules for all names would take most of the time.
        names = sorted({*re.findall(r"\w+", script)}.intersection(journal.__all__))
        imports = f"from journal import {', '.join(names)}" if names else ""
        code = _PRELUDE.replace("{imports}", imports) + dedent(script)
        command = [sys.executable, "-W", "error", "-c", code]
        self._process = subprocess.Popen(
            [*command, str(root), job_id, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._heard = b""
        self.pid = self._process.pid

    def tell(self, line: str) -> None:
        self._stdin.write(line.encode() + b"\n")

    def hear(self) -> str:
        """Return the next line from the child. Fails the test if the child has ended or hangs."""
        while b"\n" not in self._heard:
            data = self._read()
            assert data, f"the child ended ({self._process.wait()}) having said {self._heard!r}"
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def rest(self) -> list[str]:
        """Wait until the child has ended. Return all lines that weren't heard before."""
        while data := self._read():
            self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        return [line.decode() for line in lines]

    def _read(self) -> bytes:
        assert ready([self._stdout.fileno()], 120), "the child hangs"
        return os.read(self._stdout.fileno(), 1 << 16)

    def kill(self) -> None:
        """Kill the child with SIGKILL, and wait until it has ended."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Wait until the child has ended, and return its exit status."""
        return self._process.wait()

    def end(self) -> None:
        """Close the child's standard input. Wait until the child and its forks have ended.

        Fails the test if the exit status of the child isn't 0.
        """
        self._stdin.close()
        while self._read():
            pass
        assert self._process.wait() == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stdin.close()
        self.kill()
        self._stdout.close()


def processes_with(name: str, value: str) -> list[int]:
    """The living processes with this variable in their environment.

    Their children have the variable, too.
    """
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{name}={value}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def wait_until_it_has_looked(pid: int) -> None:
    """Wait until a process's main thread, which handles signals, has been awake and waits again."""
    before = _waits_of(pid)
    while _waits_of(pid) < before + 2:
        os.sched_yield()


def _waits_of(pid: int) -> float:
    """How often the main thread has begun to wait. Infinite if the thread has ended."""
    told = Path(f"/proc/{pid}/status").read_text()
    if "\nState:\tZ" in told:  # it has ended
        return math.inf
    return int(told.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


# --- journals as bytes -----------------------------------------------------------------------


def journal_path(root: Path, job_id: str) -> Path:
    return root / job_id / JOURNAL_NAME


def place_journal(root: Path, job_id: str, content: bytes) -> Path:
    """Make a job that consists of a journal with this content. Return the path of the journal."""
    path = journal_path(root, job_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def seal_commits(commits: Iterable[Sequence[bytes]]) -> bytes:
    """Return a journal of these commits. A commit is a list of records as JSON, without a seal.

    The seals (chained CRC-32) are made from the specification, without the package's own encoder.
    """
    content, crc = bytearray(), 0
    for records in commits:
        body = b"\n".join(records)[:-1]
        crc = crc32(body, crc)
        content += body + b',"crc":"%08x"}\n' % crc
    return bytes(content)


def append_commit(path: Path, *records: bytes) -> None:
    """Append a commit with a valid seal to a journal. The records may be invalid."""
    content = path.read_bytes()
    body = b"\n".join(records)[:-1]
    crc = crc32(body, int(content[-11:-3], 16))
    path.write_bytes(content + body + b',"crc":"%08x"}\n' % crc)


def split_commits(content: bytes) -> list[bytes]:
    """Return the bytes of each commit of a good journal."""
    commits: list[bytes] = []
    lines: list[bytes] = []
    for line in content.splitlines(keepends=True):
        lines.append(line)
        if line[-SEAL_BYTES - 1 :].startswith(b',"crc":"'):
            commits.append(b"".join(lines))
            lines.clear()
    assert not lines
    return commits


def read_all(root: Path, job_id: str) -> tuple[Job | None, list[JobRow]]:
    """Return the job and its rows as a newly opened service reads them."""
    with JobService(root, sync="none") as service:
        return service.get_job(job_id), list(service.get_rows(job_id))


# --- faults ----------------------------------------------------------------------------------

Fault = Callable[..., Any]


def fails(number: int) -> Fault:
    """Return a fault that does nothing, and raises OSError with this errno."""

    def fault(_real: Callable[..., Any], *_arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fault


def works(real: Callable[..., Any], *arguments: Any) -> Any:
    """Make the real call. Put this before a fault to let earlier calls succeed."""
    return real(*arguments)


def writes_half(real: Callable[..., Any], descriptor: int, data: bytes) -> Any:
    """Write only the first half of the data."""
    return real(descriptor, memoryview(data)[: len(data) // 2])


def counted(fault: Fault, injected: Injected, *, may_pass: bool = False) -> Fault:
    """Return a fault that counts its calls. A call with the effect of ``works`` isn't counted as a
    fault, even if it also does something else.

    With ``may_pass``, a call with this effect doesn't count at all. So a call with another effect
    must follow.
    """

    def call(real: Callable[..., Any], *arguments: Any) -> Any:
        made: list[tuple[Any, Any]] = []

        def noted(*given: Any) -> Any:
            made.append((given, result := real(*given)))
            return result

        passed = False
        try:
            result = fault(noted, *arguments)
            passed = made == [(arguments, result)]
            return result
        finally:
            injected.count += not (passed and may_pass)
            injected.faults += not passed

    return call


class Memory:
    """Bytes that can be read like a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FaultyOs:
    """Replaces ``journal.fs.system.os``.

    Makes the real calls, except those with a planned fault. A fault that never took effect fails
    the test.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self._faults: dict[str, list[Fault]] = {}
        self._made: dict[str, Callable[..., Any]] = {}

    def plan(self, name: str, *faults: Fault) -> None:
        """Use each fault for one of the next calls of ``os.<name>``. Later calls are real again.

        Each must be called. A function that makes the real call and does something else isn't a
        fault.
        """
        self._faults[name] = [
            fault if fault is works else counted(fault, Injected(f"fault {number} of os.{name}"))
            for number, fault in enumerate(faults, 1)
        ]

    def always(self, name: str, fault: Fault) -> None:
        """Use the fault for each call. Calls with the effect of ``works`` don't count."""
        injected = Injected(f"the fault of each os.{name}")
        self._faults[name] = [counted(fault, injected, may_pass=True)] * 1000

    def heal(self) -> None:
        self._faults.clear()

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM_OS, name)
        if not callable(real) or isinstance(real, type):
            return real
        if name in self._made:  # shutil.rmtree compares functions by "is"
            return self._made[name]

        def call(*arguments: Any, **options: Any) -> Any:
            # A view that a record or a traceback keeps would pin the writer's buffer.
            arguments = tuple(bytes(a) if isinstance(a, memoryview) else a for a in arguments)
            self.calls.append((name, arguments))
            faults = self._faults.get(name)
            bound = partial(real, **options)
            return faults.pop(0)(bound, *arguments) if faults else bound(*arguments)

        self._made[name] = call
        return call
