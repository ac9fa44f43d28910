"""A job in memory: its state, and for each row its status, offsets and attempts.

- ``columns``: arrays with one entry for each row, and read-only views that later changes don't
  affect.
- ``index``: the state of the job, queries, and changes that can be undone.
- ``replay``: applies verified commits to an index. This is the hot loop of opening a job.
- ``hint``: the index saved in a file, like Bitcask's hint files. It can be deleted without loss.
- ``summary``: makes ``Job`` and ``JobSummary`` from an index.

May import: ``format``, ``fs`` and the root's modules below them.
"""
