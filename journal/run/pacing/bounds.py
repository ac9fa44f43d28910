"""Decides when a run ends early, by its failures, its cost or the number of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from journal.model import EarlyEnd, Job
from journal.run.outcome import Outcome
from journal.run.pacing.halt import Brake, Halt
from journal.run.pacing.limits import Limits
from journal.run.plan import HowTo
from journal.run.run_report import RunReport
from journal.store.interrupted_rows import TIMED_OUT
from journal.text import cents_number, cents_text


class Bounds:
    """The bounds of one run."""

    def __init__(self, limits: Limits, how_to: HowTo) -> None:
        self.brake = Brake(is_on=limits.halt != "never")
        self._halt = Halt.parse(limits.halt)
        self._limits = limits
        self._how_to = how_to
        self.ignores_retries = (
            False  # whether a handler has raised Retry, and a row has one attempt
        )
        self.has_halted = False  # by failures that ``limits.halt`` counts

    @property
    def depend_on_outcomes(self) -> bool:
        """Whether the outcome of any row may end the run.

        If False, only the outcomes of the first ten rows may end the run.
        """
        return self._limits.max_cost_cents is not None or self._halt is not None

    def unused_limit(self, report: RunReport) -> str:
        """The message that a cost limit had no effect, because the job has cost nothing; else ""."""
        is_limited = self._limits.max_cost_cents is not None
        if report.job.total_cost_cents or not (report.started and is_limited):
            return ""
        name = self._how_to.argument("max_cost_cents")
        how = "return `journal.RowResult(cost_cents=...)`"
        if self._how_to.command:
            how = 'with `--stdout json`, COMMAND prints it: {"cost_cents": 12}'
        return f"the job has cost nothing, so {name} has limited nothing: {how}"

    def count(self, ticket: int, *, failed: bool, outcome: Outcome | None = None) -> None:
        """Count a row that has ended. ``ticket``: its last attempt's number in this run."""
        if outcome is not None and outcome.kind == "failed" and outcome.retryable:
            is_of_handler = outcome.traceback is None and outcome.error_code != TIMED_OUT
            self.ignores_retries |= is_of_handler and self._limits.max_attempts == 1
        if self._halt is not None:
            self._halt.hear(ticket, failed=failed)

    def reached(
        self,
        job: Job,
        counts: Mapping[str, int],
        *,
        has_fresh: Callable[[], bool],
    ) -> tuple[EarlyEnd, int] | None:
        """Why the run must end, and how; None if it continues.

        The second value says how: 1 waits for the rows in flight, and 2 ends them.

        - ``job``: the job as it is now. ``counts``: the counts of the run's report.
        - ``has_fresh``: returns whether rows are left that were never started.
        """
        if self._halt is not None:
            reason = self._halt.reason(counts)
            if reason is not None:
                self.has_halted = True
                return EarlyEnd("failures", reason), 2 if self._halt.now else 1
        if self.brake.is_due and self.brake.trip(rows_left=has_fresh()):
            return EarlyEnd("first_rows", self.brake.reason(self._how_to, job.id)), 1
        if not job.pending_count:
            return None
        over_cost = self._over_cost(job)
        return None if over_cost is None else (over_cost, 1)

    def _over_cost(self, job: Job) -> EarlyEnd | None:
        """The limit of the cost, if it is reached, and how to continue; None if it isn't."""
        total = job.total_cost_cents
        most: Any = self._limits.max_cost_cents
        if most is None or total < most:
            return None
        name, cost = self._how_to.argument("max_cost_cents"), cents_text(total)
        limit = f"{name} is {cents_number(most)}: start again with a higher limit"
        return EarlyEnd("cost", f"the job has cost {cost}, and {limit}")
