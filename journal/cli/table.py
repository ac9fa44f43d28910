"""Tables that fit the terminal, and are written while their rows still come.

Widths are those of the first rows. On a terminal, columns are cut, and then left out, until a line
fits; elsewhere nothing is cut or left out, and a cell that is wider than those before it moves
the rest of its line.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from journal.cli.output import clean, colored, cut, pad, width_of

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
