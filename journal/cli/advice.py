"""What a person can do about a job as it stands: commands to paste, and why."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from journal.errorgroups import Numbers
from journal.model import TERMINAL_STATUSES, Job, JobStatus, RunHolder
from journal.redact import REDACTED
from journal.text import counted

_PASTED_RANGES = 12


def advice(
    job: Job,
    state: str,
    holder: RunHolder | None,
    doubtful: dict[str, Numbers],
    root: Path,
    command: Callable[..., str],
) -> list[tuple[str, str]]:
    """Pairs of a command (or "") and what it is for, in the order in which one would take them.

    ``root`` is the store, and ``command`` makes a command for it of its words. ``doubtful`` holds
    the rows of the statuses processing and needs_review.
    """
    found: list[tuple[str, str]] = []
    ended = job.status in TERMINAL_STATUSES
    again = job.resume_command or ""
    elsewhere = " --root " in again and f" --root {shlex.quote(str(root))} run " not in again
    if again == REDACTED or elsewhere:  # of the copy that this one was made of
        again = ""
    how = "this goes on with it" if again else f"run again what made it, as job {job.id}"
    if job.failed_rows:
        found.append((command("errors", job.id), "what went wrong, with all rows"))
        found.append((command("rows", job.id, "--status", "failed"), "those rows"))
        if job.status is not JobStatus.CANCELLED:
            then = "the run takes them up" if holder else "then run the job again"
            found.append((command("retry", job.id), f"failed rows are pending again; {then}"))
    if job.status is JobStatus.PENDING and holder is None:
        found.append(first_run(job, root))
        return found
    if ended and holder is not None and job.processing_count:
        in_flight = counted(job.processing_count, "row|rows in flight")
        found.append((command("wait", job.id), f"its run has {in_flight}: wait for its end"))
        return found
    if job.needs_review_count:
        found += _review(job, doubtful["needs_review"], command)
    if state == "interrupted":
        why = (
            f"its run died with {counted(job.processing_count, 'row|rows in flight')}; {how}, with the "
            "same input; --on-interrupted review (the default), retry or fail says what becomes of "
            f"{'that row' if job.processing_count == 1 else 'those rows'}"
        )
        found.append((again, why))
    elif job.status is JobStatus.PAUSED and holder is not None:
        found.append((command("resume", job.id), "the run that waits goes on"))
    elif job.status is JobStatus.PAUSED:
        found.append((again, f"no run waits; {how}, with the same input"))
    elif ended and job.pending_count:
        found.append((command("reopen", job.id), "it goes on with its pending rows"))
    return found


def first_run(job: Job, root: Path) -> tuple[str, str]:
    """The command (or "") that runs a job which was never run, and what it is for."""
    program = f'journal.open_job("{root / job.id}").run(...)'
    how = f"`journal run` the same input with --job {job.id}, or in Python {program}"
    return "", f"no run of {job.id} has begun: {how}"


def _review(job: Job, numbers: Numbers, command: Callable[..., str]) -> list[tuple[str, str]]:
    """How rows that need a review are settled, once somebody has looked."""
    rows = numbers.text(",", _PASTED_RANGES) if numbers.is_shown_by(_PASTED_RANGES) else "ROWS"
    resolve = ("resolve", job.id, "--row", rows)
    found = [
        (
            command("rows", job.id, "--status", "needs_review"),
            f"{counted(job.needs_review_count, 'row|rows')} may have taken effect: look, then say",
        ),
        (command(*resolve, "--completed"), "they have"),
    ]
    found.append((command(*resolve, "--retry"), "they have not: try them again"))
    failed = ("--failed", "--error-code", "CODE", "--error-message", "TEXT")
    found.append((command(*resolve, *failed), "they have not, and stay failed"))
    return found
