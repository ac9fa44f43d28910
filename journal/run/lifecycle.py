"""The lifecycle of a run: its start, its end, and its reports about the job in between.

The run has the job's run lock from its start to its report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from journal.display.repr import limit_text
from journal.errors import InvalidValueError, JournalError, RefusedError
from journal.format.arguments import check_optional_text, check_words
from journal.format.records import (
    UNSET_TIME,
    HoldRecord,
    JobLevelRecord,
    RunEndedRecord,
    TuneRecord,
    now,
)
from journal.fs import shell, system
from journal.model import (
    EarlyEnd,
    Job,
    JobRow,
    JobStatus,
    Policy,
    RowStatus,
    hold_of,
    hold_text,
)
from journal.model import Run as LastRun
from journal.progress.messages import INFO, WARNING, Tell, say
from journal.run.advice import IN_PYTHON, HowTo, what_may_run, who_else
from journal.run.outcome import Outcome
from journal.run.pacing.limits import Limits
from journal.run.plan import take_up
from journal.run.signals import OwnProcess
from journal.service import JobService, existing_job
from journal.store.calls import open_calls
from journal.store.interrupted_rows import check_policy, start_run
from journal.store.journal import Journal
from journal.store.row_reader import find_rows
from journal.store.run_lock import late_results
from journal.store.transitions import end_if_settled, put_record
from journal.text import Numbers, counted, time_text

_MAX_RANGES = 20  # ranges of rows in a message
_NO_LIMITS = Limits()
_INTERRUPTS = ("signal", "error")  # these end a run early only if rows are left to start


class Settings(msgspec.Struct, frozen=True):
    """The settings that all runs of an open job share: see :func:`journal.open_job`."""

    on_interrupted: Policy = "review"
    argv: Sequence[str] = ()
    version: str | None = None
    how_to: HowTo = IN_PYTHON

    def __post_init__(self) -> None:
        check_policy(self.on_interrupted, "on_interrupted")
        check_optional_text(self.version, "version")
        msgspec.structs.force_setattr(self, "argv", check_words(self.argv, "argv"))


def check_callbacks(**callbacks: object) -> None:
    """Raise InvalidValueError for a callback that is neither None nor callable."""
    for name, given in callbacks.items():
        if given is not None and not callable(given):
            raise InvalidValueError(name, given, "must be a function, or be left out")


class RunningJob:
    """The job of a run, which has the job's run lock.

    ``post`` passes a call to the caller of the run, for example to report a message.
    """

    def __init__(
        self,
        service: JobService,
        job_id: str,
        settings: Settings,
        tell: Tell | None = None,
        post: Callable[[Callable[[], object]], object] = lambda call: call(),
    ) -> None:
        self.service = service
        self.id = job_id
        self.settings = settings
        self.post = post
        self.retry_failed = False  # whether the start retries failed rows
        self.changes: dict[str, Any] = {}  # the changes of the start: members of a RunReport
        self.outdated = 0  # also a member of a RunReport, but not recorded
        self._tell = tell
        self._seen: Job | None = None  # the job of the last read
        self._was_paused = False

    def report(self, text: str, level: int = INFO) -> None:
        """Report a message. If reporting fails, the run continues."""
        self.post(partial(self._say, text, level))

    def _say(self, text: str, level: int) -> None:
        with suppress(Exception), OwnProcess():
            say(text, level, self.id, self._tell)

    def warn(self, text: str) -> None:
        """Report a warning."""
        self.report(text, WARNING)

    def put(self, record: JobLevelRecord) -> None:
        """Put a record about the job into the journal. Raises the errors of a commit."""
        self.service.store.journal(self.id).change(put_record, record)

    def tunes(self) -> tuple[TuneRecord, ...]:
        """The requested changes of this run's limits, at the last read of the journal."""
        state = self.service.store.journal(self.id).index.state
        return () if state is None else state.tunes

    def job(self) -> Job:
        """The job after its last commit. Raises JobNotFoundError."""
        self._seen = existing_job(self.service, self.id)
        return self._seen

    def hold_text(self) -> str:
        """The hold of this run, as text for people; "" if there is none. Any thread may call this."""
        seen = self._seen
        hold = None if seen is None else hold_of(seen, seen.status)
        return "" if hold is None else f"{hold_text(hold)}: {hold.reason}"

    def last_job(self) -> Job:
        """The job as it is now.

        If the job can't be read any more, returns the job of the last read.
        """
        with suppress(JournalError):
            return self.job()
        if self._seen is None:
            return self.job()
        return self._seen

    def start(self, limits: Limits = _NO_LIMITS) -> None:
        """Start the job and keep its run lock until :meth:`release`.

        Then warns if the last run of the job was on another host. Also warns about limits of a
        shard that a person may misread as limits of the whole set. Raises NothingToDo. Raises
        RefusedError if the handler of the run gets single rows while calls with many rows are open,
        because the handler couldn't resume these calls.
        """

        def changes(journal: Journal) -> dict[str, Any]:
            if limits.batch is None and journal.index.calls:
                self._refuse_calls(journal)
            retried = take_up(
                self.service, journal, retry_failed=self.retry_failed, where=limits.where
            )
            self.changes = {**self.changes, "retried": retried}
            return {**self.changes, "limits": limits.tunable}

        job = self.job()
        in_flight = self._in_flight_text(job)
        started = start_run(
            self.service.store,
            self.id,
            self.settings.on_interrupted,
            self.settings.argv,
            self.settings.version,
            keep=True,
            is_command=bool(self.settings.how_to.command),
            changes=changes,
        )
        if job.hosts and job.hosts[-1] != system.host_name():
            self.warn(
                f"{self.id}: was last run on {job.hosts[-1]}; make sure that nothing of that run "
                "is still running there"
            )
        self._report_claim()
        if job.shard is not None and limits.has_budget:
            text = "limits of rate, rows and cost are those of this shard alone"
            self.report(f"{self.id}: {text}, one of {job.shard.count}")
        self._report_interrupted(job, started, in_flight)
        self._report_tuned(job.last_run, limits)

    def _report_tuned(self, last: LastRun | None, limits: Limits) -> None:
        """Report the tuned limits of the last run if this run has other limits."""
        here = limits.tunable
        tuned = {} if last is None else last.tuned
        other = {name: value for name, value in tuned.items() if here.get(name) != value}
        if other:
            was = ", ".join(limit_text(name, value) for name, value in other.items())
            now = ", ".join(limit_text(name, here.get(name)) for name in other)
            self.report(f"{self.id}: the last run was tuned to {was}; this start has {now}")

    def _refuse_calls(self, journal: Journal) -> None:
        if rows := sum(len(call.open) for call in open_calls(journal)):
            name = "`-n`" if self.settings.how_to.command else "`batch`"
            raise RefusedError(
                f"{counted(rows, 'row|rows')} of {self.id} belong to calls with many rows that have "
                f"begun steps or wait: run them with {name}"
            )

    def _report_claim(self) -> None:
        claim = self.service.store.runs.claim(self.id)
        if claim is not None:
            self.report(
                f"{self.id}: counts as on a network file system ({claim.network}): only this node may "
                f"work on it during this run (claims/{claim.path.name})"
            )
        self._report_late()

    def _report_late(self) -> None:
        for text in late_results(self.service.store.directory(self.id)):
            self.warn(f"{self.id}: {text}")

    def report_loss(self) -> None:
        """Say what to do after this run has lost the job."""
        self.warn(
            f"{self.id}: this run has lost the job and has recorded nothing since; start the job "
            f"again only if no other run works on it: {self.line('show')}"
        )
        self._report_late()

    def line(self, word: str, *options: str) -> str:
        """A line for a shell that runs the command ``word`` on the job."""
        if self.settings.how_to.command:
            return self.settings.how_to.line(word, self.id, *options)
        return shell.join(["journal", "--root", str(self.service.root), word, self.id, *options])

    def in_flight_elsewhere(self, job: Job) -> EarlyEnd:
        """The reason for the end of the run if another program has rows in flight."""
        is_are = "is" if job.processing_count == 1 else "are"
        text = f"{self._in_flight_text(job)} {is_are} in flight in another program"
        return EarlyEnd("in_flight_elsewhere", text)

    def _in_flight_text(self, job: Job) -> str:
        """The numbers of the rows in flight as text, such as "rows 1-3, 8"."""
        limit = job.processing_count
        found = find_rows(self.service.store, self.id, RowStatus.PROCESSING, limit=limit)
        return Numbers(sorted(row.row_number for row in found)).words(_MAX_RANGES)

    def _report_interrupted(self, before: Job, after: Job, rows: str) -> None:
        """Report the rows that a dead run or program has left in flight, with their statuses."""
        count = before.processing_count - after.processing_count
        if count <= 0:
            return
        now = (
            (after.needs_review_count - before.needs_review_count, "needs|need a review"),
            (after.pending_count - before.pending_count, "is|are tried again"),
            (after.failed_rows - before.failed_rows, "has|have failed"),
        )
        became = ", ".join(counted(number, words) for number, words in now if number > 0)
        name = self.settings.how_to.argument("on_interrupted")
        other = who_else(before)
        where = f"in {other} " if other else "when an earlier run died, "
        self.warn(
            f"{self.id}: {counted(count, 'row|rows was|were in flight')} {where}"
            f"and may have taken effect ({rows}): "
            f"{became} ({name} is {self.settings.on_interrupted})"
        )
        # Advice about reviews comes later. A row that is attempted again may run beside its first
        # attempt.
        if self.settings.on_interrupted != "review" and (warning := what_may_run(before)):
            self.warn(f"{self.id}: {warning}")

    def why_lost(self) -> str:
        """The reason why this run no longer has the job, as text, or "". Raises StorageError.

        The possible reasons: the job was moved or replaced, or has another run, or the run lock was
        released.
        """
        runs = self.service.store.runs
        if runs.holds(self.id):
            return ""
        return runs.why_lost(self.id) or "the run lock of the job was released"

    def look(self) -> None:
        """After a refused call, check whether another run has claimed the job."""
        with suppress(JournalError):
            self.service.store.runs.look(self.id)

    def leave_late(self, row: JobRow, outcome: Outcome) -> None:
        """If another run has claimed the job, write an outcome to a file. Raises no error."""
        claim = self.service.store.runs.claim(self.id)
        if claim is None or outcome.kind == "unstarted":
            return
        line = {"at": time_text(now()), "row": row.row_number, "attempt": row.attempts}
        values = msgspec.structs.asdict(outcome).items()
        line |= {name: value for name, value in values if value or name == "result"}
        with suppress(OSError, TypeError, ValueError):
            claim.leave_late(msgspec.json.encode(line, enc_hook=repr))

    def report_pause(self, job: Job, in_flight: int) -> None:
        """Report a message if another process has paused or resumed the job."""
        was_paused, self._was_paused = self._was_paused, job.status is JobStatus.PAUSED
        if self._was_paused and not was_paused:
            rows = counted(in_flight, "row|rows is|are in flight")
            self.report(
                f"{self.id}: paused by another process; {rows}; to continue this run: "
                f"journal --root {shell.quote(str(self.service.root))} resume {self.id}"
            )
        elif was_paused and job.status is JobStatus.RUNNING:
            self.report(f"{self.id}: resumed")

    def put_end(self, early: EarlyEnd | None) -> None:
        """Record why the run ends early, if :func:`lacks_end` is true. Call this in a batch."""
        if early is not None and lacks_end(self.job(), early):
            self.put(RunEndedRecord(kind=early.kind, message=early.message, at=UNSET_TIME))

    def end(self, early: EarlyEnd | None) -> Job:
        """End the job if no row is open, else pause it: see :func:`end_if_settled`. Returns the job.

        If another process has ended the job, the job keeps its status. ``early``: the reason why
        the run ends before all rows are done. The reason is recorded.
        """
        with self.service.batch(self.id):
            job = self.job()
            if job.hold is not None:
                self.put(HoldRecord(reason="the run has ended", at=UNSET_TIME))
            self.put_end(early)
            if job.status is JobStatus.RUNNING and job.open_rows:
                self.service.update_status(self.id, JobStatus.PAUSED)
            elif not job.status.is_ended:
                self.service.store.journal(self.id).change(partial(end_if_settled, is_run=True))
        return self.last_job()

    def release(self, *, may_write: bool = False) -> None:
        """Release the run lock. ``may_write``: whether a worker of this run may still write."""
        if may_write and (claim := self.service.store.runs.claim(self.id)) is not None:
            claim.is_writing = True
        with suppress(JournalError):
            self.service.store.release_run(self.id)


def lacks_end(job: Job, early: EarlyEnd | None) -> bool:
    """Whether the journal lacks the reason of an early end.

    A run that gets a signal or an error ends early only if rows are left to start.
    """
    is_early = early is not None and (early.kind not in _INTERRUPTS or job.pending_count > 0)
    return is_early and job.last_run is not None and job.last_run.ended_early is None
