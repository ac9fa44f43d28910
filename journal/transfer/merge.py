"""Two copies of a job that both went on, made one: what only the other did is taken over.

What is new there is found row by row (see ``parted.py``). What became of a row, by what it was here:

=====================================  ==================================================================
only the other has changed it          its changes, in their order, with their times: outcomes, retries,
                                       redos and data; if it is in flight there, it needs a review here
the other has only put it back, and    nothing: what is to be tried again there is not tried here, too
nobody has said retry or redo
in flight or put back when they        that outcome; a status that a policy gave it is none, and
parted, and only one of them knows     stays where it is if neither knows
how that ended
both have retried or redone it         it stays pending; an outcome that only one of them has is taken
both worked on it                      it needs a review, and what the other did stands in its log
completed here, and the other worked   it stays completed; the job's error names it, and what the other
on it, or redid it not knowing so      did stands in its log
completed here, and the other redid    the redo, and what came of it
it, knowing so
completed by the other, which knows    it is completed here too, and the job's error names it
that it was worked on here
a third copy worked on it, says the    as if the other had
other
both completed it with one tracking    nothing: it is one and the same work; whoever gives out tracking
number                                 numbers gives none twice
both skipped it, and at most one of    what that one did is known here; it stays skipped
them had tried it before
both changed its data, or one did      it needs a review, or is named in the job's error if it is
and the other worked on it             completed here; it keeps our data, and theirs stands in its log
both changed its data alike            nothing
both added it: rows of one             one row, under our number; if their data differs, as if both had
idempotency key                        changed it
added by the other                     it is added; if its number is taken here, under another one and
                                       with its old key; if it was worked on there, too, it needs a review
added by both under one number, and    both are kept, as that; they may be one row, so each needs a review,
damage took the data of one            unless ours is done here
a review for its other number, which   nothing, unless their tracking numbers differ: then as if both had
one completed, and it is completed     completed it
here
=====================================  ==================================================================

Nothing is taken over, or complained of, a second time: not if the same is pulled again, nor if it is
pulled back or comes through a third copy. If each of two copies has merged the other, both hold the same,
but for the numbers of rows that were added; for rows completed on one that wait for a person on the other
or were settled otherwise there; for rows that wait for a person on both, with the data of each; those that
one only put back; and those whose outcome nobody knows and each has settled by its policy.

The job's own status stays what it is. A mark of an older version that the unfinished rows went on in a
retry job is kept.
"""

from __future__ import annotations

import msgspec

from journal.format.idempotency import AnyRow
from journal.format.records import (
    BOTH_COPIES,
    ELSEWHERE,
    REPAIRED,
    UNSET_TIME,
    JobErrorRecord,
    LogRecord,
    Origin,
    RowDataRecord,
    RowStatusRecord,
    encode_row,
    row_end,
)
from journal.format.values import encode_value
from journal.index.index import CODES, COMPLETED, FAILED, NEEDS_REVIEW, PENDING, PROCESSING
from journal.model import TERMINAL_STATUSES, JobStatus
from journal.store.journal import Journal
from journal.store.transitions import put_job_record, put_log, put_row_status
from journal.transfer.divergence import DATA, IN_FLIGHT, RENUMBERED, Change, key_of
from journal.transfer.merge_notes import (
    doubt_text,
    error_text,
    merge_record,
    review_text,
    told_elsewhere,
)
from journal.transfer.merge_plan import Plan


class Merged(msgspec.Struct, frozen=True):
    """Numbers of rows, ascending.

    ``took_over``: the other's changes are ours now. ``added``: rows that only the other had; of
    these ``renumbered`` have another number there: it by ours. ``review``: rows that need a review
    by the merge; of these ``both`` were worked on, or given other data, by both copies. ``twice``:
    completed here, and worked on, or given other data, by another copy too. Of both and twice
    ``data`` are those that differ in their data, ``redone`` those that one of the copies has redone.
    ``other``: the name of the file that holds the other's history. ``job_status`` is ours,
    ``their_job_status`` the other's, which stays what it is; ``left_open`` counts the open rows if
    ours is one that has ended.
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
    renumbered: dict[int, int]
    data: list[int]
    redone: list[int]


def write_merge(journal: Journal, plan: Plan, other: str) -> Merged:
    """Append all of a plan to the commit under way; ``other`` is the file that keeps their history."""
    return _Merge(journal, plan, other).write()


class _Merge:
    def __init__(self, journal: Journal, plan: Plan, other: str) -> None:
        self._journal, self._plan, self._other = journal, plan, other
        self._doubtful: list[
            int
        ] = []  # rows of ours that need a review for a doubtful one of theirs

    def write(self) -> Merged:
        plan, index = self._plan, self._journal.index
        put_log(self._journal, merge_record(plan, self._other))
        self._add_rows()
        for number, changes in plan.take.items():
            for change in changes:
                self._take(number, change)
            if number in plan.follow:  # by which that was done
                self._put_data(number, plan.their_row(number), plan.their_data_id(number))
            self._settle(number, changes)
        for number, changes in plan.conflicts.items():
            self._put_conflict(number, changes)
        self._put_doubtful()
        for mark in plan.marks:
            put_log(self._journal, mark)
        self._put_error()
        assert index.state is not None
        touched = (*plan.take, *plan.conflicts, *self._doubtful)
        review = {number for number in touched if plan.our_code(number) == NEEDS_REVIEW}
        ended = index.state.status in TERMINAL_STATUSES
        status_counts = index.status_counts
        return Merged(
            other=self._other,
            took_over=sorted(plan.take.keys() - review),
            added=plan.added,
            review=sorted(review),
            both=sorted(plan.both),
            twice=sorted(plan.twice),
            job_status=index.state.status,
            their_job_status=plan.their_state.status,
            left_open=status_counts[CODES["pending"]] + status_counts[CODES["processing"]]
            if ended
            else 0,
            renumbered=plan.renumbered,
            data=sorted(plan.data),
            redone=sorted(plan.redone),
        )

    def _add_rows(self) -> None:
        journal, plan = self._journal, self._plan
        if plan.added:
            journal.index.begin_rows()
        at = journal.now()
        for number in plan.added:
            row = plan.made_row(number)
            data = encode_value(row.data, f"row {number}: data")
            made = plan.there.added[number]
            is_known_by_key = number in plan.renumbered or made.is_lost
            end = row_end(at, made.key) if is_known_by_key else row_end(at, row.key, row.nonce)
            line = encode_row(number, row.checksum, data, end)
            journal.index.add_row(number, journal.append_line(line, at, number))
        for number, theirs in plan.renumbered.items():
            message = f"it is row {theirs} of another copy of this job; its idempotency key stays"
            put_log(journal, LogRecord(message=message, row=number, at=UNSET_TIME))

    def _take(self, number: int, change: Change) -> None:
        """Make one change of theirs ours."""
        record = self._plan.read(change)
        if change.status == DATA:
            self._put_data(number, record, change.id)
        elif isinstance(record, LogRecord):
            record.row = number
            put_log(self._journal, record)
        else:
            assert isinstance(record, RowStatusRecord)
            if record.origin is None:
                record.origin = Origin(id=change.id, at=record.at)
            record.row, record.at = number, self._journal.now()
            self._put(record)

    def _put_data(self, number: int, row: AnyRow, id_: str) -> None:
        index = self._journal.index
        position = index.position_of(number)
        assert position is not None
        if isinstance(row, RowDataRecord):
            keys, made_at, origin = row.keys, row.created_at, row.origin
        else:
            keys, made_at, origin = 1, row.at, None
        record = RowDataRecord(
            row=number,
            checksum=row.checksum,
            data=row.data,
            key=key_of(row, self._plan.theirs.header),
            keys=keys,
            created_at=made_at,
            origin=origin or Origin(id=id_, at=row.at),
            at=self._journal.now(),
        )
        index.set_row_data(position, self._journal.append(record))

    def _put_conflict(self, number: int, changes: list[Change]) -> None:
        """Tell what they did with a row, and leave it to a person."""
        plan = self._plan
        is_moved = number in plan.renumbered
        words = review_text(self._plan, self._journal.job_id, number, changes)
        for change in changes:
            if is_moved and change.status == DATA:
                self._take(number, change)
            else:
                self._tell(number, change, "ERROR" if number in plan.twice else "WARNING")
        if number in plan.both or is_moved:
            self._to_review(number, RENUMBERED if is_moved else BOTH_COPIES, words)

    def _settle(self, number: int, changes: list[Change]) -> None:
        """What the changes that were taken over leave to be seen by a person."""
        if number in self._plan.twice:
            told = {change.id for change in changes if change.is_alarm}
            for alarm in self._plan.alarms(number):
                if alarm.id not in told:  # about what was done here: for whoever merges this
                    record = self._plan.read(alarm)
                    record.message = "on one copy of this job, while another completed it"
                    record.row = number
                    put_log(self._journal, record)
        code = self._plan.our_code(number)
        if code == COMPLETED:
            return
        last = [change.status for change in changes if change.status != DATA][-1:]
        is_worth_a_look = any(change.matters for change in changes)
        if last == ["processing"]:
            message = "it was in flight on another copy: whether it took effect is unknown"
            self._to_review(number, IN_FLIGHT, message)
        elif last == [ELSEWHERE] and code != NEEDS_REVIEW and is_worth_a_look:
            self._to_review(
                number,
                BOTH_COPIES,
                review_text(self._plan, self._journal.job_id, number, changes),
            )

    def _put_doubtful(self) -> None:
        """Hold back what could be tried again here, and may be what was done as a doubtful row."""
        plan, job = self._plan, self._journal.job_id
        for theirs in sorted(plan.doubtful):
            number = plan.renumbered[theirs]
            if plan.our_code(number) in (PENDING, PROCESSING, FAILED):
                self._to_review(number, BOTH_COPIES, doubt_text(job, theirs))
                self._doubtful.append(number)

    def _tell(self, number: int, change: Change, level: str) -> None:
        """Log a change of theirs that can't become one of ours."""
        plan = self._plan
        record = plan.read(change)
        if isinstance(record, LogRecord):
            message, details = record.message, record.details
        else:
            message, details = (
                "on another copy of this job",
                {ELSEWHERE: told_elsewhere(plan, change, record)},
            )
        told = LogRecord(message=message, level=level, row=number, details=details, at=UNSET_TIME)
        put_log(self._journal, told)

    def _to_review(self, number: int, code: str, message: str) -> None:
        self._put(
            RowStatusRecord(
                row=number,
                status="needs_review",
                error_code=code,
                error_message=message,
                at=self._journal.now(),
            )
        )

    def _put(self, record: RowStatusRecord) -> None:
        """As history has it: which moves are allowed is a question to those who make them."""
        position = self._journal.index.position_of(record.row)
        assert position is not None
        put_row_status(self._journal, position, record)

    def _put_error(self) -> None:
        """Name the rows that may be done twice in the job's error, beside those of earlier merges.

        What a repair has lost there is lost here, too: such rows may be done.
        """
        state, job = self._journal.index.state, self._journal.job_id
        if self._plan.their_state.repaired and state is not None and not state.repaired:
            message = "lines of another copy's journal were lost, and rows may be among them"
            at = self._journal.now()
            put_job_record(self._journal, JobErrorRecord(code=REPAIRED, message=message, at=at))
        if not self._plan.twice:
            return
        error = None if state is None else state.error
        earlier = error[1] if error is not None and error[0] == BOTH_COPIES else ""
        message = error_text(self._plan.twice, job, self._other, earlier)
        record = JobErrorRecord(code=BOTH_COPIES, message=message, at=self._journal.now())
        put_job_record(self._journal, record)
