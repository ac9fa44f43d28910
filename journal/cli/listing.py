"""What every listing has in common: one table for people, four formats for programs.

Without an option it is the table, in a pipe too: what a person has seen is what `grep` gets, as with
`git` and `ps`. There it has no colours and nothing is cut or left out. Programs that want values ask
for ``--json``, ``--nl``, ``--csv`` or ``--tsv``, whose fields keep their names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from journal.cli.output import as_json, clean, echo_json_list, terminal_width, use_color
from journal.cli.table import LOOK_AHEAD, Field, write_table

__all__ = ["Field", "Format", "color_option", "echo_rows", "listing_options", "plain_text"]

_FORMATS = {
    "json": "One JSON array.",
    "nl": "A JSON object a line.",
    "csv": "CSV, with a header.",
    "tsv": "Cells between tabs, without quotes, with a header.",
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
        _echo_csv(named, records)
    elif output.name == "tsv":
        _echo_tsv(named, records)
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
            write = sys.stdout.write
            for each in objects:
                write(as_json(each) + "\n")


def _text_of(value: Callable[[Any], Any]) -> Callable[[Any], str]:
    return lambda record: plain_text(value(record))


def plain_text(value: Any) -> str:
    """A value as text: itself, nothing for None, and JSON for what has parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = msgspec.json.encode(value).decode()
    return text[1:-1] if text[0] == '"' else text  # a time


def _echo_csv(fields: Sequence[Field], records: Iterable[Any]) -> None:
    import csv  # noqa: PLC0415  (`journal list` starts without it)

    show = clean if sys.stdout.isatty() else str  # exact, but for what would steer a terminal
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([show(field.name) for field in fields])
    values = [field.value for field in fields]
    for record in records:
        writer.writerow([show(plain_text(value(record))) for value in values])


def _echo_tsv(fields: Sequence[Field], records: Iterable[Any]) -> None:
    r"""As ``journal run`` reads it: without quotes, so a tab in a value is written as ``\t``."""
    show = clean if sys.stdout.isatty() else _one_cell
    write = sys.stdout.write
    write("\t".join([show(field.name) for field in fields]) + "\n")
    values = [field.value for field in fields]
    for record in records:
        write("\t".join([show(plain_text(value(record))) for value in values]) + "\n")


def _one_cell(text: str) -> str:
    return text.replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")
