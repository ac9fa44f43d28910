"""Rows in groups by what went wrong with them, and row numbers as ranges."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from journal.format.records import RowStatusRecord
from journal.history.durations import Outcomes
from journal.history.reading import Entry
from journal.history.redact import redacted_members
from journal.model import JobRow


class Numbers:
    """Ascending row numbers as ranges: 16 bytes for each, however many rows are in it.

    ``is_cut``: there are more of these rows, which were not read.
    """

    __slots__ = ("_firsts", "_lasts", "count", "is_cut")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.count = 0
        self.is_cut = False
        self._firsts = array("Q")
        self._lasts = array("Q")
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        self.count += 1
        if self._lasts and self._lasts[-1] == number - 1:
            self._lasts[-1] = number
        else:
            self._firsts.append(number)
            self._lasts.append(number)

    @property
    def first(self) -> int:
        """The lowest of them; there must be one."""
        return self._firsts[0]

    def text(self, separator: str = ",", at_most: int | None = None) -> str:
        """``5,12,34-47``, as ``--row`` takes it; with an ellipsis, which it doesn't take, if these
        aren't all.

        That is so behind the first ``at_most`` ranges, and if the numbers are cut.
        """
        pairs = zip(self._firsts[:at_most], self._lasts, strict=False)
        text = separator.join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)
        return text + separator + "..." if not self.is_shown_by(at_most) else text

    def is_shown_by(self, at_most: int | None) -> bool:
        """Whether ``at_most`` ranges (None: any number) name all of the rows."""
        return not self.is_cut and (at_most is None or len(self._firsts) <= at_most)


_KEPT_CHARACTERS = 1000  # of a message, which may be large, in each of very many groups


class ErrorGroup:
    """The rows of one status with one error code: their numbers, and what the first of them says.

    Of attempts, ``status`` may be "repeated", ``count`` is how many there were, and ``numbers`` are
    of their rows. Of a long ``message`` it holds the beginning, with an ellipsis.
    """

    __slots__ = ("code", "count", "message", "numbers", "status")

    def __init__(self, status: str, code: str | None, message: str | None) -> None:
        self.status = status
        self.code = code or ""
        self.message = message or ""
        if len(self.message) > _KEPT_CHARACTERS:
            self.message = self.message[: _KEPT_CHARACTERS - 1] + "…"
        self.count = 0
        self.numbers = Numbers()


def group_errors(rows: Iterable[JobRow], max_groups: int | None = None) -> list[ErrorGroup]:
    """Groups of the rows, which come by number; those of most rows first.

    There are ``max_groups`` at most, of the codes that come first: the other rows are in none.
    """
    groups: dict[tuple[str, str | None], ErrorGroup] = {}
    for row in rows:
        key = (row.status, row.error_code)
        group = groups.get(key)
        if group is None:
            if len(groups) == max_groups:
                continue
            group = groups[key] = ErrorGroup(row.status.value, row.error_code, row.error_message)
        group.count += 1
        group.numbers.add(row.row_number)
    return sorted(groups.values(), key=lambda group: -group.count)


def group_attempts(
    history: Iterable[Entry], names: frozenset[str] = frozenset(), version: str | None = None
) -> list[ErrorGroup]:
    """Groups of all attempts in a history that failed, were repeated or need a review; most first.

    ``names`` are hidden; ``version``: only attempts in runs of it. 8 bytes an attempt. A row that
    failed without being started is in a group only in a history that never says that one was.
    """
    groups: dict[tuple[str, str | None], tuple[ErrorGroup, array[int]]] = {}
    outcomes = Outcomes(groups.clear)
    for entry in history:
        outcome, record = outcomes.of(entry.record), entry.record
        if outcome is None or not isinstance(record, RowStatusRecord):
            continue
        if not outcomes.is_try(outcome) or record.error_code is None:
            continue
        if version in (None, outcome.version):
            record = redacted_members(record, names)
            key = (outcome.status, record.error_code)
            if key not in groups:
                groups[key] = ErrorGroup(*key, record.error_message), array("Q")
            groups[key][1].append(record.row)
    for group, rows in groups.values():
        group.count = len(rows)
        group.numbers = Numbers(sorted(set(rows)))
    return sorted((group for group, _ in groups.values()), key=lambda group: -group.count)
