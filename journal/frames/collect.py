"""Collects the names and values of a table's columns, chunk by chunk.

The complete list of columns is known only after all rows were read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from journal.errors import InvalidValueError
from journal.frames.columns import (
    IF_USED,
    JOURNAL_COLUMNS,
    MISSING,
    NESTED,
    Key,
    leaves,
    member,
    names_of,
    own_name,
)
from journal.text import similar

Part = TypeVar("Part")
Values = Sequence[Any]
Named = Iterator[tuple[Key, Values]]


class Options(NamedTuple):
    """The options of a table.

    - ``columns``: the names of the table's columns, in order. None stands for all columns that rows
      use.
    - ``flatten``: make columns of the members of nested objects.
    - ``all_columns``: include the journal's columns that no row uses.
    """

    columns: Sequence[str] | None = None
    flatten: bool = False
    all_columns: bool = False

    def needs(self, name: str) -> bool:
        """Return whether the table may need the column ``name`` of the journal."""
        if self.columns is None:
            return True
        wanted = (each.partition(".")[0] for each in self.columns)
        return any(own_name(each) == name for each in (*self.columns, *wanted))


EVERYTHING = Options()


def check_columns(columns: Any) -> tuple[str, ...] | None:
    """Return ``columns`` as a tuple. None stays None.

    Raises InvalidValueError if ``columns`` isn't a sequence of names.
    """
    is_list = isinstance(columns, Sequence) and not isinstance(columns, (str, bytes))
    if columns is not None and not (is_list and all(isinstance(each, str) for each in columns)):
        raise InvalidValueError(
            "columns", columns, "must be a list of names, such as ['order', 'result.price']"
        )
    return None if columns is None else tuple(columns)


class Side(Generic[Part]):
    """One side of a table: a group of its columns, in chunks of rows.

    For example, one side has the columns from the rows' data, and another side has the columns from
    the rows' statuses.

    ``part`` converts the values of a column in one chunk into the form that is stored.
    """

    def __init__(self, options: Options, part: Callable[[Values], Part]) -> None:
        self._options = options
        self._part = part
        self.counts: list[int] = []
        self.parts: dict[Key, dict[int, Part]] = {}
        self.seen: dict[str, None] = {}  # the names of columns of the data, for a message
        self.members: dict[str, None] = {}  # the names of members of results and usage, also for it

    def add(
        self, count: int, own: Mapping[str, Any], data: list[dict[str, Any]] | None = None
    ) -> None:
        """Add the next ``count`` rows.

        ``own`` maps names of columns of the journal to lists of values, or to parts that were
        already made. ``data`` is the rows' data.
        """
        number = len(self.counts)
        self.counts.append(count)
        for key, values in self._columns(own, data):
            part: Any = self._part(values) if isinstance(values, list) else values
            self.parts.setdefault(key, {})[number] = part

    def _columns(self, own: Mapping[str, Any], data: list[dict[str, Any]] | None) -> Named:
        options = self._options
        if options.columns is not None:
            if data is not None:
                self.seen.update(dict.fromkeys(chain.from_iterable(data)))
            for wanted in dict.fromkeys(options.columns):
                if data is not None:
                    yield from self._wanted_of(wanted, data)
                yield from self._own_wanted(wanted, own)
            return
        if data is not None:
            yield from _members(data, False, (), options.flatten)
        for name, values in own.items():
            if not isinstance(values, list):
                yield Key(True, (name,)), values
            elif options.all_columns or name not in IF_USED or any(values):
                if options.flatten and name in NESTED:
                    yield from _spread(values, True, (name,))
                else:
                    yield Key(True, (name,)), values

    def _wanted_of(self, wanted: str, data: list[dict[str, Any]]) -> Named:
        if any(wanted in row for row in data):
            yield Key(False, (wanted,)), [row.get(wanted) for row in data]
        elif "." in wanted:
            yield from _found(Key(False, ("", wanted)), [member(row, wanted) for row in data])

    def _own_wanted(self, wanted: str, own: Mapping[str, Any]) -> Named:
        name = own_name(wanted)
        if name is not None and name in own:
            yield Key(True, (name,)), own[name]
        root, _, rest = wanted.partition(".")
        name = own_name(root)
        if rest and name in NESTED and name in own:
            values = [member(value, rest) for value in own[name]]
            yield from _found(Key(True, ("", wanted)), values)
            if all(value is MISSING for value in values):
                for value in own[name]:
                    self.members.update(member_names(name, value))


def member_names(name: str, value: Any) -> dict[str, None]:
    """Return the names of the members of a value in the column ``name``.

    Returns an empty dict if the value isn't an object.
    """
    if type(value) is not dict:
        return {}
    return {".".join(path): None for path, _ in leaves(value, (name,))}


def _found(key: Key, values: Values) -> Named:
    if any(value is not MISSING for value in values):
        yield key, [None if value is MISSING else value for value in values]


def resolve(options: Options, *sides: Side[Part]) -> dict[str, Key | None]:
    """Return a dict from the name of each column of a table to the column's :class:`Key`.

    A name such as ``result.price`` maps to None if no result is an object yet. Raises
    InvalidValueError for a wanted column that doesn't exist.
    """
    keys = list(dict.fromkeys(key for side in sides for key in side.parts))
    if options.columns is None:
        found_own = {key.path[0] for key in keys if key.own}
        keys += [
            Key(True, (name,))
            for name in JOURNAL_COLUMNS
            if name not in found_own and (options.all_columns or name not in IF_USED)
        ]
        return {name: key for key, name in names_of(keys).items()}
    known = frozenset(keys)
    seen = (name for side in sides for name in side.seen)
    members = {name: None for side in sides for name in side.members}
    has_rows = any(map(sum, (side.counts for side in sides)))
    return choose(options.columns, known, seen, members, has_rows=has_rows)


def choose(
    wanted: Iterable[str],
    known: Container[Key],
    seen: Iterable[str],
    members: Iterable[str],
    *,
    has_rows: bool,
) -> dict[str, Key | None]:
    """Find the columns for the wanted names: columns in ``known``, or members of nested values.

    ``seen`` has the names of the data's columns. ``members`` has the names of members of results
    and usage. In the :class:`Key` of a member, ``path`` consists of "" and the wanted name. A name
    such as ``result.price`` maps to None if no result is an object yet.

    If there are rows, raises InvalidValueError for a name that selects no column. If results are
    objects, InvalidValueError is also raised for the name of a member that no result has.
    """
    chosen: dict[str, Key | None] = {}
    for name in wanted:
        of_journal, of_results = own_name(name), own_name(name.partition(".")[0]) in NESTED
        own = Key(True, (of_journal,)) if of_journal else None
        candidates = (Key(False, (name,)), own, Key(False, ("", name)), Key(True, ("", name)))
        found = next((key for key in candidates if key in known), own)
        if found is None and not of_results and has_rows:
            raise InvalidValueError("columns", name, _no_such_column(name, seen))
        if found is None and of_results:
            of_root = f"{own_name(name.partition('.')[0])}."
            like = [each for each in members if each.startswith(of_root)]
            if like:
                raise InvalidValueError("columns", name, _no_such_member(name, like))
        chosen[name] = found
    return chosen


def _no_such_member(wanted: str, members: list[str]) -> str:
    like = similar(wanted, members)
    meant = "." if like is None else f"; did you mean {like!r}?"
    return f"is a member of no row{meant} The members are: {', '.join(members[:40])}"


def _no_such_column(wanted: str, seen: Iterable[str]) -> str:
    known = [*seen, *JOURNAL_COLUMNS]
    like = similar(wanted, known)
    meant = "." if like is None else f"; did you mean {like!r}?"
    return f"is a column of no row{meant} The columns are: {', '.join(known[:40])}"


def _members(
    objects: Sequence[dict[str, Any]], own: bool, path: tuple[str, ...], flatten: bool
) -> Named:
    """Yield a column for each key of the objects. Some of the objects may be empty."""
    first = next(iter(objects), {})
    try:
        if set(map(len, objects)) != {len(first)}:
            raise KeyError
        columns = {name: list(map(itemgetter(name), objects)) for name in first}
    except KeyError:  # the objects have different keys
        names = dict.fromkeys(chain.from_iterable(objects))
        columns = {name: [each.get(name) for each in objects] for name in names}
    for name, values in columns.items():
        if flatten:
            yield from _spread(values, own, (*path, name))
        else:
            yield Key(own, (*path, name)), values


def _spread(values: Values, own: bool, path: tuple[str, ...]) -> Named:
    """Split a column with objects in it.

    The result is a column of the values that aren't objects, and a column for each member of the
    objects. An empty object counts as a value, and stays in the column of values.
    """
    if dict not in set(map(type, values)):
        yield Key(own, path), values
        return
    rest = [None if type(value) is dict and value else value for value in values]
    if any(value is not None for value in rest):
        yield Key(own, path), rest
    empty: dict[str, Any] = {}
    objects = [value if type(value) is dict else empty for value in values]
    yield from _members(objects, own, path, True)
