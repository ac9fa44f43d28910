"""Threads that wait for the disk during a coroutine's step, so that the loop isn't blocked."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from journal.errors import JobLockedError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

Value = TypeVar("Value")

_LOCKED_S = 0.01  # between two attempts to get the commit lock, after the lock's own timeout
_STEP_THREADS = 32  # steps that end at the same time share a commit


@cache
def _threads(_process_id: int) -> ThreadPoolExecutor:
    """The threads of this process. A forked process doesn't have the threads of its parent."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    return ThreadPoolExecutor(_STEP_THREADS, thread_name_prefix="journal-step")


async def in_thread(
    function: Callable[..., Value],
    *arguments: Any,
    if_cancelled: Callable[[Value], object] | None = None,
    **keywords: Any,
) -> Value:
    """In a thread, call a function that waits for the disk.

    Even a caller that is cancelled waits until the function has ended, so that the records of a
    step are written in the right order. If the caller is cancelled, ``if_cancelled`` is called with
    the function's value.
    """
    import asyncio  # noqa: PLC0415  (most runs need no event loop)

    def submit(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(_threads(os.getpid()), call)

    call = submit(functools.partial(function, *arguments, **keywords))
    try:
        value: Value = await asyncio.shield(call)
        return value
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if if_cancelled is not None and call.exception() is None:
            await asyncio.wait([submit(functools.partial(if_cancelled, call.result()))])
        raise


def wait_for_lock(change: Callable[[], Value]) -> Value:
    """Record the end of a step, even if another process keeps the commit lock for a long time.

    The step has already happened or failed, so its end must be recorded.
    """
    while True:
        try:
            return change()
        except JobLockedError as error:
            if error.by_task:  # waiting would not help
                raise
            time.sleep(_LOCKED_S)
