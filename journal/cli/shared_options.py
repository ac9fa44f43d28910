"""Options that several commands share, the parsing of their values, and a confirmation prompt.

A moment is ISO 8601 text, or the time since the moment, such as ``3d`` (three days ago).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from journal.cli.output import echo_err
from journal.errors import RESULT_PLACEHOLDER, InvalidValueError
from journal.format.arguments import ROWS, check_cost, rates_of
from journal.format.size_limits import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.fs import system
from journal.text import decode_json_exact, escaped

MAX_COMMANDS = 1000  # that -j allows at a time

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def option(
    words: str, sentence: str, parse: Callable[[Any], Any] | None = None, **more: Any
) -> Option:
    """An option of a command.

    ``words``: the names of the option, the placeholder of the value in capitals, and the
    parameter's name if it differs from the option's name: "--error-code CODE error_codes". An
    option without a placeholder is a flag, unless it has a ``type``. ``parse`` turns a given value
    into what the command gets. Its ValueError says what is wrong.
    """
    names = words.split()
    placeholder = next((word for word in names if word[0].isupper()), None)
    if placeholder is not None:
        names.remove(placeholder)
        more["metavar"] = placeholder
    elif not more.keys() & {"type", "flag_value"}:
        more["is_flag"] = True

    def parsed(_ctx: click.Context, _parameter: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None or parse is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    if parse is not None:  # a parser gets text, whatever the default is
        more |= {"type": str, "callback": parsed}
    return click.option(*names, help=sentence, **more)


def parse_cents(value: str) -> float:
    """Parse CENTS: a decimal number from 0."""
    try:
        return check_cost(Decimal(value)) or 0
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number of cents: give 1250, or 0.06") from None
    except InvalidValueError as error:
        raise ValueError(f"{value} {error.reason}") from None


def json_or_text(text: str) -> Any:
    """A result: the value of JSON, or text that isn't JSON.

    Raises BadParameter for the placeholder of a command that was printed as advice.
    """
    if text == RESULT_PLACEHOLDER:
        how = "replace it by the result, such as ch_1, or by null for none"
        raise click.BadParameter(f"{text} stands for the result: {how}", param_hint="--result")
    try:
        if nests_deeper_than(text.encode(), MAX_DEPTH - 1):
            return text
        return decode_json_exact(text)
    except (*DECODE_ERRORS, UnicodeEncodeError):  # the service refuses such text with a message
        return text


json_option = option("--json json_output", "Print one JSON object.")
force_option = option("--force", "Replace OUT if it exists.")


def columns_option(text: str) -> Option:
    """The option ``--columns A,B,...``. The command gets a list of names, or None."""
    return option("--columns A,B,...", text, _parse_columns)


def _parse_columns(value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise ValueError("give names between commas, such as row_number,status,order")
    return names


def reason_option(what: str) -> Option:
    return option("--reason TEXT", what)


yes_option = option("-y --yes", "Don't ask.")


def confirm(question: str, if_not: str) -> bool:
    """Ask a question on the terminal. Returns the answer.

    If the answer is no, ``if_not`` is printed. Raises UsageError if standard input isn't a
    terminal.
    """
    if not sys.stdin.isatty() or not system.can_answer():
        raise click.UsageError(
            f"{if_not}: this command asks first, and standard input is not a terminal; "
            "give --yes to skip the question"
        )
    if click.confirm(escaped(question), err=True):
        return True
    echo_err(if_not)
    return False


# strings: `re` compiles them only when a time is parsed
_AGO = r"([0-9]{1,9})\s*(s|m|h|d|w)(?:\s+ago)?"
_DURATION = r"([0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*(ms|s|m|h|d|w)?"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_moment(text: str) -> datetime:
    """Parse WHEN: see :func:`moment`."""
    return moment(text, datetime.now(UTC))


def parse_seconds(value: str) -> float:
    """Parse DURATION: ``90``, ``0.5s`` or ``5m``."""
    match = re.fullmatch(_DURATION, value.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{value!r} is not a duration: give 90, 0.5s, 5m or 2h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def parse_limit_s(value: str) -> float:
    """Parse DURATION, which must be above 0."""
    if not (seconds := parse_seconds(value)):
        raise ValueError(f"{value!r} must be above 0")
    return seconds


def since_option(what: str) -> Option:
    """The option ``--since WHEN``. Its help begins with ``what``."""
    return option(
        "--since WHEN",
        f"{what}: 2026-11-24, '2026-11-24 13:35', or how long ago: 3d, 2h.",
        parse_moment,
    )


def moment(text: str, now: datetime) -> datetime:
    """Parse ``2026-11-24``, ``2026-11-24 13:35`` or ``3d`` (three days ago) to a moment in UTC.

    A time without a zone is local. Raises ValueError, whose message lists the valid forms.
    """
    text = text.strip()
    ago = re.fullmatch(_AGO, text, re.ASCII)
    try:
        if ago is not None:
            return now - timedelta(seconds=_SECONDS[ago[2]] * int(ago[1]))
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):  # OSError: on Windows, after the year 3000
        raise ValueError(
            f"{text!r} is not a time: give 2026-11-24, '2026-11-24 13:35', 2026-11-24T13:35Z, or how "
            "long ago: 90s, 5m, 2h, 3d, 1w"
        ) from None


def parse_rates(values: tuple[str, ...], *, or_none: bool = False) -> dict[str, str] | None:
    """The values of ``--rate``. ``or_none``: "none" may stand in place of a rate."""
    found: dict[str, str] = {}
    for value in values:
        name, is_named, text = value.rpartition("=")
        name = name if is_named else ROWS
        if name in found:
            limited = f"{name} has" if is_named else "starts have"
            raise ValueError(f"{limited} two rates: give one")
        found[name] = text
        try:
            rates_of(found, or_none=or_none)
        except InvalidValueError as error:
            raise ValueError(f"{value!r}: {error.reason}") from None
    return found or None


def parse_limit_per(values: tuple[str, ...]) -> dict[str, int] | None:
    """The value of ``--limit-per``."""
    if len(values) > 1:
        raise ValueError("limits one column: give it once")
    for value in values:
        match = re.fullmatch(r"(.+)=([1-9][0-9]{0,8})", value, re.ASCII | re.DOTALL)
        if match is None:
            wanted = "must be a column and a number from 1, such as carrier=2"
            raise ValueError(f"{value!r}: {wanted}")
        return {match[1]: int(match[2])}
    return None


def input_options(what: str) -> tuple[Option, ...]:
    """The options that say how to read a file of rows, in the order of the fields of ``Source``.

    ``what``: the file, such as ROWS.
    """
    from journal.inputs.formats import FORMATS, LINES  # noqa: PLC0415  (`journal list` needs none)

    return (
        option(
            "--format file_format",
            f"The format of {what}. Default: by its extension, else by its content, else CSV.",
            type=click.Choice([each for each in FORMATS if each != LINES]),
        ),
        option(
            "--encoding NAME",
            "The encoding of text, such as cp1252. Default: by the byte order mark, else UTF-8.",
        ),
        option(
            "--delimiter CHARACTER",
            "The character between the cells of CSV, such as ';' or tab. Default: a comma.",
        ),
        option(
            "--sheet NAME",
            "The sheet of an Excel workbook. Default: the only sheet that isn't empty.",
        ),
    )
