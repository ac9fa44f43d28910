"""A job moved between machines: packed, unpacked, compared, pulled.

What a job is, on any machine, is its journal and its artifacts. A copy that was taken at any moment
is a beginning of it; from then on the two are told apart by their seals.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import (
    CommitOutcomeUnknownError,
    CopiesDivergedError,
    InvalidValueError,
    JobExistsError,
)
from journal.format.commits import START, Position
from journal.fs import directories, files, handles
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.names import OTHER_NAME, PULL_STAGING_NAME
from journal.fs.output import Pipe, real_path, whole_file
from journal.store.journal import Journal
from journal.store.run_lock import RunLock
from journal.store.store import Store
from journal.transfer.artifacts import Artifacts
from journal.transfer.copies import (
    Comparison,
    Copy,
    compare,
    open_copy,
    relate,
    seal_before,
    with_line,
)
from journal.transfer.merge import Merged, write_merge
from journal.transfer.merge_plan import Plan
from journal.transfer.pull import forward, replay_missing
from journal.transfer.snapshot import Snapshot, place
from journal.transfer.source import Source, as_source, check_size
from journal.transfer.tarball import (
    Compression,
    Contents,
    Manifest,
    write_pack,
)

# --- pack and unpack -------------------------------------------------------------------------


class Packed(msgspec.Struct, frozen=True):
    """What :func:`pack_job` wrote.

    ``left_out``: artifacts that no pack can hold (links, pipes, names that aren't UTF-8, have more
    than 64 parts or 4,096 bytes), or that have gone since they were listed.
    ``grown``: those that were written to meanwhile; the pack holds them as they were.
    """

    manifest: Manifest
    left_out: list[str]
    grown: list[str]


def pack_job(
    directory: str | os.PathLike[str],
    write: Callable[[bytes], object],
    compression: Compression = "gz",
    *,
    kept: bool = False,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Packed:
    """Give ``write`` a pack of the job in ``directory``, as of its last commit, piece by piece.

    Others may work on the job meanwhile. ``kept``: with the files that recoveries, repairs and
    merges have put by. If it raises, what was written is no whole pack, and unpacking it fails.
    Memory: one byte a row and the names of the files, however large these are. Raises
    JobNotFoundError, JournalDamagedError, FormatVersionError, InvalidValueError (no zstd here),
    StorageError (an artifact was changed, too), and what ``write`` does.
    """
    snapshot = Snapshot(open_copy(Path(directory), lock_timeout_s=lock_timeout_s), kept=kept)
    return _write(snapshot, write, compression)


def _write(
    snapshot: Snapshot, write: Callable[[bytes], object], compression: Compression
) -> Packed:
    write_pack(write, snapshot.manifest, snapshot.contents(), compression)
    return Packed(snapshot.manifest, snapshot.left_out, snapshot.grown)


def pack_to_file(
    directory: str | os.PathLike[str],
    target: str | os.PathLike[str],
    compression: Compression = "gz",
    *,
    kept: bool = False,
) -> Packed:
    """As :func:`pack_job`, to a private file that appears whole, in the place of another, and synced.

    See :func:`journal.fs.output.whole_file`, also for what else is raised. A pipe or a device is
    written to.
    """
    # First: the target may be among the artifacts.
    snapshot = Snapshot(open_copy(Path(directory)), kept=kept)
    path, place = Path(target), real_path(target)
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        try:
            stream = Pipe(path, named=files.exists(place))
            try:
                return _write(snapshot, stream.write, compression)
            finally:
                stream.close()
        except OSError as error:
            raise handles.storage_error(path, "write", error) from error
    with whole_file(target, force=True, private=True) as output, output.stream() as file:
        return _write(snapshot, file.write, compression)


def unpack_job(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Manifest:
    """Make the job that a pack holds, whole or not at all, below ``root``.

    All of the pack is read and checked first: sizes, SHA-256, seals, records, the job's id, its
    rows by status. ``max_bytes``: refuse one that holds more; by default, more than is free on the
    disk. On return the job is there and survives a power cut. Raises PackError, JobExistsError
    (before anything is unpacked), FormatVersionError, StorageError, StoreError.
    """
    source = as_source(source)
    if source.directory is not None:
        raise InvalidValueError("source", source.name, "is a directory and not a pack")
    store = Store(Path(root), sync=True, lock_timeout_s=lock_timeout_s)
    with source.pack() as (manifest, contents):
        if store.holds_job(manifest.job_id):
            raise JobExistsError(manifest.job_id)
        check_size(source.name, manifest.size_bytes, max_bytes, store.root)
        _make_from_pack(store, manifest, contents, source.name)
    return manifest


def _make_from_pack(store: Store, manifest: Manifest, contents: Contents, name: str) -> None:
    def build(directory: Path) -> None:
        place(directory, manifest, contents, name).file.close()

    store.make(manifest.job_id, build)


# --- compare and pull ------------------------------------------------------------------------


def compare_copies(
    ours: Source | str | os.PathLike[str],
    theirs: Source | str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
) -> Comparison:
    """Tell two copies of a job apart, with the line: see :func:`journal.transfer.copies.compare`.

    ``max_bytes``: refuse a pack that holds more; by default, one whose journal is more than is free
    in the directory for temporary files. Also raises PackError.
    """
    with as_source(ours).copy(max_bytes) as a, as_source(theirs).copy(max_bytes) as b:
        return with_line(compare(a, b), a)


Action = Literal["made", "forwarded", "merged", "identical", "ahead"]


class Pulled(msgspec.Struct, frozen=True):
    """What :func:`pull_job` did.

    ``action``: "made" the job, "forwarded" it by ``commits``, "merged" another history, or
    nothing: it was "identical" or "ahead". ``artifacts`` are the names of those that are new
    here, ``left_out`` of those that can't be copied, ``differing`` of those that differ (but for
    those that had only grown there). Of these, ``put_by`` says under which name another file is
    kept: ours if "forwarded", the other's if "merged".
    """

    job_id: str
    action: Action
    commits: int = 0
    artifacts: list[str] = msgspec.field(default_factory=list)
    differing: list[str] = msgspec.field(default_factory=list)
    put_by: dict[str, str] = msgspec.field(default_factory=dict)
    left_out: list[str] = msgspec.field(default_factory=list)
    merged: Merged | None = None


def pull_job(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    job_id: str | None = None,
    *,
    merge: bool = False,
    max_bytes: int | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Pulled:
    """Bring the job below ``root`` to where another copy of it is, if it is the beginning of that.

    A job that isn't here is made. Artifacts that are missing here are copied, however the copies
    stand to each other; for those that differ see :class:`journal.transfer.artifacts.Artifacts`. ``merge``:
    copies that have diverged are merged: see :mod:`journal.transfer.merge`. ``max_bytes`` as of
    :func:`unpack_job`. On return all of it survives a power cut; on an error the journal is as it
    was.

    Raises CopiesDivergedError, JobBusyError (a run works on the job here), InvalidValueError (it
    is another job, or not ``job_id``), PackError, JournalDamagedError, FormatVersionError,
    JobLockedError, StorageError, StoreError.
    """
    source = as_source(source)
    store = Store(Path(root), sync=True, lock_timeout_s=lock_timeout_s)
    if source.directory is None:
        with source.pack() as (manifest, contents):
            _check_wanted(source, manifest.job_id, job_id)
            check_size(source.name, manifest.size_bytes, max_bytes, store.root)
            if not store.holds_job(manifest.job_id):
                _make_from_pack(store, manifest, contents, source.name)
                names = [file.name for file in manifest.files[1:]]
                return Pulled(manifest.job_id, "made", artifacts=names)
            with store.scratch(manifest.job_id) as scratch:
                theirs = place(scratch, manifest, contents, source.name)
                return _pull(store, theirs, merge=merge)
    theirs = open_copy(source.directory, source.name)
    _check_wanted(source, theirs.header.id, job_id)
    return _pull(store, theirs, merge=merge)


def _check_wanted(source: Source, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise InvalidValueError(source.name, found, f"is another job than {wanted!r}")


def _pull(store: Store, theirs: Copy, *, merge: bool) -> Pulled:
    job_id = theirs.header.id
    if not store.holds_job(job_id):
        snapshot = Snapshot(theirs, kept=True)

        def build(directory: Path) -> None:
            place(directory, snapshot.manifest, snapshot.contents(), theirs.name).file.close()

        store.make(job_id, build)
        names = [file.name for file in snapshot.manifest.files[1:]]
        return Pulled(job_id, "made", artifacts=names, left_out=snapshot.left_out)
    directory = store.directory(job_id)
    ours = open_copy(directory)
    relation, fork = relate(ours, theirs)
    artifacts = Artifacts(ours, theirs)
    if relation in ("identical", "ahead") and not (
        artifacts.look() or files.exists(directory / PULL_STAGING_NAME)
    ):
        return _pulled(job_id, relation, artifacts)
    run = RunLock.take(directory, job_id)
    try:
        if relation == "diverged" and not merge:
            raise _diverged(theirs, fork)
        directories.remove_tree(directory / PULL_STAGING_NAME)  # of a pull that died
        directories.make_directory(directory / PULL_STAGING_NAME)
        artifacts.look()
        artifacts.stage(differing=relation in ("behind", "diverged"))
        journal = Journal(directory, sync=True, lock_timeout_s=store.lock_timeout_s)
        with journal:
            ours = _under_lock(journal)
            relation, fork = relate(ours, theirs)  # others may have committed since
            if relation == "behind":
                return _forward(journal, ours, theirs, artifacts)
            if relation == "diverged":
                if not merge:
                    raise _diverged(theirs, fork)
                return _merge(journal, ours, theirs, fork, artifacts)
            artifacts.install(relation)
            return _pulled(job_id, relation, artifacts)
    except OSError as error:
        raise handles.storage_error(directory, "pull into", error) from error
    finally:
        with suppress(OSError):  # what is left of it, the next pull removes
            directories.remove_tree(directory / PULL_STAGING_NAME)
        run.release()


def _forward(journal: Journal, ours: Copy, theirs: Copy, artifacts: Artifacts) -> Pulled:
    assert journal.index.state is not None
    commits = replay_missing(journal, ours, theirs)
    try:
        artifacts.install("behind")  # before the commits that name them are on the disk
        forward(journal, ours, theirs, commits)
    except CommitOutcomeUnknownError:
        raise
    except BaseException:
        artifacts.put_back()
        raise
    return _pulled(theirs.header.id, "forwarded", artifacts, commits)


def _merge(
    journal: Journal, ours: Copy, theirs: Copy, fork: Position, artifacts: Artifacts
) -> Pulled:
    plan = Plan(journal, ours, theirs, fork)
    if plan.is_empty:
        artifacts.install("diverged")
        return _pulled(theirs.header.id, "ahead", artifacts)
    name = f"{OTHER_NAME}-{theirs.end.offset}-{theirs.end.crc:08x}"
    files.keep_copy(theirs.file, theirs.end.offset, journal.directory / name)
    merged = write_merge(journal, plan, name)
    artifacts.install("diverged")
    return _pulled(theirs.header.id, "merged", artifacts, 1, merged)


def _pulled(
    job_id: str,
    action: Action,
    artifacts: Artifacts,
    commits: int = 0,
    merged: Merged | None = None,
) -> Pulled:
    return Pulled(
        job_id,
        action,
        commits,
        artifacts.new,
        artifacts.differing,
        artifacts.put_by,
        artifacts.left_out,
        merged,
    )


def _diverged(theirs: Copy, fork: Position) -> CopiesDivergedError:
    line = theirs.file.count_lines(fork.offset) + 1
    return CopiesDivergedError(theirs.header.id, line, fork.offset)


def _under_lock(journal: Journal) -> Copy:
    """Our copy, whose writers are locked out by ``journal``'s commit."""
    assert journal.index.state is not None
    end = seal_before(journal.file, journal.end) or START
    return Copy(
        os.fspath(journal.directory),
        journal.directory,
        journal.file,
        journal.index.state.header,
        end,
    )
