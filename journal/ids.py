"""Ids of jobs and rows: checks, new ids, and splitting a row id."""

from __future__ import annotations

import os
import re
import unicodedata
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from journal.errors import InvalidValueError

MAX_ROW_NUMBER = 2**63 - 1
_JOB_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_ROW_NUMBER_DIGITS = 19
MAX_SHARDS = 999_999
_SHARD_NAME = re.compile(r"([0-9]{3,6})-of-([0-9]{3,6})")
_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in range(10)))
)
_RANDOM_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_SLUG_CHARACTERS = 40


@lru_cache(maxsize=1024)  # most programs use the same few jobs repeatedly
def is_job_id(text: str) -> bool:
    """Whether ``text`` may be a job id.

    A job id is a directory name that all file systems allow, and that isn't the name of a shard.
    """
    return (
        _JOB_ID.fullmatch(text) is not None
        and not text.endswith(".")
        and split_shard_name(text) is None
        and text.split(".", maxsplit=1)[0] not in _WINDOWS_DEVICES
    )


def check_job_id(value: object) -> str:
    """Check that the value is the id of a job, or of a shard. Return it."""
    if isinstance(value, str) and (is_job_id(value) or is_shard_id(value)):
        return value
    raise InvalidValueError(
        "job_id",
        value,
        "must be 1 to 128 of a-z 0-9 . _ -, begin with a letter or digit, not end with a dot, "
        "and not be a device name of Windows such as 'con', or the name of a shard",
    )


# --- shards. The id of a shard is SET/003-of-064: the id of its set, and the name of its directory.


def shard_name(index: int, count: int) -> str:
    """The name of a shard's directory, such as ``003-of-064``."""
    digits = max(3, len(str(count)))
    return f"{index:0{digits}}-of-{count:0{digits}}"


def split_shard_name(name: str) -> tuple[int, int] | None:
    """The index and the count in the name of a shard's directory. None for any other name."""
    match = _SHARD_NAME.fullmatch(name)
    if match is None:
        return None
    index, count = int(match[1]), int(match[2])
    return (index, count) if index < count and shard_name(index, count) == name else None


@lru_cache(maxsize=1024)
def is_shard_id(text: str) -> bool:
    set_id, _, name = text.partition("/")
    return split_shard_name(name) is not None and is_job_id(set_id)


def id_of_directory(directory: Path) -> str:
    """The id of the job in a directory: the directory's name, or for a shard, ``SET/NAME``."""
    name = directory.name
    return name if split_shard_name(name) is None else f"{directory.parent.name}/{name}"


def root_of(directory: Path) -> Path:
    """The root of the store that has the job, or the shard, with this directory."""
    return directory.parent if split_shard_name(directory.name) is None else directory.parents[1]


def row_id_of(job_id: str, number: int) -> str:
    """The id of a row. The rows of a shard have the id of the set."""
    return f"{job_id.partition('/')[0]}:{number}"


def slug(name: str) -> str:
    """Turn ``name`` into a part of a job id. Returns "job" if no letter or digit is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    text = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_SLUG_CHARACTERS].rstrip("-")
    return text if text and text not in _WINDOWS_DEVICES else "job"


def new_job_id(name: str, today: datetime) -> str:
    """A new job id: ``DATE-NAME-RANDOM``, such as ``20261124-ship-orders-x7k2p9``."""
    number = int.from_bytes(os.urandom(8))  # the module `secrets` is slow to import
    random = "".join(_RANDOM_ALPHABET[number // 36**place % 36] for place in range(6))
    return f"{today:%Y%m%d}-{slug(name)}-{random}"


def split_row_id(row_id: object) -> tuple[str, int]:
    """The two parts of ``JOB_ID:ROW_NUMBER``. Raises InvalidValueError."""
    if isinstance(row_id, str):
        job_id, _, number = row_id.rpartition(":")
        # Each change of a row calls this function. isdecimal() takes a third of the time of a
        # regular expression.
        if (
            number.isdecimal()
            and number.isascii()
            and number >= "1"  # it doesn't begin with 0
            and len(number) <= _ROW_NUMBER_DIGITS
            and is_job_id(job_id)
        ):
            return job_id, int(number)
    raise InvalidValueError("row_id", row_id, "must be JOB_ID:ROW_NUMBER, such as 'my-job:12'")
