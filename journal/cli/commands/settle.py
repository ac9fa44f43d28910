"""`journal retry`, `redo`, `skip` and `resolve`.

With these commands, a person settles rows. The rows of a job or shard are changed in one commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, wraps
from typing import Any, NamedTuple

import click

from journal.cli.advice import echo_steps, what_runs_pending
from journal.cli.find import FoundJob, FoundSet, counts_text, found_job_or_set
from journal.cli.selection import Selection, selection_options
from journal.cli.sets import ranges_of_shards, report_changed
from journal.cli.shared_options import (
    confirm,
    json_or_text,
    option,
    parse_cents,
    reason_option,
    yes_option,
)
from journal.errors import InvalidValueError, JournalError, RefusedError
from journal.format.records import LOST_CHECKSUM, MAYBE_DONE_TWICE
from journal.fs import system
from journal.history.error_groups import Numbers
from journal.ids import row_id_of
from journal.model import Job, JobRow, JobStatus, RowStatus
from journal.run.exit_codes import EXIT_REFUSED
from journal.run.plan import what_may_run
from journal.service import JobService
from journal.store.calls import call_of_row
from journal.store.interrupted_rows import INTERRUPTED, STEP_IN_DOUBT, STEP_NOT_RECORDED, settle_row
from journal.store.steps import get_step_in_doubt
from journal.text import as_text, counted, shorten
from journal.verbs import VERBS, FromStep, Verb


class _Done(NamedTuple):
    """What a command has done with the rows of a job.

    - ``changed``: how many rows.
    - ``pending``: the number of pending rows, which need a run. ``how``: the end of the message
      about these rows.
    """

    changed: int
    pending: int = 0
    how: str = "again"

    def report(self, job: FoundJob) -> None:
        """Print the count, and which run will process the pending rows."""
        click.echo(self.changed)
        if self.pending:
            then = what_runs_pending(job.read(), job.service.run_holder(job.id), job.service.root)
            job.say(f"{counted(self.pending, f'row|rows is|are pending {self.how}')}: {then}")


def _of_shards(command: Callable[..., _Done]) -> Callable[..., None]:
    """Let a command that changes rows of a job also change rows in all shards of a set.

    First, all chosen rows are checked. Each shard is changed in a commit of its own.
    """
    name = command.__name__.removesuffix("_command")

    @wraps(command)
    def on_each(job: FoundJob, selection: Selection, **given: Any) -> None:
        if not isinstance(job, FoundSet):
            command(job=job, selection=selection, **given).report(job)
            return
        verb = VERBS["resolve --step" if given.get("step") else name]
        if not (name == "retry" and selection.is_empty):
            _check_chosen(selection)
        chosen: list[tuple[FoundJob, Selection, _Met]] = []
        ranges = dict(ranges_of_shards(job, selection.ranges))
        for shard in job.shards if selection.ranges is None else ranges:
            part = selection._replace(ranges=ranges.get(shard))
            met = _Met(part.rows(job.service, shard.id, verb))  # all are checked
            if met.statuses:
                job.service.store.check_uncut(shard.id)
                chosen.append((shard, part, met))
                if name in ("retry", "redo"):
                    _check_not_cancelled(shard.read())
        if not chosen:
            for text in ["no row has failed"] if selection.is_empty else selection.why_none(job.id):
                job.say(text)
        if name == "redo" and not given["yes"]:
            statuses = sum((met.statuses for *_, met in chosen), Counter[str]())
            _confirm(job, statuses, new_key=given["new_key"])
        done: list[int] = []
        try:
            for shard, part, met in chosen:
                more = {"shown": met} if name == "redo" else {}
                done.append(command(job=shard, selection=part, **given, **more).changed)
        except JournalError:  # the earlier shards are changed all the same
            if done:
                report_changed(job, done)
            raise
        report_changed(job, done)

    return on_each


_from_step_option = option(
    "--from-step NAME", "Do this step of the rows again, and all later steps."
)


@click.command("retry", short_help="Retry failed rows: make them pending again.")
@found_job_or_set
@selection_options
@_from_step_option
@_of_shards
def retry_command(job: FoundJob, selection: Selection, from_step: str | None) -> _Done:
    """Retry failed rows: make them pending again, and reopen the job if it has ended.

    Without options, all failed rows are retried, except rows that may have taken effect. --row and
    --status may also name skipped rows. With --row alone, each named row must be failed or skipped.
    Otherwise, no row is retried. With further options, rows that can't be retried are left out.

    With --from-step, the rows do the named step and all later steps again, and keep the earlier
    steps. For example, use --from-step if a provider's batch has expired and must be submitted
    again.

    Some failed rows may have taken effect, for example after --on-interrupted fail. These rows are
    retried only if --row or --error-code selects them. Before you retry them, find out what
    happened.

    The active run processes the rows. Without an active run, the next run processes them.

    Prints how many rows became pending.

    Example: journal retry ship-orders
    """
    service = job.service
    is_named = selection.ranges is not None or bool(selection.error_codes)
    lost, unknown = Numbers(), Numbers()

    def is_left(row: JobRow) -> bool:
        if row.row_checksum == LOST_CHECKSUM and selection.ranges is None:
            lost.add(row.row_number)
        elif row.unknown and not is_named:
            unknown.add(row.row_number)
        else:
            return False
        return True

    def retry(row: JobRow) -> object:
        return None if is_left(row) else change(row.id)

    change = FromStep(service, service.retry_row, from_step)
    _check_not_cancelled(job.read())
    if selection.is_empty and from_step is None:
        count = service.retry_failed_rows(job.id)
        if not sum(map(is_left, service.get_failed_rows(job.id))) and not count:
            job.say("no row has failed")
    else:
        with _batch(job, reopens=True):
            count = _change(job, selection, VERBS["retry"], retry, reopens=False).count
            change.check(count)
    if unknown.count:
        failed = "row|rows failed, and it is unknown whether it|they took effect"
        rows = counted(unknown.count, failed)
        job.say(f"{rows}: look first, then name them by --row or --error-code")
    if lost.count:
        rows = counted(lost.count, "row|rows can't be retried: its|their data is lost by damage")
        job.say(f"{rows}; `journal skip {job.id} --row {lost.text()}`")
    return _Done(count, count)


@click.command("redo", short_help="Do rows again, also completed ones.")
@found_job_or_set
@selection_options
@option("--new-key", "Give the rows new idempotency keys.")
@_from_step_option
@reason_option("Why the rows are done again. The reason is kept in the rows' history.")
@yes_option
@_of_shards
def redo_command(
    job: FoundJob,
    selection: Selection,
    new_key: bool,
    from_step: str | None,
    reason: str | None,
    yes: bool,
    shown: _Met | None = None,
) -> _Done:
    """Do rows again: make completed, failed or skipped rows pending.

    --row and --status may also name rows in review that are completed in one of two merged copies.

    The side effects of the rows may happen again. Either all chosen rows are changed, or none. If
    the job has ended, it is reopened. The log keeps the earlier outcomes, and their costs still
    count.

    The rows keep their idempotency keys. A service that recognizes repeated calls by these keys
    returns its old answer and does nothing. Use --new-key if the service must do the work again.

    The rows forget their steps. With --from-step, the rows keep the steps that began before this
    step.

    The command asks for confirmation. Without a terminal, give --yes.

    Prints how many rows became pending.

    Example: journal redo ship-orders --version prompt-2 --reason "wrong labels"
    """
    _check_chosen(selection)
    service, verb = job.service, VERBS["redo"]
    _check_not_cancelled(job.read())
    redone = _Met()

    def redo(row: JobRow) -> object:
        redone.add(row)
        return change(row.id)

    change = FromStep(service, partial(service.redo_row, reason=reason, new_key=new_key), from_step)

    if not yes and shown is None:
        shown = _Met(selection.rows(service, job.id, verb))
        _confirm(job, shown.statuses, new_key=new_key)
    with _batch(job, reopens=True):
        count = _change(job, selection, verb, redo, reopens=False).count
        change.check(count)
        if shown is not None and redone.digest != shown.digest:
            raise RefusedError(
                f"rows of {job.id} were changed by another process; this command changed none of them"
            )
    return _Done(count, count)


class _Met:
    """The statuses of rows, and a digest of the rows' numbers and of the times of their changes.

    A list of the rows might need gigabytes.
    """

    def __init__(self, rows: Iterable[JobRow] = ()) -> None:
        self.statuses: Counter[str] = Counter()
        self.digest = 0
        for row in rows:
            self.add(row)

    def add(self, row: JobRow) -> None:
        self.statuses[row.status.value] += 1
        self.digest = hash((self.digest, row.row_number, row.updated_at))


def _confirm(job: FoundJob, statuses: Counter[str], *, new_key: bool) -> None:
    """Ask before rows are done again. If a person declines, the command ends."""
    if not statuses:
        return
    rows = counted(statuses.total(), "row|rows") + " would be done again"
    keys = (
        "under new idempotency keys: a service can't see that it did the same work before"
        if new_key
        else "under the same idempotency keys: a service that honours them answers as before"
    )
    job.say(f"{rows} ({counts_text(statuses)}), with all side effects, {keys}")
    job.say("the cost of their earlier outcomes stays in the cost of the job")
    if not confirm("Do them again?", "nothing was changed"):
        click.get_current_context().exit(EXIT_REFUSED)


def _check_chosen(selection: Selection) -> None:
    if selection.is_empty:
        how = "choose rows by --row, --status, --error-code, --where or --version"
        raise click.UsageError(how)


def _check_not_cancelled(job: Job) -> None:
    if job.status is JobStatus.CANCELLED:
        raise RefusedError(
            f"job {job.id} was cancelled: `journal resume {job.id}` first; nothing was changed"
        )


@click.command("skip", short_help="Skip rows, so that they are not run.")
@found_job_or_set
@selection_options
@reason_option("Why the rows are skipped. The reason is kept with the rows.")
@_of_shards
def skip_command(job: FoundJob, selection: Selection, reason: str | None) -> _Done:
    """Skip pending or failed rows, so that they are not run. They count as done.

    --row and --status may also name rows that need a review. With --row alone, no row is skipped if
    one of the named rows is completed, skipped or in flight. With further options, rows that can't
    be skipped are left out.

    Prints how many rows were skipped.

    Example: journal skip ship-orders --row 5,12-40 --reason "the customer has cancelled"
    """
    _check_chosen(selection)
    before = job.read()

    def skip(row: JobRow) -> JobRow:
        return job.service.skip_row(row.id, reason)

    count = _change(job, selection, VERBS["skip"], skip, reopens=False).count
    _report_completed(job, before)
    return _Done(count)


@contextmanager
def _batch(job: FoundJob, *, reopens: bool) -> Iterator[None]:
    """One commit of a job. ``reopens``: whether the block may reopen a job that has ended.

    Reopening needs the run lock, which can't be taken within the block on a network file system.
    """
    is_reopened = reopens and job.read().status.is_ended
    held = job.service.store.hold_run(job.id) if is_reopened else nullcontext()
    with held, job.service.batch(job.id):
        yield


def _change(
    job: FoundJob,
    selection: Selection,
    verb: Verb,
    change: Callable[[JobRow], object],
    *,
    reopens: bool,
) -> Numbers:
    """Call ``change`` for the chosen rows in one commit. ``reopens``: it may reopen an ended job.

    Returns the numbers of the rows for which it didn't return None. Reports why no row was chosen,
    or which chosen rows could not be compared.
    """
    changed, is_any = Numbers(), False
    with _batch(job, reopens=reopens):
        for row in selection.rows(job.service, job.id, verb):
            is_any = True
            if change(row) is not None:
                changed.add(row.row_number)
    for text in selection.where.unmet() if is_any else selection.why_none(job.id):
        job.say(text)
    return changed


def _report_completed(job: FoundJob, before: Job) -> None:
    """Report if the job has become completed because its last open row was settled."""
    if before.status is not JobStatus.COMPLETED and job.read().status is JobStatus.COMPLETED:
        job.say("completed, since nothing is left to be done")


# Ways to settle a row: a method of the service, and the options that become its arguments.
_WAYS: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "completed": (
        JobService.complete_row,
        ("tracking_number", "cost_cents", "label_path", "result"),
    ),
    "failed": (JobService.fail_row, ("error_message",)),
    "retry": (JobService.retry_row, ()),
    "skip": (JobService.skip_row, ()),
    "step": (JobService.record_step, ("result", "not_done")),
}


@click.command("resolve", short_help="Settle rows that need a review.")
@found_job_or_set
@selection_options
@option("--completed", "The rows took effect: complete them.")
@option(
    "--tracking-number TEXT", "With --completed: the tracking number that each of the rows gets."
)
@option(
    "--cost-cents CENTS",
    "With --completed: the cost of each of the rows, added to what its attempts have cost.",
    parse_cents,
)
@option("--label-path PATH", "With --completed: the label path that each of the rows gets.")
@option("--result JSON", "With --completed or --step: the result. A value that isn't JSON is text.")
@option("--failed CODE", "The rows took no effect: fail them. CODE is their error code.")
@option("--error-message TEXT", "With --failed: the message of the rows.")
@option(
    "--retry",
    "The rows took no effect, except by steps recorded as done: make the rows pending again.",
)
@option("--skip", "The rows need no work any more: skip them.")
@reason_option("Why you settle the rows like this. The reason is kept in the job's log.")
@option(
    "--step NAME",
    "Settle only this step of the rows. The step must be in doubt. Give --result or --not-done.",
)
@option("--not-done", "With --step: the step took no effect.")
@_of_shards
def resolve_command(job: FoundJob, selection: Selection, reason: str | None, **given: Any) -> _Done:
    """Settle rows that need a review, after you have checked whether they took effect.

    Give exactly one of --completed, --failed, --retry, --skip and --step. With --row alone, nothing
    is changed if one of the named rows needs no review. If the job has ended, --retry reopens it.
    Before the next run starts, you can also settle the rows that a dead run left in flight: name
    these rows by --row or --status. Commands of a `journal run` that was killed may still be
    running: look first, for example with `ps`.

    With --step, only the named step is settled. If the row has no other step in doubt, it becomes
    pending again. Its next attempt doesn't repeat steps that are done. The row stays in review if
    the review has another cause. For example, the handler asked for a review, or the run died and
    did not have --on-interrupted resume.

    The job's log records who has settled each row, on which host, and the --reason.

    Prints how many rows were settled.

    Example: journal resolve ship-orders --row 7 --completed --tracking-number 1Z999
    """
    how = _how(given)
    _check_chosen(selection)
    before = job.read()
    if how in ("retry", "step"):
        _check_not_cancelled(before)
    resolution = _Resolution(job, how, reason, given)
    is_step = how == "step"
    with _settleable(job, selection, VERBS["resolve --step" if is_step else "resolve"]) as verb:
        settle = resolution.settle_step if is_step else resolution.settle_row
        changed = _change(job, selection, verb, settle, reopens=how in ("retry", "step"))
    done = resolution.report(before, len(resolution.settled) or changed.count)
    echo_steps(job, changed, is_completed=how == "completed")
    _report_completed(job, before)
    return done


class _Resolution:
    """What a person says of rows: ``how`` they are settled, why, and the other options."""

    def __init__(self, job: FoundJob, how: str, reason: str | None, given: dict[str, Any]) -> None:
        self._job, self._how, self._reason = job, how, reason
        self._details = {name: given[name] for name in _WAYS[how][1]}
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
        self._others: dict[str, Numbers] = {}  # from the error code of another question to its rows

    def settle_row(self, row: JobRow) -> object:
        service, how = self._job.service, self._how
        in_flight = row.status is RowStatus.PROCESSING
        self._is_cut = self._is_cut or in_flight or row.error_code == INTERRUPTED
        if in_flight:  # otherwise, the attempt would seem to last until now
            settle_row(service.store, row, "review")
        self._log(row, f"resolve --{how}")
        # The outcome beside the review stays, unless the person gives another outcome.
        kept = row if how == "completed" and row.error_code == MAYBE_DONE_TWICE else None
        given = self._details.items()
        outcome = {n: getattr(kept, n, None) if v is None else v for n, v in given}
        return _WAYS[how][0](service, row.id, **outcome)

    def settle_step(self, row: JobRow) -> bool:
        """Settle one step of the row. If the row has no other step in doubt, it becomes pending.

        A step of a call is settled for all of its rows.
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
        """Make a row in review pending if the review was only about the step that is settled
        now.
        """
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

    def report(self, before: Job, count: int) -> _Done:
        """Report what becomes of the rows."""
        job, how = self._job, self._how
        if self._is_cut and how != "completed" and (warning := what_may_run(before)):
            job.say(warning)
        if how not in ("retry", "step"):
            return _Done(count, job.read().pending_count, "as before")
        if how == "step":
            state = "not done" if self._details["not_done"] else "done"
            job.say(f"step {self._step!r} of {counted(count, 'row|rows')} is recorded as {state}")
        for code, numbers in self._others.items():
            rows = counted(numbers.count, "row|rows still needs|need a review")
            job.say(f"{rows} ({code}): --row {numbers.text()}")
        return _Done(count, self._pending.count if how == "step" else count)


@contextmanager
def _settleable(job: FoundJob, selection: Selection, verb: Verb) -> Iterator[Verb]:
    """The statuses of the rows that the block may settle.

    If a chosen row was in flight when its run died, no run starts during the block. If no row was
    in flight, the block must refuse rows in flight: a run has started these rows meanwhile.

    Raises JobBusyError if a chosen row is in flight and a run has the run lock.
    """
    flight = RowStatus.PROCESSING
    if any(row.status is flight for row in selection.rows(job.service, job.id, verb)):
        with job.service.store.hold_run(job.id):
            yield verb
    else:
        yield verb._replace(named=tuple(status for status in verb.named if status is not flight))


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


def _how(given: dict[str, Any]) -> str:
    """Return the name of the given option that settles rows, such as "completed".

    Raises UsageError if another given option can't be combined with it.
    """
    names = {name for name, value in given.items() if value not in (None, False)}
    chosen = [way for way in _WAYS if way in names]
    if len(chosen) != 1:
        *others, last = (f"--{way}" for way in _WAYS)
        raise click.UsageError(f"give exactly one of {', '.join(others)} and {last}")
    (how,) = chosen
    for name in sorted(names.difference(chosen, _WAYS[how][1])):
        belongs = " and ".join(f"--{way}" for way, (_, options) in _WAYS.items() if name in options)
        raise click.UsageError(f"--{name.replace('_', '-')} belongs to {belongs}, not --{how}")
    if how == "failed" and "error_message" not in names:
        raise click.UsageError("--failed needs --error-message")
    if how == "step" and ("result" in names) is ("not_done" in names):
        raise click.UsageError("--step needs either --result or --not-done")
    return how
