"""The rows of an input as dicts: read from files of many formats, row by row.

- ``read``: ``read_rows``, which chooses the reader; ``RowInput``, what it returns.
- ``source``: what was asked for, and how errors name it; ``formats``: what a file is by its content.
- ``compression``: gzip, xz, zstd, bzip2. ``text``: bytes to lines of text.
- ``tables``, ``lines``, ``json_rows``: CSV and TSV; lines; JSON and JSON Lines.
- ``arrow``, ``excel``, ``sqlite``: Parquet and Arrow; Excel; a query of a SQLite database.
- ``state``: whether a file is still the one that was read.

The values of rows are JSON values. Imports ``errors``, ``text``, ``fs`` and ``format``.
"""
