"""Values that must not be shown, such as addresses or keys, hidden by the name of their field.

Applied to what is read, never to what is stored: the journal keeps what happened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

import msgspec

from journal.errors import InvalidValueError
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
)
from journal.model import Job, JobRow

REDACTED = "[REDACTED]"

Told = TypeVar("Told", bound=msgspec.Struct)

_OF_OUTCOMES = (
    "tracking_number",
    "label_path",
    "cost_cents",
    "result",
    "error_code",
    "error_message",
    "reason",
)
_OF_HEADERS = ("original_command", "description", "metadata")
HIDEABLE = frozenset(
    (*_OF_OUTCOMES, "idempotency_key")
)  # of what the journal knows of a row, beside its data

# What each holds of the caller's, and the name by which it is hidden: the one of Job, JobRow or
# LogEntry. Ids, numbers, statuses, times and the job's name are never hidden.
_HELD: dict[type[msgspec.Struct], dict[str, str]] = {
    Job: {
        **{name: name for name in (*_OF_HEADERS, "error_code", "error_message")},
        "resume_command": "original_command",  # which it repeats
    },
    JobRow: {name: name for name in ("data", *_OF_OUTCOMES, "idempotency_key")},
    JobRecord: {name: name for name in _OF_HEADERS},
    JobReopenedRecord: {"reason": "reason"},
    RowRecord: {"data": "data", "key": "idempotency_key"},
    RowDataRecord: {"data": "data", "key": "idempotency_key"},
    RowStatusRecord: {name: name for name in _OF_OUTCOMES},
    JobErrorRecord: {"code": "error_code", "message": "error_message"},
    LogRecord: {"message": "message", "details": "details"},
}

OWN_NAMES = frozenset(name for held in _HELD.values() for name in held.values())

# What is made of the values that are hidden, and would tell whether a guess at them is right.
_DIGESTS = {RowRecord: "checksum", RowDataRecord: "checksum", JobRow: "row_checksum"}
_NO_ID = "0" * 16  # of an origin


def names_in(record: Record) -> Iterator[str]:
    """The names in a record by which something of it can be hidden, beside OWN_NAMES."""
    for member in _HELD.get(type(record), ()):
        yield from _keys_of(getattr(record, member))


def _keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keys_of(item)


def check_fields(fields: Collection[str], where: str = "redact") -> frozenset[str]:
    """Names of fields in the form in which they are compared: of any case.

    Raises InvalidValueError for what isn't a collection of text; for a lone text, too, which would
    be one of its letters.
    """
    if not isinstance(fields, (str, bytes)) and isinstance(fields, Collection):
        names = list(fields)
        if all(isinstance(name, str) and name for name in names):
            return frozenset(name.casefold() for name in names)
    raise InvalidValueError(
        where, fields, "must be a collection of field names, such as ['password', 'address']"
    )


def redacted(value: Any, names: frozenset[str]) -> Any:
    """A JSON value with "[REDACTED]" for what stands under a key of ``names``, at any depth.

    ``names`` are of :func:`check_fields`. Keys are compared without regard to case, whole: "zip" is
    not in "zip_code". ``value`` itself stays as it is. Text is not searched.
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if key.casefold() in names else redacted(item, names)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redacted(item, names) for item in value]
    return value


def redacted_members(told: Told, names: frozenset[str]) -> Told:
    """A record, job or row without what ``names`` (of :func:`check_fields`) hides in it.

    Every member keeps its type: of an object all values are hidden, and a cost that is hidden is
    None. So is what is made of what is hidden: a checksum of such data, an idempotency key, the id of an origin. This is
    the one rule for histories, exports, reports and listings.
    """
    if not names:
        return told
    if isinstance(told, LogRecord) and "original_command" in names:
        names |= {"resume"}  # where a run has written down the command that goes on with it
    hidden: dict[str, Any] = {}
    for member, name in _HELD.get(type(told), {}).items():
        value = getattr(told, member)
        if value is None:
            continue
        shown = REDACTED if name in names else redacted(value, names)
        if shown is REDACTED and isinstance(value, dict):
            shown = dict.fromkeys(value, REDACTED)
        elif shown is REDACTED and isinstance(value, int):
            shown = None
        if shown != value:
            hidden[member] = shown
    if not hidden:
        return told
    digest = _DIGESTS.get(type(told))
    if digest is not None and "data" in hidden:
        hidden[digest] = REDACTED
        if isinstance(told, RowRecord | RowDataRecord):
            hidden["key"] = told.key and REDACTED
        elif isinstance(told, JobRow) and not _is_of_id(told.idempotency_key, told.id):
            hidden["idempotency_key"] = REDACTED
    if isinstance(told, RowStatusRecord | RowDataRecord) and told.origin is not None:
        hidden["origin"] = msgspec.structs.replace(told.origin, id=_NO_ID)
    details = hidden.get("details")
    elsewhere = details.get(ELSEWHERE) if isinstance(details, dict) else None
    if isinstance(elsewhere, dict):
        elsewhere.update((name, REDACTED) for name in ("id", "key") if name in elsewhere)
    return msgspec.structs.replace(told, **hidden)


def _is_of_id(key: str, row_id: str) -> bool:
    """Whether a key is made of its row's id alone, and so of nothing that could be hidden."""
    return key == row_id or key.startswith((f"{row_id}.", f"{row_id}#"))
