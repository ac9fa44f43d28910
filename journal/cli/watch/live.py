"""The live views of a job and of a set: read, draw, and wait for the next time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

import msgspec

from journal.cli.find import FoundJob
from journal.cli.watch.drawing import job_lines, set_lines
from journal.cli.watch.screen import Line, Screen
from journal.cli.watch.seen import JobReader, SetReader
from journal.sets.whole import Whole

_DRAW_EVERY_S = 0.25
_LEFT_LINES = 10  # for the outcome and commands to paste, below what was seen last


class LiveView:
    """A context manager that shows a job or a set on the terminal.

    At its end, also by an error or a signal, what was seen last stays on the normal screen.
    """

    def __init__(self, found: FoundJob) -> None:
        found.service.store.leaves_hints = False  # a view writes nothing
        self._screen = Screen()
        self._job, self._set = JobReader(found), SetReader(found)
        self._last: Callable[[int, int], list[Line]] | None = None
        self.has_advice = False  # whether the job that was shown last needs a person

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.__exit__()
        if self._last is not None:
            columns, lines = self._screen.size
            self._screen.leave_behind(self._last(columns, max(lines - _LEFT_LINES, _LEFT_LINES)))

    def show_job(self, state: str, *, ended: bool = False) -> None:
        """Show the job as it is now. ``state``: the result of :func:`state_of_job`.

        With ``ended``, it is only shown on the normal screen. Commands to paste aren't left there: they
        would be cut at the edge.
        """
        seen = self._job.read(state)
        self.has_advice = bool(seen.next)
        self._last = partial(job_lines, msgspec.structs.replace(seen, next=()))
        if not ended:
            self._screen.draw(job_lines(seen, *self._screen.size))

    def show_set(self, whole: Whole, *, ended: bool = False) -> None:
        """Show a set: see :meth:`show_job`."""
        self._last = partial(set_lines, self._set.read(whole))
        if not ended:
            self._screen.draw(self._last(*self._screen.size))

    def wait(self, least_s: float) -> None:
        """Wait until the view is due again. Raises QuitError if a person presses q."""
        self._screen.wait(max(least_s, _DRAW_EVERY_S))
