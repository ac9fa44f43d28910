"""The README's reference of the command line, out of the commands themselves.

``python tests/support/reference.py`` prints what belongs between the markers in README.md;
``python tests/support/reference.py --write`` puts it there.
"""

import sys
from pathlib import Path

import click

from journal.cli.main import cli

BEGIN, END = "<!-- reference -->\n", "<!-- end -->\n"
README = Path(__file__).parents[2] / "README.md"
_COLUMNS = 100


def reference() -> str:
    """Each command's help, as ``--help`` prints it on a terminal of 100 columns."""
    names = sorted(cli.list_commands(click.Context(cli)))
    return "\n".join(
        (
            f"{BEGIN}<details><summary>Every command with its options</summary>\n",
            *(f"```text\n{help_text(name)}```\n" for name in names),
            f"</details>\n{END}",
        )
    )


def help_text(name: str) -> str:
    """What ``journal NAME --help`` says."""
    parent = cli.make_context("journal", [name])
    command = cli.get_command(parent, name)
    assert command is not None
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_COLUMNS,
        max_content_width=_COLUMNS,
    )
    lines = (line.rstrip() for line in command.get_help(context).splitlines())
    return "\n".join(lines) + "\n"


def stated() -> str:
    """What the README has between the markers, with them."""
    text = README.read_text()
    begin = text.index(BEGIN)
    return text[begin : text.index(END, begin) + len(END)]


def main() -> None:
    if "--write" in sys.argv[1:]:
        README.write_text(README.read_text().replace(stated(), reference()))
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main()
