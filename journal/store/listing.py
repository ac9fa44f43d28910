"""Lists the jobs of a store, newest first. Opens only as many jobs as needed.

A job's head is its entry in ``.heads.hint``: the facts that a listing shows. If a job can't be
read, the job is left out, and ``on_error`` gets the error. Without ``on_error``, the error is
raised.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from journal.errors import JobMismatchError, JobNotFoundError, JournalError
from journal.format.records import JobRecord
from journal.ids import is_job_id
from journal.index.heads import Heads
from journal.index.summary import job_of
from journal.model import Job, JobStatus
from journal.store.store import Store

OnError = Callable[[JournalError], object]


def newest_ids(
    store: Store,
    name: str | None,
    since: datetime | None,
    until: datetime | None,
    status: JobStatus | None,
    on_error: OnError | None,
) -> list[str]:
    """Return the ids of jobs, newest first.

    - ``status``: leave out jobs that are known to have a different status.
    - ``name``: return only jobs whose name matches this shell pattern.
    - ``since``, ``until``: return only jobs created at ``since`` or later, and before ``until``.
    - ``on_error``: gets all errors, also one for each directory that has files of a job but no
      journal.
    """
    store.check_open()
    heads = Heads(store.root)
    with_status = status is not None
    for job_id in heads.load(store.subdirectories(), with_status=with_status):
        if not heads.read(job_id, with_status=with_status):
            _examine(store, heads, job_id, on_error, with_status=with_status)
    heads.sort()
    heads.save()
    return heads.ids(status, name, since, until)


def _examine(
    store: Store, heads: Heads, job_id: str, on_error: OnError | None, *, with_status: bool
) -> None:
    """Read the head of a job (the facts that a listing shows) by opening the job.

    Call this if the beginning of the journal doesn't contain all these facts, or can't be read. If
    the job is damaged, this function reports the error.
    """
    if on_error is None and not is_job_id(job_id):
        return
    try:
        state = heads.state_of(job_id)
        header = store.header(job_id)
        check_name(store, job_id, header)
        heads.add(header, _status_of(store, job_id) if with_status else "", state)
    except JobNotFoundError:  # the directory isn't a job's, or the job was just deleted
        if on_error is not None:
            _note_if_lost(store, job_id, on_error)
    except JournalError as error:
        if on_error is None:
            raise
        on_error(error)


def _status_of(store: Store, job_id: str) -> str:
    """Return the status of a job, or "" if the job can't be read.

    The error isn't reported here. :func:`jobs_of` reports it, but only if it reads this job, too.
    """
    with suppress(JournalError), store.peek(job_id).reading() as index:
        return job_of(index).status.value
    return ""


def jobs_of(
    store: Store,
    job_ids: list[str],
    status: JobStatus | None,
    limit: int | None,
    offset: int,
    on_error: OnError | None,
) -> list[Job]:
    """Return the jobs with these ids, in the given order.

    With ``status``, jobs with a different status are ignored. Of the remaining jobs, the
    first ``offset`` are left out, and at most ``limit`` are returned.
    """
    jobs: list[Job] = []
    if status is None:
        job_ids, offset = job_ids[offset:], 0
    for job_id in job_ids:
        if limit is not None and len(jobs) >= limit:
            break
        job = _peek(store, job_id, on_error)
        if job is None or (status is not None and job.status is not status):
            continue
        if offset:
            offset -= 1
        else:
            jobs.append(job)
    return jobs


def check_name(store: Store, directory_name: str, header: JobRecord) -> None:
    """Raise JobMismatchError if the name of a job's directory isn't the job's id."""
    if header.id != directory_name:
        raise JobMismatchError(store.directory(directory_name), header.id)


def _note_if_lost(store: Store, job_id: str, on_error: OnError) -> None:
    try:
        store.check_not_lost(job_id)
    except JournalError as error:
        on_error(error)


def _peek(store: Store, job_id: str, on_error: OnError | None) -> Job | None:
    try:
        with store.peek(job_id).reading() as index:
            return job_of(index)
    except JobNotFoundError:
        return None
    except JournalError as error:
        if on_error is None:
            raise
        on_error(error)
        return None
