"""Lists the jobs of a store, newest first. Opens only as many jobs as needed.

A listing reads the **head** of each job (its id, creation time, and status) from the first
line and the end of its journal. Only jobs that may be a part of the listing are opened.

If a job can't be read, the job is left out, and ``on_error`` gets the error. Without ``on_error``,
the error is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from operator import itemgetter

from journal.errors import JobNotFoundError, JournalError, StorageError
from journal.format.commits import START, Position, end_of_good_commits
from journal.format.decode import (
    UndecodableError,
    UnknownRecordError,
    decode_header,
    decode_record,
)
from journal.format.records import JobRecord, JobReopenedRecord, JobStatusRecord
from journal.format.seal import SEALED_LINE_END
from journal.fs import files
from journal.fs.file_names import JOURNAL_NAME
from journal.fs.handles import refusals_of
from journal.ids import is_job_id, split_shard_name
from journal.index.summary import job_of
from journal.model import Job, JobStatus
from journal.store.run_lock import run_holder
from journal.store.store import Store

OnError = Callable[[JournalError], object]
Head = tuple[datetime, str, str]  # creation time, id, and status ("": not known)

_END_BYTES = 1 << 12  # read at each end of a journal; enough for most job records
_RECORD = b'{"type":"'  # the beginning of a line of this package; another writer may order members in another way
_OF_JOB = b'{"type":"job'


def newest_ids(
    store: Store,
    since: datetime | None,
    status: JobStatus | None,
    on_error: OnError | None,
    sets: list[str] | None = None,
) -> list[str]:
    """Return the ids of jobs, newest first.

    - ``status``: leave out jobs that are known to have a different status.
    - ``since``: return only jobs created at this time or later.
    - ``on_error``: gets all errors, also an error for each directory with files of a job but no
      journal.
    - ``sets``: gets the ids of the sets of shards.
    """
    store.check_open()
    heads: list[Head] = []
    wanted = ("", status)
    # The ids are sorted, since jobs with similar ids are often close on the disk.
    for job_id in sorted(store.subdirectories()):
        head = _read_head(store, job_id, with_status=status is not None)
        if head is None and (on_error is not None or is_job_id(job_id)):
            job = _open(store, job_id, on_error)
            if job is not None:
                head = job.created_at, job_id, job.status.value
            elif sets is not None:
                with suppress(StorageError):  # on_error already got the error
                    if store.is_set(job_id):
                        sets.append(job_id)
        if head is None or (since is not None and head[0] < since):
            continue
        if status is None or head[2] in wanted:
            heads.append(head)
    heads.sort(key=itemgetter(0, 1), reverse=True)
    return [job_id for _, job_id, _ in heads]


def _read_head(store: Store, job_id: str, *, with_status: bool) -> Head | None:
    """Read the head of a job from the first line and the end of its journal.

    Returns None if the first line lacks a needed value, or can't be read.
    """
    try:
        path = f"{store.root_text}/{job_id}/{JOURNAL_NAME}"
        first, last, size = files.read_ends(path, _END_BYTES, _END_BYTES if with_status else 0)
    except OSError:
        return None
    header = decode_header(first)
    if header is None or header.job_id != job_id:
        return None
    status = _status_in(last, size) if with_status else ""
    return header.at, header.job_id, status


def _status_in(data: bytes, size: int) -> str:
    """Return the status of a job whose journal has ``size`` bytes and ends with ``data``.

    Returns "" if the commits in ``data`` don't change the status, or don't match their seals.
    """
    begin = START
    if len(data) < size:
        found = SEALED_LINE_END.search(data)
        if found is None:
            return ""
        data = data[found.end() :]
        begin = Position(size - len(data), int(found[1], 16))
    if end_of_good_commits(data, begin)[0].offset != size:
        return ""
    for line in reversed(data.split(b"\n")[:-1]):
        if line.startswith(_RECORD) and not line.startswith(_OF_JOB):
            continue
        try:
            record = decode_record(line, exact=False)
        except (UndecodableError, UnknownRecordError):
            return ""
        if isinstance(record, JobStatusRecord):
            return record.status
        if isinstance(record, (JobReopenedRecord, JobRecord)):
            return JobStatus.PENDING.value
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
        job = _open(store, job_id, on_error)
        if job is None or (status is not None and job.status is not status):
            continue
        if offset:
            offset -= 1
        else:
            jobs.append(job)
    return jobs


def _open(store: Store, job_id: str, on_error: OnError | None) -> Job | None:
    """Open a job, and return it. Reports an error, if the job can't be read."""
    try:
        try:
            with store.peek(job_id).reading() as index:
                return job_of(index)
        except JobNotFoundError:  # the directory isn't a job's, or the job was just deleted
            if on_error is not None:
                store.check_not_lost(job_id)
    except JournalError as error:
        if on_error is None:
            raise
        on_error(error)
    return None


def state_of_job(store: Store, job: Job) -> str:
    """The job's status. A running job may instead be "interrupted" or "unknown".

    - "interrupted" means that the run has died: no process has the run lock.
    - "unknown" means that this process has no permission to look at the run lock.
    """
    if job.status is JobStatus.RUNNING:
        try:
            if run_holder(store.directory(job.id)) is None:
                return "interrupted"
        except StorageError:
            return "unknown"  # not an error: a listing must still show the other jobs
    return job.status.value


def lost_shards(store: Store, set_id: str) -> dict[str, JournalError]:
    """Return the ids of shards that have other files but no journal.

    Each id comes with the error: see :meth:`Store.check_not_lost`.
    """
    directory, found = store.directory(set_id), dict[str, JournalError]()
    with refusals_of(directory, "list"):
        names = sorted(filter(split_shard_name, files.subdirectories(directory)))
    for name in names:
        if not files.exists(directory / name / JOURNAL_NAME):
            try:
                store.check_not_lost(f"{set_id}/{name}")
            except JournalError as error:
                found[f"{set_id}/{name}"] = error
    return found
