"""The plan of a merge: what becomes of each row, and which rows need a review.

All decisions of a merge are made here, before anything is written. ``merge.py`` writes the plan.

A merge imports changes of the other copy ("there") into this copy ("here"). What becomes of a row
depends on the changes that only one of the copies has (see ``divergence.py``). Below, each rule is
a case, a colon, and what the merge does in this case.

Rules about the status of a row:

- Only the other copy changed the row: its changes (outcomes, retries, redos and data) are imported
  in order, with their times. If the row is in flight there (started, without an outcome), it needs
  a review here.
- The other copy only set the row back to pending, and no person asked for this by a retry or redo:
  nothing changes here. If the merge also made the row pending here, both copies might try it.
- The row was in flight at the fork (the end of the last common commit), or a copy has set it back
  to pending: if only one copy knows an outcome, that outcome counts. A status that a policy set is
  not an outcome. If neither copy knows an outcome, the status here stays.
- Both copies retried or redid the row: the row stays pending. If one copy has recorded an outcome
  since then, that outcome counts.
- Both copies worked on the row: the row needs a review, and the work there is logged. There are two
  exceptions. If both skipped the row, and at most one of them had tried it before, the row stays
  skipped. If both completed the row with the same tracking number, the two completions may be the
  same work: see ``_may_be_two_attempts``. They are taken for different work if attempts were made in
  two of these places: here, there, and before the copies diverged. The reason: a service or a
  program may derive the tracking number from the row.
- The row is completed here, and the other copy worked on the row, or redid the row without knowing
  of the completion: the row stays completed. The job's error (``Job.error_message``) names the row,
  and the work there is logged.
- The row is completed here, and the other copy knew this when it redid the row: the redo and all
  later changes are imported.
- The other copy completed the row, and knows that this copy worked on the row: the row becomes
  completed here, too. The job's error names the row.
- The other copy reports work of a third copy: this counts as work of the other copy. If the
  other copy recorded no status of the row after the report, the row needs a review here, unless the
  row is completed.

Rules about steps (for details, see ``merge_steps.py``):

- A copy has begun a step since the fork, and the step may have taken effect: this is work on the
  row.
- Both copies did a step, or may have done it: the row needs a review, which names the step. If the
  row is completed here, the job's error names the row instead.

Rules about data and added rows:

- Both copies changed the row's data, or one changed the data and the other worked on the row: the
  row keeps the data from here, and the data from there is logged. The row needs a review. But if
  the row is completed here, it needs no review, and the job's error names it. A change of data
  doesn't count if the other copy got the same data.
- Both copies added a row with the same idempotency key: this is one row, with the number from here.
  If the data differs, the previous rule applies.
- Only the other copy added the row: the row is added here. If its number is in use here, the row
  gets a new number ("renumbered") and keeps its key. If the other copy worked on a renumbered row,
  the row needs a review.
- Both copies added a row with the same number, and damage has destroyed the data of one of the two
  rows, so nobody knows whether they are the same row: both rows are kept. The row that comes from
  there needs a review. The row that was here needs a review, too, unless that row is done.
- The row is completed here, and the other copy has the same row under a new number, and completed
  it after a review: nothing changes. But if the tracking numbers differ, the rule for rows that
  both copies worked on applies.

The cost of an attempt there is always counted here. If the status of the attempt is imported, the
status contains the cost. Otherwise a record of its own adds the cost. If both copies recorded a completion
with the same tracking number, and this is the same work, only one cost is counted.

No change is imported or reported twice, and no cost is counted twice. This is also true if the same
copy is pulled again, if a change comes back to the copy that made it, or if a change comes through
a third copy.

After A has merged B and B has merged A, the copies agree on everything except this:

- An added row may have one number in A and another number in B.
- A row that is completed in one copy may need a review in the other copy, or may have been settled
  differently there.
- If a row needs a review in both copies, each copy keeps its own data of the row.
- If only one copy set a row back to pending, the other copy keeps the row's status.
- If nobody knows the outcome of a row, each copy's policy decides the row's status in that copy.
- For a step that both copies did, each copy keeps its own result.
- A redo removes the steps of the row in the copy that made the redo. If the row is in review or
  completed in the other copy, the other copy possibly doesn't import the redo. In this case, the
  other copy keeps the steps.

A merge doesn't change the job's status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

from journal.errors import InvalidValueError
from journal.format.commits import START, Position
from journal.format.decode import decode_record
from journal.format.records import (
    BOTH_COPIES,
    AnyRow,
    RowSpentRecord,
    RowStatusRecord,
    RowStepRecord,
)
from journal.ids import MAX_ROW_NUMBER
from journal.index.index import CODES, COMPLETED, FAILED, NEEDS_REVIEW, PENDING, PROCESSING, Index
from journal.index.replay import replay
from journal.store.journal import Journal
from journal.store.rows import read_row, read_status
from journal.transfer.copies import Copy, holds
from journal.transfer.divergence import (
    DATA,
    ELSEWHERE,
    IN_FLIGHT,
    RENUMBERED,
    STEP,
    Added,
    Change,
    RowChanges,
    change_id,
    content_of,
)
from journal.transfer.merge_steps import BothDid, StepNews, compare_steps

_Verdict = Literal["keep", "take", "conflict"]


class Plan:
    """The plan of a merge. Rows are named by their numbers in our copy.

    - ``take``: a dict from a row to those changes of the other copy that are imported.
    - ``conflicts``: a dict from a row to those changes of the other copy that are only logged.
    - ``twice``: rows in ``take`` or ``conflicts`` that are completed and may have been done twice.
    - ``both``: rows of ours in ``conflicts`` that aren't completed here.
    - ``data``: rows in ``conflicts`` whose data differs.
    - ``redone``: rows in ``conflicts`` that one copy has redone.
    - ``steps``: a dict from a row in ``conflicts`` to the steps that both copies did or may have
      done.
    - ``added``: rows that only the other copy has, ascending.
    - ``renumbered``: a dict from the number here to the number there, for the rows in ``added``
      whose numbers differ.
    - ``doubtful``: the rows in ``renumbered`` that may be rows of ours. If such a row has number N
      in the other copy, it may be the same row as our row N: damage has destroyed the data of one
      of the two.
    - ``reviews``: a dict from a row that the merge puts in review to the error code of the review.
    - ``doubted``: a dict from a row of ours in ``reviews`` to the row in ``doubtful`` that may be
      the same row.
    - ``follow``: rows in ``take`` that also get the other copy's present data.
    - ``costs``: the costs of changes that this copy doesn't know, and whose statuses are not
      imported.
    - ``counted``: the ids of changes whose costs are counted here.
    """

    def __init__(self, journal: Journal, ours: Copy, theirs: Copy, fork: Position) -> None:
        """``ours`` is the copy in ``journal``, which has a commit open.

        ``fork`` is the end of the last common commit of the two copies.

        The changes since the fork, and an index of the other copy, are in memory. Raises
        JournalDamagedError and FormatVersionError about the other copy. Raises InvalidValueError if
        no number is left for an added row.
        """
        # The replay also checks the whole journal of the other copy.
        self._their_index = replay(Index(), theirs.file, START, theirs.end)
        assert self._their_index.state is not None
        self.their_state, self.fork, self.theirs = self._their_index.state, fork, theirs
        self._journal, self._ours = journal, ours
        self.here, self.there = RowChanges(ours, fork), RowChanges(theirs, fork)
        self.take: dict[int, list[Change]] = {}
        self.conflicts: dict[int, list[Change]] = {}
        self.twice: set[int] = set()
        self.both: set[int] = set()
        self.data: set[int] = set()
        self.redone: set[int] = set()
        self.steps: dict[int, list[BothDid]] = {}
        self.follow: set[int] = set()
        self.added: list[int] = []
        self.renumbered: dict[int, int] = {}
        self.doubtful: set[int] = set()
        self.reviews: dict[int, str] = {}
        self.doubted: dict[int, int] = {}
        self._same: set[str] = set()
        self._their_numbers = self._match_added()
        # A record may report a change of a third copy from before the fork.
        before = self.here.rows_of_before() | self.there.rows_of_before()
        self._shared = RowChanges(ours._replace(end=fork), START if before else fork, before)
        for number in sorted({*self.there.rows(), *self.doubtful}):
            self._decide(number)
        self._decide_reviews()
        self.counted = {*self.here.spent, *self._shared.spent, *self._same}
        self.costs = list(self._costs())

    @property
    def is_empty(self) -> bool:
        """Whether the merge writes nothing. If so, the other copy's journal needn't be kept."""
        merged = [at.offset for at in self.here.merges if holds(self.theirs, at)]
        has_news = self.there.news_at >= max(merged, default=0)
        found = (self.added, self.take, self.conflicts, self.costs)
        return not (any(found) or has_news)

    # --- added rows

    def _match_added(self) -> dict[int, int]:
        """Match the added rows by key, and choose numbers for rows that only the other copy added.

        Returns a dict from our number of each added row to the row's number in the other copy.
        """
        here, there = self.here.added, self.there.added
        known = _by_key(here)
        highest = max(self._journal.index.highest_number, self._their_index.highest_number)
        numbers: dict[int, int] = {}
        for key, theirs in _by_key(there).items():
            number = known.get(key)
            if number is None:
                number = theirs
                if self.our_code(theirs) is not None:
                    number = highest = _next_number(highest)
                    self.renumbered[number] = theirs
                    if there[theirs].is_lost or here[theirs].is_lost:
                        self.doubtful.add(number)
                self.added.append(number)
            numbers[theirs] = number
        self.added.sort()
        self.there.renumber(numbers)
        return {number: theirs for theirs, number in numbers.items()}

    # --- row by row

    def _decide(self, number: int) -> None:
        new = self.there.unknown_to(self.here, number, self._shared)
        code = self.our_code(number)
        if code is None:  # the row will be added, or doesn't exist
            made = self.there.added.get(number)
            new = [change for change in new if made and change.offset != made.offset]
            is_worked_on = any(c.matters or (c.step and c.state != "failed") for c in new)
            if number in self.doubtful or (number in self.renumbered and is_worked_on):
                self.conflicts[number] = new
                return
        if not new:
            return
        mine = self.here.unknown_to(self.there, number, self._shared)
        if code is not None and any(change.is_renumbering for change in new):
            new = [change for change in new if not change.is_renumbering]
            is_settled = not mine and [change.status for change in new] == ["completed"]
            if is_settled and code == COMPLETED and self._may_be_one_shipment(number, new[0]):
                self._same.add(new[0].id)
                return  # somebody completed the review there, and the row is completed here
        steps = compare_steps(new, mine, self.read, lambda change: _read(self._ours, change))
        verdict = self._judge(number, new, mine, steps)
        of_data, data = self._judge_data(number, verdict, new, mine, steps)
        further = {change.offset for change in (*data, *steps.take)}
        new = [change for change in new if change.is_of_status or change.offset in further]
        if of_data == "conflict":
            self.data.add(number)
            verdict = "conflict"
        if steps.both:
            self.steps[number] = steps.both
            verdict = "conflict"
        if verdict == "conflict":
            self.conflicts[number] = new
            (self.twice if code == COMPLETED else self.both).add(number)
            if any(change.reset == "redo" for change in (*new, *mine)):
                self.redone.add(number)
        elif verdict == "take":
            self._take(number, new)
            if of_data == "take" and not data:
                self.follow.add(number)
        elif further:
            self.take[number] = [change for change in new if not change.is_of_status]

    def _judge(
        self, number: int, new: list[Change], mine: list[Change], steps: StepNews
    ) -> _Verdict:
        """Decide about the row's status from the changes that only one copy knows.

        ``new`` are changes that only the other copy knows. ``mine`` are changes that only our copy
        knows.
        """
        new, mine = ([c for c in changes if c.is_of_status] for changes in (new, mine))
        worked_here = steps.began_here or any(change.matters for change in mine)
        worked_there = steps.began_there or any(change.matters for change in new)
        if not new:
            return "conflict" if worked_there and worked_here else "keep"
        code, last = self.our_code(number), new[-1]
        is_last_word = self.there.end_with(number, new)  # otherwise our copy knows a later status
        only_theirs = not mine and not steps.began_here
        if is_last_word and only_theirs and (code != COMPLETED or _is_redone(new)):
            # The other copy knew all our changes. If the row became pending without a decision of a
            # person, the row is tried again there, and not here.
            is_said = last.status == "needs_review" or any(c.is_work or c.reset for c in new)
            return "take" if is_said else "keep"
        if self._is_same(number, new) or not worked_there:
            return "keep"  # our outcome counts, even if the row was in flight at the fork
        if self._did_no_more_than_skip(number, mine, last):
            return "take"
        if (
            code == COMPLETED
            or (code == NEEDS_REVIEW and last.status == "pending")
            or not is_last_word
            or worked_here
        ):
            return "conflict"
        return "take"  # only the other copy knows an outcome

    def _take(self, number: int, new: list[Change]) -> None:
        self.take[number] = new
        if COMPLETED in (self.our_code(number), self._code_after(number)) and self.alarms(number):
            self.twice.add(number)

    def alarms(self, number: int) -> list[Change]:
        """Return the records about work of a third copy on a completed row.

        The other copy has these records. This copy doesn't know them.
        """
        return self.there.alarms(number, self.here)

    def _is_same(self, number: int, new: list[Change]) -> bool:
        """Return whether the last status there and the status here are certainly the same work."""
        if any(change.status == ELSEWHERE for change in new):
            return False
        mine, there = self.our_status(number), self.read(new[-1])
        if mine is None or there.status != mine.status:
            return False
        if there.status == "skipped":
            return _is_all_skips(new)
        return (
            there.status == "completed"
            and bool(there.tracking_number)
            and there.tracking_number == mine.tracking_number
            and not self._may_be_two_attempts(number)
        )

    def _may_be_two_attempts(self, number: int) -> bool:
        """Return whether the two copies' completions of a row may come from two attempts.

        This is False if the row was completed there after a review, by somebody who knew all that
        this copy did with the row.
        """
        mine = self.here.unknown_to(self.there, number, self._shared)
        if not mine and self.there.is_settled_by_hand(number):
            return False
        here, there = self.here.attempts(number), self.there.attempts(number)
        position = self._journal.index.position_of(number)
        assert position is not None
        common = self._journal.index.columns.attempts[position] - len(here - there)
        return [bool(here - there), bool(there - here), common > 0].count(True) > 1

    def _may_be_one_shipment(self, number: int, theirs: Change) -> bool:
        """Return whether two completions may be the same work.

        This is True unless the tracking numbers differ.
        """
        mine = self.our_status(number)
        known = {mine and mine.tracking_number, self.read(theirs).tracking_number} - {None, ""}
        return len(known) < 2

    def _did_no_more_than_skip(self, number: int, mine: list[Change], last: Change) -> bool:
        """Return whether both copies skipped the row, and our copy had not tried it before."""
        here = self.our_status(number)
        is_agreed = here is not None and here.status == last.status == "skipped"
        return is_agreed and _is_all_skips(mine)

    # --- costs

    def _costs(self) -> Iterator[RowSpentRecord]:
        taken = {c.id for changes in self.take.values() for c in changes if c.is_status}
        for id_, spent in self.there.spent.items():
            is_known = id_ in self.counted or id_ in taken
            if not is_known and not self._is_one_work(spent.row, id_):
                yield spent

    def _is_one_work(self, number: int, id_: str) -> bool:
        """Return whether change ``id_`` there and our status are one completion with one cost."""
        mine = self.our_status(number)
        if mine is None or mine.status != "completed" or not mine.tracking_number:
            return False
        change = self.there.change(number, id_)
        is_same = change is not None and self.read(change).tracking_number == mine.tracking_number
        return is_same and not self._may_be_two_attempts(number)

    # --- reviews

    def _decide_reviews(self) -> None:
        """Decide which rows the merge puts in review.

        Reviews that the other copy recorded itself are imported, and not decided here.
        """
        for number, changes in self.take.items():
            last = [change.status for change in changes if change.is_of_status][-1:]
            is_worked_on = any(change.matters for change in changes)
            is_settled = self._code_after(number) in (COMPLETED, NEEDS_REVIEW)
            if last == ["processing"]:
                self.reviews[number] = IN_FLIGHT
            elif last == [ELSEWHERE] and is_worked_on and not is_settled:
                self.reviews[number] = BOTH_COPIES  # the two copies are this copy and a third copy
        for number in self.conflicts:
            if number in self.renumbered:
                self.reviews[number] = RENUMBERED
            elif number in self.both:
                self.reviews[number] = BOTH_COPIES
        for theirs in sorted(self.doubtful):
            # The row here may be the same row as the doubtful one, and may already be done.
            number = self.renumbered[theirs]
            is_open = self._code_after(number) in (PENDING, PROCESSING, FAILED)
            if is_open and number not in self.reviews:
                self.reviews[number] = BOTH_COPIES
                self.doubted[number] = theirs

    def _code_after(self, number: int) -> int:
        """Return the status code of a row after its changes are imported, but before its review."""
        for change in reversed(self.take.get(number, [])):
            if change.is_status:
                return CODES[change.status]
        code = self.our_code(number)
        return PENDING if code is None else code

    # --- data

    def _judge_data(
        self,
        number: int,
        verdict: _Verdict,
        new: list[Change],
        mine: list[Change],
        steps: StepNews,
    ) -> tuple[_Verdict, list[Change]]:
        """Decide about the row's data; return this verdict, and the changes to import or log.

        ``verdict`` is the verdict about the row's status. If the data differs although both copies
        know all changes of the data, the returned verdict is "take", with no changes. In this case,
        if ``verdict`` is also "take", the row gets the other copy's present data.
        """
        theirs = [change for change in new if change.status == DATA]
        ours = [change for change in mine if change.status == DATA]
        code = self.our_code(number)
        if code is None:
            return ("take" if theirs else "keep"), theirs
        if not (self.here.data_of(number) or self.there.data_of(number)):
            return "keep", []
        here, there = self._content(self.our_row(number)), self._content(self.their_row(number))
        if here == there:
            return "keep", []
        # If the new data of one copy equals the present data of the other, it isn't a change.
        if theirs and ours:
            if here in [self._content(self.read(change)) for change in theirs]:
                ours = []
            elif there in [self._content(_read(self._ours, change)) for change in ours]:
                theirs = []
        did = steps.began_there or any(change.matters for change in new)
        own = steps.began_here or any(change.matters for change in mine)
        if theirs and ours:
            is_doubt = True
        elif ours:
            is_doubt = did and verdict != "keep"
        else:
            is_worked_on = own or code in (PROCESSING, COMPLETED)
            is_doubt = bool(theirs) and is_worked_on and verdict != "take"
        if is_doubt:
            return "conflict", theirs
        return ("keep" if ours else "take"), theirs

    def _content(self, row: AnyRow) -> bytes:
        return content_of(row, self.theirs.header)

    # --- reading

    def our_code(self, number: int) -> int | None:
        position = self._journal.index.position_of(number)
        return None if position is None else self._journal.index.columns.statuses[position]

    def our_status(self, number: int) -> RowStatusRecord | None:
        position = self._journal.index.position_of(number)
        if position is None:
            return None
        offset = self._journal.index.columns.status_offsets[position]
        return read_status(self._journal.file, self._journal.read_line, offset, number)

    def read(self, change: Change) -> Any:
        """Return the record of a change of the other copy."""
        return _read(self.theirs, change)

    def made_row(self, number: int) -> AnyRow:
        """Return the record with which the other copy added a row after the last common commit."""
        return self._read_row(self.there.added[number].offset, number)

    def their_row(self, number: int) -> AnyRow:
        """Return the record with the row's present data in the other copy."""
        return self._read_row(self._their_row_at(number), number)

    def their_data_id(self, number: int) -> str:
        """Return the id of the change that gave the row its present data in the other copy."""
        return change_id(self.theirs, self._their_row_at(number))

    def their_steps(self, number: int) -> list[tuple[str, RowStepRecord]]:
        """Return the other copy's records of the row's steps since its last redo, with ids."""
        position = self._their_index.position_of(self._their_number(number))
        assert position is not None
        offsets = self._their_index.columns.offsets_of_steps(position)
        return [
            (change_id(self.theirs, offset), _read(self.theirs, Change("", offset, STEP)))
            for offset in offsets
        ]

    def _their_row_at(self, number: int) -> int:
        position = self._their_index.position_of(self._their_number(number))
        assert position is not None
        return self._their_index.columns.row_offsets[position]

    def _read_row(self, offset: int, number: int) -> AnyRow:
        file = self.theirs.file
        return read_row(file, file.read_line(offset), offset, self._their_number(number))

    def our_row(self, number: int) -> AnyRow:
        position = self._journal.index.position_of(number)
        assert position is not None
        offset = self._journal.index.columns.row_offsets[position]
        return read_row(self._journal.file, self._journal.read_line(offset), offset, number)

    def _their_number(self, number: int) -> int:
        return self._their_numbers.get(number, number)


def _by_key(added: dict[int, Added]) -> dict[tuple[str, int], int]:
    """Return a dict from (key, n) to the number of the n-th added row (from 0) with this key."""
    found: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    for number, row in added.items():
        found[row.key, seen[row.key]] = number
        seen[row.key] += 1
    return found


def _next_number(highest: int) -> int:
    if highest >= MAX_ROW_NUMBER:
        raise InvalidValueError(
            "row_number", highest, "leaves no higher number for a row of the other copy"
        )
    return highest + 1


def _read(copy: Copy, change: Change) -> Any:
    return decode_record(copy.file.read_line(change.offset))


def _is_redone(changes: list[Change]) -> bool:
    """Return whether the changes begin with a redo.

    If so, the copy that made the changes knew that the row was completed.
    """
    statuses = [change for change in changes if change.is_status]
    return bool(statuses) and statuses[0].reset == "redo"


def _is_all_skips(changes: list[Change]) -> bool:
    return {change.status for change in changes if change.is_work} == {"skipped"}
