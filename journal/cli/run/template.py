"""A command with placeholders, which are filled with the values of a row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from journal.errors import InvalidValueError
from journal.model import JobRow
from journal.text import as_text

NUMBER = "#"
ROW_ID = "id"

_SHELLS = frozenset(("ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"))
_TAKES_SCRIPT = re.compile("-[a-z]*c")
_ARGUMENT = re.compile(r"\$\{?[1-9@*]")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


class Template:
    """An argv with ``{column}`` placeholders. ``{{`` and ``}}`` are single braces.

    - ``{#}`` is the row's number and ``{id}`` its id, unless a column has that name.
    - Text is filled in unchanged. Null becomes empty text, and any other value becomes compact
      JSON.
    - No shell is involved, so values need no quoting.

    Raises InvalidValueError for a placeholder inside the script of a shell (``sh -c``), because the
    shell would execute the value as code, in spite of any quotes. The script must take values as
    arguments.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._parts = [_split(argument) for argument in argv]
        for place in range(len(argv) - 2):
            if PurePath(argv[place]).name in _SHELLS and _TAKES_SCRIPT.fullmatch(argv[place + 1]):
                _check_script(argv, self._parts, place + 2)
        self._names = [name for parts in self._parts for name in parts[1::2]]

    def check(self, columns: Collection[str] | None) -> None:
        """Raise InvalidValueError for a placeholder that isn't a column of the input.

        If each row has its own columns, ``columns`` is None, and :meth:`checked` checks each row.
        """
        if columns is None:
            return
        for name in self._names:
            if name not in columns and name not in (NUMBER, ROW_ID):
                known = ", ".join(f"{{{column}}}" for column in columns)
                raise InvalidValueError(
                    "COMMAND",
                    f"{{{name}}}",
                    f"there is no such column: the columns are {known}, and {{#}} and {{id}} are "
                    "the row's number and id; to write a brace, double it: {{ or }}",
                )

    def checked(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows unchanged. Raises InvalidValueError at a row that lacks a column of the
        command.
        """
        needed = frozenset(self._names) - {NUMBER, ROW_ID}
        for place, data in enumerate(rows, 1):
            if not needed <= data.keys():
                name = next(name for name in self._names if name in needed and name not in data)
                raise InvalidValueError(
                    f"input row {place}",
                    list(data),
                    f"has no {name!r}, but COMMAND has {{{name}}}: add it to the row, as null if need be",
                )
            yield data

    def fill(self, row: JobRow) -> list[str]:
        """The argv for one row. Raises InvalidValueError if the row lacks a column."""
        values = {NUMBER: row.row_number, ROW_ID: row.id} | row.data
        for name in self._names:
            if name not in values:
                raise InvalidValueError(
                    "COMMAND",
                    f"{{{name}}}",
                    f"this row has no such column: it has {list(row.data)}",
                )
        return [
            "".join(
                as_text(values[part]) if place % 2 else part for place, part in enumerate(parts)
            )
            for parts in self._parts
        ]


def _check_script(argv: Sequence[str], parts: Sequence[Sequence[str]], place: int) -> None:
    """Raise InvalidValueError for a value inside a shell's script, or a value that becomes the
    script's $0.
    """
    script, arguments = argv[place], argv[place + 1 :]
    shell = " ".join(argv[place - 2 : place])
    instead = f"give it as an argument: {shell} 'echo \"$1\"' sh {{column}}"
    if len(parts[place]) > 1 and any(parts[place][::2]):
        raise InvalidValueError(
            "COMMAND",
            script,
            "a value inside a shell's script is run as a part of it, however it is quoted; "
            + instead,
        )
    if len(arguments) == 1 and _ARGUMENT.search(parts[place][0]):
        raise InvalidValueError(
            "COMMAND",
            arguments[0],
            f"the first word after a shell's script becomes its $0, so its $1 would be empty; {instead}",
        )


def _split(argument: str) -> list[str]:
    """Split an argument into text and names of placeholders, alternately, starting with text."""
    parts = [""]
    end = 0
    for match in _PLACEHOLDER.finditer(argument):
        parts[-1] += argument[end : match.start()]
        end = match.end()
        if match[1] is None:
            parts[-1] += match[0][0]
        else:
            parts += [match[1], ""]
    parts[-1] += argument[end:]
    return parts
