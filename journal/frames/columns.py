"""The columns of tables of rows: their names, their order, and the values that a name selects.

A table has the columns of the data first, then the columns of the journal. A name with dots, such
as ``result.price``, selects a member of a nested value, unless the data has a column of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from journal.model import JobRow

# The kinds of a column's values. They are bits, since a column may have several kinds.
BOOL, INT, WIDE, FLOAT, TEXT, JSON, TIME = (1 << bit for bit in range(7))

# The columns of the journal in their order, with the kinds of their values.
JOURNAL_COLUMNS = {
    "job_id": TEXT,
    "row_number": INT,
    "status": TEXT,
    "attempts": INT,
    "earlier_attempts": INT,
    "version": TEXT,
    "error_code": TEXT,
    "error_message": TEXT,
    "unknown": BOOL,
    "reason": TEXT,
    "tracking_number": TEXT,
    "label_path": TEXT,
    "cost_cents": INT,
    "usage": JSON,
    "result": JSON,
    "created_at": TIME,
    "started_at": TIME,
    "processed_at": TIME,
    "duration_s": FLOAT,
    "idempotency_key": TEXT,
}
# The values that mean "unused" in columns that are never null.
EMPTY: dict[str, Any] = {"earlier_attempts": 0, "unknown": False}
# These columns are left out if no row uses them, which means that all values are null, 0 or false.
IF_USED = frozenset(
    (
        *("earlier_attempts", "version", "unknown", "reason"),
        *("tracking_number", "label_path", "cost_cents", "usage"),
    )
)
NESTED = ("usage", "result")  # the columns of the journal that may hold objects
PREFIX = "journal_"  # added to the name of a journal's column if the data has this name, too
MISSING: Any = object()


class Key(NamedTuple):
    """A column of a table.

    - ``own``: True for a column of the journal, False for a column of the data.
    - ``path``: where the column's values are. The first part is the name of the column in the data
      or in the journal. Further parts are the keys of nested objects.
    """

    own: bool
    path: tuple[str, ...]


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
    return member_of_own({"result": row.result, "usage": row.usage}, name, found)


def member_of_own(own: Mapping[str, Any], name: str, found: Any = MISSING) -> Any:
    """Return the value that ``name`` selects in the result or usage in ``own``, or MISSING.

    If ``found`` isn't MISSING, return ``found`` instead.
    """
    if found is not MISSING:
        return found
    root, _, rest = name.partition(".")
    column = own_name(root)
    if column not in NESTED or own.get(column) is None:
        return MISSING
    return member(own[column], rest) if rest else own[column]


def leaves(
    value: Mapping[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and value of each member of an object, including members of nested objects.

    An empty object is yielded as a value.
    """
    for name, item in value.items():
        path = (*above, name)
        if item and isinstance(item, dict):
            yield from leaves(item, path)
        else:
            yield path, item


def names_of(keys: Iterable[Key], known: Iterable[str] = JOURNAL_COLUMNS) -> dict[Key, str]:
    """Name the columns. The columns of the data are first, then the columns of the journal.

    A column of the data always keeps its name. If a column of the data and a column of the journal
    have the same name, ignoring case, the prefix ``journal_`` is added to the name of the journal's
    column. If the name of a nested member is already in use, a number is added to the name:
    ``a.b_2``. ``known`` has the journal's columns.
    """
    keys = _grouped(keys)
    data = [key for key in keys if not key.own]
    taken = {key.path[0] for key in data if len(key.path) == 1}
    names: dict[Key, str] = {}
    for key in data:
        names[key] = key.path[0] if len(key.path) == 1 else _free(".".join(key.path), taken)
    # Spreadsheets and SQL ignore case. If a column of the data was flattened, its name stays
    # reserved: no column of the journal gets this name.
    folded = {name.casefold() for name in (*taken, *(key.path[0] for key in data))}
    order = {name: place for place, name in enumerate(known)}
    # The sort is stable, so the members of a column stay in their order.
    for key in sorted((key for key in keys if key.own), key=lambda key: order[key.path[0]]):
        root, *rest = key.path
        while root.casefold() in folded:
            root = PREFIX + root
        name = ".".join((root, *rest))
        while name.casefold() in folded:
            name = PREFIX + name
        names[key] = name if len(key.path) == 1 else _free(name, taken)
    return names


def _grouped(keys: Iterable[Key]) -> list[Key]:
    """Return the keys in the order of occurrence, but with all members of an object together."""
    ranks: dict[tuple[bool, tuple[str, ...]], int] = {}
    ordered = []
    for own, path in keys:
        above = (path[:depth] for depth in range(1, len(path) + 1))
        order = [ranks.setdefault((own, prefix), len(ranks)) for prefix in above]
        ordered.append((order, Key(own, path)))
    return [key for _, key in sorted(ordered)]


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def own_name(name: str) -> str | None:
    """Return the column of the journal with this name, or None.

    ``name`` may begin with the prefix ``journal_``, also more than once.
    """
    while name not in JOURNAL_COLUMNS and name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name if name in JOURNAL_COLUMNS else None
