"""Two copies of a job that both went on, made one: what only the other did is taken over.

Both histories stay: ours in the journal, theirs as it is in ``journal.other-N`` beside it. For a row
that only the other copy has worked on since they parted (an attempt, or an outcome), its outcome and
the number of its attempts become ours; if it was in flight there, it needs a review here. A row that
both have worked on may be done twice, which only a person can see: it needs a review, with both
outcomes in its error and in a ``log`` record. But completed is final: what we have completed stays
so, and the other's work on it is recorded by a ``log`` record and the job's error. It is one and the
same work only if both completed it with the same tracking number, or both skipped it: whoever gives
out tracking numbers gives none twice.

What a copy has taken over from another is no work of its own. So a merge names the rows that it took,
and up to where it has read the other: the same may be pulled again, and pulled back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, cast

import msgspec

from journal.changes import put_job_record
from journal.copies import Copy, blocks_since, holds
from journal.errors import InvalidValueError
from journal.format import (
    DECODE_ERRORS,
    SEAL_BYTES,
    SEAL_HEAD,
    JobErrorRecord,
    LogRecord,
    Record,
    RowRecord,
    RowStatusRecord,
    UndecodableError,
    UnknownRecordError,
    decode_record,
    encode_row,
    encode_value,
    read_error,
    time_text,
)
from journal.index import CODES, COMPLETED, NEEDS_REVIEW, PENDING
from journal.log import Log
from journal.replay import Position
from journal.rows import read_row

OTHER_NAME = "journal.other"
BOTH_COPIES = "both_copies"  # error code of rows, and of a job, that two copies have worked on
IN_FLIGHT = "in_flight_elsewhere"

_WORK = frozenset(("processing", "completed", "failed", "skipped"))
_OUTCOMES = frozenset(("completed", "failed", "skipped"))
_MOST_CHARACTERS = 300  # of an outcome in a message; all of it is in the journal


class MergeRecord(msgspec.Struct, tag_field="type", tag="log", kw_only=True):
    """A ``log`` record that begins the commit of a merge.

    ``merged_offset`` and ``merged_crc`` are where the other copy ended, ``took_over`` the rows whose
    statuses in this commit are the other's: ``1-3,7``.
    """

    message: str
    other: str
    merged_offset: int
    merged_crc: str
    took_over: str
    at: datetime


_decode_merge = msgspec.json.Decoder(MergeRecord).decode


class Merged(msgspec.Struct, frozen=True):
    """Numbers of rows, ascending.

    ``took_over``: the other's outcomes are ours now. ``added``: rows that only the other had.
    ``review``: rows that need a review by the merge; of these ``both`` were worked on by both
    copies. ``twice``: completed here, and worked on by the other copy too. ``other``: the name of
    the file that holds the other's history.
    """

    other: str
    took_over: list[int]
    added: list[int]
    review: list[int]
    both: list[int]
    twice: list[int]


class _Work(msgspec.Struct, gc=False):
    """What a copy did about a row since the fork; ``offset`` is that of its last status."""

    status: str
    offset: int
    worked: bool = False
    attempts: int = 0


class _History:
    """What a copy did since a fork that it hasn't taken over from the other one."""

    def __init__(self, copy: Copy, begin: Position, other: Copy) -> None:
        self.rows: dict[int, _Work] = {}
        self.added: dict[int, int] = {}  # the offsets of new rows
        self.merged = begin  # up to here the other copy was merged into this one
        taken: set[int] = set()
        for offset, line, record in _records(copy, begin):
            if isinstance(record, RowStatusRecord):
                if record.row not in taken:
                    self._add(record, offset)
            elif isinstance(record, RowRecord):
                self.added[record.row] = offset
            elif isinstance(record, LogRecord):
                merge = _merge_in(line)
                if merge is not None:
                    position = Position(merge.merged_offset, int(merge.merged_crc, 16))
                    if holds(other, position):
                        taken = set(_numbers(merge.took_over))
                        self.merged = max(self.merged, position)
            if line[-SEAL_BYTES:].startswith(SEAL_HEAD):
                taken = set()

    def _add(self, record: RowStatusRecord, offset: int) -> None:
        work = self.rows.get(record.row)
        if work is None:
            work = self.rows[record.row] = _Work(record.status, offset)
        work.status, work.offset = record.status, offset
        work.worked |= record.status in _WORK
        work.attempts += record.status == "processing"


def _records(copy: Copy, begin: Position) -> Iterator[tuple[int, bytes, Record]]:
    for block in blocks_since(copy, begin):
        offset = block.offset
        for line in block.lines:
            try:
                yield offset, line, decode_record(line)
            except (UndecodableError, UnknownRecordError) as error:
                number = copy.file.count_lines(offset) + 1
                raise read_error(copy.file.path, number, offset, error) from None
            offset += len(line) + 1


def _merge_in(line: bytes) -> MergeRecord | None:
    if b'"merged_offset":' not in line:
        return None
    try:
        return _decode_merge(line)
    except DECODE_ERRORS:
        return None


class _Plan:
    """What becomes of each row that the other copy has touched, before anything is written."""

    def __init__(self, log: Log, ours: Copy, theirs: Copy, fork: Position) -> None:
        self.ours = _History(ours, fork, theirs)
        self.theirs = _History(theirs, self.ours.merged, ours)
        self.added = sorted(n for n in self.theirs.added if log.index.position_of(n) is None)
        self.take: list[int] = []
        self.review: list[int] = []
        self.both: list[int] = []
        self.twice: list[int] = []
        self._log, self._theirs = log, theirs
        self._check_added()
        for number in sorted(self.theirs.rows):
            self._decide(number)

    def _check_added(self) -> None:
        """Raise InvalidValueError if both copies have made a row of the same number."""
        for number in sorted(self.theirs.added.keys() - set(self.added)):
            offset = self.theirs.added[number]
            there = read_row(self._theirs.file, self._theirs.file.read_line(offset), offset, number)
            if there.data != _our_row(self._log, number).data:
                raise InvalidValueError(
                    f"{self._theirs.name}: row {number}",
                    there.data,
                    "both copies have made a row of this number, of different data, so they can't "
                    "be merged: run the rows of one of them as a job of their own",
                )

    def _decide(self, number: int) -> None:
        there, here = self.theirs.rows[number], self.ours.rows.get(number)
        position = self._log.index.position_of(number)
        code = PENDING if position is None else self._log.index.columns.statuses[position]
        if there.worked and ((here and here.worked) or code == COMPLETED):
            if self._is_same(number, there, here):
                return
            (self.twice if code == COMPLETED else self.both).append(number)
        elif there.worked and there.status in _OUTCOMES:
            self.take.append(number)
        elif (
            there.status in ("processing", "needs_review")
            and code not in (NEEDS_REVIEW, COMPLETED)
            # If we, too, had it in flight at the fork, what we made of that since then stands.
            and (there.worked or here is None)
        ):
            self.review.append(number)

    def _is_same(self, number: int, there: _Work, here: _Work | None) -> bool:
        if here is None or there.status != here.status:
            return False
        if there.status == "skipped":
            return True
        if there.status != "completed":
            return False
        mine = _status_at(self._log.read_line(here.offset))
        tracking_number = _status_at(self.line(number)).tracking_number
        return tracking_number is not None and tracking_number == mine.tracking_number

    def line(self, number: int) -> bytes:
        """The other copy's last status of a row."""
        return self._theirs.file.read_line(self.theirs.rows[number].offset)


def merge_outcomes(log: Log, ours: Copy, theirs: Copy, fork: Position, other: str) -> Merged:
    """Append to the commit under way in ``log`` what ``theirs`` did since the fork.

    ``ours`` is what ``log`` holds, ``other`` the name of the file that keeps their history. Raises
    InvalidValueError, with nothing appended, if both have made different rows of one number.
    """
    plan = _Plan(log, ours, theirs, fork)
    counts = {
        "outcomes taken over": len(plan.take),
        "rows added": len(plan.added),
        "to be reviewed": len(plan.review) + len(plan.both),
        "completed here and worked on there": len(plan.twice),
    }
    text = ", ".join(f"{count} {what}" for what, count in counts.items())
    merge = MergeRecord(
        message=f"merged {theirs.name}, kept as {other}; parted at byte {fork.offset}: {text}",
        other=other,
        merged_offset=theirs.end.offset,
        merged_crc=f"{theirs.end.crc:08x}",
        took_over=_ranges(plan.take),
        at=log.now(),
    )
    log.append(cast("Record", merge))
    _add_rows(log, theirs, plan)
    for number in plan.take:
        _take_over(log, number, plan)
    for number in plan.review:
        there = _outcome(_status_at(plan.line(number)))
        _to_review(log, number, IN_FLIGHT, f"whether it took effect is unknown: there {there}")
    for number in [*plan.both, *plan.twice]:
        here = _outcome(_our_status(log, number))
        there = _outcome(_status_at(plan.line(number)))
        message = f"both copies worked on it since they parted: here {here}; there {there}"
        log.append(LogRecord(message=f"row {number}: {message}", at=log.now()))
        if number not in plan.twice:
            _to_review(log, number, BOTH_COPIES, message)
    if plan.twice:
        message = (
            f"rows {_ranges(plan.twice)[:_MOST_CHARACTERS]}: completed here, and worked on by the "
            f"copy in {other} as well: they may be done twice; the log records say how"
        )
        put_job_record(log, JobErrorRecord(code=BOTH_COPIES, message=message, at=log.now()))
    review = sorted(plan.review + plan.both)
    return Merged(other, plan.take, plan.added, review, plan.both, plan.twice)


def _add_rows(log: Log, theirs: Copy, plan: _Plan) -> None:
    if plan.added:
        log.index.begin_rows()
    at = log.now()
    for number in plan.added:
        offset = plan.theirs.added[number]
        row = read_row(theirs.file, theirs.file.read_line(offset), offset, number)
        data = encode_value(row.data, f"row {number}: data")
        line = encode_row(number, row.checksum, data, time_text(at).encode())
        log.index.add_row(number, log.append_line(line, at, number))


def _take_over(log: Log, number: int, plan: _Plan) -> None:
    record = _status_at(plan.line(number))
    for _ in range(plan.theirs.rows[number].attempts):
        _put(log, RowStatusRecord(row=number, status="processing", at=log.now()))
    record.at = log.now()
    _put(log, record)


def _to_review(log: Log, number: int, code: str, message: str) -> None:
    record = RowStatusRecord(
        row=number, status="needs_review", error_code=code, error_message=message, at=log.now()
    )
    _put(log, record)


def _put(log: Log, record: RowStatusRecord) -> None:
    """As history has it: which moves are allowed is a question to those who make them."""
    position = log.index.position_of(record.row)
    assert position is not None
    log.index.set_row(position, CODES[record.status], log.append(record), record.cost_cents)


def _our_row(log: Log, number: int) -> RowRecord:
    position = log.index.position_of(number)
    assert position is not None
    offset = log.index.columns.row_at[position]
    return read_row(log.file, log.read_line(offset), offset, number)


def _our_status(log: Log, number: int) -> RowStatusRecord:
    position = log.index.position_of(number)
    assert position is not None
    return _status_at(log.read_line(log.index.columns.status_at[position]))


def _status_at(line: bytes) -> RowStatusRecord:
    record = decode_record(line)
    assert isinstance(record, RowStatusRecord)
    return record


def _outcome(record: RowStatusRecord) -> str:
    """A status and what it says, in words, for a person."""
    said: dict[str, Any] = {
        "tracking number": record.tracking_number,
        "cost in cents": record.cost_cents,
        "result": record.result,
        "error": record.error_code,
        "message": record.error_message,
        "reason": record.reason,
    }
    parts = [f"{name} {value}" for name, value in said.items() if value is not None]
    text = ", ".join(parts)
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 1] + "…"
    status = "in flight" if record.status == "processing" else record.status
    return f"{status} at {time_text(record.at)}" + (f" ({text})" if text else "")


def _ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as text: ``1-3,7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _numbers(text: str) -> Iterator[int]:
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
