"""Writes a pack as bytes that any ``tar`` can read, and reads packs from untrusted sources.

A pack is a tar of regular files only, compressed by gzip::

    ID/journal.jsonl      the journal up to its last seal
    ID/artifacts/...
    ID/journal.torn-...   and other backups, if wanted

``pack_contents.py`` decides which files a pack may have. Links, devices, sparse files, absolute
names and duplicate names are refused before a byte of them is written. The CRC-32 of gzip shows
whether the pack is complete and undamaged.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from types import SimpleNamespace
from typing import Any

from journal.errors import PackError
from journal.format.records import now
from journal.fs.file_names import JOURNAL_NAME
from journal.ids import is_job_id, is_shard_id
from journal.transfer.pack_contents import (
    MAX_COMPONENTS,
    MAX_NAMES_LENGTH,
    PIECE_BYTES,
    Contents,
    PackedFile,
    is_packable,
)

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
