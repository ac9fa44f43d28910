"""Reads the history of a job from its journal.

- ``history``: reads records and log messages between two positions. ``events``: turns records into
  events that people can read.
- ``statistics``: computes throughput and latency, and finds runs, holds, waits and pauses.
  ``recent_activity``: the latest attempts and errors, for a person who watches a job.
- ``error_groups``: groups rows and attempts by error. ``row_history``: collects everything about
  one row.

Imports allowed: ``store`` and the layers below it (see ``docs/architecture.md``).
"""
