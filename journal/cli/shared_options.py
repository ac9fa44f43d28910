"""Options that several commands share, the parsing of their values, and a confirmation prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from journal.cli.output import echo_err
from journal.errors import RESULT_PLACEHOLDER, InvalidValueError
from journal.format.arguments import check_cost
from journal.format.records import MAX_DEPTH
from journal.format.values import DECODE_ERRORS, nests_deeper_than
from journal.fs import system
from journal.text import decode_json_exact, escaped

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def option(
    words: str, sentence: str, parse: Callable[[Any], Any] | None = None, **more: Any
) -> Option:
    """An option of a command.

    ``words``: its names, then the placeholder of its value in capitals, then the parameter's name
    if it differs: "--error-code CODE error_codes". An option without a placeholder is a flag, unless
    it has a ``type``. ``parse`` turns a given value into what the command gets. Its ValueError says
    what is wrong.
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

    if parse is not None:  # of text, whatever the default is
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
