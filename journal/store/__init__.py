"""Jobs on disk: reading, recovering, changing, locking and listing them. Commits happen here.

- ``store``: makes, finds and deletes jobs in the directory of all jobs. ``list_jobs``: lists jobs.
- ``journal``: the open journal of one job (a log and an index), which makes commits. ``log``: the
  file, with the commit lock. ``recovery``: puts the file in order before a commit.
- ``group_commit``: makes one commit of the changes of several threads. ``batch``: makes one commit
  of all changes in a ``with`` block.
- ``transitions``: makes all changes of jobs and rows, by the tables of allowed changes. ``bulk``:
  adds, starts and completes many rows at once. ``row_reader``: reads rows. ``steps``: records and
  reads the steps of rows. ``calls``: calls with many rows, which stay together during a wait, and
  the steps of calls.
- ``interrupted_rows``: decides about rows that were in flight when their run died.
- ``run_lock``: allows one run of a job at a time, and keeps track of the run locks of a store.

Imports allowed: ``index`` and the layers below it (see ``docs/architecture.md``).
"""
