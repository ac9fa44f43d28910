"""The decision of a person about rows that need a review, for `journal resolve`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from journal.cli.find import FoundJob
from journal.cli.shared_options import json_or_text
from journal.errors import InvalidValueError, RefusedError
from journal.format.records import MAYBE_DONE_TWICE
from journal.fs import system
from journal.ids import row_id_of
from journal.model import Job, JobRow, RowStatus
from journal.run.advice import what_may_run
from journal.service import JobService
from journal.store.calls import call_of_row
from journal.store.interrupted_rows import INTERRUPTED, STEP_IN_DOUBT, STEP_NOT_RECORDED, settle_row
from journal.store.steps import get_step_in_doubt
from journal.text import Numbers, as_text, counted, shorten

# Ways to settle a row: a method of the service, and the options that become its arguments.
WAYS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "completed": (
        JobService.complete_row,
        ("tracking_number", "cost_cents", "label_path", "result"),
    ),
    "failed": (JobService.fail_row, ("error_message",)),
    "retry": (JobService.retry_row, ()),
    "skip": (JobService.skip_row, ()),
    "step": (JobService.record_step, ("result", "not_done")),
}


def how_of(given: dict[str, Any], *, in_file: bool) -> str:
    """Return the name of the given option that settles rows, such as "completed".

    ``in_file``: a file may have values that otherwise are options. Raises UsageError if the options
    can't be combined.
    """
    names = {name for name, value in given.items() if value not in (None, False)}
    chosen = [way for way in WAYS if way in names]
    if len(chosen) != 1:
        *others, last = (f"--{way}" for way in WAYS)
        raise click.UsageError(f"give exactly one of {', '.join(others)} and {last}")
    (how,) = chosen
    for name in sorted(names.difference(chosen, WAYS[how][1])):
        belongs = " and ".join(f"--{way}" for way, (_, options) in WAYS.items() if name in options)
        raise click.UsageError(f"--{name.replace('_', '-')} belongs to {belongs}, not --{how}")
    if in_file and how == "step":
        raise click.UsageError("--step can't be combined with --from")
    if how == "failed" and "error_message" not in names and not in_file:
        raise click.UsageError("--failed needs --error-message")
    if how == "step" and ("result" in names) is ("not_done" in names):
        raise click.UsageError("--step needs either --result or --not-done")
    return how


class Resolution:
    """The decision of a person about rows: ``how`` to settle them, the reason, and other options.

    ``values``: by row number, the values that replace options for the row.
    """

    def __init__(
        self,
        job: FoundJob,
        how: str,
        reason: str | None,
        given: dict[str, Any],
        values: dict[int, dict[str, Any]],
    ) -> None:
        self._job, self._how, self._reason, self._values = job, how, reason, values
        self._details = {name: given[name] for name in WAYS[how][1]}
        if how == "failed":
            self._details["error_code"] = given["failed"]
        if how == "skip":
            self._details["reason"] = reason
        if self._details.get("result") is not None:
            self._details["result"] = json_or_text(self._details["result"])
        self._step = given["step"]
        self._is_cut = False  # whether the run of a row died
        self.settled = set[int]()  # rows with a step settled for them or for their call
        self._pending = Numbers()  # rows whose only open question was the step
        self._others: dict[str, Numbers] = {}  # rows with another question, by error code

    def settle_row(self, row: JobRow) -> object:
        service, how = self._job.service, self._how
        in_flight = row.status is RowStatus.PROCESSING
        self._is_cut = self._is_cut or in_flight or row.error_code == INTERRUPTED
        if in_flight:  # otherwise, the attempt would seem to last until now
            settle_row(service.store, row, "review")
        self._log(row, f"resolve --{how}")
        # The row keeps its outcome, unless the person gives another outcome.
        kept = row if how == "completed" and row.error_code == MAYBE_DONE_TWICE else None
        given = self._details | self._values.get(row.row_number, {})
        outcome = {n: getattr(kept, n, None) if v is None else v for n, v in given.items()}
        return WAYS[how][0](service, row.id, **outcome)

    def settle_step(self, row: JobRow) -> bool:
        """Settle one step of the row. If the row has no other step in doubt, it becomes pending.

        A step of a call is settled for all rows of the call.
        """
        service, name = self._job.service, self._step
        if row.row_number in self.settled:
            return True
        _check_in_doubt(self._job, row, name)
        with service.store.reading(self._job.id) as journal:
            call = call_of_row(journal, row.row_number)
        rows = () if call is None else call.rows
        is_other = rows and self.settled and self.settled.isdisjoint(rows)
        if is_other and not self._details["not_done"]:
            why = "is of another call, which has a result of its own: settle one call at a time"
            raise InvalidValueError("row", row.row_number, why)
        if row.status is RowStatus.PROCESSING:
            # The row has a step in doubt. So the row goes to review, as the next start would
            # decide.
            row = settle_row(service.store, row, "resume")
        if self._details["not_done"]:
            service.fail_step(row.id, name)
        else:
            service.record_step(row.id, name, self._details["result"])
        self._log(row, f"step {name!r}")
        self._continue(row)
        for number in rows:
            other = service.get_row(row_id_of(self._job.id, number))
            if other is not None and other.status is RowStatus.NEEDS_REVIEW and other.id != row.id:
                self._continue(other)
        return True

    def _continue(self, row: JobRow) -> None:
        """Make a row in review pending if its review was only about the step settled now."""
        service = self._job.service
        doubt = get_step_in_doubt(service.store, row.id)
        if doubt is not None and doubt.name == self._step:
            return  # a step of this row alone
        self.settled.add(row.row_number)
        if row.status is RowStatus.NEEDS_REVIEW and doubt is None:
            if row.error_code in (STEP_IN_DOUBT, STEP_NOT_RECORDED):
                service.retry_row(row.id)
                self._pending.add(row.row_number)
            else:
                self._others.setdefault(row.error_code or "", Numbers()).add(row.row_number)

    def _log(self, row: JobRow, what: str) -> None:
        """Record in the log who settles the row, and why."""
        details = {"by": f"{system.user_name()}@{system.host_name()}"}
        if self._reason is not None:
            details["reason"] = self._reason
        message = f"settled by hand: {what}"
        log = self._job.service.log
        log(self._job.id, message, row_number=row.row_number, details=details)

    def report(self, before: Job, count: int) -> tuple[int, str]:
        """Report what becomes of the rows.

        Returns how many rows are pending, and the end of the message about these rows.
        """
        job, how = self._job, self._how
        if self._is_cut and how != "completed" and (warning := what_may_run(before)):
            job.say(warning)
        if how not in ("retry", "step"):
            return job.read().pending_count, "as before"
        if how == "step":
            state = "not done" if self._details["not_done"] else "done"
            job.say(f"step {self._step!r} of {counted(count, 'row|rows')} is recorded as {state}")
        for code, numbers in self._others.items():
            rows = counted(numbers.count, "row|rows still needs|need a review")
            job.say(f"{rows} ({code}): --row {numbers.text()}")
        return self._pending.count if how == "step" else count, "again"


def _check_in_doubt(job: FoundJob, row: JobRow, name: str) -> None:
    steps = {step.name: step for step in job.service.get_steps(row.id)}
    doubts = ", ".join(repr(step.name) for step in steps.values() if step.state == "started")
    state: str = steps[name].state if name in steps else "not known"
    if state != "started":
        if state == "done":
            state += f", with the result {shorten(as_text(steps[name].result), 200)!r}"
        why = f"step {name!r} of row {row.id} is {state}; steps in doubt: {doubts or 'none'}"
        if not doubts and row.status is RowStatus.NEEDS_REVIEW:
            retry = job.command("resolve", job.id, "--row", str(row.row_number), "--retry")
            why += f": `{retry}` continues the row"
        raise RefusedError(f"{why}; nothing was changed")
