"""`journal list` and `journal shards`: the jobs and sets of a store, and the shards of a set."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, NamedTuple

import click

from journal.cli.find import FoundJob, FoundSet, ReadingService, found_job_or_set
from journal.cli.job_status import duration_s, status_text
from journal.cli.listing_formats import Field, echo_rows, limit_option, listing_options
from journal.cli.output import bar, echo_err, echo_problems, local_text
from journal.cli.shared_options import option, since_option
from journal.errors import JournalError, RefusedError
from journal.model import JOB_MEMBERS, Job, JobStatus, hold_of
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_OK
from journal.sets.shard_states import ABSENT, Part, look_at_set
from journal.store.list_jobs import jobs_of, newest_ids, state_of_job
from journal.text import Numbers, cents_number, counted, duration_text

_INTERRUPTED = "interrupted"
_BAR_CELLS = 8


class Listed(NamedTuple):
    """A job, its status in the listing, its duration so far in seconds, and whether it has stalled."""

    job: Job
    state: str
    duration_s: float | None
    is_stalled: bool


def _of_job(name: str, title: str = "", **column: Any) -> Field:
    return Field(name, title, attrgetter(f"job.{name}"), **column)


# The columns of the table in their order, followed by all other fields of a job.
_COLUMNS = (
    _of_job("id", "JOB"),
    Field(
        *("status", "STATUS", attrgetter("state")),
        text=lambda x: status_text(x.job, x.state) + ", stalled" * x.is_stalled,
        status=True,
    ),
    Field(title="PROGRESS", text=lambda x: bar(x.job.done_rows, x.job.total_rows, _BAR_CELLS)),
    Field(title="DONE", text=lambda x: f"{x.job.done_rows}/{x.job.total_rows}", right=True),
    _of_job("failed_rows", "FAILED", right=True),
    Field(title="IN FLIGHT", text=lambda x: str(x.job.processing_count), right=True),
    _of_job("pending_count", "PENDING", right=True),
    _of_job(
        "waiting_count",
        "WAITING",
        text=lambda x: str(x.job.waiting_count or ""),
        right=True,
    ),
    _of_job("needs_review_count", "REVIEW", right=True),
    _of_job(
        "total_cost_cents",
        "CENTS",
        text=lambda x: cents_number(cents) if (cents := x.job.total_cost_cents) else "",
        right=True,
    ),
    _of_job(
        "started_at",
        "STARTED",
        text=lambda x: local_text(x.job.started_at, "%Y-%m-%d %H:%M"),
    ),
    Field("duration_s", "DURATION", text=lambda x: duration_text(x.duration_s), right=True),
    _of_job("name", "NAME"),
)
_HOLD = Field("hold", value=lambda x: hold_of(x.job, x.state))
_SHOWN = {field.name for field in (*_COLUMNS, _HOLD)}
_FIELDS = (*_COLUMNS, _HOLD, *(_of_job(name) for name in JOB_MEMBERS if name not in _SHOWN))


@click.command("list")
@option(
    "--status",
    "Only jobs of this status. A job whose run died is interrupted, not running.",
    type=click.Choice([*(status.value for status in JobStatus), _INTERRUPTED]),
)
@since_option("Only jobs created at this time or later")
@limit_option("Only the newest N jobs.", default="50")
@listing_options
@click.pass_context
def list_command(
    ctx: click.Context,
    /,
    status: str | None,
    since: datetime | None,
    limit: int | None,
    output: str,
) -> int:
    """List the jobs, newest first. A set of shards is one line, with the sums of its shards.

    DONE is the number of completed and skipped rows. A job is interrupted if its run has died. The
    rows IN FLIGHT may have taken effect: `journal show JOB` says how to settle these rows. DURATION
    includes pauses and other times without a run. WAITING is the number of rows that wait for
    somebody else. These rows are also counted as PENDING. "paused until resume" beside a status
    means that `journal pause` has paused the job. A running job may be "holding" until a time,
    because the called service is down: `journal show JOB` says why. A running job has "stalled" if
    none of its attempts has ended for far too long.

    Directories that can't be read as jobs, or that have lost their journal, are reported on
    standard error. In this case, the other jobs are still listed, and the exit code is 6.

    Example: journal list --status interrupted --since 3d
    """
    service = ReadingService(ctx.obj)
    errors: list[JournalError | str] = []
    sets: list[str] = []
    of_run = status in (JobStatus.RUNNING, _INTERRUPTED)  # only the run lock tells which
    wanted = JobStatus.RUNNING if of_run else None if status is None else JobStatus(status)
    job_ids = newest_ids(service.store, since, wanted, errors.append, sets)
    # One more, to know whether more jobs exist.
    most = None if of_run or limit is None else limit + 1
    jobs = jobs_of(service.store, job_ids, wanted, most, 0, errors.append)
    now = datetime.now(UTC)
    states = [(job, state_of_job(service.store, job)) for job in jobs]
    for set_id in sets:
        try:
            whole = look_at_set(service, set_id)
        except JournalError as refused:  # the other jobs are still listed
            errors.append(refused)
            continue
        errors += whole.errors
        is_meant = since is None or since <= whole.job.created_at
        if is_meant and (of_run or status in (None, whole.state)):
            states.append((whole.job, whole.state))
    if sets:
        states.sort(key=lambda one: (one[0].created_at, one[0].id), reverse=True)
    found = [(job, state) for job, state in states if not of_run or state == status]
    shown = [
        Listed(
            *(job, state, duration_s(job, state, now)),
            job.id not in sets and _stalls(ctx, job, state),
        )
        for job, state in found[:limit]
    ]
    none = f"0 jobs in {service.root}"
    if not service.root.exists():
        none += ", which does not exist"
    elif status or since:
        none += " meet these conditions"
    echo_rows(output, _FIELDS, shown, none=none, look_ahead=None)
    if len(found) > len(shown) and output == "table":
        echo_err(f"these are the newest {limit} jobs; --limit all shows all")
    echo_problems(*errors)
    return EXIT_DAMAGED if errors else EXIT_OK


def _stalls(ctx: click.Context, job: Job, state: str) -> bool:
    """Return whether a running job has stalled, by the rule of `journal show`."""
    if state != JobStatus.RUNNING or not job.processing_count:
        return False
    from journal.cli.watch.reading import JobReader  # noqa: PLC0415  (rarely needed, and slow)
    from journal.history.recent_activity import NEXT_BYTES  # noqa: PLC0415

    found = FoundJob.of(ctx, ReadingService(ctx.obj), job.id)
    with suppress(JournalError), found.service:
        return JobReader(found, NEXT_BYTES).read(state).stalled_s is not None
    return False


def _of_part(name: str, title: str, **column: Any) -> Field:
    def value(part: Part) -> Any:
        return None if part.job is None else getattr(part.job, name)

    return Field(name, title, value, right=True, **column)


_SHARD_FIELDS = (
    Field("id", "SHARD"),
    Field(
        *("state", "STATE"),
        text=lambda part: status_text(part.job, part.state) if part.job else part.state,
        status=True,
    ),
    _of_part("total_rows", "ROWS"),
    _of_part("done_rows", "DONE"),
    _of_part("failed_rows", "FAILED"),
    _of_part("processing_count", "IN FLIGHT"),
    _of_part("pending_count", "PENDING"),
    _of_part("needs_review_count", "REVIEW"),
    Field(
        "has_other_input",
        "INPUT",
        text=lambda part: (
            f"another, of {counted(part.job.input.rows, 'row|rows')}"
            if part.has_other_input
            else ""
        ),
    ),
    Field("error", "ERROR", text=lambda part: part.error or ""),
    Field("index"),
    Field("is_open"),
)


@click.command("shards", short_help="List the shards of a set, or the shards to start again.")
@found_job_or_set
@option(
    "--open is_open",
    "Print only the indexes of open shards, such as 1-2,5-10, for the array of a scheduler.",
)
@option("--here", "Leave out absent shards, which may have been started elsewhere.")
@listing_options
def shards_command(*, job: FoundJob, is_open: bool, here: bool, output: str) -> int:
    """List the shards of a set, with their states.

    A shard is absent if it isn't in this store: the shard was never started, or is in another
    store. A shard is pruned if `journal prune` has deleted it.

    With --open, only the indexes of open shards are printed, in the form that a scheduler takes. A
    shard is open if it is absent or interrupted, has open rows, or has seen another input. Failed
    rows don't make a shard open: `journal retry` makes these rows pending. If no shard is open,
    nothing is printed. Standard error names the printed shards that are absent. Standard error also
    names shards that `journal pause` has paused. Paused shards are left out, because their start
    would be refused. If a shard can't be read, or its journal was cut, standard error names this
    shard, too, and the exit code is 6.

    On a node with a disk of its own, the shards of other nodes are absent. If an absent shard is
    started here, all of its rows are run again. --here leaves absent shards out.

    Example: journal shards ship --open
    """
    if not isinstance(job, FoundSet):
        raise RefusedError(f"{job.id} is a job, and not a set of shards")
    whole = look_at_set(job.service, job.id)
    parts = [part for part in whole.parts if part.is_open or not is_open]
    parts = [part for part in parts if not (here and part.state == ABSENT)]
    if is_open and output == "table":
        if parts:
            click.echo(Numbers(part.index for part in parts).text(","))
        absent = Numbers(part.index for part in parts if part.state == ABSENT)
        if absent.count:
            why = (
                "if one of these was started elsewhere, its rows would be run again (--here "
                "leaves absent shards out)"
            )
            echo_err(f"{job.id}: absent: {absent.text(',')}; {why}")
        for part in whole.parts:
            if part.is_paused:
                echo_err(f"{part.id}: left out: paused until {job.command('resume', part.id)}")
    else:
        echo_rows(output, _SHARD_FIELDS, parts, none="", look_ahead=None)
    echo_problems(*(whole.errors if is_open else ()))
    return EXIT_DAMAGED if whole.errors else EXIT_OK
