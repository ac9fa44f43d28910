"""Runs the command `journal`, in the process of the test or in a separate process.

Without a separate process, a quick command takes much less time, since Python needn't start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile

import pytest
from support.paths import TOP

from journal.cli.main import main

PYTHON = (sys.executable, "-S", "-c")  # code of the standard library that starts quickly
_EACH_IN_A_FORK = """
import json, os, sys, tempfile
from journal.cli.main import main

for words in json.loads(sys.argv[1]):
    files = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    if not (child := os.fork()):
        for descriptor, file in enumerate(files, 1):
            os.dup2(file.fileno(), descriptor)
            file.close()
        sys.exit(main(words))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shown = []
    for file in files:
        with file:
            file.seek(0)
            shown.append(file.read().decode())
    print(json.dumps([code, *shown]), flush=True)
"""


def journal(
    *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``journal`` with this standard input and environment; return its output and exit code.

    The command runs in this process. Its standard streams are descriptors 0 to 2, so that programs
    that the command starts inherit them. The whole text is written to a pipe before the command
    starts, so it must not be longer than 4 KiB. A test that needs a separate process, for example
    because of signals, must use ``journal_process``.
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
    """Run ``journal`` in a separate process; return its output and exit code."""
    return subprocess.run(
        [sys.executable, "-m", "journal", *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def journal_forks(
    prefix: Sequence[str], *commands: Sequence[str]
) -> list[subprocess.CompletedProcess[str]]:
    """Run ``journal`` once for each of the commands, below ``prefix``; return outputs and exit codes.

    Each command runs in a fork of one separate process, since the start of Python takes most of the
    time of a quick command. Fails the test if all of them together take over a minute.
    """
    line = [*prefix, sys.executable, "-W", "error", "-c", _EACH_IN_A_FORK, json.dumps(commands)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    answers = map(json.loads, done.stdout.splitlines())
    return [
        subprocess.CompletedProcess(command, *answer)
        for command, answer in zip(commands, answers, strict=True)
    ]


@contextmanager
def standard_streams(*descriptors: int) -> Iterator[None]:
    """During a ``with`` block, use these descriptors as standard input, output and error."""
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
