"""Rows as tables: the columns of the data, then the columns of the journal.

- ``rows``: defines ``Rows``, the sequence that ``JobService.get_rows`` returns.
- ``columns``: the names and the order of the columns, which exports use too; members of nested
  values by their path. ``collect`` finds out which columns a table has.
- ``dicts``: reads row by row. ``scan``: reads all rows in one pass, as Arrow arrays.
- ``parts``, ``arrow``, ``frames``: arrays, tables, and frames of pandas.

May import: ``history`` and the layers below it (see ``docs/architecture.md``).
"""
