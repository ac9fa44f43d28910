"""Steps in handlers: in threads, in an event loop, in other processes, in a loop of one's own."""

import asyncio
import functools
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from support.clock import Clock
from support.platforms import needs_fork, skip_without

import journal
import journal.fs.system
from journal import (
    AttemptedRow,
    Hold,
    InvalidStateTransition,
    InvalidValueError,
    JobRow,
    JobService,
    NeedsReview,
    RowStatus,
    Skip,
    StorageError,
)
from journal.run.workers.steps import StepStore

WAIT_S = 30


class Ledger:
    """The effects of steps, as the outside world sees them: one file, appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, effect: str) -> str:
        with self.path.open("a") as file:
            file.write(effect + "\n")
        return f"id of {effect}"

    def effects(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


@pytest.fixture(name="ledger")
def fixture_ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def test_a_late_result_of_a_dropped_step_is_only_logged(tmp_path: Path) -> None:
    def handler(row: AttemptedRow) -> str:
        if row.attempts == 1:
            row.step("submit", str)
            raise journal.Retry("Expired", "no answer", after_s=0, from_step="submit")
        job.service.end_step(row.id, 1, "fetch", "late")  # by a worker of the first attempt
        return ",".join(step.name for step in job.service.get_steps(row.id))

    with journal.open_job(tmp_path / "j", rows=[{}]) as job:
        job.run(handler, max_attempts=2)
        assert [row.result for row in job.rows()] == [""]
        assert any(
            "a redo has forgotten it" in entry.message for entry in job.service.get_logs(job.id)
        )


@pytest.mark.parametrize("counts", [True, False])
def test_a_retry_from_a_step_does_it_again_with_the_later_ones(
    tmp_path: Path, ledger: Ledger, *, counts: bool
) -> None:
    def handle(row: AttemptedRow) -> str:
        row.step("upload", ledger.add, f"upload {row.attempts}")
        row.step("submit", ledger.add, f"submit {row.attempts}")
        if row.attempts == 1:
            raise journal.Retry(
                "Expired", "no answer", after_s=0, counts=counts, from_step="submit"
            )
        if row.attempts == 2:
            return journal.Retry("E", "m", after_s=0, from_step="sumbit")  # type: ignore[return-value]
        return "done"

    with open_job(tmp_path, rows=1) as job:
        assert job.run(handle, max_attempts=2 + counts).completed == 1
        assert ledger.effects() == ["upload 1", "submit 1", "submit 2"]
        history = job.service.get_row_history(f"{job.id}:1")
        assert "(got 'sumbit')" in (history.attempts[1].error_message or "")


def open_job(tmp_path: Path, rows: int = 3, **options: Any) -> journal.JobRun:
    data = [{"n": n} for n in range(1, rows + 1)]
    return journal.open_job(tmp_path / "jobs" / "mails", rows=data, argv=[], **options)


class Mailer:
    """Charges and mails. The mail of row 2 fails in the first attempt."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def mail(self, row: JobRow | AttemptedRow, charge: str) -> str:
        if row.attempts == 1 and row.data["n"] == 2:
            raise ConnectionError("no mail server")
        return self.ledger.add(f"mail {row.data['n']} for {charge}")

    def __call__(self, row: AttemptedRow) -> list[str]:
        charge = row.step("charge", self.ledger.add, f"charge {row.data['n']}")
        return [charge, row.step("mail", self.mail, row, charge)]


EXPECTED = sorted(
    effect for n in (1, 2, 3) for effect in (f"charge {n}", f"mail {n} for id of charge {n}")
)


def in_processes(method: str) -> Callable[[], Executor]:
    def make() -> Executor:
        if method == "fork":
            skip_without(needs_fork)
        return ProcessPoolExecutor(2, get_context(method))

    return make


@pytest.mark.parametrize(
    "executor",
    [None, lambda: ThreadPoolExecutor(2), in_processes("fork"), in_processes("spawn")],
    ids=["threads", "executor of threads", "forked processes", "spawned processes"],
)
def test_an_attempt_repeats_no_step_that_an_earlier_one_has_done(
    tmp_path: Path, ledger: Ledger, executor: Callable[[], Executor] | None
) -> None:
    with open_job(tmp_path) as job:
        report = job.run(Mailer(ledger), executor, workers=2, max_attempts=2, backoff_s=0)
        assert report.exit_code == 0
        assert sorted(ledger.effects()) == EXPECTED
        results = [row.result for row in job.rows()]
    assert results == [
        [f"id of charge {n}", f"id of mail {n} for id of charge {n}"] for n in (1, 2, 3)
    ]


# --- doubt


def time_out() -> None:
    raise NeedsReview("Timeout", "the gateway timed out")


def test_needs_review_in_a_step_leaves_the_step_in_doubt(tmp_path: Path) -> None:
    with open_job(tmp_path, 1) as job:
        job.run(lambda row: row.step("charge", time_out))
        assert [step.state for step in job.service.get_steps("mails:1")] == ["started"]
        (row,) = job.rows()
        assert row.error_code == "Timeout"
        assert str(row.error_message).startswith("the gateway timed out; step 'charge' of row ")


@pytest.mark.parametrize(
    ("ends", "named", "result", "reason"),
    [
        (None, "completed", "label 7", None),
        (ConnectionError("no printer"), "failed (ConnectionError: no printer)", None, None),
        (Skip("no stock"), "skipped", None, "no stock"),
        (Hold(after_s=0), "held", None, None),
    ],
)
def test_an_attempt_that_leaves_a_step_in_doubt_is_in_review_however_it_ends(
    tmp_path: Path, ends: Exception | None, named: str, result: object, reason: str | None
) -> None:
    said: list[str] = []

    def handler(row: AttemptedRow) -> str:
        with suppress(NeedsReview):
            row.step("charge", time_out)
        if ends and row.attempts == 1:
            raise ends
        return "label 7"

    with open_job(tmp_path, 1) as job:
        report = job.run(handler, max_attempts=2, backoff_s=0, tell=said.append)
        (found,) = job.rows()
    assert report.exit_code == 3
    assert (found.status, found.error_code, found.attempts) == ("needs_review", "StepInDoubt", 1)
    assert (found.result, found.reason) == (result, reason)
    assert named in str(found.error_message)
    settle = "journal resolve mails --row 1 --step charge --result RESULT_AS_JSON"
    assert settle in str(found.error_message)
    assert ("holding for 0ms" in said[0]) == isinstance(ends, Hold)


# --- attempts that have ended


def test_a_thread_that_was_given_up_is_refused_its_next_step_and_keeps_what_it_has_done(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    go_on, over = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def hang(row: AttemptedRow) -> None:
        row.step("charge", wait)
        try:
            row.step("mail", ledger.add, "mail")
        except InvalidStateTransition as error:
            refused.append(error)
            raise
        finally:
            over.set()

    def wait() -> str:
        clock.pass_timeouts()
        assert go_on.wait(WAIT_S)
        return ledger.add("charge")

    with open_job(tmp_path, 1) as job:
        job.run(hang, timeout_s=1)
        assert job.rows()[0].status is RowStatus.NEEDS_REVIEW
        go_on.set()
        assert over.wait(WAIT_S)
        assert [type(error) for error in refused] == [InvalidStateTransition]
        assert ledger.effects() == ["charge"]
        (step,) = job.service.get_steps("mails:1")
        assert (step.name, step.state, step.result) == ("charge", "done", "id of charge")


def test_a_thread_that_was_given_up_and_ignores_its_doubt_does_not_complete_its_row(
    tmp_path: Path, clock: Clock
) -> None:
    is_given_up = threading.Event()
    hanging: list[threading.Thread] = []

    def handler(row: AttemptedRow) -> str:
        if row.row_number > 1:
            is_given_up.set()
            hanging[0].join(WAIT_S)  # its result is with the driver now
            return "ok"
        hanging.append(threading.current_thread())
        with suppress(KeyboardInterrupt):
            row.step("charge", interrupt)
        clock.pass_timeouts()
        assert is_given_up.wait(WAIT_S)
        return "ok"

    def interrupt() -> None:
        raise KeyboardInterrupt

    with open_job(tmp_path, 2) as job:
        report = job.run(handler, timeout_s=1, workers=1)
        row = job.rows()[0]
        assert (row.status, row.error_code) == (RowStatus.NEEDS_REVIEW, "TimeoutError")
        assert "ended as completed" in report.problems[0]
        assert "'charge'" in report.problems[0]
        assert [step.state for step in job.service.get_steps(row.id)] == ["started"]


# --- lost workers


def die_in(ledger: Ledger, where: str, row: AttemptedRow) -> str:
    """The worker dies in the first attempt of row 2: within the step, or after it."""
    charge: str = row.step("charge", charge_or_die, ledger, where, row)
    if (where, row.row_number, row.attempts) == ("after the step", 2, 1):
        os._exit(1)
    return charge


def charge_or_die(ledger: Ledger, where: str, row: AttemptedRow) -> str:
    result = ledger.add(f"charge {row.row_number}")
    if (where, row.row_number, row.attempts) == ("in the step", 2, 1):
        os._exit(1)
    return result


@pytest.mark.parametrize("where", ["in the step", "after the step"])
def test_where_a_worker_dies_resume_repeats_only_what_is_not_in_doubt(
    tmp_path: Path, ledger: Ledger, where: str
) -> None:
    with open_job(tmp_path, on_interrupted="resume") as job:
        job.run(functools.partial(die_in, ledger, where), in_processes("fork"), workers=1)
        row = job.rows()[1]
        assert sorted(ledger.effects()) == ["charge 1", "charge 2", "charge 3"]
        if where == "after the step":
            assert (row.status, row.result) == (RowStatus.COMPLETED, "id of charge 2")
        else:
            assert (row.status, row.attempts) == (RowStatus.NEEDS_REVIEW, 1)
            assert "step 'charge' of row mails:2 began in attempt 1" in str(row.error_message)


# --- the row itself


def test_a_worker_on_another_machine_is_told_so_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_job(tmp_path, 1) as job:
        sent = pickle.dumps(AttemptedRow(job.rows()[0], StepStore(job.service, job.id)))
    monkeypatch.setattr(journal.fs.system, "boot_id", lambda: "another")
    monkeypatch.setattr(journal.fs.system, "host_name", lambda: "node7")
    with pytest.raises(StorageError, match="this worker, on node7, can't write there"):
        pickle.loads(sent).step("charge", print)


# --- more of what handlers may do


def test_a_function_that_returns_an_awaitable_is_awaited(tmp_path: Path, ledger: Ledger) -> None:
    async def charge(n: int) -> str:
        await asyncio.sleep(0)
        return ledger.add(f"charge {n}")

    async def handler(row: AttemptedRow) -> Any:
        return await row.step("charge", lambda: charge(row.row_number))

    with open_job(tmp_path, 1) as job:
        job.run(handler)
        assert job.rows()[0].result == "id of charge 1"


def test_a_coroutine_that_is_cancelled_before_its_call_leaves_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    begin_step = JobService.begin_step

    def slow_begin(self: JobService, *arguments: Any, **keywords: Any) -> Any:
        step = begin_step(self, *arguments, **keywords)
        begun.set()
        assert cancelled.wait(WAIT_S)
        return step

    cancelled = threading.Event()

    async def never() -> None:
        raise AssertionError

    async def handler(row: AttemptedRow) -> None:
        step = asyncio.ensure_future(row.step("charge", never))
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        step.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await step

    monkeypatch.setattr(JobService, "begin_step", slow_begin)
    with open_job(tmp_path, 1) as job:
        job.run(handler)
        (step,) = job.service.get_steps("mails:1")
        assert (step.state, step.error_code) == ("failed", "Cancelled")


def test_the_end_of_a_step_waits_for_the_lock_as_long_as_another_keeps_it(
    tmp_path: Path, ledger: Ledger
) -> None:
    def charge(row: AttemptedRow) -> str:
        release = threading.Event()
        holding = threading.Event()

        def hold() -> None:
            with JobService(tmp_path / "jobs") as other, other.batch("mails"):
                holding.set()
                assert release.wait(WAIT_S)

        threading.Thread(target=hold).start()
        assert holding.wait(WAIT_S)
        threading.Timer(0.3, release.set).start()
        return ledger.add("charge")

    with open_job(tmp_path, 1, lock_timeout_s=0.05) as job:
        job.run(lambda row: row.step("charge", charge, row))
        assert job.rows()[0].result == "id of charge"


@pytest.mark.parametrize("ends", [None, ValueError()])
def test_the_result_and_the_cost_of_a_step_are_kept_whatever_the_handler_makes_of_the_exception(
    tmp_path: Path, ends: Exception | None
) -> None:
    def handler(row: AttemptedRow) -> journal.RowResult:
        try:
            row.step("pay", Odd)
        except NeedsReview as error:
            if ends:
                raise ends from error
        return journal.RowResult(cost_cents=7)

    with open_job(tmp_path, 1) as job:
        job.run(handler)
        (row,) = job.rows()
        assert (row.error_code, row.result) == ("StepNotRecorded", "<odd>")
        assert job.job.total_cost_cents == (0 if ends else 7)


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


# --- names of steps


SECOND = "'mail' is the name of a step that this attempt has begun already: give each step"


@pytest.mark.parametrize("executor", [None, in_processes("spawn")], ids=["threads", "processes"])
@pytest.mark.parametrize("swallows", [False, True], ids=["raises", "swallows"])
def test_a_name_used_twice_in_an_attempt_puts_the_row_in_review_and_nothing_is_skipped(
    tmp_path: Path, ledger: Ledger, executor: Callable[[], Executor] | None, *, swallows: bool
) -> None:
    with open_job(tmp_path, 1) as job:
        handler = functools.partial(mail_each, ledger, swallows)
        job.run(handler, executor, max_attempts=3, backoff_s=0)
        (row,) = job.rows()
        (step,) = job.service.get_steps(row.id)
    assert ledger.effects() == ["a"]
    assert (row.status, row.error_code, row.attempts) == (
        RowStatus.NEEDS_REVIEW,
        "StepNameReused",
        1,
    )
    assert str(row.error_message).startswith(SECOND)
    assert (step.state, step.result) == ("done", "id of a")


def mail_each(ledger: Ledger, swallows: bool, row: AttemptedRow) -> str:
    for item in "abc":
        with suppress(*([InvalidValueError] if swallows else [])):
            row.step("mail", ledger.add, item)
    return "all sent"


def test_a_name_used_twice_is_an_error_in_a_later_attempt_and_for_coroutines_too(
    tmp_path: Path, ledger: Ledger
) -> None:
    async def add(effect: str) -> str:
        return ledger.add(effect)

    async def handler(row: AttemptedRow) -> None:
        await row.step("mail", add, "a")
        if row.attempts == 1:
            raise ConnectionError
        with pytest.raises(InvalidValueError, match=f"^name: {SECOND[7:]}"):
            await row.step("mail", add, "b")

    with open_job(tmp_path, 1) as job:
        job.run(handler, max_attempts=3, backoff_s=0)
        (row,) = job.rows()
    assert ledger.effects() == ["a"]
    assert (row.attempts, row.error_code) == (2, "StepNameReused")


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_step_that_has_failed_may_be_called_again_in_the_same_attempt(
    tmp_path: Path, ledger: Ledger, *, idempotent: bool, is_async: bool
) -> None:
    calls = iter([ConnectionError("busy"), OSError("slow"), None])

    def send(effect: str) -> str:
        if error := next(calls):
            raise error
        return ledger.add(effect)

    async def send_async(effect: str) -> str:
        return send(effect)

    def handler(row: AttemptedRow) -> Any:
        for _ in range(2):
            with suppress(OSError):
                row.step("mail", send, "a", idempotent=idempotent)
        return row.step("mail", send, "a", idempotent=idempotent)

    async def handler_async(row: AttemptedRow) -> Any:
        for _ in range(2):
            with suppress(OSError):
                await row.step("mail", send_async, "a", idempotent=idempotent)
        return await row.step("mail", send_async, "a", idempotent=idempotent)

    with open_job(tmp_path, 1) as job:
        job.run(handler_async if is_async else handler)
        (row,) = job.rows()
    assert (row.status, row.result, row.attempts) == ("completed", "id of a", 1)
    assert ledger.effects() == ["a"]
