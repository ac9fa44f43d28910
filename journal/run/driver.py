"""The loop of a run, in which workers process the open rows of a job.

In a run, only one thread, the driver, writes the journal. There is one exception: workers record
steps. Each turn of the driver's loop makes one commit. The commit has the starts of the next rows,
and the outcomes that workers have returned. The next rows are dispatched after the commit is on the
disk. So if an attempt may have begun, the status of its row is processing. If the driver dies, the
argument ``on_interrupted`` of the next run decides about the rows in processing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

from journal.errors import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    JobLockedError,
    JournalError,
    StorageError,
)
from journal.model import EarlyEnd, Job, JobRow, JobStatus, RowStatus
from journal.run.lifecycle import RunningJob, lacks_end
from journal.run.outcome import Outcome, code_and_message
from journal.run.pacing.concurrency import Starts
from journal.run.pacing.early_end import Bounds
from journal.run.pacing.holds import Holds
from journal.run.pacing.limit_per import unknown_column
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import UsageRates
from journal.run.pacing.stall_warning import Stalls
from journal.run.pacing.tune import Tuning
from journal.run.plan import left_open
from journal.run.row_queue import RowQueue
from journal.run.run_report import RunReport
from journal.run.signals import Stops
from journal.run.workers.base import Results, Workers
from journal.run.workers.in_flight import InFlight, Result
from journal.run.workers.steps import StepStore
from journal.store.calls import Call as StoredCall
from journal.text import counted

POLL_S = 0.2  # how often a run looks for changes by others while it has nothing to do
_MAX_RESULTS = 2048  # in one commit
_STOPPED_S = 10.0  # if polls are further apart, the process was stopped, or the machine slept


class Run:
    """One run of a job. Its driver is the thread that calls ``work``."""

    def __init__(
        self,
        job: RunningJob,
        workers: Workers,
        results: Results,
        limits: Limits,
        on_tick: Callable[[Job], object] = lambda _job: None,
        stops: Stops | None = None,
    ) -> None:
        """``workers`` put outcomes into ``results``.

        ``on_tick`` is called with the job 5 times a second, by the caller. ``stops`` counts the
        requests to stop the run.
        """
        self._held = job
        self._service = job.service
        self._workers = workers
        self._results = results
        self._limits = limits
        self._on_tick = on_tick
        limits.workers = workers.count
        usage = UsageRates(limits, job) if limits.usage_rates else None
        self._queue = RowQueue(job, limits, workers.count, usage)
        self._settling = self._queue.settling
        self.bounds = Bounds(limits, job.settings.how_to)
        self._brake = self.bounds.brake
        self._holds = Holds(limits, job, workers.count)
        # At the latest poll: text about waiting rows if no row was in flight, else "". None until
        # there was a first text.
        self._waits_text: str | None = None
        self._in_flight = InFlight(workers, results, limits, StepStore(job.service, job.id))
        self._stalls = Stalls(job, self._in_flight)
        # The calls that the latest commit has started, each with its rows.
        self._to_dispatch: deque[tuple[StoredCall | None, Sequence[JobRow]]] = deque()
        self._stops = stops or Stops()
        parts = self._in_flight, self._queue, self._holds
        self._starts = Starts(limits, workers, *parts, self.bounds, self._stops)
        self._tuning = Tuning(job, limits, workers, *parts, self._starts, self._stops)
        self._stops.wake = results.wake
        self._reported_locked = False
        self._end: EarlyEnd | None = None
        self._error: BaseException | None = None  # raised at the end
        self._locked = ""  # set after a second stop: why the latest commit was not made
        self.has_begun = False  # set by the thread that calls ``work``
        self._is_closed = False  # set before the workers are closed
        self._why_lost = ""  # why this run no longer has the job, as a message
        self._counts = {"started": 0, "completed": 0, "failed": 0, "skipped": 0}
        self._problems: list[str] = []
        self._polled_s = 0.0
        self._seen: Job | None = None  # the job at the latest poll, if the caller hasn't seen it

    def close(self) -> None:
        """Stop the workers if they still work. :meth:`work` does this at its end."""
        if not self._is_closed:
            self._is_closed = True
            self._workers.close()

    def work(self) -> RunReport:
        """Run the job until no row is open, or a stop or a limit ends the run. Returns a report.

        At the end, the job is completed or failed, or paused if rows are left. If an outcome can't
        be recorded, a message is reported.

        Raises JobBusyError. Raises NothingToDo for a job that has ended. If a commit fails, raises
        its error. Other errors, such as errors of ``where``, are raised after the rows in flight
        have ended.
        """
        begin_s = monotonic()
        self._held.start(self._limits)
        try:
            try:
                self._queue.calls.find()
                if text := unknown_column(self._held, self._limits.limit_per):
                    self._held.warn(f"{self._held.id}: {text}")
                if self._limits.retries_nothing and not self._held.settings.how_to.command:
                    self._held.warn("retry_on has no effect with one attempt: add max_attempts=3")
                if self._queue.usage is not None:
                    self._queue.usage.read()
                self._drive()
            except BaseException as error:  # noqa: BLE001  (raised at the end)
                self._error = error
                self._stops.at_least(1)
                with suppress(JournalError):
                    self._drain()
            job = self._leave()
        finally:
            self._held.release(may_write=self._in_flight.may_work)
            self.close()
        for problem in self._problems:
            self._held.warn(problem)
        if self._why_lost:
            self._held.report_loss()
        met, self._error = self._error, None
        try:
            if met is not None:
                raise met
        finally:
            del met  # its traceback has this frame, which keeps the job's files open
        return RunReport(
            job=job,
            **self._counts,
            **self._held.changes,
            outdated=self._held.outdated,
            reason=None if self._end is None else self._end.message,
            signal=self._stops.signal,
            is_lost=bool(self._why_lost),
            problems=tuple(self._problems),
            elapsed_s=monotonic() - begin_s,
        )

    def _leave(self) -> Job:
        # Another process has the job, or its commit lock. If nobody sets the status, the
        # job stays running, and the next start finds an interrupted run.
        if self._why_lost or self._locked:
            return self._held.last_job()
        while True:
            try:
                return self._held.end(self._early)
            except JournalError as error:
                if isinstance(error, JobLockedError) and self._may_wait(error):
                    continue  # an asyncio task may keep a batch open for long
                if self._error is None:
                    self._error = error
                else:
                    self._problems.append(f"could not set the job's status: {error}")
                return self._held.last_job()

    # --- the loop

    def _drive(self) -> None:
        while True:
            try:
                job = self._look()
                self._in_flight.end_due(self._stops.count)
                self._commit(job)
                if not self._in_flight and self._is_over():
                    self._report_stops()
                    return
            except JobLockedError as error:
                if not self._may_wait(error):
                    self._fail(error)
                    return
                continue  # nothing has changed
            except (StorageError, CommitOutcomeUnknownError) as error:
                self._fail(error)
                return
            self._reported_locked = False
            self._wait(job)

    def _may_wait(self, error: JobLockedError) -> bool:
        """Whether to wait longer for the commit lock. If so, a message is reported."""
        if self._stops.count >= 2:
            self._locked = str(error)
            return False
        if not self._reported_locked:
            self._reported_locked = True
            self._held.warn(f"{error}; still waiting, so that no result is lost")
        return True

    def _fail(self, error: JournalError) -> None:
        """End the run after a failed commit.

        Waits for the rows in flight, and tries one more time to record outcomes. If another run has
        claimed the job, the run ends as lost.
        """
        self._held.look()
        with suppress(StorageError):
            self._check_lock()
        if not self._why_lost:
            self._error = error
            self._stops.at_least(1)
            waiting = counted(len(self._in_flight), "row|rows")
            self._held.warn(f"{error}; waiting for {waiting} in flight")
        self._drain()

    def _drain(self) -> None:
        """Wait for the rows in flight and record their outcomes one by one.

        Rows that no worker has begun become pending.
        """
        while self._in_flight or self._to_dispatch:
            with suppress(StorageError):
                self._check_lock()
            for call, rows in self._to_dispatch if not self._why_lost else ():
                self._queue.put_back(call, rows)
            self._to_dispatch.clear()
            self._in_flight.end_due(self._stops.count)
            results = self._in_flight.results()
            if results:
                self._locked = ""  # wait once more for the commit lock, for all results together
            for result in results:
                self._record_or_report(result)
            with suppress(JournalError):
                if not self._why_lost:  # otherwise, another run has these calls
                    self._queue.calls.end(results)
            self._in_flight.forget(results)
            if self._in_flight:
                self._wait()

    def _record_or_report(self, result: Result) -> None:
        if self._locked:
            self._problems.append(_unrecorded(result, self._locked))
            return
        try:
            if self._why_lost or result.is_late:
                self._settle(result, self._problems)
            elif not self._settling.settle_once(result.row, result.outcome):
                self._settling.add_cost(result.row, result.outcome)
                self._problems.append(_unrecorded(result, "its row has another outcome"))
        except JournalError as error:
            if isinstance(error, JobLockedError) and self._stops.count >= 2:
                self._locked = str(error)
            self._problems.append(_unrecorded(result, error))

    def _is_over(self) -> bool:
        job = self._held.job()
        self._check_limits(job)
        if job.status.is_ended or self._stops.count:
            return True
        if not self._queue.is_empty(job):
            return False
        if job.pending_count:
            self._give_up(left_open(job), 1)
        elif job.processing_count:
            self._give_up(self._held.in_flight_elsewhere(job), 1)
        return True

    def _look(self) -> Job:
        """Return the job as it is now.

        Reacts to changes by other processes, to signals and to limits.
        """
        self._check_lock()
        job = self._held.job()
        self._held.report_pause(job, len(self._in_flight))
        if self._held.tunes():
            self._tuning.take()
        self._check_limits(job)
        self._report_stops()
        now_s = monotonic()
        if (since_s := now_s - self._polled_s) >= POLL_S:
            self._polled_s = now_s
            self._seen = job
            waits = "" if self._in_flight else self._queue.waits_text(job)
            if waits and self._waits_text is None:
                self._held.report(f"{job.id}: {waits}")
            self._waits_text = waits or (self._waits_text and "")
            self._held.post(self._tick)
            is_held = self._holds.count or self._stops.count > 1 or since_s >= _STOPPED_S
            works = job.status is JobStatus.RUNNING and bool(self._in_flight)
            self._stalls.look(may_end=works and not is_held)
        return job

    def pace(self) -> str:
        """Text about the wait of the run: see :attr:`JobRun.pace`. Any thread may call this."""
        usage = self._queue.usage
        rate = "" if usage is None else usage.pace()
        return self._held.hold_text() or rate or self._waits_text or ""

    def _tick(self) -> None:
        """Show the caller, once, the state of the job at the last look.

        Called by the caller, who may be slow.
        """
        job, self._seen = self._seen, None
        if job is not None:
            self._on_tick(job)

    def _check_lock(self) -> None:
        """Start no more rows if this run has lost the job: see :meth:`RunningJob.why_lost`."""
        if not self._why_lost and (why_lost := self._held.why_lost()):
            self._why_lost = why_lost
            self._give_up(EarlyEnd("lost", why_lost), 1)
            self._report_stops()  # before the job is read, which may raise an exception

    def _report_stops(self) -> None:
        for message in self._stops.messages(len(self._in_flight), self._end):
            self._held.warn(f"{self._held.id}: {message}")

    def _check_limits(self, job: Job) -> None:
        self._end = self._end or self._stops.end
        if self._end is not None:
            return
        reached = self.bounds.reached(job, self._counts, has_fresh=self._queue.has_fresh)
        reached = reached or self._holds.reason_to_pause()
        if reached is not None:
            self._give_up(*reached)
        elif self._in_flight.slots <= 0 and not self._stops.count:  # else the stop ends the run
            self._give_up(EarlyEnd("workers", f"all {self._workers.count} workers hang"), 2)
        elif not self._in_flight and (end := self._queue.reason_to_stop(job)) is not None:
            self._give_up(end, 1)

    @property
    def _early(self) -> EarlyEnd | None:
        """The reason why the run ends early, or begins to end early."""
        if self._end is None and self._error is not None:
            return EarlyEnd("error", ": ".join(code_and_message(self._error)))
        return self._end or self._stops.interrupt

    def _give_up(self, end: EarlyEnd, stops: int) -> None:
        self._end = end
        self._stops.at_least(stops)

    def _wait(self, job: Job | None = None) -> None:
        """Wait for results. Ends at the latest when a deadline, a retry or the next poll is due.

        ``job``: None if nothing may start.
        """
        now_s = monotonic()
        until_s = now_s + POLL_S
        if now_s < self._holds.until_s:
            until_s = min(until_s, self._holds.until_s)
        if job is not None:
            until_s = min(until_s, self._starts.next_s(job, now_s))
        until_s = min(until_s, self._in_flight.next_deadline_s)
        # While workers have rows in their queue, let results gather, so that the results share a
        # commit.
        ahead = self._starts.ahead.rows
        queued = self._in_flight.calls - self._in_flight.slots - ahead // 4 if ahead else 1
        self._results.wait(until_s - now_s, max(1, queued))

    # --- one commit

    def _commit(self, job: Job) -> None:
        """Record results and start the next rows in one commit. Then dispatch these rows."""
        self._workers.flush()  # workers need not wait for the commit
        results = self._in_flight.results(_MAX_RESULTS)
        may_resume = self._queue.calls and self._starts.free_calls(job)
        begins_to_end = lacks_end(job, self._early)
        if not (results or may_resume or begins_to_end or self._starts.free_slots(job)):
            return
        problems: list[str] = []
        begin_s = monotonic()
        # If the commit fails, no more rows start. _drain then records, one by one, the outcomes
        # that the journal lacks.
        with self._service.batch(self._held.id):
            others = self._complete(results)
            is_new_hold = not self._why_lost and self._holds.hear_all(results, others)
            for result in others:
                self._settle(result, problems)
            if not self._why_lost:
                self._queue.calls.end(results)
            self._queue.end(results)
            job = self._held.job()
            self._check_limits(job)  # the results may have reached a limit
            if not self._why_lost:
                self._held.put_end(self._early)  # readers see the reason while rows are in flight
            started = self._queue.start_calls(
                job,
                self._starts.free_calls(job),
                self._starts.free_slots,
                # After each hold, try a row other than the one that raised Hold. A row that always
                # raises Hold must not stop other rows.
                fresh_first=self._brake.is_undecided or self._holds.count > 0,
            )
            self._to_dispatch = deque(started)
        self._starts.ahead.hear_commit(monotonic() - begin_s)
        self._problems += problems
        if is_new_hold or self._results.held:
            self._in_flight.take_back()
        self._in_flight.forget(results)
        if results:
            self._stalls.hear(results)
        self._hear(results)
        self._holds.report()
        while self._to_dispatch:
            call, rows = self._to_dispatch.popleft()
            self._holds.start(len(rows))
            self._counts["started"] += len(rows)
            if self._starts.rate is not None and call is None:
                self._starts.rate.use(len(rows))
            self._in_flight.dispatch(rows, call)
        self._workers.flush()

    def _complete(self, results: Sequence[Result]) -> Sequence[Result]:
        """Record completed attempts together, if possible. Returns the results that are left."""
        if self._why_lost or len(results) < 2:
            return results
        done, others = self._settling.complete(results)
        if done:
            self._brake.is_undecided = False
            self._counts["completed"] += len(done)
            for result in done if self.bounds.depend_on_outcomes else ():
                self.bounds.count(result.ticket, failed=False)
        return others

    def _settle(self, result: Result, problems: list[str]) -> None:
        """Record a result. If it can't be recorded, add the reason to ``problems``."""
        if self._why_lost:  # the row now belongs to an attempt of another run
            problems.append(_unrecorded(result, self._why_lost))
            self._held.leave_late(result.row, result.outcome)
            return
        if result.is_late:
            self._settle_late(result, problems)
            return
        try:
            outcome, again = self._queue.settle(result.row, result.outcome)
        except InvalidStateTransition as error:  # another process has settled the row
            self._settling.add_cost(result.row, result.outcome)
            problems.append(_unrecorded(result, error))
            return
        self._brake.hear(result.row, outcome, result.call, again=again)
        if not again:
            self._count(result, outcome)
        elif outcome.is_given_back:
            self._counts["started"] -= 1  # the attempt is not counted

    def _settle_late(self, result: Result, problems: list[str]) -> None:
        """Record the outcome of an attempt that was given up earlier.

        Only a success settles the row. For any other outcome, only the cost is recorded.
        """
        try:
            row = self._service.get_row(result.row.id)
            failed = self._error is not None
            if not self._settling.settle_late(result.row, result.outcome, after_failure=failed):
                return
        except JournalError as error:  # somebody may have settled the row
            problems.append(_unrecorded(result, error))
            return
        if row is not None and row.status is RowStatus.NEEDS_REVIEW:
            self._counts["failed"] -= 1  # counted as failed when it was given up
        self._count(result, result.outcome)

    def _hear(self, results: Sequence[Result]) -> None:
        for result in results:
            outcome = result.outcome
            if result.is_late:
                continue
            if outcome.kind == "unstarted" and outcome.error_code:
                self._give_up(EarlyEnd("not_started", outcome.error_message), 1)
            if outcome.elapsed_s:
                self._starts.ahead.hear_handler(outcome.elapsed_s)

    def _count(self, result: Result, outcome: Outcome) -> None:
        kind = outcome.kind if outcome.kind in ("completed", "skipped") else "failed"
        self._counts[kind] += 1
        self.bounds.count(result.ticket, failed=kind == "failed", outcome=outcome)


def _unrecorded(result: Result, error: JournalError | str) -> str:
    """The message about an outcome that could not be recorded in the journal."""
    outcome = result.outcome
    said = outcome.tracking_number or outcome.result or outcome.error_message or outcome.reason
    text = str("" if said is None else said)[:1000]
    return (
        f"row {result.row.id} ended as {outcome.kind} {outcome.error_code}".rstrip()
        + f" and this could not be recorded ({error}); its outcome: {text!r}"
    )
