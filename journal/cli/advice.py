"""Advice for a person about a job: commands to paste, and the reason for each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from journal.cli.find import FoundJob
from journal.cli.job_status import holder_text, pause_text
from journal.cli.next_start import NextStart, maybe_alive, next_start
from journal.cli.output import echo_err
from journal.format.records import CODES_OF_MERGES, LOST_CHECKSUM, MAYBE_DONE_TWICE
from journal.fs.file_names import JOURNAL_NAME
from journal.history.error_groups import ErrorGroup, group_errors
from journal.ids import row_id_of
from journal.model import Job, JobRow, JobStatus, RowStatus, RowStep, RunHolder
from journal.run.advice import (
    MAX_STEPS,
    before_command,
    pasted,
    step_commands,
    what_may_run,
    who_else,
)
from journal.service import JobService
from journal.sets.shard_choice import task_variables
from journal.store.interrupted_rows import GONE, INTERRUPTED, REVIEWS_OF_STEPS
from journal.store.list_jobs import state_of_job
from journal.store.row_reader import find_rows
from journal.store.steps import steps_of_rows
from journal.text import Numbers, counted, shorten

_MAX_LINES = 3  # the maximum after a run; `journal show` has all advice
_MAX_CALLS = 5  # calls with a step in doubt that get their own commands
_MAX_CODES = 3  # error codes that get their own commands
# Advice must be fast. If rows are many or large, only some rows are read. `journal errors` reads
# all rows.
MAX_READ_ROWS = 10_000
_MAX_READ_BYTES = 32 << 20
_MIN_READ_ROWS = 100


class Groups:
    """Rows in review or in flight, in groups that a person can settle in one way: see :meth:`of`.

    The keys of both arguments are row numbers. ``steps``: the steps of these rows. ``calls``: a
    value that is the same for rows of one call with the same steps.
    """

    def __init__(
        self, steps: Mapping[int, list[RowStep]], calls: Mapping[int, tuple[str, int]]
    ) -> None:
        self._steps, self._calls = steps, calls
        self._rows: dict[tuple[str, str], Numbers] = {}
        self.codes: set[str] = set()  # the error codes of the rows
        self.is_cut = False  # whether further rows exist

    def add(self, number: int, row: JobRow | None = None) -> None:
        """Add a row. ``row``: the row in review, or the failed row, if it was read."""
        steps = self._steps.get(number, ())
        code = "" if row is None else row.error_code or ""
        doubts = [("in doubt", step.name) for step in steps if step.state == "started"]
        if row is not None and row.status is RowStatus.FAILED:
            kinds = doubts
        elif row is not None and row.row_checksum == LOST_CHECKSUM:
            kinds = doubts or [("lost", "")]
        elif steps and code in ("", *REVIEWS_OF_STEPS):
            kinds = doubts or [("known", "")]
        else:
            kinds = doubts or [("other", code)]
        if row is None or row.status is RowStatus.NEEDS_REVIEW:
            self.codes.add(code)
        for kind in kinds:
            self._rows.setdefault(kind, Numbers()).add(number)

    def of(self, kind: str) -> dict[str, Numbers]:
        """The rows of a kind, in groups by name.

        - "in doubt": rows with a step in doubt, by the name of the step, including failed rows. A
          step is in doubt if it has begun and nobody knows whether it took effect.
        - "known": rows that have steps, but no step in doubt.
        - "lost": rows whose data was lost to damage.
        - "other": all other rows by error code ("" if unknown), because a person may settle each
          code in another way. The attempts of these rows may have taken effect.
        """
        found = {name: rows for (each, name), rows in self._rows.items() if each == kind}
        for rows in found.values():
            rows.is_cut = self.is_cut
        return found

    def by_call(self, numbers: Numbers) -> Iterator[tuple[str, Numbers]]:
        """Yield pairs of a call's key and rows: the first few calls with two or more of the rows.

        The last pair has the key "" and all other rows.
        """
        found = dict[tuple[str, int], Numbers]()
        for number in numbers:
            found.setdefault(self._calls.get(number, ("", 0)), Numbers()).add(number)
        named = [each for each in found if each[0] and found[each].count > 1][:_MAX_CALLS]
        yield from ((key, found[key, head]) for key, head in named)
        named_rows = set(itertools.chain(*(found[each] for each in named)))
        others = Numbers((n for n in numbers if n not in named_rows), is_cut=numbers.is_cut)
        if others.count:
            yield "", others


class Found(NamedTuple):
    """Facts that were read about a job's run, and about the rows that are not done.

    - ``state``: the result of :func:`state_of_job`. ``holder``: the process that runs the job.
    - ``errors``: the errors of the first ``read_rows`` rows that failed or need a review.
      ``partial``: True if there are more such rows.
    - ``in_review``, ``in_flight``: the rows in review and in flight. ``unknown``: the failed rows
      that may have taken effect.
    - ``reviews``: the rows in review, in groups. ``interrupted``: if the job has no run, the rows
      in flight, in groups.
    """

    state: str
    holder: RunHolder | None
    read_rows: int
    errors: list[ErrorGroup]
    partial: bool
    in_review: Numbers
    in_flight: Numbers
    unknown: Numbers
    reviews: Groups
    interrupted: Groups

    @property
    def steps_in_doubt(self) -> dict[str, Numbers]:
        one, other = self.reviews.of("in doubt"), self.interrupted.of("in doubt")
        return {
            name: Numbers(sorted({*one.get(name, ()), *other.get(name, ())}))
            for name in {**one, **other}
        }


def look(service: JobService, job: Job) -> Found:
    """Read the facts on which advice about a job depends."""
    state = state_of_job(service.store, job)
    holder = service.run_holder(job.id) if state != "unknown" else None
    try:
        size_bytes = os.stat(service.root / job.id / JOURNAL_NAME).st_size
    except OSError:  # the job was deleted meanwhile
        size_bytes = 0
    row_bytes = max(1, size_bytes // max(1, job.total_rows))
    most = max(_MIN_READ_ROWS, min(MAX_READ_ROWS, _MAX_READ_BYTES // row_bytes))

    def numbers_of(status: RowStatus) -> Numbers:
        found = find_rows(service.store, job.id, status, limit=most + 1)
        numbers = sorted(row.row_number for row in found[:most])
        return Numbers(numbers, is_cut=len(found) > most)

    in_review, in_flight = map(numbers_of, (RowStatus.NEEDS_REVIEW, RowStatus.PROCESSING))
    steps = _steps(service, job.id, most)
    calls = _calls(service, job.id, steps)
    reviews, interrupted = Groups(steps, calls), Groups(steps, calls)
    unread, unknown = set(in_review), Numbers()

    def wrong_rows() -> Iterator[JobRow]:
        for row in itertools.islice(wrong, most):
            if row.unknown:
                unknown.add(row.row_number)
            unread.discard(row.row_number)
            reviews.add(row.row_number, row)
            yield row

    wrong = service.get_rows(job.id, (RowStatus.FAILED, RowStatus.NEEDS_REVIEW))
    errors = group_errors(wrong_rows())
    for number in sorted(unread):
        reviews.add(number)
    for number in in_flight if holder is None else ():
        interrupted.add(number)
    reviews.is_cut, interrupted.is_cut = in_review.is_cut, in_flight.is_cut
    unknown.is_cut = len(wrong) > most
    groups = in_review, in_flight, unknown, reviews, interrupted
    return Found(state, holder, most, errors, len(wrong) > most, *groups)


def _steps(service: JobService, job_id: str, most: int) -> dict[int, list[RowStep]]:
    """The steps of the first ``most`` rows that have steps and aren't done, by row number."""
    found: dict[int, list[RowStep]] = {}
    undone = (RowStatus.FAILED, RowStatus.NEEDS_REVIEW, RowStatus.PROCESSING)
    rows = service.get_rows(job_id, undone)
    for number, step in steps_of_rows(rows):
        if number not in found and len(found) == most:
            break
        found.setdefault(number, []).append(step)
    return found


def _calls(service: JobService, job_id: str, numbers: Iterable[int]) -> dict[int, tuple[str, int]]:
    """For each row of a call: the call's key, and the offset of the row's latest step."""
    with service.store.reading(job_id) as journal:
        index, columns = journal.index, journal.index.columns
        found = {}
        for number in numbers:
            position = index.position_of(number)
            if position is not None and columns.step_heads and (call := columns.call(position)):
                key = f"{journal.id_of_rows}:call-{call:016x}"
                found[number] = key, columns.step_heads[position]
        return found


def what_runs_pending(job: Job, holder: RunHolder | None, root: Path) -> str:
    """Text that says whether the active run or the next run will process the job's pending rows."""
    if holder is None:
        return next_start(job, root).text
    return f"{holder_text(holder)} runs them"


def echo_advice(service: JobService, job: Job, command: Callable[..., str]) -> None:
    """Write the most important :func:`advice` about a job to standard error.

    A task of a scheduler writes one command for all shards: nobody types a command for each shard.
    """
    if job.shard is not None and task_variables():
        shown = command("show", job.id.partition("/")[0])
        echo_err(f"{job.id}: what to do about all shards: {shown}")
        return
    found = advice(job, look(service, job), service.root, command, is_short=True)
    if len(found) > _MAX_LINES:
        more = (command("show", job.id), "what else can be done")
        found = [*found[:2], more]
    for line, why in found:
        echo_err(f"{why}: {line}" if line else f"{job.id}: {why}")


def echo_steps(job: FoundJob, settled: Numbers, *, is_completed: bool) -> None:
    """Report the steps in doubt of settled rows, because no further attempt settles these steps.

    If the rows are completed, also report the done steps, because no attempt will do the other
    steps.
    """
    doubts: dict[str, Numbers] = {}
    done: dict[str, Numbers] = {}
    for number in settled:
        steps = job.service.get_steps(row_id_of(job.id, number))
        for step in [step.name for step in steps if step.state == "started"][:1]:
            doubts.setdefault(step, Numbers()).add(number)
        if is_completed and (names := [step.name for step in steps if step.state == "done"]):
            done.setdefault(", ".join(names), Numbers()).add(number)
    for name, numbers in doubts.items():
        (took, _), (took_not, _) = step_commands(job.command, job.id, name, numbers)
        rows = counted(numbers.count, "row|rows")
        job.say(f"step {name!r} of {rows} is in doubt: `{took}` or `{took_not}`")
    for steps_done, numbers in done.items():
        job.say(f"only these steps of --row {numbers.text()} are done: {steps_done}")


def advice(
    job: Job,
    found: Found,
    root: Path,
    command: Callable[..., str],
    *,
    is_cut: bool = False,
    is_short: bool = False,
) -> list[tuple[str, str]]:
    """Return pairs of a command (or "") and a purpose, in the order in which to use the commands.

    ``found``: what :func:`look` has read. ``root``: the store. ``command``: a function that turns
    words into a command line for this store. ``is_cut``: whether the journal was cut. ``is_short``:
    see :func:`next_start`.
    """
    holder, start = found.holder, next_start(job, root, is_short=is_short)
    advised = _Advice(job, holder, start, command)
    if is_cut:  # all other commands would be refused
        advised.add("no run starts, and nothing is written: see what is missing", "verify")
        pull = command("pull", "COPY", job.id)
        advised.found.append(
            (pull, "if a newer copy or pack has the missing part: bring that part back")
        )
        advised.add("if no copy has the missing part: affected rows will need a review", "repair")
    elif job.status.is_ended and holder is not None and job.processing_count:
        rows = counted(job.processing_count, "row|rows in flight")
        advised.add(f"its run has {rows}: wait until the run ends", "wait")
    else:
        in_flight = holder is None and job.processing_count and not job.status.is_ended
        if (in_flight or found.state == "interrupted") and (warning := maybe_alive(job)):
            advised.add(warning)
        advised.about_pauses()
        if in_flight:
            advised.about_rows_in_flight(found.interrupted)
        if not job.status.is_ended:
            advised.about_start(found.state)
        if job.needs_review_count:
            advised.about_reviews(found.reviews)
        if job.failed_rows:
            advised.about_failed_rows(found.unknown)
        if job.status.is_ended:
            advised.about_start(found.state)
    return advised.found


class _Advice:
    """Collects advice about a job. The advice is in ``found``."""

    def __init__(
        self, job: Job, holder: RunHolder | None, start: NextStart, command: Callable[..., str]
    ) -> None:
        self._job, self._holder, self._start, self._command = job, holder, start, command
        self._is_start_told = False
        self.found: list[tuple[str, str]] = []

    def add(self, why: str, verb: str = "", *words: str) -> None:
        """Advise a command about the job: ``verb``, the job's id, ``words``. ``why``: its purpose."""
        self.found.append((self._command(verb, self._job.id, *words) if verb else "", why))

    def about_pauses(self) -> None:
        job = self._job
        waits = job.status is JobStatus.PAUSED and self._holder is not None
        if job.status is JobStatus.CANCELLED and job.total_rows > job.done_rows:
            self.add("the job was cancelled; to continue the job, resume it first", "resume")
        elif waits or job.pause is not None:
            why = "its waiting run continues" if waits else "no run starts until the job is resumed"
            by = f"paused {pause_text(job.pause)}; " if job.pause is not None else ""
            self.add(f"{by}{why}", "resume")

    def about_rows_in_flight(self, rows: Groups) -> None:
        """Advise how to settle the rows in flight after the death of a run."""
        other, last = who_else(self._job), self._job.last_run
        may_live = maybe_alive(self._job)
        died = f"{other or 'its last run'} has" if other or may_live else "its run died with"
        policy = "review" if other or last is None else last.on_interrupted
        count = counted(self._job.processing_count, "row|rows in flight")
        self._warn(may_live)
        is_settled = policy == "retry" or (policy == "resume" and not rows.of("in doubt"))
        by = self._start.option("on_interrupted", policy) + " settles them"
        if not is_settled:
            policies = self._start.option("on_interrupted", "review", "retry", "fail", "resume")
            by = f"{policies} (default: review) decides about them"
        again = f"{died} {count}; {self._start.words}, with the same input: {by}"
        self.found.append((self._start.command, again))
        self._is_start_told = True
        what = "or first find out whether the rows took effect, and settle them"
        self.add(
            "the rows that were in flight" if is_settled else what, "rows", "--status", "processing"
        )
        if not is_settled:
            self._settle_groups(rows, only_steps=policy == "resume")

    def about_reviews(self, rows: Groups) -> None:
        is_twice = rows.codes == {MAYBE_DONE_TWICE}
        what = "been done twice" if is_twice else "taken effect"
        may_have = f"row|rows may have {what}: look, then settle it|them"
        count = counted(self._job.needs_review_count, may_have)
        self.add(count, "rows", "--status", "needs_review")
        if INTERRUPTED in rows.codes:
            self._warn()
        self._settle_groups(rows)

    def _warn(self, may_live: str = "") -> None:
        if not may_live and (warning := what_may_run(self._job)):
            self.add(warning)

    def _settle_groups(self, groups: Groups, *, only_steps: bool = False) -> None:
        """Advise how to settle each group.

        ``only_steps``: only steps in doubt, because the next start settles all other rows.
        """
        for step, numbers in itertools.islice(groups.of("in doubt").items(), MAX_STEPS):
            for call, of_call in groups.by_call(numbers):
                self.found += step_commands(self._command, self._job.id, step, of_call, call)
        if only_steps:
            return
        for numbers in groups.of("known").values():
            rows = counted(numbers.count, "row|rows has|have no step in doubt")
            why = (
                f"{rows}: the next attempt continues after the recorded steps. "
                "If the handler has an effect outside of its steps, look first"
            )
            self.add(why, "resolve", "--row", pasted(numbers), "--retry")
        for numbers in groups.of("lost").values():
            rows = counted(numbers.count, "row|rows lost its|their data by damage")
            self.add(f"{rows}: `journal help damage` says how to restore data")
            self._settle(pasted(numbers), "", LOST_CHECKSUM)
        others = groups.of("other")
        if len(others) > _MAX_CODES:
            every = sorted(itertools.chain(*others.values()))
            others = {"": Numbers(every, is_cut=groups.is_cut)}
        for code, numbers in sorted(others.items(), key=lambda item: -item[1].count):
            which = f"{shorten(code or 'others', 60)}: " if len(others) > 1 else ""
            is_mixed = code in CODES_OF_MERGES or (not code and CODES_OF_MERGES & groups.codes)
            rows = "ROWS" if is_mixed and numbers.count > 1 else pasted(numbers)
            self._settle(rows, which, code)

    def _settle(self, rows: str, which: str, code: str) -> None:
        """Advise how to settle rows with an error code. Each reason begins with ``which``."""
        resolve = ("resolve", "--row", rows)
        if code == MAYBE_DONE_TWICE:
            self.add(f"{which}if all is well now: the rows stay completed", *resolve, "--completed")
            again = f"{which}if they must be done again, although they are completed"
            self.add(again, "redo", "--row", rows)
            return
        by_file = "" if rows.isdigit() else " (--from FILE: each with its own values)"
        self.add(f"{which}if they took effect{by_file}", *resolve, "--completed")
        if code in (LOST_CHECKSUM, GONE):
            self.add(f"{which}if they need no work any more", *resolve, "--skip")
        if code != LOST_CHECKSUM:  # a row without data can't be tried again
            self.add(f"{which}if they took no effect: try them again", *resolve, "--retry")
        failed = ("--failed", "CODE", "--error-message", "TEXT")
        self.add(f"{which}if they took no effect: record that they failed", *resolve, *failed)

    def about_failed_rows(self, unknown: Numbers) -> None:
        """Advise how to look at failed rows, and how to run them again.

        ``unknown``: the failed rows that may have taken effect. Only a command that names these
        rows retries them.
        """
        start, is_known = self._start, unknown.count < self._job.failed_rows
        then = "the active run processes them" if self._holder else f"then {start.words}"
        self.add("what went wrong, with all rows", "errors")
        if unknown.count:
            again = (
                "failed row|rows may have taken effect: look, then try it|them again if not done"
            )
            why = f"{counted(unknown.count, again)}; {then}"
            self.add(why, "retry", "--row", pasted(unknown))
        if is_known:
            self.add(f"makes failed rows pending again; {then}", "retry")
        if is_known and self._holder is None:
            line, why = start.with_option("or do both in one step", "retry_failed")
            options = start.argv[: before_command(start.argv)]
            is_of_lines = "--lines" in options or "-0" in options
            if start.is_script or ("--key" in options and not is_of_lines):
                # "redo" retries failed rows, too
                is_redo = ("--on-changed", "redo") in itertools.pairwise(options)
                changed = start.option("on_changed", "redo" if is_redo else "retry")
                why += f"; if you have corrected the input, with {changed} instead"
            self.found.append((line, why))
        accept = "or accept the failed rows, which then count as done"
        self.add(accept, "skip", "--status", "failed")

    def about_start(self, state: str) -> None:
        """Advise how to start the next run."""
        job, start = self._job, self._start
        if self._is_start_told:
            return
        if state == "interrupted":
            is_known = not job.processing_count and not maybe_alive(job)
            died = "its run has died;" if is_known else "then"
            self.found.append((start.command, f"{died} {start.words}, with the same input"))
        elif job.status is JobStatus.PAUSED and self._holder is None:
            self.found.append(_to_continue(job, start))
        elif job.status is JobStatus.PENDING and self._holder is None:
            self.found.append((start.command, start.words))
        elif job.status.is_ended and job.open_rows:
            left = counted(job.open_rows, "row|rows is|are not done")
            reopens = "" if job.status is JobStatus.CANCELLED else ", which reopens it"
            self.found.append((start.command, f"{left}; {start.words}{reopens}"))


def _to_continue(job: Job, start: NextStart) -> tuple[str, str]:
    """Advice about a paused job without a run."""
    run = job.last_run
    kind = run.ended_early.kind if run and run.ended_early else ""
    why = f"to continue, {start.words}, with the same input"
    if run and kind == "cost" and "max_cost_cents" not in run.tuned:
        why += "; raise the limit of the cost, or the next run pauses at once"
    if kind in ("failures", "first_rows") and job.failed_rows and not start.is_script:
        return start.with_option(f"{why}, and try failed rows again", "retry_failed")
    return start.command, why
