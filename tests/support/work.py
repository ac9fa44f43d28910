"""Work that is counted, and not timed: twice as much to do must not take four times the steps."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def calls_of(work: Callable[[], object]) -> int:
    """How many functions are called while ``work`` is done, those of built-in types included."""
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
    """How many lines of Python are run while ``work`` is done."""
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
    """Keep what a raising trace function leaves behind within the test.

    If a trace function raises where a handler of an exception ends, the thread stays in that
    handler. Each later exception of the thread then has the handled one as its context, and its
    frames may stay alive. A generator has a handled exception of its own, which ends with it.
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
    """``journal`` for what takes it a second, and hours if a text is gone through again and again.

    That can't be counted within a regular expression. The system ends it after a minute of work, if it can (Windows
    can't; there the test's own time-out does).
    """
    command = [sys.executable, "-c", _LIMITED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
