"""The rows that copies of a job have made since they parted: which are the same, whatever their numbers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from journal.format import MAX_ROW_NUMBER
from journal.index import Index
from journal.parted import RowChanges


class AddedRows(NamedTuple):
    """What the rows that the other copy has made are called here.

    ``numbers``: ours by theirs. ``added``: those that only they have, ascending, by our numbers; of
    these ``renumbered`` have another number there, which it maps to.
    """

    numbers: dict[int, int]
    added: list[int]
    renumbered: dict[int, int]


def match_added(here: RowChanges, there: RowChanges, indexes: tuple[Index, Index]) -> AddedRows:
    """Match the rows that both have made by their keys, and number the others of ``there``.

    The rows of ``there`` are called by our numbers from then on. ``indexes``: of ours and of theirs.
    """
    found = AddedRows({}, [], {})
    known = _by_key(here)
    lost = {number for number, made in here.added.items() if made.is_lost}
    free = _free_numbers(indexes)
    for key, theirs in _by_key(there).items():
        number = known.pop(key, None)
        if number is None and theirs in (here.added if there.added[theirs].is_lost else lost):
            number = theirs  # a repair knows no more of it than that it was there
        if number is None:
            is_free = indexes[0].position_of(theirs) is None
            number = theirs if is_free else next(free)
            found.added.append(number)
            if not is_free:
                found.renumbered[number] = theirs
        found.numbers[theirs] = number
    found.added.sort()
    there.renumber(found.numbers)
    return found


def _by_key(changes: RowChanges) -> dict[tuple[str, int], int]:
    """The numbers of the rows that a copy has made, by key, and the how manieth of that key it is."""
    found: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    for number, made in changes.added.items():
        found[made.key, seen[made.key]] = number
        seen[made.key] += 1
    return found


def _free_numbers(indexes: tuple[Index, Index]) -> Iterator[int]:
    """The numbers behind all that either copy has, as far as there are any; then gaps."""
    highest = max(index.highest_number for index in indexes)
    numbers = itertools.chain(range(highest + 1, MAX_ROW_NUMBER + 1), itertools.count(1))
    return (n for n in numbers if all(index.position_of(n) is None for index in indexes))
