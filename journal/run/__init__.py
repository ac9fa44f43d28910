"""Rows through a handler: opening a job with its input, dispatch, attempts, limits, outcomes.

The driver is one thread that alone writes to the job; the workers are threads, event loops,
executors or commands.

May import: ``service`` and what is below.
"""
