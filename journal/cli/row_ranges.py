"""Row numbers on the command line, such as ``5,12-40``."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import click

from journal.cli.exit_codes import Refused
from journal.cli.output import first_of
from journal.fs import shell
from journal.ids import MAX_ROW_NUMBER
from journal.model import JobRow

_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_MAX_NAMED = 5  # missing ranges that a message names
_SLICE = 256  # rows read at a time


class RowNumber(click.IntRange):
    """The number of one row. If the value is other text, the message says how to find the row."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            find = f"journal rows JOB --where {shell.quote(f'COLUMN={value}')}"
            self.fail(f"{value!r} is not a row number; to find a row by its data: {find}", param)
        return super().convert(value, param, ctx)


def parse_rows(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[range] | None:
    """A click callback for a repeatable option with values such as ``5,12-40``."""
    try:
        return row_ranges(",".join(values)) if values else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def row_ranges(text: str) -> list[range]:
    """Parse text such as ``5,12-40`` to ranges in ascending order. Adjacent ranges are merged.

    Raises ValueError, whose message quotes the invalid part of the text.
    """
    found = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part!r} is neither a row number nor a range such as 12-40")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 1 or last > MAX_ROW_NUMBER:
            raise ValueError(f"{part!r}: rows are numbered from 1 to 2**63-1")
        if first > last:
            raise ValueError(f"{part!r} is reversed: give {last}-{first}")
        found.append(range(first, last + 1))
    found.sort(key=lambda numbers: numbers.start)
    ranges = [found[0]]
    for numbers in found[1:]:
        if numbers.start <= ranges[-1].stop:
            ranges[-1] = range(ranges[-1].start, max(ranges[-1].stop, numbers.stop))
        else:
            ranges.append(numbers)
    return ranges


def rows_of(job_id: str, rows: Sequence[JobRow], ranges: list[range]) -> Iterator[JobRow]:
    """Yield the rows of a job in ``ranges``. Raises Refused if a row in ``ranges`` doesn't exist.

    All numbers are checked before the first row is yielded. The check reads only a few rows.
    """
    refusal = missing_rows(job_id, rows, ranges)
    if refusal is not None:
        raise Refused(f"{refusal}; nothing was changed")
    return rows_within(rows, ranges)


def rows_within(rows: Sequence[JobRow], ranges: list[range]) -> Iterator[JobRow]:
    """The existing rows in ``ranges``."""
    for numbers in ranges:
        places = _places(rows, numbers)
        for start in range(places.start, places.stop, _SLICE):
            yield from rows[start : min(start + _SLICE, places.stop)]


def missing_rows(job_id: str, rows: Sequence[JobRow], ranges: list[range]) -> str | None:
    """A message with the numbers in ``ranges`` that no row has; None if all of these rows exist."""
    missing: list[str] = []
    for numbers in ranges:
        places = _places(rows, numbers)
        if len(places) < len(numbers) and len(missing) <= _MAX_NAMED:
            missing += _gaps(rows, numbers, places)
    if not missing:
        return None
    there = (
        f"its rows are {rows[0].row_number} to {rows[-1].row_number}" if rows else "it has no rows"
    )
    return f"job {job_id} has no row {first_of(missing, _MAX_NAMED)}: {there}"


def _places(rows: Sequence[JobRow], numbers: range) -> range:
    """The positions in ``rows`` of the rows with these numbers."""
    begin = _place(rows, numbers.start, 0)
    return range(begin, _place(rows, numbers.stop, begin))


def _place(rows: Sequence[JobRow], number: int, lowest: int) -> int:
    """Return the position of row ``number`` in ``rows``.

    If there is no such row, returns the position where it would be.
    """
    return bisect_left(rows, number, lo=lowest, key=lambda row: row.row_number)


def _gaps(rows: Sequence[JobRow], numbers: range, places: range) -> list[str]:
    """Return the first few ranges of ``numbers`` that belong to none of the rows at ``places``."""
    gaps: list[str] = []
    number, place = numbers.start, places.start
    while number < numbers.stop and len(gaps) <= _MAX_NAMED:
        # Row numbers are in ascending order. So if numbers and positions grow by the same amount,
        # no row is missing.
        run = bisect_left(
            range(place, places.stop), number - place + 1, key=lambda at: rows[at].row_number - at
        )
        number, place = number + run, place + run
        after = rows[place].row_number if place < places.stop else numbers.stop
        if number < after:
            gaps.append(f"{number}-{after - 1}" if number < after - 1 else f"{number}")
        number = after
    return gaps
