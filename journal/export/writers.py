"""Writes the rows of jobs to a file or a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing
from pathlib import Path, PurePath
from typing import IO, Any

from journal.errors import InvalidValueError, JournalError
from journal.export.table import FlatRows, FlatSteps
from journal.frames.collect import Options, check_columns
from journal.fs.output import Output, whole_file
from journal.model import RowStatus
from journal.service import JobService
from journal.text import as_text, csv_liner, encode_json, json_array, tsv_cell, tsv_line

STREAMED = ("csv", "tsv", "jsonl", "json")
FORMATS = (*STREAMED, "sqlite", "parquet")

_FORMAT_OF_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
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
            "out", os.fspath(name), f"says no format: end it with one of {known}, or say --format"
        )
    return found


def export_rows(
    service: JobService,
    job_ids: str | Iterable[str],
    out: str | os.PathLike[str] | IO[bytes],
    file_format: str | None = None,
    *,
    statuses: Collection[RowStatus | str] = (),
    data_only: bool = False,
    steps: bool = False,
    columns: Sequence[str] | None = None,
    flatten: bool = False,
    all_columns: bool = False,
    force: bool = False,
    on_error: Callable[[JournalError], object] | None = None,
) -> int:
    """Write the rows of jobs, in the order of ``job_ids`` and row numbers; return the number of
    rows.

    Each row becomes one flat record: first the columns of its data, then the columns in
    :data:`journal.frames.columns.JOURNAL_COLUMNS`. If the data has a column with one of these
    names, in upper or lower case, the journal's column gets the prefix ``journal_``. Some of the
    journal's columns are left out if no row uses them: see :class:`journal.Rows`.

    - ``out``: a path, or a binary stream for the formats in STREAMED. The export is written to a
      new file, synced, and then renamed to the path. An existing file is replaced only with
      ``force``. If the export fails, an existing file is unchanged.
    - ``file_format``: one of FORMATS. By default, the path's extension selects the format.
    - ``statuses``: write only rows with one of these statuses.
    - ``steps``: write a record for each step of the rows, instead of a record for each row. The
      columns are those in :data:`journal.export.table.STEP_COLUMNS`. The function then returns the
      number of steps.
    - ``data_only``: leave out the journal's columns.
    - ``columns``, ``flatten``, ``all_columns``: select the columns, as for the tables of
      :class:`journal.Rows`.
    - ``on_error``: called with the error of each job that can't be read. The job is left out.

    Each job is exported as it was at one moment. Rows are first collected in an unnamed temporary
    file, beside ``out`` or in the system's temporary directory. The function needs 17 bytes
    of memory for each row of the current job, and memory for the indexes of the jobs that the
    service keeps open.

    Raises InvalidValueError if ``out`` exists (unless ``force`` is given and ``out`` is a regular
    file), if ``out`` is a job's own file, if the format can't hold a value, and for invalid
    arguments. Also raises MissingExtraError, StorageError, and the errors of reading a job.
    """
    if isinstance(out, (str, os.PathLike)):
        file_format = file_format or format_of(out)
    options = Options(check_columns(columns), flatten, all_columns)
    file_format = _checked(file_format, options, steps=steps, data_only=data_only)

    def flat_rows(directory: Path | None) -> FlatRows:
        return (FlatSteps if steps else FlatRows)(
            service,
            [job_ids] if isinstance(job_ids, str) else job_ids,
            statuses=statuses,
            data_only=data_only,
            tabular=file_format not in ("jsonl", "json"),
            options=options,
            directory=directory,
            on_error=on_error,
        )

    if not isinstance(out, (str, os.PathLike)):
        if file_format not in STREAMED:
            raise InvalidValueError("format", file_format, "can't be streamed: name a file")
        with closing(flat_rows(None)) as rows:
            return _STREAM_WRITERS[file_format](rows, out)
    beside = _BESIDE_SQLITE if file_format == "sqlite" else ()
    with (
        whole_file(out, force=force, refused_beside=beside) as output,
        closing(flat_rows(output.path.parent)) as rows,
    ):
        return _write_file(rows, output, file_format)


def _checked(file_format: str | None, options: Options, *, steps: bool, data_only: bool) -> str:
    """Check the arguments of an export, and return the format.

    Raises InvalidValueError and MissingExtraError.
    """
    if file_format not in FORMATS:
        raise InvalidValueError("format", file_format, f"must be one of {', '.join(FORMATS)}")
    if steps and data_only:
        raise InvalidValueError(
            "data_only", data_only, "leaves nothing of steps: give one of the two"
        )
    if steps and (options.columns is not None or options.flatten):
        raise InvalidValueError(
            "steps", steps, "has columns of its own: give no columns or flatten"
        )
    if file_format == "parquet":
        from journal.export.parquet import load_pyarrow  # noqa: PLC0415  (before the rows are read)

        load_pyarrow()
    return file_format


def _write_file(rows: FlatRows, output: Output, file_format: str) -> int:
    if file_format == "sqlite":
        from journal.export.sqlite import write_sqlite  # noqa: PLC0415  (for this format only)

        return write_sqlite(rows, output.path)
    with output.stream() as stream:
        if file_format == "parquet":
            from journal.export.parquet import write_parquet  # noqa: PLC0415  (an extra)

            return write_parquet(rows, stream)
        return _STREAM_WRITERS[file_format](rows, stream)


def _write_csv(rows: FlatRows, stream: IO[bytes]) -> int:
    line_of = csv_liner()
    columns = tuple(rows.columns)
    if not columns:
        return 0
    stream.write(line_of(columns))
    for row in rows:
        stream.write(line_of([as_text(row.get(name)) for name in columns]))
    return rows.count


def _write_tsv(rows: FlatRows, stream: IO[bytes]) -> int:
    columns = tuple(rows.columns)
    # Only values of the journal's columns may be changed to suit the format. The data never is.
    own = frozenset(rows.own)
    for name in columns:
        _check_cell(name, name, "the header")
    if not columns:
        return 0
    stream.write(tsv_line(columns))
    for number, row in enumerate(rows, 1):
        cells = [as_text(row.get(name)) for name in columns]
        line = "\t".join(cells)
        if line.count("\t") >= len(columns) or "\n" in line or "\r" in line:
            for place, name in enumerate(columns):
                if name in own:
                    cells[place] = tsv_cell(cells[place])
                else:
                    _check_cell(cells[place], name, _place_of(row, rows, number))
            line = "\t".join(cells)
        if not line:
            raise InvalidValueError(
                _place_of(row, rows, number),
                "",
                "would be an empty line, which readers of TSV skip: export as CSV",
            )
        stream.write(line.encode() + b"\n")
    return rows.count


def _check_cell(cell: str, name: str, place: str) -> None:
    if any(c in cell for c in "\t\n\r"):
        raise InvalidValueError(
            f"{place}, column {name!r}",
            cell,
            "has a tab or a line end, which TSV can't hold: export as CSV or JSON Lines",
        )


def _place_of(row: dict[str, Any], rows: FlatRows, count: int) -> str:
    return f"row {row[rows.key[1]]}" if rows.key else f"exported row {count}"


def _write_jsonl(rows: FlatRows, stream: IO[bytes]) -> int:
    for row in rows:
        stream.write(encode_json(row) + b"\n")
    return rows.count


def _write_json(rows: FlatRows, stream: IO[bytes]) -> int:
    for part in json_array(map(encode_json, rows)):
        stream.write(part)
    return rows.count


_STREAM_WRITERS: dict[str, Callable[[FlatRows, IO[bytes]], int]] = {
    "csv": _write_csv,
    "tsv": _write_tsv,
    "jsonl": _write_jsonl,
    "json": _write_json,
}
