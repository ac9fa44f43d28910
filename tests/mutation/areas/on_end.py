"""What is called at the end of a run."""

from __future__ import annotations

from mutation.patch import Patch

PYTHON = "tests/run/test_on_end.py"
COMMAND = "tests/cli/test_run_on_end.py"

PATCHES = [
    Patch(
        "an error of on_end is no error of the run",
        "run/held_job",
        '            self.warn(f"{self.id}: on_end raised',
        '            raise\n            self.warn(f"{self.id}: on_end raised',
        PYTHON,
    ),
    Patch(
        "on_end is called after a failed commit too",
        "run/open_job",
        "                held.call_on_end(on_end, run.report)\n                raise\n",
        "                raise\n",
        PYTHON,
    ),
    Patch(
        "on_end is called after a failed last commit too",
        "run/driver",
        "                if not self._held.was_started:\n                    raise\n",
        "                raise\n",
        PYTHON,
    ),
    Patch(
        "a failed commit is not masked by what leaving the setup raises",
        "run/workers/handover",
        "            if raised is None:\n                return error\n",
        "            return error\n",
        PYTHON,
    ),
    Patch(
        "a coroutine function at the end of arun is awaited",
        "run/in_loop",
        "                if inspect.isawaitable(answer):\n",
        "                if False:\n",
        PYTHON,
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
