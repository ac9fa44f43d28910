"""Shows the progress of a run: a bar on a terminal; elsewhere a line every 10 seconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import click

from journal.cli.output import echo_err
from journal.cli.throughput import RecentRate, time_left
from journal.model import Job, JobStatus, done_rows, expected_cost_cents
from journal.text import counted, escaped, shorten, spent_text

_LINE_S = 10.0
_LABEL_COLUMNS = 24
_BAR_COLUMNS = 30


class Progress:
    """A context manager that shows progress on standard error, or nothing if ``quiet``."""

    def __init__(self, job: Job, *, quiet: bool, pace: Callable[[], str] = str) -> None:
        """``pace`` returns what a run waits for, or its number of workers; "" to show nothing."""
        self._job = job
        self._pace = pace
        self._quiet = quiet
        self._printed_s = time.monotonic()
        self._recent = RecentRate()
        self._rate: float | None = None
        self._bar: Any = None
        if not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bar = click.progressbar(
                length=job.total_rows,
                label=shorten(escaped(job.id), _LABEL_COLUMNS),
                file=sys.stderr,
                show_eta=False,  # click's own estimate would include rows of earlier runs
                show_pos=True,
                item_show_func=lambda text: text,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._fit(self._job)  # before click draws the bar for the first time
            with suppress(OSError):
                self._bar.__enter__()
            self.show(self._job)
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with suppress(OSError):
                self._bar.__exit__(*error)

    def show(self, job: Job, state: str = "") -> None:
        """Show the present counts of the job. Errors of the terminal are ignored.

        ``state`` is the result of ``JobService.get_state``, for a job that another process runs.
        """
        self._job = job
        if (state or job.status) in (JobStatus.PAUSED, "interrupted"):
            self._recent.pause()
            self._rate = None
        else:
            self._rate = self._recent.look(time.monotonic(), _ended(job))
        if self._bar is not None:
            self._fit(job)
            with suppress(OSError):
                self._bar.render_progress()
        elif not self._quiet and time.monotonic() - self._printed_s >= _LINE_S:
            self._printed_s = time.monotonic()
            total = counted(job.total_rows, "row|rows")
            echo_err(f"{job.id}: {done_rows(job)} of {total} done, {self._detail(job)}")

    def _fit(self, job: Job) -> None:
        """Fit the bar and its text into one line, since a longer text can't be overwritten."""
        self._bar.length = job.total_rows
        self._bar.pos = done_rows(job)  # decreases when rows become pending again
        room = _columns() - len(f"{self._bar.label}  []  {self._bar.format_pos()}  ")
        detail = shorten(self._detail(job), max(room, 1))
        self._bar.current_item = detail
        self._bar.width = max(0, min(_BAR_COLUMNS, room - len(detail)))

    def echo_err(self, text: str) -> None:
        """Write a line below the bar."""
        if self._bar is not None:
            with suppress(OSError):
                click.echo(err=True)
        echo_err(text)

    def _detail(self, job: Job) -> str:
        parts = [f"{job.failed_rows} failed"]
        if job.needs_review_count:
            parts.append(f"{job.needs_review_count} need review")
        left = time_left(job.total_rows - _ended(job), self._rate)
        if left is not None:
            parts += [f"{self._rate:.1f}/s", f"{left} left"]
        parts += filter(None, [self._pace()])
        cost = spent_text(job.total_cost_cents, expected_cost_cents(job))
        if cost:
            parts.append(f"cost {cost}")
        return ", ".join(parts)


def _columns() -> int:
    """The width of the terminal, minus one column for the cursor."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        columns = 0
    return (columns or 80) - 1


def _ended(job: Job) -> int:
    """Return the number of rows that are neither pending nor in flight."""
    return job.total_rows - job.pending_count - job.processing_count
