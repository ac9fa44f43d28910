"""The rules of a merge, written down a second time and without files: what each pull must come to.

A copy is, for each row, all that is known there of what was done with it, in order. What is done has
a name, once and for all: so "what the other knows and we don't" is a difference of names here, where
the package has to find it out from seals, digests and origins.
"""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

_numbers = itertools.count(1)


class Deed(NamedTuple):
    """Something that was done with a row. ``told``: elsewhere, and only the log here says so.

    ``loud``: told of a row that was completed here.
    """

    name: str
    status: str
    by: Literal["caller", "policy", "merge"] = "caller"
    tracking: str | None = None
    cost: int = 0
    told: bool = False
    loud: bool = False

    @property
    def is_work(self) -> bool:
        """Something may have been done, or somebody says what came of it: a policy knows nothing."""
        outcomes = ("processing", "completed", "skipped", *("failed",) * (self.by == "caller"))
        return self.status in outcomes

    @property
    def matters(self) -> bool:
        return self.is_work or (self.status, self.by) == ("needs_review", "caller")


Row = list[Deed]


class Commit(NamedTuple):
    name: int
    has_news: bool  # of its own, and not only what a merge has brought


@dataclass
class Found:
    """As ``journal.merge.Merged``."""

    added: list[int] = field(default_factory=list)
    took_over: list[int] = field(default_factory=list)
    review: list[int] = field(default_factory=list)
    both: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)


class Copy:
    def __init__(self, rows: int) -> None:
        self.rows: dict[int, Row] = {number: [] for number in range(1, rows + 1)}
        self.commits: list[Commit] = []
        self.merged: list[tuple[int, Commit]] = []  # up to where others were
        self.is_paused = False
        self.names_doubles = False  # in the job's error

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
        found = Found(added=sorted(other.rows.keys() - self.rows.keys()))
        touched = []
        for number, theirs in sorted(other.rows.items()):
            verdict, new = judge(self.rows.get(number, []), theirs)
            ours = self.rows.setdefault(number, [])
            if verdict == "take":
                self._take(number, ours, new, theirs, found)
            elif verdict != "keep":
                getattr(found, verdict).append(number)
                is_loud = verdict == "twice"
                ours += [deed._replace(told=True, loud=is_loud) for deed in new]
                if not is_loud:
                    ours.append(_review(number))
            if verdict != "keep":
                touched.append(number)
        if not touched and not found.added and not self._lacks_news_of(other):
            return "ahead", found
        needs_review = {n for n in touched if status_of(self.rows[n]) == "needs_review"}
        found.review = sorted(needs_review)
        found.took_over = [n for n in found.took_over if n not in needs_review]
        self.names_doubles = self.names_doubles or bool(found.twice)
        self.merged.append((len(other.commits), other.commits[-1]))
        self.commit(has_news=bool(found.added))
        return "merged", found

    def _take(self, number: int, ours: Row, new: Row, theirs: Row, found: Found) -> None:
        found.took_over.append(number)
        ours += new
        last = new[-1]
        warnings = [deed for deed in theirs if deed.loud]
        if status_of(ours) == "completed" and warnings:
            found.twice.append(number)
            ours += [deed for deed in warnings if deed not in new]
        elif _word(last) == "processing" or (
            last.told and status_of(ours) != "needs_review" and any(deed.matters for deed in new)
        ):
            ours.append(_review(number))

    def _lacks_news_of(self, other: Copy) -> bool:
        """Whether something stands there that is neither here nor in a history that was kept here."""
        parted = sum(a == b for a, b in zip(self.commits, other.commits, strict=False))
        kept = [
            length
            for length, last in self.merged
            if len(other.commits) >= length and other.commits[length - 1] == last
        ]
        begin = max(parted, *kept) if kept else parted
        return any(commit.has_news for commit in other.commits[begin:])


def _review(number: int) -> Deed:
    return Deed(f"merge-{next(_numbers)}-{number}", "needs_review", "merge")


def _word(deed: Deed) -> str:
    """What a deed has made of the row here."""
    return "" if deed.told else deed.status


def status_of(row: Row) -> str:
    return next((deed.status for deed in reversed(row) if not deed.told), "pending")


def _unknown(row: Row, other: Row) -> Row:
    """What the other doesn't know of; but for what came to nothing before something it does know."""
    names = {deed.name for deed in other}
    known = [at for at, deed in enumerate(row) if deed.name in names and not deed.told]
    settled = known[-1] if known else -1
    return [
        deed
        for at, deed in enumerate(row)
        if deed.name not in names and (deed.matters or at > settled)
    ]


Verdict = Literal["keep", "take", "both", "twice"]


def judge(ours: Row, theirs: Row) -> tuple[Verdict, Row]:
    """What becomes of a row, and the deeds of theirs that it is about."""
    new, mine = _unknown(theirs, ours), _unknown(ours, theirs)
    if not new:
        return "keep", new
    here, last = status_of(ours), new[-1]
    statuses = [deed for deed in theirs if not deed.told]
    is_last_word = all(deed.told for deed in new) or statuses[-1] in new
    if is_last_word and not mine and here != "completed":  # only the other has changed it
        is_put_back = not any(deed.is_work for deed in new) and _word(last) != "needs_review"
        return "keep" if is_put_back else "take", new
    if not any(deed.matters for deed in new) or _is_one_work(ours, new):
        return "keep", new
    if here == _word(last) == "skipped" and _only_skips(mine):
        return "take", new  # both skipped it, and the other had tried it before
    if here == "completed":
        return "twice", new
    knows_better = is_last_word and (here, _word(last)) != ("needs_review", "pending")
    if knows_better and not any(deed.matters for deed in mine):
        return "take", new  # it was in flight, and the other knows how that ended
    return "both", new


def _is_one_work(ours: Row, new: Row) -> bool:
    here, there = [deed for deed in ours if not deed.told][-1:], new[-1]
    if not here or any(deed.told for deed in new) or here[0].status != there.status:
        return False
    if there.status == "skipped":
        return _only_skips(new)
    is_shipped = there.status == "completed" and there.tracking
    return bool(is_shipped) and there.tracking == here[0].tracking


def _only_skips(row: Row) -> bool:
    return {deed.status for deed in row if deed.is_work} == {"skipped"}
