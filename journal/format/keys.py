"""Makes keys: idempotency keys of rows and steps, and the keys that identify the rows of an input.

A row's record has the row's complete idempotency key. So only writers make idempotency keys of
rows. The idempotency key of a new row is the first key in this list that exists:

1. the key that the caller gave with the row;
2. the value of the member that the job's ``idempotency_key`` names, unless this value is null or
   "". Text is unchanged, and other values become JSON;
3. ``JOB:COLUMN=VALUE``: the job's id, its ``key``, and the value of the member that ``key`` names,
   unless this value is null or "". VALUE is JSON if the value isn't text, if the text itself is
   valid JSON (such as ``1``), or if the text ends with ``#`` and digits. Other text is unchanged;
4. ``SET:COLUMNS=KEY`` in a shard whose key has several columns or is a function: the columns with
   commas between them (none for a function), and the key as JSON text;
5. ``JOB:ROW.DIGITS``, with 8 random hex digits, if the job's first commit is already written;
6. ``JOB:ROW``, the row's id.

JSON in keys has no white space and no unnecessary escapes. If the first key of a row is ``KEY``,
the row's new keys are ``KEY#2``, ``KEY#3``, and so on. Random digits are added (``KEY#2.DIGITS``)
in three cases: ``KEY`` doesn't begin with ``JOB:``, the job has an ``idempotency_key``, or the job
was repaired with losses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import JobRecord
from journal.format.values import DECODE_ERRORS, canonical_json, encode_value, read_back
from journal.text import encode_json, similar

# The ending of a new key: see next_key().
_ENDS_AS_NEW = re.compile(r"#[0-9]+\Z")
# JSON begins with one of these characters. A test of the first character takes a tenth of the time
# of decoding.
_JSON_BEGINS = tuple('"{[-0123456789tfn \t\r\n')
_EXACT = 1 << 53  # a whole float below this number is exact
_NEW_ENDING = re.compile(r"#[0-9]+(\.[0-9a-f]{8})?\Z")


def step_key(key: str, step: str) -> str:
    """Make the idempotency key of a step from the key of its row."""
    return f"{key}/{step}"


def row_key(job: JobRecord, number: int, data: dict[str, Any], nonce: str | None) -> str | None:
    """Return the idempotency key of a new row: see :class:`JobRow`. None: the key is the row's id.

    In a job with a key column, two rows with the same key get the same idempotency key, even if
    they were added in different copies of the job.

    ``nonce``: random digits, or None for the rows that the job was made with. If two copies of the
    job each add a row, both rows may get the same number. Without a value in a key column, only the
    digits keep the keys of the two rows different.
    """
    if job.idempotency_key and (own := data.get(job.idempotency_key)) not in (None, ""):
        return own_key_text(own)
    if job.key is not None and (value := data.get(job.key)) not in (None, ""):
        return f"{job.id}:{job.key}={key_text(value)}"
    return None if nonce is None else numbered_key(job.id, number, nonce)


def numbered_key(job_id: str, number: int | str, nonce: str) -> str:
    """Return the key of a row that was added later, and has no value in a key column.

    ``number``: the row's number, or ``%d`` to make the keys of many rows.
    """
    return f"{job_id}:{number}.{nonce}"


def own_key_text(value: Any) -> str:
    """Return an idempotency key that the caller chose, as text.

    Text is unchanged. Other values become JSON.
    """
    return value if isinstance(value, str) else key_json(value)


def key_json(value: Any) -> str:
    """Return a key as JSON text. 1 and 1.0 are one key: pandas may turn ints into floats."""
    return encode_json(_with_ints(read_back(value))).decode()


def _with_ints(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_ints(part) for part in value]
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return int(value) if is_whole else value


def key_text(value: Any) -> str:
    """Return the value of a key column as text. Different values give different texts.

    - Most text stays unchanged.
    - Text that is valid JSON becomes a JSON string.
    - Text that ends in ``#`` and a number becomes a JSON string, because :func:`next_key` makes
      keys with this end.
    - Values that aren't text become JSON.
    """
    if isinstance(value, str) and not _ENDS_AS_NEW.search(value):
        if not value.startswith(_JSON_BEGINS):
            return value
        try:
            msgspec.json.decode(value)
        except (*DECODE_ERRORS, UnicodeEncodeError):
            return value
    return key_json(value)


def next_key(key: str, keys: int, nonce: str | None) -> str:
    """Return a new key for a row whose current key is ``key``.

    ``keys`` counts the keys that the row has had, including ``key``. The new keys of a row are
    ``KEY#2``, ``KEY#3``, and so on. With ``nonce`` (random digits), the new keys are
    ``KEY#2.NONCE`` and so on. A nonce is needed if another row might get the same key without it.
    """
    first = key.rpartition("#")[0] if keys > 1 else key
    return f"{first}#{keys + 1}" if nonce is None else f"{first}#{keys + 1}.{nonce}"


def first_key(key: str) -> str:
    """Return the key without the ending that :func:`next_key` may have added."""
    return _NEW_ENDING.sub("", key)


# --- keys of an input --------------------------------------------------------------------------

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
    """Return the key of a row as JSON text: 1 and 1.0 are one key, "1" is another.

    Raises InvalidValueError.
    """
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
    """Return a key in which each text of a number is replaced by the number.

    ``key`` and the result are JSON text.
    """
    parts, is_list = _parts(key)
    numbers = [number_in(part) if isinstance(part, str) else part for part in parts]
    return key_json(numbers if is_list else numbers[0])


def is_typed_as(key: str, other: str) -> bool:
    """Return whether two keys with the same :func:`untyped` have text at the same places."""
    kinds = [[isinstance(part, str) for part in _parts(text)[0]] for text in (key, other)]
    return kinds[0] == kinds[1]


def number_in(text: str) -> int | float | str:
    """Return the number if ``text`` is a number in JSON, else ``text``."""
    if NUMBER.fullmatch(text) is None:
        return text
    try:
        number: int | float = msgspec.json.decode(text)
    except DECODE_ERRORS:  # the number is out of range
        return text
    return number


def _parts(key: str) -> tuple[list[Any], bool]:
    value = msgspec.json.decode(key)
    return (value, True) if isinstance(value, list) else ([value], False)


def check_key_digits(value: Any, where: str) -> None:
    """Raise InvalidValueError if a key has a number with more digits than a float can hold.

    Readers that decode numbers as floats would see the same key in several rows.
    """
    if canonical_json(value) != canonical_json(read_back(value)):
        reason = "a key can't be a number with more digits than a double has: make it text"
        raise InvalidValueError(where, value, reason)


class UniqueKeys:
    """The keys of an input, which must be unique. Only a hash of each key is kept in memory."""

    def __init__(self, key: Key, *, is_for_far_side: bool = False) -> None:
        """``is_for_far_side``: True for idempotency keys.

        Idempotency keys are text, so 1 and "1" are equal.
        """
        self._key = key
        self._is_for_far_side = is_for_far_side
        self._what = "idempotency key" if is_for_far_side else "key"
        self._seen: set[int] = set()

    def take(self, data: Data, where: str) -> str:
        """The row's key as text.

        Raises InvalidValueError if the key is missing, or if an earlier row has the same key.
        """
        key = key_of(self._key, data, where, self._what)
        if self._is_for_far_side:
            key = own_key_text(msgspec.json.decode(key))
        mark = hash(key)
        if mark in self._seen:
            name = f" {self._key!r}" if isinstance(self._key, str) else ""
            raise InvalidValueError(
                where,
                key,
                f"an earlier row has the same {self._what}{name}: make each unique, or "
                "leave it out",
            )
        self._seen.add(mark)
        return key
