"""Runs handlers in threads, in an event loop, or in an executor.

``choose`` picks the workers for a handler: ``threads``, ``event_loop`` for coroutine functions,
``executors`` for any ``concurrent.futures.Executor``, ``dask`` for a dask cluster.

``base``: the classes that the driver shares with all workers. A worker gets a ``Call``, with one
row or many, and puts the outcomes into the driver's ``Results``. ``handler``: calls the handler
with a row or a batch. A worker never writes to the journal, except for steps (``steps``).
``row_log`` stores the messages that a handler logs about its row.

``in_flight``: the calls that workers have, for the driver. ``termination``: ends, in three stages,
calls that take too long or are stopped.

Imports allowed: ``caller``, ``outcome``, ``platform``, ``signals`` and ``pacing/limits`` from
``run``, and all that ``run`` may import.
"""
