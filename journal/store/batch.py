"""A block whose changes become one commit, and which can tell that it has been left."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from journal.store.journal import Journal


class _HeldExit:
    """``__exit__`` as an object that nothing but the ``with`` statement holds.

    It is looked up once, when the block is entered, and let go when the block is left, in
    whatever way: also if an exception from a signal handler ends ``__exit__`` before it begins.
    A method would not tell, for its frame, and so its ``self``, lives on in the traceback.
    """

    def __get__(self, batch: Batch | None, owner: type[Batch]) -> Callable[..., None]:
        if batch is None:  # contextlib.ExitStack asks the class, and then holds the batch itself
            return Batch.end
        leave = partial(Batch.end, batch)
        batch.held = weakref.ref(leave)
        return leave


class Batch:
    """``with Batch(log):`` is one commit that the blocks inside of it join."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.held: weakref.ref[Any] = weakref.ref(self)

    def __enter__(self) -> Journal:
        self._journal.__enter__()
        self._journal.let_join(self.held)
        return self._journal

    __exit__ = _HeldExit()

    def end(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, or discard after an exception."""
        self._journal.stop_joining(self.held)
        self._journal.__exit__(kind, error, traceback)
