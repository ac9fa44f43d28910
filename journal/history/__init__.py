"""Reads what happened in a job from its journal.

- ``reading``: records and log messages between two positions. ``events``: the same as events for
  people.
- ``durations``: outcomes of attempts, and how long they took. ``statistics``: throughput and
  latency.
- ``error_groups``: rows and attempts grouped by error.
- ``redact``: hides the values of fields in output.

May import: ``store`` and what is below.
"""
