"""The recorded calls of a job: their resumption in a run, their waits and their ends.

A **recorded** call has begun a step, or waits for somebody else: see ``store/calls.py``. Its open
rows come back together, as one call. ``rate``, ``max_rows`` and ``where`` don't apply,
because these rows were started before.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from time import monotonic

from journal.errors import InvalidStateTransition
from journal.format.records import A_RUN
from journal.index.columns import PENDING, PROCESSING, WAITING
from journal.model import JobRow
from journal.run.outcome import Outcome
from journal.run.pacing.retries import Due
from journal.run.workers.in_flight import Result
from journal.service import JobService
from journal.store import calls
from journal.store.calls import Call
from journal.store.journal import Journal
from journal.store.row_reader import FoundRow, position_of, read_call

Resumed = tuple[Call, list[JobRow]]


class OpenCalls:
    """The recorded calls with open rows, for one run. Not thread-safe.

    The records that its methods append become part of the batch that the caller has open.
    ``is_batch``: whether the run's handler gets many rows. If not, the run resumes no calls.
    """

    def __init__(self, service: JobService, job_id: str, *, is_batch: bool) -> None:
        self._service, self._job_id, self._is_batch = service, job_id, is_batch
        self._waiting = Due[int]()  # ids of calls
        self._in_flight: set[int] = set()
        # The latest wait that waits_since has read: its offset, and its beginning.
        self._waited: tuple[int, datetime | None] = 0, None
        self._kept: dict[int, Outcome] = {}  # by row: the outcomes for :meth:`end`
        self._again_s: dict[int, float] = {}  # by call: when its last retried row is due

    def __bool__(self) -> bool:
        """Whether calls wait, or are due."""
        return bool(self._waiting)

    @property
    def in_flight(self) -> int:
        """The number of calls in flight that were resumed."""
        return len(self._in_flight)

    @property
    def next_due_s(self) -> float:
        """When the next call is due, by ``monotonic``."""
        return self._waiting.next_s

    @property
    def _journal(self) -> Journal:
        return self._service.store.journal(self._job_id)

    def find(self) -> None:
        """Find the calls that are open at the start of the run."""
        with self._service.store.reading(self._job_id) as journal:
            found = calls.open_calls(journal) if self._is_batch and journal.index.calls else []
            retried = {call.id for call in found if _has_retried(journal, call.open)}
            now, now_s = journal.now(), monotonic()
        for call in found:
            is_due = call.due is None or call.id in retried
            wait_s = 0.0 if is_due or call.due is None else (call.due - now).total_seconds()
            if call.after_s is not None:  # the clock may have been changed
                wait_s = min(wait_s, call.after_s)
            self._waiting.put(call.id, now_s + wait_s)

    def others(self, rows: list[FoundRow]) -> list[FoundRow]:
        """Return the pending rows that are in no call.

        Make the calls of the other rows due. A waiting call becomes due only if a person has
        retried one of its rows.
        """
        with self._service.store.reading(self._job_id) as journal:
            index, found = journal.index, list[FoundRow]()
            if not index.calls:
                return rows
            for row in rows:
                call = index.columns.call(row.position)
                if call not in index.calls:
                    found.append(row)
                elif self._is_batch and call not in self._in_flight:
                    due_s, now_s = self._waiting.get(call), monotonic()
                    if due_s is None or (due_s > now_s and not row.attempts):
                        self._waiting.put(call, now_s)
        return found

    def pending(self) -> int:
        """The number of pending rows in waiting calls, without the rows that wait themselves."""
        return sum(codes.count(PENDING) for codes in self._codes() if WAITING in codes)

    def has_retries(self) -> bool:
        """Whether a call only waits for another attempt, and not for somebody else."""
        return any(PENDING in codes and WAITING not in codes for codes in self._codes())

    def _codes(self) -> list[bytes]:
        """The statuses of the rows of each call that isn't in flight."""
        if not self._waiting:
            return []
        with self._service.store.reading(self._job_id) as journal:
            calls, columns = journal.index.calls, journal.index.columns
            spans = [calls.rows(call, columns) for call in self._waiting if call in calls]
            return [b"".join(columns.statuses[a.start : a.stop] for a in each) for each in spans]

    def resume(self, count: int) -> list[Resumed]:
        """Start up to ``count`` calls that are due, by setting their rows to processing."""
        resumed: list[Resumed] = []
        while len(resumed) < count and (call_id := self._waiting.pop_due(monotonic())):
            # Another process may have settled the rows of the call, or ended the job.
            if call_id in self._journal.index.calls:
                with suppress(InvalidStateTransition):
                    call, rows = self._journal.change(calls.resume_call, call_id, A_RUN)
                    if rows:
                        resumed.append((call, rows))
                        self._in_flight.add(call_id)
        return resumed

    def put_back(self, call_id: int) -> None:
        """Let a resumed call wait again if no worker has begun it."""
        self._journal.change(calls.wait_call, call_id, None)
        self._in_flight.discard(call_id)
        self._waiting.put(call_id, monotonic())

    # --- outcomes

    def keeps(self, row: JobRow, outcome: Outcome) -> bool:
        """Return whether a row stays in its call without its own outcome.

        This is so if the row waits, or if its attempt has done nothing. :meth:`end` then records
        the wait for all these rows of the call. A row that begins again at a step leaves its call.
        """
        waits = outcome.kind == "waiting"
        if not self._is_batch or outcome.from_step or not (waits or outcome.is_given_back):
            return False
        journal = self._journal
        is_kept = waits or bool(_recorded(journal, row))
        if not is_kept or not _is_in_progress(journal, row):
            return False
        self._kept[row.row_number] = outcome
        return True

    def waits_since(self, position: int) -> datetime | None:
        """When the call of a row began its first wait, or None."""
        journal = self._journal
        found = journal.index.calls.get(journal.index.columns.call(position))
        if found is None or not found.waited:
            return None
        if found.waited != self._waited[0]:  # successive rows have the same call
            record = read_call(journal.file, journal.read_line, found.waited)
            self._waited = found.waited, record.since
        return self._waited[1]

    def takes(self, row: JobRow, due_s: float) -> bool:
        """Return whether a row will be attempted again with its call. ``due_s``: the due time."""
        if row.row_number in self._kept:
            return True
        call_id = _recorded(self._journal, row) if self._is_batch else 0
        if call_id:
            self._again_s[call_id] = max(due_s, self._again_s.get(call_id, 0.0))
        return bool(call_id)

    def end(self, results: Iterable[Result]) -> None:
        """Let calls wait or end, after the outcomes of their rows were recorded."""
        if self._kept or (self._is_batch and self._journal.index.calls):
            for _, of_call in groupby(results, attrgetter("call")):
                self._end([result.row for result in of_call])
            self._kept.clear()

    def _end(self, rows: list[JobRow]) -> None:
        journal, due_s = self._journal, None
        call_id = next(filter(None, (_recorded(journal, row) for row in rows)), 0)
        waiting = [row for row in rows if row.row_number in self._kept]
        if waiting:
            if not call_id:
                attempts = [(row.row_number, row.attempts) for row in waiting]
                call_id = journal.change(calls.begin_call, attempts).id
            outcomes = [self._kept[row.row_number] for row in waiting]
            times = [one.after_s for one in outcomes if one.after_s is not None]
            wait_s = min(times) if times else None
            reason = next((one.reason for one in outcomes if one.reason), None)
            journal.change(calls.wait_call, call_id, wait_s, reason)
            due_s = monotonic() + (wait_s or 0.0)
        if call_id:
            self._in_flight.discard(call_id)
            again_s = self._again_s.pop(call_id, None)
            if due_s is not None or again_s is not None:
                self._waiting.put(call_id, max(due_s or 0.0, again_s or 0.0))
            else:
                journal.change(calls.end_call, call_id)


def _recorded(journal: Journal, row: JobRow) -> int:
    """Return the id of a row's recorded call, or 0."""
    if not journal.index.calls:
        return 0
    call = journal.index.columns.call(position_of(journal, row.row_number))
    return call if call in journal.index.calls else 0


def _has_retried(journal: Journal, numbers: Iterable[int]) -> bool:
    """Return whether a call is due now because a person has made one of its rows pending."""
    columns = journal.index.columns
    positions = (position_of(journal, number) for number in numbers)
    return any(
        columns.statuses[at] == PENDING and columns.attempts[at] == columns.earlier_attempts(at)
        for at in positions
    )


def _is_in_progress(journal: Journal, row: JobRow) -> bool:
    """Return whether an attempt at a row has no outcome yet."""
    columns, position = journal.index.columns, position_of(journal, row.row_number)
    return (columns.statuses[position], columns.attempts[position]) == (PROCESSING, row.attempts)
