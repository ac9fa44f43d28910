"""Encodes JSON values from callers. Refuses values that would not read back equal.

Python reads numbers that aren't integers as floats. Where the text of such a number must be kept,
the value is an **exact** value: a number whose text isn't what msgspec writes for the float is a
``msgspec.Raw``. So an exact value is written again as it was read.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Callable, Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cache
from itertools import accumulate
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.conversion import SCALARS, NoJsonError, str_or_empty, to_builtins
from journal.format.records import MAX_DEPTH, MAX_NUMBER_BYTES, SANE_BYTES, SANE_RECORD_BYTES
from journal.text import decode_json_exact, encode_json, own_number

_decode_any = msgspec.json.Decoder().decode
encode_sorted = msgspec.json.Encoder(order="sorted").encode
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# For each byte of JSON text outside strings: how the byte changes the depth, as a signed byte.
_STEP = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NOT_OPENING = bytes(byte for byte in range(256) if byte not in b"[{")
_NEITHER_OPENING_NOR_LF = _NOT_OPENING.replace(b"\n", b"")
_AS_BRACES = bytes.maketrans(b"[", b"{")
_TOO_MANY = b"{" * (MAX_DEPTH + 1)
_NO_BRACKETS = bytes(byte for byte in range(256) if not _STEP[byte])
# A string without an end reaches to the end of the text. Otherwise, the search would begin again at
# each of its escaped quotes.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# Matches about 1,000 strings at a time, since ``sub`` holds each part of its result in memory.
_PIECE = re.compile(rb'(?:[^"]++|%b){1,2000}+' % _STRING.pattern, re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_BYTES + 1))
_SAMPLE_BYTES = 64
_SAMPLED_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER_BYTES // _SAMPLE_BYTES))
_TOO_DEEP = f"must nest at most {MAX_DEPTH - 1} deep"


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """Return whether JSON text nests deeper than ``limit``.

    Call this function before decoding, since msgspec recurses in C. A hostile line may consist of
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
    """Return whether a line, if it is a record, certainly keeps the bounds of nesting and numbers.

    The check is quick. Nearly all lines pass.
    """
    size = len(line)
    return size <= SANE_RECORD_BYTES or (
        size <= MAX_NUMBER_BYTES and len(line.translate(None, _NOT_OPENING)) <= MAX_DEPTH
    )


def are_sane(lines: Sequence[bytes], longest: int) -> bool:
    """Return whether :func:`is_sane` is true for all lines. ``longest`` is the longest's length."""
    return longest <= SANE_RECORD_BYTES or (
        longest <= MAX_NUMBER_BYTES
        and _TOO_MANY not in b"\n".join(lines).translate(_AS_BRACES, _NEITHER_OPENING_NOR_LF)
    )


def has_long_number(text: bytes) -> bool:
    """Return whether JSON text has a number of more than ``MAX_NUMBER_BYTES``."""
    # Most texts are refuted by one byte of 64, which is fast.
    return (
        len(text) > MAX_NUMBER_BYTES
        and _SAMPLED_NUMBER.search(text[::_SAMPLE_BYTES]) is not None
        and any(
            _LONG_NUMBER.search(_STRING.sub(b'""', piece[0])) for piece in _PIECE.finditer(text)
        )
    )


def plain_json(value: Any, decode: Callable[[bytes], Any] = _decode_any) -> bytes | None:
    """Encode ``value`` as JSON text if the text certainly reads back equal, else return None.

    If the result is None, call :func:`as_json_value`, which makes a slower check. It is None for
    exact values, unless ``decode`` is ``decode_json_exact``.
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
    - ``format/conversion.py`` converts what msgspec doesn't know.
    - Decimals become numbers with all their digits. Keys of dicts become text.

    Raises InvalidValueError, which names the path of a value that JSON can't hold, such as NaN.
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
    """Encode ``value`` as JSON text, as :func:`as_json_value` converts it. Raises its errors."""
    return _json_text(value) or encode_json(as_json_value(value, where))


def read_back(value: Any) -> Any:
    """Return a JSON value as Python reads it from the journal: its numbers are ints and floats."""
    return _decode_any(encode_json(value))


# --- the own text of a value -----------------------------------------------------------------


class OwnText(dict[str, Any]):
    """A JSON object that was read from an input, with its own text, which has all digits."""

    __slots__ = ("text",)
    text: bytes


def read_object(text: bytes) -> Any:
    """Decode a JSON text. An object that Python would write otherwise becomes an OwnText."""
    value = _decode_any(text)
    own = msgspec.json.format(text, indent=-1)
    if type(value) is not dict or encode_json(value) == own:
        return value
    value = OwnText(value)
    value.text = own
    return value


def own_value(value: Any) -> Any:
    """Return the exact value of an OwnText, unless it was changed since it was read.

    Any other value is returned unchanged.
    """
    if type(value) is not OwnText or encode_json(_decode_any(value.text)) != plain_json(value):
        return value
    return decode_json_exact(value.text)


# --- comparison ------------------------------------------------------------------------------


def canonical_json(value: Any) -> bytes:
    """Encode a JSON value for comparisons, with sorted keys. Checksums are made from this text.

    It is the same for 1.1, 1.10 and 11e-1, which are one number. Two numbers that are different as
    decimals have different texts, even if they are equal as doubles.
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

    If :func:`plain_json` accepts the value, ``encode_sorted`` gives the same in less time: then no
    number must be compared as a decimal.
    """
    digest: str = load_sha256()(encode(value)).hexdigest()
    return digest
