"""Reads what a live view shows of a job or a set. The module ``drawing`` draws the view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from time import monotonic

import msgspec

from journal.cli.advice import advice, look
from journal.cli.find import FoundJob
from journal.cli.output import as_json
from journal.format.commits import record_at
from journal.format.records import RowStepRecord
from journal.history.events import Event
from journal.history.history import History
from journal.history.recent_activity import Recent
from journal.index.columns import PROCESSING
from journal.index.summary import job_of
from journal.model import Job, JobStatus, pausing_text
from journal.progress.rate import RecentRate, time_left
from journal.sets.shard_states import INTERRUPTED, Part, Whole
from journal.store.journal import Journal
from journal.store.row_reader import row_of
from journal.text import shorten

_MAX_IN_FLIGHT = 200
_MAX_CHARACTERS = 300  # the maximum length of a row's data
_DUE_EVERY_S = 1.0  # to find when the next row is due takes 20 ms for 100,000 rows


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """A row in flight, or the rows of one call.

    - ``row``: the number of the row. ``others``: how many other rows are in the same call.
    - ``attempt``: the number of the attempt, which began at ``began``.
    - ``step``, ``step_state``, ``step_at``: the latest record of a step, or "" and None.
    - ``data``: the beginning of the row's data, as JSON.
    """

    row: int
    others: int = 0
    attempt: int
    began: datetime
    step: str = ""
    step_state: str = ""
    step_at: datetime | None = None
    data: str = ""


class SeenJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job at one moment.

    - ``state``: the result of :func:`state_of_job`. ``now``: the moment.
    - ``rate``: how many rows end per second. None if the rate isn't known, or if the job holds.
    - ``in_flight``: the oldest rows in flight, oldest first. ``median_s``: half of the last
      ``timed`` attempts took at most this time.
    - ``stalled_s``: the seconds without an ended attempt if they are far too many, else None.
    - ``next_due``: when the first of the waiting rows is due.
    - ``errors``, ``events``: see :class:`Recent`.
    - ``next``: commands to paste, and the reason for each, unless a run works on the job.
    """

    job: Job
    state: str
    now: datetime
    rate: float | None = None
    in_flight: tuple[InFlight, ...] = ()
    median_s: float | None = None
    timed: int = 0
    stalled_s: float | None = None
    next_due: datetime | None = None
    errors: tuple[Event, ...] = ()
    events: tuple[Event, ...] = ()
    next: tuple[tuple[str, str], ...] = ()

    @property
    def left(self) -> timedelta | None:
        """The time that the open rows take at the current rate. None if it can't be known."""
        job, is_stalled = self.job, self.stalled_s is not None
        # The rate doesn't predict when the last rows in flight end.
        is_slowed = is_stalled or job.hold is not None or job.waiting_count >= job.pending_count
        if self.state != JobStatus.RUNNING or is_slowed or pausing_text(job, self.state):
            return None
        return time_left(job, self.rate)


class SeenShard(msgspec.Struct, frozen=True):
    """A shard at one moment. ``oldest``: when the oldest attempt in flight began."""

    part: Part
    rate: float | None = None
    oldest: datetime | None = None


class SeenSet(msgspec.Struct, frozen=True):
    """A set at one moment. ``rate``: the sum of the rates of its shards.

    ``shards``: by their index.
    """

    whole: Whole
    now: datetime
    rate: float | None
    shards: tuple[SeenShard, ...]


class JobReader:
    """Reads what a live view shows of a job. Takes no lock that a writer needs. Writes nothing."""

    def __init__(self, found: FoundJob, first_bytes: int | None = None) -> None:
        """``first_bytes``: see :class:`Recent`."""
        self._found = found
        self._store = found.service.store
        self._recent = Recent(first_bytes)
        self._rate: RecentRate | None = None
        self._known: dict[tuple[int, int], InFlight] = {}  # by offsets in the journal of `_index`
        self._index: object = None
        self._due: tuple[float, datetime | None] = -_DUE_EVERY_S, None
        self._advice: tuple[object, tuple[tuple[str, str], ...]] = None, ()

    def read(self, state: str) -> SeenJob:
        """Read the job, whose state is ``state``. Raises JobNotFoundError and the errors of reading."""
        with self._store.reading(self._found.id) as journal:
            history = History(journal)
            job = job_of(journal.index)
            in_flight = tuple(self._in_flight(journal))
            next_due = self._next_due(journal) if job.waiting_count else None
        recent, now = self._recent, datetime.now(UTC)
        recent.read(history)
        is_running = state == JobStatus.RUNNING and job.hold is None
        may_end = in_flight and is_running and job.pause is None
        stalled_s = recent.stalled_s(in_flight[0].began, now) if may_end else None
        self._rate = self._rate if is_running else None
        return SeenJob(
            job=job,
            state=state,
            now=now,
            rate=self._rate_of(job, now) if is_running else None,
            in_flight=in_flight,
            median_s=recent.median_s,
            timed=len(recent.took_s),
            stalled_s=stalled_s,
            next_due=next_due,
            errors=tuple(recent.errors),
            events=tuple(recent.events),
            next=self._next(job, state, history.end),
        )

    def _in_flight(self, journal: Journal) -> Iterator[InFlight]:
        """Yield the oldest rows in flight. Only rows that weren't seen before are decoded."""
        index, columns = journal.index, journal.index.columns
        positions: Iterator[int] = index.positions(PROCESSING)
        others = Counter[int]()
        if columns.calls is not None:
            found = list(positions)
            others.update(filter(None, map(columns.call, found)))
            first = {columns.call(position) or -position - 1: position for position in found[::-1]}
            positions = iter(first.values())
        known, self._known = self._known if index is self._index else {}, {}
        self._index = index  # another index if the journal was replaced
        for position in nsmallest(
            _MAX_IN_FLIGHT, positions, key=columns.status_offsets.__getitem__
        ):
            heads = columns.step_heads
            key = columns.status_offsets[position], heads[position] if heads else 0
            seen = known.get(key) or _in_flight(journal, position)
            if call := columns.call(position):
                seen = msgspec.structs.replace(seen, others=others[call] - 1)
            self._known[key] = seen
            yield seen

    def _next_due(self, journal: Journal) -> datetime | None:
        at_s, due = self._due
        if monotonic() - at_s >= _DUE_EVERY_S:
            due = journal.index.next_due()
            self._due = monotonic(), due
        return due

    def _rate_of(self, job: Job, now: datetime) -> float | None:
        """Rows per second. The first rate is computed from the end of the journal."""
        done, now_s = job.total_rows - job.open_rows, monotonic()
        if self._rate is None:
            self._rate, recent = RecentRate(), self._recent
            if recent.since is not None and now > recent.since:
                since_s = now_s - (now - recent.since).total_seconds()
                self._rate.look(since_s, max(0, done - recent.ended))
        return self._rate.look(now_s, done)

    def _next(self, job: Job, state: str, end: object) -> tuple[tuple[str, str], ...]:
        if state in (JobStatus.RUNNING, JobStatus.PENDING, "unknown"):
            return ()
        if self._advice[0] != (state, end):
            service, _, command = self._found
            found = look(service, job)
            self._advice = (state, end), tuple(advice(job, found, service.root, command))
        return self._advice[1]


def _in_flight(journal: Journal, position: int) -> InFlight:
    """Decode a row in flight."""
    row, columns = row_of(journal, position), journal.index.columns
    offset = (columns.offsets_of_steps(position) or [0])[-1]
    record = record_at(journal.file, offset, journal.read_line(offset)) if offset else None
    step = record if isinstance(record, RowStepRecord) else None
    return InFlight(
        row=row.row_number,
        attempt=row.attempts,
        began=row.updated_at,
        step="" if step is None else step.step,
        step_state="" if step is None else step.state,
        step_at=None if step is None else step.at,
        data=shorten(as_json(row.data), _MAX_CHARACTERS),
    )


class SetReader:
    """Reads what a live view shows of a set."""

    def __init__(self, found: FoundJob) -> None:
        self._found = found
        self._rates: dict[str, RecentRate] = {}

    def read(self, whole: Whole) -> SeenSet:
        """Read what isn't in ``whole``, the set as it is now."""
        shards = tuple(map(self._shard, whole.parts))
        rates = [shard.rate for shard in shards if shard.rate is not None]
        return SeenSet(whole, datetime.now(UTC), sum(rates) if rates else None, shards)

    def _shard(self, part: Part) -> SeenShard:
        job, rate = part.job, None
        if job is not None and part.state == JobStatus.RUNNING and job.hold is None:
            recent = self._rates.setdefault(part.id, RecentRate())
            rate = recent.look(monotonic(), job.total_rows - job.open_rows)
        else:
            self._rates.pop(part.id, None)
        if job is None or part.state not in (JobStatus.RUNNING, INTERRUPTED):
            return SeenShard(part)
        oldest = None
        if job.processing_count:
            with self._found.service.store.reading(part.id) as journal:
                offsets = journal.index.columns.status_offsets
                flying = journal.index.positions(PROCESSING)
                position = min(flying, key=offsets.__getitem__, default=None)
                oldest = None if position is None else row_of(journal, position).updated_at
        return SeenShard(part, rate, oldest)
