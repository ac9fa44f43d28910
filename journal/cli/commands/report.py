"""`journal report`."""

from __future__ import annotations

import sys

import click

from journal.cli.find import FoundJob, complete_path, found_job_or_set
from journal.cli.output import echo_err
from journal.cli.shared_options import force_option, option
from journal.report import report_page, write_report
from journal.run.signals import ending_signals


@click.command("report", short_help="Write a report about a job, as one HTML page.")
@found_job_or_set
@option(
    "-o --output OUT out",
    "The file to write, or - for standard output. Default: JOB.html.",
    shell_complete=complete_path,
)
@force_option
def report_command(job: FoundJob, out: str | None, force: bool) -> None:
    """Write a report about JOB: one HTML page that you can send, since it loads no other files.

    The page shows counts, throughput and latency over time, errors by code, and the rows that
    failed or need a review.

    The report of a set of shards is about all shards that are here.

    The page contains data of the rows, so look at it before you send it.

    Example: journal report ship-ca -o report.html
    """
    if out == "-":
        sys.stdout.buffer.write(report_page(job.service, job.id).encode())
        return
    out = out or f"{job.id.replace('/', '-')}.html"
    with ending_signals():
        write_report(job.service, job.id, out, force=force)
    echo_err(f"wrote {out}")
