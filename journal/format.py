r"""Format 1 of ``journal.jsonl``: the specification, and the code that encodes and decodes it.

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

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zlib import crc32

import msgspec

from journal.errors import FormatVersionError, InvalidValueError, JournalDamagedError

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
    cost_cents: int | None = None
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
    total: int | None = None
    processed: int | None = None
    successful: int | None = None
    failed: int | None = None
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


class _TimeRecord(msgspec.Struct):
    at: Moment


class _Kind(msgspec.Struct):
    type: str
    format: Any = None


RowNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_ROW_NUMBER)]


class SlimRow(msgspec.Struct, tag_field="type", tag="row", gc=False):
    """What the index needs of a ``row``."""

    row: RowNumber


class SlimRowStatus(msgspec.Struct, tag_field="type", tag="row_status", gc=False):
    """What the index needs of a ``row_status``."""

    row: RowNumber
    status: RowStatusText
    cost_cents: int | None = None


SlimRecord = SlimRow | SlimRowStatus | JobLevelRecord

RECORD_TYPES = frozenset(
    ("job", "row", "row_status", "job_status", "job_counts", "job_error", "log")
)

_encoder = msgspec.json.Encoder()
_canonical_encoder = msgspec.json.Encoder(order="sorted")
_decode_any = msgspec.json.Decoder().decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_time = msgspec.json.Decoder(_TimeRecord).decode

# The hot paths of replay, the log and the rows call msgspec directly.
# Of the union and not of one type: a lone type's decoder takes a record that lacks its ``type``.
decode_sane = msgspec.json.Decoder(Record).decode
decode_slim = msgspec.json.Decoder(SlimRecord).decode  # in a third of the time of a whole record
encode_into = _encoder.encode_into
canonical_json = _canonical_encoder.encode  # what checksums are made of
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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


# --- decoding --------------------------------------------------------------------------------


_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def nests_deeper_than(text: bytes, limit: int) -> bool:
    """Whether JSON text nests deeper than ``limit``; msgspec recurses in C, so ask it first."""
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif match[0] in b"]}":
            depth -= 1
    return False


_NOT_UTC = "a time that is not in UTC"


class UndecodableError(Exception):
    """A line is no record of this format; ``args[0]`` says why. Never leaves the package."""


class UnknownRecordError(Exception):
    """A record of a newer version; ``args[0]`` says what. Never leaves the package."""


def decode_record(line: bytes) -> Record:
    """All of one line, checked. Raises :class:`UndecodableError`, :class:`UnknownRecordError`."""
    if len(line) > SANE_BYTES:
        if len(line) >= MAX_LINE_BYTES:
            raise UndecodableError(f"a line of {len(line)} bytes")
        if nests_deeper_than(line, MAX_DEPTH):
            raise UndecodableError(f"nesting deeper than {MAX_DEPTH}")
    try:
        record: Record = decode_sane(line)
    except DECODE_ERRORS as error:
        raise _why_undecodable(line, error) from None
    if record.at.tzinfo is not UTC:  # what msgspec makes of "Z": one object
        raise UndecodableError(_NOT_UTC)
    if isinstance(record, JobRecord) and record.format != FORMAT:
        if record.format > FORMAT:
            raise UnknownRecordError(_newer_format(record.format))
        raise UndecodableError(f"format {record.format}, which there never was")
    return record


def decode_whole(line: bytes) -> Record:
    """As :func:`decode_record`; the members that decoding passes over are UTF-8, too."""
    record = decode_record(line)
    check_utf8(line)
    return record


def check_utf8(line: bytes) -> None:
    """Raise :class:`UndecodableError` if any part of a line isn't UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise UndecodableError(str(error)) from None


def time_of(line: bytes) -> datetime:
    """The ``at`` of a line that was decoded before. Raises as :func:`decode_record`."""
    try:
        at: datetime = _decode_time(line).at
    except DECODE_ERRORS as error:
        raise _why_undecodable(line, error) from None
    if at.tzinfo is not UTC:
        raise UndecodableError(_NOT_UTC)
    return at


def decode_header(head: bytes) -> JobRecord | None:
    """The job record that a file begins with, if it is there whole and nothing is wrong with it.

    None says to look at the file closely.
    """
    end = head.find(b"\n")
    if end < 0:
        return None
    line = head[:end]
    try:
        job = decode_record(line)
    except (UndecodableError, UnknownRecordError):
        return None
    stated = stated_crc(line)
    sound = stated is None or content_crc(line, 0) == stated
    return job if sound and isinstance(job, JobRecord) else None


def decode_job_level(line: bytes) -> JobLevelRecord:
    """One line that is neither ``row`` nor ``row_status``. Raises as :func:`decode_record`."""
    record = decode_record(line)
    if isinstance(record, (RowRecord, RowStatusRecord)):
        raise UndecodableError("a record of another type")
    return record


def _why_undecodable(line: bytes, error: Exception) -> UndecodableError | UnknownRecordError:
    """What to say of a line that msgspec refused: newer than this version, or no record."""
    try:
        kind = _decode_kind(line)
    except DECODE_ERRORS:
        return UndecodableError(str(error))
    if kind.type not in RECORD_TYPES:
        return UnknownRecordError(f"record type {kind.type[:40]!r}")
    if kind.type == "job" and isinstance(kind.format, int) and kind.format > FORMAT:
        return UnknownRecordError(_newer_format(kind.format))
    return UndecodableError(str(error))


def newer_format(line: bytes) -> str | None:
    """What to say of a line 1 whose format is above ours; None if it isn't."""
    try:
        number = _decode_kind(line).format
    except DECODE_ERRORS:
        return None
    return _newer_format(number) if isinstance(number, int) and number > FORMAT else None


def _newer_format(number: int) -> str:
    return f"format {number}; this version knows format {FORMAT}"


def read_error(
    path: Path, line_number: int, offset: int, error: UndecodableError | UnknownRecordError
) -> JournalDamagedError | FormatVersionError:
    """The public error for a line that :func:`decode_record` refused."""
    if isinstance(error, UnknownRecordError):
        return FormatVersionError(path, f"{error.args[0]} at line {line_number}")
    return JournalDamagedError(path, line_number, offset, "a record", str(error.args[0]))


# --- encoding what callers hand in -----------------------------------------------------------


def plain_json(value: Any) -> bytes | None:
    """As :func:`encode_value`, for what can be seen at once to read back; None: ask that."""
    try:
        text = _encoder.encode(value)
        if _decode_any(text) == value and (
            len(text) < SANE_BYTES - 2 or not nests_deeper_than(text, MAX_DEPTH - 1)
        ):
            return text
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        pass
    return None


def encode_value(value: Any, where: str) -> bytes:
    """JSON text that reads back as ``value``; :class:`InvalidValueError` if none does.

    A tuple reads back as a list; every other change (NaN to null, bytes to base64, a set to a
    list, a key to text) is refused with the path of the value.
    """
    try:
        text = _encoder.encode(value)
        same = _decode_any(text) == value
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        refuse_value(value, where)
        raise InvalidValueError(where, value, f"can't be written as JSON: {error}") from None
    if not same:
        refuse_value(value, where)
    if nests_deeper_than(text, MAX_DEPTH - 1):  # the record around it is one level
        raise InvalidValueError(where, value, f"must nest at most {MAX_DEPTH - 1} deep")
    return text


def encode_record(record: Record) -> bytes:
    """A record without seal and LF."""
    return _encoder.encode(record)


def encode_row(number: int, checksum: str, data: bytes, at: bytes) -> bytes:
    """A ``row`` record with its LF, of data that :func:`encode_value` has encoded."""
    return b'{"type":"row","row":%d,"checksum":%b,"data":%b,"at":"%b"}\n' % (
        number,
        _encoder.encode(checksum),
        data,
        at,
    )


@cache
def load_sha256() -> Callable[[bytes], Any]:
    """As :func:`journal.files.load_filelock`: it loads OpenSSL, which readers don't need."""
    from hashlib import sha256  # noqa: PLC0415

    return sha256


def checksum_of(value: Any) -> str:
    """SHA-256 in hex of the value's compact JSON with sorted keys."""
    digest: str = load_sha256()(canonical_json(value)).hexdigest()
    return digest


def refuse_value(value: Any, where: str, depth: int = 0) -> None:
    """Raise :class:`InvalidValueError` for the first part of ``value`` that JSON would change."""
    reason = None
    if depth > MAX_DEPTH:
        reason = f"must nest at most {MAX_DEPTH - 1} deep"
    elif value is None or isinstance(value, bool):
        pass
    elif isinstance(value, str):
        if any("\ud800" <= character <= "\udfff" for character in value):
            reason = "must be text without lone surrogates, which UTF-8 can't hold"
    elif type(value) is float:
        if not math.isfinite(value):
            reason = "must be a finite number: JSON has no NaN or infinity; use None or text"
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidValueError(
                    where, key, "keys must be text: JSON would turn this one into text"
                )
            refuse_value(key, f"{where} (key)", depth + 1)
            refuse_value(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            refuse_value(item, f"{where}[{number}]", depth + 1)
    elif not isinstance(value, int):
        reason = (
            f"{type(value).__name__} is not a JSON value: use None, True, False, int, float, "
            "str, list or dict"
        )
    if reason:
        raise InvalidValueError(where, value, reason)
