"""Jobs on disk: reading, recovering, changing, locking and listing them. Commits happen here.

- ``store``: the directory of all jobs. Makes, finds and deletes jobs. ``listing``: lists jobs.
- ``journal``, with ``reader`` and ``recovery``: the open journal of one job. Makes commits.
- ``group_commit``: one commit for changes of several threads. ``batch``: one for a whole block.
- ``transitions``: all changes of jobs and rows. ``rows``: reads rows.
- ``run_lock``: allows one run of a job at a time. ``run_holds``: the run locks of this process.

May import: ``index``, ``format``, ``fs`` and the root's modules below them.
"""
