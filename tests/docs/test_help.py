"""`journal help` leads to every command, option, exception and exit code in two steps."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import journal
from journal import JobService, errors
from journal.cli.help import TOPICS, page_text
from journal.cli.main import _COMMANDS, PURPOSES, main
from journal.run import exit_codes

Capture = pytest.CaptureFixture[str]
DOCS = Path(journal.__file__).parent / "docs"
EXCEPTIONS = page_text("exceptions")
ERRORS = {
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.JournalError)
}


def shown(capsys: Capture, *arguments: str) -> str:
    assert main(["help", *arguments]) == 0
    return capsys.readouterr().out


# --- the first step


def test_help_lists_every_command_by_its_purpose_and_every_topic(capsys: Capture) -> None:
    listed = [name for names in PURPOSES.values() for name in names]
    assert sorted([*listed, "help"]) == sorted(_COMMANDS)
    lines = shown(capsys).splitlines()
    for name in (*listed, *TOPICS):
        assert [line for line in lines if line.startswith(f"  {name} ")]
    for purpose in (*PURPOSES, "Topics"):
        assert f"{purpose}:" in lines


def test_the_options_of_a_run_are_listed_by_purpose(capsys: Capture) -> None:
    lines = shown(capsys, "run").splitlines()
    sections = [line for line in lines if re.fullmatch(r"\S.*:", line)]
    begin = sections.index("Input:")
    purposes = ["Input:", "Command:", "Outcomes:", "Pace:", "When to stop:", "Messages:"]
    assert sections[begin:] == purposes
    assert lines.index("Pace:") < lines.index(
        next(x for x in lines if x.startswith("  -j, --jobs"))
    )
    assert "  -h, --help" in "\n".join(lines[lines.index("Messages:") :])


# --- the second


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_help_of_a_command_is_its_own_help(name: str, capsys: Capture) -> None:
    assert main([name, "--help"]) == 0
    own = capsys.readouterr().out
    assert shown(capsys, name).startswith(own)


@pytest.mark.parametrize("topic", TOPICS)
def test_help_of_a_topic_is_its_page(topic: str, capsys: Capture) -> None:
    lines = (DOCS / f"{topic}.md").read_text(encoding="utf-8").splitlines()
    page = [line for line in lines if not line.startswith("<!--")]
    assert shown(capsys, topic).splitlines()[-len(page) :] == page


def test_a_page_opens_in_the_pager_of_a_terminal(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged\n")
    pager.chmod(0o755)
    code = (
        f"import os, pty; os.environ['PAGER'] = {str(pager)!r}; "
        f"pty.spawn([{sys.executable!r}, '-m', 'journal', 'help', 'exceptions'])"
    )
    assert pty
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL)
    assert (tmp_path / "paged").read_text().startswith("# Exceptions")


def test_the_page_of_exceptions_has_each_of_them_with_its_exit_code() -> None:
    public = {kind.__name__: kind.exit_code for kind in ERRORS if kind is not errors.JournalError}
    classes = EXCEPTIONS[: EXCEPTIONS.index("## Exit codes")]
    stated: dict[str, int] = {}
    for code, names in re.findall(r"^- (\d): (.*(?:\n  .*)*)", classes, re.MULTILINE):
        stated |= dict.fromkeys(re.findall(r"`(\w+)`", names), int(code))
    assert stated == public
    assert all(kind.__doc__ for kind in ERRORS)


def test_the_page_of_exceptions_has_each_exit_code() -> None:
    text = EXCEPTIONS[EXCEPTIONS.index("## Exit codes") :]
    stated = set(map(int, re.findall(r"^- (\d+): ", text, re.MULTILINE)))
    constants = {value for name, value in vars(exit_codes).items() if name.startswith("EXIT_")}
    constants |= {kind.exit_code for kind in ERRORS}
    signals = {128 + number for number in (1, 2, 15)}
    assert stated == constants | signals


# --- a word that is no name


@pytest.mark.parametrize(
    ("word", "topic"),
    [
        ("dask", "executors"),
        ("slurm", "clusters"),
        ("JobLockedError", "exceptions"),
        ("SEAL", "format"),
        ("5", "exceptions"),
        ("delimiter", "inputs"),
        ("confirmation", "prune"),
        ("values", "inputs"),
        ("notebooks", "asyncio"),
        ("Providers", "batches"),
        ("parallel", "running"),
        ("mail", "daily, steps"),
    ],
)
def test_a_word_that_is_no_topic_names_the_topics_that_have_it(
    word: str, topic: str, capsys: Capture
) -> None:
    answer = shown(capsys, word).splitlines(keepends=True)[0]
    assert re.fullmatch(rf"{word!r} is in: .*\b{topic}\b.* \(journal help TOPIC\)\n", answer)


# --- did you mean


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["lst"], "there is no command 'lst'; did you mean 'list'?"),
        (["status"], "there is no command 'status'; did you mean 'show'?"),
        (["rm", "ship"], "there is no command 'rm'; did you mean 'delete'?"),
        (["help", "rm"], "there is no topic or command 'rm'; did you mean 'delete'?"),
        (["version"], "there is no command 'version'; did you mean '--version'?"),
        (["list", "--root", "x"], "--root comes before the command: journal --root DIRECTORY"),
        (["xyzzy"], "there is no command 'xyzzy'; `journal help` lists the commands"),
        (["help", "exeptions"], "there is no topic or command 'exeptions'; did you mean 'excep"),
        (["help", "verfy"], "there is no topic or command 'verfy'; did you mean 'verify'?"),
        (["help", "xyzzy"], "there is no topic or command 'xyzzy'; `journal help` lists them"),
        (["list", "--limt", "5"], "--limit"),
    ],
    ids=" ".join,
)
def test_a_mistyped_name_is_answered_by_the_nearest_one(
    arguments: list[str], meant: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "rows", "delete", "retry"])
def test_a_mistyped_job_is_answered_by_the_nearest_one(
    command: str, tmp_path: Path, capsys: Capture
) -> None:
    with JobService(tmp_path, sync="none") as service:
        for job_id in ("ship-orders", "enrich"):
            service.create_job(job_id, job_id=job_id)
    assert main(["--root", str(tmp_path), command, "shp-orders"]) == 4
    assert capsys.readouterr().err.endswith("; did you mean 'ship-orders'?\n")
    assert main(["--root", str(tmp_path), command, "unlike"]) == 4
    assert "did you mean" not in capsys.readouterr().err
