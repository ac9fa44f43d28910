"""Watches a job until it ends, for `log -f`, `watch` and `wait`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from journal.cli.output import echo_err
from journal.errors import JobNotFoundError, RefusedError
from journal.model import Job, JobStatus
from journal.service import JobService, existing_job
from journal.sets.shard_states import ABSENT, Part, Whole, look_at_set
from journal.store.list_jobs import state_of_job
from journal.text import counted

POLL_S = 0.1  # events must be shown within 0.5 s; a look takes only one or two system calls
_SET_POLL_S = 1.0  # a look at a set includes a look at each shard


class Seen(NamedTuple):
    """The job as seen at one moment.

    ``ended`` is True in the last object that :func:`follow_job` yields. ``state`` is the result of
    :func:`state_of_job`: the job's status, "interrupted" or "unknown".
    """

    job: Job
    ended: bool
    state: str


def follow_job(
    service: JobService,
    job_id: str,
    reported: Collection[str] = (JobStatus.PAUSED, "interrupted"),
    *,
    say: Callable[[str], object] = echo_err,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Seen]:
    """Yield the job about ten times a second until it ends.

    The death of the job's run doesn't end the iteration, unless no row is open. ``reported``: states
    of the job. When the job enters one of these states, and when the job then runs again, ``say``
    gets a message. If "paused" is one of these states, the iteration also ends when the job is
    paused and no run waits for the end of the pause. ``wait``: called with the time in seconds
    between two looks. Raises RefusedError if the job is deleted or moved. Raises
    JournalDamagedError if the journal was cut, because no run may then continue the job.
    """
    last = ""
    job = service.get_job(job_id)
    while job is not None:
        try:
            state = _sure_state(service, job, state_of_job(service.store, job))
            if state != last:
                service.store.check_uncut(job_id)
            is_left = JobStatus.PAUSED in reported and _is_left_paused(service, job)
        except JobNotFoundError:
            break
        if is_left:
            yield Seen(job, True, state)
            return
        if state != last and state in reported:
            say(f"{job_id}: {_in_words(state, job)}")
        elif state == JobStatus.RUNNING and last in reported:
            say(f"{job_id}: is running again")
        last = state
        ended = _has_ended(service, job, state)
        yield Seen(job, ended, state)
        if ended:
            return
        wait(POLL_S)
        job = service.get_job(job_id)
    raise gone(job_id)


def follow_set(
    service: JobService, set_id: str, *, wait: Callable[[float], object] = time.sleep
) -> Iterator[tuple[Whole, bool]]:
    """Yield a set about every second, and whether all its shards have ended or need a person.

    The iteration ends when they have ended or need a person. ``wait``: as in :func:`follow_job`.
    """
    while True:
        whole = look_at_set(service, set_id)
        has_ended = not any(_is_awaited(service, part) for part in whole.parts)
        yield whole, has_ended
        if has_ended:
            return
        wait(_SET_POLL_S)


def _is_awaited(service: JobService, part: Part) -> bool:
    """Return whether a shard may continue without a person: see :func:`follow_job`.

    A shard that isn't here may still be started.
    """
    if part.error is not None:
        return False
    if part.job is None:
        return part.state == ABSENT
    try:
        state = _sure_state(service, part.job, part.state)
        return not (_has_ended(service, part.job, state) or _is_left_paused(service, part.job))
    except JobNotFoundError:  # it was deleted meanwhile
        return True


def gone(job_id: str) -> RefusedError:
    """The error for a followed job that was deleted or moved."""
    return RefusedError(f"job {job_id} is no longer there: it was deleted or moved")


def _sure_state(service: JobService, job: Job, state: str) -> str:
    if state == "interrupted":  # but the run may just have ended, after the job was read
        return state_of_job(service.store, existing_job(service, job.id))
    return state


def _is_left_paused(service: JobService, job: Job) -> bool:
    """Return whether the job is paused, and no run waits for the end of the pause."""
    if not _is_paused(job) or service.run_holder(job.id) is not None:
        return False
    # Meanwhile, the job may have been resumed, and its run may have ended.
    return _is_paused(existing_job(service, job.id))


def _is_paused(job: Job) -> bool:
    return job.status is JobStatus.PAUSED or (job.pause is not None and not job.status.is_ended)


def _has_ended(service: JobService, job: Job, state: str) -> bool:
    """Return whether the job has ended, and no run still has rows in flight.

    If no row is open and the run has died, the job counts as ended, too: the next start ends the
    job.
    """
    if job.status.is_ended:
        return not (job.processing_count and service.run_holder(job.id))
    return not job.open_rows and state == "interrupted"


def _in_words(state: str, job: Job) -> str:
    if state == JobStatus.PAUSED:
        return "is paused; waiting for it to be resumed"
    if not job.open_rows:
        return "is interrupted: its run died after the last row, and the next start ends the job"
    in_flight = counted(job.processing_count, "row|rows in flight")
    in_flight = f" with {in_flight}" if job.processing_count else ""
    return f"is interrupted: its run died{in_flight}; waiting for it to be run again"
