"""What people see of a run: progress, messages, and what an interrupt of a cell does."""

from __future__ import annotations

from mutation.patch import Patch

NOTEBOOK = "tests/display/test_notebook.py"
PROGRESS = "tests/progress/test_progress.py"
MESSAGES = "tests/progress/test_messages.py"

PATCHES = [
    Patch(
        "an interrupt of a cell that awaits arun is one of the run",
        "run/in_loop",
        "        handle_signals = task is not None and is_cell(task.get_coro())\n",
        "        handle_signals = False\n",
        NOTEBOOK,
    ),
    Patch(
        "in a notebook no command line is said to continue a run",
        "run/open_job",
        "    if is_prompt() or not arguments:\n        return []\n",
        "",
        NOTEBOOK,
    ),
    Patch(
        "an error of the bar is no error of a run or of a print",
        "progress/terminal",
        "        with suppress(Exception):  # the caller's print() must not raise an error of the bar\n",
        "        if True:\n",
        PROGRESS,
    ),
    Patch(
        "a message that no handler shows is printed",
        "progress/messages",
        "        elif not is_printed:\n",
        "        elif not _LOGGER.isEnabledFor(level):\n",
        MESSAGES,
    ),
]
