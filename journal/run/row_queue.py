"""Queues a job's open rows in the order in which a run takes them.

Rows are looked up when they are needed, and are not kept in memory. Of a row that waits for another
attempt or for somebody else, only the number and a time are kept. All records become part of the
batch that the caller has open.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import monotonic

from journal.errors import InvalidStateTransition, JournalError
from journal.format.records import A_RUN
from journal.ids import row_id_of
from journal.index.columns import WAITING
from journal.model import EarlyEnd, Job, JobRow, RowStatus
from journal.run.lifecycle import RunningJob
from journal.run.outcome import Outcome
from journal.run.pacing.limit_per import FRESH, RETRIED, STARTED, WAITED, Offered, PerKey
from journal.run.pacing.limits import Limits
from journal.run.pacing.rates import UsageRates
from journal.run.pacing.retries import Due
from journal.run.pacing.waits import Waits
from journal.run.plan import Chosen
from journal.run.settling import Settling
from journal.run.workers.in_flight import Result
from journal.store import bulk
from journal.store.batch import Batch
from journal.store.calls import Call
from journal.store.journal import Journal
from journal.store.row_reader import FoundRow, find_rows
from journal.text import counted

# If this many rows wait for another attempt, no new rows are started.
_MAX_WAITING = 100_000
_FOUND_AT_ONCE = 100
# After the last row: the time between two searches for rows that other processes have made pending.
_LOOK_AGAIN_S = 0.5
# Each row that was parked or passed over adds this time to the time between two searches. A look at
# a row takes about 1 µs.
_LOOK_AGAIN_EACH_S = 1e-5
# The maximum number of rows that can't start and are looked at in one turn. Workers and other
# processes wait until the turn ends.
_MAX_LOOKS = 2000
_MIN_BLOCKED_S = 5.0  # the minimum time to wait if all other rows wait for given-up attempts


class RowQueue:
    """The pending rows of one job, for one run. Not thread-safe."""

    def __init__(
        self, job: RunningJob, limits: Limits, workers: int = 1, usage: UsageRates | None = None
    ) -> None:
        self._service = job.service
        self._job_id = job.id
        self.settling = Settling(job, limits)
        self._limits = limits
        self._per_key = PerKey(limits.limit_per)
        self._how_to = job.settings.how_to
        self._chosen = Chosen(job.service, job.id, limits.where)
        self._blocked_s: float | None = None  # since when no row can start, by ``monotonic``
        self._looks = _MAX_LOOKS  # rows that can't start, but may still be looked at in this turn
        self._position = 0
        self._found: deque[FoundRow] = deque()  # rows that were pending at the last look
        self._is_past_fresh = False  # whether all rows that were never started have been found
        # Whether some of the found rows had been started before.
        self._passed_by = False
        self._at_end = False
        self._look_again_s = 0.0
        self._waiting = Due[int]()  # the numbers of the rows that are attempted again
        # The number of rows that ``max_rows`` still allows to start. Rows that this run has started
        # before, and will start again, don't count.
        self._places: int = limits.max_rows or sys.maxsize
        self._new: set[int] = set()  # rows of this turn that this run hasn't started before
        self._waits = Waits()
        self.calls = self.settling.calls
        # The numbers of the rows in flight that have waited.
        self._polled: set[int] = set()
        # Whether the latest starts were only starts of rows and calls that have waited.
        self._only_polls = False
        self.workers = workers
        self.usage = usage
        self._blocked: Offered | None = None  # a row that waits for a rate by usage
        # The time at which rows of the present commit were settled. It is the same for all rows, so
        # that rows that failed together are due together.
        self._settled_s: float | None = None

    def limit_per(self, limit_per: Mapping[str, int] | None, in_flight: Iterable[JobRow]) -> None:
        """Change the limit by the values of a column. ``in_flight``: the rows of all attempts.

        Rows that wait for a slot are found again.
        """
        now_s = monotonic()
        for number in self._per_key.parked(RETRIED):
            self._waiting.put(number, now_s)
        for number in self._per_key.parked(WAITED):
            self._waits.add(now_s, number)
        self._per_key = PerKey(limit_per, in_flight)
        self._rewind()

    @property
    def next_due_s(self) -> float | None:
        """The time, by ``monotonic``, at which the queue must be asked again.

        At this time, a waiting row is due for another attempt, or the search for rows continues.
        """
        if not self._looks:
            return 0.0
        due_s = min(self._waits.next_due_s, self.calls.next_due_s, self._waiting.next_s)
        return None if due_s == math.inf else due_s

    @property
    def places(self) -> int:
        """The number of rows that ``max_rows`` allows to start.

        Rows that have waited have no limit.
        """
        others = len(self._waiting) + len(self._waits) + self._per_key.count
        return self._places + others + (self._blocked is not None)

    @property
    def is_past_fresh(self) -> bool:
        """Whether all rows that were never started have been found."""
        return self._is_past_fresh and not self._per_key.has_fresh

    def has_fresh(self) -> bool:
        """Return whether rows may be left that were never started.

        The answer depends on the search so far in this turn.
        """
        if self._per_key.has_fresh:
            return True
        found = self._peek()
        if found is None:
            return not self._at_end and not self._is_past_fresh
        return found.is_fresh

    def is_empty(self, job: Job) -> bool:
        """Return whether no pending row is left for this run. ``job`` is the present job.

        Pending rows that don't meet the run's condition aren't for this run.
        """
        if not job.pending_count:
            return True
        waits = (self._waits and job.waiting_count) or self.calls
        return not waits and self._has_only_waits(job)

    def _has_only_waits(self, job: Job) -> bool:
        """Return whether all pending rows for this run wait for somebody else."""
        others = job.pending_count - job.waiting_count - self.calls.pending()
        if not self._at_end or self._per_key.count or others > self._chosen.left:
            return False
        return not any(map(self._is_pending, self._waiting))

    def most(self, job: Job) -> int:
        """The maximum number of rows that may start, according to the search so far."""
        others = job.pending_count - job.waiting_count - self._chosen.left
        return others + self._waits.due(monotonic()) + self._per_key.waited

    def _is_pending(self, number: int) -> bool:
        row = self._service.get_row(row_id_of(self._job_id, number))
        return row is not None and row.status is RowStatus.PENDING

    def start_calls(
        self, job: Job, free: int, room: Callable[[Job, int], int], *, fresh_first: bool
    ) -> list[tuple[Call | None, list[JobRow]]]:
        """Resume up to ``free`` recorded calls, and start rows as :meth:`start` does.

        Returns the calls, each with its rows. ``room``: returns how many rows may start beside a
        number of calls. Recorded calls come first. But if there are other rows, these rows get half
        of the workers.
        """
        size = self._limits.batch or 1
        half = self._half - self.calls.in_flight
        started: list[tuple[Call | None, list[JobRow]]] = [*self.calls.resume(min(free, half))]
        rows = self.start(room(job, len(started)), job, fresh_first=fresh_first)
        started += [(None, rows[at : at + size]) for at in range(0, len(rows), size)]
        started += self.calls.resume(free - len(started))
        if started and not rows:
            self._only_polls = True
        return started

    @property
    def _half(self) -> int:
        """The number of workers for rows and calls that have waited.

        A single worker also takes other rows, in turn.
        """
        return self.workers // 2 or int(not self._only_polls)

    def start(self, count: int, job: Job, *, fresh_first: bool = False) -> list[JobRow]:
        """Start up to ``count`` rows: set their status to processing. Returns the rows.

        Rows that were never started come first, then rows of earlier runs. A row that waits for
        another attempt starts as soon as it is due. With ``fresh_first``, such a row also waits for
        the rows that were never started. ``job`` is the present job.
        """
        if not count:
            return []
        if job.waiting_count > len(self._waits) + self._waits.left + self._per_key.count:
            self._find_waits()
        if self._at_end and job.pending_count and monotonic() >= self._look_again_s:
            self._rewind()  # another process may have retried or added rows
        self._looks = _MAX_LOOKS
        if self.usage is not None:
            self.usage.begin_turn(min(count, self.most(job)))
        candidates = self._candidates(self._room(job), fresh_first=fresh_first)
        started: list[JobRow] = []
        # A batch, because the search for candidates reads the same job.
        with (
            suppress(InvalidStateTransition),  # another process has ended the job
            Batch(self._journal()) as journal,
        ):
            started = bulk.start_rows(journal, candidates, count, A_RUN, self._per_key.gate)
        self._per_key.start(started)
        if self.usage is not None:
            self.usage.start(started)
        if started:
            self._blocked_s = None
            numbers = {row.row_number for row in started}
            waited = self._that_waited(numbers)
            self._polled |= waited
            self._only_polls = len(waited) == len(numbers)
            self._places -= len(numbers & self._new)
        self._new.clear()
        return started

    def _room(self, job: Job) -> int:
        """The number of rows that haven't waited and that ``max_waiting`` allows to start."""
        most = self._limits.max_waiting
        return sys.maxsize if most is None else most - job.waiting_count - job.processing_count

    def _find_waits(self) -> None:
        """Find the rows that wait. Convert their due times to ``monotonic``."""
        with self._service.store.reading(self._job_id) as journal:
            columns = journal.index.columns
            positions = array("Q", journal.index.positions(WAITING))
            begin_s = monotonic() - journal.now().timestamp()
        left = self._chosen.left  # the number of rows that don't wait
        self._waits.set(
            (begin_s + columns.due_us(position) / 1e6, columns.number(position))
            for position in positions
            if columns.call(position) not in journal.index.calls
            and self._chosen.has(FoundRow(position, columns.number(position), 0, False), again=True)
        )
        self._chosen.left = left
        self._waits.left = len(positions) - len(self._waits)

    def _that_waited(self, numbers: Iterable[int]) -> set[int]:
        """Return which of these rows have waited since their last retry or redo."""
        index = self._journal().index
        if index.columns.due is None:
            return set()
        return {n for n in numbers if index.columns.due_us(index.position_of(n) or 0)}

    def _candidates(self, room: int, *, fresh_first: bool) -> Iterator[int]:
        """Yield the numbers of rows that may start by ``limit_per`` and the rates.

        ``room``: the maximum number of rows among them that haven't waited.
        """
        places, per_key = self._places, self._per_key
        may_wait = per_key.gate or self.usage or self._waiting or self._waits or self._blocked
        while not may_wait and room > 0 and places > 0 and self._looks:  # for most runs
            if not (number := self._next_found()):
                return
            self._new.add(number)
            yield number
            room, places = room - 1, places - 1
        polls = self._half * (self._limits.batch or 1) - len(self._polled)
        while self._looks and (
            number := self._next(
                fresh_first=fresh_first, places=places, may_go_out=room > 0, may_poll=polls > 0
            )
        ):
            parked, rank = per_key.count, per_key.rank
            if self.usage is not None and not self.usage.admits(number):
                self._blocked = per_key.offered
                return
            if rank > RETRIED:
                self._new.add(number)
            yield number
            is_parked = per_key.count > parked
            self._looks = max(0, self._looks - is_parked)
            if not is_parked:
                polls -= rank == WAITED
                room -= rank > WAITED
                places -= rank > RETRIED

    def end(self, results: Sequence[Result]) -> None:
        """Allow other rows to start in place of attempts that have ended.

        A given-up attempt may still run. It ends with its late result.
        """
        self.settling.forget()
        self._settled_s = None
        if self.usage is not None:
            self.usage.end(results)
        rows: Iterable[JobRow] = (
            result.row for result in results if result.is_late or not result.call.is_given_up
        )
        if self._polled:
            rows = list(rows)
            self._polled.difference_update(row.row_number for row in rows)
        self._per_key.end(rows)

    def reason_to_stop(self, job: Job) -> EarlyEnd | None:
        """The reason why no row will start any more, or None if rows may still start.

        Call this when no row is in flight. ``job`` is the present job. An attempt that the run has
        given up may still be running. If all remaining rows wait for given-up attempts, the run
        gives these attempts the time of one more attempt. After this time, the method returns the
        reason.
        """
        will_start = self._per_key.has_retried or any(map(self._is_pending, self._waiting))
        will_start = will_start or (self._blocked is not None and self._blocked[1] <= RETRIED)
        is_full = self._places <= 0 and not will_start
        if self._limits.no_wait and (end := self._only_waits(job, is_full=is_full)):
            return end
        will_start = will_start or bool(self._waits and job.waiting_count) or bool(self.calls)
        if self._places <= 0 and job.pending_count and not will_start:
            rows = counted(self._limits.max_rows or 0, "row|rows was|were started")
            return EarlyEnd("max_rows", f"{rows}, as many as were asked for")
        others = self._waiting or self._waits or self.calls
        if others or not self._at_end or not self._per_key.is_blocked:
            self._blocked_s = None
            return None
        if self._blocked_s is None:
            self._blocked_s = monotonic()
        if monotonic() - self._blocked_s < max(self._limits.timeout_s or 0.0, _MIN_BLOCKED_S):
            return None
        left = counted(self._per_key.count, "row|rows waits|wait")
        name = self._how_to.argument("limit_per")
        text = f"{left} for attempts that were given up and still run, because of {name}"
        return EarlyEnd("limit_per", text)

    def _only_waits(self, job: Job, *, is_full: bool) -> EarlyEnd | None:
        """The reason why a run with ``no_wait`` ends now, or None if rows may still start.

        ``is_full``: ``max_rows`` lets no other row start.
        """
        is_full = is_full and not self.calls.has_retries()
        if not (is_full or self._room(job) <= 0 or self._has_only_waits(job)):
            return None
        text = self.waits_text(job)
        return EarlyEnd("waiting", text) if text else None

    def waits_text(self, job: Job) -> str:
        """Text with the number of waiting rows and the next due time.

        "" if a row is due, or no row waits.
        """
        count = job.waiting_count if self.calls else min(len(self._waits), job.waiting_count)
        next_s = min(self._waits.next_due_s, self.calls.next_due_s) - monotonic()
        if next_s <= 0 or not count:
            return ""
        at = datetime.now().astimezone() + timedelta(seconds=next_s)
        rows = counted(count, "row|rows waits|wait")
        return f"{rows} for somebody else; the next is due at {at:%Y-%m-%d %H:%M:%S}"

    def _next(
        self, *, fresh_first: bool, places: int, may_go_out: bool = True, may_poll: bool = False
    ) -> int:
        """Return the number of the next row that may start, or 0.

        Without ``places``, only rows that this run has started before, or that have waited, may
        start. Without ``may_go_out``, only rows that have waited may start. With ``may_poll``, rows
        that have waited come first.
        """
        if self._blocked is not None:
            number, rank, was_parked = self._blocked
            if rank <= WAITED or (may_go_out and (rank <= RETRIED or places > 0)):
                self._blocked = None
                return self._per_key.offer(number, rank, has_waited=was_parked)
        due = self._next_due if self._waiting else int
        poll = self._next_poll if self._waits else int
        if not may_go_out:
            return poll() or self._per_key.next(WAITED)
        if places <= 0:
            return due() or poll() or self._per_key.next(RETRIED)
        parked = self._per_key.next if self._per_key.count else int
        if fresh_first:  # parked rows that can't start must not block rows that are due
            first = parked() or self._next_found(fresh_only=True) or due()
        else:
            first = (may_poll and poll()) or due() or parked()
        return first or self._next_found() or poll()

    def _next_poll(self) -> int:
        number = self._waits.pop(monotonic())
        return number and self._per_key.offer(number, WAITED)

    def _next_due(self) -> int:
        number = self._waiting.pop_due(monotonic())
        return 0 if number is None else self._per_key.offer(number, RETRIED)

    def _next_found(self, *, fresh_only: bool = False) -> int:
        if len(self._waiting) >= _MAX_WAITING:
            return 0
        found = self._found[0] if self._found else self._peek()
        if found is None or (fresh_only and not found.is_fresh):
            return 0
        self._found.popleft()
        return self._per_key.offer(found.row_number, FRESH if found.is_fresh else STARTED)

    def _peek(self) -> FoundRow | None:
        """The next pending row, if any. Rows that were never started come first."""
        while not self._found and not self._at_end and self._looks:
            self._find()
        return self._found[0] if self._found else None

    def _find(self) -> None:
        """Find more pending rows: first rows that were never started, then all other rows."""
        rows = find_rows(
            self._service.store, self._job_id, RowStatus.PENDING, self._position, _FOUND_AT_ONCE
        )
        if rows:
            self._position = rows[-1].position + 1
            others = self.calls.others(rows)
            if self._limits.batch is None:  # without batches, a run can't resume calls
                self._chosen.left += len(rows) - len(others)
            self._found.extend(filter(self._is_next, others))
        elif self._passed_by and not self._is_past_fresh:
            self._position = 0
            self._is_past_fresh = True
        else:
            self._at_end = self._is_past_fresh = True

    def _is_next(self, found: FoundRow) -> bool:
        """Return whether a row that was found may start: see ``limit_per`` and ``where``."""
        if self._per_key.count and self._per_key.holds(found):
            self._looks = max(0, self._looks - 1)
            return False
        if found.row_number in self._waiting:
            return False
        if self._chosen:
            self._looks = max(0, self._looks - 1)
            if not self._chosen.has(found, again=self._is_past_fresh):
                return False
        is_next = found.is_fresh or self._is_past_fresh
        self._passed_by = self._passed_by or not is_next
        return is_next

    def _rewind(self) -> None:
        wait_s = _LOOK_AGAIN_S + _LOOK_AGAIN_EACH_S * (self._per_key.count + self._chosen.left)
        self._look_again_s = monotonic() + wait_s
        self._position = 0
        self._chosen.left = 0  # all pending rows are searched again
        self._found.clear()
        self._is_past_fresh = self._passed_by = self._at_end = False

    def put_back(self, call: Call | None, rows: Sequence[JobRow]) -> None:
        """Give back started rows that no worker got. ``call``: the recorded call of the rows."""
        if call is not None:
            with suppress(JournalError):
                self.calls.put_back(call.id)
            return
        for row in rows:
            with suppress(JournalError):
                self.settling.settle_once(row, Outcome(kind="unstarted"))

    def settle(self, row: JobRow, outcome: Outcome) -> tuple[Outcome, bool]:
        """Record the outcome of an attempt: see :meth:`Settling.settle`.

        Returns the recorded outcome, and whether the row will be attempted again. The row waits in
        the queue until it is due.
        """
        outcome, wait_s = self.settling.settle(row, outcome)
        if wait_s is None:
            return outcome, False
        if self._settled_s is None:
            self._settled_s = monotonic()
        due_s = self._settled_s + wait_s
        if self.calls.takes(row, due_s):
            return outcome, True
        if outcome.kind == "waiting":
            self._waits.add(due_s, row.row_number)
            return outcome, True
        self._waiting.put(row.row_number, due_s)
        return outcome, True

    def _journal(self) -> Journal:
        return self._service.store.journal(self._job_id)
