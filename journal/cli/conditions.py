"""The conditions of ``--where``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from journal.cli.find import did_you_mean
from journal.cli.output import first_of
from journal.cli.shared_options import option
from journal.model import HISTORY_COLUMNS, JobRow
from journal.tables.columns import MISSING, member_of_row, own_name
from journal.text import as_text, shorten

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
# The journal's columns of a row. Results and usages are found as their members are.
_OWN = {*JobRow.__struct_fields__}.difference(("result", "usage"))
MAX_COLUMNS = 1000  # columns whose names are stored for a message


def value_of(row: JobRow, name: str) -> Any:
    """Return the value that a name selects in a row, or MISSING.

    The value is searched in the row's data, then in its result or usage, then in the journal's
    columns of the row. ``journal_NAME`` is the column ``NAME`` of the journal, whatever the data has.
    Columns of the history are MISSING: an export has them.
    """
    found = member_of_row(row, name)
    own = own_name(name, _OWN)
    if found is not MISSING or own is None:
        return found
    return getattr(row, own, MISSING)


class Condition:
    """A condition on a row: a column, an operator, and the text to compare with.

    ``column`` is a name that :func:`value_of` takes: a column of the data, a member of such a column
    (``address.city``), a member of the result, or a column of the journal such as ``attempts``.
    """

    def __init__(self, column: str, sign: str, value: str) -> None:
        self.column, self._sign, self._value = column, sign, value
        self._number = _number(value)
        self.is_met = False  # by any of the rows that were checked
        # The number of the first row with text that was compared with a number, and this text.
        self._odd: tuple[int, str] | None = None

    def holds(self, row: JobRow) -> bool:
        """Return whether the row meets the condition. A row without the column doesn't meet it.

        If each side is a number, or text that is a number, the sides are compared as numbers.
        Otherwise they are compared as text. ``~`` tests whether the text contains the value. Null
        and empty text in the row are neither below nor above anything. Other text in the row that
        isn't a number is neither below nor above a number.
        """
        found = value_of(row, self.column)
        if found is MISSING:
            return False
        holds = self._compare(row.row_number, found)
        self.is_met = self.is_met or holds
        return holds

    def _compare(self, row_number: int, found: Any) -> bool:
        text = "null" if found is None else as_text(found)
        if self._sign == "~":
            return self._value in text
        is_order = self._sign in _ORDER
        if found in (None, "") and is_order:
            return False
        compare = _COMPARE[self._sign]
        number = None if self._number is None else _number(text)
        if self._number is not None and number is not None:
            return compare(number, self._number)
        if self._number is not None and is_order:
            self._odd = self._odd or (row_number, text)
            return False
        return compare(text, self._value)

    def without_number(self) -> list[str]:
        """A list with a message if texts were compared with a number, but aren't numbers."""
        if self._odd is None:
            return []
        number, text = self._odd
        example = f"row {number} has {shorten(text, 40)!r} in {self.column!r}"
        return [f"{example}: {self._sign} {self._value} doesn't hold for what isn't a number"]


def _number(text: str) -> Decimal | None:
    if _NUMBER.fullmatch(text) is None or len(text) > 300:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:  # the exponent has more than 18 digits
        return None


# Operators of other languages, which are refused. Otherwise their second sign would count as text.
_MEANT = {"<>": "!=", "=>": ">=", "=<": "<="}


def _parse_where(values: tuple[str, ...]) -> Where:
    found: dict[str, Condition] = {}
    for text in values:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not a condition: give COLUMN=VALUE, or !=, <, <=, >, >=, ~ (contains)"
            )
        column, sign, value = match.groups()
        if value.startswith(("=", "<", ">")):
            rest = value.lstrip("=<> ")
            meant = f"{column}{_MEANT.get(sign + value[0], sign)}{rest}"
            quoted = f"{column}{sign}{msgspec.json.encode(value).decode()}"
            raise ValueError(
                f"{text!r} compares with {value!r}: write {meant}, or '{quoted}' if the value begins "
                f"with {value[0]}"
            )
        found[text] = Condition(_unquoted(column), sign, _unquoted(value))
    return Where(found)


def _unquoted(text: str) -> str:
    """Decode one side of a condition. A side in double quotes is a JSON string."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        raise ValueError(
            f'{text} is not a JSON string: put a backslash before each " and \\ in it'
        ) from None


class Columns:
    """Collects the names of requested columns that no row has."""

    def __init__(self, names: Iterable[str]) -> None:
        self.absent = set(names)
        self._members: dict[str, str] = {}  # by name: where results and usages have it
        self._seen: set[str] = set()
        self._any_row = False

    def look(self, row: JobRow) -> None:
        if self.absent:
            self._any_row = True
            self.absent.difference_update(row.data)
            self.absent -= {n for n in self.absent if value_of(row, n) is not MISSING}
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
                [f"none of the rows {which} has a column {column!r}", there, *self._hint(column)]
            )
            for column in sorted(self.absent)
            if self._any_row
        ]

    def _hint(self, column: str) -> list[str]:
        if column in self._members:
            root, name = self._members[column].split(".", 1)
            return [f"{name!r} is a member of the {root}: write {root}.{name}"]
        if own_name(column, HISTORY_COLUMNS):
            return [f"`journal export` has {column!r}"]
        return did_you_mean(column, self._seen)


class Where:
    """The conditions of ``--where``.

    A row must meet all of them. Iteration yields the texts of the conditions.
    """

    def __init__(self, conditions: Mapping[str, Condition] = {}) -> None:
        self._conditions = conditions
        self._columns = Columns(each.column for each in conditions.values())

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._conditions)

    def holds(self, row: JobRow) -> bool:
        self._columns.look(row)
        met = [each.holds(row) for each in self._conditions.values()]  # each is to be asked
        return all(met)

    def unmet(self) -> list[str]:
        """A message for each condition that no checked row meets, if only for lack of the column.

        A message for each condition that compares a number with text that isn't a number follows.
        """
        unmet = [
            f"none of the rows checked meets {text!r}"
            for text, each in self._conditions.items()
            if not each.is_met and each.column not in self._columns.absent
        ]
        odd = [text for each in self._conditions.values() for text in each.without_number()]
        return self._columns.messages("checked") + unmet + odd


def where_option(which: str) -> Callable[..., Any]:
    """The option ``--where``.

    The command gets a :class:`Where`. Without conditions, its truth value is False.
    """
    return option(
        "--where CONDITION",
        f"{which} that meet this condition: zip=94107, 'result.price<10', city~York (contains), "
        "'attempts>1'. Repeatable.",
        _parse_where,
        multiple=True,
    )
