"""Starts runs. Policies decide what happens to the rows that were in flight when their run died.

A row is in flight if it was started and has no outcome yet.

Call each function that appends records in a separate ``with journal:`` block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from journal.errors import InvalidValueError
from journal.format.records import A_POLICY, A_RUN, UNSET_TIME, By, RowStatusRecord
from journal.index.columns import PROCESSING, WAITING
from journal.index.summary import job_of
from journal.model import Job, JobRow, JobStatus, Policy, RowStatus, Run
from journal.store.calls import wait_call
from journal.store.journal import Journal
from journal.store.row_reader import (
    position_of,
    row_of,
    status_of_attempt,
    version_of_attempt,
    waits_since,
)
from journal.store.steps import get_steps, in_doubt_text, step_in_doubt
from journal.store.store import Store
from journal.store.transitions import change_row, let_start, put_run, set_job_status, state_of

# Error codes of rows:
INTERRUPTED = "interrupted"  # the row was in flight when its run died
STOPPED = "stopped"  # the run ended while the row was in flight, and stopped the attempt
TIMED_OUT = "TimeoutError"  # the attempt took longer than ``timeout_s``
NEIGHBOR_DIED = "NeighborDied"  # another worker of the pool died, which ended this row's worker
GONE = "gone"  # the row isn't in the input of its job any more, and may have taken effect
STEP_IN_DOUBT = "StepInDoubt"  # the attempt met a step in doubt, or left a step in doubt
STEP_NOT_RECORDED = "StepNotRecorded"  # a step was done, and its result wasn't recorded
# The codes of reviews that are only about the row's steps.
REVIEWS_OF_STEPS = (INTERRUPTED, STOPPED, TIMED_OUT, STEP_IN_DOUBT, STEP_NOT_RECORDED)
_RUN_ENDED = "the run ended while this row was in flight"
_PROGRAM_ENDED = "the program that began this row by start_row has recorded no outcome"
_GONE = "the row is no longer in the input"
_MAY_HAVE_TAKEN_EFFECT = ": it is unknown whether the attempt took effect"
_POLICIES: dict[str, tuple[RowStatus, str, str]] = {
    "review": (RowStatus.NEEDS_REVIEW, INTERRUPTED, _MAY_HAVE_TAKEN_EFFECT),
    "retry": (RowStatus.PENDING, INTERRUPTED, ""),
    "fail": (RowStatus.FAILED, INTERRUPTED, ""),
}


def check_policy(policy: str, where: str = "policy") -> None:
    if policy not in get_args(Policy):
        names = ", ".join(get_args(Policy))
        raise InvalidValueError(where, policy, f"must be one of {names}")


def start_run(
    store: Store,
    job_id: str,
    policy: Policy = "review",
    argv: Sequence[str] = (),
    version: str | None = None,
    *,
    keep: bool = False,
    is_command: bool = False,
    changes: Callable[[Journal], Mapping[str, Any]] = lambda _journal: {},
) -> Job:
    """Start a job: see :meth:`JobService.start_job`.

    - ``keep``: hold the run lock until :meth:`Store.release_run`, even if the job ends or is
      paused. Then no other run starts while rows are in flight.
    - ``is_command``: ``argv`` is a `journal run`.
    - ``changes``: changes the job before the start, in the commit of the start. Returns the changes
      for :func:`put_run`.
    """
    if keep and store.journal(job_id).in_own_commit:
        raise InvalidValueError(
            "batch", job_id, "is open: no start of a row would be on the disk before its work"
        )
    with store.committing_run(job_id, keep=keep) as (journal, _):
        changed = changes(journal)
        state = state_of(journal)
        put_run(journal, argv, version, policy=policy, is_command=is_command, changes=changed)
        if state.status is not JobStatus.RUNNING:
            set_job_status(journal, JobStatus.RUNNING)
        settle_rows(journal, policy, state.run)
        return job_of(journal.index)


def settle_rows(journal: Journal, policy: Policy, run: Run | None) -> int:
    """Give every row in flight the status that ``policy`` demands. Returns the number of rows.

    ``run``: the last run before this call.
    """
    index = journal.index
    if policy in ("retry", "resume") and index.status_counts[PROCESSING]:
        let_start(journal, "its rows can't be set back to pending", reopens=False)
    moved, calls = 0, dict[int, None]()
    for position in index.positions(PROCESSING):
        _settle_row(journal, position, policy, run, calls)
        moved += 1
    for call in calls:
        wait_call(journal, call, None, _RUN_ENDED, A_POLICY)
    return moved


def settle_row(store: Store, row: JobRow, policy: Policy) -> JobRow:
    """Give a row in flight the status that ``policy`` demands. Returns the row.

    Call this while the run lock is held by :meth:`Store.hold_run`.
    """

    def settle(journal: Journal) -> JobRow:
        position = position_of(journal, row.row_number)
        _settle_row(journal, position, policy, state_of(journal).run)
        return row_of(journal, position)

    return store.journal(store.locate(row.id)[0]).change(settle)


def _settle_row(
    journal: Journal,
    position: int,
    policy: Policy,
    run: Run | None,
    calls: dict[int, None] | None = None,
) -> None:
    """Settle one row. If the row's call must be resumed, only add the call to ``calls``."""
    step = step_in_doubt(journal, position) if policy in ("review", "resume") else None
    resumes = policy == "resume" and _is_of_steps(journal, position, run)
    fate: str = policy
    if policy == "resume":
        fate = "retry" if resumes and step is None else "review"
    call = journal.index.columns.call(position)
    if fate == "retry" and calls is not None and call in journal.index.calls:
        calls[call] = None
        return
    began = status_of_attempt(journal, position)
    ended = _PROGRAM_ENDED if began is not None and began.by is None else _RUN_ENDED
    status, code, unknown = _POLICIES[fate]
    message = ended + unknown
    if step is not None:
        row_id = f"{journal.id_of_rows}:{journal.index.columns.number(position)}"
        message += f"; {in_doubt_text(row_id, step)}"
        code = STEP_IN_DOUBT if resumes and step.state == "started" else code
    put_in_doubt(journal, position, A_POLICY, status, code, message)


def may_resume(store: Store, row: JobRow) -> bool:
    """Return whether the policy "resume" would set a row in flight to pending."""
    with store.reading(store.locate(row.id)[0]) as journal:
        position = position_of(journal, row.row_number)
        is_of_steps = _is_of_steps(journal, position, state_of(journal).run)
        return is_of_steps and step_in_doubt(journal, position) is None


def _is_of_steps(journal: Journal, position: int, run: Run | None) -> bool:
    """Return whether each side effect of a row's attempt in progress is a step.

    This is true if the last run has begun the attempt under the policy "resume". If another program
    has begun the attempt, before or during the run, this isn't known.
    """
    if run is None or run.on_interrupted != "resume":
        return False
    began = status_of_attempt(journal, position)
    return began is not None and began.by == A_RUN.by and began.origin is None


def settle_gone(journal: Journal, number: int) -> None:
    """Skip a row that isn't done and isn't in the input of its job any more.

    The row goes to review if it is in flight, if it waits for somebody else, or if it has a step
    that is done or may have taken effect.
    """
    position = position_of(journal, number)
    how = {PROCESSING: "was in flight", WAITING: "waits for somebody else"}.get(
        journal.index.columns.statuses[position], ""
    )
    if not how and any(step.state != "failed" for step in get_steps(journal, number)):
        how = "has steps"
    if how:
        message = f"{_GONE}, and {how}{_MAY_HAVE_TAKEN_EFFECT}"
        put_in_doubt(journal, position, A_RUN, RowStatus.NEEDS_REVIEW, GONE, message)
    else:
        record = RowStatusRecord(row=number, status="skipped", reason=_GONE, at=UNSET_TIME)
        change_row(journal, A_RUN.sign(record))


def skipped_as_gone(rows: Iterable[JobRow]) -> set[int]:
    """Return the numbers of the rows that :func:`settle_gone` has skipped."""
    return {row.row_number for row in rows if row.reason == _GONE}


def put_in_doubt(
    journal: Journal,
    position: int,
    by: By,
    target: RowStatus,
    error_code: str,
    error_message: str,
) -> None:
    """Give a row the status ``target``, because nobody knows the outcome of its last attempt."""
    columns = journal.index.columns
    in_flight = columns.statuses[position] == PROCESSING
    record = RowStatusRecord(
        row=columns.number(position),
        status=target.value,
        error_code=error_code,
        error_message=error_message,
        version=version_of_attempt(journal, position) if in_flight else None,
        unknown=target is RowStatus.FAILED,
        since=waits_since(journal, position) if in_flight and target is RowStatus.PENDING else None,
        at=journal.now(),
    )
    journal.append(by.sign(record))
