"""Encodes JSON values from callers. Converts values of Python and of libraries to JSON values.

Refuses values that would be different when read back. No library is imported here: values of
libraries are recognized by methods of their classes.

Python reads numbers that aren't integers as floats. Where the text of such a number must be kept,
the value is an **exact** value. In an exact value, a number is a ``msgspec.Raw`` if msgspec would
write the float with another text. So an exact value is written again as it was read.
"""

from __future__ import annotations

import math
import os
import re
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cache, partial
from itertools import accumulate
from types import NoneType
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.size_limits import (
    MAX_DEPTH,
    MAX_NUMBER_BYTES,
    MAX_REPR_BYTES,
    SANE_BYTES,
    SANE_RECORD_BYTES,
)
from journal.text import decode_json_exact, encode_json, own_number

_decode_any = msgspec.json.Decoder().decode
encode_sorted = msgspec.json.Encoder(order="sorted").encode
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# For each byte of JSON text outside strings: the change of the depth, as a signed byte.
_STEP = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in b"[{")
_NEITHER_OPENING_NOR_LF = _NOT_OPENING.replace(b"\n", b"")
_AS_BRACES = bytes.maketrans(b"[", b"{")
_TOO_MANY = b"{" * (MAX_DEPTH + 1)
_NO_BRACKETS = bytes(byte for byte in range(256) if not _STEP[byte])
# A string without an end reaches to the end of the text. Otherwise, the search would begin again at
# each escaped quote of the string.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# Matches about 1,000 strings at a time, because ``sub`` holds each part of its result in memory.
_PIECE = re.compile(rb'(?:[^"]++|%b){1,2000}+' % _STRING.pattern, re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_BYTES + 1))
_SAMPLE_BYTES = 64
_SAMPLED_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_BYTES // _SAMPLE_BYTES))
_TOO_DEEP = f"must nest at most {MAX_DEPTH - 1} deep"


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """Return whether JSON text nests deeper than ``limit``.

    Call this function before decoding, because msgspec recurses in C. A hostile line may consist of
    megabytes of brackets. For speed, this function has no Python loop over the bytes.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    depth = 0
    for piece in _PIECE.finditer(text):
        steps = array("b", _STRING.sub(b"", piece[0]).translate(_STEP, _NO_BRACKETS))
        if next(filter(limit.__lt__, accumulate(steps, initial=depth)), None) is not None:
            return True
        depth += sum(steps)
    return False


def is_sane(line: bytes) -> bool:
    """Return whether a line of a record certainly keeps the bounds of nesting and numbers.

    The check is quick. Nearly all lines pass.
    """
    size = len(line)
    return size <= SANE_RECORD_BYTES or (
        size <= MAX_NUMBER_BYTES and len(line.translate(None, _NOT_OPENING)) <= MAX_DEPTH
    )


def are_sane(lines: Sequence[bytes], longest: int) -> bool:
    """Return whether :func:`is_sane` is true for all lines.

    ``longest``: the length of the longest line.
    """
    return longest <= SANE_RECORD_BYTES or (
        longest <= MAX_NUMBER_BYTES
        and _TOO_MANY not in b"\n".join(lines).translate(_AS_BRACES, _NEITHER_OPENING_NOR_LF)
    )


def has_long_number(text: bytes) -> bool:
    """Return whether JSON text has a number of more than ``MAX_NUMBER_BYTES``."""
    # For most texts, a quick look at each 64th byte shows that there is no long number.
    return (
        len(text) > MAX_NUMBER_BYTES
        and _SAMPLED_NUMBER.search(text[::_SAMPLE_BYTES]) is not None
        and any(
            _LONG_NUMBER.search(_STRING.sub(b'""', piece[0])) for piece in _PIECE.finditer(text)
        )
    )


def plain_json(value: Any, decode: Callable[[bytes], Any] = _decode_any) -> bytes | None:
    """Encode ``value`` as JSON text if the text certainly reads back equal, else return None.

    If the result is None, call :func:`as_json_value`, which makes a slower check. The result is
    None for exact values, unless ``decode`` is ``decode_json_exact``.
    """
    try:
        text = encode_json(value)
        # The record around the value adds a level.
        if decode(text) == value and (
            len(text) < SANE_BYTES - 2
            or not (nests_deeper_than(text, MAX_DEPTH - 1) or has_long_number(text))
        ):
            return text
    except Exception:  # noqa: BLE001, S110  (a value's own code may raise anything)
        pass
    return None


def _json_text(value: Any) -> bytes | None:
    """Do what :func:`plain_json` does, for exact values, too."""
    return plain_json(value) or plain_json(value, decode_json_exact)


def as_json_value(value: Any, where: str) -> Any:
    """Convert ``value`` to a JSON value, which may be exact. A JSON value is returned unchanged.

    - msgspec converts dataclasses, Structs, attrs classes, enums, dates, UUIDs, bytes and sets.
    - ``format/values.py`` converts what msgspec doesn't know.
    - Decimals become numbers with all their digits. Keys of dicts become text.

    Raises InvalidValueError for a value that JSON can't hold, such as NaN. The error names the path
    of the value.
    """
    if _json_text(value) is not None:
        return value
    try:
        converted = _checked(to_builtins(value), where)
        if _json_text(converted) is not None:
            return converted
        encode_json(converted)  # raises the error, unless the value nests too deep
        reason = _TOO_DEEP
    except InvalidValueError:
        raise
    except RecursionError:
        reason = _TOO_DEEP
    except Exception as error:  # noqa: BLE001  (a value's own code may raise anything)
        _refuse_part(value, where)
        reason = str_or_empty(error)
        if not isinstance(error, NoJsonError):
            reason = f"can't be written as JSON: {type(error).__name__}: {reason}"
    raise InvalidValueError(where, value, reason) from None


def _refuse_part(value: Any, where: str) -> None:
    """Raise InvalidValueError for the first part of a dict or list that JSON can't hold."""
    if type(value) is dict:
        for key, item in value.items():
            as_json_value(item, f"{where}.{key}")
    elif type(value) in (list, tuple):
        for number, item in enumerate(value):
            as_json_value(item, f"{where}[{number}]")


def _checked(value: Any, where: str) -> Any:
    """Check a value from ``to_builtins``, and convert its Decimals, tuples and keys."""
    reason = ""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            reason = "must be text without lone surrogates, which UTF-8 can't hold"
        value = str.__str__(value)
    elif isinstance(value, Decimal):
        if value.is_finite() and math.isfinite(float(value)):
            text = str(value)
            if len(text) > MAX_NUMBER_BYTES:
                reason = f"must be a number of at most {MAX_NUMBER_BYTES} characters"
                raise InvalidValueError(where, value, reason)
            return own_number(text) if set(text) & set(".eE") else int(value)
        reason = "must be a finite number in the range of a double, up to about 1.8e308"
    elif isinstance(value, float):
        if not math.isfinite(value):
            reason = "must be a finite number: JSON has no NaN or infinity; use None or text"
    elif isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = _checked_key(key, item, where)
            if name in found:
                raise InvalidValueError(where, name, "two keys become this text")
            found[name] = _checked(item, f"{where}.{name}")
        return found
    elif isinstance(value, (list, tuple)):
        return [_checked(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if reason:
        raise InvalidValueError(where, value, reason)
    return value


def _checked_key(key: Any, item: Any, where: str) -> str:
    if isinstance(key, (str, int, float, Decimal)) and not isinstance(key, bool):
        name = _checked(key, f"{where} (key)")
        return name if isinstance(name, str) else encode_json(name).decode()
    reason = "keys must be text or numbers"
    if key is None and isinstance(item, list):
        reason += (
            "; in a row of csv.DictReader, its value is what the row has beyond the columns of "
        )
        reason += f"the header: {item!r:.80}"
    raise InvalidValueError(where, key, reason)


def encode_value(value: Any, where: str) -> bytes:
    """Encode ``value`` as JSON text, as :func:`as_json_value` converts it.

    Raises the errors of that function.
    """
    return _json_text(value) or encode_json(as_json_value(value, where))


def read_back(value: Any) -> Any:
    """Return a JSON value as Python reads it from the journal. Its numbers are ints and floats."""
    return _decode_any(encode_json(value))


# --- the own text of a value -----------------------------------------------------------------


class OwnText(dict[str, Any]):
    """A JSON object from an input, with its original text, which has all digits."""

    __slots__ = ("text",)
    text: bytes


def read_object(text: bytes) -> Any:
    """Decode a JSON text. An object that Python would write differently becomes an OwnText."""
    value = _decode_any(text)
    own = msgspec.json.format(text, indent=-1)
    if type(value) is not dict or encode_json(value) == own:
        return value
    value = OwnText(value)
    value.text = own
    return value


def own_value(value: Any) -> Any:
    """Return the exact value of an OwnText, unless somebody has changed the value.

    Any other value is returned unchanged.
    """
    if type(value) is not OwnText or encode_json(_decode_any(value.text)) != plain_json(value):
        return value
    return decode_json_exact(value.text)


# --- comparison ------------------------------------------------------------------------------


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value for comparisons, with sorted keys. Checksums are made from this text.

    The text is the same for 1.1, 1.10 and 11e-1, which are one number. Different decimals have
    different texts, even if they are equal as doubles.
    """
    text = encode_sorted(value)
    if type(value) is dict and SCALARS.issuperset(map(type, value.values())):
        return text
    return text if type(value) in SCALARS else encode_sorted(_decode_canonical(text))


def _canonical(text: str) -> float | msgspec.Raw:
    number = float(text)
    shown = repr(number)
    if shown == text:
        return number
    try:
        exact = Decimal(text)
        if Decimal(shown) == exact:
            return number
        digits = Context(len(exact.as_tuple().digits), Emin=MIN_EMIN, Emax=MAX_EMAX)
        return msgspec.Raw(str(exact.normalize(digits)).encode())
    except InvalidOperation:  # the exponent has more than 18 digits
        return msgspec.Raw(text.encode())


_decode_canonical = msgspec.json.Decoder(float_hook=_canonical).decode


@cache
def load_sha256() -> Callable[[bytes], Any]:
    """Import ``hashlib.sha256`` late: the import loads OpenSSL, which reading doesn't need."""
    from hashlib import sha256  # noqa: PLC0415

    return sha256


def checksum_of(value: Any, encode: Callable[[Any], bytes] = canonical_json) -> str:
    """Return the SHA-256, in hex, of the value as compact JSON with sorted keys.

    If :func:`plain_json` accepts the value, numbers need no comparison as decimals. Then
    ``encode_sorted`` returns the same text in less time.
    """
    digest: str = load_sha256()(encode(value)).hexdigest()
    return digest


# --- values of Python and of other libraries --------------------------------------------------

# Values of these types are JSON values.
SCALARS = frozenset((str, int, float, bool, NoneType))
_MAX_LEVELS = 100  # the maximum depth of the parts of a repr
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
    """Replace each NaN, and the text ``missing``, by None, at any depth of a value."""
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
    are text. An index, or a level of an index, becomes a column if it has a name. An index or level
    without a name is left out. Raises ValueError if two columns have the same name.
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
    """Return ``str(value)``, or "" if ``str`` raises an exception."""
    try:
        return str(value)
    except BaseException:  # noqa: BLE001  (a __str__ may raise anything)
        return ""
