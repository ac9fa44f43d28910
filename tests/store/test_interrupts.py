"""An exception out of a signal handler, at any moment, leaves service and file in agreement."""

import _thread
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from journal import JobService


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
