"""`journal verify` and `journal repair`: find damage, and restore what is intact."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import click

from journal.cli.find import FoundJob, FoundSet, ReadingService, find_job_or_set, found_job
from journal.cli.output import echo_err, echo_json_list, echo_result
from journal.cli.shared_options import json_option, option
from journal.errors import INTACT_COPY, JournalError
from journal.repair import Repair, repair_job
from journal.repair.salvage import Action
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_NEEDS_PERSON, EXIT_OK
from journal.store.list_jobs import lost_shards
from journal.text import Numbers, counted, escaped
from journal.verify import Finding, Report, verify_job


@click.command("verify", short_help="Check the whole journal of a job for damage.")
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@option("--all all_jobs", "Verify all jobs of the store.")
@option("--json json_output", "Print a JSON array with one object per job.")
@click.pass_context
def verify_command(
    ctx: click.Context, jobs: tuple[str, ...], all_jobs: bool, json_output: bool
) -> int:
    """Check the whole journal of a job for damage. Nothing is changed.

    A torn tail (an interrupted write that was never acknowledged) is not damage. The next writer
    saves the torn tail beside the journal and cuts it off. "unended" means that the last commit
    lacks its line end. This commit is valid, and the next writer adds the line end.

    All jobs are checked, even if one of them is damaged. The exit code is 6 if any job is damaged,
    or was written by a newer version. If an intact copy has all commits, use this copy: see `journal
    help damage`. Otherwise, use `journal repair`.

    Example: journal verify --all
    """
    if bool(jobs) == all_jobs:
        raise click.UsageError("name the jobs to verify, or give --all")
    found = [find_job_or_set(ctx, name) for name in jobs]
    targets = list(itertools.chain.from_iterable(job.shards for job in found))
    sets = [(job.service.store, job.id) for job in found if isinstance(job, FoundSet)]
    if all_jobs:
        store = ReadingService(ctx.obj)
        names = [*store.store.directory_names()]
        sets = [(store.store, set_id) for set_id in store.store.set_ids()]
        for _, set_id in sets:
            names += store.store.shards(set_id)
        targets = [FoundJob.of(ctx, store, name) for name in sorted(names)]
    code = EXIT_OK
    for of_set in sets:
        for error in lost_shards(*of_set).values():
            echo_err(f"journal: {error}")
            code = EXIT_DAMAGED

    def reports() -> Iterator[Report]:
        nonlocal code
        for job in targets:
            try:
                report = verify_job(job.service.root / job.id)
            except JournalError as error:
                echo_err(f"journal: {error}")
                code = max(code, error.exit_code)
                continue
            kinds = {finding.kind for finding in report.findings}
            if report.damaged or "newer" in kinds:
                code = max(code, EXIT_DAMAGED)
            yield report
            if "newer" in kinds:
                echo_err("next: pip install -U rowjournal")
            elif "damage" in kinds and "mismatch" not in kinds:
                echo_err(f"next: {INTACT_COPY}: {job.command('repair', job.id)}")

    if json_output:
        echo_json_list(reports())
    else:
        for report in reports():
            _echo_report(report)
    return code


def _echo_report(report: Report) -> None:
    kinds = {finding.kind for finding in report.findings}
    order = ("damage", "mismatch", "newer", "torn", "unended")
    verdict = next((kind for kind in order if kind in kinds), "ok")
    word = "DAMAGED" if verdict == "damage" else verdict
    click.echo(
        f"{word:<8} {escaped(report.job_id)}: {counted(report.records, 'record|records')} in "
        f"{counted(report.commits, 'commit|commits')}, {counted(report.rows, 'row|rows')}"
    )
    if report.in_doubt:
        click.echo(
            "  sync: a sync failed since the system started, or a process died during a sync: the "
            "last bytes of the journal may not be on the disk; the next commit first writes these "
            "bytes again"
        )
    for finding in report.findings:
        click.echo(
            f"  {finding.kind}: {_where(finding)}, bytes {finding.offset} to {finding.end}: "
            f"{escaped(finding.message)}"
        )


@click.command(
    "repair", short_help="Repair a damaged job, and keep all data that the checksums confirm."
)
@found_job
@json_option
def repair_command(job: FoundJob, json_output: bool) -> int:
    """Repair a damaged job, and keep all data that the checksums confirm.

    The damaged journal is kept beside the new journal, as journal.damaged-N.

    These kinds of damage are repaired without loss: line ends that a transfer in text mode has
    changed, an added byte order mark, and single flipped bits. Inserted lines between two commits
    are removed without loss, unless they are records.

    All other damaged lines are lost. A lost line may have recorded the outcome of a row. So if
    lines are lost, rows that look pending, failed or in flight are put under review. If repeating
    the work of these rows does no harm, `journal resolve JOB --status needs_review --retry` makes
    these rows pending again.

    The exit code is 0 if nothing is lost, and 3 if lines are lost.

    Example: journal repair ship-ca
    """
    repair = repair_job(job.service.root / job.id)
    echo_result(repair, _text, is_json=json_output)
    if not repair.lossless:
        echo_err(
            "some records are lost, or no checksum proves them: compare the job with the work that you know of"
        )
    if repair.review_count:
        rows = job.command("rows", job.id, "--status", "needs_review")
        echo_err(f"see the rows that need a review: {rows}")
    return EXIT_OK if repair.lossless else EXIT_NEEDS_PERSON


def _text(repair: Repair) -> str:
    """A description of the repair, with one line for each region of the damaged file."""
    if not repair.actions:
        return f"ok       {repair.job_id}: nothing to repair"
    word = "repaired" if repair.lossless else "LOSSES"
    holds = f"{counted(repair.records, 'record|records')}, {counted(repair.rows, 'row|rows')}"
    lines = [f"{word:<8} {repair.job_id}: holds {holds}"]
    for action in repair.actions:
        rows = f"; about {Numbers(action.rows).words()}" if action.rows else ""
        lines.append(f"  {action.kind}: {_where(action)}: {action.message}{rows}")
    if repair.lost_rows:
        lines.append(f"  the data of these rows is lost: {Numbers(repair.lost_rows).text(', ')}")
    if repair.review_count:
        lines.append(
            f"  rows put under review: {repair.review_count}; rows that the remaining lines show as "
            "completed or skipped stay so"
        )
    if repair.damaged_copy:
        lines.append(f"  the journal as it was: {repair.damaged_copy}")
    return "\n".join(map(escaped, lines))


def _where(part: Finding | Action) -> str:
    last = part.line + part.lines - 1
    return f"lines {part.line} to {last}" if part.lines > 1 else f"line {part.line}"
