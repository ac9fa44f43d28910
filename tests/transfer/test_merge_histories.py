"""Merges of every short history, and of random long ones: what holds whatever the copies did.

What each of them must come to by the rules is said by ``merge_rules.py``, to the record; the rest
is what must hold by any rules.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import pytest
from support.children import journal_path
from support.copies import JOB, states_of
from support.effort import sample
from support.merge_rules import Deed, data_of, key_of, status_of
from support.merges import POLICY_STATUSES, Twin

from journal import VALID_ROW_TRANSITIONS, RowStatus
from journal.model import Policy

FIRST = 3  # the rows before it are completed in the beginning
DONE_OR_TOLD = ("completed", "needs_review")
WORK = {"processing", "completed", "failed", "skipped", "wait"}
NOBODY_KNOWS = {"processing", "needs_review", "failed"}  # of a row that was in flight
HISTORIES = 5000  # that LONG=1 tries, half of them in a ring

# How a row came to be what it is when the copies part.
BEGINNINGS: dict[str, tuple[str, ...]] = {
    "pending": (),
    "processing": ("processing",),
    "failed": ("processing", "failed"),
    "needs_review": ("processing", "needs_review"),
    "skipped": ("skipped",),
}


def beginning(root: Path, rows: int) -> Twin:
    """A job of so many rows that the tests may change."""
    return Twin.make(root, rows + FIRST - 1)


def each(moves: Sequence[tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """By row what is done with it."""
    return dict(enumerate(moves, FIRST))


def histories(status: str, most: int, *, decided: bool = False) -> Iterator[tuple[str, ...]]:
    """All that may be done with a row of this status in up to ``most`` moves.

    ``decided``: what a person may decide about it, too: a retry, a redo, other data.
    """
    yield ()
    if most:
        for target in VALID_ROW_TRANSITIONS[RowStatus(status)]:
            for rest in histories(target, most - 1, decided=decided):
                yield (target.value, *rest)
        for move, then in decisions(status) if decided else ():
            for rest in histories(then, most - 1, decided=True):
                yield (move, *rest)


def decisions(status: str) -> Iterator[tuple[str, str]]:
    """What a person may decide about a row of this status, and the status that it has then.

    Or a row in flight waits for somebody else.
    """
    if status == "processing":
        yield "wait", "pending"
    if RowStatus.PENDING in VALID_ROW_TRANSITIONS[RowStatus(status)]:
        yield "retry", "pending"
    if status in ("completed", "failed", "skipped"):
        yield "redo", "pending"
        yield "redo#", "pending"
    if status not in ("processing", "completed"):
        yield "same data", status
        yield "other data", status


def open_states(twin: Twin) -> list[str]:
    return states_of(twin.root)[FIRST - 1 :]


def both_worked(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """So that a person must see it: but for what both did alike without an attempt."""
    work = [[status for status in moves if status in WORK] for moves in (ours, theirs)]
    is_alike = set(work[0]) == set(work[1]) and not {"processing", "completed"} & set(ours)
    return all(work) and not is_alike


STEPS = [
    f"step {step} {what}"
    for step in ("pay", "mail")
    for what in ("begin", "do", "do", "break", "record", "not done")
]


@pytest.mark.parametrize("seed", sample(range(HISTORIES), 8))
def test_whatever_three_copies_did_their_merges_come_to_what_the_rules_say(
    tmp_path: Path, seed: int
) -> None:
    """All copies know all work in the end, and agree but for rows that one has put back.

    Shipments are kept outside as well: each copy names all of them in the end. In a ring, each copy
    pulls from one other only.
    """
    draw = random.Random(seed)
    shipped: list[str] = []

    def ship(number: int, name: str) -> str | None:
        if draw.random() < 0.2:
            return f"shared-{number}"  # one shipment, whoever tells of it
        shipped.append(name)
        return draw.choice([name, "", None])

    def act(twin: Twin) -> None:
        moves = {n: one(s) for n, s in twin.statuses.items() if draw.random() < 0.4}
        twin.act(moves, draw.choice([None, None, None, *POLICY_STATUSES]), ship)

    def one(status: str) -> tuple[str, ...]:
        moves = list(draw.choice(known[status]))
        while draw.random() < 0.4:
            moves.insert(draw.randint(0, len(moves)), draw.choice(STEPS))
        return tuple(moves)

    known = {s.value: list(histories(s.value, 3, decided=draw.random() < 0.7)) for s in RowStatus}
    a = beginning(tmp_path / "a", 20)
    act(a)
    copies = [a, a.copied("b"), a.copied("c")]
    for _ in range(14):
        twin, what = draw.choice(copies), draw.random()
        if what < 0.4:
            act(twin)
        elif what < 0.5:
            keys = {f"A-{n}" for n in range(9)} - set(twin.rules.made.values())
            twin.add_rows(None, *draw.sample(sorted(keys), min(2, len(keys))))
        elif what < 0.55:
            twin.reopen()
        else:
            twin.pull(draw.choice([copy for copy in copies if copy is not twin]))
    ring = list(zip(copies, copies[1:] + copies[:1], strict=True))
    pairs = [(twin, other) for twin in copies for other in copies if twin is not other]
    for _ in range(6):
        found = {twin.pull(other)[0] for twin, other in (ring if seed % 2 else pairs)}
        if found <= {"ahead", "identical"}:
            break
    assert found <= {"ahead", "identical"}
    for twin in copies:
        text = journal_path(twin.root, JOB).read_text()
        assert all(f'"{name}"' in text for name in shipped)
    assert a.rules.costs == copies[1].rules.costs == copies[2].rules.costs
    rows = [by_key(twin) for twin in copies]
    assert rows[0].keys() == rows[1].keys() == rows[2].keys()
    for key in rows[0]:
        assert_agree([of_copy[key] for of_copy in rows])


def by_key(twin: Twin) -> dict[str, list[Deed]]:
    return {key_of(deeds): deeds for deeds in twin.rules.rows.values()}


def assert_agree(rows: list[list[Deed]]) -> None:
    """Check that all copies know the same work on a row, and agree on what the page names."""
    work = [{deed.name for deed in row if deed.is_work} for row in rows]
    assert work[0] == work[1] == work[2]
    statuses = {status_of(row) for row in rows}
    assert len(statuses) == 1 or "pending" in statuses or statuses <= NOBODY_KNOWS, statuses
    if statuses == {"completed"}:
        assert len({data_of(row).content for row in rows}) == 1


@pytest.mark.parametrize(
    "policies",
    sample(product([None, *POLICY_STATUSES], repeat=2), 8),
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def test_of_any_two_short_histories_no_work_is_lost_or_done_twice_without_a_word(
    tmp_path: Path, policies: tuple[Policy | None, Policy | None]
) -> None:
    """Each row is one pair of histories of up to two moves since the copies parted."""
    every = [
        (begin, ours, theirs)
        for begin in BEGINNINGS
        for ours in histories(begin, 2)
        for theirs in histories(begin, 2)
    ]
    pairs = sample(every, len(every) // 12)
    a = beginning(tmp_path / "a", len(pairs))
    a.act(each([BEGINNINGS[begin] for begin, _, _ in pairs]))
    b = a.copied("b")
    a.act(each([ours for _, ours, _ in pairs]), policies[0])
    b.act(each([theirs for _, _, theirs in pairs]), policies[1])
    before = [open_states(twin) for twin in (a, b)]
    for twin, other in ((a, b), (b, a)):
        _, found = twin.pull(other)
        for number, (pair, status) in enumerate(zip(pairs, open_states(twin), strict=True), FIRST):
            if "completed" in pair[1] + pair[2]:
                assert status in DONE_OR_TOLD, pair
            if both_worked(pair[1], pair[2]):
                assert status == "needs_review" or number in found.twice, pair
    a.pull(b)
    b.pull(a)
    assert [a.pull(b)[0], b.pull(a)[0]] == ["ahead", "ahead"]
    for pair, was, (here, there) in zip(
        pairs,
        zip(*before, strict=True),
        zip(open_states(a), open_states(b), strict=True),
        strict=True,
    ):
        nobody_knows = pair == ("processing", (), ())  # it stays as the policy of each has it
        is_one_put_back = "pending" in was
        differs = here != there and {here, there} != set(DONE_OR_TOLD)
        assert not differs or nobody_knows or is_one_put_back, pair
        begin, ours, theirs = pair
        outcomes = {("completed",), ("failed",), ("skipped",)}
        if (
            begin == "processing"
            and {ours, theirs} - {()} in [{o} for o in outcomes]
            and not (ours and theirs)
        ):
            assert here == there == (ours or theirs)[0], pair


def only(moves: tuple[str, ...], *, data: bool) -> tuple[str, ...]:
    """The moves that change a row's data, or the others."""
    return tuple(move for move in moves if move.endswith(" data") == data)


DECIDED = {**BEGINNINGS, "completed": ("processing", "completed")}


@pytest.mark.parametrize("begin", DECIDED)
def test_of_any_two_histories_with_decisions_all_that_was_decided_or_done_is_taken_or_named(
    tmp_path: Path, begin: str
) -> None:
    """Whoever pulls has what the other made of a row, unless it did something itself."""
    moves = list(histories(begin, 2, decided=True))
    pairs = sample(product(moves, moves), 120)
    a = beginning(tmp_path / "a", len(pairs))
    a.act(each([DECIDED[begin]] * len(pairs)))
    b = a.copied("b")
    a.act(each([ours for ours, _ in pairs]))
    b.act(each([theirs for _, theirs in pairs]))
    before = open_states(b)
    _, found = a.pull(b)
    for number, ((ours, theirs), status, was) in enumerate(
        zip(pairs, open_states(a), before, strict=True), FIRST
    ):
        named = status == "needs_review" or number in found.twice
        if not ours and set(theirs) & {*WORK, "retry", "redo", "redo#"}:
            assert named or status == was, theirs
        did, data = ([only(moves, data=data) for moves in (ours, theirs)] for data in (False, True))
        if both_worked(did[0] or ("pending",), did[1] or ("pending",)):
            assert named, (ours, theirs)
        if all(moves[-1:] == ("other data",) for moves in data):
            assert named, (ours, theirs)
    b.pull(a)
    a.pull(b)
    assert [a.pull(b)[0], b.pull(a)[0]] == ["ahead", "ahead"]


def test_what_a_third_copy_did_is_told_to_whoever_put_the_row_back_not_knowing_of_it(
    tmp_path: Path,
) -> None:
    """A person may try a row again that another copy has completed, but not for a third one."""
    triples = sample(product(histories("pending", 2), repeat=3), 500)
    a = beginning(tmp_path / "a", len(triples))
    b, c = a.copied("b"), a.copied("c")
    for index, twin in enumerate((a, b, c)):
        twin.act(each([triple[index] for triple in triples]))
    a.pull(b)
    a.act({n: ("pending",) for n, status in a.statuses.items() if status == "needs_review"})
    put_back = open_states(a)
    b.pull(a)
    b.pull(c)
    a.pull(b)
    is_tried = False
    for triple, was, status in zip(triples, put_back, open_states(a), strict=True):
        if "completed" in triple[2]:
            assert status in DONE_OR_TOLD, triple
            is_tried = is_tried or was == "pending"
    assert is_tried


@pytest.mark.parametrize("seed", sample(range(15), 3))
def test_three_copies_and_those_who_put_rows_back_come_to_agree_and_to_rest(
    tmp_path: Path, seed: int
) -> None:
    """Who has shipped a row, and who has put it back knowing of that, is kept outside."""
    draw = random.Random(seed)
    known = list(histories("pending", 2))
    triples = [tuple(draw.choice(known) for _ in "abc") for _ in range(40)]
    a = beginning(tmp_path / "a", len(triples))
    copies = [a, a.copied("b"), a.copied("c")]
    ledger = Ledger()
    for index, twin in enumerate(copies):
        moves = each([triple[index] for triple in triples])
        twin.act(moves)
        ledger.note(twin, [number for number, did in moves.items() if "completed" in did], "first")
    for step in range(10):
        what, twin = draw.random(), draw.choice(copies)
        chosen = {n: status for n, status in twin.statuses.items() if draw.random() < 0.5}
        if what < 0.35:  # somebody has looked at rows, and lets them be tried again
            seen = [n for n, status in chosen.items() if status in ("needs_review", "failed")]
            twin.act(dict.fromkeys(seen, ("pending",)))
            ledger.allow(twin, seen)
        elif what < 0.5:
            pending = [n for n, status in chosen.items() if status == "pending"]
            twin.act(dict.fromkeys(pending, ("processing", "completed")))
            ledger.note(twin, pending, str(step))
        else:
            other = draw.choice([copy for copy in copies if copy is not twin])
            twin.pull(other)
            ledger.learn(twin, other)
    pairs = [(twin, other) for twin in copies for other in copies if twin is not other]
    for twin, other in pairs * 2:
        twin.pull(other)
        ledger.learn(twin, other)
    assert {twin.pull(other)[0] for twin, other in pairs} <= {"ahead", "identical"}
    for statuses in zip(*(open_states(twin) for twin in copies), strict=True):
        told = set(statuses) <= set(DONE_OR_TOLD)
        assert told or len(set(statuses)) == 1 or "pending" in statuses


class Ledger:
    """By copy and row: who has shipped it, and of whose shipments those knew who put it back."""

    def __init__(self) -> None:
        self.shipped: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self.allowed: defaultdict[tuple[str, int], set[str]] = defaultdict(set)

    def note(self, twin: Twin, rows: Iterable[int], shipment: str) -> None:
        for number in rows:
            self.shipped[twin.root.name, number].add(f"{twin.root.name}-{shipment}")

    def allow(self, twin: Twin, rows: Iterable[int]) -> None:
        for number in rows:
            self.allowed[twin.root.name, number] |= self.shipped[twin.root.name, number]

    def learn(self, twin: Twin, other: Twin) -> None:
        """A row is done or told of on each copy that knows of a shipment nobody has looked at."""
        for number, status in enumerate(states_of(twin.root), 1):
            here = (twin.root.name, number)
            for known in (self.shipped, self.allowed):
                known[here] |= known[other.root.name, number]
            assert status in DONE_OR_TOLD or not self.shipped[here] - self.allowed[here], number
