"""Rows and attempts as files for other programs: CSV, TSV, JSON, Parquet, SQLite.

>>> from journal.export import export_rows

May import: ``service``, ``history`` and what is below.
"""

from journal.export.writers import FORMATS, export_rows, format_of

__all__ = ["FORMATS", "export_rows", "format_of"]
