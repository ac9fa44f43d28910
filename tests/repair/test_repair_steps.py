"""Steps of rows in a repair: the kept ones still count, and a lost one is not done again unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.children import journal_path

from journal import JobService, RowStatus
from journal.repair import repair_job
from journal.verify import verify_job

JOB = "broken"
ROW = f"{JOB}:1"


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """Row 1 is pending after an attempt: charged, not printed, perhaps mailed. Row 2 is in review."""
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Broken", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(3)])
        service.create_rows(JOB, [{"data": {"n": 3}}])
        service.start_job(JOB, "resume")
        service.start_row(ROW)
        service.begin_step(ROW, 1, "charge")
        service.end_step(ROW, 1, "charge", "ch_1")
        service.begin_step(ROW, 1, "print")
        service.end_step(ROW, 1, "print", error=("Jam", "no paper"))
        service.begin_step(ROW, 1, "mail")
        service.retry_row(ROW)
        service.record_step(f"{JOB}:4", "label", "L-4")
        service.set_error(JOB, "E", "the last commit")
    return journal_path(tmp_path, JOB)


def without(path: Path, text: bytes) -> None:
    """Lose the lines that have this text, and see that the journal is damaged by that."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if text not in line]
    assert len(kept) < len(lines)
    path.write_bytes(b"".join(kept))
    assert verify_job(path.parent).damaged


def steps(path: Path, row_id: str = ROW) -> dict[str, tuple[str, object]]:
    with JobService(path.parents[1]) as service:
        return {step.name: (step.state, step.result) for step in service.get_steps(row_id)}


def test_steps_around_a_damaged_place_survive_a_repair(path: Path) -> None:
    before = steps(path)
    assert before == {
        "charge": ("done", "ch_1"), "print": ("failed", None), "mail": ("started", None),
    }  # fmt: skip
    path.write_bytes(path.read_bytes().replace(b'"name":"Broken"', b'"name":"broken??"'))
    assert verify_job(path.parent).damaged
    repair_job(path.parent)
    assert steps(path) == before
    assert steps(path, f"{JOB}:4") == {"label": ("done", "L-4")}


@pytest.mark.parametrize("lost", ["started", "done"])
def test_a_row_that_may_have_lost_a_step_needs_a_review_which_names_the_danger(
    path: Path, lost: str
) -> None:
    without(path, b'"step":"charge","state":"%b"' % lost.encode())
    repair = repair_job(path.parent)
    assert [action.rows for action in repair.actions if action.kind == "lost"] == [[1]]
    with JobService(path.parents[1]) as service:
        row = service.get_row(ROW)
        assert row is not None
        assert row.status is RowStatus.NEEDS_REVIEW
        assert "a step of this row may be among them" in str(row.error_message)
    # The commit after a lost one can't be trusted, so the end is lost with the start.
    assert steps(path).get("charge") == (None if lost == "started" else ("started", None))
    assert steps(path)["mail"] == ("started", None)


def test_a_line_of_a_step_that_is_lost_names_its_row(path: Path) -> None:
    content = path.read_bytes()
    damaged = content.replace(b'"result":"ch_1"', b'"result":"????"')
    assert damaged != content
    path.write_bytes(damaged)
    repair = repair_job(path.parent)
    assert [action.rows for action in repair.actions if action.kind == "lost"] == [[1]]


def test_a_step_of_a_row_whose_record_is_lost_is_kept_with_a_placeholder_in_review(
    path: Path,
) -> None:
    without(path, b'"data":{"n":3}')
    repair = repair_job(path.parent)
    assert repair.lost_rows == [4]
    assert steps(path, f"{JOB}:4") == {"label": ("done", "L-4")}
    with JobService(path.parents[1]) as service:
        row = service.get_row(f"{JOB}:4")
        assert row is not None
        assert row.status is RowStatus.NEEDS_REVIEW
