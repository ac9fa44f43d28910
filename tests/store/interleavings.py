"""Interleavings of threads, explored by frontrun: of a group commit, and of a call's two owners.

Every lock and every access to a shared attribute is a point at which another thread may go on.
frontrun tries the orders that differ in their conflicts, as many as are asked for. It doesn't see
files, so a commit is a list in memory.

As a command, it explores more than the tests do::

    FRONTRUN_ACTIVE=1 python tests/store/interleavings.py --executions 20000
"""

from __future__ import annotations

import argparse
import errno
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import journal.run.workers.base
from journal.errors import InvalidValueError, JobLockedError, JournalError, StorageError
from journal.run.outcome import Outcome
from journal.run.workers.base import Call, Results
from journal.store.group_commit import GroupCommit

Worker = Callable[[Any], None]

WAIT_S = 60.0  # of a clock that stands still as long as a thread can go on
REFUSED = 2  # the change that raises, where one does


class Log:
    """A journal of numbers: a commit adds those that were changed, as a whole.

    ``fails``: what fails of the first commit, its "lock" or its "write".
    """

    def __init__(self, *, refuses: bool, fails: str) -> None:
        self.group = GroupCommit(Path("journal.jsonl"), WAIT_S)
        self.refuses, self.fails = refuses, fails
        self.durable: list[list[int]] = []  # one list a commit
        self.open: list[int] | None = None
        self.failed: set[int] = set()
        self.answers: dict[int, int | JournalError] = {}

    def __enter__(self) -> None:
        assert self.open is None, "two commits at once"
        if self.fails == "lock":
            self.fails = ""
            raise JobLockedError("job", 0.0)
        self.open = []

    def __exit__(self, *_: object) -> None:
        changed, self.open = self.open, None
        assert changed is not None
        if self.fails:
            self.fails = ""
            self.failed.update(changed)
            raise StorageError(Path("journal.jsonl"), "write", errno.EIO, "Input/output error")
        self.durable.append(changed)

    def ask(self, number: int) -> None:
        """Request one change, as a thread does."""

        def change() -> int:
            if self.refuses and number == REFUSED:
                raise InvalidValueError("number", number, "is refused")
            assert self.open is not None
            self.open.append(number)
            return number * 10

        try:
            self.answers[number] = self.group.run(self, change)
        except JournalError as error:
            self.answers[number] = error

    def is_right(self, numbers: set[int]) -> bool:
        """Whether what was acknowledged is durable, once, and each thread got its own answer.

        Whoever finds the lock taken asks again, since there is time.
        """
        durable = sorted(number for commit in self.durable for number in commit)
        told = {
            number: answer if isinstance(answer, int) else type(answer)
            for number, answer in self.answers.items()
        }
        acknowledged = [number for number in sorted(told) if told[number] == number * 10]
        refused = {number for number in told if told[number] is InvalidValueError}
        lost = {number for number in told if told[number] is StorageError}
        refusable = {REFUSED} if self.refuses else set()
        return (
            durable == acknowledged
            and {*durable, *refused, *lost} == numbers
            and refused <= refusable
            and self.failed <= lost <= self.failed | refusable
            and self.open is None
            and not self.fails  # what was to fail has failed
        )


def group_commits(
    threads: int, executions: int, *, refuses: bool = False, fails: str = ""
) -> Counter[tuple[int, ...]]:
    """How often commits of which sizes were explored; every one of them was right."""
    seen: Counter[tuple[int, ...]] = Counter()
    numbers = set(range(1, threads + 1))

    def is_right(log: Log) -> bool:
        seen[tuple(map(len, log.durable))] += 1
        return log.is_right(numbers)

    def asks(number: int) -> Worker:
        return lambda log: log.ask(number)

    import frontrun  # noqa: PLC0415  (of the extra "dev"; --help needs no library)

    frontrun.explore(
        lambda: Log(refuses=refuses, fails=fails),
        list(map(asks, numbers)),
        is_right,
        clock="virtual",
        detect_io=False,
        max_executions=executions,
        timeout_per_run=60.0,
        trace_packages=["journal.*"],
    ).assert_holds()
    return seen


class SeenDeque:
    """A deque whose calls are atomic, and are seen by frontrun, which doesn't look into C code."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: tuple[Any, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

    def append(self, item: object) -> None:
        with self.lock:
            self.items = (*self.items, item)

    def popleft(self) -> object:
        with self.lock:
            first, *others = self.items
            self.items = tuple(others)
            return first


class SeenDict:
    """A dict whose ``setdefault`` is atomic, and is seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[str, str] = {}

    def __bool__(self) -> bool:
        return self.items != {}

    def setdefault(self, key: str, value: str) -> str:
        with self.lock:
            if key not in self.items:
                self.items = {**self.items, key: value}
            return self.items[key]


class Handover:
    """Two calls, a worker that makes those that it may begin, and a driver that cancels one."""

    def __init__(self) -> None:
        self.results = Results()
        self.results._ended = SeenDeque()  # type: ignore[assignment]
        self.calls = [Call((), ticket, self.results.held) for ticket in (1, 2)]
        for call in self.calls:
            call._owner = SeenDict()  # type: ignore[assignment]
        self.made: list[Call] = []
        self.ended: list[Call] = []
        self.cancelled: list[Call] = []
        self.missed = 0

    def work(self) -> None:
        for call in self.calls:
            if call.begin():
                self.made.append(call)
                self.results.put(call, [Outcome(kind="completed")])

    def drive(self) -> None:
        """Await a call, cancel the second one if it has not begun, and await what is left."""
        while len(self.ended) + len(self.cancelled) < len(self.calls):
            began_s = time.monotonic()
            self.results.wait(WAIT_S)
            self.missed += time.monotonic() - began_s >= WAIT_S
            while (ended := self.results.take()) is not None:
                self.ended.append(ended[0])
            if not self.cancelled and self.calls[1].cancel():
                self.cancelled.append(self.calls[1])


def handovers(executions: int) -> Counter[tuple[int, int]]:
    """How often how many calls were made and cancelled; every call was one of the two, once."""
    seen: Counter[tuple[int, int]] = Counter()

    def is_right(handover: Handover) -> bool:
        seen[len(handover.made), len(handover.cancelled)] += 1
        settled = [*handover.made, *handover.cancelled]
        is_settled = handover.made == handover.ended and Counter(settled) == Counter(handover.calls)
        return is_settled and not handover.missed

    import frontrun  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        # The clock stands still while the worker can go on. So in this time, all calls would end,
        # and the driver would never need to be woken.
        patch.setattr(journal.run.workers.base, "_GATHER_S", 0.0)
        for preemptions, most in ((1, 100), (2, executions)):  # with one, all are less than 100
            frontrun.explore(
                Handover,
                [Handover.work, Handover.drive],
                is_right,
                preemption_bound=preemptions,
                clock="virtual",
                detect_io=False,
                max_executions=most,
                timeout_per_run=60.0,
                trace_packages=["journal.*"],
            ).assert_holds()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description="Explore interleavings of threads.")
    parser.add_argument("--executions", type=int, default=1000, help="at most, of each kind")
    executions = parser.parse_args().executions
    orders = 0
    for threads in (2, 3):
        for refuses, fails in product((False, True), ("", "lock", "write")):
            seen = group_commits(threads, executions, refuses=refuses, fails=fails)
            assert len(seen) > 1, f"the commits had always the same sizes: {seen}"
            orders += seen.total()
            sys.stdout.write(f"{threads} threads, {refuses=}, {fails=}: {dict(seen)}\n")
    made = handovers(executions)
    assert made.keys() == {(2, 0), (1, 1)}, made
    sys.stdout.write(f"calls made and cancelled: {dict(made)}\n{orders + made.total()} orders\n")


if __name__ == "__main__":
    main()
