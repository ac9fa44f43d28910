"""Which rows a command shows or changes: ``--row --status --error-code --where --version``.

``Where`` has the conditions of ``--where``.
"""

from __future__ import annotations

import operator
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import wraps
from typing import Any, NamedTuple

import click
import msgspec

from journal.cli.mistakes import did_you_mean
from journal.cli.output import first_of
from journal.cli.shared_options import option
from journal.fs import shell
from journal.model import HISTORY_COLUMNS, JobRow, RowStatus
from journal.service import JobService
from journal.tables.columns import MISSING, member_of_row, own_name
from journal.text import as_text, shorten
from journal.verbs import Verb, chosen_rows, row_ranges, rows_within

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
# The journal's columns of a row. "result" and "usage" are found in the same way as their members.
_OWN = {*JobRow.__struct_fields__}.difference(("result", "usage"))
MAX_COLUMNS = 1000  # columns whose names are stored for a message


def value_of(row: JobRow, name: str) -> Any:
    """Return the value that a name selects in a row, or MISSING.

    The value is searched in the row's data, then in its result or usage, then in the journal's
    columns of the row. ``journal_NAME`` is the column ``NAME`` of the journal, whatever the data
    has. Columns of the history are MISSING: an export has these columns.
    """
    found = member_of_row(row, name)
    own = own_name(name, _OWN)
    if found is not MISSING or own is None:
        return found
    return getattr(row, own, MISSING)


class Condition:
    """A condition on a row: a column, an operator, and the text to compare with.

    ``column``: a name for :func:`value_of`. This is a column of the data, a member of a column
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
        Otherwise they are compared as text. ``~`` tests whether the row's text contains the
        condition's text. Null and empty text in the row are neither below nor above anything. Other
        text in the row that isn't a number is neither below nor above a number.
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
        """A list with a message if texts that aren't numbers were compared with a number."""
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
        self._members: dict[str, str] = {}  # by name: its path in results or usages
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

    A row must meet all conditions. Iteration yields the texts of the conditions.
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
        met = [each.holds(row) for each in self._conditions.values()]  # all are asked
        return all(met)

    def unmet(self) -> list[str]:
        """Messages about missing columns, and about conditions that no checked row meets.

        Then a message for each condition that compares a number with text that isn't a number.
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

    The command gets a :class:`Where`. The truth value of a :class:`Where` without conditions is
    False.
    """
    return option(
        "--where CONDITION",
        f"{which} that meet this condition: zip=94107, 'result.price<10', city~York (contains), "
        "'attempts>1'. Repeatable.",
        _parse_where,
        multiple=True,
    )


_READS_STDIN = "journal.row_numbers"  # a key in the context of a command


class Selection(NamedTuple):
    """The options by which a command chooses rows. A chosen row meets all options."""

    ranges: list[range] | None = None
    statuses: tuple[RowStatus, ...] = ()
    error_codes: tuple[str, ...] = ()
    where: Where = Where()
    version: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.ranges is None and not self.statuses and not self._narrows

    @property
    def _narrows(self) -> bool:
        return bool(self.where or self.error_codes) or self.version is not None

    def holds(self, row: JobRow) -> bool:
        """Return whether a run may process a row, if the row's status allows this."""
        if self.ranges is not None:
            number = row.row_number
            at = bisect_right(self.ranges, number, key=lambda numbers: numbers.start)
            if not at or number not in self.ranges[at - 1]:
                return False
        return self.matches(row)

    def matches(self, row: JobRow) -> bool:
        """Return whether a row meets all options except ``--row`` and ``--status``."""
        return (
            (not self.error_codes or row.error_code in self.error_codes)
            and self.version in (None, row.version)
            and self.where.holds(row)
        )

    def shown(
        self, service: JobService, job_id: str, among: Sequence[RowStatus] = tuple(RowStatus)
    ) -> Iterator[JobRow]:
        """The chosen rows of a listing. ``among``: the statuses that the rows may have."""
        statuses = [status for status in among if status in (self.statuses or among)]
        if self.error_codes:  # no completed row has an error code
            statuses = [status for status in statuses if status is not RowStatus.COMPLETED]
        rows = service.get_rows(job_id, statuses if len(statuses) < len(RowStatus) else None)
        return filter(self.matches, rows if self.ranges is None else rows_within(rows, self.ranges))

    def rows(self, service: JobService, job_id: str, verb: Verb) -> Iterator[JobRow]:
        """The chosen rows whose status allows a change: see :func:`chosen_rows`."""
        matches = self.matches if self._narrows else None
        return chosen_rows(service, job_id, verb, self.ranges, self.statuses, matches)

    def codes_text(self, job_id: str) -> str:
        """Text about error codes that no row has, with the command that lists all codes."""
        codes = f"code {' or '.join(map(repr, self.error_codes))}"
        if any("," in code for code in self.error_codes):
            codes += "; for several codes, repeat --error-code"
        return f"{codes}: `journal errors {job_id}` lists the codes"

    def why_none(self, job_id: str) -> list[str]:
        """Messages that explain why no row was chosen."""
        which = "row" if self.ranges is None else "row of these"
        if self.error_codes and not self.where and self.version is None:
            return [f"no {which} failed with {self.codes_text(job_id)}"]
        return self.where.unmet() or [f"no {which} matches and has a status that allows this"]


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose rows to a command, and pass it a Selection as ``selection``."""

    @rows_option("Only these rows")
    @statuses_option
    @option(
        "--error-code CODE error_codes",
        "Only rows with this error code. Repeatable.",
        multiple=True,
    )
    @where_option("Only rows")
    @option("--version V", "Only rows whose outcome is from a run with this --version.")
    @wraps(command)
    def with_selection(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in Selection._fields}
        return command(**given, selection=Selection(**chosen))

    return with_selection


def rows_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--row ROWS``. The command gets ``ranges``, or None if the option isn't given."""
    return option(
        "--row ROWS ranges",
        f"{what}, such as 5,12-40, or - to read the numbers from standard input. Repeatable.",
        _parse_rows,
        multiple=True,
    )


def _parse_rows(values: tuple[str, ...]) -> list[range] | None:
    click.get_current_context().meta[_READS_STDIN] = "-" in values
    texts = [_numbers_read() if value == "-" else value for value in values]
    return row_ranges(",".join(texts)) if values else None


def has_read_numbers(ctx: click.Context) -> bool:
    """Whether ``--row -`` has read standard input."""
    return bool(ctx.meta.get(_READS_STDIN))


def _numbers_read() -> str:
    """The row numbers on standard input, such as the column ``row_number`` of a listing."""
    words = sys.stdin.read().replace(",", " ").split()
    if not words or words == ["row_number"]:
        raise ValueError("there are no row numbers on standard input")
    return ",".join(words[words[0] == "row_number" :])


def _parse_statuses(values: tuple[str, ...]) -> tuple[RowStatus, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in list(RowStatus):
            close = did_you_mean(name, RowStatus)
            raise ValueError("; ".join([f"{name!r} is not one of {', '.join(RowStatus)}", *close]))
    return tuple(map(RowStatus, names))


statuses_option = option(
    "--status STATUS,... statuses",
    f"Only rows of these statuses: {', '.join(RowStatus)}. Repeatable.",
    _parse_statuses,
    multiple=True,
)


def parse_row_number(value: str) -> int:
    """Parse the number of one row. If the value is other text, the error says how to find the row."""
    if not value.isdecimal() or not int(value):
        find = f"journal rows JOB --where {shell.quote(f'COLUMN={value}')}"
        raise ValueError(f"{value!r} is not a row number; to find a row by its data: {find}")
    return int(value)


def numbers_text(ranges: list[range]) -> str:
    """The ranges as text for ``--row``."""
    return ",".join(f"{numbers.start}-{numbers.stop - 1}" for numbers in ranges)
