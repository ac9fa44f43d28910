"""What every listing has in common: one table for people, four formats for programs.

Without an option it is the table, in a pipe too: what a person has seen is what `grep` gets, as
with `git` and `ps`. There it has no colours and nothing is cut or left out. Programs that want
values ask for ``--json``, ``--nl``, ``--csv`` or ``--tsv``, whose fields keep their names, in
UTF-8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from journal.cli.output import clean, echo_json, echo_json_list, terminal_width, use_color
from journal.cli.table import LOOK_AHEAD, Field, write_table
from journal.format.tabular import as_text, csv_liner, tsv_cell, tsv_line

__all__ = ["Field", "Format", "color_option", "echo_rows", "limit_option", "listing_options"]

_FORMATS = {
    "json": "One JSON array.",
    "nl": "A JSON object a line.",
    "csv": "CSV, with a header.",
    "tsv": r"Cells between tabs, with a header; a tab or line end in one becomes \t, \n or \r.",
    "table": "A table for people (the default).",
}


class Format(msgspec.Struct, frozen=True):
    """How a listing is to be written: ``name`` as the options are called, ``color`` as --color."""

    name: str
    color: str = "auto"


color_option = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    envvar="JOURNAL_COLOR",
    help="Statuses in colour; auto: on a terminal, unless NO_COLOR is set.",
)


def limit_option(
    what: str, *short: str, default: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--limit N|all`` with its ``short`` names; the command gets a number from 0, or None for all."""
    return click.option(
        *short,
        "--limit",
        metavar="N|all",
        callback=_parse_count,
        default=default,
        show_default=default is not None,
        help=what,
    )


def _parse_count(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    if value is None or value == "all":
        return None
    if not (value.isascii() and value.isdecimal()):
        raise click.BadParameter(f"{value!r} is no number, and not 'all'")
    digits = value.lstrip("0") or "0"
    return int(digits) if len(digits) < 19 else None  # more than there can be


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--json --nl --csv --tsv --table --color``; it takes a Format as ``output``."""

    def with_format(**given: Any) -> Any:
        output = Format(_chosen({name: given.pop(name) for name in _FORMATS}), given.pop("color"))
        return command(**given, output=output)

    wrapped: Callable[..., Any] = color_option(update_wrapper(with_format, command))
    for name, text in reversed(_FORMATS.items()):
        wrapped = click.option(f"--{name}", is_flag=True, help=text)(wrapped)
    return wrapped


def _chosen(flags: dict[str, bool]) -> str:
    """The one format that was asked for; the command line's word is over the environment's."""
    ctx = click.get_current_context()
    asked = [name for name, given in flags.items() if given]
    said = [n for n in asked if ctx.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    names = said or asked or ["table"]
    if len(names) > 1:
        raise click.UsageError(f"say one of {' and '.join(f'--{name}' for name in names)}")
    return names[0]


def echo_rows(
    output: Format,
    fields: Sequence[Field],
    records: Iterable[Any],
    *,
    look_ahead: int | None = LOOK_AHEAD,
) -> None:
    """Write the records to standard output as they come, in constant memory.

    ``look_ahead`` is how many rows of a table are held back for its widths (None: all). Who waits
    between records calls ``sys.stdout.flush()`` before.
    """
    named = [field for field in fields if field.name]
    if output.name == "csv":
        _echo_lines(named, records, csv_liner(), str)
    elif output.name == "tsv":
        _echo_lines(named, records, tsv_line, tsv_cell)
    elif output.name == "table":
        columns = [field for field in fields if field.title]
        texts = [field.text or _text_of(field.value) for field in columns]
        write_table(
            columns,
            ([text(record) for text in texts] for record in records),
            width=terminal_width(),
            color=use_color(output.color),
            look_ahead=look_ahead,
        )
    else:
        getters = [(field.name, field.value) for field in named]
        objects = ({name: value(record) for name, value in getters} for record in records)
        if output.name == "json":
            echo_json_list(objects)
        else:
            for each in objects:
                echo_json(each)


def _text_of(value: Callable[[Any], Any]) -> Callable[[Any], str]:
    return lambda record: as_text(value(record))


def _echo_lines(
    fields: Sequence[Field],
    records: Iterable[Any],
    line_of: Callable[[Iterable[str]], bytes],
    cell_of: Callable[[str], str],
) -> None:
    show = clean if sys.stdout.isatty() else cell_of  # exact, but for what would steer a terminal
    write = sys.stdout.buffer.write
    write(line_of([show(field.name) for field in fields]))
    values = [field.value for field in fields]
    for record in records:
        write(line_of([show(as_text(value(record))) for value in values]))
