"""Decompresses an input while it is read. Its first bytes show how it is compressed."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from typing import IO, Any, NamedTuple

from journal.errors import load_extra
from journal.inputs.source import Source

_PIECE_BYTES = 1 << 16


class Compression(NamedTuple):
    """A compression. ``inflate`` returns a file of the decompressed bytes of a file."""

    name: str
    inflate: Callable[[IO[bytes]], Any]
    suffixes: tuple[str, ...]
    first_bytes: tuple[bytes, ...]


def _inflate_gzip(stream: IO[bytes]) -> Any:
    return gzip.GzipFile(fileobj=stream)


def _inflate_xz(stream: IO[bytes]) -> Any:
    import lzma  # noqa: PLC0415  (only for such an input, as it may be missing)

    return _XzStreams(stream, lzma.LZMADecompressor)


def _inflate_zstd(stream: IO[bytes]) -> Any:
    module = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return load_extra(module, "an input in zstd", "zstd").ZstdFile(stream)


COMPRESSIONS = (
    Compression("gzip", _inflate_gzip, (".gz",), (b"\x1f\x8b",)),
    Compression("xz", _inflate_xz, (".xz",), (b"\xfd7zXZ\0",)),
    # pzstd begins its files with a frame to skip.
    Compression(
        "zstd", _inflate_zstd, (".zst", ".zstd"), (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")
    ),
)


def compression_of(head: bytes) -> Compression | None:
    """The compression of data that begins with ``head``; None if there is none."""
    return next((each for each in COMPRESSIONS if head.startswith(each.first_bytes)), None)


def decompressed(stream: IO[bytes], compression: Compression, source: Source) -> io.BufferedReader:
    """The decompressed content of ``stream``. Reading raises InvalidValueError for damaged data."""
    return io.BufferedReader(_Inflated(stream, compression, source), _PIECE_BYTES)


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
    def __init__(self, stream: IO[bytes], compression: Compression, source: Source) -> None:
        self._data = compression.inflate(stream)
        self._name, self._source = compression.name, source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Read only one piece, since a pipe may be slow.
            data: bytes = self._data.read1(len(buffer))
        except Exception as error:  # of the library, for damaged data, or of the system
            if getattr(error, "errno", None) is not None:
                raise
            why = "cut short" if isinstance(error, EOFError) else f"damaged ({error})"
            reason = f"is {self._name} data that is {why}: copy it or download it again"
            raise self._source.refused(reason) from None
        buffer[: len(data)] = data
        return len(data)
