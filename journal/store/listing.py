"""Lists the jobs of a store, newest first. Opens only as many jobs as needed.

A listing reads the **head** of each job (its id, name, creation time, and status) from the first
line and the end of its journal. Only if they don't say enough, the job is opened.

If a job can't be read, the job is left out, and ``on_error`` gets the error. Without ``on_error``,
the error is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from operator import itemgetter

from journal.errors import JobMismatchError, JobNotFoundError, JournalError
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
from journal.fs.names import JOURNAL_NAME
from journal.ids import is_job_id
from journal.index.summary import job_of
from journal.model import Job, JobStatus
from journal.store.store import Store

OnError = Callable[[JournalError], object]
Head = tuple[datetime, str, str, str]  # creation time, id, name, and status ("": not known)

_FIRST_BYTES = 1 << 10  # enough for most job records
_LAST_BYTES = 1 << 12
_RECORD = (
    b'{"type":"'  # as this package begins its lines; another writer may order members otherwise
)
_OF_JOB = b'{"type":"job'


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
    heads: list[Head] = []
    wanted = ("", status)
    # The ids are sorted, since jobs with similar ids are often close on the disk.
    for job_id in sorted(store.subdirectories()):
        head = _read_head(store, job_id, with_status=status is not None)
        if head is None:
            head = _examine(store, job_id, on_error)
        if (
            head is not None
            and (status is None or head[3] in wanted)
            and (name is None or fnmatchcase(head[2], name))
            and (since is None or since <= head[0])
            and (until is None or head[0] < until)
        ):
            heads.append(head)
    heads.sort(key=itemgetter(0, 1), reverse=True)
    return [job_id for _, job_id, _, _ in heads]


def _read_head(store: Store, job_id: str, *, with_status: bool) -> Head | None:
    """Read the head of a job from the first line and the end of its journal.

    Returns None if they don't say all that is needed, or can't be read.
    """
    last_bytes = _LAST_BYTES if with_status else 0
    try:
        path = f"{store.root_text}/{job_id}/{JOURNAL_NAME}"
        first, last, size = files.read_ends(path, _FIRST_BYTES, last_bytes)
    except OSError:
        return None
    header = decode_header(first)
    if header is None or header.id != job_id:
        return None
    status = _status_in(last, size) if with_status else ""
    if with_status and not status:
        return None
    return header.at, header.id, header.name, status


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


def _examine(store: Store, job_id: str, on_error: OnError | None) -> Head | None:
    """Read the head of a job by opening the job. Reports an error, if the job can't be read."""
    if on_error is None and not is_job_id(job_id):
        return None
    try:
        header = store.header(job_id)
        check_name(store, job_id, header)
    except JobNotFoundError:  # the directory isn't a job's, or the job was just deleted
        if on_error is not None:
            _note_if_lost(store, job_id, on_error)
    except JournalError as error:
        if on_error is None:
            raise
        on_error(error)
    else:
        return header.at, header.id, header.name, _status_of(store, job_id)
    return None


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
