"""Plans a run, and advises how to continue.

A plan lists the rows that a start would process, or says why there are none. ``Chosen`` has those
that meet the condition ``where``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from journal.errors import RESULT_PLACEHOLDER
from journal.format.keys import Data, step_key
from journal.format.records import LOST_CHECKSUM, now
from journal.fs import shell
from journal.history.error_groups import Numbers
from journal.ids import row_id_of
from journal.model import EarlyEnd, Job, JobRow, JobStatus, Policy, RowStatus, Run
from journal.run.signals import OwnProcess
from journal.service import JobService
from journal.store.interrupted_rows import may_resume
from journal.store.journal import Journal
from journal.store.row_reader import FoundRow
from journal.store.transitions import check_unpaused, reopen, state_of
from journal.text import before_text, counted
from journal.verbs import change_rows

_MAX_NAMED = 10  # row numbers in a message
_PASTED_RANGES = 12
MAX_STEPS = 3  # steps in doubt whose commands are shown
LEFT_OPEN = "left open"  # the kind of rows that don't meet the condition of a run

Where = Callable[[JobRow], object]  # the condition of a run


class HowTo(NamedTuple):
    """The wording of advice: Python calls for a script, or command lines for `journal run`.

    ``command``: the words that call `journal` for this store; "" in a script.
    """

    command: str = ""

    def say(self, python: str, *words: str) -> str:
        return f"`{self.line(*words) if self.command else python}`"

    def line(self, *words: str) -> str:
        """The command line of `journal` for this store, with these words."""
        return f"{self.command} {shell.join(words)}"

    def resume(self, job_id: str) -> str:
        return self.say(f'job.service.resume_job("{job_id}")', "resume", job_id)

    def first_resume(self, job: Job) -> str:
        """The beginning of a message about the next start, which a person's pause would refuse."""
        return f"first {self.resume(job.id)}, then " if job.pause is not None else ""

    @property
    def retry_failed(self) -> str:
        return "`--retry-failed`" if self.command else "`run(..., retry_failed=True)`"

    def reviews(self, job_id: str) -> str:
        status = "needs_review"
        return self.say(f'job.rows("{status}")', "rows", job_id, "--status", status)

    @property
    def if_gone(self) -> str:
        """What a person can do about rows that are no longer in the input."""
        skip, keep = (self.argument("on_gone", value) for value in ("skip", "keep"))
        return f"{skip} skips such rows, {keep} runs them"

    def gone(self, undone: list[int], *, is_empty: bool) -> str:
        """Why a start is refused: rows that aren't done are no longer in the input.

        ``is_empty``: the input has no rows, which is more likely a mistake than an order to skip all.
        """
        how = self.if_gone
        if is_empty:
            skip = '`job.skip(status=["pending", "failed"])`'  # a command gets no such input
            how = f"the input has no rows at all: if that is no mistake, {skip} skips these rows"
        return f"gone and not done: {numbers_text(undone)}; {how}"

    def name(self, name: str) -> str:
        """The name of an argument of ``run``.

        For a command, it is the corresponding option of `journal run`.
        """
        return f"--{name.replace('_', '-')}" if self.command else name

    def argument(self, name: str, value: str = "") -> str:
        """The name that :meth:`name` returns, in backquotes, with a value if there is one."""
        if not value:
            return f"`{self.name(name)}`"
        return f"`{self.name(name)} {value}`" if self.command else f'`{name}="{value}"`'

    def without_key(self, data: Mapping[str, Any]) -> str:
        """Text that says what to do if an input without a key has changed.

        ``data``: the data of one of the input's rows.
        """
        column = next(iter(data)) if len(data) == 1 else "COLUMN"
        key = f"`--key {shell.quote(column)}`" if self.command else f"`key={column!r}`"
        return (
            "rows are identified by their position; if they only moved, identify them by a column "
            f"with unique values, by {key}; otherwise restore the row, or keep the data of the job "
            f"by {self.argument('on_changed', 'ignore')}"
        )

    def by_number(
        self, verb: Literal["retry", "redo", "skip"], job_id: str, numbers: list[int]
    ) -> str:
        """Text that says how to change the rows with these numbers."""
        ranges = pasted(Numbers(sorted(numbers)))
        call = f"job.{verb}({numbers if len(numbers) <= _MAX_NAMED else repr(ranges)})"
        return self.say(call, verb, job_id, "--row", ranges)


IN_PYTHON = HowTo()


def numbers_text(numbers: list[int]) -> str:
    """The first few row numbers, for a message: "row 4", or "rows 4, 19"."""
    more = ", ..." if len(numbers) > _MAX_NAMED else ""
    rows = "row" if len(numbers) == 1 else "rows"
    return f"{rows} {', '.join(map(str, numbers[:_MAX_NAMED]))}{more}"


def step_commands(
    command: Callable[..., str], job_id: str, step: str, numbers: Numbers, call: str = ""
) -> list[tuple[str, str]]:
    """Two commands that settle a step in doubt: one if it took effect, and one if it did not.

    The first command can't be pasted unchanged. It has a placeholder for the result. If there are
    several rows, it also has a placeholder for the row, since each row has its own result.

    ``call``: the key of the call whose rows these are. It has one result, so one row names it.
    """
    row = numbers.text() if numbers.count == 1 else str(numbers.first) if call else "N"
    resolve = ("resolve", job_id, "--row")
    done = command(*resolve, row, "--step", step, "--result", RESULT_PLACEHOLDER)
    each = "" if row != "N" else ", one row, or one call with many rows, at a time"
    of = (
        f" of the call of {numbers.words(_PASTED_RANGES)} (key {step_key(call, step)})"
        if call
        else ""
    )
    return [
        (done, f"if step {step!r}{of} took effect: record its result{each}"),
        (
            command(*resolve, row if call else pasted(numbers), "--step", step, "--not-done"),
            "if it took no effect: the next attempt begins it again",
        ),
    ]


def pasted(numbers: Numbers) -> str:
    """The numbers as text for ``--row``; a placeholder if there are too many numbers."""
    return numbers.text(",", _PASTED_RANGES) if numbers.is_shown_by(_PASTED_RANGES) else "ROWS"


def who_else(job: Job) -> str:
    """Who may have left rows in flight, although no run is active; "" if it was the last run."""
    if job.status is JobStatus.RUNNING:
        return ""
    return "another program" if job.last_run is None else "another program, or a run that died,"


def what_may_run(job: Job) -> str:
    """A warning about rows that were in flight when their run died: commands may still be running.

    Returns "" if the last run wasn't a `journal run`.
    """
    if job.last_run is None or not job.last_run.is_command:
        return ""
    return "commands of the run that died may still be running: look first, for example with `ps`"


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
    """A start changes nothing: the job is cancelled, or it has ended and no row is pending."""


def take_up(
    service: JobService, journal: Journal, *, retry_failed: bool, where: Where | None
) -> int:
    """Prepare a job for a run, in the commit that starts the run. Returns how many rows are retried.

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


def nothing_to_do(job: Job, how_to: HowTo) -> str:
    """The message for a start that does nothing, because the job has ended.

    In a script, the message says how to continue. `journal run` advises by itself.
    """
    if job.status is JobStatus.CANCELLED:
        left = (
            f" with {counted(job.pending_count, 'row|rows')} pending" if job.pending_count else ""
        )
        return f"{job.id}: cancelled{left}, so nothing is run: first {how_to.resume(job.id)}, then start again"
    said = f"{job.id}: {job.status} already, and nothing is new"
    if how_to.command:
        return f"{said}: nothing to do" if job.done_rows == job.total_rows else said
    left = what_is_left(job, how_to)
    return f"{said}, but {left}" if left else f"{said}: nothing to do"


def what_is_left(job: Job, how_to: HowTo) -> str:
    """Advice for a script about failed rows and rows in review; "" if there are none."""
    failed = counted(job.failed_rows, "row|rows failed: {} tries it|them again, unless it|they ")
    failed = failed.format(how_to.retry_failed) + "may have taken effect"
    reviews = counted(job.needs_review_count, "row|rows needs|need a review: ")
    parts = (
        failed * bool(job.failed_rows),
        (reviews + how_to.reviews(job.id)) * bool(job.needs_review_count),
    )
    return "; ".join(filter(None, parts))


class Matched(msgspec.Struct):
    """The result of comparing an input with a job. The other fields than lists are counts of rows.

    - ``added``: rows that are new in the input.
    - ``changed``: rows whose data has changed.
    - ``updated``: changed rows that got their new data and became pending.
    - ``done``: the row numbers of changed rows that are completed and keep their old data.
    - ``gone``: rows that are no longer in the input. They stay in the job. ``gone_open``: those of
      them that are pending or in flight, and stay so. ``gone_settled``: those that were skipped or
      sent to review.
    - ``back``: the row numbers of rows that were skipped since they were gone, and are in the input
      again. They stay skipped.
    - ``lost``: rows of the input that the job has lost by damage. They aren't added again, since
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
        names = ", ".join([*others[:_MAX_NAMED], *(["..."] if others[_MAX_NAMED:] else [])])
        shards = counted(len(others), "shard|shards of the set has|have seen another input")
        yield f"{job_id}: {shards} ({names}): start each again with this input"
    if matched.done:
        rows = "completed row|rows has|have changed in the input, and stays|stay as done"
        yield (
            f"{job_id}: {counted(len(matched.done), rows)} ({numbers_text(matched.done)}); to do that "
            f"again with the new data: start again with {how_to.argument('on_changed', 'redo')}"
        )
    if matched.gone_open:
        rows = "open row|rows is|are no longer in the input, and is|are run nevertheless"
        yield f"{job_id}: {counted(matched.gone_open, rows)}: {how_to.if_gone}"
    if matched.back:
        retry = how_to.say('job.retry(status="skipped")', "retry", job_id, "--status", "skipped")
        if len(matched.back) <= _MAX_NAMED:
            retry = how_to.by_number("retry", job_id, matched.back)
        rows = "row|rows is|are in the input again, and stays|stay skipped"
        yield f"{job_id}: {counted(len(matched.back), rows)}: {retry}"


def retryable(service: JobService, job_id: str, where: Where | None = None) -> Iterator[JobRow]:
    """The rows that :meth:`JobService.retry_failed_rows` would retry, and that meet ``where``."""
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

    ``new`` and ``changed`` are rows that the start would first add or change. Rows of the kinds in
    NOT_RUN aren't processed at once: ``gone`` (the numbers of rows that the start would skip or send
    to review), open rows that don't meet ``where``, and rows that wait.
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
    - Rows that stay as they are: "left open" (they don't meet the condition of the run), "failed",
      "needs review", "in flight". "waiting": they run when they are due.
    - "outdated": completed rows that keep the results of old data, since the input has changed.
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
        if len(numbers) <= _MAX_NAMED:
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
                outdated[: _MAX_NAMED + 1],
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

    A row that doesn't meet the condition is passed over, and isn't checked again in this run. So a
    search for rows that other processes have made pending is cheap, even among a million rows.
    """

    def __init__(self, service: JobService, job_id: str, where: Where | None) -> None:
        self._service = service
        self._job_id = job_id
        self._where = where
        self._own_process = OwnProcess()  # no process that the function forks is a second driver
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


CHOOSING = ("--row", "--where")  # options of `journal run`, each with a value


def before_command(words: Sequence[str]) -> int:
    """The place in the words of a `journal run` where its options end: at ``--``."""
    return words.index("--") if "--" in words else len(words)


def words_for_rest(run: Run) -> list[str]:
    """The words that continue a job after ``run``.

    If none of the rows left meets the run's condition, the condition is removed from a `journal
    run`. With the condition, it would start no row.
    """
    words = list(run.argv)
    if run.is_command and run.ended_early is not None and run.ended_early.kind == "where":
        for option in CHOOSING:
            while option in words[: before_command(words)]:
                place = words.index(option)
                del words[place : place + 2]
    return words


def line_for_rest(run: Run | None) -> str:
    """The line to paste that continues a job: see :func:`words_for_rest`. "" if none is known."""
    if run is None or not run.argv:
        return ""
    return shell.in_directory(run.directory, words_for_rest(run))
