"""A job in memory: its state, and for each row its status, offsets and attempts.

- ``columns``: one entry a row, and read-only views that stay as they were.
- ``index``: the state of the job, queries, and changes that can be undone.
- ``replay``: applies verified commits to an index. It is the hot loop of opening a job.
- ``hint``: the index as a file, like a hint file of Bitcask. It can be deleted without loss.
- ``summary``: the index as ``Job`` and ``JobSummary``.

May import: ``format``, ``fs`` and the root's modules below them.
"""
