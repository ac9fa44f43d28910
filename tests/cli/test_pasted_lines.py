"""Lines to paste: what they become when they are split again, and where they were recorded."""

import itertools
import json
import shlex
from pathlib import Path

import pytest
from support.children import append_commit, journal_path
from support.lines import split_for_windows

from journal import JobService
from journal.cli.main import main
from journal.fs import shell, system
from journal.text import escaped

SIGNS = 'a \\"&%'


def test_each_word_comes_back_from_the_quoting_of_windows() -> None:
    words = ["".join(signs) for n in range(5) for signs in itertools.product(SIGNS, repeat=n)]
    line = " ".join(map(shell.quote_for_windows, words))
    assert split_for_windows(line) == words


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("C:\\jobs\\ship-ca.1", "C:\\jobs\\ship-ca.1"),
        ("\\\\server\\share", "\\\\server\\share"),
        ("two words\\", '"two words\\\\"'),
        ("{zip}", '"{zip}"'),
        ("a&b", '"a&b"'),
        ('say "x"', '"say ""x"""'),
        ("1,2", '"1,2"'),
        ("-a.b", '"-a.b"'),
        ("--max-cost-cents", "--max-cost-cents"),
        ("", '""'),
    ],
)
def test_words_that_cmd_or_powershell_would_change_are_quoted(word: str, quoted: str) -> None:
    assert shell.quote_for_windows(word) == quoted


EVIL = ("run", "a.csv", "--job", "j", "--key", "x; touch y", "--", "sh", "-c", "$(id) 'a")


def place_run(root: Path, host: str, user: str) -> list[str]:
    """A paused job with a run that was recorded on ``host`` by ``user``. Returns the run's words."""
    words = ["journal", "--root", str(root), *EVIL]
    with JobService(root, sync="none") as service:
        service.create_job("J", job_id="j", row_data=[{"data": {}}])
    at = b'"at":"2999-11-24T13:35:00.000001Z"}'
    argv, texts = json.dumps(words), f'"host":"{host}","user":"{user}","package":"0"'
    head = (
        f'{{"type":"run","id":"0123456789abcdef",{texts},"pid":7,"argv":{argv},"is_command":true,'
    )
    ends = [b'{"type":"job_status","status":"%b",' % status for status in (b"running", b"paused")]
    path = journal_path(root, "j")
    append_commit(path, *(start + at for start in (head.encode(), *ends)))
    return words


@pytest.mark.parametrize("command", ["show", "wait", "watch", "resume"])
def test_a_command_that_was_recorded_elsewhere_is_shown_with_who_recorded_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    words = place_run(tmp_path, "away", "eve")
    assert main(["--root", str(tmp_path), command, "j"]) in (0, 4)
    said = "".join(capsys.readouterr())
    assert "recorded on away by eve: look before you paste" in said
    (line,) = [line for line in said.splitlines() if " --job j " in line]
    assert shlex.split(line[line.index("journal --root") :]) == words, "no word becomes two"


def test_the_command_of_a_job_from_another_store_is_shown_with_who_recorded_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = place_run(tmp_path / "there", "away", "eve")
    (tmp_path / "there").rename(tmp_path / "here")
    assert main(["--root", str(tmp_path / "here"), "show", "j"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"journal --root {shell.quote(str(tmp_path / 'here'))} run ... --job j" in said
    assert "recorded on away by eve, in " in said
    assert " ".join(escaped(shell.join(words)).split()) in said
    assert main(["--root", str(tmp_path / "here"), "resume", "j"]) == 4
    said = capsys.readouterr().err
    assert "run ... --job j`; `journal show` prints the recorded command" in said
    assert "$(id)" not in said


def test_a_program_from_elsewhere_is_named_with_who_recorded_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("J", job_id="j", original_command="./evil", row_data=[{"data": {}}])
        service.start_job("j")
    path = journal_path(tmp_path, "j")
    head = (
        b'{"type":"run","id":"0123456789abcdef","host":"away","user":"eve","package":"0","pid":7,'
    )
    append_commit(path, head + b'"at":"2999-11-24T13:35:00.000001Z"}')
    assert main(["--root", str(tmp_path), "show", "j"]) == 0
    said = capsys.readouterr().out
    assert "./evil" in said
    assert "recorded on away by eve: look before you paste" in said


def test_a_command_that_was_recorded_here_is_shown_without_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = place_run(tmp_path, system.host_name(), system.user_name())
    assert main(["--root", str(tmp_path), "show", "j"]) == 0
    said = capsys.readouterr().out
    assert shell.join(words) in said
    assert "look before you paste" not in said
