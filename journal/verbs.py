"""The rows that `retry`, `redo`, `skip` and `resolve` may change, and text that names rows."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from journal.errors import InvalidValueError, RefusedError
from journal.format.arguments import check_codes
from journal.format.records import LOST_CHECKSUM
from journal.ids import MAX_ROW_NUMBER, row_id_of
from journal.model import JobRow, RowStatus, row_statuses
from journal.service import JobService
from journal.store.row_reader import RowSequence
from journal.text import Numbers, counted

_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", re.ASCII)
_SLICE = 256  # rows read at a time

Statuses = RowStatus | str | Collection[RowStatus | str] | None
RowNumbers = int | str | JobRow | Iterable[int | JobRow]  # the text: "5,12-40"


class Verb(NamedTuple):
    """The statuses of the rows that a command or a method of this name may change.

    ``named``: for rows chosen by number or status. ``found``: for rows chosen in any other way.
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


def check_where(where: Any) -> None:
    """Raise InvalidValueError if ``where`` is neither None nor callable."""
    if where is not None and not callable(where):
        raise InvalidValueError(
            "where",
            where,
            'must be a function of a row, such as lambda row: row.data["zip"] == "90001"',
        )


class FromStep:
    """Calls ``change`` with a row's id. If the row has the step, also passes ``from_step``.

    ``change``: a method of the service that has the argument ``from_step``. Rows without the step
    have nothing to drop.
    """

    def __init__(
        self, service: JobService, change: Callable[..., object], from_step: str | None
    ) -> None:
        self._service, self._change, self._name = service, change, from_step
        self._known: dict[str, None] = {}  # names of steps of the rows

    def __call__(self, row_id: str) -> object:
        if self._name is None:
            return self._change(row_id)
        names = [step.name for step in self._service.get_steps(row_id)]
        self._known.update(dict.fromkeys(names))
        return self._change(row_id, from_step=self._name if self._name in names else None)

    def check(self, count: int) -> None:
        """Raise RefusedError if none of ``count`` rows has the step. The name may be wrong."""
        if count and self._name is not None and self._name not in self._known:
            names = ", ".join(map(repr, self._known)) or "none"
            raise RefusedError(
                f"none of these rows has a step {self._name!r}; their steps: {names}; nothing was "
                "changed"
            )


def change_rows(
    service: JobService,
    job_id: str,
    verb: str,
    change: Callable[..., object],
    rows: RowNumbers | None = None,
    status: Statuses = None,
    error_code: str | Collection[str] | None = None,
    where: Callable[[JobRow], object] | None = None,
    from_step: str | None = None,
) -> int:
    """Call ``change`` with the id of each chosen row, in one commit. Returns the number of rows.

    ``from_step``: see :class:`FromStep`.
    Rows that may have taken effect are retried only if ``rows`` or ``error_code`` chooses them.
    """
    if verb != "retry" and all(given is None for given in (rows, status, error_code, where)):
        raise InvalidValueError("rows", None, "give rows, status, error_code or where")
    check_where(where)
    codes = check_codes(error_code)
    statuses = row_statuses(status)
    if statuses is not None and not statuses:
        return 0
    is_wide = verb == "retry" and rows is None

    def matches(row: JobRow) -> bool:
        if is_wide and (row.row_checksum == LOST_CHECKSUM or (row.unknown and codes is None)):
            return False
        return (codes is None or row.error_code in codes) and (where is None or bool(where(row)))

    count = 0
    ranges = None if rows is None else ranges_of(job_id, rows)
    narrows = matches if is_wide or codes is not None or where is not None else None
    changed = FromStep(service, change, from_step)
    with service.batch(job_id):
        found = chosen_rows(service, job_id, VERBS[verb], ranges, statuses or (), narrows)
        for count, row in enumerate(found, 1):  # noqa: B007  (the last count is the result)
            changed(row.id)
        changed.check(count)
    return count


def chosen_rows(
    service: JobService,
    job_id: str,
    verb: Verb,
    ranges: list[range] | None,
    statuses: Collection[RowStatus] = (),
    matches: Callable[[JobRow], bool] | None = None,
) -> Iterator[JobRow]:
    """The chosen rows whose status allows a change.

    - ``ranges``: only rows with these numbers. ``statuses``: only rows of these statuses.
    - ``matches``: only rows for which this function returns True.

    Raises RefusedError if ``ranges`` names a row that doesn't exist. Raises RefusedError if a
    status in ``statuses`` doesn't allow the change. If only ``ranges`` is given, raises
    RefusedError if the status of one of these rows doesn't allow the change.
    """
    wrong = [status for status in statuses if status not in verb.named]
    if wrong:
        allowed = " or ".join(verb.named)
        hint = _hint(job_id, wrong[0])
        raise RefusedError(f"rows must be {allowed}, not {wrong[0]}; no row was changed{hint}")
    if ranges is None:
        yield from filter(matches, service.get_rows(job_id, statuses or verb.found))
        return
    allows = statuses or verb.named
    rows = rows_of(job_id, service.get_rows(job_id), ranges)
    for row in rows:
        if row.status in allows:
            if matches is None or matches(row):
                yield row
        elif not statuses and matches is None:
            others = (each.row_number for each in rows if each.status not in allows)
            numbers = Numbers([row.row_number, *others])
            raise RefusedError(
                f"row {row.id} is {row.status}, not {' or '.join(allows)}; no row was changed"
                + (f"; leave out rows {numbers.text(', ')}" if numbers.count > 1 else "")
                + _hint(job_id, row.status)
            )


def _hint(job_id: str, status: RowStatus) -> str:
    """Advice about rows of a status that doesn't allow a change, as the end of a message."""
    resolve = f"`journal resolve {job_id}`"
    if status is RowStatus.PROCESSING:
        return f"; if the run has died: {resolve}"
    return f"; if you know what became of it: {resolve}" if status is RowStatus.NEEDS_REVIEW else ""


def ranges_of(job_id: str, rows: RowNumbers) -> list[range]:
    """The numbers of rows as ranges in ascending order. Raises InvalidValueError."""
    many: Iterable[Any] = (rows,)
    if isinstance(rows, Iterable) and not isinstance(rows, (str, bytes)):
        many = rows
    words = []
    for row in many:
        if isinstance(row, JobRow) and row.id != row_id_of(job_id, row.row_number):
            raise InvalidValueError("rows", row, f"is a row of another job than {job_id!r}")
        words.append(str(row.row_number if isinstance(row, JobRow) else row))
    try:
        return row_ranges(",".join(words)) if words else []
    except ValueError as error:
        hint = ""
        if isinstance(rows, str) and rows.isidentifier():
            hint = f": write {'status' if rows in list(RowStatus) else 'error_code'}={rows!r}"
        raise InvalidValueError("rows", rows, f"{error}{hint}") from None


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


def rows_of(job_id: str, rows: RowSequence, ranges: list[range]) -> Iterator[JobRow]:
    """Yield the rows of a job in ``ranges``.

    Raises RefusedError if a row in ``ranges`` doesn't exist.

    All numbers are checked before the first row is yielded. The check reads no rows.
    """
    refusal = missing_rows(job_id, rows, ranges)
    if refusal is not None:
        raise RefusedError(f"{refusal}; nothing was changed")
    return rows_within(rows, ranges)


def rows_within(rows: RowSequence, ranges: list[range]) -> Iterator[JobRow]:
    """The existing rows in ``ranges``."""
    for numbers in ranges:
        places = _places(rows, numbers)
        for start in range(places.start, places.stop, _SLICE):
            yield from rows[start : min(start + _SLICE, places.stop)]


def missing_rows(job_id: str, rows: RowSequence, ranges: list[range]) -> str | None:
    """A message about the first number in ``ranges`` without a row. None if all rows exist."""
    found = [_places(rows, numbers) for numbers in ranges]
    missing = sum(map(len, ranges)) - sum(map(len, found))
    if not missing:
        return None
    pairs = zip(ranges, found, strict=True)
    numbers, places = next(pair for pair in pairs if len(pair[0]) > len(pair[1]))
    # Row numbers ascend. As long as each number is one step above the number before, no row is
    # missing.
    number_at = rows.view.row_number
    step = numbers.step  # more than 1 in a shard
    begin = numbers.start - places.start * step
    found_rows = bisect_left(places, begin + 1, key=lambda at: number_at(at) - at * step)
    first = numbers.start + found_rows * step
    others = f" (and {counted(missing - 1, 'other|others')})" if missing > 1 else ""
    there = "it has no rows"
    if rows:
        first_row, last_row = number_at(0), number_at(len(rows) - 1)
        gaps = ", with gaps" if (last_row - first_row) // step >= len(rows) else ""
        there = f"its rows are {first_row} to {last_row}{gaps}"
    return f"job {job_id} has no row {first}{others}: {there}"


def _places(rows: RowSequence, numbers: range) -> range:
    """The positions, in ``rows``, of the rows that have these numbers."""
    begin, end = (
        bisect_left(range(len(rows)), number, key=rows.view.row_number)
        for number in (numbers.start, numbers.stop)
    )
    return range(begin, end)
