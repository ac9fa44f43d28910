"""How fast a run starts rows, and when it ends early.

- ``limits`` has all settings, and says which may be tuned. ``tune`` changes them while the run works,
  if somebody asks.
- ``concurrency``: how many rows may start now. ``rates``: how many may start in a time, and what calls
  may use. ``limit_per``: rows in flight by the values of columns.
- ``early_end``: ends a run by failures, its first rows or its cost.
- ``holds``: makes a run wait while the called service is down or throttles.
- ``retries``: which attempts are retried, and when. ``open_calls``: when recorded calls are
  resumed. ``stall_warning``: warns if no row ends any more (see ``progress/stalls``).
"""
