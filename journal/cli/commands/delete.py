"""`journal delete`."""

from __future__ import annotations

import sys

import click

from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED, exit_code_of
from journal.cli.find import complete_job, find_job
from journal.cli.output import clean, tell
from journal.errors import JobBusyError, JournalError
from journal.model import done_rows
from journal.service import JobService
from journal.text import counted


@click.command("delete", short_help="Delete jobs with all of their files, for good.")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
@click.option("-y", "--yes", is_flag=True, help="Don't ask; JOB is a whole id, or a path.")
@click.pass_context
def delete_command(ctx: click.Context, jobs: tuple[str, ...], yes: bool) -> int:
    """Delete jobs with all of their files, for good; all that are named are checked before the first.

    Asks before; where nobody can answer it refuses, unless --yes is given. The exit code is 4 if
    the answer is no. A job that a run works on is not deleted: `journal cancel` it first.

    Example: journal delete ship-ca-test --yes
    """
    found = {}
    for job in jobs:
        service, job_id = find_job(ctx.obj, job)
        if yes and job != job_id and job_id.startswith(job):
            raise click.UsageError(
                f"nothing was deleted: {job!r} is only the beginning of an id, and --yes takes whole "
                f"ones; is {job_id} meant?"
            )
        found[service.root, job_id] = service
    targets = [(service, job_id) for (_, job_id), service in found.items()]
    for service, job_id in targets:
        holder = service.run_holder(job_id)
        if holder is not None and not service.is_over(job_id):
            raise JobBusyError(job_id, holder.host, holder.pid, holder.started_at)
    if not yes and not _confirmed(targets):
        return EXIT_REFUSED
    code = EXIT_OK
    for service, job_id in targets:
        try:
            deleted = service.delete_job(job_id)
        except JournalError as error:  # a run has begun since
            tell(f"journal: {error}")
            code = max(code, exit_code_of(error))
        else:
            tell(f"{job_id}: deleted" if deleted else f"{job_id}: is gone already")
    return code


def _confirmed(targets: list[tuple[JobService, str]]) -> bool:
    for service, job_id in targets:
        tell(f"{job_id}: {_described(service, job_id)}")
    if not sys.stdin.isatty():
        raise click.UsageError("nothing was deleted: nobody is there to ask, so say --yes")
    what = targets[0][1] if len(targets) == 1 else f"these {len(targets)} jobs"
    if click.confirm(f"Delete {clean(what)} and all files of it for good?", err=True):
        return True
    tell("nothing was deleted")
    return False


def _described(service: JobService, job_id: str) -> str:
    try:
        job = service.get_job(job_id)
    except JournalError as error:  # what can't be read can be deleted all the same
        return str(error)
    if job is None:
        return "is gone already"
    return (
        f"{job.name}: {service.get_state(job)}, {done_rows(job)} of "
        f"{counted(job.total_rows, 'row|rows is|are done')}"
    )
