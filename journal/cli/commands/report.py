"""`journal report`."""

from __future__ import annotations

import sys

import click

from journal.cli.exit_codes import EXIT_DAMAGED, EXIT_OK
from journal.cli.find import FoundJob, FoundSet, complete_path, found_job_or_set
from journal.cli.output import echo_err
from journal.cli.shared_options import force_option, option
from journal.report import report_page, write_report
from journal.run.signals import ending_signals
from journal.sets.whole import look_at_set


@click.command("report", short_help="Write a report about a job, as one HTML page.")
@found_job_or_set
@option(
    "-o --output OUT out",
    "The file to write, or - for standard output. Default: JOB.html.",
    shell_complete=complete_path,
)
@force_option
def report_command(job: FoundJob, out: str | None, force: bool) -> int:
    """Write a report about JOB: one HTML page that you can send, since it loads no other files.

    The page shows counts, throughput and latency over time, errors by code, and the rows that
    failed or need a review.

    The report of a set of shards is about all shards that are here. Those that can't be read are
    named on standard error, and the exit code is 6.

    The page contains data of the rows, so look at it before you send it.

    Example: journal report ship-ca -o report.html
    """
    if out == "-":
        sys.stdout.buffer.write(report_page(job.service, job.id).encode())
    else:
        out = out or f"{job.id.replace('/', '-')}.html"
        with ending_signals():
            write_report(job.service, job.id, out, force=force)
        echo_err(f"wrote {out}")
    errors = look_at_set(job.service, job.id).errors if isinstance(job, FoundSet) else []
    for text in errors:
        echo_err(f"journal: {text}")
    return EXIT_DAMAGED if errors else EXIT_OK
