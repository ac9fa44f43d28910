"""`journal run --on-end`: a command that gets the summary of a run as JSON."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.platforms import needs_fifos, needs_shell, needs_signals, skip_without

import journal.cli.run.on_end
from journal import JobService
from journal.cli.main import main
from journal.cli.run.on_end import parse_command, run_on_end
from journal.fs.shell import join
from journal.run.held_job import RunReport

Capture = pytest.CaptureFixture[str]

# Writes its standard input to a file, and the environment variable that it gets.
KEEP = (
    "import os, sys; open('ended', 'w').write(os.environ['JOURNAL_JOB'] + '\\n' + sys.stdin.read())"
)
ON_END = join([sys.executable, "-c", KEEP])
REFUSE = join([sys.executable, "-c", "import sys; print('no mail', file=sys.stderr); sys.exit(7)"])


@pytest.fixture(autouse=True)
def fixture_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    Path("rows.txt").write_text("1\n2\n3\n")


def run(*options: str, command: str = "true", on_end: str = ON_END) -> int:
    words = ["run", "rows.txt", "--lines", "--job", "j", "-q", "--on-end", on_end]
    return main([*words, *options, "--", *shlex.split(command)])


def ended() -> dict[str, Any]:
    directory, _, text = Path("ended").read_text().partition("\n")
    assert directory == os.path.abspath("jobs/j")
    Path("ended").unlink()
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_the_command_gets_the_summary_of_each_run_that_ends(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run("--limit", "1") == 4
    found = ended()
    assert (found["event"], found["exit_code"], found["completed"]) == ("halt", 4, 1)
    assert found["reason"] == "1 row was started, as many as were asked for"
    assert run("--max-attempts", "2", "--backoff", "0", command="false") == 3
    found = ended()
    assert (found["event"], found["exit_code"], found["started"], found["failed"]) == (
        ("end", 3, 4, 2)
    )
    assert (found["job"]["id"], found["job"]["status"]) == ("j", "failed")
    assert found["reason"] is None
    assert run() == 3  # nothing was to do
    assert not Path("ended").exists()


@pytest.mark.parametrize(
    ("on_end", "message"),
    [
        (REFUSE, "j: the command of --on-end failed: exit status 7\n"),
        pytest.param(
            "sh -c 'kill -9 $$'",
            "j: the command of --on-end failed: SIGKILL\n",
            marks=needs_signals,
        ),
    ],
)
def test_a_command_that_fails_is_a_warning(on_end: str, message: str, capfd: Capture) -> None:
    assert run(on_end=on_end) == 0
    assert capfd.readouterr().err.endswith(message)


@pytest.mark.parametrize(
    ("on_end", "message"),
    [
        ('./notify "me', "can't be split into words: No closing quotation"),
        (" ", "must be a command"),
        ("no-such-program --to me", "there is no such program"),
        ("cat > end.json", "has '>' outside of quotes, but no shell is involved"),
        ("true 'a' && true", "has '&&' outside of quotes"),
        ('true "a\\"b" | true', "has '|' outside of quotes"),
    ],
)
def test_what_can_not_be_run_is_refused_before_the_run(
    on_end: str, message: str, capsys: Capture
) -> None:
    assert run(on_end=on_end) == 2
    assert message in capsys.readouterr().err
    assert not Path("jobs").exists()


def report() -> RunReport:
    with JobService("jobs", sync="none") as service:
        return RunReport(job=service.create_job("j", job_id="j"))


def test_a_command_that_takes_too_long_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.cli.run.on_end, "_GRACE_S", 0.1)
    warned: list[str] = []
    skip_without(needs_fifos)
    os.mkfifo("alive")
    reader = os.open("alive", os.O_RDONLY | os.O_NONBLOCK)
    argv = ["sh", "-c", "exec 9>alive; trap '' TERM; sleep 600 & wait"]
    run_on_end(argv, tmp_path, report(), 0, warned.append, time_limit_s=0.2)
    assert warned == ["the command of --on-end was ended after 0.2 s"]
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b""  # nobody has the pipe open
    os.close(reader)


def test_an_interrupt_ends_the_command_and_keeps_the_exit_code(tmp_path: Path) -> None:
    skip_without(needs_fifos)
    os.mkfifo("started")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "journal", "run", "rows.txt", "--lines", "--job", "j"),
            *("--on-end", "sh -c 'echo > started; sleep 600'", "--", "true"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    Path("started").read_text()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.endswith("j: the command of --on-end was interrupted\n")


def test_signs_of_a_shell_in_quotes_are_text() -> None:
    skip_without(needs_shell)  # words are quoted for sh here
    for word in ("a>b", "it's|", 'say "&"', "\\;"):
        assert parse_command(f"echo {shlex.quote(word)}") == ["echo", word]
    assert parse_command('echo "a\\"|" b\\;') == ["echo", 'a"|', "b;"]
