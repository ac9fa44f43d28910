"""Writes listings: tables for people, and JSON and CSV for programs.

The table is the default. In a pipe, too, the table is the default, so `grep` gets the text that a
person sees (as with `git` and `ps`). In a pipe, the table has no colours and is never cut. The
other formats use the names of the fields as keys or header, and are written in UTF-8.

The writing of a table begins before all rows are known. So the first rows decide the widths of the
columns. On a terminal, lines are cut at the edge, and columns between the first and the last are
cut to a third of the terminal. Elsewhere, a cell that is wider than its column moves the rest of
the line to the right.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import update_wrapper
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click
import msgspec

from journal.cli.output import (
    colored,
    cut,
    echo_err,
    echo_json,
    echo_json_list,
    pad,
    terminal_width,
    use_color,
    width_of,
)
from journal.cli.shared_options import Option, option
from journal.model import RowStatus
from journal.text import as_text, csv_liner, escaped, shorten

if TYPE_CHECKING:
    from journal.history.error_groups import ErrorGroup

LOOK_AHEAD = 100  # rows whose cells decide the widths
_GAP = "  "
_UNBOUND = 1 << 40  # the width of what isn't a terminal
MAX_RANGES = 8  # the maximum number of ranges in a line


class Field(msgspec.Struct, frozen=True):
    """A field of a listing's records, a column of its table, or both.

    - ``name``: the key or header in the formats for programs. If it is empty, only the table has
      the field.
    - ``title``: the header in the table. If it is empty, only the other formats have the field.
    - ``value``: a function from a record to the value. Default: the record's attribute ``name``.
    - ``text``: a function from a record to the table's cell. Default: the value as text.
    - ``right``: whether the column is aligned to the right, as numbers are.
    - ``wide``: the minimum width of the column. This leaves room for wider cells in later rows.
    - ``whole``: the cell is never cut. Only for the last column.
    - ``status``: the cell is a status, and gets the status's colour.
    """

    name: str = ""
    title: str = ""
    value: Callable[[Any], Any] | None = None
    text: Callable[[Any], str] | None = None
    right: bool = False
    wide: int = 0
    whole: bool = False
    status: bool = False

    def get(self) -> Callable[[Any], Any]:
        return self.value or attrgetter(self.name)

    def cell(self) -> Callable[[Any], str]:
        if self.text is not None:
            return self.text
        get = self.get()
        return lambda record: as_text(get(record))


def _echo_table(
    fields: Sequence[Field], lines: Iterable[list[str]], look_ahead: int | None
) -> None:
    """Write a header and ``lines`` as a table. Without lines, nothing is written.

    The first ``look_ahead`` lines (None: all) decide the widths of the columns.
    """
    bound, in_color = terminal_width() or _UNBOUND, use_color()
    titles = [escaped(field.title) for field in fields]
    rest = (list(map(escaped, line)) for line in lines)
    first = list(itertools.islice(rest, look_ahead))
    if not first and look_ahead != 0:
        return
    last = len(fields) - 1
    most = [bound if place in (0, last) else bound // 3 for place in range(len(fields))]
    widths = [
        min(
            max([width_of(titles[place]), field.wide, *(width_of(line[place]) for line in first)]),
            most[place],
        )
        for place, field in enumerate(fields)
    ]

    def write(cells: Sequence[str], *, color: bool) -> None:
        parts, room = [], bound
        for place, (field, width, text) in enumerate(zip(fields, widths, cells, strict=True)):
            if room <= 0 and not field.whole:
                break
            if bound != _UNBOUND and not field.whole:
                text = cut(text, min(room, most[place] if place == last else width))  # noqa: PLW2901
            # the last cell isn't padded, because another line may be very long
            is_padded = place != last or field.right
            padded = pad(text, min(width, room), right=field.right) if is_padded else text
            if color and field.status and text:
                padded = padded.replace(text, colored(text, text))
            parts.append(padded)
            room -= width + len(_GAP)
        sys.stdout.write(_GAP.join(parts).rstrip(" ") + "\n")

    write(titles, color=False)
    for line in itertools.chain(first, rest):
        write(line, color=in_color)


_FORMATS = {
    "json": "Print one JSON array.",
    "nl": "Print one JSON object per line.",
    "csv": "Print CSV with a header.",
}


def limit_option(what: str, short: str = "", default: str | None = None) -> Option:
    """The option ``--limit N|all``, and its short name such as ``-n``.

    The command gets a number, or None for ``all``.
    """
    words = f"{short} --limit N|all"
    return option(words, what, _parse_limit, default=default)


def _parse_limit(value: str) -> int | None:
    if value == "all":
        return None
    if not (value.isascii() and value.isdecimal()):
        raise ValueError(f"{value!r} is not a whole number from 0, and not 'all'")
    digits = value.lstrip("0") or "0"
    return int(digits) if len(digits) < 19 else None  # more rows than a job can have


def listing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json --nl --csv`` to a command.

    The command gets the name of the format as ``output``. Without an option, ``output`` is "table".
    """

    def with_format(**given: Any) -> Any:
        names = [name for name in _FORMATS if given.pop(name)] or ["table"]
        if len(names) > 1:
            only = " and ".join(f"--{name}" for name in names)
            raise click.UsageError(f"give only one of {only}")
        return command(**given, output=names[0])

    wrapped: Callable[..., Any] = update_wrapper(with_format, command)
    for name, text in reversed(_FORMATS.items()):
        wrapped = option(f"--{name}", text)(wrapped)
    return wrapped


def echo_rows(
    output: str,
    fields: Sequence[Field],
    records: Iterable[Any],
    *,
    none: str,
    look_ahead: int | None = LOOK_AHEAD,
) -> None:
    """Write the records to standard output one by one, in constant memory.

    ``none``: the line to write to standard error if there are no records, such as "j: 0 rows". ""
    means that nothing is written.

    The first ``look_ahead`` rows of a table (None: all) decide the widths of the columns. If the
    iterator waits between records, it must call ``sys.stdout.flush()`` before it waits.
    """
    named = [field for field in fields if field.name]
    records = _seen(records, none)
    if output == "csv":
        _echo_csv(named, records)
    elif output == "table":
        columns = [field for field in fields if field.title]
        cells = [field.cell() for field in columns]
        lines = ([cell(record) for cell in cells] for record in records)
        _echo_table(columns, lines, look_ahead)
    else:
        getters = [(field.name, field.get()) for field in named]
        objects = ({name: get(record) for name, get in getters} for record in records)
        if output == "json":
            echo_json_list(objects)
            return
        for each in objects:
            echo_json(each)


def _seen(records: Iterable[Any], none: str) -> Iterator[Any]:
    record = nothing = object()
    for record in records:
        yield record
    if record is nothing and none:
        echo_err(none)


def _echo_csv(fields: Sequence[Field], records: Iterable[Any]) -> None:
    # data must not contain control characters for the terminal
    show = escaped if sys.stdout.isatty() else str
    line_of, write = csv_liner(), sys.stdout.buffer.write
    write(line_of([show(field.name) for field in fields]))
    getters = [field.get() for field in fields]
    for record in records:
        write(line_of([show(as_text(get(record))) for get in getters]))


# --- lines with names, as `journal show` writes them


def named_once(name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    """A line for each value. Only the first line has the name."""
    for value in values:
        yield name, value
        name = ""


def next_lines(advice: Iterable[tuple[str, str]], width: int | None) -> Iterator[str]:
    """The lines of commands to paste. Each command comes after its purpose."""
    for pasted, why in advice:
        for line in textwrap.wrap(why, width - 14, break_on_hyphens=False) if width else [why]:
            yield f"# {line}"
        if pasted:
            yield pasted


def group_text(group: ErrorGroup) -> str:
    code = shorten(group.code or "no code", 60)
    review = " (review)" if group.status == RowStatus.NEEDS_REVIEW else ""
    rows = group.numbers.words(MAX_RANGES)
    return f"{group.count} x {code}{review}: {rows}: {example_text(group, 200)}"


def example_text(group: ErrorGroup, limit: int) -> str:
    """The messages of a group, and the place in the code that raised the first of these errors.

    Each message is cut to ``limit`` characters.
    """
    messages = [(shorten(text, limit), count) for text, count in group.messages()]
    message = messages[0][0]
    if len(messages) > 1:
        message = "; ".join(f"{count} x {text}" for text, count in messages)
    return f"{message} ({group.where})" if group.where else message
