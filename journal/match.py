"""An input compared with the job that was made of it: what is new, changed, or gone.

Nothing is written before the whole input was compared. An input that still begins as the job does,
the usual case, is compared in constant memory and without decoding the job's data; only where it
parts from the job are the rest of the job's rows looked up by key.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import msgspec

from journal.errors import InvalidValueError, RowChangedError
from journal.format import LOST_CHECKSUM
from journal.model import Job, JobRow, RowStatus
from journal.service import JobService
from journal.values import checksum_of, encode_value

OnChanged = Literal["error", "retry", "ignore"]
Data = dict[str, Any]
Key = str | Callable[[Data], Any]
OnNew = Callable[[Data], object]

_REPLACED = "its data has changed in the input: another row has taken its place"


class Matched(msgspec.Struct):
    """How an input and a job compare, in rows.

    ``added``: new in the input. ``changed``: of other data than before; ``replaced``: those of
    them that have a new row now, to be run. ``gone``: no longer in the input; they stay in the job.
    ``lost``: not in the job, which a repair left with losses: they may be done, and are left alone.
    ``elsewhere``: not in this job, which goes on with another one's unfinished rows: that one's, or
    new ones, which it doesn't take.
    """

    added: int = 0
    changed: int = 0
    replaced: int = 0
    gone: int = 0
    lost: int = 0
    elsewhere: int = 0


def new_rows(rows: Iterable[Data], key: Key | None) -> Iterator[dict[str, Any]]:
    """An input's rows as the service takes them; raises InvalidValueError if a key is there twice."""
    numbered = _numbered(rows)
    return numbered_rows(numbered if key is None else _Keys(key).check(numbered))


def _numbered(rows: Iterable[Data]) -> Iterator[tuple[int, Data]]:
    for number, data in enumerate(rows, 1):
        if not isinstance(data, dict):
            raise InvalidValueError(f"input row {number}", data, "must be a dict, a row's data")
        yield number, data


def _checksum(number: int, data: Data) -> str:
    try:
        return checksum_of(data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        encode_value(data, f"input row {number}")  # says what is wrong with it
        raise


def numbered_rows(rows: Iterable[tuple[int, Data]]) -> Iterator[dict[str, Any]]:
    """Rows of an input and their places in it, as the service takes them."""
    for number, data in rows:
        yield {"row_number": number, "data": data}


def match_rows(
    service: JobService,
    job: Job,
    rows: Iterable[Data],
    key: Key | None = None,
    on_changed: OnChanged = "error",
    *,
    on_new: OnNew | None = None,
) -> Matched:
    """Compare the input with the job's rows, add those that are new, and deal with changed ones.

    With ``on_new`` nothing is written: it is told of each row that would be, to be run.

    ``key``: the name of a column, or a function of the data; None: rows are known by their place.
    ``on_changed`` "error" raises RowChangedError for the first, "ignore" keeps what the job holds,
    "retry" (by key only) gives each a new row to be run, and sets the old one to skipped if it is
    not done; one that needs a review, or is in flight, is left for a person.

    Raises that, and whatever reading the input raises; then nothing was added. A retry job holds
    some of the rows of the job before it: rows that it doesn't hold are that job's, and are left
    alone. So are rows that a repair has lost, or their data: they may be done.
    """
    if key is None:
        if on_changed == "retry":
            raise InvalidValueError(
                "on_changed", on_changed, "needs a key: a row can't be replaced at its place"
            )
        return _by_place(service, job, rows, on_changed, on_new)
    return _by_key(service, job, rows, key, on_changed, on_new)


def _by_place(
    service: JobService,
    job: Job,
    rows: Iterable[Data],
    on_changed: OnChanged,
    on_new: OnNew | None,
) -> Matched:
    matched = Matched()
    known = iter(service.get_rows(job.id))
    row = next(known, None)
    numbered = _numbered(rows)
    for number, data in numbered:
        if row is None:
            if job.repaired:
                matched.lost += 1
            elif job.retry_of is not None:
                matched.elsewhere += 1
            else:
                rest = itertools.chain([(number, data)], numbered)
                matched.added = _create(service, job, numbered_rows(rest), on_new)
                break
            continue
        if row.row_number != number and job.repaired:
            matched.lost += 1
        elif row.row_number != number and job.retry_of is not None:
            matched.elsewhere += 1
        elif row.row_number != number:
            raise InvalidValueError(
                f"input row {number}",
                _json(data),
                f"job {job.id!r} has no row {number} though it has later ones: it was not made "
                "from such an input; run the input as a job of its own",
            )
        if row.row_number == number:
            same = row.row_checksum in (LOST_CHECKSUM, _checksum(number, data))
            if not same and row.data != data:  # it may have a checksum of its maker's
                encode_value(data, f"input row {number}")
                if on_changed == "error":
                    raise RowChangedError(row.id, _json(row.data), _json(data))
                matched.changed += 1
            row = next(known, None)
    while row is not None:
        matched.gone += 1
        row = next(known, None)
    return matched


def _json(data: Data) -> str:
    return msgspec.json.encode(data).decode()


class _Keys:
    """The keys of an input, each of which may be there once. Keeps a hash of each."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._seen: set[int] = set()

    def check(self, rows: Iterable[tuple[int, Data]]) -> Iterator[tuple[int, Data]]:
        for place, data in rows:
            self.take(data, f"input row {place}")
            yield place, data

    def has(self, key: str) -> bool:
        return hash(key) in self._seen

    def take(self, data: Data, where: str) -> str:
        """The row's key as text. Raises InvalidValueError if it has none, or one seen before."""
        key = key_of(self._key, data, where)
        mark = hash(key)
        if mark in self._seen:
            name = f"{self._key!r} " if isinstance(self._key, str) else ""
            raise InvalidValueError(
                where,
                key,
                f"an earlier row has the same key {name}: make keys unique, or leave out key",
            )
        self._seen.add(mark)
        return key


def key_of(key: Key, data: Data, where: str) -> str:
    """The key of a row as JSON text, so that 1 and "1" are two keys. Raises InvalidValueError."""
    if isinstance(key, str):
        if key not in data:
            raise InvalidValueError(where, list(data), f"it has no {key!r}, which is the key")
        value = data[key]
    else:
        value = key(data)
    if value is None or value == "":
        raise InvalidValueError(where, value, "its key is empty")
    return encode_value(value, f"{where}: key").decode()


class _Known(NamedTuple):
    """What is kept of a row that the job holds."""

    row_id: str
    checksum: str


def _create(
    service: JobService, job: Job, rows: Iterable[dict[str, Any]], on_new: OnNew | None
) -> int:
    """Add rows, or only tell of them; how many there are."""
    if on_new is None:
        return len(service.create_rows(job.id, rows))
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007  (it is the sum)
        on_new(row["data"])
    return count


def _by_key(
    service: JobService,
    job: Job,
    rows: Iterable[Data],
    key: Key,
    on_changed: OnChanged,
    on_new: OnNew | None,
) -> Matched:
    keys = _Keys(key)
    numbered = _numbered(rows)
    job_rows = service.get_rows(job.id)
    count, item = _same_beginning(job_rows, numbered, keys)
    rest = _latest_by_key(job_rows, count, key)
    changes: list[tuple[_Known, Data]] = []

    def compare(known: _Known, number: int, data: Data) -> None:
        if known.checksum == _checksum(number, data):
            return
        encode_value(data, f"input row {number}")
        row = service.get_row(known.row_id)
        if row is not None and row.data == data:  # it has a checksum of its maker's
            return
        if on_changed == "error":
            raise RowChangedError(known.row_id, _json(row.data if row else {}), _json(data))
        changes.append((known, data))

    def new() -> Iterator[Data]:
        for number, data in itertools.chain([item] if item else [], numbered):
            known = rest.pop(keys.take(data, f"input row {number}"), None)
            if known is None:
                yield data
            else:
                compare(known, number, data)

    # Rows of the beginning that were replaced, whose data is now what it was at first.
    if any(keys.has(text) for text in rest):
        for number, row in enumerate(itertools.islice(job_rows, count), 1):
            known = rest.pop(key_of(key, row.data, f"row {row.id}"), None)
            if known is not None:
                compare(known, number, row.data)
    matched = Matched()
    _add(service, job, new(), matched, on_new)
    matched.changed = len(changes)
    matched.gone = len(rest)
    if on_changed == "retry":
        matched.replaced = _replace(service, job, changes, on_new)
    return matched


def _add(
    service: JobService, job: Job, new: Iterator[Data], matched: Matched, on_new: OnNew | None
) -> None:
    """Go through the new rows and add them, if they are this job's to do; none if one is wrong."""
    first = next(new, None)
    if first is None:
        return
    new = itertools.chain([first], new)
    if job.repaired:
        matched.lost = sum(1 for _ in new)
    elif job.retry_of is not None:
        matched.elsewhere = sum(1 for _ in new)
    else:
        matched.added = _create(service, job, ({"data": data} for data in new), on_new)


def _same_beginning(
    job_rows: Sequence[JobRow], numbered: Iterator[tuple[int, Data]], keys: _Keys
) -> tuple[int, tuple[int, Data] | None]:
    """How many rows both begin with; and the input's row, if any, where it parts from the job."""
    count = 0
    for row in job_rows:
        item = next(numbered, None)
        if item is None or row.row_checksum != _checksum(*item):
            return count, item
        keys.take(item[1], f"input row {item[0]}")
        count += 1
    return count, None


def _latest_by_key(job_rows: Sequence[JobRow], first: int, key: Key) -> dict[str, _Known]:
    """The job's rows from there on, by key; of those that have replaced one another, the last."""
    latest = {}
    for row in itertools.islice(job_rows, first, None) if first < len(job_rows) else ():
        if row.row_checksum != LOST_CHECKSUM:
            text = key_of(key, row.data, f"row {row.id}")
            latest[text] = _Known(row.id, row.row_checksum)
    return latest


def _replace(
    service: JobService, job: Job, changes: list[tuple[_Known, Data]], on_new: OnNew | None
) -> int:
    """Give changed rows new ones to be run, all in one commit; how many there are."""
    new = []
    with service.batch(job.id) if on_new is None else nullcontext():
        for known, data in changes:
            row = service.get_row(known.row_id)  # as it is now: a run may have begun meanwhile
            if row is None or row.status in (RowStatus.PROCESSING, RowStatus.NEEDS_REVIEW):
                continue  # whether it has taken effect must be known first
            if row.status in (RowStatus.PENDING, RowStatus.FAILED) and on_new is None:
                service.skip_row(row.id, _REPLACED)
            new.append({"data": data})
        return _create(service, job, new, on_new) if new else 0
