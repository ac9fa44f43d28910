"""Writes SQLite databases with a table of rows, steps or attempts."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from journal.errors import InvalidValueError, StorageError
from journal.tables.collected import Collected
from journal.tables.columns import BOOL, FLOAT, INT, TEXT, TIME, WIDE
from journal.text import as_text

MAX_COLUMNS = 2000  # the default limit of SQLite


def write_sqlite(rows: Collected, path: Path) -> None:
    """Write the database into the empty file ``path``.

    The database has the table ``rows``, ``steps`` or ``attempts``. Values are stored as follows:

    - integers, floats and text unchanged, except that SQLite stores -0.0 as 0.0;
    - booleans as 0 and 1;
    - nested values as JSON text;
    - times as ISO 8601 text in UTC.
    """
    if not rows.table.columns:
        raise InvalidValueError("format", "sqlite", "needs a column, and no row has data")
    if (count := len(rows.table.columns)) > MAX_COLUMNS:
        reason = f"takes {MAX_COLUMNS} columns, not {count}: export as JSON Lines"
        raise InvalidValueError("format", "sqlite", reason)
    taken: set[str] = set()  # SQLite ignores case
    named = (name.replace("\0", "") for name in rows.table.columns)
    columns = [_free_name(name, taken) for name in named]
    try:
        # No rollback journal is needed, since the caller removes the file after a failure. The
        # caller also syncs the file.
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN")
            _put_rows(rows, columns, database)
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise StorageError(path, "write", 0, str(error)) from error


def _put_rows(rows: Collected, names: list[str], database: sqlite3.Connection) -> None:
    all_kinds = rows.table.columns.values()
    columns = [
        f"{_quoted(name)} {_declared(kinds)}" for name, kinds in zip(names, all_kinds, strict=True)
    ]
    database.execute(f"CREATE TABLE {rows.name} ({', '.join(columns)})")
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {rows.name} VALUES ({marks})"  # noqa: S608  (marks alone)
    plain = [not kinds & ~(BOOL | INT | WIDE | TEXT | TIME) for kinds in all_kinds]
    for cells in rows.cells():
        stored = [
            values if is_plain else list(map(_stored, values))
            for values, is_plain in zip(cells, plain, strict=True)
        ]
        database.executemany(insert, zip(*stored, strict=True))


def _stored(value: Any) -> Any:
    if value is None or isinstance(value, (float, str)):
        return value
    if isinstance(value, msgspec.Raw):
        return float(bytes(value))
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    return as_text(value)


def _declared(kinds: int) -> str:
    """Return the type of a column.

    The type is "" if every other type would change some values, as for text mixed with numbers.
    """
    if kinds and not kinds & ~(BOOL | INT | WIDE):
        return "INTEGER"
    if kinds == FLOAT:
        return "REAL"
    return "" if kinds & (BOOL | INT | WIDE | FLOAT) else "TEXT"


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is in ``taken``, and add it there."""
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free.lower())
    return free


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
