"""Packs as bytes: a job as a stream that any ``tar`` reads, and that is read here without trust.

A pack is a tar of regular files only, compressed by gzip or zstd::

    ID/manifest.json      names what follows, with sizes and SHA-256
    ID/journal.jsonl      up to a seal
    ID/artifacts/...

The members after the manifest must be the files that it names, in its order. So whatever else a tar
may hold (links, devices, sparse files, absolute names, duplicate names) is refused before a byte of
it is written. And no more is decompressed than the manifest announces.
"""

from __future__ import annotations

import importlib
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
from journal.fs.names import ARTIFACTS_NAME, BACKUP, JOURNAL_NAME
from journal.ids import is_job_id

Compression = Literal["gz", "zst"]

PACK_FORMAT = 1
MANIFEST_NAME = "manifest.json"
PIECE_BYTES = 1 << 20
MAX_NAME_BYTES = 4096
MAX_COMPONENTS = 64

_DIRECTORY_BYTES = 4096  # what a directory takes on most disks
_MAX_MANIFEST_BYTES = 64 << 20
_MAX_MEMBER_BYTES = MAX_NAME_BYTES + 130  # with the job's id, a "/", and a NUL
_MAX_COMPONENT_BYTES = 255
_INPUT_BYTES = 1 << 18
_GZIP_LEVEL = 6  # as tar czf does
_GZIP_FRAME = 31  # tells zlib to use the header and trailer of gzip
_MAGIC = {"gz": b"\x1f\x8b", "zst": b"\x28\xb5\x2f\xfd"}
_BLOCK_BYTES = tarfile.BLOCKSIZE

Contents = Iterable[tuple["PackedFile", Iterator[bytes]]]


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
        directories = sum(1 for _ in directories_of(file.name for file in self.files))
        return sum(file.size_bytes for file in self.files) + directories * _DIRECTORY_BYTES


class _PackFormat(msgspec.Struct):
    pack: Annotated[int, msgspec.Meta(ge=1)] = PACK_FORMAT


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


# --- writing ---------------------------------------------------------------------------------


def write_pack(
    write: Callable[[bytes], object],
    manifest: Manifest,
    contents: Contents,
    compression: Compression,
) -> None:
    """Pass a pack to ``write`` in pieces. ``contents`` are the manifest's files, in its order.

    Raises InvalidValueError, before the first byte, if the manifest is too large to be read again.
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
    """The module ``compression.zstd``, or its backport before Python 3.14."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InvalidValueError(
        "compression",
        "zst",
        "this Python has no zstd: pip install 'rowjournal[zstd]', or use a .tar.gz",
    )


# --- reading ---------------------------------------------------------------------------------


def read_pack(read: Callable[[int], bytes], path: str | PathLike[str]) -> tuple[Manifest, Contents]:
    """The manifest of the pack that ``read(n)`` returns in pieces, and the files that it names.

    Read each file's pieces to their end before the next file. The last file ends only after the
    whole stream was read. Raises FormatVersionError, and PackError where something isn't as
    announced.
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
            f"it begins with {name[:100]!r} and not with a manifest: unpack what `journal pack` "
            "did not make with tar, and use `journal pull` on the directory",
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
    names = [file.name for file in manifest.files]
    if not is_job_id(manifest.job_id) or manifest.job_id != job_id:
        raise PackError(path, f"its job is {manifest.job_id[:100]!r}, below {job_id[:100]!r}")
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
    return manifest


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
        raise PackError(stream.path, f"{file.name!r} is not what was packed (SHA-256)")


def _next_name(stream: _Inflated) -> tuple[str, int] | None:
    """Name and size of the next member; None at the end of the tar."""
    long_name: str | None = None
    while True:
        block = stream.take(_BLOCK_BYTES)
        if not block.strip(b"\0") and long_name is None:
            return None
        try:
            # The header of a long name has its first 100 bytes, which may end within a character.
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
    """The bytes of a tar, decompressed only as far as they are read."""

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
        """The next ``length`` bytes, which must be there."""
        return b"".join(self._some(length))

    def pieces(self, size: int) -> Iterator[bytes]:
        """The content of a member of ``size`` bytes; its padding is skipped."""
        yield from self._some(size)
        if self.take(-size % _BLOCK_BYTES).strip(b"\0"):
            raise PackError(self.path, "there are bytes between its files")

    def finish(self) -> None:
        """Read to the end. Only the padding of a tar may follow."""
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
        """The next bytes; none at the end."""
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
    """zlib's decompressor with the interface of zstd's."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_FRAME)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
