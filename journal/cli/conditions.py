"""Rows chosen by what they are: ``--where`` on their data, ``--row``, ``--error-code``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import update_wrapper
from typing import Any, NamedTuple

import click
import msgspec

from journal.cli.exit_codes import Refused
from journal.cli.row_ranges import parse_rows, rows_of
from journal.model import JobRow, RowStatus
from journal.service import JobService
from journal.text import as_text

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
MANY_COLUMNS = 1000  # of whose names no more are kept


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


def _parse_where(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> Where:
    found = []
    for text in values:
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise click.BadParameter(
                f"{text!r} is no condition: say COLUMN=VALUE, or !=, <, <=, >, >=, ~ (contains)"
            )
        found.append(Condition(_unquoted(match[1]), match[2], _unquoted(match[3])))
    return Where(found)


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


class Where:
    """Conditions that must all hold, and the columns of the rows that they were asked about."""

    def __init__(self, conditions: Iterable[Condition] = ()) -> None:
        self.conditions = list(conditions)
        self._seen: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def holds(self, row: JobRow) -> bool:
        if self.conditions and len(self._seen) < MANY_COLUMNS:
            self._seen.update(row.data)
        return all(condition.holds(row) for condition in self.conditions)

    def absent(self) -> list[str]:
        """What to say of each column that no row had; nothing if there was no row."""
        if not self._seen:
            return []
        return [
            f"no row that was looked at has a column {column!r}; {some_columns(self._seen)}"
            for column in sorted({condition.column for condition in self.conditions} - self._seen)
        ]


def some_columns(names: set[str]) -> str:
    if not names:
        return "their data has none"
    ordered = sorted(names)
    return "there are: " + ", ".join(ordered[:10]) + (", ..." if len(ordered) > 10 else "")


where_option = click.option(
    "--where",
    "where",
    metavar="CONDITION",
    multiple=True,
    callback=_parse_where,
    help="On the data: zip=94107, zip!=..., 'price<10' (<= > >=), city~York (contains). Either "
    "side may be in double quotes, as JSON writes it, to keep its spaces and signs: "
    '\'"a=b" = "x "\'. May be given more than once: all must hold.',
)


# --- rows that are to be changed


class Selection(NamedTuple):
    """Rows that a person means. All that is given must be so: a lone ``--row`` names each."""

    ranges: list[range] | None
    error_code: str | None = None
    where: Where = Where()
    version: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.ranges is None and self.error_code is None and not self.narrows

    @property
    def narrows(self) -> bool:
        return bool(self.where) or self.version is not None

    def rows(
        self,
        service: JobService,
        job_id: str,
        named: Collection[RowStatus],
        found: Collection[RowStatus],
    ) -> Iterator[JobRow]:
        """The rows; of a status of ``named`` if they are named by number, else of ``found``.

        Of those that failed with a code the failed ones. Refused if a lone ``--row`` names a row
        of another status, or one that isn't there.
        """
        statuses = found if self.ranges is None else named
        if self.error_code is not None:
            statuses = (RowStatus.FAILED,)
        if self.ranges is None:
            rows: Iterable[JobRow] = service.get_rows(job_id, statuses)
        else:
            rows = rows_of(job_id, service.get_rows(job_id), self.ranges)
        for row in rows:
            if row.status not in statuses:
                if self.error_code is None and not self.narrows:
                    raise Refused(
                        f"row {row.id} is {row.status}, which is not {' or '.join(statuses)}; "
                        "nothing was changed, of any row"
                    )
            elif (
                self.error_code in (None, row.error_code)
                and self.version in (None, row.version)
                and self.where.holds(row)
            ):
                yield row

    def why_none(self, job_id: str) -> list[str]:
        """What to say if there was no such row."""
        which = "row" if self.ranges is None else "row of these"
        if self.error_code is not None and not self.narrows:
            codes = f"`journal errors {job_id}` names the codes"
            return [f"no {which} failed with code {self.error_code!r}: {codes}"]
        return self.where.absent() or [
            f"no {which} is as was asked for, and in a status that allows it"
        ]


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--row --error-code --where``; it takes a Selection as ``selection``.

    So it does with its own ``--version``.
    """

    def with_selection(**given: Any) -> Any:
        names = ("ranges", "error_code", "where", "version")
        selection = Selection(**{name: given.pop(name) for name in names if name in given})
        return command(**given, selection=selection)

    wrapped: Callable[..., Any] = where_option(update_wrapper(with_selection, command))
    wrapped = click.option(
        "--error-code",
        metavar="CODE",
        help="Rows that failed with this code; of --row: only those.",
    )(wrapped)
    return click.option(
        "--row",
        "ranges",
        metavar="ROWS",
        multiple=True,
        callback=parse_rows,
        help="Such as 5,12-40.",
    )(wrapped)
