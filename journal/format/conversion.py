"""Converts values of Python and of other libraries to values that JSON can hold.

No library is imported here. Values of libraries are recognized by the methods of their classes.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from decimal import Decimal
from functools import partial
from types import NoneType
from typing import Any

import msgspec

# Values of these types are JSON values.
SCALARS = frozenset((str, int, float, bool, NoneType))
MAX_REPR_BYTES = 1 << 20
_MAX_LEVELS = 100  # of the parts of a repr
_MAX_BITS = 10_000  # Python prints no integer of more than 4,300 digits

_METHODS = ("tolist", "to_list", "to_pylist", "as_py", "item", "isoformat")
_BASES: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, bytes),
    (Decimal, Decimal),
    (Mapping, dict),
    ((deque, AbstractSet), list),
    (os.PathLike, os.fspath),
)
_decode_with_decimals = msgspec.json.Decoder(float_hook=Decimal).decode


class NoJsonError(TypeError):
    """A value has a type for which there is no JSON value. The message names the type."""


def _simpler(value: Any) -> Any:
    """Return a simpler value in place of a value that msgspec doesn't know. Raises TypeError."""
    kind = type(value)
    if kind is msgspec.Raw:
        return _decode_with_decimals(value)
    if kind.__name__ in ("NaTType", "NAType"):  # missing values of pandas
        return None
    if callable(getattr(kind, "model_dump", None)):
        return value.model_dump(mode="json")
    rows = rows_of_frame(value)
    if rows is not None:
        return list(rows)
    if kind.__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") in "mM":
        return without_nan(value.astype(str).tolist(), "NaT")  # tolist() may give integers
    for method in _METHODS:
        if callable(getattr(kind, method, None)):
            return without_nan(getattr(value, method)())
    for base, convert in _BASES:
        if isinstance(value, base):
            return convert(value)
    if kind.__name__ == "coroutine":
        raise TypeError("it is a coroutine that nobody has awaited: await it in an async function")
    raise NoJsonError(f"{kind.__name__} can't be written as JSON")


# Converts a value to None, booleans, numbers, Decimals, text, lists, tuples and dicts.
to_builtins = partial(msgspec.to_builtins, builtin_types=(Decimal,), enc_hook=_simpler)


def without_nan(value: Any, missing: str | None = None) -> Any:
    """Replace each NaN by None, at any depth of lists, tuples and dicts; also the text ``missing``."""
    if type(value) in (list, tuple):
        return [without_nan(item, missing) for item in value]
    if type(value) is dict:
        return {key: without_nan(item, missing) for key, item in value.items()}
    if type(value) is float:
        return None if math.isnan(value) else value
    return None if type(value) is str and value == missing else value


# --- data frames -----------------------------------------------------------------------------


def rows_of_frame(frame: Any) -> Iterator[dict[str, Any]] | None:
    """Yield the rows of a data frame of pandas, polars or pyarrow as dicts.

    If ``frame`` isn't a data frame, returns None instead. Missing values are None. Names of columns
    are text. An index, or a level of an index, becomes a column if it has a name, and is left out
    otherwise. Raises ValueError if two columns have the same name.
    """
    kind = type(frame)
    of_index: list[Any] = []
    rows: Iterable[Iterable[Any]]
    if callable(getattr(kind, "itertuples", None)) and hasattr(frame, "columns"):  # pandas
        levels = [place for place, name in enumerate(frame.index.names) if name is not None]
        of_index = [frame.index.names[place] for place in levels]
        names = (*of_index, *frame.columns)
        if levels:
            frame = frame.reset_index(levels, allow_duplicates=True)
        rows = frame.itertuples(index=False, name=None)
    elif callable(getattr(kind, "iter_rows", None)) and hasattr(frame, "columns"):  # polars
        names, rows = frame.columns, frame.iter_rows()
    elif callable(getattr(kind, "to_pylist", None)) and hasattr(frame, "schema"):  # pyarrow
        names = frame.schema.names
        batches = frame.to_batches() if hasattr(frame, "to_batches") else [frame]
        rows = (row for batch in batches for row in _rows_of_batch(batch))
    else:
        return None
    columns = [str(name) for name in names]
    for number, name in enumerate(columns):
        if name not in columns[:number]:
            continue
        if columns.index(name) < len(of_index) <= number:
            raise ValueError(
                f"the index of the data frame and one of its columns have the name {name!r}: "
                "give frame.reset_index(drop=True) to leave the index out, or rename the column"
            )
        raise ValueError(f"two columns of the data frame have the name {name!r}: rename one")
    return (dict(zip(columns, map(without_nan, row), strict=True)) for row in rows)


def _rows_of_batch(batch: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


# --- values that can't be written --------------------------------------------------------------


def repr_text(value: object) -> str:
    """Return the ``repr`` of any value as text that JSON can hold, up to MAX_REPR_BYTES.

    If ``repr(value)`` raises an exception, or is the default ``repr`` of ``object``, the result
    shows the parts of the value one by one.
    """
    text = ""
    with suppress(BaseException):  # a __repr__ may raise anything
        if type(value).__repr__ is not object.__repr__:
            text = repr(value)
    if not text:
        for part in _parts(value):
            text += part
            if len(text) > MAX_REPR_BYTES:
                break
    data = text.encode(errors="backslashreplace")
    if len(data) <= MAX_REPR_BYTES:
        return data.decode()
    cut = data[:MAX_REPR_BYTES].decode(errors="ignore")
    return f"{cut}\n[{len(data) - len(cut.encode())} more bytes of the repr were not kept]"


def _parts(value: Any, within: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield the parts of a repr. ``within``: the ids of the containers around the value."""
    kind, inside = type(value), (*within, id(value))
    try:
        if id(value) in within or len(within) > _MAX_LEVELS:
            yield "..."
        elif issubclass(kind, dict):
            yield "{"
            for number, key in enumerate(value):
                yield ", " * (number > 0)
                yield from _parts(key, inside)
                yield ": "
                yield from _parts(value[key], inside)
            yield "}"
        elif issubclass(kind, (list, tuple, set, frozenset)):
            yield f"{kind.__name__}("
            for number, item in enumerate(value):
                yield ", " * (number > 0)
                yield from _parts(item, inside)
            yield ")"
        elif fields := _fields(value):
            yield f"<{kind.__name__} "
            yield from _parts(fields, inside)
            yield ">"
        elif kind is int:
            yield hex(value) if value.bit_length() > _MAX_BITS else str(value)
        else:
            yield repr(bytes(value) if kind is msgspec.Raw else value)
    except GeneratorExit:  # the text is long enough
        raise
    except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
        yield f"<{kind.__name__}, whose repr raises {type(error).__name__}>"


def _fields(value: Any) -> dict[str, Any] | None:
    kind = type(value)
    slots = (*getattr(kind, "__struct_fields__", ()), *getattr(kind, "__slots__", ()))
    fields = getattr(value, "__dict__", None) or {
        name: getattr(value, name) for name in slots if hasattr(value, name)
    }
    return fields if type(fields) is dict else None


def str_or_empty(value: object) -> str:
    """Return ``str(value)``, or "" if that raises an exception."""
    try:
        return str(value)
    except BaseException:  # noqa: BLE001  (a __str__ may raise anything)
        return ""
