"""Counts the steps of work instead of measuring time, and interrupts work at a step.

For example, a test checks that twice the work takes less than four times the steps.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import journal

PACKAGE = str(Path(journal.__file__).parent)


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


def is_interrupted(line: int, act: Callable[[], object], below: str = PACKAGE) -> bool:
    """Raise KeyboardInterrupt where ``act()`` runs the ``line``-th line of files below a path.

    Returns whether there was such a line.
    """
    left = line

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        is_ours = code.co_filename.startswith(below) and code.co_name != "__del__"
        return at_line if is_ours else None

    def at_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if not left:
            sys.settrace(before)
            raise KeyboardInterrupt
        return at_line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        with suppress(KeyboardInterrupt):
            act()
    finally:
        sys.settrace(before)
    return not left


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

    Use this for commands that take a second, but would take hours if a regular expression
    backtracked. Steps within a regular expression can't be counted. Windows has no such limit.
    There, the time limit of the test ends the command.
    """
    command = [sys.executable, "-c", _LIMITED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
