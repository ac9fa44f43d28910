r"""Format 1 of ``journal.jsonl``: the specification, its records and seals, and their encoding.

The file
========

A journal is UTF-8 text. Each line is one JSON object, a **record**, and ends with one LF.
One or more records that were written together are a **commit**. The last line of a commit, and
only that one, ends with a **seal**; the file is a sequence of commits and nothing else::

    file    = commit+
    commit  = ( record LF )* sealed LF
    record  = "{" members "}"
    sealed  = "{" members seal
    seal    = ',"crc":"' hex{8} '"}'            ; 18 bytes, hex is one of 0-9 a-f

There is no white space outside of strings, and no byte order mark. The seal is recognized by
the last 18 bytes of a line, without parsing JSON: within a record, ``","`` and ``":"`` can't
stand unescaped inside a string, and the last member of every record is ``at``, so a line that
was not sealed never ends like a seal. Its eight digits are compared as bytes: ``A`` isn't ``a``.

The value is CRC-32 (zlib, IEEE 802.3) over the bytes of the commit from its first byte up to the
seal, the LFs between its lines included, *continued* from the value of the commit before: the
first commit starts from 0. In Python, for a commit of two lines after a commit with value ``v``::

    crc32(b'{"type":"row",...}' + b"\n" + b'{"type":"row",...', v)

Since each seal continues the one before, the last seal vouches for the whole file: a line lost,
repeated, moved or edited anywhere breaks a seal at that place.

What follows the last good commit is a **torn tail**, left by a writer that died before it could
promise anything, if no good commit is behind it, it has at most one line that ends like a seal,
and, if it has one: not all of its lines are legible records, none that isn't lies within a block of
512 bytes of the file that holds a part of one that is (a disk writes blocks whole), and it isn't
whole but for one flipped bit. It did not happen: readers ignore it, the next writer saves it and cuts
it off. But if it is a whole commit that lacks nothing but its last LF, it has happened, and the next
writer puts that back. Everything else that isn't a good commit is damage: stop.

Worked example (two commits; a test recomputes it)::

    {"type":"job","format":1,"id":"demo","name":"Demo","at":"2026-11-24T13:35:00.000001Z","crc":"98d25860"}
    {"type":"row","row":1,"checksum":"44136fa355b3678a","data":{},"at":"2026-11-24T13:35:01.000001Z"}
    {"type":"row","row":2,"checksum":"44136fa355b3678a","data":{},"at":"2026-11-24T13:35:01.000001Z","crc":"1dc901fa"}

Records
=======

Members stand in the order given here; those with their default value (in parentheses) are left
out. ``at`` is the time of writing, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``, UTC, never earlier than the
record before: a clock that steps back is held. Unknown members are ignored. An unknown ``type``, or a ``format`` above 1, was
written by a newer version: stop, do not repair.

``job``
    Line 1, and only line 1. ``format``: 1. ``id``: as the directory is called. ``name``,
    ``original_command`` (""), ``description`` (null), ``mode`` ("confirm"), ``metadata`` (null:
    any object), ``retry_of`` (null: a job id).
``row``
    ``row``: the row number, 1 to 2**63-1, each once. ``checksum``: text; by default SHA-256 in
    hex over ``data`` as compact JSON with sorted keys; "lost" if the row's record was lost to
    damage, and ``data`` then is empty. ``data``: any object.
``row_status``
    ``row``: a row that a record before has made. ``status``: see model.RowStatus; an attempt
    begins with "processing". Then, each null by default: ``tracking_number``, ``label_path``,
    ``cost_cents`` (integer), ``result`` (any JSON), ``error_code``, ``error_message``,
    ``reason``, ``origin``. It replaces what an earlier ``row_status`` of the row said. ``origin``: an
    object with the ``id`` (16 hex digits) and the ``at`` of a status that a merge has taken over from
    another copy of the job: the seal of its commit there, and the beginning of its SHA-256.
``job_status``
    ``status``: see model.JobStatus.
``job_counts``
    ``total``, ``processed``, ``successful``, ``failed``, each null by default: the job's count
    is set to this value now; later row records add to it.
``job_error``
    ``code``, ``message``.
``log``
    For people; no effect on the job. ``message``, ``level`` ("INFO"; DEBUG, INFO, WARNING, ERROR
    or CRITICAL), ``row`` (null: a row number), ``details`` (null: any object), and what else it
    likes. Whoever reads one takes another type in these three as their default. Each run begins with
    one whose ``details`` have a member ``run``: an object with the ``host``, ``pid``, ``user`` and
    ``version`` of this package, a ``nonce`` of 16 random hex digits, so that two copies that are gone
    on with always differ, and perhaps ``resume``, what a person types to go on; all text but ``pid``.
    An ended job whose unfinished rows go on in another has one with a member ``retry``: an object
    with the id of that ``job``, the ``host`` and the ``root`` (path of the store) where it was made,
    and, if it came here by a merge, when (``at``). A merge begins with one whose member ``merge`` says what was merged; what another copy
    did with a row that was not taken over has the member ``elsewhere``: the members of that status,
    and its ``id`` as in an ``origin``.

A ``status`` that isn't one of the model's is damage.

Bounds: a line is at most 64 MiB with its LF, and nests at most 100 deep.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from zlib import crc32

import msgspec

JOURNAL_NAME = "journal.jsonl"
FORMAT = 1
MAX_LINE_BYTES = 64 << 20
MAX_DEPTH = 100
SANE_BYTES = 2 * MAX_DEPTH  # no record this short nests too deep, and no other text dangerously
MAX_ROW_NUMBER = 2**63 - 1
REPAIRED = "repaired"  # error code of a job and of rows that a repair could not keep whole
LOST_CHECKSUM = "lost"  # of a row whose record was lost to damage: its data isn't known

SEAL_BYTES = 18
SEAL_HEAD = b',"crc":"'
# As the writer ends a commit. A raw LF stands only at the end of a line, so every match is a seal.
SEALED_LINE_END = re.compile(rb',"crc":"([0-9a-f]{8})"}\n')


UNSET_TIME = datetime.min.replace(tzinfo=UTC)  # in a record that the log has not stamped yet

# Aware, in UTC, and with microseconds: see now().
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
RowStatusText = Literal["pending", "processing", "completed", "failed", "skipped", "needs_review"]


class JobRecord(msgspec.Struct, tag_field="type", tag="job", kw_only=True, omit_defaults=True):
    format: int
    id: str
    name: str
    original_command: str = ""
    description: str | None = None
    mode: str = "confirm"
    metadata: dict[str, Any] | None = None
    retry_of: str | None = None
    at: Moment


class RowRecord(msgspec.Struct, tag_field="type", tag="row", kw_only=True, frozen=True):
    row: int
    checksum: str
    data: dict[str, Any]
    at: Moment


# A member of a log record's details: what another copy of the job did with the record's row, with
# the members of its status record and the id of an origin.
ELSEWHERE = "elsewhere"


class Origin(msgspec.Struct, kw_only=True, frozen=True):
    """Where a row's status comes from if a merge took it over from another copy of the job.

    ``id`` tells it from all others of the row; ``at`` is when it happened there.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
    at: Moment


class RowStatusRecord(
    msgspec.Struct, tag_field="type", tag="row_status", kw_only=True, omit_defaults=True
):
    row: int
    status: RowStatusText
    tracking_number: str | None = None
    label_path: str | None = None
    cost_cents: Integer | None = None
    result: Any = None
    error_code: str | None = None
    error_message: str | None = None
    reason: str | None = None
    origin: Origin | None = None
    at: Moment

    @property
    def happened_at(self) -> datetime:
        """When that was, also if it came here later."""
        return self.at if self.origin is None else self.origin.at


class JobStatusRecord(msgspec.Struct, tag_field="type", tag="job_status", kw_only=True):
    status: Literal["pending", "running", "completed", "failed", "cancelled", "paused"]
    at: Moment


class JobCountsRecord(
    msgspec.Struct, tag_field="type", tag="job_counts", kw_only=True, omit_defaults=True
):
    total: Integer | None = None
    processed: Integer | None = None
    successful: Integer | None = None
    failed: Integer | None = None
    at: Moment


class JobErrorRecord(msgspec.Struct, tag_field="type", tag="job_error", kw_only=True):
    code: str
    message: str
    at: Moment


class LogRecord(msgspec.Struct, tag_field="type", tag="log", kw_only=True, omit_defaults=True):
    message: str
    level: Any = "INFO"  # whatever older writers have put there: see LogEntry
    row: Any = None
    details: Any = None
    at: Moment


JobLevelRecord = JobRecord | JobStatusRecord | JobCountsRecord | JobErrorRecord | LogRecord
Record = JobLevelRecord | RowRecord | RowStatusRecord


_encoder = msgspec.json.Encoder()
encode_json = _encoder.encode
encode_into = _encoder.encode_into  # the log's hot path calls msgspec directly


# --- time ------------------------------------------------------------------------------------


def now() -> datetime:
    """The system's time in UTC, never on a whole second: msgspec would leave the fraction out."""
    at = datetime.now(UTC)
    return at if at.microsecond else at.replace(microsecond=1)


def time_text(at: datetime) -> str:
    """A moment as records state it: ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# --- seals -----------------------------------------------------------------------------------


def sealed_end(crc: int) -> bytes:
    """What replaces the closing brace and LF of a commit's last record: the seal, and LF."""
    return b',"crc":"%08x"}\n' % crc


def stated_crc(line: bytes) -> int | None:
    """What the seal of a line (without its LF) says; None if the line has no seal."""
    if SEALED_LINE_END.fullmatch(line[-SEAL_BYTES:] + b"\n"):
        return int(line[-10:-2], 16)
    return None


def content_crc(line: bytes, start: int) -> int:
    """The crc that a commit has if this line (without its LF) is its last and ``start`` its state."""
    return crc32(memoryview(line)[:-SEAL_BYTES], start)


# --- encoding --------------------------------------------------------------------------------


def encode_record(record: Record) -> bytes:
    """A record without seal and LF."""
    return encode_json(record)


def encode_row(number: int, checksum: str, data: bytes, at: bytes) -> bytes:
    """A ``row`` record with its LF, of data that :func:`journal.values.encode_value` has encoded."""
    return b'{"type":"row","row":%d,"checksum":%b,"data":%b,"at":"%b"}\n' % (
        number,
        encode_json(checksum),
        data,
        at,
    )
