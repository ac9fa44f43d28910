"""A pull brings a job up to date with another copy of the job.

If the other copy has all commits of the job here, and further commits, the further commits are
added byte for byte. If both copies were changed since their last common commit, the copies are
merged on request.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from journal.errors import (
    CopiesDivergedError,
    InvalidValueError,
    JournalError,
    StorageError,
)
from journal.format.commits import START, Position, blocks_between
from journal.format.seal import crc_digits
from journal.fs import files, handles
from journal.fs.file_names import OTHER_NAME, PULL_STAGING_NAME
from journal.index.index import Index
from journal.index.replay import apply_block, replay
from journal.store.journal import Journal
from journal.store.run_lock import RunLock
from journal.store.store import Store
from journal.transfer.artifacts import Artifacts
from journal.transfer.copies import Copy, Relation, holds, open_copy, relate
from journal.transfer.merge import Merged, MergeWriter
from journal.transfer.pack import Snapshot, Source, as_source, make_job, pieces_of, place
from journal.transfer.three_way import Judgement, Merge, Side

Action = Literal["made", "forwarded", "merged", "identical", "ahead"]


class Pulled(msgspec.Struct, frozen=True):
    """The result of :func:`pull_job`.

    - ``action``: "made", "forwarded" or "merged". If there was nothing to do, the action is
      "identical" or "ahead". "identical": the copies are equal. "ahead": the job here has further
      commits, or has merged the other copy.
    - ``commits``: the number of the other copy's commits that were appended.
    - ``artifacts``: the names of the artifacts that are new here.
    - ``left_out``: the names of the artifacts that can't be copied.
    - ``differing``: the names of the artifacts that differ. If a job is forwarded, an artifact that
      has only grown in the other copy counts as equal.
    - ``backups``: a dict from a name in ``differing`` to the name of the backup. If the job was
      forwarded, the backup is our file. If the job was merged, the backup is the other copy's file.
    - ``merged``: the result of the merge, or None.
    """

    job_id: str
    action: Action
    commits: int = 0
    artifacts: list[str] = msgspec.field(default_factory=list)
    differing: list[str] = msgspec.field(default_factory=list)
    backups: dict[str, str] = msgspec.field(default_factory=dict)
    left_out: list[str] = msgspec.field(default_factory=list)
    merged: Merged | None = None


def pull_job(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    job_id: str | None = None,
    *,
    merge: bool = False,
) -> Pulled:
    """Bring the job below ``root`` up to date with another copy of the job.

    - If the job isn't here, the job is made.
    - If the other copy has all commits of the job here, and further commits, the further commits
      are appended.
    - If the copies diverged, and ``merge`` is True, the copies are merged (see
      :mod:`journal.transfer.three_way`). Without ``merge``, CopiesDivergedError is raised, unless a
      merge would change nothing.
    - Artifacts that are missing here are always copied. For artifacts that differ, see
      :class:`journal.transfer.artifacts.Artifacts`.

    On return, everything survives a power cut. If this function raises, the journal is unchanged,
    except after CommitOutcomeUnknownError.

    Raises JobBusyError if a run works on the job here. Raises InvalidValueError if the job here is
    a different job with the same id. Raises InvalidValueError if ``job_id`` is given and isn't the
    id of the source's job. Raises JobPrunedError if the job was pruned here, and the source lacks
    commits of the pruned job. Also raises CopiesDivergedError, PackError, JournalDamagedError,
    FormatVersionError, JobLockedError, StorageError and CommitOutcomeUnknownError.
    """
    source = as_source(source)
    store = Store(Path(root), sync=True)
    if source.directory is None:
        found, contents = source.pack()
        _check_wanted(source, found, job_id)
        if not store.holds_job(found):
            made = make_job(store, found, contents, source.name)
            return Pulled(found, "made", artifacts=made.names)
        with store.scratch(found) as scratch:
            theirs = place(scratch, found, contents, source.name).copy
            return _pull(store, theirs, merge=merge)
    theirs = open_copy(source.directory, source.name)
    found = theirs.header.job_id
    _check_wanted(source, found, job_id)
    if not store.holds_job(found):
        snapshot = Snapshot(theirs, backups=True)
        made = make_job(store, found, snapshot.contents(), theirs.name)
        return Pulled(found, "made", artifacts=made.names, left_out=snapshot.left_out)
    return _pull(store, theirs, merge=merge)


def _check_wanted(source: Source, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise InvalidValueError(source.name, found, f"is another job than {wanted!r}")


def _pull(store: Store, theirs: Copy, *, merge: bool) -> Pulled:
    """Pull into a job that exists here."""
    job_id = theirs.header.job_id
    directory = store.directory(job_id)
    staging = directory / PULL_STAGING_NAME
    ours = open_copy(directory, may_be_cut=True)  # the other copy may bring back what is missing
    relation, fork = relate(ours, theirs)
    artifacts = Artifacts(directory, theirs.directory)
    run: RunLock | None = None
    try:
        if relation in ("identical", "ahead") and not (artifacts.look() or files.exists(staging)):
            return _pulled(job_id, relation, artifacts)
        run = RunLock.take(directory, job_id, lock_timeout_s=store.lock_timeout_s)
        if relation == "diverged" and not merge:
            relation = _merged_before(ours, theirs, fork)
        files.remove_tree(staging)  # a pull that died may have left it
        files.make_directory(staging)
        artifacts.look()
        artifacts.stage(differing=relation in ("behind", "diverged"))
        journal = Journal(directory, sync=True, lock_timeout_s=store.lock_timeout_s)
        journal.brings_back = partial(holds, theirs)
        journal.log.use_claim(run.claim)
        with journal:
            assert journal.index.state is not None
            header, end = journal.index.state.header, journal.log.end
            ours = Copy(os.fspath(directory), directory, journal.file, header, end)
            relation, fork = relate(ours, theirs)  # again: another process may have committed
            if relation == "diverged" and not merge:
                relation = _merged_before(ours, theirs, fork)
            if relation == "diverged":
                return _merge(journal, ours, theirs, fork, artifacts)
            if relation != "behind":
                artifacts.install(relation)
                return _pulled(job_id, relation, artifacts)
            pulled = _forward(journal, ours, theirs, artifacts)
        with suppress(JournalError):  # the commits are here in any case
            journal.leave_witness()  # the hint of the old journal is gone
        return pulled
    except OSError as error:
        path = Path(error.filename or directory)
        raise handles.storage_error(path, "pull into", error) from error
    finally:
        if run is not None:
            with suppress(OSError):  # if the directory stays, the next pull removes it
                files.remove_tree(staging)
            run.release()


def _merged_before(ours: Copy, theirs: Copy, fork: Position) -> Relation:
    """Return "ahead" if a merge of the other copy would change nothing.

    Otherwise raise CopiesDivergedError. If a journal is damaged, raises JournalDamagedError: the
    damage explains the difference.
    """
    if _merge_of(ours, theirs, fork).is_empty:
        return "ahead"
    line = theirs.file.count_lines(fork.offset) + 1
    raise CopiesDivergedError(theirs.header.job_id, line, fork.offset)


def _merge_of(ours: Copy, theirs: Copy, fork: Position) -> Merge:
    return Merge(_side(ours, fork), _side(theirs, fork))


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
        artifacts.backups,
        artifacts.left_out,
        merged,
    )


class Preview(msgspec.Struct, frozen=True):
    """The preview of :func:`pull_job`: see :func:`preview_pull`.

    - ``action``: as in :class:`Pulled`.
    - ``commits``: the commits that only the other copy has. ``our_commits``: the commits that only
      the job here has.
    - ``line``: the number of the first line that differs (1-based) if the copies diverged.
    - ``rows``: if the copies diverged, the judgements of a merge about the rows that the other copy
      has changed. The rows are in the order of their numbers here.
    """

    job_id: str
    action: Action
    commits: int = 0
    our_commits: int = 0
    line: int | None = None
    rows: list[Judgement] = msgspec.field(default_factory=list)


def preview_pull(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    job_id: str | None = None,
) -> Preview:
    """Return what :func:`pull_job` with ``merge`` would do now. Nothing is changed.

    The commits that only one copy has are read and verified. If the copies diverged, both journals
    are read as a whole. Artifacts aren't compared. Raises the errors of :func:`pull_job`.
    """
    source, store = as_source(source), Store(Path(root), sync=False)
    with source.copy() as theirs:
        found = theirs.header.job_id
        _check_wanted(source, found, job_id)
        if not store.holds_job(found):
            return Preview(found, "made", Side(theirs, Index(), START).commits)
        ours = open_copy(store.directory(found), may_be_cut=True)
        relation, fork = relate(ours, theirs)
        merge = _merge_of(ours, theirs, fork) if relation == "diverged" else None
        here, there = (
            (merge.here, merge.there)
            if merge
            else (Side(ours, Index(), fork), Side(theirs, Index(), fork))
        )
        action = "merged" if merge and not merge.is_empty else _ACTIONS[relation]
        return Preview(
            found,
            action,
            there.commits,
            here.commits,
            ours.file.count_lines(fork.offset) + 1 if merge else None,
            list(merge.judgements()) if merge else [],
        )


_ACTIONS: dict[Relation, Action] = {
    "identical": "identical",
    "ahead": "ahead",
    "behind": "forwarded",
    "diverged": "ahead",
}


def _side(copy: Copy, fork: Position) -> Side:
    # The replay also checks the whole journal of the copy.
    return Side(copy, replay(Index(), copy.file, START, copy.end), fork)


def _merge(
    journal: Journal, ours: Copy, theirs: Copy, fork: Position, artifacts: Artifacts
) -> Pulled:
    here = Side(ours, journal.index, fork, journal.read_line)
    merge = Merge(here, _side(theirs, fork))
    if merge.is_empty:
        artifacts.install("diverged")
        return _pulled(theirs.header.job_id, "ahead", artifacts)
    name = f"{OTHER_NAME}-{theirs.end.offset}-{crc_digits(theirs.end.crc)}"
    files.keep_copy(theirs.file, theirs.end.offset, journal.directory / name)
    merged = MergeWriter(journal, merge, fork, name).write()
    artifacts.install("diverged")
    return _pulled(theirs.header.job_id, "merged", artifacts, 1, merged)


def _forward(journal: Journal, ours: Copy, theirs: Copy, artifacts: Artifacts) -> Pulled:
    """Replace the journal with a new file, which has the missing commits, too.

    A power cut must not damage more than the last commit. So the commits aren't appended in place,
    where each commit would have to be synced before the write of the next commit. Artifacts are
    installed only after the new file is written, because a full disk usually refuses this write.
    """
    commits = 0
    for block in blocks_between(theirs.file, ours.end, theirs.end):
        apply_block(journal.index, theirs.file, block)  # checks the records
        commits += block.commits
    # The common part is copied from our own file. The equal seals make it very likely, but not
    # certain, that the common part is the same in both copies.
    old, missing = journal.file, blocks_between(theirs.file, ours.end, theirs.end)
    added = (b"\n".join([*block.lines, b""]) for block in missing)
    new = journal.log.write_beside(itertools.chain(pieces_of(old, ours.end.offset), added))
    try:
        artifacts.install("behind")  # artifacts must be synced before commits that name them
    except BaseException:
        journal.log.discard(new)
        raise
    try:
        journal.log.replace(new)
    except StorageError as error:
        if journal.file is old:
            raise
        raise handles.outcome_unknown(error) from error
    journal.log.begin_at(theirs.end)  # the index has the records up to there
    return _pulled(theirs.header.job_id, "forwarded", artifacts, commits)
