"""Conditions on the data of rows: ``--where 'COLUMN=VALUE'``, or ``'"a column" = "a value"'``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import click
import msgspec

from journal.model import JobRow
from journal.tabular import as_text

_CONDITION = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|\S.*?)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*""", re.DOTALL
)
# As JSON writes them: 0123 is a postal code, and "1_000" and "nan" are text.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()


class Condition(NamedTuple):
    """``column`` of a row's data, an operator, and the value it is compared with, as text."""

    column: str
    operator: str
    value: str

    def holds(self, row: JobRow) -> bool:
        """Whether it does for a row. A row that lacks the column meets no condition on it.

        Two numbers, in JSON or as text that looks like one, compare as numbers, others as text;
        ``~`` looks for the value within the text.
        """
        found = row.data.get(self.column, _MISSING)
        if found is _MISSING:
            return False
        text = "null" if found is None else as_text(found)
        if self.operator == "~":
            return self.value in text
        compare = _COMPARE[self.operator]
        left, right = _number(text), _number(self.value)
        if left is not None and right is not None:
            return compare(left, right)
        return compare(text, self.value)


def _number(text: str) -> int | float | None:
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > 300:
        return None
    return float(text) if match[1] or match[2] else int(text)


def parse_conditions(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[Condition]:
    """``--where`` as an option's values."""
    found = []
    for text in values:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise click.BadParameter(
                f"{text!r} is no condition: say COLUMN=VALUE, or !=, <, <=, >, >=, ~ (contains)"
            )
        found.append(Condition(_unquoted(match[1]), match[2], _unquoted(match[3])))
    return found


def _unquoted(text: str) -> str:
    """A side of a condition; in double quotes it is a string as JSON writes it."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        raise click.BadParameter(
            f'{text} is no string as JSON writes it: put a backslash before each " and \\ within'
        ) from None
