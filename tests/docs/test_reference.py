"""The command line says what it takes: in `--help`, and to shells."""

import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from support.commands import journal

from journal import JobService
from journal.cli import find
from journal.cli.main import _COMMANDS, cli, main

COMMANDS = sorted(_COMMANDS)


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_explained_by_the_help_of_its_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr().out
    for option in (each for each in command_of(name).params if isinstance(each, click.Option)):
        assert option.help
        assert all(word in printed for word in option.opts)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_an_example_that_can_be_typed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    help_text = inspect.cleandoc(command_of(name).help or "")  # imports its module, unpatched
    service = JobService(tmp_path)
    for finds in ("find_job", "find_job_or_set"):
        monkeypatch.setattr(find, finds, lambda ctx, job_id: find.FoundJob.of(ctx, service, job_id))
    (example,) = [line for line in help_text.splitlines() if line.startswith("Example: journal ")]
    words = shlex.split(example.removeprefix("Example: journal "))
    assert words[0] == name
    parent = cli.make_context("journal", [name])
    parent.obj = str(tmp_path)
    command_of(name).make_context(name, words[1:], parent=parent)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "store"
    with JobService(path, sync="none") as service:
        for job_id in ("ship-ca", "ship-or", "other"):
            service.create_job(job_id.upper(), job_id=job_id, row_data=[{}] * 4)
    monkeypatch.setenv("JOURNAL_ROOT", str(path))
    return path


def test_commands_of_a_run_may_be_this_program(root: Path, tmp_path: Path) -> None:
    """They find JOURNAL_ROW_ID and JOURNAL_ATTEMPT in their environment, and no option in those."""
    for name in ("list", "show", "rows", "errors", "verify"):
        command = [sys.executable, "-m", "journal", name, *(["other"] if name != "list" else [])]
        run = ("run", "-", "--lines", "--job", f"runs-{name}", "--", *command)
        done = journal(*run, text="one\n")
        assert done.returncode == 0, done.stderr
    with JobService(root) as service:
        (row,) = service.get_rows("runs-rows")
    assert row.result.startswith("    ROW  STATUS")


# --- shells


def completed(root: Path, shell: str, words: str) -> list[str]:
    """What a shell is offered for the last of ``words``."""
    count = len(words.split(" ")) - 1
    done = subprocess.run(
        [sys.executable, "-m", "journal"],
        env={
            **os.environ,
            "_JOURNAL_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": words.rsplit(" ", 1)[-1] if shell == "fish" else str(count),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return list(filter(None, done.stdout.splitlines()))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(root: Path, shell: str) -> None:
    def offered(words: str) -> list[str]:
        lines = completed(root, shell, words)
        if shell == "zsh":  # a line each for kind, value and help
            return lines[1::3]
        return [line.split("\t")[0].removeprefix("plain,") for line in lines]

    assert offered("journal sho") == ["show"]
    assert "--where" in offered("journal rows other --wh")


def completed_here(words: str) -> list[str]:
    """What bash is offered for the last of ``words``, without a process of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_WORDS", words)
        patch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        return BashComplete(cli, {}, "journal", "_JOURNAL_COMPLETE").complete().splitlines()


@pytest.mark.parametrize("words", ["export ship-ca out", "pull o", "run o", "report j -o o"])
def test_shells_complete_paths_where_one_may_stand(root: Path, words: str) -> None:
    assert completed_here(f"journal {words}") == [f"file,{words.rsplit(maxsplit=1)[-1]}"]
