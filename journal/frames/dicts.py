"""Makes dicts of rows, row by row. Needs no other library."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from journal.frames.collect import Options, Side, resolve
from journal.frames.columns import EMPTY, JOURNAL_COLUMNS
from journal.history.durations import LastAttempts
from journal.history.reading import History
from journal.model import JobRow
from journal.store.rows import RowSequence

Part = TypeVar("Part")

_CHUNK_ROWS = 1024
_TIMES = ("started_at", "duration_s")


def dicts_of(rows: RowSequence, history: History, options: Options) -> list[dict[str, Any]]:
    """Make dicts of the rows. ``history`` must end at the last commit that ``rows`` contains."""
    side: Side[list[Any]] = read_row_by_row(rows, history, options, list)
    chosen = resolve(options, side)
    found: list[dict[str, Any]] = []
    for chunk, count in enumerate(side.counts):
        columns = []
        for key in chosen.values():
            empty = None if key is None or not key.own else EMPTY.get(key.path[0])
            none = [empty] * count
            columns.append(side.parts.get(key, {}).get(chunk, none) if key else none)
        names = tuple(chosen)
        found += (
            [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
            if names
            else [{} for _ in range(count)]
        )
    return found


def read_row_by_row(
    rows: RowSequence, history: History, options: Options, part: Callable[[Any], Part]
) -> Side[Part]:
    """Read all rows into one :class:`Side`, with the columns of the data and of the journal."""
    side: Side[Part] = Side(options, part)
    needed = [name for name in JOURNAL_COLUMNS if options.needs(name)]
    attempts = None
    if not set(_TIMES).isdisjoint(needed):
        attempts = LastAttempts(history.entries())
    for begin in range(0, len(rows), _CHUNK_ROWS):
        some = rows[begin : begin + _CHUNK_ROWS]
        own: dict[str, Any] = {}
        for name in needed:
            if name in _TIMES:
                assert attempts is not None
                at = _TIMES.index(name)
                own[name] = [attempts.of(row)[at] for row in some]
            else:
                own[name] = list(map(_GET[name], some))
        side.add(len(some), own, [row.data for row in some])
    return side


def _status(row: JobRow) -> str:
    return row.status.value  # plain text, since other libraries don't know the enum


_GET: dict[str, Callable[[JobRow], Any]] = {name: attrgetter(name) for name in JOURNAL_COLUMNS}
_GET["status"] = _status
