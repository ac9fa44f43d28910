"""`journal run` runs a command for each row of an input."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from journal.cli.find import PATH, ReadingService, journal_command
from journal.cli.mistakes import did_you_mean
from journal.cli.next_start import short_command
from journal.cli.output import echo_err
from journal.cli.run.batches import BatchCommands
from journal.cli.run.dry_run import DryRun
from journal.cli.run.messages import report_end, report_start
from journal.cli.run.options import RunOptions, run_options
from journal.cli.run.outcomes import Statuses
from journal.cli.run.subprocesses import Commands, check_program
from journal.cli.run.template import Template
from journal.cli.selection import Selection, has_read_numbers, numbers_text
from journal.errors import InvalidValueError
from journal.format.arguments import ROWS
from journal.fs import shell
from journal.ids import is_job_id, slug, split_shard_name
from journal.inputs.formats import LINES, NULL, format_of
from journal.inputs.read import RowInput
from journal.inputs.read_options import STANDARD_INPUT, Source
from journal.run.advice import HowTo
from journal.run.exit_codes import EXIT_OK
from journal.run.open_job import JobRun, open_job
from journal.run.pacing.limits import Limits
from journal.sets.shard_choice import chosen_shard
from journal.store.interrupted_rows import TIMED_OUT
from journal.text import as_utf8


@click.command(
    "run",
    cls=RunOptions,
    short_help="Run a command once for each row, and record the outcomes.",
)
@click.argument("rows", metavar="ROWS|-", type=PATH)
@click.argument("command", metavar="-- COMMAND {column}...", nargs=-1, required=True)
@run_options
@click.pass_context
def run_command(ctx: click.Context, /, **_: Any) -> int:
    """Run COMMAND once for each row of ROWS, and record the outcomes in a job.

    ROWS is a file (CSV, TSV, JSON, Parquet, Arrow, Excel, or lines of text) or a query of a SQLite
    database: 'sqlite:FILE?SELECT ...'. If ROWS is -, standard input is read. See `journal help
    inputs`. The first run makes the job. Later runs continue the job: new rows are added, and
    completed rows are not run again, unless you give --on-changed redo and their data has changed.

    COMMAND may contain placeholders. {column} is the row's value in that column. {#} is the row's
    number and {id} is the row's id, unless a column is called # or id. If a value is a path,
    {column.} is the path without its extension, {column/} its file name, {column//} its directory,
    and {column/.} its file name without extension. With --lines, {} is the line, and {.} {/} {//}
    {/.} are the corresponding parts of the line. Other braces, as in awk '{print $1}', stay as they
    are. {{ and }} stand for single braces.

    No shell is involved. A shell script must take the values as arguments: sh -c 'echo "$1" | tr a-z
    A-Z' sh {column}

    COMMAND gets the environment variables JOURNAL_ROW_ID, JOURNAL_ATTEMPT, JOURNAL_JOB (the job's
    directory) and JOURNAL_IDEMPOTENCY_KEY. Pass the idempotency key to the service that COMMAND
    calls. If COMMAND has several side effects, make each of them a `journal step`.

    Exit status 0 completes the row, and the output of COMMAND is the row's result. Any other status
    fails the row: the status is the error code, and the end of standard error is the message. With
    --max-attempts, failed rows are retried. --on STATUSES=OUTCOME gives such statuses another
    outcome, as in --on 75=retry --on 70,SIGTERM=review. With --stdout json, COMMAND can print the
    row's outcome. See `journal help outcomes`. OUTCOME is one of these words:

    \b
    retry      The row is retried, up to --max-attempts. If no status has this
               outcome, all rows that fail are retried.
    throttled  The service refused this call. The row is tried again after
               --backoff, and the attempt doesn't count.
    skip       The row needs no work.
    review     A person must find out whether COMMAND took effect.
    hold       The service is down, and nothing has happened. The whole run waits.
    wait       Somebody else does the work. COMMAND runs again after --backoff.

    The first Ctrl-C pauses the run: no more commands are started, and the run waits for the
    commands in flight. A second Ctrl-C terminates these commands. A third Ctrl-C kills them. The
    rows of terminated and killed commands need a review, unless --on-interrupted has another
    policy.

    Example: journal run orders.csv --job ship-orders -j 4 -- ./ship --zip {zip} {order}
    """  # noqa: D301  (for click, the character \b begins lines that aren't wrapped)
    return _RunCommand(ctx).work()


class _RunCommand:
    """One call of `journal run`, from its options to its exit code."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        given = self._given = ctx.params
        self._job_id: str = given["job_id"]
        if not is_job_id(self._job_id):
            name = os.path.basename(self._job_id)
            reason = f"can't be a job id: use a-z 0-9 . _ -, such as {slug(name)!r}"
            if found := split_shard_name(name):
                above, (index, count) = os.path.dirname(self._job_id) or "SET", found
                reason = f"is a shard: give --job {above} --shard {index}/{count}"
            elif name != self._job_id:
                reason += "; the directory of the jobs is given by --root, before `run`"
            raise InvalidValueError("--job", self._job_id, reason)
        self._set_id, self._shard = self._job_id, None
        if given["shard"] is not None:
            self._shard = chosen_shard(given["shard"], "--shard")
            self._job_id += f"/{self._shard.name}"
        if given["on_changed"] in ("retry", "redo") and not given["key"]:
            raise click.UsageError(
                f"--on-changed {given['on_changed']} needs --key: without a key, only its position "
                "identifies a row"
            )
        if given["rows"] == STANDARD_INPUT and has_read_numbers(ctx):
            raise click.UsageError("ROWS and --row can't both be -: standard input is read once")
        self._statuses = Statuses.of_options(given["statuses"])
        used = [name for name in given["rate"] or {} if name != ROWS]
        if used and given["stdout_format"] != "json":
            prints = f'COMMAND prints {{"usage": {{"{used[0]}": 12}}}}'
            raise click.UsageError(f"--rate {used[0]}=... needs --stdout json: {prints}")
        if {*self._statuses.retry_on} - {TIMED_OUT} and given["max_attempts"] == 1:
            echo_err("--on ...=retry has no effect with one attempt: add --max-attempts 3")
        chosen = Selection(given["ranges"], where=given["where"])
        self._where = None if chosen.is_empty else chosen.holds
        self._template = Template(given["command"])
        check_program(given["command"][0])

    def work(self) -> int:
        given = self._given
        rows = self._open_rows()
        if given["key"] is not None and rows.columns and given["key"] not in rows.columns:
            close = did_you_mean(given["key"], rows.columns)
            reasons = ["there is no such column", f"the columns are {rows.columns}", *close]
            raise InvalidValueError("--key", given["key"], "; ".join(reasons))
        self._template.check(rows.columns)
        if given["batch"] is not None:
            self._template.check_program()
        # All rows of a table have the same columns, so these are checked once.
        checked = self._template.checked(_some(rows))
        if given["dry_run"]:
            service = ReadingService(self._ctx.obj)
            how = (self._template, given, self._how_to(), self._where)
            DryRun(service, self._job_id, self._shard, *how).work(checked)
            return EXIT_OK
        # Check the limits before the job is made.
        limits = {name: given[name] for name in Limits.__struct_fields__ if name in given}
        if self._statuses.retry_on:
            limits["retry_on"] = self._statuses.retry_on
        limits["where"] = self._where
        Limits(**limits)
        handler = self._handler()
        with open_job(
            Path(self._ctx.obj) / self._set_id,
            checked,
            given["key"],
            shard=None if self._shard is None else (self._shard.index, self._shard.count),
            # in the same form on all systems, since a job may be moved to another system
            original_command=shlex.join(map(as_utf8, given["command"])),
            version=given["version"],
            on_changed=given["on_changed"],
            on_gone=given["on_gone"],
            on_interrupted=given["on_interrupted"],
            argv=self._typed(),
            how_to=self._how_to(),
            anew=given["anew"],
            existing=given["existing"],
        ) as job:
            return self._run(job, handler, limits)

    def _how_to(self) -> HowTo:
        words = [*journal_command(), "--root", os.path.abspath(self._ctx.obj)]
        return HowTo(shell.join(short_command(words)))

    def _open_rows(self) -> RowInput:
        given = self._given
        of_lines = "--null" if given["null"] else "--lines" if given["lines"] else None
        if of_lines and given["file_format"]:
            raise click.UsageError(
                f"{of_lines} contradicts --format {given['file_format']}: give only one of them"
            )
        file_format = NULL if given["null"] else LINES if of_lines else given["file_format"]
        if given["rows"] == STANDARD_INPUT and sys.stdin.isatty():
            echo_err("journal: reads the rows from this terminal; pipe them in, or end with Ctrl-D")
        options = given["encoding"], given["delimiter"], given["sheet"]
        source = Source(given["rows"], file_format, *options, argument="ROWS")
        rows = RowInput(source)
        is_chosen = file_format or source.delimiter or format_of(source.path) or given["quiet"]
        if rows.words == "CSV" and len(rows.columns or ()) == 1 and not is_chosen:
            first = f"its first line, {rows.columns!r}, is the header of CSV"
            echo_err(f"{source.name}: {first}; if each line is a row, add --lines")
        return rows

    def _handler(self) -> Commands:
        given = self._given
        directory = Path(self._ctx.obj).absolute() / self._job_id
        make = Commands if given["batch"] is None else BatchCommands
        return make(
            self._template,
            directory,
            statuses=self._statuses,
            stdin_json=given["stdin_format"] == "json",
            stdout_json=given["stdout_format"] == "json",
        )

    def _run(self, job_run: JobRun, handler: Commands, limits: dict[str, Any]) -> int:
        given = self._given
        said = list[str]()  # with --quiet: kept until it is known whether all rows are done
        tell = said.append if given["quiet"] else echo_err
        exit_code = None
        try:
            report_start(job_run, given, self._template, self._where, self._how_to(), tell)
            report = job_run.run(
                handler,
                retry_failed=given["retry_failed"],
                progress=not given["quiet"],
                tell=tell,
                **limits,
            )
            exit_code = report.exit_code
        finally:
            for text in said if exit_code != 0 else ():
                echo_err(text)
        report_end(job_run, report, given, self._how_to())
        return exit_code

    def _typed(self) -> list[str]:
        """The words of the command to paste."""
        given = self._given | {"anew": False, "retry_failed": False}
        if self._shard is not None:  # the index, since another shell lacks the variable
            given["shard"] = f"{self._shard.index}/{self._shard.count}"
        words = [*journal_command(), "--root", os.path.abspath(self._ctx.obj), "run", given["rows"]]
        for param in self._ctx.command.params:
            value = given.get(param.name or "")
            if not isinstance(param, click.Option) or value is None or value is False:
                continue
            if value == param.get_default(self._ctx):
                continue
            if isinstance(value, dict):  # a repeatable option COLUMN=N
                for name, each in value.items():
                    is_short = param.name == "rate" and name == ROWS
                    words += (
                        [param.opts[0], each] if is_short else [f"{param.opts[0]}={name}={each}"]
                    )
            elif param.name == "ranges":
                words += ["--row", numbers_text(value)]
            elif param.multiple:
                words += [word for each in value for word in (param.opts[0], each)]
            else:
                words += [param.opts[0]] if param.is_flag else [param.opts[0], str(value)]
        return [*words, "--", *given["command"]]


def _some(rows: RowInput) -> Iterator[dict[str, Any]]:
    """Yield the rows. Raises InvalidValueError if there are none, since a feed has probably failed."""
    every = iter(rows)
    for first in every:
        yield first
        yield from every
        return
    raise rows.source.refused("has no rows, so nothing was changed, and no row is run")
