"""Batches: ``with`` blocks whose changes become one commit.

A batch counts as ended when its block is left, even if a signal handler raises before ``__exit__``
runs.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

from journal.store.journal import Journal


class _HeldExit:
    """Gives a batch an ``__exit__`` that only the ``with`` statement keeps alive.

    The statement looks up ``__exit__`` when the block is entered. When the block is left, the
    statement drops its reference, even if a signal handler raises before ``__exit__`` runs. So
    ``held``, a weak reference to this ``__exit__``, is dead after the block. A weak reference to
    the batch would stay alive after such an exception, because the traceback keeps the frame of
    ``__exit__``, and this frame references the batch.
    """

    def __get__(self, batch: Batch | None, owner: type[Batch]) -> Callable[..., None]:
        if batch is None:  # ExitStack looks up __exit__ in the class, and holds the batch
            return Batch.end
        leave = partial(Batch.end, batch)
        batch.held = weakref.ref(leave)
        return leave


class Batch:
    """Makes one commit of all changes in a ``with Batch(journal):`` block."""

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
        """Commit the changes, or discard them after an exception."""
        self._journal.stop_joining(self.held)
        self._journal.__exit__(kind, error, traceback)
