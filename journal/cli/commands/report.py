"""`journal report`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic

import click

from journal.cli.find import PATH, FoundJob, FoundSet, found_job_or_set
from journal.cli.output import echo_err, echo_problems
from journal.cli.shared_options import force_option, option, parse_limit_s
from journal.cli.watch.follow import follow_job, follow_set
from journal.errors import StorageError
from journal.model import Job
from journal.report import report_page, write_report
from journal.report.page import MIN_PAUSES
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_OK, job_exit_code
from journal.run.signals import ending_signals
from journal.sets.shard_states import look_at_set


@click.command("report", short_help="Write a report about a job, as one HTML page.")
@found_job_or_set
@option(
    "-o --output OUT out",
    "The file to write, or - for standard output. Default: JOB.html.",
    type=PATH,
)
@option(
    "--every DURATION every_s",
    "Write the page again after each DURATION (10s, 5m), until the job ends. A browser reloads "
    "the page.",
    parse_limit_s,
)
@force_option
def report_command(job: FoundJob, out: str | None, every_s: float | None, force: bool) -> int:
    """Write a report about JOB as one HTML page. You can send the page: it loads no other files.

    The page shows counts, and throughput and latency over time. The page also shows when runs
    worked, when rows waited, and when the job was paused. The page lists the errors by code, the
    reasons why rows were skipped, and the rows that failed or need a review.

    With --every, a browser that shows the page reloads it. The command ends when `journal watch`
    would end, with the same exit code. The pause between two versions of the page is at least ten
    times as long as the writing of the last version. After Ctrl-C, the last version stays, and says
    that it is old.

    The report of a set of shards is about all shards that are here. If a shard can't be read,
    standard error names this shard, and the exit code is 6.

    The page contains data of the rows: look at the page before you send it. The command needs
    jinja2: pip install 'rowjournal[report]'.

    Example: journal report ship-ca -o report.html
    """
    if out == "-":
        if every_s is not None:
            raise click.UsageError("--every writes a file anew each time: give -o a file, not -")
        sys.stdout.buffer.write(report_page(job.service, job.id).encode())
    else:
        out = out or f"{job.id.replace('/', '-')}.html"
        with ending_signals():
            if every_s is not None:
                return _write_until_end(job, out, every_s, force=force)
            write_report(job.service, job.id, out, force=force)
        echo_err(f"wrote {out}")
    return EXIT_DAMAGED if _say_errors(job) else EXIT_OK


def _write_until_end(job: FoundJob, out: str, every_s: float, *, force: bool) -> int:
    next_s, is_failing = 0.0, False
    for found, has_ended in _looks(job):
        begin_s = monotonic()
        if has_ended:
            write_report(job.service, job.id, out, force=force)
            echo_err(f"wrote {out} for the last time: {job.id} is {found.status}")
        elif begin_s >= next_s:
            try:
                write_report(job.service, job.id, out, force=force, every_s=every_s)
            except StorageError as error:  # a full disk, which may have room later
                if not next_s:
                    raise
                if not is_failing:
                    job.say(f"{error}; the last version stays, and is tried again")
                is_failing = True
            else:
                is_failing = False
            if not next_s:
                echo_err(f"wrote {out}, and write it anew until {job.id} ends")
            end_s, force = monotonic(), True
            next_s = end_s + max(every_s, MIN_PAUSES * (end_s - begin_s))
    return EXIT_DAMAGED if _say_errors(job) else job_exit_code(found)


def _looks(job: FoundJob) -> Iterator[tuple[Job, bool]]:
    """Yield the job or set several times, and whether it has ended: see :func:`follow_job`."""
    if isinstance(job, FoundSet):
        for whole, has_ended in follow_set(job.service, job.id):
            yield whole.job, has_ended
    else:
        for seen in follow_job(job.service, job.id):
            yield seen.job, seen.ended


def _say_errors(job: FoundJob) -> list[str]:
    """Write to standard error why shards of a set can't be read. Returns the errors."""
    errors = look_at_set(job.service, job.id).errors if isinstance(job, FoundSet) else []
    echo_problems(*errors)
    return errors
