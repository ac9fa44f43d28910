"""An exception out of a signal handler, at any moment, leaves service and file in agreement."""

import _thread
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.platforms import needs_alarms, skip_without

from journal import JobService, JournalError, RowStatus

ROUNDS = 1500


class Alarm:
    """Raises KeyboardInterrupt out of a signal handler, once, at some moment while it is set."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))

    def clear(self) -> None:
        self._is_set = False  # a signal that has come already may still be handled
        signal.setitimer(signal.ITIMER_REAL, 0)

    def handle(self, _number: int, _frame: object) -> None:
        if self._is_set:
            self._is_set = False
            raise KeyboardInterrupt


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    skip_without(needs_alarms)
    alarm = Alarm()
    before = signal.signal(signal.SIGALRM, alarm.handle)
    yield alarm
    alarm.clear()
    signal.signal(signal.SIGALRM, before)


def test_what_returns_after_an_interrupt_is_written_and_what_was_cut_short_is_whole(
    tmp_path: Path, alarm: Alarm
) -> None:
    random.seed(20261124)
    acknowledged: set[int] = set()
    interrupts = 0
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Interrupted", job_id="j")
        service.create_rows("j", ({"data": {"n": n}} for n in range(1, 3 * ROUNDS + 1)))
        service.start_job("j")
        for n in range(1, 3 * ROUNDS + 1, 3):
            try:
                alarm.set()
                service.start_row(f"j:{n}")
                service.complete_row(f"j:{n}")
                acknowledged.add(n)
                with service.batch("j"):
                    service.complete_row(f"j:{n + 1}")
                    service.get_rows("j", "completed")
                acknowledged.add(n + 1)
                alarm.clear()
            except KeyboardInterrupt:
                interrupts += 1
                # As a script would: go on with the same service, inside the handler.
                service.skip_row(f"j:{n + 2}", "interrupted")
                acknowledged.add(n + 2)
            except JournalError as error:
                pytest.fail(f"row {n}: {error}")
        summary = service.get_job_summary("j")
    assert interrupts > ROUNDS / 10
    with JobService(tmp_path, sync="none") as service:
        assert service.get_job_summary("j") == summary
        done = {
            row.row_number
            for row in service.get_rows("j")
            if row.status in (RowStatus.COMPLETED, RowStatus.SKIPPED)
        }
    assert acknowledged <= done


@pytest.mark.parametrize("use", ["log", "get_job"])
def test_after_an_interrupt_as_a_thread_gets_its_turn_others_get_theirs(
    tmp_path: Path, use: str
) -> None:
    service = JobService(tmp_path, sync="none", lock_timeout_s=2)
    service.create_job("Turns", job_id="j")
    uses: dict[str, Callable[[], object]] = {
        "log": lambda: service.log("j", "mine"),
        "get_job": lambda: service.get_job("j"),
    }
    is_open = threading.Event()

    def hold() -> None:
        with service.batch("j"):
            is_open.set()
            time.sleep(0.1)  # until the main thread waits for its turn
        # It has got its turn, and doesn't run yet: unlike raise_signal(), this doesn't let it.
        _thread.interrupt_main()

    interval_s = sys.getswitchinterval()
    holder = threading.Thread(target=hold)
    try:
        sys.setswitchinterval(10)  # no thread runs before another one waits
        holder.start()
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  (on a slow machine, it waits first)
            is_open.wait()
            uses[use]()
        holder.join()
    finally:
        sys.setswitchinterval(interval_s)
    other = threading.Thread(target=service.log, args=("j", "other"))
    other.start()
    other.join()
    assert [entry.message for entry in service.get_logs("j")] == ["other"]
