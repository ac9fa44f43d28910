"""A run whose rows in flight don't end any more says so once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.clock import Clock
from support.runs import open_job

from journal import AttemptedRow, Hold, Job, JobRun
from journal.run.advice import HowTo

TICKS = 4  # looks of the run in which nothing is said


class HangingRun:
    """A run of rows that hang from the number ``first`` on, each until it is let go.

    An hour passes at each look of the run, as soon as the rows ``begun`` hang.
    """

    def __init__(self, job: JobRun, clock: Clock, first: int, begun: set[int]) -> None:
        self.job, self.clock = job, clock
        self.said: list[str] = []
        self.ticks = 0  # since the clock goes
        self._first = first
        self._begun, self._awaited = set[int](), begun
        self._go: dict[int, threading.Event] = defaultdict(threading.Event)

    def handler(self, row: AttemptedRow) -> None:
        number = row.data["n"]
        if number >= self._first:
            if number == 3:
                row.step("charge", lambda: self._hang(3))
            else:
                self._hang(number)

    def _hang(self, number: int) -> None:
        self._begun.add(number)
        assert self._go[number].wait(60)

    def let_go(self, *numbers: int, then: set[int]) -> None:
        """Let rows end. The clock stands still until the rows ``then`` hang."""
        self._awaited, self.ticks = then, 0
        for number in numbers:
            self._go[number].set()

    def pass_an_hour(self) -> None:
        if self._awaited <= self._begun:
            self.clock.pass_timeouts()
            self.ticks += 1

    def stalls(self) -> list[str]:
        return [text for text in self.said if "no row has ended for" in text]


def test_a_stall_is_said_once_with_the_rows_in_flight_and_again_if_others_hang_later(
    path: Path, clock: Clock
) -> None:
    with open_job(path, 4, how_to=HowTo("journal")) as job:
        run = HangingRun(job, clock, 3, {3, 4})

        # So many stalls were said before the next row is added or let go.
        stages: list[tuple[int, Callable[[], object]]]
        stages = [
            (1, lambda: add_row(5)),  # its start is no end
            (1, lambda: run.let_go(4, then={3, 5})),
            (2, lambda: run.let_go(5, then={3})),  # row 3 was named before
            (2, lambda: run.let_go(3, then={99})),
        ]

        def add_row(number: int) -> None:
            job.service.create_rows("j", [{"data": {"n": number}}])
            run.let_go(then={3, 4, number})

        def look(_: Job) -> None:
            run.pass_an_hour()
            if stages and len(run.stalls()) >= stages[0][0] and run.ticks >= TICKS:
                stages.pop(0)[1]()

        report = job.run(run.handler, workers=3, tell=run.said.append, on_progress=look)
        logged = [entry.message for entry in job.service.get_logs("j", level="WARNING")]
    assert report.completed == 5
    first, second = run.stalls()
    assert [f"j: {text}" for text in logged] == [first, second]
    for row in ("row 3 for ", "row 4 for "):
        assert row in first
    assert "in step 'charge'" in first
    assert "look at one with: journal show j --row 3; `--timeout` of the next start" in first
    assert "row 5 for " in second
    assert "row 4" not in second


@pytest.mark.parametrize("why", ["no row has ended yet", "hold", "pause", "process stopped"])
def test_a_run_has_not_stalled_if_(
    path: Path, clock: Clock, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "process stopped":  # so the time of the driver jumps, too
        monkeypatch.setattr("journal.run.driver.monotonic", lambda: monotonic() + clock())
    with open_job(path, 4) as job:
        first = 1 if why == "no row has ended yet" else 2
        run = HangingRun(job, clock, first, {2})
        second_has_begun = threading.Event()

        def handler(row: AttemptedRow) -> Any:
            if why == "hold" and row.data["n"] == 3:
                assert second_has_begun.wait(60)  # a hold takes back a row that has not begun
                raise Hold("Down", "503", after_s=3600)
            if row.data["n"] == 2:
                second_has_begun.set()
            run.handler(row)

        def look(found: Job) -> None:
            if why == "pause" and found.pause is None:
                job.service.pause_job("j")
            elif why != "hold" or found.hold is not None:
                run.pass_an_hour()
            if run.ticks >= TICKS:
                run.let_go(1, 2, 3, 4, then={99})
                job.stop()

        job.run(handler, workers=2, tell=run.said.append, on_progress=look)
    assert run.stalls() == []
