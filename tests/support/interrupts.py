"""Interrupts runs at a chosen step, and checks their jobs afterwards."""

from __future__ import annotations

import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from support.activation import check_share
from support.effort import sample

import journal
import journal.run.caller
from journal import JobRow, JobRun, JobService, RowStatus

ROWS = 5
HANG_S = 60.0
HAS_ALARMS = hasattr(signal, "SIGALRM")  # otherwise pytest's timeout ends a test that hangs


@contextmanager
def failing_if_it_hangs() -> Iterator[None]:
    """Raise an AssertionError if the ``with`` block takes longer than ``HANG_S`` seconds."""
    if not HAS_ALARMS:
        yield
        return

    def fail(_number: int, _frame: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


Step = tuple[CodeType, int]  # a line of a function


class Tracer:
    """Counts the steps of the caller of a run. Raises KeyboardInterrupt at one of these steps."""

    def __init__(self) -> None:
        self.hits: Counter[Step] = Counter()
        self._wanted: Step | None = None
        self._hit = 0
        self.is_on = True
        self.has_raised = False

    def want(self, step: Step, hit: int) -> None:
        """Raise when the step is reached for the ``hit``-th time."""
        self._wanted, self._hit = step, hit

    @contextmanager
    def tracing(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename != journal.run.caller.__file__:
            return None
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and self.is_on:
            step = frame.f_code, frame.f_lineno
            self.hits[step] += 1
            if step == self._wanted and self.hits[step] == self._hit:
                self.has_raised = True
                raise KeyboardInterrupt
        return self._step


class Calls:
    """A handler that records its calls, and waits for ``may_return``.

    Row 2 asks for a second attempt.
    """

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []  # row and attempt
        self.may_return = threading.Event()
        self.may_return.set()

    def __call__(self, row: JobRow) -> int:
        self.begun.append((row.row_number, row.attempts))
        self.may_return.wait(HANG_S)
        value = self._value(row)
        if isinstance(value, journal.Retry):
            raise value
        return value

    @staticmethod
    def _value(row: JobRow | journal.AttemptedRow) -> int | journal.Retry:
        again = row.row_number == 2 and row.attempts == 1
        return journal.Retry(after_s=0) if again else row.row_number

    def of_many(self, rows: list[journal.AttemptedRow]) -> dict[str, Any]:
        self.begun += ((row.row_number, row.attempts) for row in rows)
        self.may_return.wait(HANG_S)
        return {row.id: self._value(row) for row in rows}

    def coroutine(self) -> Callable[[JobRow], Any]:
        async def handler(row: JobRow) -> int:
            return self(row)

        return handler


class Interrupted:
    """A new job with a run that is interrupted, and with a later run that resumes the job."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self._kind = kind
        self.calls = Calls()
        self.said: list[str] = []
        self.hung = False
        self.is_stopped = False  # once more, since rows in flight may have been given up

    def run(self, tracer: Tracer | None = None, on_tick: Any = lambda _job: None) -> None:
        rows = ({"n": n} for n in range(ROWS))
        options: Any = {"workers": 2, "max_attempts": 2, "handle_signals": False}
        with journal.open_job(self.path, rows, sync="none") as job:
            executor = ThreadPoolExecutor(2) if self._kind == "executor" else None
            handler: Any = self.calls
            if self._kind == "asyncio":
                handler = self.calls.coroutine()
            elif self._kind == "batches":
                handler = self.calls.of_many
            with self._watching(job):
                try:
                    with (tracer or Tracer()).tracing():
                        job.run(
                            handler,
                            executor,
                            batch=2 if self._kind == "batches" else None,
                            tell=self.said.append,
                            on_progress=on_tick,
                            **options,
                        )
                except KeyboardInterrupt:
                    pass
            if executor is not None:
                executor.shutdown()

    @contextmanager
    def _watching(self, job: JobRun) -> Iterator[None]:
        """If the run hangs, set ``hung`` and end the run."""
        if not HAS_ALARMS:
            yield
            return

        def hang(_number: int, _frame: object) -> None:
            self.hung = True
            for _ in range(4):
                job.stop(end_rows=True)

        before = signal.signal(signal.SIGALRM, hang)
        signal.setitimer(signal.ITIMER_REAL, HANG_S, 1.0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def check(self, where: str) -> None:
        """Check the job after the interrupted run. Then resume the job, and check it again.

        The run must not have hung, and each row must have the right status. After the job was
        resumed, all rows must be done, and no attempt may have been repeated.
        """
        assert not self.hung, f"hung: {where}"
        told = [text for text in self.said if "could not be recorded" in text]
        assert not told, (where, told)
        with JobService(self.path.parent) as service:
            job = service.get_job("j")
            assert job is not None
            assert job.status in ("pending", "paused", "completed"), (where, job.status)
            assert service.run_holder("j") is None, where
            begun = Counter(number for number, _ in self.calls.begun)
            for row in service.get_rows("j"):
                called = begun[row.row_number]
                if row.status is RowStatus.NEEDS_REVIEW:
                    assert called, (where, row)
                    assert self.is_stopped, (where, row)
                elif row.row_number == 2 and called == 1:
                    assert row.status is RowStatus.PENDING, (where, row)
                else:
                    assert (row.status is RowStatus.COMPLETED) == bool(called), (where, row)
                    assert called or row.status is RowStatus.PENDING, (where, row)
        if job.status != "completed":
            self.run()
        assert max(Counter(self.calls.begun).values()) == 1, (where, self.calls.begun)
        with JobService(self.path.parent) as service:
            statuses = {row.status for row in service.get_rows("j")}
            assert statuses <= {RowStatus.COMPLETED, RowStatus.NEEDS_REVIEW}, where


def check_each_step(kind: str, directory: Path, hits: tuple[int, ...]) -> int:
    """Interrupt runs at each step of their caller, or at a third of the steps, and check their
    jobs.

    For each number N in ``hits``, one run is interrupted when it reaches the step for the Nth time.
    Returns the number of interrupted runs.
    """
    count = tried = 0
    undisturbed = Tracer()
    Interrupted(directory / "undisturbed" / "j", kind).run(undisturbed)
    steps = list(undisturbed.hits.items())
    for number, (step, most) in enumerate(sample(steps, len(steps) // 3)):
        for hit in hits:
            if hit <= most:
                tracer = Tracer()
                tracer.want(step, hit)
                run = Interrupted(directory / f"{number}-{hit}" / "j", kind)
                run.run(tracer)
                run.check(f"{step[0].co_qualname}, {step[1]}")
                count += tracer.has_raised
                tried += 1
    check_share("steps that were interrupted", count, tried, 0.8)
    return count


def check_each_step_of_the_end(kind: str, directory: Path) -> int:
    """Interrupt runs with rows in flight, and interrupt them again while they end.

    The second interrupt comes at each step, or at a third of the steps. Returns the number of runs
    interrupted twice.
    """
    first = Tracer()
    _interrupt_twice(Interrupted(directory / "once" / "j", kind), first)
    count, steps = 0, sample(first.hits, len(first.hits) // 3)
    for number, step in enumerate(steps):
        tracer = Tracer()
        tracer.want(step, 1)
        run = Interrupted(directory / f"{number}" / "j", kind)
        run.is_stopped = True
        _interrupt_twice(run, tracer)
        run.check(f"{step[0].co_qualname}, {step[1]}")
        count += tracer.has_raised
    check_share("steps that were interrupted", count, len(steps), 0.8)
    return count


def _interrupt_twice(run: Interrupted, tracer: Tracer) -> None:
    tracer.is_on = False
    run.calls.may_return.clear()

    def interrupt(_job: journal.Job) -> None:
        if run.calls.begun and not tracer.is_on:
            tracer.is_on = True
            run.calls.may_return.set()
            raise KeyboardInterrupt

    run.run(tracer, interrupt)
