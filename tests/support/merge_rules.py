"""A second implementation of the rules of a merge, without files. It predicts each pull's result.

A copy has, for each row, the deeds that the copy knows, in order. A deed is something that was done
with the row. Each deed has a unique name, which is the same in all copies. So this module finds the
changes that only one copy knows by a comparison of names. The package needs seals, digests and
origins for the same purpose.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_numbers = itertools.count(1)

DATA = "row_data"
Content = tuple[str, str]  # of a row: what its data says, and its idempotency key


class Deed(NamedTuple):
    """Something that was done with a row.

    - ``told``: the deed was done in another copy, and is only in the log of this copy.
    - ``loud``: the deed is told, and its row was completed in this copy.
    - ``reset``: "retry" or "redo" if a person reset the row.
    - ``content``: the data and key that the row got.
    - ``moved``: the deed is a review only because the row got a new number.
    """

    name: str
    status: str
    by: Literal["caller", "policy", "merge"] = "caller"
    tracking: str | None = None
    told: bool = False
    loud: bool = False
    reset: str | None = None
    content: Content | None = None
    moved: bool = False

    @property
    def is_work(self) -> bool:
        """Whether the side effect may have happened, or somebody reported an outcome.

        A failure counts only if a caller reported it.
        """
        outcomes = ("processing", "completed", "skipped", *("failed",) * (self.by == "caller"))
        return self.status in outcomes

    @property
    def matters(self) -> bool:
        is_doubt = (self.status, self.by) == ("needs_review", "caller")
        return self.is_work or is_doubt or (self.told and self.status == DATA)

    @property
    def gives_data(self) -> bool:
        return self.status == DATA and not self.told

    @property
    def word(self) -> str:
        """The status that the deed gave the row in this copy, or ""."""
        return "" if self.told or self.status == DATA else self.status


Row = list[Deed]


class Commit(NamedTuple):
    name: int
    has_news: bool  # of its own, and not only what a merge has brought


@dataclass
class Found:
    """The expected result of a merge, with fields of ``journal.transfer.merge.Merged``."""

    added: list[int] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    review: list[int] = field(default_factory=list)
    both: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    renumbered: dict[int, int] = field(default_factory=dict)
    data: list[int] = field(default_factory=list)
    redone: list[int] = field(default_factory=list)


class Copy:
    """A copy of a job.

    ``made`` has the number and key of each row added after the job's creation.
    """

    def __init__(self, rows: int) -> None:
        self.rows: dict[int, Row] = {}
        self.made: dict[int, str] = {}
        for number in range(1, rows + 1):
            self.rows[number] = [making("", f"moved:{number}")]
        self.commits: list[Commit] = []
        self.merged: list[tuple[int, Commit]] = []  # up to where others were
        self.is_paused = False
        self.names_doubles = False  # in the job's error
        self.costs: dict[str, int] = {}  # of all deeds whose cost counts here, by their names

    def commit(self, *, has_news: bool = True) -> None:
        self.commits.append(Commit(next(_numbers), has_news))

    def pull(self, other: Copy) -> tuple[str, Found]:
        mine, theirs = len(self.commits), len(other.commits)
        if other.commits == self.commits[:theirs]:
            return ("identical" if mine == theirs else "ahead"), Found()
        if self.commits == other.commits[:mine]:
            self.__dict__.update(deepcopy(other.__dict__))
            return "forwarded", Found()
        return self._merge(other)

    def _merge(self, other: Copy) -> tuple[str, Found]:
        found = Found()
        numbers = self._numbers_of(other, found)
        touched = []
        paid: set[str] = set()
        for number, theirs in sorted((numbers[n], row) for n, row in other.rows.items()):
            if number in found.added:
                self.rows[number] = theirs[:1]
            ours = self.rows[number]
            paid |= _paid_once(ours, theirs)
            verdict, new, about = judge(
                ours, theirs, is_added=number in found.added, is_moved=number in found.renumbered
            )
            for name in about:
                getattr(found, name).append(number)
            if verdict == "take":
                self._take(number, ours, new, theirs, found)
            elif verdict == "moved":
                ours += [d if d.gives_data else d._replace(told=True, loud=False) for d in new]
                ours.append(_review(number)._replace(moved=True))
            elif verdict != "keep":
                getattr(found, verdict).append(number)
                is_loud = verdict == "twice"
                ours += [deed._replace(told=True, loud=is_loud) for deed in new]
                if not is_loud:
                    ours.append(_review(number))
            if verdict != "keep":
                touched.append(number)
        for number in found.added:
            self.made[number] = key_of(self.rows[number])
        kept = {deed.name for row in self.rows.values() for deed in row if not deed.told}
        costs = {
            name: cost
            for name, cost in other.costs.items()
            if name not in self.costs and (name in kept or name not in paid)
        }
        self.costs |= costs
        if not touched and not found.added and not costs and not self._lacks_news_of(other):
            return "ahead", found
        needs_review = {n for n in touched if status_of(self.rows[n]) == "needs_review"}
        found.review = sorted(needs_review)
        found.applied = [n for n in found.applied if n not in needs_review]
        self.names_doubles = self.names_doubles or bool(found.twice)
        self.merged.append((len(other.commits), other.commits[-1]))
        self.commit(has_news=False)
        return "merged", found

    def _numbers_of(self, other: Copy, found: Found) -> dict[int, int]:
        """Return a dict from the number of each row in the other copy to its number here.

        Added rows are matched by their keys.
        """
        ours = {key: number for number, key in self.made.items()}
        numbers = {number: number for number in other.rows}
        free = itertools.count(max(*self.rows, *other.rows) + 1)
        for number, key in other.made.items():
            if key in ours:
                numbers[number] = ours[key]
                continue
            if number in self.rows:
                numbers[number] = next(free)
                found.renumbered[numbers[number]] = number
            found.added.append(numbers[number])
        found.added.sort()
        return numbers

    def _take(self, number: int, ours: Row, new: Row, theirs: Row, found: Found) -> None:
        found.applied.append(number)
        was = status_of(ours)
        known = {deed.name for deed in ours if deed.loud}
        warnings = [deed for deed in theirs if deed.loud and deed.name not in known]
        has_own = any(deed.gives_data for deed in _unknown(ours, theirs))
        ours += new
        is_taken = any(deed.status != DATA for deed in new)
        if is_taken and not has_own and data_of(ours).content != data_of(theirs).content:
            ours.append(data_of(theirs))  # by which it was done
        if is_taken and "completed" in (status_of(ours), was) and warnings:
            found.twice.append(number)
            ours += [deed for deed in warnings if deed not in new]
        statuses = [deed for deed in new if deed.told or deed.status != DATA]
        if status_of(ours) == "completed" or not statuses:
            return
        last = statuses[-1]
        if last.word == "processing" or (
            last.told and status_of(ours) != "needs_review" and any(deed.matters for deed in new)
        ):
            ours.append(_review(number))

    def _lacks_news_of(self, other: Copy) -> bool:
        """Return whether the other copy has news that this copy and its kept histories lack.

        A kept history is the journal of a copy that was merged.
        """
        parted = sum(a == b for a, b in zip(self.commits, other.commits, strict=False))
        kept = [
            length
            for length, last in self.merged
            if len(other.commits) >= length and other.commits[length - 1] == last
        ]
        begin = max(parted, *kept) if kept else parted
        return any(commit.has_news for commit in other.commits[begin:])


def making(value: str, key: str) -> Deed:
    """Return the deed that added a row. Rows with the same data and key have the same deed."""
    return Deed(f"made {value} {key}", DATA, content=(value, key))


def key_of(row: Row) -> str:
    """Return the key with which the row was added."""
    assert row[0].content is not None
    return row[0].content[1]


def _review(number: int) -> Deed:
    return Deed(f"merge-{next(_numbers)}-{number}", "needs_review", "merge")


def status_of(row: Row) -> str:
    return next((deed.word for deed in reversed(row) if deed.word), "pending")


def data_of(row: Row) -> Deed:
    """Return the deed that gave the row its present data."""
    return next(deed for deed in reversed(row) if deed.gives_data)


def _unknown(row: Row, other: Row) -> Row:
    """Return the deeds that the other copy doesn't know.

    A deed without effect is left out if the other copy knows a later deed of the row.
    """
    names = {deed.name for deed in other}

    def last_known(*, data: bool) -> int:
        known = (
            at
            for at, deed in enumerate(row)
            if deed.name in names and not deed.told and deed.gives_data == data
        )
        return max(known, default=-1)

    settled = {data: last_known(data=data) for data in (False, True)}
    return [
        deed
        for at, deed in enumerate(row)
        if deed.name not in names and (deed.matters or at > settled[deed.gives_data])
    ]


Verdict = Literal["keep", "take", "both", "twice", "moved"]


def judge(
    ours: Row, theirs: Row, *, is_added: bool = False, is_moved: bool = False
) -> tuple[Verdict, Row, list[str]]:
    """Return the verdict about a row, the other copy's deeds to import or log, and notes.

    The notes are names of the lists in :class:`Found` that get the row, such as "data".
    """
    new, mine = _unknown(theirs, ours), _unknown(ours, theirs)
    here = status_of(ours)
    if not is_added and any(deed.moved for deed in new):  # what it is called there
        new = [deed for deed in new if not deed.moved]
        if _is_settled(ours, new, mine):
            return "keep", [], []
    data, has_own = _news_of_data(ours, theirs, new, mine)
    new = [deed for deed in new if not deed.gives_data or deed in data]
    did = [deed for deed in new if not deed.gives_data]
    own = [deed for deed in mine if not deed.gives_data]
    if is_moved and any(deed.matters for deed in did):
        return "moved", new, []
    verdict = _judge_status(ours, theirs, did, own) if did else "keep"
    are_both_worked_on = [any(deed.matters for deed in deeds) for deeds in (did, own)]
    worked_here = are_both_worked_on[1] or here in ("processing", "completed")
    if (
        (data and has_own)
        or (has_own and verdict != "keep" and are_both_worked_on[0])
        or (data and not has_own and verdict != "take" and worked_here)
    ):
        verdict, about = "twice" if here == "completed" else "both", ["data"]
    else:
        about = []
    if verdict in ("both", "twice"):
        return verdict, new, about + ["redone"] * any(deed.reset == "redo" for deed in new + mine)
    if verdict == "take":
        return verdict, new, []
    return ("take" if data else "keep"), data, []


def _is_settled(ours: Row, new: Row, mine: Row) -> bool:
    """Return whether both copies completed the row, the other copy after a review of its number."""
    if status_of(ours) != "completed" or mine or [deed.word for deed in new] != ["completed"]:
        return False
    shipped = next(deed for deed in reversed(ours) if deed.word)
    return len({shipped.tracking, new[0].tracking} - {None, ""}) < 2


def _paid_once(ours: Row, theirs: Row) -> set[str]:
    """Return the other copy's completions that are the same work as the completion here.

    Their cost is already counted here.
    """
    here = [deed for deed in ours if deed.word][-1:]
    if not here or here[0].word != "completed":
        return set()
    new, mine = _unknown(theirs, ours), _unknown(ours, theirs)
    settled = [deed for deed in new if not deed.moved]
    is_settled = len(settled) < len(new) and _is_settled(ours, settled, mine)
    return {deed.name for deed in settled if is_settled} | {
        deed.name
        for deed in theirs
        if here[0].tracking
        and deed.word == "completed"
        and deed.tracking == here[0].tracking
        and not _are_two_attempts(ours, theirs)
    }


def _news_of_data(ours: Row, theirs: Row, new: Row, mine: Row) -> tuple[Row, bool]:
    """Return the other copy's changes of data that are news here, and whether we have such news."""
    data, own = ([deed for deed in deeds if deed.gives_data] for deeds in (new, mine))
    here, there = data_of(ours).content, data_of(theirs).content
    if here == there:
        return [], False
    if data and own and here in [deed.content for deed in data]:
        return data, False  # they were there, too, and went on
    if data and own and there in [deed.content for deed in own]:
        return [], True
    return data, bool(own)


def _judge_status(ours: Row, theirs: Row, new: Row, mine: Row) -> Verdict:
    here, last = status_of(ours), new[-1]
    statuses = [deed for deed in theirs if deed.word]
    is_last_word = all(deed.told for deed in new) or statuses[-1] in new
    first = next((deed for deed in new if deed.word), None)
    is_redone = first is not None and first.reset == "redo"
    if is_last_word and not mine and (here != "completed" or is_redone):  # only the other did
        is_said = any(deed.is_work or deed.reset for deed in new) or last.word == "needs_review"
        return "take" if is_said else "keep"
    if not any(deed.matters for deed in new) or _is_one_work(ours, theirs, new):
        return "keep"
    if here == last.word == "skipped" and _only_skips(mine):
        return "take"  # both skipped it, and the other had tried it before
    if here == "completed":
        return "twice"
    knows_better = is_last_word and (here, last.word) != ("needs_review", "pending")
    if knows_better and not any(deed.matters for deed in mine):
        return "take"  # it was in flight, or put back, and the other knows how that ended
    return "both"


def _is_one_work(ours: Row, theirs: Row, new: Row) -> bool:
    here, there = [deed for deed in ours if deed.word][-1:], new[-1]
    if not here or any(deed.told for deed in new) or here[0].status != there.status:
        return False
    if there.status == "skipped":
        return _only_skips(new)
    is_shipped = there.status == "completed" and there.tracking
    is_one = bool(is_shipped) and there.tracking == here[0].tracking
    return is_one and not _are_two_attempts(ours, theirs)


def _are_two_attempts(ours: Row, theirs: Row) -> bool:
    """Return whether the copies know two attempts between them that no review has weighed.

    Attempts that both copies know count as one.
    """
    words = [deed.word for deed in theirs if deed.word or deed.told]
    if words[-2:] == ["needs_review", "completed"] and not _unknown(ours, theirs):
        return False
    here, there = ({d.name for d in row if d.word == "processing"} for row in (ours, theirs))
    return [bool(here - there), bool(there - here), bool(here & there)].count(True) > 1


def _only_skips(row: Row) -> bool:
    return {deed.status for deed in row if deed.is_work} == {"skipped"}
