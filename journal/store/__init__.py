"""Jobs on disk: read, recovered, changed, locked and listed. The life of a commit is in this room.

- ``store``: the directory of all jobs; makes, finds and deletes them. ``listing``: lists them.
- ``journal`` with ``reader`` and ``recovery``: one job's journal, open; it commits.
- ``group_commit``: one commit for the changes of several threads. ``batch``: one for a whole block.
- ``transitions``: all changes of jobs and rows. ``rows``: rows read back.
- ``run_lock``: one run at a time. ``run_holds``: the run locks that this process has.

May import: ``index``, ``format``, ``fs`` and the root's modules below them.
"""
