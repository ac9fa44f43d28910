"""Runs handlers in threads, in an event loop, or in an executor.

``choose`` picks the workers for a handler: ``threads``, ``event_loop`` for coroutine functions,
``executors`` for any ``concurrent.futures.Executor``, ``dask`` for a dask cluster. ``notes`` finds
out which row has broken a pool.

A worker gets calls, with one row or many, and puts their outcomes into the driver's ``Results``
(``handover``). A worker never writes to the journal, except for steps (``steps``). ``step_threads``
waits for the disk when a coroutine records a step, so that the event loop isn't blocked.
``row_log`` stores the messages that a handler logs about its row.

May import: ``call``, ``caller``, ``handler`` and ``outcome`` from ``run``, and all that ``run`` may
import.
"""
