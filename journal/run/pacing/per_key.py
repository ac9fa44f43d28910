"""Limits by key: the option ``limit_per`` limits the rows in flight for each value of a column.

A **key** is a column together with one of its values. The limit of a key is its number of
**slots**. If a key of a row has no free slot, the row is **parked**: its number is stored in a
queue of rows that wait for the same keys. When a slot becomes free, parked rows of the key come
before rows that are found later. A parked row is read when it is found, and when it may start, but
not while it waits.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from journal.format.values import canonical_json
from journal.model import JobRow
from journal.run.held_job import HeldJob
from journal.store.rows import FoundRow
from journal.text import similar

Key = tuple[str, str]  # the column, and the value as text
Keys = tuple[Key, ...]  # of one row, in the order of the columns
Queue = tuple[int, Keys]  # the rank of its rows, and the keys that they wait for

# The ranks of parked rows, in the order in which they start: rows that were due for another
# attempt, rows that were never started, rows of earlier runs.
RETRIED, FRESH, STARTED = range(3)
_FIRST_ROWS = 1000  # rows that are read to find out whether a column exists


class _Numbers:
    """Row numbers in ascending order.

    Each number takes 4 bytes. If one of the numbers is 2**32 or more, each number takes 8 bytes.
    """

    __slots__ = ("_first", "_numbers")

    def __init__(self) -> None:
        self._numbers = array("I")
        self._first = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._first

    @property
    def first(self) -> int:
        return self._numbers[self._first]

    def add(self, number: int) -> None:
        try:
            insort(self._numbers, number, self._first)
        except OverflowError:
            self._numbers = array("Q", self._numbers)
            insort(self._numbers, number, self._first)

    def pop(self) -> int:
        number = self.first
        self._first += 1
        if self._first * 2 >= len(self._numbers):
            del self._numbers[: self._first]
            self._first = 0
        return number


class PerKey:
    """Counts the rows in flight by their keys, and stores the rows that must wait."""

    def __init__(self, limit_per: Mapping[str, int] | None) -> None:
        self._limits = dict(limit_per or {})
        self.in_flight: dict[Key, int] = {}  # the slots that are taken
        self._offered: tuple[int, int, Keys] = (0, 0, ())  # number, rank, keys it has waited for
        self._admitted: dict[int, Keys] = {}  # by row number, until the row is started
        self._attempts: dict[tuple[int, int], Keys] = {}  # by the numbers of row and attempt
        self._parked: dict[Queue, _Numbers] = {}
        self._queues: dict[Key, set[Queue]] = {}  # the queues whose rows wait for the key
        # A heap of queues whose keys may all have a free slot, by rank and first row number.
        self._ready: list[tuple[int, int, Keys]] = []
        self._is_parked = bytearray()  # a bit for each row, by position
        self._counts = [0, 0, 0]  # of parked rows, by rank

    def __len__(self) -> int:
        """The number of parked rows, which wait for a slot.

        Other processes may have settled some of them.
        """
        return sum(self._counts)

    @property
    def has_fresh(self) -> bool:
        """Whether some of the rows that wait for a slot were never started."""
        return self._counts[FRESH] > 0

    @property
    def is_blocked(self) -> bool:
        """Whether rows wait for a slot, and none of them can start before an attempt ends."""
        return bool(self._parked) and all(self._full(keys) for _, keys in self._parked)

    @property
    def gate(self) -> Callable[[int, dict[str, Any] | None], bool] | None:
        """The function that decides whether the row that was offered last may start.

        None without ``limit_per``. See ``bulk.start_rows``.
        """
        return self._admits if self._limits else None

    def holds(self, found: FoundRow) -> bool:
        """Return whether the row is parked: it waits for a slot."""
        at, bit = divmod(found.position, 8)
        return at < len(self._is_parked) and bool(self._is_parked[at] >> bit & 1)

    def offer(self, number: int, rank: int, awaited: Keys = ()) -> int:
        """Offer a row to :attr:`gate`. Returns the row's number.

        ``awaited``: the keys that a parked row has waited for.
        """
        self._offered = number, rank, awaited
        return number

    def next(self) -> int:
        """Offer the next parked row that may start: a row that has waited for a slot.

        Returns the row's number; 0 if there is none.
        """
        while self._ready:
            rank, number, keys = heappop(self._ready)
            parked = self._parked.get((rank, keys))
            if parked is None or self._full(keys):
                continue  # it is added again when a slot becomes free
            if parked.first == number:
                self._take_first((rank, keys), parked)
                return self.offer(number, rank, keys)
            heappush(self._ready, (rank, parked.first, keys))
        return 0

    def _take_first(self, queue: Queue, parked: _Numbers) -> None:
        rank, keys = queue
        parked.pop()
        self._counts[rank] -= 1
        if parked:
            heappush(self._ready, (rank, parked.first, keys))
            return
        del self._parked[queue]
        for key in keys:
            self._queues[key].discard(queue)
            if not self._queues[key]:
                del self._queues[key]

    def _admits(self, position: int, data: Mapping[str, Any] | None) -> bool:
        number, rank, waited = self._offered
        if waited:
            self._mark(position, is_parked=False)
        if data is None:
            return False
        keys = self._keys_of(data)
        full = self._full(keys)
        if not full:
            if keys:
                self._admitted[number] = keys
                for key in keys:
                    self.in_flight[key] = self.in_flight.get(key, 0) + 1
            return True
        # At first, a row waits for one key, since most rows have only one key that is full for
        # long. If another key is full when the first key has a free slot, the row waits for both
        # keys. So a row moves to another queue at most as often as it has keys.
        if waited:
            awaited = tuple(key for key in keys if key in waited or key in full)
        else:
            awaited = (max(full, key=lambda key: len(self._parked.get((rank, (key,)), ()))),)
        self._park(number, (rank, awaited))
        self._mark(position, is_parked=True)
        return False

    def _park(self, number: int, queue: Queue) -> None:
        parked = self._parked.get(queue)
        if parked is None:
            parked = self._parked[queue] = _Numbers()
            for key in queue[1]:
                self._queues.setdefault(key, set()).add(queue)
        parked.add(number)
        self._counts[queue[0]] += 1

    def _mark(self, position: int, *, is_parked: bool) -> None:
        at, bit = divmod(position, 8)
        if at >= len(self._is_parked):
            self._is_parked.extend(bytes(at + 1 - len(self._is_parked)))
        if is_parked:
            self._is_parked[at] |= 1 << bit
        else:
            self._is_parked[at] &= ~(1 << bit)

    def start(self, rows: Iterable[JobRow]) -> None:
        """Record the attempts of the rows that were admitted and started."""
        if self._admitted:
            for row in rows:
                if row.row_number in self._admitted:
                    keys = self._admitted.pop(row.row_number)
                    self._attempts[row.row_number, row.attempts] = keys

    def end(self, rows: Iterable[JobRow]) -> None:
        """Free the slots of attempts that have ended, so that rows that wait for them may start."""
        if self._attempts:
            for row in rows:
                self._free(self._attempts.pop((row.row_number, row.attempts), ()))

    def _free(self, keys: Keys) -> None:
        for key in keys:
            self.in_flight[key] -= 1
            if not self.in_flight[key]:
                del self.in_flight[key]
            for rank, awaited in self._queues.get(key, ()):
                heappush(self._ready, (rank, self._parked[rank, awaited].first, awaited))

    def _full(self, keys: Keys) -> list[Key]:
        in_flight, limits = self.in_flight, self._limits
        return [key for key in keys if in_flight.get(key, 0) >= limits[key[0]]]

    def _keys_of(self, data: Mapping[str, Any]) -> Keys:
        """The keys of a row with this data. A column that is missing or null gives no key.

        Values are compared as JSON: text by its characters, other values by their canonical JSON,
        which never begins with a quote.
        """
        return tuple(
            (column, '"' + value if type(value) is str else canonical_json(value).decode())
            for column in self._limits
            if (value := data.get(column)) is not None
        )


def report_unknown_columns(job: HeldJob, limit_per: Mapping[str, int] | None) -> None:
    """Report columns of ``limit_per`` that none of the job's first rows has.

    The names of these columns may be wrong.
    """
    known: dict[str, None] = {}
    unknown = dict(limit_per or {})
    rows = job.service.get_rows(job.id) if unknown else ()
    for row in islice(rows, _FIRST_ROWS):
        known.update(dict.fromkeys(row.data))
        unknown = {column: limit for column, limit in unknown.items() if column not in row.data}
        if not unknown:
            return
    for column in unknown if known else ():
        meant = similar(column, known)
        which = "no row" if len(rows) <= _FIRST_ROWS else f"none of the first {_FIRST_ROWS:,} rows"
        job.warn(
            f"{job.id}: {which} has the column {column!r}, so "
            f"{job.settings.how_to.argument('limit_per')} limits none of them by it"
            + (f"; did you mean {meant!r}?" if meant else "")
        )
