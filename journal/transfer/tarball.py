"""Writes a pack as bytes that any ``tar`` can read, and reads packs from untrusted sources.

A pack is a tar of regular files only, compressed by gzip or zstd::

    ID/manifest.json      names the other members, with their sizes and SHA-256
    ID/journal.jsonl      the journal up to its last seal
    ID/artifacts/...

``pack_contents.py`` decides which files a pack may have. The members after the manifest must be the
files that the manifest lists, in the same order. Links, devices, sparse files, absolute names and
duplicate names are refused before a byte of them is written. No more bytes are decompressed than
the manifest lists.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from hashlib import sha256
from os import PathLike
from typing import Annotated, Any, Literal

import msgspec

from journal.errors import FormatVersionError, InvalidValueError, PackError
from journal.format.records import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.ids import is_job_id
from journal.inputs.compression import find_zstd
from journal.transfer.pack_contents import (
    MAX_NAME_BYTES,
    PACK_FORMAT,
    PIECE_BYTES,
    Contents,
    Manifest,
    PackedFile,
    check_files,
)

Compression = Literal["gz", "zst"]

MANIFEST_NAME = "manifest.json"

_MAX_MANIFEST_BYTES = 64 << 20
_MAX_MEMBER_BYTES = MAX_NAME_BYTES + 130  # room for the job's id, a "/", and a NUL
_INPUT_BYTES = 1 << 18
_GZIP_LEVEL = 6  # the level of ``tar czf``
_GZIP_FRAME = 31  # tells zlib to use the header and trailer of gzip
_MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}
_BLOCK_BYTES = tarfile.BLOCKSIZE


class _PackFormat(msgspec.Struct):
    pack: Annotated[int, msgspec.Meta(ge=1)] = PACK_FORMAT


# --- writing ---------------------------------------------------------------------------------


def write_pack(
    write: Callable[[bytes], object],
    manifest: Manifest,
    contents: Contents,
    compression: Compression,
) -> None:
    """Pass a pack to ``write`` in pieces. ``contents`` are the manifest's files, in the same order.

    If the manifest is larger than readers accept, raises InvalidValueError before the first byte.
    """
    text = msgspec.json.encode(manifest) + b"\n"
    if len(text) > _MAX_MANIFEST_BYTES:
        raise InvalidValueError(
            "artifacts",
            len(manifest.files) - 1,
            f"are more files than a pack can name: its manifest would have {len(text)} bytes, more "
            f"than {_MAX_MANIFEST_BYTES}; put them into fewer files, or copy the job's directory "
            "by rsync or cp",
        )
    compressor = _compressor(compression)

    def put(data: bytes) -> None:
        compressed = compressor.compress(data)
        if compressed:
            write(compressed)

    def put_file(name: str, size: int, pieces: Iterable[bytes]) -> None:
        info = tarfile.TarInfo(f"{manifest.job_id}/{name}")
        info.size, info.mode = size, 0o600
        info.mtime = made_s
        put(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
        for piece in pieces:
            put(piece)
        put(bytes(-size % _BLOCK_BYTES))

    made_s = int(datetime.fromisoformat(manifest.made_at).timestamp())
    put_file(MANIFEST_NAME, len(text), [text])
    for file, pieces in contents:
        put_file(file.name, file.size_bytes, pieces)
    put(bytes(2 * _BLOCK_BYTES))
    write(compressor.flush())


def _compressor(compression: Compression) -> Any:
    if compression == "zst":
        return load_zstd().ZstdCompressor()
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FRAME)


def load_zstd() -> Any:
    """Return the library for zstd. Raises InvalidValueError if there is none."""
    zstd = find_zstd()
    if zstd is None:
        reason = "this Python has no zstd: pip install 'rowjournal[zstd]', or use a .tar.gz"
        raise InvalidValueError("compression", "zst", reason)
    return zstd


# --- reading ---------------------------------------------------------------------------------


def read_pack(read: Callable[[int], bytes], path: str | PathLike[str]) -> tuple[Manifest, Contents]:
    """Read a pack: return its manifest, and an iterator over the files in it.

    ``read(n)`` must return the next bytes of the pack, at most ``n``. Read all pieces of a file
    before you ask for the next file. The iterator ends after the whole stream was read. Raises
    FormatVersionError. Raises PackError if the pack doesn't agree with its manifest.
    """
    stream = _Inflated(read, path)
    top = _next_name(stream)
    if top is None:
        raise PackError(path, "it is empty")
    name, size = top
    job_id, _, rest = name.partition("/")
    if rest != MANIFEST_NAME:
        raise PackError(
            path,
            f"it begins with {name[:100]!r} and not with a manifest, so `journal pack` did not "
            "make it: unpack it with tar, and use `journal pull` on the directory",
        )
    if size > _MAX_MANIFEST_BYTES:
        raise PackError(path, f"its manifest has {size} bytes")
    text = b"".join(stream.pieces(size))
    manifest = _checked_manifest(text, job_id, path)
    return manifest, _contents(stream, manifest)


def _checked_manifest(text: bytes, job_id: str, path: str | PathLike[str]) -> Manifest:
    try:
        if nests_deeper_than(text, MAX_DEPTH):
            raise PackError(path, "its manifest nests too deep")
        version = msgspec.json.decode(text, type=_PackFormat).pack
        if version > PACK_FORMAT:
            raise FormatVersionError(path, f"pack {version}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except DECODE_ERRORS as error:
        raise PackError(path, f"its manifest can't be read: {error}") from None
    if not is_job_id(manifest.job_id) or manifest.job_id != job_id:
        found, below = manifest.job_id[:100], job_id[:100]
        raise PackError(path, f"its manifest names job {found!r}, but is below {below!r}")
    check_files(manifest, path)
    return manifest


def _contents(stream: _Inflated, manifest: Manifest) -> Contents:
    for file in manifest.files:
        found = _next_name(stream)
        expected = (f"{manifest.job_id}/{file.name}", file.size_bytes)
        if found != expected:
            what = "its end" if found is None else f"{found[0][:100]!r} of {found[1]} bytes"
            raise PackError(
                stream.path,
                f"it holds {what} where its manifest names {expected[0]!r} of {expected[1]} bytes",
            )
        yield file, _hashed(stream, file)
    if _next_name(stream) is not None:
        raise PackError(stream.path, "it holds more than its manifest names")
    stream.finish()


def _hashed(stream: _Inflated, file: PackedFile) -> Iterator[bytes]:
    digest = sha256()
    for piece in stream.pieces(file.size_bytes):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != file.sha256:
        raise PackError(stream.path, f"{file.name!r} differs from what was packed (SHA-256)")


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
            is_name = info.type == tarfile.GNUTYPE_LONGNAME and long_name is None
            if is_name and 0 < info.size <= _MAX_MEMBER_BYTES:
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
        self._read = read
        self._data = b""
        self._at = 0
        first = read(_INPUT_BYTES)
        self._input = first
        if first.startswith(_MAGIC["gz"]):
            self._decoder: Any = _Gunzip()
            self._refusals: tuple[type[Exception], ...] = (zlib.error,)
        elif first.startswith(_MAGIC["zst"]):
            zstd = load_zstd()
            self._decoder, self._refusals = zstd.ZstdDecompressor(), (zstd.ZstdError,)
        else:
            raise PackError(path, "it is neither gzip nor zstd" if first else "it is empty")

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
        padding = 0
        self._data = self._data[self._at :]
        while self._data:
            padding += len(self._data)
            if self._data.strip(b"\0") or padding > PIECE_BYTES:
                raise PackError(self.path, "there are bytes after its end")
            self._data = self._more()

    def _some(self, length: int) -> Iterator[bytes]:
        while length:
            if self._at == len(self._data):
                self._data, self._at = self._more(), 0
                if not self._data:
                    raise PackError(self.path, "it is cut short")
            piece = self._data[self._at : self._at + length]
            self._at += len(piece)
            length -= len(piece)
            yield piece

    def _more(self) -> bytes:
        """Return the next bytes, or ``b""`` at the end."""
        decoder = self._decoder
        while not decoder.eof:
            if decoder.needs_input and not self._input:
                self._input = self._read(_INPUT_BYTES)
            chunk, self._input = self._input, b""
            try:
                data: bytes = decoder.decompress(chunk, PIECE_BYTES)
            except self._refusals as error:
                raise PackError(self.path, f"it can't be decompressed: {error}") from None
            if data:
                return data
            if not chunk and not decoder.eof:
                raise PackError(self.path, "it is cut short")
        if decoder.unused_data or self._input or self._read(1):
            raise PackError(self.path, "there are bytes after its end")
        return b""


class _Gunzip:
    """zlib's decompressor, with the interface of zstd's decompressor."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_FRAME)
        self.eof, self.needs_input, self.unused_data = False, True, b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        inflate = self._inflate
        piece = inflate.decompress(inflate.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = inflate.eof, inflate.unused_data
        self.needs_input = not inflate.unconsumed_tail
        return piece
