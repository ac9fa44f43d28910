"""Writes the rows of jobs to a file or a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import PurePath
from typing import IO, Any

import journal  # for annotations: the room `service` is above this one
from journal.errors import InvalidValueError
from journal.fs.files import ScratchFile
from journal.fs.output_files import whole_file
from journal.model import JobRow, RowStatus
from journal.tables.collected import TABLES, Collected
from journal.tables.columns import INT, TEXT, TIME, WIDE, Options, check_options
from journal.text import as_text, csv_liner, encode_json, json_array

STREAMED = ("csv", "excel-csv", "jsonl", "json")
FORMATS = (*STREAMED, "sqlite", "parquet")

_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
    ".parquet": "parquet",
}
# Endings of the files that SQLite keeps beside a database. SQLite would apply such a file to a new
# database, even if the file was made for an older database.
_BESIDE_SQLITE = ("-journal", "-wal")


def format_of(name: str | os.PathLike[str]) -> str:
    """Return the format for the extension of a file's name. Raises InvalidValueError."""
    found = _FORMAT_OF_SUFFIX.get(PurePath(name).suffix.lower())
    if found is None:
        known = ", ".join(_FORMAT_OF_SUFFIX)
        raise InvalidValueError(
            "out", os.fspath(name), f"must end with one of {known}, if no format is given"
        )
    return found


def export_rows(
    service: journal.JobService,
    job_ids: str | Iterable[str],
    out: str | os.PathLike[str] | IO[bytes],
    file_format: str | None = None,
    *,
    statuses: Collection[RowStatus | str] = (),
    where: Callable[[JobRow], object] | None = None,
    data_only: bool = False,
    table: str = "rows",
    columns: Sequence[str] | None = None,
    force: bool = False,
) -> int:
    """Write the rows of jobs, in the order of ``job_ids`` and row numbers; return the number of
    rows.

    The id of a set stands for all of its shards. The rows of a set are sorted by their places in the
    input. If a shard isn't here, JobNotFoundError is raised: name those that are, if you want them.

    Each row becomes one flat record: first the columns of its data, then the columns in
    :data:`journal.tables.columns.JOURNAL_COLUMNS`. If the data has a column with one of these
    names, in upper or lower case, the journal's column gets the prefix ``journal_``. Some of the
    journal's columns are left out if no row uses them: see :class:`journal.Rows`.

    - ``out``: a path, or a binary stream for the formats in STREAMED. The export is written to a
      new file, synced, and then renamed to the path. An existing file is replaced only with
      ``force``. If the export fails, an existing file is unchanged.
    - ``file_format``: one of FORMATS. By default, the path's extension selects the format.
      "excel-csv" is "csv" with a byte order mark.
    - ``statuses``: write only rows with one of these statuses. ``where``: a function of a row; only
      rows for which it returns a true value are written.
    - ``table``: "rows". With "steps" or "attempts", a record is written for each step of the rows,
      or for each attempt at them. Their columns are those in
      :data:`journal.tables.columns.STEP_COLUMNS` and ``ATTEMPT_COLUMNS``. The function then returns
      the number of records. Attempts are in the order in which they ended.
    - ``data_only``: leave out the journal's columns.
    - ``columns``: select the columns, as for the tables of :class:`journal.Rows`.

    Each job is exported as it was at one moment. Rows are first collected in an unnamed temporary
    file, beside ``out`` or in the system's temporary directory. The function needs 17 bytes
    of memory for each row of the current job, up to 64 MB to merge a set, and memory for the indexes
    of the jobs that the service keeps open.

    Raises InvalidValueError if ``out`` exists (unless ``force`` is given and ``out`` is a regular
    file), if ``out`` is a job's own file, if the format can't hold a value, and for invalid
    arguments. Also raises MissingExtraError, StorageError, and the errors of reading a job, and
    RefusedError if shards of a set without a key have seen different inputs.
    """
    path = out if isinstance(out, (str, os.PathLike)) else None
    if path is not None:
        file_format = file_format or format_of(path)
    options = check_options(columns, data_only=data_only)
    file_format = _checked(file_format, options, table)
    if path is None and file_format not in STREAMED:
        raise InvalidValueError("format", file_format, "can't be streamed: name a file")
    beside = _BESIDE_SQLITE if file_format == "sqlite" else ()
    with ExitStack() as stack:
        output = None
        if path is not None:
            output = stack.enter_context(whole_file(path, force=force, refused_beside=beside))
        directory = None if output is None else output.path.parent
        rows = Collected(
            stack.enter_context(closing(ScratchFile(directory))),
            service,
            [job_ids] if isinstance(job_ids, str) else job_ids,
            options,
            statuses=statuses,
            where=where,
            table=table,
            tabular=file_format not in ("jsonl", "json"),
        )
        if output is not None and file_format == "sqlite":
            from journal.tables.sqlite import write_sqlite  # noqa: PLC0415  (for this format only)

            write_sqlite(rows, output.path)
        else:
            stream: Any = out if output is None else stack.enter_context(output.stream())
            _write_stream(rows, stream, file_format)
        return rows.count


def _checked(file_format: str | None, options: Options, table: str) -> str:
    """Check the arguments of an export, and return the format.

    Raises InvalidValueError and MissingExtraError.
    """
    if file_format not in FORMATS:
        raise InvalidValueError("format", file_format, f"must be one of {', '.join(FORMATS)}")
    if table not in TABLES:
        raise InvalidValueError("table", table, f"must be one of {', '.join(TABLES)}")
    if table != "rows" and (options.columns is not None or options.data_only):
        reason = "has columns of its own: give no data_only or columns"
        raise InvalidValueError("table", table, reason)
    if file_format == "parquet":
        from journal.tables.arrow import load_pyarrow  # noqa: PLC0415  (before the rows are read)

        load_pyarrow("an export as Parquet", "parquet")
    return file_format


def _write_stream(rows: Collected, stream: IO[bytes], file_format: str) -> None:
    if file_format == "parquet":
        from journal.tables.arrow import write_parquet  # noqa: PLC0415  (an extra)

        write_parquet(rows.table, rows, stream)
    elif file_format in ("csv", "excel-csv"):
        if file_format == "excel-csv":
            stream.write(b"\xef\xbb\xbf")  # a byte order mark, else Excel takes UTF-8 for cp1252
        stream.writelines(_csv_lines(rows))
    elif file_format == "jsonl":
        stream.writelines(encode_json(row) + b"\n" for row in rows.records())
    else:
        stream.writelines(json_array(map(encode_json, rows.records())))


def _csv_lines(rows: Collected) -> Iterator[bytes]:
    columns = rows.table.columns
    if not columns:
        return
    line_of = csv_liner()
    yield line_of(columns)
    for cells in rows.cells():
        texts = map(_csv_cells, cells, columns.values())
        yield from map(line_of, zip(*texts, strict=True))


def _csv_cells(values: list[Any], kinds: int) -> list[Any]:
    """Return the cells of a column, from values of these kinds."""
    if not kinds & ~(TEXT | INT | WIDE | TIME):
        return values  # csv writes these as as_text() does, and None as an empty cell
    return list(map(as_text, values))
