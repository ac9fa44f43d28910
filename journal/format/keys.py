"""The keys that identify the rows of an input. The rows' idempotency keys are made from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import check_key_digits
from journal.format.idempotency import key_json
from journal.format.values import DECODE_ERRORS, encode_value
from journal.text import similar

# A number as JSON.
NUMBER = re.compile(r"[ \t\r\n]*-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?[ \t\r\n]*")

Data = dict[str, Any]
Key = str | tuple[str, ...] | Callable[[Data], Any]  # a column, columns, or a function of the data


def check_key(key: object, where: str, or_columns: str = "") -> None:
    """Raise InvalidValueError unless ``key`` is a Key or None.

    ``or_columns`` is the part of the error message about tuples, or "" if tuples aren't allowed.
    """
    is_column = isinstance(key, str) and bool(key)
    if or_columns and isinstance(key, tuple) and key:
        is_column = all(isinstance(column, str) and column for column in key)
    if not (key is None or callable(key) or is_column):
        reason = f"must be the name of a column{or_columns}, or a function of the data"
        if isinstance(key, (list, tuple)):
            way = "a tuple" if or_columns else "lambda data: f\"{data['order']}-{data['item']}\""
            reason += f": write {way}"
        raise InvalidValueError(where, key, reason)


def key_of(key: Key, data: Data, where: str, what: str = "key") -> str:
    """Return the key of a row as JSON text: 1 is 1.0, but not "1". Raises InvalidValueError."""
    if callable(key):
        value = key(data)
    else:
        columns = (key,) if isinstance(key, str) else key
        for column in columns:
            if column not in data:
                meant = similar(column, data)
                hint = "" if meant is None else f"; did you mean {meant!r}?"
                reason = f"it has no {column!r}, which is the {what}{hint}"
                raise InvalidValueError(where, list(data), reason)
        value = data[key] if isinstance(key, str) else [data[column] for column in columns]
    parts: Any = value if isinstance(key, tuple) else [value]
    if all(part in (None, "") for part in parts):
        raise InvalidValueError(where, value, f"its {what} is empty")
    encode_value(value, f"{where}: {what}")  # this call raises the error
    check_key_digits(value, f"{where}: {what}")
    return key_json(value)


def untyped(key: str) -> str:
    """Return a key in which text that is a number is that number. Both are JSON text."""
    parts, is_list = _parts(key)
    numbers = [number_in(part) if isinstance(part, str) else part for part in parts]
    return key_json(numbers if is_list else numbers[0])


def is_typed_as(key: str, other: str) -> bool:
    """Return whether text stands at the same places in two keys whose :func:`untyped` is equal."""
    kinds = [[isinstance(part, str) for part in _parts(text)[0]] for text in (key, other)]
    return kinds[0] == kinds[1]


def number_in(text: str) -> int | float | str:
    """Return the number that text is as JSON, else the text."""
    if NUMBER.fullmatch(text) is None:
        return text
    try:
        number: int | float = msgspec.json.decode(text)
    except DECODE_ERRORS:  # out of range
        return text
    return number


def _parts(key: str) -> tuple[list[Any], bool]:
    value = msgspec.json.decode(key)
    return (value, True) if isinstance(value, list) else ([value], False)
