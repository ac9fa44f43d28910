"""The rows that copies of a job have made since they parted: which are the same, whatever their numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import msgspec

from journal.copies import Copy
from journal.format import LOST_CHECKSUM, MAX_ROW_NUMBER, JobRecord
from journal.index import Index
from journal.parted import DATA, Change, RowChanges
from journal.rows import AnyRow, idempotency_key, read_row


def key_of(row: AnyRow, header: JobRecord) -> str:
    """The idempotency key of a row of any copy: the same in all, whatever its number is there."""
    return idempotency_key(f"{header.id}:{row.row}", row, header)


def content_of(row: AnyRow, header: JobRecord) -> bytes:
    """A row's data and key; equal only for what is equal as JSON: 1, 1.0 and true are not."""
    return msgspec.json.encode((row.data, key_of(row, header)), order="deterministic")


def content_id(row: AnyRow, header: JobRecord) -> str:
    """The id of the change that gave a row its first data: the same wherever it was made."""
    return sha256(content_of(row, header)).hexdigest()[:16]


class AddedRows(NamedTuple):
    """What the rows that the other copy has made are called here.

    ``numbers``: ours by theirs. ``added``: those that only they have, ascending, by our numbers; of
    these ``renumbered`` have another number there, which it maps to.
    """

    numbers: dict[int, int]
    added: list[int]
    renumbered: dict[int, int]


class _Made(NamedTuple):
    """A row that a copy has made; ``content`` is its content's id, None if a repair has lost it."""

    number: int
    content: str | None


def match_added(
    ours: Copy, theirs: Copy, here: RowChanges, there: RowChanges, indexes: tuple[Index, Index]
) -> AddedRows:
    """Match the rows that both have made by their keys, and number the others of ``there``.

    The rows of ``there`` are called by our numbers from then on. Of a row that both have made of
    different data, each has changed the data: the first change of it there is. ``indexes``: of ours
    and of theirs.
    """
    found = AddedRows({}, [], {})
    if not there.added:
        return found
    known = _made(ours, here)
    lost = {row.number for row in known.values() if row.content is None}
    free = _free_numbers(indexes)
    pairs = []
    for key, row in _made(theirs, there).items():
        same = known.pop(key, None)
        if same is None and row.number in (lost if row.content else here.added):
            same = _Made(row.number, None)  # a repair knows no more of it than that it was there
        if same is not None:
            found.numbers[row.number] = same.number
            pairs.append((same, row))
            continue
        is_free = indexes[0].position_of(row.number) is None
        number = found.numbers[row.number] = row.number if is_free else next(free)
        found.added.append(number)
        if not is_free:
            found.renumbered[number] = row.number
    found.added.sort()
    there.renumber(found.numbers)
    for same, row in pairs:
        if same.content and row.content and same.content != row.content:
            for changes, id_ in ((here, same.content), (there, row.content)):
                changes.begin_with(same.number, Change(id_, changes.added[same.number], DATA))
    return found


def _made(copy: Copy, changes: RowChanges) -> dict[tuple[str, int], _Made]:
    """The rows that a copy has made, by key, and the how manieth of that key it is."""
    found: dict[tuple[str, int], _Made] = {}
    seen: Counter[str] = Counter()
    for number, offset in changes.added.items():
        row = read_row(copy.file, copy.file.read_line(offset), offset, number)
        key, is_lost = key_of(row, copy.header), row.checksum == LOST_CHECKSUM
        found[key, seen[key]] = _Made(number, None if is_lost else content_id(row, copy.header))
        seen[key] += 1
    return found


def _free_numbers(indexes: tuple[Index, Index]) -> Iterator[int]:
    """The numbers behind all that either copy has, as far as there are any; then gaps."""
    highest = max(index.highest_number for index in indexes)
    numbers = itertools.chain(range(highest + 1, MAX_ROW_NUMBER + 1), itertools.count(1))
    return (n for n in numbers if all(index.position_of(n) is None for index in indexes))
