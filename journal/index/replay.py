"""Replay: applies verified commits to an index.

Reading a journal spends most of its time here and in :meth:`Index.apply`. So this module decodes
whole blocks of lines at once, and only the members that the index needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, groupby
from typing import Any

from journal.format.commits import Block, Position, blocks_between
from journal.format.decode import (
    WHOLE,
    UndecodableError,
    UnknownRecordError,
    decode_record,
    decode_slim,
    read_error,
    time_of,
)
from journal.format.records import CallRecord, Record, RowLevelRecord, RowRecord
from journal.format.size_limits import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, are_sane, nests_deeper_than
from journal.fs.handles import JournalFile
from journal.index.index import Index


class BadRecordError(Exception):
    """A record of a valid commit can't be applied.

    ``offset``: where the record is in the file. ``why``: the reason.
    """

    def __init__(self, offset: int, why: UndecodableError | UnknownRecordError) -> None:
        super().__init__(offset, why)
        self.offset = offset
        self.why = why


def replay(index: Index, file: JournalFile, begin: Position, end: Position) -> Index:
    """Apply the commits of ``file`` from ``begin`` to ``end``; return the index.

    Raises JournalDamagedError and FormatVersionError. After an error, don't use the index.
    """
    for block in blocks_between(file, begin, end):
        apply_block(index, file, block)
    return index


def apply_block(index: Index, file: JournalFile, block: Block) -> None:
    """Apply a block of verified commits of ``file``. Raises the errors of :func:`replay`."""
    try:
        apply(index, block.offset, block.lines, is_ascii=block.ascii)
    except BadRecordError as error:
        line = file.count_lines(error.offset) + 1
        raise read_error(file.path, line, error.offset, error.why) from None


def apply(
    index: Index,
    offset: int,
    lines: list[bytes],
    *,
    is_ascii: bool = False,
    records: Sequence[Any] | None = None,
) -> None:
    """Apply verified lines (without LF). The first line is at ``offset``.

    Pass ``is_ascii`` if all lines are known to be ASCII. If the lines were decoded before,
    ``records`` is the result of :func:`decode_lines`. Raises :class:`BadRecordError`. After an
    error, don't use the index.
    """
    lengths = [len(line) + 1 for line in lines]  # including the LF
    offsets = list(accumulate(lengths, initial=offset))
    is_checked = records is not None
    if records is None:
        sane = lines if is_ascii else _utf8(lines)
        if sane and not are_sane(sane, max(lengths) - 1):
            sane = _not_too_deep(sane)
        try:
            records = list(map(decode_slim, sane))
        except DECODE_ERRORS:
            records, is_checked = _checked(sane), True
    done = 0
    for kind, run in groupby(map(type, records)):
        end = done + len(list(run))
        group = records[done:end]
        if not is_checked and kind not in WHOLE:
            group = _checked(lines[done:end])
        done += index.apply(group, offsets[done:end]) if group else 0
        if done < end:
            break
    try:
        if done < len(lines):
            raise _what_is_wrong_with(lines[done], index)
        done -= 1  # if time_of() raises, the last line has the error
        index.last_at = time_of(lines[done])
    except (UndecodableError, UnknownRecordError) as error:
        raise BadRecordError(offsets[done], error) from None


def _checked(lines: list[bytes]) -> list[Record]:
    """Decode the lines before the first line in which anything is wrong."""
    records = []
    with suppress(UndecodableError, UnknownRecordError):
        for line in lines:
            records.append(decode_record(line, exact=False))  # noqa: PERF401
    return records


def _what_is_wrong_with(line: bytes, index: Index) -> UndecodableError:
    """Return the error that says why a line can't be applied.

    If the line can't be decoded, this function raises the error of :func:`decode_record`.
    """
    record = decode_record(line)
    if index.state is None:
        return UndecodableError("another record than the job's on line 1")
    if isinstance(record, RowRecord):
        return UndecodableError(f"row {record.row}, which is out of range or exists already")
    if isinstance(record, CallRecord):
        return UndecodableError(f"call {record.id}, which isn't known, or has no such rows")
    if isinstance(record, RowLevelRecord):
        about = getattr(record, "rows", ()) or record.row
        return UndecodableError(f"a record about row {about}, which doesn't exist")
    return UndecodableError("a job record that is not on line 1")


def _utf8(lines: list[bytes]) -> list[bytes]:
    """Return the lines before the first line that isn't UTF-8.

    msgspec doesn't check the encoding of fields that it skips.
    """
    try:
        b"\n".join(lines).decode()
    except UnicodeDecodeError as error:
        return lines[: error.object.count(b"\n", 0, error.start)]
    return lines


def _not_too_deep(lines: list[bytes]) -> list[bytes]:
    """Return the lines before the first line that nests too deep for msgspec (a C recursion)."""
    too_deep = (
        number
        for number, line in enumerate(lines)
        # For most lines, this quick check is enough.
        if line.count(b"{") + line.count(b"[") > MAX_DEPTH and nests_deeper_than(line, MAX_DEPTH)
    )
    return lines[: next(too_deep, len(lines))]
