"""A Windows console in which a test can press Ctrl-C."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.platforms import needs_windows, skip_without

# This script starts the program within its own console, and survives the events that it sends.
_HOST = """
import ctypes, subprocess, sys
kernel32 = ctypes.windll.kernel32
survives = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_ulong)(lambda event: 1)
program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
kernel32.SetConsoleCtrlHandler(survives, 1)
for line in sys.stdin:
    if line.strip() == "kill":
        program.kill()
    else:
        kernel32.GenerateConsoleCtrlEvent(int(line), 0)
program.wait()
print(program.returncode)
"""


class Console:
    """A console without a window. One program runs in it until the end of a ``with`` block."""

    def __init__(self, argv: Sequence[str], directory: Path) -> None:
        skip_without(needs_windows)
        self._shown = directory / "shown"
        with self._shown.open("wb") as shown:
            self._host = subprocess.Popen(
                [sys.executable, "-c", _HOST, *argv],
                cwd=directory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=shown,
                text=True,
                creationflags=0x0800_0000,  # CREATE_NO_WINDOW: a console of its own
            )

    def _do(self, what: str) -> None:
        assert self._host.stdin is not None
        self._host.stdin.write(f"{what}\n")
        self._host.stdin.flush()

    def press_ctrl_c(self) -> None:
        self._do("0")

    def kill(self) -> None:
        """Kill the program."""
        self._do("kill")

    def shown(self) -> str:
        """Return what the program has written to standard error so far."""
        return self._shown.read_text(encoding="utf-8")

    def ends(self) -> int:
        """Wait until the program has ended, and return its exit code."""
        code, _ = self._host.communicate(timeout=120)
        return int(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._host.kill()
        self._host.wait()
        for stream in (self._host.stdin, self._host.stdout):
            if stream is not None:
                stream.close()
