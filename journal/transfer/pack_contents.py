"""The contents of a pack: which files of a job it has, and its manifest.

- ``is_packable`` decides by a file's name whether a pack may have the file. ``check_files`` checks
  the files of a manifest.
- ``Manifest`` lists the files with their sizes and SHA-256.
- ``Snapshot`` lists and reads the files of a job.
- ``place`` makes a job from its files.

A snapshot reads each file twice: first for its size and SHA-256, then for the pack. A journal only
grows, so the bytes up to the end of a commit stay the same. Artifacts belong to the user, and may
change between the two reads. If an artifact has grown, the pack has the bytes of the first read.
After any other change of an artifact, packing fails with an error.
"""

from __future__ import annotations

import errno
import itertools
import re
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
# The space that a directory takes on most disks, or the rest of a file's last block with its inode.
_ENTRY_BYTES = 4096
_YOUNG_NS = 60 * 10**9
_MAX_YOUNG = 256  # how many recently changed files stay open; a process may usually open 1,024

Contents = Iterable[tuple["PackedFile", Iterator[bytes]]]


def is_packable(name: str) -> bool:
    """Return whether a pack may have a file of this name.

    ``name`` is relative to the job's directory.
    """
    if name == JOURNAL_NAME or re.fullmatch(BACKUP, name):
        return True
    try:
        size = len(name.encode())
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:  # the name on the disk isn't UTF-8
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
    """A file in a pack. ``name`` is relative to the job's directory; ``sha256`` is in hex."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a pack, and the pack's first member.

    The other members must agree with this description.

    - ``offset``: the end of the journal's last commit in bytes. ``crc``: the digits of the seal
      (the CRC-32) of this commit.
    - ``rows``: a dict from each status to the number of rows.
    - ``files``: the other members of the pack, in order.
    - ``host``, ``version`` (of this package), ``made_at`` (ISO 8601 text): the origin of the pack.
      These fields are for people, and aren't checked.
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
        """The space that the unpacked job takes: the files, and a block for each name."""
        count = len(self.files) + sum(1 for _ in directories_of(file.name for file in self.files))
        return sum(file.size_bytes for file in self.files) + count * _ENTRY_BYTES


def check_files(manifest: Manifest, path: str | PathLike[str]) -> None:
    """Check that a pack may have the files in a manifest. Raises PackError about ``path``."""
    names = [file.name for file in manifest.files]
    if names[:1] != [JOURNAL_NAME] or manifest.files[0].size_bytes != manifest.offset:
        raise PackError(path, f"its manifest doesn't begin with a whole {JOURNAL_NAME}")
    if len(set(names)) != len(names):
        raise PackError(path, "its manifest names a file twice")
    for file in manifest.files:
        if not is_packable(file.name) or file.size_bytes < 0:
            raise PackError(path, f"its manifest names {file.name[:100]!r}, which no pack may have")
    for directory, is_file in _directories(names):
        if is_file:
            raise PackError(
                path, f"its manifest has {directory[:100]!r} as a file and as a directory"
            )


def directories_of(names: Iterable[str]) -> Iterator[str]:
    """Yield the directories that files of these names need, each directory after its parent."""
    return (directory for directory, _ in _directories(names))


def _directories(names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield each directory of :func:`directories_of`, and whether a file has the same name.

    Even a few names can need very many directories. So the directories aren't kept in memory.
    """
    before = [""]
    # This order puts the files of a directory next to each other. A file with the directory's own
    # name comes directly before them.
    for name in sorted(names, key=lambda name: name.replace("/", "\0")):
        parts = name.split("/")
        known = 0
        while known < min(len(parts), len(before)) and parts[known] == before[known]:
            known += 1
        # The number of parts of the previous name if the previous name is a directory of this name.
        file_before = len(before) if known == len(before) else 0
        for end in range(min(known, len(before) - 1) + 1, len(parts)):
            yield "/".join(parts[:end]), end == file_before
        before = parts


class Snapshot:
    """The files of a copy, up to its last commit.

    ``left_out``: files that no pack can hold, and files that were removed before they were read.
    ``grown``: files that have grown between the two reads.
    """

    def __init__(self, copy: Copy, *, backups: bool = False) -> None:
        """Read the whole copy; :meth:`contents` reads it again. With ``backups``, include backups.

        This needs memory for the names of the files, and for one byte for each row, since the rows
        are counted. Raises JournalDamagedError, FormatVersionError, StorageError.
        """
        index = replay(Index(StatusColumns()), copy.file, START, copy.end)
        self.left_out: list[str] = []
        self.grown: list[str] = []
        self._copy = copy
        self._below = Below(copy.directory, is_to_copy=True)
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
                    # Programs often rename a file when it is complete. So a new file may soon have
                    # a different name. It stays open here, so that it can still be read.
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
                if re.fullmatch(BACKUP, name) and self._below.is_file(name):
                    yield name

    def contents(self) -> Contents:
        """Yield the files in the manifest's order.

        Raises StorageError if a file has changed since the first read, unless it has only grown.
        """
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
    """Yield the name of each artifact, and whether a pack may have it.

    Names are relative to the job's directory. Links aren't followed, even if ``artifacts`` itself
    is a link. Raises StorageError.
    """
    below = Below(directory)
    with refusals_of(directory / ARTIFACTS_NAME, "read"):
        if below.exists(ARTIFACTS_NAME) and not below.is_directory(ARTIFACTS_NAME):
            yield ARTIFACTS_NAME, False
            return
        for name, regular in below.tree(ARTIFACTS_NAME, MAX_COMPONENTS):
            yield name, regular and is_packable(name)


def write_new(
    directory: Below, name: str, pieces: Iterable[bytes], *, below: str = "", sync: bool = True
) -> None:
    """Write a file of another copy to ``below`` + ``name``: see :meth:`Below.write`.

    Raises FileExistsError if the file system treats two names of the other copy as the same name.
    """
    try:
        directory.write(below + name, pieces, sync=sync)
    except FileExistsError as error:
        reason = (
            f"{name!r} and another file of the copy are one name on this file system, which ignores "
            "case or the form of accents: rename one of them in the other copy, and try again"
        )
        raise FileExistsError(errno.EEXIST, reason) from error


def pieces_of(file: Readable, size: int) -> Iterator[bytes]:
    """Yield the first ``size`` bytes of a file. Raises OSError if the file is shorter."""
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
    on return. With ``scratch``, only the journal is written, and it isn't synced.

    If the files don't agree with the manifest, raises PackError about the pack ``name``. Also
    raises FormatVersionError and StorageError.
    """
    with refusals_of(directory, "write into"):
        _write_all(directory, manifest, contents, scratch=scratch)
    try:
        copy = open_copy(directory, name)
        index = replay(Index(StatusColumns()), copy.file, START, copy.end)
    except JournalDamagedError as error:  # the path in the error will soon be gone
        where = f"line {error.line} (byte {error.offset})"
        what = f"expected {error.expected}, found {error.found}"
        raise PackError(name, f"its journal is damaged at {where}: {what}") from None
    except FormatVersionError as error:
        raise FormatVersionError(name, error.what) from None
    if copy.header.id != manifest.job_id:
        raise PackError(name, f"its journal belongs to job {copy.header.id!r}")
    if (copy.end.offset, crc_digits(copy.end.crc)) != (manifest.offset, manifest.crc):
        raise PackError(name, "its journal doesn't end with the seal that its manifest states")
    if _counts(index) != manifest.rows:
        raise PackError(name, "the rows in its journal don't match the counts in its manifest")
    return copy


def _write_all(directory: Path, manifest: Manifest, contents: Contents, *, scratch: bool) -> None:
    below = Below(directory)
    for packed, pieces in contents:
        if scratch and packed.name != JOURNAL_NAME:
            for _ in pieces:  # reading the pieces checks their SHA-256
                pass
            continue
        write_new(below, packed.name, pieces, sync=not scratch)
    if not scratch:
        names = directories_of(packed.name for packed in manifest.files)
        below.sync_directories(itertools.chain([""], names))


def _counts(index: Index) -> dict[str, int]:
    return {str(status): n for status, n in zip(STATUSES, index.status_counts, strict=True)}
