"""What people see of a run: progress, messages, and what an interrupt of a cell does."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "an error of the bar is no error of a run or of a print",
        "progress/terminal",
        "        with suppress(Exception):  # the caller's print() must not raise an error of the bar\n",
        "        if True:\n",
        "tests/progress/test_progress.py::test_an_error_of_the_terminal_never_ends_a_run",
    ),
]
