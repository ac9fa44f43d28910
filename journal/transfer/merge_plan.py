"""The plan of a merge: what becomes of each row, and which rows need a review.

All decisions of a merge are made here, before anything is written. ``merge.py`` writes the plan.

What only the other copy did is imported, row by row (see ``divergence.py``), by these rules:

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
- The other copy reports the work of a third copy: this counts as its own. If nothing followed it
  there, it needs a review here, unless it is completed.
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

The job's own status doesn't change. Records of an older version which say that unfinished rows went
on in a retry job are imported.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from journal.errors import InvalidValueError
from journal.format.commits import START, Position
from journal.format.decode import decode_record
from journal.format.idempotency import AnyRow
from journal.format.records import BOTH_COPIES, ELSEWHERE, RowStatusRecord
from journal.ids import MAX_ROW_NUMBER
from journal.index.index import CODES, COMPLETED, FAILED, NEEDS_REVIEW, PENDING, PROCESSING, Index
from journal.index.replay import replay
from journal.store.journal import Journal
from journal.store.rows import read_row, read_status
from journal.transfer.copies import Copy, holds
from journal.transfer.divergence import (
    DATA,
    IN_FLIGHT,
    RENUMBERED,
    Added,
    Change,
    RowChanges,
    content_of,
    data_id,
)

_Verdict = Literal["keep", "take", "conflict"]


class Plan:
    """What a merge writes. Rows are called by the numbers that they have in our copy.

    - ``take``: their changes that become ours, by row.
    - ``conflicts``: their changes that are only logged, by row.
    - ``twice``: of both, rows that are completed here in the end, and may have been done twice.
    - ``both``: of the conflicts about rows of ours, those that aren't completed here.
    - ``data``: of the conflicts, those about the row's data.
    - ``redone``: of the conflicts, rows that one copy has redone.
    - ``added``: rows that only they have, ascending.
    - ``renumbered``: of these, rows with another number there, which it maps to.
    - ``doubtful``: of the renumbered, those that may be the row which has that number here, because
      damage took the data of one of the two.
    - ``reviews``: rows that the merge sends to review, mapped to the error code of the review.
    - ``doubted``: of these, rows of ours that may be a doubtful one, mapped to its number.
    - ``follow``: rows that are taken with the data that they have there now.
    - ``marks``: their records about retry jobs of an older version that aren't known here.
    """

    def __init__(self, journal: Journal, ours: Copy, theirs: Copy, fork: Position) -> None:
        """``ours`` is what ``journal`` holds, under its lock. The copies diverged at ``fork``.

        Memory: the changes since then, and an index of theirs. Raises JournalDamagedError,
        FormatVersionError (both about theirs), and InvalidValueError if there is no number left for
        a row.
        """
        self._their_index = replay(
            Index(), theirs.file, START, theirs.end
        )  # this also checks all of it
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
        self.follow: set[int] = set()
        self.added: list[int] = []
        self.renumbered: dict[int, int] = {}
        self.doubtful: set[int] = set()
        self.reviews: dict[int, str] = {}
        self.doubted: dict[int, int] = {}
        self._their_numbers = self._match_added()
        # What a log reports about a row may be older than the fork, and come from a third copy.
        before = self.here.rows_of_before() | self.there.rows_of_before()
        self._shared = RowChanges(ours._replace(end=fork), START if before else fork, before)
        for number in sorted({*self.there.rows(), *self.doubtful}):
            self._decide(number)
        self._decide_reviews()
        known = [mark.details for mark in self.here.marks]
        self.marks = [mark for mark in self.there.marks if mark.details not in known]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of theirs is to be written here or to be kept beside the journal."""
        merged = [at.offset for at in self.here.merges if holds(self.theirs, at)]
        has_news = self.there.news_at >= max(merged, default=0)
        return not (self.added or self.take or self.conflicts or self.marks or has_news)

    # --- added rows

    def _match_added(self) -> dict[int, int]:
        """Match the rows that both copies added by their keys, and number those only they have.

        Returns their numbers of the added rows, by ours.
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
        if code is None:  # a row to be added, or no row
            made = self.there.added.get(number)
            new = [change for change in new if made and change.offset != made.offset]
            is_worked_on = any(change.matters for change in new)
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
                return  # somebody settled the review of what was completed here
        statuses = [change for change in new if change.status != DATA]
        own = [change for change in mine if change.status != DATA]
        verdict = self._judge(number, statuses, own)
        of_data, data = self._judge_data(number, verdict, new, mine)
        new = [change for change in new if change.status != DATA or change in data]
        if of_data == "conflict":
            self.data.add(number)
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
        elif data:
            self.take[number] = data

    def _judge(self, number: int, new: list[Change], mine: list[Change]) -> _Verdict:
        """What becomes of the row's status, by what each copy did that the other doesn't know."""
        if not new:
            return "keep"
        code, last = self.our_code(number), new[-1]
        is_last_word = self.there.end_with(number, new)  # else we know what followed
        if is_last_word and not mine and (code != COMPLETED or _is_redone(new)):
            # Decided with knowledge of all that we did. A row that was put back by no decision is
            # tried again there.
            is_said = last.status == "needs_review" or any(c.is_work or c.reset for c in new)
            return "take" if is_said else "keep"
        if self._is_same(number, new) or not any(change.matters for change in new):
            return "keep"  # also for what was in flight at the fork: our outcome of it stands
        if self._did_no_more_than_skip(number, mine, last):
            return "take"
        if (
            code == COMPLETED
            or (code == NEEDS_REVIEW and last.status == "pending")
            or not is_last_word
            or any(change.matters for change in mine)
        ):
            return "conflict"
        return "take"  # it was in flight or put back, and only the other copy knows its outcome

    def _take(self, number: int, new: list[Change]) -> None:
        self.take[number] = new
        if COMPLETED in (self.our_code(number), self._code_after(number)) and self.alarms(number):
            self.twice.add(number)

    def alarms(self, number: int) -> list[Change]:
        """Work of third copies on a completed row that theirs knows of and ours doesn't."""
        return self.there.alarms(number, self.here)

    def _is_same(self, number: int, new: list[Change]) -> bool:
        """Whether their last status of a row, and ours, must be about the same work."""
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
        )

    def _may_be_one_shipment(self, number: int, theirs: Change) -> bool:
        """Whether theirs and ours are completed without two different tracking numbers."""
        mine = self.our_status(number)
        known = {mine and mine.tracking_number, self.read(theirs).tracking_number} - {None, ""}
        return len(known) < 2

    def _did_no_more_than_skip(self, number: int, mine: list[Change], last: Change) -> bool:
        """Whether both skipped the row in the end, and only the other copy had tried it before."""
        here = self.our_status(number)
        is_agreed = here is not None and here.status == last.status == "skipped"
        return is_agreed and _is_all_skips(mine)

    # --- reviews

    def _decide_reviews(self) -> None:
        """Decide which rows need a review. One that the other copy asks for is imported instead."""
        for number, changes in self.take.items():
            last = [change.status for change in changes if change.status != DATA][-1:]
            is_worked_on = any(change.matters for change in changes)
            is_settled = self._code_after(number) in (COMPLETED, NEEDS_REVIEW)
            if last == ["processing"]:
                self.reviews[number] = IN_FLIGHT
            elif last == [ELSEWHERE] and is_worked_on and not is_settled:
                self.reviews[number] = BOTH_COPIES  # the other was a third copy
        for number in self.conflicts:
            if number in self.renumbered:
                self.reviews[number] = RENUMBERED
            elif number in self.both:
                self.reviews[number] = BOTH_COPIES
        for theirs in sorted(self.doubtful):
            # A row here that could be tried, and may have been done as the doubtful one.
            number = self.renumbered[theirs]
            is_open = self._code_after(number) in (PENDING, PROCESSING, FAILED)
            if is_open and number not in self.reviews:
                self.reviews[number] = BOTH_COPIES
                self.doubted[number] = theirs

    def _code_after(self, number: int) -> int:
        """The row's status after its imported changes, and before its review."""
        for change in reversed(self.take.get(number, [])):
            if change.is_status:
                return CODES[change.status]
        code = self.our_code(number)
        return PENDING if code is None else code

    # --- data

    def _judge_data(
        self, number: int, verdict: _Verdict, new: list[Change], mine: list[Change]
    ) -> tuple[_Verdict, list[Change]]:
        """What becomes of the row's data, and their changes of it that are news here.

        ``verdict`` is about its status. The result may be "take" without a change that is news:
        then the data differs by changes that both copies know.
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
        # A copy that gave the row the other's present data has nothing new.
        if theirs and ours:
            if here in [self._content(self.read(change)) for change in theirs]:
                ours = []
            elif there in [self._content(_read(self._ours, change)) for change in ours]:
                theirs = []
        did, own = (any(change.matters for change in changes) for changes in (new, mine))
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
        """The record of a change of theirs."""
        return _read(self.theirs, change)

    def made_row(self, number: int) -> AnyRow:
        """A row that they added since the fork, as it was added."""
        return self._read_row(self.there.added[number].offset, number)

    def their_row(self, number: int) -> AnyRow:
        """A row as it is there now."""
        return self._read_row(self._their_row_at(number), number)

    def their_data_id(self, number: int) -> str:
        """The id of the change by which a row got the data that it has there now."""
        return data_id(self.theirs, self._their_row_at(number))

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
    """The numbers of added rows by their keys, and by how many rows before had the same key."""
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
    """Whether they begin with a redo, which was decided with knowledge of what was completed."""
    statuses = [change for change in changes if change.is_status]
    return bool(statuses) and statuses[0].reset == "redo"


def _is_all_skips(changes: list[Change]) -> bool:
    return {change.status for change in changes if change.is_work} == {"skipped"}
