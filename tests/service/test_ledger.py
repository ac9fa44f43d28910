"""An outside ledger of calls: nothing is called twice unless somebody asked for that, or it is named.

Copies of a job fail, retry, redo, reopen, change and add rows, die and are merged at random. Outside
of them stands who called the far side with which idempotency key, what each copy may know of that,
and which calls those knew of who had the row done again. Each call is the last of a row's steps, and
the effects of the others are counted alike: nothing but a redo has a step done again.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest
from support.attempts import try_again
from support.copies import JOB
from support.effort import sample
from support.memory import fast_directory

from journal import InvalidStateTransition, JobRow, JobService, RowStatus, StepInDoubtError
from journal.format.records import MAYBE_DONE_TWICE, RowElsewhereRecord
from journal.model import Policy
from journal.transfer import pull_job
from journal.transfer.source import Source

ROWS = 5
ROUNDS = 12
STEPS = 24
STEPS_OF_ROWS = ("charge", "mail")
Calls = defaultdict[str, set[int]]


class Copy:
    """``called``: by key the calls that this copy may know of; ``allowed``: those of them that a
    retry, a redo or a policy knew of, which had the row done again. The same by the key of a step,
    where a redo alone allows. ``effects``: by the key of a step, those of all copies.
    """

    def __init__(self, root: Path, draw: random.Random, effects: Calls) -> None:
        self.root, self.draw, self.effects = root, draw, effects
        self.called: Calls = defaultdict(set)
        self.allowed: Calls = defaultdict(set)
        self.redone: Counter[str] = Counter()  # by the key without its number, on this copy

    def copied(self, name: str) -> Copy:
        copy = Copy(
            Path(shutil.copytree(self.root, self.root.with_name(name))), self.draw, self.effects
        )
        copy.learn(self)
        return copy

    def learn(self, other: Copy) -> None:
        for mine, theirs in ((self.called, other.called), (self.allowed, other.allowed)):
            for key, calls in theirs.items():
                mine[key] |= calls

    def allow(self, row: JobRow, *, is_redo: bool = False) -> None:
        keys = [row.idempotency_key]
        keys += (f"{row.idempotency_key}/{step}" for step in STEPS_OF_ROWS if is_redo)
        for key in keys:
            self.allowed[key] |= self.called[key]
        self.redone[base_of(row.idempotency_key)] += is_redo

    # --- what happens to a copy

    def run(self, calls: itertools.count[int], seen: Counter[str]) -> None:
        """A run that may die in the middle of a row, before or after its call."""
        policy = self.draw.choice(get_args(Policy))
        with JobService(self.root, sync="none") as service:
            job = service.get_job(JOB)
            assert job is not None
            if job.status.is_ended:
                if not job.pending_count:
                    return
                service.reopen_job(JOB)
            in_flight = list(service.get_rows(JOB, RowStatus.PROCESSING))
            service.start_job(JOB, policy)
            if policy in ("retry", "resume"):
                for row in in_flight:
                    self.allow(row)
            for row in list(service.get_pending_rows(JOB))[: self.draw.randrange(4)]:
                if self._attempt(service, row.id, calls, seen) == "died":
                    return
            if not service.get_pending_rows(JOB):
                failed = service.get_failed_rows(JOB)
                service.update_status(JOB, "failed" if failed else "completed")

    def _attempt(
        self, service: JobService, row_id: str, calls: itertools.count[int], seen: Counter[str]
    ) -> str:
        row = service.start_row(row_id)
        for step in STEPS_OF_ROWS:
            if (end := self._step(service, row, step, calls, seen)) != "done":
                return end
        key, fate = row.idempotency_key, self.draw.random()
        if fate < 0.08:
            return "died"
        assert self.called[key] <= self.allowed[key], (self.root.name, key)
        seen["called again"] += bool(self.called[key])
        self.called[key].add(next(calls))
        seen["calls"] += 1
        if fate < 0.16:
            return "died"
        if fate < 0.3:
            service.fail_row(row_id, "E", "no")
        elif fate < 0.4:
            service.review_row(row_id, "E", "perhaps")
        elif fate < 0.5:  # as a run puts a row back that is to be tried again
            try_again(service, row_id, "Busy", "again")
            self.allow(row)
        else:
            service.complete_row(row_id, result=next(calls))
        return "lived"

    def _step(
        self,
        service: JobService,
        row: JobRow,
        step: str,
        calls: itertools.count[int],
        seen: Counter[str],
    ) -> str:
        key, fate = f"{row.idempotency_key}/{step}", self.draw.random()
        try:
            if service.begin_step(row.id, row.attempts, step) is not None:
                seen["steps that were done already"] += 1
                return "done"
        except StepInDoubtError:
            service.review_row(row.id, "StepInDoubt", step)
            return "lived"
        if fate < 0.06:
            return "died"
        if fate < 0.12:
            service.end_step(row.id, row.attempts, step, error=("E", "nothing happened"))
            service.fail_row(row.id, "E", "no")
            return "lived"
        assert self.called[key] <= self.allowed[key], (self.root.name, key)
        number = next(calls)
        self.called[key].add(number)
        self.effects[key].add(number)
        seen["steps"] += 1
        if fate < 0.2:
            return "died"
        service.end_step(row.id, row.attempts, step, number)
        return "done"

    def settle_steps(self, service: JobService, row: JobRow) -> None:
        """A person finds out about the steps in doubt, and sees what all copies have done."""
        for step in service.get_steps(row.id):
            key = f"{row.idempotency_key}/{step.name}"
            if step.state == "started" and self.effects[key] - self.allowed[key]:
                service.record_step(row.id, step.name, "found")
            elif step.state == "started":
                service.fail_step(row.id, step.name, "not found")

    def decide(self) -> None:
        """A person looks at a row."""
        with JobService(self.root, sync="none") as service:
            job, row = service.get_job(JOB), self.draw.choice(service.get_rows(JOB))
            assert job is not None
            new_key = self.draw.random() < 0.2
            match row.status, self.draw.random() < 0.5:
                case RowStatus.PROCESSING, _:
                    return
                case (RowStatus.COMPLETED | RowStatus.SKIPPED, _) | (RowStatus.FAILED, True):
                    self.allow(row, is_redo=True)
                    service.redo_row(row.id, new_key=new_key)
                case ((RowStatus.FAILED | RowStatus.NEEDS_REVIEW), _):
                    self.settle_steps(service, row)
                    if row.status is RowStatus.NEEDS_REVIEW and self.draw.random() < 0.3:
                        service.complete_row(row.id)
                    elif row.error_code == MAYBE_DONE_TWICE:
                        with pytest.raises(InvalidStateTransition):
                            service.retry_row(row.id)
                        self.allow(row, is_redo=True)
                        service.redo_row(row.id, new_key=new_key)
                    else:
                        self.allow(row)
                        service.retry_row(row.id)
                case RowStatus.PENDING, True:
                    data = {**row.data, "v": self.draw.randrange(3)}
                    service.update_row_data(row.id, data, new_key=new_key)
                case _:
                    if not job.status.is_ended:
                        service.skip_row(row.id)

    def add_row(self) -> None:
        with JobService(self.root, sync="none") as service:
            job = service.get_job(JOB)
            assert job is not None
            if job.status.is_ended:
                service.reopen_job(JOB)
            have = {row.data["n"] for row in service.get_rows(JOB)}
            names = [name for name in ("A-7", "A-8", "A-9") if name not in have]
            if names:
                service.create_rows(JOB, [{"data": {"n": self.draw.choice(names)}}])

    def pull(self, other: Copy, seen: Counter[str]) -> None:
        """Take over what the other did: what both called meanwhile is named."""
        both = {
            key
            for key in other.called
            if other.called[key] - self.called[key] and self.called[key] - other.called[key]
        }
        pulled = pull_job(self.root, Source(other.root / JOB), merge=True)
        self.learn(other)
        seen[pulled.action] += 1
        with JobService(self.root, sync="none") as service:
            rows = {base_of(row.idempotency_key): row for row in service.get_rows(JOB)}
            told = warned_rows(service)
        assert {base_of(key) for key in self.called} <= rows.keys()
        for key in both:
            row = rows[base_of(key)]
            assert row.status is RowStatus.NEEDS_REVIEW or row.row_number in told, key
            seen["steps of both named"] += "/" in key
        seen["named"] += len(both)


def base_of(key: str) -> str:
    return key.partition("/")[0].partition("#")[0]


@pytest.mark.parametrize("seed", sample(range(4), 1))
def test_no_key_is_called_twice_unless_somebody_asked_for_it_or_it_is_named(
    seed: int, count: Callable[[str, int], None]
) -> None:
    seen: Counter[str] = Counter()
    base = fast_directory("crash-")
    try:
        for number in range(ROUNDS):
            history(base / str(number), random.Random(seed * 1000 + number), seen)
    finally:
        shutil.rmtree(base)
    assert seen["rows whose steps all copies agree on"] > ROUNDS / 5
    tried = (
        "steps",
        "steps that were done already",
        "steps of both named",
    )
    for what in ("calls", "called again", "merged", "named", *tried):
        assert seen[what] > ROUNDS
        count(f"ledger: {what}", seen[what])


def history(base: Path, draw: random.Random, seen: Counter[str]) -> None:
    calls = itertools.count()
    first = Copy(base / "a", draw, defaultdict(set))
    with JobService(first.root, sync="none") as service:
        rows = [{"data": {"n": number}} for number in range(ROWS)]
        key = draw.choice(["n", None])
        service.create_job("Ledger", job_id=JOB, key=key, row_data=rows)
    first.run(calls, seen)
    copies = [first, first.copied("b"), first.copied("c")]
    for _ in range(STEPS):
        copy, what = draw.choice(copies), draw.random()
        if what < 0.35:
            copy.run(calls, seen)
        elif what < 0.65:
            copy.decide()
        elif what < 0.75:
            copy.add_row()
        else:
            copy.pull(draw.choice([other for other in copies if other is not copy]), seen)
    for copy, other in [*itertools.permutations(copies, 2)] * 2:
        copy.pull(other, seen)
    for copy, other in itertools.permutations(copies, 2):
        again = pull_job(copy.root, Source(other.root / JOB), merge=True)
        assert again.action in ("ahead", "identical")
    agree_on_steps(copies, seen)
    for copy in copies:
        copy.run(calls, seen)


def warned_rows(service: JobService) -> set[int | None]:
    """Rows with a change of another copy that was not imported, or with a warning in the log."""
    warned = {entry.row_number for entry in service.get_logs(JOB, "WARNING")}
    records = (entry.record for entry in service.get_history(JOB))
    return warned | {each.row for each in records if isinstance(each, RowElsewhereRecord)}


def agree_on_steps(copies: list[Copy], seen: Counter[str]) -> None:
    """Of copies that have merged each other: but for rows that somebody has redone or must look at."""
    known: defaultdict[str, list[Mapping[str, str]]] = defaultdict(list)
    named = set[str]()
    for copy in copies:
        with JobService(copy.root, sync="none") as service:
            told = warned_rows(service)
            for row in service.get_rows(JOB):
                key = base_of(row.idempotency_key)
                states = {step.name: step.state for step in service.get_steps(row.id)}
                known[key].append(states)
                if row.status is RowStatus.NEEDS_REVIEW or row.row_number in told:
                    named.add(key)
    for key, (first, *others) in known.items():
        if key in named or any(copy.redone[key] for copy in copies):
            continue
        assert all(states == first for states in others), key
        seen["rows whose steps all copies agree on"] += bool(first)
