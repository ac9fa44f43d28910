"""Reads the rows of an input as dicts, row by row, from files of many formats.

- ``read``: ``read_rows``, which chooses the reader, and ``RowInput``, which it returns.
- ``source``: the path and options of an input, and how errors name them. ``formats``: finds out the
  format of a file from its content.
- ``compression``: gzip, xz, zstd, bzip2. ``text``: bytes to lines of text.
- ``tables``, ``lines``, ``json_rows``: CSV and TSV; lines; JSON and JSON Lines.
- ``arrow``, ``excel``, ``sqlite``: Parquet and Arrow; Excel; a query of a SQLite database.
- ``state``: finds out whether a file has changed since it was read.

The values of rows are JSON values. Imports ``errors``, ``text``, ``fs`` and ``format``.
"""
