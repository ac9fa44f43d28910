"""`journal report`."""

from __future__ import annotations

import sys

import click

from journal.cli.find import complete_path, find_job, job_argument
from journal.cli.output import echo_err
from journal.cli.redaction import check_redacted, redact_option
from journal.cli.shared_options import force_option
from journal.report import report_page, write_report
from journal.run.signals import ending_signals


@click.command("report", short_help="Write a report about a job, as one HTML page.")
@job_argument
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT",
    shell_complete=complete_path,
    help="The file to write, or - for standard output. Default: JOB.html.",
)
@redact_option
@force_option
@click.pass_context
def report_command(
    ctx: click.Context, job: str, out: str | None, redact: tuple[str, ...], force: bool
) -> None:
    """Write a report about JOB: one HTML page that you can send, since it loads no other files.

    The page shows counts, throughput and latency over time, errors by code, and the rows that
    failed or need a review.

    The page contains data of the rows. Hide private fields with --redact, and look at the page
    before you send it.

    Example: journal report ship-ca -o report.html --redact email
    """
    service, job_id = find_job(ctx.obj, job)
    check_redacted(ctx, service, [job_id], redact, handed_on=True)
    if out == "-":
        sys.stdout.buffer.write(report_page(service, job_id, redact=redact).encode())
        return
    out = out or f"{job_id}.html"
    with ending_signals():
        write_report(service, job_id, out, redact=redact, force=force)
    echo_err(f"wrote {out}")
