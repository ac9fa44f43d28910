"""Signals that ask a run to stop: who gets them, and what is left afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from time import sleep
from typing import Any

import pytest
from support.platforms import needs_fork, needs_signals

from journal.run.caller import CallersThread
from journal.run.signals import Stops, ending_signals, raise_signal, stopping_signals

pytestmark = needs_signals
STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if os.name == "posix" else []


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_have_their_handlers_back_after_a_run_and_ignored_ones_stay_ignored() -> None:
    def earlier(*_: object) -> None:
        pytest.fail("the run handles it")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as of a program that nohup has started
    signal.signal(signal.SIGTERM, earlier)
    before = [signal.getsignal(number) for number in STOPPING]
    heard: list[int] = []
    with stopping_signals(heard.append):
        for number in STOPPING:
            signal.raise_signal(number)
    assert heard == [signal.SIGINT, signal.SIGTERM]
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_a_run_outside_of_the_main_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    def run() -> None:
        with stopping_signals(lambda _number: None):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_signal_to_a_process_that_was_forked_in_a_run_is_no_stop_of_the_run() -> None:
    heard: list[int] = []
    with stopping_signals(heard.append):
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGINT)
            os._exit(len(heard))
        assert os.waitpid(child, 0)[1] == 0
    assert heard == []


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_sigterm_ends_a_process_that_was_forked_in_a_run() -> None:
    with stopping_signals(lambda _number: None):
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 128 + signal.SIGTERM)],
)
def test_a_command_that_is_stopped_can_clean_up_and_exits_as_the_shell_says_it(
    number: int, error: type[BaseException], code: int | None
) -> None:
    with pytest.raises(error) as caught, ending_signals():
        signal.raise_signal(number)
    assert getattr(caught.value, "code", None) == code
    with pytest.raises(error):
        raise_signal(number)


def test_a_callback_that_hangs_is_left_with_its_run_by_the_fourth_signal() -> None:
    said: list[str] = []

    def callback() -> None:
        signal.raise_signal(signal.SIGTERM)
        said.append("continues")
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("hangs")

    def drive() -> Any:
        caller.post(callback)
        may_end.wait(60.0)

    may_end = threading.Event()
    caller = CallersThread(Stops())
    for _ in range(2):
        caller.stops.add(signal.SIGTERM)
    with pytest.raises(SystemExit):
        caller.wait(drive, nullcontext(), handle_signals=True)
    may_end.set()
    assert (said, caller.stops.count, caller.stops.is_left) == (["continues"], 4, True)


def test_signals_after_a_callback_are_counted_and_raise_nothing() -> None:
    has_ended = threading.Event()

    def drive() -> Any:
        caller.post(has_ended.set)
        assert has_ended.wait(60.0)
        for count in (1, 2, 3):
            os.kill(os.getpid(), signal.SIGTERM)
            while caller.stops.count < count:
                sleep(0.001)
        return "the report"

    caller = CallersThread(Stops())
    report: object = caller.wait(drive, nullcontext(), handle_signals=True)
    assert (report, caller.stops.count) == ("the report", 3)
