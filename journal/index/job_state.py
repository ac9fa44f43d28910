"""The state of a job in an index: the facts about the job itself, and its calls with many rows.

Records of rows don't change this state. They change the columns and sums of the index: see
``index``.

While a call waits, its rows in processing have the code of waiting rows. A call of 10,000 rows may
wait and be resumed thousands of times. So a record of a call changes the rows in slices.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from typing import Any

import msgspec

from journal.format.records import (
    A_MERGE,
    A_REPAIR,
    REPAIRED,
    HoldRecord,
    InputRecord,
    JobCountsRecord,
    JobErrorRecord,
    JobPauseRecord,
    JobRecord,
    JobReopenedRecord,
    JobStatusRecord,
    MergeRecord,
    Moment,
    RunEndedRecord,
    RunRecord,
    TunedRecord,
    TuneRecord,
)
from journal.index.columns import PROCESSING, WAITING, Columns
from journal.model import EarlyEnd, HoldState, InputSeen, JobStatus, Pause, Run

_MAX_HOSTS = 20
_MAX_TUNES = 100


class Counts(msgspec.Struct, frozen=True):
    """Counts of rows.

    In a :class:`JobState`, the counts are differences: the counts set by ``update_counts``, minus
    the counts of the rows in the index.
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
    pause: Pause | None = None  # the pause by a person, until it ends
    hold: HoldState | None = None  # the hold of the last run
    tunes: tuple[TuneRecord, ...] = ()  # requests that the last run hasn't answered
    answers: tuple[TunedRecord, ...] = ()  # the latest answers of the last run
    input: InputSeen | None = None  # for a shard: the whole input
    passes: int = 1
    reopened_at: Moment | None = None  # when the current pass began, from the second pass on
    pass_started_at: Moment | None = None  # when the job was first set to running in this pass
    worked_s: float = 0.0  # the time from start to end, summed over all passes that ended
    version: str | None = None  # the version of the last run in this pass
    has_versions: bool = False  # whether any run had a version


class JobState(Progress, frozen=True, kw_only=True):
    """All facts about the job itself that the index holds."""

    header: JobRecord


def _after_status(state: JobState, record: JobStatusRecord, _: Counts) -> JobState:
    status, at, began_at = JobStatus(record.status), record.at, state.pass_started_at
    changes: dict[str, Any] = {}
    if status is JobStatus.RUNNING and began_at is None:
        changes = {"started_at": state.started_at or at, "pass_started_at": at}
    elif status.is_ended:
        took_s = 0.0 if began_at is None else max(0.0, (at - began_at).total_seconds())
        worked_s = state.worked_s + took_s
        changes = {"completed_at": at, "pass_started_at": None, "worked_s": worked_s, "hold": None}
    return msgspec.structs.replace(state, status=status, **changes)


def _after_reopening(state: JobState, record: JobReopenedRecord, _: Counts) -> JobState:
    return msgspec.structs.replace(
        state,
        status=JobStatus.PENDING,
        completed_at=None,
        version=None,
        error=None,
        passes=state.passes + 1,
        reopened_at=record.at,
    )


def _after_pause(state: JobState, record: JobPauseRecord, _: Counts) -> JobState:
    pause = None if record.ended else Pause(since=record.at, person=record.person)
    return msgspec.structs.replace(state, pause=pause)


def _after_hold(state: JobState, record: HoldRecord, _: Counts) -> JobState:
    hold = None
    if record.until is not None:
        since = record.at if state.hold is None else state.hold.since
        hold = HoldState(reason=record.reason, until=record.until, since=since)
    return msgspec.structs.replace(state, hold=hold)


def _after_tune(state: JobState, record: TuneRecord, _: Counts) -> JobState:
    if state.run is None or record.run != state.run.id:
        return state
    return msgspec.structs.replace(state, tunes=(*state.tunes, record)[-_MAX_TUNES:])


def _after_answer(state: JobState, record: TunedRecord, _: Counts) -> JobState:
    tunes = tuple(tune for tune in state.tunes if tune.id != record.id)
    if state.run is None or len(tunes) == len(state.tunes):
        return state
    limits = {name: now for name, (_, now) in record.changes.items() if name != "end_hold"}
    return msgspec.structs.replace(
        state,
        tunes=tunes,
        answers=(*state.answers, record)[-_MAX_TUNES:],
        run=msgspec.structs.replace(state.run, tuned=state.run.tuned | limits),
    )


def _after_counts(state: JobState, record: JobCountsRecord, rows: Counts) -> JobState:
    counts = {
        name: value - getattr(rows, name)
        for name in Counts.__struct_fields__
        if (value := getattr(record, name)) is not None
    }
    return msgspec.structs.replace(state, counts=msgspec.structs.replace(state.counts, **counts))


def _after_error(state: JobState, record: JobErrorRecord, _: Counts) -> JobState:
    is_repair = record.by in (A_MERGE.by, A_REPAIR.by) and record.code == REPAIRED
    error = JobError(record.code, record.message, record.by)
    return msgspec.structs.replace(state, error=error, repaired=state.repaired or is_repair)


# The members that a run and its record have under the same name.
_OF_RUN = [name for name in Run.__struct_fields__ if name in RunRecord.__struct_fields__]


def _after_run(state: JobState, record: RunRecord, _: Counts) -> JobState:
    others = (name for name in state.hosts if name != record.host)
    return msgspec.structs.replace(
        state,
        hosts=(*others, record.host)[-_MAX_HOSTS:],
        tunes=(),
        answers=(),
        run=Run(started_at=record.at, **{name: getattr(record, name) for name in _OF_RUN}),
        hold=None,
        version=record.version,
        has_versions=state.has_versions or record.version is not None,
    )


def _after_input(state: JobState, record: InputRecord, _: Counts) -> JobState:
    return msgspec.structs.replace(state, input=InputSeen(record.rows, record.digest, record.at))


def _after_end(state: JobState, record: RunEndedRecord, _: Counts) -> JobState:
    if state.run is None:
        return state
    end = EarlyEnd(record.kind, record.message)
    run = msgspec.structs.replace(state.run, ended_early=end)
    return msgspec.structs.replace(state, run=run)


def _after_merge(state: JobState, record: MergeRecord, _: Counts) -> JobState:
    new = (name for name in record.hosts if name not in state.hosts)
    return msgspec.structs.replace(state, hosts=(*new, *state.hosts)[-_MAX_HOSTS:])


# The effect of a record on the state of its job, by type. Other types do nothing. The last argument
# of each function is the counts of the rows in the index.
EFFECTS: dict[type, Callable[[JobState, Any, Counts], JobState]] = {
    JobStatusRecord: _after_status,
    JobReopenedRecord: _after_reopening,
    JobPauseRecord: _after_pause,
    HoldRecord: _after_hold,
    TuneRecord: _after_tune,
    TunedRecord: _after_answer,
    JobCountsRecord: _after_counts,
    JobErrorRecord: _after_error,
    RunRecord: _after_run,
    RunEndedRecord: _after_end,
    InputRecord: _after_input,
    MergeRecord: _after_merge,
}


# --- calls with many rows ---------------------------------------------------------------------

EPOCH, US = datetime.fromtimestamp(0, UTC), timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return a time in µs since 1970, at least 0."""
    return max(0, (at - EPOCH) // US)


class OpenCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that hasn't ended: the offsets of some of its records.

    - ``first``: the record with the rows of the call.
    - ``turn``: the last record that has started the call.
    - ``waited``: the last record that made the call wait. 0: there is none since the call's rows
      were started anew.
    """

    first: int
    turn: int
    waited: int

    @property
    def waits(self) -> bool:
        return self.waited > self.turn


class Calls(dict[int, OpenCall]):
    """The calls that haven't ended, by their ids as numbers."""

    def __init__(self, known: Iterable[tuple[int, OpenCall]] = ()) -> None:
        super().__init__(known)
        self._rows: dict[int, list[range]] = {}  # the known rows of calls

    def rows(self, call: int, columns: Columns) -> list[range]:
        """Return the positions of the rows that are in a call."""
        if call not in self._rows:
            self._rows, start = {call: []}, 0
            for found, rows in groupby(columns.calls or ()):
                stop = start + len(list(rows))
                if found in self:
                    self._rows.setdefault(found, []).append(range(start, stop))
                start = stop
        return self._rows[call]

    def forget_rows(self) -> None:
        """Forget the known rows: the column of calls has changed."""
        self._rows = {}

    def leave(self, position: int, columns: Columns, counts: list[int]) -> None:
        """Take a row out of its call. A row that was waiting in the call is in processing again."""
        if call := columns.call(position):
            if columns.statuses[position] == WAITING:
                columns.statuses[position] = PROCESSING
                counts[WAITING] -= 1
                counts[PROCESSING] += 1
            columns.set_call(position, 0)
            self._rows.pop(call, None)

    def begin(
        self, call: int, offset: int, rows: list[int], columns: Columns, counts: list[int]
    ) -> None:
        """Begin a call with exactly these rows, which the record at ``offset`` has.

        A row that waits alone stays out of the call, because the call would end the row's wait. No
        writer begins a call with a waiting row.
        """
        for position in chain(rows, *(self.rows(call, columns) if call in self else ())):
            self.leave(position, columns, counts)
        spans = list[range]()
        for position in rows:
            if columns.statuses[position] == WAITING:
                continue
            columns.set_call(position, call)
            if spans and spans[-1].stop == position:
                spans[-1] = range(spans[-1].start, position + 1)
            else:
                spans.append(range(position, position + 1))
        self[call], self._rows[call] = OpenCall(offset, 0, 0), spans

    def set_state(
        self, call: int, record: Any, offset: int, columns: Columns, counts: list[int]
    ) -> None:
        """Let a call wait, resume it, or end it, as the record at ``offset`` says."""
        known, waits, moved = self[call], record.state == "waiting", 0
        if record.state == "ended":
            for position in chain(*self.rows(call, columns)):
                self.leave(position, columns, counts)
            del self[call]
            return
        if waits and columns.due is None:
            columns.wait(0, 0)
        statuses, due = columns.statuses, columns.due
        old, new = (PROCESSING, WAITING) if waits else (WAITING, PROCESSING)
        for rows in self.rows(call, columns):
            part = statuses[rows.start : rows.stop]
            moved += (count := part.count(old))
            statuses[rows.start : rows.stop] = part.replace(bytes((old,)), bytes((new,)))
            counts[old] -= count
            counts[new] += count
            if waits and due is not None:
                at_us = 0 if record.due is None else microseconds(record.due)
                due[rows.start : rows.stop] = array("Q", (at_us,)) * len(rows)
        if waits:
            self[call] = OpenCall(known.first, known.turn, offset)
        else:
            self[call] = OpenCall(known.first, offset, known.waited if moved else 0)

    def restore(self, call: int, known: OpenCall | None) -> None:
        """Undo a change of a call.

        ``known``: the call's earlier state, or None if the call hadn't begun.

        The rows must be restored, too.
        """
        self.pop(call, None)
        if known is not None:
            self[call] = known
