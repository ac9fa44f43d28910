"""Values that must not be shown, such as addresses or keys, hidden by the name of their field.

Applied to what is read, never to what is stored: the journal keeps what happened.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

import msgspec

from journal.errors import InvalidValueError
from journal.format import JobErrorRecord, JobRecord, LogRecord, RowRecord, RowStatusRecord
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
HIDEABLE = frozenset(_OF_OUTCOMES)  # of what the journal knows of a row, beside its data

# What each holds of the caller's, and the name by which it is hidden: the one of Job, JobRow or
# LogEntry. Ids, numbers, statuses, times and the job's name are never hidden.
_HELD: dict[type[msgspec.Struct], dict[str, str]] = {
    Job: {
        **{name: name for name in (*_OF_HEADERS, "error_code", "error_message")},
        "resume_command": "original_command",  # which it repeats
    },
    JobRow: {name: name for name in ("data", *_OF_OUTCOMES)},
    JobRecord: {name: name for name in _OF_HEADERS},
    RowRecord: {"data": "data"},
    RowStatusRecord: {name: name for name in _OF_OUTCOMES},
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
    None. This is the one rule for histories, exports and reports.
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
        hidden[member] = shown
    return msgspec.structs.replace(told, **hidden) if hidden else told
