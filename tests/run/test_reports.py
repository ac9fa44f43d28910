"""The report of a run, also of one that has raised the error of a commit."""

from __future__ import annotations

from pathlib import Path

import pytest

import journal
import journal.fs.system
from journal import JournalDamagedError
from journal.history.events import event_of
from journal.run.open_job import JobRun


def open_job(root: Path) -> JobRun:
    rows = [{"n": n} for n in range(1, 5)]
    return journal.open_job(root / "j", rows, "n", sync="none", argv=[])


def test_a_run_that_finds_damage_raises_its_error(tmp_path: Path) -> None:
    def damage(row: journal.AttemptedRow) -> None:
        if row.row_number == 1:
            with (tmp_path / "j" / "journal.jsonl").open("r+b") as file:
                file.seek(file.read().index(b'"row":290,'))
                file.write(b'"row":2x0,')

    rows = [{"n": n, "text": "x" * 50} for n in range(1, 301)]
    with (
        journal.open_job(tmp_path / "j", rows, "n", sync="none", argv=[]) as job,
        pytest.raises(JournalDamagedError),
    ):
        job.run(damage)


def test_what_a_start_did_is_in_the_history_and_in_the_report_of_its_run(tmp_path: Path) -> None:
    def ship(row: journal.JobRow) -> None:
        if row.data["n"] < 0:
            raise journal.Fail("E-N", "negative")

    def rows(*numbers: int) -> list[dict[str, int]]:
        return [{"id": place, "n": number} for place, number in enumerate(numbers)]

    path = tmp_path / "daily"
    with journal.open_job(path, rows(-1, -1, 1, 1), key="id") as job:
        assert "this run: 4 new, 2 completed" in repr(job.run(ship))
        assert "this run: 0 completed" in repr(job.run(ship, retry_failed=False))
    today = rows(-1, 1, 2, 3, 4)[1:]
    with journal.open_job(path, today, key="id", on_changed="redo") as job:
        report = job.run(ship, retry_failed=True)
        assert (report.added, report.changed, report.retried, report.gone) == (1, 3, 1, 1)
        job.retry()
        assert "this run: 0 completed, 1 failed" in repr(job.run(ship))
        history = [event_of(entry.record) for entry in job.service.get_history(job.id)]
        texts = [event.text.partition(": ")[2] for event in history if event.kind == "run"]
    with journal.open_job(path, today[:2], key="id", on_gone="skip") as job:
        assert "this run: 3 gone" in repr(job.run(ship))  # it finds no row to run
    assert texts == ["4 new", "1 new, 3 changed, 1 retried, 1 gone", ""]


def test_a_start_that_is_refused_leaves_its_new_rows_to_the_next_report(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with journal.open_job(path, [{"n": 1}]) as job, journal.JobService(tmp_path) as other:
        with other.store.hold_run("j"), pytest.raises(journal.JobBusyError):
            job.run(lambda _row: 1)
        report = job.run(lambda _row: 1)
        assert (report.added, report.completed) == (1, 1)
        assert job.run(lambda _row: 1).added == 0
