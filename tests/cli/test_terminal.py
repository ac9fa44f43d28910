"""`journal run` in a real terminal: what is shown, and what Ctrl-C does to it and its commands."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.children import wait_until_it_has_looked
from support.platforms import needs_proc, needs_terminals, skip_without
from support.terminal import Command

from journal import JobService

Start = Callable[..., Command]

# Says that it has begun, with a child in the background, and waits for the gate or its end.
HELD = """
sleep 1000 & echo $! >> children
echo began >> begun
until [ -e gate ]; do sleep 0.02; done
echo done
"""


@pytest.fixture(name="start")
def fixture_start() -> Iterator[Start]:
    """``start("run", ...)``: a `journal` command in a terminal of its own."""
    with ExitStack() as stack:

        def start(*arguments: str, columns: int = 80) -> Command:
            return stack.enter_context(Command(None, *arguments, columns=columns))

        yield start


CTRL_C = "\x03"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    (tmp_path / "rows").write_text("".join(f"{number}\n" for number in range(1, 7)))
    (tmp_path / "held.sh").write_text(HELD)
    skip_without(needs_terminals)
    os.mkfifo(tmp_path / "begun")
    return tmp_path


def held_run(start: Start, work: Path, workers: int, *options: str) -> Command:
    """A run with all of its workers at a command that waits for the gate."""
    terminal = start(
        *("run", "rows", "--lines", "--job", "j", "-j", str(workers), *options, "--", "sh"),
        "held.sh",
    )
    begun = os.open(work / "begun", os.O_RDWR)  # so that it has no end
    heard = b""
    while heard.count(b"\n") < workers:
        heard += os.read(begun, 100)
    os.close(begun)
    return terminal


def statuses() -> Counter[str]:
    with JobService("jobs") as service:
        return Counter(str(row.status) for row in service.get_rows("j"))


def children(work: Path) -> list[int]:
    return [int(line) for line in (work / "children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def await_ends_of(pids: list[int]) -> None:
    """A busy system lets a process that was killed live for a moment."""
    while any(map(is_alive, pids)):
        os.sched_yield()


def test_a_run_shows_a_bar_that_fits_the_terminal(start: Start, work: Path) -> None:
    for columns in (80, 200):
        terminal = start(
            "run", "rows", "--lines", "--job", f"j{columns}", "--", "true", columns=columns
        )
        assert terminal.ends() == 0
        assert "6/6" in terminal.out
        for line in re.split(r"[\r\n]+", terminal.out):
            visible = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
            assert "\x1b" not in visible
            if "/6" in visible:
                assert len(visible) <= columns, visible


def test_a_run_that_reads_its_rows_from_the_terminal_says_so(start: Start, work: Path) -> None:
    command = start("--root", str(work), "run", "-", "--lines", "--job", "j", "--", "true")
    command.awaits("reads the rows from this terminal")
    command.press("A\n\x04")
    assert command.ends() == 0


def test_how_to_continue_is_the_last_line(start: Start, work: Path) -> None:
    terminal = start("run", "rows", "--lines", "--job", "j", "--limit", "2", "--", "true")
    assert terminal.ends() == 4
    assert re.search(
        r"j: paused .* 4 pending\r\nto continue, run it again, with the same input: [^\n]* true\r\n$",
        terminal.out,
    )


def test_ctrl_c_pauses_and_the_commands_in_flight_end_as_they_would(
    start: Start, work: Path
) -> None:
    terminal = held_run(start, work, 2)
    terminal.press(CTRL_C)
    terminal.awaits("waiting for the rows in flight (2)")
    (work / "gate").touch()
    code = terminal.ends()
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)  # what a command has left behind by itself is not ours
    assert code == 130
    assert statuses() == {"completed": 2, "pending": 4}
    assert "to continue, run it again" in terminal.out


def test_a_second_ctrl_c_ends_the_commands_and_all_that_they_have_started(
    start: Start, work: Path
) -> None:
    terminal = held_run(start, work, 3)
    terminal.press(CTRL_C)
    terminal.awaits("waiting for the rows in flight (3)")
    terminal.press(CTRL_C)
    assert terminal.ends() == 130
    assert statuses() == {"needs_review": 3, "pending": 3}
    pids = children(work)
    assert len(pids) == 3
    await_ends_of(pids)


def test_a_third_ctrl_c_kills_what_does_not_end(start: Start, work: Path) -> None:
    (work / "held.sh").write_text("trap '' TERM INT\n" + HELD)
    terminal = held_run(start, work, 1)
    terminal.press(CTRL_C)
    terminal.awaits("waiting for the rows in flight (1)")
    terminal.press(CTRL_C)
    terminal.awaits("ending the rows in flight (1)")
    terminal.press(CTRL_C)
    assert terminal.ends() == 130
    assert statuses() == {"needs_review": 1, "pending": 5}
    await_ends_of(children(work))


def test_a_terminal_that_is_closed_pauses_its_run(start: Start, work: Path) -> None:
    terminal = held_run(start, work, 1)
    os.kill(terminal.process.pid, signal.SIGHUP)
    terminal.awaits("waiting for the rows in flight (1)")
    (work / "gate").touch()
    assert terminal.ends() == 129
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)
    assert statuses() == {"completed": 1, "pending": 5}


def test_a_second_ctrl_c_begins_none_of_the_rows_that_were_about_to(
    start: Start, work: Path
) -> None:
    (work / "rows").write_text("".join(f"{number}\n" for number in range(1, 600)))
    (work / "quick.sh").write_text(
        "[ $1 -gt 300 ] || exit 0\necho $$ >> slow\necho began >> begun\nexec sleep 1000\n"
    )
    terminal = start(
        *("run", "rows", "--lines", "--job", "j", "-j", "3", "--", "sh", "quick.sh", "{line}")
    )
    begun = os.open(work / "begun", os.O_RDWR)
    heard = b""
    while heard.count(b"\n") < 3:
        heard += os.read(begun, 100)
    terminal.press(CTRL_C)
    terminal.awaits("waiting for the rows in flight")
    terminal.press(CTRL_C)
    assert terminal.ends() == 130
    os.close(begun)
    pids = [int(line) for line in (work / "slow").read_text().split()]
    assert len(pids) == 3
    await_ends_of(pids)
    assert statuses() == {"completed": 300, "needs_review": 3, "pending": 296}


@needs_proc
def test_a_terminal_that_is_gone_is_no_reason_to_end_a_run_differently(
    start: Start, work: Path
) -> None:
    terminal = held_run(start, work, 1)
    terminal.hang_up()
    wait_until_it_has_looked(terminal.process.pid)
    (work / "gate").touch()
    assert terminal.ends() == 129
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)
    assert statuses() == {"completed": 1, "pending": 5}
