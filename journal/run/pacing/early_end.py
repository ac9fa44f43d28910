"""Decides about the early end of a run: by failures (``halt``), by its first rows, by its cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from journal.model import EarlyEnd, Job, JobRow
from journal.run.advice import HowTo
from journal.run.outcome import WRONG_ANSWERS, Outcome
from journal.run.pacing.limits import Limits, parse_halt
from journal.run.run_report import RunReport
from journal.store.interrupted_rows import TIMED_OUT
from journal.text import cents_number, cents_text, counted

_MAX_ALIKE = 10  # after this number of first rows failed with one error code, the run ends
_MESSAGE_CHARACTERS = 200
_MIN_DONE = 50  # a percentage of fewer rows means little


class Halt(msgspec.Struct):
    """The condition on which a run gives up. Only rows that this run has ended are counted.

    - With ``count``, the run gives up after this number of successive failures. Rows that began
      before the last success are ignored.
    - With ``percent``, the run gives up when at least 50 rows have ended, and at least this
      percentage of them have failed.

    ``now``: True if the run then ends the rows in flight. Otherwise, the run waits for them.
    """

    now: bool = False
    count: int = 0
    percent: int = 0
    succeeded: int = 0  # the ticket of the latest attempt that has succeeded
    failed_since: list[int] = []  # the failed attempts that began after that attempt

    @classmethod
    def parse(cls, given: Any) -> Halt | None:
        """Make the condition from ``halt``: see :func:`parse_halt`."""
        rule = parse_halt(given)
        return None if rule is None else cls(*rule)

    def hear(self, ticket: int, *, failed: bool) -> None:
        """Count a row that has ended. ``ticket``: the number of the row's last attempt in this run.

        A success removes the failures that began before the success. These failures have lower
        tickets, because tickets are in the order in which attempts began.
        """
        if not self.count:
            return
        if failed and ticket > self.succeeded:
            self.failed_since.append(ticket)
        elif not failed:
            self.succeeded = max(self.succeeded, ticket)
            self.failed_since = [later for later in self.failed_since if later > ticket]

    def reason(self, counts: Mapping[str, int]) -> str | None:
        """Return a message with the reason why the run gives up now, or None."""
        if self.count:
            last = counted(self.count, "row|rows has|have failed")
            return f"the last {last}" if len(self.failed_since) >= self.count else None
        failed = counts["failed"]
        done = counts["completed"] + counts["skipped"] + failed
        if done < _MIN_DONE or failed * 100 < done * self.percent:
            return None
        return f"{failed} of {done:,} rows have failed, {self.percent} % or more"


class Brake:
    """Ends a run whose first rows fail alike: at least nine of ten with the same error code.

    Such failures probably have a cause outside of the rows. Only first attempts of rows count. The
    brake is undecided until one of these events:

    - 10 attempts have failed alike, and the run has called :meth:`trip`.
    - More than 20 attempts have failed, but not alike.
    - An attempt has ended without a failure.

    A review that the handler has not asked for, after an invalid result or a timeout, counts as a
    failure.

    If a call with several rows fails, and its rows will be attempted again, the call counts as one
    failure. A single failed call may be a chance event.
    """

    def __init__(self, *, is_on: bool) -> None:
        self.is_undecided = is_on
        self.has_tripped = False
        self._failures: Counter[str] = Counter()  # by error code
        self._rows: Counter[str] = Counter()
        self._call: object = None  # the call of the latest row that is attempted again
        self._ended: Literal["", "failed", "review"] = ""  # "": all rows are attempted again
        self._code = self._message = ""  # of the most frequent failure

    @property
    def is_due(self) -> bool:
        return self.is_undecided and self._is_alike

    @property
    def _is_alike(self) -> bool:
        alike = self._failures[self._code]
        return alike >= _MAX_ALIKE and alike * 10 >= self._failures.total() * 9

    def hear(self, row: JobRow, outcome: Outcome, call: object, *, again: bool) -> None:
        """Count the outcome of an attempt.

        ``again``: the row will be attempted again. ``call``: the same object for all rows of one
        call of the handler.
        """
        if not self.is_undecided or outcome.is_given_back:
            return
        # If the handler has set the time of the next attempt, the handler has expected this
        # failure.
        if not _is_failure(outcome) or (again and outcome.after_s is not None):
            self.is_undecided = False
        elif row.attempts == 1:
            code = outcome.error_code
            self._failures[code] += call is not self._call
            self._rows[code] += 1
            if self._failures[code] >= self._failures[self._code]:
                self._code, self._message = code, outcome.error_message
            # A run with many workers may count more failures before it calls ``trip``.
            self.is_undecided = self._is_alike or self._failures.total() <= 2 * _MAX_ALIKE
            if again:
                self._call = call
            else:
                self._ended = "review" if outcome.kind == "review" else "failed"

    def trip(self, *, rows_left: bool) -> bool:
        """Decide whether the run ends. ``rows_left``: whether some rows were never started.

        If all rows were started, the run doesn't end early. Returns the decision.
        """
        self.is_undecided = False
        self.has_tripped = rows_left
        return rows_left

    def reason(self, how_to: HowTo, job_id: str) -> str:
        """Return a message with the reason why the run ends, and with advice on how to continue."""
        said = self._message[:_MESSAGE_CHARACTERS]
        error = f"{self._code}: {said}" if said != self._code else said
        rows = f"the first {self._rows[self._code]} rows of this run"
        every = "all "
        if len(self._rows) > 1:
            rows, every = f"no row of this run has succeeded, and {self._rows[self._code]} rows", ""
        what = f"{every}need a review:" if self._ended == "review" else f"have {every}failed with"
        fixed = {
            "failed": f"fix the cause and continue with {how_to.retry_failed}",
            "review": f"settle these rows ({how_to.reviews(job_id)}), fix the cause and run again",
            "": "they will be tried again: fix the cause and run again",
        }[self._ended]
        return (
            f"{rows} {what} {error}; {fixed}, or continue as it is with "
            f"{how_to.argument('halt', 'never')}"
        )


def _is_failure(outcome: Outcome) -> bool:
    is_unasked = outcome.unknown or outcome.error_code in WRONG_ANSWERS
    return outcome.kind == "failed" or (outcome.kind == "review" and is_unasked)


class Bounds:
    """The bounds at which one run ends early."""

    def __init__(self, limits: Limits, how_to: HowTo) -> None:
        self.brake = Brake(is_on=limits.halt != "never")
        self._halt = Halt.parse(limits.halt)
        self._limits = limits
        self._how_to = how_to
        # Whether a handler has raised Retry although rows have only one attempt.
        self.ignores_retries = False
        self.has_halted = False  # because of failures that ``limits.halt`` counts

    @property
    def depend_on_outcomes(self) -> bool:
        """Whether the outcome of any row may end the run.

        If False, only the outcomes of the first ten rows may end the run.
        """
        return self._limits.max_cost_cents is not None or self._halt is not None

    def unused_limit(self, report: RunReport) -> str:
        """A message if a cost limit had no effect because the job has cost nothing, else ""."""
        is_limited = self._limits.max_cost_cents is not None
        if report.job.total_cost_cents or not (report.started and is_limited):
            return ""
        name = self._how_to.argument("max_cost_cents")
        how = "return `journal.RowResult(cost_cents=...)`"
        if self._how_to.command:
            how = 'with `--stdout json`, COMMAND prints it: {"cost_cents": 12}'
        return f"the job has cost nothing, so {name} has limited nothing: {how}"

    def count(self, ticket: int, *, failed: bool, outcome: Outcome | None = None) -> None:
        """Count a row that has ended.

        ``ticket``: the number, in this run, of the row's last attempt.
        """
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
        """The reason why the run must end, and the way, or None.

        The second value is the way: 1 waits for the rows in flight, and 2 ends them.

        - ``job``: the current job. ``counts``: the counts of the run's report.
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
        """A message with advice if the limit of the cost is reached, or None."""
        total = job.total_cost_cents
        most: Any = self._limits.max_cost_cents
        if most is None or total < most:
            return None
        name, cost = self._how_to.argument("max_cost_cents"), cents_text(total)
        limit = f"{name} is {cents_number(most)}: start again with a higher limit"
        return EarlyEnd("cost", f"the job has cost {cost}, and {limit}")
