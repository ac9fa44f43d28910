"""What a repair keeps of passes, redos and other data, and what it makes of those that are lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.children import journal_path, place_journal, read_all, seal_commits, split_commits

from journal import JobRow, JobService, JobStatus, RowStatus
from journal.repair import Repair, repair_job
from journal.verify import verify_job

JOB = "mended"
AT = b'"at":"2026-11-24T13:35:00.000001Z"}'


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    """With a failed job of six rows: 1 and 2 are done, 3 has failed, the others are pending."""
    with JobService(tmp_path, sync="none") as service:
        rows = [{"data": {"order": f"A-{n}", "pad": f"Street {n}"}} for n in range(1, 7)]
        service.create_job("Mended", job_id=JOB, key="order", row_data=rows)
        service.start_job(JOB)
        for number in (1, 2):
            service.start_row(f"{JOB}:{number}")
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)
        service.start_row(f"{JOB}:3")
        service.fail_row(f"{JOB}:3", "E", "m")
        service.update_status(JOB, "failed")
        yield service


def break_by(service: JobService, old: bytes, new: bytes = b"") -> Repair:
    """Replace what stands once in the journal, or take the commit out that it is of, and repair."""
    service.close()
    path = journal_path(service.root, JOB)
    content = path.read_bytes()
    (commit,) = (commit for commit in split_commits(content) if old in commit)
    content = content.replace(commit, commit.replace(old, new) if new else b"")
    path.write_bytes(content)
    assert verify_job(path.parent).damaged
    repair = repair_job(path.parent)
    assert not verify_job(path.parent).findings
    return repair


def rows_of(service: JobService) -> dict[int, JobRow]:
    return {row.row_number: row for row in read_all(service.root, JOB)[1]}


def redo(service: JobService, *, new_key: bool = False) -> None:
    """Row 1 is done anew, in the job's second pass."""
    service.redo_row(f"{JOB}:1", "a wrong label", new_key=new_key)
    service.start_job(JOB)
    service.start_row(f"{JOB}:1")
    service.complete_row(f"{JOB}:1", "T-again", cost_cents=10)


def test_a_redo_and_what_followed_it_are_kept(service: JobService) -> None:
    redo(service, new_key=True)
    before = rows_of(service)
    repair = break_by(service, b'"T-2"')
    job, _ = read_all(service.root, JOB)
    assert job is not None
    assert (job.passes, job.total_cost_cents) == (2, 11)
    assert rows_of(service)[1] == before[1]
    assert not repair.lossless


def test_a_row_whose_redo_was_lost_is_in_review_if_nobody_knows_how_it_ended(
    service: JobService,
) -> None:
    service.redo_row(f"{JOB}:1")
    service.start_job(JOB)
    service.start_row(f"{JOB}:1")
    break_by(service, b'"reset":"redo"')
    assert rows_of(service)[1].status is RowStatus.NEEDS_REVIEW


def test_the_passes_of_a_job_survive_a_loss(service: JobService) -> None:
    service.reopen_job(JOB)
    break_by(service, b'"T-2"')
    job, _ = read_all(service.root, JOB)
    assert job is not None
    assert (job.passes, job.status) == (2, JobStatus.PENDING)


def test_data_that_a_row_was_given_later_makes_its_lost_record_whole(service: JobService) -> None:
    service.update_row_data(f"{JOB}:4", {"order": "A-4", "pad": "Lane 4"})
    before = rows_of(service)[4]
    repair = break_by(service, b"Street 4", b"Strasse4")
    after = rows_of(service)[4]
    assert (after.data, after.idempotency_key) == (before.data, before.idempotency_key)
    assert after.created_at == before.created_at
    assert repair.lost_rows == []
    assert not repair.lossless
    assert [action.rows for action in repair.actions if action.kind == "lost"] == [[4]]
    assert after.error_code == "repaired"


def test_of_a_row_of_which_only_later_data_is_left_the_record_is_named_as_lost(
    tmp_path: Path,
) -> None:
    head = b'{"type":"job","format":1,"id":"mended","name":"Mended",' + AT
    data = (
        b'{"type":"row_data","row":7,"checksum":"c","data":{"n":7},"key":"k","created_%b,'
        % AT[1:-1]
        + AT
    )
    path = place_journal(tmp_path, JOB, seal_commits([[head], [data]]))
    repair = repair_job(path.parent)
    assert [(action.kind, action.rows) for action in repair.actions] == [("lost", [7])]
    assert not repair.lossless
    (row,) = read_all(tmp_path, JOB)[1]
    assert (row.data, row.row_checksum, row.idempotency_key) == ({"n": 7}, "c", "k")


def test_later_data_that_is_lost_leaves_no_row_to_be_run_with_the_old(service: JobService) -> None:
    service.update_row_data(f"{JOB}:4", {"order": "A-4", "pad": "Lane 4"})
    service.skip_row(f"{JOB}:6")
    repair = break_by(service, b"Lane 4", b"Gasse4")
    assert [action.rows for action in repair.actions if action.kind == "lost"] == [[4]]
    assert rows_of(service)[4].status is RowStatus.NEEDS_REVIEW
