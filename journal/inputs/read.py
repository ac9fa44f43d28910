"""``read_rows`` reads the rows of a file as dicts, whatever its format."""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NamedTuple

from journal.errors import InvalidValueError, JournalError, load_extra
from journal.format.arguments import check_optional_text, names_unknown_keywords
from journal.inputs.formats import (
    FORMATS,
    HEAD_BYTES,
    NULL,
    check_options,
    choose,
    compression_of,
    decompressed,
)
from journal.inputs.read_options import STANDARD_INPUT, Rows, Source


@names_unknown_keywords
def read_rows(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002  (the word)
    encoding: str | None = None,
    delimiter: str | None = None,
    sheet: str | None = None,
) -> RowInput:
    """The rows of a file: an iterable of dicts, to pass to :func:`journal.open_job` as ``rows``.

    - ``path``: a file, "-" for standard input, or "sqlite:FILE?QUERY" for the rows of a query.
      Files in gzip, xz or zstd are decompressed while they are read.
    - ``format``: "csv", "tsv", "json" (an array of objects), "jsonl", "lines", "parquet", "arrow"
      (also Feather) or "xlsx". Default: the format for the file's extension. If the extension is
      unknown, JSON, JSON Lines, Parquet, Arrow and Excel are recognized by the first bytes. Any
      other file is read as CSV.
    - ``encoding``: the encoding of text. Default: the encoding of the byte order mark, else UTF-8.
    - ``delimiter``: the separator of cells in CSV: one character, or "tab". Default: a comma.
    - ``sheet``: the name of a sheet of a workbook. Default: the only sheet that isn't empty.

    The values are JSON values, or Decimals of Parquet and Arrow: see `journal help inputs`. Numbers
    of JSON that aren't integers are floats. A job records these numbers with all the digits of the
    file, unless you change the row. The attribute ``columns`` has the names of the columns in the
    order of the file. For JSON, ``columns`` is None, because each row may have its own names.

    The header is read in this call. The rows are read while you iterate. The rows need bounded
    memory, except that an array of JSON and the texts of a workbook are in memory as a whole. Each
    iteration reads the file from its beginning. Standard input can be iterated only once.

    Raises InvalidValueError, in this call or while you iterate, if an argument is invalid or if the
    input can't be read. An error in the input names the file, the place (line, row or cell) and the
    value. Raises MissingExtraError if a library for this format is missing.
    """
    if isinstance(path, bytes) or not isinstance(path, (str, os.PathLike)):
        raise InvalidValueError("path", path, "must be the path of a file, such as 'orders.csv'")
    for name, value in (("encoding", encoding), ("delimiter", delimiter), ("sheet", sheet)):
        check_optional_text(value, name)
    return RowInput(Source(os.fspath(path), format, encoding, delimiter, sheet))


class RowInput:
    """The rows of an input: the result of :func:`read_rows`. Each iteration opens the input again.

    - ``columns``: the names of the columns; None if each row has its own names.
    - ``words``: what the input is, such as "CSV".
    - ``source``: the path and the options.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._opened: _Opened | None = self._open()

    def __repr__(self) -> str:
        return f"<rows of {self.source.name}>"

    def __iter__(self) -> Rows:
        opened, self._opened = self._opened, None
        if opened is None:
            if not self.source.is_file and not self.source.is_query:
                raise self.source.refused(
                    "can be read only once: keep its rows in a list or a file"
                )
            opened = self._open()
        return self._until_end(opened)

    def _until_end(self, opened: _Opened) -> Rows:
        """Yield the rows.

        This generator refers to ``self``, so ``self`` and the open file stay alive until the end.
        """
        number = 0
        with opened.stack, _named(self.source, opened.words, lambda: f"after row {number}"):
            for number, row in enumerate(opened.rows, 1):  # noqa: B007  (see above)
                yield row

    def _open(self) -> _Opened:
        with ExitStack() as stack, _named(self.source, "rows"):
            opened = _open(self.source, stack)
            opened = opened._replace(stack=stack.pop_all())
        # Without this, the open file would cause a ResourceWarning if the caller doesn't iterate.
        weakref.finalize(self, opened.stack.close)
        self.columns, self.words = opened.columns, opened.words
        return opened


@contextmanager
def _named(source: Source, words: str, where: Callable[[], str] = str) -> Iterator[None]:
    """An error of the system, or of a library for damaged data, becomes InvalidValueError."""
    try:
        yield
    except JournalError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise source.refused(f"can't be read: {error.strerror}") from None
        raise source.refused(f"can't be read as {words}: {error}", where()) from error


class _Opened(NamedTuple):
    """An open input. ``words``: the name of its format in messages."""

    words: str
    columns: list[str] | None
    rows: Rows
    stack: ExitStack


def _open(source: Source, stack: ExitStack) -> _Opened:
    if source.format not in (None, NULL, *FORMATS):
        raise source.refused_option("format", f"must be one of {', '.join(FORMATS)}")
    if source.is_query:
        from journal.inputs.sqlite import read_query  # noqa: PLC0415  (only for such an input)

        check_options("a SQLite database", (), source)
        columns, rows = read_query(source, stack)
        return _Opened("a SQLite database", columns, rows, stack)
    if source.path == STANDARD_INPUT:
        return open_stream(sys.stdin.buffer, source, stack)
    try:
        stream = open(source.path, "rb")  # noqa: SIM115  (the stack closes it)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        reason = f"can't be read: {why}; name a CSV file, or - for stdin"
        raise InvalidValueError(source.argument or "path", source.path, reason) from None
    return open_stream(stack.enter_context(stream), source, stack)


def open_stream(stream: IO[bytes], source: Source, stack: ExitStack) -> _Opened:
    """Begin to read the input ``source``, whose bytes are in ``stream``."""
    raw: Any = stream
    data = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)
    compression = compression_of(data.peek(HEAD_BYTES))
    if compression is not None:
        data = decompressed(data, compression, source)
    head = data.peek(HEAD_BYTES)[:HEAD_BYTES]
    chosen = choose(head, source, is_compressed=compression is not None)
    if chosen.needs is not None:
        library, extra = chosen.needs
        load_extra(library, f"an input in {chosen.words}", extra)
    with _named(source, chosen.words):
        return _Opened(chosen.words, *chosen.read(source, data, stack), stack)
