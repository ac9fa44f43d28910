"""A command with placeholders, checked against the rows and filled in with the values of one."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.model import JobRow

NUMBER = "#"
ROW_ID = "id"

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_MARK = "\0"  # stands for a placeholder while the line is looked at: no command line holds it


class Template:
    """An argv with ``{column}`` placeholders; ``{{`` and ``}}`` stand for single braces.

    ``{#}`` is the row's number and ``{id}`` its id, unless a column is called so. Text goes in as
    it is, null as nothing, any other value as compact JSON. No shell sees the argv, so values need
    no quoting. With ``shell`` it is one command line for ``sh``, and values are quoted for it.
    """

    def __init__(self, argv: Sequence[str], *, shell: bool = False) -> None:
        """Raises InvalidValueError for a placeholder where no quoting would make it one word."""
        self.argv = list(argv)
        self.shell = shell
        if shell:
            if len(self.argv) != 1:
                raise InvalidValueError(
                    "COMMAND",
                    shlex.join(self.argv),
                    "must be one command line for the shell: quote it",
                )
            _check_shell_line(self.argv[0])
        self._parts = [_split(argument) for argument in self.argv]
        self._names = [name for parts in self._parts for name in parts[1::2]]

    def check(self, columns: Collection[str] | None) -> None:
        """Raise InvalidValueError for a placeholder that is no column of the input.

        ``columns`` None: they aren't known before the rows are read; see :meth:`checked`.
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
                    "the row's number and id; a brace that is meant as such is written twice, "
                    "{{ or }}",
                )

    def checked(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows as they are, each looked at first: InvalidValueError if it lacks a column."""
        needed = frozenset(self._names) - {NUMBER, ROW_ID}
        for place, data in enumerate(rows, 1):
            if not needed <= data.keys():
                name = next(name for name in self._names if name in needed and name not in data)
                raise InvalidValueError(
                    f"input row {place}",
                    list(data),
                    f"has no {name!r}, and COMMAND says {{{name}}}: give it one, if only null",
                )
            yield data

    def fill(self, row: JobRow) -> list[str]:
        """The argv for one row. Raises InvalidValueError if the row lacks a column."""
        data = row.data

        def value(name: str) -> str:
            if name in data:
                found = data[name]
            elif name == NUMBER:
                return str(row.row_number)
            elif name == ROW_ID:
                found = row.id
            else:
                raise InvalidValueError(
                    "COMMAND",
                    f"{{{name}}}",
                    f"this row has no such column: it holds {list(data)}",
                )
            text = _text(found)
            return shlex.quote(text) if self.shell else text

        filled = [
            "".join(value(part) if place % 2 else part for place, part in enumerate(parts))
            for parts in self._parts
        ]
        return ["sh", "-c", *filled] if self.shell else filled


def _split(argument: str) -> list[str]:
    """Text and the names of placeholders in turn, beginning and ending with text."""
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


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else msgspec.json.encode(value).decode()


# --- where a quoted value is one word of a shell's command line -------------------------------

# What changes how a shell reads on. A comment begins where a word could.
_TOKEN = re.compile(
    rf"""\\. | '[^']*'? | (?<![^\s;&|()<>])\#[^\n]* | \$' | <<<? | \(
    | \$\(\( | \$\( | \$\{{ | \${_MARK} | ["`)}}] | {_MARK}""",
    re.DOTALL | re.VERBOSE,
)
_TOKEN_IN_QUOTES = re.compile(
    rf"""\\. | \$\(\( | \$\( | \$\{{ | \${_MARK} | ["`}}] | {_MARK}""", re.DOTALL | re.VERBOSE
)
_CLOSER = {'"': '"', "`": "`", "$((": ")", "$(": ")", "(": ")", "${": "}", "<<": "", "$'": ""}
_WHERE = {
    "'": "within single quotes",
    '"': "within double quotes",
    "`": "within backticks, for which there is $(...)",
    "${": "within ${...}",
    "$((": "within $((...)), which calculates with any text: assign it to a variable first",
    "<<": "behind <<, perhaps in a here-document: use printf, or assign it to a variable first",
    "$'": "behind $'...', which not every sh reads alike: use printf",
    "\\": "behind a backslash",
    "$": "behind a $: a variable's braces are written twice",
    "#": "in a comment",
}


def _check_shell_line(line: str) -> None:
    """Refuse a placeholder where a shell doesn't read a quoted value as one word of text.

    A value could end the quotes around it there, and run. This knows no more of the grammar than it
    takes to see that, and refuses where it doesn't know.
    """
    if _MARK in line:
        raise InvalidValueError("COMMAND", line, "must not hold a NUL character")
    names = (match[0] for match in _PLACEHOLDER.finditer(line) if match[1] is not None)
    marked = _PLACEHOLDER.sub(lambda match: match[0][0] if match[1] is None else _MARK, line)
    stack: list[str] = []  # what the shell is within, the innermost last
    place = 0
    while match := _token(stack).search(marked, place):
        part, place = match[0], match.end()
        where = _where(stack) if part == _MARK else part[0]
        for name in itertools.islice(names, part.count(_MARK)):
            if where is not None:
                raise InvalidValueError(
                    "COMMAND",
                    name,
                    f"stands {_WHERE[where]}; values are quoted for the shell already, so a "
                    "placeholder stands by itself, as in --zip={zip}",
                )
        if stack and part == _CLOSER[stack[-1]]:
            stack.pop()
        elif part in _CLOSER and not (part == "<<" and "$((" in stack):
            stack += ["$((", "("] if part == "$((" else [part]


def _token(stack: list[str]) -> re.Pattern[str]:
    """What to look for: in double quotes, and ${...} in them, less has a meaning."""
    inner = next((opener for opener in reversed(stack) if opener != "${"), None)
    return _TOKEN_IN_QUOTES if inner == '"' else _TOKEN


def _where(stack: list[str]) -> str | None:
    """What a placeholder mustn't be within, and is."""
    for opener in ("`", "<<", "$'"):  # reach to the end, whatever is within
        if opener in stack:
            return opener
    inner = next((opener for opener in reversed(stack) if opener != "("), None)
    return None if inner == "$(" else inner
