"""Shows the progress of a job: a bar on a terminal, HTML in a notebook, or lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from journal.display.repr import job_html, job_text
from journal.display.session import in_notebook
from journal.errors import JobBusyError
from journal.model import Job, JobStatus, expected_cost_cents, hold_of, hold_text, pausing_text
from journal.progress.rate import RecentRate, time_left
from journal.progress.terminal import Bar, Lines, has_terminal
from journal.text import shorten


class Cell:
    """The output of a cell. The saved notebook has the last HTML that was shown."""

    every_s = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Show the job, or update the HTML that is shown. A console shows plain text."""
        text = ", ".join(details)
        shown = {
            "text/plain": ", ".join(filter(None, (job_text(job), text))),
            "text/html": job_html(job, text, expected_cents=expected_cost_cents(job)),
        }
        if self._handle is None:
            display = sys.modules["IPython"].display.display
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)

    def close(self, *, withdraw: bool = False) -> None:
        """End the output. ``withdraw``: remove the output from the cell."""
        if withdraw and self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)


_REASON_CHARACTERS = 40


class Progress:
    """A context manager that shows progress.

    Errors of the display are ignored, so they don't end the run.
    """

    def __init__(
        self,
        job: Job,
        progress: bool | None = None,
        *,
        pace: Callable[[], str] = str,
        in_shell: bool = False,
    ) -> None:
        """Store the options.

        - ``progress``: None shows a bar on a terminal, and HTML in a notebook. True also shows
          lines elsewhere.
        - ``pace``: returns a text about what the run waits for, or "" if the run doesn't wait.
        - ``in_shell``: True if a command prints the outcome. In this case, if progress is shown as
          lines, no line is printed at the end.
        """
        self._job = job
        self._progress = progress
        self._pace = pace
        self._in_shell = in_shell
        self._recent = RecentRate()
        self._rate: float | None = None
        self._state = ""
        self._view: Bar | Lines | Cell | None = None
        self._drawn_s = time.monotonic()

    def __enter__(self) -> Self:
        if self._progress is False:
            return self
        with suppress(Exception):
            if in_notebook():
                self._view = Cell()
            elif has_terminal():
                self._view = Bar.begin()
            elif self._progress:
                self._view = Lines()
        if not isinstance(self._view, Lines):
            self._drawn_s = -self._view.every_s if self._view else 0.0
            self.show(self._job)
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        view, self._view = self._view, None
        if view is not None:
            is_refused = isinstance(error, JobBusyError)  # if so, another run works on the job
            with suppress(Exception):
                if not is_refused and not (isinstance(view, Lines) and self._in_shell):
                    view.draw(self._job, self._details())
            with suppress(Exception):
                view.close(withdraw=is_refused)

    def show(self, job: Job, state: str = "") -> None:
        """Show the current counts of the job, unless the last update was a moment ago.

        ``state``: the result of :func:`state_of_job`, if another process runs the job.
        """
        self._job, self._state = job, state or job.status
        if self._view is None:
            return
        now_s = time.monotonic()
        if self._state in (JobStatus.PAUSED, "interrupted") or job.hold is not None:
            self._recent.pause()
            self._rate = None
        else:
            self._rate = self._recent.look(now_s, job.total_rows - job.open_rows)
        if now_s - self._drawn_s >= self._view.every_s:
            self._drawn_s = now_s
            with suppress(Exception):
                self._view.draw(job, self._details())

    def end(self, job: Job) -> None:
        """End the display. ``job``: the job whose counts are shown last."""
        self._job = job

    def then(self, on_progress: Callable[[Job], object]) -> Callable[[Job], None]:
        """Return a function that shows a job and calls ``on_progress`` until a call fails."""
        call: Callable[[Job], object] | None = on_progress

        def show(job: Job) -> None:
            nonlocal call
            self.show(job)
            try:
                if call is not None:
                    call(job)
            except Exception:
                call = None  # a second error would count as a second stop, which ends rows
                raise

        return show

    def _details(self) -> list[str]:
        parts = []
        if hold := hold_of(self._job, self._state):
            return [hold_text(hold), shorten(hold.reason, _REASON_CHARACTERS)]
        if pausing := pausing_text(self._job, self._state):
            return [pausing]
        if self._rate:
            parts.append(f"{self._rate:.1f}/s")
        if self._job.open_rows and self._job.status is JobStatus.RUNNING:
            left = time_left(self._job, self._rate) if self._job.pending_count else None
            parts += filter(None, ["" if left is None else f"{left} left", self._pace()])
        return parts
