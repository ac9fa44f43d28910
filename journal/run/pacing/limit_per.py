"""The option ``limit_per``, which limits the rows in flight for each value of a column.

A **key** is a value of the column, as text. The limit is the number of **slots** of each key. If a
row's key has no free slot, the row is **parked**: the row's number goes into a queue for the key.
When a slot becomes free, parked rows of the key come before rows that are found later. A parked row
is read when it is found and when it may start, and not in between.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from journal.format.values import canonical_json
from journal.model import JobRow
from journal.run.lifecycle import RunningJob
from journal.store.row_reader import FoundRow
from journal.text import similar

Key = str
Queue = tuple[int, Key]  # the rank of the queue's rows, and their key
Offered = tuple[int, int, bool]  # a row's number and rank, and whether the row was parked

# The ranks of parked rows, in the order in which the rows start. First are rows that have waited
# for somebody else, then rows that were due for another attempt, then rows that were never started,
# then rows of earlier runs.
WAITED, RETRIED, FRESH, STARTED = RANKS = range(4)
_FIRST_ROWS = 1000  # how many rows are read to find out whether a column exists


class _Numbers:
    """A queue of row numbers. Each number takes 8 bytes."""

    __slots__ = ("_first", "_numbers")

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._first = 0

    def __len__(self) -> int:
        return len(self._numbers) - self._first

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers[self._first :])

    @property
    def first(self) -> int:
        return self._numbers[self._first]

    def add(self, number: int) -> None:
        self._numbers.append(number)

    def pop(self) -> int:
        number = self.first
        self._first += 1
        if self._first * 2 >= len(self._numbers):
            del self._numbers[: self._first]
            self._first = 0
        return number


class PerKey:
    """Counts the rows in flight by their key, and stores the rows that must wait."""

    def __init__(
        self, limit_per: Mapping[str, int] | None, in_flight: Iterable[JobRow] = ()
    ) -> None:
        """``in_flight``: the rows of the attempts that are already in flight."""
        self._column, self._limit = next(iter((limit_per or {}).items()), ("", 0))
        self.in_flight: dict[Key, int] = {}  # the taken slots
        self.offered: Offered = (0, 0, False)
        self._admitted: dict[int, Key] = {}  # by row number, until the row is started
        self._attempts: dict[tuple[int, int], Key] = {}  # by the numbers of row and attempt
        self._parked: dict[Queue, _Numbers] = {}
        # A heap of queues whose key may have a free slot, by rank and first row number.
        self._ready: list[tuple[int, int, Key]] = []
        self._is_parked = bytearray()  # by position: 1 if the row is parked
        # The number of parked rows. Other processes may have settled some of them.
        self.count = 0
        self._fresh = 0  # the parked rows that were never started
        self.waited = 0  # the parked rows that have waited for somebody else
        for row in in_flight if self._limit else ():
            if (key := self._key_of(row.data)) is not None:
                self._attempts[row.row_number, row.attempts] = key
                self.in_flight[key] = self.in_flight.get(key, 0) + 1

    def parked(self, rank: int) -> Iterator[int]:
        """The numbers of the parked rows of this rank."""
        for (found, _), numbers in self._parked.items():
            if found == rank:
                yield from numbers

    @property
    def has_fresh(self) -> bool:
        """Whether rows that were never started wait for a slot."""
        return self._fresh > 0

    @property
    def has_retried(self) -> bool:
        """Whether retried rows, or rows that have waited for somebody else, wait for a slot."""
        return any(rank <= RETRIED for rank, _ in self._parked)

    @property
    def rank(self) -> int:
        """The rank of the row that was offered last."""
        return self.offered[1]

    @property
    def is_blocked(self) -> bool:
        """Whether rows wait for a slot, and no such row can start before an attempt ends."""
        return bool(self._parked) and all(self._is_full(key) for _, key in self._parked)

    @property
    def gate(self) -> Callable[[int, dict[str, Any] | None], bool] | None:
        """The function that decides whether the row that was offered last may start.

        None without ``limit_per``. See ``bulk.start_rows``.
        """
        return self._admits if self._limit else None

    def holds(self, found: FoundRow) -> bool:
        """Return whether the row is parked."""
        return found.position < len(self._is_parked) and bool(self._is_parked[found.position])

    def offer(self, number: int, rank: int, *, has_waited: bool = False) -> int:
        """Offer a row to :attr:`gate`. Returns the row's number.

        ``has_waited``: whether the row was parked.
        """
        self.offered = number, rank, has_waited
        return number

    def next(self, rank: int = STARTED) -> int:
        """Offer the next parked row that may start: a row that has waited for a slot.

        Returns the row's number, or 0 if no parked row may start. ``rank``: the last rank to offer.
        """
        while self._ready and self._ready[0][0] <= rank:
            found, number, key = heappop(self._ready)
            parked = self._parked.get((found, key))
            if parked is None or parked.first != number or self._is_full(key):
                continue  # the key is added with each first row, and when a slot becomes free
            self._take_first((found, key), parked)
            return self.offer(number, found, has_waited=True)
        return 0

    def _take_first(self, queue: Queue, parked: _Numbers) -> None:
        rank, key = queue
        parked.pop()
        self.count -= 1
        self._fresh -= rank == FRESH
        self.waited -= rank == WAITED
        if parked:
            heappush(self._ready, (rank, parked.first, key))
        else:
            del self._parked[queue]

    def _admits(self, position: int, data: Mapping[str, Any] | None) -> bool:
        number, rank, has_waited = self.offered
        if has_waited:
            self._mark(position, is_parked=False)
        if data is None:
            return False
        key = self._key_of(data)
        if key is None:
            return True
        if not self._is_full(key):
            self._admitted[number] = key
            self.in_flight[key] = self.in_flight.get(key, 0) + 1
            return True
        self._parked.setdefault((rank, key), _Numbers()).add(number)
        self.count += 1
        self._fresh += rank == FRESH
        self.waited += rank == WAITED
        self._mark(position, is_parked=True)
        return False

    def _mark(self, position: int, *, is_parked: bool) -> None:
        if position >= len(self._is_parked):
            self._is_parked.extend(bytes(position + 1 - len(self._is_parked)))
        self._is_parked[position] = is_parked

    def start(self, rows: Iterable[JobRow]) -> None:
        """Record the attempts of the rows that were admitted and started."""
        if self._admitted:
            for row in rows:
                if row.row_number in self._admitted:
                    key = self._admitted.pop(row.row_number)
                    self._attempts[row.row_number, row.attempts] = key

    def end(self, rows: Iterable[JobRow]) -> None:
        """Free the slots of ended attempts, so that rows that wait for these slots may start."""
        if self._attempts:
            for row in rows:
                key = self._attempts.pop((row.row_number, row.attempts), None)
                if key is not None:
                    self._free(key)

    def _free(self, key: Key) -> None:
        self.in_flight[key] -= 1
        if not self.in_flight[key]:
            del self.in_flight[key]
        for rank in RANKS:
            parked = self._parked.get((rank, key))
            if parked is not None:
                heappush(self._ready, (rank, parked.first, key))

    def _is_full(self, key: Key) -> bool:
        return self.in_flight.get(key, 0) >= self._limit

    def _key_of(self, data: Mapping[str, Any]) -> Key | None:
        """The key of a row with this data. None if the column is missing or null.

        The key of a text is a quote, followed by the text. The key of another value is its
        canonical JSON, which never begins with a quote.
        """
        value = data.get(self._column)
        if value is None:
            return None
        return '"' + value if type(value) is str else canonical_json(value).decode()


def unknown_column(job: RunningJob, limit_per: Mapping[str, int] | None) -> str:
    """A message if none of the job's first rows has the column of ``limit_per``; else "".

    The name of the column may be wrong.
    """
    if not limit_per:
        return ""
    (column,) = limit_per
    known: dict[str, None] = {}
    rows = job.service.get_rows(job.id)
    for row in islice(rows, _FIRST_ROWS):
        if column in row.data:
            return ""
        known.update(dict.fromkeys(row.data))
    if not known:
        return ""
    meant = similar(column, known)
    which = "no row" if len(rows) <= _FIRST_ROWS else f"none of the first {_FIRST_ROWS:,} rows"
    name = job.settings.how_to.argument("limit_per")
    text = f"{which} has the column {column!r}, so {name} limits none of them by it"
    return text + (f"; did you mean {meant!r}?" if meant else "")
