"""Merges of every short history, and of random long ones: what holds whatever the copies did."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from helpers_transfer import JOB, is_well, make_job, states_of

from journal import VALID_ROW_TRANSITIONS, JobService, RowStatus
from journal.changes import Policy
from journal.events import event_of
from journal.source import Source
from journal.transfer import Pulled, pull_job

FIRST = 3  # the rows before it are completed in the beginning
DONE_OR_TOLD = ("completed", "needs_review")
WORK = {"processing", "completed", "failed", "skipped"}

# How a row came to be what it is when the copies part.
BEGINNINGS: dict[str, tuple[str, ...]] = {
    "pending": (),
    "processing": ("processing",),
    "failed": ("processing", "failed"),
    "needs_review": ("processing", "needs_review"),
    "skipped": ("skipped",),
}


def pull(here: Path, there: Path) -> Pulled:
    pulled = pull_job(here, Source(there / JOB), merge=True)
    is_well(here)
    return pulled


def copied(root: Path, name: str) -> Path:
    return Path(shutil.copytree(root, root.with_name(name)))


def histories(status: str, most: int) -> Iterator[tuple[str, ...]]:
    """All that may be done with a row of this status in up to ``most`` moves."""
    yield ()
    if most:
        for target in VALID_ROW_TRANSITIONS[RowStatus(status)]:
            for rest in histories(target, most - 1):
                yield (target.value, *rest)


def move(service: JobService, number: int, status: str, who: str) -> None:
    row_id = f"{JOB}:{number}"
    match status:
        case "processing":
            service.start_row(row_id)
        case "completed":
            service.complete_row(row_id, f"{who}-{number}")
        case "failed":
            service.fail_row(row_id, "E", who)
        case "skipped":
            service.skip_row(row_id, who)
        case "pending":
            service.retry_row(row_id)
        case "needs_review":
            service.review_row(row_id, "E", who)


def act(root: Path, moves: list[tuple[str, ...]], policy: Policy | None = None) -> None:
    """Row by row, and then perhaps what a run makes of the rows in flight that it finds."""
    with JobService(root, sync="none") as service:
        with service.batch(JOB):
            for number, statuses in enumerate(moves, FIRST):
                for status in statuses:
                    move(service, number, status, root.name)
        if policy is not None:
            service.recover_job(JOB, policy)


def open_states(root: Path) -> list[str]:
    return states_of(root)[FIRST - 1 :]


def both_worked(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """So that a person must see it: but for a row that both skipped, one of them untried."""
    work = [[status for status in moves if status in WORK] for moves in (ours, theirs)]
    return all(work) and not (
        ours[-1] == theirs[-1] == "skipped" and any(set(did) == {"skipped"} for did in work)
    )


@pytest.mark.parametrize(
    "policies", list(product([None, *get_args(Policy)], repeat=2)), ids=lambda p: f"{p[0]}-{p[1]}"
)
def test_of_any_two_short_histories_no_work_is_lost_or_done_twice_without_a_word(
    tmp_path: Path, policies: tuple[Policy | None, Policy | None]
) -> None:
    """Each row is one pair of histories of up to two moves since the copies parted."""
    pairs = [
        (begin, ours, theirs)
        for begin in BEGINNINGS
        for ours in histories(begin, 2)
        for theirs in histories(begin, 2)
    ]
    make_job(tmp_path / "a", len(pairs) + FIRST - 1)
    act(tmp_path / "a", [BEGINNINGS[begin] for begin, _, _ in pairs])
    a, b = tmp_path / "a", copied(tmp_path / "a", "b")
    act(a, [ours for _, ours, _ in pairs], policies[0])
    act(b, [theirs for _, _, theirs in pairs], policies[1])
    before = [open_states(root) for root in (a, b)]
    for root, other in ((a, b), (b, a)):
        pulled = pull(root, other)
        told = set(pulled.merged.twice) if pulled.merged else set()
        for number, (pair, status) in enumerate(zip(pairs, open_states(root), strict=True), FIRST):
            if "completed" in pair[1] + pair[2]:
                assert status in DONE_OR_TOLD, pair
            if both_worked(pair[1], pair[2]):
                assert status == "needs_review" or number in told, pair
    pull(a, b)
    pull(b, a)
    assert [pull(a, b).action, pull(b, a).action] == ["ahead", "ahead"]
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


def test_what_a_third_copy_did_is_told_to_whoever_put_the_row_back_not_knowing_of_it(
    tmp_path: Path,
) -> None:
    """A person may try a row again that another copy has completed, but not for a third one."""
    triples = list(product(histories("pending", 2), repeat=3))
    make_job(tmp_path / "a", len(triples) + FIRST - 1)
    a = tmp_path / "a"
    b, c = copied(a, "b"), copied(a, "c")
    for root, index in ((a, 0), (b, 1), (c, 2)):
        act(root, [triple[index] for triple in triples])
    pull(a, b)
    with JobService(a, sync="none") as service, service.batch(JOB):
        for row in service.get_rows(JOB, "needs_review"):
            service.retry_row(row.id)
    put_back = open_states(a)
    pull(b, a)
    pull(b, c)
    pull(a, b)
    is_tried = False
    for triple, was, status in zip(triples, put_back, open_states(a), strict=True):
        if "completed" in triple[2]:
            assert status in DONE_OR_TOLD, triple
            is_tried = is_tried or was == "pending"
    assert is_tried


SEEDS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_three_copies_did_no_completed_work_is_repeated_without_a_word(
    tmp_path: Path, seed: int
) -> None:
    """Each row's shipments are counted outside. A row that was shipped by one copy and is open on
    another must be told before it can be shipped there: by a review, or by the job's error."""
    draw = random.Random(seed)
    make_job(tmp_path / "a", 6)
    copies = [tmp_path / "a", copied(tmp_path / "a", "b"), copied(tmp_path / "a", "c")]
    shipped: dict[int, set[str]] = {number: set() for number in range(1, 7)}
    for step in range(14):
        root = draw.choice(copies)
        if draw.random() < 0.35:
            other = draw.choice([c for c in copies if c != root])
            pull(root, other)
            for ours, theirs in zip(states_of(root), states_of(other), strict=True):
                assert theirs != "completed" or ours in DONE_OR_TOLD
        else:
            act_randomly(root, draw.randrange(FIRST, 7), draw, shipped, f"{root.name}{step}")
    for _ in range(3):  # until all have heard of all
        for root in copies:
            for other in copies:
                if other != root:
                    pull(root, other)
    for root in copies:
        for other in copies:
            if other != root:
                assert pull(root, other).action in ("ahead", "identical")
        for number, trackings in shipped.items():
            status, text = states_of(root)[number - 1], log_of(root, number)
            assert all(tracking in text for tracking in trackings)
            if trackings:
                assert status in DONE_OR_TOLD
            if len(trackings) > 1 and status == "completed":
                assert "another copy of this job" in text


def log_of(root: Path, number: int) -> str:
    """All that the journal says of a row, in its order."""
    with JobService(root, sync="none") as service:
        events = [event_of(entry.record) for entry in service.get_history(JOB)]
    return "\n".join(event.text for event in events if event.row_number == number)


def act_randomly(
    root: Path, number: int, draw: random.Random, shipped: dict[int, set[str]], tracking: str
) -> None:
    """What a run, its death, or a person may do with a row next."""
    row_id = f"{JOB}:{number}"
    with JobService(root, sync="none") as service:
        row = service.get_row(row_id)
        assert row is not None
        if row.status == "pending":
            service.start_row(row_id)
            end = draw.choice(["ship", "ship", "fail", "die"])
            if end == "ship":
                shipped[number].add(tracking)
                service.complete_row(row_id, tracking)
            elif end == "fail":
                service.fail_row(row_id, "E", "no")
        elif row.status == "failed":
            service.retry_row(row_id)
        elif row.status == "processing":
            if draw.random() < 0.5:
                shipped[number].add(tracking)
                service.complete_row(row_id, tracking)
            else:
                service.start_job(JOB, "review")


@pytest.mark.parametrize("seed", range(15))
def test_three_copies_and_those_who_put_rows_back_come_to_agree_and_to_rest(
    tmp_path: Path, seed: int
) -> None:
    """Who has shipped a row, and who has put it back knowing of that, is kept outside."""
    draw = random.Random(seed)
    known = list(histories("pending", 2))
    triples = [tuple(draw.choice(known) for _ in "abc") for _ in range(40)]
    make_job(tmp_path / "a", len(triples) + FIRST - 1)
    copies = [tmp_path / "a", copied(tmp_path / "a", "b"), copied(tmp_path / "a", "c")]
    ledger = Ledger(len(triples))
    for index, root in enumerate(copies):
        act(root, [triple[index] for triple in triples])
        for place, triple in enumerate(triples):
            if "completed" in triple[index]:
                ledger.shipped[root.name][place].add(root.name)
    for step in range(10):
        what, root = draw.random(), draw.choice(copies)
        if what < 0.35:
            ledger.put_back(root, draw)
        elif what < 0.5:
            ledger.ship(root, draw, f"{root.name}{step}")
        else:
            other = draw.choice([copy for copy in copies if copy != root])
            pull(root, other)
            ledger.learn(root, other)
    pairs = [(root, other) for root in copies for other in copies if root != other]
    for root, other in pairs * 2:
        pull(root, other)
        ledger.learn(root, other)
    assert {pull(root, other).action for root, other in pairs} <= {"ahead", "identical"}
    for statuses in zip(*map(open_states, copies), strict=True):
        told = set(statuses) <= set(DONE_OR_TOLD)
        assert told or len(set(statuses)) == 1 or "pending" in statuses


class Ledger:
    """By copy and row: who has shipped it, and of whose shipments those knew who put it back."""

    def __init__(self, rows: int) -> None:
        self.shipped: dict[str, list[set[str]]] = {
            name: [set() for _ in range(rows)] for name in "abc"
        }
        self.allowed: dict[str, list[set[str]]] = {
            name: [set() for _ in range(rows)] for name in "abc"
        }

    def put_back(self, root: Path, draw: random.Random) -> None:
        """Somebody has looked at rows, and lets them be tried again."""
        with JobService(root, sync="none") as service, service.batch(JOB):
            for row in service.get_rows(JOB, ["needs_review", "failed"]):
                if draw.random() < 0.5:
                    service.retry_row(row.id)
                    place = row.row_number - FIRST
                    self.allowed[root.name][place] |= self.shipped[root.name][place]

    def ship(self, root: Path, draw: random.Random, who: str) -> None:
        with JobService(root, sync="none") as service, service.batch(JOB):
            for row in service.get_pending_rows(JOB):
                if draw.random() < 0.5:
                    service.start_row(row.id)
                    service.complete_row(row.id, f"{who}-{row.row_number}")
                    self.shipped[root.name][row.row_number - FIRST].add(who)

    def learn(self, root: Path, other: Path) -> None:
        """A row is done or told of on each copy that knows of a shipment nobody has looked at."""
        for place, status in enumerate(open_states(root)):
            for known in (self.shipped, self.allowed):
                known[root.name][place] |= known[other.name][place]
            unseen = self.shipped[root.name][place] - self.allowed[root.name][place]
            assert status in DONE_OR_TOLD or not unseen, place + FIRST
