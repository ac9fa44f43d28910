"""Makes idempotency keys: the first key of a row, and a new key for a row that is done again."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from journal.format.records import JobRecord, RowDataRecord, RowRecord
from journal.format.values import DECODE_ERRORS, read_back
from journal.text import encode_json

AnyRow = RowRecord | RowDataRecord

# The ending of a new key: see next_key().
_ENDS_AS_NEW = re.compile(r"#[0-9]+\Z")
# JSON begins with one of these characters. A test of the first character takes a tenth of the time
# of decoding.
_JSON_BEGINS = tuple('"{[-0123456789tfn \t\r\n')
_NEW_ENDING = re.compile(r"#[0-9]+(\.[0-9a-f]{8})?\Z")


def step_key(key: str, step: str) -> str:
    """Make the idempotency key of a step from the key of its row."""
    return f"{key}/{step}"


def idempotency_key(row_id: str, row: AnyRow, keyed: JobRecord | None) -> str:
    """Return the idempotency key of a row: see :class:`JobRow`.

    ``keyed`` is the job's record if the job was made with a key column, else None. In a job with a
    key column, two rows with the same key get the same idempotency key, even if they were added in
    different copies of the job.

    In a job without a key column, each row that was added after the job's creation has a nonce
    (random digits). If two copies of the job each add a row, both rows get the same number. Their
    nonces keep the idempotency keys of the two rows different.
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
    """Return an idempotency key that the caller chose, as text.

    Text is unchanged. Other values become JSON.
    """
    return value if isinstance(value, str) else encode_json(read_back(value)).decode()


def key_text(value: Any) -> str:
    """Return the value of a key column as text. Different values give different texts.

    - Most text stays unchanged.
    - Text that is valid JSON becomes a JSON string.
    - Text that ends in ``#`` and a number becomes a JSON string, since :func:`next_key` makes keys
      with such an end.
    - Values that aren't text become JSON.
    """
    if isinstance(value, str) and not _ENDS_AS_NEW.search(value):
        if not value.startswith(_JSON_BEGINS):
            return value
        try:
            msgspec.json.decode(value)
        except (*DECODE_ERRORS, UnicodeEncodeError):
            return value
    return encode_json(read_back(value)).decode()


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
