"""Advice for a person about a job: commands to paste, and the reason for each."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from journal.cli.find import holder_text
from journal.history.error_groups import Numbers
from journal.history.redact import REDACTED
from journal.model import TERMINAL_STATUSES, Job, JobStatus, RunHolder
from journal.text import counted

_PASTED_RANGES = 12
_MAX_STEPS = 3  # of which the commands are shown


class NextStart(NamedTuple):
    """Says in ``words`` how to start the next run of a job. ``command`` is text to paste, or ""."""

    command: str
    words: str
    is_script: bool = False

    @property
    def text(self) -> str:
        return f"{self.words}: {self.command}" if self.command else self.words

    def option(self, name: str, *values: str) -> str:
        """An option of the run with its possible values, in the syntax of a command line or a
        script.
        """
        if self.is_script:
            return f"{name}={' or '.join(map(repr, values)) or True}"
        return f"--{name.replace('_', '-')} {' or '.join(values)}".rstrip()


def next_start(job: Job, root: Path) -> NextStart:
    """How to run a job again with the command or script that made it, in the store ``root``."""
    root = Path(os.path.abspath(root))  # as in the command of the run: without ".."
    again = job.resume_command or ""
    if job.started_at is None and not again:
        program = f'journal.open_job("{root / job.id}").run(...)'
        how = f"use `journal run` with the same input and --job {job.id}, or in Python {program}"
        return NextStart("", f"{job.id} was never run: {how}")
    if " --root " in again and " run " in again:
        if f" --root {shlex.quote(str(root))} run " in again:
            return NextStart(again, "run it again")
        return NextStart("", f"use `journal run` with --job {job.id} again")
    if again and again != REDACTED:
        return NextStart("", "run the script again", is_script=True)
    command = job.original_command
    made_by = f": {command}" if command and command != REDACTED else ""
    return NextStart("", f"start again the program that made the job{made_by}, as job {job.id}")


def what_runs_pending(job: Job, holder: RunHolder | None, root: Path) -> str:
    """Text that says which run will process the pending rows of a job: the active run or the next
    one.
    """
    if holder is None:
        return next_start(job, root).text
    return f"{holder_text(holder)} runs them"


def advice(
    job: Job,
    state: str,
    holder: RunHolder | None,
    doubtful: dict[str, Numbers],
    steps: dict[str, Numbers],
    root: Path,
    command: Callable[..., str],
    *,
    is_merged: bool,
) -> list[tuple[str, str]]:
    """Return pairs of a command (or "") and a purpose, in the order in which to use the commands.

    - ``root`` is the store. ``command`` turns words into a command line for this store.
    - ``doubtful`` holds the numbers of the rows with the statuses processing and needs_review.
    - ``steps`` holds the numbers of the rows that have a step in doubt, by the name of the step.
    - ``is_merged``: True if some rows need a review because two copies worked on them. Different
      rows may then need different commands.
    """
    found: list[tuple[str, str]] = []
    start = next_start(job, root)
    ended = job.status in TERMINAL_STATUSES
    in_flight = counted(job.processing_count, "row|rows in flight")
    if ended and holder is not None and job.processing_count:
        return [(command("wait", job.id), f"its run has {in_flight}: wait until it ends")]
    open_rows = job.pending_count + job.processing_count
    if job.status is JobStatus.CANCELLED and (
        open_rows or job.failed_rows or job.needs_review_count
    ):
        found.append(
            (
                command("reopen", job.id),
                "the job was cancelled; to continue the job, reopen it first",
            )
        )
    if job.failed_rows:
        found += _failed(job, start, holder, command)
    if job.needs_review_count:
        found += _review(job, doubtful["needs_review"], steps, command, is_merged=is_merged)
    if state == "interrupted":
        policies = start.option("on_interrupted", "review", "retry", "fail", "resume")
        rows = "that row" if job.processing_count == 1 else "those rows"
        why = f"its run died with {in_flight}; {start.words}, with the same input"
        found.append((start.command, why))
        found.append(("", f"{policies} (default: review) decides what happens to {rows}"))
    elif job.status is JobStatus.PAUSED and holder is not None:
        found.append((command("resume", job.id), "the run that waits continues"))
    elif job.status is JobStatus.PAUSED:
        ended_first = "the run has ended; " if job.started_at else ""
        found.append((start.command, f"{ended_first}{start.words}, with the same input"))
    elif job.status is JobStatus.PENDING and holder is None:
        found.append((start.command, start.words))
    elif ended and open_rows:
        rows = counted(open_rows, "row|rows is|are not done")
        reopens = "" if job.status is JobStatus.CANCELLED else ", which reopens it"
        found.append((start.command, f"{rows}; {start.words}{reopens}"))
    return found


def _failed(
    job: Job, start: NextStart, holder: RunHolder | None, command: Callable[..., str]
) -> list[tuple[str, str]]:
    """How to look at failed rows, and how to run them again."""
    if holder is not None:
        then = "the run at work runs them"
    else:
        then = f"then {start.words}. Or do both in one step with {start.option('retry_failed')}"
    found = [
        (command("errors", job.id), "what went wrong, with all rows"),
        (command("rows", job.id, "--status", "failed"), "the failed rows"),
        (command("retry", job.id), f"makes failed rows pending again; {then}"),
    ]
    if start.is_script or " --key " in start.command:
        option = start.option("on_changed", "retry")
        found.append(("", f"if you have corrected the input: {start.words} with {option}"))
    return found


def step_commands(
    command: Callable[..., str], job_id: str, step: str, numbers: Numbers
) -> list[tuple[str, str]]:
    """Two commands that settle a step in doubt: if the step took effect, and if it did not."""
    rows = numbers.text(",", _PASTED_RANGES) if numbers.is_shown_by(_PASTED_RANGES) else "ROWS"
    resolve = ("resolve", job_id, "--row", rows, "--step", step)
    return [
        (command(*resolve, "--result", "JSON"), f"if step {step!r} took effect: record its result"),
        (command(*resolve, "--not-done"), "if it took no effect: the next attempt begins it again"),
    ]


def _review(
    job: Job,
    numbers: Numbers,
    steps: dict[str, Numbers],
    command: Callable[..., str],
    *,
    is_merged: bool,
) -> list[tuple[str, str]]:
    """Commands that settle rows that need a review."""
    look = command("rows", job.id, "--status", "needs_review")
    found = [
        (
            look,
            f"{counted(job.needs_review_count, 'row|rows')} may have taken effect: look, then settle them",
        )
    ]
    for step in list(steps)[:_MAX_STEPS]:
        found += step_commands(command, job.id, step, steps[step])
    in_doubt = sum(each.count for each in steps.values())
    if in_doubt >= job.needs_review_count:  # the next attempts settle these rows
        return found
    can_be_pasted = numbers.is_shown_by(_PASTED_RANGES) and (not is_merged or numbers.count == 1)
    can_be_pasted = can_be_pasted and not steps
    rows = numbers.text(",", _PASTED_RANGES) if can_be_pasted else "ROWS"
    resolve = ("resolve", job.id, "--row", rows)
    failed = ("--failed", "--error-code", "CODE", "--error-message", "TEXT")
    return [
        *found,
        (command(*resolve, "--completed"), "if they took effect"),
        (command(*resolve, "--retry"), "if they took no effect: try them again"),
        (command(*resolve, *failed), "if they took no effect: record that they failed"),
    ]
