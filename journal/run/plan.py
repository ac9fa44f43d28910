"""Plans a run.

A plan lists the rows that a start would process, or says why there are none. ``Chosen`` has the
rows that meet the condition ``where``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from journal.format.keys import Data
from journal.format.records import LOST_CHECKSUM, now
from journal.ids import row_id_of
from journal.model import EarlyEnd, Job, JobRow, JobStatus, Policy, RowStatus
from journal.run.advice import (
    MAX_NAMED,
    HowTo,
    numbers_text,
)
from journal.run.signals import OwnProcess
from journal.service import JobService
from journal.store.interrupted_rows import may_resume
from journal.store.journal import Journal
from journal.store.row_reader import FoundRow
from journal.store.transitions import check_unpaused, reopen, state_of
from journal.text import before_text, counted
from journal.verbs import change_rows

LEFT_OPEN = "left open"  # the kind of rows that don't meet the condition of a run

Where = Callable[[JobRow], object]  # the condition of a run


def may_start(job: Job, *, retry_failed: bool = False) -> bool:
    """Return whether the job's counts show that a start may find rows to process.

    Raises JobPausedError if a person has paused the job.
    """
    check_unpaused(job.id, job.pause)
    if job.status.is_ended:
        rows = job.pending_count or (retry_failed and job.failed_rows)
        return bool(rows) and job.status is not JobStatus.CANCELLED
    return True


class NothingToDo(Exception):
    """Nothing is left to start: the job is cancelled, or has ended without pending rows."""


def take_up(
    service: JobService, journal: Journal, *, retry_failed: bool, where: Where | None
) -> int:
    """Prepare a job for a run, in the commit that starts the run.

    Returns the number of retried rows.

    With ``retry_failed``, the job's failed rows are retried. With ``where``, only failed rows that
    meet this condition are retried. A job that has ended is reopened. Raises NothingToDo.
    """
    status = state_of(journal).status
    if status is JobStatus.CANCELLED:
        raise NothingToDo
    if status.is_ended:
        reopen(journal, None)
    retried = _retry_failed(service, journal.job_id, where) if retry_failed else 0
    if status.is_ended and not journal.index.pending_count:
        raise NothingToDo
    return retried


def _retry_failed(service: JobService, job_id: str, where: Where | None) -> int:
    if where is None:
        return service.retry_failed_rows(job_id)
    return change_rows(service, job_id, "retry", service.retry_row, where=where)


class Matched(msgspec.Struct):
    """The result of comparing an input with a job. Fields that aren't lists count rows.

    - ``added``: rows that are new in the input.
    - ``changed``: rows whose data has changed.
    - ``updated``: changed rows that got their new data and became pending.
    - ``done``: the row numbers of changed rows that are completed and keep their old data.
    - ``gone``: rows that are no longer in the input. They stay in the job. ``gone_open``: the gone
      rows that stay pending or in flight. ``gone_settled``: the gone rows that were skipped or sent
      to review.
    - ``back``: the numbers of rows that were skipped because they were gone, and are in the input
      again. They stay skipped.
    - ``lost``: rows of the input that the job has lost by damage. They aren't added again, because
      they may be done. ``first_lost``: the data of the first few of these rows.
    - ``other_inputs``: the ids of the other shards whose last start has seen another input.
    """

    added: int = 0
    changed: int = 0
    updated: int = 0
    done: list[int] = []
    gone: int = 0
    gone_open: int = 0
    gone_settled: int = 0
    back: list[int] = []
    lost: int = 0
    first_lost: list[Data] = []
    other_inputs: list[str] = []

    def __repr__(self) -> str:
        counts = ((name, getattr(self, name)) for name in self.__struct_fields__)
        texts = (
            f"{name} {len(each) if isinstance(each, list) else each}"
            for name, each in counts
            if each
        )
        return f"<Matched {', '.join(texts) or 'no change'}>"

    @property
    def changes(self) -> dict[str, Any]:
        """The counts that the record of a run has."""
        return {"added": self.added, "changed": self.updated, "gone": self.gone}


def about_rows_left(job_id: str, matched: Matched, how_to: HowTo) -> Iterator[str]:
    """Messages about rows that a start leaves as they are, although the input has changed."""
    if others := matched.other_inputs:
        names = ", ".join([*others[:MAX_NAMED], *(["..."] if others[MAX_NAMED:] else [])])
        shards = counted(len(others), "shard|shards of the set has|have seen another input")
        yield f"{job_id}: {shards} ({names}): start each again with this input"
    if matched.done:
        rows = "completed row|rows has|have changed in the input, and stays|stay as done"
        yield (
            f"{job_id}: {counted(len(matched.done), rows)} ({numbers_text(matched.done)}); "
            "to run completed rows again with the new data, so that they take effect twice: start "
            f"again with {how_to.argument('on_changed', 'redo')}"
        )
    if matched.gone_open:
        rows = "open row|rows is|are no longer in the input, and is|are run nevertheless"
        yield f"{job_id}: {counted(matched.gone_open, rows)}: {how_to.if_gone}"
    if matched.back:
        retry = how_to.say('job.retry(status="skipped")', "retry", job_id, "--status", "skipped")
        if len(matched.back) <= MAX_NAMED:
            retry = how_to.by_number("retry", job_id, matched.back)
        rows = "row|rows is|are in the input again, and stays|stay skipped"
        yield f"{job_id}: {counted(len(matched.back), rows)}: {retry}"


def retryable(service: JobService, job_id: str, where: Where | None = None) -> Iterator[JobRow]:
    """The rows that meet ``where`` and that :meth:`JobService.retry_failed_rows` would retry."""
    for row in service.get_failed_rows(job_id):
        is_free = not row.unknown and row.row_checksum != LOST_CHECKSUM
        if is_free and (where is None or where(row)):
            yield row


class Planned(NamedTuple):
    """A row that a start would process, its kind (see :class:`Plan`), and the reason."""

    row: JobRow
    kind: str
    why: str


def planned_rows(
    service: JobService,
    job: Job,
    on_interrupted: Policy,
    *,
    retry_failed: bool,
    new: Iterable[JobRow] = (),
    changed: Mapping[int, dict[str, Any]] | None = None,
    gone: Collection[int] = (),
    where: Where | None = None,
) -> Iterator[Planned]:
    """The rows that a start would process. Rows that were never started come first.

    ``new`` and ``changed`` are rows that the start would first add or change. Three kinds of rows,
    in NOT_RUN, aren't processed at once: ``gone`` (the numbers of rows that the start would skip or
    send to review), open rows that don't meet ``where``, and waiting rows.
    """
    for number in gone:
        if (row := service.get_row(row_id_of(job.id, number))) is not None:
            yield Planned(row, "gone", "")
    planned = _planned(service, job, on_interrupted, new, changed, gone, retry_failed=retry_failed)
    for one in planned:
        if where is None or where(one.row):
            yield one
        elif one.kind == "changed" or one.row.status is RowStatus.PENDING:
            yield Planned(one.row, LEFT_OPEN, "")


def _planned(
    service: JobService,
    job: Job,
    on_interrupted: Policy,
    new: Iterable[JobRow],
    changed: Mapping[int, dict[str, Any]] | None,
    gone: Collection[int],
    *,
    retry_failed: bool,
) -> Iterator[Planned]:
    if job.status is JobStatus.CANCELLED:
        return
    changed = changed or {}
    others = {*changed, *gone}
    pending, at = service.get_pending_rows(job.id), now()
    for row in pending if job.waiting_count else ():
        if row.due is not None and row.row_number not in others:
            yield Planned(row, "retry", "due") if row.due <= at else Planned(row, "waiting", "")
    for row in pending:
        if not row.attempts and row.row_number not in others:
            yield Planned(row, "new", "new")
    for row in new:
        yield Planned(row, "new", "new in the input")
    for number, data in changed.items():
        known = service.get_row(row_id_of(job.id, number))
        if known is not None:
            why = f"changed{before_text(known.data, data)}"
            yield Planned(msgspec.structs.replace(known, data=data), "changed", why)
    if on_interrupted in ("retry", "resume") and not job.status.is_ended:
        for row in service.get_rows(job.id, RowStatus.PROCESSING):
            may_run = on_interrupted == "retry" or may_resume(service.store, row)
            if may_run and row.row_number not in others:
                yield Planned(row, "retry", "was in flight")
    for row in pending:
        if row.attempts and row.due is None and row.row_number not in others:
            yield Planned(row, "retry", f"attempt {row.attempts + 1}")
    for row in retryable(service, job.id) if retry_failed else ():
        if row.row_number not in others:
            yield Planned(row, "retry", f"failed ({row.error_code})")


NOT_RUN = (LEFT_OPEN, "gone", "waiting")
_KINDS = (
    "retry",
    "new",
    "changed",
    *NOT_RUN,
    "failed",
    "needs review",
    "in flight",
    "outdated",
    "done",
)


class Plan(msgspec.Struct):
    """The plan of a start.

    ``counts``: the number of rows of each kind. ``first``: the first few row numbers of each kind.

    - Rows to process: "new" (never started), "changed" (new data), "retry" (started before).
    - "gone": rows that are no longer in the input, and are skipped or sent to review.
    - Unchanged rows: "left open" (they don't meet the condition of the run), "failed", "needs
      review", "in flight". "waiting": the rows run when they are due.
    - "outdated": completed rows that keep the results of old data, although the input has changed.
    - "done": other completed or skipped rows.
    """

    job_id: str
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    first: dict[str, list[int]] = {}

    def take(self, planned: Planned) -> None:
        """Count a row that would be processed, and subtract it from the count of its status."""
        row = planned.row
        self.counts[planned.kind] += 1
        numbers = self.first.setdefault(planned.kind, [])
        if len(numbers) <= MAX_NAMED:
            numbers.append(row.row_number)
        if row.status in (RowStatus.SKIPPED, RowStatus.COMPLETED):
            self.counts["done"] -= 1
        elif row.status in (RowStatus.FAILED, RowStatus.PROCESSING):
            self.counts["failed" if row.status is RowStatus.FAILED else "in flight"] -= 1

    def leave(self, job: Job, matched: Matched) -> None:
        """Count the rows of the job that a start leaves as they are."""
        if outdated := matched.done:
            self.counts["outdated"], self.first["outdated"] = (
                len(outdated),
                outdated[: MAX_NAMED + 1],
            )
        self.counts["done"] += job.done_rows - len(outdated)
        self.counts["failed"] += job.failed_rows
        self.counts["needs review"] += job.needs_review_count
        self.counts["in flight"] += job.processing_count

    def __str__(self) -> str:
        said = []
        for kind in _KINDS:
            if self.counts[kind]:
                rows = f" ({numbers_text(self.first[kind])})" if kind in self.first else ""
                said.append(f"{kind}: {self.counts[kind]:,}{rows}")
        return ", ".join(said) or "no rows"

    def __repr__(self) -> str:
        return f"<Plan {self.job_id}: {self}>"


class Chosen:
    """The pending rows that meet the condition of a run.

    A row that doesn't meet the condition is left out, and isn't checked again in this run. So even
    among a million rows, a search for rows that other processes have made pending is cheap.
    """

    def __init__(self, service: JobService, job_id: str, where: Where | None) -> None:
        self._service = service
        self._job_id = job_id
        self._where = where
        self._own_process = OwnProcess()  # a process that ``where`` forks must not drive the run
        self._passed_over = bytearray()  # by position: 1 if the row was passed over
        self.left = 0  # pending rows that the latest search has passed over

    def __bool__(self) -> bool:
        """Whether there is a condition."""
        return self._where is not None

    def has(self, found: FoundRow, *, again: bool) -> bool:
        """Return whether a row meets the condition.

        ``again``: the row was found before in the same search.
        """
        if self._where is None:
            return True
        at = found.position
        if at >= len(self._passed_over):
            self._passed_over.extend(bytes(at + 1 - len(self._passed_over)))
        if self._passed_over[at]:
            self.left += not again
            return False
        row = self._service.get_row(row_id_of(self._job_id, found.row_number))
        with self._own_process:
            if row is not None and self._where(row):
                return True
        self._passed_over[at] = 1
        self.left += 1
        return False


def left_open(job: Job) -> EarlyEnd:
    """The end of a run because no open row meets the run's condition."""
    rows = counted(job.pending_count, "row|rows stays|stay open")
    return EarlyEnd("where", f"{rows}, since the run is for others")
