"""An interrupt at each line of the package in turn: the same service goes on, and agrees with others."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.effort import IS_LONG, sample
from support.work import contained, is_interrupted

import journal
import journal.store.journal
from journal import InvalidStateTransition, JobService, ServiceClosedError
from journal.verify import verify_job

JOB = "j"
STEP = 1 if IS_LONG else 6  # of the lines that are interrupted: all, or every sixth in a sample


class Interrupted:
    """A service that is interrupted while it acts, and another that works on the same job before."""

    def __init__(self, root: Path) -> None:
        self.service = JobService(root, sync="none")
        self.other = JobService(root, sync="none")
        self.other.create_job("Interrupted", job_id=JOB)
        self.rows: list[str] = []  # four that are pending
        self.done: list[str] = []  # of these, those that were acknowledged
        self.taken: Any = ()  # by a batch that may be cut short

    def look(self) -> None:
        self.service.get_job_summary(JOB)

    def commit(self) -> None:
        self.service.complete_row(self.rows[0], cost_cents=1)
        self.done = self.rows[:1]

    def batch(self) -> None:
        with self.service.batch(JOB):
            self.service.complete_row(self.rows[0], cost_cents=10)
            self.taken = self.service.create_rows(JOB, [{"data": {"mine": 1}}] * 2)
            with pytest.raises(InvalidStateTransition):
                self.service.complete_row(self.rows[0])
            self.service.fail_row(self.rows[1], "E", "M")
        self.done = self.rows[:2]

    def caught(self) -> None:
        """An interrupt that ends no more than a part of a batch."""
        with self.service.batch(JOB):
            self.service.complete_row(self.rows[0])
            with suppress(KeyboardInterrupt), self.service.batch(JOB):
                self.service.complete_row(self.rows[1])
        self.done = self.rows[:1]

    def stream(self) -> None:
        self.taken = self.service.create_rows(JOB, [{"data": {"mine": 1, "pad": "x" * 300}}] * 3)

    def prepare(self) -> None:
        """Several lines, and several commits, that the service has yet to read."""
        with self.other.batch(JOB):
            made = self.other.create_rows(JOB, [{"data": {}}] * 6)
            self.rows = [row.id for row in made[:4]]
            self.other.complete_row(made[4].id, cost_cents=1000)
        self.other.complete_row(made[5].id, cost_cents=100_000)
        self.taken, self.done = (), []

    def check(self, *, read: bool) -> None:
        """What was acknowledged is there. The next read, or commit, undoes what was left open; then others may write, and see the same."""
        if not read:
            self.service.skip_row(self.rows[3])
            self.done.append(self.rows[3])
        assert self.service.get_job_summary(JOB) == self.other.get_job_summary(JOB)
        self.other.skip_row(self.rows[2])
        for row_id in self.done:
            row = self.other.get_row(row_id)
            assert row is not None
            assert row.status in ("completed", "failed", "skipped")
        self.service.log(JOB, "goes on")
        assert self.service.get_job_summary(JOB) == self.other.get_job_summary(JOB)
        total = self.other.get_job_summary(JOB)["total_rows"]
        try:
            taken = [(row.row_number, row.data["mine"]) for row in self.taken]
        except ServiceClosedError:
            return  # they were discarded, and say so
        assert taken == [(total - place, 1) for place in reversed(range(len(taken)))]


@pytest.fixture(name="interrupted")
def fixture_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupted]:
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 500)
    interrupted = Interrupted(tmp_path)
    yield interrupted
    interrupted.service.close()
    interrupted.other.close()


@contained
@pytest.mark.parametrize("act", ["look", "commit", "batch", "caught", "stream"])
@pytest.mark.parametrize("read", [False, True])
def test_a_service_that_was_interrupted_at_any_line_goes_on_in_agreement_with_others(
    tmp_path: Path,
    interrupted: Interrupted,
    act: str,
    read: bool,
    count: Callable[[str, int], None],
) -> None:
    (start,) = sample(range(1, STEP + 1), 1)
    for line in itertools.count(start, STEP):
        interrupted.prepare()
        if not is_interrupted(line, getattr(interrupted, act)):
            break
        interrupted.check(read=read)
    assert line > 100
    count("lines of the package that were interrupted", line // STEP)
    assert verify_job(tmp_path / JOB).findings == []
