"""Ctrl-C and the end of a run on Windows: commands end with what they have started."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from support.console import Console

from journal import JobService

# Each row says that it has begun; a process that it starts keeps a file open for as long as it lives.
SLOW = """
import pathlib, subprocess, sys, time
wait = "import pathlib, time\\nwhile not pathlib.Path('go').exists(): time.sleep(.02)"
subprocess.Popen([sys.executable, "-S", "-E", "-c", "f = open('alive', 'w')\\n" + wait])
while not pathlib.Path("alive").exists(): time.sleep(.02)
pathlib.Path("begun-" + sys.argv[1]).touch()
exec(wait)
"""


def until(is_so: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def run(directory: Path) -> Console:
    """A run of three rows, of which two have begun."""
    (directory / "rows.txt").write_text("1\n2\n3\n")
    (directory / "slow.py").write_text(SLOW)
    journal = [
        sys.executable,
        "-m",
        "journal",
        "run",
        "rows.txt",
        "--lines",
        "--job",
        "j",
        "-j",
        "2",
    ]
    console = Console([*journal, "--", sys.executable, "-S", "-E", "slow.py", "{line}"], directory)
    until(lambda: (directory / "begun-1").exists() and (directory / "begun-2").exists())
    return console


def statuses(directory: Path) -> list[str]:
    with JobService(directory / "jobs") as service:
        return [str(row.status) for row in service.get_rows("j")]


def is_all_dead(directory: Path) -> bool:
    """Whether nothing that a command has started lives: Windows removes no file that is open."""
    try:
        (directory / "alive").unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def test_the_first_ctrl_c_lets_commands_in_flight_finish(tmp_path: Path) -> None:
    with run(tmp_path) as console:
        console.press_ctrl_c()
        until(lambda: "pausing; waiting for the rows in flight (2)" in console.shown())
        (tmp_path / "go").touch()
        code = console.ends()
    assert (code, statuses(tmp_path)) == (130, ["completed", "completed", "pending"])


def test_the_second_ctrl_c_ends_commands_and_what_they_started(tmp_path: Path) -> None:
    with run(tmp_path) as console:
        console.press_ctrl_c()
        until(lambda: "pausing" in console.shown())
        console.press_ctrl_c()
        code = console.ends()
    assert (code, statuses(tmp_path)) == (130, ["needs_review", "needs_review", "pending"])
    until(lambda: is_all_dead(tmp_path))


def test_commands_end_when_their_run_is_killed_and_their_rows_are_in_doubt(tmp_path: Path) -> None:
    with run(tmp_path) as console:
        console.kill()
        console.ends()
    until(lambda: is_all_dead(tmp_path))
    assert statuses(tmp_path) == ["processing", "processing", "pending"]
    with JobService(tmp_path / "jobs") as service:
        service.start_job("j", "review")
        service.store.release_run("j")
    assert statuses(tmp_path) == ["needs_review", "needs_review", "pending"]
