"""The result of a run, with the exit code for it."""

from __future__ import annotations

import msgspec

from journal.display.repr import report_text
from journal.model import Job
from journal.run.exit_codes import run_exit_code


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. ``job``: the job at the end of the run.

    - ``started``: the number of attempts of this run.
    - ``completed``, ``failed``, ``skipped``: how many rows got this status in this run. Rows that
      need a review count as failed. The counts of ``job`` also include earlier runs.
    - ``added``, ``changed``, ``retried``: how many rows the start has added, has given new data,
      and has retried after a failure. ``gone``: how many rows are no longer in the input.
    - ``outdated``: how many completed rows have other data in the input. They keep their old data
      and result: see ``on_changed`` of :func:`open_job`.
    - ``reason``: why the run ended before all rows were done, or ``None``.
    - ``signal``: the number of the signal that stopped the run, or ``None``.
    - ``is_lost``: True if another run has claimed the job before the end of this run. After that,
      this run has recorded nothing.
    - ``problems``: a message for each outcome that could not be recorded.
    - ``elapsed_s``: seconds from start to end.
    """

    job: Job
    started: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    added: int = 0
    changed: int = 0
    retried: int = 0
    gone: int = 0
    outdated: int = 0
    reason: str | None = None
    signal: int | None = None
    is_lost: bool = False
    problems: tuple[str, ...] = ()
    elapsed_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """The exit code for ``sys.exit``.

        0 means that all rows are done. `journal help exceptions` lists the other codes.
        """
        return run_exit_code(self.job, reason=self.reason, signal=self.signal, is_lost=self.is_lost)

    def __repr__(self) -> str:
        return f"<RunReport {report_text(self)}>"
