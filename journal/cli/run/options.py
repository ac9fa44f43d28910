"""The options of `journal run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from journal.cli.find import complete_job
from journal.cli.run.inputs import FORMATS
from journal.cli.times import Seconds
from journal.errors import InvalidValueError
from journal.run.limits import Halt, Rate

Function = TypeVar("Function", bound=Callable[..., object])


def _checked(parse: Callable[[str], object]) -> Callable[..., str | None]:
    def check(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            try:
                parse(value)
            except InvalidValueError as error:
                raise click.BadParameter(error.reason, ctx, param) from None
        return value

    return check


_OPTIONS = (
    click.option(
        "--job",
        "job_id",
        metavar="NAME",
        required=True,
        shell_complete=complete_job,
        help="The job's id, new or not.",
    ),
    click.option(
        "-j",
        "--jobs",
        "workers",
        type=click.IntRange(min=1, max=1000),
        default=1,
        show_default=True,
        help="How many commands run at a time.",
    ),
    click.option(
        "--format", "file_format", type=click.Choice(FORMATS), help="Of ROWS; default: by its name."
    ),
    click.option("--lines", is_flag=True, help="Each line of ROWS is a row, as {line}."),
    click.option("--encoding", default="utf-8", show_default=True, help="The encoding of ROWS."),
    click.option("--key", metavar="COLUMN", help="Know rows by this column, not by their place."),
    click.option(
        "--on-changed",
        type=click.Choice(["error", "retry", "ignore"]),
        default="error",
        show_default=True,
        help="What to do about rows whose data is not what it was.",
    ),
    click.option(
        "--on-interrupted",
        type=click.Choice(["review", "retry", "fail"]),
        default="review",
        show_default=True,
        help="What becomes of rows that were in flight when a run died.",
    ),
    click.option(
        "--retry-failed", is_flag=True, help="Put failed rows back first, to be tried again."
    ),
    click.option(
        "--version", metavar="V", help="What this works with, such as a prompt: outcomes have it."
    ),
    click.option(
        "--max-attempts",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="How often a row that fails is tried, earlier runs counted in, up to a retry.",
    ),
    click.option(
        "--backoff",
        "backoff_s",
        metavar="SECONDS",
        type=Seconds(min=0),
        default=1.0,
        show_default=True,
        help="Wait before the second attempt; doubled each time, with jitter.",
    ),
    click.option(
        "--timeout",
        "timeout_s",
        metavar="SECONDS",
        type=Seconds(min=0, min_open=True),
        help="End a command, and all that it started, that takes longer.",
    ),
    click.option(
        "--rate",
        metavar="N/s",
        callback=_checked(Rate.parse),
        help="Start no more: 50/s, 100/m, 9/h.",
    ),
    click.option(
        "--halt",
        metavar="WHEN",
        default="first",
        show_default=True,
        callback=_checked(Halt.parse),
        help="Give up: first (if the first 10 rows all fail alike); that, or soon,fail=5; "
        "now,fail=20%,min=50; soon,success=1; or never.",
    ),
    click.option(
        "--limit", "max_rows", metavar="N", type=click.IntRange(min=1), help="Start N rows."
    ),
    click.option(
        "--max-cost-cents",
        type=click.IntRange(min=0),
        help="Start no more at this cost of the job.",
    ),
    click.option(
        "--stdin",
        "stdin_format",
        type=click.Choice(["none", "json"]),
        default="none",
        show_default=True,
        help="What the command reads: nothing, or the row as JSON.",
    ),
    click.option(
        "--stdout",
        "stdout_format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="What the command prints; members of a JSON object fill the row's fields.",
    ),
    click.option(
        "--results",
        metavar="DIR",
        type=click.Path(file_okay=False),
        help="Keep all output, in DIR/ROW/stdout and stderr.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Say what would run and why; run and write nothing."
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress."),
)


_NO_SHELL = (
    "No such option: --shell. A shell's line has places where data would run, however it is quoted. "
    "Give the values as arguments of a script, behind a word that becomes its $0, and use none in "
    "arithmetic, which runs what it is given: -- sh -c 'echo \"$1\" | tr a-z A-Z' sh {column}"
)


class RunOptions(click.Command):
    """Says what stands in for ``--shell``, which `journal run` once had."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name != "--shell":
                raise
            raise click.UsageError(_NO_SHELL, ctx) from None


def run_options(function: Function) -> Function:
    """Give a command all of them, in this order."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
