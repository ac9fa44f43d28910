"""The command line `journal`. The module of a command is imported when the command is used."""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from typing import Any

import click

from journal.cli.find import DEFAULT_ROOT, PATH
from journal.cli.mistakes import did_you_mean, meant_by
from journal.cli.output import echo_err
from journal.errors import JournalError
from journal.fs import system
from journal.fs.file_names import JOURNAL_NAME
from journal.run.exit_codes import EXIT_CLOSED_PIPE, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNEXPECTED
from journal.version import VERSION

_COMPLETE = "_JOURNAL_COMPLETE"  # a variable that a shell sets to get completions
# The commands by purpose. Each command is in a module of cli/commands: `watch.wait` is the command
# `wait` in the module `watch`.
_BY_PURPOSE = {
    "Run rows": "run step control.pause control.resume control.tune control.cancel",
    "Look": "list list.shards show rows rows.errors log watch watch.wait export report",
    "Settle rows": "settle.retry settle.redo settle.skip settle.resolve",
    "Move jobs": "transfer.pack transfer.unpack transfer.pull",
    "Repair damage": "damage.verify damage.repair",
    "Remove jobs": "delete delete.prune",
}
_COMMANDS = {"help": "help"} | {  # the module of each command
    word.rpartition(".")[2]: f"commands.{word.partition('.')[0]}"
    for words in _BY_PURPOSE.values()
    for word in words.split()
}
PURPOSES = {
    purpose: [word.rpartition(".")[2] for word in words.split()]
    for purpose, words in _BY_PURPOSE.items()
}


class _Commands(click.Group):
    """Finds commands by name, so that `journal list` doesn't import what `run` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's)
        return sorted(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            known = [*_COMMANDS, "--version"]
            close = did_you_mean(name, known) or ["`journal help` lists the commands"]
            raise click.UsageError("; ".join([f"there is no command {name!r}", *close]), ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"journal.cli.{_COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command


def _discard_output() -> None:
    """Discard buffered output. Otherwise, the write at exit would raise another error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.option(
    "--root",
    envvar="JOURNAL_ROOT",
    default=DEFAULT_ROOT,
    type=PATH,
    help="The directory of the jobs. Environment: JOURNAL_ROOT.",
)
@click.version_option(VERSION, prog_name="journal")
@click.pass_context
def cli(ctx: click.Context, root: str) -> None:
    """Run a command for each of many rows, and record what happened to each row.

    JOB is the id of a job, or the path of a job's directory.

    `journal help` lists the commands by purpose, and topics such as moving jobs and exit codes.
    """
    if os.path.lexists(os.path.join(root, JOURNAL_NAME)):
        above = os.path.dirname(os.path.abspath(root))
        hint = f"{root} is a job, and not the directory of the jobs: give --root {above}"
        raise click.UsageError(hint, ctx)
    ctx.obj = root


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns its exit code. An error is reported in one line."""
    _ensure_standard_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: echo_err(f"journal: {message}")
            if instruction := os.environ.get(_COMPLETE):
                from click.shell_completion import shell_complete  # noqa: PLC0415  (rarely used)

                return shell_complete(cli, {}, "journal", _COMPLETE, instruction)
            # Not cli.main(), which exits with code 1 if standard output is closed.
            with cli.make_context(
                "journal", sys.argv[1:] if arguments is None else [*arguments]
            ) as ctx:
                code: Any = cli.invoke(ctx)
            sys.stdout.flush()
    except click.ClickException as error:
        error = _explained(error)
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().splitlines():
            echo_err(line)
        return error.exit_code
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        echo_err("interrupted")
        return EXIT_INTERRUPTED
    except JournalError as error:
        echo_err("; ".join([f"journal: {error}", *getattr(error, "__notes__", ())]))
        return error.exit_code
    except OSError as error:
        if system.is_closed_pipe(error):
            _discard_output()
            return EXIT_CLOSED_PIPE
        echo_err(f"journal: {error}")
        return EXIT_UNEXPECTED
    except Exception as error:
        if os.environ.get("JOURNAL_TRACEBACK"):
            raise
        echo_err(
            f"journal: unexpected {type(error).__name__}: {error}; set JOURNAL_TRACEBACK=1 to see where"
        )
        return EXIT_UNEXPECTED
    return code if isinstance(code, int) else EXIT_OK


def _explained(error: click.ClickException) -> click.ClickException:
    """Return ``error``, or an error that replaces it and gives more advice."""
    if isinstance(error, click.MissingParameter) and error.param is not None:
        more = "`journal list` lists the jobs." if error.param.name == "job" else ""
        if isinstance(error.param, click.Option):
            more = error.param.help or ""
        text = f"{error.format_message()} {more}" if more else ""
    elif isinstance(error, click.NoSuchOption):
        text = _about_option(error)
    else:
        text = ""
    return click.UsageError(text, getattr(error, "ctx", None)) if text else error


def _about_option(error: click.NoSuchOption) -> str:
    """Text about an option that the command doesn't have: the words to write instead, or ""."""
    name = error.option_name
    if name == "--root":
        return "--root comes before the command: journal --root DIRECTORY COMMAND"
    if (meant := meant_by(error)) is not None:
        return f"No such option: {name}. {meant}"
    ctx = click.Context(cli)
    commands = ((each, cli.get_command(ctx, each)) for each in cli.list_commands(ctx))
    others = [
        f"`journal {each}`"
        for each, command in commands
        if command is not None and any(name in param.opts for param in command.params)
    ]
    is_of = f"{name} is not an option of this command; it is an option of {', '.join(others)}"
    has_where = error.ctx is not None and any("--where" in p.opts for p in error.ctx.command.params)
    if has_where and not others and not error.possibilities:
        return f"No such option: {name}. If it is a column: --where {name.lstrip('-')}=VALUE"
    return is_of if others else ""


def _ensure_standard_streams() -> None:
    """Open /dev/null for each closed standard stream.

    Otherwise a journal might get descriptor 2, and messages would be written into the journal.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() uses the lowest free descriptor, which is the descriptor of the closed stream
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):  # an encoding may not have all characters of the data
        system.set_encoding(stream)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            # open until we exit
            setattr(sys, name, open(descriptor, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115
