"""What becomes of each row that another copy of a job has changed, before anything is written."""

from __future__ import annotations

from typing import Any

import msgspec

from journal.copies import Copy, holds, replay_copy
from journal.decode import decode_record
from journal.errors import InvalidValueError
from journal.format import ELSEWHERE, LOST_CHECKSUM, RowStatusRecord
from journal.index import COMPLETED, NEEDS_REVIEW, STATUSES
from journal.log import Log
from journal.parted import Change, RowChanges
from journal.replay import START, Position
from journal.rows import AnyRow, read_row


class Plan:
    """See the table in :mod:`journal.merge`.

    ``take``: changes of theirs that become ours, by row. ``conflicts``: changes of theirs that are
    only told; of these rows, and of those taken, ``twice`` are completed here in the end, and
    ``both`` need a review. ``added``: rows that only they have, ascending. ``retries``: marks of
    older versions that aren't known here.
    """

    def __init__(self, log: Log, ours: Copy, theirs: Copy, fork: Position) -> None:
        """``ours`` is what ``log`` holds, under its lock; they parted at ``fork``.

        In memory for the changes since then. Raises InvalidValueError if both have made different
        rows of one number, JournalDamagedError and FormatVersionError for what is wrong with theirs.
        """
        state = replay_copy(theirs).state  # that all of it makes sense
        assert state is not None
        self.their_state, self.fork, self.theirs = state, fork, theirs
        self._log = log
        self.here, self.there = RowChanges(ours, fork), RowChanges(theirs, fork)
        # What is told of a row may be of before they parted, come back through a third copy.
        told = self.here.told_rows() | self.there.told_rows()
        self._shared = RowChanges(ours._replace(end=fork), START if told else fork, told)
        self.take: dict[int, list[Change]] = {}
        self.conflicts: dict[int, list[Change]] = {}
        self.twice: set[int] = set()
        self.both: set[int] = set()
        self.added = sorted(n for n in self.there.added if log.index.position_of(n) is None)
        self._check_added()
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

    def _check_added(self) -> None:
        for number in sorted(self.there.added.keys() - set(self.added)):
            there, here = self.their_row(number), self._our_row(number)
            if LOST_CHECKSUM in (there.checksum, here.checksum):
                continue  # a repair knows no more of it than that it was there
            if _as_bytes(there.data) != _as_bytes(here.data):
                raise InvalidValueError(
                    f"{self.theirs.name}: row {number}",
                    there.data,
                    "both copies have made a row of this number, of different data, so they can't "
                    "be merged: run the rows of one of them as a job of their own",
                )

    def _decide(self, number: int) -> None:
        new = self._news(number)
        code = self.our_code(number)
        if not new or (code is None and number not in self.there.added):
            return
        mine = self._own(number)
        last, is_work = new[-1], any(change.is_work for change in new)
        is_worth_a_look = is_work or any(change.is_doubt for change in new)
        is_last_word = self.there.end_with(number, new)  # else we know what became of it
        if is_last_word and not mine and code != COMPLETED:  # and was said knowing all that we did
            if is_work or last.status == "needs_review":
                self._take(number, new)
        elif self._is_same(number, new) or not is_worth_a_look:
            pass  # and what was in flight when they parted: what was made of that here stands
        elif self._did_no_more_than_skip(number, mine, last):
            self._take(number, new)
        elif (
            code == COMPLETED
            or (code == NEEDS_REVIEW and last.status == "pending")
            or not is_last_word
            or any(change.is_work or change.is_doubt for change in mine)
        ):
            self.conflicts[number] = new
            (self.twice if code == COMPLETED else self.both).add(number)
        else:  # it was in flight, and only the other knows how that ended
            self._take(number, new)

    def _news(self, number: int) -> list[Change]:
        """What they have done with the row, and we don't know of."""
        return self.there.unknown_to(self.here, number, self._shared)

    def _own(self, number: int) -> list[Change]:
        """What we have done with the row, and they don't know of."""
        return self.here.unknown_to(self.there, number, self._shared)

    def _take(self, number: int, new: list[Change]) -> None:
        self.take[number] = new
        code = self.our_code(number)
        status = "pending" if code is None else STATUSES[code].value
        status = next((c.status for c in reversed(new) if c.status != ELSEWHERE), status)
        if status == "completed" and self.there.alarms(number):
            self.twice.add(number)

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
        return decode_record(self.theirs.file.read_line(change.offset))

    def their_row(self, number: int) -> AnyRow:
        """One of those that they have made since the copies parted."""
        file, offset = self.theirs.file, self.there.added[number]
        return read_row(file, file.read_line(offset), offset, number)

    def _our_row(self, number: int) -> AnyRow:
        position = self._log.index.position_of(number)
        assert position is not None
        offset = self._log.index.columns.row_at[position]
        return read_row(self._log.file, self._log.read_line(offset), offset, number)


def _as_bytes(data: Any) -> bytes:
    """Equal only for what is equal as JSON: 1, 1.0 and true are not."""
    return msgspec.json.encode(data, order="deterministic")


def _is_all_skips(changes: list[Change]) -> bool:
    return {change.status for change in changes if change.is_work} == {"skipped"}
