"""Workers in a dask cluster."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.run.outcome import Outcome, lost
from journal.run.workers.base import Call
from journal.run.workers.executors import ExecutorWorkers
from journal.run.workers.handler import Rows
from journal.text import encode_json


class DaskWorkers(ExecutorWorkers):
    """Workers in a dask cluster. Such a cluster differs from other executors in three ways.

    - When a worker dies, dask runs the worker's tasks again, even finished tasks whose result was
      lost. No setting prevents these repetitions completely. So each task first asks the scheduler,
      with its ticket (the number of the call). For each ticket, the scheduler answers yes only
      once. A repeated task gets the outcome "lost", and doesn't call the handler.
    - A task that dask has cancelled may still be running. So calls are given up, not cancelled.
    - Dask treats tasks with the same key as one task. So each call has its own key.
    """

    queues = False  # workers may come and go, so the useful number of submitted rows is unknown

    def __init__(self, *arguments: Any) -> None:
        self._run = uuid.uuid4().hex
        self._prepared: Executor | None = None
        super().__init__(*arguments)
        self._prepare()

    @property
    def _client(self) -> Any:
        executor: Any = self._executor
        return executor._client  # noqa: SLF001  (dask has no public name for it)

    def _prepare(self) -> None:
        """Make the scheduler answer the calls of :func:`_ask_scheduler`."""
        if self._prepared is self._executor:
            return

        # A local function is sent by value, so the scheduler doesn't need this package.
        def keep_tickets(dask_scheduler: Any) -> None:
            runs: dict[str, set[int]] = {}

            def begin(run: str, ticket: int | None) -> bool:
                if ticket is None:
                    return runs.pop(run, None) is not None
                begun = runs.setdefault(run, set())
                is_first = ticket not in begun
                begun.add(ticket)
                return is_first

            dask_scheduler.handlers.setdefault("rowjournal_begin", begin)

        self._client.run_on_scheduler(keep_tickets)
        self._prepared = self._executor

    def _slots(self) -> tuple[int | None, int | None]:
        client = self._client
        if client.asynchronous:
            raise InvalidValueError("executor", client, "its client must not be asynchronous")
        return sum(client.nthreads().values()), None  # no maximum: more workers may come later

    def _submit(self, call: Call) -> Future[bytes]:
        self._prepare()
        key = f"journal-{self._run}-{call.ticket}"
        submit: Any = self._executor.submit
        future: Future[bytes] = submit(
            call_if_first, self._call, self._run, call.ticket, call.rows, key=key, retries=0
        )
        return future

    def _outcomes_of(self, future: Future[bytes], call: Call) -> list[Outcome]:
        if future.cancelled():  # its worker or the cluster has ended
            return [lost(CancelledError("dask has cancelled its task"))] * len(call.rows)
        return super()._outcomes_of(future, call)

    def cancel(self, call: Call, *, force: bool) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        abandoned = list(self._futures.values())
        for future in abandoned:
            future.cancel()  # a task that hasn't begun must not begin after the run has ended
        client = self._client
        if not abandoned and client.status == "running":
            with suppress(Exception):  # if the cluster is gone, the run is forgotten, too
                _ask_scheduler(client, self._run, None)
        super().close()


def call_if_first(call: Callable[[Rows], bytes], run: str, ticket: int, rows: Rows) -> bytes:
    """Call the handler, unless this call has begun before. Runs in a worker of dask."""
    try:
        is_first = _ask_scheduler(sys.modules["distributed"].get_client(), run, ticket)
        why = "dask has run its task again"
    except Exception as error:  # noqa: BLE001  (with any exception, there is no answer)
        is_first = False
        why = f"the scheduler could not be asked whether it was begun before: {error!r}"
    if is_first:
        return call(rows)
    killed = msgspec.structs.replace(lost(RuntimeError(why)), error_code="KilledWorker")
    return encode_json([killed] * len(rows))


def _ask_scheduler(client: Any, run: str, ticket: int | None) -> bool:
    """Return whether this is the first call for the ticket (the number of a call).

    If ``ticket`` is None, the scheduler forgets the run.
    """
    answer = client.sync(client.scheduler.rowjournal_begin, run=run, ticket=ticket)
    return answer is True
