"""Parquet and Arrow files (Feather, IPC files and streams), with pyarrow, batch by batch.

At any time, a few thousand rows are in memory as Python values. For Parquet, pyarrow also holds the
pages of the current row group. For a compressed Arrow file, pyarrow also holds one record batch.
Any other Arrow file is mapped into memory.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

from journal.inputs.columns_and_cells import check_columns, json_cells
from journal.inputs.read_options import Rows, Source

_BATCH_ROWS = 4096
_READ_BYTES = 1 << 20
_EXACT = frozenset(("bool", "int8", "int16", "int32", "int64"))
_NANOSECONDS = re.compile(r"^\w+\[ns|<.*\b(time64|duration)\[ns\]")

Where = Callable[[int], str]


def read_parquet(source: Source, _: io.BufferedReader, stack: ExitStack) -> tuple[list[str], Rows]:
    from pyarrow import parquet  # noqa: PLC0415  (an extra, and heavy)

    # Buffered and without read-ahead. Otherwise a whole row group would be in memory.
    options = {"buffer_size": _READ_BYTES, "pre_buffer": False}
    options["page_checksum_verification"] = True  # if the file has checksums
    file = stack.enter_context(parquet.ParquetFile(source.path, **options))
    return _read(file.schema_arrow, file.iter_batches(_BATCH_ROWS), source)


def read_arrow_file(source: Source, _: io.BufferedReader, __: ExitStack) -> tuple[list[str], Rows]:
    import pyarrow as pa  # noqa: PLC0415  (an extra, and heavy)

    file = pa.ipc.open_file(pa.memory_map(source.path))
    return _read(file.schema, map(file.get_batch, range(file.num_record_batches)), source)


def read_arrow_stream(
    source: Source, stream: io.BufferedReader, _: ExitStack
) -> tuple[list[str], Rows]:
    import pyarrow as pa  # noqa: PLC0415  (an extra, and heavy)

    file = pa.ipc.open_stream(stream)
    return _read(file.schema, file, source)


def _read(schema: Any, batches: Iterable[Any], source: Source) -> tuple[list[str], Rows]:
    columns = check_columns(list(schema.names), source)
    return columns, _rows(batches, columns, source)


def _rows(batches: Iterable[Any], columns: list[str], source: Source) -> Rows:
    first = 1
    for batch in batches:
        batch.validate(full=True)  # otherwise, damage can crash the process
        for begin in range(0, batch.num_rows, _BATCH_ROWS):
            part = batch.slice(begin, _BATCH_ROWS)
            cells = [
                _values(column, source, partial(_place, name, first))
                for name, column in zip(columns, part.columns, strict=True)
            ]
            # Without columns, no cell would show that there is a row.
            for row in zip(*cells, strict=True) if cells else ((),) * part.num_rows:
                yield dict(zip(columns, row, strict=True))
            first += part.num_rows


def _place(column: str, first: int, place: int) -> str:
    return f"row {first + place}, column {column!r}"


def _values(column: Any, source: Source, where: Where) -> list[Any]:
    """The JSON values of a part of a column."""
    import pyarrow as pa  # noqa: PLC0415  (an extra, and heavy)

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if str(column.type) in _EXACT:
        values: list[Any] = column.to_pylist()
        return values
    if getattr(column.type, "unit", "") == "ns":
        with suppress(pa.ArrowInvalid):  # raised if some times have nanoseconds
            column = column.cast(_in_microseconds(pa, column.type))
    if _NANOSECONDS.search(str(column.type)):  # pyarrow would drop nested nanoseconds
        reason = "has times with nanoseconds: make them text or numbers"
        raise source.refused(reason, where(0), str(column.type))
    return json_cells(_to_python(column, source, where), source, where)


def _to_python(column: Any, source: Source, where: Where) -> list[Any]:
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
    """The same type of times in microseconds, since Python's times have no nanoseconds."""
    if pa.types.is_duration(kind):
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time(kind) else pa.timestamp("us", kind.tz)
