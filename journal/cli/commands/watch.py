"""`journal watch` and `journal wait` follow a job until it ends."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import click

from journal.cli.advice import echo_advice
from journal.cli.find import FoundJob, FoundSet, found_job_or_set
from journal.cli.job_status import counts_text, row_counts, status_text
from journal.cli.output import echo_err, echo_problems
from journal.cli.sets import shards_text, states_text
from journal.cli.shared_options import option, parse_seconds
from journal.cli.watch.follow import follow_job, follow_set
from journal.cli.watch.screen import LiveView, QuitError, can_draw
from journal.model import Job, JobStatus
from journal.progress.show import Progress
from journal.progress.terminal import has_terminal
from journal.run.exit_codes import EXIT_DAMAGED, EXIT_INTERRUPTED, EXIT_TIMED_OUT, job_exit_code
from journal.sets.shard_states import INTERRUPTED, PAUSED, UNREADABLE, look_at_set
from journal.store.list_jobs import state_of_job

# The states of shards that need a person.
_STUCK = (INTERRUPTED, JobStatus.PAUSED.value, PAUSED, UNREADABLE)


def _until_end(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `watch` and `wait` to a command."""
    timeout = "Give up after this time, with exit code 124. Default: no limit."
    command = option("--timeout DURATION timeout_s", timeout, parse_seconds)(command)
    return found_job_or_set(command)


@click.command("watch", short_help="Show the progress of a job until it ends.")
@_until_end
def watch_command(job: FoundJob, timeout_s: float | None) -> int:
    """Show a job live until it ends.

    The view has these parts: the progress, rate and forecast; the rows in flight and their steps;
    holds and waits; the last errors and messages; the cost; advice.

    The view is drawn in place, and fits the terminal. The age of a row is shown beside the median
    duration of recent attempts. The key q or Ctrl-C ends only the view, with exit code 130. The
    last state stays on the terminal. Without a terminal, or with TERM=dumb, a line every 10 seconds
    shows the progress. The command only reads the journal, so it also shows a copy, or a job on
    another host.

    A set of shards has a line for each shard. Shards that need a person come first.

    If the job is paused and its run is alive, the command waits, because `journal resume` can
    continue this run. If the job is paused without a run, the command ends and says how to
    continue. If the run of a running job dies and rows are open, the command waits for the next
    run.

    For a set, the command waits until each shard has ended, is paused without a run, or can't be
    read. The command also waits for shards that aren't here.

    The exit code is 0 if all rows are completed or skipped, and 3 if some rows failed or need a
    review. Exit code 4 means that the job ended before its rows were done, or was deleted or moved
    away. Exit code 6 means that a shard can't be read. Exit code 124 means that the job didn't end
    within --timeout.

    Example: journal watch hash-stdlib
    """
    return _follow_to_end(job, timeout_s, is_shown=True)


@click.command("wait", short_help="Wait until a job ends. The exit code says how the job ended.")
@_until_end
def wait_command(job: FoundJob, timeout_s: float | None) -> int:
    """Wait until a job ends. The exit codes are those of `journal watch`.

    For a set, the command reports which shards it waits for.

    Example: journal wait hash-stdlib --timeout 1h
    """
    return _follow_to_end(job, timeout_s, is_shown=False)


def _follow_to_end(job: FoundJob, timeout_s: float | None, *, is_shown: bool) -> int:
    begin_s = monotonic()

    def is_over() -> bool:
        return timeout_s is not None and monotonic() - begin_s >= timeout_s

    live = LiveView(job) if is_shown and can_draw() else None
    try:
        if isinstance(job, FoundSet):
            return _follow_set(job, is_over, live, is_shown=is_shown)
        return _follow_one(job, is_over, live, is_shown=is_shown)
    except _LateError as error:
        job.say(f"has not ended after {timeout_s:g} s; it is {error}")
        return EXIT_TIMED_OUT
    except (QuitError, KeyboardInterrupt):
        if live is None:
            raise
        job.say("only this view has ended")
        if live.has_advice:
            echo_advice(job.service, job.read(), job.command)
        return EXIT_INTERRUPTED


class _LateError(Exception):
    """The job hasn't ended in time. The text is the job's state."""


def _follow_one(
    job: FoundJob, is_over: Callable[[], bool], live: LiveView | None, *, is_shown: bool
) -> int:
    found, state = job.read(), ""
    if is_shown and not has_terminal() and not found.status.is_ended:
        job.say(f"{state_of_job(job.service.store, found)}: {_counts_text(found)}")
    progress = Progress(found, progress=is_shown, in_shell=True)
    say, wait = (echo_err, sleep) if live is None else (str, live.wait)
    with live or progress:
        for seen in follow_job(job.service, job.id, say=say, wait=wait):
            found, state = seen.job, seen.state
            if live is None:
                progress.show(found, seen.state)
            else:
                live.show_job(seen.state, ended=seen.ended)
            if not seen.ended and is_over():
                raise _LateError(seen.state)
    job.say(f"{status_text(found, state)}: {_counts_text(found)}")
    is_left = found.open_rows or not found.status.is_ended
    if is_left if live is None else live.has_advice:
        echo_advice(job.service, found, job.command)
    return job_exit_code(found)


def _follow_set(
    found: FoundSet, is_over: Callable[[], bool], live: LiveView | None, *, is_shown: bool
) -> int:
    """Wait until each shard of a set has ended, or needs a person: see :func:`follow_set`."""
    whole, stuck = look_at_set(found.service, found.id), ""
    if is_shown and not has_terminal():
        found.say(f"{whole.state}: {_counts_text(whole.job)}; {shards_text(whole)}")
    progress = Progress(whole.job, progress=is_shown, in_shell=True)
    wait = sleep if live is None else live.wait
    with live or progress:
        for whole, has_ended in follow_set(found.service, found.id, wait=wait):
            if live is None:
                progress.show(whole.job, whole.state)
            else:
                live.show_set(whole, ended=has_ended)
            if has_ended:
                break
            if live is None and stuck != (stuck := states_text(whole, _STUCK)) and stuck:
                found.say(f"{stuck}; still waiting")
            if is_over():
                raise _LateError(f"{whole.state}: {shards_text(whole)}")
    has_ended = whole.job.status.is_ended and not whole.errors
    more = "" if has_ended else f"; {shards_text(whole)}"
    found.say(f"{whole.state}: {_counts_text(whole.job)}{more}")
    echo_problems(*whole.errors)
    return EXIT_DAMAGED if whole.errors else job_exit_code(whole.job)


def _counts_text(job: Job) -> str:
    return counts_text(row_counts(job)) or "no rows"
