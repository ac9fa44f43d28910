"""Recovery: puts a journal in order before the next commit.

Recovery handles

- padding, a torn tail (an interrupted write), or unsynced commits of a writer that died,
- the mark of a failed sync (see ``fs/sync_mark.py``),
- a last line without its LF,
- a file that another copy of the job shares by a hard link.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from journal.errors import StorageError
from journal.format.commits import START, verified_blocks
from journal.format.torn_tail_or_damage import without_padding
from journal.fs import files, handles
from journal.fs.file_names import NEW_JOURNAL_NAME, TORN_NAME
from journal.ids import split_shard_name
from journal.store.log import Log


def recover(log: Log) -> None:
    """Put a log in order before a commit, if necessary.

    The caller must hold the commit lock, and must have read the log to its end.
    """
    file = log.file
    is_ready = file.writable and log.is_synced and not (log.torn_end or file.is_shared)
    if is_ready and log.doubtful_from() is None:
        return
    if not file.writable:
        raise StorageError(log.path, "write", errno.EROFS, file.refusal)
    # A writer that died may have left this file. This process holds the lock, so no other process
    # uses the file.
    files.remove_file(log.path.with_name(NEW_JOURNAL_NAME))
    if file.unended_at >= 0:
        file.end_last_line()
    if log.torn_end:
        _cut_torn_tail(log)
    if log.syncs:
        # If a writer died between its write and its sync, its commits may not be on the disk. Sync
        # them now: a power cut must not damage more than the last commit.
        _sync_names(log)
        _sync_commits(log)
    if log.file.is_shared:
        _rewrite(log, "so that no copy shares it by a hard link")
    log.is_synced = True


def _cut_torn_tail(log: Log) -> None:
    """Save the torn tail (an interrupted write) to a file, then truncate the journal.

    Padding is not saved.
    """
    end = log.end.offset
    target = log.directory / f"{TORN_NAME}-{end}"
    if without_padding(log.file, log.torn_end, end) > end:
        with handles.refusals_of(target, "save the torn tail in"):
            files.save_copy(log.file, end, log.torn_end, target, sync=log.syncs)
            if log.syncs:  # sync before truncating, so that a power cut can't lose tail and copy
                files.sync_directory(log.directory)
    log.file.truncate(end)
    log.torn_end = 0


def _sync_names(log: Log) -> None:
    """Sync the directories that lead to the file.

    The program that made or copied the job may not have synced these directories.
    """
    if log.are_names_synced:
        return
    root = log.directory.parent.resolve()
    is_shard = split_shard_name(log.directory.name) is not None  # the parent of a shard is the set
    above = [root, *root.parents[: 2 if is_shard else 1]]
    for path in (log.directory, *above):
        try:
            files.sync_directory(path)
        except OSError as error:
            if path == above[-1] and isinstance(error, PermissionError):
                continue  # this process may not open the directory, so it made no name there
            raise handles.storage_error(path, "sync", error) from error
    log.are_names_synced = True


def _sync_commits(log: Log) -> None:
    """Sync the commits of other writers.

    Rewrite the journal if an earlier sync has left bytes in doubt, or if this sync fails.
    """
    start = log.doubtful_from(make=True)
    # Nothing is in doubt, or all bytes in doubt were cut off.
    if start is None or 0 < start == log.end.offset:
        try:
            log.sync(start or 0)
        except StorageError:
            if log.doubtful_from() is None:
                raise  # the mark could not be set, so nothing was synced
        else:
            return
    _rewrite(log, "since a sync of it has failed or was interrupted")


def _rewrite(log: Log, why: str) -> None:
    """Replace the journal with a copy, because bytes in the cache may be missing on the disk.

    Overwriting the file with the same bytes wouldn't help. A block that was allocated for a failed
    write may read as zeros after the next boot, even if the block was written again.
    """
    file, end = log.file, log.end.offset

    def commits() -> Iterator[bytes]:
        found = START.offset
        for block in verified_blocks(file, START, end):
            text = b"\n".join([*block.lines, b""])
            found += len(text)
            yield text
        if found != end:  # the cache no longer has the bytes
            log.is_new = True  # the journal must be read again
            reason = f"only {found} of its {end} bytes can be read again"
            raise StorageError(log.path, "read", errno.EIO, reason)

    try:
        log.replace(log.write_beside(commits(), keep_owner=True))
    except StorageError as error:
        at = "" if error.path == str(log.path) else f"{error.path}: "
        reason = f"{at}{error.reason} (the copy takes {end} bytes; your change was not made)"
        operation = f"write, {why}, a copy of"
        raise StorageError(log.path, operation, error.errno, reason) from error
