"""Rows as tables: the columns of the data, then the columns of the journal.

- ``rows``: defines ``Rows``, the sequence that ``JobService.get_rows`` returns.
- ``columns``: defines the names and the order of the columns, also for exports, and finds members
  of nested values. ``collect``: finds out which columns a table has.
- ``dicts``: reads row by row. ``scan``: reads all rows in one pass, as Arrow arrays.
- ``parts``: makes Arrow arrays. ``arrow``: makes Arrow tables. ``frames``: makes frames of pandas.

May import: ``history`` and the layers below it (see ``docs/architecture.md``).
"""
