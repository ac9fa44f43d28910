"""Converts Arrow tables to frames of pandas, or to arrays from which pandas makes frames."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from journal.errors import MissingExtraError


def load_pandas() -> Any:
    """Import pandas. Raises MissingExtraError."""
    try:
        import pandas as pd  # noqa: PLC0415  (an extra)
    except ImportError:
        raise MissingExtraError("to_pandas()", "pandas", "pandas") from None
    return pd


def pandas_frame(table: Any) -> Any:
    """Make a frame of an Arrow table.

    If a column of integers or booleans has missing values, it gets a type of pandas that can hold
    missing values. With any other type, pandas would convert integers to floats, and floats can't
    represent all integers.
    """
    import pyarrow as pa  # noqa: PLC0415  (an extra)

    pd = load_pandas()
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    has_gaps = [column.null_count and column.type in nullable for column in table.columns]
    names = table.column_names
    gaps = [name for name, has in zip(names, has_gaps, strict=True) if has]
    rest = [name for name, has in zip(names, has_gaps, strict=True) if not has]
    if not gaps:
        return table.to_pandas()
    frame = table.select(gaps).to_pandas(types_mapper=nullable.get)
    return pd.concat([table.select(rest).to_pandas(), frame], axis=1)[names] if rest else frame


def array_of_records(table: Any) -> Any:
    """Make a NumPy array of dataclass instances, one for each row.

    ``pandas.DataFrame`` doesn't accept Arrow's C stream. But it makes columns from the fields of
    dataclasses.
    """
    import numpy as np  # noqa: PLC0415  (comes with the libraries that ask for an array)
    import pyarrow as pa  # noqa: PLC0415  (an extra)

    names = table.column_names
    kind = dataclasses.make_dataclass("Row", [f"column_{number}" for number in range(len(names))])
    for field, name in zip(dataclasses.fields(kind), names, strict=True):
        field.name = name  # set here, since it may be any text, such as "result.price"
    records = np.empty(len(table), dtype=object)
    for number, values in enumerate(table.to_pylist()):
        record: Any = object.__new__(kind)
        record.__dict__.update(values)
        records[number] = record
    for column, name in zip(table.columns, names, strict=True):
        if column.null_count and column.type == pa.int64() and "pandas" in sys.modules:
            _keep_integers(records, name)
    return records


def _keep_integers(records: Any, name: str) -> None:
    """Replace None by pandas' NA if the column has integers that a float can't represent.

    Because of None, pandas would convert all integers of the column to floats.
    """
    values = [getattr(record, name) for record in records]
    if any(value is not None and float(value) != value for value in values):
        for record, value in zip(records, values, strict=True):
            if value is None:
                setattr(record, name, sys.modules["pandas"].NA)
