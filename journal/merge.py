"""Two copies of a job that both went on, made one: what only the other did is taken over.

What is new there is found row by row (see ``parted.py``). What became of a row, by what it was here:

=====================================  ==================================================================
only the other has changed it          its changes, in their order, with their times; if it is in flight
                                       there, it needs a review here
the other has only put it back         nothing: what is to be tried again there is not tried here, too
in flight when they parted, and only   that outcome; a status that a policy gave it is none, and
one of them knows how that ended       stays where it is if neither knows
both worked on it                      it needs a review, and what the other did stands in its log
completed here, and the other worked   it stays completed, which is final; the job's error names it, and
on it                                  what the other did stands in its log
completed by the other, which knows    it is completed here too, and the job's error names it
that it was worked on here
a third copy worked on it, says the    as if the other had
other
both completed it with one tracking    nothing: it is one and the same work; whoever gives out tracking
number                                 numbers gives none twice
both skipped it, and at most one of    what that one did is known here; it stays skipped
them had tried it before
=====================================  ==================================================================

Nothing is taken over, or complained of, a second time: not if the same is pulled again, nor if it is
pulled back or comes through a third copy. If each of two copies has merged the other, both hold the same,
but for rows completed on one that wait for a person on the other, those that one only put back, and those
whose outcome nobody knows and each has settled by its policy.

A retry that was made of the job there is a retry here too, so that no second one is made by mistake.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, cast

import msgspec

from journal.changes import put_job_record
from journal.copies import Copy, replay_copy
from journal.errorgroups import Numbers
from journal.errors import InvalidValueError
from journal.format import (
    ELSEWHERE,
    JobErrorRecord,
    LogRecord,
    Origin,
    RowRecord,
    RowStatusRecord,
    decode_record,
    encode_row,
    encode_value,
    time_text,
)
from journal.index import CODES, COMPLETED, NEEDS_REVIEW, TERMINAL_STATUSES
from journal.log import Log
from journal.model import JobStatus
from journal.parted import BOTH_COPIES, IN_FLIGHT, Change, RowChanges
from journal.replay import Position
from journal.rows import read_row

OTHER_NAME = "journal.other"

_MOST_RANGES = 40  # in an error; the log names each row
_MOST_CHARACTERS = 1000
_MOST_DETAILS_BYTES = 1 << 20


class Merged(msgspec.Struct, frozen=True):
    """Numbers of rows, ascending.

    ``took_over``: the other's changes are ours now. ``added``: rows that only the other had.
    ``review``: rows that need a review by the merge; of these ``both`` were worked on by both
    copies. ``twice``: completed here, and worked on by another copy too. ``other``: the name of the
    file that holds the other's history. ``job_status`` is ours, ``their_job_status`` the other's,
    which stays what it is; ``left_open`` counts the open rows if ours is one that has ended.
    ``retries`` are the jobs that go on with the unfinished rows there, as "ID on HOST", and
    ``is_retried_twice`` says that the job was retried here as well.
    """

    other: str
    took_over: list[int]
    added: list[int]
    review: list[int]
    both: list[int]
    twice: list[int]
    job_status: JobStatus
    their_job_status: JobStatus
    left_open: int
    retries: list[str] = []
    is_retried_twice: bool = False


class Plan:
    """What becomes of each row that the other copy has changed, before anything is written."""

    def __init__(self, log: Log, ours: Copy, theirs: Copy, fork: Position) -> None:
        """``ours`` is what ``log`` holds, under its lock; they parted at ``fork``.

        In memory for the changes since then. Raises InvalidValueError if both have made different
        rows of one number, JournalDamagedError and FormatVersionError for what is wrong with theirs.
        """
        state = replay_copy(theirs).state  # that all of it makes sense
        assert state is not None
        self._log, self._theirs, self._fork = log, theirs, fork
        self._their_state = state
        self._here, self._there = RowChanges(ours, fork), RowChanges(theirs, fork)
        self.added = sorted(n for n in self._there.added if log.index.position_of(n) is None)
        self.take: dict[int, list[Change]] = {}
        self.conflicts: dict[int, list[Change]] = {}
        self.retries = {
            retry: offset
            for retry, offset in self._there.retries.items()
            if retry not in self._here.retries
        }
        self._check_added()
        for number in self._there.rows():
            self._decide(number)

    @property
    def is_empty(self) -> bool:
        """Whether ours holds all that matters of theirs."""
        return not (self.added or self.take or self.conflicts or self.retries)

    def _check_added(self) -> None:
        for number in sorted(self._there.added.keys() - set(self.added)):
            there = _row_at(self._theirs, self._there.added[number], number)
            if there.data != _our_row(self._log, number).data:
                raise InvalidValueError(
                    f"{self._theirs.name}: row {number}",
                    there.data,
                    "both copies have made a row of this number, of different data, so they can't "
                    "be merged: run the rows of one of them as a job of their own",
                )

    def _decide(self, number: int) -> None:
        new = self._there.unknown_to(self._here, number)
        code = self._our_code(number)
        if not new or (code is None and number not in self._there.added):
            return
        mine = self._here.unknown_to(self._there, number)
        last, is_work = new[-1], any(change.is_work for change in new)
        is_last_word = self._there.ends_with(number, last)  # else we know what became of it
        if is_last_word and not mine and code != COMPLETED:  # and was said knowing all that we did
            if is_work or last.status == "needs_review":
                self.take[number] = new
            return
        if self._is_same(number, new) or not (is_work or last.is_doubt):
            return  # and what was in flight when they parted: what was made of that here stands
        if self._did_no_more_than_skip(number, mine, last):
            self.take[number] = new
            return
        put_back = code == NEEDS_REVIEW and last.status == "pending"
        if (
            code == COMPLETED
            or put_back
            or not is_last_word
            or any(change.is_work or change.is_doubt for change in mine)
        ):
            self.conflicts[number] = new
        else:  # it was in flight, and only the other knows how that ended
            self.take[number] = new

    def _is_same(self, number: int, new: list[Change]) -> bool:
        """Whether their last word on a row, and ours, must be about one and the same work."""
        if any(change.status == ELSEWHERE for change in new):
            return False
        mine, there = self._our_status(number), self._status(new[-1])
        if mine is None or there.status != mine.status:
            return False
        if there.status == "skipped":
            return _is_all_skips(new)
        return (
            there.status == "completed"
            and bool(there.tracking_number)
            and there.tracking_number == mine.tracking_number
        )

    def _did_no_more_than_skip(self, number: int, mine: list[Change], last: Change) -> bool:
        """Whether both skipped the row in the end, and only the other had tried it before."""
        here = self._our_status(number)
        is_agreed = here is not None and here.status == last.status == "skipped"
        return is_agreed and _is_all_skips(mine)

    # --- carrying it out

    def write(self, other: str) -> Merged:
        """Append it all to the commit under way; ``other`` is the file that keeps their history."""
        log, index = self._log, self._log.index
        twice = sorted(n for n in self.conflicts if self._our_code(n) == COMPLETED)
        both = sorted(self.conflicts.keys() - set(twice))
        put_job_record(log, self._record(other, twice))
        self._add_rows()
        for number, changes in self.take.items():
            for change in changes:
                self._take(change)
            self._settle(number, changes, twice)
        for number, changes in self.conflicts.items():
            words = self._in_words(number, changes)
            for change in changes:
                self._tell(number, change, "ERROR" if number in twice else "WARNING")
            if number in both:
                self._to_review(number, BOTH_COPIES, words)
        is_retried_twice = self._take_retries()
        if twice:
            self._put_error(sorted(twice), other)
        assert index.state is not None
        review = [n for n in (*self.take, *both) if self._our_code(n) == NEEDS_REVIEW]
        ended = index.state.status in TERMINAL_STATUSES
        tallies = index.tallies
        return Merged(
            other=other,
            took_over=sorted(self.take.keys() - set(review)),
            added=self.added,
            review=sorted(review),
            both=both,
            twice=sorted(twice),
            job_status=index.state.status,
            their_job_status=self._their_state.status,
            left_open=tallies[CODES["pending"]] + tallies[CODES["processing"]] if ended else 0,
            retries=[f"{retry.job} on {retry.host}" for retry in self.retries],
            is_retried_twice=is_retried_twice,
        )

    def _record(self, other: str, twice: list[int]) -> LogRecord:
        theirs = self._theirs
        counts = {
            "taken over": len(self.take),
            "added": len(self.added),
            "worked on by both": len(self.conflicts) - len(twice),
            "completed here and worked on there": len(twice),
        }
        text = ", ".join(f"{count} {what}" for what, count in counts.items())
        merge = {
            "other": other,
            "offset": theirs.end.offset,
            "crc": f"{theirs.end.crc:08x}",
            "fork": self._fork.offset,
            "hosts": list(self._their_state.hosts),
            "job_status": self._their_state.status.value,
        }
        return LogRecord(
            message=f"merged {os.path.basename(theirs.name) or theirs.name}, kept as {other}; rows: {text}",
            details={"merge": merge},
            at=self._log.now(),
        )

    def _add_rows(self) -> None:
        log = self._log
        if self.added:
            log.index.begin_rows()
        at = log.now()
        for number in self.added:
            row = _row_at(self._theirs, self._there.added[number], number)
            data = encode_value(row.data, f"row {number}: data")
            line = encode_row(number, row.checksum, data, time_text(at).encode())
            log.index.add_row(number, log.append_line(line, at, number))

    def _take(self, change: Change) -> None:
        """Make one change of theirs ours."""
        record = self._read(change)
        if isinstance(record, LogRecord):
            record.at = self._log.now()
            put_job_record(self._log, record)
            return
        assert isinstance(record, RowStatusRecord)
        if record.origin is None:
            record.origin = Origin(id=change.id, at=record.at)
        record.at = self._log.now()
        self._put(record)

    def _settle(self, number: int, changes: list[Change], twice: list[int]) -> None:
        """What the changes that were taken over leave to be seen by a person."""
        code, last = self._our_code(number), changes[-1].status
        if code == COMPLETED:
            if self._there.alarms_about(self._here, number):
                message = "completed on another copy of this job, and worked on here too"
                told = LogRecord(message=message, level="ERROR", row=number, at=self._log.now())
                put_job_record(self._log, told)
                twice.append(number)
            elif any(change.is_alarm for change in changes):
                twice.append(number)
        elif last == "processing":
            message = "it was in flight on another copy: whether it took effect is unknown"
            self._to_review(number, IN_FLIGHT, message)
        elif last == ELSEWHERE and code != NEEDS_REVIEW and any(c.is_work for c in changes):
            self._to_review(number, BOTH_COPIES, self._in_words(number, changes))

    def _take_retries(self) -> bool:
        """Log that the unfinished rows go on in other jobs; whether the job was retried here too."""
        both = bool(self.retries and self._here.retries)
        for retry, offset in self.retries.items():
            record = decode_record(self._theirs.file.read_line(offset))
            assert isinstance(record, LogRecord)
            record.details = {"retry": retry._asdict()}
            record.level = "ERROR" if both else "WARNING"
            record.at = self._log.now()
            put_job_record(self._log, record)
        return both

    def _tell(self, number: int, change: Change, level: str) -> None:
        """Log a change of theirs that can't become one of ours."""
        record = self._read(change)
        if isinstance(record, LogRecord):
            told = LogRecord(
                message=record.message,
                level=level,
                row=number,
                details=record.details,
                at=record.at,
            )
        else:
            assert isinstance(record, RowStatusRecord)
            fields = msgspec.to_builtins(record)
            fields |= {"id": change.id, "at": time_text(record.happened_at)}
            for name in ("type", "row", "origin"):
                fields.pop(name, None)
            told = LogRecord(
                message="on another copy of this job",
                level=level,
                row=number,
                details={ELSEWHERE: _writable(fields)},
                at=record.at,
            )
        told.at = self._log.now()
        put_job_record(self._log, told)

    def _to_review(self, number: int, code: str, message: str) -> None:
        self._put(
            RowStatusRecord(
                row=number,
                status="needs_review",
                error_code=code,
                error_message=message,
                at=self._log.now(),
            )
        )

    def _put(self, record: RowStatusRecord) -> None:
        """As history has it: which moves are allowed is a question to those who make them."""
        index = self._log.index
        position = index.position_of(record.row)
        assert position is not None
        index.set_row(position, CODES[record.status], self._log.append(record), record.cost_cents)

    def _put_error(self, twice: Iterable[int], other: str) -> None:
        """Name the rows in the job's error, beside those of earlier merges."""
        numbers = Numbers()
        for number in twice:
            numbers.add(number)
        message = (
            f"rows {numbers.text(',', _MOST_RANGES)}: completed here, and worked on by the copy in "
            f"{other} as well: they may be done twice; `journal log --level error` has them all"
        )
        state = self._log.index.state
        if state is not None and state.error is not None and state.error[0] == BOTH_COPIES:
            earlier = state.error[1]
            if len(earlier) > _MOST_CHARACTERS:
                earlier = "rows of earlier merges, too"
            message = f"{message}; {earlier}"
        record = JobErrorRecord(code=BOTH_COPIES, message=message, at=self._log.now())
        put_job_record(self._log, record)

    def _in_words(self, number: int, changes: list[Change]) -> str:
        """What both have done with a row, in statuses and times: its values stay in their fields."""
        here = self._our_status(number)
        last = self._read(changes[-1])
        there = "worked on by a third copy"
        if isinstance(last, RowStatusRecord):
            there = _status_text(last)
        return (
            f"both copies worked on it since they parted: here {_status_text(here)}; there {there}; "
            f"`journal log --row {number}` has both"
        )

    # --- reading

    def _our_code(self, number: int) -> int | None:
        position = self._log.index.position_of(number)
        return None if position is None else self._log.index.columns.statuses[position]

    def _our_status(self, number: int) -> RowStatusRecord | None:
        position = self._log.index.position_of(number)
        offset = 0 if position is None else self._log.index.columns.status_at[position]
        record = decode_record(self._log.read_line(offset)) if offset else None
        return record if isinstance(record, RowStatusRecord) else None

    def _status(self, change: Change) -> RowStatusRecord:
        return cast("RowStatusRecord", self._read(change))

    def _read(self, change: Change) -> Any:
        return decode_record(self._theirs.file.read_line(change.offset))


def _is_all_skips(changes: list[Change]) -> bool:
    return {change.status for change in changes if change.is_work} == {"skipped"}


def _our_row(log: Log, number: int) -> RowRecord:
    position = log.index.position_of(number)
    assert position is not None
    offset = log.index.columns.row_at[position]
    return read_row(log.file, log.read_line(offset), offset, number)


def _row_at(copy: Copy, offset: int, number: int) -> RowRecord:
    return read_row(copy.file, copy.file.read_line(offset), offset, number)


def _writable(fields: dict[str, Any]) -> dict[str, Any]:
    """What a log record can hold of a status: it nests deeper there, and takes more bytes."""
    try:
        fits = len(encode_value({ELSEWHERE: fields}, "details")) <= _MOST_DETAILS_BYTES
    except InvalidValueError:
        fits = False
    return fields if fits else {**fields, "result": "left out here: too long, or nested too deep"}


def _status_text(record: RowStatusRecord | None) -> str:
    if record is None:
        return "pending"
    status = "in flight" if record.status == "processing" else record.status.replace("_", " ")
    code = f" ({record.error_code})" if record.error_code else ""
    return f"{status}{code} at {time_text(record.happened_at)}"
