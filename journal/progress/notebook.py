"""Shows progress in a notebook, as HTML that is updated in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from journal.display.html import job_html
from journal.display.plain import job_text
from journal.model import Job, expected_cost_cents


class _Shown:
    """The content of the cell.

    Frontends that can't show HTML, such as a console, show its ``repr``.
    """

    def __init__(self, job: Job, details: Sequence[str]) -> None:
        self._job = job
        self._details = ", ".join(details)

    def __repr__(self) -> str:
        return ", ".join(filter(None, (job_text(self._job), self._details)))

    def _repr_html_(self) -> str:
        expected = expected_cost_cents(self._job)
        return job_html(self._job, self._details, expected_cents=expected)


class Cell:
    """The output of a cell. The saved notebook has the last HTML that was shown."""

    every_s = 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, job: Job, details: Sequence[str]) -> None:
        """Show the job, or update the HTML that is shown."""
        shown = _Shown(job, details)
        if self._handle is None:
            self._handle = sys.modules["IPython"].display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def close(self, *, withdraw: bool = False) -> None:
        """End the output. ``withdraw``: remove the output from the cell."""
        if withdraw and self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)
