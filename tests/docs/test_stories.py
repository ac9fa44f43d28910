"""Stories of a job's life, as people live them: a bug, a daily input, a typo."""

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import journal
from journal import JobRow, JobService, RunReport

ROWS = 2000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "j"


def orders(count: int = ROWS) -> Iterator[dict[str, Any]]:
    return ({"order": f"A-{n}", "qty": n} for n in range(1, count + 1))


class Shop:
    """A handler with a bug, which may be mended, and what was called."""

    def __init__(self, fails: Callable[[JobRow], bool]) -> None:
        self.fails = fails
        self.calls: list[int] = []

    def __call__(self, row: JobRow) -> str:
        self.calls.append(row.row_number)
        if self.fails(row):
            raise KeyError("emial")
        return f"shipped {row.data['order']}"

    def start(self, path: Path, rows: Iterator[dict[str, Any]], **options: Any) -> RunReport:
        """One start of the script; the calls are those of this start."""
        self.calls = []
        self.said: list[str] = []
        with journal.open_job(path, rows, key="order") as job:
            return job.run(self, tell=self.said.append, **options)


def identities(path: Path) -> list[tuple[str, str]]:
    with JobService(path.parent) as service:
        return [(row.id, row.idempotency_key) for row in service.get_rows("j")]


def test_the_mended_script_started_again_completes_the_same_job(path: Path) -> None:
    broken = range(500, 530)
    shop = Shop(lambda row: row.row_number in broken)
    first = shop.start(path, orders(), workers=4, retry_failed=True)
    assert (first.job.status, first.completed, first.failed) == ("failed", ROWS - 30, 30)
    before = identities(path)
    shop.fails = lambda _row: False
    second = shop.start(path, orders(), workers=4, retry_failed=True)
    assert (second.exit_code, second.started) == (0, 30)
    assert sorted(shop.calls) == list(broken)
    assert (second.job.status, second.job.successful_rows) == ("completed", ROWS)
    assert identities(path) == before
    assert [entry.name for entry in path.parent.iterdir() if entry.name[0] != "."] == ["j"]


def test_the_mended_command_started_again_completes_the_same_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["order", "qty"])
        writer.writeheader()
        writer.writerows(orders(60))
    ship = Path("ship.sh")

    def start(*options: str) -> subprocess.CompletedProcess[str]:
        run = [sys.executable, "-m", "journal", "run", "in.csv", "--job", "j", "--key", "order"]
        command = ["sh", "ship.sh", "{qty}"]
        return subprocess.run(
            [*run, "-j", "4", *options, "--", *command], capture_output=True, text=True, check=False
        )

    ship.write_text('echo "$JOURNAL_ROW_ID" >> calls; [ "$1" -le 30 ]\n')
    assert start().returncode == 3
    before = identities(path)
    ship.write_text('echo "$JOURNAL_ROW_ID" >> again\n')
    done = start("--retry-failed")
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stderr
    assert Counter(Path("again").read_text().split()) == Counter(f"j:{n}" for n in range(31, 61))
    assert identities(path) == before


def test_each_daily_start_does_exactly_what_is_new(path: Path) -> None:
    calls: list[str] = []

    def handle(row: JobRow) -> None:
        calls.append(f"{row.data['order']} {row.data['qty']}")
        if row.data["qty"] == "bad":
            raise ValueError("no number")

    def day(*rows: str, **options: Any) -> tuple[list[str], journal.Job]:
        calls.clear()
        data = [dict(zip(("order", "qty"), row.split(), strict=True)) for row in rows]
        with journal.open_job(path, data, key="order", **options) as job:
            return sorted(calls), job.run(handle, tell=lambda _: None).job if not calls else job.job

    def start(*rows: str, **options: Any) -> tuple[list[str], str, int]:
        _, job = day(*rows, **options)
        return sorted(calls), str(job.status), job.passes

    assert start("A 1", "B 2") == (["A 1", "B 2"], "completed", 1)
    assert start("C 3", "B 2", "A 1") == (["C 3"], "completed", 2)
    assert start("D bad", "A 1", "E 5") == (["D bad", "E 5"], "failed", 3)
    # D is corrected, and B, which is done, has changed: that one is left alone.
    fourth = ("B 7", "A 1", "D 4", "C 3", "F 6")
    assert start(*fourth, on_changed="retry") == (["D 4", "F 6"], "completed", 4)
    assert start(*reversed(fourth), on_changed="retry") == ([], "completed", 4)
    with JobService(path.parent) as service:
        assert [row.data["order"] for row in service.get_rows("j")] == list("ABCDEF")
        assert [row.attempts for row in service.get_rows("j")] == [1, 1, 1, 2, 1, 1]


@pytest.mark.parametrize("max_attempts", [1, 3])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("halt", ["first", "90%"])
def test_a_typo_costs_ten_rows_and_says_what_to_type_once_it_is_mended(
    path: Path, max_attempts: int, workers: int, halt: str
) -> None:
    shop = Shop(lambda _row: True)
    options = {"max_attempts": max_attempts, "backoff_s": 0.0, "workers": workers, "halt": halt}
    report = shop.start(path, orders(), **options)
    assert 10 <= len(shop.calls) <= 10 + workers
    assert len(set(shop.calls)) == len(shop.calls)
    assert (report.job.status, report.exit_code) == ("paused", 3 if max_attempts == 1 else 4)
    advice = r"fix the cause and continue with `run\(\.\.\., retry_failed=True\)`"
    if max_attempts > 1:
        advice = "they will be tried again: fix the cause and run again"
    assert re.search(
        rf"first 1\d rows of this run have all failed with KeyError: 'emial'; {advice}, "
        r'or continue as it is with `halt="never"`',
        report.reason or "",
    )
    assert any(report.reason in text for text in shop.said if report.reason)
    shop.fails = lambda _row: False
    mended = shop.start(path, orders(), retry_failed=True, **options)
    assert (mended.exit_code, mended.job.successful_rows) == (0, ROWS)
    assert len(shop.calls) == ROWS


def test_no_rows_are_handed_out_ahead_while_all_may_fail_however_slow_the_disk_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "journal.run.driver.monotonic", count(0.0, 10.0).__next__
    )  # a commit takes 10 s
    shop = Shop(lambda _row: True)
    shop.start(path, orders(), workers=4)
    assert 10 <= len(shop.calls) <= 14


def test_retried_rows_come_behind_those_that_were_never_started(path: Path) -> None:
    shop = Shop(lambda row: row.row_number <= 5)
    shop.start(path, orders(5))
    shop.fails = lambda _row: False
    shop.start(path, orders(20), retry_failed=True)
    assert shop.calls == [*range(6, 21), *range(1, 6)]


def test_rows_that_wait_for_another_attempt_don_t_brake_and_come_when_due(path: Path) -> None:
    """A handler that says when it wants to be asked again has not failed."""

    def handle(row: JobRow) -> str:
        calls.append(row.row_number)
        if row.attempts == 1:
            raise journal.Retry(after_s=0)
        return "ready"

    calls: list[int] = []
    with journal.open_job(path, orders(50), key="order") as job:
        assert job.run(handle, max_attempts=2).exit_code == 0
    assert calls.index(1, 1) < calls.index(50)


def test_first_rows_that_fail_of_several_errors_let_a_run_go_on(path: Path) -> None:
    def handle(row: JobRow) -> None:
        raise journal.Fail(f"E{row.row_number % 2}", "no")

    with journal.open_job(path, orders(100), key="order") as job:
        assert job.run(handle).failed == 100


def test_a_command_that_fails_for_each_row_pauses_and_prints_what_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "".join(f"{n}\n" for n in range(50))
    Path("in.txt").write_text(lines)
    run = [sys.executable, "-m", "journal", "run", "in.txt", "--lines", "--job", "j", "--"]
    done = subprocess.run(
        [*run, "sh", "ship.sh", "{line}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "the first 10 rows of this run have all failed with" in done.stderr
    assert "continue with `--retry-failed`, or continue as it is with `--halt never`" in done.stderr
    Path("ship.sh").write_text("echo done\n")
    (again,) = [line for line in done.stderr.splitlines() if line.startswith("to continue")]
    assert "--retry-failed" in again
    mended = subprocess.run(
        again.partition(": ")[2], shell=True, capture_output=True, text=True, check=False
    )
    assert mended.returncode == 0, mended.stderr
    with JobService("jobs") as service:
        assert service.get_job_summary("j")["successful_rows"] == 50
