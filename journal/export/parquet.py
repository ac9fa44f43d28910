"""Writes Parquet files, with pyarrow (the extra ``parquet``)."""

from __future__ import annotations

from types import ModuleType
from typing import IO, Any

import msgspec

from journal.errors import MissingExtraError
from journal.export.table import FlatRows
from journal.frames.columns import BOOL, FLOAT, INT, TIME, WIDE
from journal.text import as_text

# The maximum size of a row group. Each row group is built in memory.
_GROUP_ROWS = 1 << 16
_GROUP_CHARACTERS = 32 << 20


def load_pyarrow() -> ModuleType:
    """Import pyarrow. Raises MissingExtraError."""
    try:
        import pyarrow.parquet  # noqa: PLC0415  (an extra, and heavy)
    except ImportError:
        raise MissingExtraError("an export as Parquet", "pyarrow", "parquet") from None
    module: ModuleType = pyarrow
    return module


def write_parquet(rows: FlatRows, stream: IO[bytes]) -> int:
    """Write one table. Returns the number of rows.

    - A column of booleans is bool. A column of integers of up to 64 bits is int64.
    - A column of floats, or of floats and integers from -2**53 to 2**53, is float64.
    - Times are timestamps in UTC with microseconds.
    - All other columns are text. Values that aren't text are written as JSON text.
    """
    pa = load_pyarrow()
    schema = pa.schema([(name, _type_of(kinds, pa)) for name, kinds in rows.columns.items()])
    texts = [pa.types.is_string(field.type) for field in schema]
    keys = list(zip(rows.columns, texts, strict=True))
    columns: list[list[Any]] = [[] for _ in keys]
    characters = 0
    with pa.parquet.ParquetWriter(stream, schema, compression="zstd") as writer:

        def put() -> None:
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            for values in columns:
                values.clear()

        for number, row in enumerate(rows, 1):
            for (name, is_text), values in zip(keys, columns, strict=True):
                value = row.get(name)
                if is_text and value is not None:
                    value = as_text(value)
                    characters += len(value)
                elif isinstance(value, msgspec.Raw):
                    value = float(bytes(value))
                values.append(value)
            if number % _GROUP_ROWS == 0 or characters > _GROUP_CHARACTERS:
                put()
                characters = 0
        put()
    return rows.count


def _type_of(kinds: int, pa: ModuleType) -> Any:
    if kinds == BOOL:
        return pa.bool_()
    if kinds == TIME:
        return pa.timestamp("us", tz="UTC")
    if kinds and not kinds & ~(INT | WIDE):
        return pa.int64()
    if kinds and not kinds & ~(INT | FLOAT):
        return pa.float64()
    return pa.string()
