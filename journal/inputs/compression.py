"""Decompresses an input while it is read. Its first bytes show how it is compressed."""

from __future__ import annotations

import gzip
import importlib
import io
import zlib
from typing import IO, Any, NamedTuple

from journal.errors import MissingExtraError
from journal.inputs.source import Source

_PIECE_BYTES = 1 << 16


class Compression(NamedTuple):
    name: str
    suffixes: tuple[str, ...]
    first_bytes: tuple[bytes, ...]


COMPRESSIONS = (
    Compression("gzip", (".gz",), (b"\x1f\x8b",)),
    Compression("xz", (".xz",), (b"\xfd7zXZ\0",)),
    # pzstd begins its files with a frame to skip.
    Compression("zstd", (".zst", ".zstd"), (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")),
)


def compression_of(head: bytes) -> str | None:
    """The compression of data that begins with ``head``, such as "gzip"; None if there is none."""
    return next((each.name for each in COMPRESSIONS if head.startswith(each.first_bytes)), None)


def find_zstd() -> Any:
    """Import ``compression.zstd``, or its backport if Python is older than 3.14.

    Returns None if neither is installed.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def decompressed(stream: IO[bytes], compression: str, source: Source) -> io.BufferedReader:
    """The decompressed content of ``stream``. Reading raises InvalidValueError for damaged data."""
    return io.BufferedReader(_Inflated(stream, compression, source), _PIECE_BYTES)


def _open(stream: IO[bytes], compression: str) -> tuple[Any, type[Exception]]:
    """A file of the decompressed bytes, and what it raises for damaged data besides OSError."""
    if compression == "gzip":
        return gzip.GzipFile(fileobj=stream), zlib.error
    if compression == "xz":
        import lzma  # noqa: PLC0415  (only for such an input, as it may be missing)

        return _XzStreams(stream, lzma.LZMADecompressor), lzma.LZMAError
    zstd: Any = find_zstd()
    if zstd is None:
        raise MissingExtraError("an input in zstd", "backports.zstd", "zstd")
    return zstd.ZstdFile(stream), zstd.ZstdError


class _XzStreams:
    """Decompresses xz streams that follow one another, as parallel programs write them.

    ``lzma.LZMAFile`` would stop before a damaged stream without an error.
    """

    def __init__(self, stream: Any, decompressor: Any) -> None:
        self._stream, self._new = stream, decompressor
        self._current, self._is_begun = decompressor(), False

    def read1(self, size: int) -> bytes:
        while True:
            data = b""
            if self._current.eof:
                data = self._current.unused_data
                self._current, self._is_begun = self._new(), False
            elif self._current.needs_input and not (data := self._stream.read1(_PIECE_BYTES)):
                if self._is_begun:
                    raise EOFError
                return b""
            if not self._is_begun:
                data = data.lstrip(b"\0")  # padding, as gzip ignores it
                self._is_begun = bool(data)
            if found := self._current.decompress(data, size):
                return bytes(found)


class _Inflated(io.RawIOBase):
    def __init__(self, stream: IO[bytes], compression: str, source: Source) -> None:
        self._data, error = _open(stream, compression)
        self._refusals = (OSError, error)
        self._compression, self._source = compression, source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Read only one piece, since a pipe may be slow.
            data: bytes = self._data.read1(len(buffer))
        except EOFError:
            reason = f"is {self._compression} data that is cut short: copy it or download it again"
            raise self._source.refused(reason) from None
        except self._refusals as error:
            if getattr(error, "errno", None) is not None:
                raise
            reason = f"is damaged {self._compression} data ({error}): copy it or download it again"
            raise self._source.refused(reason) from None
        buffer[: len(data)] = data
        return len(data)
