"""The files of a job as of its last commit: listed with their sums, read for a pack, made again.

Each file is read twice: first for its size and SHA-256, then to be passed on. A journal only grows,
so what stands before a seal stays. Artifacts belong to the user, and may change in between. One
that has grown is packed as it was; any other change ends the pack with an error.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from journal.errors import FormatVersionError, JournalDamagedError, PackError, StorageError
from journal.format.commits import START, Readable
from journal.format.records import crc_digits, now
from journal.fs import directories, handles, system
from journal.fs.beneath import Below
from journal.fs.handles import refusals_of
from journal.fs.names import ARTIFACTS_NAME, BACKUP, JOURNAL_NAME
from journal.index.columns import StatusColumns
from journal.index.index import STATUSES, Index
from journal.index.replay import replay
from journal.text import time_text
from journal.transfer.copies import Copy, open_copy
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
_MAX_YOUNG = 256  # of the usual limit of 1,024 open files


class Snapshot:
    """The files of a copy.

    ``left_out`` are files that no pack can hold, or that were removed meanwhile; ``grown`` are
    those that grew.
    """

    def __init__(self, copy: Copy, *, backups: bool = False) -> None:
        """Read all of the copy; ``backups`` adds those of recoveries, repairs and merges.

        Memory: one byte a row, to count the rows, and the names of the files.

        Raises JournalDamagedError, FormatVersionError, StorageError.
        """
        index = replay(Index(StatusColumns()), copy.file, START, copy.end)
        self.left_out: list[str] = []
        self.grown: list[str] = []
        self._copy = copy
        self._below = Below(copy.directory)
        self._young: dict[str, handles.DerivedFile] = {}
        recent_ns = system.now_ns() - _YOUNG_NS
        size = copy.end.offset
        packed = [PackedFile(JOURNAL_NAME, size, _digest(pieces_of(copy.file, size)))]
        for name in self._names(backups=backups):
            with refusals_of(copy.directory / name, "pack"):
                try:
                    file = self._below.opened(name)
                    size = file.size_bytes()
                    packed.append(PackedFile(name, size, _digest(pieces_of(file, size))))
                    # It may soon be renamed, as files are when they are complete. Held open, it
                    # can still be read.
                    if len(self._young) < _MAX_YOUNG and file.changed_ns() > recent_ns:
                        self._young[name] = file
                except (FileNotFoundError, NotADirectoryError):  # removed since it was listed
                    self.left_out.append(name)
        self.manifest = Manifest(
            job_id=copy.header.id,
            host=system.host_name(),
            version=VERSION,
            made_at=time_text(now()),
            offset=copy.end.offset,
            crc=crc_digits(copy.end.crc),
            rows=_counts(index),
            files=packed,
        )

    def _names(self, *, backups: bool) -> Iterator[str]:
        directory = self._copy.directory
        with refusals_of(directory, "pack"):
            for name, packable in artifacts_of(directory):
                if packable:
                    yield name
                else:
                    self.left_out.append(name)
            for name in sorted(directories.names_in(directory)) if backups else ():
                if BACKUP.fullmatch(name) and self._below.is_file(name):
                    yield name

    def contents(self) -> Contents:
        """The files in the manifest's order. Raises StorageError for one that has changed."""
        for packed in self.manifest.files:
            yield packed, self._read(packed)

    def _read(self, packed: PackedFile) -> Iterator[bytes]:
        path = self._copy.directory / packed.name
        digest = sha256()
        with refusals_of(path, "pack"):
            file: handles.JournalFile | handles.DerivedFile = self._copy.file
            if packed.name != JOURNAL_NAME:
                file = self._young.pop(packed.name, None) or self._below.opened(packed.name)
            for piece in pieces_of(file, packed.size_bytes):
                digest.update(piece)
                yield piece
            if file.size_bytes() > packed.size_bytes and packed.name != JOURNAL_NAME:
                self.grown.append(packed.name)
        if digest.hexdigest() != packed.sha256:
            reason = "it changed while it was read; try again when nobody writes to it"
            raise StorageError(path, "pack", errno.EAGAIN, reason)


def artifacts_of(directory: Path) -> Iterator[tuple[str, bool]]:
    """Each artifact's name relative to the job's directory, and whether a pack may hold it.

    Links aren't followed, not even if ``artifacts`` itself is one. Raises StorageError.
    """
    below = Below(directory)
    with refusals_of(directory / ARTIFACTS_NAME, "read"):
        if below.exists(ARTIFACTS_NAME) and not below.is_directory(ARTIFACTS_NAME):
            yield ARTIFACTS_NAME, False
            return
        for name, regular in below.tree(ARTIFACTS_NAME, MAX_COMPONENTS):
            yield name, regular and is_packable(name)


def pieces_of(file: Readable, size: int) -> Iterator[bytes]:
    """The first ``size`` bytes of a file. Raises OSError if it no longer has that many."""
    offset = 0
    while offset < size:
        piece = file.read_at(offset, min(PIECE_BYTES, size - offset))
        if not piece:
            raise OSError(
                errno.EIO, "it was truncated while it was read; try again when nobody writes to it"
            )
        offset += len(piece)
        yield piece


def _digest(pieces: Iterable[bytes]) -> str:
    digest = sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def place(
    directory: Path, manifest: Manifest, contents: Contents, name: str, *, scratch: bool = False
) -> Copy:
    """Make the files of a job in an empty directory, check the journal, and return the copy.

    All contents are read, and every seal and record of the journal is checked. The files are synced
    when this returns. With ``scratch`` only the journal is written, and not synced.

    Raises PackError with ``name`` if it isn't the job that the manifest describes,
    FormatVersionError, StorageError.
    """
    with refusals_of(directory, "write into"):
        _write_all(directory, manifest, contents, scratch=scratch)
    try:
        copy = open_copy(directory, name)
        index = replay(Index(StatusColumns()), copy.file, START, copy.end)
    except JournalDamagedError as error:  # whose path will be gone
        where = f"line {error.line} (byte {error.offset})"
        what = f"expected {error.expected}, found {error.found}"
        raise PackError(name, f"its journal is damaged at {where}: {what}") from None
    except FormatVersionError as error:
        raise FormatVersionError(name, error.what) from None
    if copy.header.id != manifest.job_id:
        raise PackError(name, f"its journal is that of job {copy.header.id!r}")
    if (copy.end.offset, crc_digits(copy.end.crc)) != (manifest.offset, manifest.crc):
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
