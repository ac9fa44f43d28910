"""Reads the rows of an input as dicts, row by row, from files of many formats.

- ``read``: ``read_rows``, and ``RowInput``, which it returns.
- ``read_options``: the path and options of an input, and their names in errors.
- ``formats``: the table of the formats, the choice of a format by name or by the first bytes, and
  decompression.
- ``csv``: CSV and TSV. ``text_lines``: decodes text, and reads lines. ``json_rows``: JSON and JSON
  Lines.
- ``arrow``: Parquet and Arrow. ``excel``: Excel. ``sqlite``: a query of a SQLite database.
  ``columns_and_cells``: checks names of columns, and converts their values to JSON values.

The values of rows are JSON values.

Imports allowed: ``store`` and the layers below it (see ``docs/architecture.md``).
"""
