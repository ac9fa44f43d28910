"""`journal run --limit-per`: so many commands at a time for each value of a column."""

import shlex
import subprocess
from pathlib import Path

import pytest
from support.commands import journal

from journal import JobService


@pytest.fixture(autouse=True)
def fixture_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNAL_ROOT", raising=False)
    rows = "".join(f"{n},{'ab'[n % 2]},x\n" for n in range(1, 9))
    Path("rows.csv").write_text("n,carrier,a=b\n" + rows)


def run(*options: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    return journal("run", "rows.csv", "--job", "j", *options, "--", *shlex.split(command))


def test_no_two_commands_of_one_value_run_at_a_time() -> None:
    # A second command of the same carrier would find the directory of the first.
    done = run(
        *("-j", "8", "--limit-per", "carrier=1"),
        command="sh -c 'mkdir lock-$1 && sleep 0.01 && rmdir lock-$1' sh {carrier}",
    )
    assert done.returncode == 0, done.stderr
    assert "8 completed, 0 failed" in done.stderr


def test_the_command_to_continue_names_the_limit_of_the_column() -> None:
    done = run("--limit-per", "a=b=3", "--limit", "2")
    assert done.returncode == 0 or "to continue" in done.stderr
    with JobService("jobs") as service:
        job = service.get_job("j")
    assert job is not None
    assert job.last_run is not None
    words = job.last_run.argv
    assert "--limit-per=a=b=3" in words
    again = subprocess.run(words, check=False, capture_output=True)
    assert b"4 completed" in again.stderr


@pytest.mark.parametrize(
    "value", ["carrier", "carrier=", "=2", "carrier=0", "carrier=x", "a=-1", "a=" + "9" * 5000]
)
def test_a_limit_that_can_not_be_is_refused_before_anything_is_made(value: str) -> None:
    done = run("--limit-per", value)
    assert done.returncode == 2
    assert f"{value!r}: must be a column and a number from 1, such as carrier=2" in done.stderr
    assert not Path("jobs").exists()


def test_two_limits_are_refused() -> None:
    done = run("--limit-per", "carrier=1", "--limit-per", "zip=2")
    assert done.returncode == 2
    assert "limits one column: give it once" in done.stderr


def test_a_column_that_no_row_has_is_reported_by_the_name_of_the_option() -> None:
    done = run("--limit-per", "carier=1")
    assert done.returncode == 0
    assert "`--limit-per` limits none of them by it; did you mean 'carrier'?" in done.stderr
