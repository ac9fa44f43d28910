"""Finds the changes of rows that a copy of a job made since it diverged from another copy.

Each change of a row has an id. A copy that imports the change keeps this id. To find the changes
that only one of two copies has, this module compares the ids of the changes of each row. This works
even if a copy got a change through a third copy.
"""

from __future__ import annotations

from collections.abc import Container
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import msgspec

from journal.format.commits import Position
from journal.format.decode import decode_record
from journal.format.extent import records_between, seal_after
from journal.format.records import (
    A_MERGE,
    A_POLICY,
    LOST_CHECKSUM,
    AnyRow,
    ExtensionRecord,
    JobRecord,
    MergeRecord,
    Record,
    RowDataRecord,
    RowElsewhereRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
    RunRecord,
)
from journal.format.seal import crc_digits, digits_in, is_sealed, unsealed
from journal.format.values import canonical_json
from journal.model import StepState
from journal.transfer.copies import Copy

IN_FLIGHT = "in_flight_elsewhere"  # error code of a row
RENUMBERED = "renumbered"  # error code of a row
DATA = "row_data"
STEP = "row_step"
ELSEWHERE = "row_elsewhere"

_WORK = frozenset(("processing", "completed", "failed", "skipped"))


ChangeRecord = RowStatusRecord | RowDataRecord | RowStepRecord | RowElsewhereRecord


class Change(NamedTuple):
    """One change of a row, made by the record at ``offset``.

    - ``status``: the row's new status, or one of three marks. DATA stands for a change of the row's
      data, STEP for a state of a step, and ELSEWHERE for a record about a change in a third copy.
    - ``is_work``: True if the row's side effect may have happened, or somebody has settled the
      row.
    - ``is_doubt``: True if a person or a handler asked for a review. Reviews because of a merge or
      a policy don't count, since they add no information about the attempt.
    - ``is_alarm``: True for a record about a third copy's work on a row that is completed in this
      copy.
    - ``reset``: "retry" or "redo" if a person decided to do the row again.
    - ``is_renumbering``: True for a review whose only reason is that the row got a new number in
      this copy.
    - ``is_data_of_merge``: True for data that a merge imported from another copy.
    - ``step``, ``state``: the name and the state of a step, or "".
    - ``cost``: the cost of the attempt that ended with this status.
    """

    id: str
    offset: int
    status: str
    is_work: bool = False
    is_doubt: bool = False
    is_alarm: bool = False
    reset: str | None = None
    is_renumbering: bool = False
    is_data_of_merge: bool = False
    step: str = ""
    state: StepState | Literal[""] = ""
    cost: RowSpentRecord | None = None

    @property
    def matters(self) -> bool:
        return self.is_work or self.is_doubt

    @property
    def is_status(self) -> bool:
        return self.status not in (ELSEWHERE, DATA, STEP)

    @property
    def is_of_status(self) -> bool:
        """Whether this is a change of status, or the report of a change in a third copy."""
        return self.status not in (DATA, STEP)


class Added(NamedTuple):
    """A row that the record at ``offset`` added.

    ``is_lost`` is True if damage has destroyed the row's data and key. In this case, ``key`` is an
    artificial key, which only copies of this row have.
    """

    offset: int
    key: str
    is_lost: bool


class RowChanges:
    """The changes of rows since ``begin``, in order, and the rows that were added since ``begin``.

    The addition of a row counts as a change of the row's data, unless damage has destroyed the
    data.

    - ``merges``: for each merge, the position up to which the other copy was merged.
    - ``spent``: a dict that maps the id of each change with a cost to this cost.
    - ``extensions``: how many records of extensions there are. A merge doesn't import them.
    - ``news_at``: the offset of the last record that neither a merge, the start of a run nor an extension
      wrote.

    With ``rows``, only the changes of these rows are collected. All changes are in memory. Raises
    JournalDamagedError, FormatVersionError, StorageError.
    """

    def __init__(self, copy: Copy, begin: Position, rows: Container[int] | None = None) -> None:
        self.added: dict[int, Added] = {}
        self.merges: list[Position] = []
        self.spent: dict[str, RowSpentRecord] = {}
        self._spent_elsewhere: set[int] = set()
        self.extensions = 0
        self.news_at = -1
        self._of: dict[int, list[Change]] = {}
        # The state of the commit that is being read: the changes whose ids need the commit's seal,
        # the rows whose keys need the seal, and whether a merge wrote the commit.
        waiting: list[tuple[int, Change]] = []
        lost: list[int] = []
        is_of_merge = False
        for offset, line, record in records_between(copy.file, begin, copy.end):
            if isinstance(record, RowRecord):
                if rows is None or record.row in rows:
                    is_lost = record.checksum == LOST_CHECKSUM
                    has_no_key = is_lost and record.key is None
                    self.added[record.row] = Added(offset, key_of(record, copy.header), has_no_key)
                    if has_no_key:
                        lost.append(record.row)
                    elif not is_lost:
                        first = Change(content_id(record, copy.header), offset, DATA)
                        waiting.append((record.row, first))
            elif isinstance(record, ChangeRecord):
                waiting.append((record.row, _change_of(record, offset, line)))
            elif isinstance(record, RowSpentRecord):
                if rows is None or record.row in rows:
                    self.spent[record.id] = record
                    self._spent_elsewhere.add(record.row)
            elif isinstance(record, MergeRecord):
                self.merges.append(Position(record.offset, int(record.seal, 16)))
                is_of_merge = True
            elif isinstance(record, ExtensionRecord):
                self.extensions += 1
            if not is_of_merge and _is_news(record):
                self.news_at = offset
            if is_sealed(line):
                is_of_merge = False
                seal = digits_in(line).decode()
                for row, change in waiting:
                    if rows is not None and row not in rows:
                        continue
                    id_ = change.id if len(change.id) > len(seal) else seal + change.id
                    self._add(row, change._replace(id=id_))
                waiting.clear()
                for row in lost:
                    made = self.added[row]
                    self.added[row] = made._replace(key=f"{made.key}.{seal}")
                lost.clear()

    def _add(self, row: int, change: Change) -> None:
        self._of.setdefault(row, []).append(change)
        if change.cost:
            self.spent[change.id] = msgspec.structs.replace(change.cost, id=change.id)

    def renumber(self, numbers: dict[int, int]) -> None:
        """Change the numbers of the added rows. ``numbers``: a dict from old number to new."""
        self.added = {numbers[row]: made for row, made in self.added.items()}
        self._of = {numbers.get(row, row): changes for row, changes in self._of.items()}
        for spent in self.spent.values():
            spent.row = numbers.get(spent.row, spent.row)

    def change(self, row: int, id_: str) -> Change | None:
        """Return the row's change of status with this id, or None if this copy doesn't have it."""
        changes = (c for c in self._of.get(row, ()) if c.id == id_ and c.is_status)
        return next(changes, None)

    def attempts(self, row: int) -> set[str]:
        """Return the ids of the changes that began the row's attempts."""
        return {change.id for change in self._of.get(row, ()) if change.status == "processing"}

    def is_settled_by_hand(self, row: int) -> bool:
        """Return whether somebody completed the row after a review, and nothing happened later."""
        statuses = [change.status for change in self._of.get(row, ()) if change.is_of_status]
        return statuses[-2:] == ["needs_review", "completed"]

    def data_of(self, row: int) -> list[Change]:
        """Return the row's changes of data."""
        return [change for change in self._of.get(row, ()) if change.status == DATA]

    def rows(self) -> list[int]:
        """Return the numbers of the changed rows, ascending."""
        return sorted(self._of)

    def rows_of_before(self) -> set[int]:
        """Return the rows for which a merge may have recorded changes from before ``begin``.

        The merge itself came after ``begin``. A merge records such changes as log messages or as
        imported records.
        """
        return self._spent_elsewhere | {
            row
            for row, changes in self._of.items()
            if any(change.status == ELSEWHERE or change.is_data_of_merge for change in changes)
        }

    def unknown_to(self, other: RowChanges, row: int, shared: RowChanges) -> list[Change]:
        """Return the changes of a row that are neither in ``other`` nor in ``shared``.

        ``shared`` has the changes of the common part. Changes without effect are left out:

        - a change of status without ``is_work`` and ``is_doubt`` (see :class:`Change`), if both
          copies have the same later change of the row's status.
        - a change of data, if both copies have the same later change of the row's data.
        - a failure of a step, or a start of a step that failed later, if both copies have the same
          later change of the step.
        """
        known = {change.id for change in (*other._of.get(row, ()), *shared._of.get(row, ()))}
        changes, unknown = self._of.get(row, []), list[Change]()
        # Key True: whether both copies know a later change of the data. Key False: whether both
        # copies know a later change of the status.
        is_settled = {True: False, False: False}
        steps = _LaterSteps()
        for change in reversed(changes):
            is_data = change.status == DATA
            if change.status == STEP:
                if steps.precede(change, is_known=change.id in known):
                    unknown.append(change)
                continue
            if change.is_status and change.reset == "redo":
                steps = _LaterSteps()
            if change.id in known:
                is_settled[is_data] = is_settled[is_data] or change.status != ELSEWHERE
            elif change.matters or not is_settled[is_data]:
                unknown.append(change)
        return unknown[::-1]

    def end_with(self, row: int, changes: list[Change]) -> bool:
        """Return whether ``changes`` include the row's last change of status.

        If ``changes`` include no change of status, returns True.
        """
        last = [c for c in changes if c.is_status][-1:]
        return not last or last == [c for c in self._of[row] if c.is_status][-1:]

    def alarms(self, row: int, other: RowChanges) -> list[Change]:
        """Return the alarms about the row that aren't in ``other``."""
        known = {change.id for change in other._of.get(row, ()) if change.is_alarm}
        return [c for c in self._of.get(row, ()) if c.is_alarm and c.id not in known]


class _LaterSteps:
    """The states of a row's steps in later records, while the row's changes are read backwards."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._known: set[str] = set()  # steps of which both copies know a later record
        self._undone: set[str] = set()  # steps of which a later record says "not done"

    def precede(self, change: Change, *, is_known: bool) -> bool:
        """Go back to ``change``. Return whether the change has an effect that only this copy knows.

        A copy may have the same record twice: see ``MergeWriter``.
        """
        step, state, is_new = change.step, change.state, change.id not in self._ids
        has_effect = state == "done" or (state == "started" and step not in self._undone)
        if state == "failed":
            self._undone.add(step)
        self._ids.add(change.id)
        if is_known:
            self._known.add(step)
            return False
        return is_new and (has_effect or step not in self._known)


def _id_of(record: RowStatusRecord | RowDataRecord | RowStepRecord, line: bytes) -> str:
    """Return the whole id of an imported change, or half of the id of a change made in this copy.

    The whole id of a change consists of two halves: the CRC-32 (seal) of the change's commit, and a
    digest of the change's line. Two independent changes get the same id with a probability of 1 in
    2^64. The record of an imported change contains the whole id, and this function returns it. For
    other changes, this function returns the digest.
    """
    if record.origin is not None:
        return record.origin.id
    body = unsealed(line) if is_sealed(line) else line
    return sha256(body).hexdigest()[:8]


def change_id(copy: Copy, offset: int) -> str:
    """Return the id of the change that the record at ``offset`` made to data or to a step."""
    line = copy.file.read_line(offset)
    record = decode_record(line)
    if isinstance(record, RowRecord):
        return content_id(record, copy.header)
    assert isinstance(record, (RowDataRecord, RowStepRecord))
    id_ = _id_of(record, line)
    if record.origin is not None:
        return id_
    seal = seal_after(copy.file, offset, copy.end.offset)
    assert seal is not None
    return crc_digits(seal.crc) + id_


def key_of(row: AnyRow, header: JobRecord) -> str:
    """Return the idempotency key of a row.

    The key is the same in all copies, even if the row's number differs.
    """
    return row.key or f"{header.id}:{row.row}"


def content_of(row: AnyRow, header: JobRecord) -> bytes:
    """Encode a row's data and key as JSON, for comparisons in which 1, 1.0 and true differ."""
    return canonical_json((row.data, key_of(row, header)))


def content_id(row: AnyRow, header: JobRecord) -> str:
    """Return the id of the change that added the row. The id is the same in all copies."""
    return sha256(content_of(row, header)).hexdigest()[:16]


def _change_of(record: ChangeRecord, offset: int, line: bytes) -> Change:
    if isinstance(record, RowElsewhereRecord):
        found = record.change
        is_work, is_doubt = _weigh(found.get("status"), found.get("by"))
        is_doubt = is_doubt or "data" in found  # nobody knows which data is right
        flags = is_work, is_doubt, record.alarm
        reset = found.get("reset")
        reset = None if reset == "given_back" else reset
        return Change(record.origin.id, offset, ELSEWHERE, *flags, reset=reset)
    id_ = _id_of(record, line)
    if isinstance(record, RowDataRecord):
        return Change(id_, offset, DATA, is_data_of_merge=record.origin is not None)
    if isinstance(record, RowStepRecord):
        return Change(id_, offset, STEP, step=record.step, state=record.state)
    return Change(
        id_,
        offset,
        record.status,
        *_weigh(record.status, record.by),
        reset=record.decision,
        cost=_cost_of(record),
        is_renumbering=record.by == A_MERGE.by and record.error_code == RENUMBERED,
    )


def _cost_of(record: RowStatusRecord) -> RowSpentRecord | None:
    cost_cents, usage = record.cost_cents, record.usage
    if (cost_cents is None and usage is None) or record.status == "processing":
        return None
    return RowSpentRecord(row=record.row, id="", cost_cents=cost_cents, usage=usage, at=record.at)


def _weigh(status: Any, by: Any) -> tuple[bool, bool]:
    """Return the flags ``is_work`` and ``is_doubt`` of a status: see :class:`Change`.

    Both flags are False if a merge or a policy has set the status to failed or review. Such a
    status adds no information about the attempt.
    """
    if by in (A_POLICY.by, A_MERGE.by):
        return status in _WORK - {"failed"}, False
    return status in _WORK, status == "needs_review"


def _is_news(record: Record) -> bool:
    return not isinstance(record, (RowElsewhereRecord, RunRecord, ExtensionRecord))
