"""Packs: a job written into one file or stream, and made again from it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from journal.errors import InvalidValueError, JobExistsError
from journal.fs import files
from journal.fs.handles import refusals_of
from journal.fs.locks import LOCK_TIMEOUT_S
from journal.fs.output import Pipe, real_path, whole_file
from journal.store.store import Store
from journal.transfer.copies import open_copy
from journal.transfer.pack_contents import Contents, Manifest, Snapshot, place
from journal.transfer.source import Source, as_source, check_size
from journal.transfer.tarball import Compression, write_pack


class Packed(msgspec.Struct, frozen=True):
    """What :func:`pack_job` wrote.

    - ``left_out``: artifacts that no pack can hold, or that were removed while the job was packed.
      No pack can hold links, pipes, and names that aren't UTF-8 or have more than 64 parts or
      4,096 bytes.
    - ``grown``: artifacts that were appended to meanwhile. The pack holds them as they were.
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
    """Pass a pack of the job in ``directory``, as of its last commit, to ``write`` in pieces.

    Other processes may work on the job meanwhile. ``kept`` includes the backups that recoveries,
    repairs and merges have made. If this raises, what was written is incomplete, and unpacking it
    fails. Memory: one byte a row, and the names of the files.

    Raises JobNotFoundError, JournalDamagedError, FormatVersionError, InvalidValueError (this
    Python has no zstd), StorageError (also if an artifact was changed), and what ``write`` raises.
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
    """Write a pack, as :func:`pack_job` does, to a private file.

    The file is complete and synced when it appears, and replaces an earlier one. A pipe or a device
    is written to. Also raises what :func:`journal.fs.output.whole_file` raises.
    """
    # The files are listed first: the target may be among the artifacts.
    snapshot = Snapshot(open_copy(Path(directory)), backups=kept)
    path, place = Path(target), real_path(target)
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with (
            refusals_of(path, "write"),
            closing(Pipe(path, named=files.exists(place))) as stream,
        ):
            return _write(snapshot, stream.write, compression)
    with whole_file(target, force=True, private=True) as output, output.stream() as file:
        return _write(snapshot, file.write, compression)


def unpack_job(
    root: str | os.PathLike[str],
    source: Source | str | os.PathLike[str],
    *,
    max_bytes: int | None = None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Manifest:
    """Make the job that a pack holds below ``root``, completely or not at all.

    The whole pack is read and checked first: sizes, SHA-256, seals, records, the job's id, and its
    rows by status. A pack that holds more than ``max_bytes`` is refused; the default is what is
    free on the disk. On return the job survives a power cut.

    Raises PackError, JobExistsError (before anything is unpacked), FormatVersionError,
    StorageError, StoreError.
    """
    source = as_source(source)
    if source.directory is not None:
        raise InvalidValueError("source", source.name, "is a directory and not a pack")
    store = Store(Path(root), sync=True, lock_timeout_s=lock_timeout_s)
    with source.pack() as (manifest, contents):
        if store.holds_job(manifest.job_id):
            raise JobExistsError(manifest.job_id)
        check_size(source.name, manifest.size_bytes, max_bytes, store.root)
        make_job(store, manifest, contents, source.name)
    return manifest


def make_job(store: Store, manifest: Manifest, contents: Contents, name: str) -> list[str]:
    """Make a job from its files, as of the copy called ``name``; returns the names of the others
    than the journal.
    """

    def build(directory: Path) -> None:
        place(directory, manifest, contents, name).file.close()

    store.make(manifest.job_id, build)
    return [file.name for file in manifest.files[1:]]
