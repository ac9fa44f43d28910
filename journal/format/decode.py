"""Decodes lines of a journal as records. Makes the errors for lines that aren't records."""

# Without ``from __future__ import annotations``, as in records.py: this saves start-up time.

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, get_args

import msgspec

from journal.errors import FormatVersionError, JournalDamagedError
from journal.format.records import (
    EXTENSION,
    FORMAT,
    INDEXED,
    ExtensionRecord,
    JobRecord,
    KnownRecord,
    Moment,
    Record,
    RowRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.format.seal import content_crc, stated_crc
from journal.format.size_limits import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    MAX_NUMBER_BYTES,
    SANE_BYTES,
    SANE_RECORD_BYTES,
)
from journal.format.values import (
    DECODE_ERRORS,
    are_sane,
    has_long_number,
    is_sane,
    nests_deeper_than,
)
from journal.text import own_number


class _TimeRecord(msgspec.Struct):
    at: Moment


class _Times(msgspec.Struct):
    """The times of a record, as they are written: all members that are times."""

    at: Any
    created_at: Any = None
    logged_at: Any = None
    due: Any = None
    since: Any = None
    until: Any = None
    origin: Any = None


class _Kind(msgspec.Struct):
    """The members that distinguish a record of a newer version from damage."""

    type: str
    format: Any = None


def _slim(kind: Any) -> Any:
    """Make a struct of the indexed members of a record type.

    If none are indexed, return the type.
    """
    members = [
        (member.name, member.type, *([] if member.required else [member.default]))
        for member in msgspec.structs.fields(kind)
        if INDEXED in getattr(member.type, "__metadata__", ())
    ]
    tag = kind.__struct_config__.tag
    if not members:
        return kind
    return msgspec.defstruct(
        f"Slim_{tag}", members, tag_field="type", tag=tag, gc=False, kw_only=True
    )


RECORD_TYPES = {kind.__struct_config__.tag: kind for kind in get_args(KnownRecord)}
_SLIM = {_slim(kind): kind for kind in RECORD_TYPES.values()}
# Maps each type that has only the indexed members (see :data:`decode_slim`) to the whole type.
WHOLE = {slim: kind for slim, kind in _SLIM.items() if slim is not kind}


_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_times = msgspec.json.Decoder(_Times, float_hook=str).decode  # decodes numbers of any size
_decode_extension = msgspec.json.Decoder(ExtensionRecord).decode
_decode_time = msgspec.json.Decoder(_TimeRecord).decode
# Hot paths call these decoders directly. Each decoder takes a union of types, because the decoder
# of a single type would accept a record without ``type``.
decode_sane = msgspec.json.Decoder(KnownRecord).decode
decode_sane_exact = msgspec.json.Decoder(KnownRecord, float_hook=own_number).decode
# Takes a third of the time of decode_sane.
decode_slim = msgspec.json.Decoder[Any](reduce(or_, _SLIM)).decode
_AT, _T, _Z = b'"at":"', ord("T"), ord("Z")
_AT_AT_END, _AT_BEFORE_SEAL = slice(-35, -29), slice(-52, -46)  # made once, not for each line
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


class UndecodableError(Exception):
    """A line isn't a record of this format. ``args[0]`` says why.

    Internal: never raised to callers.
    """


class UnknownRecordError(Exception):
    """A record of a newer version of the format. Internal: never raised to callers.

    ``args[0]`` is the unknown record type, word, or number of the format.
    """


def decode_record(line: bytes, *, exact: bool = True) -> Record:
    """Decode a line, and check all of its content.

    With ``exact``, numbers in JSON that callers have recorded keep their text (see
    :func:`own_number`). Such a record can be written again without a change. Without ``exact``,
    these numbers become floats.

    Raises :class:`UndecodableError` and :class:`UnknownRecordError`.
    """
    if len(line) > SANE_RECORD_BYTES and not is_sane(line):
        _check_bounds(line)
    try:
        record: Record = (decode_sane_exact if exact else decode_sane)(line)
    except DECODE_ERRORS as error:
        record = _extension(line, error)
    if not line.isascii():  # check UTF-8 here, since decoding skips unknown fields without a check
        _check_utf8(line)
    # Most records have only the time ``at``. A writer ends their lines with this time, with or
    # without a seal. A decoded time with a writer's length and a final Z has six fractional digits.
    # This code runs for every row that is read. So it avoids calls, even isinstance().
    if type(record) is RowStatusRecord:
        has_one_time = record.origin is None and record.due is None and record.since is None
    else:
        has_one_time = type(record) is RowRecord or (
            type(record) is RowStepRecord and record.origin is None
        )
    if line[-20] == _Z:
        is_written = line[-36] == _T and line[_AT_BEFORE_SEAL] == _AT
    else:
        is_written = line[-3] == _Z and line[-19] == _T and line[_AT_AT_END] == _AT
    if not has_one_time or not is_written:
        _check_times(line, record)
    if isinstance(record, JobRecord) and record.format != FORMAT:
        if record.format > FORMAT:
            raise UnknownRecordError(_newer_format(record.format))
        raise UndecodableError(f"format {record.format}, which doesn't exist")
    return record


def _check_times(line: bytes, record: Record | None) -> None:
    """Check how the times of a decoded record are written."""
    stated = _decode_times(line)
    texts = [stated.at]
    texts += [
        getattr(stated, name)
        for name in _Times.__struct_fields__[1:]
        if isinstance(getattr(record, name, None), datetime)
    ]
    if getattr(record, "origin", None) is not None:
        texts.append(stated.origin["at"])
    for text in texts:
        if not (isinstance(text, str) and _TIME.fullmatch(text)):
            raise UndecodableError(f"the time {text!r}, which isn't YYYY-MM-DDTHH:MM:SS.ffffffZ")


def is_legible(line: bytes) -> bool:
    """Return whether a line (without its LF) is a JSON object in UTF-8 with a text ``type``.

    The object has at most ``MAX_DEPTH`` levels and ``MAX_LINE_BYTES``. The line need not be a
    record.
    """
    try:
        _check_bounds(line)
        if not line.isascii():
            _check_utf8(line)
        _decode_kind(line)
    except (*DECODE_ERRORS, UndecodableError):
        return False
    return True


def decode_lines(lines: list[bytes], *, is_ascii: bool) -> list[Record]:
    """Decode and check whole lines, in a third of the time of :func:`decode_record`.

    Numbers become floats. Pass ``is_ascii`` if all lines are known to be ASCII. If a line isn't a
    record, or has an invalid row number, :class:`UndecodableError` or :class:`UnknownRecordError`
    is raised. To find that line, call :func:`decode_record` for each line.
    """
    try:
        if not are_sane(lines, max(map(len, lines))):
            for line in lines:
                _check_bounds(line)
        records: list[Record] = list(map(decode_sane, lines))
        if not is_ascii:
            _check_utf8(b"\n".join(lines))
        for line, record in zip(lines, records, strict=True):
            # type() instead of isinstance(), and no calls, for speed
            if (
                type(record) is RowStatusRecord
                and record.origin is None
                and record.due is None
                and record.since is None
            ) or type(record) is RowRecord:
                if line[-20] == _Z:  # as in decode_record()
                    if line[-36] == _T and line[_AT_BEFORE_SEAL] == _AT:
                        continue
                elif line[-3] == _Z and line[-19] == _T and line[_AT_AT_END] == _AT:
                    continue
            decode_record(line, exact=False)  # this call checks the rarer records
            decode_slim(line)
    except DECODE_ERRORS as error:
        raise UndecodableError(str(error)) from None
    return records


def _check_bounds(line: bytes) -> None:
    if len(line) >= MAX_LINE_BYTES:
        raise UndecodableError(f"a line of {len(line)} bytes")
    if len(line) > SANE_BYTES and nests_deeper_than(line, MAX_DEPTH):
        raise UndecodableError(f"nesting deeper than {MAX_DEPTH}")
    if has_long_number(line):
        raise UndecodableError(f"a number of more than {MAX_NUMBER_BYTES} characters")


def _check_utf8(line: bytes) -> None:
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise UndecodableError(str(error)) from None


def time_of(line: bytes) -> datetime:
    """Return the time of the record in a line that was decoded before.

    Raises the errors of :func:`decode_record`.
    """
    try:
        at: datetime = _decode_time(line).at
        _check_times(line, None)
    except DECODE_ERRORS as error:  # the line may have been decoded without its time
        raise UndecodableError(str(error)) from None
    return at


def decode_header(head: bytes) -> JobRecord | None:
    """Return the job record in ``head``, the first bytes of a file.

    Returns None if ``head`` doesn't contain the whole record, or if anything is wrong with the
    record. If the result is None, the caller must examine the file.
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


def _extension(line: bytes, error: Exception) -> ExtensionRecord:
    """Decode a line that msgspec refused. The line may be a record of an extension.

    Otherwise the line is a record of a newer format, or isn't a record. In both cases, this
    function raises the errors of :func:`decode_record`.
    """
    _check_bounds(line)
    try:
        kind = _decode_kind(line)
        if kind.type.startswith(EXTENSION):
            record: ExtensionRecord = _decode_extension(line)
            return record
    except DECODE_ERRORS as reason:
        raise UndecodableError(str(reason)) from None
    if kind.type not in RECORD_TYPES:
        raise UnknownRecordError(f"record type {kind.type[:40]!r}")
    if kind.type == "job" and isinstance(kind.format, int) and kind.format > FORMAT:
        raise UnknownRecordError(_newer_format(kind.format))
    with suppress(*DECODE_ERRORS):
        members = msgspec.json.decode(line)
        for member in msgspec.structs.fields(RECORD_TYPES[kind.type]):
            words, word = set(_words(member.type)), members.get(member.name)
            if words and isinstance(word, str) and word not in words:
                raise UnknownRecordError(f"{member.name} {word[:40]!r} of a {kind.type} record")
    raise UndecodableError(str(error))


def _words(kind: Any) -> Iterator[str]:
    """Yield the words that a member may have. A newer version may have other words."""
    for part in get_args(kind):
        yield from (part,) if isinstance(part, str) else _words(part)


def newer_format(line: bytes) -> str | None:
    """Return a message if ``line``, a journal's first line, states a newer format, else None."""
    number = _decode_kind(line).format if is_legible(line) else None
    return _newer_format(number) if isinstance(number, int) and number > FORMAT else None


def _newer_format(number: int) -> str:
    return f"format {number}; this version knows format {FORMAT}"


def read_error(
    path: Path, line_number: int, offset: int, error: UndecodableError | UnknownRecordError
) -> JournalDamagedError | FormatVersionError:
    """Make the public error for a line that :func:`decode_record` refused."""
    if isinstance(error, UnknownRecordError):
        return FormatVersionError(path, f"{error.args[0]} at line {line_number}")
    return JournalDamagedError(path, line_number, offset, "a record", str(error.args[0]))
