"""Merges a diverged copy of a job into the copy here, in one commit.

:mod:`journal.transfer.three_way` matches the rows of the two copies, and judges each row. This
module writes the changes that follow from the judgements. Everything is decided before anything is
written.

- Rows that only the other copy has are added. A row gets a new number if another row has its
  number.
- Each cost counts once, by the id of its record.
- The job's status changes only if no row is open: a started job then ends.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from journal.errors import InvalidValueError
from journal.format.commits import Position
from journal.format.records import (
    A_MERGE,
    BOTH_COPIES,
    LOST_CHECKSUM,
    MAYBE_DONE_TWICE,
    REPAIRED,
    UNSET_TIME,
    AnyRow,
    CallRecord,
    JobErrorRecord,
    LogRecord,
    MergeRecord,
    Origin,
    RowDataRecord,
    RowElsewhereRecord,
    RowStatusRecord,
    RowStepRecord,
    encode_row,
    is_maybe_done_twice,
    ranges_of,
    row_end,
    writable,
)
from journal.format.seal import crc_digits
from journal.format.values import encode_value
from journal.index.columns import PROCESSING
from journal.model import JobStatus
from journal.store.journal import Journal
from journal.store.steps import deciding_records
from journal.store.transitions import end_if_settled, put_record
from journal.text import Numbers, decode_json_exact, encode_json
from journal.transfer.three_way import (
    AGAIN,
    CALL,
    DATA,
    MAX_RANGES,
    STEP,
    Change,
    Merge,
    Row,
    Side,
    state_text,
    status_text,
    steps_that_count,
)

IN_FLIGHT = "in_flight_elsewhere"  # error code of a row
_MAX_DETAILS_BYTES = 1 << 20


class Merged(msgspec.Struct, frozen=True):
    """The result of a merge. Rows are named by their numbers in this copy, and sorted.

    - ``other``: the name of the file with the other copy's journal.
    - ``applied``: rows that got changes of the other copy, and need no review.
    - ``added``: rows that only the other copy had.
    - ``review``: rows that the merge has changed, and that need a review now.
    - ``twice``: rows in ``review`` that are completed in at least one of the copies.
    - ``job_status``: the job's status in this copy. A merge changes this status only if no row is
      open: a started job then ends as completed or failed.
    - ``their_job_status``: the job's status in the other copy.
    - ``left_open``: if the job has ended here, the number of rows that are still open, else 0.
    - ``renumbered``: a dict from the number in this copy to the number in the other copy, for the
      rows in ``added`` whose numbers differ.
    """

    other: str
    applied: list[int]
    added: list[int]
    review: list[int]
    twice: list[int]
    job_status: JobStatus
    their_job_status: JobStatus
    left_open: int
    renumbered: dict[int, int]


# --- writing ---------------------------------------------------------------------------------


class MergeWriter:
    """Appends the records of a merge to the open commit of the journal here.

    ``other`` is the name of the file with the other copy's journal, ``fork`` the end of the last
    common commit.
    """

    def __init__(self, journal: Journal, merge: Merge, fork: Position, other: str) -> None:
        self._journal, self._merge, self._fork, self._other = journal, merge, fork, other
        self._here, self._there = merge.here, merge.there
        self._counted = set(merge.here.costs)
        self._of_calls = CallImports(journal, merge.here, merge.there)

    def write(self) -> Merged:
        merge, state = self._merge, self._there.index.state
        assert state is not None
        self._put_merge()
        self._add_rows()
        touched = set(merge.added)
        for row, verdict in merge.rows:
            if verdict == "take":
                self._take(row)
            elif verdict == "review":
                self._put_conflict(row)
            elif verdict == "same":
                for change in row.new:
                    self._log(row, change)
            if verdict in ("take", "review"):
                touched.add(row.number)
        self._of_calls.write()
        for id_, spent in self._there.costs.items():
            if id_ not in self._counted:
                spent.attempt = None  # the number is from the other copy
                put_record(self._journal, spent)
        self._put_error()
        index = self._journal.index
        assert index.state is not None
        end_if_settled(self._journal)
        review = sorted(n for n in touched if self._here.status(n) == "needs_review")
        records = map(self._here.status_record, review)
        twice = [record.row for record in records if record and is_maybe_done_twice(record)]
        has_ended = index.state.status.is_ended
        return Merged(
            other=self._other,
            applied=sorted(touched.difference(review, merge.added)),
            added=merge.added,
            review=review,
            twice=twice,
            job_status=index.state.status,
            their_job_status=state.status,
            left_open=index.pending_count + index.status_counts[PROCESSING] if has_ended else 0,
            renumbered=merge.renumbered,
        )

    def _put_merge(self) -> None:
        """Append the first record of the merge.

        From this record, later merges know which changes were merged.
        """
        merge, theirs, state = self._merge, self._there.copy, self._there.index.state
        assert state is not None
        groups = {
            "taken": [row.number for row, verdict in merge.rows if verdict == "take"],
            "added": merge.added,
            "added under another number": sorted(merge.renumbered),
            "in review": [row.number for row, verdict in merge.rows if verdict == "review"],
        }
        text = ", ".join(
            f"{len(rows)} {what} ({Numbers(rows).text(',', MAX_RANGES)})"
            for what, rows in groups.items()
            if rows
        )
        text = text or "no changes"
        if self._there.extensions:
            text += f"; {self._there.extensions} records of other programs (x_…) left out"
        name = os.path.basename(theirs.name) or theirs.name
        record = MergeRecord(
            other=self._other,
            offset=theirs.end.offset,
            seal=crc_digits(theirs.end.crc),
            fork=self._fork.offset,
            hosts=state.hosts,
            job_status=state.status.value,
            message=f"merged {name}, kept as {self._other}; rows: {text}",
            at=UNSET_TIME,
        )
        put_record(self._journal, record)

    def _add_rows(self) -> None:
        journal, merge, there = self._journal, self._merge, self._there
        at, renumbered = journal.now(), merge.renumbered
        for number in merge.added:
            theirs = renumbered.get(number, number)
            row = there.added_row(theirs)
            data = encode_value(row.data, f"row {number}: data")
            key = there.key_of(row)
            is_its_id = key == f"{journal.id_of_rows}:{number}"
            line = encode_row(
                number, row.checksum, data, row_end(at), None if is_its_id else key, row.place
            )
            journal.index.add_row(number, journal.append_line(line, at, number))
        for number, theirs in renumbered.items():
            message = f"row {theirs} of another copy of this job; it keeps its idempotency key"
            put_record(journal, LogRecord(message=message, row=number, at=UNSET_TIME))

    def _take(self, row: Row) -> None:
        """Import all new records.

        Then import the data and (after a redo) the steps of the row there.
        """
        changes, new = self._there.changes[row.number], {change.id for change in row.new}
        redos = (at for at, c in enumerate(changes) if c.reset == "redo" and c.id in new)
        redo = max(redos, default=len(changes))
        for at, change in enumerate(changes):
            is_new = change.id in new and not self._is_of_added(row, change)
            if not is_new and (at <= redo or change.what != STEP):
                continue
            id_ = change.id if is_new else AGAIN  # the redo here has forgotten the step
            if not self._of_calls.add(row, change, id_, changes[at + 1 :]):
                self._import(row.number, change, id_)
        self._put_data_as_there(row)
        if self._merge.is_unknown_there(row):
            if self._there.status(row.theirs) == "processing":
                self._put_review(row, IN_FLIGHT, self._in_flight_text(row))
            else:
                self._put_review_of_both(row, self._both_text(row))

    def _is_of_added(self, row: Row, change: Change) -> bool:
        """Whether the change has added a row that this merge has added here."""
        is_new = row.number in self._merge.new
        return is_new and change.offset == self._there.added[row.theirs].offset

    def _put_data_as_there(self, row: Row) -> None:
        here, there, number = self._here, self._there, row.number
        changes = (*here.changes.get(number, ()), *there.changes[number])
        if not any(change.what == DATA for change in changes):
            return
        theirs = there.row(row.theirs)
        is_equal = here.content_of(here.row(number)) == there.content_of(theirs)
        if not is_equal and theirs.checksum != LOST_CHECKSUM:
            self._put_data(number, theirs, Origin(id=AGAIN, at=theirs.at))

    def _import(self, number: int, change: Change, id_: str | None = None) -> None:
        """Append a record of the other copy. ``id_``: replaces the id of the change."""
        record, journal = self._there.read(change), self._journal
        at = (getattr(record, "origin", None) or record).at
        origin = Origin(id=id_ or change.id, at=at)
        if change.what == DATA:
            self._put_data(number, record, origin)
            return
        record.row = number
        if isinstance(record, RowStepRecord):
            record.rows = ()
        if isinstance(record, RowElsewhereRecord):
            put_record(journal, record)
            return
        record.origin, record.at = origin, journal.now()
        if isinstance(record, RowStatusRecord):
            if record.due is not None:  # the clock there may be ahead
                wait = min(max(record.due - at, timedelta(0)), timedelta(days=366))
                record.due = writable(min(record.due, record.at + wait))
            if change.id in self._counted:
                record.cost_cents = record.usage = None
            self._counted.add(change.id)
        journal.append(record)  # the other copy has checked the transition

    def _put_data(self, number: int, row: AnyRow, origin: Origin) -> None:
        keys, created_at = 1, row.at
        if isinstance(row, RowDataRecord):
            keys, created_at = row.key_count, row.created_at
        record = RowDataRecord(
            row=number,
            checksum=row.checksum,
            data=row.data,
            key=self._there.key_of(row),
            key_count=keys,
            place=self._here.row(number).place,  # where the row was first seen here
            created_at=writable(created_at),
            origin=origin,
            at=self._journal.now(),
        )
        self._journal.append(record)

    def _put_conflict(self, row: Row) -> None:
        """Put a row in review, and log the new records. Import steps that are done or in doubt."""
        steps = steps_that_count(row.new)
        is_lost = self._here.row(row.number).checksum == LOST_CHECKSUM
        text = self._both_text(row)
        for change in row.new:
            if change.step in steps or (change.what == DATA and is_lost):
                self._import(row.number, change)
            else:
                self._log(row, change)
        self._put_review_of_both(row, text)

    def _put_review_of_both(self, row: Row, text: str) -> None:
        """Put a row in review.

        If the row is completed in one of the copies, the row keeps this outcome.
        """
        here, there = self._here.status_record(row.number), self._there.status_record(row.theirs)
        for record in (here, there):
            if record and (record.status == "completed" or is_maybe_done_twice(record)):
                self._put_review(row, MAYBE_DONE_TWICE, text, record)
                return
        self._put_review(row, BOTH_COPIES, text)

    def _log(self, row: Row, change: Change) -> None:
        """Record a change of the other copy that isn't imported."""
        record = self._there.read(change)
        if not isinstance(record, RowElsewhereRecord):
            at = (getattr(record, "origin", None) or record).at
            fields = decode_json_exact(encode_json(record))
            if change.what == DATA:
                fields["key"] = self._there.key_of(record)
            elif change.what == CALL:
                fields["call"] = fields.pop("id")
            for name in ("type", "row", "rows", "origin", "created_at", "checksum", "at"):
                fields.pop(name, None)
            origin = Origin(id=change.id, at=at)
            record = RowElsewhereRecord(
                row=row.number, change=_writable(fields), origin=origin, at=UNSET_TIME
            )
        record.row = row.number
        put_record(self._journal, record)

    def _put_review(
        self, row: Row, code: str, text: str, done: RowStatusRecord | None = None
    ) -> None:
        record = RowStatusRecord(
            row=row.number,
            status="needs_review",
            error_code=code,
            error_message=text,
            by=A_MERGE.by,
            at=self._journal.now(),
        )
        if done is not None:
            record.tracking_number, record.label_path = done.tracking_number, done.label_path
            record.result = done.result
        self._journal.append(record)

    def _put_error(self) -> None:
        """If a repair of the other copy had losses, record the losses as the error of the job."""
        ours, theirs = self._journal.index.state, self._there.index.state
        assert ours is not None
        assert theirs is not None
        if theirs.repaired and not ours.repaired:
            message = "lines of another copy's journal were lost, and rows may be among them"
            record = JobErrorRecord(code=REPAIRED, message=message, by=A_MERGE.by, at=UNSET_TIME)
            put_record(self._journal, record)

    # --- texts of reviews (they contain no value of the row)

    def _in_flight_text(self, row: Row) -> str:
        text = "it was in flight on another copy: it is unknown whether the attempt took effect"
        doubts = [repr(c.step) for c in self._steps(self._there, row) if c.state == "started"]
        return f"{text}; step {', '.join(doubts)} began there" if doubts else text

    def _both_text(self, row: Row) -> str:
        here = status_text(self._here.status_record(row.number))
        there = status_text(self._there.status_record(row.theirs))
        steps = ""
        ours = {change.step: change for change in self._steps(self._here, row)}
        for theirs in self._steps(self._there, row):
            own = ours.get(theirs.step)
            if own and own.id != theirs.id and "failed" not in (own.state, theirs.state):
                states = state_text(self._here.read(own)), state_text(self._there.read(theirs))
                steps += f"step {own.step!r} here {states[0]}, there {states[1]}; "
        log = f"`journal log {self._journal.job_id} --row {row.number}`"
        return (
            f"both copies changed it since they diverged: here {here}; there {there}; "
            f"{steps}{log} shows both"
        )

    @staticmethod
    def _steps(side: Side, row: Row) -> list[Change]:
        """Return the records after the fork that decide the states of the steps."""
        changes = side.changes.get(row.number, ())
        return list(deciding_records(c for c in changes if c.what == STEP).values())


def _writable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return ``fields``. A note replaces data or a result that is too long or nested too deep."""
    try:
        fits = len(encode_value(fields, "change")) <= _MAX_DETAILS_BYTES
    except InvalidValueError:
        fits = False
    name = "data" if "data" in fields else "result"
    return fields if fits else {**fields, name: "left out here: too long, or nested too deep"}


# --- calls with many rows ---------------------------------------------------------------------


class CallImports:
    """Collects the rows that take a record about several rows. :meth:`write` appends the records."""

    def __init__(self, journal: Journal, here: Side, there: Side) -> None:
        self._journal, self._here, self._there = journal, here, there
        # For each record, identified by its offset there and its new id: a dict from row numbers
        # there to row numbers here.
        self._rows: dict[tuple[int, str], dict[int, int]] = {}

    def add(self, row: Row, change: Change, id_: str, later: Sequence[Change]) -> bool:
        """Let a row here take a change from there. Returns False if the row needs its own record.

        A row needs its own record of a step if a later change forgets the step, because
        records about several rows are written last.
        ``id_``: the id that the record gets here. ``later``: the later changes of the row.
        """
        forgets = any(other.reset == "redo" or other.state == "dropped" for other in later)
        if not change.is_of_rows or (change.what == STEP and forgets):
            return False
        self._rows.setdefault((change.offset, id_), {})[row.theirs] = row.number
        return True

    def write(self) -> None:
        """Append the records."""
        there, journal = self._there, self._journal
        distance = there.copy.header.numbers[1]
        for (offset, id_), rows in sorted(self._rows.items()):
            record = there.read(Change(id_, offset, STEP, ""))
            at = journal.now()
            record.origin = Origin(id=id_, at=(record.origin or record).at)
            if isinstance(record, CallRecord):
                self._set_call(record, rows)
            else:
                record.row, record.rows = 0, ranges_of(sorted(rows.values()), distance)
            record.at = at
            journal.append(record)

    def _set_call(self, record: CallRecord, rows: dict[int, int]) -> None:
        """Convert a record of a call there to a record of the call here.

        ``rows``: for the rows that take the record, a dict from numbers there to numbers here.
        """
        there, call = self._there, int(record.id, 16)
        began = there.read(Change("", there.index.calls[call].first, CALL, ""))
        order = there.numbers(there.index.rows_in(began.rows) or ())
        numbers = [rows[number] for number in order if number in rows]
        here = self._here.in_call(call)
        record.rows = ()
        if not set(numbers) <= set(here):
            record.rows = ranges_of(dict.fromkeys((*here, *numbers)), there.copy.header.numbers[1])
        if record.due is not None:  # the clock there may be ahead
            wait = timedelta(seconds=record.after_s or 0)
            record.due = writable(min(record.due, self._journal.now() + wait))
