"""One table of columns and rows.

All formats, and the tables of all libraries, are made from this table.

Rows are read in chunks. A chunk has the data of some rows, and lists with their values in the
journal's columns. A :class:`Table` collects the columns, and the kinds of their values. The
:class:`Table` knows all columns only after all chunks were read.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from journal.errors import InvalidValueError
from journal.history.history import History
from journal.model import HISTORY_COLUMNS, JobRow
from journal.store.row_reader import RowSequence
from journal.store.steps import steps_of_rows
from journal.tables.attempts import AttemptColumns, attempts_of
from journal.tables.columns import (
    ATTEMPT_COLUMNS,
    EMPTY,
    IF_USED,
    JOURNAL_COLUMNS,
    MISSING,
    NESTED,
    STEP_COLUMNS,
    VARIED,
    Key,
    Options,
    kinds_of,
    member,
    names_of,
    no_such,
    own_name,
)

CHUNK_ROWS = 1024  # larger chunks don't fit into the caches of the processor, and are slower
_CHUNK_BYTES = 1 << 24
_CHUNKS = 4  # this number of chunks is in memory while the shards of a set are merged
# The number of rows that are held as objects. With more rows, Python's garbage collector would take
# a quarter of the time of a conversion.
SLICE_ROWS = 64
_MEMBERS = tuple(name for name in JOURNAL_COLUMNS if name in JobRow.__struct_fields__)


class Chunk(NamedTuple):
    """Some rows of a table: their number, their data, and their values in columns of the journal.

    ``places``, ``numbers``: for a shard, the values by which the rows of its set are sorted.
    """

    size: int
    data: list[dict[str, Any]]
    own: dict[str, list[Any]]
    places: Sequence[int] = ()
    numbers: Sequence[int] = ()


Named = Iterator[tuple[Key, list[Any]]]


# --- reading


def chunks_of_rows(
    rows: RowSequence,
    history: History,
    options: Options,
    shards: int = 0,
) -> Iterator[Chunk]:
    """Read rows, with the columns of the journal that ``options`` may need.

    ``history`` must end at the last commit that ``rows`` contains. ``shards``: for a shard, the
    number of shards of its set. The chunks of a shard are smaller, since chunks of all shards are
    in memory at the same time.
    """
    needed = [name for name in JOURNAL_COLUMNS if options.needs(name)]
    order = ("place", "row_number") if shards else ()
    members = [name for name in _MEMBERS if name in needed or name in order]
    get = attrgetter("data", "updated_at", "processed_at", "cost_cents", *members)
    past = None if set(HISTORY_COLUMNS).isdisjoint(needed) else AttemptColumns(rows, history)
    mean_bytes = history.end.offset // max(len(rows.view.columns.statuses), 1)
    most_bytes = _CHUNK_BYTES // max(shards // _CHUNKS, 1)
    most = max(1, min(CHUNK_ROWS, most_bytes // max(mean_bytes, 1)))
    stream = iter(rows)
    for begin in range(0, len(rows), most):
        count = min(most, len(rows) - begin)
        columns: list[list[Any]] = [[] for _ in range(len(members) + 4)]
        for at in range(0, count, SLICE_ROWS):
            some = map(get, islice(stream, min(SLICE_ROWS, count - at)))
            for values, more in zip(columns, zip(*some, strict=True), strict=True):
                values.extend(more)
        data, updated_at, processed_at, costs, *rest = columns
        own = dict(zip(members, rest, strict=True))
        if past is not None:
            # If a merge imported the status, processed_at is the time in the other copy.
            ended_at = [at or other for at, other in zip(processed_at, updated_at, strict=True)]
            positions = rows.view.positions(range(begin, begin + count))
            own |= past.of(positions, ended_at, costs)
        if "status" in own:  # plain text, since other libraries don't know the enum
            own["status"] = list(map(str.__str__, own["status"]))
        chunk = Chunk(count, data, {name: own[name] for name in needed})
        if shards:
            numbers = own["row_number"]
            places = [at or number for at, number in zip(own["place"], numbers, strict=True)]
            chunk = chunk._replace(places=places, numbers=numbers)
        yield chunk


def chunks_of_steps(rows: RowSequence) -> Iterator[Chunk]:
    """Read the steps of rows, ordered by row, and then by when they began."""
    get = attrgetter("name", *list(STEP_COLUMNS)[3:])
    steps = ((rows.id_of_rows, number, *get(step)) for number, step in steps_of_rows(rows))
    return _chunks(STEP_COLUMNS, steps)


def chunks_of_attempts(rows: RowSequence, history: History) -> Iterator[Chunk]:
    """Read all attempts at rows, as :func:`attempts_of` yields them."""
    return _chunks(ATTEMPT_COLUMNS, attempts_of(rows, history))


def _chunks(names: Iterable[str], lines: Iterator[tuple[Any, ...]]) -> Iterator[Chunk]:
    while some := list(islice(lines, CHUNK_ROWS)):
        columns = map(list, zip(*some, strict=True))
        yield Chunk(len(some), [], dict(zip(names, columns, strict=True)))


# --- the columns of a chunk


def columns_of(chunk: Chunk, options: Options) -> Named:
    """Yield the columns of a chunk, with their values. A column without values may be absent."""
    if options.columns is not None:
        for wanted in dict.fromkeys(options.columns):
            yield from _wanted(wanted, chunk)
        return
    first = next(iter(chunk.data), {})
    try:
        if set(map(len, chunk.data)) - {len(first)}:
            raise KeyError
        columns = {name: list(map(itemgetter(name), chunk.data)) for name in first}
    except KeyError:  # the rows have different columns
        names = dict.fromkeys(chain.from_iterable(chunk.data))
        columns = {name: [row.get(name) for row in chunk.data] for name in names}
    for name, values in columns.items():
        yield Key(False, name), values
    for name, values in chunk.own.items():
        if name not in IF_USED or any(values):
            yield Key(True, name), values


def _wanted(name: str, chunk: Chunk) -> Named:
    """Yield the columns that a name may select: see :meth:`Table._chosen`."""
    data, own = chunk.data, chunk.own
    if any(name in row for row in data):
        yield Key(False, name), [row.get(name) for row in data]
    elif "." in name:
        yield from _found(Key(False, name, is_member=True), [member(row, name) for row in data])
    column = own_name(name)
    if column in own:
        yield Key(True, column), own[column]
    root, _, rest = name.partition(".")
    column = own_name(root)
    if rest and column in NESTED and column in own:
        yield from _found(
            Key(True, name, is_member=True), [member(value, rest) for value in own[column]]
        )


def _found(key: Key, values: list[Any]) -> Named:
    if any(value is not MISSING for value in values):
        yield key, [None if value is MISSING else value for value in values]


# --- the columns of a table


class Table:
    """The columns of a table, and the kinds of their values.

    - ``columns``: after :meth:`choose`, a dict from each column's name to the kinds of its values
      (0 if all values are None). Selected columns are in the given order. Without a selection, the
      columns of the data are first, in the order in which they occur. The journal's columns follow.
    - ``keys``: the :class:`Key` of each of these columns. The key is None for a name such as
      ``result.price`` if there are no results yet.
    - ``count``: the number of rows.
    """

    def __init__(self, options: Options, known: Mapping[str, int] = JOURNAL_COLUMNS) -> None:
        """``known``: the journal's columns of this table, with the kinds of empty columns."""
        self.options = options
        self.count = 0
        self.columns: dict[str, int] = {}
        self.keys: dict[str, Key | None] = {}
        self._known = known
        self._kinds: dict[Key, int] = {}
        self._seen: dict[str, None] = {}  # the names of columns of the data, for a message
        self._members: dict[str, None] = {}  # also the names of members of results and usage

    def copy(self) -> Table:
        """Return a table with the same columns, to which chunks can be added on trial."""
        other = Table(self.options, self._known)
        other.count, other._kinds = self.count, self._kinds.copy()
        other._seen, other._members = self._seen.copy(), self._members.copy()
        return other

    def add(self, chunk: Chunk) -> dict[Key, tuple[int, list[Any]]]:
        """Add rows. Returns the columns of the chunk, with their kinds and values."""
        columns = columns_of(chunk, self.options)
        found = {key: (self._kinds_of(key, values), values) for key, values in columns}
        if self.options.columns is not None:
            self._note_names(chunk, found)
        self.count += chunk.size
        for key, (kinds, _) in found.items():
            self._kinds[key] = self._kinds.get(key, 0) | kinds
        return found

    def _kinds_of(self, key: Key, values: list[Any]) -> int:
        has_one = key.own and not key.is_member and key.name not in VARIED
        return self._known[key.name] if has_one else kinds_of(values)

    def _note_names(self, chunk: Chunk, found: Container[Key]) -> None:
        """Collect the names for the message about a wanted column that doesn't exist."""
        self._seen.update(dict.fromkeys(chain.from_iterable(chunk.data)))
        for wanted in self.options.columns or ():
            root = own_name(wanted.partition(".")[0]) or ""
            if "." in wanted and root in NESTED and Key(True, wanted, is_member=True) not in found:
                values = [value for value in chunk.own.get(root, []) if value is not None]
                objects = [value for value in values if isinstance(value, dict)]
                self._members |= {f"{root}.{name}": None for each in objects for name in each}
                if len(objects) < len(values):
                    self._members[root] = None

    def choose(self) -> None:
        """Decide which columns the table has, and their names. Call this after all rows were added.

        Raises InvalidValueError for a wanted column that doesn't exist, or that belongs to the
        journal if the table is ``data_only``.
        """
        options, kinds = self.options, self._kinds
        if options.columns is None:
            for name in () if options.data_only else self._known:
                if name not in IF_USED:
                    kinds.setdefault(Key(True, name), 0)
            self.keys = {name: key for key, name in names_of(kinds, self._known).items()}
        else:
            self.keys = {name: self._chosen(name) for name in options.columns}
        for name, key in self.keys.items():
            found = kinds.get(key, 0) if key else 0
            if not found and key and key.own and not key.is_member:
                found = self._known.get(key.name, 0)
            self.columns[name] = found

    def _chosen(self, name: str) -> Key | None:
        """Find the column for a wanted name: a column, or a member of nested values.

        Returns None for a name such as ``result.price`` if there are no results yet. Raises the
        errors of :meth:`choose`.
        """
        own, root = own_name(name), own_name(name.partition(".")[0])
        of_journal = Key(True, own) if own else None
        members = (Key(of, name, is_member=True) for of in (False, True))
        keys = (Key(False, name), of_journal, *members)
        found = next((key for key in keys if key in self._kinds), of_journal)
        if found is None and root in NESTED:
            like = [each for each in self._members if each.partition(".")[0] == root]
            if like:
                raise no_such(name, "member", like)
        elif found is None and self.count:
            raise no_such(name, "column", [*self._seen, *JOURNAL_COLUMNS])
        if self.options.data_only and self.count and (found is None or found.own):
            reason = "is a column of the journal, which an export of only the data leaves out"
            raise InvalidValueError("columns", name, reason)
        return found

    def width(self) -> int:
        """Return the number of columns so far."""
        return len(self._kinds)

    def cells(self, chunk: Chunk) -> list[list[Any]]:
        """Return the values of a chunk for each column of the table."""
        return self.in_order(dict(columns_of(chunk, self.options)), chunk.size)

    def in_order(self, found: dict[Key, list[Any]], size: int) -> list[list[Any]]:
        """Return the values for each column of the table, from the columns that a chunk has."""
        keys = self.keys.values()
        return [(key and found.get(key)) or self.empty(key, size) for key in keys]

    @staticmethod
    def empty(key: Key | None, count: int) -> list[Any]:
        """Return the values of a column that a chunk lacks."""
        return [EMPTY.get(key.name) if key and key.own else None] * count
