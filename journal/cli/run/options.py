"""The options of `journal run`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

import click
import msgspec

from journal.cli.mistakes import meant_by
from journal.cli.selection import rows_option, where_option
from journal.cli.shared_options import (
    MAX_COMMANDS,
    Option,
    input_options,
    option,
    parse_cents,
    parse_limit_per,
    parse_limit_s,
    parse_rates,
    parse_seconds,
)
from journal.errors import InvalidValueError
from journal.run.input_match import InputRules
from journal.run.lifecycle import Settings
from journal.run.pacing.limits import Limits, parse_halt


def _halt(value: str) -> str:
    try:
        parse_halt(value)
    except InvalidValueError as error:
        raise ValueError(error.reason) from None
    return value


# The settings of the Python interface, by name.
_DECLARED = {
    field.name: field
    for declared in (Limits, InputRules, Settings)
    for field in msgspec.structs.fields(declared)
}


def _option(words: str, sentence: str, **more: Any) -> Option:
    """An option: see :func:`option`. Its type and default are those of the setting in Python."""
    names = [word for word in words.split() if not word[0].isupper()]
    field = _DECLARED.get(names[-1].lstrip("-").replace("-", "_"))
    if field is not None and field.type is not bool:
        if isinstance(field.default, (int, float, str)):
            more.setdefault("default", field.default)
        more = _form_of(field.type, field.default) | more
    return option(words, sentence, **more)


def _form_of(declared: Any, default: Any) -> dict[str, Any]:
    """The type of an option of click, or the function that parses the value."""
    kinds = {declared, *get_args(declared)}
    if get_origin(declared) is Literal:
        return {"type": click.Choice(get_args(declared))}
    if Decimal in kinds:
        return {"parse": parse_cents}
    if float in kinds:  # a time without a default is a limit
        return {"parse": parse_limit_s if default is None else parse_seconds}
    is_count = int in kinds and str not in kinds
    return {"type": click.IntRange(min=1) if is_count else None}


# By purpose, in the order of the help.
# One sentence describes each option: `journal/docs` explains more.
_OPTIONS: dict[str, tuple[Option, ...]] = {
    "Input": (
        _option(
            "--job NAME job_id",
            "The id of the job. If there is no such job, it is created.",
            required=True,
        ),
        *input_options("ROWS"),
        _option("--lines", "Each line of ROWS is a row with one column, called line."),
        _option(
            "-0 --null",
            "As --lines, but each row ends with a NUL byte, as in the output of `find -print0`.",
        ),
        _option("--key COLUMN", "Identify rows by the value of this column. Default: by position."),
        _option(
            "--shard I/N",
            "Run only the rows of shard I of N: see `journal help clusters`. The first shard is 0. "
            "auto/N takes I from an environment variable of the scheduler.",
        ),
        where_option("Run only rows"),
        rows_option("Run only these rows"),
        _option(
            "--on-changed",
            "If the data of a row has changed since the last run: refuse to run (error), run the "
            "row with its new data unless the row is completed (retry), run even a completed row "
            "(redo), or ignore the change. retry and redo need --key.",
        ),
        _option(
            "--on-gone",
            "If a row that isn't done is no longer in ROWS: keep and run the row, skip the row, "
            "or refuse to run (error). skip puts rows in flight and rows with steps under review.",
        ),
        _option(
            "--anew",
            "Make the job anew and run all of its rows again, even if the job was pruned, or if "
            "a scheduler has restarted the task and the task's job is gone.",
        ),
        _option(
            "--existing",
            "Only continue a job, and never make a job. Use this option if the job may exist on "
            "another disk.",
        ),
    ),
    "Command": (
        _option(
            "-n --batch-size N batch",
            "Give each command up to N rows: see `journal help batches`. Default: one row.",
        ),
        _option(
            "--stdin stdin_format",
            "The standard input of the command: nothing, or the row as JSON.",
            type=click.Choice(["none", "json"]),
            default="none",
        ),
        _option(
            "--stdout stdout_format",
            "The meaning of the command's output: the row's result, or JSON with fields or the "
            "outcome of the row (`journal help outcomes`).",
            type=click.Choice(["text", "json"]),
            default="text",
        ),
        _option(
            "--timeout DURATION timeout_s",
            "End a command and all its processes after this time. --on-interrupted decides about the "
            "row of such a command, unless you give --on TimeoutError=retry.",
        ),
        _option(
            "--version V",
            "A version, for example of a prompt. It is recorded with the outcome of each row.",
        ),
    ),
    "Outcomes": (
        _option(
            "--on STATUSES=OUTCOME statuses",
            "The outcome of a row whose command ends with one of these exit statuses (75,64-78), signals "
            "(SIGTERM) or TimeoutError: retry, throttled, skip, review, hold or wait. See above. Repeatable.",
            multiple=True,
        ),
        _option(
            "--on-interrupted",
            "The policy for rows that were in flight when an earlier run died: they need a "
            "review, are retried, fail, or resume after their finished steps.",
        ),
        _option("--retry-failed", "First make failed rows pending again.", is_flag=True),
        _option(
            "--max-attempts N",
            "Make up to N attempts at a row, including attempts of earlier runs.",
        ),
    ),
    "Pace": (
        _option(
            "-j --jobs N workers",
            "Run up to N commands at a time.",
            type=click.IntRange(1, MAX_COMMANDS),
            default=1,
        ),
        _option(
            "--rate RATE",
            "The maximum number of starts per second, minute or hour: 50/s, 100/m, 9/h. Or the "
            "maximum amount of a usage: input_tokens=200000/m. Repeatable.",
            multiple=True,
            parse=parse_rates,
        ),
        _option(
            "--limit-per COLUMN=N",
            "Run at most N commands at a time for each value of COLUMN.",
            multiple=True,
            parse=parse_limit_per,
        ),
        _option(
            "--max-waiting N",
            "Start no further row while N rows wait (--on ...=wait) or are in flight.",
        ),
        _option(
            "--backoff DURATION backoff_s",
            "The wait before the second attempt. It doubles before each further attempt, with "
            "jitter.",
        ),
        _option(
            "--max-backoff DURATION max_backoff_s",
            "The longest wait between two attempts, and the longest hold, unless the command sets "
            "the time.",
        ),
    ),
    "When to stop": (
        _option(
            "--halt WHEN",
            "first: stop early if the first 10 rows fail alike. 10: also after 10 successive failures. 20%: also "
            "if 20% of at least 50 rows fail. now,10 and now,20%: also end the commands in flight at this stop. "
            "never: run all rows.",
            parse=_halt,
        ),
        _option(
            "--limit N max_rows",
            "Start at most N rows. Rows that were never started come first. Each row gets all its "
            "attempts.",
        ),
        _option(
            "--max-wait DURATION max_wait_s",
            "A row that has waited (--on ...=wait) this long fails, with the code WaitedTooLong.",
        ),
        _option(
            "--no-wait",
            "For cron: pause with exit code 4 when only waiting rows are left.",
            is_flag=True,
        ),
        _option(
            "--max-cost-cents CENTS", "Pause when all runs of the job together have cost this much."
        ),
    ),
    "Messages": (
        _option(
            "--dry-run",
            "Print counts, and the commands that would run, with reasons. Write nothing.",
        ),
        _option("-q --quiet", "Print only problems. If all rows are done, print nothing."),
    ),
}


# --- the words of a command line: ROWS, then ``--``, then COMMAND

_FORM = "journal run orders.csv --job NAME -- COMMAND {column}"


def _words_after_dashes(args: Sequence[str]) -> list[str] | None:
    """The words after the first ``--``; None if there is no ``--``."""
    return list(args[args.index("--") + 1 :]) if "--" in args else None


def _missing_word(error: click.MissingParameter, after: list[str] | None) -> click.UsageError:
    """The error for a command line without ROWS or COMMAND. ``after``: the words after ``--``."""
    name = error.param.name if error.param is not None else ""
    if name == "rows" or (name == "command" and after):
        return _no_rows(error.ctx)
    if name == "command":
        return click.UsageError(f"there is no COMMAND: write it last, after --: {_FORM}", error.ctx)
    return error


def _check_places(ctx: click.Context, after: list[str] | None) -> None:
    """Raise UsageError unless exactly one word, ROWS, is before ``--``, and COMMAND is after it."""
    if after is None or ctx.resilient_parsing:
        return
    words = [ctx.params["rows"], *ctx.params["command"]]
    before = words[: len(words) - len(after)]
    if not before:
        raise _no_rows(ctx)
    if len(before) > 1:
        raise click.UsageError(
            f"{before[1]!r} comes after ROWS ({before[0]!r}), but before --: quote the name of a file "
            "with spaces, and write all of COMMAND after --",
            ctx,
        )


def _no_rows(ctx: click.Context | None) -> click.UsageError:
    why = "there are no ROWS before --: give a file, or - for standard input"
    return click.UsageError(f"{why}: {_FORM}", ctx)


class RunOptions(click.Command):
    """A command that checks the words before ``--``, and lists its options by purpose."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        after = _words_after_dashes(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.MissingParameter as error:
            raise _missing_word(error, after) from None
        except click.NoSuchOption as error:
            if after is None and meant_by(error) is None:
                hint = "If it is an option of COMMAND, write it after --, with all of COMMAND"
                raise click.UsageError(f"{error.format_message()} {hint}: {_FORM}", ctx) from None
            raise
        _check_places(ctx, after)
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
        for add in reversed(options):
            function = add(function)
    return function
