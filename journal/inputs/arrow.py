"""Parquet and Arrow files (Feather, IPC files and streams), with pyarrow, batch by batch.

At any time, a few thousand rows are in memory as Python values. For Parquet, pyarrow also holds the
pages of the current row group. For a compressed Arrow file, pyarrow also holds one record batch.
Any other Arrow file is mapped into memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from journal.errors import MissingExtraError
from journal.inputs.cells import json_cells
from journal.inputs.source import Source, check_columns

_BATCH_ROWS = 4096
_READ_BYTES = 1 << 20
_DAMAGED = "is damaged or incomplete: copy it or write it again"
_EXACT = frozenset(("bool", "string", "large_string", "int8", "int16", "int32", "int64"))

Rows = Iterator[dict[str, Any]]


def _load(words: str, extra: str) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra, and heavy)
    except ImportError:
        raise MissingExtraError(words, "pyarrow", extra) from None
    return pa


def read_parquet(source: Source, stack: ExitStack) -> tuple[list[str], Rows]:
    """The columns and the rows of a Parquet file."""
    pa = _load("an input in Parquet", "parquet")
    if not source.is_file:
        raise source.refused("is a pipe, but Parquet is read from its end: save it as a file")
    from pyarrow import parquet  # noqa: PLC0415

    try:
        # Buffered and without read-ahead. Otherwise a whole row group would be in memory.
        options = {"buffer_size": _READ_BYTES, "pre_buffer": False}
        options["page_checksum_verification"] = True  # if the file has checksums
        file = stack.enter_context(parquet.ParquetFile(source.path, **options))
        columns = check_columns(list(file.schema_arrow.names), source)
    except (pa.ArrowException, OSError) as error:
        raise source.refused(f"{_DAMAGED} ({error})") from None
    return columns, _rows(pa, file.iter_batches(_BATCH_ROWS), columns, source)


def read_arrow(source: Source, stream: io.BufferedReader, head: bytes) -> tuple[list[str], Rows]:
    """The columns and the rows of an IPC file or stream."""
    pa = _load("an input in Arrow", "arrow")
    try:
        if head.startswith(b"ARROW1"):
            if not source.is_file:
                reason = "is a pipe, but an Arrow file is read from its end: save it as a file"
                raise source.refused(reason)
            file = pa.ipc.open_file(pa.memory_map(source.path))
            batches = (file.get_batch(number) for number in range(file.num_record_batches))
        else:
            file = batches = pa.ipc.open_stream(stream)
        columns = check_columns(list(file.schema.names), source)
    except (pa.ArrowException, OSError) as error:
        raise source.refused(f"{_DAMAGED} ({error})") from None
    return columns, _rows(pa, batches, columns, source)


def _rows(pa: Any, batches: Iterable[Any], columns: list[str], source: Source) -> Rows:
    first = 1
    try:
        for batch in batches:
            batch.validate(full=True)  # otherwise, damage can crash the process
            for begin in range(0, batch.num_rows, _BATCH_ROWS):
                part = batch.slice(begin, _BATCH_ROWS)
                cells = [
                    _values(pa, column, source, name, first)
                    for name, column in zip(columns, part.columns, strict=True)
                ]
                # Without columns, no cell would show that there is a row.
                for row in zip(*cells, strict=True) if cells else ((),) * part.num_rows:
                    yield dict(zip(columns, row, strict=True))
                first += part.num_rows
    except (pa.ArrowException, OSError) as error:
        raise source.refused(f"after row {first - 1}, it {_DAMAGED} ({error})") from None
    if first == 1:
        raise source.refused("has no rows")


def _values(pa: Any, column: Any, source: Source, name: str, first: int) -> list[Any]:
    """The JSON values of a part of a column. ``first``: the number of the first row."""

    def where(place: int) -> str:
        return f"row {first + place}, column {name!r}"

    if str(column.type) in _EXACT:
        kind = str(column.type)
        values: list[Any] = _to_python(column, source, where)
        return values if "string" not in kind else json_cells(values, source, where)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    wanted = _in_microseconds(pa, column.type)
    if wanted == column.type:
        return json_cells(_to_python(column, source, where), source, where)
    try:
        cast = column.cast(wanted)
    except pa.ArrowInvalid:  # some times have nanoseconds
        if not pa.types.is_timestamp(wanted) and not pa.types.is_time(wanted):
            reason = "has durations or nested times with nanoseconds: make them text or numbers"
            raise source.refused(reason, where(0).replace("row", "from row")) from None
        return _with_nanoseconds(pa, column, wanted, source, where)
    return json_cells(_to_python(cast, source, where), source, where)


def _to_python(column: Any, source: Source, where: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError):  # a value isn't valid text, or is out of Python's range
        for place, scalar in enumerate(column):
            try:
                scalar.as_py()
            except (ValueError, OverflowError) as error:
                reason = f"can't be read: {error}"
                raise source.refused(reason, where(place), str(scalar.type)) from None
        raise


def _in_microseconds(pa: Any, kind: Any) -> Any:
    """The type with microseconds in place of nanoseconds, since Python's times have no nanoseconds.

    Without this change, pyarrow would need pandas for some types, and would drop the nanoseconds of
    others.
    """
    types = pa.types
    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_struct(kind):
        fields = [field.with_type(_in_microseconds(pa, field.type)) for field in kind]
        return pa.struct(fields)
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_microseconds(pa, kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_in_microseconds(pa, kind.value_type)))
    return kind


def _with_nanoseconds(pa: Any, column: Any, wanted: Any, source: Source, where: Any) -> list[Any]:
    """Times as ISO 8601 text, with nine decimals where microseconds aren't enough."""
    exact = column.cast(pa.int64()).to_pylist()
    floor = pa.array([None if value is None else value // 1000 for value in exact], pa.int64())
    found = []
    for value, time in zip(exact, _to_python(floor.cast(wanted), source, where), strict=True):
        if time is None or not value % 1000:
            found.append(time and time.isoformat())
            continue
        text = time.isoformat(timespec="microseconds")
        end = text.index(".") + len(".123456")
        found.append(f"{text[:end]}{value % 1000:03d}{text[end:]}")
    return found
