"""`journal run`: run a command for each row of an input."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from journal.cli.exit_codes import EXIT_OK, exit_code_of
from journal.cli.find import ReadingService, complete_dashes, complete_path, journal_command
from journal.cli.output import echo_err
from journal.cli.run.batches import BatchCommands, BatchHandler
from journal.cli.run.inputs import NULL, RowInput, format_of, open_rows
from journal.cli.run.on_end import parse_command, run_on_end
from journal.cli.run.options import RunOptions, run_options
from journal.cli.run.outcomes import Statuses, meanings
from journal.cli.run.subprocesses import CommandHandler, Commands
from journal.cli.run.template import Template
from journal.errors import InvalidValueError, JournalError
from journal.format.records import UNSET_TIME
from journal.ids import is_job_id, slug
from journal.model import TERMINAL_STATUSES, Job, JobRow, JobStatus
from journal.run.held_job import RunReport
from journal.run.input_match import InputRules, Matched, Unwritten, match_rows
from journal.run.open_job import JobRun, open_job
from journal.run.pacing.limits import Limits
from journal.run.plan import (
    LEFT_OPEN,
    HowTo,
    Plan,
    Planned,
    left_alone,
    may_start,
    nothing_to_do,
    planned_rows,
    retryable,
)
from journal.run.workers.batches import Batches
from journal.text import counted, escaped


@click.command(
    "run",
    cls=RunOptions,
    short_help="Run a command once for each row, and record the outcomes.",
)
@click.argument("rows", metavar="ROWS|-", shell_complete=complete_path)
@click.argument(
    "command",
    metavar="-- COMMAND {column}...",
    nargs=-1,
    required=True,
    shell_complete=complete_dashes,
)
@run_options
@click.pass_context
def run_command(ctx: click.Context, /, **_: Any) -> int:
    """Run COMMAND once for each row of ROWS, and record the outcomes in a job.

    ROWS is a CSV, TSV or JSON Lines file, or lines of text; - is standard input. The first run
    makes the job. Later runs continue the job: new rows are added, and completed rows are never run
    again.

    COMMAND may contain placeholders: {column} is the row's value in that column. {#} is the row's
    number and {id} is the row's id, unless a column is called # or id. {column.} is a path without
    its extension, {column/} its file name, {column//} its directory, and {column/.} its file name
    without extension. With --lines, {} is the line, and {.} {/} {//} {/.} are its parts. Other
    braces, as in awk '{print $1}', stay as they are; {{ and }} are braces that are no placeholder.

    No shell is involved. A shell script must take the values as arguments: sh -c 'echo "$1" | tr a-z
    A-Z' sh {column}

    COMMAND gets the environment variables JOURNAL_ROW_ID, JOURNAL_ATTEMPT, JOURNAL_JOB (the job's
    directory) and JOURNAL_IDEMPOTENCY_KEY. Pass the idempotency key to the service that COMMAND
    calls. A COMMAND with several side effects makes each of them a `journal step`.

    Exit status 0 completes the row, and the output of COMMAND is the row's result. Any other status
    fails the row: the status is the error code, and the end of standard error is the message.
    --retry-on, --skip-on, --review-on and --hold-on give statuses another meaning, and --stdout json
    lets COMMAND print its outcome: see `journal help outcomes`.

    The first Ctrl-C pauses the run: no more commands are started, and the run waits for the
    commands in flight. A second Ctrl-C terminates these commands; a third kills them. Rows whose
    commands were terminated or killed need a review, unless --on-interrupted says otherwise.

    Example: journal run orders.csv --job ship-orders -j 4 -- ./ship --zip {zip} {order}
    """
    return _RunCommand(ctx).work()


class _RunCommand:
    """One call of `journal run`, from its options to its exit code."""

    def __init__(self, ctx: click.Context) -> None:
        self._ctx = ctx
        given = self._given = ctx.params
        self._job_id: str = given["job_id"]
        if not is_job_id(self._job_id):
            raise InvalidValueError(
                "--job",
                self._job_id,
                f"can't be a job id: use a-z 0-9 . _ -, such as {slug(self._job_id)!r}",
            )
        if given["on_changed"] == "retry" and not given["key"]:
            raise click.UsageError(
                "--on-changed retry needs --key: without it, a row has no identity but its position"
            )
        self._statuses = Statuses.of_options(given)
        if self._statuses.retry_on and given["max_attempts"] == 1:
            echo_err("--retry-on has no effect with one attempt: add --max-attempts 3")
        self._where = given["where"].holds if given["where"] else None
        self._template = Template(given["command"])
        _check_program(given["command"][0])
        if given["on_end"] is not None:
            _check_program(parse_command(given["on_end"])[0], "--on-end")

    def work(self) -> int:
        given = self._given
        with _open_file(given["rows"]) as stream:
            rows = self._open_rows(stream)
            if given["key"] is not None and rows.columns and given["key"] not in rows.columns:
                raise InvalidValueError("--key", given["key"], f"the columns are {rows.columns}")
            self._template.check(rows.columns)
            if given["batch_size"] is not None:
                self._template.check_program()
            checked = self._template.checked(rows)
            if given["dry_run"]:
                return self._dry_run(checked)
            # Check the limits before the job is made.
            limits = {name: given[name] for name in Limits.__struct_fields__ if name in given}
            if self._statuses.retry_on:
                limits["retry_on"] = self._statuses.retry_on
            limits["where"] = self._where
            Limits(**limits)
            handler = self._handler()
            with open_job(
                Path(self._ctx.obj) / self._job_id,
                checked,
                given["key"],
                original_command=shlex.join(given["command"]),
                version=given["version"],
                on_changed=given["on_changed"],
                on_interrupted=given["on_interrupted"],
                resume_command=self._typed(retry_failed=False),
                how_to=self._how_to(),
                numbers="decimal",
            ) as job:
                return self._run(job, handler, limits)

    def _how_to(self) -> HowTo:
        journal = shlex.join([*journal_command(), "--root", os.path.abspath(self._ctx.obj)])
        return HowTo(journal, self._typed(retry_failed=True))

    def _open_rows(self, stream: IO[bytes]) -> RowInput:
        given = self._given
        name = "standard input" if given["rows"] == "-" else given["rows"]
        of_lines = "--null" if given["null"] else "--lines" if given["lines"] else None
        if of_lines and given["file_format"] not in (None, "lines"):
            raise click.UsageError(
                f"{of_lines} contradicts --format {given['file_format']}: give only one of them"
            )
        file_format = "lines" if of_lines else given["file_format"] or format_of(name)
        return open_rows(stream, name, given["encoding"], NULL if given["null"] else file_format)

    def _handler(self) -> CommandHandler | Batches:
        given = self._given
        size, is_json = given["batch_size"], given["stdout_format"] == "json"
        directory = Path(self._ctx.obj).absolute() / self._job_id
        options: dict[str, Any] = {
            "statuses": self._statuses,
            "stdin_json": given["stdin_format"] == "json",
            "results": None if given["results"] is None else Path(given["results"]).absolute(),
        }
        if size is not None:
            commands = BatchCommands(self._template, directory, stdout_json=is_json, **options)
            return Batches(BatchHandler(commands), size)
        return CommandHandler(Commands(self._template, directory, **options), stdout_json=is_json)

    def _run(
        self, job_run: JobRun, handler: CommandHandler | Batches, limits: dict[str, Any]
    ) -> int:
        given, job = self._given, job_run.job
        _report_differences(job_run, shlex.join(given["command"]))
        if may_start(job, retry_failed=given["retry_failed"]):
            failed: Iterable[JobRow] = ()
            if given["retry_failed"]:
                failed = retryable(job_run.service, job.id, self._where)
            retried = sum(1 for _ in failed)
            words = counted(retried, "failed row|rows is|are tried again")
            again = f"; {words}" if retried else ""
            rows = counted(job.total_rows, "row|rows")
            echo_err(f"{job.id}: {rows}, {job.pending_count} pending{again}")
        if job.needs_review_count and given["on_interrupted"] != "review":
            how = (
                f"to retry: {self._how_to().say('', 'resolve', job.id, '--row', 'ROWS', '--retry')}"
            )
            if given["on_interrupted"] == "resume":  # what settles a row depends on its steps
                how = f"to settle: {self._how_to().say('', 'show', job.id)}"
            words = "row|rows is|are in review already, and stays|stay in review"
            echo_err(f"{job.id}: {counted(job.needs_review_count, words)}; {how}")
        with self._on_end() as on_end:
            report = job_run.run(
                handler,
                retry_failed=given["retry_failed"],
                progress=not given["quiet"],
                tell=echo_err,
                on_end=on_end,
                **limits,
            )
            self._finish(report)
        return report.exit_code

    def _finish(self, report: RunReport) -> None:
        given, job = self._given, report.job
        for text in given["where"].unmet():
            echo_err(f"{job.id}: {text}")
        _finish(report, self._how_to())
        if given["rows"] == "-" and report.exit_code:
            echo_err(f"{job.id}: the next run needs the same standard input")

    @contextlib.contextmanager
    def _on_end(self) -> Iterator[Callable[[RunReport], object]]:
        """Run the command of ``--on-end`` at the end of the block, if a run has ended in it."""
        ended: list[RunReport] = []
        code: int | None = None
        try:
            yield ended.append
        except JournalError as error:  # of a commit
            code = exit_code_of(error)
            raise
        finally:
            text, directory = self._given["on_end"], Path(self._ctx.obj).absolute() / self._job_id
            for report in ended if text is not None else ():
                exit_code = report.exit_code if code is None else code
                run_on_end(parse_command(text), directory, report, exit_code, self._warn)

    def _warn(self, text: str) -> None:
        echo_err(f"{self._job_id}: {text}")

    def _dry_run(self, rows: Iterator[dict[str, Any]]) -> int:
        """Print a line for each command that would run, then a summary."""
        given, how_to = self._given, self._how_to()
        service = ReadingService(self._ctx.obj)
        job = service.get_job(self._job_id)
        matched, plan, count, commands = Matched(), Plan(self._job_id), 0, 0
        batch: list[Planned] = []
        planned: Iterable[Planned]
        if job is None:
            planned = (
                Planned(row, "new" if self._where is None or self._where(row) else LEFT_OPEN, "new")
                for row in self._new_rows(enumerate(rows, 1))
            )
        else:
            unwritten = Unwritten()
            rules = InputRules(key=given["key"], on_changed=given["on_changed"], how_to=how_to)
            matched = match_rows(service, job, rows, rules, unwritten)
            planned = planned_rows(
                *(service, job, given["on_interrupted"]),
                retry_failed=given["retry_failed"],
                new=self._new_rows(enumerate(unwritten.new, _next_number(service, job.id))),
                changed=unwritten.changed,
                where=self._where,
            )
        for one in planned:
            plan.take(one)
            if one.kind == LEFT_OPEN:
                continue
            if given["max_rows"] is None or count < given["max_rows"]:
                count += 1
                batch.append(one)
                if len(batch) >= (given["batch_size"] or 1):
                    self._echo_command(batch)
                    commands += 1
                    batch.clear()
        if batch:
            self._echo_command(batch)
            commands += 1
        for text in given["where"].unmet():
            echo_err(f"{self._job_id}: {text}")
        self._report_plan(job, matched, plan, commands)
        return EXIT_OK

    def _echo_command(self, planned: list[Planned]) -> None:
        numbers = ",".join(str(one.row.row_number) for one in planned)
        reasons = ", ".join(dict.fromkeys(one.why for one in planned))
        line = shlex.join(self._template.fill_all([one.row for one in planned]))
        click.echo(f"{numbers}\t{reasons}\t{escaped(line)}")

    def _report_plan(self, job: Job | None, matched: Matched, plan: Plan, count: int) -> None:
        for text in _differences(matched, is_new=job is None):
            echo_err(f"{self._job_id}: {text}")
        if matched.done:
            echo_err(left_alone(self._job_id, matched.done, self._how_to()))
        if job is not None:
            plan.leave(job)
            if not count and job.status in TERMINAL_STATUSES:
                retry_failed = self._given["retry_failed"]
                service = ReadingService(self._ctx.obj)
                echo_err(nothing_to_do(service, job, self._how_to(), retry_failed=retry_failed))
        echo_err(f"{self._job_id}: {plan}")
        said = meanings(self._given)
        if said:
            echo_err(f"{self._job_id}: {said}")
        would = counted(count, "command|commands would run")
        echo_err(f"{self._job_id}: {would}; nothing was run or written")

    def _new_rows(self, numbered: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[JobRow]:
        """The rows with the numbers that the journal would give them."""
        for number, data in numbered:
            row_id = f"{self._job_id}:{number}"
            yield JobRow(row_id, self._job_id, number, "", data, UNSET_TIME, UNSET_TIME)

    def _typed(self, **more: bool) -> str:
        """The command line to paste, including options from environment variables."""
        given = self._given | more
        words = [*journal_command(), "--root", os.path.abspath(self._ctx.obj), "run", given["rows"]]
        for option in self._ctx.command.params:
            value = given.get(option.name or "")
            if not isinstance(option, click.Option) or value is None or value is False:
                continue
            if value == option.get_default(self._ctx):
                continue
            if isinstance(value, dict):  # COLUMN=N, repeated
                words += [f"{option.opts[0]}={name}={each}" for name, each in value.items()]
            elif option.multiple:
                words += [word for each in value for word in (option.opts[0], each)]
            else:
                words += [option.opts[0]] if option.is_flag else [option.opts[0], str(value)]
        words += ["--", *given["command"]]
        return shlex.join(words)


def _next_number(service: ReadingService, job_id: str) -> int:
    rows = service.get_rows(job_id)
    return rows[-1].row_number + 1 if rows else 1


def _check_program(program: str, what: str = "COMMAND") -> None:
    """Raise InvalidValueError if the program doesn't exist, before all rows fail because of it."""
    if "{" not in program and shutil.which(program) is None:
        reason = "there is no such program: check its name, or give its path"
        if os.path.isfile(program) and os.path.dirname(program):
            reason = "it is not executable: chmod +x it"
        raise InvalidValueError(what, program, reason)


def _open_file(rows: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if rows == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(rows, "rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidValueError(
            "ROWS", rows, f"can't be read: {reason}; name a CSV file, or - for stdin"
        ) from None


def _report_differences(job_run: JobRun, command: str) -> None:
    job, matched = job_run.job, job_run.matched
    if command != job.original_command:
        echo_err(f"{job.id}: the command was {job.original_command!r} when the job was made")
    for text in _differences(matched, is_new=matched.added == job.total_rows):
        echo_err(f"{job.id}: {text}")


_LOST = (
    "row|rows of the input is|are not in the job, which was repaired: it|they may be done, so it|they "
    "is|are not added; run what isn't done as another job"
)


def _differences(matched: Matched, *, is_new: bool) -> list[str]:
    found = [
        (0 if is_new else matched.added, "new row|rows added"),
        (
            matched.changed - matched.updated - len(matched.done),
            "row|rows of the input has|have changed; the job keeps its own data",
        ),
        (matched.updated, "row|rows has|have changed, and is|are run with the new data"),
        (matched.lost, _LOST),
        (
            matched.gone,
            "row|rows of the job is|are no longer in the input; pending rows are run nevertheless",
        ),
    ]
    return [counted(count, words) for count, words in found if count]


def _finish(report: RunReport, how_to: HowTo) -> None:
    """Report the counts of the job and how to continue."""
    job = report.job
    took = f" in {report.elapsed_s:.1f} s" if report.elapsed_s else ""
    echo_err(
        f"{job.id}: {job.status}{took}: {job.successful_rows} completed, "
        f"{job.failed_rows} failed, {job.skipped_count} skipped, "
        f"{job.needs_review_count} need review, {job.pending_count} pending"
    )
    if job.failed_rows:
        echo_err(f"see: {how_to.command} rows {job.id} --status failed")
    if job.needs_review_count:
        echo_err(f"see: {how_to.command} rows {job.id} --status needs_review")
    if job.failed_rows and job.status is JobStatus.FAILED:
        echo_err(f"to retry failed rows: {how_to.again}")
