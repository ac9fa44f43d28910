"""A job in memory: the job's state, and the status, offsets and attempts of each row.

- ``columns``: stores the rows in arrays with one entry for each row, and makes read-only views.
  Later changes don't affect a view.
- ``index``: keeps the columns and sums, answers queries, and applies records. Its changes can be
  undone. ``job_state``: the facts about the job itself, and the calls with many rows.
- ``replay``: decodes verified commits, and applies them to an index.
- ``hint``: saves the index in a file, like Bitcask's hint files. The file can be deleted without
  loss.
- ``summary``: makes ``Job`` and ``JobSummary`` from an index.

Imports allowed: ``format`` and the layers below it (see ``docs/architecture.md``).
"""
