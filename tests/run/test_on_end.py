"""`run(on_end=...)`: what is called when a run has ended."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from support.children import FaultyOs, fails

import journal
import journal.fs.system
from journal import (
    InvalidValueError,
    JobRow,
    JobService,
    JournalDamagedError,
    RunReport,
    StorageError,
)
from journal.run.open_job import JobRun


def open_job(root: Path) -> JobRun:
    rows = [{"n": n} for n in range(1, 5)]
    return journal.open_job(root / "j", rows, "n", sync="none", argv=[])


def quiet(_: str) -> None:
    pass


def test_on_end_gets_the_report_when_all_is_recorded_and_the_run_lock_is_free(
    tmp_path: Path,
) -> None:
    ended: list[RunReport] = []

    def on_end(report: RunReport) -> None:
        ended.append(report)
        with JobService(tmp_path) as other:
            assert other.run_holder("j") is None
            assert other.get_job("j") == report.job

    with open_job(tmp_path) as job:
        paused = job.run(lambda _row: None, max_rows=1, on_end=on_end, tell=quiet)
        completed = job.run(lambda _row: None, on_end=on_end, tell=quiet)
        assert ended == [paused, completed]
        assert [report.job.status for report in ended] == ["paused", "completed"]


def test_on_end_is_not_called_if_nothing_was_to_do(tmp_path: Path) -> None:
    with open_job(tmp_path) as job:
        job.run(lambda _row: None, tell=quiet)
        ended: list[RunReport] = []
        job.run(lambda _row: None, on_end=ended.append, tell=quiet)
        assert ended == []


def test_an_on_end_that_can_not_be_called_is_refused_before_any_row_starts(
    tmp_path: Path,
) -> None:
    called: list[JobRow] = []
    with open_job(tmp_path) as job:
        with pytest.raises(InvalidValueError, match="on_end: must be a function"):
            job.run(called.append, on_end="./notify", tell=quiet)  # type: ignore[arg-type]
        assert (called, job.job.status) == ([], "pending")


def test_an_error_of_on_end_is_reported_and_does_not_change_the_report(tmp_path: Path) -> None:
    def on_end(_report: RunReport) -> None:
        raise OSError("no network")

    said: list[str] = []
    with open_job(tmp_path) as job:
        assert job.run(lambda _row: None, on_end=on_end, tell=said.append).exit_code == 0
        assert said[-1] == "j: on_end raised OSError: no network"


def test_a_run_that_a_failed_commit_ends_calls_on_end_with_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[RunReport] = []
    faulty = FaultyOs()

    def handle(row: journal.AttemptedRow) -> None:
        if row.row_number == 2:
            faulty.plan("write", fails(errno.ENOSPC))

    with open_job(tmp_path) as job:
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        with pytest.raises(StorageError) as raised:
            job.run(handle, on_end=ended.append, tell=quiet)
        assert [report.reason for report in ended] == [str(raised.value)]
        assert ended[0].job.status == "paused"


def test_a_run_whose_last_commit_fails_calls_on_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[RunReport] = []
    faulty = FaultyOs()

    def tell(text: str) -> None:
        if "pausing" in text:  # nothing is left to write but the status
            faulty.always("write", fails(errno.ENOSPC))

    with open_job(tmp_path) as job:
        monkeypatch.setattr(journal.fs.system, "os", faulty)
        with pytest.raises(StorageError) as raised:
            job.run(lambda _row: None, max_rows=2, on_end=ended.append, tell=tell)
        faulty.heal()
    (report,) = ended
    assert (report.reason, report.completed) == (str(raised.value), 2)


def test_a_run_that_finds_damage_calls_on_end(tmp_path: Path) -> None:
    ended: list[RunReport] = []

    def damage(row: journal.AttemptedRow) -> None:
        if row.row_number == 1:
            with (tmp_path / "j" / "journal.jsonl").open("r+b") as file:
                file.seek(file.read().index(b'"row":290,'))
                file.write(b'"row":2x0,')

    rows = [{"n": n, "text": "x" * 50} for n in range(1, 301)]
    with (
        journal.open_job(tmp_path / "j", rows, "n", sync="none", argv=[]) as job,
        pytest.raises(JournalDamagedError) as raised,
    ):
        job.run(damage, on_end=ended.append, tell=quiet)
    assert [report.reason for report in ended] == [str(raised.value)]


def test_arun_calls_on_end_in_the_loop_of_the_caller(tmp_path: Path) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def handle(_row: journal.AttemptedRow) -> None:
        pass

    async def work(job: JobRun) -> None:
        await job.arun(
            handle, on_end=lambda _report: loops.append(asyncio.get_running_loop()), tell=quiet
        )
        assert loops == [asyncio.get_running_loop()]

    with open_job(tmp_path) as job:
        asyncio.run(work(job))


@pytest.mark.parametrize("is_coroutine", [True, False])
def test_arun_reports_an_error_of_on_end(tmp_path: Path, *, is_coroutine: bool) -> None:
    said: list[str] = []

    async def handle(_row: journal.AttemptedRow) -> None:
        pass

    def fail(_report: RunReport) -> None:
        raise OSError("no network")

    async def fail_later(report: RunReport) -> None:
        await asyncio.sleep(0)
        fail(report)

    with open_job(tmp_path) as job:
        on_end = fail_later if is_coroutine else fail
        report = asyncio.run(job.arun(handle, on_end=on_end, tell=said.append))
    assert report.completed == 4
    assert said[-1] == "j: on_end raised OSError: no network"


def test_run_refuses_a_coroutine_function_as_on_end_before_the_run(tmp_path: Path) -> None:
    async def on_end(_report: RunReport) -> None:
        pass

    with open_job(tmp_path) as job:
        with pytest.raises(InvalidValueError, match="only arun"):
            job.run(lambda _row: None, on_end=on_end)
        assert job.job.status == "pending"
