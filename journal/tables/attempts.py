"""Finds attempts in a job's history: all of them, or the last one at each row.

The state of a row has only the time of its last change.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate, compress, count, repeat
from operator import add, attrgetter, itemgetter
from types import SimpleNamespace
from typing import Any

import msgspec

from journal.format.records import (
    A_POLICY,
    MAX_DEPTH,
    RowSpentRecord,
    RowStatusRecord,
    RunRecord,
)
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.history.durations import moment_at
from journal.history.reading import LINE, History, line_start
from journal.history.row_history import AttemptReader, RowAttempt
from journal.store.rows import RowSequence
from journal.tables.columns import ATTEMPT_COLUMNS

# Only these members of a status are decoded, since there are two statuses or more for each row.
_MEMBERS = frozenset(("row", "status", "error_code", "reset", "by", "origin", "at"))
_Status = msgspec.defstruct(
    "_Status",
    [
        (each.name, each.type, *([] if each.required else [each.default]))
        for each in msgspec.structs.fields(RowStatusRecord)
        if each.name in _MEMBERS
    ],
    tag_field="type",
    tag="row_status",
    kw_only=True,
    gc=False,
)
_decode = msgspec.json.Decoder(_Status).decode
_STATUS_LINE = line_start(RowStatusRecord)
_LONG_BYTES = 1024  # shorter lines can't nest so deep that decoding them is dangerous
_NEVER = float("-inf")
_FAR_S = 1 << 34  # in the year 2514; Windows takes no time before 1970
_fromtimestamp = datetime.fromtimestamp


class LastAttempts:
    """The start and the duration of the last attempt at each row.

    This object takes 17 bytes for each row of the job. It takes more if row numbers have gaps, or
    aren't in the order of creation.
    """

    def __init__(self, rows: RowSequence, history: History) -> None:
        """``history`` is the job's history up to the commit as of which ``rows`` were read."""
        self._columns = columns = rows.view.columns
        size = len(columns.statuses)
        self._started_s = array("d", [_NEVER]) * size
        self._ended_at = array("Q", [0]) * size  # the offset of the record that ended the attempt
        in_progress = bytearray(size)
        starts_s, ended_at = self._started_s, self._ended_at
        position_of = _position_finder(columns.numbers)
        for records, offsets in _statuses(history):
            for record, offset in zip(records, offsets, strict=True):
                position = position_of(record.row)
                if record.status == "processing":
                    at = record.at if record.origin is None else record.origin.at
                    starts_s[position] = at.timestamp()
                    in_progress[position] = True
                elif in_progress[position]:
                    in_progress[position] = False
                    if _is_end(record):
                        ended_at[position] = offset

    def of(
        self, positions: Sequence[int], ends: Sequence[datetime]
    ) -> tuple[list[datetime | None], list[float | None]]:
        """Return the start of the last attempt at each of some rows, and its duration in seconds.

        ``positions``: where the rows are in the index. ``ends``: the times of their statuses. An
        unknown value is None.
        """
        ended_at, status_at = self._ended_at, self._columns.status_offsets
        moments = [
            _fromtimestamp(at_s, UTC) if 0 <= at_s < _FAR_S else _far_moment(at_s)
            for at_s in map(self._started_s.__getitem__, positions)
        ]
        starts = [
            None if start is None or start > end else start
            for start, end in zip(moments, ends, strict=True)
        ]
        durations = [
            (end - start).total_seconds()
            if start is not None and ended_at[position] == status_at[position]
            else None
            for start, end, position in zip(starts, ends, positions, strict=True)
        ]
        return starts, durations


def attempts_of(rows: RowSequence, history: History) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each attempt at some rows in :data:`ATTEMPT_COLUMNS`.

    Attempts are in the order in which they ended. Those in progress are last, in the order of rows.
    A cost that was recorded without the end of an attempt has a record of its own. If its outcome
    is "spent", it is the cost of an attempt that has another outcome, or none, in this journal. Thus
    the sum of all costs is that of the job. ``history``: as for :class:`LastAttempts`.
    """
    columns = rows.view.columns
    position_of = _position_finder(columns.numbers)
    chosen = bytearray(len(columns.statuses))
    for position in rows.view.positions(range(len(rows))):
        chosen[position] = True
    reader = AttemptReader(len(chosen))
    values = attrgetter(*RowAttempt.__struct_fields__[:1], *list(ATTEMPT_COLUMNS)[3:])
    for record in history.records(RunRecord, RowStatusRecord, RowSpentRecord):
        if isinstance(record, RunRecord):
            reader.host = record.host
        elif isinstance(record, RowStatusRecord | RowSpentRecord):
            position = position_of(record.row)
            if not chosen[position]:
                continue
            ended: RowAttempt | SimpleNamespace | None = None
            if isinstance(record, RowStatusRecord):
                ended = reader.read(record, position)
            if ended is None and (record.cost_cents is not None or record.usage is not None):
                ended = _spent(record)
            if ended is not None:
                yield (rows.job_id, record.row, *values(ended))
    for position, attempt in sorted(reader.open.items(), key=itemgetter(0)):
        yield (rows.job_id, columns.number(position), *values(attempt))


def _spent(record: RowStatusRecord | RowSpentRecord) -> SimpleNamespace:
    """A cost that isn't recorded with the end of an attempt, with the members of an attempt."""
    members = {name: getattr(record, name, None) for name in RowAttempt.__struct_fields__}
    members["number"] = getattr(record, "attempt", None)
    members["outcome"] = getattr(record, "status", "spent")
    members["ended_at"] = record.at
    return SimpleNamespace(**members)


def _far_moment(at_s: float) -> datetime | None:
    return None if at_s == _NEVER else moment_at(at_s)


def _position_finder(numbers: Sequence[int] | None) -> Callable[[int], int]:
    if numbers is None:
        return (1).__rsub__  # rows are numbered from 1
    return {number: position for position, number in enumerate(numbers)}.__getitem__


def _statuses(history: History) -> Iterator[tuple[list[Any], Iterator[int]]]:
    """Yield blocks of statuses in the order of the file, and the offsets of the statuses."""
    for block in history.blocks():
        lines = block.lines
        ends = accumulate(map(len, lines), initial=block.offset)
        offsets = map(add, ends, count())  # with the line ends
        may_be = list(map(bytes.startswith, lines, repeat(_STATUS_LINE)))
        try:
            if max(map(len, lines), default=0) > _LONG_BYTES and any(map(_is_deep, lines)):
                raise msgspec.DecodeError
            if not all(map(bytes.startswith, lines, repeat(LINE))):
                raise msgspec.DecodeError
            records: list[Any] = list(map(_decode, compress(lines, may_be)))
        except DECODE_ERRORS:
            # Reading the whole record raises the error that names the line.
            records = [history.record(block, number) for number in range(len(lines))]
            may_be = [isinstance(record, RowStatusRecord) for record in records]
            records = list(compress(records, may_be))
        yield records, compress(offsets, may_be)


def _is_deep(line: bytes) -> bool:
    return len(line) > _LONG_BYTES and nests_deeper_than(line, MAX_DEPTH)


def _is_end(status: Any) -> bool:
    """Return whether the status ends an attempt in progress, and the time of the end is known."""
    if status.status == "pending" and (status.error_code is None or status.reset):
        return False  # given back, or retried by a person
    return bool(status.by != A_POLICY.by)
