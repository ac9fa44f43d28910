"""Makes `journal/docs/commands.md` and `run-options.md` from the help texts of the commands.

``python tests/support/reference.py`` prints the pages. With ``--write``, it writes the files.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import click

from journal.cli.main import PURPOSES, cli
from journal.cli.run.options import records_by_purpose

DOCS = Path(__file__).parents[2] / "journal" / "docs"
_COLUMNS, _PAGE_COLUMNS = 100, 120
_SHARED_BY = 3  # an option of as many commands is described once, at the end of the page

_HEAD = """\
# Commands

`journal [--root DIR] COMMAND`. The root is the directory of the jobs: `./jobs`, or what JOURNAL_ROOT says.
`journal help COMMAND` describes a command in full, with an example. This page lists the options of all commands except
`journal run`. The options of `journal run` are in `journal help run-options`.

- **JOB** is a job's id, a beginning that only this id has, or the path of the job's directory.
- **ROWS** are row numbers, such as `5,12-40`.
- **DURATION** is a number with a unit, such as `500ms`, `90s`, `5m` or `2h`. Without a unit, it is in seconds.
- **CONDITION** is a column, one of `=` `!=` `<` `<=` `>` `>=` `~` (contains), and a value. The column is one of the data
  (`zip`, `to.city`), a member of the result (`result.price`), or else a field of the row (`attempts>1`). A side in
  double quotes is a JSON string, which keeps spaces and signs: `'"a=b" = "x "'`. `4,50` is text, so it is neither below
  nor above a number. If `--where` is repeated, all conditions must hold.
- **WHEN** is a date (`2026-11-24`), a time (`'2026-11-24 13:35'`), or how long ago (`2h`, `3d`).
- **Environment**: JOURNAL_ROOT sets `--root`. With NO_COLOR, tables on a terminal have no colours.
- **Completion**: a shell can complete commands, options and their values, job ids, and files.
  For this, add a line to
  - `~/.bashrc`: `eval "$(_JOURNAL_COMPLETE=bash_source journal)"`
  - `~/.zshrc`, after `compinit`: `eval "$(_JOURNAL_COMPLETE=zsh_source journal)"`
  - `~/.config/fish/config.fish`: `_JOURNAL_COMPLETE=fish_source journal | source`

The exit codes are in `journal help exceptions`.
"""

_RUN_HEAD = """\
# Options of `journal run`

`journal help running` explains these options, with examples.

- **DURATION** is a number with a unit, such as `500ms`, `90s`, `5m` or `2h`. Without a unit, it is in seconds.
"""


def pages() -> dict[Path, str]:
    """Return a dict from the path of each page to its text."""
    command, context = _command("run")
    purposes = records_by_purpose(command, context)
    own = [f"## {name}\n\n{_block(records)}\n" for name, records in purposes.items()]
    run = "\n".join([_RUN_HEAD, *own])
    return {DOCS / "commands.md": page(), DOCS / "run-options.md": run}


def page() -> str:
    """Return the page of the commands: the commands by purpose, then the shared options."""
    users = _users()
    shared = [option for option, names in users.items() if len(names) >= _SHARED_BY]
    words = Counter(word for word, _ in shared)
    explained = [
        (word, f"{text} For {', '.join(users[word, text])}." if words[word] > 1 else text)
        for word, text in shared
    ]
    lines = [_HEAD]
    for purpose, names in PURPOSES.items():
        lines.append(f"## {purpose}\n")
        for name in names:
            lines += _described(name, shared)
    lines += ["## Shared options\n", _block(explained), ""]
    return "\n".join(lines)


def _users() -> dict[tuple[str, str], list[str]]:
    """Return a dict from each option, as a help text shows it, to the commands with this option."""
    users = defaultdict(list)
    for names in PURPOSES.values():
        for name in names:
            for record in _records(name):
                users[record].append(name)
    return users


def _records(name: str) -> Iterator[tuple[str, str]]:
    """Yield each option of a command as the help text shows it, except ``-h``, which all have."""
    command, context = _command(name)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield record


def _described(name: str, shared: list[tuple[str, str]]) -> list[str]:
    command, context = _command(name)
    other, own = _options_of(name, shared)
    usage = " ".join(command.collect_usage_pieces(context)).removeprefix("[OPTIONS]").strip()
    summary = command.get_short_help_str(200)
    if other:
        summary += f" Shared options: {', '.join(other)}."
    if name == "run":
        own, summary = [], f"{summary} The options are in `journal help run-options`."
    lines = [f"### `journal {name} {usage}".rstrip() + "`\n", summary]
    return [*lines, _block(own), ""] if own else [*lines, ""]


def _options_of(
    name: str, shared: list[tuple[str, str]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the names of a command's shared options, and its other options with their help."""
    own = [record for record in _records(name) if record not in shared]
    return [_name(record) for record in _records(name) if record in shared], own


def _name(record: tuple[str, str]) -> str:
    return f"`{record[0].split()[0]}`"


def _block(records: list[tuple[str, str]]) -> str:
    formatter = click.HelpFormatter(width=_PAGE_COLUMNS)
    with formatter.indentation():
        formatter.write_dl(records, col_max=40)
    text = "\n".join(line.rstrip() for line in formatter.getvalue().splitlines())
    return f"```text\n{text}\n```"


def _command(name: str) -> tuple[click.Command, click.Context]:
    parent = cli.make_context("journal", [name])
    command = cli.get_command(parent, name)
    assert command is not None
    return command, click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_COLUMNS,
        max_content_width=_COLUMNS,
    )


def help_text(name: str) -> str:
    """Return what ``journal NAME --help`` prints on a terminal with 100 columns."""
    command, context = _command(name)
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return "\n".join(lines) + "\n"


def main() -> None:
    for path, text in pages().items():
        if "--write" in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)


if __name__ == "__main__":
    main()
