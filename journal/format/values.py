"""Encodes JSON values from callers. Refuses values that would not read back equal.

Before JSON text is decoded, this module can also check how deep the text nests. Numbers that aren't
integers are decoded as floats, or as :class:`Number`, which keeps all digits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import accumulate
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.conversion import str_or_empty, to_json
from journal.format.records import MAX_DEPTH, SANE_BYTES
from journal.text import Number, decode_json_exact, encode_json

_decode_any = msgspec.json.Decoder().decode
_encode_plain = msgspec.json.Encoder().encode  # knows no Number


def _canonical(value: Any) -> Any:
    if type(value) is Number:
        return value.canonical_value
    raise TypeError(f"{type(value).__name__} is not a JSON value")


encode_by_value = msgspec.json.Encoder(enc_hook=_canonical).encode
# Checksums are made from this text. It is the same for 1.1, 1.10 and 11e-1, which are one number.
canonical_json = msgspec.json.Encoder(order="sorted", enc_hook=_canonical).encode
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# For each byte of JSON text outside strings: how the byte changes the depth, as a signed byte.
_STEP = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NO_BRACKETS = bytes(byte for byte in range(256) if not _STEP[byte])
_PIECE_BYTES = 1 << 16
_TOO_DEEP = f"must nest at most {MAX_DEPTH - 1} deep"


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """Return whether JSON text nests deeper than ``limit``.

    Call this function before decoding, since msgspec recurses in C. A hostile line may consist of
    megabytes of brackets. For speed, this function has no Python loop over the bytes.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    depth = at = 0
    within = False  # inside a string
    while at < len(text):
        piece = text[at : at + _PIECE_BYTES]
        # Don't separate a backslash from the character that it escapes.
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = text[at : at + _PIECE_BYTES + 1]
        at += len(piece)
        # Each remaining quote begins or ends a string.
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        steps = array("b", b"".join(parts[within::2]).translate(_STEP, _NO_BRACKETS))
        within ^= len(parts) % 2 == 0
        depths = list(accumulate(steps, initial=depth))
        if max(depths) > limit:
            return True
        depth = depths[-1]
    return False


def plain_json(value: Any) -> bytes | None:
    """Encode ``value`` as JSON text if the text certainly reads back equal, else return None.

    If the result is None, call :func:`encode_value`, which makes a slower check.
    """
    try:
        text = _encode_plain(value)
        if _decode_any(text) == value and (
            len(text) < SANE_BYTES - 2 or not nests_deeper_than(text, MAX_DEPTH - 1)
        ):
            return text
    except Exception:  # noqa: BLE001, S110  (a value's own code may raise anything)
        pass
    return None


def as_json_value(value: Any, where: str, *, any_keys: bool = False) -> Any:
    """Convert ``value`` to a JSON value. A JSON value is returned unchanged.

    :func:`to_json` lists the accepted types, and explains ``any_keys``. For other types, this
    function raises InvalidValueError.
    """
    if plain_json(value) is not None:
        return value
    try:
        converted = to_json(value, any_keys=any_keys)
        encode_value(converted, where)
    except InvalidValueError:
        raise
    except RecursionError:
        refuse_value(value, where)
        raise InvalidValueError(where, value, _TOO_DEEP) from None
    except Exception as error:  # noqa: BLE001  (a value's own code may raise anything)
        reason = f"can't be written as JSON: {type(error).__name__}: {str_or_empty(error)}"
        raise InvalidValueError(where, value, reason) from None
    return converted


def encode_value(value: Any, where: str) -> bytes:
    """Encode ``value`` as JSON text that reads back equal.

    A tuple may become a list. If encoding would change anything else, InvalidValueError is raised
    and names the path of the value. Such changes are NaN to null, bytes to base64, a set to a list,
    and a key to text. If a value isn't a JSON value, first convert it with :func:`as_json_value`.
    """
    try:
        text = encode_json(value)
        same = _decode_any(text) == value
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        refuse_value(value, where)
        raise InvalidValueError(where, value, f"can't be written as JSON: {error}") from None
    if not same:
        refuse_value(value, where)
    if nests_deeper_than(text, MAX_DEPTH - 1):  # the record around the value adds a level
        raise InvalidValueError(where, value, _TOO_DEEP)
    return text


def read_back(value: Any, *, exact: bool = False) -> Any:
    """Return a JSON value as it is read back from the journal. A tuple becomes a list.

    With ``exact``, each number that isn't an integer becomes a :class:`Number`. Without ``exact``,
    it becomes a float.
    """
    return (decode_json_exact if exact else _decode_any)(encode_json(value))


@cache
def load_sha256() -> Callable[[bytes], Any]:
    """Import ``hashlib.sha256`` late: the import loads OpenSSL, which reading doesn't need."""
    from hashlib import sha256  # noqa: PLC0415

    return sha256


def checksum_of(value: Any) -> str:
    """Return the SHA-256, in hex, of the value as compact JSON with sorted keys."""
    digest: str = load_sha256()(canonical_json(value)).hexdigest()
    return digest


def refuse_value(value: Any, where: str, depth: int = 0) -> None:
    """Raise InvalidValueError for the first part of ``value`` that JSON would change."""
    reason = None
    if depth > MAX_DEPTH:
        reason = _TOO_DEEP
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            reason = "must be text without lone surrogates, which UTF-8 can't hold"
    elif isinstance(value, Decimal):
        if type(value) is not Number or value.is_too_large:
            reason = "must be a finite number in the range of a double, up to about 1.8e308"
    elif type(value) is float:
        if not math.isfinite(value):
            reason = "must be a finite number: JSON has no NaN or infinity; use None or text"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                reason = "keys must be text: JSON would turn this one into text"
                if key is None and isinstance(item, list):
                    reason += "; in a row of csv.DictReader, its value is what the row has beyond "
                    reason += f"the columns of the header: {item!r:.80}"
                raise InvalidValueError(where, key, reason)
            refuse_value(key, f"{where} (key)", depth + 1)
            refuse_value(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            refuse_value(item, f"{where}[{number}]", depth + 1)
    elif not isinstance(value, int):
        reason = (
            f"{type(value).__name__} can't be written as JSON: use None, True, False, int, float, "
            "str, list or dict, or a type that stands for one of these, such as a dataclass"
        )
        if type(value).__name__ == "coroutine":
            reason = "is a coroutine that nobody has awaited: await it in an async function"
    if reason:
        raise InvalidValueError(where, value, reason)
