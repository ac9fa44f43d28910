"""The rows of an input, one by one: all of them, or those of a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from journal.errors import InvalidValueError
from journal.format.arguments import given_rows
from journal.format.keys import Data, Key, key_of, own_key_text
from journal.format.values import SCALARS, as_json_value, own_value
from journal.sets.split import Split, checksum_at


class Item(NamedTuple):
    """A row of an input.

    - ``place``: its position, from 1. ``seen``: the same in a shard with a key, which records it.
    - ``own_key``: the row's idempotency key, if it isn't made from a column.
    """

    place: int
    data: Data
    own_key: str | None
    seen: int | None = None

    def checksum(self) -> str:
        return checksum_at(self.data, self.place)

    def as_new(self, number: int | None) -> dict[str, Any]:
        """The row as :meth:`JobService.create_rows` takes it."""
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
    """Yield the rows of an input, with ``split`` those of a shard. Raises InvalidValueError."""
    keys = None if idempotency_key is None else Keys(idempotency_key, is_for_far_side=True)
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


class Keys:
    """The keys of an input, which must be unique. Only a hash of each key is kept in memory."""

    def __init__(self, key: Key, *, is_for_far_side: bool = False) -> None:
        """``is_for_far_side``: True for idempotency keys. They are text, so 1 and "1" are equal."""
        self._key = key
        self._is_for_far_side = is_for_far_side
        self._what = "idempotency key" if is_for_far_side else "key"
        self._seen: set[int] = set()

    def take(self, data: Data, where: str) -> str:
        """The row's key as text.

        Raises InvalidValueError if the key is missing, or if an earlier row has the same key.
        """
        key = key_of(self._key, data, where, self._what)
        if self._is_for_far_side:
            key = own_key_text(msgspec.json.decode(key))
        mark = hash(key)
        if mark in self._seen:
            name = f" {self._key!r}" if isinstance(self._key, str) else ""
            raise InvalidValueError(
                where,
                key,
                f"an earlier row has the same {self._what}{name}: make each unique, or "
                "leave it out",
            )
        self._seen.add(mark)
        return key
