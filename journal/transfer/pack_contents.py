"""The files of a copy: which files of a job it has, and how they are read and made.

- ``is_packable`` decides by a file's name whether a copy may have the file.
- ``Snapshot`` lists and reads the files of a job.
- ``place`` makes a job from its files.

A journal only grows, so the bytes up to the end of a commit stay the same. Artifacts belong to the
user, and may change while they are read. If an artifact has grown, the copy has the bytes up to its
earlier size.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from journal.errors import FormatVersionError, InvalidValueError, JournalDamagedError, PackError
from journal.format.commits import START
from journal.fs import files
from journal.fs.file_names import ARTIFACTS_NAME, BACKUP, CLAIMS_NAME, JOURNAL_NAME
from journal.fs.handles import DerivedFile, JournalFile, refusals_of
from journal.fs.network_claims import late_files
from journal.fs.safe_paths import Below, parents_of
from journal.index.index import Index
from journal.index.replay import replay
from journal.transfer.copies import Copy, open_copy

PIECE_BYTES = 1 << 20
MAX_COMPONENTS = 64
# Of all names of a copy together, since they are held in memory. A reader counts them, too: a small
# pack may hold very many long names.
MAX_NAMES_LENGTH = 64 << 20

# The space that a directory takes on most disks, or the rest of a file's last block with its inode.
_ENTRY_BYTES = 4096

# The system refuses a name: the pack is damaged, or comes from a system with other rules.
_OF_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ}


class PackedFile(NamedTuple):
    """A file of a copy. ``name`` is relative to the job's directory. Read all of its ``pieces``
    before you ask for the next file.
    """

    name: str
    size_bytes: int
    pieces: Iterator[bytes]


Contents = Iterator[PackedFile]


def is_packable(name: str) -> bool:
    """Return whether a pack may have a file of this name.

    ``name`` is relative to the job's directory.
    """
    parts = name.split("/")
    return name == JOURNAL_NAME or bool(
        re.fullmatch(BACKUP, name)
        or (
            parts[0] == ARTIFACTS_NAME
            and 1 < len(parts) <= MAX_COMPONENTS
            and not {"", ".", ".."}.intersection(parts)
            and not re.search(r"[\0\ud800-\udfff]", name)  # surrogates: on the disk, it isn't UTF-8
        )
    )


class Snapshot:
    """The files of a ``copy``, up to its last commit.

    - ``names``: the files that :meth:`contents` reads, the journal first.
    - ``rows``: the number of rows.
    - ``left_out``: files that no copy can have, and files that were removed before they were read.
    """

    def __init__(self, copy: Copy, *, backups: bool = False) -> None:
        """Read the whole journal; :meth:`contents` reads it again. With ``backups``, include them.

        This needs memory for the names of the files, and for the index of the job. Raises JournalDamagedError, FormatVersionError, StorageError, and
        InvalidValueError if there are more files than a copy can have.
        """
        index = replay(Index(), copy.file, START, copy.end)
        self.rows = sum(index.status_counts)
        self.left_out: list[str] = []
        self.copy = copy
        self._below = Below(copy.directory, is_to_copy=True)
        self.names = [JOURNAL_NAME, *self._names(backups=backups)]
        if sum(map(len, self.names)) > MAX_NAMES_LENGTH:
            raise InvalidValueError(
                "artifacts",
                len(self.names) - 1,
                "are more files than a pack can name; put them into fewer files, or copy the job's "
                "directory by rsync or cp",
            )

    def _names(self, *, backups: bool) -> Iterator[str]:
        directory = self.copy.directory
        with refusals_of(directory, "pack"):
            self.left_out += [f"{CLAIMS_NAME}/{path.name}" for path in late_files(directory)]
            for name, packable in artifacts_of(directory):
                if packable:
                    yield name
                else:
                    self.left_out.append(name)
            for name in sorted(files.names_in(directory)) if backups else ():
                if re.fullmatch(BACKUP, name) and self._below.is_file(name):
                    yield name

    def contents(self) -> Contents:
        """Yield the files. Raises StorageError, also if a file is truncated while it is read."""
        end = self.copy.end.offset
        yield PackedFile(JOURNAL_NAME, end, pieces_of(self.copy.file, end))
        for name in self.names[1:]:
            with refusals_of(self.copy.directory / name, "pack"):
                try:
                    file = self._below.opened(name)
                except (FileNotFoundError, NotADirectoryError):  # removed since it was listed
                    self.left_out.append(name)
                    continue
                size = file.size_bytes()
                yield PackedFile(name, size, pieces_of(file, size))


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


def pieces_of(file: JournalFile | DerivedFile, size: int) -> Iterator[bytes]:
    """Yield the first ``size`` bytes of a file. Raises StorageError if the file is shorter."""
    offset = 0
    with refusals_of(file.path, "read"):
        while offset < size:
            piece = file.read_at(offset, min(PIECE_BYTES, size - offset))
            if not piece:
                reason = "it was truncated while it was read; try again when nobody writes to it"
                raise OSError(errno.EIO, reason)
            offset += len(piece)
            yield piece


class Placed(NamedTuple):
    """A copy that :func:`place` has made, its number of rows, and the names of its other files."""

    copy: Copy
    rows: int
    names: list[str]


def place(
    directory: Path, job_id: str, contents: Contents, name: str, *, scratch: bool = False
) -> Placed:
    """Make the files of a job in an empty directory, and check the journal.

    All contents are read, and every seal and record of the journal is checked. The files are synced
    on return. With ``scratch``, only the journal is written, and it isn't synced.

    Raises PackError about the copy ``name`` if its journal is damaged or belongs to another job, or
    if the name of a file is refused by the system. Raises StorageError if what is written would take
    more than the free space of the disk. Also raises FormatVersionError and other StorageErrors.
    """
    with refusals_of(directory, "write into"):
        try:
            names = _write_all(directory, contents, name, scratch=scratch)
        except OSError as error:
            if error.errno not in _OF_NAMES:
                raise
            reason = f"one of its files can't be made here: {os.strerror(error.errno)}"
            raise PackError(name, reason) from error
    try:
        copy = open_copy(directory, name)
        index = replay(Index(), copy.file, START, copy.end)
    except JournalDamagedError as error:  # the path in the error will soon be gone
        where = f"line {error.line} (byte {error.offset})"
        what = f"expected {error.expected}, found {error.found}"
        raise PackError(name, f"its journal is damaged at {where}: {what}") from None
    except FormatVersionError as error:
        raise FormatVersionError(name, error.what) from None
    if copy.header.job_id != job_id:
        raise PackError(name, f"its journal belongs to job {copy.header.job_id!r}")
    return Placed(copy, sum(index.status_counts), names[1:])


def _write_all(directory: Path, contents: Contents, name: str, *, scratch: bool) -> list[str]:
    below, names, taken = Below(directory), list[str](), 0
    free = files.free_bytes(directory)
    for file in contents:
        if scratch and file.name != JOURNAL_NAME:
            for _ in file.pieces:  # what is read is checked
                pass
            continue
        new = len(_new_directories(names[-1] if names else "", file.name))
        taken += file.size_bytes + _ENTRY_BYTES * (1 + new)
        if taken > free:
            raise OSError(errno.ENOSPC, f"the disk has only {free} bytes free; {name} takes more")
        write_new(below, file.name, file.pieces, sync=not scratch)
        names.append(file.name)
    if not scratch:
        below.sync_directories([""])
        for before, each in itertools.pairwise(["", *names]):
            below.sync_directories(_new_directories(before, each))
    return names


def _new_directories(before: str, name: str) -> list[str]:
    """Return the directories of the file ``name`` that aren't directories of the file ``before``.

    The files of a directory follow each other. So nearly each directory is new only once, and the
    directories needn't be kept in memory: a few names can need very many of them.
    """
    return [each for each in parents_of(name) if each and not before.startswith(f"{each}/")]
