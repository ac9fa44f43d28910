"""`journal run` in a real terminal: what is shown, and what Ctrl-C does to it and its commands."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import sys
import termios
from collections import Counter
from fcntl import ioctl
from pathlib import Path

import pytest

from journal import JobService

WAIT_S = 60

# Says that it has begun, with a child in the background, and waits for the gate or its end.
HELD = """
sleep 1000 & echo $! >> children
echo began >> begun
until [ -e gate ]; do sleep 0.02; done
echo done
"""


class Terminal:
    """A `journal` command in a terminal of its own: what it shows, and keys to press."""

    def __init__(self, *arguments: str, columns: int = 80) -> None:
        self.shown = ""
        self._pid, self._fd = pty.fork()
        if not self._pid:
            try:
                os.execv(sys.executable, [sys.executable, "-m", "journal", *arguments])
            finally:
                os._exit(127)
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def _read(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], WAIT_S)
        assert ready, f"nothing more is shown after {self.shown!r}"
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # EIO: the other side has gone
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)

    def wait_for(self, text: str) -> None:
        while text not in self.shown:
            assert self._read(), f"it ended having shown {self.shown!r}"

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        while self._read():
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


CTRL_C = b"\x03"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    (tmp_path / "rows").write_text("".join(f"{number}\n" for number in range(1, 7)))
    (tmp_path / "held.sh").write_text(HELD)
    os.mkfifo(tmp_path / "begun")
    return tmp_path


def held_run(work: Path, workers: int, *options: str) -> Terminal:
    """A run with all of its workers at a command that waits for the gate."""
    terminal = Terminal(
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


def test_a_run_shows_a_bar_that_fits_the_terminal(work: Path) -> None:
    for columns in (80, 200):
        terminal = Terminal(
            "run", "rows", "--lines", "--job", f"j{columns}", "--", "true", columns=columns
        )
        assert terminal.end() == 0
        assert "6/6" in terminal.shown
        for line in re.split(r"[\r\n]+", terminal.shown):
            visible = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
            assert "\x1b" not in visible
            if "/6" in visible:
                assert len(visible) <= columns, visible


def test_a_quiet_run_shows_no_bar(work: Path) -> None:
    terminal = Terminal("run", "rows", "--lines", "--job", "j", "--quiet", "--", "true")
    assert terminal.end() == 0
    assert "6/6" not in terminal.shown
    assert "6 completed" in terminal.shown


def test_ctrl_c_pauses_and_the_commands_in_flight_end_as_they_would(work: Path) -> None:
    terminal = held_run(work, 2)
    terminal.press(CTRL_C)
    terminal.wait_for("waiting for what is in flight (2)")
    (work / "gate").touch()
    code = terminal.end()
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)  # what a command has left behind by itself is not ours
    assert code == 130
    assert statuses() == {"completed": 2, "pending": 4}
    assert "to go on: " in terminal.shown


def test_a_second_ctrl_c_ends_the_commands_and_all_that_they_have_started(work: Path) -> None:
    terminal = held_run(work, 3)
    terminal.press(CTRL_C)
    terminal.wait_for("waiting for what is in flight (3)")
    terminal.press(CTRL_C)
    assert terminal.end() == 130
    assert statuses() == {"needs_review": 3, "pending": 3}
    pids = children(work)
    assert len(pids) == 3
    assert not any(map(is_alive, pids))


def test_a_third_ctrl_c_kills_what_does_not_end(work: Path) -> None:
    (work / "held.sh").write_text("trap '' TERM INT\n" + HELD)
    terminal = held_run(work, 1)
    terminal.press(CTRL_C)
    terminal.wait_for("waiting for what is in flight (1)")
    terminal.press(CTRL_C)
    terminal.wait_for("ending what is in flight (1)")
    terminal.press(CTRL_C)
    assert terminal.end() == 130
    assert statuses() == {"needs_review": 1, "pending": 5}
    assert not any(map(is_alive, children(work)))


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_has_started(work: Path) -> None:
    terminal = Terminal(
        *("run", "rows", "--lines", "--job", "j", "--limit", "1", "--timeout", "0.2", "--"),
        *("sh", "-c", "sleep 1000 & echo $! >> children; wait"),
    )
    assert terminal.end() == 3
    with JobService("jobs") as service:
        (row,) = service.get_failed_rows("j")
    assert (row.error_code, row.error_message) == ("TimeoutError", "it took longer than 0.2 s")
    assert not any(map(is_alive, children(work)))


def test_a_halt_now_ends_what_is_in_flight(work: Path) -> None:
    script = 'if [ "$1" = 1 ]; then cat begun; exit 7; fi; echo > begun; exec sleep 1000'
    terminal = Terminal(
        *("run", "rows", "--lines", "--job", "j", "-j", "2", "--halt", "now,fail=1", "--"),
        *("sh", "-c", script, "sh", "{line}"),
    )
    assert terminal.end() == 3
    assert statuses() == {"failed": 1, "needs_review": 1, "pending": 4}
    assert "1 rows have failed: ending what is in flight" in terminal.shown


def test_a_terminal_that_is_closed_pauses_its_run(work: Path) -> None:
    terminal = held_run(work, 1)
    os.kill(terminal._pid, signal.SIGHUP)
    terminal.wait_for("waiting for what is in flight (1)")
    (work / "gate").touch()
    assert terminal.end() == 129
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)
    assert statuses() == {"completed": 1, "pending": 5}


def test_a_second_ctrl_c_begins_none_of_the_rows_that_were_about_to(work: Path) -> None:
    (work / "rows").write_text("".join(f"{number}\n" for number in range(1, 600)))
    (work / "quick.sh").write_text(
        "[ $1 -gt 300 ] || exit 0\necho $$ >> slow\necho began >> begun\nexec sleep 1000\n"
    )
    terminal = Terminal(
        *("run", "rows", "--lines", "--job", "j", "-j", "3", "--", "sh", "quick.sh", "{line}")
    )
    begun = os.open(work / "begun", os.O_RDWR)
    heard = b""
    while heard.count(b"\n") < 3:
        heard += os.read(begun, 100)
    terminal.press(CTRL_C)
    terminal.wait_for("waiting for what is in flight")
    terminal.press(CTRL_C)
    assert terminal.end() == 130
    os.close(begun)
    pids = [int(line) for line in (work / "slow").read_text().split()]
    assert len(pids) == 3
    assert not any(map(is_alive, pids))
    assert statuses() == {"completed": 300, "needs_review": 3, "pending": 296}


def test_a_terminal_that_is_gone_is_no_reason_to_end_a_run_differently(work: Path) -> None:
    terminal = held_run(work, 1)
    os.close(terminal._fd)  # which sends SIGHUP
    (work / "gate").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(terminal._pid, 0)[1]) == 129
    for pid in children(work):
        os.kill(pid, signal.SIGKILL)
    assert statuses() == {"completed": 1, "pending": 5}
