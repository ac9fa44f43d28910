"""Writes a merge: adds the changes of a diverged copy to this copy, in one commit.

:mod:`journal.transfer.merge_plan` decides what becomes of each row, and which rows need a review.
"""

from __future__ import annotations

import msgspec

from journal.format.records import (
    A_MERGE,
    BOTH_COPIES,
    REPAIRED,
    UNSET_TIME,
    AnyRow,
    JobErrorRecord,
    LogRecord,
    Origin,
    RowDataRecord,
    RowElsewhereRecord,
    RowStatusRecord,
    RowStepRecord,
    encode_row,
    row_end,
    writable,
)
from journal.format.values import encode_value
from journal.index.index import NEEDS_REVIEW, PENDING, PROCESSING
from journal.model import JobStatus
from journal.store.journal import Journal
from journal.store.transitions import put_record, put_row_status
from journal.transfer.divergence import DATA, STEP, Change, key_of
from journal.transfer.merge_notes import (
    elsewhere_record,
    error_text,
    merge_record,
    review_text,
    tracking_number_there,
)
from journal.transfer.merge_plan import Plan


class Merged(msgspec.Struct, frozen=True):
    """The result of a merge. Rows are named by their numbers in this copy, and sorted.

    - ``other``: the name of the file with the other copy's journal.
    - ``applied``: rows that got changes of the other copy.
    - ``added``: rows that only the other copy had.
    - ``review``: rows that need a review after the merge.
    - ``both``: rows that both copies worked on, or to which both gave different data. These rows
      are also in ``review``.
    - ``twice``: rows that are completed here, although another copy worked on them or changed their
      data.
    - ``job_status``: the job's status in this copy. A merge doesn't change it.
    - ``their_job_status``: the job's status in the other copy.
    - ``left_open``: if the job has ended here, the number of rows that are still open, else 0.
    - ``renumbered``: a dict from the number in this copy to the number in the other copy, for the
      rows in ``added`` whose numbers differ.
    - ``data``: rows in ``both`` or ``twice`` whose data differs.
    - ``redone``: rows in ``both`` or ``twice`` that one copy has redone.
    - ``steps``: rows in ``both`` or ``twice`` with a step that both copies did or may have done.
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
    steps: list[int]


class MergeWriter:
    """Appends the records of a merge's plan to the open commit.

    ``other`` is the name of the file with the other copy's journal.
    """

    def __init__(self, journal: Journal, plan: Plan, other: str) -> None:
        self._journal, self._plan, self._other = journal, plan, other

    def write(self) -> Merged:
        plan, index = self._plan, self._journal.index
        put_record(self._journal, merge_record(plan, self._other))
        self._add_rows()
        for number, changes in plan.take.items():
            for change in changes:
                self._apply(number, change)
            if any(change.is_status and change.reset == "redo" for change in changes):
                self._restore_steps(number, changes)
            if number in plan.follow:  # the other copy's attempts used its present data
                self._put_data(number, plan.their_row(number), plan.their_data_id(number))
            self._put_alarms(number, changes)
        for number, changes in plan.conflicts.items():
            self._put_conflict(number, changes)
        for number in sorted(plan.reviews):
            self._put_review(number)
        self._put_costs()
        self._put_error()
        assert index.state is not None
        touched = (*plan.take, *plan.reviews)
        review = {number for number in touched if plan.our_code(number) == NEEDS_REVIEW}
        has_ended = index.state.status.is_ended
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
            steps=sorted(plan.steps),
        )

    def _add_rows(self) -> None:
        journal, plan = self._journal, self._plan
        at = journal.now()
        for number in plan.added:
            row = plan.made_row(number)
            data = encode_value(row.data, f"row {number}: data")
            made = plan.there.added[number]
            key = None if made.key == f"{journal.job_id}:{number}" else made.key
            line = encode_row(number, row.checksum, data, row_end(at), key)
            journal.index.add_row(number, journal.append_line(line, at, number))
        for number, theirs in plan.renumbered.items():
            message = f"row {theirs} of another copy of this job; it keeps its idempotency key"
            put_record(journal, LogRecord(message=message, row=number, at=UNSET_TIME))

    def _apply(self, number: int, change: Change) -> None:
        """Import one change of the other copy."""
        record = self._plan.read(change)
        if change.status == DATA:
            self._put_data(number, record, change.id)
        elif isinstance(record, RowElsewhereRecord):
            record.row = number
            put_record(self._journal, record)
        elif isinstance(record, RowStepRecord):
            self._put_step(number, change.id, record)
        else:
            assert isinstance(record, RowStatusRecord)
            if record.origin is None:
                record.origin = Origin(id=change.id, at=record.at)
            record.row, record.at = number, self._journal.now()
            if change.id in self._plan.counted:
                record.cost_cents = record.usage = None
            self._put(record)

    def _put_costs(self) -> None:
        """Record the costs of the other copy's attempts whose statuses are not imported."""
        for spent in self._plan.costs:
            spent.attempt = None  # of the other copy
            put_record(self._journal, spent)

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
            created_at=writable(made_at),
            origin=origin or Origin(id=id_, at=row.at),
            at=self._journal.now(),
        )
        self._journal.append(record)

    def _put_step(self, number: int, id_: str, record: RowStepRecord) -> None:
        position = self._journal.index.position_of(number)
        assert position is not None
        if record.origin is None:
            record.origin = Origin(id=id_, at=record.at)
        record.row, record.at = number, self._journal.now()
        self._journal.append(record)

    def _restore_steps(self, number: int, changes: list[Change]) -> None:
        """Restore the steps that an imported redo removed here, if the other copy still has them.

        The other copy has such a step if it redid the row, and later imported the step from here.
        """
        imported: set[str] = set()
        for change in changes:
            if change.is_status and change.reset == "redo":
                imported.clear()
            imported.add(change.id)
        for id_, record in self._plan.their_steps(number):
            if id_ not in imported:
                self._put_step(number, id_, record)

    def _put_conflict(self, number: int, changes: list[Change]) -> None:
        """Import the other copy's changes of a row's steps, and record its other changes.

        If the row is renumbered, the changes of its data are imported, too.
        """
        plan = self._plan
        is_alarm = number in plan.twice
        # If the row may have been done twice, a copy that later merges this copy needs an alarm.
        # Usually a log record of a status or of data is the alarm. If only steps have changed,
        # their changes are logged, too, as alarms.
        are_logged = is_alarm and all(change.status == STEP for change in changes)
        for change in changes:
            is_data = change.status == DATA and number in plan.renumbered
            if is_data or change.status == STEP:
                self._apply(number, change)
            if are_logged or not (is_data or change.status == STEP):
                self._log_change(number, change, is_alarm=is_alarm)

    def _put_alarms(self, number: int, changes: list[Change]) -> None:
        """Record alarms about a row that may have been done twice.

        Copies that merge this copy later read these alarms.
        """
        if number not in self._plan.twice:
            return
        logged = {change.id for change in changes if change.is_alarm}
        for alarm in self._plan.alarms(number):
            if alarm.id not in logged:
                record = self._plan.read(alarm)
                record.row = number
                put_record(self._journal, record)

    def _put_review(self, number: int) -> None:
        self._put(
            RowStatusRecord(
                row=number,
                status="needs_review",
                error_code=self._plan.reviews[number],
                error_message=review_text(self._plan, self._journal.job_id, number),
                tracking_number=tracking_number_there(self._plan, number),
                by=A_MERGE.by,
                at=self._journal.now(),
            )
        )

    def _log_change(self, number: int, change: Change, *, is_alarm: bool) -> None:
        """Record a change of the other copy that isn't imported."""
        record = self._plan.read(change)
        if not isinstance(record, RowElsewhereRecord):
            record = elsewhere_record(self._plan, change, record)
        record.row, record.alarm = number, is_alarm
        put_record(self._journal, record)

    def _put(self, record: RowStatusRecord) -> None:
        """Append a status without a check. The other copy has checked the transition."""
        position = self._journal.index.position_of(record.row)
        assert position is not None
        put_row_status(self._journal, position, record)

    def _put_error(self) -> None:
        """Set the job's error to name the rows that may have been done twice, if there are any.

        The error also names the rows of earlier merges. If a repair of the other copy had losses,
        rows may be missing here, too. In this case, an error that says so is written first.
        """
        state, job = self._journal.index.state, self._journal.job_id
        if self._plan.their_state.repaired and state is not None and not state.repaired:
            message = "lines of another copy's journal were lost, and rows may be among them"
            record = JobErrorRecord(code=REPAIRED, message=message, by=A_MERGE.by, at=UNSET_TIME)
            put_record(self._journal, record)
        if not self._plan.twice:
            return
        error = None if state is None else state.error
        earlier = error.message if error and error.by and error.code == BOTH_COPIES else ""
        message = error_text(self._plan.twice, job, self._other, earlier)
        record = JobErrorRecord(code=BOTH_COPIES, message=message, by=A_MERGE.by, at=UNSET_TIME)
        put_record(self._journal, record)
