"""Runs commands in a terminal, or in a separate process with pipes for the output."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Self

import pytest
from support.commands import standard_streams
from support.pipes import ready
from support.platforms import needs_terminals, skip_without

from journal.cli.main import main

LEFT_OUT = ("COLUMNS", "NO_COLOR", "JOURNAL_ROOT")
ENVIRONMENT = {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
_HANGS_AFTER_S = 60.0
_IN_TERMINAL = "import os, sys; os.login_tty(0); os.execv(sys.executable, sys.argv[1:])"


def _open_terminal(columns: int) -> tuple[int, int]:
    """Open a terminal of this width; return both ends. Skips the test if terminals are missing."""
    skip_without(needs_terminals)
    import fcntl  # noqa: PLC0415  (not on Windows)
    import pty  # noqa: PLC0415
    import termios  # noqa: PLC0415

    ours, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, there


class Command:
    """A process ``journal --root ROOT ...``, which runs until the end of a ``with`` block.

    Without ``root``, the option is left out. ``more`` is added to the environment.

    - With ``columns``, the process has a terminal of that width. ``typed`` is typed before the
      process starts. ``out`` is everything that the terminal has shown.
    - Without ``columns``, the process has pipes. ``out`` and ``err`` are what was read from the
      pipes so far.
    """

    def __init__(
        self,
        root: Path | None,
        *arguments: str,
        columns: int | None = None,
        typed: str = "",
        more: Mapping[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-W", "error", "-m", "journal"]
        command += [*([] if root is None else ["--root", str(root)]), *arguments]
        environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        environment |= {**ENVIRONMENT, **(more or {})}
        if columns is None:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self._terminal = None
            self._streams = {self.process.stdout.fileno(): b"", self.process.stderr.fileno(): b""}
        else:
            self._terminal, there = _open_terminal(columns)
            os.write(self._terminal, typed.encode())
            self.process = subprocess.Popen(
                [sys.executable, "-c", _IN_TERMINAL, *command],
                stdin=there,
                stdout=there,
                stderr=there,
                env=environment,
            )
            os.close(there)
            self._streams = {self._terminal: b""}
        self._open = set(self._streams)

    @property
    def out(self) -> str:
        return next(iter(self._streams.values())).decode()

    @property
    def err(self) -> str:
        assert self._terminal is None
        return list(self._streams.values())[-1].decode()

    def awaits(self, text: str, times: int = 1) -> None:
        """Wait until ``text`` was shown ``times`` times.

        Fails the test if the command ends or hangs.
        """
        needle, end_s = text.encode(), monotonic() + _HANGS_AFTER_S
        while sum(shown.count(needle) for shown in self._streams.values()) < times:
            assert self._read(), f"ended without {text!r}: {self._streams}"
            assert monotonic() < end_s, f"doesn't show {text!r}: {self._streams}"  # but draws

    def ends(self) -> int:
        """Wait until the command has ended. Read its remaining output, and return its exit code."""
        end_s = monotonic() + _HANGS_AFTER_S
        while self._read():
            assert monotonic() < end_s, f"doesn't end: {self._streams}"
        return self.process.wait(_HANGS_AFTER_S)

    def press(self, keys: str) -> None:
        assert self._terminal is not None
        os.write(self._terminal, keys.encode())

    def hang_up(self) -> None:
        """Close the terminal. Then the command gets SIGHUP."""
        assert self._terminal is not None
        self._open.discard(self._terminal)
        os.close(self._terminal)
        self._terminal = None

    def close_out(self) -> None:
        """Close the pipe from which the command's standard output is read."""
        assert self.process.stdout is not None
        self._open.discard(self.process.stdout.fileno())
        self.process.stdout.close()

    def _read(self) -> bool:
        if not self._open:
            return False
        readable = ready(self._open, _HANGS_AFTER_S)
        assert readable, f"it hangs: {self._streams}"
        for stream in readable:
            try:
                data = os.read(stream, 1 << 16)
            except OSError:  # what a terminal says when nobody is there any more
                data = b""
            self._streams[stream] += data
            if not data:
                self._open.discard(stream)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def on_terminal(
    *arguments: str, columns: int, answer: str = "", environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run ``journal ARGUMENTS`` on a terminal; return its exit code and output, with LF line ends.

    ``answer`` is typed before the command starts. The terminal's echo of ``answer`` is left out.
    """
    ours, there = _open_terminal(columns)
    os.write(ours, answer.encode())
    with (
        open(ours, "rb", buffering=0) as terminal,
        ThreadPoolExecutor() as pool,
        pytest.MonkeyPatch.context() as patch,
    ):
        shown = pool.submit(_all_of, terminal)
        for name in LEFT_OUT:
            patch.delenv(name, raising=False)
        for name, value in {**ENVIRONMENT, **(environment or {})}.items():
            patch.setenv(name, value)
        try:
            with standard_streams(there, there, there):
                code = main(list(arguments))
        finally:
            os.close(there)
        return code, shown.result().decode().replace("\r\n", "\n").removeprefix(answer)


def _all_of(terminal: BinaryIO) -> bytes:
    shown = b""
    with suppress(OSError):  # what a terminal says when nobody is there any more
        while data := terminal.read(1 << 16):
            shown += data
    return shown


def as_shown(out: str) -> tuple[list[str], str, set[str]]:
    """Return the lines of the alternate screen, the normal screen, and the modes that are not reset.

    ``out``: the text that was written to the terminal. Only the sequences of a live view are
    understood.
    """
    alternate: dict[int, str] = {}
    normal, modes, line = "", {"?7", "?25"}, 1
    for match in re.finditer(r"\x1b\[([?0-9;]*)([A-Za-z])|[^\x1b]+", out):
        numbers, command = match[1], match[2]
        if command in ("h", "l"):
            (modes.add if command == "h" else modes.discard)(numbers)
            alternate = {} if numbers == "?1049" and command == "h" else alternate
        elif command == "H":
            line = int(numbers.partition(";")[0])
        elif command == "K":
            alternate[line] = ""
        elif command == "J":
            alternate = {}
        elif command is None and "?1049" in modes:
            alternate[line] += match[0]
        elif command is None:
            normal += match[0]
    lines = [alternate.get(number, "") for number in range(1, max(alternate, default=0) + 1)]
    return lines, normal.replace("\r\n", "\n"), modes
