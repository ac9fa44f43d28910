"""Counts the steps of work instead of measuring time.

For example, a test checks that twice the work takes less than four times the steps.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def calls_of(work: Callable[[], object]) -> int:
    """Return how many function calls ``work()`` makes, including calls of built-in functions."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def lines_of(work: Callable[[], object]) -> int:
    """Return how many lines of Python ``work()`` runs."""
    lines = 0

    def count(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines


def contained(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test inside a generator, so that exceptions of trace functions have no later effect.

    If a trace function raises at the end of an ``except`` block, the thread still counts as inside
    this block. Then each later exception of the thread has the handled exception as its context,
    and the frames of both may stay alive. A generator has its own handled exception, which is
    dropped when the generator ends.
    """

    @functools.wraps(test)
    def run(*arguments: Any, **keywords: Any) -> None:
        def generator() -> Iterator[None]:
            test(*arguments, **keywords)
            yield

        next(generator())

    return run


_LIMITED = """
import sys
if sys.platform != "win32":
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from journal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``journal`` with a limit of one minute of CPU time; return its output and exit code.

    Use this for commands that take a second, but would take hours if a regular expression went
    through a text again and again. Steps within a regular expression can't be counted. Windows has
    no such limit. There, the time limit of the test ends the command.
    """
    command = [sys.executable, "-c", _LIMITED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
