"""The rows that copies of a job have made since they parted: which are the same, whatever their numbers."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from journal.errors import InvalidValueError
from journal.ids import MAX_ROW_NUMBER
from journal.index.index import Index
from journal.transfer.divergence import RowChanges


class AddedRows(NamedTuple):
    """What the rows that the other copy has made are called here.

    ``numbers``: ours by theirs. ``added``: those that only they have, ascending, by our numbers; of
    these ``renumbered`` have another number there, which it maps to. Of the renumbered ``doubtful``
    may be the row that has that number here: the data of one of the two was lost to damage.
    """

    numbers: dict[int, int]
    added: list[int]
    renumbered: dict[int, int]
    doubtful: set[int]


def match_added(here: RowChanges, there: RowChanges, indexes: tuple[Index, Index]) -> AddedRows:
    """Match the rows that both have made by their keys, and number the others of ``there``.

    The rows of ``there`` are called by our numbers from then on. ``indexes``: of ours and of theirs.
    Raises InvalidValueError if a row needs a number behind the highest that there is.
    """
    found = AddedRows({}, [], {}, set())
    known = _by_key(here)
    highest = max(index.highest_number for index in indexes)
    for key, theirs in _by_key(there).items():
        number = known.get(key)
        if number is None:
            number = theirs
            if indexes[0].position_of(theirs) is not None:
                number = highest = _next_number(highest)
                found.renumbered[number] = theirs
                if there.added[theirs].is_lost or here.added[theirs].is_lost:
                    found.doubtful.add(number)
            found.added.append(number)
        found.numbers[theirs] = number
    found.added.sort()
    there.renumber(found.numbers)
    return found


def _by_key(changes: RowChanges) -> dict[tuple[str, int], int]:
    """The numbers of the rows that a copy has made, by key, and how many it had made of it before."""
    found: dict[tuple[str, int], int] = {}
    seen: Counter[str] = Counter()
    for number, made in changes.added.items():
        found[made.key, seen[made.key]] = number
        seen[made.key] += 1
    return found


def _next_number(highest: int) -> int:
    if highest >= MAX_ROW_NUMBER:
        raise InvalidValueError(
            "row_number", highest, "leaves no higher number to a row of the other copy"
        )
    return highest + 1
