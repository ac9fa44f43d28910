"""Writes the rows of jobs to a file or a stream: CSV, JSON, SQLite, Parquet.

The set of columns is known only after all rows were read. So the rows of all jobs are first written
to a temporary file without a name. The export is made from that file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from heapq import merge
from itertools import chain, groupby, islice, repeat, starmap
from operator import itemgetter
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any

import msgspec

import journal  # for annotations: the room `service` is above this one
from journal.errors import InvalidValueError, RefusedError, StorageError
from journal.fs.files import ScratchFile
from journal.fs.output_files import whole_file
from journal.history.history import look
from journal.ids import shard_name
from journal.model import Job, JobRow, RowStatus, row_statuses
from journal.tables.columns import (
    ATTEMPT_COLUMNS,
    BOOL,
    FLOAT,
    INT,
    JOURNAL_COLUMNS,
    STEP_COLUMNS,
    TEXT,
    TIME,
    WIDE,
    Key,
    Options,
    check_options,
)
from journal.tables.table import (
    CHUNK_ROWS,
    SLICE_ROWS,
    Chunk,
    Table,
    chunks_of_attempts,
    chunks_of_rows,
    chunks_of_steps,
)
from journal.text import as_text, csv_liner, encode_json, json_array, own_number

if TYPE_CHECKING:
    import sqlite3

STREAMED = ("csv", "excel-csv", "jsonl", "json")
FORMATS = (*STREAMED, "sqlite", "parquet")

MAX_COLUMNS = 10_000
TABLES = {"rows": JOURNAL_COLUMNS, "steps": STEP_COLUMNS, "attempts": ATTEMPT_COLUMNS}
_MAX_SQLITE_COLUMNS = 2000  # the default limit of SQLite

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
# database, even if an older database has left the file.
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
    """Write the rows of jobs in the order of ``job_ids`` and row numbers.

    Returns the number of rows.

    The id of a set stands for all of its shards. The rows of a set are sorted by their places in
    the input. If a shard isn't here, JobNotFoundError is raised. To write only the other shards,
    give their ids.

    Each row becomes one flat record: first the columns of its data, then the columns in
    :data:`journal.tables.columns.JOURNAL_COLUMNS`. If the data has a column with one of these
    names, in upper or lower case, the journal's column gets the prefix ``journal_``. Some of the
    journal's columns are left out if no row uses them: see :class:`journal.Rows`.

    - ``out``: a path, or a binary stream for the formats in STREAMED. The export is written to a
      new file, synced, and then renamed to the path. An existing file is replaced only with
      ``force``. If the export fails, an existing file is unchanged.
    - ``file_format``: one of FORMATS. By default, the path's extension selects the format.
      "excel-csv" is "csv" with a byte order mark.
    - ``statuses``: write only rows with one of these statuses. ``where``: a function of a row. Only
      rows for which the function returns a true value are written.
    - ``table``: "rows". With "steps" or "attempts", a record is written for each step of the rows,
      or for each attempt at the rows. The columns of these records are those in
      :data:`journal.tables.columns.STEP_COLUMNS` and ``ATTEMPT_COLUMNS``. The function then returns
      the number of records. Attempts are in the order in which they ended.
    - ``data_only``: leave out the journal's columns.
    - ``columns``: select the columns, as for the tables of :class:`journal.Rows`.

    The rows of a job are exported in their states at one moment. Rows are first collected in an
    unnamed temporary file, beside ``out`` or in the system's temporary directory. The function
    needs 17 bytes of memory for each row of the current job, up to 64 MB to merge a set, and memory
    for the indexes of the jobs that the service keeps open.

    Raises InvalidValueError for invalid arguments, if ``out`` is a job's own file, and if the
    format can't hold a value. If ``out`` exists, raises InvalidValueError unless ``force`` is given
    and ``out`` is a regular file. Also raises MissingExtraError, StorageError, and the errors of
    reading a job, and RefusedError if shards of a set without a key have seen different inputs.
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
        return values  # csv writes these values like as_text(), and None as an empty cell
    return list(map(as_text, values))


# --- the rows of several jobs -----------------------------------------------------------------


class Collected:
    """The rows of some jobs, collected in a temporary file without a name.

    So later changes of the jobs have no effect on the export. Iteration yields the rows in chunks.
    The rows of a set's shards are sorted by their places in the input. In these chunks, times are
    text.

    - ``table``: the columns, and their names. ``count``: the number of rows.
    - ``name``: the name that the table gets in a database.
    """

    def __init__(
        self,
        lines: ScratchFile,
        service: journal.JobService,
        job_ids: Iterable[str],
        options: Options,
        *,
        statuses: Collection[RowStatus | str],
        where: Callable[[JobRow], object] | None,
        table: str,
        tabular: bool,
    ) -> None:
        """Read all rows into the empty file ``lines``, which the caller closes.

        - ``table``: one of TABLES.
        - ``tabular``: if False, the table may lack columns of the data. But the table has each
          column of the data whose name may collide with the name of a journal's column.

        Raises InvalidValueError if a status or a column doesn't exist. Also raises StorageError,
        and the errors of reading a job.
        """
        self.name = table
        self._known = TABLES[table]
        self.table = Table(options, self._known)
        self.jobs: list[Job] = []
        self._statuses, self._where = row_statuses(statuses or None), where
        self._tabular = tabular or options.columns is not None
        self._lines = lines
        self._own: list[str] = []  # the journal's columns in the chunks of shards
        self._begins: list[int] = []  # where the rows of each job begin in the file
        for job_id in chain.from_iterable(_shards_in(service, job_id) for job_id in job_ids):
            self._begins.append(lines.size_bytes)
            self._take(service, job_id)
        self.table.choose()
        self.count = self.table.count

    def _take(self, service: journal.JobService, job_id: str) -> None:
        """Write the rows of one job to the file."""
        job, history, (rows,) = look(service.store, job_id, self._statuses)
        if self.jobs:
            _check_input(job, self.jobs[-1])
        if self._where is not None:
            met = [place for place, row in enumerate(rows) if self._where(row)]
            rows.view = rows.view.chosen(met)
        if self.name == "steps":
            self._write(chunks_of_steps(rows), job_id)
        elif self.name == "attempts":
            self._write(chunks_of_attempts(rows, history), job_id)
        else:
            shards = 0 if job.shard is None else job.shard.count
            begin, before = self._lines.size_bytes, self.table.copy()
            chunks = partial(chunks_of_rows, rows, history, before.options, shards)
            if not self._write(chunks(), job_id):  # the order of the input has changed
                self._lines.cut(begin)
                self.table = before
                places = sorted((row.place or row.row_number, at) for at, row in enumerate(rows))
                rows.view = rows.view.chosen(at for _, at in places)
                self._write(chunks(), job_id)
        self.jobs.append(job)

    def _write(self, chunks: Iterable[Chunk], job_id: str) -> bool:
        """Write chunks to the file. Returns False if the rows of a shard aren't in their order."""
        last = 0
        for chunk in chunks:
            if chunk.places:
                if sorted((last, *chunk.places)) != [last, *chunk.places]:
                    return False
                last, self._own = chunk.places[-1], list(chunk.own)
            self._lines.write(encode_json(_by_rows(chunk) if chunk.places else chunk))
            if not self._tabular:
                names = set(chain.from_iterable(chunk.data))
                alike = (name for name in names if name.casefold().endswith(tuple(self._known)))
                self.table.add(chunk._replace(data=[dict.fromkeys(alike)]))
            else:
                self.table.add(chunk)
            if self.table.width() > MAX_COLUMNS:
                reason = (
                    f"brings the table to over {MAX_COLUMNS} columns: export as JSON Lines (.jsonl)"
                )
                raise InvalidValueError(f"job {job_id}", "", reason)
        return True

    def __iter__(self) -> Iterator[Chunk]:
        decode = msgspec.json.Decoder(Chunk, float_hook=own_number).decode
        ends = [*self._begins, self._lines.size_bytes][1:]  # none if there is no job
        parts = zip(self.jobs, self._begins, ends, strict=True)
        for set_id, some in groupby(parts, lambda part: self._set_of(part[0])):
            lines = (self._lines.lines(begin, end) for _, begin, end in some)
            if set_id:
                yield from self._merged(list(lines))
            else:
                yield from map(decode, chain.from_iterable(lines))

    def _set_of(self, job: Job) -> str:
        """The set with the merged shards, if the job is one of these shards."""
        return job.id.partition("/")[0] if job.shard is not None and self.name == "rows" else ""

    def _merged(self, shards: list[Iterator[bytes]]) -> Iterator[Chunk]:
        """Merge the rows of shards by place and number. Each row is decoded when its turn comes."""
        decode = msgspec.json.Decoder(list[Any], float_hook=own_number).decode
        rows = merge(*starmap(_rows_of, enumerate(shards)))
        while some := list(islice(rows, CHUNK_ROWS)):
            columns: list[list[Any]] = [[] for _ in range(len(self._own) + 1)]
            for at in range(0, len(some), SLICE_ROWS):
                found = map(decode, map(itemgetter(3), some[at : at + SLICE_ROWS]))
                for values, more in zip(columns, zip(*found, strict=True), strict=True):
                    values.extend(more)
            data, *own = columns
            yield Chunk(len(some), data, dict(zip(self._own, own, strict=True)))

    def cells(self) -> Iterator[list[list[Any]]]:
        """Yield the columns of each chunk."""
        return map(self.table.cells, self)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield each row as a flat dict.

        If the table may lack columns of the data, each row has only the columns of its own data.
        """
        names = {key: name for name, key in self.table.keys.items()}
        shown = {name: names.get(Key(True, name)) for name in self._known}
        for chunk in self:
            if self._tabular:
                for cells in zip(*self.table.cells(chunk), strict=True):
                    yield dict(zip(self.table.columns, cells, strict=True))
                continue
            own = {new: chunk.own[name] for name, new in shown.items() if new and name in chunk.own}
            rows = zip(*own.values(), strict=True) if own else repeat((), chunk.size)
            data: Iterable[dict[str, Any]] = chunk.data or repeat({}, chunk.size)
            for row, values in zip(data, rows, strict=True):
                yield row | dict(zip(own, values, strict=True))


def _shards_in(service: journal.JobService, job_id: str) -> list[str]:
    """Return the ids of all shards of a set, even of absent shards, or the job's own id."""
    is_one = "/" in job_id or service.store.holds_job(job_id)
    count = 0 if is_one else service.store.count_shards(job_id)
    return [f"{job_id}/{shard_name(index, count)}" for index in range(count)] or [job_id]


def _check_input(job: Job, other: Job) -> None:
    """Raise RefusedError if two shards of a set without a key have seen different inputs."""
    if job.shard is None or job.shard.key is not None or job.input is None or other.input is None:
        return
    set_id, _, _ = job.id.partition("/")
    if set_id == other.id.partition("/")[0] and job.input.digest != other.input.digest:
        raise RefusedError(
            f"{set_id}: {other.id} and {job.id} have seen different inputs: without a key, a row "
            "may be in two shards or in none; first start both shards again with the whole input"
        )


def _by_rows(chunk: Chunk) -> tuple[Sequence[int], Sequence[int], list[tuple[Any, ...]]]:
    return chunk.places, chunk.numbers, list(zip(chunk.data, *chunk.own.values(), strict=True))


def _rows_of(shard: int, lines: Iterator[bytes]) -> Iterator[tuple[int, int, int, msgspec.Raw]]:
    """Yield the rows of a shard: the place, the number, ``shard`` and the JSON."""
    decode = msgspec.json.Decoder(tuple[list[int], list[int], list[msgspec.Raw]]).decode
    return chain.from_iterable(
        zip(places, numbers, repeat(shard), rows) for places, numbers, rows in map(decode, lines)
    )


# --- SQLite -----------------------------------------------------------------------------------


def write_sqlite(rows: Collected, path: Path) -> None:
    """Write the database into the empty file ``path``.

    The database has the table ``rows``, ``steps`` or ``attempts``. Values are stored as follows:

    - integers, floats and text unchanged, except that SQLite stores -0.0 as 0.0;
    - booleans as 0 and 1;
    - nested values as JSON text;
    - times as ISO 8601 text in UTC.
    """
    if not rows.table.columns:
        raise InvalidValueError("format", "sqlite", "needs a column, and no row has data")
    if (count := len(rows.table.columns)) > _MAX_SQLITE_COLUMNS:
        reason = f"takes {_MAX_SQLITE_COLUMNS} columns, not {count}: export as JSON Lines"
        raise InvalidValueError("format", "sqlite", reason)
    import sqlite3  # noqa: PLC0415  (for this format only)

    taken: set[str] = set()  # SQLite ignores case
    named = (name.replace("\0", "") for name in rows.table.columns)
    columns = [_free_name(name, taken) for name in named]
    try:
        # No rollback journal is needed, since the caller removes the file after a failure. The
        # caller also syncs the file.
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN")
            _put_rows(rows, columns, database)
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise StorageError(path, "write", 0, str(error)) from error


def _put_rows(rows: Collected, names: list[str], database: sqlite3.Connection) -> None:
    all_kinds = rows.table.columns.values()
    columns = [
        f"{_quoted(name)} {_declared(kinds)}" for name, kinds in zip(names, all_kinds, strict=True)
    ]
    database.execute(f"CREATE TABLE {rows.name} ({', '.join(columns)})")
    marks = ", ".join("?" * len(names))
    insert = f"INSERT INTO {rows.name} VALUES ({marks})"  # noqa: S608  (marks alone)
    plain = [not kinds & ~(BOOL | INT | WIDE | TEXT | TIME) for kinds in all_kinds]
    for cells in rows.cells():
        stored = [
            values if is_plain else list(map(_stored, values))
            for values, is_plain in zip(cells, plain, strict=True)
        ]
        database.executemany(insert, zip(*stored, strict=True))


def _stored(value: Any) -> Any:
    if value is None or isinstance(value, (float, str)):
        return value
    if isinstance(value, msgspec.Raw):
        return float(bytes(value))
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return int(value)
    return as_text(value)


def _declared(kinds: int) -> str:
    """Return the type of a column.

    The type is "" if every other type would change some values, as for text mixed with numbers.
    """
    if kinds and not kinds & ~(BOOL | INT | WIDE):
        return "INTEGER"
    if kinds == FLOAT:
        return "REAL"
    return "" if kinds & (BOOL | INT | WIDE | FLOAT) else "TEXT"


def _free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number if the name is in ``taken``. Add the result to ``taken``."""
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free.lower())
    return free


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
