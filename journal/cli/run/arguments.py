"""Checks the words of a command line of `journal run`: ROWS, then ``--``, then COMMAND."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click

from journal.errors import InvalidValueError
from journal.fs import shell
from journal.run.platform import processes

# A command line with one of these needs a shell.
_SHELL_SIGNS = re.compile(r"[|><;&$`*\n]")

FORM = "journal run orders.csv --job NAME -- COMMAND {column}"


def words_after_dashes(args: Sequence[str]) -> list[str] | None:
    """The words after the first ``--``; None if there is no ``--``."""
    return list(args[args.index("--") + 1 :]) if "--" in args else None


def missing_word(error: click.MissingParameter, after: list[str] | None) -> click.UsageError:
    """The error for a command line without ROWS or COMMAND. ``after``: the words after ``--``."""
    name = error.param.name if error.param is not None else ""
    if name == "rows" or (name == "command" and after):
        return _no_rows(error.ctx)
    if name == "command":
        return click.UsageError(f"there is no COMMAND: write it last, after --: {FORM}", error.ctx)
    return error


def check_places(ctx: click.Context, after: list[str] | None) -> None:
    """Raise UsageError unless exactly one word, ROWS, is before ``--``, and COMMAND is after it."""
    if after is None or ctx.resilient_parsing:
        return
    words = [ctx.params["rows"], *ctx.params["command"]]
    before = words[: len(words) - len(after)]
    if not before:
        raise _no_rows(ctx)
    if len(before) > 1:
        raise click.UsageError(
            f"{before[1]!r} comes after ROWS ({before[0]!r}), but before --: quote the name of a file "
            "with spaces, and write all of COMMAND after --",
            ctx,
        )


def _no_rows(ctx: click.Context | None) -> click.UsageError:
    why = "there are no ROWS before --: give a file, or - for standard input"
    return click.UsageError(f"{why}: {FORM}", ctx)


def check_program(program: str) -> None:
    """Raise InvalidValueError if the program doesn't exist: all rows would fail."""
    path = processes.find_program(program)
    if path is not None:
        _check_script(path, program)
        return
    first, _, rest = program.partition(" ")
    if rest and processes.find_program(first) is not None:
        why = "the quotes make one word of the command, and this word is taken as the name of a program"
        reason = f"{why}: write -- {program}"
        if _SHELL_SIGNS.search(program):  # a value in the script would be run as code
            reason = f"{why}: after --, write {shell.A_SCRIPT} with each column as an argument"
    elif "{" in program:
        return
    elif os.path.isfile(program) and os.path.dirname(program):
        reason = processes.why_not_started(program)
    elif os.path.isfile(program):
        why = "there is no such program on PATH: if you mean the file in this directory"
        reason = f"{why}, write ./{program}"
    else:
        reason = "there is no such program: check its name, or give its path"
    raise InvalidValueError("COMMAND", program, reason)


def _check_script(path: str, program: str) -> None:
    """Raise InvalidValueError for a script whose interpreter has a CR at the end of its name."""
    try:
        with open(path, "rb") as file:
            line = file.readline(200)
    except OSError:
        return
    if line.startswith(b"#!") and line.endswith(b"\r\n"):
        reason = "the script has line ends of Windows, so its first line names no program: convert the script, by "
        raise InvalidValueError("COMMAND", program, reason + f"sed -i 's/\\r$//' {path}")
