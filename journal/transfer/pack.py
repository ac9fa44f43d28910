"""Writes a job into a pack, which is one file or stream, and makes a job from a pack."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from journal.errors import InvalidValueError
from journal.format.pruned import find_pruned
from journal.format.records import JobRecord
from journal.fs.output_files import whole_file
from journal.store.store import Store
from journal.transfer.copies import holds, open_copy
from journal.transfer.pack_contents import Contents, Placed, Snapshot, place
from journal.transfer.source import Source, as_source
from journal.transfer.tarball import write_pack


class Packed(msgspec.Struct, frozen=True):
    """The result of :func:`pack_job` and :func:`unpack_job`.

    - ``rows``: the number of rows.
    - ``offset``: the end of the journal's last commit in bytes.
    - ``files``: the names of the job's other files in the pack.
    - ``left_out``: the artifacts that aren't in the pack. Either they were removed while the job
      was packed, or no pack can hold them. A pack holds no links, no pipes, and no files with a
      name that isn't UTF-8, or that has more than 64 parts.
    """

    job_id: str
    rows: int
    offset: int
    files: list[str]
    left_out: list[str] = msgspec.field(default_factory=list)


def pack_job(directory: str | os.PathLike[str], write: Callable[[bytes], object]) -> Packed:
    """Pass a pack of the job in ``directory`` to ``write``, in pieces.

    The pack contains the job up to its last commit. Other processes may work on the job at the same
    time. The pack has no backups of recoveries, repairs and merges. If this function raises, the pack
    is incomplete, and can't be unpacked. The function needs memory for the index of the job, and for
    the names of the files.

    Raises InvalidValueError if there are more artifacts than a pack can name. Raises StorageError,
    for example if an artifact was truncated while it was packed. (Bytes that are appended meanwhile
    are left out.) Also raises JobNotFoundError, JournalDamagedError, FormatVersionError, and the
    errors of ``write``.
    """
    snapshot = Snapshot(open_copy(Path(directory)))
    return _write(snapshot, write)


def _write(snapshot: Snapshot, write: Callable[[bytes], object]) -> Packed:
    copy = snapshot.copy
    write_pack(write, copy.header.job_id, snapshot.contents())
    files = [name for name in snapshot.names[1:] if name not in snapshot.left_out]
    return Packed(copy.header.job_id, snapshot.rows, copy.end.offset, files, snapshot.left_out)


def pack_to_file(directory: str | os.PathLike[str], target: str | os.PathLike[str]) -> Packed:
    """Write a pack, as :func:`pack_job` does, to a file that only its owner may access.

    The file gets its name only after it is complete and synced. A file with the same name is
    replaced. This function also raises the errors of :func:`journal.fs.output_files.whole_file`.
    """
    # The files are listed first, since the target may be among the artifacts.
    snapshot = Snapshot(open_copy(Path(directory)))
    with whole_file(target, force=True, private=True) as output, output.stream() as file:
        return _write(snapshot, file.write)


def unpack_job(root: str | os.PathLike[str], source: Source | str | os.PathLike[str]) -> Packed:
    """Make a job below ``root`` from a pack, completely or not at all.

    The job appears only after the whole pack was read and checked. The checks cover gzip's CRC-32,
    the names of the files, seals, records, and the job's id. If the unpacked job would take more
    than the free space on the disk, StorageError is raised. On return, the job survives a power cut.

    Raises JobExistsError before anything is unpacked. Raises JobPrunedError if the job was pruned
    here, and the pack lacks commits of the pruned job. Also raises PackError, FormatVersionError,
    and StorageError.
    """
    source = as_source(source)
    if source.directory is not None:
        raise InvalidValueError("source", source.name, "is a directory and not a pack")
    store = Store(Path(root), sync=True)
    job_id, contents = source.pack()
    made = make_job(store, job_id, contents, source.name)
    return Packed(job_id, made.rows, made.copy.end.offset, made.names)


def _check_key(store: Store, header: JobRecord) -> None:
    """Raise InvalidValueError if the shards that are here have another key than a new one."""
    shard_id = next(store.shards(header.id), None) if header.shard is not None else None
    if shard_id is None or header.shard is None:
        return
    here = open_copy(store.directory(shard_id), may_be_cut=True).header
    if here.shard is not None and here.shard.key != header.shard.key:
        reason = (
            f"has another key than {here.job_id}, so a row may be in both: gather one set at a time"
        )
        raise InvalidValueError("shard", header.job_id, reason)


def make_job(store: Store, job_id: str, contents: Contents, name: str) -> Placed:
    """Make a job from the files of another copy.

    ``name`` is the name of the other copy in messages. If the job was pruned, raises JobPrunedError
    unless the other copy has all commits of the pruned job.
    """
    made: Placed

    def build(directory: Path) -> None:
        nonlocal made
        made = place(directory, job_id, contents, name)
        pruned = find_pruned(store.root, job_id)
        if pruned is not None and not holds(made.copy, pruned.end):
            raise pruned.error(name)
        made.copy.file.close()
        _check_key(store, made.copy.header)

    store.make(job_id, build, anew=True)
    return made
