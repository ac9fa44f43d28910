"""Calls with many rows in a repair: a lost record of a call puts its rows in doubt."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.calls import JOB, Work

from journal import JobService, RowStatus
from journal.repair import Repair, repair_job
from journal.verify import verify_job


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A call of rows 1, 2 and 4 waits, and has done its step."""
    with JobService(tmp_path, sync="none") as service:
        work = Work(service)
        work.make()
        call = work.begin(1, 2, 4)
        work.step(call, "submit")
        work.done(call, "submit", 7)
        work.wait(work.resume(work.wait(call)))
        service.set_error(JOB, "E", "the last commit")
        return work.journal.path


def repaired(path: Path, old: bytes, new: bytes) -> Repair:
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))
    assert verify_job(path.parent).damaged
    repair = repair_job(path.parent)
    assert verify_job(path.parent).findings == []
    return repair


def test_a_lost_step_of_a_call_names_all_of_its_rows(path: Path) -> None:
    repair = repaired(path, b'"step":"submit","state":"st', b'"step":"simmit","state":"st')
    assert [1, 2, 4] in [action.rows for action in repair.actions if action.kind == "lost"]
    with JobService(path.parents[1]) as service:
        found = {row.row_number: row for row in service.get_rows(JOB)}
        assert {found[n].error_code for n in (1, 2, 4)} == {"repaired"}
        assert found[1].status is RowStatus.NEEDS_REVIEW


def test_a_call_whose_first_record_is_lost_is_forgotten_and_its_steps_are_kept(path: Path) -> None:
    repair = repaired(path, b'"rows":[[1,2],[4,4]],"state":"started"', b'"rows":[[1,2],[4,5]],')
    assert not repair.lossless
    with JobService(path.parents[1]) as service:
        work = Work(service)
        assert work.open() == []
        assert work.statuses() == ["needs_review"] * 6
        (step,) = service.get_steps(f"{JOB}:4")
        assert (step.name, step.result) == ("submit", 7)


def test_rows_that_only_a_record_of_a_call_names_get_placeholders(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(b'{"type":"row","row":4,')]
    path.write_bytes(b"".join(line for line in kept if b'"row":4,' not in line))
    repair = repair_job(path.parent)
    assert 4 in repair.lost_rows
    assert verify_job(path.parent).findings == []
