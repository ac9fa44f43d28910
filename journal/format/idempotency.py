"""Idempotency keys: what a row's is, and how each stays that of one row."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from journal.format.records import JobRecord, RowDataRecord, RowRecord, encode_json
from journal.format.values import DECODE_ERRORS

AnyRow = RowRecord | RowDataRecord

# How a new key ends: see next_key().
_ENDS_AS_NEW = re.compile(r"#[0-9]+\Z")
_NEW_ENDING = re.compile(r"#[0-9]+(\.[0-9a-f]{8})?\Z")


def idempotency_key(row_id: str, row: AnyRow, keyed: JobRecord | None) -> str:
    """What to give to the far side for a row: see :class:`JobRow`.

    ``keyed`` is the job's record if it names a column for this: two copies of the job that both
    add a row of one key use one idempotency key for it. Other rows that were added later have a
    nonce, for a copy may have added others under the same numbers.
    """
    if row.key is not None:
        return row.key
    if keyed is not None:
        own = row.data.get(keyed.idempotency_key) if keyed.idempotency_key else None
        if own is not None and own != "":
            return own_key_text(own)
        value = None if keyed.key is None else row.data.get(keyed.key)
        if value is not None and value != "":
            return f"{row_id.rpartition(':')[0]}:{keyed.key}={key_text(value)}"
    return row_id if row.nonce is None else f"{row_id}.{row.nonce}"


def own_key_text(value: Any) -> str:
    """A key of the caller's own: text as it is, and other values as JSON."""
    return value if isinstance(value, str) else encode_json(value).decode()


def key_text(value: Any) -> str:
    """A value as text, no two alike: text as it is, unless it would be read as something else.

    That is as JSON, or as the key of another row that was done anew.
    """
    if isinstance(value, str) and not _ENDS_AS_NEW.search(value):
        try:
            msgspec.json.decode(value)
        except (*DECODE_ERRORS, UnicodeEncodeError):
            return value
    return encode_json(value).decode()


def next_key(key: str, keys: int, nonce: str | None) -> str:
    """The key of a row that is to be done as new, and has had ``keys`` keys, ``key`` the last.

    ``KEY#2``, ``KEY#3``, and so on; ``KEY#2.NONCE`` where another row may have the former.
    """
    first = key.rpartition("#")[0] if keys > 1 else key
    return f"{first}#{keys + 1}" if nonce is None else f"{first}#{keys + 1}.{nonce}"


def first_key(key: str) -> str:
    """The key that a row may have had before it was given new ones."""
    return _NEW_ENDING.sub("", key)
