"""Checks the names of columns, and converts values of pyarrow, openpyxl and sqlite3 to JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from journal.format.values import SCALARS, as_json_value, plain_json, read_back, without_nan
from journal.inputs.read_options import Source

_AS_THEY_ARE = SCALARS - {float, str}


def check_columns(columns: list[str], source: Source, where: str = "") -> list[str]:
    """Return the names of columns unchanged.

    Raises InvalidValueError if a name is missing or repeated.
    """
    seen = set[str]()
    for place, column in enumerate(columns, 1):
        if not column.strip():
            raise source.refused(f"column {place} has no name: give it one", where, column)
        if column in seen:
            raise source.refused("two columns have this name: rename one", where, column)
        seen.add(column)
    return columns


def json_cell(value: Any, source: Source, where: str) -> Any:
    """Convert the value of a cell to a JSON value, or check a Decimal: see `journal help inputs`.

    NaN becomes null. Raises InvalidValueError. ``where``: the place of the cell, for the error.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is float:
        if math.isfinite(value):
            return value
        if math.isnan(value):
            return None
    if kind is str and (value.isascii() or plain_json(value) is not None):
        return value
    found = as_json_value(without_nan(value), f"{source.name}, {where}")
    return value if kind is Decimal else read_back(found)


def json_cells(values: list[Any], source: Source, where: Callable[[int], str]) -> list[Any]:
    """Convert ``values`` to JSON values.

    ``where``: a function from a value's index to its place, for errors.
    """
    found = []
    for place, value in enumerate(values):
        kind = type(value)
        is_plain = (kind is float and math.isfinite(value)) or (kind is str and value.isascii())
        if not is_plain and kind not in _AS_THEY_ARE:
            value = json_cell(value, source, where(place))  # noqa: PLW2901  (most values stay as they are)
        found.append(value)
    return found
