"""What callers hand in, checked before anything is written: ids, text, numbers, rows."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from journal.errors import InvalidValueError
from journal.format.records import MAX_ROW_NUMBER
from journal.format.values import (
    canonical_json,
    checksum_of,
    encode_value,
    load_sha256,
    plain_json,
)

_JOB_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_ROW_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10)))
)
_RANDOM_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SLUG_CHARACTERS = 40
_JOB_ID_CHARACTERS = 128


@lru_cache(maxsize=1024)  # a script names the same few jobs again and again
def is_job_id(text: str) -> bool:
    """Whether ``text`` is one path component that every file system takes as it is."""
    return (
        _JOB_ID.fullmatch(text) is not None
        and not text.endswith(".")
        and text.split(".", maxsplit=1)[0] not in _WINDOWS_DEVICES
    )


def check_job_id(value: object) -> str:
    if isinstance(value, str) and is_job_id(value):
        return value
    raise InvalidValueError(
        "job_id",
        value,
        "must be 1 to 128 of a-z 0-9 . _ -, begin with a letter or digit, not end with a dot, "
        "and not be a device name of Windows such as 'con'",
    )


def slug(name: str) -> str:
    """A part of a job id that reads like ``name``; "job" if nothing of it is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG_CHARACTERS].rstrip("-")
    return text if text and text not in _WINDOWS_DEVICES else "job"


def new_job_id(name: str, today: datetime) -> str:
    """``DATE-slug-of-name-random``."""
    number = int.from_bytes(os.urandom(8))  # the module `secrets` takes long to import
    random = "".join(_RANDOM_ALPHABET[number // 36**place % 36] for place in range(6))
    return f"{today:%Y%m%d}-{slug(name)}-{random}"


def split_row_id(row_id: object) -> tuple[str, int]:
    """``JOB_ID:ROW_NUMBER`` as its two parts."""
    if isinstance(row_id, str):
        job_id, _, number = row_id.rpartition(":")
        if _ROW_NUMBER.fullmatch(number) and is_job_id(job_id):
            return job_id, int(number)
    raise InvalidValueError("row_id", row_id, "must be JOB_ID:ROW_NUMBER, such as 'my-job:12'")


def check_text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidValueError(where, value, "must be text (str)")
    value = str.__str__(value)  # msgspec takes no subclass
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


def check_count(value: object, where: str) -> int | None:
    """A count or a cost: an int from 0 up, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValueError(where, value, "must be an int")
    if not 0 <= value < 2**63:
        raise InvalidValueError(where, value, "must be 0 or more, and below 2**63")
    return int(value)


def check_row_number(value: object, where: str) -> int | None:
    """A row number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_ROW_NUMBER:
        raise InvalidValueError(where, value, "must be an int from 1 to 2**63-1")
    return int(value)


def check_moment(value: datetime | None, where: str) -> datetime | None:
    if value is not None and (not isinstance(value, datetime) or value.utcoffset() is None):
        raise InvalidValueError(where, value, "must be an aware datetime, such as in UTC")
    return value


def check_label_path(value: object, directory: Path) -> str:
    """A path as text; one inside the job's directory is made relative, so that it moves along."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidValueError("label_path", value, "must be a path (str or PathLike)")
    text = check_text(os.fspath(value), "label_path")
    if os.path.isabs(text):
        inside = os.path.relpath(text, directory.absolute())
        if inside != os.pardir and not inside.startswith(os.pardir + os.sep):
            return Path(inside).as_posix()
    return text


def new_rows(row_data: Any, next_number: int) -> Iterator[tuple[int, str, bytes, str | None]]:
    """Number, checksum, data as JSON text, and idempotency key (None: not given) of each row.

    Raises :class:`InvalidValueError`. Checked row by row, as they are taken. That a number is not
    taken yet is for the caller to check.
    """
    if isinstance(row_data, (str, bytes, Mapping)):
        raise InvalidValueError("row_data", row_data, "must be an iterable of mappings")
    try:
        items = iter(row_data)
    except TypeError:
        raise InvalidValueError("row_data", row_data, "must be an iterable of mappings") from None
    sha256 = load_sha256()
    for place, item in enumerate(items, 1):
        text = key = None
        if type(item) is dict and len(item) == 1 and next_number <= MAX_ROW_NUMBER:
            data = item.get("data")
            if type(data) is dict:  # what most rows are, in two thirds of the time
                text = plain_json(data)
        if text is not None:
            number, checksum = next_number, sha256(canonical_json(data)).hexdigest()
        else:
            number, checksum, text, key = _new_row(place, item, next_number)
        if number >= next_number:
            next_number = number + 1
        yield number, checksum, text, key


def _new_row(place: int, item: Any, next_number: int) -> tuple[int, str, bytes, str | None]:
    if not isinstance(item, Mapping):
        raise InvalidValueError(f"row_data, element {place}", item, "must be a mapping")
    number = item.get("row_number")
    if number is None:
        number = next_number
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidValueError(f"row_data, element {place}: row_number", number, "must be an int")
    if not 0 < number <= MAX_ROW_NUMBER:
        raise InvalidValueError(
            f"row_data, element {place}: row_number", number, "must be from 1 to 2**63-1"
        )
    data = item.get("data")
    if data is None:
        data = {}
    elif not isinstance(data, dict):
        raise InvalidValueError(f"row {number}: data", data, "must be a dict")
    text = encode_value(data, f"row {number}: data")
    checksum = item.get("row_checksum")
    if checksum is None:
        checksum = checksum_of(data)
    else:
        checksum = check_text(checksum, f"row {number}: row_checksum")
    key = item.get("idempotency_key")
    if key is not None and not check_text(key, f"row {number}: idempotency_key"):
        raise InvalidValueError(f"row {number}: idempotency_key", key, "must not be empty")
    if not item.keys() <= _ROW_KEYS:
        unknown = sorted(map(str, item.keys() - _ROW_KEYS))
        raise InvalidValueError(
            f"row {number}",
            ", ".join(unknown),
            "only row_number, row_checksum, idempotency_key and data are known: put the row's own "
            "fields into data",
        )
    return int(number), checksum, text, key


_ROW_KEYS = frozenset(("row_number", "row_checksum", "idempotency_key", "data"))
