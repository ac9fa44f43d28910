"""Writes a job into a pack, which is one file or stream, and makes a job from a pack.

A pack is a gzipped tar with regular files only. Any ``tar`` can read a pack::

    ID/journal.jsonl      the journal up to its last seal
    ID/artifacts/...
    ID/journal.torn-...   and other backups, if wanted

Packs may come from untrusted sources. Links, devices, sparse files, absolute names and duplicate
names are refused before anything is written. The CRC-32 of gzip shows whether the pack is complete
and undamaged.

- ``is_packable`` decides by a file's name whether a copy of a job may have the file.
- ``Snapshot`` lists and reads the files of a job.
- ``place`` makes a job from its files, also for a pull from a directory.

A journal only grows, so the bytes up to the end of a commit stay the same. Artifacts belong to the
user, and may change while they are read. If an artifact has grown, the copy has the bytes up to the
artifact's earlier size.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec

from journal.errors import FormatVersionError, InvalidValueError, JournalDamagedError, PackError
from journal.format.commits import START
from journal.format.pruned import find_pruned
from journal.format.records import JobRecord, now
from journal.fs import files, handles
from journal.fs.file_names import ARTIFACTS_NAME, BACKUP, CLAIMS_NAME, JOURNAL_NAME
from journal.fs.handles import DerivedFile, JournalFile, refusals_of
from journal.fs.network_claims import late_files
from journal.fs.output_files import whole_file
from journal.fs.safe_paths import Below, parents_of
from journal.ids import is_job_id, is_shard_id
from journal.index.columns import PROCESSING
from journal.index.index import Index
from journal.index.replay import replay
from journal.store.store import Store
from journal.transfer.copies import Copy, holds, open_copy

PIECE_BYTES = 1 << 20
MAX_COMPONENTS = 64
# The limit for all names of a copy together, because they are held in memory. A reader has the same
# limit, because a small pack may hold very many long names.
MAX_NAMES_LENGTH = 64 << 20

# The space that a directory takes on most disks, or that a file takes beyond its content.
_ENTRY_BYTES = 4096

# The system refuses a name: the pack is damaged, or comes from a system with other rules.
_OF_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EILSEQ}

_MAX_MEMBER_BYTES = 256 * (MAX_COMPONENTS + 1)  # 256 for each part of a name with its "/"
_GZIP_LEVEL = 6  # the level of ``tar czf``
_GZIP_FRAME = 31  # tells zlib to write the header and trailer of gzip
_BLOCK_BYTES = tarfile.BLOCKSIZE


class Packed(msgspec.Struct, frozen=True):
    """The result of :func:`pack_job` and :func:`unpack_job`.

    - ``rows``: the number of rows. ``in_flight``: how many of them were in flight when the job was
      packed (0 for an unpacked job).
    - ``offset``: the end of the journal's last commit in bytes.
    - ``files``: the names of the job's other files in the pack.
    - ``left_out``: the artifacts that aren't in the pack. These files were removed while the job
      was packed, or no pack can hold them. A pack holds no links and no pipes. A pack holds no
      files whose names aren't UTF-8 or have more than 64 parts.
    """

    job_id: str
    rows: int
    offset: int
    files: list[str]
    left_out: list[str] = msgspec.field(default_factory=list)
    in_flight: int = 0


def pack_job(directory: str | os.PathLike[str], write: Callable[[bytes], object]) -> Packed:
    """Pass a pack of the job in ``directory`` to ``write``, in pieces.

    The pack contains the job up to its last commit. Other processes may work on the job at the same
    time. The pack has no backups of recoveries, repairs and merges. If this function raises, the
    pack is incomplete, and can't be unpacked. The function needs memory for the index of the job,
    and for the names of the files.

    Raises InvalidValueError if there are more artifacts than a pack can name. Raises StorageError,
    for example if an artifact was truncated while it was packed. (Bytes that are appended during
    the packing are left out.) Also raises JobNotFoundError, JournalDamagedError,
    FormatVersionError, and the errors of ``write``.
    """
    snapshot = Snapshot(open_copy(Path(directory)))
    return _write(snapshot, write)


def _write(snapshot: Snapshot, write: Callable[[bytes], object]) -> Packed:
    copy = snapshot.copy
    write_pack(write, copy.header.job_id, snapshot.contents())
    files = [name for name in snapshot.names[1:] if name not in snapshot.left_out]
    return Packed(
        copy.header.job_id,
        snapshot.rows,
        copy.end.offset,
        files,
        snapshot.left_out,
        snapshot.in_flight,
    )


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
    than the free space on the disk, StorageError is raised. On return, the job survives a power
    cut.

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
    """Raise InvalidValueError if the shards here have another key than the new shard."""
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


# --- the files of a copy ----------------------------------------------------------------------


class PackedFile(NamedTuple):
    """A file of a copy. ``name`` is relative to the job's directory.

    Read all of its ``pieces`` before you ask for the next file.
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
            and not re.search(r"[\0\ud800-\udfff]", name)  # surrogates: the name isn't UTF-8
        )
    )


class Snapshot:
    """The files of a ``copy``, up to its last commit.

    - ``names``: the files that :meth:`contents` reads, the journal first.
    - ``rows``: the number of rows. ``in_flight``: how many of them are in flight.
    - ``left_out``: files that no copy can have, and files that were removed before the reading.
    """

    def __init__(self, copy: Copy, *, backups: bool = False) -> None:
        """Read the whole journal. :meth:`contents` reads it again.

        With ``backups``, the files of the job include its backups.

        This call needs memory for the names of the files, and for the index of the job. Raises
        JournalDamagedError, FormatVersionError, StorageError, and InvalidValueError if there are
        more files than a copy can have.
        """
        index = replay(Index(), copy.file, START, copy.end)
        self.rows = sum(index.status_counts)
        self.in_flight = index.status_counts[PROCESSING]
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
    if the system refuses the name of a file. Raises StorageError if what is written would take more
    than the free space of the disk. Also raises FormatVersionError and other StorageErrors.
    """
    with refusals_of(directory, "write into"):
        try:
            names = _write_all(directory, contents, name, scratch=scratch)
        except OSError as error:
            if error.errno not in _OF_NAMES:
                raise
            reason = f"one of its files can't be made here: {error.strerror}"
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
            for _ in file.pieces:  # the bytes are checked when they are read
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

    The files of a directory follow each other. So nearly each directory is new only once. The
    directories aren't kept in memory, because a few names can need very many directories.
    """
    return [each for each in parents_of(name) if each and not before.startswith(f"{each}/")]


# --- a copy to read ---------------------------------------------------------------------------

Read = Callable[[int], bytes]


class Source:
    """A copy to read. This is a job's directory, a pack, or the stream of a pack."""

    def __init__(self, path: str | os.PathLike[str], read: Read | None = None) -> None:
        """``path`` is the path of a directory or a pack.

        With ``read``, the pack comes from a stream, and ``path`` is only a name for messages.
        ``read(n)`` must return the next bytes of the stream, at most ``n``.
        """
        self.name = os.fspath(path)
        self.directory = Path(self.name) if read is None and os.path.isdir(self.name) else None
        self._read = read

    def pack(self) -> tuple[str, Contents]:
        """Open the pack; return the results of :func:`read_pack`.

        Raises PackError, and InvalidValueError if there is no such file.
        """
        read = self._read
        if read is None:
            try:
                read = handles.Stream(Path(self.name)).read
            except OSError as error:
                reason = f"can't be read: {error.strerror}; name a job's directory or a pack"
                raise InvalidValueError("source", self.name, reason) from None
        return read_pack(read, self.name)

    @contextmanager
    def copy(self) -> Iterator[Copy]:
        """Open the copy for a ``with`` block.

        A pack is checked completely, and its journal is extracted to a temporary directory.
        """
        if self.directory is not None:
            yield open_copy(self.directory, self.name)
            return
        job_id, contents = self.pack()
        with files.scratch_directory() as scratch:
            yield place(scratch, job_id, contents, self.name, scratch=True).copy


def as_source(source: Source | str | os.PathLike[str]) -> Source:
    return source if isinstance(source, Source) else Source(source)


# --- writing the bytes ------------------------------------------------------------------------


def write_pack(write: Callable[[bytes], object], job_id: str, contents: Contents) -> None:
    """Pass a pack of the files ``contents`` to ``write``, in pieces."""
    compressor = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FRAME)
    made_s = int(now().timestamp())

    def put(pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            if compressed := compressor.compress(piece):
                write(compressed)

    for file in contents:
        info = tarfile.TarInfo(f"{job_id}/{file.name}")
        info.size, info.mode, info.mtime = file.size_bytes, 0o600, made_s
        put([info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")])
        put(file.pieces)
        put([bytes(-file.size_bytes % _BLOCK_BYTES)])
    put([bytes(2 * _BLOCK_BYTES)])
    write(compressor.flush())


# --- reading the bytes ------------------------------------------------------------------------


def read_pack(read: Callable[[int], bytes], path: str | PathLike[str]) -> tuple[str, Contents]:
    """Read a pack: return the job's id, and an iterator over the files.

    ``read(n)`` must return the next bytes of the pack, at most ``n``. The iterator ends after the
    whole stream was read and checked. Raises PackError if the stream isn't a complete pack.
    """
    stream = _Inflated(read, path)
    name, size = _next_name(stream) or ("", 0)
    job_id = name.removesuffix(f"/{JOURNAL_NAME}")
    if job_id == name or not (is_job_id(job_id) or is_shard_id(job_id)):
        raise PackError(
            path,
            f"it begins with {name[:100]!r} and not with a journal, so `journal pack` did not make "
            "it: unpack it with tar, and use `journal pull` on the directory",
        )
    return job_id, _contents(stream, job_id, size)


def _contents(stream: _Inflated, job_id: str, size: int) -> Contents:
    yield PackedFile(JOURNAL_NAME, size, stream.pieces(size))
    length = 0
    while (found := _next_name(stream)) is not None:
        name = found[0].removeprefix(f"{job_id}/")
        if name == found[0] or not is_packable(name):
            raise PackError(stream.path, f"it holds {found[0][:100]!r}, which no pack may have")
        length += len(name)
        if length > MAX_NAMES_LENGTH:
            raise PackError(stream.path, "it holds too many files")
        yield PackedFile(name, found[1], stream.pieces(found[1]))
    stream.finish()


def _next_name(stream: _Inflated) -> tuple[str, int] | None:
    """Return the name and size of the next member, or None at the end of the tar."""
    long_name: str | None = None
    while True:
        block = stream.take(_BLOCK_BYTES)
        if not block.strip(b"\0") and long_name is None:
            return None
        try:
            # A header has only the first 100 bytes of a long name. These bytes may end within a
            # character.
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if info.type == tarfile.GNUTYPE_LONGNAME and 0 < info.size <= _MAX_MEMBER_BYTES:
                long_name = b"".join(stream.pieces(info.size)).rstrip(b"\0").decode()
                continue
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise PackError(stream.path, f"it isn't a valid tar: {error}") from None
        name = info.name if long_name is None else long_name
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise PackError(stream.path, f"{name[:100]!r} in it is not a regular file")
        return name, info.size


class _Inflated:
    """Reads the bytes of a tar, and decompresses only as much as is read."""

    def __init__(self, read: Callable[[int], bytes], path: str | PathLike[str]) -> None:
        self.path = path
        stream: Any = SimpleNamespace(read=read)
        self._file = gzip.GzipFile(fileobj=stream, mode="rb")

    def take(self, length: int) -> bytes:
        """Return the next ``length`` bytes. Raises PackError if there are fewer."""
        return b"".join(self._some(length))

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the content of a member of ``size`` bytes, and skip the padding after it."""
        yield from self._some(size)
        if self.take(-size % _BLOCK_BYTES).strip(b"\0"):
            raise PackError(self.path, "there are bytes between its files")

    def finish(self) -> None:
        """Read to the end of the stream. Raises PackError if more than padding follows."""
        padding = self._read(PIECE_BYTES + 1)
        if padding.strip(b"\0") or len(padding) > PIECE_BYTES:
            raise PackError(self.path, "there are bytes after its end")

    def _some(self, length: int) -> Iterator[bytes]:
        while length:
            piece = self._read(min(length, PIECE_BYTES))
            if not piece:
                raise PackError(self.path, "it is cut short")
            length -= len(piece)
            yield piece

    def _read(self, length: int) -> bytes:
        """Return the next bytes, or fewer at the end of the stream."""
        try:
            return self._file.read(length)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise PackError(self.path, f"it can't be decompressed: {error}") from None
