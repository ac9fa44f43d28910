"""What a pack holds: which files of a job, and what its manifest says about them.

- ``is_packable`` decides for each file by its name, ``check_files`` for a manifest that is read.
- ``Manifest`` lists the files with their sizes and SHA-256.
- ``Snapshot`` lists and reads the files of a job as of its last commit.
- ``place`` makes a job again from its files.

A snapshot reads each file twice: first for its size and SHA-256, then to pass it on. A journal only
grows, so what stands before a seal stays. Artifacts belong to the user, and may change in between.
One that has grown is packed as it was. Any other change ends the pack with an error.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable, Iterator
from hashlib import sha256
from os import PathLike
from pathlib import Path

import msgspec

from journal.errors import FormatVersionError, JournalDamagedError, PackError, StorageError
from journal.format.commits import START, Readable
from journal.format.records import now
from journal.format.seal import crc_digits
from journal.fs import directories, handles, system
from journal.fs.beneath import Below
from journal.fs.handles import refusals_of
from journal.fs.names import ARTIFACTS_NAME, BACKUP, JOURNAL_NAME
from journal.index.columns import StatusColumns
from journal.index.index import STATUSES, Index
from journal.index.replay import replay
from journal.text import time_text
from journal.transfer.copies import Copy, open_copy
from journal.version import VERSION

PACK_FORMAT = 1
PIECE_BYTES = 1 << 20
MAX_NAME_BYTES = 4096
MAX_COMPONENTS = 64

_MAX_COMPONENT_BYTES = 255
_DIRECTORY_BYTES = 4096  # what a directory takes on most disks
_YOUNG_NS = 60 * 10**9
_MAX_YOUNG = 256  # of the usual limit of 1,024 open files

Contents = Iterable[tuple["PackedFile", Iterator[bytes]]]


def is_packable(name: str) -> bool:
    """Whether a file of a job, by its name relative to the job's directory, may be in a pack."""
    if name == JOURNAL_NAME or BACKUP.fullmatch(name):
        return True
    try:
        size = len(name.encode())
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:  # not UTF-8 on the disk
        return False
    return (
        parts[0] == ARTIFACTS_NAME.encode()
        and 1 < len(parts) <= MAX_COMPONENTS
        and size <= MAX_NAME_BYTES
        and all(
            part not in (b"", b".", b"..") and len(part) <= _MAX_COMPONENT_BYTES for part in parts
        )
        and "\0" not in name
    )


class PackedFile(msgspec.Struct, frozen=True):
    """A file in a pack: ``name`` is relative to the job's directory, ``sha256`` in hex."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a pack says about itself, and must hold.

    - ``offset`` and ``crc``: the end of the last commit in bytes, and its seal.
    - ``rows``: how many rows have each status.
    - ``files``: the other members, in their order.
    - ``host``, ``version`` (of this package) and ``made_at`` (ISO 8601 text) say for people where
      it comes from. They aren't checked.
    """

    pack: int = PACK_FORMAT
    job_id: str
    host: str
    version: str
    made_at: str
    offset: int
    crc: str
    rows: dict[str, int]
    files: list[PackedFile]

    @property
    def size_bytes(self) -> int:
        """What the unpacked job takes: its files, and a block for each directory."""
        count = sum(1 for _ in directories_of(file.name for file in self.files))
        return sum(file.size_bytes for file in self.files) + count * _DIRECTORY_BYTES


def check_files(manifest: Manifest, path: str | PathLike[str]) -> None:
    """Raise PackError, about the pack at ``path``, unless a pack may hold the manifest's files."""
    names = [file.name for file in manifest.files]
    if names[:1] != [JOURNAL_NAME] or manifest.files[0].size_bytes != manifest.offset:
        raise PackError(path, f"its manifest doesn't begin with a whole {JOURNAL_NAME}")
    if len(set(names)) != len(names):
        raise PackError(path, "its manifest names a file twice")
    for file in manifest.files:
        if not is_packable(file.name) or file.size_bytes < 0:
            raise PackError(path, f"a job has no file {file.name[:100]!r} that a pack may hold")
    for directory, is_file in _directories(names):
        if is_file:
            raise PackError(
                path, f"its manifest has {directory[:100]!r} as a file and as a directory"
            )


def directories_of(names: Iterable[str]) -> Iterator[str]:
    """The directories that files of these names need, each once, and after its parent."""
    return (directory for directory, _ in _directories(names))


def _directories(names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """As :func:`directories_of`; and whether the directory's name is also that of a file.

    A few names may need very many directories. So these are yielded one by one, and never held.
    """
    before = [""]
    # Sorted like this, files in a directory follow each other, after a file of its name.
    for name in sorted(names, key=lambda name: name.replace("/", "\0")):
        parts = name.split("/")
        known = 0
        while known < min(len(parts), len(before)) and parts[known] == before[known]:
            known += 1
        # The length of the previous name, in parts, if it is a directory of this one.
        file_before = len(before) if known == len(before) else 0
        for end in range(min(known, len(before) - 1) + 1, len(parts)):
            yield "/".join(parts[:end]), end == file_before
        before = parts


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
