"""Values that must not be shown, such as addresses or keys, hidden by the name of their field.

Applied to what is read, never to what is stored: the journal keeps what happened.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from journal.errors import InvalidValueError
from journal.format import (
    JobErrorRecord,
    JobRecord,
    LogRecord,
    Record,
    RowRecord,
    RowStatusRecord,
)

REDACTED = "[REDACTED]"

AnyRecord = TypeVar("AnyRecord", bound=Record)

# What a record holds of the caller's, and the name of it in Job, JobRow or LogEntry.
_HELD: dict[type[msgspec.Struct], dict[str, str]] = {
    JobRecord: {name: name for name in ("original_command", "description", "metadata")},
    RowRecord: {"data": "data"},
    RowStatusRecord: {
        name: name
        for name in (
            "tracking_number",
            "label_path",
            "cost_cents",
            "result",
            "error_code",
            "error_message",
            "reason",
        )
    },
    JobErrorRecord: {"code": "error_code", "message": "error_message"},
    LogRecord: {"message": "message", "details": "details"},
}


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


def redacted(value: Any, fields: Collection[str]) -> Any:
    """A JSON value with "[REDACTED]" for what stands under a key of ``fields``, at any depth.

    Keys are compared without regard to case, whole: "zip" is not in "zip_code". ``value`` itself
    stays as it is; it is returned where there are no ``fields``. Text is not searched.
    """
    names = frozenset(name.casefold() for name in fields)
    return _redacted(value, names) if names else value


def _redacted(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: REDACTED if key.casefold() in names else _redacted(item, names)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redacted(item, names) for item in value]
    return value


def redacted_record(record: AnyRecord, fields: Collection[str]) -> AnyRecord:
    """A record without what ``fields`` names in it, as Job, JobRow and LogEntry call it.

    Numbers, statuses, times and the job's name stay. Every member keeps its type: of an object all
    values are hidden, and a cost that is hidden is None.
    """
    if not fields:
        return record
    hidden: dict[str, Any] = {}
    for member, name in _HELD.get(type(record), {}).items():
        value = getattr(record, member)
        if value is None:
            continue
        shown = redacted({name: value}, fields)[name]
        if shown is REDACTED and isinstance(value, dict):
            shown = dict.fromkeys(value, REDACTED)
        elif shown is REDACTED and isinstance(value, int):
            shown = None
        hidden[member] = shown
    return msgspec.structs.replace(record, **hidden) if hidden else record
