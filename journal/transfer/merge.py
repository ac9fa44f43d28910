"""Merges: two copies of a job that both went on are made one, in one commit.

What only the other copy did is imported, row by row (see ``divergence.py``). ``merge_plan.py``
applies these rules:

- Only the other copy changed the row: its changes are imported in their order, with their times:
  outcomes, retries, redos and data. If the row is in flight there, it needs a review here.
- The other copy only put it back, and nobody decided a retry or redo: nothing changes. What is
  tried again there is not tried here, too.
- It was in flight or put back at the fork, and only one copy knows its outcome: that outcome
  stands. A status that a policy gave it is no such knowledge; if neither copy has any, ours stands.
- Both retried or redid it: it stays pending, but for an outcome that only one copy has.
- Both worked on it: it needs a review, and the other copy's work is logged. There are two
  exceptions. Completed with the same tracking number, it is the same work, as these are unique.
  Skipped by both, with at most one copy having tried it before, it stays skipped.
- It is completed here, and the other copy worked on it, or redid it without knowing so: it stays
  completed. The job's error names it, and the other copy's work is logged.
- It is completed here, and the other copy redid it knowing so: the redo is imported, with what
  came of it.
- The other copy completed it, and knows that it was worked on here: it is completed here, too, and
  the job's error names it.
- The other copy reports the work of a third copy: this counts as its own.
- Both changed its data, or one did and the other worked on it: it keeps our data, theirs is logged,
  and it needs a review. If it is completed here, the job's error names it instead. Equal data is
  no change.
- Both added it, by its idempotency key: it is one row with our number. If the data differs, both
  changed it.
- Only the other copy added it: it is added. If its number is taken, it gets a new one and keeps its
  key. If it was also worked on there, it needs a review.
- Both added a row with the same number, and damage took the data of one: both are kept, as they
  may be one row. Each needs a review, unless ours is done.
- One copy completed the review of a renumbered row, and it is completed here: nothing changes,
  unless the tracking numbers differ. Then both worked on it.

Nothing is imported or reported twice: not if the same copy is pulled again, nor if it is pulled
back, nor if it comes through a third copy. After A has merged B and B has merged A, they agree on
every row except these:

- added rows may have different numbers;
- rows completed on one copy may need a review on the other, or may have been settled differently;
- rows that need a review on both keep each copy's own data;
- rows that only one copy put back stay as they are on the other;
- rows whose outcome nobody knows are settled by each copy's own policy.

The job's own status doesn't change. Records of an older version that unfinished rows went on in a
retry job are imported.
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
from journal.index.index import COMPLETED, FAILED, NEEDS_REVIEW, PENDING, PROCESSING
from journal.model import TERMINAL_STATUSES, JobStatus
from journal.store.journal import Journal
from journal.store.transitions import put_job_record, put_log, put_row_status
from journal.transfer.divergence import DATA, IN_FLIGHT, RENUMBERED, Change, key_of
from journal.transfer.merge_notes import (
    doubt_text,
    error_text,
    log_details,
    merge_record,
    review_text,
)
from journal.transfer.merge_plan import Plan


class Merged(msgspec.Struct, frozen=True):
    """What a merge did. Rows are given by their numbers here, ascending.

    - ``other``: the name of the file that holds the other copy's history.
    - ``applied``: rows that got the other copy's changes.
    - ``added``: rows that only the other copy had.
    - ``review``: rows that need a review because of the merge.
    - ``both``: of these, rows that both copies worked on or gave other data.
    - ``twice``: rows completed here that another copy also worked on or gave other data.
    - ``job_status`` and ``their_job_status``: those of the two copies; ours didn't change.
    - ``left_open``: how many rows are open, if our job has ended.
    - ``renumbered``: of the added rows, those with another number there, which it maps to.
    - ``data``: of both and twice, rows whose data differs.
    - ``redone``: of both and twice, rows that one copy has redone.
    """

    other: str
    applied: list[int]
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


class MergeWriter:
    """Appends all of a plan to the commit under way.

    ``other`` is the name of the file that keeps the other copy's history.
    """

    def __init__(self, journal: Journal, plan: Plan, other: str) -> None:
        self._journal, self._plan, self._other = journal, plan, other
        self._doubtful: list[
            int
        ] = []  # rows that need a review because of a doubtful one of theirs

    def write(self) -> Merged:
        plan, index = self._plan, self._journal.index
        put_log(self._journal, merge_record(plan, self._other))
        self._add_rows()
        for number, changes in plan.take.items():
            for change in changes:
                self._apply(number, change)
            if number in plan.follow:  # the data by which the work was done
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
        has_ended = index.state.status in TERMINAL_STATUSES
        counts = index.status_counts
        open_count = counts[PENDING] + counts[PROCESSING]
        return Merged(
            other=self._other,
            applied=sorted(plan.take.keys() - review),
            added=plan.added,
            review=sorted(review),
            both=sorted(plan.both),
            twice=sorted(plan.twice),
            job_status=index.state.status,
            their_job_status=plan.their_state.status,
            left_open=open_count if has_ended else 0,
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
            message = f"row {theirs} of another copy of this job; its idempotency key stays"
            put_log(journal, LogRecord(message=message, row=number, at=UNSET_TIME))

    def _apply(self, number: int, change: Change) -> None:
        """Import one change of theirs."""
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
        """Log what they did with a row, and leave it to a person."""
        plan = self._plan
        is_moved = number in plan.renumbered
        text = review_text(self._plan, self._journal.job_id, number, changes)
        for change in changes:
            if is_moved and change.status == DATA:
                self._apply(number, change)
            else:
                self._log_change(number, change, "ERROR" if number in plan.twice else "WARNING")
        if number in plan.both or is_moved:
            self._to_review(number, RENUMBERED if is_moved else BOTH_COPIES, text)

    def _settle(self, number: int, changes: list[Change]) -> None:
        """Log alarms about the row, and put it in review if imported changes ask for one."""
        if number in self._plan.twice:
            logged = {change.id for change in changes if change.is_alarm}
            for alarm in self._plan.alarms(number):
                if alarm.id not in logged:  # about our work: copies that merge ours must know
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
            text = review_text(self._plan, self._journal.job_id, number, changes)
            self._to_review(number, BOTH_COPIES, text)

    def _put_doubtful(self) -> None:
        """Put rows in review that could be tried here, and may have been done as a doubtful row."""
        plan, job = self._plan, self._journal.job_id
        for theirs in sorted(plan.doubtful):
            number = plan.renumbered[theirs]
            if plan.our_code(number) in (PENDING, PROCESSING, FAILED):
                self._to_review(number, BOTH_COPIES, doubt_text(job, theirs))
                self._doubtful.append(number)

    def _log_change(self, number: int, change: Change, level: str) -> None:
        """Log a change of theirs that isn't imported."""
        plan = self._plan
        record = plan.read(change)
        if not isinstance(record, LogRecord):
            details = {ELSEWHERE: log_details(plan, change, record)}
            message = "on another copy of this job"
            record = LogRecord(message=message, details=details, at=UNSET_TIME)
        record.row, record.level = number, level
        put_log(self._journal, record)

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
        """Append a status without checking the transition: it was checked where it was made."""
        position = self._journal.index.position_of(record.row)
        assert position is not None
        put_row_status(self._journal, position, record)

    def _put_error(self) -> None:
        """Name rows in the job's error that may have been done twice, with those of earlier merges.

        If a repair lost lines of theirs, they are lost here, too, and rows may have been done.
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
