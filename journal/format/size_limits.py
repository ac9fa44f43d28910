"""The limits of a record's content, such as data or a result: bytes, depth, digits, names."""

from __future__ import annotations

from journal.errors import InvalidValueError
from journal.format.seal import SEAL_BYTES

MAX_LINE_BYTES = 64 << 20  # the maximum of a line, with its LF
MAX_DEPTH = 100  # the maximum depth of nested objects and arrays in a record
MAX_NUMBER_BYTES = 4300  # Python refuses to print longer integers
# A record up to this length can't nest deeper than MAX_DEPTH. Other text of this length can nest
# deeper, but is still safe to decode.
SANE_BYTES = 2 * MAX_DEPTH
# The same for a line that was decoded as a record: its type and its time take at least 48 bytes.
SANE_RECORD_BYTES = SANE_BYTES + 48
MAX_RECORD_BYTES = MAX_LINE_BYTES - SEAL_BYTES  # the maximum that a writer may append
MAX_REPR_BYTES = 1 << 20  # the maximum of the text of a result that isn't JSON
MAX_COST_CENTS = 2**63 // 10**6
MAX_USAGE_NAMES = 100  # for one job, since each summary and the hint hold all names


def too_long(subject: str, length: int) -> InvalidValueError:
    """The error for a record that is too long. ``subject`` names the record."""
    reason = f"must be at most {MAX_RECORD_BYTES} bytes as JSON"
    return InvalidValueError(subject, f"{length} bytes", reason)
