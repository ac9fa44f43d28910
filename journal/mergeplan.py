"""What becomes of each row that another copy of a job has changed, before anything is written."""

from __future__ import annotations

from typing import Any, Literal

from journal.addedrows import match_added
from journal.copies import Copy, holds, replay_copy
from journal.decode import decode_record
from journal.format import ELSEWHERE, LOST_CHECKSUM, RowStatusRecord
from journal.index import COMPLETED, NEEDS_REVIEW, PROCESSING, STATUSES
from journal.log import Log
from journal.parted import DATA, Change, RowChanges, content_of, data_id
from journal.replay import START, Position
from journal.rows import AnyRow, read_row

_Verdict = Literal["keep", "take", "conflict"]


class Plan:
    """See the table in :mod:`journal.merge`. Rows are called by the numbers that they have here.

    ``take``: changes of theirs that become ours, by row. ``conflicts``: changes of theirs that are
    only told; of these rows, and of those taken, ``twice`` are completed here in the end, and
    ``both`` need a review. Of the conflicts ``data`` are about the row's data, in ``redone`` one
    copy has redone the row. ``added``: rows that only they have, ascending; of these ``renumbered``
    have another number there, which it maps to. ``follow``: rows that are taken, with the data that
    they have there. ``retries``: marks of older versions that aren't known here.
    """

    def __init__(self, log: Log, ours: Copy, theirs: Copy, fork: Position) -> None:
        """``ours`` is what ``log`` holds, under its lock; they parted at ``fork``.

        In memory for the changes since then, and an index of theirs. Raises JournalDamagedError and
        FormatVersionError for what is wrong with theirs.
        """
        self._their_index = replay_copy(theirs)  # that all of it makes sense
        assert self._their_index.state is not None
        self.their_state, self.fork, self.theirs = self._their_index.state, fork, theirs
        self._log, self._ours = log, ours
        self.here, self.there = RowChanges(ours, fork), RowChanges(theirs, fork)
        self.take: dict[int, list[Change]] = {}
        self.conflicts: dict[int, list[Change]] = {}
        self.twice: set[int] = set()
        self.both: set[int] = set()
        self.data: set[int] = set()
        self.redone: set[int] = set()
        self.follow: set[int] = set()
        found = match_added(self.here, self.there, (log.index, self._their_index))
        self.added, self.renumbered = found.added, found.renumbered
        self._their_numbers = {here: there for there, here in found.numbers.items()}
        # What is told of a row may be of before they parted, come back through a third copy.
        before = self.here.rows_of_before() | self.there.rows_of_before()
        self._shared = RowChanges(ours._replace(end=fork), START if before else fork, before)
        for number in self.there.rows():
            self._decide(number)
        known = self.here.retries
        self.retries = {r: at for r, at in self.there.retries.items() if r not in known}

    @property
    def is_empty(self) -> bool:
        """Whether nothing of theirs is to be written here, nor to be kept beside it."""
        merged = [at.offset for at in self.here.merges if holds(self.theirs, at)]
        has_news = self.there.news_at >= max(merged, default=0)
        return not (self.added or self.take or self.conflicts or self.retries or has_news)

    # --- row by row

    def _decide(self, number: int) -> None:
        new = self.there.unknown_to(self.here, number, self._shared)
        code = self.our_code(number)
        if code is None:  # a row to be added, or none at all
            made = self.there.added.get(number)
            new = [change for change in new if made and change.offset != made.offset]
        if not new:
            return
        mine = self.here.unknown_to(self.there, number, self._shared)
        if code is not None and any(change.is_renumbering for change in new):
            new = [change for change in new if not change.is_renumbering]
            if code == COMPLETED and not mine and [c.status for c in new] == ["completed"]:
                return  # somebody has settled the review of what was completed here
        data, has_own = self._news_of_data(number, new, mine)
        new = [change for change in new if change.status != DATA or change in data]
        statuses = [change for change in new if change.status != DATA]
        own = [change for change in mine if change.status != DATA]
        if number in self.renumbered and any(change.matters for change in statuses):
            self.conflicts[number] = new
            return
        verdict = self._judge(number, statuses, own)
        if self._is_data_in_doubt(code, verdict, statuses, own, data=bool(data), has_own=has_own):
            self.data.add(number)
            verdict = "conflict"
        if verdict == "conflict":
            self.conflicts[number] = new
            (self.twice if code == COMPLETED else self.both).add(number)
            if any(change.reset == "redo" for change in (*new, *mine)):
                self.redone.add(number)
        elif verdict == "take":
            self._take(number, new)
            if not data and not has_own and self._has_other_data(number):
                self.follow.add(number)
        elif data:
            self.take[number] = data

    def _judge(self, number: int, new: list[Change], mine: list[Change]) -> _Verdict:
        """What becomes of the row's status, by what each did that the other doesn't know of."""
        if not new:
            return "keep"
        code, last = self.our_code(number), new[-1]
        is_last_word = self.there.end_with(number, new)  # else we know what became of it
        if is_last_word and not mine and (code != COMPLETED or _is_redone(new)):
            # Said knowing all that we did. What is put back by no decision is tried again there.
            is_said = last.status == "needs_review" or any(c.is_work or c.reset for c in new)
            return "take" if is_said else "keep"
        if self._is_same(number, new) or not any(change.matters for change in new):
            return (
                "keep"  # and what was in flight when they parted: what was made of that here stands
            )
        if self._did_no_more_than_skip(number, mine, last):
            return "take"
        if (
            code == COMPLETED
            or (code == NEEDS_REVIEW and last.status == "pending")
            or not is_last_word
            or any(change.matters for change in mine)
        ):
            return "conflict"
        return "take"  # it was in flight, or put back, and only the other knows how that ended

    def _take(self, number: int, new: list[Change]) -> None:
        self.take[number] = new
        code = self.our_code(number)
        status = "pending" if code is None else STATUSES[code].value
        status = next((c.status for c in reversed(new) if c.is_status), status)
        if (status == "completed" or code == COMPLETED) and self.alarms(number):
            self.twice.add(number)

    def alarms(self, number: int) -> list[Change]:
        """What they have been told was done to a row as well, which they, or we, have completed."""
        return self.there.alarms(number, self.here)

    def _is_same(self, number: int, new: list[Change]) -> bool:
        """Whether their last word on a row, and ours, must be about one and the same work."""
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

    def _did_no_more_than_skip(self, number: int, mine: list[Change], last: Change) -> bool:
        """Whether both skipped the row in the end, and only the other had tried it before."""
        here = self.our_status(number)
        is_agreed = here is not None and here.status == last.status == "skipped"
        return is_agreed and _is_all_skips(mine)

    # --- data

    def _news_of_data(
        self, number: int, new: list[Change], mine: list[Change]
    ) -> tuple[list[Change], bool]:
        """Their changes of the row's data that are news here, and whether ours are news there.

        Who has given it the same data as the other, and nothing since, has nothing to tell.
        """
        theirs = [change for change in new if change.status == DATA]
        ours = [change for change in mine if change.status == DATA]
        if not (theirs or ours) or self.our_code(number) is None:
            return theirs, False
        if LOST_CHECKSUM in (self.our_row(number).checksum, self.their_row(number).checksum):
            return [], False  # a repair knows nothing of it
        here, there = self._content(self.our_row(number)), self._content(self.their_row(number))
        if here == there:
            return [], False
        if theirs and ours:
            if here in [self._content(self.read(change)) for change in theirs]:
                return theirs, False
            if there in [self._content(_read(self._ours, change)) for change in ours]:
                return [], True
        return theirs, bool(ours)

    def _is_data_in_doubt(
        self,
        code: int | None,
        verdict: _Verdict,
        new: list[Change],
        mine: list[Change],
        *,
        data: bool,
        has_own: bool,
    ) -> bool:
        """Whether both have changed a row's data, or one has, and the other worked on it."""
        if data and has_own:
            return True
        if has_own:
            return verdict != "keep" and any(change.matters for change in new)
        is_worked_on = code in (PROCESSING, COMPLETED) or any(change.matters for change in mine)
        return data and verdict != "take" and is_worked_on

    def _has_other_data(self, number: int) -> bool:
        """Whether the row's data is another there now, though neither has news of it."""
        is_changed = self.here.data_of(number) or self.there.data_of(number)
        if not is_changed or self.our_code(number) is None:
            return False
        here, there = self.our_row(number), self.their_row(number)
        is_lost = LOST_CHECKSUM in (here.checksum, there.checksum)
        return not is_lost and self._content(here) != self._content(there)

    def _content(self, row: AnyRow) -> bytes:
        return content_of(row, self.theirs.header)

    # --- reading

    def our_code(self, number: int) -> int | None:
        position = self._log.index.position_of(number)
        return None if position is None else self._log.index.columns.statuses[position]

    def our_status(self, number: int) -> RowStatusRecord | None:
        position = self._log.index.position_of(number)
        offset = 0 if position is None else self._log.index.columns.status_at[position]
        record = decode_record(self._log.read_line(offset)) if offset else None
        return record if isinstance(record, RowStatusRecord) else None

    def read(self, change: Change) -> Any:
        """The record of a change of theirs."""
        return _read(self.theirs, change)

    def made_row(self, number: int) -> AnyRow:
        """One of those that they have made since the copies parted, as it was made."""
        return self._read_row(self.there.added[number].offset, number)

    def their_row(self, number: int) -> AnyRow:
        """A row as it is there now."""
        return self._read_row(self._their_row_at(number), number)

    def their_data_id(self, number: int) -> str:
        """The id of the change that gave a row the data which it has there now."""
        return data_id(self.theirs, self._their_row_at(number))

    def _their_row_at(self, number: int) -> int:
        position = self._their_index.position_of(self._their_number(number))
        assert position is not None
        return self._their_index.columns.row_at[position]

    def _read_row(self, offset: int, number: int) -> AnyRow:
        file = self.theirs.file
        return read_row(file, file.read_line(offset), offset, self._their_number(number))

    def our_row(self, number: int) -> AnyRow:
        position = self._log.index.position_of(number)
        assert position is not None
        offset = self._log.index.columns.row_at[position]
        return read_row(self._log.file, self._log.read_line(offset), offset, number)

    def _their_number(self, number: int) -> int:
        return self._their_numbers.get(number, number)


def _read(copy: Copy, change: Change) -> Any:
    return decode_record(copy.file.read_line(change.offset))


def _is_redone(changes: list[Change]) -> bool:
    """Whether they begin with a redo, which was made knowing what was completed before."""
    statuses = [change for change in changes if change.is_status]
    return bool(statuses) and statuses[0].reset == "redo"


def _is_all_skips(changes: list[Change]) -> bool:
    return {change.status for change in changes if change.is_work} == {"skipped"}
