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
