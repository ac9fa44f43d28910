"""Encodes JSON values from callers. A value that would not read back equal is refused.

JSON text must also be checked for how deep it nests, before the text is decoded.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.records import MAX_DEPTH, SANE_BYTES, encode_json

_decode_any = msgspec.json.Decoder().decode
canonical_json = msgspec.json.Encoder(order="sorted").encode  # checksums are made from it
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
# How each byte of JSON text outside strings changes the depth, as a signed byte.
_STEP = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
_NO_BRACKETS = bytes(byte for byte in range(256) if not _STEP[byte])
_PIECE_BYTES = 1 << 16


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """Return whether JSON text nests deeper than ``limit``.

    Call this before decoding, since msgspec recurses in C. A hostile line may be megabytes of
    brackets, so no Python code runs for each byte.
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
    """JSON text that reads back equal, or None if that isn't certain without a slower check.

    If the result is None, call :func:`encode_value`, which makes that check.
    """
    try:
        text = encode_json(value)
        if _decode_any(text) == value and (
            len(text) < SANE_BYTES - 2 or not nests_deeper_than(text, MAX_DEPTH - 1)
        ):
            return text
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        pass
    return None


def encode_value(value: Any, where: str) -> bytes:
    """Encode ``value`` as JSON text that reads back equal. Raises InvalidValueError if that is
    impossible.

    A tuple may become a list. Every other change (NaN to null, bytes to base64, a set to a list, a
    key to text) is refused, and the error names the path of the value.
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
        raise InvalidValueError(where, value, f"must nest at most {MAX_DEPTH - 1} deep")
    return text


def as_json(value: Any, where: str) -> Any:
    """Encode the value as JSON, and return what decoding gives. Raises InvalidValueError."""
    return _decode_any(encode_value(value, where))


@cache
def load_sha256() -> Callable[[bytes], Any]:
    """Import ``hashlib.sha256`` late, since it loads OpenSSL, which isn't needed for reading."""
    from hashlib import sha256  # noqa: PLC0415

    return sha256


def checksum_of(value: Any) -> str:
    """The SHA-256, in hex, of the value as compact JSON with sorted keys."""
    digest: str = load_sha256()(canonical_json(value)).hexdigest()
    return digest


def refuse_value(value: Any, where: str, depth: int = 0) -> None:
    """Raise InvalidValueError for the first part of ``value`` that JSON would change."""
    reason = None
    if depth > MAX_DEPTH:
        reason = f"must nest at most {MAX_DEPTH - 1} deep"
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            reason = "must be text without lone surrogates, which UTF-8 can't hold"
    elif type(value) is float:
        if not math.isfinite(value):
            reason = "must be a finite number: JSON has no NaN or infinity; use None or text"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidValueError(
                    where, key, "keys must be text: JSON would turn this one into text"
                )
            refuse_value(key, f"{where} (key)", depth + 1)
            refuse_value(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            refuse_value(item, f"{where}[{number}]", depth + 1)
    elif not isinstance(value, int):
        reason = (
            f"{type(value).__name__} is not a JSON value: use None, True, False, int, float, "
            "str, list or dict"
        )
    if reason:
        raise InvalidValueError(where, value, reason)
