"""Exports rows to files for other programs, in CSV, TSV, JSON, SQLite and Parquet.

>>> from journal.export import export_rows

- ``writers``: the function ``export_rows``, and the formats that can be streamed.
- ``table``: the rows as flat records, and the columns of their table.
- ``sqlite``, ``parquet``: the formats that need a file.

May import ``service``, ``history`` and what is below them.
"""

from journal.export.writers import FORMATS, export_rows, format_of

__all__ = ["FORMATS", "export_rows", "format_of"]
