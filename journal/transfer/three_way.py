"""Judges each row of two diverged copies by three sets of records: common, new, and mine.

**Here** is the copy that imports changes, **there** is the other copy. Each record of a row has an
id, which the record keeps when a merge copies the record (see :func:`record_id`). A copy knows all
records that it has, even if they are only logged. Both copies know the common records. Only the
copy there knows the *new* records. Only the copy here knows the records that are *mine*.

- *Work*: an attempt, an outcome, a skip or a requested review; a wait, because the attempt has
  handed the row to somebody; new data; a step that was begun or done; logged work of a third copy;
  and a record that a run wrote about the row's call with many rows.
- *Decision*: a retry, a redo, a row put back to pending, a step that was "not done". A decision
  counts if it is later than the last status or data that both copies know.
- A status that a policy or a merge has set is neither work nor a decision.

Two rows that were added in both copies are the same row if their idempotency keys are equal. If
damage has destroyed the data of one of the two, they are the same row if their numbers are equal.

The first matching sentence decides about a row (:func:`judge`):

1. No work or decision there: keep. But if nothing is mine, take a review from there.
2. No work or decision here: take all new records, then the data and (after a redo) the steps as
   they are there. The row needs a review if it is in flight there, or if a third copy's work is
   only logged there.
3. Both did the same without an attempt, a step or a redo: keep.
4. Only a decision there: keep. Only a decision here: take.
5. Otherwise the row needs a review, even if it is completed here. The new records are logged, and
   the steps that are done or in doubt there are imported.

There are two exceptions to sentences 2 and 4. (a) "Pending" there never replaces a review here that
the copy there doesn't know. Without work there, the row is kept. With work there, sentence 5
applies. (b) If damage has destroyed the data of a row, so that only its number is known, sentence 5
applies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from itertools import chain
from typing import Any, Literal, NamedTuple

import msgspec

from journal.errors import InvalidValueError, RefusedError
from journal.format.commits import Position, records_between
from journal.format.decode import decode_record
from journal.format.records import (
    A_MERGE,
    A_POLICY,
    LOST_CHECKSUM,
    AnyRow,
    CallRecord,
    ExtensionRecord,
    InputRecord,
    MergeRecord,
    RowDataRecord,
    RowElsewhereRecord,
    RowRecord,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
    RunRecord,
)
from journal.format.seal import digits_in, is_sealed, unsealed
from journal.format.values import canonical_json
from journal.ids import MAX_ROW_NUMBER
from journal.index.columns import STATUSES, WAITING
from journal.index.index import Index
from journal.store.row_reader import read_row, read_status, waiting_status
from journal.store.steps import deciding_records
from journal.text import Numbers, time_text
from journal.transfer.copies import Copy, holds

DATA, STEP, LOGGED, CALL = "row_data", "row_step", "row_elsewhere", "call"
MAX_RANGES = 40  # the maximum in the merge's message; the log names each row
# The id of records that repeat data and steps of the other copy in a merge. No copy learns anything
# from these records.
AGAIN = "0" * 16
ChangeRecord = RowStatusRecord | RowDataRecord | RowStepRecord | RowElsewhereRecord
Weight = Literal["work", "decision", ""]
Verdict = Literal["keep", "same", "take", "review"]


class Change(NamedTuple):
    """A record of a row. ``what``: the new status, or DATA, STEP, CALL or LOGGED (in another copy).

    CALL is the last record of the call that the row is in.
    """

    id: str
    offset: int
    what: str
    weight: Weight
    reset: str | None = None  # the reset of a status
    step: str = ""
    state: str = ""  # the state of a step, or the logged status
    is_of_rows: bool = False  # whether the record is about several rows

    @property
    def is_status(self) -> bool:
        return self.what not in (DATA, STEP, LOGGED, CALL)


class Added(NamedTuple):
    """A row that the record at ``offset`` added, with its idempotency key."""

    offset: int
    key: str


class Side:
    """One of two copies: its present rows, and their records since the copies diverged.

    - ``changes``: a dict from a row to its records, in order.
    - ``added``: the rows that were added, by number. ``lost``: the added rows with an unknown key,
      because damage has destroyed their data.
    - ``costs``: a dict from the id of each record with a cost to the cost.
    - ``merges``: for each merge, the position up to which the other copy was merged.
    - ``extensions``: how many records of extensions there are. A merge doesn't import these
      records.
    - ``news_at``: the offset of the last record, except records of merges, of starts of runs and of
      extensions.

    All of this is in memory. Raises JournalDamagedError, FormatVersionError, StorageError.
    """

    def __init__(
        self,
        copy: Copy,
        index: Index,
        fork: Position,
        read_line: Callable[[int], bytes] | None = None,
    ) -> None:
        self.copy, self.index = copy, index
        self._read_line = read_line or copy.file.read_line
        self.changes: dict[int, list[Change]] = {}
        self.added: dict[int, Added] = {}
        self.lost: set[int] = set()
        self.costs: dict[str, RowSpentRecord] = {}
        self.merges: list[Position] = []
        self.extensions = 0
        self.news_at = -1
        self.commits = 0
        commit: list[tuple[int, ChangeRecord | CallRecord, bytes]] = []
        calls: dict[int, Change] = {}
        is_of_merge = False
        for offset, line, record in records_between(copy.file, fork, copy.end):
            if isinstance(record, RowRecord):
                self._add_row(offset, record)
            elif isinstance(record, ChangeRecord | CallRecord):
                commit.append((offset, record, line))
            elif isinstance(record, RowSpentRecord):
                self.costs[record.id] = record
            elif isinstance(record, MergeRecord):
                self.merges.append(Position(record.offset, int(record.seal, 16)))
                is_of_merge = True
            elif isinstance(record, ExtensionRecord):
                self.extensions += 1
            if not is_of_merge and not isinstance(
                record, (RunRecord, InputRecord, ExtensionRecord)
            ):
                self.news_at = offset
            if is_sealed(line):
                self._add_changes(commit, digits_in(line), calls)
                commit.clear()
                is_of_merge = False
                self.commits += 1
        for call, change in calls.items():
            for number in self.in_call(call):
                self.changes.setdefault(number, []).append(change)

    def _add_row(self, offset: int, record: RowRecord) -> None:
        self.added[record.row] = Added(offset, self.key_of(record))
        if record.checksum != LOST_CHECKSUM:
            id_ = sha256(self.content_of(record)).hexdigest()[:16]  # the same in all copies
            self.changes.setdefault(record.row, []).append(Change(id_, offset, DATA, "work"))
        elif record.key is None:
            self.lost.add(record.row)

    def numbers(self, positions: Iterable[int]) -> list[int]:
        """Return the numbers of the rows at some positions."""
        return list(map(self.index.columns.number, positions))

    def in_call(self, call: int) -> list[int]:
        """Return the numbers of the rows that are in a call."""
        calls, columns = self.index.calls, self.index.columns
        return self.numbers(chain(*calls.rows(call, columns) if call in calls else ()))

    def _add_changes(
        self,
        commit: list[tuple[int, ChangeRecord | CallRecord, bytes]],
        seal: bytes,
        calls: dict[int, Change],
    ) -> None:
        seen: Counter[bytes] = Counter()
        for offset, record, line in commit:
            if record.origin is not None:
                id_ = record.origin.id
            else:
                body = unsealed(line) if is_sealed(line) else line
                id_ = record_id(seal, body, seen[body])
                seen[body] += 1
            if isinstance(record, CallRecord):
                weight: Weight = "" if record.by in (A_POLICY.by, A_MERGE.by) else "work"
                calls[int(record.id, 16)] = Change(id_, offset, CALL, weight, is_of_rows=True)
                continue
            change = _change_of(id_, offset, record)
            rows = [record.row]
            if isinstance(record, RowStepRecord) and record.rows:
                rows = self.numbers(self.index.rows_in(record.rows) or ())
            for number in rows:
                self.changes.setdefault(number, []).append(change)
            if isinstance(record, RowStatusRecord) and _has_cost(record):
                self.costs[id_] = RowSpentRecord(
                    row=record.row,
                    id=id_,
                    cost_cents=record.cost_cents,
                    usage=record.usage,
                    at=record.at,
                )

    def renumber(self, numbers: dict[int, int]) -> None:
        """Change the numbers of the added rows, in ``changes`` and ``costs``."""
        self.changes = {numbers.get(row, row): found for row, found in self.changes.items()}
        for spent in self.costs.values():
            spent.row = numbers.get(spent.row, spent.row)

    # --- the present state of a row, by its number in this copy

    def status(self, number: int) -> str:
        position = self.index.position_of(number)
        return "pending" if position is None else STATUSES[self.index.columns.statuses[position]]

    def status_record(self, number: int) -> RowStatusRecord | None:
        position = self.index.position_of(number)
        if position is None:
            return None
        columns, file, read = self.index.columns, self.copy.file, self._read_line
        own = read_status(file, read, columns.status_offsets[position], number)
        if columns.statuses[position] == WAITING:
            return waiting_status(file, read, own, self.index.calls, columns.call(position))
        return own

    def row(self, number: int) -> AnyRow:
        """Return the record with the row's data."""
        position = self.index.position_of(number)
        assert position is not None
        offset = self.index.columns.row_offsets[position]
        return read_row(self.copy.file, self._read_line(offset), offset, number)

    def added_row(self, number: int) -> AnyRow:
        """Return the record that added the row."""
        offset = self.added[number].offset
        return read_row(self.copy.file, self._read_line(offset), offset, number)

    def read(self, change: Change) -> Any:
        return decode_record(self._read_line(change.offset))

    def key_of(self, row: AnyRow) -> str:
        """Return the row's complete idempotency key. It is the same in all copies."""
        return row.key or f"{self.copy.header.id}:{row.row}"

    def content_of(self, row: AnyRow) -> bytes:
        """Encode a row's data and key, for comparisons in which 1, 1.0 and true differ."""
        return canonical_json((row.data, self.key_of(row)))


def record_id(seal: bytes, line: bytes, ordinal: int) -> str:
    """Return the id of a record: the first 16 hex digits of a SHA-256.

    The SHA-256 is made of three parts: the seal (8 hex digits) of the commit in which the record
    was first written, the record's line without a seal, and the ordinal (from 0) of this line among
    equal lines of the commit.
    """
    return sha256(b"%b%b\n%d" % (seal, line, ordinal)).hexdigest()[:16]


def _has_cost(record: RowStatusRecord) -> bool:
    has_any = record.cost_cents is not None or record.usage is not None
    return has_any and record.status != "processing"


def _change_of(id_: str, offset: int, record: ChangeRecord) -> Change:
    if isinstance(record, RowDataRecord):
        return Change(id_, offset, DATA, "work")
    if isinstance(record, RowStepRecord):
        weight = _weight_of_step(record.state)
        of_rows = bool(record.rows)
        return Change(id_, offset, STEP, weight, None, record.step, record.state, of_rows)
    if isinstance(record, RowStatusRecord):
        weight = _weight_of_status(record.status, record.by, record.reset)
        return Change(id_, offset, record.status, weight, record.decision)
    logged, status = record.change, str(record.change.get("status"))
    if "data" in logged or "call" in logged:
        weight = "work"
    elif "step" in logged:
        weight = _weight_of_step(logged.get("state"))
    else:
        weight = _weight_of_status(status, logged.get("by"), logged.get("reset"))
    return Change(id_, offset, LOGGED, "work" if weight == "work" else "", state=status)


def _weight_of_step(state: Any) -> Weight:
    return "decision" if state in ("failed", "dropped") else "work"


def _weight_of_status(status: Any, by: Any, reset: Any) -> Weight:
    if by in (A_POLICY.by, A_MERGE.by):
        return ""
    return "decision" if status == "pending" and reset != "wait" else "work"


# --- the judgement ---------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of two copies. ``new`` and ``mine`` are in order.

    - ``is_status_mine``: whether only the copy here knows the row's last status here.
    - ``is_doubtful``: True if the two rows count as one row only because their numbers are equal.
    """

    number: int  # here
    theirs: int  # there
    new: list[Change]
    mine: list[Change]
    is_status_mine: bool
    is_doubtful: bool = False


def compare(here: Side, there: Side, number: int, theirs: int, *, is_doubtful: bool) -> Row:
    """Find the records that only one of the two copies knows."""
    ours, others = here.changes.get(number, []), there.changes.get(number, [])
    known, known_there = (
        {change.id for change in changes if change.id != AGAIN} for changes in (ours, others)
    )
    last = next((change for change in reversed(ours) if change.is_status), None)
    return Row(
        number,
        theirs,
        new=list(_unknown(others, known)),
        mine=list(_unknown(ours, known_there)),
        is_status_mine=last is not None and last.id not in known_there,
        is_doubtful=is_doubtful,
    )


def _unknown(changes: list[Change], known: set[str]) -> Iterator[Change]:
    """Yield the records that the other copy doesn't know.

    A record that isn't work is left out if both copies know a later status or later data.
    """
    shared = (
        at
        for at, change in enumerate(changes)
        if change.id in known and change.what not in (STEP, LOGGED, CALL)
    )
    last = max(shared, default=-1)
    for at, change in enumerate(changes):
        is_known = change.id in known or change.id == AGAIN
        if not is_known and (at > last or change.weight == "work"):
            yield change


def judge(here: Side, there: Side, row: Row) -> Verdict:
    """Apply the sentences at the top of this module.

    "same" means that the row is kept, and that the new records are logged.
    """
    worked, decided = _weigh(row.mine)
    worked_there, decided_there = _weigh(row.new)
    status, status_there = here.status(row.number), there.status(row.theirs)
    if not (worked_there or decided_there):
        has_review = bool(row.new) and status_there == "needs_review"
        return "take" if has_review and not row.mine else "keep"
    if not worked and (worked_there or not decided):
        is_review_of_ours = status == "needs_review" and row.is_status_mine
        if row.is_doubtful or (status_there == "pending" and is_review_of_ours):
            return "review" if worked_there else "keep"
        return "take"
    if _did_the_same(here, there, row):
        return "same" if worked_there else "keep"
    return "review" if worked_there else "keep"


def _weigh(changes: list[Change]) -> tuple[bool, bool]:
    weights = {change.weight for change in changes}
    return "work" in weights, "decision" in weights


def _did_the_same(here: Side, there: Side, row: Row) -> bool:
    """Whether both copies gave a row the same status and data, without an attempt, step or redo.

    Work before a redo counts as done, although the row's status no longer shows this work.
    """
    changes = (*row.new, *row.mine)
    if any(c.what in ("processing", STEP, LOGGED, CALL) or c.reset == "redo" for c in changes):
        return False
    new, mine = ({c.what for c in some if c.weight == "work"} for some in (row.new, row.mine))
    if new != mine:
        return False
    ours, theirs = here.status_record(row.number), there.status_record(row.theirs)
    if _outcome_of(ours) != _outcome_of(theirs):
        return False
    return here.content_of(here.row(row.number)) == there.content_of(there.row(row.theirs))


def _outcome_of(record: RowStatusRecord | None) -> Any:
    if record is None:
        return ("pending",)
    if record.status == "completed" and record.tracking_number:
        return record.status, record.tracking_number
    return record.status, record.error_code, canonical_json(record.result)


def is_only_logged(row: Row, status_there: str) -> bool:
    """Whether work of a third copy is logged there, and isn't shown by the row's status."""
    statuses = [at for at, change in enumerate(row.new) if change.is_status]
    later = row.new[max(statuses, default=-1) + 1 :]
    return any(c.what == LOGGED and c.weight == "work" and c.state != status_there for c in later)


def steps_that_count(changes: list[Change]) -> set[str]:
    """Return the steps that were done, or begun and not ended, in these records."""
    decide = deciding_records(change for change in changes if change.what == STEP)
    return {step for step, change in decide.items() if change.state != "failed"}


def keyed(side: Side) -> Iterator[tuple[int, tuple[str, int]]]:
    """Yield each added row whose key is known, with its key and its ordinal among equal keys."""
    seen: Counter[str] = Counter()
    for number, (_, key) in side.added.items():
        if number not in side.lost:
            yield number, (key, seen[key])
            seen[key] += 1


def state_text(record: RowStepRecord) -> str:
    at = time_text((record.origin or record).at)
    return f"in doubt since {at}" if record.state == "started" else f"done at {at}"


def status_text(record: RowStatusRecord | None) -> str:
    if record is None:
        return "pending"
    status = "in flight" if record.status == "processing" else record.status.replace("_", " ")
    code = f" ({record.error_code})" if record.error_code else ""
    return f"{status}{code} at {time_text(record.happened_at)}"


# --- all rows ---------------------------------------------------------------------------------


class Judgement(msgspec.Struct, frozen=True):
    """The judgement of a merge about a row that the other copy has changed.

    - ``row``: the row's number here. ``their_row``: the row's number in the other copy.
    - ``verdict``: "add" (the row isn't here), "take" (the changes there), "keep" (the state here)
      or "review".
    - ``here``, ``there``: the row's status in each copy. ``here`` is None if the row isn't here.
    """

    row: int
    their_row: int
    verdict: Literal["add", "take", "keep", "review"]
    here: str | None
    there: str


class Merge:
    """The judgements of all rows that the other copy has changed since the copies diverged.

    - ``rows``: these rows with their verdicts, ascending by their number here.
    - ``added``: rows that only the other copy has, by their number here, ascending.
    """

    def __init__(self, here: Side, there: Side) -> None:
        """Raises InvalidValueError if no number is left for an added row.

        Raises RefusedError if the copies of a shard without a key have seen different inputs.
        """
        self.here, self.there = here, there
        self.added: list[int] = []
        self._theirs: dict[int, int] = {}  # the number there of each row that was added there
        doubtful = self._match_added()
        self.new = frozenset(self.added)
        there.renumber({theirs: number for number, theirs in self._theirs.items()})
        self.rows: list[tuple[Row, Verdict]] = []
        for number in sorted(there.changes):
            theirs = self._theirs.get(number, number)
            row = compare(here, there, number, theirs, is_doubtful=number in doubtful)
            if number in self.new:
                self.rows.append((row, "take"))
            elif row.new:
                self.rows.append((row, judge(here, there, row)))

    @property
    def renumbered(self) -> dict[int, int]:
        theirs = ((number, self._theirs[number]) for number in self.added)
        return {number: other for number, other in theirs if number != other}

    @property
    def is_empty(self) -> bool:
        """Whether the merge writes nothing. If so, the other copy's journal needn't be kept."""
        merged = (at.offset for at in self.here.merges if holds(self.there.copy, at))
        has_news = self.there.news_at >= max(merged, default=0)
        changes = any(verdict != "keep" for _, verdict in self.rows)
        costs = self.there.costs.keys() - self.here.costs.keys()
        return not (self.added or changes or costs or has_news)

    def judgements(self) -> Iterator[Judgement]:
        for row, verdict in self.rows:
            is_new = row.number in self.new
            here = None if is_new else self.here.status(row.number)
            there = self.there.status(row.theirs)
            shown = "keep" if verdict == "same" else "add" if is_new else verdict
            if verdict == "take" and self.is_unknown_there(row):
                shown = "review"
            yield Judgement(row.number, row.theirs, shown, here, there)

    def is_unknown_there(self, row: Row) -> bool:
        """Whether a taken row needs a review, because its outcome there is unknown."""
        there = self.there.status(row.theirs)
        return there == "processing" or (there != "needs_review" and is_only_logged(row, there))

    def _match_added(self) -> set[int]:
        """Match the rows that were added since the copies diverged.

        Returns the rows that are matched only by their numbers.
        """
        here, there = self.here, self.there
        known = {key: number for number, key in keyed(here)}
        doubtful: set[int] = set()
        highest = max(here.index.highest_number, there.index.highest_number)
        keys = dict(keyed(there))
        shard = here.copy.header.shard
        by_place = shard is not None and shard.key is None  # a number is a place in the input
        for theirs in there.added:
            number = known.get(keys[theirs]) if theirs in keys else None
            is_lost = theirs in (here.lost | there.lost)
            if number is None and theirs in here.added and (is_lost or by_place):
                number = theirs
                if is_lost:
                    doubtful.add(number)
                elif here.added_row(number).checksum != there.added_row(number).checksum:
                    raise self._other_input(number)
            if number is None:
                number = theirs
                if here.index.position_of(theirs) is not None:
                    number = highest = highest + here.copy.header.numbers[1]
                    if highest > MAX_ROW_NUMBER:
                        reason = "leaves no higher number for a row of the other copy"
                        raise InvalidValueError("row_number", highest, reason)
                self.added.append(number)
            self._theirs[number] = theirs
        self.added.sort()
        return doubtful

    def _other_input(self, number: int) -> RefusedError:
        here, there = self.here, self.there
        old = sorted(there.changes.keys() - there.added.keys())
        rows = (compare(here, there, each, each, is_doubtful=False) for each in old)
        both = Numbers(row.number for row in rows if judge(here, there, row) == "review")
        twice = f"; both copies have worked on {both.words(MAX_RANGES)}" if both.count else ""
        return RefusedError(
            f"{here.copy.header.job_id}: without a key, copies that have seen different inputs can't be "
            f"merged: row {number} is another one there; keep the copy of the right input{twice}"
        )
