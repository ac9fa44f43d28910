"""The evidence that an attempt leaves: the traceback of its exception, and its log."""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support.clock import Clock
from support.runs import open_job

import journal
from journal import AttemptedRow, JobRun, JobService, LogEntry, RowLogHandler
from journal.format.records import LogRecord
from journal.run.workers.row_log import MAX_LOG_BYTES, MAX_LOG_ENTRIES, RowLog
from journal.run.workers.tracebacks import TRACEBACK_BYTES

HERE = __file__


def logs_of(path: Path, row_number: int = 1) -> list[LogEntry]:
    with JobService(path.parent) as service:
        return list(service.get_logs("j", row_number=row_number))


def messages(path: Path) -> list[str]:
    return [entry.message for entry in logs_of(path)]


def fail_deep(data: dict[str, Any]) -> NoReturn:
    raise KeyError(data["missing"])


def raise_in_place(_row: AttemptedRow) -> NoReturn:
    fail_deep({})


async def raise_in_task(row: AttemptedRow) -> NoReturn:
    await asyncio.sleep(0)
    raise_in_place(row)


def run_in_threads(job: JobRun) -> None:
    job.run(raise_in_place)


def run_in_loop(job: JobRun) -> None:
    job.run(raise_in_task)


def run_in_step(job: JobRun) -> None:
    job.run(lambda row: row.step("look up", fail_deep, {}))


@pytest.mark.parametrize("run", [run_in_threads, run_in_loop, run_in_step])
def test_a_traceback_begins_and_ends_in_the_code_of_the_user(
    path: Path, run: Callable[[JobRun], None]
) -> None:
    with open_job(path, 1) as job:
        run(job)
        (row,) = job.rows()
    assert row.traceback is not None
    frames = re.findall(r'  File "(.+)", line (\d+), in (\S+)', row.traceback)
    last_line = fail_deep.__code__.co_firstlineno + 1
    assert frames[0][0] == HERE
    assert frames[-1] == (HERE, str(last_line), "fail_deep")
    assert row.traceback.endswith("\nKeyError: 'missing'")


def test_a_traceback_names_the_causes(path: Path) -> None:
    def handler(row: AttemptedRow) -> None:
        try:
            raise_in_place(row)
        except KeyError as error:
            raise RuntimeError("no label") from error

    with open_job(path, 1) as job:
        job.run(handler)
        text = job.rows()[0].traceback
    assert text is not None
    assert text.index("KeyError: 'missing'") < text.index("direct cause") < text.index("no label")


@pytest.mark.parametrize(
    "outcome",
    [journal.Fail("E", "no"), journal.Skip(), journal.NeedsReview("E", "?"), journal.Retry()],
)
def test_an_outcome_raised_on_purpose_leaves_no_traceback(path: Path, outcome: Exception) -> None:
    def handler(_row: AttemptedRow) -> NoReturn:
        raise outcome

    with open_job(path, 1) as job:
        job.run(handler)
        assert job.rows()[0].traceback is None
    assert b"traceback" not in (path / "journal.jsonl").read_bytes()


class Hostile(Exception):
    """Raises wherever it is asked."""

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __str__

    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise ValueError


class Shy(BaseException):
    """Of which only the frames can be had."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__cause__":
            raise ValueError
        return super().__getattribute__(name)


def recurse(depth: int) -> NoReturn:
    if not depth:
        raise RecursionError("too deep")
    recurse(depth - 1)
    raise AssertionError


def raise_a_chain() -> NoReturn:
    error: Exception = ValueError(0)
    for number in range(1, 500):
        try:
            raise error
        except ValueError as last:
            error = ValueError(number)
            error.__cause__ = last
    raise error


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def function() -> NoReturn:
        raise error

    return function


@pytest.mark.parametrize(
    ("function", "last_frame"),
    [
        (raises(Hostile()), "function"),
        (raises(Shy()), "function"),
        (raises(ValueError("x" * 10_000_000)), "function"),
        (raises(ValueError("\ud800\0" * 10)), "function"),
        (raises(ExceptionGroup("g", [ValueError(n) for n in range(1000)])), ""),
        (lambda: recurse(500), "recurse"),
        (raise_a_chain, "raise_a_chain"),
    ],
    ids=["hostile", "shy", "long", "no text", "group", "deep", "chain"],
)
def test_no_exception_is_too_strange_for_a_traceback(
    path: Path, function: Callable[[], NoReturn], last_frame: str
) -> None:
    with open_job(path, 1) as job:
        job.run(lambda _row: function())
        (row,) = job.rows()
    assert row.status == "failed"
    assert row.traceback is not None
    assert len(row.traceback.encode()) <= TRACEBACK_BYTES
    frames = re.findall(r"line \d+, in (\S+)", row.traceback)
    assert not last_frame or frames[-1] == last_frame


# --- the log of an attempt


def test_the_log_of_an_attempt_is_in_the_commit_of_its_outcome(path: Path) -> None:
    begun = datetime.now(UTC)

    def handler(row: AttemptedRow) -> None:
        row.log("asking", url="http://far", seconds=1.5)
        with JobService(path.parent) as other:
            assert list(other.get_logs("j", row_number=1)) == []

    with open_job(path, 1) as job:
        job.run(handler)
    (entry,) = logs_of(path)
    assert (entry.message, entry.level, entry.attempt) == ("asking", "INFO", 1)
    assert entry.details == {"url": "http://far", "seconds": 1.5}
    with JobService(path.parent) as service:
        entries = list(service.get_history("j"))
    at, record = next(
        (n, e.record)
        for n, e in enumerate(entries)
        if getattr(e.record, "row", 0) and isinstance(e.record, LogRecord)
    )
    outcome = entries[at + 1]
    assert getattr(outcome.record, "status", "") == "completed"
    assert begun < entry.at < record.at


def test_a_log_is_on_the_disk_with_the_start_or_the_end_of_the_next_step(path: Path) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(messages(path))

    def broken() -> NoReturn:
        look()
        raise OSError("broken")

    def handler(row: AttemptedRow) -> None:
        row.log("before")
        row.step("one", look)
        row.log("between")
        row.step("two", look, idempotent=True)
        row.log("late")
        row.step("earlier", look)  # is done: records nothing
        look()
        with pytest.raises(OSError, match="broken"):
            row.step("three", broken)
        row.log("last")

    with open_job(path, 1) as job:
        job.service.record_step(job.rows()[0].id, "earlier")
        job.run(handler)
        assert job.rows()[0].status == "completed"
    assert seen == [["before"], ["before"], ["before", "between"], ["before", "between", "late"]]
    assert messages(path) == ["before", "between", "late", "last"]


@pytest.mark.parametrize("depth", range(96, 101))
def test_a_value_may_nest_as_deep_as_it_likes_in_a_log(path: Path, depth: int) -> None:
    deep: Any = {}
    for _ in range(depth):
        deep = {"d": deep}

    def handler(row: AttemptedRow) -> str:
        row.log("m", n=deep)
        row.step("s", lambda: None)
        row.log("m", n=deep)
        return "ok"

    with open_job(path, 1) as job:
        job.run(handler)
        assert job.rows()[0].result == "ok"
    assert messages(path) == ["m", "m"]


def test_steps_at_the_same_time_record_each_message_one_time(path: Path) -> None:
    async def step(row: AttemptedRow, name: str) -> None:
        async def log() -> None:
            row.log(f"in {name}")

        await row.step(name, log)

    async def handler(row: AttemptedRow) -> None:
        row.log("before")
        await asyncio.gather(*(step(row, str(number)) for number in range(6)))

    with open_job(path, 4) as job:
        job.run(handler)
    for number in range(1, 5):
        found = sorted(entry.message for entry in logs_of(path, number))
        assert found == ["before", *(f"in {name}" for name in range(6))]


def test_a_message_that_cant_be_recorded_with_a_step_comes_with_the_outcome(path: Path) -> None:
    def handler(row: AttemptedRow) -> None:
        row.log("before")
        with suppress(journal.InvalidValueError):
            row.step("", print)
        row.log("after")

    with open_job(path, 1) as job:
        job.run(handler)
    assert messages(path) == ["before", "after"]


def test_a_log_is_bounded_and_says_how_much_was_dropped(path: Path) -> None:
    log = RowLog(1, 1)
    for number in range(MAX_LOG_ENTRIES + 7):
        log.add(str(number), "INFO", {})
    *kept, last = log.take()
    assert len(kept) == MAX_LOG_ENTRIES
    assert last.message == "7 more messages of this attempt were dropped"
    log = RowLog(1, 1)
    for _ in range(100):
        log.add("x" * 4000, "INFO", {"more": "y" * 10_000})
    *kept, last = log.take()
    assert MAX_LOG_BYTES * 0.9 < sum(len(e.message) + 10_000 for e in kept) <= MAX_LOG_BYTES
    assert last.message == f"{100 - len(kept)} more messages of this attempt were dropped"
    assert log.take() == ()


def test_the_log_of_an_attempt_that_is_given_up_is_kept(path: Path, clock: Clock) -> None:
    hangs = threading.Event()

    def handler(row: AttemptedRow) -> None:
        row.log("waiting for the far side")
        clock.pass_timeouts()
        hangs.wait(60)

    with open_job(path, 1) as job:
        job.run(handler, timeout_s=1)
        assert job.rows()[0].status == "needs_review"
        assert messages(path) == ["waiting for the far side"]
        hangs.set()


def test_a_result_that_can_not_be_recorded_loses_no_log(path: Path) -> None:
    def handler(row: AttemptedRow) -> str:
        row.log("sent")
        return "x" * (64 << 20)

    with open_job(path, 1) as job:
        job.run(handler)
        assert job.rows()[0].status == "needs_review"
    assert messages(path) == ["sent"]


# --- messages of logging


@pytest.fixture(name="logger")
def fixture_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("rowjournal test")
    logger.setLevel(logging.DEBUG)
    handler = RowLogHandler()
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def test_messages_of_logging_go_to_the_row_whose_thread_or_task_makes_them(
    path: Path, logger: logging.Logger
) -> None:
    async def in_task(row: AttemptedRow) -> None:
        logger.info("task of %s", row.row_number)
        await asyncio.sleep(0)
        await asyncio.to_thread(logger.warning, "thread of %s", row.row_number)

    with open_job(path, 2) as job:
        logger.error("of no row")
        job.run(in_task, workers=2)
    for number in (1, 2):
        assert [(log.message, log.level, log.details) for log in logs_of(path, number)] == [
            (f"task of {number}", "INFO", {"logger": logger.name}),
            (f"thread of {number}", "WARNING", {"logger": logger.name}),
        ]
