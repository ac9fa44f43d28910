"""What every listing has in common: one table for people, four formats for programs.

Without an option it is the table, in a pipe too: what a person has seen is what `grep` gets, as
with `git` and `ps`. There it has no colours and nothing is cut or left out. Programs that want
values ask for ``--json``, ``--nl``, ``--csv`` or ``--tsv``, whose fields keep their names, in
UTF-8.

Tables fit the terminal, and are written while their rows still come. Widths are those of the first
rows. On a terminal, columns are cut, and then left out, until a line fits; elsewhere nothing is cut
or left out, and a cell that is wider than those before it moves the rest of its line.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import update_wrapper
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from journal.cli.output import (
    clean,
    colored,
    cut,
    echo_json,
    echo_json_list,
    pad,
    terminal_width,
    use_color,
    width_of,
)
from journal.text import as_text, csv_liner, tsv_cell, tsv_line

LOOK_AHEAD = 100  # rows, that decide on the widths
_GAP = "  "


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a listing's records, a column of its table, or both.

    ``name`` is what programs know it by; empty: it is only in the table. ``value`` takes it out of
    a record, as JSON has it. ``title`` heads the column; empty: there is none. ``text`` is what
    the table shows, by default the value as text; ``right`` aligns it as numbers are, ``status`` is
    for a status, which has a colour. It may be cut to ``least`` cells (0: it is never cut), and
    rows that are yet to come may need ``wide``. The column of the highest ``rank`` is left out
    first on a narrow terminal; that of rank 0 never is.
    """

    name: str = ""
    value: Callable[[Any], Any] = lambda record: record
    title: str = ""
    text: Callable[[Any], str] | None = None
    right: bool = False
    least: int = 0
    wide: int = 0
    rank: int = 0
    status: bool = False


def write_table(
    fields: Sequence[Field],
    lines: Iterable[list[str]],
    *,
    width: int | None,
    color: bool,
    look_ahead: int | None = LOOK_AHEAD,
) -> None:
    """Write a header and a line for each of ``lines``; nothing if there are none.

    ``width`` in cells of a terminal; None for no bound. The first ``look_ahead`` lines are held
    back until there are as many, or no more (None: all of them).
    """
    fields = [msgspec.structs.replace(field, title=clean(field.title)) for field in fields]
    rest = iter(lines)
    first = [list(map(clean, line)) for line in itertools.islice(rest, look_ahead)]
    if not first and look_ahead != 0:
        return
    natural = [
        max([width_of(field.title), field.wide, *(width_of(line[place]) for line in first)])
        for place, field in enumerate(fields)
    ]
    widths = _fit(fields, natural, width)
    write = sys.stdout.write
    write(_line(fields, [field.title for field in fields], widths, width, color=False))
    for line in first:
        write(_line(fields, line, widths, width, color))
    for line in rest:
        write(_line(fields, list(map(clean, line)), widths, width, color))


def _line(
    fields: Sequence[Field],
    cells: Sequence[str],
    widths: dict[int, int],
    bound: int | None,
    color: bool,
) -> str:
    parts = []
    last = next(reversed(widths))  # which may be very long in one of the lines
    for place, width in widths.items():
        field = fields[place]
        text = cells[place]
        if bound is not None and field.least:
            text = cut(text, width)
        padded = pad(text, width, right=field.right) if place != last or field.right else text
        if color and field.status and text:
            padded = padded.replace(text, colored(text, text))
        parts.append(padded)
    return _GAP.join(parts).rstrip(" ") + "\n"


def _fit(fields: Sequence[Field], natural: list[int], bound: int | None) -> dict[int, int]:
    """The places of the columns that are shown, in their order, and their widths."""
    shown = list(range(len(fields)))
    if bound is None:
        return {place: natural[place] for place in shown}
    natural = natural[:]
    if not fields[-1].least and not fields[-1].rank:
        natural[-1] = len(fields[-1].title)  # it is shown whole, and may run over the edge

    def least(place: int) -> int:
        smallest = fields[place].least
        return min(smallest, natural[place]) if smallest else natural[place]

    def needed() -> int:
        return sum(map(least, shown)) + len(_GAP) * (len(shown) - 1)

    while needed() > bound:
        place = max(shown, key=lambda place: (fields[place].rank, place))
        if not fields[place].rank:
            break  # the rest is what nobody can do without: let the terminal wrap it
        shown.remove(place)
    widths = {place: least(place) for place in shown}
    spare = max(0, bound - needed())
    # Those that need little get it; the others share alike.
    wanting = sorted(shown, key=lambda place: natural[place] - widths[place])
    for rank, place in enumerate(wanting):
        more = min(natural[place] - widths[place], spare // (len(wanting) - rank))
        widths[place] += more
        spare -= more
    return widths


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
