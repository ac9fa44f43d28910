"""Writes a job into a pack, which is one file or stream, and makes a job from a pack.

A pack is a tar of regular files only, which any ``tar`` can read, compressed by gzip::

    ID/journal.jsonl      the journal up to its last seal
    ID/artifacts/...
    ID/journal.torn-...   and other backups, if wanted

``pack_contents.py`` decides which files a pack may have. Packs may come from untrusted sources.
Links, devices, sparse files, absolute names and duplicate names are refused before a byte of them
is written. The CRC-32 of gzip shows whether the pack is complete and undamaged.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from journal.errors import InvalidValueError, PackError
from journal.format.pruned import find_pruned
from journal.format.records import JobRecord, now
from journal.fs import files, handles
from journal.fs.file_names import JOURNAL_NAME
from journal.fs.output_files import whole_file
from journal.ids import is_job_id, is_shard_id
from journal.store.store import Store
from journal.transfer.copies import Copy, holds, open_copy
from journal.transfer.pack_contents import (
    MAX_COMPONENTS,
    MAX_NAMES_LENGTH,
    PIECE_BYTES,
    Contents,
    PackedFile,
    Placed,
    Snapshot,
    is_packable,
    place,
)


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


# --- a copy to read ---------------------------------------------------------------------------

Read = Callable[[int], bytes]


class Source:
    """A copy to read: a job's directory, a pack, or the stream of a pack."""

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


# --- the bytes of a pack ----------------------------------------------------------------------

_MAX_MEMBER_BYTES = 256 * (MAX_COMPONENTS + 1)  # of a name; 256 for each part with its "/"
_GZIP_LEVEL = 6  # the level of ``tar czf``
_GZIP_FRAME = 31  # tells zlib to write the header and trailer of gzip
_BLOCK_BYTES = tarfile.BLOCKSIZE


# --- writing ---------------------------------------------------------------------------------


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


# --- reading ---------------------------------------------------------------------------------


def read_pack(read: Callable[[int], bytes], path: str | PathLike[str]) -> tuple[str, Contents]:
    """Read a pack: return the job's id, and an iterator over the files.

    ``read(n)`` must return the next bytes of the pack, at most ``n``. The iterator ends after the
    whole stream was read and checked. Raises PackError if it isn't a complete pack.
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
            # A header has only the first 100 bytes of a long name. They may end within a character.
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
