"""Replay: applies verified commits to an index.

Reading a journal spends most of its time in this module. So the module decodes whole blocks of
lines together, decodes only the fields that the index needs, and applies successive records of one
type together.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate, groupby
from typing import Any

from journal.format.commits import Block, Position
from journal.format.decode import (
    SlimRecord,
    SlimRow,
    SlimRowData,
    SlimRowStatus,
    SlimRowStep,
    UndecodableError,
    UnknownRecordError,
    decode_other,
    decode_record,
    decode_slim,
    decode_slim_or_extension,
    read_error,
    time_of,
)
from journal.format.extent import blocks_between
from journal.format.records import (
    MAX_DEPTH,
    SANE_BYTES,
    ExtensionRecord,
    JobRecord,
    Record,
    RowDataRecord,
    RowElsewhereRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.fs.handles import JournalFile
from journal.index.index import CODES, PENDING, PROCESSING, Index
from journal.model import added_usage, millionths


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
    records: list[Record] | None = None,
) -> None:
    """Apply verified lines (without LF). The first line is at ``offset``.

    Pass ``is_ascii`` if all lines are known to be ASCII. If the lines were decoded before,
    ``records`` is the result of :func:`decode_lines`. Raises :class:`BadRecordError`. After an
    error, don't use the index.
    """
    index.detach()
    lengths = [len(line) + 1 for line in lines]  # including the LF
    offsets = list(accumulate(lengths, initial=offset))
    done = 0
    try:
        if index.state is None:
            _apply_header(index, lines[0])
            done = 1
        if records is None:
            sane = lines[done:] if is_ascii else _utf8(lines[done:])
            # Lines up to SANE_BYTES can't nest too deep.
            slim = _decode(sane if max(lengths) - 1 <= SANE_BYTES else _not_too_deep(sane))
            done += _apply_records(index, slim, lines[done:], offsets[done:])
        else:
            done += _apply_records(index, records[done:], lines[done:], offsets[done:])
        if done < len(lines):
            raise _what_is_wrong_with(lines[done])
        done -= 1  # if time_of() raises, the last line has the error
        index.last_at = time_of(lines[done])
    except (UndecodableError, UnknownRecordError) as error:
        raise BadRecordError(offsets[done], error) from None
    index.forget_undo()


def _apply_header(index: Index, line: bytes) -> None:
    record = decode_record(line, exact=False)
    if not isinstance(record, JobRecord):
        raise UndecodableError("another record than the job's on line 1")
    index.set_other(record)


def _apply_records(
    index: Index, records: Sequence[Any], lines: list[bytes], offsets: list[int]
) -> int:
    """Apply records, and stop at the first that can't be applied. Return how many were applied."""
    done = 0
    for kind, run in groupby(map(type, records)):
        end = done + len(list(run))
        if kind is SlimRowStatus or kind is RowStatusRecord:
            sane = _apply_statuses(index, records[done:end], offsets[done:end])
        elif kind is SlimRow or kind is RowRecord:
            sane = _apply_rows(index, records[done:end], offsets[done:end])
        elif kind is SlimRowData or kind is RowDataRecord:
            sane = _apply_data(index, records[done:end], offsets[done:end])
        elif kind is SlimRowStep or kind is RowStepRecord:
            sane = _apply_steps(index, records[done:end], offsets[done:end])
        else:
            sane = _apply_others(index, lines[done:end])
        done += sane
        if done < end:
            break
    return done


def _decode(lines: list[bytes]) -> Sequence[SlimRecord | ExtensionRecord]:
    """Decode the lines before the first line that isn't a record."""
    try:
        return list(map(decode_slim, lines))
    except DECODE_ERRORS:
        records: list[SlimRecord | ExtensionRecord] = []
        with suppress(UndecodableError, UnknownRecordError):
            for line in lines:
                records.append(decode_slim_or_extension(line))  # noqa: PERF401  (an error keeps the others)
        return records


def _apply_statuses(index: Index, records: Sequence[Any], offsets: list[int]) -> int:
    """Apply successive ``row_status`` records, and stop at the first for an unknown row.

    Returns how many were applied. The effect is the same as :meth:`Index.set_row` for each record,
    but can't be undone. One loop makes all changes, for speed.
    """
    columns, status_counts, codes = index.columns, index.status_counts, CODES
    statuses, status_offsets, attempts = columns.statuses, columns.status_offsets, columns.attempts
    positions, before_attempt = _positions(index, records), index.before_attempt
    whole_cents = 0
    for position, record, offset in zip(positions, records, offsets, strict=False):
        code, old = codes[record.status], statuses[position]
        status_counts[old] -= 1
        status_counts[code] += 1
        statuses[position] = code
        if code == PROCESSING:
            attempts[position] += 1
            if old != PROCESSING and (before := status_offsets[position]):
                before_attempt[position] = before
            status_offsets[position] = offset
            continue
        status_offsets[position] = offset
        if before_attempt:
            before_attempt.pop(position, None)
        cost_cents = record.cost_cents
        if cost_cents:
            if type(cost_cents) is int:  # most costs are; their sum needs one multiplication
                whole_cents += cost_cents
            else:
                index.cost_millionths += millionths(cost_cents)
        if record.usage:
            index.usage = added_usage(index.usage, record.usage)
        if code != PENDING:
            continue
        if record.reset == "given_back":
            if old == PROCESSING:
                columns.give_back_attempt(position)
        elif record.reset:
            columns.reset_attempts(position)
            if record.reset == "redo":
                columns.forget_steps(position)
    index.cost_millionths += millionths(whole_cents)
    return len(positions)


def _positions(index: Index, records: Sequence[Any]) -> list[int]:
    """Return the positions of the records' rows in the columns. Stop at the first unknown row."""
    if index.columns.numbers is None:
        positions = [record.row - 1 for record in records]
        if max(positions) < index.row_count:
            return positions
    numbers = [record.row for record in records]
    known = index.columns.numbers
    if known is not None and index.ascending and max(numbers) <= index.highest_number:
        # One search for each row takes less time than a call of position_of().
        positions = [bisect_left(known, number) for number in numbers]
        if [known[position] for position in positions] == numbers:
            return positions
    positions = []
    for position in map(index.position_of, numbers):
        if position is None:
            break
        positions.append(position)
    return positions


def _apply_rows(index: Index, records: Sequence[Any], offsets: list[int]) -> int:
    """Apply successive ``row`` records, and stop at the first whose number is already in use.

    Returns how many were applied.
    """
    columns, first, count = index.columns, index.row_count + 1, len(records)
    numbers = [record.row for record in records]
    if columns.numbers is None and numbers == list(range(first, first + count)):
        index.add_next_rows(array("Q", offsets))
        return count
    for done, (number, offset) in enumerate(zip(numbers, offsets, strict=True)):
        if number <= index.highest_number and index.position_of(number) is not None:
            return done
        index.add_row(number, offset)
    return count


def _apply_data(index: Index, records: Sequence[Any], offsets: list[int]) -> int:
    """Apply successive ``row_data`` records, and stop at the first for an unknown row.

    Returns how many were applied.
    """
    positions = _positions(index, records)
    for position, offset in zip(positions, offsets, strict=False):
        index.columns.row_offsets[position] = offset
    return len(positions)


def _apply_steps(index: Index, records: Sequence[Any], offsets: list[int]) -> int:
    """Apply successive ``row_step`` records, and stop at the first for an unknown row.

    Returns how many were applied.
    """
    positions = _positions(index, records)
    for position, offset in zip(positions, offsets, strict=False):
        index.columns.add_step(position, offset)
    return len(positions)


def _apply_others(index: Index, lines: list[bytes]) -> int:
    for done, line in enumerate(lines):
        try:
            index.set_other(decode_other(line))
        except (UndecodableError, UnknownRecordError):
            return done
    return len(lines)


def _what_is_wrong_with(line: bytes) -> UndecodableError:
    """Return the error that says why a line can't be applied.

    If the line can't be decoded, this function raises the error of :func:`decode_record`.
    """
    record = decode_record(line)
    if isinstance(record, RowStatusRecord):
        return UndecodableError(f"a status of row {record.row}, which doesn't exist")
    if isinstance(record, RowStepRecord):
        return UndecodableError(f"a step of row {record.row}, which doesn't exist")
    if isinstance(record, RowDataRecord):
        return UndecodableError(f"new data of row {record.row}, which doesn't exist")
    if isinstance(record, RowRecord):
        return UndecodableError(f"row {record.row}, which is out of range or exists already")
    if isinstance(record, (RowSpentRecord, RowElsewhereRecord)):
        return UndecodableError(f"a record about row {record.row}, which doesn't exist")
    return UndecodableError("a job record that is not on line 1")


def _utf8(lines: list[bytes]) -> list[bytes]:
    """Return the lines before the first that isn't UTF-8.

    msgspec doesn't check the encoding of fields that it skips.
    """
    try:
        b"\n".join(lines).decode()
    except UnicodeDecodeError as error:
        return lines[: error.object.count(b"\n", 0, error.start)]
    return lines


def _not_too_deep(lines: list[bytes]) -> list[bytes]:
    """Return the lines before the first that nests too deep for msgspec, which recurses in C."""
    too_deep = (
        number
        for number, line in enumerate(lines)
        # For most lines, this quick check is enough.
        if line.count(b"{") + line.count(b"[") > MAX_DEPTH and nests_deeper_than(line, MAX_DEPTH)
    )
    return lines[: next(too_deep, len(lines))]
