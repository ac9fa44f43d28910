"""A set as a whole: its shards with their states, and sums over the shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter

import msgspec

from journal.errors import JobNotFoundError, JournalError
from journal.format.pruned import read_pruned
from journal.ids import shard_name
from journal.model import (
    InputSeen,
    Job,
    JobRow,
    JobStatus,
    RowStatus,
    added_usage,
    cents_of,
    millionths,
)
from journal.service import JobService
from journal.sets.input_rows import read_shards
from journal.store.list_jobs import lost_shards, state_of_job
from journal.text import Numbers

ABSENT, PRUNED, UNREADABLE, INTERRUPTED = "absent", "pruned", "unreadable", "interrupted"
# States that a shard may have beside another state.
OTHER_INPUT, PAUSED, HOLDING = "of another input", "paused until resume", "holding"
# The status of a set is the first of these statuses that a shard has.
_STATUSES = (
    *(JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.PENDING),
    *(JobStatus.FAILED, JobStatus.CANCELLED),
)


class Part(msgspec.Struct, frozen=True):
    """A shard of a set.

    - ``state``: the result of :func:`state_of_job`, or "absent", "pruned" or "unreadable".
    - ``job``: None if the shard isn't here, or can't be read.
    - ``error``: the reason why the shard can't be read, or why no run may start, because the
      journal was cut or is gone.
    - ``has_other_input``: whether the last input of the shard differs from the last input of the
      set. The clocks of the nodes decide which input is the last.
    """

    index: int
    id: str
    state: str
    job: Job | None = None
    error: str | None = None
    has_other_input: bool = False

    @property
    def states(self) -> set[str]:
        """The state, and the additional states that are possible beside it."""
        holds = self.job is not None and self.job.hold is not None
        beside = {
            OTHER_INPUT: self.has_other_input,
            PAUSED: self.is_paused and self.state != JobStatus.PAUSED,
            HOLDING: holds and self.state == JobStatus.RUNNING,
        }
        return {self.state, *(state for state, is_so in beside.items() if is_so)}

    @property
    def is_paused(self) -> bool:
        """Whether a person has paused the shard, so that no run starts."""
        return self.job is not None and self.job.pause is not None

    @property
    def is_open(self) -> bool:
        """Whether another start would find work in the shard, or in its part of the input.

        A running or cancelled shard isn't open, nor is a shard that a person has paused.
        """
        if self.error is not None or self.is_paused:
            return False
        if self.job is None:
            return self.state == ABSENT
        if self.state in (JobStatus.RUNNING, JobStatus.CANCELLED):
            return False
        return bool(not self.job.status.is_ended or self.job.open_rows or self.has_other_input)


class Whole(msgspec.Struct, frozen=True):
    """A set: its ``parts`` by index, and ``job``, the sum of the jobs that are here."""

    id: str
    parts: list[Part]
    job: Job

    @property
    def state(self) -> str:
        states = {part.state for part in self.parts}
        if self.job.status is JobStatus.RUNNING and JobStatus.RUNNING not in states:
            return INTERRUPTED
        return self.job.status.value

    @property
    def jobs(self) -> list[Job]:
        return [part.job for part in self.parts if part.job is not None]

    @property
    def errors(self) -> list[str]:
        """The reasons why shards can't be read or continued."""
        return [part.error for part in self.parts if part.error]

    def indexes(self, *states: str) -> list[int]:
        """The indexes of the shards that have at least one of these states."""
        return [part.index for part in self.parts if not part.states.isdisjoint(states)]

    @property
    def open_text(self) -> str:
        """The indexes of the open shards as text, such as ``1-2,5-10``."""
        return Numbers(part.index for part in self.parts if part.is_open).text(",")


def look_at_set(service: JobService, set_id: str) -> Whole:
    """Look at all shards of a set.

    Raises JobNotFoundError if no shard is here, and the error of a shard if no shard can be read.
    Raises RefusedError if shards of several sets are in one directory.
    """
    count = service.store.count_shards(set_id)
    cut: dict[str, str] = {}
    found = dict(read_shards(service.store, set_id, cut))
    jobs = [job for job in found.values() if isinstance(job, Job)]
    errors = [error for error in found.values() if isinstance(error, JournalError)]
    if not jobs:
        raise errors[0] if errors else JobNotFoundError(set_id)
    inputs = [job.input for job in jobs if job.input is not None]
    latest = max(inputs, key=attrgetter("at", "rows"), default=None)
    gone = lost_shards(service.store, set_id)
    pruned, parts = read_pruned(service.root), []
    for index in range(count):
        shard_id = f"{set_id}/{shard_name(index, count)}"
        match found.get(shard_id):
            case None:
                state = PRUNED if shard_id in pruned else ABSENT
                lost = gone.get(shard_id)
                part = Part(index, shard_id, state, error=None if lost is None else str(lost))
            case Job() as job:
                is_other = bool(job.input and latest and job.input.digest != latest.digest)
                state, why = state_of_job(service.store, job), cut.get(shard_id)
                part = Part(index, shard_id, state, job, why, is_other)
            case error:
                part = Part(index, shard_id, UNREADABLE, error=str(error))
        parts.append(part)
    return Whole(set_id, parts, _sum_of(set_id, jobs, parts, latest))


def _sum_of(set_id: str, jobs: list[Job], parts: list[Part], seen: InputSeen | None) -> Job:
    counts = {status: sum(job.count(status) for job in jobs) for status in RowStatus}
    usage: dict[str, int | float] = {}
    for job in jobs:
        usage = added_usage(usage, job.usage)
    statuses = {job.status for job in jobs}
    states = {part.state for part in parts}
    if ABSENT in states:  # the shard still has to be started
        statuses.add(JobStatus.PENDING)
    if UNREADABLE in states:  # a person must act
        statuses.add(JobStatus.FAILED)
    status = next((each for each in _STATUSES if each in statuses), JobStatus.COMPLETED)
    total = sum(job.total_rows for job in jobs)
    if len(jobs) < len(parts) and seen is not None:
        total = max(total, seen.rows)
    ends = [job.completed_at for job in jobs if job.completed_at is not None]
    start = min((job.started_at for job in jobs if job.started_at), default=None)
    end = max(ends) if status.is_ended and ends else None
    return msgspec.structs.replace(
        jobs[0],
        id=set_id,
        status=status,
        total_rows=total,
        processed_rows=sum(job.processed_rows for job in jobs),
        counts=counts,
        waiting_count=sum(job.waiting_count for job in jobs),
        total_cost_cents=cents_of(sum(millionths(job.total_cost_cents) for job in jobs)),
        usage=usage,
        passes=max(job.passes for job in jobs),
        repaired=any(job.repaired for job in jobs),
        hosts=tuple(dict.fromkeys(host for job in jobs for host in job.hosts)),
        last_run=None,
        pause=None,
        hold=None,
        shard=None,
        input=seen,
        error_code=next((job.error_code for job in jobs if job.error_code), None),
        error_message=next((job.error_message for job in jobs if job.error_code), None),
        created_at=min(job.created_at for job in jobs),
        started_at=start,
        pass_started_at=None if end else start,
        worked_s=(end - start).total_seconds() if end and start else 0.0,  # shards run side by side
        completed_at=end,
        updated_at=max(job.updated_at for job in jobs),
    )


def merged_rows(rows: Iterable[Iterable[JobRow]]) -> Iterator[JobRow]:
    """Merge the rows of shards, each in ascending order of their numbers."""
    from heapq import merge  # noqa: PLC0415  (every command imports this module)

    return merge(*rows, key=attrgetter("row_number"))
