"""The rows of a query of a SQLite database: ``sqlite:FILE?QUERY``.

The database is opened read-only, and is read row by row in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from journal.inputs.columns_and_cells import check_columns, json_cell
from journal.inputs.read_options import SQLITE_PREFIX, Rows, Source


def _connect(path: str) -> sqlite3.Connection:
    """Open the database read-only, so that no file is ever created. Raises ``sqlite3.Error``."""
    url = f"{Path(path).absolute().as_uri()}?mode=ro"
    # A generator may be closed in a different thread than the one that began it.
    connection = sqlite3.connect(url, uri=True, isolation_level=None, check_same_thread=False)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)  # ATTACH would make a file
    return connection


def example(path: str) -> str:
    """An example of a query, in the form that a person types."""
    return f"'{SQLITE_PREFIX}{path}?SELECT * FROM TABLE'"  # noqa: S608  (for people)


def read_query(source: Source, stack: ExitStack) -> tuple[list[str], Rows]:
    """The columns and the rows of the query. Raises InvalidValueError."""
    path, _, query = source.path.removeprefix(SQLITE_PREFIX).partition("?")
    if not os.path.isfile(path):
        reason = "there is no such file" if path else "names no file"
        raise source.refused(f"{reason}: write {SQLITE_PREFIX}FILE?QUERY, in quotes in a shell")
    if not query.strip():
        raise source.refused(f"has no query: give {example(path)}")
    try:
        cursor = stack.enter_context(closing(_connect(path))).execute(query)
    except (sqlite3.Error, sqlite3.Warning) as error:  # Warning: several statements, in Python 3.11
        reason = f"{error}: give one SELECT, such as {example(path)}"
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            reason = "is not a SQLite database, or it is encrypted"
        raise source.refused(reason, "query", query) from None
    if cursor.description is None:
        raise source.refused("returns no columns: give a SELECT", "query", query)
    columns = check_columns([str(column[0]) for column in cursor.description], source, "query")
    return columns, _rows(cursor, columns, source)


def _rows(cursor: sqlite3.Cursor, columns: list[str], source: Source) -> Rows:
    for number, cells in enumerate(cursor, 1):
        yield {
            column: json_cell(cell, source, f"row {number}, column {column!r}")
            for column, cell in zip(columns, cells, strict=True)
        }
