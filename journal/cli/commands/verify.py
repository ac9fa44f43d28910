"""`journal verify`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from journal.cli.exit_codes import EXIT_DAMAGED, EXIT_OK, EXIT_UNEXPECTED, exit_code_of
from journal.cli.find import ReadingService, command_line, complete_job, find_job
from journal.cli.output import clean, echo_err, echo_json_list
from journal.errors import JournalError
from journal.service import JobService
from journal.text import counted, time_text
from journal.verify import Report, verify_job


@click.command("verify", short_help="Check all of a job's journal for damage.")
@click.argument("jobs", metavar="[JOB]...", nargs=-1, shell_complete=complete_job)
@click.option("--all", "all_jobs", is_flag=True, help="Verify all jobs of the store.")
@click.option(
    "--json", "json_output", is_flag=True, help="Print a JSON array with one object per job."
)
@click.pass_context
def verify_command(
    ctx: click.Context, jobs: tuple[str, ...], all_jobs: bool, json_output: bool
) -> int:
    """Check all of a job's journal for damage. Changes nothing.

    A torn tail is an interrupted write that was never acknowledged, so it is not damage. The next
    writer saves it beside the journal and cuts it off. "unended" means that the last commit lacks
    its line end. Such a commit is valid, and the next writer adds the line end.

    All jobs are checked, even if one of them is damaged. The exit code is 6 if any job is damaged;
    use `journal repair` for it.

    Example: journal verify --all
    """
    if bool(jobs) == all_jobs:
        raise click.UsageError("name the jobs to verify, or give --all")
    targets: list[tuple[JobService, str]]
    if all_jobs:
        service: JobService = ReadingService(ctx.obj)
        targets = [(service, job_id) for job_id in sorted(service.directory_names())]
    else:
        targets = [find_job(ctx.obj, job) for job in jobs]
    code = EXIT_OK

    def reports() -> Iterator[Report]:
        nonlocal code
        for service, job_id in targets:
            try:
                report = verify_job(service.root / job_id)
            except JournalError as error:
                echo_err(f"journal: {error}")
                code = max(code, exit_code_of(error))
                continue
            code = max(code, _code_of(report))
            yield report
            if report.damaged:
                repair = command_line(ctx, service)("repair", job_id)
                echo_err(f"next: {repair}")

    if json_output:
        echo_json_list(reports())
    else:
        for report in reports():
            _echo_report(report)
    return code


def _code_of(report: Report) -> int:
    if report.damaged:
        return EXIT_DAMAGED
    newer = any(finding.kind == "newer" for finding in report.findings)
    return EXIT_UNEXPECTED if newer else EXIT_OK


def _echo_report(report: Report) -> None:
    kinds = {finding.kind for finding in report.findings}
    verdict = next((kind for kind in ("damage", "newer", "torn", "unended") if kind in kinds), "ok")
    word = "DAMAGED" if verdict == "damage" else verdict
    click.echo(
        f"{word:<8} {clean(report.job_id)}: {counted(report.records, 'record|records')} in "
        f"{counted(report.commits, 'commit|commits')}, {counted(report.rows, 'row|rows')}"
    )
    if report.ahead_until is not None:
        click.echo(
            f"  clock: its last time, {time_text(report.ahead_until)}, is ahead of this machine's "
            "clock; until then new records get that time; nothing else is wrong"
        )
    if report.in_doubt:
        click.echo(
            "  sync: a sync failed since the system started, or a process died during a sync: the "
            "last bytes read may not be on the disk; the next commit first writes them again"
        )
    for finding in report.findings:
        click.echo(
            f"  {finding.kind}: line {finding.line}, bytes {finding.offset} to {finding.end}: "
            f"{clean(finding.message)}"
        )
