"""Which rows in flight ``on_interrupted="resume"`` runs again after a death."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.children import Child

import journal
from journal import AttemptedRow, JobBusyError, JobService, RowStatus
from journal.cli.main import main
from journal.store.interrupted_rows import start_run

JOB = "j"
ANOTHER_PROGRAM = """
    with JobService(root, sync="none") as service:
        service.start_row(f"{job_id}:{sys.argv[3]}")
        with open(sys.argv[4], "a") as ledger:
            ledger.write(f"row {sys.argv[3]}\\n")
        os.kill(os.getpid(), signal.SIGKILL)
"""
A_RUN = """
    import journal

    def handle(row):
        tell(row.row_number)
        hear()

    with journal.open_job(f"{root}/{job_id}", on_interrupted=sys.argv[3], sync="none") as job:
        job.run(handle, tell=lambda text: None)
"""


def run(root: Path, handle: Callable[[AttemptedRow], Any], policy: Any, **options: Any) -> None:
    rows = [{"n": n} for n in (1, 2, 3)]
    path = root / JOB
    with journal.open_job(path, rows, on_interrupted=policy, sync="none", argv=[]) as job:
        job.run(handle, **options)


def statuses(root: Path) -> list[RowStatus]:
    with JobService(root) as service:
        return [row.status for row in service.get_rows(JOB)]


@pytest.mark.parametrize("when", ["before a run", "beside a run"])
def test_what_another_program_has_started_is_not_resumed(tmp_path: Path, when: str) -> None:
    root, ledger = tmp_path / "jobs", tmp_path / "ledger"
    run(root, lambda row: row.row_number, "resume", max_rows=1)
    if when == "before a run":
        with Child(ANOTHER_PROGRAM, root, JOB, 3, ledger) as other:
            assert other.wait() == -signal.SIGKILL
    else:
        with Child(A_RUN, root, JOB, "resume") as a_run:
            assert a_run.hear() == "2"
            with Child(ANOTHER_PROGRAM, root, JOB, 3, ledger) as other:
                assert other.wait() == -signal.SIGKILL
            a_run.kill()

    def handle(row: AttemptedRow) -> int:
        with ledger.open("a") as file:
            file.write(f"row {row.row_number}\n")
        return row.row_number

    run(root, handle, "resume")
    assert statuses(root) == ["completed", "completed", "needs_review"]
    with JobService(root) as service:
        (row,) = service.get_rows(JOB, RowStatus.NEEDS_REVIEW)
    assert "the program that began this row by start_row" in str(row.error_message)
    assert sorted(ledger.read_text().splitlines()) == ["row 2", "row 3"]


def test_a_settled_step_lets_no_row_run_again_whose_run_had_another_policy(tmp_path: Path) -> None:
    """A later run with the policy says nothing about the side effects of the earlier attempt."""
    root = tmp_path / "jobs"
    run(root, lambda row: row.row_number, "resume", max_rows=1)
    with Child(A_RUN, root, JOB, "review") as a_run:
        assert a_run.hear() == "2"
        a_run.kill()
    with JobService(root) as service:
        service.begin_step(f"{JOB}:2", 1, "charge")
    run(root, lambda row: row.row_number, "resume")
    assert statuses(root)[1] == "needs_review"
    settle = ("resolve", JOB, "--row", "2", "--step", "charge", "--not-done")
    assert main(["--root", str(root), *settle]) == 0
    assert statuses(root)[1] == "needs_review"


def test_a_run_is_refused_while_its_service_keeps_a_start_of_another_policy(tmp_path: Path) -> None:
    rows = [{"n": 1}]
    with journal.open_job(tmp_path / JOB, rows, on_interrupted="review", sync="none") as job:
        start_run(job.service.store, JOB, "resume", keep=True)
        job.service.update_status(JOB, "paused")
        with pytest.raises(JobBusyError):
            job.run(lambda row: row.row_number)
        assert job.rows()[0].attempts == 0
