"""The index of one job: the job's state, the columns of its rows, counts and queries.

This module does no I/O.
"""

from __future__ import annotations

import weakref
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from journal.format.decode import UndecodableError
from journal.format.records import (
    BOTH_COPIES,
    REPAIRED,
    UNSET_TIME,
    ExtensionRecord,
    JobCountsRecord,
    JobErrorRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    LogRecord,
    MergeRecord,
    Moment,
    OtherRecord,
    Reset,
    RowSpentRecord,
    RunRecord,
)
from journal.index.columns import Columns, Lease, View
from journal.model import JobStatus, RowStatus, Run, added_usage, millionths

STATUSES: tuple[RowStatus, ...] = tuple(RowStatus)
CODES: dict[str, int] = {status.value: code for code, status in enumerate(STATUSES)}
PENDING, PROCESSING, COMPLETED, FAILED, SKIPPED, NEEDS_REVIEW = range(len(STATUSES))

_MAX_HOSTS = 20
_UNCOUNTED = ("earlier", "given_back")  # the columns of attempts that don't count for limits


class Counts(msgspec.Struct, frozen=True):
    """Counts of rows.

    In a :class:`JobState`, the counts are differences: the counts that ``update_counts`` has set,
    minus the counts of the rows in the index.
    """

    total: int = 0
    processed: int = 0
    successful: int = 0
    failed: int = 0


class JobError(msgspec.Struct, frozen=True):
    """The job's error. ``by``: "merge", "repair", or None if a program has set it."""

    code: str
    message: str
    by: str | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about the job itself that come from the records after the job record."""

    status: JobStatus = JobStatus.PENDING
    started_at: Moment | None = None
    completed_at: Moment | None = None
    error: JobError | None = None
    repaired: bool = False  # whether a repair had losses, so that rows may be missing
    counts: Counts = Counts()
    hosts: tuple[str, ...] = ()  # the hosts of the job's runs, the last run's host last
    run: Run | None = None  # the last run
    reopened_at: tuple[Moment, ...] = ()  # when each pass from the second on began
    pass_started_at: Moment | None = None  # when the current pass was first set to running
    worked_s: float = 0.0  # the time from start to end, summed over all passes that ended
    version: str | None = None  # the version of the last run in this pass
    has_versions: bool = False  # whether any run had a version


class JobState(Progress, frozen=True, kw_only=True):
    """All facts about the job itself that the index holds."""

    header: JobRecord


def _state_after_status(state: JobState, status: JobStatus, at: datetime) -> JobState:
    """Return the state after a change to ``status`` at the time ``at``.

    Only the times in the state are changed. The caller sets the status.
    """
    began_at = state.pass_started_at
    if status is JobStatus.RUNNING and began_at is None:
        return msgspec.structs.replace(state, started_at=state.started_at or at, pass_started_at=at)
    if status.is_ended:
        took_s = 0.0 if began_at is None else max(0.0, (at - began_at).total_seconds())
        return msgspec.structs.replace(
            state, completed_at=at, pass_started_at=None, worked_s=state.worked_s + took_s
        )
    return state


def _state_after_run(state: JobState, record: RunRecord) -> JobState:
    others = (name for name in state.hosts if name != record.host)
    return msgspec.structs.replace(
        state,
        hosts=(*others, record.host)[-_MAX_HOSTS:],
        run=Run(
            host=record.host,
            user=record.user,
            pid=record.pid,
            started_at=record.at,
            argv=record.argv,
            directory=record.directory,
            command=record.command,
            version=record.version,
            on_interrupted=record.on_interrupted,
        ),
        version=record.version,
        has_versions=state.has_versions or record.version is not None,
    )


def _state_after_merge(state: JobState, record: MergeRecord) -> JobState:
    new = (name for name in record.hosts if name not in state.hosts)
    return msgspec.structs.replace(state, hosts=(*new, *state.hosts)[-_MAX_HOSTS:])


def _keyed(header: JobRecord) -> JobRecord | None:
    return header if header.key is not None or header.idempotency_key is not None else None


class Index:
    """The index of one job: see the module. It isn't thread-safe. Hold the journal's mutex."""

    def __init__(self, columns: Columns | None = None) -> None:
        self.state: JobState | None = None
        self.keyed: JobRecord | None = None  # the job record, if it names a key column
        self.last_at = UNSET_TIME
        self.columns = Columns() if columns is None else columns
        self.status_counts = [0] * len(STATUSES)
        self.cost_millionths = 0  # in millionths of a cent, since sums of integers are exact
        self.usage: dict[str, int | float] = {}  # each change makes a new dict
        # Maps the position of each row in processing to the offset of the row's status record
        # before the attempt in progress. A row in its first attempt has no entry.
        self.before_attempt: dict[int, int] = {}
        self.highest_number = 0
        self.ascending = True
        self._by_number: dict[int, int] | None = None
        self._lease: weakref.ref[Lease] | None = None
        self._undo: list[tuple[Any, ...]] = []
        self.forget_undo = self._undo.clear  # call this after a commit was written

    def load(
        self,
        state: JobState,
        last_at: datetime,
        columns: Columns,
        *,
        status_counts: list[int],
        cost_millionths: int,
        usage: dict[str, int | float],
        before_attempt: dict[int, int],
        highest_number: int,
        ascending: bool,  # whether the row numbers ascend, in the order of the columns
    ) -> None:
        """Set the whole state from a hint (a saved index)."""
        self.state, self.last_at, self.columns = state, last_at, columns
        self.keyed = _keyed(state.header)
        self.status_counts = list(status_counts)
        self.cost_millionths, self.usage = cost_millionths, usage
        self.before_attempt = before_attempt
        self.highest_number = highest_number
        self.ascending = ascending

    # --- queries

    @property
    def row_count(self) -> int:
        return len(self.columns.statuses)

    def position_of(self, number: int) -> int | None:
        """Return the position of row ``number`` in the columns, or None if there is no such row."""
        numbers = self.columns.numbers
        if numbers is None:
            return number - 1 if 0 < number <= len(self.columns.statuses) else None
        if self.ascending:
            position = bisect_left(numbers, number)
            found = position < len(numbers) and numbers[position] == number
            return position if found else None
        return self._positions_by_number(numbers).get(number)

    def _positions_by_number(self, numbers: Iterable[int]) -> dict[int, int]:
        if self._by_number is None:
            self._by_number = {number: position for position, number in enumerate(numbers)}
        return self._by_number

    def positions(self, code: int, first: int = 0) -> Iterator[int]:
        """Yield the positions of the rows with a status code, from position ``first`` on.

        Rows may change during the iteration.
        """
        position = self.columns.statuses.find(code, first)
        while position >= 0:
            yield position
            position = self.columns.statuses.find(code, position + 1)

    def view(self, statuses: Collection[RowStatus] | None) -> View:
        """Return a view of the rows that have these statuses now. None stands for all rows."""
        codes = None if statuses is None else frozenset(CODES[status] for status in statuses)
        count = self.row_count if codes is None else sum(self.status_counts[code] for code in codes)
        order = None
        if not self.ascending:
            order = sorted(range(self.row_count), key=self.columns.number)
        return View(self.columns, self._take_lease(), codes, count, order=order)

    def view_of_new(self, first: int) -> View:
        """Return a view of the rows from position ``first`` on, in the order of their addition."""
        return View(self.columns, self._take_lease(), None, self.row_count - first, first=first)

    def _take_lease(self) -> Lease:
        lease = (self._lease and self._lease()) or Lease()
        self._lease = weakref.ref(lease)
        return lease

    # --- changes (they can be undone until ``forget_undo`` is called)

    def mark(self) -> int:
        """Return a mark of the current state for :meth:`rollback`."""
        return len(self._undo)

    def rollback(self, mark: int) -> None:
        """Undo all changes since ``mark``, even a change that an exception has interrupted."""
        if len(self._undo) <= mark:
            return
        self.detach()
        while len(self._undo) > mark:
            kind, *old = self._undo.pop()
            if kind == "row":
                position, code, status_offsets, before = old[:4]
                attempts, self.cost_millionths, self.usage = old[4:]
                self.before_attempt.pop(position, None)
                if before is not None:
                    self.before_attempt[position] = before
                columns = self.columns
                columns.statuses[position] = code
                columns.status_offsets[position] = status_offsets
                columns.attempts[position] = attempts
            elif kind == "reset":
                position, *counts = old
                for name, count in zip(_UNCOUNTED, counts, strict=True):
                    if count is None:
                        setattr(self.columns, name, None)
                    elif (column := getattr(self.columns, name)) is not None:
                        column[position] = count
            elif kind == "spent":
                self.cost_millionths, self.usage = old
            elif kind == "steps":
                position, head, count = old
                self.columns.restore_steps(position, head, count)
            elif kind == "data":
                position, self.columns.row_offsets[position] = old
            elif kind == "rows":
                count, dense, self.highest_number, self.ascending = old
                self.columns.cut(count)
                if dense:
                    self.columns.numbers = None
                self._by_number = None
            else:
                self.state, self.last_at = old
        self.status_counts[:] = map(self.columns.statuses.count, range(len(STATUSES)))

    def begin_rows(self) -> None:
        """Prepare for :meth:`rollback` of added rows. Call this method before you add rows."""
        self._undo.append(
            (
                "rows",
                self.row_count,
                self.columns.numbers is None,
                self.highest_number,
                self.ascending,
            )
        )

    def add_row(self, number: int, offset: int) -> None:
        """Add a pending row. The number must not be in use: check with :meth:`position_of`."""
        if self._lease is not None:
            self.detach()
        columns = self.columns
        statuses = columns.statuses
        if columns.numbers is None and number == len(statuses) + 1:  # the usual case
            self.highest_number = number
        else:
            self._add_number(number)
        statuses.append(PENDING)
        columns.row_offsets.append(offset)
        columns.status_offsets.append(0)
        columns.attempts.append(0)
        if columns.earlier is not None:
            columns.earlier.append(0)
        if columns.given_back is not None:
            columns.given_back.append(0)
        if columns.step_heads is not None:
            columns.step_heads.append(0)
        self.status_counts[PENDING] += 1

    def _add_number(self, number: int) -> None:
        columns = self.columns
        if columns.numbers is None:
            columns.numbers = array("Q", range(1, len(columns.statuses) + 1))
        if number <= self.highest_number:
            self.ascending = False
        if not self.ascending:
            self._positions_by_number(columns.numbers)[number] = len(columns.numbers)
        columns.numbers.append(number)
        self.highest_number = max(self.highest_number, number)

    def add_next_rows(self, offsets: array[int]) -> None:
        """Add pending rows with the next numbers. The existing numbers must be 1, 2, 3, ..."""
        if self._lease is not None:
            self.detach()
        columns, count = self.columns, len(offsets)
        columns.statuses.extend(bytes([PENDING]) * count)
        columns.row_offsets.extend(offsets)
        columns.status_offsets.extend(array("Q", bytes(8 * count)))
        columns.attempts.extend(array("I", bytes(4 * count)))
        for column in (columns.earlier, columns.given_back, columns.step_heads):
            if column is not None:
                column.extend(array("I", bytes(4 * count)))
        self.status_counts[PENDING] += count
        self.highest_number += count

    def set_row_data(self, position: int, offset: int) -> None:
        """Set the offset of the record that has the row's data."""
        if self._lease is not None:
            self.detach()
        self._undo.append(("data", position, self.columns.row_offsets[position]))
        self.columns.row_offsets[position] = offset

    def set_row(
        self,
        position: int,
        code: int,
        offset: int,
        cost_cents: float | None,
        usage: dict[str, int | float] | None = None,
        reset: Reset | None = None,
    ) -> int:
        """Set the row's status and the offset of its status record; return its number of attempts.

        With ``reset``, the row's attempts are counted from zero again. If ``reset`` is "redo", the
        index also forgets the row's steps. If it is "given_back", only the attempt in progress
        doesn't count for limits.
        """
        if self._lease is not None:
            self.detach()
        columns, counts = self.columns, self.status_counts
        statuses, offsets = columns.statuses, columns.status_offsets
        old, before, attempts = statuses[position], offsets[position], columns.attempts[position]
        spent, usages = self.cost_millionths, self.usage
        known = self.before_attempt.get(position) if self.before_attempt else None
        self._undo.append(("row", position, old, before, known, attempts, spent, usages))
        counts[old] -= 1
        counts[code] += 1
        statuses[position] = code
        offsets[position] = offset
        if code == PROCESSING:  # the start of an attempt has no cost
            attempts += 1
            columns.attempts[position] = attempts
            if old != PROCESSING and before:
                self.before_attempt[position] = before
            return attempts
        if known is not None:
            del self.before_attempt[position]
        if cost_cents:
            self.cost_millionths = spent + millionths(cost_cents)
        if usage:
            self.usage = added_usage(self.usage, usage)
        gives_back = reset == "given_back"
        if code == PENDING and reset and not (gives_back and old != PROCESSING):
            uncounted = (getattr(columns, name) for name in _UNCOUNTED)
            undone = (None if column is None else column[position] for column in uncounted)
            self._undo.append(("reset", position, *undone))
            change = columns.give_back_attempt if gives_back else columns.reset_attempts
            change(position)
            if reset == "redo" and columns.step_heads is not None:
                self._undo.append(("steps", position, *columns.head_of_steps(position)))
                columns.forget_steps(position)
        return attempts

    def add_step(self, position: int, offset: int) -> None:
        """Add the ``row_step`` record at ``offset`` to the row's steps."""
        if self._lease is not None:
            self.detach()
        self._undo.append(("steps", position, *self.columns.head_of_steps(position)))
        self.columns.add_step(position, offset)

    def set_other(self, record: OtherRecord | ExtensionRecord) -> None:
        """Apply a record that gives no row a status, a step or data. Raises UndecodableError."""
        self._undo.append(("job", self.state, self.last_at))
        if isinstance(record, JobRecord):
            if self.state is not None or self.row_count:
                raise UndecodableError("a job record that is not on line 1")
            self.state = JobState(header=record)
            self.keyed = _keyed(record)
            return
        if self.state is None:
            raise UndecodableError("no job record on line 1")
        replace = msgspec.structs.replace
        if isinstance(record, JobStatusRecord):
            status = JobStatus(record.status)
            self.state = replace(_state_after_status(self.state, status, record.at), status=status)
        elif isinstance(record, JobReopenedRecord):
            error = self.state.error
            self.state = replace(
                self.state,
                status=JobStatus.PENDING,
                completed_at=None,
                version=None,
                error=error if error and error.by and error.code == BOTH_COPIES else None,
                reopened_at=(*self.state.reopened_at, record.at),
            )
        elif isinstance(record, JobCountsRecord):
            self.state = replace(self.state, counts=self._counts(record))
        elif isinstance(record, JobErrorRecord):
            is_repair = record.by is not None and record.code == REPAIRED
            repaired = self.state.repaired or is_repair
            error = JobError(record.code, record.message, record.by)
            self.state = replace(self.state, error=error, repaired=repaired)
        elif isinstance(record, RunRecord):
            self.state = _state_after_run(self.state, record)
        elif isinstance(record, MergeRecord):
            self.state = _state_after_merge(self.state, record)
        elif not isinstance(record, (LogRecord, ExtensionRecord)):
            if self.position_of(record.row) is None:
                raise UndecodableError(f"a record about row {record.row}, which doesn't exist")
            if isinstance(record, RowSpentRecord):
                self._undo.append(("spent", self.cost_millionths, self.usage))
                self.cost_millionths += millionths(record.cost_cents or 0)
                self.usage = added_usage(self.usage, record.usage or {})

    def _counts(self, record: JobCountsRecord) -> Counts:
        assert self.state is not None
        rows = self.row_counts()
        shown = self.state.counts
        return Counts(
            *(
                getattr(shown, name) if value is None else value - getattr(rows, name)
                for name in Counts.__struct_fields__
                for value in (getattr(record, name),)
            )
        )

    def row_counts(self) -> Counts:
        """Return the counts of the rows in the index."""
        successful, failed = self.status_counts[COMPLETED], self.status_counts[FAILED]
        return Counts(self.row_count, successful + failed, successful, failed)

    def detach(self) -> None:
        """Copy the columns if a view still uses them. Call this before a change."""
        if self._lease is not None:
            if self._lease() is not None:
                self.columns = self.columns.copy()
            self._lease = None
