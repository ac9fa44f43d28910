"""The conditions of ``--where``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import click
import msgspec

from journal.cli.find import did_you_mean
from journal.cli.output import first_of
from journal.frames.columns import MISSING, member_of_row
from journal.fs import shell
from journal.model import JobRow
from journal.text import as_text, counted, shorten

_CONDITION = re.compile(
    r"""\s*("(?:[^"\\]|\\.)*"|\S.*?)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*""", re.DOTALL
)
# Numbers in the syntax of JSON. So 0123, "1_000" and "nan" are text; 0123 may be a postal code.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?", re.ASCII)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDER = ("<", "<=", ">", ">=")
# For columns of the journal: the options that choose rows by them.
_OPTION_OF = {
    "status": "--status",
    "error_code": "--error-code",
    "version": "--version",
    "row_number": "--row",
}
MAX_COLUMNS = 1000  # columns whose names are stored for a message


class Condition(NamedTuple):
    """A condition on a row: a column, an operator, and the text to compare with.

    ``column`` is a column of the data, a member of such a column (``address.city``), or a member of
    the result.
    """

    column: str
    operator: str
    value: str

    def holds(self, row: JobRow) -> bool:
        """Return whether the row meets the condition. A row without the column doesn't meet it.

        If each side is a number, or text that is a number, the sides are compared as numbers.
        Otherwise they are compared as text. ``~`` tests whether the text contains ``value``. Null
        and empty text in the row are neither below nor above anything. Other text in the row that
        isn't a number is neither below nor above a number.
        """
        found = member_of_row(row, self.column)
        if found is MISSING:
            return False
        text = "null" if found is None else as_text(found)
        if self.operator == "~":
            return self.value in text
        if found in (None, "") and self.operator in _ORDER:
            return False
        compare = _COMPARE[self.operator]
        left, right = _number(text), _number(self.value)
        if left is not None and right is not None:
            return compare(left, right)
        if right is not None and self.operator in _ORDER:
            return False
        return compare(text, self.value)

    def text_without_number(self, row: JobRow) -> str | None:
        """The row's text, if ``value`` is a number and the text isn't; else None.

        Such a text is neither below nor above ``value``.
        """
        if self.operator not in _ORDER or _number(self.value) is None:
            return None
        found = member_of_row(row, self.column)
        if found is MISSING or found in (None, ""):
            return None
        text = as_text(found)
        return text if _number(text) is None else None


def _number(text: str) -> Decimal | None:
    if _NUMBER.fullmatch(text) is None or len(text) > 300:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent has more than 18 digits
        return None


# Operators of other languages, which are refused. Otherwise their second sign would count as text.
_MEANT = {"<>": "!=", "=>": ">=", "=<": "<="}


def _parse_where(ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> Where:
    found: dict[str, Condition] = {}
    for text in values:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise click.BadParameter(
                f"{text!r} is not a condition: give COLUMN=VALUE, or !=, <, <=, >, >=, ~ (contains)"
            )
        column, sign, value = match.groups()
        if value.startswith(("=", "<", ">")):
            rest = value.lstrip("=<> ")
            meant = f"{column}{_MEANT.get(sign + value[0], sign)}{rest}"
            quoted = f"{column}{sign}{msgspec.json.encode(value).decode()}"
            raise click.BadParameter(
                f"{text!r} compares with {value!r}: write {meant}, or '{quoted}' if the value begins "
                f"with {value[0]}"
            )
        found[text] = Condition(_unquoted(column), sign, _unquoted(value))
    return Where(found, _hints(ctx, found.values()))


def _hints(ctx: click.Context, conditions: Iterable[Condition]) -> dict[str, str]:
    """A dict from a column of the journal to the command's option that selects by it."""
    options = {option for parameter in ctx.command.params for option in parameter.opts}
    hints = {}
    for column, sign, value in conditions:
        option = _OPTION_OF.get(column)
        if option in options:
            given = f" {shell.quote(value)}" if sign == "=" else ""
            hints[column] = (
                f"{column!r} is a column of the journal, not of the data: write {option}{given}"
            )
    return hints


def _unquoted(text: str) -> str:
    """Decode one side of a condition. A side in double quotes is a JSON string."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        raise click.BadParameter(
            f'{text} is not a JSON string: put a backslash before each " and \\ in it'
        ) from None


class Columns:
    """Collects the names of requested columns that no row has."""

    def __init__(self, names: Iterable[str], hints: Mapping[str, str] = {}) -> None:
        """``hints``: a dict from a name to the column or option that the user may have meant."""
        self.absent = set(names)
        self._hints = hints
        self._members: dict[str, str] = {}  # by name: where results and usages have it
        self._seen: set[str] = set()
        self._any_row = False

    def look(self, row: JobRow) -> None:
        if self.absent:
            self._any_row = True
            self.absent.difference_update(row.data)
            self.absent -= {n for n in self.absent if member_of_row(row, n) is not MISSING}
            if len(self._seen) < MAX_COLUMNS:
                self._seen.update(row.data)
            for root, value in (("result", row.result), ("usage", row.usage)):
                for name in self.absent.intersection(value) if isinstance(value, dict) else ():
                    self._members.setdefault(name, f"{root}.{name}")

    def messages(self, which: str) -> list[str]:
        """Return a message for each column that no row has.

        If there was no row, the list is empty. ``which`` describes the rows.
        """
        there = "their data has no columns"
        if self._seen:
            there = f"the columns are: {first_of(sorted(self._seen), 10)}"
        return [
            "; ".join(
                [
                    f"none of the rows {which} has a column {column!r}",
                    there,
                    *self._hint(column),
                ]
            )
            for column in sorted(self.absent)
            if self._any_row
        ]

    def _hint(self, column: str) -> list[str]:
        if column in self._members:
            root, name = self._members[column].split(".", 1)
            return [f"{name!r} is a member of the {root}: write {root}.{name}"]
        if column in self._hints:
            return [self._hints[column]]
        return did_you_mean(column, self._seen)


class WithoutNumber:
    """Counts the rows whose text is compared with a number, but isn't a number."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._rows = bytearray()  # by row number: 1 for such a row; a run checks rows repeatedly
        self._example = ""

    def look(self, row: JobRow) -> None:
        text = self._condition.text_without_number(row)
        if text is not None:
            self._rows.extend(bytes(max(0, row.row_number + 1 - len(self._rows))))
            self._rows[row.row_number] = 1
            self._example = self._example or text

    def messages(self) -> list[str]:
        """A list with a message about the counted rows. It is empty if there are none."""
        count = self._rows.count(1)
        if not count:
            return []
        column, sign, value = self._condition
        rows = counted(count, "row|rows has|have no number in")
        them = "it" if count == 1 else "them"
        example = shorten(self._example, 40)
        return [
            f"{rows} {column!r} (such as {example!r}), so {sign} {value} doesn't hold for {them}"
        ]


class Where:
    """The conditions of ``--where``.

    A row must meet all of them. Iteration yields the texts of the conditions.
    """

    def __init__(
        self, conditions: Mapping[str, Condition] = {}, hints: Mapping[str, str] = {}
    ) -> None:
        self._texts = tuple(conditions)
        self.conditions = list(conditions.values())
        self._columns = Columns((condition.column for condition in self.conditions), hints)
        self._unmet = dict(conditions)
        self._without = [WithoutNumber(condition) for condition in self.conditions]

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def holds(self, row: JobRow) -> bool:
        self._columns.look(row)
        for text in [text for text, condition in self._unmet.items() if condition.holds(row)]:
            del self._unmet[text]
        for each in self._without:
            each.look(row)
        return all(condition.holds(row) for condition in self.conditions)

    def absent(self) -> list[str]:
        """A message for each column that no checked row has."""
        return self._columns.messages("checked")

    def without_number(self) -> list[str]:
        """A message for each condition that compares a number with text that isn't a number."""
        return [text for each in self._without for text in each.messages()]

    def unmet(self) -> list[str]:
        """Messages about conditions that no checked row meets.

        There is one message for each column that no checked row has, and one for each other unmet
        condition. The messages of :meth:`without_number` follow.
        """
        absent = self._columns.absent
        unmet = [
            f"none of the rows checked meets {text!r}"
            for text, condition in self._unmet.items()
            if condition.column not in absent
        ]
        return self.absent() + unmet + self.without_number()


def where_option(which: str) -> Callable[..., Any]:
    """The option ``--where``.

    The command gets a :class:`Where`. Without conditions, its truth value is False.
    """
    return click.option(
        "--where",
        metavar="CONDITION",
        multiple=True,
        callback=_parse_where,
        help=f"{which} whose data meets this condition: zip=94107, 'price<10', city~York (contains). "
        "Repeatable.",
    )
