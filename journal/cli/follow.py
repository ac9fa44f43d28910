"""A job looked at again and again until it ends: what `log -f`, `watch` and `wait` have in common."""

from __future__ import annotations

import io
import select
import sys
import time
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from journal.cli.exit_codes import Refused
from journal.cli.output import tell
from journal.errors import JobNotFoundError
from journal.model import TERMINAL_STATUSES, Job, JobStatus
from journal.service import JobService, existing_job
from journal.text import counted

_POLL_S = 0.1  # a look costs a call or two to the system; what happens is to be seen within 0.5 s


class Seen(NamedTuple):
    """How the job stood. ``ended``: it has ended, and this is the last that is seen of it.

    ``state`` is its status, or "interrupted", as of ``JobService.get_state``.
    """

    job: Job
    ended: bool
    state: str


def follow_job(
    service: JobService,
    job_id: str,
    tells: Collection[str] = (JobStatus.PAUSED, "interrupted"),
    tell: Callable[[str], object] = tell,
) -> Iterator[Seen]:
    """The job now and some ten times a second, across pauses and interruptions, until it ends.

    ``tell`` is given a line when it enters one of the states in ``tells``, and when it runs again
    after one. Raises Refused if the job isn't there any more.
    """
    told = ""
    job = service.get_job(job_id)
    while job is not None:
        try:
            state = _sure_state(service, job)
        except JobNotFoundError:
            break
        if state != told and state in tells:
            tell(f"{job_id}: {_in_words(state, job)}")
        elif state == JobStatus.RUNNING and told in tells:
            tell(f"{job_id}: is running again")
        told = state
        ended = _has_ended(service, job)
        yield Seen(job, ended, state)
        if ended:
            return
        time.sleep(_POLL_S)
        job = service.get_job(job_id)
    raise gone(job_id)


def gone(job_id: str) -> Refused:
    """What is to be raised if the job that is followed has vanished."""
    return Refused(f"job {job_id} is no longer there: it was deleted or moved")


def _sure_state(service: JobService, job: Job) -> str:
    state = service.get_state(job)
    if state == "interrupted":  # or its run has ended it since the job was read, and left
        return service.get_state(existing_job(service, job.id))
    return state


def _has_ended(service: JobService, job: Job) -> bool:
    """An ended job may still have rows in flight, whose outcomes the run records before it leaves."""
    return job.status in TERMINAL_STATUSES and not (
        job.processing_count and service.run_holder(job.id)
    )


def _in_words(state: str, job: Job) -> str:
    if state == JobStatus.PAUSED:
        return "is paused; waiting for it to go on"
    in_flight = counted(job.processing_count, "row|rows in flight")
    in_flight = f" with {in_flight}" if job.processing_count else ""
    return f"is interrupted: its run died{in_flight}; waiting for it to be run again"


def check_reader() -> None:
    """Raise BrokenPipeError if whoever read our output has gone: nothing may be written for long."""
    try:
        descriptor = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError):  # no file of the system's
        return
    poll = select.poll()
    poll.register(descriptor, 0)  # asked for nothing, it tells of errors
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError
