"""Shows progress in a notebook, as HTML that is updated in place."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from journal.display.html import job_html
from journal.display.plain import job_text
from journal.model import Job, expected_cost_cents


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
