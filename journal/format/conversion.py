"""Converts values of Python and of other libraries to JSON values.

No library is imported here. Values of libraries are recognized by the names and methods of their
classes.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from decimal import Decimal
from functools import cache, partial
from types import NoneType
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.text import Number, decode_json_exact, encode_json

# Values of these types are JSON values.
SCALARS = frozenset((str, int, float, bool, NoneType, Number))
MAX_REPR_BYTES = 1 << 20


def to_json(value: Any, *, any_keys: bool = False) -> Any:
    """Convert ``value`` to a JSON value. Values that JSON can't hold are returned unchanged.

    - Dataclasses, Structs, attrs classes, TypedDicts and enums become what msgspec writes for them.
    - Dates and times become ISO 8601 text. UUIDs become text. Bytes become base64 text.
    - Tuples, named tuples and deques become lists. Sets become lists, sorted by the JSON text of
      their elements.
    - Decimals become numbers with all their digits.
    - Subclasses of text, numbers, lists and dicts become their base types. Paths become text.
    - Models of pydantic are converted by ``model_dump(mode="json")``.
    - Scalars and arrays of NumPy, pandas, polars, pyarrow and the like are converted by their
      ``item()`` or ``tolist()``. NaN, NaT and NA in them become null. Data frames become lists of
      objects.
    - With ``any_keys``, dicts may have numbers, dates, enums or UUIDs as keys. These keys become
      text. Raises TypeError if two keys become the same text.
    """
    if type(value) in SCALARS:
        return value
    standing = stands_for(value)
    if standing is not value:
        return to_json(standing, any_keys=any_keys)
    if isinstance(value, Mapping):
        return _object(value, any_keys=any_keys)
    if isinstance(value, (list, tuple, deque)):
        return [
            item if type(item) in SCALARS else to_json(item, any_keys=any_keys) for item in value
        ]
    if isinstance(value, AbstractSet):
        items = [to_json(item, any_keys=any_keys) for item in value]
        with suppress(TypeError):  # an item is a value that JSON can't hold
            items.sort(key=encode_json)
        return items
    for order in ("deterministic", None):  # "deterministic" can't sort a set of text and numbers
        with suppress(TypeError):
            builtins = _to_builtins(value, order=order)
            if type(builtins) is not type(value):
                return to_json(builtins, any_keys=any_keys)
    return value


def _object(value: Mapping[Any, Any], *, any_keys: bool) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, item in value.items():
        name = _key(key) if any_keys and type(key) is not str else key
        if name in found:
            raise TypeError(f"two keys become {name!r}")
        found[name] = item if type(item) in SCALARS else to_json(item, any_keys=any_keys)
    return found


def _key(key: Any) -> Any:
    """Return the key as text, as msgspec writes it. A key that msgspec can't write is unchanged."""
    key = stands_for(key)
    if type(key) is Number:
        return str(key)
    try:
        return next(iter(msgspec.json.decode(msgspec.json.encode({key: None}))))
    except TypeError:
        return key


def _by_hook(value: Any) -> Any:
    standing = stands_for(value)
    if type(standing) is Number:  # msgspec doesn't know this type
        return Decimal(standing)
    if standing is value:
        if isinstance(value, (Mapping, AbstractSet, deque, list)):
            return to_json(value)
        raise TypeError(f"{type(value).__name__} can't be written as JSON")
    return standing


_to_builtins = partial(msgspec.to_builtins, builtin_types=(Decimal,), enc_hook=_by_hook)


def stands_for(value: Any) -> Any:
    """Return a simpler value to encode in place of ``value``, or ``value`` if there is none."""
    kind = type(value)
    if kind in SCALARS:
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (dict, list, tuple, AbstractSet, memoryview)):
        return value
    if kind is msgspec.Raw:
        return decode_json_exact(value)
    if isinstance(value, Decimal):
        return _number(value)
    name, module = kind.__name__, str(kind.__module__).partition(".")[0]
    if name in ("NaTType", "NAType") and module == "pandas":
        return None
    for base, plain in _SUBCLASSES:
        if isinstance(value, base):
            return value if kind is base else plain(value)
    if module == "numpy" and name in ("datetime64", "timedelta64"):
        return _numpy_time(value, name)
    for method, convert in _METHODS:
        if callable(getattr(kind, method, None)):
            return convert(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    return value


def _number(value: Decimal) -> Any:
    """Convert a Decimal to an int or Number with the same digits.

    A Decimal that JSON can't hold, such as Infinity, is returned unchanged.
    """
    if not value.is_finite():
        return value
    number = Number(str(value))
    if number.is_too_large:
        return value
    return number if set(number.text) & set(".eE") else int(number)


def _float(value: float) -> float | None:
    # NaN of another library, such as numpy.float64("nan"), is a missing value.
    return None if math.isnan(value) and hasattr(value, "tolist") else float.__float__(value)


def _numpy_time(value: Any, name: str) -> Any:
    if str(value) == "NaT":
        return None
    if name == "datetime64":
        return str(value)
    exact = value.astype("timedelta64[us]")
    return exact.item() if exact == value else str(value)


def _time(value: dt.date | dt.time) -> str:
    return value.isoformat()


def _duration(value: dt.timedelta) -> dt.timedelta:
    return dt.timedelta(value.days, value.seconds, value.microseconds)


_SUBCLASSES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int.__int__),
    (float, _float),
    (bytes, bytes),
    (dt.datetime, _time),  # this entry is before the one for date, of which datetime is a subclass
    (dt.date, _time),
    (dt.time, _time),
    (dt.timedelta, _duration),
)


def _from_array(value: Any) -> Any:
    """Convert a scalar or an array that has ``tolist``. Missing values become null."""
    if getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M"):
        return [*value] if getattr(value, "ndim", 1) else value[()]
    found = value.tolist()
    return value if type(found) is type(value) else without_nan(found)


def without_nan(value: Any) -> Any:
    """Replace each NaN in ``value`` by null, at any depth of lists, tuples and dicts."""
    if type(value) in (list, tuple):
        return [without_nan(item) for item in value]
    if type(value) is dict:
        return {key: without_nan(item) for key, item in value.items()}
    return None if type(value) is float and math.isnan(value) else value


def _from_model(value: Any) -> Any:
    return value.model_dump(mode="json")


def _from_frame(value: Any) -> Any:
    rows = rows_of_frame(value)
    return value if rows is None else list(rows)


def _from_arrow(value: Any) -> Any:
    rows = rows_of_frame(value)
    return without_nan(value.to_pylist()) if rows is None else list(rows)


_METHODS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("model_dump", _from_model),
    ("itertuples", _from_frame),
    ("iter_rows", _from_frame),
    ("as_py", lambda value: without_nan(value.as_py())),
    ("to_pylist", _from_arrow),
    ("tolist", _from_array),
    ("to_list", lambda value: without_nan(value.to_list())),
)


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
        of_index, names, rows = _with_index(frame)
    elif callable(getattr(kind, "iter_rows", None)) and hasattr(frame, "columns"):  # polars
        names, rows = frame.columns, frame.iter_rows()
    elif callable(getattr(kind, "to_pylist", None)) and hasattr(frame, "schema"):  # pyarrow
        names = frame.schema.names
        batches = frame.to_batches() if hasattr(frame, "to_batches") else [frame]
        rows = (row for batch in batches for row in _rows_of_batch(batch))
    else:
        return None
    columns = [str(name) for name in (*of_index, *names)]
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


def _with_index(frame: Any) -> tuple[list[Any], Any, Iterable[Iterable[Any]]]:
    """Return three things: the names of the index levels, the names of the columns, and the rows.

    Each row has the values of its index levels and of its columns. Levels without a name are left
    out.
    """
    index = frame.index
    levels = list(getattr(index, "names", None) or [getattr(index, "name", None)])
    named = [place for place, name in enumerate(levels) if name is not None]
    if not named:
        return [], frame.columns, frame.itertuples(index=False, name=None)
    whole = frame.itertuples(name=None)  # each tuple begins with the index label of the row
    rows: Iterable[Iterable[Any]] = whole
    if len(levels) > 1:
        rows = ((*(label[place] for place in named), *row) for label, *row in whole)
    return [levels[place] for place in named], frame.columns, rows


def _rows_of_batch(batch: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


# --- typed rows ------------------------------------------------------------------------------


def typed(data: dict[str, Any], row_type: Any, where: str) -> Any:
    """Convert the data of a row to a ``row_type``.

    ``row_type`` is a dataclass, Struct, attrs class, TypedDict or model of pydantic. If a field
    doesn't match, InvalidValueError names the field.
    """
    text, validate = encode_json(data), getattr(row_type, "model_validate", None)
    if b"." in text and callable(validate):
        with suppress(ValueError):  # pydantic reads numbers in a JSON text as floats
            return validate(data)
    try:
        return reader_of(row_type)(text)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
    except ValueError as error:
        found = getattr(error, "errors", None)
        if not callable(found):
            raise
        first = found()[0]  # only errors of pydantic have this method
        reason, path = first["msg"], "".join(f".{part}" for part in first["loc"])
    name = getattr(row_type, "__name__", repr(row_type))
    raise InvalidValueError(
        f"{where}: data{path.rstrip('`')}", data, f"doesn't fit {name}: {reason}"
    )


@cache
def reader_of(row_type: Any) -> Callable[[bytes], Any]:
    """Return a function that makes a ``row_type`` from JSON text. Raises InvalidValueError."""
    validate = getattr(row_type, "model_validate_json", None)
    if callable(validate):
        read: Callable[[bytes], Any] = validate
        return read
    try:
        return msgspec.json.Decoder(row_type).decode
    except TypeError as error:
        reason = (
            "must be a dataclass, Struct, attrs class, TypedDict or a model of pydantic, with "
            f"types that can be read from JSON: {error}"
        )
        raise InvalidValueError("row_type", row_type, reason) from None


# --- values that can't be written --------------------------------------------------------------


def repr_text(value: object) -> str:
    """Return the ``repr`` of any value as text that JSON can hold, up to MAX_REPR_BYTES.

    If ``repr(value)`` raises an exception, or is the default ``repr`` of ``object``, the result
    shows the parts of the value one by one.
    """
    try:
        is_empty = type(value).__repr__ is object.__repr__
        text = "".join(_parts(value)) if is_empty else repr(value)
    except BaseException:  # noqa: BLE001  (a __repr__ may raise anything)
        text = "".join(_parts(value))
    data = text.encode(errors="backslashreplace")
    if len(data) <= MAX_REPR_BYTES:
        return data.decode()
    cut = data[:MAX_REPR_BYTES].decode(errors="ignore")
    return f"{cut}\n[{len(data) - len(cut.encode())} more bytes of the repr were not kept]"


def _parts(value: object) -> Iterator[str]:
    """Yield the parts of a repr without recursion, so that a value may nest at any depth."""
    left: list[object] = [value]  # the parts that are still to come, in reverse order
    within: set[int] = set()  # ids of the containers around the current part
    length = 0
    while left and length <= MAX_REPR_BYTES:
        item = left.pop()
        if type(item) is _Text:
            part = str(item)
        elif type(item) is _End:
            within.discard(id(item.value))
            part = item.text
        elif id(item) in within:
            part = "..."
        else:
            part, parts = _opened(item)
            if parts is not None:
                within.add(id(item))
                left += reversed(parts)
        length += len(part)
        yield part


class _Text(str):
    __slots__ = ()


class _End(msgspec.Struct):
    value: object  # this reference keeps the container alive, so that no other value gets its id
    text: str


def _opened(value: Any) -> tuple[str, list[object] | None]:
    """Return the repr of a value, and None.

    For a container, returns the opening bracket of its repr, and the parts after the bracket.
    """
    try:
        kind = type(value)
        if issubclass(kind, dict):
            pairs = [part for key in value for part in (key, _Text(": "), value[key], _Text(", "))]
            return "{", [*pairs[:-1], _End(value, "}")]
        if issubclass(kind, (list, tuple, set, frozenset)):
            items = [part for item in value for part in (item, _Text(", "))]
            return f"{kind.__name__}(", [*items[:-1], _End(value, ")")]
        slots = (*getattr(kind, "__struct_fields__", ()), *getattr(kind, "__slots__", ()))
        fields = getattr(value, "__dict__", None) or {
            name: getattr(value, name) for name in slots if hasattr(value, name)
        }
        if type(fields) is not dict or not fields:
            return _repr(value), None
        return f"<{kind.__name__} ", [fields, _End(value, ">")]
    except BaseException as error:  # noqa: BLE001  (a value's own code may raise anything)
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>", None


def _repr(value: Any) -> str:
    if type(value) is msgspec.Raw:
        return f"Raw({bytes(value)!r})"
    try:
        return repr(value)
    except ValueError:  # the int has more digits than Python converts
        if type(value) is int:
            return hex(value)
        raise


def str_or_empty(value: object) -> str:
    """Return ``str(value)``, or "" if that raises an exception."""
    try:
        return str(value)
    except BaseException:  # noqa: BLE001  (a __str__ may raise anything)
        return ""
