"""Exports: rows as files for other programs, in CSV, TSV, JSON, SQLite and Parquet.

>>> from journal.export import export_rows

- ``writers``: the operation, and the formats that are streams.
- ``table``: the rows as flat records, and the columns of their table.
- ``sqlite``, ``parquet``: the formats that are not streams.

May import ``service``, ``history`` and what is below them.
"""

from journal.export.writers import FORMATS, export_rows, format_of

__all__ = ["FORMATS", "export_rows", "format_of"]
