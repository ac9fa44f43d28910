"""Tables that fit the terminal, and are written while their rows still come.

Widths are those of the first rows. On a terminal, columns are cut, and then left out, until a line
fits; elsewhere nothing is cut or left out, and a cell that is wider than those before it moves
the rest of its line.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from journal.cli.output import clean, colored, cut, pad, width_of

LOOK_AHEAD = 100  # rows, that decide on the widths
_GAP = "  "


class Heading(Protocol):
    """What a table must know of a column."""

    @property
    def title(self) -> str: ...
    @property
    def right(self) -> bool:
        """Aligned to the right, as numbers are."""

    @property
    def least(self) -> int:
        """The width to which it may be cut; 0: it is never cut."""

    @property
    def wide(self) -> int:
        """The width that rows which are yet to come may need."""

    @property
    def rank(self) -> int:
        """The column of the highest rank is left out first; that of rank 0 never is."""

    @property
    def status(self) -> bool:
        """Whether its text is a status, which has a colour."""


def write_table(
    headings: Sequence[Heading],
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
    rest = iter(lines)
    first = [list(map(clean, line)) for line in itertools.islice(rest, look_ahead)]
    if not first and look_ahead != 0:
        return
    natural = [
        max([width_of(heading.title), heading.wide, *(width_of(line[place]) for line in first)])
        for place, heading in enumerate(headings)
    ]
    widths = _fit(headings, natural, width)
    write = sys.stdout.write
    write(_line(headings, [heading.title for heading in headings], widths, width, color=False))
    for line in first:
        write(_line(headings, line, widths, width, color))
    for line in rest:
        write(_line(headings, list(map(clean, line)), widths, width, color))


def _line(
    headings: Sequence[Heading],
    cells: Sequence[str],
    widths: dict[int, int],
    bound: int | None,
    color: bool,
) -> str:
    parts = []
    for place, width in widths.items():
        heading = headings[place]
        text = cells[place]
        if bound is not None and heading.least:
            text = cut(text, width)
        padded = pad(text, width, right=heading.right)
        if color and heading.status and text:
            padded = padded.replace(text, colored(text, text))
        parts.append(padded)
    return _GAP.join(parts).rstrip(" ") + "\n"


def _fit(headings: Sequence[Heading], natural: list[int], bound: int | None) -> dict[int, int]:
    """The places of the columns that are shown, in their order, and their widths."""
    shown = list(range(len(headings)))
    if bound is None:
        return {place: natural[place] for place in shown}
    natural = natural[:]
    if not headings[-1].least and not headings[-1].rank:
        natural[-1] = len(headings[-1].title)  # it is shown whole, and may run over the edge

    def least(place: int) -> int:
        smallest = headings[place].least
        return min(smallest, natural[place]) if smallest else natural[place]

    def needed() -> int:
        return sum(map(least, shown)) + len(_GAP) * (len(shown) - 1)

    while needed() > bound:
        place = max(shown, key=lambda place: (headings[place].rank, place))
        if not headings[place].rank:
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
