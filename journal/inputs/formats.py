"""Finds out the format of a file from its name and from its first bytes."""

from __future__ import annotations

from pathlib import PurePath
from typing import NamedTuple

from journal.errors import InvalidValueError
from journal.inputs.compression import SUFFIXES, compression_of
from journal.inputs.source import Source

FORMATS = ("csv", "tsv", "json", "jsonl", "lines", "parquet", "arrow", "xlsx")
NULL = "null"  # the format of --null: like lines, but each ends with a NUL
BINARY = frozenset(("parquet", "arrow", "xlsx"))

_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "lines",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
}
_WORDS = {  # in messages
    "csv": "CSV",
    "tsv": "TSV",
    "json": "JSON",
    "jsonl": "JSON Lines",
    "lines": "lines of text",
    NULL: "lines that end with NUL",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "xlsx": "an Excel workbook",
}
HEAD_BYTES = 512  # enough for each of the kinds below


class Kind(NamedTuple):
    """A kind of file. If no format can read it, ``format`` is None and ``advice`` is given."""

    words: str
    format: str | None
    advice: str = ""


_EXPORT = "export its table as CSV from the program that made it"
_AS_CSV = "save it as .xlsx or CSV"
_STREAM = Kind("an Arrow stream", "arrow")
_MAGIC = {
    b"PAR1": Kind("a Parquet file", "parquet"),
    b"ARROW1\0\0": Kind("an Arrow file", "arrow"),
    b"\xff\xff\xff\xff": _STREAM,
    b"FEA1": Kind("a Feather file of version 1", None, "write it again with pyarrow or polars"),
    b"PK\x03\x04": Kind("a ZIP archive or an Excel workbook", "xlsx"),
    b"PK\x05\x06": Kind("an empty ZIP archive", None, "look how it was made"),
    b"%PDF-": Kind("a PDF", None, _EXPORT),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": Kind(
        "an old Excel workbook (.xls), one with a password, or the like", None, _AS_CSV
    ),
    b"7z\xbc\xaf\x27\x1c": Kind("a 7-Zip archive", None, "unpack it first"),
    b"Rar!\x1a": Kind("a RAR archive", None, "unpack it first"),
    b"ORC": Kind("an ORC file", None, "write it as Parquet"),
    b"Obj\x01": Kind("an Avro file", None, "write it as Parquet or JSON Lines"),
    b"\x89HDF": Kind("an HDF5 file", None, "write its table as Parquet"),
    b"\x93NUMPY": Kind("a NumPy array", None, "write it as CSV or Parquet"),
    b"\x80\x04\x95": Kind("a pickle of Python", None, "write its table as CSV or Parquet"),
    b"\x80\x05\x95": Kind("a pickle of Python", None, "write its table as CSV or Parquet"),
    b"\x7fELF": Kind("a program", None, "name a table"),
    b"\x89PNG": Kind("a PNG image", None, "name a table"),
    b"\xff\xd8\xff": Kind("a JPEG image", None, "name a table"),
}
_PAGE = Kind("an HTML page", None, "look at it: it may be the error page of a download")
_TAR = Kind("a tar archive", None, "unpack it first: tar xf")
_SQLITE = b"SQLite format 3\0"


def words_of(name: str) -> str:
    return _WORDS[name]


def format_of(name: str) -> str | None:
    """The format for a file's extension; None if unknown.

    An extension of a compression, such as .gz, is ignored.
    """
    path = PurePath(name.lower())
    return _OF_SUFFIX.get((path.with_suffix("") if path.suffix in SUFFIXES else path).suffix)


def kind_of(head: bytes, path: str) -> Kind | None:
    """The kind of uncompressed data that begins with ``head``; None if the data may be text.

    ``path``: the file with the data, or "".
    """
    if head.startswith(_SQLITE):
        from journal.inputs.sqlite import example  # noqa: PLC0415  (only for such a file)

        return Kind("a SQLite database", None, f"give a query: {example(path)}")
    if head.startswith(b"PK\x03\x04") and path:
        return _kind_of_zip(path)
    for magic, kind in _MAGIC.items():
        # These may also be the first letters of text: a column may be called ORCID.
        if head.startswith(magic) and (not magic.isalnum() or _has_controls(head)):
            return kind
    if head[257:262] == b"ustar":
        return _TAR
    text = head[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return _PAGE if text.startswith((b"<!doctype html", b"<html")) else None


def _kind_of_zip(path: str) -> Kind:
    import zipfile  # noqa: PLC0415  (slow to import)

    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        names = set()
    if names & {"xl/workbook.xml", "xl/workbook.bin"}:
        is_binary = "xl/workbook.bin" in names
        kind = Kind("an Excel workbook", "xlsx")
        return Kind("a binary Excel workbook (.xlsb)", None, _AS_CSV) if is_binary else kind
    if "content.xml" in names:
        return Kind("an OpenDocument file, such as of LibreOffice", None, _AS_CSV)
    if "word/document.xml" in names:
        return Kind("a Word document", None, "save its table as CSV")
    return Kind("a ZIP archive", None, "unzip it first")


def choose(head: bytes, source: Source, compression: str | None) -> str:
    """The format of an input. ``head``: the first bytes of the input, after decompression.

    The format is the first of these that is known: the given format, the format for the file's
    extension, the format of the content. If none is known, the format is CSV. Raises
    InvalidValueError if the content shows a different format than the chosen one.
    """
    path = source.path if source.is_file and not compression else ""
    if compression and (inner := compression_of(head)):
        reason = f"is {compression} data with {inner} data in it: decompress it once"
        raise source.refused(reason)
    kind = kind_of(head, path)
    wanted = source.format or format_of(source.path)
    found = wanted or (kind and kind.format) or "csv"
    if kind is None or kind.format == found:
        if found in BINARY:
            if not head:
                raise source.refused(f"is empty, and not {words_of(found)}")
            if kind is None:
                raise source.refused(f"isn't {words_of(found)}: {_text_or_not(head, source)}")
            if compression and kind is not _STREAM:
                what = f"is {compression} data with {kind.words} in it: unpack it first"
                raise source.refused(what)
        return found
    raise _mismatch(kind, source, compression, words_of(found) if wanted else "")


def _mismatch(
    kind: Kind, source: Source, compression: str | None, wanted: str
) -> InvalidValueError:
    packed = f"{compression} data with {kind.words} in it" if compression else kind.words
    other = f", not {wanted}" if wanted else ""
    advice = kind.advice
    if kind.format is not None:
        advice = "unpack it first" if compression else f"add {source.give('format', kind.format)}"
    return source.refused(f"is {packed}{other}: {advice}")


def _text_or_not(head: bytes, source: Source) -> str:
    if is_binary(head):
        return "it is binary data of an unknown kind"
    return f"it is text: name its format, such as {source.give('format', 'csv')}"


_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def is_binary(data: bytes) -> bool:
    """Whether the bytes can't be text in an 8-bit encoding."""
    return compression_of(data) is not None or _has_controls(data)


def _has_controls(data: bytes) -> bool:
    return len(data.translate(None, _CONTROLS)) < len(data)
