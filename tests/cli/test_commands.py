"""A row's command: placeholders, what it finds and leaves, how it is ended."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.paths import TESTS
from support.platforms import (
    needs_fifos,
    needs_modes,
    needs_rlimits,
    needs_signals,
    skip_without,
)

from journal import InvalidValueError, JobRow
from journal.cli.run.subprocesses import Commands
from journal.cli.run.template import Template
from journal.run.outcome import Outcome
from journal.run.platform import processes

NOW = datetime(2026, 11, 24, tzinfo=UTC)
JOB = Path("/jobs/j")


def row(data: dict[str, Any] | None = None, number: int = 7, attempts: int = 2) -> JobRow:
    return JobRow(f"j:{number}", "j", number, "", data or {}, NOW, NOW, attempts=attempts)


def run(*argv: str, data: dict[str, Any] | None = None, **options: Any) -> Outcome:
    outcome: Outcome = Commands(Template(argv), JOB, **options)(row(data))
    return outcome


# --- placeholders


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "x={a}; echo $x", "sh"],
        ["/bin/bash", "-ec", 'echo "{a}"'],
        ["timeout", "5", "sh", "-c", "echo '{a}'", "sh", "{a}"],
        ["zsh", "-c", "echo {{{a}}}"],
        ["sh", "-ce", "echo {a}"],
        ["bash", "-e", "-c", "echo {a}"],
        ["bash", "-eo", "pipefail", "-c", "echo {a}"],
        ["bash", "--norc", "--rcfile", "x", "-c", "echo {a}"],
        ["bash", "-c", "+e", "--", "echo {a}"],
    ],
)
def test_a_value_inside_of_a_shells_script_is_refused(argv: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="give it as an argument") as refused:
        Template(argv)
    assert "is run as a part of the script" in str(refused.value)


@pytest.mark.parametrize(
    "script",
    ['echo "$1"', "printf %s ${{1:-none}}", 'cat "$@"', "for x; do :; done", "for x\ndo :; done"],
)
def test_a_script_whose_one_argument_would_be_its_name_is_refused(script: str) -> None:
    with pytest.raises(InvalidValueError, match=r"becomes its \$0"):
        Template(["sh", "-c", script, "{a}"])


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", 'echo "$1" {{}}', "sh", "{a}"],
        ["sh", "-c", "{a}"],  # a row that is a script
        ["sh", "-c", 'echo "$0"', "{a}"],
        ["sh", "{a}", "-c"],
        ["grep", "-c", "x{a}", "file"],
    ],
)
def test_what_a_shell_is_given_apart_from_its_script_is_taken(argv: list[str]) -> None:
    assert Template(argv).fill(row({"a": "1"}))


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["{a}"], "the program must be the same"),
        (["sh", "-c", "{a}"], "the script must be the same"),
        (["sh", "-c", "for x in $@; do echo $x; done", "{a}", "x"], r"becomes its \$0"),
        (["sh", "-c", "echo $0", "{a}"], r"becomes its \$0"),
    ],
)
def test_many_rows_share_a_program_and_a_script_and_none_becomes_its_name(
    argv: list[str], why: str
) -> None:
    with pytest.raises(InvalidValueError, match=why):
        Template(argv).check_program()
    Template(["sh", "-c", "echo $@", "sh", "{a}"]).check_program()


def test_a_column_wins_over_what_is_always_there() -> None:
    assert Template(["{id} {#}"]).fill(row({"id": "A-1", "#": "one"})) == ["A-1 one"]


def test_a_row_that_lacks_a_column_has_no_command() -> None:
    with pytest.raises(InvalidValueError, match=r"no such column: it has \['a'\]"):
        Template(["{b}"]).fill(row({"a": 1}))


# --- what a command finds and leaves


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("./none", "127", "can't be started: No such file"),
        pytest.param("/", "126", "can't be started: Permission denied", marks=needs_modes),
        ("a\0b", "126", "a\0b: "),
    ],
)
def test_a_command_that_cannot_be_started_has_failed_for_good(
    program: str, code: str, words: str
) -> None:
    outcome = run(program)
    assert (outcome.kind, outcome.error_code, outcome.retryable) == ("failed", code, False)
    assert words in outcome.error_message


def test_a_row_that_is_not_read_fails_nothing() -> None:
    data = {"a": "x" * 1_000_000}
    assert run("true", data=data, stdin_json=True).kind == "completed"


@needs_rlimits
def test_a_command_for_which_we_lack_the_means_has_not_begun(tmp_path: Path) -> None:
    import resource  # noqa: PLC0415  (not on Windows)

    commands = Commands(Template(["touch", str(tmp_path / "begun")]), JOB)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(8):  # one descriptor more each time: each thing to be opened is refused
        free = [os.dup(0) for _ in range(spare + 1)]  # the lowest, with gaps
        for descriptor in free:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
        try:
            outcome = commands(row())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if outcome.kind == "completed":
            assert spare > 0
            break
        assert (outcome.kind, outcome.error_code) == ("unstarted", "StorageError")
        assert not (tmp_path / "begun").exists()
    assert (tmp_path / "begun").exists()


@needs_signals
def test_exit_statuses_are_seen_though_our_parent_has_ignored_them() -> None:
    script = f"""
import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import sys; sys.path.append({str(TESTS)!r})
import test_commands
assert test_commands.run("false").error_code == "1"
"""
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, check=True)


# --- how a command is ended


class Held:
    """A command at work in a thread, which told that it has begun, and a file that it holds open."""

    def __init__(self, commands: Commands, pool: ThreadPoolExecutor, fifo: Path) -> None:
        self.descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.outcome: Future[Outcome] = pool.submit(commands, row())
        assert self.wait_for() == b"up\n"

    def wait_for(self) -> bytes:
        """What it says next; nothing once all of its processes are gone."""
        assert select.select([self.descriptor], [], [], 30)[0]
        return os.read(self.descriptor, 100)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    skip_without(needs_fifos)
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@contextmanager
def held(commands: Commands, fifo: Path) -> Iterator[Held]:
    with ThreadPoolExecutor(1) as pool:
        command = Held(commands, pool, fifo)
        try:
            yield command
        finally:
            commands.cancel("j:7", force=True)
            os.close(command.descriptor)


def shell(script: str, fifo: Path) -> Commands:
    """``script`` with the fifo open for writing as 3."""
    return Commands(Template(["sh", "-c", f"exec 3>{fifo}; {script}"]), JOB)


def test_a_cancelled_command_may_end_in_its_own_way(fifo: Path) -> None:
    commands = shell("trap 'echo saved; exit 0' TERM; echo up >&3; sleep 1000 & wait", fifo)
    with held(commands, fifo) as command:
        commands.cancel("j:7", force=False)
        assert command.outcome.result(30) == Outcome(kind="completed", result="saved")
        assert command.wait_for() == b""


def test_a_cancelled_command_leaves_no_children_that_ignore_the_signal(fifo: Path) -> None:
    child = "(trap '' TERM; echo up >&3; sleep 1000) &"
    commands = shell(f"{child} exec 3>&-; exec sleep 1000", fifo)
    with held(commands, fifo) as command:
        commands.cancel("j:7", force=False)
        assert command.outcome.result(30).error_code == "SIGTERM"
        assert command.wait_for() == b""


def test_what_a_command_leaves_behind_by_itself_lives_on_and_keeps_nobody_waiting(
    fifo: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    commands = shell(f"(read x <{tmp_path / 'go'}; echo alive >&3) & echo up >&3; echo done", fifo)
    with held(commands, fifo) as command:
        assert command.outcome.result(30).result == "done"
        (tmp_path / "go").write_text("\n")
        assert command.wait_for() == b"alive\n"


def test_a_command_that_is_cancelled_while_it_is_started_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    commands = Commands(Template(["sleep", "1000"]), JOB)
    start = processes.start

    def cancelling(*arguments: Any, **options: Any) -> Any:
        assert commands.cancel("j:7", force=False)
        return start(*arguments, **options)

    monkeypatch.setattr(processes, "start", cancelling)
    assert commands(row()).error_code == "SIGTERM"
