"""The messages of `journal run` about a job and its input, before and after a run.

With ``--quiet``, there are only messages about problems, and no message if all rows are done.
Advice is printed last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from journal.cli.advice import echo_advice
from journal.cli.job_status import status_text
from journal.cli.output import as_json, echo_err
from journal.cli.run.template import Template
from journal.fs import shell
from journal.model import Job, JobStatus, RowStatus
from journal.run.advice import HowTo, before_command, nothing_to_do
from journal.run.open_job import JobRun
from journal.run.plan import Matched, may_start, retryable
from journal.run.run_report import RunReport
from journal.text import as_utf8, counted, shorten
from journal.verbs import missing_rows

_MAX_ROWS = 3  # rows that failed or need a review, in the messages of --quiet
_MAX_DATA = 100  # characters of a row's data in a message
_LOST = (
    "row|rows of the input is|are not in the repaired job: a repair may have lost rows that are done, so "
    "it|they is|are not added; run rows that are not done as another job"
)


def report_start(
    job_run: JobRun,
    given: Mapping[str, Any],
    template: Template,
    where: Any,
    how_to: HowTo,
    tell: Callable[[str], object],
) -> None:
    """Report differences from the last run, and the rows to run. Lost rows are reported at once."""
    job, matched = job_run.job, job_run.matched
    is_new = matched.added == job.total_rows
    for text in about_input(job, matched, given, template, is_new=is_new):
        (echo_err if matched.lost else tell)(f"{job.id}: {text}")
    if given["anew"] and not is_new:
        tell(f"{job.id}: exists, so --anew has no effect")
    if given["quiet"]:
        return
    if may_start(job, retry_failed=given["retry_failed"]):
        failed = retryable(job_run.service, job.id, where) if given["retry_failed"] else ()
        retried = sum(1 for _ in failed)
        words = counted(retried, "failed row|rows is|are tried again")
        again = f"; {words}" if retried else ""
        rows = counted(job.total_rows, "row|rows")
        echo_err(f"{job.id}: {rows}, {job.pending_count} pending{again}")
    if job.needs_review_count and given["on_interrupted"] != "review":
        words = "row|rows is|are in review already, and stays|stay in review"
        how = how_to.say("", "show", job.id)
        echo_err(f"{job.id}: {counted(job.needs_review_count, words)}: {how} says how to settle")


def about_input(
    job: Job | None,
    matched: Matched,
    given: Mapping[str, Any],
    template: Template,
    *,
    is_new: bool,
) -> list[str]:
    """Messages about the command and the input of a start. With ``--quiet``, only problems."""
    said = [] if job is None else _other_command(job, given["command"])
    said += lost_rows(matched) if given["quiet"] else _differences(matched, is_new=is_new)
    was_started = job is not None and job.started_at is not None
    if is_new and not was_started and not given["quiet"] and given["stdin_format"] == "none":
        said += template.without_placeholder()
    return said


def _other_command(job: Job, command: tuple[str, ...]) -> list[str]:
    """A list with a message if the last run of the job had another command, or an empty list."""
    if job.last_run is None or not job.last_run.is_command:
        return []
    words = job.last_run.argv
    last = list(words[before_command(words) + 1 :])
    if list(map(as_utf8, command)) == last:
        return []
    done = "; rows that are done are not run again" if job.successful_rows else ""
    return [f"the command is not that of the last run, which was: {shell.join(last)}{done}"]


def lost_rows(matched: Matched) -> list[str]:
    """A list with a message if the input has rows that a repair has lost, or an empty list."""
    if not matched.lost:
        return []
    first = ", ".join(shorten(as_json(data), _MAX_DATA) for data in matched.first_lost)
    more = ", ..." if matched.lost > len(matched.first_lost) else ""
    return [f"{counted(matched.lost, _LOST)}; not in the job: {first}{more}"]


def _differences(matched: Matched, *, is_new: bool) -> list[str]:
    """A message for each kind of difference between the input and the job."""
    found = [
        (0 if is_new else matched.added, "new row|rows added"),
        (
            matched.changed - matched.updated - len(matched.done),
            "row|rows of the input has|have changed; the job keeps its own data",
        ),
        (matched.updated, "row|rows has|have changed, and is|are run with the new data"),
        (matched.gone, "row|rows of the job is|are no longer in the input"),
        (matched.gone_settled, "of them is|are skipped, or put under review"),
    ]
    return [counted(count, words) for count, words in found if count] + lost_rows(matched)


def report_end(
    job_run: JobRun,
    report: RunReport,
    given: Mapping[str, Any],
    how_to: HowTo,
) -> None:
    """Report the outcomes of the rows. Then advise what to do next."""
    service, job, is_loud = job_run.service, report.job, not given["quiet"]
    for text in given["where"].unmet():
        echo_err(f"{job.id}: {text}")
    ranges = given["ranges"]
    if ranges and (missing := missing_rows(job.id, service.get_rows(job.id), ranges)):
        echo_err(f"journal: {missing}")
    is_idle = job.status.is_ended and not report.elapsed_s
    is_told = is_loud or job.status is JobStatus.CANCELLED
    if is_idle and is_told:
        echo_err(nothing_to_do(job, how_to))
    if report.is_lost:  # the run has said what to do
        return
    if is_loud or report.exit_code:
        took = f" in {report.elapsed_s:.1f} s" if report.elapsed_s else ""
        echo_err(
            f"{job.id}: {status_text(job)}{took}: {job.successful_rows} completed, "
            f"{job.failed_rows} failed, {job.skipped_count} skipped, "
            f"{job.needs_review_count} need review, {job.pending_count} pending"
            + (f" ({job.waiting_count} wait)" if job.waiting_count else "")
        )
    if report.exit_code and not is_loud:  # for the mail of cron
        undone = service.get_rows(job.id, (RowStatus.FAILED, RowStatus.NEEDS_REVIEW))
        for row in undone[:_MAX_ROWS]:
            said = shorten((row.error_message or "").partition("\n")[0], 200)
            echo_err(f"{job.id}: row {row.row_number} ({row.error_code}): {said}")
    if is_told and report.exit_code:
        echo_advice(service, job, how_to.line)
