"""The keys that identify the rows of an input. The rows' idempotency keys are made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import check_key_digits
from journal.format.idempotency import key_json
from journal.format.values import DECODE_ERRORS, encode_value
from journal.text import encode_json, similar

_NUMBERS = (int, float)
_NUMBER_BEGINS = tuple("-0123456789 \t\r\n")

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


def twin_of(key: str) -> str | None:
    """Return the key with text in place of numbers, or numbers in place of text, as JSON text.

    ``key`` is JSON text, too. The result is None if the key has neither.
    """
    value = msgspec.json.decode(key)
    twins = [_twin(part) for part in (value if isinstance(value, list) else [value])]
    twin = key_json(twins if isinstance(value, list) else twins[0])
    return None if twin == key else twin


def _twin(value: Any) -> Any:
    if isinstance(value, str):
        if not value.startswith(_NUMBER_BEGINS):  # a tenth of the time of decoding
            return value
        try:
            number = msgspec.json.decode(value)
        except (*DECODE_ERRORS, UnicodeEncodeError):
            return value
        return number if type(number) in _NUMBERS else value
    return encode_json(value).decode() if type(value) in _NUMBERS else value
