"""What is called at the end of a run."""

from __future__ import annotations

from mutation.patch import Patch

COMMAND = "tests/cli/test_run_on_end.py"

PATCHES = [
    Patch(
        "an error of on_end is no error of the run",
        "run/held_job",
        '            self.warn(f"{self.id}: on_end raised',
        '            raise\n            self.warn(f"{self.id}: on_end raised',
        "tests/run/test_on_end.py::test_an_error_of_on_end_is_reported_and_does_not_change_the_report",
    ),
    Patch(
        "on_end is called after a failed commit too",
        "run/open_job",
        "                held.call_on_end(on_end, run.report)\n                raise\n",
        "                raise\n",
        "tests/run/test_on_end.py::test_a_run_that_a_failed_commit_ends_calls_on_end_with_the_error",
    ),
    Patch(
        "on_end is called after a failed last commit too",
        "run/driver",
        "                if not self._held.was_started:\n                    raise\n",
        "                raise\n",
        "tests/run/test_on_end.py::test_a_run_whose_last_commit_fails_calls_on_end",
    ),
    Patch(
        "a coroutine function at the end of arun is awaited",
        "run/in_loop",
        "                if inspect.isawaitable(answer):\n",
        "                if False:\n",
        "tests/run/test_on_end.py::test_arun_reports_an_error_of_on_end",
    ),
    Patch(
        "a command at the end of a run does not hang it",
        "cli/run/on_end",
        "            is_over = process.wait(time_limit_s)\n",
        "            is_over = process.wait()\n",
        COMMAND,
    ),
    Patch(
        "a command at the end of a run is ended with all its processes",
        "run/platform/posix",
        "            os.killpg(self._popen.pid, ",
        "            os.kill(self._popen.pid, ",
        COMMAND,
    ),
    Patch(
        "an interrupt of the command at the end does not change the exit code",
        "cli/run/on_end",
        ", stopping_signals(command.stop):\n",
        ":\n",
        COMMAND,
    ),
]
