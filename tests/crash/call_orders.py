"""Orders in which the system calls of two actors may come, one after another.

Both actors are threads with a service of their own. Before each system call of the package, and
before each pause of a wait for a lock, an actor waits for its turn. In a plan,
one actor makes a number of calls, and then the other actor makes a number of calls. Then the first
actor works to its end, and then the other actor does. Either actor may be the first.

As a command, it tries more plans than the tests do::

    python tests/crash/call_orders.py --orders 20000
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.memory import fast_directory
from support.system_os import SYSTEM_OS

import journal.fs.locks
import journal.fs.system
import journal.index.hint
from journal import (
    InvalidStateTransition,
    JobBusyError,
    JobNotFoundError,
    JobService,
    JournalError,
)
from journal.fs.handles import load_filelock
from journal.fs.system import fcntl
from journal.repair import repair_job
from journal.transfer.pack import pack_to_file, unpack_job
from journal.transfer.prune import prune_jobs
from journal.verify import verify_job

JOB = "shared"
ACTORS = ("a", "b")

Act = Callable[[Path], object]
Answers = dict[str, Any]  # by actor: what it returned, or the JournalError that it raised


class Plan(NamedTuple):
    """``first`` makes ``before`` calls, the other one makes ``between``, then each one ends."""

    first: str
    before: int
    between: int


class Turns:
    """Gives one of the actors the turn. An actor that has ended, or waits for a lock, passes it on."""

    def __init__(self, plan: Plan) -> None:
        other = ACTORS[plan.first == ACTORS[0]]
        self._segments = [(plan.first, plan.before), (other, plan.between), (plan.first, -1)]
        self._changed = threading.Condition()
        self._left = dict.fromkeys(ACTORS)  # those that have not ended
        self._actors: dict[int, str] = {}  # by thread
        self._turn, self._calls_left = self._segments.pop(0)
        self.calls: Counter[str] = Counter()
        self.is_cut = False  # whether an actor had to stop between two calls, for another

    def enter(self, actor: str) -> None:
        self._actors[threading.get_ident()] = actor

    def next_call(self) -> None:
        """Wait for the turn of the thread that is about to make a call. Other threads don't wait."""
        actor = self._actors.get(threading.get_ident())
        if actor is None:
            return
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._turn == actor)
                if self._calls_left:
                    break
                self.is_cut |= self.calls[actor] > 0 and len(self._left) > 1
                self._pass_on(actor)
            self._calls_left -= 1
            self.calls[actor] += 1

    def pause(self, _seconds: float) -> None:
        """Replaces ``time.sleep``. The other actor, if there is one, goes on."""
        actor = self._actors[threading.get_ident()]
        with self._changed:
            self._pass_on(actor)

    def leave(self, actor: str) -> None:
        with self._changed:
            del self._left[actor]
            if self._turn == actor:
                self._pass_on(actor)

    def _pass_on(self, actor: str) -> None:
        others = [other for other in self._left if other != actor]
        self._turn = others[0] if others else actor
        self._calls_left = -1
        if self._segments and self._segments[0][0] == self._turn:
            _, self._calls_left = self._segments.pop(0)
        self._changed.notify_all()


class CallsInTurn:
    """Replaces ``journal.fs.system.os``. Each call waits for its turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        for name in (
            "close",
            "open",
            "rmdir",
            "lstat",
            "scandir",
            "unlink",
        ):  # shutil compares by "is"
            setattr(self, name, getattr(self, name))

    def __getattr__(self, name: str) -> Any:
        real = getattr(SYSTEM_OS, name)
        return real if not callable(real) or isinstance(real, type) else self._in_turn(real)

    def _in_turn(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._turns.next_call()
            return real(*arguments, **options)

        return call


def play(root: Path, acts: Sequence[Act], plan: Plan) -> tuple[Answers, Turns]:
    """Let both actors act in the planned order. Returns their answers, and the turns that they took."""
    turns = Turns(plan)
    answers: Answers = {}

    def work(actor: str, act: Act) -> None:
        turns.enter(actor)
        try:
            answers[actor] = act(root)
        except JournalError as error:
            answers[actor] = error
        except BaseException as error:  # noqa: BLE001  (the check finds it)
            answers[actor] = error
        finally:
            turns.leave(actor)

    calls = CallsInTurn(turns)
    filelock = load_filelock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.fs.system, "os", calls)
        patch.setattr(shutil, "os", calls)
        patch.setattr(filelock, "lock_descriptor", calls._in_turn(filelock.lock_descriptor))
        flock = SimpleNamespace(**{**vars(fcntl), "flock": calls._in_turn(fcntl.flock)})
        patch.setattr(journal.fs.system, "fcntl", flock)
        clock = SimpleNamespace(**{**vars(time), "sleep": turns.pause})
        patch.setattr(journal.fs.locks, "time", clock)
        threads = [
            threading.Thread(target=work, args=(actor, act), daemon=True)
            for actor, act in zip(ACTORS, acts, strict=True)
        ]
        gc.disable()  # it would close files at any moment, also while a thread waits for its turn
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive(), f"{plan}: it hangs"
        finally:
            gc.enable()
    return answers, turns


# --- what they do -----------------------------------------------------------------------------


class Scenario(NamedTuple):
    """Two acts on one store, and what must hold afterwards. ``prepare`` gets the store's root.

    An actor that waits lets the other actor end. With a ``patience_s`` of 0, a start doesn't wait.
    """

    name: str
    acts: tuple[Act, Act]
    check: Callable[[Path, Answers], object]
    prepare: Callable[[Path], None]
    patience_s: float = journal.fs.locks.PATIENCE_S


def three_rows(root: Path) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Shared", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(3)])


def ended(root: Path) -> None:
    three_rows(root)
    with JobService(root, sync="none") as service:
        service.start_job(JOB)
        for number in (1, 2, 3):
            service.complete_row(f"{JOB}:{number}")
        service.update_status(JOB, "completed")


def damaged(root: Path) -> None:
    three_rows(root)
    path = root / JOB / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def run_to_the_end(root: Path) -> list[int]:
    """Start the job, do the rows that are pending, and end it. Returns their numbers."""
    return run(root, ends=True)


def run(root: Path, *, ends: bool = False) -> list[int]:
    """As :func:`run_to_the_end`, but the job stays open."""
    done = []
    with JobService(root, sync="none") as service:
        service.start_job(JOB)
        for row in list(service.get_pending_rows(JOB)):
            service.start_row(row.id)
            done.append(row.row_number)
            service.complete_row(row.id)
        if ends:
            service.update_status(JOB, "completed")
    return done


def complete(number: int) -> Act:
    def act(root: Path) -> str:
        with JobService(root, sync="none") as service:
            return str(service.complete_row(f"{JOB}:{number}").status)

    return act


def read(root: Path) -> int:
    with JobService(root, sync="none") as service:
        return sum(1 for _ in service.get_rows(JOB))


def delete(root: Path) -> bool:
    with JobService(root, sync="none") as service:
        return service.delete_job(JOB)


def list_jobs(root: Path) -> list[str]:
    with JobService(root, sync="none") as service:
        return [job.id for job in service.list_jobs()]


def add_row(root: Path) -> str:
    with JobService(root, sync="none") as service:
        service.create_rows(JOB, [{"data": {"n": 3}}])
    return "added"


def repair(root: Path) -> object:
    return repair_job(root / JOB)


def pack(root: Path) -> object:
    return pack_to_file(root / JOB, root.parent / "pack.tar")


def prune(root: Path) -> list[str]:
    """Prune what has ended, however short ago."""
    (root.parent / "pruned").mkdir()
    later = datetime.now(UTC) + timedelta(days=1)
    return [
        one.job_id
        for one in prune_jobs(root, later, to=root.parent / "pruned")
        if one.action == "deleted"
    ]


def rows_of(root: Path) -> dict[int, tuple[str, int]]:
    """Status and attempts of each row, by a service that has seen nothing before."""
    assert verify_job(root / JOB).findings == []
    with JobService(root, sync="none") as service:
        return {row.row_number: (str(row.status), row.attempts) for row in service.get_rows(JOB)}


def each_row_was_done_once(root: Path, answers: Answers) -> object:
    done = [number for one in answers.values() if isinstance(one, list) for number in one]
    assert sorted(done) == [1, 2, 3], answers
    losers = [one for one in answers.values() if not isinstance(one, list)]
    assert all(type(one) in (JobBusyError, InvalidStateTransition) for one in losers), losers
    assert rows_of(root) == dict.fromkeys((1, 2, 3), ("completed", 1))
    return " and ".join(sorted(type(one).__name__ for one in answers.values()))


def both_are_in_the_journal(root: Path, answers: Answers) -> object:
    assert answers == {"a": "completed", "b": "completed"}
    assert rows_of(root) == {1: ("completed", 0), 2: ("completed", 0), 3: ("pending", 0)}
    return len(list((root / JOB).glob("index.hint")))


def the_reader_has_seen_a_whole_number_of_commits(root: Path, answers: Answers) -> object:
    assert answers["a"] in (3, 4), answers
    assert answers["b"] == "added"
    assert len(rows_of(root)) == 4
    return answers["a"]


def nothing_is_left_of_it(root: Path, answers: Answers) -> object:
    assert answers["a"] is True, answers
    assert answers["b"] == "completed" or type(answers["b"]) is JobNotFoundError, answers
    assert not (root / JOB).exists()
    assert list((root / ".staging").glob("*")) == []
    return str(answers["b"])


def the_listing_has_the_other_job(root: Path, answers: Answers) -> object:
    assert answers["b"] is True, answers
    assert set(answers["a"]) in ({"other"}, {"other", JOB}), answers
    assert not (root / JOB).exists()
    return len(answers["a"])


def what_was_acknowledged_is_repaired(root: Path, answers: Answers) -> object:
    assert not isinstance(answers["a"], Exception), answers
    status = rows_of(root)[1][0]
    if isinstance(answers["b"], JournalError):
        assert status == "pending"
    else:
        assert status == "completed"
    return type(answers["b"]).__name__


def it_was_kept_or_refused(root: Path, answers: Answers) -> object:
    """One actor prunes, and the other actor reopens.

    One of them has the job, and nothing is lost.
    """
    pruned = answers["a"]
    assert pruned in ([], [JOB]), answers
    if pruned:
        assert not (root / JOB).exists()
        assert isinstance(answers["b"], JournalError), answers
        assert len(list((root.parent / "pruned").iterdir())) == 1
    else:
        assert answers["b"] == "added", answers
        assert len(rows_of(root)) == 4
    return len(pruned)


def reopen_and_add(root: Path) -> str:
    with JobService(root, sync="none") as service, service.batch(JOB):
        service.reopen_job(JOB)
        service.create_rows(JOB, [{"data": {"n": 3}}])
    return "added"


def the_pack_is_whole(root: Path, answers: Answers) -> object:
    assert not isinstance(answers["a"], Exception), answers
    assert answers["b"] == "completed"
    assert rows_of(root)[1] == ("completed", 0)
    unpacked = root.parent / "unpacked"
    unpack_job(unpacked, root.parent / "pack.tar")
    return rows_of(unpacked)[1][0]


def with_another(root: Path) -> None:
    three_rows(root)
    with JobService(root, sync="none") as service:
        service.create_job("Other", job_id="other")


SCENARIOS = [
    Scenario("two starts", (run_to_the_end, run_to_the_end), each_row_was_done_once, three_rows),
    Scenario("two starts of a job that stays open", (run, run), each_row_was_done_once, three_rows),
    Scenario(
        "two starts that don't wait",
        (run_to_the_end, run_to_the_end),
        each_row_was_done_once,
        three_rows,
        patience_s=0,
    ),
    Scenario("two commits", (complete(1), complete(2)), both_are_in_the_journal, three_rows),
    Scenario(
        "a reader beside a commit",
        (read, add_row),
        the_reader_has_seen_a_whole_number_of_commits,
        three_rows,
    ),
    Scenario(
        "a deletion beside a commit", (delete, complete(1)), nothing_is_left_of_it, three_rows
    ),
    Scenario(
        "a listing beside a deletion",
        (list_jobs, delete),
        the_listing_has_the_other_job,
        with_another,
    ),
    Scenario(
        "a repair beside a commit",
        (repair, complete(1)),
        what_was_acknowledged_is_repaired,
        damaged,
    ),
    Scenario("a prune beside a reopening", (prune, reopen_and_add), it_was_kept_or_refused, ended),
    Scenario("a pack beside a commit", (pack, complete(1)), the_pack_is_whole, three_rows),
]


def plans(calls: Counter[str]) -> Iterator[Plan]:
    """Every plan, if the actors make that many calls when they don't meet."""
    for first, other in (ACTORS, ACTORS[::-1]):
        for before in range(calls[first] + 1):
            for between in range(1, calls[other] + 1):
                yield Plan(first, before, between)


def explore(scenario: Scenario, base: Path, most: int, seed: int) -> tuple[Counter[object], int]:
    """Try the plans of a scenario, at most so many.

    Returns how often which end was met, and how many plans stopped an actor between two calls.
    """
    ends: Counter[object] = Counter()
    alone = _try(scenario, base, Plan("a", -1, -1), ends)
    every = list(plans(alone.calls))
    chosen = Random(seed).sample(every, min(most, len(every)))
    cut = sum(_try(scenario, base, plan, ends).is_cut for plan in chosen)
    check_share(f"{scenario.name}: orders that cut into an act", cut, len(chosen), 0.3)
    return ends, cut


def _try(scenario: Scenario, base: Path, plan: Plan, ends: Counter[object]) -> Turns:
    root = base / "store"
    base.mkdir()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(journal.index.hint, "MIN_BYTES", 1)
        patch.setattr(journal.index.hint, "GROWTH_BYTES", 1)
        patch.setattr(journal.fs.locks, "PATIENCE_S", scenario.patience_s)
        stack.callback(shutil.rmtree, base)
        scenario.prepare(root)
        try:
            answers, turns = play(root, scenario.acts, plan)
            ends[scenario.check(root, answers)] += 1
        except Exception as error:
            error.add_note(f"{scenario.name}: {plan}")
            raise
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description="Try orders of the system calls of two actors.")
    parser.add_argument("--orders", type=int, default=2000, help="of each scenario, at most")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    base = fast_directory("orders-")
    try:
        for scenario in SCENARIOS:
            ends, cut = explore(scenario, base / "base", arguments.orders, arguments.seed)
            sys.stdout.write(
                f"{scenario.name}: {ends.total()} orders, {cut} cut into an act: {dict(ends)}\n"
            )
            sys.stdout.flush()
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
