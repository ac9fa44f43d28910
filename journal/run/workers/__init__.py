"""Runs handlers in threads, in an event loop, or in an executor.

``choose`` picks the workers for a handler: ``threads``, ``event_loop`` for coroutine functions,
``executors`` for any ``concurrent.futures.Executor``, ``dask`` for a dask cluster. ``batches`` makes
calls of any of them that take many rows. ``setup`` enters a context manager for all handlers.

``step_threads`` waits for the disk while a handler waits. A worker gets rows and puts outcomes into the driver's ``Results`` (``handover``). A worker never
writes to the journal.

May import: ``handler`` and ``outcome`` from ``run``, and all that ``run`` may import.
"""
