"""Rows as tables: the columns of the data, then the columns of the journal.

>>> from journal.tables import export_rows

- ``rows``: defines ``Rows``, the sequence that ``JobService.get_rows`` returns.
- ``columns``: defines the names, the order and the kinds of columns. ``table``: reads rows in
  chunks, and finds out which columns they have. ``attempts``: finds starts and durations.
- ``export``: defines ``export_rows``, collects the rows of jobs, and writes CSV, JSON and SQLite.
- ``arrow``: makes Arrow tables, and through them Parquet files and frames of pandas.

Imports allowed: ``history`` and the layers below it (see ``docs/architecture.md``).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from journal.tables.export import FORMATS, export_rows, format_of

__all__ = ["FORMATS", "export_rows", "format_of"]


def __getattr__(name: str) -> Any:
    """Import a public name only when it is used, so that reading rows starts fast."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from journal.tables import export  # noqa: PLC0415

    return getattr(export, name)
