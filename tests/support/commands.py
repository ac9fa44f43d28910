"""`journal` with its output in files: in the process of the test, or in one of its own.

Most of the time of a quick command goes by for the start of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile

import pytest
from support.paths import TOP

from journal.cli.main import main


def journal(
    *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What ``python -m journal`` prints and returns that reads this text in this environment.

    Its standard streams are descriptors 0 to 2, so that programs that it starts inherit them. The
    text is written to the pipe as a whole: 4 KiB fit on every system. A test of what a process has
    for itself, such as signals, needs ``journal_process``.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(sys, "argv", [str(TOP / "journal" / "__main__.py")])  # for commands to paste
        for name, value in environment.items():
            patch.setenv(name, value)
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        os.write(writing, text.encode())
        os.close(writing)
        out, err = (stack.enter_context(TemporaryFile()) for _ in range(2))
        with standard_streams(reading, out.fileno(), err.fileno()):
            code = main(list(arguments))
        shown = []
        for file in (out, err):
            file.seek(0)
            shown.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, code, *shown)


def journal_process(
    *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """What ``journal`` returns, by a process that may be killed."""
    return subprocess.run(
        [sys.executable, "-m", "journal", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@contextmanager
def standard_streams(*descriptors: int) -> Iterator[None]:
    """These descriptors are the standard input, output and error of this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for number, (name, descriptor) in enumerate(
            zip(("stdin", "stdout", "stderr"), descriptors, strict=True)
        ):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(descriptor, number)
            mode, buffering = ("w", 1) if number == 2 else ("r" if number == 0 else "w", -1)
            stream = stack.enter_context(
                open(number, mode, buffering, encoding="utf-8", newline="", closefd=False)
            )
            patch.setattr(sys, name, stream)
        yield
