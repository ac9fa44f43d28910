"""The options of `journal run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from journal.cli.conditions import where_option
from journal.cli.find import complete_job, meant_by
from journal.cli.run.arguments import FORM, check_places, missing_word, words_after_dashes
from journal.cli.run.on_end import parse_command
from journal.cli.run.outcomes import error_codes
from journal.cli.shared_options import Cents, Option
from journal.cli.times import Seconds
from journal.errors import InvalidValueError
from journal.inputs.formats import FORMATS
from journal.run.pacing.halt import Halt
from journal.run.pacing.rate import Rate


def _checked(parse: Callable[[str], object]) -> Callable[..., str | None]:
    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except InvalidValueError as error:
                raise click.BadParameter(error.reason, ctx, param) from None
        return value

    return check


_MAX_WORKERS = 1000


def _number(text: str) -> int:
    """Convert text that is a number from 1 to 999,999,999. Returns 0 for any other text."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _limit_by_column(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, int] | None:
    if len(values) > 1:
        raise click.BadParameter("limits one column: give it once", ctx, param)
    for value in values:
        column, _, limit = value.rpartition("=")
        if not column or not _number(limit):
            wanted = "must be a column and a number from 1, such as carrier=2"
            raise click.BadParameter(f"{value!r}: {wanted}", ctx, param)
        return {column: int(limit)}
    return None


def _statuses_option(word: str, text: str) -> Callable[..., Any]:
    or_names = word == "retry"

    def check(
        ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
    ) -> tuple[str, ...]:
        for value in values:
            try:
                list(error_codes(value, or_names=or_names))
            except ValueError as error:
                raise click.BadParameter(str(error), ctx, param) from None
        return values

    names = (f"--{word}-on", f"{word}_statuses")
    return click.option(*names, metavar="STATUSES", multiple=True, callback=check, help=text)


# The options, by purpose, in the order of the help.
_OPTIONS: dict[str, tuple[Option, ...]] = {
    "Input": (
        click.option(
            "--job",
            "job_id",
            metavar="NAME",
            required=True,
            shell_complete=complete_job,
            help="The id of the job. If there is no such job, it is created.",
        ),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(FORMATS),
            help="The format of ROWS. Default: as its extension says, else as its content shows, else CSV.",
        ),
        click.option(
            "--lines", is_flag=True, help="Each line of ROWS is a row with one column, called line."
        ),
        click.option(
            "-0",
            "--null",
            is_flag=True,
            help="As --lines, but each row ends with a NUL byte, as in the output of `find -print0`.",
        ),
        click.option(
            "--encoding",
            metavar="NAME",
            help="The encoding of text, such as cp1252. Default: as its byte order mark says, else UTF-8.",
        ),
        click.option(
            "--delimiter",
            metavar="CHARACTER",
            help="What separates the cells of CSV, such as ';' or tab. Default: a comma.",
        ),
        click.option(
            "--sheet",
            metavar="NAME",
            help="The sheet of an Excel workbook. Default: the only one that isn't empty.",
        ),
        click.option(
            "--key",
            metavar="COLUMN",
            help="Identify rows by the value of this column. Default: by their position.",
        ),
        where_option(
            "Run only rows",
            " The other rows stay open, or stay failed. When only such rows are left, the run pauses.",
        ),
        click.option(
            "--on-changed",
            type=click.Choice(["error", "retry", "ignore"]),
            default="error",
            help="What to do if the data of a row has changed since the last run. error: refuse to run. "
            "retry: run the row with its new data, unless it is completed; needs --key. ignore: keep the old data.",
        ),
        click.option(
            "--anew",
            is_flag=True,
            help="If the job was pruned, make it anew. All of its rows are run again.",
        ),
    ),
    "Command": (
        click.option(
            "-n",
            "--batch-size",
            metavar="N",
            type=click.IntRange(min=1),
            help="Give each command up to N rows: an argument with a placeholder is repeated for each row. "
            "See `journal help batches`. Default: one row, which environment variables describe.",
        ),
        click.option(
            "--stdin",
            "stdin_format",
            type=click.Choice(["none", "json"]),
            default="none",
            help="What the command gets on standard input: nothing, or the row as JSON.",
        ),
        click.option(
            "--stdout",
            "stdout_format",
            type=click.Choice(["text", "json"]),
            default="text",
            help="What the command prints. json: an object with fields of the row (tracking_number, "
            "label_path, cost_cents, usage, result) or with the row's outcome (retry, skip, review, hold, "
            "fail). See `journal help outcomes`.",
        ),
        click.option(
            "--results",
            metavar="DIR",
            type=click.Path(file_okay=False),
            help="Keep all output of each attempt, in DIR/ROW/ATTEMPT/stdout and stderr.",
        ),
        click.option(
            "--timeout",
            "timeout_s",
            metavar="DURATION",
            type=Seconds(above_0=True),
            help="End a command and all its processes after this time. The command may have taken effect, so "
            "--on-interrupted decides what becomes of its row. With --retry-on TimeoutError, the row fails "
            "instead. Default: never.",
        ),
        click.option(
            "--version",
            metavar="V",
            help="A version, such as that of a prompt. It is recorded with the outcome of each row.",
        ),
    ),
    "Outcomes": (
        click.option(
            "--on-interrupted",
            type=click.Choice(["review", "retry", "fail", "resume"]),
            default="review",
            help="What to do with rows that were in flight when an earlier run died. review: put them "
            "under review. retry: run them again. fail: fail them. resume: run a row again if none of its "
            "steps is in doubt (begun, with an unknown end), else put it under review; only for a COMMAND "
            "whose side effects are all in `journal step`.",
        ),
        click.option("--retry-failed", is_flag=True, help="First make failed rows pending again."),
        click.option(
            "--max-attempts",
            metavar="N",
            type=click.IntRange(min=1),
            default=1,
            help="Try a row up to N times. Attempts of earlier runs count too. `journal retry` starts the count again.",
        ),
        _statuses_option(
            "retry",
            "Exit statuses, such as 75,111 or 64-78, after which a row is tried again, if attempts are "
            "left. Other statuses fail the row. Signals (SIGKILL) and TimeoutError can be named too. "
            "Repeatable. Default: all but 0.",
        ),
        _statuses_option(
            "skip",
            "Exit statuses that mean: the row needs no work. The row is skipped. Repeatable.",
        ),
        _statuses_option(
            "review",
            "Exit statuses that mean: a person must find out whether the command took effect. The row "
            "needs a review. Repeatable.",
        ),
        _statuses_option(
            "hold",
            "Exit statuses that mean: the called service is down or throttles, and nothing has "
            "happened. No command starts until the backoff is over. The attempt doesn't count. Repeatable.",
        ),
    ),
    "Pace": (
        click.option(
            "-j",
            "--jobs",
            "workers",
            metavar="N",
            type=click.IntRange(1, _MAX_WORKERS),
            default=1,
            help="Run up to N commands at a time.",
        ),
        click.option(
            "--rate",
            metavar="N/s",
            callback=_checked(Rate.parse),
            help="The maximum number of starts per second, minute or hour: 50/s, 100/m, 9/h. Default: no limit.",
        ),
        click.option(
            "--limit-per",
            metavar="COLUMN=N",
            multiple=True,
            callback=_limit_by_column,
            help="Run at most N commands at a time for each value of COLUMN. Rows without a value have no "
            "such limit.",
        ),
        click.option(
            "--backoff",
            "backoff_s",
            metavar="DURATION",
            type=Seconds(),
            default=1.0,
            help="Wait this long before the second attempt. The time doubles with each further attempt, "
            "and has jitter.",
        ),
    ),
    "When to stop": (
        click.option(
            "--halt",
            metavar="WHEN",
            default="first",
            callback=_checked(Halt.parse),
            help="When to stop early. first: stop if the first 10 rows all fail with the same code. "
            "10: as first, and also stop if the last 10 rows have failed; wait for the commands in "
            "flight. 20%: as first, and also stop if at least 50 rows have ended and 20% of them have "
            "failed. now,10 and now,20%: end the commands in flight. never: run all rows.",
        ),
        click.option(
            "--limit",
            "max_rows",
            metavar="N",
            type=click.IntRange(min=1),
            help="Start at most N rows in this run. Default: all.",
        ),
        click.option(
            "--max-cost-cents",
            metavar="CENTS",
            type=Cents(),
            help="Pause when the job, over all its runs, has cost this much. Default: no limit.",
        ),
    ),
    "Messages": (
        click.option(
            "--on-end",
            metavar="COMMAND",
            callback=_checked(parse_command),
            help="Run this command when the run has ended, for whatever reason. The command gets the summary "
            "as JSON on its standard input. Give the command as one argument, such as './notify --to me'. "
            "It is split into words as by a shell, but no shell runs it. After 60 seconds, the command is "
            "ended. If the command fails, the run prints a warning.",
        ),
        click.option(
            "--dry-run",
            is_flag=True,
            help="Print the first commands that would run, the reason for each, and counts of rows. Write nothing.",
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            help="With --dry-run, print all commands, not only the first 10.",
        ),
        click.option(
            "-q",
            "--quiet",
            is_flag=True,
            help="Print only problems. If all rows are done, print nothing.",
        ),
    ),
}


class RunOptions(click.Command):
    """A command that checks the words before ``--``, and lists its options by purpose."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        after = words_after_dashes(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.MissingParameter as error:
            raise missing_word(error, after) from None
        except click.NoSuchOption as error:
            if after is None and meant_by(error) is None:
                hint = "If it is an option of COMMAND, write it after --, with all of COMMAND"
                raise click.UsageError(f"{error.format_message()} {hint}: {FORM}", ctx) from None
            raise
        check_places(ctx, after)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for purpose, records in records_by_purpose(self, ctx).items():
            with formatter.section(purpose):
                formatter.write_dl(records)


def records_by_purpose(
    command: click.Command, ctx: click.Context
) -> dict[str, list[tuple[str, str]]]:
    """The options of `journal run` and their help texts, by purpose."""
    options = (each for each in command.get_params(ctx) if isinstance(each, click.Option))
    shown = (option.get_help_record(ctx) for option in options)
    records = [record for record in shown if record is not None]
    found, begin = dict[str, list[tuple[str, str]]](), 0
    for purpose, group in _OPTIONS.items():
        found[purpose] = records[begin : begin + len(group)]
        begin += len(group)
    found[purpose] += records[begin:]  # --help
    return found


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add all options of `journal run` to a command."""
    for options in reversed(_OPTIONS.values()):
        for option in reversed(options):
            function = option(function)
    return function
