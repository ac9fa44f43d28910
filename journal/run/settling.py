"""Records the outcomes of attempts, and decides which rows are attempted again.

All records become part of the batch that the caller has open.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from journal.errors import InvalidStateTransition, InvalidValueError, StepInDoubtError
from journal.format.arguments import check_label_path, check_text
from journal.format.records import (
    A_POLICY,
    A_RUN,
    UNSET_TIME,
    By,
    RowSpentRecord,
    RowStatusRecord,
    RowStatusText,
)
from journal.format.size_limits import MAX_USAGE_NAMES
from journal.fs import system
from journal.model import JobRow, RowStatus, RowStep
from journal.run.lifecycle import RunningJob
from journal.run.outcome import CHECKS, Outcome, in_doubt, without_refused
from journal.run.pacing.limits import Limits
from journal.run.pacing.open_calls import OpenCalls
from journal.run.pacing.retries import delay_s, fate_of, with_unknown
from journal.run.pacing.waits import with_time
from journal.run.workers.in_flight import Result
from journal.store import bulk
from journal.store.interrupted_rows import STEP_IN_DOUBT
from journal.store.journal import Journal
from journal.store.row_reader import position_of, waits_since
from journal.store.steps import (
    NAME_REUSED,
    drop_steps,
    get_step_in_doubt,
    in_doubt_text,
    step_in_doubt,
)
from journal.store.transitions import change_row, put_logs, put_record

# The status of a row, by the kind of its outcome. After an outcome of any other kind, the row isn't
# done.
_STATUSES = {
    "completed": RowStatus.COMPLETED,
    "skipped": RowStatus.SKIPPED,
    "review": RowStatus.NEEDS_REVIEW,
}
_KINDS_WITH_CODE = ("review", "failed", "lost")
# Fields of an outcome that a row gets with its status.
_OF_WORK = ("tracking_number", "label_path", "result")
OF_ERROR = ("error_code", "error_message", "traceback")


class Settling:
    """Records the outcomes of one run's attempts. Not thread-safe."""

    def __init__(self, job: RunningJob, limits: Limits) -> None:
        self._service = job.service
        self._job_id = job.id
        self._on_interrupted = job.settings.on_interrupted
        self._limits = limits
        self._latest = 0, 0  # steps and attempts of the row that _step_in_doubt has read last
        self._doubt: RowStep | None = None  # the step in doubt of this row
        self.calls = OpenCalls(job.service, job.id, is_batch=limits.batch is not None)

    def settle(self, row: JobRow, outcome: Outcome) -> tuple[Outcome, float | None]:
        """Record the outcome of an attempt.

        Returns the recorded outcome, and the seconds until the next attempt, or None.

        If the outcome can't be recorded, for example because it is too long, the row needs a
        review. The row also needs a review if the attempt has ended with a step in doubt. If the
        outcome is "unstarted" or "held", the row is due at once. Otherwise, the row is due after
        the ``after_s`` of the outcome. Without ``after_s``, the row is due after its backoff. A row
        that has waited for ``max_wait_s`` fails. A row that stays in its call
        (:meth:`OpenCalls.keeps`) gets no outcome. Raises InvalidStateTransition if another process
        has settled the row.
        """
        outcome = self._with_doubt(row, outcome)
        if outcome.kind == "waiting":
            outcome = with_time(outcome, self._waited_s(row), self._limits)
        if self.calls.keeps(row, outcome):
            if outcome.logs:
                self._journal().change(put_logs, row.row_number, outcome.logs)
            self.add_cost(row, outcome)
            return outcome, outcome.after_s or 0.0
        for _ in range(2):  # the journal may first refuse the usage, and then the length
            try:
                return outcome, self._record(row, outcome)
            except InvalidValueError as error:
                outcome = without_refused(outcome, error)
        return outcome, self._record(row, outcome)

    def complete(self, results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
        """Record many completed attempts together.

        Returns the recorded results, and the results that need :meth:`settle`. For example, a
        result with messages or steps, or with an outcome other than "completed", needs
        :meth:`settle`. A late result also needs :meth:`settle`, since the attempt was given up with
        another outcome.
        """
        plain: list[Result] = []
        others: list[Result] = []
        for result in results:
            outcome = result.outcome
            is_plain = (
                outcome.kind == "completed"
                and not (outcome.logs or result.is_late)
                and outcome.label_path is None
            )
            (plain if is_plain else others).append(result)
        records = [_completed(result.row.row_number, result.outcome) for result in plain]
        is_done = self._journal().change(bulk.complete_rows, records)
        if all(is_done):
            return plain, others
        others += itertools.compress(plain, map(operator.not_, is_done))
        return list(itertools.compress(plain, is_done)), others

    def settle_once(self, row: JobRow, outcome: Outcome) -> bool:
        """Call :meth:`settle`, unless a failed commit has settled the attempt after all.

        Returns True if the row now has ``outcome``, or if the row was attempted again meanwhile.
        Returns False if the row no longer exists, or if it has another outcome.
        """
        with self._service.batch(self._job_id):
            now = self._service.get_row(row.id)
            if now is None:
                return False
            if now.attempts == row.attempts and now.status is RowStatus.PROCESSING:
                self.settle(row, outcome)
                return True
        return now.attempts > row.attempts or _shows(now, self._with_doubt(row, outcome))

    def settle_late(self, row: JobRow, outcome: Outcome, *, after_failure: bool) -> bool:
        """Record the outcome of an attempt that was given up.

        ``after_failure``: True if a commit has failed before. The failed commit may be on the disk
        after all, and may have this outcome.

        Returns whether the outcome settles the row. Only a success settles the row. For any other
        outcome, only the cost is recorded. If the attempt has succeeded, but a step of the row is
        in doubt, the cost is recorded, and StepInDoubtError is raised. Raises
        InvalidStateTransition if another process has settled the row.
        """
        step = get_step_in_doubt(self._service.store, row.id)
        is_success = outcome.kind in ("completed", "skipped")
        if is_success and step is None:
            try:
                # If recording fails, the row isn't put in review, because another attempt may be in
                # flight.
                self._record(row, outcome)
            except InvalidStateTransition:
                known = self._service.get_row(row.id) if after_failure else None
                if known is None or known.cost_cents != outcome.cost_cents:
                    self.add_cost(row, outcome)
                raise
            return True
        self.add_cost(row, outcome)
        if is_success and step is not None:
            raise StepInDoubtError(row.id, step.name, step.attempt)
        return False

    def add_cost(self, row: JobRow, outcome: Outcome) -> None:
        """Record the cost of an attempt whose row has already got another outcome."""
        cost_cents, usage = outcome.cost_cents, outcome.usage
        if usage:
            job = self._service.get_job(self._job_id)
            if job and len({*job.usage, *usage}) > MAX_USAGE_NAMES:
                usage = None
        if cost_cents is None and not usage:
            return
        record = RowSpentRecord(
            row=row.row_number,
            id=system.nonce(),
            attempt=row.attempts,
            cost_cents=CHECKS["cost_cents"](cost_cents),
            usage=CHECKS["usage"](usage),
            at=UNSET_TIME,
        )
        self._journal().change(put_record, record)

    def _record(self, row: JobRow, outcome: Outcome) -> float | None:
        """Record an outcome. Returns the seconds until the next attempt, or None.

        Raises InvalidStateTransition, and InvalidValueError if the outcome can't be recorded.
        """
        if outcome.logs:
            with self._service.batch(self._job_id):
                self._journal().change(put_logs, row.row_number, outcome.logs)
                return self._status(row, outcome)
        return self._status(row, outcome)

    def _status(self, row: JobRow, outcome: Outcome) -> float | None:
        match outcome.kind:
            case "completed":
                self.put(row, "completed", outcome, *_OF_WORK)
            case "skipped":
                self.put(row, "skipped", outcome, "reason")
            case "review":
                self.put(row, "needs_review", outcome, *_OF_WORK, *OF_ERROR, "reason")
            case "unstarted" | "held" | "throttled":
                return self._give_back(row, outcome)
            case "waiting":
                self.put(row, "pending", outcome, "reason", reset="wait", after_s=outcome.after_s)
                return outcome.after_s
            case "failed" | "lost":
                return self._settle_failure(row, outcome)
        return None

    def put(
        self,
        row: JobRow,
        status: RowStatusText,
        outcome: Outcome,
        *names: str,
        by: By = A_RUN,
        **members: Any,
    ) -> None:
        """Give a row a status, with the cost of an outcome and its fields ``names``."""
        record = RowStatusRecord(row=row.row_number, status=status, at=UNSET_TIME, **members)
        for name in ("cost_cents", "usage", *names):
            value = getattr(outcome, name)
            if value is not None:
                checked = CHECKS[name](value) if name in CHECKS else check_text(value, name)
                setattr(record, name, checked)
        if record.label_path is not None:
            directory = self._service.store.directory(self._job_id)
            record.label_path = check_label_path(record.label_path, directory)
        self._journal().change(change_row, by.sign(record))

    def _with_doubt(self, row: JobRow, outcome: Outcome) -> Outcome:
        """The outcome, or a review in its place if a step of the row or of its call is in doubt.

        While nobody knows whether a step took effect, the row isn't done, and must not be attempted
        again. The return value of the handler doesn't matter. For lost attempts, ``on_interrupted``
        decides.
        """
        if outcome.kind in ("unstarted", "lost"):
            return outcome
        step = self._step_in_doubt(row)
        if step is None:
            if outcome.unknown and outcome.kind == "failed":
                return with_unknown(outcome, self._limits, self._on_interrupted)
            return outcome
        code = NAME_REUSED if step.state == "failed" else STEP_IN_DOUBT
        return in_doubt(outcome, code, in_doubt_text(row.id, step))

    def _step_in_doubt(self, row: JobRow) -> RowStep | None:
        """Return the row's step in doubt.

        Fast for successive rows of a call, because they share the step.
        """
        journal = self._journal()
        columns = journal.index.columns
        if columns.step_heads is None:
            return None
        position = position_of(journal, row.row_number)
        steps = columns.step_heads[position], columns.attempts[position]
        if steps != self._latest:
            self._latest, self._doubt = steps, step_in_doubt(journal, position)
        return self._doubt

    def forget(self) -> None:
        """Forget what was read in a commit that has ended."""
        self._latest = 0, 0

    def _waited_s(self, row: JobRow) -> float:
        journal = self._journal()
        position = position_of(journal, row.row_number)
        since = self.calls.waits_since(position) or waits_since(journal, position)
        return 0.0 if since is None else (journal.now() - since).total_seconds()

    def _settle_failure(self, row: JobRow, outcome: Outcome) -> float | None:
        code, message = outcome.error_code, outcome.error_message
        by, step = A_RUN, None
        if outcome.kind == "lost":
            by, step = A_POLICY, get_step_in_doubt(self._service.store, row.id)
        if step is not None:
            message += f"; {in_doubt_text(row.id, step)}"
            if self._on_interrupted == "resume" and step.state == "started":
                code, message = STEP_IN_DOUBT, f"{code}: {message}"
        fate = fate_of(row, outcome, self._limits, self._on_interrupted, in_doubt=step is not None)
        if outcome.kind == "lost" and fate == "fail" != self._on_interrupted:
            message += f"; given up after {row.attempts} attempts"
        ended = replace(outcome, error_code=code, error_message=message)
        if fate == "review":
            self.put(row, "needs_review", ended, *OF_ERROR, by=by)
        elif fate == "retry":
            if outcome.from_step:
                ended = self._from_step(row, ended)
            self.put(row, "pending", ended, *OF_ERROR, by=by)
            return delay_s(row, outcome, self._limits)
        else:
            unknown = outcome.unknown or outcome.kind == "lost"
            self.put(row, "failed", ended, *OF_ERROR, by=by, unknown=unknown)
        return None

    def _from_step(self, row: JobRow, outcome: Outcome) -> Outcome:
        """Drop the row's steps from ``from_step`` on.

        If the row has no such step, the outcome's message reports this.
        """
        try:
            self._journal().change(drop_steps, row.row_number, outcome.from_step)
        except InvalidValueError as no_step:
            return replace(outcome, error_message=f"{outcome.error_message}; {no_step}")
        return outcome

    def _give_back(self, row: JobRow, outcome: Outcome) -> float:
        if outcome.from_step:
            outcome = self._from_step(row, outcome)
        if outcome.kind != "unstarted":
            outcome = replace(outcome, reason=f"{outcome.error_code}: {outcome.error_message}")
        self.put(row, "pending", outcome, "reason", reset="given_back")
        return delay_s(row, outcome, self._limits) if outcome.kind == "throttled" else 0.0

    def _journal(self) -> Journal:
        return self._service.store.journal(self._job_id)


def _completed(number: int, outcome: Outcome) -> RowStatusRecord:
    """The record of a completed row. The values of ``outcome`` were checked before."""
    return RowStatusRecord(
        row=number,
        status="completed",
        tracking_number=outcome.tracking_number,
        cost_cents=outcome.cost_cents,
        usage=outcome.usage or None,
        result=outcome.result,
        by=A_RUN.by,
        at=UNSET_TIME,
    )


def _shows(row: JobRow, outcome: Outcome) -> bool:
    """Return whether the row has the status and the error of this outcome."""
    status = _STATUSES.get(outcome.kind)
    if outcome.kind in _KINDS_WITH_CODE and row.error_code != outcome.error_code:
        return False
    return not row.status.is_done if status is None else row.status is status
