"""Deletes old jobs that have ended. On request, packs each job before it is deleted."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import InvalidValueError, JobNotFoundError, JournalError
from journal.format.pruned import note_pruned
from journal.fs import files
from journal.fs.file_names import ARTIFACTS_NAME, DERIVED
from journal.fs.handles import Stream, refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.output_files import whole_file
from journal.index.summary import job_of
from journal.model import Job, JobStatus
from journal.store.list_jobs import lost_shards
from journal.store.run_lock import late_results, run_holder
from journal.store.store import Store
from journal.text import counted
from journal.transfer.copies import Copy, open_copy
from journal.transfer.pack import Contents, Snapshot, Source, write_pack


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """The result of :func:`prune_jobs` for a job.

    - ``action``: "deleted", "would_delete" (with ``dry_run``), or "left".
    - ``reason``: why the job was left, as text for people, or None.
    - ``error``: the error that was the reason, or None.
    - ``status``: the job's status. ``updated_at``: the time of its last commit. Both are None if
      the job can't be read.
    - ``pack``: the path of the job's pack, or None if no pack is made. With ``dry_run``, the path
      of the pack that would be made.
    """

    job_id: str
    action: Literal["deleted", "would_delete", "left"]
    status: str | None = None
    updated_at: datetime | None = None
    pack: str | None = None
    reason: str | None = None
    error: JournalError | None = None


_MAX_NAMED = 5  # how many files a message names


class _Left(Exception):
    """Raised if a job must not be deleted. The text says why."""


def prune_jobs(
    root: str | os.PathLike[str],
    before: datetime,
    *,
    statuses: Collection[JobStatus | str] = (),
    to: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Iterator[Pruned]:
    """Delete the jobs below ``root`` that have ended and whose last commit is before ``before``.

    Yields a result for each job before the next job is handled. These old jobs are not deleted:
    jobs that haven't ended, jobs on which a run works, completed jobs with rows that are open or
    need a review (after a merge or a repair), jobs that can't be read, and links to jobs. Results
    are yielded for these jobs, too.

    - ``statuses``: delete only jobs with these statuses, such as ``("completed",)``.
    - ``dry_run``: change nothing.
    - ``to``: a directory. Each job is first packed into ``to/JOB_ID.tar.gz``, with its backups.

    Before a job is deleted, a line about the job is appended to ``.pruned.jsonl`` in the store, and
    synced. From then on, :meth:`JobService.create_job` refuses to make the job anew, unless
    ``anew`` is given.

    Before a job is deleted, its pack is synced, and the pack's files are compared with the job's
    files by SHA-256. The run lock and the commit lock are held from the packing to the deletion. So
    after a ``kill -9`` or a power cut at any moment, the job or its pack is complete, or both are.

    No file is overwritten. If a file ``JOB_ID.tar.gz`` exists, the pack is ``JOB_ID.2.tar.gz``, and
    so on. A job with files that a pack can't hold is not deleted.

    Before anything is deleted, raises InvalidValueError if ``to`` isn't a directory, if ``to`` is
    in the directory of a job, or if ``before`` has no time zone.
    """
    if before.tzinfo is None:
        raise InvalidValueError("before", before, "has no time zone: give before.astimezone()")
    store = Store(Path(root), sync=True, lock_timeout_s=lock_timeout_s)
    target = None if to is None else _checked_target(store, Path(to))
    wanted = set(map(JobStatus, statuses)) or {each for each in JobStatus if each.is_ended}
    return _prune(store, before, wanted, target, left_named=not statuses, dry_run=dry_run)


def _checked_target(store: Store, target: Path) -> Path:
    if not target.is_dir():
        raise InvalidValueError("to", os.fspath(target), "is not a directory: make it first")
    if store.root.resolve() in target.resolve().parents:
        raise InvalidValueError(
            "to", os.fspath(target), f"is in a directory of {store.root}: choose another directory"
        )
    return target


def _prune(
    store: Store,
    before: datetime,
    wanted: Collection[JobStatus],
    target: Path | None,
    *,
    left_named: bool,
    dry_run: bool,
) -> Iterator[Pruned]:
    for job_id, why_left in _ids(store):
        job = None
        try:
            with refusals_of(store.directory(job_id), "prune"):
                job = _job(store, job_id)
                if job.updated_at >= before or (job.status not in wanted and not left_named):
                    continue
                if why_left:
                    raise _Left(why_left)
                pruned = _prune_one(store, job, before, wanted, target, dry_run=dry_run)
        except JobNotFoundError:  # another process has deleted the job
            continue
        except (_Left, JournalError) as error:
            pruned = _left(job_id, job, error)
        yield pruned


def _ids(store: Store) -> Iterator[tuple[str, str]]:
    """Yield the ids of all jobs, then the ids of all shards.

    Each id comes with a reason not to delete the job, or "". If a shard has not ended, or can't be
    read, a run may still work on the set, so no shard of the set is deleted.
    """
    yield from ((job_id, "") for job_id in sorted(store.job_ids()))
    for set_id in sorted(store.set_ids()):
        shards = sorted(store.shards(set_id))
        why_left = "".join(
            f"the journal of {lost} is gone" for lost in [*lost_shards(store, set_id)][:1]
        )
        for shard_id in shards:
            try:
                if not (status := _job(store, shard_id).status).is_ended:
                    why_left = f"shard {shard_id} is {status}"
            except JobNotFoundError:  # another process has deleted the shard
                continue
            except JournalError:
                why_left = f"shard {shard_id} can't be read"
        yield from ((shard_id, why_left) for shard_id in shards)


def _left(job_id: str, job: Job | None, error: Exception) -> Pruned:
    return Pruned(
        job_id=job_id,
        action="left",
        status=None if job is None else job.status.value,
        updated_at=None if job is None else job.updated_at,
        reason=str(error),
        error=error if isinstance(error, JournalError) else None,
    )


def _job(store: Store, job_id: str, *, locked: bool = False) -> Job:
    """Read a job. ``locked``: whether this process holds the commit lock."""
    with store.peek(job_id).reading(locked=locked) as index:
        return job_of(index)


def _prune_one(
    store: Store,
    job: Job,
    before: datetime,
    wanted: Collection[JobStatus],
    target: Path | None,
    *,
    dry_run: bool,
) -> Pruned:
    directory = store.directory(job.id)
    if directory.is_symlink():
        raise _Left(f"its directory is a link to {directory.resolve()}, whose files would stay")
    if directory.parent != store.root and directory.parent.is_symlink():
        raise _Left(f"the directory of its set is a link to {directory.parent.resolve()}")
    pack: Path | None = None

    def check(directory: Path) -> None:
        nonlocal pack
        now = _job(store, job.id, locked=not dry_run)
        if now.status not in wanted:
            raise _Left(f"it is {now.status}: jobs with this status are not deleted")
        if now.pause is not None:
            raise _Left("a person has paused it")
        if now.status is JobStatus.COMPLETED and (reviews := now.needs_review_count):
            raise _Left(counted(reviews, "row|rows needs|need a review"))
        if now.status is JobStatus.COMPLETED and now.open_rows:
            raise _Left(counted(now.open_rows, "row|rows is|are open"))
        if late := late_results(directory):
            raise _Left(late[0])
        if now.updated_at >= before:
            raise _Left("it was changed meanwhile, and is no longer old enough")
        copy = open_copy(directory, locked=not dry_run)
        if target is not None:
            pack = _packed(copy, target, job.id, dry_run=dry_run)
        if not dry_run:
            note_pruned(store.root, job.id, pack, copy.end)

    if dry_run:
        check(directory)
        if run_holder(directory) is not None:
            raise _Left("a run works on it")
    elif not store.delete(job.id, check):
        raise JobNotFoundError(job.id)
    return Pruned(
        job_id=job.id,
        action="would_delete" if dry_run else "deleted",
        status=job.status.value,
        updated_at=job.updated_at,
        pack=None if pack is None else os.fspath(pack),
    )


# --- packs


def _packed(copy: Copy, target: Path, job_id: str, *, dry_run: bool) -> Path:
    """Pack a job, and check the pack. Returns the path of the pack.

    The caller must hold the commit lock. With ``dry_run``, nothing is written, and the lock isn't
    needed.
    """
    snapshot = Snapshot(copy, backups=True)
    _check_complete(copy.directory, snapshot)
    path = next(path for path in _names(target, job_id) if not files.exists(path))
    if dry_run:
        return path
    with whole_file(path, private=True) as output:
        with output.stream() as file:
            write_pack(file.write, job_id, snapshot.contents())
        # An error must not keep the pack open: not all systems delete an open file at once.
        with closing(Stream(output.path)) as stream:
            _, contents = Source(output.path, stream.read).pack()
            if _digests(contents) != _digests(snapshot.contents()) or snapshot.left_out:
                raise _Left("its files differ from those in its pack: somebody writes to them")
    return path


def _check_complete(directory: Path, snapshot: Snapshot) -> None:
    """Raise _Left if the job has files that a pack can't hold."""
    others = [
        name
        for name in sorted(files.names_in(directory))
        if name not in snapshot.names and name != ARTIFACTS_NAME and name not in DERIVED
    ]
    if snapshot.left_out or others:
        names = ", ".join([*others, *snapshot.left_out][:_MAX_NAMED])
        raise _Left(f"no pack can hold {names}: move it away, or delete the job without a pack")


def _names(target: Path, job_id: str) -> Iterator[Path]:
    name = job_id.replace("/", "-")
    yield target / f"{name}.tar.gz"
    for number in itertools.count(2):
        yield target / f"{name}.{number}.tar.gz"


def _digests(contents: Contents) -> list[tuple[str, bytes]]:
    """Return the name and the SHA-256 of each file."""
    found = []
    for file in contents:
        digest = sha256()
        for piece in file.pieces:
            digest.update(piece)
        found.append((file.name, digest.digest()))
    return found
