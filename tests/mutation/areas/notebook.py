"""What people see of a run: progress, messages, and what an interrupt of a cell does."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "an interrupt of a cell that awaits arun is one of the run",
        "run/caller",
        "            handle_signals = task is not None and is_cell(task.get_coro())\n",
        "            handle_signals = False\n",
        "tests/display/test_notebook.py::test_an_interrupt_of_a_cell_drains_and_the_cell_run_again_continues",
    ),
    Patch(
        "in a notebook no command line is said to continue a run",
        "display/session",
        "    if is_prompt() or not arguments:\n        return []\n",
        "",
        "tests/display/test_notebook.py::test_an_interrupt_of_a_cell_drains_and_the_cell_run_again_continues",
    ),
    Patch(
        "an error of the bar is no error of a run or of a print",
        "progress/terminal",
        "        with suppress(Exception):  # the caller's print() must not raise an error of the bar\n",
        "        if True:\n",
        "tests/progress/test_progress.py::test_an_error_of_the_terminal_never_ends_a_run",
    ),
    Patch(
        "a message that no handler shows is printed",
        "progress/messages",
        "    elif not is_printed:\n",
        "    elif not _LOGGER.isEnabledFor(level):\n",
        "tests/progress/test_messages.py::test_a_script_without_logging_sees_each_message_once",
    ),
]
