"""Which rows a command shows or changes: ``--row --status --error-code --where --version``."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

import click

from journal.cli.conditions import Where, where_option
from journal.cli.find import did_you_mean
from journal.cli.shared_options import option
from journal.fs import shell
from journal.model import JobRow, RowStatus
from journal.service import JobService
from journal.verbs import Verb, chosen_rows, row_ranges, rows_within

_READS_STDIN = "journal.row_numbers"  # in the context of a command


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
        """The chosen rows whose status allows a change: see :func:`chosen_rows`."""
        matches = self.matches if self._narrows else None
        return chosen_rows(service, job_id, verb, self.ranges, self.statuses, matches)

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
        return self.where.unmet() or [f"no {which} matches and has a status that allows this"]


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose rows to a command, and pass it a Selection as ``selection``."""

    @rows_option("Only these rows")
    @statuses_option
    @option(
        "--error-code CODE error_codes",
        "Only rows with this error code. Repeatable.",
        multiple=True,
    )
    @where_option("Only rows")
    @option("--version V", "Only rows whose outcome is from a run with this --version.")
    @wraps(command)
    def with_selection(**given: Any) -> Any:
        chosen = {name: given.pop(name) for name in Selection._fields}
        return command(**given, selection=Selection(**chosen))

    return with_selection


def rows_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--row ROWS``. The command gets ``ranges``, or None if the option isn't given."""
    return option(
        "--row ROWS ranges",
        f"{what}, such as 5,12-40. - reads the numbers from standard input. Repeatable.",
        _parse_rows,
        multiple=True,
    )


def _parse_rows(values: tuple[str, ...]) -> list[range] | None:
    click.get_current_context().meta[_READS_STDIN] = "-" in values
    texts = [_numbers_read() if value == "-" else value for value in values]
    return row_ranges(",".join(texts)) if values else None


def has_read_numbers(ctx: click.Context) -> bool:
    """Whether ``--row -`` has read standard input."""
    return bool(ctx.meta.get(_READS_STDIN))


def _numbers_read() -> str:
    """The row numbers on standard input, such as the column ``row_number`` of a listing."""
    words = sys.stdin.read().replace(",", " ").split()
    if not words or words == ["row_number"]:
        raise ValueError("there are no row numbers on standard input")
    return ",".join(words[words[0] == "row_number" :])


def _parse_statuses(values: tuple[str, ...]) -> tuple[RowStatus, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    for name in names:
        if name not in list(RowStatus):
            close = did_you_mean(name, RowStatus)
            raise ValueError("; ".join([f"{name!r} is not one of {', '.join(RowStatus)}", *close]))
    return tuple(map(RowStatus, names))


statuses_option = option(
    "--status STATUS,... statuses",
    f"Only rows of these statuses: {', '.join(RowStatus)}. Repeatable.",
    _parse_statuses,
    multiple=True,
)


def parse_row_number(value: str) -> int:
    """Parse the number of one row. If the value is other text, the error says how to find the row."""
    if not value.isdecimal() or not int(value):
        find = f"journal rows JOB --where {shell.quote(f'COLUMN={value}')}"
        raise ValueError(f"{value!r} is not a row number; to find a row by its data: {find}")
    return int(value)


def numbers_text(ranges: list[range]) -> str:
    """The ranges as text for ``--row``."""
    return ",".join(f"{numbers.start}-{numbers.stop - 1}" for numbers in ranges)
