"""Writes a job into a pack, which is one file or stream, and makes a job from a pack."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from journal.errors import InvalidValueError, JobExistsError
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.output import whole_file
from journal.store.pruned import find_pruned
from journal.store.store import Store
from journal.transfer.copies import holds, open_copy
from journal.transfer.pack_contents import Contents, Manifest, Snapshot, place
from journal.transfer.source import Source, as_source, check_size
from journal.transfer.tarball import Compression, write_pack


class Packed(msgspec.Struct, frozen=True):
    """The result of :func:`pack_job`.

    - ``manifest``: the manifest of the pack.
    - ``left_out``: the artifacts that aren't in the pack. Either they were removed while the job
      was packed, or no pack can hold them. A pack holds no links, no pipes, and no files with a
      name that isn't UTF-8, or that has more than 64 parts or 4,096 bytes.
    - ``grown``: the artifacts to which somebody appended bytes while the job was packed. The pack
      doesn't have these bytes.
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
    """Pass a pack of the job in ``directory`` to ``write``, in pieces.

    The pack contains the job up to its last commit. Other processes may work on the job at the same
    time. With ``kept``, the pack includes the backups that recoveries, repairs and merges made. If
    this function raises, the pack is incomplete, and can't be unpacked. The function needs memory
    for one byte for each row, and for the names of the files.

    Raises InvalidValueError if a pack in zstd is wanted and no library for zstd is installed, or if
    there are more artifacts than a pack can name. Raises StorageError, for example if an artifact
    was changed while it was packed. (If bytes were only appended, see :class:`Packed`.) Also raises
    JobNotFoundError, JournalDamagedError, FormatVersionError, and the errors of ``write``.
    """
    snapshot = Snapshot(open_copy(Path(directory), lock_timeout_s=lock_timeout_s), backups=kept)
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
    """Write a pack, as :func:`pack_job` does, to a file that only its owner may access.

    The file gets its name only after it is complete and synced. A file with the same name is
    replaced. This function also raises the errors of :func:`journal.fs.output.whole_file`.
    """
    # The files are listed first, since the target may be among the artifacts.
    snapshot = Snapshot(open_copy(Path(directory)), backups=kept)
    with whole_file(target, force=True, private=True) as output, output.stream() as file:
        return _write(snapshot, file.write, compression)


def unpack_job(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Manifest:
    """Make a job below ``root`` from a pack, completely or not at all.

    The job appears only after the whole pack was read and checked. The checks cover sizes, SHA-256,
    seals, records, the job's id, and the counts of rows by status. A pack is refused if the
    unpacked job would take more than ``max_bytes``. The default is the free space on the disk. On
    return, the job survives a power cut.

    Raises JobExistsError before anything is unpacked. Raises JobPrunedError if the job was pruned
    here, and the pack lacks commits of the pruned job. Also raises PackError, FormatVersionError,
    StorageError and StoreError.
    """
    source = as_source(source)
    if source.directory is not None:
        raise InvalidValueError("source", source.name, "is a directory and not a pack")
    store = Store(Path(root), sync=True, lock_timeout_s=lock_timeout_s)
    manifest, contents = source.pack()
    if store.holds_job(manifest.job_id):
        raise JobExistsError(manifest.job_id)
    check_size(source.name, manifest.size_bytes, max_bytes, store.root)
    make_job(store, manifest, contents, source.name)
    return manifest


def make_job(store: Store, manifest: Manifest, contents: Contents, name: str) -> list[str]:
    """Make a job from the files of another copy. Returns the names of all files except the journal.

    ``name`` is the name of the other copy in messages. If the job was pruned, raises JobPrunedError
    unless the other copy has all commits of the pruned job.
    """

    def build(directory: Path) -> None:
        copy = place(directory, manifest, contents, name)
        pruned = find_pruned(store.root, manifest.job_id)
        if pruned is not None and not holds(copy, pruned.end):
            raise pruned.error(name)
        copy.file.close()

    store.make(manifest.job_id, build, anew=True)
    return [file.name for file in manifest.files[1:]]
