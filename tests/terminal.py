"""Commands in a real terminal of a given width: what they write to it."""

import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl


def on_terminal(
    *arguments: str,
    columns: int,
    answer: str = "",
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """``journal ARGUMENTS`` on a terminal: its exit code, and what it showed, with LF as line ends.

    ``answer`` is typed before it starts; the terminal echoes it first.
    """
    left_out = ("COLUMNS", "NO_COLOR", "JOURNAL_ROOT")
    variables = {name: value for name, value in os.environ.items() if name not in left_out}
    variables |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", **(environment or {})}
    ours, theirs = pty.openpty()
    try:
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.write(ours, answer.encode())
        process = subprocess.Popen(
            [sys.executable, "-m", "journal", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=variables,
        )
    finally:
        os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    return process.wait(), text.removeprefix(answer)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # so Linux says that the other side has gone
        return b""
