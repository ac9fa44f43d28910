"""Makes Arrow tables, and makes Parquet files and frames of pandas from Arrow tables.

Each column has one Arrow type, which can hold all of the column's values:

- Booleans, integers (int64), text and times (timestamp in UTC, with microseconds) have types of
  their own.
- Floats are float64. In a column with floats, integers are float64, too, if all of them are from
  -2**53 to 2**53. A double represents each of these integers exactly.
- Objects and lists become JSON text.
- Integers beyond 64 bits, and values that have no common type, become JSON text. In such a column,
  text has quotes, so that ``json.loads`` returns each value.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import IO, Any

import msgspec

from journal.errors import load_extra
from journal.history.history import History
from journal.store.row_reader import RowSequence
from journal.tables.columns import BOOL, FLOAT, INT, JSON, TEXT, TIME, WIDE, Key, Options
from journal.tables.table import Chunk, Table, chunks_of_rows
from journal.text import encode_json

_JOINED_CHUNKS = 64  # of 16 MiB or less, since an array has at most 2 GiB of text
_decode = msgspec.json.Decoder(list[str | None]).decode
_encode_lines = msgspec.json.Encoder().encode_lines
# The maximum size of a row group of a Parquet file. Each row group is built in memory.
_GROUP_ROWS = 1 << 16
_GROUP_BYTES = 64 << 20


def load_pyarrow(purpose: str, extra: str = "arrow") -> ModuleType:
    """Import pyarrow. Raises MissingExtraError."""
    pyarrow: ModuleType = load_extra("pyarrow", purpose, extra)
    importlib.import_module("pyarrow.parquet")
    return pyarrow


class Arrays:
    """Makes Arrow arrays of the values of columns. The form of a column depends on its kinds."""

    def __init__(self, pa: ModuleType) -> None:
        self._pa = pa
        # Thousands of small arrays are made and freed. Arrow's default pool returns their memory to
        # the system each time. That takes longer and needs more memory at the peak.
        self.pool = pa.system_memory_pool()
        self.types = {
            0: pa.null(),
            BOOL: pa.bool_(),
            INT: pa.int64(),
            FLOAT: pa.float64(),
            TEXT: pa.string(),
            JSON: pa.string(),
            TIME: pa.timestamp("us", tz="UTC"),
        }

    def make(self, values: Sequence[Any], form: int) -> Any:
        """Make an array of values, in the form that values have in rows or in a decoded chunk."""
        make, pool, kind = self._pa.array, self.pool, self.types[form]
        if form == JSON:
            lines = _encode_lines(values).split(b"\n")
            pairs = zip(lines, values, strict=False)  # an empty line follows the last line end
            texts = [None if value is None else line for line, value in pairs]
            return make(texts, self._pa.binary()).cast(kind, memory_pool=pool)
        if form == FLOAT and msgspec.Raw in set(map(type, values)):
            values = [float(bytes(v)) if isinstance(v, msgspec.Raw) else v for v in values]
        if form == TIME:  # as text, which Arrow reads three times as fast as objects
            times = _decode(encode_json(values))
            return make(times, self._pa.string()).cast(kind, memory_pool=pool)
        return make(values, kind, memory_pool=pool)


def form_of(kinds: int) -> int:
    """Return the kind that holds all values of a column with these kinds: a key of ``types``."""
    form = {INT | WIDE: INT, INT | FLOAT: FLOAT}.get(kinds, kinds)
    return form if form in (0, BOOL, INT, FLOAT, TEXT, TIME) else JSON


def arrow_table(rows: RowSequence, history: History, options: Options, purpose: str) -> Any:
    """Make a ``pyarrow.Table`` of the rows.

    ``history`` must end at the last commit that ``rows`` contains.
    """
    pa = load_pyarrow(purpose)
    arrays = Arrays(pa)
    table = Table(options)
    # For each chunk, its columns as arrays. The form of an array suits the chunk.
    parts: list[tuple[int, dict[Key, tuple[int, Any]]]] = []
    for chunk in chunks_of_rows(rows, history, options):
        found = {
            key: (form := form_of(kinds), arrays.make(values, form))
            for key, (kinds, values) in table.add(chunk).items()
        }
        parts.append((chunk.size, found))
    table.choose()
    made: dict[Key | None, Any] = {}  # a column may be both status and journal_status
    for name, key in table.keys.items():
        if key not in made:
            form = form_of(table.columns[name])
            column = []
            for size, found in parts:
                # Remove the part, so that its memory is freed before the next column is made.
                part, array = found.pop(key, (0, None)) if key else (0, None)
                if array is None or part != form:
                    values = table.empty(key, size) if array is None else array.to_pylist()
                    array = arrays.make(values, form)
                column.append(array)
            groups = [
                pa.concat_arrays(column[at : at + _JOINED_CHUNKS], arrays.pool)
                for at in range(0, len(column), _JOINED_CHUNKS)
            ]
            made[key] = pa.chunked_array(groups, arrays.types[form])
    return pa.table([made[key] for key in table.keys.values()], names=list(table.keys))


def write_parquet(table: Table, chunks: Iterable[Chunk], stream: IO[bytes]) -> None:
    """Write a Parquet file with the columns and types of :func:`arrow_table`."""
    pa = load_pyarrow("an export as Parquet", "parquet")
    arrays = Arrays(pa)
    forms = [form_of(kinds) for kinds in table.columns.values()]
    fields = zip(table.columns, map(arrays.types.__getitem__, forms), strict=True)
    schema = pa.schema(list(fields))
    batches: list[Any] = []
    with pa.parquet.ParquetWriter(stream, schema, compression="zstd") as writer:

        def put() -> None:
            writer.write_table(pa.Table.from_batches(batches, schema))
            batches.clear()

        for chunk in chunks:
            columns = map(arrays.make, table.cells(chunk), forms)
            batches.append(pa.RecordBatch.from_arrays(list(columns), schema=schema))
            rows, size = sum(batch.num_rows for batch in batches), sum(b.nbytes for b in batches)
            if rows >= _GROUP_ROWS or size > _GROUP_BYTES:
                put()
        if batches or not table.count:
            put()


def pandas_frame(table: Any) -> Any:
    """Make a frame of an Arrow table.

    A column of integers or booleans with missing values gets a type of pandas that can hold missing
    values. With any other type, pandas would convert integers to floats, and floats can't represent
    all integers.
    """
    import pandas as pd  # noqa: PLC0415  (an extra)
    import pyarrow as pa  # noqa: PLC0415  (an extra)

    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    has_gaps = [column.null_count and column.type in nullable for column in table.columns]
    names = table.column_names
    gaps = [name for name, has in zip(names, has_gaps, strict=True) if has]
    rest = [name for name, has in zip(names, has_gaps, strict=True) if not has]
    if not gaps:
        return table.to_pandas()
    frame = table.select(gaps).to_pandas(types_mapper=nullable.get)
    return pd.concat([table.select(rest).to_pandas(), frame], axis=1)[names] if rest else frame
