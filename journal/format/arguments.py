"""Checks the names, texts, numbers, times and rows of arguments before anything is written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from functools import wraps
from operator import index
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from journal.errors import InvalidValueError
from journal.format.keys import check_key_digits, row_key
from journal.format.records import JobRecord
from journal.format.size_limits import MAX_COST_CENTS
from journal.format.values import (
    as_json_value,
    checksum_of,
    encode_sorted,
    encode_value,
    own_value,
    plain_json,
    rows_of_frame,
)
from journal.ids import MAX_ROW_NUMBER
from journal.model import cents_of, millionths
from journal.text import as_utf8, similar

_MOST_NESTED = 4  # how many levels of dicts a usage may have


def check_text(value: object, where: str) -> str:
    if type(value) is str and value.isascii():  # the usual case
        return value
    if not isinstance(value, str):
        hint = ": give a result by result=" if where == "tracking_number" else ""
        raise InvalidValueError(where, value, f"must be text (str){hint}")
    value = str.__str__(value)  # msgspec encodes no subclass of str
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidValueError(
                where, value, "must be text without lone surrogates, which UTF-8 can't hold"
            ) from None
    return value


def check_optional_text(value: object, where: str) -> str | None:
    return None if value is None else check_text(value, where)


def check_codes(value: object) -> set[str] | None:
    """Check that the value is None, an error code, or a collection of error codes.

    Return the codes.
    """
    if value is None:
        return None
    codes = value if isinstance(value, Collection) and not isinstance(value, str) else (value,)
    return {check_text(code, "error_code") for code in codes}


def check_words(value: object, where: str) -> tuple[str, ...]:
    """Check that the value is a sequence of words, such as an argv, and return the words.

    Bytes of a word that aren't UTF-8 are escaped: see :func:`journal.text.as_utf8`.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidValueError(where, value, "must be a list of words, such as ['python', 'a.py']")
    return tuple(
        check_text(as_utf8(word) if isinstance(word, str) else word, where) for word in value
    )


def check_int(value: object, where: str, lowest: int = 0, bits: int = 63) -> int:
    """Check that the value is an int from ``lowest`` to 2**bits-1, and return it."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value < 2**bits:
        raise InvalidValueError(where, value, f"must be an int from {lowest} to 2**{bits}-1")
    return int(value)


def check_step_error(value: object) -> tuple[str, str] | None:
    """Check the error of a failed step. Return its code and message; for None, return None."""
    match value:
        case None:
            return None
        case (str(), str()):
            return check_text(value[0], "error[0]"), check_text(value[1], "error[1]")
    raise InvalidValueError("error", value, "must be a tuple of a code and a message, both text")


def check_step_name(value: object) -> str:
    name = check_text(value, "name")
    if not name:
        raise InvalidValueError("name", name, "must not be empty: it names the step in its row")
    return name


def check_optional_object(value: Any, where: str) -> dict[str, Any] | None:
    """Check that the value is None, or a dict that can be written as a JSON object."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidValueError(where, value, "must be a dict or None")
    found: dict[str, Any] = as_json_value(value, where)
    return found


_MILLIONTH = Decimal("0.000001")
_EXACT = Context(prec=40)  # instead of the caller's decimal context


def check_cost(value: object, where: str = "cost_cents") -> int | float | None:
    """Return a cost in cents as the journal records it: an int for whole cents, else a float.

    For None, returns None. A cost is usually computed, for example for 7 tokens at 0.0000015 cents
    each. So a cost with more than six decimals is rounded to millionths of a cent. If the cost were
    refused, the row would need a review, although its work is already paid.
    """
    if value is None:
        return None
    if type(value) is int and 0 <= value <= MAX_COST_CENTS:  # the usual case
        return value
    number = _number(value, where, "an int, a float or a Decimal")
    if not 0 <= number <= MAX_COST_CENTS:
        raise InvalidValueError(where, value, f"must be from 0 to {MAX_COST_CENTS} cents")
    if isinstance(number, int):
        return number
    exact = Decimal(repr(number)) if isinstance(number, float) else number
    decimal = exact.quantize(_MILLIONTH, context=_EXACT)
    total = int(decimal.scaleb(6, context=_EXACT))
    cents = cents_of(total)
    if millionths(cents) != total:
        raise InvalidValueError(where, value, "must be whole, or have at most 15 digits")
    return cents


def check_usage(value: object) -> dict[str, int | float] | None:
    """Return the usage (numbers by name) as the journal records it. An empty mapping becomes None.

    For None, returns None. Services report parts of a number in a dict, or report null. The number
    ``b`` in a dict ``a`` is named "a.b". A value None is left out.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidValueError("usage", value, "must be a dict from names to numbers")
    usage: dict[str, int | float] = {}
    for name, item in _leaves(value):
        number = _number(item, f"usage.{name}", "an int or a float")
        if isinstance(number, Decimal) or not 0 <= number < 2**63:
            raise InvalidValueError(
                f"usage.{name}", item, "must be an int or float from 0 to 2**63"
            )
        usage[name] = usage.get(name, 0) + number  # -0.0 becomes 0.0
    return usage or None


def _leaves(usage: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in usage.items():
        name = prefix + check_text(key, "usage (name)")
        if isinstance(item, dict) and name.count(".") < _MOST_NESTED:
            yield from _leaves(item, f"{name}.")
        elif item is not None:
            yield name, item


def _number(value: Any, where: str, kinds: str) -> int | float | Decimal:
    """Return a number as an int, float or Decimal. Scalars of numpy and pandas are numbers, too."""
    try:
        if isinstance(value, Decimal) and not value.is_nan():
            return value
        if isinstance(value, float):
            return float(value)
        if not isinstance(value, (bool, str, bytes, Decimal)):
            # A 32-bit float is converted by its text, so 0.1 stays 0.1. A conversion by value would
            # give the double 0.10000000149011612.
            return index(value) if hasattr(value, "__index__") else float(str(value))
    except (TypeError, ValueError):
        pass
    raise InvalidValueError(where, value, f"must be {kinds}")


def check_moment(value: datetime | None, where: str) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InvalidValueError(where, value, "must be an aware datetime, such as in UTC")
    return value


def check_label_path(value: object, directory: Path) -> str:
    """Check the ``label_path`` of a row, and return it as text.

    A path inside the job's directory becomes relative to this directory. So the path stays valid if
    the directory is moved.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidValueError("label_path", value, "must be a path (str or PathLike)")
    text = check_text(os.fspath(value), "label_path")
    if os.path.isabs(text):
        inside = os.path.relpath(text, directory.absolute())
        if inside != os.pardir and not inside.startswith(os.pardir + os.sep):
            return Path(inside).as_posix()
    return text


# The number, checksum, data as JSON, idempotency key (or None), and place (or None) of a new row.
NewRow = tuple[int, str, bytes, str | None, int | None]


def row_items(row_data: Any) -> Iterable[Any]:
    """Return the rows in ``row_data``, which may be a data frame. Raises InvalidValueError."""
    rows = given_rows(row_data, "row_data")
    return rows if rows is row_data else ({"data": data} for data in rows)


def new_row(place: int, item: Any, next_number: int, job: JobRecord, nonce: str | None) -> NewRow:
    """Make the row for ``item``. ``place`` is the item's number among the items of the caller.

    If the item has no row number, the row gets ``next_number``. ``nonce``: see :func:`row_key`. The
    caller must check that the row's number isn't in use. Raises InvalidValueError.
    """
    if type(item) is not dict and not isinstance(item, Mapping):  # the faster check is first
        raise InvalidValueError(f"row_data, element {place}", item, "must be a mapping")
    number, checksum, key = next_number, None, None
    if len(item) > 1 or "data" not in item:
        number, checksum, key = _members(place, item, next_number)
    if number > MAX_ROW_NUMBER:
        check_int(number, f"row_data, element {place}: row_number", 1)
    data: Any = item.get("data")
    text = plain_json(data) if type(data) is dict else None
    if text is not None:
        checksum = checksum_of(data, encode_sorted) if checksum is None else checksum
    else:
        data = _row_data(data, f"row {number}: data", job)
        text = encode_value(data, f"row {number}: data")
        checksum = checksum_of(data) if checksum is None else checksum
    return number, checksum, text, key or row_key(job, number, data, nonce), item.get("place")


def _members(
    place: int, item: Mapping[str, Any], number: int
) -> tuple[int, str | None, str | None]:
    """Return the row number (by default ``number``), checksum and idempotency key of an item."""
    if (given := item.get("row_number")) is not None:
        number = check_int(given, f"row_data, element {place}: row_number", 1)
    checksum = check_optional_text(item.get("row_checksum"), f"row {number}: row_checksum")
    key = check_optional_text(item.get("idempotency_key"), f"row {number}: idempotency_key")
    if key == "":
        raise InvalidValueError(f"row {number}: idempotency_key", key, "must not be empty")
    if not item.keys() <= _ROW_KEYS:
        unknown = sorted(map(str, item.keys() - _ROW_KEYS))
        raise InvalidValueError(
            f"row {number}",
            ", ".join(unknown),
            "only row_number, row_checksum, idempotency_key and data are known: put the row's own "
            "fields into data",
        )
    return number, checksum, key


def _row_data(data: Any, where: str, job: JobRecord) -> dict[str, Any]:
    """Return the data of a row as a JSON value, which may be exact (see ``values.py``)."""
    if data is None:
        data = {}
    elif not isinstance(data, dict):
        raise InvalidValueError(where, data, "must be a dict")
    found: dict[str, Any] = as_json_value(own_value(data), where)
    for column in filter(None, (job.key, job.idempotency_key)):
        check_key_digits(found.get(column), f"{where}.{column}")
    return found


def given_rows(rows: Any, where: str) -> Iterable[Any]:
    """Return ``rows`` if it is an iterable. For a data frame, return its rows as dicts.

    Raises InvalidValueError.
    """
    try:
        if (frame := rows_of_frame(rows)) is not None:
            return frame
    except ValueError as error:
        raise InvalidValueError(where, type(rows).__name__, str(error)) from None
    reason = ""
    if isinstance(rows, (str, bytes, os.PathLike)):
        reason = "is text or a path, and not rows: read the file by journal.read_rows(path)"
    elif isinstance(rows, Mapping):
        reason = "is one dict: give a list with a dict for each row"
    elif not hasattr(rows, "__iter__") and not hasattr(rows, "__getitem__"):
        reason = "must be an iterable of dicts, one for each row, or a data frame"
    if reason:
        raise InvalidValueError(where, rows, reason)
    found: Iterable[Any] = rows
    return found


_ROW_KEYS = frozenset(("row_number", "row_checksum", "idempotency_key", "place", "data"))


# --- limits of runs

ROWS = "rows"  # in a dict of rates: names the rate of starts
NONE = "none"  # in place of a limit: removes the limit
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|m|h)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}


def parse_rate(text: str, where: str = "rate") -> tuple[float, int]:
    """The number in a rate, and its unit in seconds. Raises InvalidValueError."""
    match = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    number, unit_s = (float(match[1]), _UNIT_S[match[2]]) if match else (0.0, 1)
    if not 1e-9 < number / unit_s < 1e9:
        is_number = match is None and _RATE.fullmatch(f"{text}/s") and float(text)
        such_as = f"{text}/s" if is_number else "50/s"
        reason = f"must be a number above 0 and /s, /m or /h: {such_as}"
        raise InvalidValueError(where, text, reason)
    return number, unit_s


def rates_of(given: str | Mapping[str, str] | None, *, or_none: bool = False) -> dict[str, str]:
    """The rates in an argument ``rate``, by what they limit. Raises InvalidValueError.

    ``or_none``: whether "none" may stand in place of a rate.
    """
    if not isinstance(given, Mapping):
        given = {} if given is None else {ROWS: given}
    for name, text in given.items():
        if not isinstance(name, str) or not name:
            reason = "must be text, or a dict such as {'rows': '50/s', 'input_tokens': '200000/m'}"
            raise InvalidValueError("rate", given, reason)
        if not (or_none and text == NONE):
            parse_rate(text, "rate" if name == ROWS else f"rate[{name!r}]")
    return {**given}


def check_count(value: Any, where: str) -> None:
    """Raise InvalidValueError unless ``value`` is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidValueError(where, value, "must be an int from 1")


def check_limit_per(value: Any) -> None:
    """Raise InvalidValueError unless ``value`` is a dict from one column to a number of rows."""
    if not isinstance(value, Mapping) or [type(column) for column in value] != [str]:
        reason = "must be a dict from one column to a number of rows, such as {'carrier': 2}"
        raise InvalidValueError("limit_per", value, reason)
    for column, limit in value.items():
        check_count(limit, f"limit_per[{column!r}]")


def check_tune(
    *,
    workers: Any = None,
    rate: Any = None,
    limit_per: Any = None,
    max_cost_cents: Any = None,
    end_hold: Any = False,
) -> dict[str, Any]:
    """The arguments of ``tune_job`` that were given, as they are recorded.

    Raises InvalidValueError, also if none was given.
    """
    found: dict[str, Any] = {}
    if workers is not None:
        check_count(workers, "workers")
        found["workers"] = workers
    if rate is not None:
        found["rate"] = rates_of(rate, or_none=True)
    if limit_per is not None:
        if limit_per != NONE:
            check_limit_per(limit_per)
        found["limit_per"] = limit_per if limit_per == NONE else {**limit_per}
    if max_cost_cents is not None:
        is_none = max_cost_cents == NONE
        found["max_cost_cents"] = NONE if is_none else check_cost(max_cost_cents, "max_cost_cents")
    if not isinstance(end_hold, bool):
        raise InvalidValueError("end_hold", end_hold, "must be True or False")
    if end_hold:
        found["end_hold"] = True
    if not found or found.get("rate") == {}:
        reason = "says nothing to change: give workers, rate, limit_per, max_cost_cents or end_hold"
        raise InvalidValueError("tune", "", reason)
    return check_optional_object(found, "tune") or {}


# --- unknown names of arguments and attributes ------------------------------------------------

Given = ParamSpec("Given")
Result = TypeVar("Result")

# For each argument of this package: its names in other libraries.
_OTHER_NAMES = {
    "max_attempts": "attempts max_retries max_tries retries retry tries",
    "workers": "concurrency jobs max_concurrency max_concurrent max_workers n_jobs parallel processes "
    "threads",
    "rows": "data df ids input items numbers records",
    "key": "id id_column index key_column primary_key unique",
    "max_rows": "limit",
    "max_cost_cents": "budget cost_limit max_cost",
    "batch": "batch_size chunk chunk_size chunks chunksize",
    "backoff_s": "backoff delay retry_delay",
    "rate": "rate_limit",
    "halt": "on_error",
    "on_gone": "on_deleted on_missing on_removed on_vanished",
    "error_code": "code",
    "executor": "pool",
    "on_progress": "callback",
    "where": "condition filter",
    "delimiter": "sep separator",
}
_MEANT = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
# What to write in place of names from other libraries and from `journal errors`.
_ATTRIBUTES = dict.fromkeys(("errors", "failed", "failures"), "job.rows('failed')") | {
    "results": "job.rows('completed')",
    "to_df": "rows.to_pandas()",
}
_ARGUMENTS: dict[
    str, tuple[str, ...]
] = {}  # argument names of each function; the functions that run jobs come last


def names_unknown_keywords(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Let a call with an unknown keyword raise a TypeError that says what to write.

    Don't use this decorator for functions that are called for each row, because the check costs
    time.
    """
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
    # Leave out the methods that choose rows of a job: `open_job` has arguments of the same names.
    if "error_code" not in known:
        _ARGUMENTS[name] = known

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        for unknown in sorted(kwargs.keys() - known):
            called = type(args[0]).__name__ if function.__name__ == "__init__" else name
            raise TypeError(f"{called}() has no argument {unknown!r}: {_advice(unknown, known)}")
        return function(*args, **kwargs)

    return call


def no_attribute(of: object, name: str, places: Mapping[str, type]) -> AttributeError:
    """The error for a missing attribute of the object ``of``.

    ``places``: the objects that may have the attribute, each with its class.
    """
    found = (f"{place}.{name}" for place, kind in places.items() if hasattr(kind, name))
    meant = "" if name.startswith("_") else _ATTRIBUTES.get(name) or next(found, "")
    text = f"{type(of).__name__!r} object has no attribute {name!r}{meant and f': write {meant}'}"
    return AttributeError(text, name=name, obj=of)


def _advice(unknown: str, known: tuple[str, ...]) -> str:
    meant = _MEANT.get(unknown, unknown)
    if meant == "key" and "error_code" in known:
        meant = "where"
    if meant in known:
        counts = ", which counts the first attempt, too" if meant == "max_attempts" else ""
        return f"write {meant!r}{counts}"
    for other, arguments in reversed(_ARGUMENTS.items()):
        if meant in arguments:
            return f"{meant!r} is an argument of {other}()"
    close = similar(unknown, known)
    names = ", ".join(name for name in known if name != "self")
    return f"its arguments are {names}" if close is None else f"did you mean {close!r}?"
