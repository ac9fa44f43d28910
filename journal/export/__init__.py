"""Exports rows to files for other programs, in CSV, TSV, JSON, SQLite and Parquet.

>>> from journal.export import export_rows

- ``writers``: defines ``export_rows``, and writes the formats that can be streamed.
- ``table``: makes flat records of the rows, and finds the columns of their table.
- ``sqlite``, ``parquet``: write the formats that need a file.

May import: ``service`` and the layers below it (see ``docs/architecture.md``).
"""

from journal.export.writers import FORMATS, export_rows, format_of

__all__ = ["FORMATS", "export_rows", "format_of"]
