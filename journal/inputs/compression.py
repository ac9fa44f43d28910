"""Decompresses an input while it is read. Its first bytes show how it is compressed."""

from __future__ import annotations

import importlib
import io
import re
import zlib
from collections.abc import Callable
from typing import IO, Any

from journal.errors import MissingExtraError
from journal.inputs.source import Source

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
}
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")  # the beginning of files of pzstd
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # the first block, or the end of an empty file
SUFFIXES = frozenset((".gz", ".xz", ".zst", ".zstd", ".bz2"))
_PIECE_BYTES = 1 << 16


def compression_of(head: bytes) -> str | None:
    """The compression of data that begins with ``head``, such as "gzip"; None if there is none."""
    if _SKIPPABLE.match(head):
        return "zstd"
    if head.startswith(b"BZh") and head[4:10] not in _BZIP2_BLOCKS:
        return None  # text, such as the name of a column
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


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


def _open(stream: IO[bytes], compression: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A file of the decompressed bytes, and the exceptions (besides OSError) for damaged data."""
    if compression == "gzip":
        import gzip  # noqa: PLC0415  (each is imported only for such an input)

        return gzip.GzipFile(fileobj=stream), (zlib.error,)
    if compression == "xz":
        import lzma  # noqa: PLC0415

        return _Streams(stream, lzma.LZMADecompressor), (lzma.LZMAError,)
    if compression == "bzip2":
        import bz2  # noqa: PLC0415

        return _Streams(stream, bz2.BZ2Decompressor), ()
    zstd: Any = find_zstd()
    if zstd is None:
        raise MissingExtraError("an input in zstd", "backports.zstd", "zstd")
    return zstd.ZstdFile(stream), (zstd.ZstdError,)


class _Streams:
    """Decompresses streams that follow one another, as parallel compression programs write them.

    This class raises an error for a damaged stream. ``lzma.LZMAFile`` and ``bz2.BZ2File`` would
    stop before such a stream without an error.
    """

    def __init__(self, stream: Any, decompressor: Callable[[], Any]) -> None:
        self._stream, self._new = stream, decompressor
        self._current = decompressor()
        self._is_begun = False

    def read1(self, size: int) -> bytes:
        while True:
            data = b""
            if self._current.eof:
                data = self._current.unused_data
                self._current, self._is_begun = self._new(), False
            elif self._current.needs_input:
                data = self._stream.read1(_PIECE_BYTES)
                if not data and self._is_begun:
                    raise EOFError
                if not data:
                    return b""
            if not self._is_begun:
                data = data.lstrip(b"\0")  # padding, as gzip ignores it
                self._is_begun = bool(data)
            if found := self._current.decompress(data, size):
                return bytes(found)


class _Inflated(io.RawIOBase):
    def __init__(self, stream: IO[bytes], compression: str, source: Source) -> None:
        self._data, refusals = _open(stream, compression)
        self._refusals: tuple[type[Exception], ...] = (OSError, *refusals)
        self._compression, self._source = compression, source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            # Read only one piece, since a pipe may be slow.
            data: bytes = self._data.read1(len(buffer))
        except EOFError:
            what = "that is cut short"
            raise self._source.refused(f"is {self._compression} data {what}: {_AGAIN}") from None
        except self._refusals as error:
            if getattr(error, "errno", None) is not None:
                raise
            what = f"is damaged {self._compression} data ({error}): {_AGAIN}"
            raise self._source.refused(what) from None
        buffer[: len(data)] = data
        return len(data)


_AGAIN = "copy it or download it again"
