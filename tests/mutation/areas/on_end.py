"""What is called at the end of a run."""

from __future__ import annotations

from mutation.patch import Patch

PATCHES = [
    Patch(
        "a command at the end of a run does not hang it",
        "cli/run/on_end",
        "            is_over = process.wait(time_limit_s)\n",
        "            is_over = process.wait()\n",
        "tests/cli/test_run_on_end.py::test_a_command_that_takes_too_long_is_ended_with_all_its_processes",
    ),
    Patch(
        "a command at the end of a run is ended with all its processes",
        "run/platform/posix",
        "            os.killpg(self._id, ",
        "            os.kill(self._id, ",
        "tests/cli/test_run_on_end.py::test_a_command_that_takes_too_long_is_ended_with_all_its_processes",
    ),
    Patch(
        "an interrupt of the command at the end does not change the exit code",
        "cli/run/on_end",
        ", stopping_signals(command.stop):\n",
        ":\n",
        "tests/cli/test_run_on_end.py::test_an_interrupt_ends_the_command_and_keeps_the_exit_code",
    ),
]
