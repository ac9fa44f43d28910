"""A run: one pass over a job's open rows, by workers that it drives and other processes may steer.

One thread, the driver's, writes the journal. In each turn it makes one commit of the outcomes that
have come back and of the starts of the next rows, and hands those out once that commit is on the
disk. So a row whose attempt may have begun is in processing, always; if the driver dies then, its
outcome is unknown, and the next run settles it by its policy.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import nullcontext, suppress
from time import monotonic

import msgspec

from journal.errors import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    InvalidValueError,
    JobLockedError,
    JournalError,
    StorageError,
)
from journal.model import TERMINAL_STATUSES, Job, JobRow, JobStatus, RowStatus, job_exit_code
from journal.run.handover import Outcomes
from journal.run.in_flight import CameBack, InFlight
from journal.run.limits import Brake, Halt, Limits, Rate
from journal.run.outcome import Errors, Outcome, outcome_of_bad_value
from journal.run.plan import IN_PYTHON, HowTo
from journal.run.row_queue import (
    RowQueue,
    Tell,
    end_job,
    lost_words,
    start_run,
    unrecorded_words,
)
from journal.run.signals import stopping_signals
from journal.run.workers.choose import Workers
from journal.service import JobService, existing_job
from journal.store.transitions import Policy
from journal.text import counted

_POLL_S = 0.2  # how soon another process's word is heard where no commit is made
_MOST_AHEAD = 8  # rows a worker that are handed out beyond those that are worked on, ...
_LEAST_MOST_AHEAD = 32  # ... of few workers, and ...
_MOST_MOST_AHEAD = 256  # ... of many
_MOST_AT_ONCE = 2048  # outcomes in one commit

_MOST_INTERRUPTS = 100  # of the end of a run: what comes so often is no person's


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a run has ended. ``job`` is as of its end; the counts in it are of all its runs.

    ``started``: attempts of this run; ``completed``, ``failed`` (also in need of review) and
    ``skipped``: rows that it has settled. ``reason``: why it ended before all rows were done, or
    None. ``signal``: the number of the one that has stopped it. ``problems``: what could not be
    recorded.
    """

    job: Job
    started: int = 0
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    reason: str | None = None
    signal: int | None = None
    problems: tuple[str, ...] = ()
    elapsed_s: float = 0.0

    @property
    def exit_code(self) -> int:
        """For ``sys.exit``: 0 if all rows are completed or skipped; see `journal help exceptions`."""
        job = self.job
        if job.status not in TERMINAL_STATUSES:
            if self.signal is not None:
                return 128 + self.signal
            if self.reason is None:
                return 4  # another process has paused it
        return job_exit_code(job)


class Run:
    """See the module. ``work`` is for one thread; ``stop`` for any, and for signal handlers."""

    def __init__(
        self,
        service: JobService,
        job_id: str,
        workers: Workers,
        outcomes: Outcomes,
        limits: Limits,
        *,
        on_interrupted: Policy = "review",
        retry_on: Errors = (),
        tell: Tell = lambda _text: None,
        on_tick: Callable[[Job], object] = lambda _job: None,
        resume_command: str = "",
        version: str | None = None,
        how_to: HowTo = IN_PYTHON,
    ) -> None:
        """``workers`` put what comes back into ``outcomes``.

        ``retry_on``: if it names TimeoutError itself, an attempt that has taken too long and can't
        be ended is repeated while it may still go on.
        ``tell`` is given what a person should know, ``on_tick`` the job some five times a second.
        """
        self._service = service
        self._job_id = job_id
        self._workers = workers
        self._outcomes = outcomes
        self._limits = limits
        self._on_interrupted = on_interrupted
        self._tell = tell
        self._on_tick = on_tick
        self._resume_command = resume_command
        self._version = version
        self._how_to = how_to
        self._queue = RowQueue(service, job_id, limits, on_interrupted)
        self._rate = None if limits.rate is None else Rate.parse(limits.rate)
        self._halt = Halt.parse(limits.halt)
        self._brake = Brake(is_on=limits.halt != "never")
        # The time in which a row waits for its worker is not the row's, and a limit on what may
        # fail or be spent is one on what is under way.
        self._may_queue = (
            workers.queues
            and limits.timeout_s is None
            and limits.max_cost_cents is None
            and self._halt is None
        )
        self._in_flight = InFlight(workers, outcomes, limits.timeout_s, retry_on)
        self._to_hand_out: list[JobRow] = []  # started by the latest commit
        self._is_started = False
        self._may_be_ours = False  # the job, if it is held for a run: no other one has it
        self._stops = 0  # 1: start no more, 2: end what is in flight, 3: by force
        self._said_stops = 0
        self._said_locked = False
        self._signal: int | None = None
        self._reason: str | None = None
        self._error: JournalError | None = None
        self._paused = False  # by another process
        self._is_lost = False  # the lock: what is at the job's path is another run's
        self._counts = {"started": 0, "completed": 0, "failed": 0, "skipped": 0}
        self._problems: list[str] = []
        self._polled_s = 0.0
        self._commit_s = 0.0
        self._handler_s = 1.0

    @property
    def is_braked(self) -> bool:
        """Whether it has ended because its first rows have all failed alike."""
        return self._brake.has_tripped

    def close(self) -> None:
        """Take no more rows; for a run that doesn't come to :meth:`work`, too."""
        self._workers.close()

    def stop(self, number: int | None = None) -> None:
        """Start no more rows; called again, end those in flight; a third time, by force.

        ``number``: of the signal that asks for it.
        """
        self._stops += 1
        self._signal = self._signal or number
        self._outcomes.wake()

    def work(self, *, handle_signals: bool = True) -> RunReport:
        """Start the job, work until no row is open or something ends the run, and report.

        The job is then completed or failed, or paused with rows left. Raises JobBusyError, and
        InvalidStateTransition for a job that has ended; and the error of a commit that failed:
        what came back and could not be recorded is told then, row by row.
        """
        begin_s = monotonic()
        try:
            with stopping_signals(self.stop) if handle_signals else nullcontext():
                job = self._work()
        finally:
            self._workers.close()
        for problem in self._problems:
            self._say(problem)
        if self._error is not None:
            raise self._error
        return RunReport(
            job=job,
            **self._counts,
            reason=self._reason,
            signal=self._signal,
            problems=tuple(self._problems),
            elapsed_s=monotonic() - begin_s,
        )

    def _work(self) -> Job:
        try:
            try:
                return self._start_and_drive()
            except BaseException:
                self._end_early()
                raise
        except BaseException:  # another interrupt may have come before that had begun
            self._end_early()
            raise

    def _start_and_drive(self) -> Job:
        service, job_id = self._service, self._job_id
        self._may_be_ours = not service.keeps_run(job_id)
        try:
            start_run(
                service,
                job_id,
                self._on_interrupted,
                self._resume_command,
                self._version,
                self._say,
            )
        except JournalError:
            self._may_be_ours = False
            raise
        self._is_started = True
        self._drive()
        job = self._leave()
        self._let_go()
        return job

    def _end_early(self) -> None:
        """Record what is in flight and leave, after what has ended the run between any two steps.

        Another interrupt doesn't keep it from that: it says, as another signal does, to be quicker.
        """
        interrupts = 0
        while True:
            try:
                self._stops = max(self._stops, 1)
                if not self._is_ours():
                    return
                with suppress(JournalError):
                    self._drain()
                with suppress(JournalError):
                    self._leave()
                self._let_go()
                for problem in self._problems:
                    self._say(problem)
            except BaseException:
                interrupts += 1
                self._stops += 1
                if interrupts >= _MOST_INTERRUPTS:
                    raise

    def _is_ours(self) -> bool:
        """Whether the job is started, and not let go of; also if an interrupt has ended that step."""
        if self._is_started:
            return True
        return self._may_be_ours and self._service.keeps_run(self._job_id)

    def _let_go(self) -> None:
        self._is_started = False
        with suppress(JournalError):
            self._service.release_run(self._job_id)

    def _say(self, text: str) -> None:
        """Nobody need be listening: what is done matters more."""
        with suppress(Exception):
            self._tell(text)

    def _leave(self) -> Job:
        if self._is_lost:  # what becomes of the job is for others to say
            return self._job()
        if self._reason is not None:
            with suppress(JournalError):
                self._service.log(self._job_id, f"the run ends early: {self._reason}", "WARNING")
        try:
            return end_job(self._service, self._job_id)
        except JournalError as error:
            if self._error is None:
                raise
            self._problems.append(f"could not set the job's status: {error}")
            return self._job()

    # --- the loop

    def _drive(self) -> None:
        while True:
            try:
                job = self._look()
                self._in_flight.end_due(self._stops)
                self._commit(job)
                if not self._in_flight and self._is_over():
                    self._say_stops()
                    return
            except JobLockedError as error:
                if self._stops >= 2 or error.by_task:  # for which there is no waiting
                    self._fail(error)
                    return
                if not self._said_locked:
                    self._said_locked = True
                    self._say(f"{error}; still waiting, for what has come back is worth it")
                continue  # nothing has changed
            except (StorageError, CommitOutcomeUnknownError) as error:
                self._fail(error)
                return
            self._said_locked = False
            self._wait()

    def _fail(self, error: JournalError) -> None:
        """The disk is full, or worse: end what is in flight, and try once more to record it."""
        self._error = error
        self._stops = max(self._stops, 1)
        self._say(f"{error}; waiting for {counted(len(self._in_flight), 'row|rows')} in flight")
        self._drain()

    def _drain(self) -> None:
        """Wait for what is in flight, and record it one by one; give back what never began.

        It may have been interrupted, and begins again: what it relies on is what is in flight, and
        what the journal says.
        """
        for row in self._to_hand_out:
            if not self._in_flight.holds(row) and not self._queue.is_lost():
                with suppress(JournalError):
                    self._queue.settle_once(row, Outcome(kind="unstarted"))
        self._to_hand_out.clear()
        while self._in_flight:
            with suppress(StorageError):
                self._check_lock()
            self._in_flight.end_due(self._stops)
            for one in self._in_flight.came_back():
                self._record_or_tell(one)
                self._in_flight.forget(one)
            if self._in_flight:
                self._wait()

    def _record_or_tell(self, one: CameBack) -> None:
        try:
            if self._is_lost or one.is_late:
                self._settle(one, self._problems)
                return
            one, is_so = _with_what_fits(self._queue.settle_once, one)
            if not is_so:
                self._problems.append(
                    unrecorded_words(one.row, one.outcome, "its row says otherwise")
                )
        except JournalError as error:
            self._problems.append(unrecorded_words(one.row, one.outcome, error))

    def _is_over(self) -> bool:
        job = self._job()
        if job.status in TERMINAL_STATUSES or self._stops:
            return True
        if job.pending_count:
            return False
        if job.status is JobStatus.PAUSED:  # whoever resumes it would wait for nothing
            self._say(f"{job.id}: no row is left to start; this run leaves the job paused")
        return True

    def _job(self) -> Job:
        return existing_job(self._service, self._job_id)

    def _look(self) -> Job:
        """What other processes, signals and limits say."""
        self._check_lock()
        job = self._job()
        paused = job.status is JobStatus.PAUSED
        if paused != self._paused:
            self._paused = paused
            if paused:
                root = shlex.quote(str(self._service.root))
                in_flight = counted(len(self._in_flight), "row|rows is|are in flight")
                self._say(
                    f"{job.id}: paused by another process; {in_flight}; this run goes on after: "
                    f"journal --root {root} resume {job.id}"
                )
            elif job.status is JobStatus.RUNNING:
                self._say(f"{job.id}: resumed")
        self._check_limits(job)
        self._say_stops()
        if monotonic() - self._polled_s >= _POLL_S:
            self._polled_s = monotonic()
            self._on_tick(job)
        return job

    def _check_lock(self) -> None:
        """Start no more rows once the job at its path isn't the one that this run has locked."""
        if not self._is_lost and not self._service.holds_run(self._job_id):
            self._is_lost = True
            self._give_up(lost_words(self._service, self._job_id), 1)

    def _say_stops(self) -> None:
        while self._said_stops < min(self._stops, 3):
            self._said_stops += 1
            self._say(self._stopping_words())

    def _stopping_words(self) -> str:
        count = len(self._in_flight)
        why = f"{self._reason}: " if self._reason else ""
        if self._said_stops == 1:
            waiting = f"; waiting for what is in flight ({count})" if count else ""
            return f"{self._job_id}: {why}pausing{waiting}"
        if self._said_stops == 2:
            return f"{self._job_id}: {why}ending what is in flight ({count}); once more to kill it"
        return f"{self._job_id}: ending what is in flight ({count}) by force"

    def _check_limits(self, job: Job) -> None:
        if self._reason is not None:
            return
        limits, counts, how_to = self._limits, self._counts, self._how_to
        if self._halt is not None:
            succeeded = counts["completed"] + counts["skipped"]
            reason = self._halt.reason(succeeded, counts["failed"])
            if reason is not None:
                self._give_up(reason, 2 if self._halt.now else 1)
                return
        if self._brake.is_due and self._brake.trip(rows_left=self._queue.has_fresh()):
            self._give_up(self._brake.reason(how_to.retry_failed, how_to.never_halt), 1)
            return
        if limits.max_cost_cents is not None and job.total_cost_cents >= limits.max_cost_cents:
            if job.pending_count:
                self._give_up(f"{job.total_cost_cents} cents are spent", 1)
        elif limits.max_rows is not None and counts["started"] >= limits.max_rows:
            if job.pending_count:
                self._give_up(
                    f"{counted(counts['started'], 'row|rows was|were started')}, as many as were "
                    "asked for",
                    1,
                )
        elif self._in_flight.places <= 0:
            self._give_up(f"all {self._workers.count} workers hang", 2)

    def _give_up(self, reason: str, stops: int) -> None:
        self._reason = reason
        self._stops = max(self._stops, stops)

    def _wait(self) -> None:
        """For outcomes, but no longer than until there may be something else to do."""
        now_s = monotonic()
        until_s = now_s + _POLL_S
        if self._has_room() and not self._stops and not self._paused:  # a row may start
            if self._queue.next_due_s is not None:
                until_s = min(until_s, self._queue.next_due_s)
            if self._rate is not None:
                until_s = min(until_s, now_s + max(self._rate.wait_s, 0.001))
        deadline_s = self._in_flight.next_deadline_s
        if deadline_s is not None:
            until_s = min(until_s, deadline_s)
        self._outcomes.wait(until_s - now_s)

    def _has_room(self) -> bool:
        return len(self._in_flight) < self._in_flight.places

    # --- one commit

    def _commit(self, job: Job) -> None:
        """Record what has come back, start the next rows, and hand them out."""
        back = self._in_flight.came_back(_MOST_AT_ONCE)
        if not back and not self._places(job):
            return
        problems: list[str] = []
        begin_s = monotonic()
        # If the commit fails or is interrupted, no more is started: what is in flight is recorded one
        # by one, by what the journal says then.
        with self._service.batch(self._job_id):
            settled = [self._settle(one, problems) for one in back]
            job = self._job()
            self._check_limits(job)  # what has come back may be a reason to start no more
            change = -sum(not one.is_late for one in back)
            self._to_hand_out = self._queue.start(
                self._places(job, change), job, fresh_first=self._brake.is_undecided
            )
        self._commit_s += (monotonic() - begin_s - self._commit_s) * 0.2
        self._problems += problems
        for one in settled:
            self._forget(one)
        self._to_hand_out.reverse()
        while self._to_hand_out:
            self._hand_out(self._to_hand_out[-1])
            self._to_hand_out.pop()

    def _places(self, job: Job, change: int = 0) -> int:
        """How many rows may be started now, of which ``change`` more or less are in flight."""
        if job.status is not JobStatus.RUNNING or self._stops or self._paused:
            return 0
        # While a commit is under way, workers that are done with their row must find another one:
        # none if handlers take long, many if they take less than a sync does.
        busy = self._in_flight.places
        ahead = int(busy * self._commit_s / self._handler_s)
        ahead = min(ahead, max(busy * _MOST_AHEAD, _LEAST_MOST_AHEAD), _MOST_MOST_AHEAD)
        if not self._may_queue or (self._brake.is_undecided and not self._queue.is_past_fresh):
            ahead = 0  # also of rows that may all fail alike
        count = busy + ahead - (len(self._in_flight) + change)
        if self._rate is not None:
            count = min(count, self._rate.allowed(monotonic()))
        if self._limits.max_rows is not None:
            count = min(count, self._limits.max_rows - self._counts["started"])
        return max(0, count)

    def _settle(self, one: CameBack, problems: list[str]) -> CameBack:
        """Record what has come back; return it with the outcome that could be recorded."""
        if self._is_lost:  # the row in the journal is the one of another run's attempt
            problems.append(unrecorded_words(one.row, one.outcome, "another run has the job now"))
            return one
        if one.is_late:
            self._settle_late(one, problems)
            return one
        try:
            one, again = _with_what_fits(self._queue.settle, one)
        except InvalidStateTransition as error:  # another process has settled it
            problems.append(unrecorded_words(one.row, one.outcome, error))
            return one
        self._brake.hear(one.row, one.outcome, again=again)
        if not again:
            self._count(one.outcome)
        return one

    def _settle_late(self, one: CameBack, problems: list[str]) -> None:
        """An attempt that was given up has come to an end after all: that settles the review."""
        if one.outcome.kind not in ("completed", "skipped"):
            return
        try:
            now = self._service.get_row(one.row.id)
            self._queue.settle(one.row, one.outcome)
        except JournalError as error:  # somebody may have settled it
            problems.append(unrecorded_words(one.row, one.outcome, error))
            return
        if now is not None and now.status is RowStatus.NEEDS_REVIEW:  # and isn't repeated
            self._counts["failed"] -= 1  # as which it was counted when it was given up
        self._count(one.outcome)

    def _forget(self, one: CameBack) -> None:
        self._in_flight.forget(one)
        if one.is_late:
            return
        outcome = one.outcome
        if outcome.kind == "unstarted" and outcome.error_code:
            self._give_up(outcome.error_message, 1)
        if outcome.elapsed_s:
            self._handler_s += (max(outcome.elapsed_s, 1e-6) - self._handler_s) * 0.2

    def _count(self, outcome: Outcome) -> None:
        kind = outcome.kind if outcome.kind in ("completed", "skipped") else "failed"
        self._counts[kind] += 1

    def _hand_out(self, row: JobRow) -> None:
        self._in_flight.hand_out(row)
        self._counts["started"] += 1
        if self._rate is not None:
            self._rate.used(1)


def _with_what_fits(
    settle: Callable[[JobRow, Outcome], bool], one: CameBack
) -> tuple[CameBack, bool]:
    """Settle it, if need be without what it says; what was recorded, and what ``settle`` says."""
    try:
        return one, settle(one.row, one.outcome)
    except InvalidValueError as error:  # too long for a record, say
        one = msgspec.structs.replace(one, outcome=outcome_of_bad_value(error))
        return one, settle(one.row, one.outcome)
