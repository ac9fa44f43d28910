"""`journal run --where`: the conditions of `journal rows --where` choose what is run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from journal import JobService
from journal.cli.main import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def fixture_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    Path("orders.csv").write_text("order,zip,price\nA,94107,5\nB,10001,50\nC,94110,500\n")


def run(*options: str, command: str = "echo {order}") -> int:
    return main(["run", "orders.csv", "--job", "j", "-q", *options, "--", *shlex.split(command)])


def statuses() -> dict[str, str]:
    with JobService("jobs") as service:
        return {row.data["order"]: row.status.value for row in service.get_rows("j")}


def test_conditions_choose_the_rows_of_a_run_and_all_must_hold(capsys: Capture) -> None:
    assert run("--where", "zip~941", "--where", "price<10") == 4
    assert statuses() == {"A": "completed", "B": "pending", "C": "pending"}
    said = capsys.readouterr().err
    assert "j: 2 rows stay open, because of `--where`: pausing\n" in said
    again = next(line for line in said.splitlines() if line.startswith("to continue: "))
    assert "--where 'zip~941' --where 'price<10' -q -- echo" in again
    assert run() == 0


def test_a_dry_run_prints_only_what_the_condition_chooses(capsys: Capture) -> None:
    for _ in range(2):  # without a job, and with one
        assert run("--where", "zip~941", "--dry-run") == 0
        captured = capsys.readouterr()
        assert [line.split("\t")[2] for line in captured.out.splitlines()] == ["echo A", "echo C"]
        assert "j: new: 2 (rows 1, 3), left open: 1 (row 2)\n" in captured.err
        assert run("--limit", "1", "--where", "order=nobody") == 4
        capsys.readouterr()


def test_a_column_that_no_row_has_is_named(capsys: Capture) -> None:
    for more in ((), ("--dry-run",)):
        run("--where", "zpi=94107", *more)
        said = capsys.readouterr().err
        assert "j: none of the rows checked has a column 'zpi'" in said
        assert "order, price, zip" in said


def test_retry_failed_tries_only_the_rows_that_the_condition_chooses(capsys: Capture) -> None:
    assert run("--halt", "never", command="false") == 3
    capsys.readouterr()
    assert run("--retry-failed", "--where", "order=C") == 3
    assert "; 1 failed row is tried again" in capsys.readouterr().err
    assert statuses() == {"A": "failed", "B": "failed", "C": "completed"}


def test_what_is_no_condition_is_refused_before_the_job_is_made(capsys: Capture) -> None:
    assert run("--where", "zip") == 2
    assert "'zip' is not a condition: give COLUMN=VALUE" in capsys.readouterr().err
    assert not Path("jobs").exists()
