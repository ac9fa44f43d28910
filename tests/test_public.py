"""What programs import: each public name, from where the documentation says."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import click

import journal
from journal.cli.main import cli
from journal.errors import JobBusyError, JournalError, StepInDoubtError


def test_an_error_pickled_before_it_had_a_room_is_read() -> None:
    """An executor's worker may run another version: errors are pickled as ``journal.errors.…``."""
    for name in journal.__all__:
        kind = getattr(journal, name)
        if isinstance(kind, type) and issubclass(kind, JournalError):
            assert kind.__module__ == "journal.errors"
    error = pickle.loads(pickle.dumps(JobBusyError("j", "host", 7, "now")))
    assert (type(error), error.job_id, error.pid) == (JobBusyError, "j", 7)


def test_the_text_of_an_error_has_no_control_characters() -> None:
    """It may quote a journal from elsewhere, and Python prints it as it is."""
    error = StepInDoubtError("j:1", "\x1b[2J\u202e", 1)
    assert r"\x1b[2J\u202e" in str(error)
    assert str(error).isprintable()
    assert error.step == "\x1b[2J\u202e"


TOP = Path(__file__).parents[1]
PAGES = [*(TOP / "journal" / "docs").glob("*.md"), TOP / "README.md"]
USERS = [*PAGES, *(TOP / "examples").iterdir(), *TOP.joinpath("tests").rglob("test_*.py")]
OF_RUNS = {"take_logs", "unrecorded", "is_whole"}  # of rows and batches: for the run that made them


def texts_of(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path != Path(__file__))


def test_whatever_is_public_is_described_in_a_page_or_a_docstring() -> None:
    kinds = [kind for name in journal.__all__ if isinstance(kind := getattr(journal, name), type)]
    functions = [*vars(journal.JobService).values(), *vars(journal.JobRun).values()]
    described = "\n".join(str(each.__doc__) for each in [*kinds, *functions])
    known = set(re.findall(r"\w+", texts_of(PAGES) + described))
    for kind in kinds:
        members = {name for name in vars(kind) if not name.startswith("_")} - OF_RUNS
        own = {name for name in members - known if not getattr(kind, name).__doc__}
        assert not own, kind
    names = {name for name in journal.__all__ if getattr(journal, name) not in kinds}
    assert names <= known
    assert all(kind.__doc__ for kind in kinds)


def test_the_service_and_a_run_stay_small_and_each_part_has_a_user() -> None:
    text = texts_of(USERS)
    for kind, most in ((journal.JobService, 42), (journal.JobRun, 16)):
        names = [name for name in vars(kind) if not name.startswith("_")]
        assert len(names) <= most
        assert [name for name in names if not re.search(rf"\.{name}\b", text)] == []
    ctx = click.Context(cli)
    for name in cli.list_commands(ctx):
        command = cli.get_command(ctx, name)
        assert command is not None
        options = [each for each in command.params if isinstance(each, click.Option)]
        assert len(options) <= 44
        for option in options:
            assert option.help
            assert any(re.search(rf"(?<![\w-]){word}(?![\w-])", text) for word in option.opts)
