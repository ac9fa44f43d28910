"""The files of a job as of its last commit, read twice: to say what they are, and to hand them on.

A journal only grows, so what is before a seal stays. Artifacts are the caller's own, and may change
in between: one that has grown is taken as it was, one that is no longer the same ends it.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from journal.errors import (
    FormatVersionError,
    JournalDamagedError,
    PackError,
    StorageError,
)
from journal.format.commits import Readable
from journal.format.records import now
from journal.fs import directories, handles, system
from journal.fs.beneath import Below
from journal.fs.names import ARTIFACTS_NAME, BACKUP, JOURNAL_NAME
from journal.index.columns import StatusColumns
from journal.index.index import STATUSES, Index
from journal.text import time_text
from journal.transfer.copies import Copy, open_copy, replay_copy
from journal.transfer.tarball import (
    MAX_COMPONENTS,
    PIECE_BYTES,
    Contents,
    Manifest,
    PackedFile,
    directories_of,
    is_packable,
)
from journal.version import VERSION

_YOUNG_NS = 60 * 10**9
_MOST_YOUNG = 256  # of a usual 1,024 open files


class Snapshot:
    """``left_out`` are files that no pack can hold or that have gone; ``grown`` those that grew."""

    def __init__(self, copy: Copy, *, kept: bool = False) -> None:
        """Read all of the copy. ``kept``: with what recoveries, repairs and merges have put by.

        Memory: one byte a row, to count them, and the names of the files.

        Raises JournalDamagedError, FormatVersionError, StorageError.
        """
        index = replay_copy(copy, Index(StatusColumns()))
        self.left_out: list[str] = []
        self.grown: list[str] = []
        self._copy = copy
        self._below = Below(copy.directory)
        self._young: dict[str, handles.DerivedFile] = {}
        recent_ns = system.now_ns() - _YOUNG_NS
        size = copy.end.offset
        packed = [PackedFile(JOURNAL_NAME, size, _digest(pieces_of(copy.file, size)))]
        for name in self._names(kept=kept):
            try:
                file = self._below.opened(name)
                size = file.size_bytes()
                packed.append(PackedFile(name, size, _digest(pieces_of(file, size))))
                # A file on its way to another name: as long as we hold it, it is there.
                if len(self._young) < _MOST_YOUNG and file.changed_ns() > recent_ns:
                    self._young[name] = file
            except (FileNotFoundError, NotADirectoryError):  # removed since it was listed
                self.left_out.append(name)
            except OSError as error:
                raise handles.storage_error(copy.directory / name, "pack", error) from error
        self.manifest = Manifest(
            job_id=copy.header.id,
            host=system.host_name(),
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
                    for name in sorted(directories.names_in(directory))
                    if BACKUP.fullmatch(name) and self._below.is_file(name)
                )
        except OSError as error:
            raise handles.storage_error(directory, "pack", error) from error

    def contents(self) -> Contents:
        """The files, in the manifest's order. Raises StorageError for one that has changed."""
        for packed in self.manifest.files:
            yield packed, self._read(packed)

    def _read(self, packed: PackedFile) -> Iterator[bytes]:
        path = self._copy.directory / packed.name
        digest = sha256()
        try:
            file: handles.JournalFile | handles.DerivedFile = self._copy.file
            if packed.name != JOURNAL_NAME:
                file = self._young.pop(packed.name, None) or self._below.opened(packed.name)
            for piece in pieces_of(file, packed.size_bytes):
                digest.update(piece)
                yield piece
            if file.size_bytes() > packed.size_bytes and packed.name != JOURNAL_NAME:
                self.grown.append(packed.name)
        except OSError as error:
            raise handles.storage_error(path, "pack", error) from error
        if digest.hexdigest() != packed.sha256:
            raise _changed(path)


def artifacts_of(directory: Path) -> Iterator[tuple[str, bool]]:
    """Each artifact of a job by its name in the job's directory, and whether a pack may hold it.

    Links aren't followed, not even one in the place of all of them. Raises StorageError.
    """
    below = Below(directory)
    try:
        if below.exists(ARTIFACTS_NAME) and not below.is_directory(ARTIFACTS_NAME):
            yield ARTIFACTS_NAME, False
            return
        for name, regular in below.tree(ARTIFACTS_NAME, MAX_COMPONENTS):
            yield name, regular and is_packable(name)
    except OSError as error:
        raise handles.storage_error(directory / ARTIFACTS_NAME, "read", error) from error


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


def place(
    directory: Path, manifest: Manifest, contents: Contents, name: str, *, scratch: bool = False
) -> Copy:
    """Make the files of a job in an empty directory, check the journal, and return the copy.

    On the disk when it returns; ``scratch``: the journal alone, for a look, and never synced. All
    is read that was named, and every seal and record of the journal makes sense. Raises PackError,
    naming ``name``, if it isn't the job that the manifest says, FormatVersionError, StorageError.
    """
    try:
        _write_all(directory, manifest, contents, scratch=scratch)
    except OSError as error:
        raise handles.storage_error(directory, "write into", error) from error
    try:
        copy = open_copy(directory, name)
        index = replay_copy(copy, Index(StatusColumns()))
    except JournalDamagedError as error:  # its path is gone when this is read
        where = f"line {error.line} (byte {error.offset})"
        what = f"expected {error.expected}, found {error.found}"
        raise PackError(name, f"its journal is damaged at {where}: {what}") from None
    except FormatVersionError as error:
        raise FormatVersionError(name, error.what) from None
    if copy.header.id != manifest.job_id:
        raise PackError(name, f"its journal is that of job {copy.header.id!r}")
    if (copy.end.offset, f"{copy.end.crc:08x}") != (manifest.offset, manifest.crc):
        raise PackError(name, "its journal doesn't end with the seal that its manifest states")
    if _counts(index) != manifest.rows:
        raise PackError(name, "its journal hasn't the rows that its manifest counts")
    return copy


def _write_all(directory: Path, manifest: Manifest, contents: Contents, *, scratch: bool) -> None:
    below = Below(directory)
    for packed, pieces in contents:
        if scratch and packed.name != JOURNAL_NAME:
            for _ in pieces:  # which checks them
                pass
            continue
        file = below.create(packed.name)
        for piece in pieces:
            file.write(piece)
        if not scratch:
            file.sync()
        file.close()
    if not scratch:
        names = directories_of(packed.name for packed in manifest.files)
        below.sync_directories(itertools.chain([""], names))


def _counts(index: Index) -> dict[str, int]:
    return {str(status): n for status, n in zip(STATUSES, index.status_counts, strict=True)}
