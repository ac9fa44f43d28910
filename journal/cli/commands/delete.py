"""`journal delete` removes jobs by name, `journal prune` by age."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import click

from journal.cli.find import FoundJob, ReadingService, find_job
from journal.cli.listing_formats import Field, echo_rows, listing_options
from journal.cli.output import echo_err, local_text
from journal.cli.shared_options import confirm, option, parse_moment, yes_option
from journal.errors import JobBusyError, JobPrunedError, JournalError, RefusedError
from journal.format.pruned import check_not_pruned
from journal.ids import is_shard_id
from journal.model import JobStatus
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_OK, EXIT_REFUSED
from journal.run.signals import ending_signals
from journal.store.list_jobs import state_of_job
from journal.store.run_lock import late_results
from journal.text import counted
from journal.transfer import Pruned, prune_jobs


@click.command("delete", short_help="Delete jobs with all their files.")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
@yes_option
@click.pass_context
def delete_command(ctx: click.Context, jobs: tuple[str, ...], yes: bool) -> int:
    """Delete jobs with all their files. This can't be undone.

    Before the first job is deleted, all jobs are checked: each job must exist, and no run may work
    on the job. If a run works on a job, use `journal cancel` first. If a job was pruned, `delete`
    makes the store forget the pruning, so that the next `journal run` makes the job anew.

    The command asks for confirmation. Without a terminal, give --yes. If the answer is no, the exit
    code is 4.

    Example: journal delete ship-ca-test --yes
    """
    found, pruned = dict[tuple[Path, str], FoundJob](), set[str]()
    for name in jobs:
        try:
            job = find_job(ctx, name)
        except JobPrunedError:  # there is no job any more, but a line in .pruned.jsonl
            job = FoundJob.of(ctx, ReadingService(ctx.obj), name)
            pruned.add(name)
        path = Path(name).absolute()
        links = (path, path.parent) if is_shard_id(job.id) else (path,)
        if os.path.dirname(name) and any(map(os.path.islink, links)):
            raise RefusedError(
                f"nothing was deleted: {name} is a link to {job.service.root / job.id}: remove the link, or "
                "give this path"
            )
        found[job.service.root, job.id] = job
    for job in found.values():
        holder = job.service.run_holder(job.id)
        if holder is not None:
            raise JobBusyError(job.id, holder.host, holder.pid, holder.started_at)
    if not yes and not _confirmed([*found.values()]):
        return EXIT_REFUSED
    code = EXIT_OK
    for job in found.values():
        try:
            deleted = job.service.delete_job(job.id)
        except JournalError as error:  # a run has begun meanwhile
            echo_err(f"journal: {error}")
            code = max(code, error.exit_code)
        else:
            gone = "no longer counts as pruned" if job.id in pruned else "does not exist any more"
            job.say("deleted" if deleted else gone)
    return code


def _confirmed(jobs: list[FoundJob]) -> bool:
    for job in jobs:
        job.say(_described(job))
    what = jobs[0].id if len(jobs) == 1 else f"these {len(jobs)} jobs"
    question = f"Delete {what} and all their files? This can't be undone."
    return confirm(question, "nothing was deleted")


def _described(found: FoundJob) -> str:
    try:
        check_not_pruned(found.service.root, found.id)
        job = found.read()
    except JournalError as error:  # a job that can't be read or was pruned can still be deleted
        return str(error)
    name = "" if job.name == job.id else f"{job.name}: "
    rows = counted(job.total_rows, "row|rows is|are done")
    late = "".join(f"; {text}" for text in late_results(found.service.store.directory(found.id)))
    return f"{name}{state_of_job(found.service.store, job)}, {job.done_rows} of {rows}{late}"


def _local(pruned: Pruned) -> str:
    return local_text(pruned.updated_at, "%Y-%m-%d %H:%M")


def _fate(pruned: Pruned) -> str:
    action = pruned.action.replace("_", " ")
    return action if pruned.reason is None else f"{action}: {pruned.reason}"


def _parse_age(value: str) -> datetime:
    """Parse WHEN as parse_moment does, but refuse minutes: the user may mean months."""
    if re.fullmatch(r"\s*[0-9]+\s*m[a-z]*\s*", value, re.IGNORECASE):
        raise ValueError(f"{value!r}: minutes, or months? Give days or seconds, as in 90d")
    return parse_moment(value)


_FIELDS = (
    Field("job_id", "JOB"),
    Field("status", "STATUS", status=True),
    Field("updated_at", "LAST COMMIT", text=_local),
    Field(title="ACTION", text=_fate),
    Field("pack", "PACK"),
    Field("action"),
    Field("reason"),
)


@click.command(
    "prune", short_help="Delete old jobs that have ended, and pack them first on request."
)
@option(
    "--older-than WHEN before",
    "Only jobs whose last commit is before WHEN: a date such as 2026-11-24, or an age such as "
    "90d (w weeks, d days, h hours, s seconds).",
    _parse_age,
    required=True,
)
@option(
    "--status statuses",
    "Only jobs of this status. Repeatable.  [default: all jobs that have ended]",
    type=click.Choice(sorted(status.value for status in JobStatus if status.is_ended)),
    multiple=True,
)
@option(
    "--to DIR",
    "First pack each job into DIR/JOB.tar.gz, and check the pack.",
    type=click.Path(file_okay=False),
)
@option("--dry-run", "Show what would be deleted. Change nothing.")
@yes_option
@listing_options
@click.pass_context
def prune_command(
    ctx: click.Context,
    before: datetime,
    statuses: tuple[str, ...],
    to: str | None,
    dry_run: bool,
    yes: bool,
    output: str,
) -> int:
    """Delete and list all jobs that have ended and are older than WHEN.

    The shards of a set are jobs, too. If one shard of a set has not ended, or can't be read, no
    shard of this set is deleted.

    These jobs are listed, but not deleted: jobs that have not ended, jobs on which a run works,
    completed jobs with rows that are open or need a review, and jobs that can't be read. To delete
    a paused or pending job, use `journal cancel` first. If a job can't be read, the exit code is 6.
    If a run works on a job, the exit code is 5.

    With --to, each job is first packed with its backups (such as journal.damaged-1). The job is
    deleted only after the pack was synced and verified. `journal unpack` restores the job. No file
    in DIR is overwritten.

    Without --to, the command asks for confirmation. Without a terminal, give --yes. If the answer
    is no, the exit code is 4.

    Example: journal prune --older-than 90d --status completed --to /mnt/archive
    """
    if to is None and not dry_run and not yes:
        count = sum(
            each.action == "would_delete"
            for each in prune_jobs(ctx.obj, before, statuses=statuses, dry_run=True)
        )
        jobs = counted(count, "old job|jobs")
        question = f"Delete {jobs} and all their files? This can't be undone."
        if count and not confirm(question, "nothing was deleted"):
            return EXIT_REFUSED
    found: list[Pruned] = []
    try:
        with ending_signals():
            for pruned in prune_jobs(ctx.obj, before, statuses=statuses, to=to, dry_run=dry_run):
                found.append(pruned)  # noqa: PERF402  (an interrupt keeps earlier ones)
    finally:
        _echo_pruned(found, output, dry_run=dry_run)
    codes = (
        EXIT_DAMAGED if each.status is None else each.error.exit_code
        for each in found
        if each.error is not None
    )
    return max(codes, default=EXIT_OK)


def _echo_pruned(found: list[Pruned], output: str, *, dry_run: bool) -> None:
    echo_rows(output, _FIELDS, found, none="")
    deleted = [each for each in found if each.action != "left"]
    would = "would be " if dry_run else ""
    left = len(found) - len(deleted)
    more = f"; {counted(left, 'old job|jobs')} left" if left else ""
    echo_err(f"{counted(len(deleted), 'job|jobs')} {would}deleted{more}")
