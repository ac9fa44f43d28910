"""Rows that need somebody to look at them, by what went wrong: bounded however many there are."""

from __future__ import annotations

from collections.abc import Iterable

from journal.model import JobRow

MAX_GROUPS = 100
MAX_RANGES = 40


class ErrorGroup:
    """Rows of one status and error code: how many, the first as example, and which.

    ``ranges`` are at most MAX_RANGES; ``further`` counts the rows behind them.
    """

    def __init__(self, first: JobRow) -> None:
        self.status = first.status.value
        self.code = first.error_code
        self.example = first
        self.count = 0
        self.ranges: list[range] = []
        self.further = 0

    def add(self, number: int) -> None:
        self.count += 1
        ranges = self.ranges
        if ranges and number == ranges[-1].stop and not self.further:
            ranges[-1] = range(ranges[-1].start, number + 1)
        elif len(ranges) < MAX_RANGES:
            ranges.append(range(number, number + 1))
        else:
            self.further += 1


def group_errors(rows: Iterable[JobRow]) -> tuple[list[ErrorGroup], int]:
    """The groups of ``rows``, which ascend, largest first; and how many rows are in none of them.

    For there are MAX_GROUPS at most, of the codes that come first.
    """
    groups: dict[tuple[str, str | None], ErrorGroup] = {}
    ungrouped = 0
    for row in rows:
        key = (row.status.value, row.error_code)
        group = groups.get(key)
        if group is None:
            if len(groups) == MAX_GROUPS:
                ungrouped += 1
                continue
            group = groups[key] = ErrorGroup(row)
        group.add(row.row_number)
    return sorted(groups.values(), key=lambda group: -group.count), ungrouped


def ranges_text(ranges: Iterable[range]) -> str:
    """As on the command line: ``5, 12-14``."""
    return ", ".join(f"{r.start}" if len(r) == 1 else f"{r.start}-{r.stop - 1}" for r in ranges)
