"""Queues a job's open rows in the order in which a run takes them, and records outcomes.

Rows are looked up when they are needed, and are not kept in memory. For a row that waits for
another attempt, only its number and a time are kept. All records become part of the batch that the
caller has open.
"""

from __future__ import annotations

import heapq
import itertools
import operator
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from msgspec.structs import replace

from journal.errors import InvalidStateTransition, InvalidValueError, StepInDoubtError
from journal.format.arguments import MAX_USAGE_NAMES, check_label_path, check_text
from journal.format.records import (
    A_POLICY,
    A_RUN,
    UNSET_TIME,
    By,
    RowSpentRecord,
    RowStatusRecord,
    RowStatusText,
)
from journal.fs import system
from journal.ids import row_id_of
from journal.model import EarlyEnd, Job, JobRow, RowStatus
from journal.run.held_job import HeldJob
from journal.run.in_flight import Result
from journal.run.outcome import CHECKS, Outcome, in_doubt, without_refused
from journal.run.pacing.condition import Chosen
from journal.run.pacing.limits import Limits
from journal.run.pacing.per_key import FRESH, RETRIED, STARTED, PerKey
from journal.run.retries import delay_s, fate_of
from journal.store import bulk
from journal.store.batch import Batch
from journal.store.interrupted_rows import INTERRUPTED, STEP_IN_DOUBT, STOPPED, in_doubt_text
from journal.store.journal import Journal
from journal.store.rows import FoundRow, find_rows
from journal.store.steps import NAME_REUSED
from journal.store.transitions import change_row, put_logs, put_record, status_of_attempt
from journal.text import counted

# If this many rows wait for another attempt, no new rows are started.
_MAX_WAITING = 100_000
_FOUND_AT_ONCE = 100
# How often to look for rows that other processes have made pending, after the last row.
_LOOK_AGAIN_S = 0.5
# Added for each row that was parked or passed over. A look at a row takes about 1 µs.
_LOOK_AGAIN_EACH_S = 1e-5
# In one turn, at most this many rows that can't start are looked at. Workers and other processes
# wait until the turn ends.
_MAX_LOOKS = 2000
_MIN_BLOCKED_S = 5.0  # how long all other rows may wait for attempts that were given up

# The status of a row after an outcome of such a kind. After another kind, the row isn't done.
_STATUSES = {
    "completed": RowStatus.COMPLETED,
    "skipped": RowStatus.SKIPPED,
    "review": RowStatus.NEEDS_REVIEW,
}
_KINDS_WITH_CODE = ("review", "failed", "lost")
# Fields of an outcome that a row gets with its status.
_OF_WORK = ("tracking_number", "label_path", "result")
_OF_ERROR = ("error_code", "error_message", "traceback")


class RowQueue:
    """The pending rows of one job, for one run. Not thread-safe."""

    def __init__(self, job: HeldJob, limits: Limits) -> None:
        self._service = job.service
        self._job_id = job.id
        self._on_interrupted = job.settings.on_interrupted
        self._limits = limits
        self._max_attempts = limits.most_attempts
        self._per_key = PerKey(limits.limit_per)
        self._how_to = job.settings.how_to
        self._chosen = Chosen(job.service, job.id, limits.where)
        self._blocked_s: float | None = None  # since when no row can start, by ``monotonic``
        self._looks = _MAX_LOOKS  # left in this turn
        self._position = 0
        self._found: deque[FoundRow] = deque()  # rows that were pending at the last look
        self._is_past_fresh = False  # whether all rows that were never started have been found
        # Whether some of the found rows had been started before.
        self._passed_by = False
        self._at_end = False
        self._look_again_s = 0.0
        self._due: list[tuple[float, int]] = []  # a heap of (time when a row is due, its number)
        self._waiting: dict[int, float] = {}  # from a row's number to the time when it is due
        # The number of rows that ``max_rows`` still allows to start, without those that this run
        # has started before and will start again.
        self._places: int = limits.max_rows or sys.maxsize
        self._again: set[int] = set()  # the numbers of the latter

    @property
    def next_due_s(self) -> float | None:
        """The time, by ``monotonic``, at which the queue must be asked again.

        At this time, a waiting row is due for another attempt, or the search for rows continues.
        """
        if not self._looks:
            return 0.0
        return self._due[0][0] if self._due else None

    @property
    def places(self) -> int:
        """How many rows ``max_rows`` allows to start."""
        return self._places + len(self._again)

    @property
    def is_past_fresh(self) -> bool:
        """Whether all rows that were never started have been found."""
        return self._is_past_fresh and not self._per_key.has_fresh

    def has_fresh(self) -> bool:
        """Return whether rows may be left that were never started.

        The answer depends on the search so far in this turn.
        """
        if self._per_key.has_fresh:
            return True
        found = self._peek()
        if found is None:
            return not self._at_end and not self._is_past_fresh
        return found.is_fresh

    def is_empty(self, job: Job) -> bool:
        """Return whether no pending row is left for this run. ``job`` is the present job.

        Pending rows that don't meet the run's condition aren't for this run.
        """
        if not job.pending_count:
            return True
        if not self._at_end or self._per_key.count or job.pending_count > self._chosen.left:
            return False
        return not any(map(self._is_pending, self._waiting))

    def most(self, job: Job) -> int:
        """The maximum number of rows that may start, according to the search so far."""
        return job.pending_count - self._chosen.left

    def _is_pending(self, number: int) -> bool:
        row = self._service.get_row(row_id_of(self._job_id, number))
        return row is not None and row.status is RowStatus.PENDING

    def start(self, count: int, job: Job, *, fresh_first: bool = False) -> list[JobRow]:
        """Start up to ``count`` rows: set their status to processing. Returns the rows.

        Rows that were never started come first, then rows of earlier runs. A row that waits for
        another attempt starts as soon as it is due. With ``fresh_first``, such a row also waits for
        the rows that were never started. ``job`` is the present job.
        """
        if not count:
            return []
        if self._at_end and job.pending_count and monotonic() >= self._look_again_s:
            self._rewind()  # another process may have retried or added rows
        self._looks = _MAX_LOOKS
        candidates = self._candidates(fresh_first=fresh_first)
        started: list[JobRow] = []
        # A batch, because the search for candidates reads the same job.
        with (
            suppress(InvalidStateTransition),  # another process has ended the job
            Batch(self._journal()) as journal,
        ):
            started = bulk.start_rows(journal, candidates, count, A_RUN, self._per_key.gate)
        self._per_key.start(started)
        if started:
            self._blocked_s = None
            numbers = {row.row_number for row in started}
            self._places -= len(numbers - self._again)
            self._again -= numbers
        return started

    def _candidates(self, *, fresh_first: bool) -> Iterator[int]:
        """Yield the numbers of rows that may start: rows that ``limit_per`` allows."""
        places, per_key = self._places, self._per_key
        while self._looks and (number := self._next(fresh_first=fresh_first, places=places)):
            parked = per_key.count
            yield number
            is_parked = per_key.count > parked
            self._looks = max(0, self._looks - is_parked)
            places -= not is_parked and number not in self._again

    def end(self, rows: Iterable[JobRow]) -> None:
        """Allow other rows to start in place of attempts that have ended: see ``limit_per``."""
        self._per_key.end(rows)

    def reason_to_stop(self, job: Job) -> EarlyEnd | None:
        """The reason why no row will start any more; None if rows may still start.

        Call this when no row is in flight. ``job`` is the present job. An attempt that the run has
        given up may still be running. If all remaining rows wait for such attempts, the run gives
        these attempts some more time: as much as one attempt may take. After this time, the method
        returns the reason.
        """
        will_start = self._per_key.has_retried or any(map(self._is_pending, self._waiting))
        if self._places <= 0 and job.pending_count and not will_start:
            rows = counted(self._limits.max_rows or 0, "row|rows was|were started")
            return EarlyEnd("max_rows", f"{rows}, as many as were asked for")
        if self._waiting or not self._at_end or not self._per_key.is_blocked:
            self._blocked_s = None
            return None
        if self._blocked_s is None:
            self._blocked_s = monotonic()
        if monotonic() - self._blocked_s < max(self._limits.timeout_s or 0.0, _MIN_BLOCKED_S):
            return None
        left = counted(self._per_key.count, "row|rows waits|wait")
        name = self._how_to.argument("limit_per")
        text = f"{left} for attempts that were given up and still run, because of {name}"
        return EarlyEnd("limit_per", text)

    def _next(self, *, fresh_first: bool, places: int) -> int:
        """Return the number of the next row that may start; 0 if there is none.

        Without ``places``, only rows that this run has started before may start.
        """
        due = self._next_due if self._due else int
        if places <= 0:
            return due() or self._per_key.next(RETRIED)
        parked = self._per_key.next if self._per_key.count else int
        if fresh_first:  # parked rows that can't start must not block rows that are due
            return parked() or self._next_found(fresh_only=True) or due() or self._next_found()
        return due() or parked() or self._next_found()

    def _next_due(self) -> int:
        while self._due and self._due[0][0] <= monotonic():
            due_s, number = heapq.heappop(self._due)
            if self._waiting.get(number) == due_s:  # otherwise the row was given a later time
                del self._waiting[number]
                return self._per_key.offer(number, RETRIED)
        return 0

    def _next_found(self, *, fresh_only: bool = False) -> int:
        if len(self._waiting) >= _MAX_WAITING:
            return 0
        while (found := self._peek()) and (found.is_fresh or not fresh_only):
            self._found.popleft()
            used_up = found.attempts >= self._max_attempts > 1 and self._is_used_up(found)
            if not used_up:
                rank = FRESH if found.is_fresh else STARTED
                return self._per_key.offer(found.row_number, rank)
        return 0

    def _peek(self) -> FoundRow | None:
        """The next pending row, if any. Rows that were never started come first."""
        while not self._found and not self._at_end and self._looks:
            self._find()
        return self._found[0] if self._found else None

    def _find(self) -> None:
        """Find more pending rows: first those that were never started, then the others."""
        rows = find_rows(
            self._service.store, self._job_id, RowStatus.PENDING, self._position, _FOUND_AT_ONCE
        )
        if rows:
            self._position = rows[-1].position + 1
            self._found.extend(filter(self._is_next, rows))
        elif self._passed_by and not self._is_past_fresh:
            self._position = 0
            self._is_past_fresh = True
        else:
            self._at_end = self._is_past_fresh = True

    def _is_next(self, found: FoundRow) -> bool:
        """Return whether a row that was found may start: see ``limit_per`` and ``where``."""
        if self._per_key.count and self._per_key.holds(found):
            self._looks = max(0, self._looks - 1)
            return False
        if found.row_number in self._waiting:
            return False
        if self._chosen:
            self._looks = max(0, self._looks - 1)
            if not self._chosen.has(found, again=self._is_past_fresh):
                return False
        is_next = found.is_fresh or self._is_past_fresh
        self._passed_by = self._passed_by or not is_next
        return is_next

    def _rewind(self) -> None:
        wait_s = _LOOK_AGAIN_S + _LOOK_AGAIN_EACH_S * (self._per_key.count + self._chosen.left)
        self._look_again_s = monotonic() + wait_s
        self._position = 0
        self._chosen.left = 0  # all pending rows are searched again
        self._found.clear()
        self._is_past_fresh = self._passed_by = self._at_end = False

    def _is_used_up(self, found: FoundRow) -> bool:
        """Fail a row if earlier runs have used up its attempts. Returns False if the row may start.

        A pending row may start without an error, since a person has retried it, and if its last
        attempt was lost and ``on_interrupted`` has set it back: such attempts use up nothing.
        """
        row = self._service.get_row(row_id_of(self._job_id, found.row_number))
        if row is None or row.error_code in (None, INTERRUPTED, STOPPED):
            return False
        with self._service.store.reading(self._job_id) as journal:
            record = status_of_attempt(journal, found.position)
        if record is not None and record.by == A_POLICY.by:
            return False
        with suppress(InvalidStateTransition):  # another process has settled it
            last = Outcome(
                kind="failed",
                error_code=row.error_code,
                error_message=row.error_message or "",
                traceback=row.traceback,
            )
            self._put(row, "failed", last, *_OF_ERROR)
        return True

    def settle(self, row: JobRow, outcome: Outcome) -> tuple[Outcome, bool]:
        """Record the outcome of an attempt.

        Returns the recorded outcome, and whether the row will be attempted again.

        If the outcome can't be recorded, for example because it is too long, the row needs a
        review. The row also needs a review if the attempt has ended with a step in doubt. A row
        that will be attempted again waits in the queue until it is due. If the outcome is
        "unstarted" or "held", the row is due at once. Otherwise it is due after the ``after_s`` of
        the outcome, or, without ``after_s``, after its backoff. Raises InvalidStateTransition if
        another process has settled the row.
        """
        outcome = self._with_doubt(row, outcome)
        outcome, wait_s = self._record_what_fits(row, outcome)
        if wait_s is None:
            return outcome, False
        due_s = monotonic() + wait_s
        self._waiting[row.row_number] = due_s
        heapq.heappush(self._due, (due_s, row.row_number))
        self._again.add(row.row_number)
        return outcome, True

    def _record_what_fits(self, row: JobRow, outcome: Outcome) -> tuple[Outcome, float | None]:
        for _ in range(2):  # the journal may first refuse the usage, and then the length
            try:
                return outcome, self.record(row, outcome)
            except InvalidValueError as error:
                outcome = without_refused(outcome, error)
        return outcome, self.record(row, outcome)

    def complete(self, results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
        """Record many completed attempts at once. Returns these, and those that need :meth:`settle`.

        A result needs :meth:`settle`, for example, if it has messages or steps, or if its outcome
        isn't "completed". So does a late result, after the outcome with which it was given up.
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
        """Call :meth:`settle`, unless a commit that has failed has settled the attempt after all.

        Returns True if the row now has ``outcome``, or if it was attempted again since. Returns
        False if the row no longer exists, or if it has another outcome.
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

        ``after_failure``: whether a commit has failed, which may have recorded the outcome after all.

        Returns whether the outcome settles the row. Only a success settles the row. For any other
        outcome, only the cost is recorded. If the attempt has succeeded, but a step of the row is
        in doubt, the cost is recorded, and StepInDoubtError is raised. Raises
        InvalidStateTransition if another process has settled the row.
        """
        step = self._service.get_step_in_doubt(row.id)
        is_success = outcome.kind in ("completed", "skipped")
        if is_success and step is None:
            try:
                # If recording fails, the row isn't put in review, since another attempt may be in
                # flight.
                self.record(row, outcome)
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
        job = self._service.get_job(self._job_id)
        if usage and job and len({*job.usage, *usage}) > MAX_USAGE_NAMES:
            usage = None
        if cost_cents is None and usage is None:
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

    def record(self, row: JobRow, outcome: Outcome) -> float | None:
        """Record an outcome. Returns the seconds until the next attempt; None if there is none.

        Raises InvalidStateTransition, and InvalidValueError if the outcome can't be recorded.
        """
        if outcome.logs:
            with self._service.batch(self._job_id):
                self._journal().change(put_logs, row.row_number, outcome.logs)
                return self._record(row, outcome)
        return self._record(row, outcome)

    def _record(self, row: JobRow, outcome: Outcome) -> float | None:
        match outcome.kind:
            case "completed":
                self._put(row, "completed", outcome, *_OF_WORK)
            case "skipped":
                self._put(row, "skipped", outcome, "reason")
            case "review":
                self._put(row, "needs_review", outcome, *_OF_WORK, *_OF_ERROR, "reason")
            case "unstarted" | "held" | "throttled":
                return self._give_back(row, outcome)
            case "failed" | "lost":
                return self._settle_failure(row, outcome)
        return None

    def _put(
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
        """The outcome, or a review in its place if a step of the row is in doubt.

        If nobody knows whether a step took effect, the row isn't done, and must not be attempted
        again, whatever its handler returns. For lost attempts, ``on_interrupted`` decides.
        """
        if outcome.kind in ("unstarted", "lost"):
            return outcome
        step = self._service.get_step_in_doubt(row.id)
        if step is None:
            return outcome
        code = NAME_REUSED if step.state == "failed" else STEP_IN_DOUBT
        return in_doubt(outcome, code, in_doubt_text(row.id, step))

    def _settle_failure(self, row: JobRow, outcome: Outcome) -> float | None:
        code, message = outcome.error_code, outcome.error_message
        by, step = A_RUN, None
        if outcome.kind == "lost":
            by, step = A_POLICY, self._service.get_step_in_doubt(row.id)
        if step is not None:
            message += f"; {in_doubt_text(row.id, step)}"
            if self._on_interrupted == "resume" and step.state == "started":
                code, message = STEP_IN_DOUBT, f"{code}: {message}"
        fate = fate_of(row, outcome, self._limits, self._on_interrupted, in_doubt=step is not None)
        if outcome.kind == "lost" and fate == "fail" != self._on_interrupted:
            message += f"; given up after {row.attempts} attempts"
        ended = replace(outcome, error_code=code, error_message=message)
        if fate == "review":
            self._put(row, "needs_review", ended, *_OF_ERROR, by=by)
        elif fate == "retry":
            self._put(row, "pending", ended, *_OF_ERROR, by=by)
            return delay_s(row, outcome, self._limits)
        else:
            self._put(row, "failed", ended, *_OF_ERROR, by=by, unknown=outcome.kind == "lost")
        return None

    def _give_back(self, row: JobRow, outcome: Outcome) -> float:
        if outcome.kind != "unstarted":
            outcome = replace(outcome, reason=f"{outcome.error_code}: {outcome.error_message}")
        self._put(row, "pending", outcome, "reason", reset="given_back")
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
        usage=outcome.usage,
        result=outcome.result,
        by=A_RUN.by,
        at=UNSET_TIME,
    )


def _shows(row: JobRow, outcome: Outcome) -> bool:
    """Return whether the row has the status and the error that this outcome leads to."""
    status = _STATUSES.get(outcome.kind)
    if outcome.kind in _KINDS_WITH_CODE and row.error_code != outcome.error_code:
        return False
    return not row.status.is_done if status is None else row.status is status
