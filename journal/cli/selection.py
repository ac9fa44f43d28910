"""Which rows a command shows or changes: ``--row --status --error-code --where --version``.

:data:`VERBS` says which rows each command that changes rows may change.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

import click

from journal.cli.conditions import Where, where_option
from journal.errors import RefusedError
from journal.fs import shell
from journal.history.error_groups import Numbers
from journal.ids import MAX_ROW_NUMBER
from journal.model import JobRow, RowStatus
from journal.service import JobService
from journal.text import counted

_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_SLICE = 256  # rows read at a time
_READS_STDIN = "journal.row_numbers"  # in the context of a command


class Verb(NamedTuple):
    """The statuses of the rows that a command may change.

    ``named``: rows that ``--row`` or ``--status`` names. ``found``: rows that are found otherwise.
    """

    named: tuple[RowStatus, ...]
    found: tuple[RowStatus, ...]


_ENDED = tuple(status for status in RowStatus if status.is_ended)
_REVIEW, _FLIGHT = RowStatus.NEEDS_REVIEW, RowStatus.PROCESSING
_OPEN = (RowStatus.PENDING, RowStatus.FAILED)
VERBS = {
    "retry": Verb((RowStatus.FAILED, RowStatus.SKIPPED), (RowStatus.FAILED,)),
    "redo": Verb((*_ENDED, _REVIEW), _ENDED),
    "skip": Verb((*_OPEN, _REVIEW), _OPEN),
    "resolve": Verb((_REVIEW, _FLIGHT), (_REVIEW,)),
    "resolve --step": Verb((_REVIEW, _FLIGHT, RowStatus.FAILED), (_REVIEW, RowStatus.FAILED)),
}


class Selection(NamedTuple):
    """The options by which a command chooses rows. A chosen row meets all of them."""

    ranges: list[range] | None = None
    statuses: tuple[RowStatus, ...] = ()
    error_codes: tuple[str, ...] = ()
    where: Where = Where()
    version: str | None = None

    @property
    def is_empty(self) -> bool:
        return self.ranges is None and not self.statuses and not self._narrows

    @property
    def _narrows(self) -> bool:
        return bool(self.where or self.error_codes) or self.version is not None

    def holds(self, row: JobRow) -> bool:
        """Return whether a run may process a row, whose status allows it."""
        if self.ranges is not None:
            number = row.row_number
            at = bisect_right(self.ranges, number, key=lambda numbers: numbers.start)
            if not at or number not in self.ranges[at - 1]:
                return False
        return self.matches(row)

    def matches(self, row: JobRow) -> bool:
        """Return whether a row meets all options except ``--row`` and ``--status``."""
        return (
            (not self.error_codes or row.error_code in self.error_codes)
            and self.version in (None, row.version)
            and self.where.holds(row)
        )

    def shown(
        self, service: JobService, job_id: str, among: Sequence[RowStatus] = tuple(RowStatus)
    ) -> Iterator[JobRow]:
        """The chosen rows of a listing. ``among``: the statuses that they may have."""
        statuses = [status for status in among if status in (self.statuses or among)]
        if self.error_codes:  # no completed row has one
            statuses = [status for status in statuses if status is not RowStatus.COMPLETED]
        rows = service.get_rows(job_id, statuses if len(statuses) < len(RowStatus) else None)
        return filter(self.matches, rows if self.ranges is None else rows_within(rows, self.ranges))

    def rows(self, service: JobService, job_id: str, verb: Verb) -> Iterator[JobRow]:
        """The chosen rows whose status allows a change.

        Raises RefusedError if ``--row`` names a row that doesn't exist, if ``--status`` names a status
        that doesn't allow the change, and if ``--row`` is the only option and names a row whose
        status doesn't allow it.
        """
        wrong = [status for status in self.statuses if status not in verb.named]
        if wrong:
            allowed = " or ".join(verb.named)
            raise RefusedError(f"rows must be {allowed}, not {wrong[0]}; no row was changed")
        if self.ranges is None:
            yield from self.shown(service, job_id, self.statuses or verb.found)
            return
        statuses = self.statuses or verb.named
        rows = rows_of(job_id, service.get_rows(job_id), self.ranges)
        for row in rows:
            if row.status in statuses:
                if self.matches(row):
                    yield row
            elif not self.statuses and not self._narrows:
                others = (each.row_number for each in rows if each.status not in statuses)
                numbers = Numbers([row.row_number, *others])
                raise RefusedError(
                    f"row {row.id} is {row.status}, not {' or '.join(statuses)}; no row was changed"
                    + (f"; leave out rows {numbers.text(', ')}" if numbers.count > 1 else "")
                    + (
                        f"; if its run has died: `journal resolve {job_id}`"
                        if row.status is RowStatus.PROCESSING
                        else ""
                    )
                )

    def codes_text(self, job_id: str) -> str:
        """The error codes that no row has, and how to find those that rows have."""
        codes = f"code {' or '.join(map(repr, self.error_codes))}"
        if any("," in code for code in self.error_codes):
            codes += "; for several codes, repeat --error-code"
        return f"{codes}: `journal errors {job_id}` lists the codes"

    def why_none(self, job_id: str) -> list[str]:
        """Messages that explain why no row was chosen."""
        which = "row" if self.ranges is None else "row of these"
        if self.error_codes and not self.where and self.version is None:
            return [f"no {which} failed with {self.codes_text(job_id)}"]
        none = [f"no {which} matches and has a status that allows this"]
        return (self.where.absent() or none) + self.where.without_number()


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose rows to a command, and pass it a Selection as ``selection``."""

    @rows_option("Only these rows")
    @statuses_option
    @click.option(
        "--error-code",
        "error_codes",
        metavar="CODE",
        multiple=True,
        help="Only rows with this error code. Repeatable.",
    )
    @where_option("Only rows")
    @click.option(
        "--version", metavar="V", help="Only rows whose outcome is from a run with this --version."
    )
    @wraps(command)
    def with_selection(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in Selection._fields}
        return command(**given, selection=Selection(**chosen))

    return with_selection


def rows_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--row ROWS``. The command gets ``ranges``, or None if the option isn't given."""
    return click.option(
        "--row",
        "ranges",
        metavar="ROWS",
        multiple=True,
        callback=_parse_rows,
        help=f"{what}, such as 5,12-40. - reads the numbers from standard input. Repeatable.",
    )


def _parse_rows(
    ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[range] | None:
    ctx.meta[_READS_STDIN] = "-" in values
    texts = [_numbers_read() if value == "-" else value for value in values]
    try:
        return row_ranges(",".join(texts)) if values else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def has_read_numbers(ctx: click.Context) -> bool:
    """Whether ``--row -`` has read standard input."""
    return bool(ctx.meta.get(_READS_STDIN))


def _numbers_read() -> str:
    """The row numbers on standard input, such as the column ``row_number`` of a listing."""
    words = sys.stdin.read().replace(",", " ").split()
    if not words or words == ["row_number"]:
        raise click.BadParameter("there are no row numbers on standard input")
    return ",".join(words[words[0] == "row_number" :])


def _parse_statuses(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[RowStatus, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in list(RowStatus):
            raise click.BadParameter(f"{name!r} is not one of {', '.join(RowStatus)}")
    return tuple(map(RowStatus, names))


statuses_option = click.option(
    "--status",
    "statuses",
    metavar="STATUS,...",
    multiple=True,
    callback=_parse_statuses,
    help=f"Only rows of these statuses: {', '.join(RowStatus)}. Repeatable.",
)


class RowNumber(click.IntRange):
    """The number of one row. If the value is other text, the message says how to find the row."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            int(value)
        except ValueError:
            find = f"journal rows JOB --where {shell.quote(f'COLUMN={value}')}"
            self.fail(f"{value!r} is not a row number; to find a row by its data: {find}", param)
        return super().convert(value, param, ctx)


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


def numbers_text(ranges: list[range]) -> str:
    """The ranges as text for ``--row``."""
    return ",".join(f"{numbers.start}-{numbers.stop - 1}" for numbers in ranges)


def rows_of(job_id: str, rows: Sequence[JobRow], ranges: list[range]) -> Iterator[JobRow]:
    """Yield the rows of a job in ``ranges``. Raises RefusedError if a row in ``ranges`` doesn't exist.

    All numbers are checked before the first row is yielded. The check reads only a few rows.
    """
    refusal = missing_rows(job_id, rows, ranges)
    if refusal is not None:
        raise RefusedError(f"{refusal}; nothing was changed")
    return rows_within(rows, ranges)


def rows_within(rows: Sequence[JobRow], ranges: list[range]) -> Iterator[JobRow]:
    """The existing rows in ``ranges``."""
    for numbers in ranges:
        places = _places(rows, numbers)
        for start in range(places.start, places.stop, _SLICE):
            yield from rows[start : min(start + _SLICE, places.stop)]


def missing_rows(job_id: str, rows: Sequence[JobRow], ranges: list[range]) -> str | None:
    """A message with the first number in ``ranges`` that no row has; None if all have one."""
    found = [_places(rows, numbers) for numbers in ranges]
    missing = sum(map(len, ranges)) - sum(map(len, found))
    if not missing:
        return None
    pairs = zip(ranges, found, strict=True)
    numbers, places = next(pair for pair in pairs if len(pair[0]) > len(pair[1]))
    # Row numbers are in ascending order. So if numbers and positions grow by the same amount, no
    # row is missing.
    begin = numbers.start - places.start
    first = bisect_left(places, begin + 1, key=lambda at: rows[at].row_number - at) + numbers.start
    others = f" (and {counted(missing - 1, 'other|others')})" if missing > 1 else ""
    there = (
        f"its rows are {rows[0].row_number} to {rows[-1].row_number}" if rows else "it has no rows"
    )
    return f"job {job_id} has no row {first}{others}: {there}"


def _places(rows: Sequence[JobRow], numbers: range) -> range:
    """The positions in ``rows`` of the rows with these numbers."""
    begin, end = (
        bisect_left(rows, number, key=lambda row: row.row_number)
        for number in (numbers.start, numbers.stop)
    )
    return range(begin, end)
