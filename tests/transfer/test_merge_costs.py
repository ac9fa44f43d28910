"""Merges and repairs count what each copy of a job has spent exactly once."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.attempts import try_again
from support.copies import copied

from journal import JobService
from journal.format.records import UNSET_TIME, RowSpentRecord
from journal.fs.file_names import HINT_NAME, JOURNAL_NAME
from journal.model import millionths
from journal.repair import repair_job
from journal.store.transitions import put_record
from journal.tables import export_rows
from journal.transfer import pull_job

JOB = "calls"


def make_job(root: Path, rows: int = 4) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Calls", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(rows)])


def pull(root: Path, other: Path) -> None:
    pull_job(root, other / JOB, merge=True)


def spent(root: Path) -> tuple[int | float, dict[str, int | float]]:
    """The cost and usage of the job, which are the same with the hint and without it.

    The costs of its rows, and of their attempts, add up to it.
    """
    with JobService(root) as service:
        job = service.get_job(JOB)
        rows, attempts = service.get_rows(JOB), io.BytesIO()
        in_all = [row["total_cost_cents"] for row in rows.to_dicts(["total_cost_cents"])]
        assert in_all == [
            service.get_row_history(row.id).total_cost_cents or row.cost_cents for row in rows
        ]
        export_rows(service, JOB, attempts, "json", table="attempts")
    (root / JOB / HINT_NAME).unlink(missing_ok=True)
    with JobService(root) as service:
        again = service.get_job(JOB)
    assert job is not None
    assert again is not None
    assert (again.total_cost_cents, again.usage) == (job.total_cost_cents, job.usage)
    of_attempts = [each.get("cost_cents") for each in json.loads(attempts.getvalue())]
    for costs in (in_all, of_attempts):
        assert sum(map(millionths, filter(None, costs))) == millionths(job.total_cost_cents)
    return job.total_cost_cents, job.usage


def late_outcome(
    service: JobService, cost_cents: int, usage: dict[str, int | float], *, row: int = 1
) -> None:
    record = RowSpentRecord(
        row=row, id="0" * 16, attempt=1, cost_cents=cost_cents, usage=usage, at=UNSET_TIME
    )
    service.store.journal(JOB).change(put_record, record)


@pytest.fixture(name="roots")
def fixture_roots(tmp_path: Path) -> tuple[Path, Path]:
    make_job(tmp_path / "a")
    return tmp_path / "a", copied(tmp_path / "a", "b")


def test_a_cost_is_counted_once_whether_its_status_is_imported_or_not(
    roots: tuple[Path, Path],
) -> None:
    here, there = roots
    for root, tracking in ((here, "A"), (there, "B")):
        with JobService(root, sync="none") as service:
            service.complete_row(f"{JOB}:1", tracking, cost_cents=0.06, usage={"tokens": 1})
    with JobService(there, sync="none") as service:
        service.start_row(f"{JOB}:2")
        try_again(service, f"{JOB}:2", "E", "busy", cost_cents=0.25, usage={"tokens": 10})
        service.fail_row(f"{JOB}:3", "E", "no", cost_cents=5)
    for _ in range(2):
        pull(here, there)
        assert spent(here) == (5.37, {"tokens": 12})
    pull(there, here)
    assert spent(there) == (5.37, {"tokens": 12})


def test_a_cost_that_a_merge_has_counted_is_not_counted_again_with_its_status(
    roots: tuple[Path, Path],
) -> None:
    here, there = roots[0], roots[0].parent / "c"
    with JobService(here, sync="none") as service:
        service.start_row(f"{JOB}:1")
    copied(here, there.name)
    for root, cost_cents in ((here, 5), (there, 70)):  # both put it back, so each keeps its own
        with JobService(root, sync="none") as service:
            try_again(service, f"{JOB}:1", "E", "busy", cost_cents=cost_cents)
    pull(here, there)
    assert spent(here) == (75, {})
    with JobService(there, sync="none") as service:
        service.start_row(f"{JOB}:1")
        service.complete_row(f"{JOB}:1", cost_cents=100)
    pull(here, there)
    assert spent(here) == (175, {})
    with JobService(here) as service:
        assert service.get_rows(JOB)[0].status == "completed"


def test_a_cost_of_a_row_that_gets_another_number_is_that_of_the_row(
    roots: tuple[Path, Path],
) -> None:
    here, there = roots
    for root in roots:
        with JobService(root, sync="none") as service:
            service.create_rows(JOB, [{"data": {"n": root.name}}])
    with JobService(there, sync="none") as service:
        late_outcome(service, 7, {}, row=5)
    pull(here, there)
    with JobService(here) as service:
        costs = [service.get_row_history(f"{JOB}:{row}").total_cost_cents for row in (5, 6)]
    assert costs == [0, 7]


def test_equal_records_of_a_clock_that_stands_still_are_two_costs(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = roots
    monkeypatch.setattr("journal.store.journal.now", lambda: datetime.fromtimestamp(0, UTC))
    with JobService(there, sync="none") as service, service.batch(JOB):
        for _ in range(2):
            service.start_row(f"{JOB}:1")
            try_again(service, f"{JOB}:1", "E", "busy", cost_cents=5)
    lines = (there / JOB / JOURNAL_NAME).read_bytes().splitlines()
    assert lines[-2] == lines[-4]
    with JobService(here, sync="none") as service:
        service.log(JOB, "gone on")
    for _ in range(2):
        pull(here, there)
        assert spent(here) == (10, {})


def test_a_batch_that_is_discarded_takes_the_cost_of_a_late_outcome_back(
    roots: tuple[Path, Path],
) -> None:
    usage: dict[str, int | float] = {"tokens": 1}
    with JobService(roots[0], sync="none") as service:
        with suppress(KeyError), service.batch(JOB):
            late_outcome(service, 5, usage)
            raise KeyError
        assert service.get_job_summary(JOB)["total_cost_cents"] == 0
        late_outcome(service, 5, usage)
    assert spent(roots[0]) == (5, usage)


def test_a_repair_keeps_what_was_spent(roots: tuple[Path, Path]) -> None:
    here, there = roots
    with JobService(there, sync="none") as service:
        service.start_row(f"{JOB}:1")
        try_again(service, f"{JOB}:1", "E", "busy", cost_cents=0.06)
        service.fail_row(f"{JOB}:2", "E", "no", cost_cents=0.5, usage={"tokens": 3})
    with JobService(here, sync="none") as service:
        service.complete_row(f"{JOB}:3", cost_cents=5)
    pull(here, there)
    path = here / JOB / JOURNAL_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], b"damage\n", *lines[5:]]))  # after the first commit
    repair_job(here / JOB)
    assert spent(here) == (5.56, {"tokens": 3})
