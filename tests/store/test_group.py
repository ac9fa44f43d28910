"""What threads ask for while a commit is being synced becomes one commit, and each hears its own."""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.children import Fault, FaultyOs, fails, journal_path, read_all, split_commits
from support.platforms import needs_signals

import journal.fs.system
from journal import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    JobRow,
    JobService,
    JournalError,
    RowStatus,
    StorageError,
)
from journal.format.records import UNSET_TIME, RowStatusRecord
from journal.store.journal import Journal
from journal.store.transitions import change_row

JOB = "together"
SYNC = "fdatasync"


@pytest.fixture(name="faulty")
def fixture_faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyOs:
    faulty = FaultyOs()
    monkeypatch.setattr(journal.fs.system, "os", faulty)
    return faulty


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path, faulty: FaultyOs) -> Iterator[JobService]:
    """A job of nine pending rows, the ninth of them skipped since; nobody gives up."""
    with JobService(tmp_path, lock_timeout_s=3600) as service:
        service.create_job("Together", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(9)])
        service.skip_row(f"{JOB}:9")
        yield service


class Asked(threading.Thread):
    """A thread that asks for a change, and what it heard."""

    def __init__(self, ask: Callable[[], JobRow]) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self.row: JobRow | None = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.row = self._ask()
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            self.error = error

    def heard(self) -> JobRow:
        self.join(60)
        assert self.row is not None, self.error
        return self.row

    def refused(self) -> BaseException:
        self.join(60)
        assert self.error is not None
        return self.error


def complete(service: JobService, number: int, **outcome: Any) -> Asked:
    return Asked(lambda: service.complete_row(f"{JOB}:{number}", **outcome))


class SlowDisk:
    """Holds syncs up until it is told to let them through."""

    def __init__(self, faulty: FaultyOs | None = None, *after: Fault) -> None:
        """``after`` is how the syncs go that come after the first. None: its syncs are planned elsewhere."""
        self._entered = threading.Event()
        self._leave = threading.Event()
        if faulty is not None:
            faulty.plan(SYNC, self.hold, *after)

    def hold(self, real: Callable[..., Any], *arguments: Any) -> Any:
        self._entered.set()
        assert self._leave.wait(60)
        return real(*arguments)

    def wait_until_syncing(self) -> None:
        assert self._entered.wait(60)

    def go_on(self) -> None:
        self._leave.set()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.001)  # a queue inside of the package tells nobody that it has grown


def queued(service: JobService) -> int:
    return len(service.store.journal(JOB)._group.open.requests)


def ask_during_a_sync(
    service: JobService, disk: SlowDisk, numbers: range
) -> tuple[Asked, list[Asked]]:
    """A thread whose commit is being synced, and those that asked meanwhile, in this order."""
    first = complete(service, 1)
    disk.wait_until_syncing()
    others = []
    for place, number in enumerate(numbers, 1):
        others.append(complete(service, number, tracking_number=f"T-{number}", cost_cents=number))
        wait_until(lambda place=place: queued(service) == place)  # type: ignore[misc]
    return first, others


def commits(service: JobService) -> list[bytes]:
    return split_commits(journal_path(service.root, JOB).read_bytes())


def statuses(service: JobService) -> list[RowStatus]:
    return [row.status for row in read_all(service.root, JOB)[1]]


def test_what_threads_ask_for_during_a_sync_becomes_one_commit_with_one_sync(
    service: JobService, faulty: FaultyOs
) -> None:
    before = len(commits(service))
    disk = SlowDisk(faulty)
    first, others = ask_during_a_sync(service, disk, range(2, 9))
    syncs = faulty.count(SYNC)
    disk.go_on()
    assert first.heard().row_number == 1
    rows = [other.heard() for other in others]
    assert [row.row_number for row in rows] == list(range(2, 9))
    assert [row.tracking_number for row in rows] == [f"T-{n}" for n in range(2, 9)]
    new = commits(service)[before:]
    assert [commit.count(b"\n") for commit in new] == [1, 7]
    assert faulty.count(SYNC) == syncs + 1
    assert rows == read_all(service.root, JOB)[1][1:8]
    assert service.get_job_summary(JOB)["total_cost_cents"] == sum(range(2, 9))


def test_threads_that_shared_a_commit_share_the_next_one_from_its_first_request_on(
    service: JobService, faulty: FaultyOs
) -> None:
    disk = SlowDisk(faulty)
    first, others = ask_during_a_sync(service, disk, range(2, 5))
    disk.go_on()
    for one in (first, *others):
        one.heard()
    with service.store.journal(JOB).mutex:
        next_ones = [complete(service, number) for number in (5, 6)]
        wait_until(lambda: queued(service) == 2)  # before the commit begins
    for one in next_ones:
        one.heard()
    assert commits(service)[-1].count(b"\n") == 2
    service.complete_row(f"{JOB}:7")
    assert not service.store.journal(JOB)._group.was_shared  # so a lone writer makes no group


def test_nobody_hears_done_before_its_own_sync(service: JobService, faulty: FaultyOs) -> None:
    second_sync = SlowDisk()
    first_sync = SlowDisk(faulty, second_sync.hold)
    first, others = ask_during_a_sync(service, first_sync, range(2, 5))
    assert first.is_alive()
    first_sync.go_on()
    first.heard()
    second_sync.wait_until_syncing()
    assert all(other.is_alive() for other in others)
    assert commits(service)[-1].count(b"\n") == 3  # written it is
    second_sync.go_on()
    assert [other.heard().row_number for other in others] == [2, 3, 4]


def test_a_refused_change_is_refused_alone(service: JobService, faulty: FaultyOs) -> None:
    disk = SlowDisk(faulty)
    first, others = ask_during_a_sync(service, disk, range(2, 4))
    again = complete(service, 2)
    wait_until(lambda: queued(service) == 3)
    long = complete(service, 4, result="x" * (64 << 20))
    wait_until(lambda: queued(service) == 4)
    last = complete(service, 5)
    wait_until(lambda: queued(service) == 5)
    disk.go_on()
    first.heard()
    assert [other.heard().row_number for other in (*others, last)] == [2, 3, 5]
    refusal = again.refused()
    assert isinstance(refusal, InvalidStateTransition)
    assert refusal.current_state == "completed"
    assert "at most" in str(long.refused())
    assert commits(service)[-1].count(b"\n") == 3
    done = [RowStatus.COMPLETED] * 3
    assert statuses(service)[:5] == [*done, RowStatus.PENDING, RowStatus.COMPLETED]


def test_a_commit_that_cannot_be_written_fails_for_each_of_its_threads_and_changes_nothing(
    service: JobService, faulty: FaultyOs
) -> None:
    disk = SlowDisk(faulty)
    first, others = ask_during_a_sync(service, disk, range(2, 5))
    again = complete(service, 3)
    wait_until(lambda: queued(service) == 4)
    faulty.plan("write", fails(errno.ENOSPC))
    disk.go_on()
    first.heard()
    errors = [other.refused() for other in (*others, again)]
    assert [type(error) for error in errors] == [StorageError] * 4
    assert len({id(error) for error in errors}) == 4
    assert [type(error.__cause__) for error in errors] == [OSError] * 4
    assert statuses(service)[1:4] == [RowStatus.PENDING] * 3
    assert service.complete_row(f"{JOB}:3").status is RowStatus.COMPLETED
    assert statuses(service)[1:4] == [RowStatus.PENDING, RowStatus.COMPLETED, RowStatus.PENDING]


@pytest.mark.parametrize(
    ("refused", "kind", "done"),
    [
        (("stat",), StorageError, set()),
        ((SYNC,), StorageError, set()),
        ((SYNC, "ftruncate"), CommitOutcomeUnknownError, {2, 3, 4}),
    ],
    ids=["it can't begin", "its sync", "its sync and its cut"],
)
def test_a_commit_that_fails_is_told_to_each_of_its_threads_with_what_is_known_of_it(
    service: JobService,
    faulty: FaultyOs,
    refused: tuple[str, ...],
    kind: type[StorageError],
    done: set[int],
) -> None:
    disk = SlowDisk(faulty, *[fails(errno.EIO)] * (SYNC in refused))
    first, others = ask_during_a_sync(service, disk, range(2, 5))
    if refused[-1] != SYNC:
        faulty.plan(refused[-1], fails(errno.EIO))
    disk.go_on()
    first.heard()
    errors = [other.refused() for other in others]
    assert [type(error) for error in errors] == [kind] * 3
    assert len({id(error) for error in errors}) == 3
    service.complete_row(f"{JOB}:6")
    assert {row.row_number for row in service.get_rows(JOB, "completed")} == {1, 6} | done


def test_who_leads_and_is_interrupted_leaves_the_others_changes_to_the_next(
    service: JobService, faulty: FaultyOs
) -> None:
    log = service.store.journal(JOB)

    def interrupted(log: Journal) -> JobRow:
        change_row(log, RowStatusRecord(row=7, status="completed", at=UNSET_TIME))
        raise KeyboardInterrupt

    disk = SlowDisk(faulty)
    first = complete(service, 1)
    disk.wait_until_syncing()
    leader = Asked(lambda: log.change(interrupted))
    wait_until(lambda: queued(service) == 1)
    others = []
    for number in (2, 3):
        others.append(complete(service, number))
        wait_until(lambda number=number: queued(service) == number)  # type: ignore[misc]
    disk.go_on()
    assert isinstance(leader.refused(), KeyboardInterrupt)
    first.heard()
    assert [other.heard().row_number for other in others] == [2, 3]
    assert statuses(service)[6] is RowStatus.PENDING


def test_who_was_refused_in_a_commit_that_was_interrupted_is_not_refused_in_the_next(
    service: JobService, faulty: FaultyOs
) -> None:
    log = service.store.journal(JOB)
    interrupts = [KeyboardInterrupt]

    def interrupted(log: Journal) -> JobRow:
        for interrupt in interrupts:
            interrupts.remove(interrupt)
            raise interrupt
        return change_row(log, RowStatusRecord(row=7, status="completed", at=UNSET_TIME))

    disk = SlowDisk(faulty)
    first = complete(service, 1)
    disk.wait_until_syncing()
    asked = []
    for place, ask in enumerate((2, 2, 7)):
        change = interrupted if ask == 7 else None
        asked.append(Asked(lambda: log.change(interrupted)) if change else complete(service, ask))
        wait_until(lambda place=place: queued(service) == place + 1)  # type: ignore[misc]
    disk.go_on()
    first.heard()
    leader, refused, last = asked
    assert isinstance(leader.refused(), KeyboardInterrupt)  # by what the third asked for
    assert refused.heard().status is RowStatus.COMPLETED
    assert last.heard().row_number == 7


def test_who_leads_and_is_interrupted_during_the_sync_leaves_the_others_an_unknown_outcome(
    service: JobService, faulty: FaultyOs
) -> None:
    def interrupt(_real: Callable[..., Any], *_arguments: Any) -> None:
        raise KeyboardInterrupt

    disk = SlowDisk(faulty, interrupt)
    first, others = ask_during_a_sync(service, disk, range(2, 5))
    disk.go_on()
    first.heard()
    assert isinstance(others[0].refused(), KeyboardInterrupt)
    for other in others[1:]:
        error = other.refused()
        assert isinstance(error, CommitOutcomeUnknownError)
        assert "interrupted" in str(error)
    assert service.complete_row(f"{JOB}:6").status is RowStatus.COMPLETED
    assert {row.row_number for row in service.get_rows(JOB, "completed")} == {1, 2, 3, 4, 6}


@needs_signals
def test_who_is_interrupted_while_waiting_takes_its_change_back(
    service: JobService, faulty: FaultyOs
) -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        disk = SlowDisk(faulty)
        first = complete(service, 1)
        disk.wait_until_syncing()

        def interrupt_us() -> None:
            wait_until(lambda: queued(service) == 1)
            os.kill(os.getpid(), signal.SIGUSR1)

        waits = threading.Thread(target=interrupt_us)
        waits.start()
        with pytest.raises(KeyboardInterrupt):
            service.complete_row(f"{JOB}:2")
        waits.join()
        disk.go_on()
        first.heard()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert service.complete_row(f"{JOB}:3").status is RowStatus.COMPLETED
    assert statuses(service)[:3] == [RowStatus.COMPLETED, RowStatus.PENDING, RowStatus.COMPLETED]


class Mutex:
    """One whose waits end without it when a test says so, instead of after a time."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self._may_give_up = threading.Event()
        self._counts = threading.Lock()
        self.waiting = 0  # threads that wait

    def acquire(self, *_wait_s: float, blocking: bool = True) -> bool:
        taken: bool = self._real.acquire(blocking=False)
        if blocking and not taken:
            self._count(1)
            while not taken and not self._may_give_up.is_set():
                taken = self._real.acquire(timeout=0.01)
            self._count(-1)
        return taken

    def _count(self, change: int) -> None:
        with self._counts:
            self.waiting += change

    def release(self) -> None:
        self._real.release()

    def give_up(self) -> None:
        """Until nobody waits any more."""
        self._may_give_up.set()
        wait_until(lambda: self.waiting == 0)
        self._may_give_up.clear()


def test_who_waits_behind_a_thread_that_gives_up_has_its_own_time(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = service.store.journal(JOB)
    mutex = Mutex(log.mutex)
    with monkeypatch.context() as patch, service.batch(JOB):
        patch.setattr(log, "mutex", mutex)
        waiting = [complete(service, number) for number in (1, 2)]
        wait_until(lambda: mutex.waiting == 1 and queued(service) == 2)
        mutex.give_up()
        wait_until(lambda: mutex.waiting == 1 and queued(service) == 2)
    assert [one.heard().row_number for one in waiting] == [1, 2]


def test_what_a_refused_change_has_done_is_undone(service: JobService, faulty: FaultyOs) -> None:
    log = service.store.journal(JOB)

    def refused(log: Journal) -> JobRow:
        change_row(log, RowStatusRecord(row=7, status="completed", at=UNSET_TIME))
        return change_row(log, RowStatusRecord(row=9, status="completed", at=UNSET_TIME))

    disk = SlowDisk(faulty)
    first, others = ask_during_a_sync(service, disk, range(2, 4))
    half = Asked(lambda: log.change(refused))
    wait_until(lambda: queued(service) == 3)
    disk.go_on()
    first.heard()
    assert isinstance(half.refused(), InvalidStateTransition)
    assert [other.heard().row_number for other in others] == [2, 3]
    assert statuses(service)[6] is RowStatus.PENDING
    assert commits(service)[-1].count(b"\n") == 2


def test_a_commit_that_fails_leaves_no_error_to_the_garbage_collector(
    service: JobService, faulty: FaultyOs
) -> None:
    """What such an error references, the journal's file for example, would stay open till then."""
    gc.collect()
    gc.disable()
    try:
        disk = SlowDisk(faulty, fails(errno.EIO))
        first, others = ask_during_a_sync(service, disk, range(2, 5))
        disk.go_on()
        first.heard()
        for other in others:
            assert type(other.refused()) is StorageError
            other.error = None  # the thread and its error reference each other
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [error for error in gc.garbage if isinstance(error, JournalError)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
