"""The table of the formats, and the choice of the format and the compression of an input.

An input is decompressed while it is read. Its first bytes show how it is compressed.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import PurePath
from typing import IO, Any, NamedTuple

from journal.errors import load_extra
from journal.inputs import arrow, csv, excel, json_rows, text_lines
from journal.inputs.read_options import Rows, Source
from journal.inputs.text_lines import encoding_of_mark

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
                data = data.lstrip(b"\0")  # skip padding, as gzip does
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
        except Exception as error:  # an error of the library, for damaged data, or of the system
            if getattr(error, "errno", None) is not None:
                raise
            why = "cut short" if isinstance(error, EOFError) else f"damaged ({error})"
            reason = f"is {self._name} data that is {why}: copy it or download it again"
            raise self._source.refused(reason) from None
        buffer[: len(data)] = data
        return len(data)


# --- formats ----------------------------------------------------------------------------------

Columns = list[str] | None  # None if each row has its own columns
Reader = Callable[[Source, io.BufferedReader, ExitStack], tuple[Columns, Rows]]

HEAD_BYTES = 512  # enough to see what an input is
LINES = "lines"  # of --lines
NULL = "null"  # of --null


class Format(NamedTuple):
    """A format of inputs.

    - ``name``: the name that a person types. ``words``: the name in messages.
    - ``first_bytes``: a regular expression for the first bytes, if they show the format.
    - ``options``: which of encoding, delimiter and sheet have a meaning.
    - ``needs``: a library, and the extra that installs the library. None if the input is text.
    - ``at_any_offset``: whether the reader seeks. If so, the input can't be compressed, and can't
      be a pipe.
    """

    name: str
    words: str
    read: Reader
    suffixes: tuple[str, ...] = ()
    first_bytes: bytes = b""
    options: tuple[str, ...] = ("encoding",)
    needs: tuple[str, str] | None = None
    at_any_offset: bool = False


_CSV = ("encoding", "delimiter")
_PARQUET, _ARROW, _EXCEL = ("pyarrow", "parquet"), ("pyarrow", "arrow"), ("openpyxl", "excel")
_SUFFIXES_OF_ARROW = (".arrow", ".arrows", ".feather", ".ipc")
_TABLE = (
    Format("csv", "CSV", csv.read_csv, (".csv",), options=_CSV),
    Format("tsv", "TSV", csv.read_tsv, (".tsv", ".tab")),
    Format("json", "JSON", json_rows.read_json, (".json",), rb"\s*\[\s*[{\]]"),
    Format("jsonl", "JSON Lines", json_rows.read_json_lines, (".jsonl", ".ndjson"), rb'\s*\{\s*"'),
    Format(LINES, "lines of text", text_lines.read_lines, (".txt",)),
    Format(NULL, "lines that end with NUL", text_lines.read_items),
    Format("parquet", "Parquet", arrow.read_parquet, (".parquet", ".pq"), rb"PAR1\x15", (), _PARQUET, at_any_offset=True),
    Format("arrow", "an Arrow file", arrow.read_arrow_file, _SUFFIXES_OF_ARROW, rb"ARROW1\0\0", (), _ARROW, at_any_offset=True),
    Format("arrow", "an Arrow stream", arrow.read_arrow_stream, (), rb"\xff\xff\xff\xff", (), _ARROW),
    Format("xlsx", "an Excel workbook", excel.read_workbook, (".xlsx", ".xlsm"), rb"PK\x03\x04", ("sheet",), _EXCEL, at_any_offset=True),
)  # fmt: skip
# The names that a person may give.
FORMATS = tuple(dict.fromkeys(each.name for each in _TABLE if each.name != NULL))

_MAX_QUOTED = 20
_TABLES = ("csv", "tsv")  # any text would be CSV, with its first line as the header
# Files that people give by mistake, by their first bytes.
_OTHERS = {
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": "is compressed by bzip2: decompress it, as by bzcat",
    rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an old Excel workbook (.xls), one with a password, or the like: save it as .xlsx or CSV",
    rb"(?s).{257}ustar": "is a tar archive: unpack it, as by tar xf",
    rb"(?i)\s*<(!doctype html|html)": "is an HTML page: look at it, as it may be the error page of a download",
    rb"%PDF-|\x89PNG|\xff\xd8\xff|7z\xbc\xaf|Rar!\x1a": "is an archive, an image or a PDF: give a table",
}


def format_of(name: str) -> str | None:
    """The name of the format for a file's extension; None if unknown.

    An extension of a compression, such as .gz, is ignored.
    """
    path = PurePath(name.lower())
    compressed = any(path.suffix in each.suffixes for each in COMPRESSIONS)
    suffix = (path.with_suffix("") if compressed else path).suffix
    return next((each.name for each in _TABLE if suffix in each.suffixes), None)


def choose(head: bytes, source: Source, *, is_compressed: bool) -> Format:
    """The format of an input. ``head``: the first bytes of the input, after decompression.

    A given format comes first, then the format for the file's extension, then the format that the
    first bytes show. If none of these is known, the format is CSV. Raises InvalidValueError if the
    input isn't in this format, or if an option has no meaning for this format.
    """
    start = head.removeprefix(codecs.BOM_UTF8)
    shown = next((e for e in _TABLE if e.first_bytes and re.match(e.first_bytes, start)), None)
    name = source.format or format_of(source.path) or (shown.name if shown else "csv")
    found = next(each for each in _TABLE if each.name == name)
    if shown is not None and shown.name == name:
        found = shown
    elif shown is not None and (shown.needs is not None or (not source.format and name in _TABLES)):
        words = shown.words + " or another ZIP archive" * start.startswith(b"PK")
        add = source.give("format", shown.name)
        raise source.refused(f"is {words}, not {found.words}: add {add}")
    _check(found, head, start, source, is_compressed=is_compressed)
    return found


def _check(
    found: Format, head: bytes, start: bytes, source: Source, *, is_compressed: bool
) -> None:
    check_options(found.words, found.options, source)
    for pattern, reason in _OTHERS.items():
        if re.match(pattern, start):
            raise source.refused(reason)
    if head.startswith(b"SQLite format 3\0"):
        from journal.inputs.sqlite import example  # noqa: PLC0415  (only for such a file)

        raise source.refused(f"is a SQLite database: give a query: {example(source.path)}")
    if found.at_any_offset and (is_compressed or not source.is_file):
        reason = "can't be compressed or a pipe, as it is read from its end: save it as a file"
        raise source.refused(f"is {found.words}, which {reason}")
    is_marked = source.encoding or encoding_of_mark(head)
    if found.needs is None and found.name != NULL and not is_marked and b"\0" in head:
        give = source.give("encoding", "utf-16")
        items = "if its rows end with NUL, as those of find -print0, add -0; " * source.in_shell
        reason = f"has NUL bytes: {items}if it is text in such an encoding, add {give}"
        raise source.refused(reason, value=head[:_MAX_QUOTED])


def check_options(words: str, options: Collection[str], source: Source) -> None:
    """Raise InvalidValueError for an option that has no meaning for the format."""
    for name in ("encoding", "delimiter", "sheet"):
        if getattr(source, name) is not None and name not in options:
            users = dict.fromkeys(each.words for each in _TABLE if name in each.options)
            reason = f"is for {', '.join(users)}, and this is {words}"
            raise source.refused_option(name, reason)
