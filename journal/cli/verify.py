"""`journal verify`."""

from __future__ import annotations

import click

from journal.cli.exits import EXIT_DAMAGED, EXIT_OK, EXIT_UNEXPECTED, exit_code_of
from journal.cli.jobs import find_job
from journal.cli.output import clean, tell
from journal.errors import JournalError
from journal.service import JobService
from journal.verify import Report, verify_job


@click.command("verify")
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@click.option("--all", "all_jobs", is_flag=True, help="Every job in the store.")
@click.pass_context
def verify_command(ctx: click.Context, jobs: tuple[str, ...], all_jobs: bool) -> int:
    """Read all of a job's journal and report all that is wrong with it; changes nothing.

    Goes on past a damaged job. A torn tail is what a writer left that died before it could
    promise anything: the next writer saves it beside the journal and cuts it off.

    Exit code 6 if any job is damaged.

    Example: journal verify --all
    """
    if bool(jobs) == all_jobs:
        raise click.UsageError("name the jobs to verify, or say --all")
    if all_jobs:
        service = JobService(ctx.obj)
        targets = [(service, job_id) for job_id in sorted(service.directory_names())]
    else:
        targets = [find_job(ctx.obj, job) for job in jobs]
    code = EXIT_OK
    for service, job_id in targets:
        try:
            report = verify_job(service.root / job_id)
        except JournalError as error:
            tell(f"journal: {error}")
            code = max(code, exit_code_of(error))
            continue
        _echo_report(report)
        if report.damaged:
            code = EXIT_DAMAGED
        elif any(finding.kind == "newer" for finding in report.findings):
            code = max(code, EXIT_UNEXPECTED)
    return code


def _echo_report(report: Report) -> None:
    kinds = {finding.kind for finding in report.findings}
    verdict = next((kind for kind in ("damage", "newer", "torn") if kind in kinds), "ok")
    word = "DAMAGED" if verdict == "damage" else verdict
    click.echo(
        f"{word:<8} {report.job_id}: {report.records} records in {report.commits} commits, "
        f"{report.rows} rows"
    )
    for finding in report.findings:
        click.echo(
            f"  {finding.kind}: line {finding.line}, bytes {finding.offset} to {finding.end}: "
            f"{clean(finding.message)}"
        )
