"""The files of a job as of its last commit, read twice: to say what they are, and to hand them on.

A journal only grows, so what is before a seal stays. Artifacts are the caller's own, and may change
in between: one that has grown is taken as it was, one that is no longer the same ends it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from journal import files
from journal.archive import (
    ARTIFACTS_NAME,
    KEPT_NAME,
    PIECE_BYTES,
    Contents,
    Manifest,
    PackedFile,
    is_packable,
)
from journal.copies import Copy, blocks_since, open_copy, replay_copy
from journal.errors import PackError, StorageError
from journal.format import JOURNAL_NAME, now, time_text
from journal.index import STATUSES, Index
from journal.replay import START, Readable
from journal.version import VERSION


class Snapshot:
    """``left_out`` are files that no pack can hold; ``grown`` those that grew, as far as is known."""

    def __init__(self, copy: Copy, *, kept: bool = False) -> None:
        """Read all of the copy. ``kept``: with what recoveries, repairs and merges have put by.

        Raises JournalDamagedError, FormatVersionError, StorageError.
        """
        index = replay_copy(copy)
        self.left_out: list[str] = []
        self.grown: list[str] = []
        self._copy = copy
        size = copy.end.offset
        packed = [PackedFile(JOURNAL_NAME, size, _digest(pieces_of(copy.file, size)))]
        for name in self._names(kept=kept):
            try:
                file = files.DerivedFile(copy.directory / name)
                size = file.size_bytes()
                packed.append(PackedFile(name, size, _digest(pieces_of(file, size))))
            except FileNotFoundError:  # removed since it was listed
                continue
            except OSError as error:
                raise files.storage_error(copy.directory / name, "pack", error) from error
        self.manifest = Manifest(
            job_id=copy.header.id,
            host=files.host_name(),
            version=VERSION,
            made_at=time_text(now()),
            offset=copy.end.offset,
            crc=f"{copy.end.crc:08x}",
            rows=_counts(index),
            files=packed,
        )

    def _names(self, *, kept: bool) -> Iterator[str]:
        directory = self._copy.directory
        try:
            for name, packable in artifacts_of(directory):
                if packable:
                    yield name
                else:
                    self.left_out.append(name)
            if kept:
                yield from (
                    name
                    for name, regular in files.tree(directory)
                    if regular and KEPT_NAME.fullmatch(name)
                )
        except OSError as error:
            raise files.storage_error(directory, "pack", error) from error

    def contents(self) -> Contents:
        """The files, in the manifest's order. Raises StorageError for one that has changed."""
        for packed in self.manifest.files:
            yield packed, self._read(packed)

    def _read(self, packed: PackedFile) -> Iterator[bytes]:
        path = self._copy.directory / packed.name
        digest = sha256()
        try:
            file: files.JournalFile | files.DerivedFile = self._copy.file
            if packed.name != JOURNAL_NAME:
                file = files.DerivedFile(path)
            for piece in pieces_of(file, packed.size_bytes):
                digest.update(piece)
                yield piece
            if file.size_bytes() > packed.size_bytes and packed.name != JOURNAL_NAME:
                self.grown.append(packed.name)
        except OSError as error:
            raise files.storage_error(path, "pack", error) from error
        if digest.hexdigest() != packed.sha256:
            raise _changed(path)


def artifacts_of(directory: Path) -> Iterator[tuple[str, bool]]:
    """Each artifact of a job by its name in the job's directory, and whether a pack may hold it.

    Links aren't followed, not even one in the place of all of them. Raises StorageError.
    """
    top = directory / ARTIFACTS_NAME
    if files.exists(top) and (top.is_symlink() or not top.is_dir()):
        yield ARTIFACTS_NAME, False
        return
    try:
        for name, regular in files.tree(top):
            path = f"{ARTIFACTS_NAME}/{name}"
            yield path, regular and is_packable(path)
    except OSError as error:
        raise files.storage_error(top, "read", error) from error


def pieces_of(file: Readable, size: int) -> Iterator[bytes]:
    """``size`` bytes of a file. Raises OSError if it doesn't have them any more."""
    offset = 0
    while offset < size:
        piece = file.read_at(offset, min(PIECE_BYTES, size - offset))
        if not piece:
            raise OSError(errno.EIO, "it was cut while it was read; try again when it is at rest")
        offset += len(piece)
        yield piece


def _digest(pieces: Iterable[bytes]) -> str:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _changed(path: Path) -> StorageError:
    reason = "it changed while it was read; try again when nobody writes to it"
    return StorageError(path, "pack", errno.EAGAIN, reason)


# --- and made again -------------------------------------------------------------------------


def place(directory: Path, manifest: Manifest, contents: Contents, name: str) -> Copy:
    """Make the files of a job in an empty directory, check the journal, and return the copy.

    On the disk when it returns. Every seal is checked, and where they lead; what the records say
    is for who opens the job. Raises PackError, naming ``name``, if it isn't the job that the
    manifest says, JournalDamagedError, FormatVersionError, StorageError.
    """
    try:
        _write_all(directory, contents)
    except OSError as error:
        raise files.storage_error(directory, "write into", error) from error
    copy = open_copy(directory, name)
    if copy.header.id != manifest.job_id:
        raise PackError(name, f"its journal is that of job {copy.header.id!r}")
    if (copy.end.offset, f"{copy.end.crc:08x}") != (manifest.offset, manifest.crc):
        raise PackError(name, "its journal doesn't end with the seal that its manifest states")
    for _ in blocks_since(copy, START):
        pass
    return copy


def _write_all(directory: Path, contents: Contents) -> None:
    made = {directory}
    for packed, pieces in contents:
        path = directory / packed.name
        if path.parent not in made:
            files.make_directories(path.parent, directory)
            made |= {parent for parent in path.parents if parent.is_relative_to(directory)}
        file = files.NewFile(path)
        for piece in pieces:
            file.write(piece)
        file.sync()
        file.close()
    for parent in made:
        files.sync_directory(parent)


def _counts(index: Index) -> dict[str, int]:
    return {str(status): n for status, n in zip(STATUSES, index.tallies, strict=True)}
