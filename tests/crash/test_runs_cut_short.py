"""After the death of a run, by kill -9 or a power cut, the next run makes no call twice.

A ledger outside of the journal has the calls of the handler. The tests try a sample of the states
that a power cut may leave. This command tries all states:
``LONG=1 python -m pytest tests/crash/test_runs_cut_short.py``.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from crash.disk import distinct_crash_states
from crash.explore import place
from crash.recorder import STORE, record
from crash.scenarios import Acknowledge, Scenario
from support.children import Child
from support.effort import sample
from support.memory import fast_directory
from support.platforms import needs_directory_syncs

import journal
from journal import AttemptedRow, JobRow, JobService

ROWS = 40
WORKERS = 3

# Calls write their row into the ledger, then wait until they are let go, one byte each.
RUNNER = """
import threading, journal
ledger = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
told = threading.Lock()

def handler(row):
    os.write(ledger, f"{row.row_number}\\n".encode())
    with told:
        tell("called", row.row_number)
    while not os.read(0, 1):
        os._exit(0)

with journal.open_job(
    f"{root}/{job_id}", ({"n": n} for n in range(int(sys.argv[4]))), on_interrupted=sys.argv[5]
) as job:
    report = job.run(handler, workers=int(sys.argv[6]), tell=lambda text: None)
tell("ended", report.job.status)
"""


def run_and_kill(root: Path, ledger: Path, policy: str, calls: int) -> int:
    """A run whose every call so far has returned but the last ones, killed; how many calls began."""
    with Child(RUNNER, root, "j", ledger, ROWS, policy, WORKERS) as child:
        called = returned = 0
        while child.hear().startswith("called"):
            called += 1
            if called >= calls:
                break
            # Never more than a few behind, and the last ones never: they are in flight.
            while called - returned >= WORKERS:
                child.tell("")
                returned += 1
        child.kill()
    return len(ledger.read_text().split())


@pytest.mark.parametrize("policy", ["review", "retry"])
@pytest.mark.parametrize("seed", sample(range(3), 1))
def test_a_run_killed_again_and_again_calls_no_row_twice_but_those_in_flight_under_retry(
    tmp_path: Path, policy: str, seed: int, count: Callable[[str, int], None]
) -> None:
    draw = random.Random(seed)
    ledger, root = tmp_path / "ledger", tmp_path / "jobs"
    in_flight = 0
    for _ in range(3):
        run_and_kill(root, ledger, policy, draw.randrange(1, ROWS // 3))
        with JobService(root) as service:
            killed = len(service.get_rows("j", "processing"))
        assert killed, "the kill hit no call"
        in_flight += killed
    count("kills of a run with rows in flight", 3)
    with journal.open_job(root / "j", on_interrupted=policy) as job:  # type: ignore[arg-type]

        def handler(row: JobRow) -> None:
            with ledger.open("a") as file:
                file.write(f"{row.row_number}\n")

        report = job.run(handler)
        statuses = Counter(str(row.status) for row in job.rows())
    calls = Counter(map(int, ledger.read_text().split()))
    if policy == "review":
        # What was started is called, or died in the instant before its call.
        assert set(calls.values()) == {1}
        assert ROWS - in_flight <= sum(calls.values()) <= ROWS
        assert statuses == {"completed": ROWS - in_flight, "needs_review": in_flight}
        assert report.exit_code == 3
    else:
        assert set(calls) == set(range(1, ROWS + 1))
        assert ROWS <= sum(calls.values()) <= ROWS + in_flight
        assert (statuses, report.exit_code) == ({"completed": ROWS}, 0)


# --- power cuts ------------------------------------------------------------------------------

CUT_ROWS = 5
STEPS = ("charge", "mail")


def before_the_run(root: Path) -> None:
    journal.open_job(root / "j", ({"n": n} for n in range(CUT_ROWS))).close()


def run(root: Path, acknowledge: Acknowledge) -> None:
    """Each call of the handler is acknowledged: that it was made must never be forgotten."""

    def handler(row: JobRow) -> str:
        acknowledge()
        return "x" * (700 * row.row_number)

    with journal.open_job(root / "j") as job:
        job.run(handler)


def run_in_batches(root: Path, acknowledge: Acknowledge) -> None:
    """The same for calls of two rows, which are started and completed together."""

    def handler(rows: list[AttemptedRow]) -> list[str]:
        for _ in rows:
            acknowledge()
        return ["x" * (700 * row.row_number) for row in rows]

    with journal.open_job(root / "j") as job:
        job.run(handler, batch=2)


@pytest.fixture(name="base", scope="module")
def fixture_base() -> Iterator[Path]:
    base = fast_directory("crash-")
    yield base
    shutil.rmtree(base)


@needs_directory_syncs
@pytest.mark.parametrize("work", [run, run_in_batches])
@pytest.mark.parametrize("policy", ["review", "retry"])
def test_after_a_power_cut_at_any_moment_of_a_run_no_call_that_was_made_is_unknown(
    base: Path,
    policy: str,
    work: Callable[[Path, Acknowledge], None],
    count: Callable[[str, int], None],
) -> None:
    directory = base / f"{work.__name__}-{policy}"
    directory.mkdir()
    recording = record(Scenario("run", before_the_run, work), directory)
    states = sample(distinct_crash_states(recording, Random(1), 20), 60)
    for cut, tree in states:
        root = base / "state"
        place(root, tree)
        with journal.open_job(root / STORE / "j", on_interrupted=policy, sync="none") as job:  # type: ignore[arg-type]
            job.run(lambda row: row.row_number)
            again = [row.result for row in job.rows() if isinstance(row.result, int)]
            statuses = Counter(str(row.status) for row in job.rows())
        shutil.rmtree(root)
        made = list(range(1, cut.acknowledged + 1))
        twice = set(made) & set(again)
        assert len(again) == len(set(again))
        if policy == "review":
            assert not twice
            assert statuses["completed"] + statuses["needs_review"] == CUT_ROWS
            assert statuses["needs_review"] <= 2
        else:
            assert len(twice) <= 2
            assert statuses == {"completed": CUT_ROWS}
            assert set(made) | set(again) == set(range(1, CUT_ROWS + 1))
    count("disk states that a power cut leaves of a run", len(states))
    assert len(states) >= 60


def run_with_steps(root: Path, acknowledge: Acknowledge) -> None:
    """Each effect of a step is acknowledged: that it happened must never be forgotten."""

    def handler(row: AttemptedRow) -> None:
        def take_effect() -> str:
            acknowledge()
            return "x" * (300 * row.row_number)

        for name in STEPS:
            row.step(name, take_effect)

    with journal.open_job(root / "j", on_interrupted="resume") as job:
        job.run(handler)


@needs_directory_syncs
def test_after_a_power_cut_at_any_moment_no_step_that_took_effect_is_done_again(
    base: Path, count: Callable[[str, int], None]
) -> None:
    directory = base / "steps"
    directory.mkdir()
    recording = record(Scenario("run", before_the_run, run_with_steps), directory)
    effects = [(number, name) for number in range(1, CUT_ROWS + 1) for name in STEPS]
    states = sample(distinct_crash_states(recording, Random(1), 12), 80)
    for cut, tree in states:
        root = base / "state"
        place(root, tree)
        again: list[tuple[int, str]] = []
        with journal.open_job(root / STORE / "j", on_interrupted="resume", sync="none") as job:

            def handler(row: AttemptedRow, again: list[tuple[int, str]] = again) -> None:
                for name in STEPS:
                    row.step(name, again.append, (row.row_number, name))

            job.run(handler)
            review = {row.row_number: row.error_message for row in job.rows("needs_review")}
        shutil.rmtree(root)
        made = effects[: cut.acknowledged]
        assert not set(made) & set(again)
        assert len(review) <= 1
        for number, message in review.items():
            # Nobody knows about the last effect, or about the next one, which had begun.
            doubts = [name for n, name in effects[max(0, cut.acknowledged - 1) :] if n == number]
            assert any(f"step {name!r} of row" in str(message) for name in doubts[:2])
        done = {number for number, _ in (*made, *again)}
        assert done | review.keys() == set(range(1, CUT_ROWS + 1))
    count("disk states that a power cut leaves of a run with steps", len(states))
    assert len(states) >= 80
