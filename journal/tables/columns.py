"""The columns of tables of rows: their names, their order, and the values that a name selects.

A table has the columns of the data first, then the columns of the journal. A name with dots, such
as ``result.price``, selects a member of a nested value, unless the data has a column of that name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from journal.errors import InvalidValueError
from journal.history.row_history import RowAttempt
from journal.model import HISTORY_COLUMNS, ROW_COLUMNS, JobRow, RowStatus, RowStep
from journal.text import similar

# The kinds of a column's values. They are bits, because a column may have several kinds. WIDE is
# added to INT if doubles can't represent all of the integers. JSON is added if 64 bits can't hold
# all of the integers.
BOOL, INT, WIDE, FLOAT, TEXT, JSON, TIME = (1 << bit for bit in range(7))
_KINDS = {type(None): 0, bool: BOOL, int: INT, float: FLOAT, msgspec.Raw: FLOAT}
_KINDS |= {str: TEXT, RowStatus: TEXT, datetime: TIME}
_EXACT = 1 << 53  # up to this number, a double represents all integers exactly
_WIDEST = 1 << 63


def kinds_of(values: Sequence[Any]) -> int:
    """Return the kinds of the values, or 0 if all values are None."""
    kinds = 0
    for kind in set(map(type, values)):
        kinds |= _KINDS.get(kind, JSON)
    if kinds & INT:
        integers = [value for value in values if type(value) is int]
        low, high = min(integers), max(integers)
        if low < -_EXACT or high > _EXACT:
            kinds |= WIDE if low >= -_WIDEST and high < _WIDEST else JSON
    return kinds


def _declared(kind: Any, names: Iterable[str], **more: Any) -> dict[str, int]:
    """Return the kinds of the members of a struct, derived from their types.

    ``more``: types of other members.
    """
    types = {member.name: member.type for member in msgspec.structs.fields(kind)} | more
    found = {}
    for name in names:
        first, *_ = getattr(types[name], "__args__", (types[name],))
        found[name] = TEXT if isinstance(first, str) else _KINDS.get(first, JSON)  # a Literal
    return found


# The columns of the journal in their order, with the kinds of their values.
JOURNAL_COLUMNS = _declared(JobRow, ROW_COLUMNS, **HISTORY_COLUMNS)
# The columns of tables of steps, and of attempts.
STEP_COLUMNS = {"job_id": TEXT, "row_number": INT, "step": TEXT}
STEP_COLUMNS |= _declared(RowStep, RowStep.__struct_fields__[1:])
ATTEMPT_COLUMNS = {"job_id": TEXT, "row_number": INT, "attempt": INT}
ATTEMPT_COLUMNS |= _declared(RowAttempt, RowAttempt.__struct_fields__[1:])
del ATTEMPT_COLUMNS["traceback"]  # a traceback has many lines, unlike the values of tables
# The values that mean "unused" in columns that are never null.
EMPTY: dict[str, Any] = {"earlier_attempts": 0, "unknown": False}
# A table leaves out each of these columns if all values of the column are null, 0 or false.
IF_USED = frozenset(name for name, if_used in ROW_COLUMNS.items() if if_used)
NESTED = ("usage", "result")  # the columns of the journal that may hold objects
# The values of these columns of the journal have different kinds. All other columns have one kind.
VARIED = frozenset((*NESTED, "cost_cents", "total_cost_cents"))
PREFIX = "journal_"  # added to the name of a journal's column if the data has this name
MISSING: Any = object()


class Key(NamedTuple):
    """A column of a table.

    - ``own``: True for a column of the journal, False for a column of the data.
    - ``name``: the name of the column in the journal or in the data.
    - ``is_member``: True if ``name`` selects a member of a nested value: see :func:`member`.
    """

    own: bool
    name: str
    is_member: bool = False


def member(value: Any, name: str) -> Any:
    """Return the member that ``name`` selects in a nested object, or MISSING.

    A key with dots takes precedence over a path. So the name ``a.b`` selects the key ``a.b`` of
    ``value``. If there is no such key, the name selects the key ``b`` of the object ``a``.
    """
    if not isinstance(value, dict):
        return MISSING
    if name in value:
        return value[name]
    end = name.rfind(".")
    while end > 0:
        if (head := value.get(name[:end])) is not None:
            found = member(head, name[end + 1 :])
            if found is not MISSING:
                return found
        end = name.rfind(".", 0, end)
    return MISSING


def member_of_row(row: JobRow, name: str) -> Any:
    """Return the value that ``name`` selects in a row, or MISSING.

    The value is searched in the row's data first, and then in its result or usage. ``result`` alone
    selects the whole result.
    """
    found = member(row.data, name)
    if found is not MISSING:
        return found
    root, _, rest = name.partition(".")
    column = own_name(root)
    value = getattr(row, column) if column in NESTED else None
    if value is None:
        return MISSING
    return member(value, rest) if rest else value


def names_of(keys: Iterable[Key], known: Iterable[str] = JOURNAL_COLUMNS) -> dict[Key, str]:
    """Name the columns. The columns of the data are first, then the columns of the journal.

    A column of the data always keeps its name. If a column of the data and a column of the journal
    have the same name, ignoring case, the prefix ``journal_`` is added to the name of the journal's
    column. ``known`` has the journal's columns.
    """
    keys = list(keys)
    names = {key: key.name for key in keys if not key.own}
    taken = {name.casefold() for name in names.values()}  # spreadsheets and SQL ignore case
    order = {name: place for place, name in enumerate(known)}
    for key in sorted((key for key in keys if key.own), key=lambda key: order[key.name]):
        name = key.name
        while name.casefold() in taken:
            name = PREFIX + name
        names[key] = name
    return names


def own_name(name: str, known: Container[str] = JOURNAL_COLUMNS) -> str | None:
    """Return the column of the journal (one of ``known``) with this name, or None.

    ``name`` may begin with the prefix ``journal_``, even several times.
    """
    while name not in known and name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name if name in known else None


class Options(NamedTuple):
    """The options of a table.

    - ``columns``: the names of the table's columns, in order. None stands for all columns that rows
      use.
    - ``data_only``: leave out the journal's columns.
    """

    columns: Sequence[str] | None = None
    data_only: bool = False

    def needs(self, name: str) -> bool:
        """Return whether the table may need the column ``name`` of the journal."""
        if self.columns is None or self.data_only:
            return not self.data_only
        wanted = (each.partition(".")[0] for each in self.columns)
        return any(own_name(each) == name for each in (*self.columns, *wanted))


def check_options(columns: Any, *, data_only: bool = False) -> Options:
    """Make Options. Raises InvalidValueError if ``columns`` isn't a sequence of names."""
    is_list = isinstance(columns, Sequence) and not isinstance(columns, (str, bytes))
    if columns is not None and not (is_list and all(isinstance(each, str) for each in columns)):
        raise InvalidValueError(
            "columns", columns, "must be a list of names, such as ['order', 'result.price']"
        )
    return Options(None if columns is None else tuple(columns), data_only)


def no_such(wanted: str, what: str, known: list[str]) -> InvalidValueError:
    like = similar(wanted, known)
    meant = "." if like is None else f"; did you mean {like!r}?"
    listed = f"The {what}s are: {', '.join(known[:40])}"
    return InvalidValueError("columns", wanted, f"is a {what} of no row{meant} {listed}")
