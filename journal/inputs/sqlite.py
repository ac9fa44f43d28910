"""The rows of a query of a SQLite database: ``sqlite:FILE?QUERY``.

The database is opened read-only, and is read row by row in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from journal.errors import InvalidValueError
from journal.inputs.cells import json_cell
from journal.inputs.source import SQLITE_PREFIX, Source, check_columns

Rows = Iterator[dict[str, Any]]


def _connect(path: str) -> sqlite3.Connection:
    """Open the database read-only, so that no file is ever created. Raises ``sqlite3.Error``."""
    url = f"{Path(path).absolute().as_uri()}?mode=ro"
    # A generator may be closed in a different thread than the one that began it.
    connection = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file
    return connection


def tables_of(path: str) -> list[str]:
    """The names of the tables and views, quoted for a query.

    The list is empty if the names can't be read.
    """
    query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    try:
        with closing(_connect(path)) as connection:
            names = [str(name) for (name,) in connection.execute(query)]
    except sqlite3.Error:
        return []
    return [name if name.isidentifier() else f'"{name}"' for name in names]


def example(path: str) -> str:
    """An example of a query, as a person types it."""
    table = next(iter(tables_of(path)), "TABLE") if path else "TABLE"
    return f"'{SQLITE_PREFIX}{path or 'FILE'}?SELECT * FROM {table}'"  # noqa: S608  (for people)


def read_query(source: Source, stack: ExitStack) -> tuple[list[str], Rows]:
    """The columns and the rows of the query. Raises InvalidValueError."""
    path, _, query = source.path.removeprefix(SQLITE_PREFIX).partition("?")
    if not os.path.isfile(path):
        reason = "there is no such file" if path else "names no file"
        raise source.refused(f"{reason}: write {SQLITE_PREFIX}FILE?QUERY, in quotes in a shell")
    if not query.strip():
        has = ", ".join(tables_of(path)[:20]) or "none"
        raise source.refused(f"has no query: give {example(path)}; its tables: {has}")
    try:
        connection = stack.enter_context(closing(_connect(path)))
        cursor = connection.execute(query)
        if _is_cut_short(connection, path):
            raise source.refused("is a SQLite database that is cut short: copy it again")
    except sqlite3.Error as error:
        raise _refused(source, error, path, query) from None
    except sqlite3.Warning:  # before Python 3.12: there is more than one statement
        raise source.refused("has several statements: give one SELECT", "query", query) from None
    if cursor.description is None:
        raise source.refused("returns no columns: give a SELECT", "query", query)
    columns = [str(column[0]) for column in cursor.description]
    return check_columns(columns, source, "query"), _rows(cursor, columns, source, query)


def _is_cut_short(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file ends within a page.

    SQLite would read the missing bytes as zeros, and so the missing values as null.

    If SQLite's own journal is beside the file, the result is False, since SQLite restores the page.
    """
    if any(os.path.exists(path + end) for end in ("-journal", "-wal")):
        return False
    (page,) = connection.execute("PRAGMA page_size").fetchone()
    return os.path.getsize(path) % int(page) > 0


def _rows(cursor: sqlite3.Cursor, columns: list[str], source: Source, query: str) -> Rows:
    number = 0
    try:
        for number, cells in enumerate(cursor, 1):
            yield {
                column: json_cell(cell, source, f"row {number}, column {column!r}")
                for column, cell in zip(columns, cells, strict=True)
            }
    except sqlite3.Error as error:
        raise source.refused(f"can't be read: {error}", f"after row {number}") from None
    if not number:
        raise source.refused("returns no rows", "query", query)


def _refused(source: Source, error: sqlite3.Error, path: str, query: str) -> InvalidValueError:
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_NOTADB":
        return source.refused("is not a SQLite database, or it is encrypted")
    if code == "SQLITE_READONLY":
        return source.refused("would change the database: give a SELECT", "query", query)
    if isinstance(error, sqlite3.ProgrammingError):
        reason = "has several statements, or parameters such as ?: give one SELECT without them"
        return source.refused(reason, "query", query)
    if code == "SQLITE_ERROR":
        has = ", ".join(tables_of(path)[:20]) or "none"
        return source.refused(f"{error}; its tables: {has}", "query", query)
    return source.refused(f"can't be read: {error}")
