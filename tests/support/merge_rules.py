"""A second implementation of the sentences of a merge, without files. It predicts each pull.

A copy has, for each row, the deeds that the copy knows, in order. A deed is a change of the row.
Each deed has a unique name, which is the same in all copies. So a comparison of names shows the
deeds that only one copy knows. The package needs seals, digests and origins for the same purpose.
The sentences are those of ``journal.transfer.three_way``.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_numbers = itertools.count(1)

DATA, STEP = "row_data", "row_step"
Content = tuple[str, str]  # the content of a row's data, and the row's idempotency key


class Deed(NamedTuple):
    """A change of a row.

    - ``what``: the new status of the row, or DATA or STEP.
    - ``content``: the new data and key of the row. ``step``, ``state``: the name and state of a
      step.
    - ``is_logged``: the deed was done in another copy, and is only in the log of this copy.
    - ``is_again``: a merge has repeated the deed, to make data or steps equal to the other copy.
      The repeated deed is news for no copy.
    - ``is_done``: the deed is a review by a merge, of a row that is completed in one of the copies.
    """

    name: str
    what: str
    by: Literal["caller", "policy", "merge"] = "caller"
    tracking: str | None = None
    reset: str | None = None
    content: Content | None = None
    step: str = ""
    state: str = ""
    is_logged: bool = False
    is_done: bool = False
    is_again: bool = False

    @property
    def is_work(self) -> bool:
        if self.what == STEP:
            return self.state != "failed"
        return self.by == "caller" and (self.what != "pending" or self.reset == "wait")

    @property
    def is_decision(self) -> bool:
        if self.is_logged:
            return False
        is_put_back = self.what == "pending" and self.reset != "wait"
        return self.state == "failed" or (self.by == "caller" and is_put_back)

    @property
    def status(self) -> str:
        """The status that the deed gave the row in this copy, or ""."""
        return "" if self.is_logged or self.what in (DATA, STEP) else self.what

    @property
    def gives_data(self) -> bool:
        return self.what == DATA and not self.is_logged

    @property
    def is_step(self) -> bool:
        return self.what == STEP and not self.is_logged


Row = list[Deed]


class Commit(NamedTuple):
    name: int
    has_news: bool  # not only deeds that a merge has brought


@dataclass
class Found:
    """The expected result of a merge, with fields of ``journal.transfer.three_way.Merged``."""

    added: list[int] = field(default_factory=list)
    applied: list[int] = field(default_factory=list)
    review: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    renumbered: dict[int, int] = field(default_factory=dict)


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
        self.merged: list[tuple[int, Commit]] = []  # the length and the end of merged copies
        self.is_paused = False
        self.costs: dict[str, int] = {}  # the costs that count here, by the names of their deeds

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
        is_written, touched = bool(found.added), set(found.added)
        for number, theirs in sorted((numbers[n], row) for n, row in other.rows.items()):
            if number in found.added:
                self.rows[number] = theirs[:1]
            ours = self.rows[number]
            verdict, new = judge(ours, theirs, is_added=number in found.added)
            if verdict == "take":
                _take(ours, theirs, new)
            elif verdict == "review":
                _put_conflict(ours, theirs, new)
            elif verdict == "same":
                ours += [deed._replace(is_logged=True) for deed in new]
            if verdict in ("take", "review"):
                touched.add(number)
            is_written = is_written or verdict != "keep"
        for number in found.added:
            self.made[number] = key_of(self.rows[number])
        costs = {name: cost for name, cost in other.costs.items() if name not in self.costs}
        self.costs |= costs
        if not is_written and not costs and not self._lacks_news_of(other):
            return "ahead", found
        found.review = sorted(n for n in touched if status_of(self.rows[n]) == "needs_review")
        found.twice = [n for n in found.review if is_done_review(self.rows[n])]
        found.applied = sorted(touched.difference(found.review, found.added))
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

    def _lacks_news_of(self, other: Copy) -> bool:
        """Return whether the other copy has news that this copy and its kept histories lack.

        A kept history is the journal of a copy that was merged.
        """
        forked = sum(a == b for a, b in zip(self.commits, other.commits, strict=False))
        kept = [
            length
            for length, last in self.merged
            if len(other.commits) >= length and other.commits[length - 1] == last
        ]
        begin = max(forked, *kept) if kept else forked
        return any(commit.has_news for commit in other.commits[begin:])


def making(value: str, key: str) -> Deed:
    """Return the deed that added a row. Rows with the same data and key have the same deed."""
    return Deed(f"made {value} {key}", DATA, content=(value, key))


def key_of(row: Row) -> str:
    """Return the key with which the row was added."""
    assert row[0].content is not None
    return row[0].content[1]


def last_status(row: Row) -> Deed | None:
    return next((deed for deed in reversed(row) if deed.status), None)


def status_of(row: Row) -> str:
    last = last_status(row)
    return last.status if last else "pending"


def is_done_review(row: Row) -> bool:
    last = last_status(row)
    return last is not None and last.is_done


def data_of(row: Row) -> Deed:
    """Return the deed that gave the row its present data."""
    return next(deed for deed in reversed(row) if deed.gives_data)


def steps_of(row: Row) -> dict[str, Deed]:
    """Return the deed that decides each step's state: its first "done", or else its last."""
    redo = max(
        (at for at, deed in enumerate(row) if deed.status and deed.reset == "redo"), default=0
    )
    return _deciding(deed for deed in row[redo:] if deed.is_step)


def _deciding(deeds: object) -> dict[str, Deed]:
    found: dict[str, Deed] = {}
    for deed in deeds:  # type: ignore[attr-defined]
        if deed.step not in found or found[deed.step].state != "done":
            found[deed.step] = deed
    return found


Verdict = Literal["keep", "take", "same", "review"]


def _unknown(row: Row, other: Row) -> Row:
    """Return the deeds of a row that count and that the other copy doesn't know."""
    known = {deed.name for deed in other}
    shared = [
        at
        for at, deed in enumerate(row)
        if deed.name in known and not deed.is_logged and not deed.is_step
    ]
    last = max(shared, default=-1)
    return [
        deed
        for at, deed in enumerate(row)
        if deed.name not in known and (deed.is_work or at > last)
    ]


def judge(ours: Row, theirs: Row, *, is_added: bool = False) -> tuple[Verdict, Row]:
    """Return the verdict of the first sentence that fits, and the deeds that only the other copy
    knows.
    """
    ours, all_ours = [deed for deed in ours if not deed.is_again], ours
    theirs, all_theirs = [deed for deed in theirs if not deed.is_again], theirs
    new, mine = _unknown(theirs, ours), _unknown(ours, theirs)
    if is_added:
        return "take", new
    if not new:
        return "keep", []
    works, works_there = (any(deed.is_work for deed in deeds) for deeds in (mine, new))
    decides, decides_there = _decides(ours, mine, theirs), _decides(theirs, new, ours)
    here, there = status_of(ours), status_of(theirs)
    if not works_there and not decides_there:  # 1
        is_review = not mine and there == "needs_review"
        return ("take" if is_review else "keep"), new
    last = last_status(ours)
    is_known = last is None or last.name in {deed.name for deed in theirs}
    is_review_of_ours = here == "needs_review" and there == "pending" and not is_known
    if not works and not decides and not is_review_of_ours:  # 2
        return "take", new
    if not works and works_there and not is_review_of_ours:  # 4
        return "take", new
    if not works_there:  # 4
        return "keep", new
    if works and _is_same(all_ours, all_theirs, mine, new):  # 3
        return "same", new
    return "review", new  # 5


def _decides(row: Row, unknown: Row, other: Row) -> bool:
    """Whether a deed is a decision after the last status or data that both copies know."""
    names, known = {deed.name for deed in unknown}, {deed.name for deed in other}
    for deed in reversed(row):
        if deed.name in known and not deed.is_logged and not deed.is_step:
            return False
        if deed.name in names and deed.is_decision:
            return True
    return False


def _is_same(ours: Row, theirs: Row, mine: Row, new: Row) -> bool:
    if any(deed.what in ("processing", STEP) or deed.is_logged for deed in mine + new):
        return False
    if any(deed.reset == "redo" for deed in mine + new):
        return False
    if {deed.what for deed in mine if deed.is_work} != {deed.what for deed in new if deed.is_work}:
        return False
    if data_of(ours).content != data_of(theirs).content:
        return False
    here, there = last_status(ours), last_status(theirs)
    if here is None or there is None:
        return here is there
    if here.status != there.status or _code(here) != _code(there):
        return False
    if here.status == "completed" and (here.name != there.name):
        return bool(here.tracking) and here.tracking == there.tracking
    return True


def _code(deed: Deed) -> str:
    """Return the error code that the copies of the tests give to a status."""
    if deed.by == "merge":
        return "of a merge"
    if deed.by == "policy":
        return "of a policy"
    has_code = deed.what in ("failed", "needs_review", "pending") and deed.reset is None
    return "E" if has_code else ""


def _take(ours: Row, theirs: Row, new: Row) -> None:
    names, has = {deed.name for deed in new}, {ours[0].name}
    redo = len(theirs)
    for at, deed in enumerate(theirs):
        if deed.name in names and deed.status and deed.reset == "redo":
            redo = at
    is_added = len(ours) == 1 and ours[0] is theirs[0]
    for at, deed in enumerate(theirs):
        if is_added and at == 0 and deed.name in has:
            continue
        if deed.name in names and not deed.is_again:
            ours.append(deed)
        elif at > redo and deed.is_step:
            ours.append(deed._replace(is_again=True))
    if data_of(ours).content != data_of(theirs).content:
        ours.append(data_of(theirs)._replace(is_again=True))
    if status_of(theirs) == "processing" or _is_only_logged(new, status_of(theirs)):
        is_done = status_of(theirs) != "processing" and _is_done(ours, theirs)
        ours.append(_review(is_done=is_done))


def _is_only_logged(new: Row, there: str) -> bool:
    later = list(itertools.takewhile(lambda deed: not deed.status, reversed(new)))
    logged = [deed for deed in later if deed.is_logged and deed.is_work]
    return there != "needs_review" and any(deed.what != there for deed in logged)


def _put_conflict(ours: Row, theirs: Row, new: Row) -> None:
    is_done = _is_done(ours, theirs)
    steps = {
        step
        for step, deed in _deciding(deed for deed in new if deed.is_step).items()
        if deed.state != "failed"
    }
    for deed in new:
        is_taken = deed.is_step and deed.step in steps
        ours.append(deed if is_taken else deed._replace(is_logged=True))
    ours.append(_review(is_done=is_done))


def _is_done(ours: Row, theirs: Row) -> bool:
    return any(status_of(row) == "completed" or is_done_review(row) for row in (ours, theirs))


def _review(*, is_done: bool) -> Deed:
    return Deed(f"merge-{next(_numbers)}", "needs_review", "merge", is_done=is_done)
