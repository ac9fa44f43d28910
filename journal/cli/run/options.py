"""The options of `journal run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import click
import msgspec

from journal.cli.conditions import where_option
from journal.cli.find import complete_job, meant_by
from journal.cli.run.arguments import FORM, check_places, missing_word, words_after_dashes
from journal.cli.run.on_end import parse_command
from journal.cli.run.outcomes import error_codes
from journal.cli.selection import rows_option
from journal.cli.shared_options import Cents, Option
from journal.cli.times import Seconds
from journal.errors import InvalidValueError
from journal.inputs.formats import FORMATS
from journal.model import Policy
from journal.run.held_job import Settings
from journal.run.input_match import InputRules, OnChanged, OnGone
from journal.run.pacing.halt import Halt
from journal.run.pacing.limits import Limits
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


# The defaults of Python, by name.
_DEFAULTS = {
    field.name: field.default
    for declared in (Limits, InputRules, Settings)
    for field in msgspec.structs.fields(declared)
    if isinstance(field.default, (int, float, str))
}


def _option(names: str, sentence: str, **more: Any) -> Option:
    """An option. ``names``: its names, and that of the parameter if it is another one.

    If Python has the same setting, its default is the option's.
    """
    name = names.rsplit(maxsplit=1)[-1].lstrip("-").replace("-", "_")
    if name in _DEFAULTS:
        more.setdefault("default", _DEFAULTS[name])
    return click.option(*names.split(), help=sentence, **more)


def _statuses_option(word: str, sentence: str) -> Option:
    def check(
        ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
    ) -> tuple[str, ...]:
        for value in values:
            try:
                list(error_codes(value, or_names=word == "retry"))
            except ValueError as error:
                raise click.BadParameter(str(error), ctx, param) from None
        return values

    names = f"--{word}-on {word}_statuses"
    return _option(names, sentence, metavar="STATUSES", multiple=True, callback=check)


_COUNT = click.IntRange(min=1)
# By purpose, in the order of the help. Each option is described in one sentence: the pages explain.
_OPTIONS: dict[str, tuple[Option, ...]] = {
    "Input": (
        _option(
            "--job job_id",
            "The id of the job. If there is no such job, it is created.",
            metavar="NAME",
            required=True,
            shell_complete=complete_job,
        ),
        _option(
            "--format file_format",
            "The format of ROWS. Default: by its extension, else by its content, else CSV.",
            type=click.Choice(FORMATS),
        ),
        _option(
            "--lines", "Each line of ROWS is a row with one column, called line.", is_flag=True
        ),
        _option(
            "-0 --null",
            "As --lines, but each row ends with a NUL byte, as in the output of `find -print0`.",
            is_flag=True,
        ),
        _option(
            "--encoding",
            "The encoding of text, such as cp1252. Default: by its byte order mark, else UTF-8.",
            metavar="NAME",
        ),
        _option(
            "--delimiter",
            "What separates the cells of CSV, such as ';' or tab. Default: a comma.",
            metavar="CHARACTER",
        ),
        _option(
            "--sheet",
            "The sheet of an Excel workbook. Default: the only one that isn't empty.",
            metavar="NAME",
        ),
        _option(
            "--key",
            "Identify rows by the value of this column. Default: by their position.",
            metavar="COLUMN",
        ),
        where_option("Run only rows"),
        rows_option("Run only these rows"),
        _option(
            "--on-changed",
            "If the data of a row has changed since the last run: refuse to run, retry the row with its "
            "new data unless it is completed, redo it even then (both need --key), or ignore the change.",
            type=click.Choice(get_args(OnChanged)),
        ),
        _option(
            "--on-gone",
            "If a row that isn't done is no longer in ROWS: keep and run it, skip it (or put it under "
            "review, if it is in flight or has steps), or refuse to run.",
            type=click.Choice(get_args(OnGone)),
        ),
        _option(
            "--anew",
            "If the job was pruned, make it anew: all of its rows are run again.",
            is_flag=True,
        ),
    ),
    "Command": (
        _option(
            "-n --batch-size",
            "Give each command up to N rows: see `journal help batches`. Default: one row.",
            metavar="N",
            type=_COUNT,
        ),
        _option(
            "--stdin stdin_format",
            "What the command gets on standard input: nothing, or the row as JSON.",
            type=click.Choice(["none", "json"]),
            default="none",
        ),
        _option(
            "--stdout stdout_format",
            "What the command prints: the row's result, or JSON with fields or the outcome of the row "
            "(`journal help outcomes`).",
            type=click.Choice(["text", "json"]),
            default="text",
        ),
        _option(
            "--timeout timeout_s",
            "End a command and all its processes after this time. --on-interrupted decides what becomes "
            "of its row, unless --retry-on has TimeoutError.",
            metavar="DURATION",
            type=Seconds(above_0=True),
        ),
        _option(
            "--version",
            "A version, such as that of a prompt, which is recorded with the outcome of each row.",
            metavar="V",
        ),
    ),
    "Outcomes": (
        _option(
            "--on-interrupted",
            "What becomes of rows that were in flight when an earlier run died: they need a review, are "
            "retried, fail, or resume after their steps.",
            type=click.Choice(get_args(Policy)),
        ),
        _option("--retry-failed", "First make failed rows pending again.", is_flag=True),
        _option(
            "--max-attempts",
            "Try a row up to N times. Attempts of earlier runs count, too.",
            metavar="N",
            type=_COUNT,
        ),
        _statuses_option(
            "retry",
            "Exit statuses (75,64-78), signals (SIGKILL) or TimeoutError, after which a row may be tried "
            "again. Repeatable. Default: all but 0.",
        ),
        _statuses_option(
            "skip", "Exit statuses that mean: the row needs no work, so skip it. Repeatable."
        ),
        _statuses_option(
            "review",
            "Exit statuses that mean: a person must find out whether the command took effect. Repeatable.",
        ),
        _statuses_option(
            "hold",
            "Exit statuses that mean: the called service is down or throttles, and nothing has happened, "
            "so the whole run waits. Repeatable.",
        ),
    ),
    "Pace": (
        _option(
            "-j --jobs workers",
            "Run up to N commands at a time.",
            metavar="N",
            type=click.IntRange(1, _MAX_WORKERS),
            default=1,
        ),
        _option(
            "--rate",
            "The maximum number of starts per second, minute or hour: 50/s, 100/m, 9/h.",
            metavar="N/s",
            callback=_checked(Rate.parse),
        ),
        _option(
            "--limit-per",
            "Run at most N commands at a time for each value of COLUMN.",
            metavar="COLUMN=N",
            multiple=True,
            callback=_limit_by_column,
        ),
        _option(
            "--backoff backoff_s",
            "Wait this long before the second attempt, and twice as long before each further one, with "
            "jitter.",
            metavar="DURATION",
            type=Seconds(),
        ),
    ),
    "When to stop": (
        _option(
            "--halt",
            "Stop early if the first 10 rows fail alike (first), also after 10 failures in a row (10), or if "
            "20% of at least 50 rows fail (20%). now,10 and now,20% end the commands in flight. never: run "
            "all rows.",
            metavar="WHEN",
            callback=_checked(Halt.parse),
        ),
        _option(
            "--limit max_rows",
            "Start at most N rows in this run. Each gets its attempts.",
            metavar="N",
            type=_COUNT,
        ),
        _option(
            "--max-cost-cents",
            "Pause when the job, over all its runs, has cost this much.",
            metavar="CENTS",
            type=Cents(),
        ),
    ),
    "Messages": (
        _option(
            "--on-end",
            "Run this command, which is one argument, when the run has ended. It gets a summary as JSON: see "
            "`journal help running`.",
            metavar="COMMAND",
            callback=_checked(parse_command),
        ),
        _option(
            "--dry-run",
            "Print the commands that would run, the reason for each, and counts. Write nothing.",
            is_flag=True,
        ),
        _option(
            "-q --quiet",
            "Print only problems. If all rows are done, print nothing.",
            is_flag=True,
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
