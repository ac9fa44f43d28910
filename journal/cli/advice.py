"""What a person can do about a job as it stands: commands to paste, and why."""

from __future__ import annotations

from collections.abc import Callable

from journal.chain import Chain
from journal.errorgroups import Numbers
from journal.index import TERMINAL_STATUSES
from journal.model import Job, JobStatus, RunHolder, done_rows

_PASTED_RANGES = 12


def advice(
    job: Job,
    state: str,
    holder: RunHolder | None,
    doubtful: dict[str, Numbers],
    chain: Chain,
    command: Callable[..., str],
) -> list[tuple[str, str]]:
    """Pairs of a command (or "") and what it is for, in the order in which one would take them.

    ``command`` makes one of its words. ``doubtful`` holds the rows of the statuses processing and
    needs_review.
    """
    found: list[tuple[str, str]] = []
    ended = job.status in TERMINAL_STATUSES
    successor = _successor(job, chain)
    again = job.resume_command or ""
    how = "this goes on with it" if again else f"run again what made it, as job {job.id}"
    if job.failed_rows:
        found.append((command("errors", job.id), "what went wrong, with all rows"))
        found.append((command("rows", job.id, "--status", "failed"), "those rows"))
        if not ended:
            then = "the run takes them up" if holder else "then run the job again"
            found.append((command("retry", job.id), f"failed rows are pending again; {then}"))
    if successor is not None:
        found.append((command("show", successor.id), "its unfinished rows went on there"))
        return found
    if ended and holder is not None and job.processing_count:
        in_flight = (
            f"its run has {job.processing_count} rows in flight: wait until they are settled"
        )
        found.append((command("wait", job.id), in_flight))
        return found
    if job.needs_review_count:
        found += _review(job, doubtful["needs_review"], ended=ended, command=command)
    if state == "interrupted":
        why = (
            f"its run died with {job.processing_count} rows in flight; {how}, with the same input; "
            "--on-interrupted review (the default), retry or fail says what becomes of those rows"
        )
        found.append((again, why))
    elif job.status is JobStatus.PAUSED and holder is not None:
        found.append((command("resume", job.id), "the run that waits goes on"))
    elif job.status is JobStatus.PAUSED:
        found.append((again, f"no run waits; {how}, with the same input"))
    elif ended and not job.needs_review_count and _unfinished(job):
        found.append((command("retry", job.id), "a new job of its unfinished rows"))
    return found


def _review(
    job: Job, numbers: Numbers, *, ended: bool, command: Callable[..., str]
) -> list[tuple[str, str]]:
    """How rows that need a review are settled, once somebody has looked."""
    rows = numbers.text(",", _PASTED_RANGES) if numbers.is_shown_by(_PASTED_RANGES) else "ROWS"
    resolve = ("resolve", job.id, "--row", rows)
    found = [
        (
            command("rows", job.id, "--status", "needs_review"),
            f"{job.needs_review_count} rows may have taken effect: look, then say",
        ),
        (command(*resolve, "--completed"), "they have"),
    ]
    if ended:
        retry = command("retry", job.id, "--on-interrupted", "retry")
        found.append((retry, "the others have not: a new job of these and all that is unfinished"))
    else:
        found.append((command(*resolve, "--retry"), "they have not: try them again"))
        failed = ("--failed", "--error-code", "CODE", "--error-message", "TEXT")
        found.append((command(*resolve, *failed), "they have not, and stay failed"))
    return found


def _successor(job: Job, chain: Chain) -> Job | None:
    ids = [each.id for each in chain.jobs]
    place = ids.index(job.id) + 1
    return chain.jobs[place] if place < len(ids) else None


def _unfinished(job: Job) -> bool:
    return job.total_rows > done_rows(job)
