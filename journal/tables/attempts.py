"""Finds all attempts in a job's history, or the values of rows that only the history has.

The state of a row has only the time of its last change, and the cost of its last attempt.
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
    BY_OTHERS,
    RowSpentRecord,
    RowStatusRecord,
    RunRecord,
)
from journal.format.values import DECODE_ERRORS
from journal.history.history import LINE, History, line_start
from journal.history.row_history import AttemptReader, RowAttempt, moment_at
from journal.model import HISTORY_COLUMNS, cents_of, millionths
from journal.store.row_reader import RowSequence
from journal.tables.columns import ATTEMPT_COLUMNS

# Only these members of statuses and costs are decoded, because each row has two statuses or more.
_REQUIRED, _MORE = ("row", "at"), ("status", "error_code", "reset", "by", "origin", "cost_cents")
_TYPES = {each.name: each.type for each in msgspec.structs.fields(RowStatusRecord)}
_Slim = msgspec.defstruct(
    "_Slim",
    [*((name, _TYPES[name]) for name in _REQUIRED), *((n, _TYPES[n] | None, None) for n in _MORE)],
    gc=False,
)
_decode = msgspec.json.Decoder(_Slim).decode
_STARTS = (line_start(RowStatusRecord), line_start(RowSpentRecord))
_NEVER = float("-inf")
_FAR_S = 1 << 34  # the year 2514; fromtimestamp on Windows takes no time before 1970
_fromtimestamp = datetime.fromtimestamp


class AttemptColumns:
    """The columns of rows that come from the history: see :data:`HISTORY_COLUMNS`.

    This object takes 17 bytes for each row of the job. It takes more if row numbers have gaps or
    aren't in the order of creation. It also takes more for rows with costs before their present
    status.
    """

    def __init__(self, rows: RowSequence, history: History) -> None:
        """``history`` is the job's history up to the commit at which ``rows`` were read."""
        columns = rows.view.columns
        size = len(columns.statuses)
        self._view = rows.view  # the columns don't change as long as the view exists
        status_at = columns.status_offsets
        self._started_s = starts_s = array("d", [_NEVER]) * size
        # The offset of the record that ended the last attempt.
        self._ended_at = ended_at = array("Q", [0]) * size
        self._spent: dict[int, int] = {}  # costs before the present status (1e-6 cents)
        position_of = _position_finder(columns.numbers)
        in_progress = bytearray(size)
        for records, offsets in _records(history):
            for record, offset in zip(records, offsets, strict=True):
                position, status = position_of(record.row), record.status
                if status == "processing":
                    at = record.at if record.origin is None else record.origin.at
                    starts_s[position] = at.timestamp()
                    in_progress[position] = True
                    continue
                if record.cost_cents and offset != status_at[position]:
                    cost = millionths(record.cost_cents)
                    self._spent[position] = self._spent.get(position, 0) + cost
                if in_progress[position] and status is not None:
                    in_progress[position] = False
                    has_error = record.error_code is not None and not record.reset
                    # If a policy or a person has set the status, nobody has seen the end of the
                    # attempt.
                    if (status != "pending" or has_error) and record.by not in BY_OTHERS:
                        ended_at[position] = offset

    def of(
        self, positions: Sequence[int], ends: Sequence[datetime], costs: Sequence[float | None]
    ) -> dict[str, list[Any]]:
        """Return the columns of some rows. An unknown value is None.

        ``positions``: the places of the rows in the index. ``ends``: the times of the rows'
        statuses. ``costs``: the costs that were recorded with these statuses.
        """
        ended_at, status_at = self._ended_at, self._view.columns.status_offsets
        spent = self._spent
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
        totals = list(costs)
        for place in [at for at, each in enumerate(positions) if each in spent] if spent else ():
            total = spent[positions[place]] + millionths(costs[place] or 0)
            totals[place] = cents_of(total)
        return dict(zip(HISTORY_COLUMNS, (starts, durations, totals), strict=True))


def attempts_of(rows: RowSequence, history: History) -> Iterator[tuple[Any, ...]]:
    """For each attempt at some rows, yield the values of :data:`ATTEMPT_COLUMNS`.

    Attempts are in the order in which they ended. Attempts in progress are last, in the order of
    rows. A cost that was recorded without the end of an attempt is yielded by itself. The outcome
    "spent" marks the cost of an attempt that has another outcome, or no outcome, in this journal.
    So the sum of all costs is the job's cost. ``history``: as for :class:`AttemptColumns`.
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
                yield (rows.id_of_rows, record.row, *values(ended))
    for position, attempt in sorted(reader.open.items(), key=itemgetter(0)):
        yield (rows.id_of_rows, columns.number(position), *values(attempt))


def _spent(record: RowStatusRecord | RowSpentRecord) -> SimpleNamespace:
    """A cost that isn't recorded with the end of an attempt, in the form of an attempt."""
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


def _records(history: History) -> Iterator[tuple[list[Any], Iterator[int]]]:
    """Yield blocks of statuses and costs in the order of the file, and their offsets."""
    for block in history.blocks():
        lines = block.lines
        ends = accumulate(map(len, lines), initial=block.offset)
        offsets = map(add, ends, count())  # with the line ends
        may_be = list(map(bytes.startswith, lines, repeat(_STARTS)))
        try:
            if not all(map(bytes.startswith, lines, repeat(LINE))):
                raise msgspec.DecodeError
            records: list[Any] = list(map(_decode, compress(lines, may_be)))
        except DECODE_ERRORS:
            # Reading the whole record raises the error that names the line.
            whole = [history.record(block, number) for number in range(len(lines))]
            may_be = [isinstance(record, RowStatusRecord | RowSpentRecord) for record in whole]
            found = compress(whole, may_be)
            records = [msgspec.convert(each, _Slim, from_attributes=True) for each in found]
        yield records, compress(offsets, may_be)
