"""Hides the values of fields by name, such as addresses and passwords.

This changes only output, never the journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from journal.format.records import (
    ELSEWHERE,
    JobErrorRecord,
    JobRecord,
    JobReopenedRecord,
    LogRecord,
    Record,
    RowDataRecord,
    RowRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.model import Job, JobRow, RowStep

REDACTED = "[REDACTED]"

Shown = TypeVar("Shown", bound=msgspec.Struct)

_OF_OUTCOMES = (
    "tracking_number",
    "label_path",
    "cost_cents",
    "usage",
    "result",
    "error_code",
    "error_message",
    "traceback",
    "reason",
)
_OF_STEPS = ("result", "error_code", "error_message")
_OF_HEADERS = ("original_command", "description", "metadata")
# The members of a row that can be hidden, in addition to its data.
HIDEABLE = frozenset((*_OF_OUTCOMES, "idempotency_key"))

# The members that hold text or JSON of the caller. Each is mapped to the field name that hides it.
# Ids, numbers, statuses, times, names of steps and the job's name are never hidden.
_HELD: dict[type[msgspec.Struct], dict[str, str]] = {
    Job: {
        **{name: name for name in (*_OF_HEADERS, "error_code", "error_message")},
        "resume_command": "original_command",  # it repeats the original command
    },
    JobRow: {name: name for name in ("data", *_OF_OUTCOMES, "idempotency_key")},
    JobRecord: {name: name for name in _OF_HEADERS},
    JobReopenedRecord: {"reason": "reason"},
    RowRecord: {"data": "data", "key": "idempotency_key"},
    RowDataRecord: {"data": "data", "key": "idempotency_key"},
    RowStatusRecord: {name: name for name in _OF_OUTCOMES},
    RowStepRecord: {name: name for name in _OF_STEPS},
    RowStep: {name: name for name in _OF_STEPS},
    JobErrorRecord: {"code": "error_code", "message": "error_message"},
    LogRecord: {"message": "message", "details": "details"},
}

OWN_NAMES = frozenset(name for held in _HELD.values() for name in held.values())

# Checksums of hidden data are hidden too, since they could confirm a guess.
_DIGESTS = {RowRecord: "checksum", RowDataRecord: "checksum", JobRow: "row_checksum"}
_NO_ID = "0" * 16  # replaces the id of an origin


def names_in(record: Record) -> Iterator[str]:
    """Yield the keys in a record's JSON values. Each key can be the name of a hidden field."""
    for member in _HELD.get(type(record), ()):
        yield from _keys_of(getattr(record, member))


def _keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keys_of(item)


def redacted(value: Any, names: frozenset[str]) -> Any:
    """Return a copy of a JSON value with "[REDACTED]" for the value of each key in ``names``.

    ``names`` comes from :func:`journal.format.arguments.check_fields`. Keys are compared at any
    depth, and case is ignored. A key must match a name completely: "zip" doesn't match "zip_code".
    Text is not searched.
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if key.casefold() in names else redacted(item, names)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(item, names) for item in value]
    return value


def redacted_members(value: Shown, names: frozenset[str]) -> Shown:
    """Return a copy of a record, job or row in which the fields in ``names`` are hidden.

    ``names`` comes from :func:`journal.format.arguments.check_fields`. A hidden object keeps its
    keys. A hidden number becomes ``None``. ``usage`` loses its hidden entries.

    Values that are computed from hidden data are hidden, too. These are a checksum, an idempotency
    key and the id of an origin. Histories, exports, reports and listings all use this function.
    """
    if not names:
        return value
    if isinstance(value, LogRecord) and "original_command" in names:
        names |= {"resume"}  # the record of a run contains the command, too
    if "error_message" in names:
        names |= {"traceback"}  # a traceback ends with the message
    hidden: dict[str, Any] = {}
    for member, name in _HELD.get(type(value), {}).items():
        held = getattr(value, member)
        if held is None:
            continue
        shown = REDACTED if name in names else redacted(held, names)
        if member == "usage":  # usage values must stay numbers
            shown = {
                key: number
                for key, number in held.items()
                if name not in names and key.casefold() not in names
            }
        if shown is REDACTED and isinstance(held, dict):
            shown = dict.fromkeys(held, REDACTED)
        elif shown is REDACTED and isinstance(held, (int, float)):
            shown = None
        if shown != held:
            hidden[member] = shown
    if not hidden:
        return value
    digest = _DIGESTS.get(type(value))
    if digest is not None and "data" in hidden:
        hidden[digest] = REDACTED
        if isinstance(value, RowRecord | RowDataRecord):
            hidden["key"] = value.key and REDACTED
        elif isinstance(value, JobRow) and not _is_of_id(value.idempotency_key, value.id):
            hidden["idempotency_key"] = REDACTED
    if (
        isinstance(value, RowStatusRecord | RowDataRecord | RowStepRecord)
        and value.origin is not None
    ):
        hidden["origin"] = msgspec.structs.replace(value.origin, id=_NO_ID)
    details = hidden.get("details")
    elsewhere = details.get(ELSEWHERE) if isinstance(details, dict) else None
    if isinstance(elsewhere, dict):
        elsewhere.update((name, REDACTED) for name in ("id", "key") if name in elsewhere)
    return msgspec.structs.replace(value, **hidden)


def _is_of_id(key: str, row_id: str) -> bool:
    """Return whether a key is made only from the row's id, so that the key reveals no data."""
    return key == row_id or key.startswith((f"{row_id}.", f"{row_id}#"))
