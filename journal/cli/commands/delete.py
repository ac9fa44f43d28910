"""`journal delete`."""

from __future__ import annotations

import click

from journal.cli.exit_codes import EXIT_OK, EXIT_REFUSED, exit_code_of
from journal.cli.find import complete_job, find_job
from journal.cli.output import echo_err
from journal.cli.shared_options import confirm, yes_option
from journal.errors import JobBusyError, JournalError
from journal.model import done_rows
from journal.service import JobService
from journal.text import counted


@click.command("delete", short_help="Delete jobs with all their files.")
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=complete_job)
@yes_option(" Each JOB must be a whole id or a path.")
@click.pass_context
def delete_command(ctx: click.Context, jobs: tuple[str, ...], yes: bool) -> int:
    """Delete jobs with all their files. This can't be undone.

    All jobs are checked before the first one is deleted. The command asks for confirmation; without
    a terminal, give --yes. If the answer is no, the exit code is 4.

    If a run works on a job, the job can't be deleted: use `journal cancel` first.

    Example: journal delete ship-ca-test --yes
    """
    found = {}
    for job in jobs:
        service, job_id = find_job(ctx.obj, job)
        if yes and job != job_id and job_id.startswith(job):
            raise click.UsageError(
                f"nothing was deleted: {job!r} is only the beginning of an id, and --yes needs whole "
                f"ids; did you mean {job_id}?"
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
        except JournalError as error:  # a run has begun meanwhile
            echo_err(f"journal: {error}")
            code = max(code, exit_code_of(error))
        else:
            echo_err(f"{job_id}: deleted" if deleted else f"{job_id}: does not exist any more")
    return code


def _confirmed(targets: list[tuple[JobService, str]]) -> bool:
    for service, job_id in targets:
        echo_err(f"{job_id}: {_described(service, job_id)}")
    what = targets[0][1] if len(targets) == 1 else f"these {len(targets)} jobs"
    return confirm(
        f"Delete {what} and all their files? This can't be undone.", "nothing was deleted"
    )


def _described(service: JobService, job_id: str) -> str:
    try:
        job = service.get_job(job_id)
    except JournalError as error:  # an unreadable job can be deleted
        return str(error)
    if job is None:
        return "does not exist any more"
    name = "" if job.name == job_id else f"{job.name}: "
    return (
        f"{name}{service.get_state(job)}, {done_rows(job)} of "
        f"{counted(job.total_rows, 'row|rows is|are done')}"
    )
