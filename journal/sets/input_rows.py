"""The rows of an input, or the rows of one shard. The input is read once, as a stream.

With a key, the SHA-256 of a row's key, without its type, chooses the shard of the row. So the keys
1 and "1" belong to the same shard, and the shard sees that a key has changed its type. Without a
key, the row's position chooses the shard. Each start also takes a digest of the whole input, to
name the shards that have seen another input. Without a key, another input may put a row into two
shards, or into none. So without a key, a start with another input is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from journal.errors import (
    InvalidValueError,
    JobBusyError,
    JobNotFoundError,
    JournalDamagedError,
    JournalError,
    RefusedError,
)
from journal.format.arguments import given_rows
from journal.format.keys import NUMBER, Data, Key, UniqueKeys, key_of, untyped
from journal.format.records import UNSET_TIME, InputRecord
from journal.format.values import (
    SCALARS,
    as_json_value,
    checksum_of,
    encode_value,
    load_sha256,
    own_value,
)
from journal.fs import system
from journal.fs.handles import refusals_of
from journal.fs.network_claims import look, network_of
from journal.index.summary import job_of
from journal.model import InputSeen, Job, Shard
from journal.store import transitions
from journal.store.journal import Journal
from journal.store.store import Store
from journal.text import encode_json

_EXACT = 1 << 53  # smaller integers are exact as floats


def read_shards(
    store: Store, set_id: str, cut: dict[str, str] | None = None
) -> Iterator[tuple[str, Job | JournalError]]:
    """Yield the id of each shard that is here, with its job, or with the error of reading the job.

    ``cut`` gets the ids of shards whose journals were cut, with the texts of the errors.
    """
    for shard_id in sorted(store.shards(set_id)):
        try:
            journal = store.peek(shard_id)
            with journal.reading() as index:
                found: Job | JournalError = job_of(index)
                if cut is not None:
                    try:
                        journal.check_uncut()
                    except JournalDamagedError as error:
                        cut[shard_id] = str(error)
        except JobNotFoundError:  # deleted meanwhile
            continue
        except JournalError as error:
            found = error
        yield shard_id, found


def key_of_set(shards: list[Job], given: Key | None, where: str) -> Key | None:
    """Return the key of a set's shards. ``given``: the key of a start, or None.

    Raises InvalidValueError if a shard that is here has another key.
    """
    for job in shards:
        known = None if job.shard is None else job.shard.key
        if given is None and known:
            given = known[0] if len(known) == 1 else known
        elif recorded_key(given) != known and not (known is None and job.repaired):
            name = "none" if known is None else "a function" if not known else repr(",".join(known))
            raise InvalidValueError(where, given, f"the key of {job.id} is {name}: give the same")
    return given


def recorded_key(key: Key | None) -> tuple[str, ...] | None:
    """Return the key in the form of ``Shard.key``."""
    if key is None or callable(key):
        return None if key is None else ()
    # A subclass of str can't be recorded.
    return tuple(map(str.__str__, key if isinstance(key, tuple) else (key,)))


def checksum_at(data: Data, place: int) -> str:
    """Return the checksum of a row of an input. Raises InvalidValueError."""
    try:
        return checksum_of(data)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        encode_value(data, f"input row {place}")  # raises the error
        raise


class Split:
    """Takes the rows of ``shard`` from an input.

    These attributes are set after the last row: ``seen``, the record of the whole input, and
    ``others``, the ids of the shards that have seen another input.
    """

    def __init__(
        self, store: Store, set_id: str, shard: Shard, key: Key | None, where: str
    ) -> None:
        """Look at the shards that are here. ``key``: the key of the start.

        ``where``: the key's name.

        Raises InvalidValueError if the set has another key.
        """
        self._store, self._set_id, self._where = store, set_id, where
        self._id = f"{set_id}/{shard.name}"
        shards, self.key = self._shards(key)
        self.shard = msgspec.structs.replace(shard, key=recorded_key(self.key))
        self.seen: InputRecord | None = None
        self.others: list[str] = []
        self._known = {job.id: job.input for job in shards if job.input is not None}
        self._known_at: dict[int, list[tuple[str, InputSeen]]] = {}  # by the number of rows
        for job_id, seen in self._known.items():
            self._known_at.setdefault(seen.rows, []).append((job_id, seen))
        self._sha256 = load_sha256()
        self._in_order = self._sha256(b"")
        self._sum = 0

    def takes(self, place: int, data: Data, convert: Callable[[Data, int], Data]) -> bool:
        """Return whether the shard has this row. Call this for all rows of the input, in order."""
        if self.key is None:
            self._in_order.update(checksum_at(convert(data, place), place).encode())
            for job_id, seen in self._known_at.get(place, ()):
                if seen.digest != self._in_order.hexdigest():
                    self._refuse(job_id, seen)
            return (place - 1) % self.shard.count == self.shard.index
        text = self._quick_text(data)
        if text is None:
            text = untyped(key_of(self.key, convert(data, place), f"input row {place}")).encode()
        number = int.from_bytes(self._sha256(text).digest())
        self._sum += number
        return number % self.shard.count == self.shard.index

    def _quick_text(self, data: Any) -> bytes | None:
        """Return the result of :func:`untyped` for a usual key, or None for other keys."""
        value = data.get(self.key) if type(self.key) is str else None
        if type(value) is int and -_EXACT < value < _EXACT:
            return b"%d" % value
        if type(value) is str and value and value.isascii():
            if value.isdigit() and value[0] != "0" and len(value) <= 15:  # below _EXACT
                return value.encode()
            if value[0] > "9" or NUMBER.fullmatch(value) is None:  # such text isn't a number
                return encode_json(value)
        return None

    def end(self, rows: int) -> None:
        """Take note that the input has ended after ``rows`` rows. Raises RefusedError."""
        digest = self._in_order.hexdigest()
        if self.key is not None:
            digest = f"{self._sum % (1 << 256):064x}"
        for job_id, seen in self._known.items():
            if self.key is None and seen.rows > rows:
                self._refuse(job_id, seen)
            if seen.digest != digest and job_id != self._id:
                self.others.append(job_id)
        self.seen = InputRecord(rows=rows, digest=digest, at=UNSET_TIME)

    def record(self, journal: Journal) -> None:
        """Record the input if the last input of this shard, or of another shard, was different.

        Without a key, compare with the other shards again before the rows of this start exist.
        Raises RefusedError.
        """
        seen, last = self.seen, transitions.state_of(journal).input
        if seen is not None and (self.others or last is None or last.digest != seen.digest):
            if self.key is None:
                self._compare_with_others()
            transitions.put_record(journal, seen)

    def check_meanwhile(self, *, is_new: bool) -> None:
        """Raise an error if another start at the same time contradicts this start.

        Each start looks for other starts after its own commit. So at least one of two starts sees
        the other. ``is_new``: whether this start has made the shard. In this case, the shard is
        removed before the error is raised, unless another start has begun one of its rows.
        """

        def check_not_begun(_: Path) -> None:
            with self._store.peek(self._id).reading(locked=True) as index:
                if job_of(index).started_at is not None:
                    raise JobBusyError(self._id)

        try:
            self._compare_with_others()
        except (InvalidValueError, RefusedError):
            if is_new:
                with suppress(JournalError):
                    self._store.delete(self._id, check_not_begun)
            raise

    def _shards(self, given: Key | None) -> tuple[list[Job], Key | None]:
        """Return the shards that can be read, and the key.

        Without a key, all shards must be readable.
        """
        self._store.count_shards(self._set_id)  # raises RefusedError if there are two sets
        unread: dict[str, str] = {}
        found = list(read_shards(self._store, self._set_id, unread))
        shards = [job for _, job in found if isinstance(job, Job)]
        key = key_of_set(shards, given, self._where)
        unread |= {shard_id: str(job) for shard_id, job in found if not isinstance(job, Job)}
        unread.pop(self._id, None)  # if this shard can't be read, its start is refused elsewhere
        for shard_id, why in unread.items() if key is None else ():
            raise RefusedError(
                f"{self._set_id}: the input can't be compared with the input of {shard_id} "
                f"({why}): without a key, a row might be done twice; repair that shard first"
            )
        return shards, key

    def _compare_with_others(self) -> None:
        directory = self._store.directory(self._set_id)
        with refusals_of(directory, "list"), suppress(FileNotFoundError):  # the first shard
            if network_of(system.os.stat(directory).st_dev):
                look(directory)  # else a cached list may lack a shard of another node
        shards, _ = self._shards(self.key)
        keyed = (job.id for job in shards if job.shard is not None and job.shard.key is not None)
        if self.key is None and (job_id := next(keyed, None)):
            reason = f"{job_id} has meanwhile been started with a key: give the same"
            raise InvalidValueError(self._where, None, reason)
        same = {seen.digest for seen in (*self._known.values(), self.seen) if seen is not None}
        for job in shards if self.key is None else ():
            if job.input is not None and job.input.digest not in same:
                raise RefusedError(
                    f"{self._set_id}: {job.id} has meanwhile been started with another input: without "
                    "a key, a row might be in both shards; start this shard again with its input"
                )

    def _refuse(self, job_id: str, seen: InputSeen) -> None:
        raise RefusedError(
            f"{self._set_id}: the input doesn't begin with the {seen.rows} rows that {job_id} has "
            "seen: without a key, the position of a row chooses its shard, so a row might be done "
            "twice or never; give the same input, to which rows may be added at its end"
        )

    def own_key(self, data: Data, where: str) -> str | None:
        """Return a row's idempotency key.

        None if the key's column or the row's id determines it.
        """
        if self.key is None or isinstance(self.key, str):
            return None
        key = key_of(self.key, data, where)
        return f"{self._set_id}:{','.join(recorded_key(self.key) or ())}={key}"


# --- the rows of an input, one by one ---------------------------------------------------------


class Item(NamedTuple):
    """A row of an input.

    - ``place``: the position of the row, from 1. ``seen``: the same number if the row's shard
      records it, as a shard with a key does, else None.
    - ``own_key``: the row's idempotency key, unless it is made from a column.
    """

    place: int
    data: Data
    own_key: str | None
    seen: int | None = None

    def checksum(self) -> str:
        return checksum_at(self.data, self.place)

    def as_new(self, number: int | None) -> dict[str, Any]:
        """The row in the form that :meth:`JobService.create_rows` takes."""
        row: dict[str, Any] = {"data": self.data}
        if number is not None:
            row["row_number"] = number
        if self.seen is not None:
            row["place"] = self.seen
        if self.own_key is not None:
            row["idempotency_key"] = self.own_key
        return row


def items_of(
    rows: Iterable[Data], idempotency_key: Key | None, split: Split | None
) -> Iterator[Item]:
    """Yield the rows of an input.

    With ``split``, yield only the rows of its shard. Raises InvalidValueError.
    """
    keys = None if idempotency_key is None else UniqueKeys(idempotency_key, is_for_far_side=True)
    has_key = split is not None and split.key is not None
    own_key, place = None, 0
    for place, data in enumerate(given_rows(rows, "rows"), 1):
        if not isinstance(data, dict):
            raise InvalidValueError(f"input row {place}", data, "must be a dict, a row's data")
        if split is not None and not split.takes(place, data, _as_value):
            continue
        data = _as_value(data, place)  # noqa: PLW2901  (most rows stay as they are)
        if keys is not None:
            text = keys.take(data, f"input row {place}")
            own_key = text if callable(idempotency_key) else None
        elif split is not None:
            own_key = split.own_key(data, f"input row {place}")
        yield Item(place, data, own_key, place if has_key else None)
    if split is not None:
        split.end(place)


def _as_value(data: Data, place: int) -> Data:
    data = own_value(data)
    if SCALARS.issuperset(map(type, data.values())):
        return data
    found: Data = as_json_value(data, f"input row {place}: data")
    return found
