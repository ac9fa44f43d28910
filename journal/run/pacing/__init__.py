"""Decides the speed at which a run starts rows, and the early end of a run.

- ``limits`` has all settings, and says which may be tuned. ``tune`` changes the limits on request
  while the run works.
- ``concurrency``: limits the rows that may start now. ``rates``: limits the starts per unit of
  time, and the usage of calls. ``limit_per``: limits the rows in flight by the values of columns.
- ``early_end``: ends a run because of its failures, its first rows or its cost.
- ``holds``: makes a run wait while the called service is down or throttles.
- ``retries``: decides about further attempts, and their times. ``waits``: how long rows wait for
  somebody else. ``open_calls``: when recorded calls are resumed.
- ``stall_warning``: warns if no row ends any more (see ``progress/stalls``).
"""
