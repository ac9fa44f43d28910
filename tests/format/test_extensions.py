"""Records of other programs, whose types begin with "x_": skipped, copied, and left out and counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from corpus.cases import rec, sealed
from support.copies import JOB, complete, go_on, make_job

from journal import Job, JobService
from journal.format.records import MergeRecord
from journal.format.seal import stated_crc
from journal.history.events import event_of
from journal.repair import repair_job
from journal.transfer import pull_job
from journal.verify import verify_job

NOTE = rec("x_note", '"row":3,"status":"completed","cost_cents":9,')


@pytest.fixture(name="here")
def fixture_here(tmp_path: Path) -> Path:
    make_job(tmp_path / "here")
    return tmp_path / "here"


def note(root: Path) -> None:
    """Append two such records to the journal, in a commit."""
    path = root / JOB / "journal.jsonl"
    crc = stated_crc(path.read_bytes().split(b"\n")[-2])
    assert crc is not None
    path.write_bytes(path.read_bytes() + sealed([[NOTE, NOTE]], crc))


def job(service: JobService) -> Job:
    found = service.get_job(JOB)
    assert found is not None
    return found


def content(root: Path) -> bytes:
    return (root / JOB / "journal.jsonl").read_bytes()


def test_a_writer_continues_after_a_record_of_another_program_and_shows_it(here: Path) -> None:
    with JobService(here) as service:
        before = job(service)
        note(here)
        after = job(service)
        assert (before.total_cost_cents, before.pending_count) == (3, 4)
        assert (after.total_cost_cents, after.pending_count) == (3, 4)
        complete(service, 3)
        events = [event_of(entry.record) for entry in service.get_history(JOB)]
    assert [(each.level, each.text) for each in events if each.kind == "extension"] == [
        ("DEBUG", "x_note"),
        ("DEBUG", "x_note"),
    ]
    assert verify_job(here / JOB).findings == []


def test_a_fast_forward_copies_records_of_other_programs_and_a_merge_counts_them(
    here: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    shutil.copytree(here, there)
    note(there)
    pull_job(here, there / JOB)
    assert content(here) == content(there)
    go_on(here, 3)
    go_on(there, 4)
    note(there)
    pull_job(here, there / JOB, merge=True)
    with JobService(here) as service:
        records = [entry.record for entry in service.get_history(JOB)]
    (merge,) = (record for record in records if isinstance(record, MergeRecord))
    assert merge.message.endswith("; 2 records of other programs (x_…) left out")
    assert content(here).count(NOTE[:-1]) == 2


def test_a_repair_leaves_out_records_of_other_programs_and_counts_them(here: Path) -> None:
    note(here)
    go_on(here, 3)
    damaged = content(here).replace(b'"name":"Moved"', b'"name":"Moveb"')
    (here / JOB / "journal.jsonl").write_bytes(damaged)
    repair = repair_job(here / JOB)
    assert [(each.lines, each.message) for each in repair.actions if each.kind == "removed"] == [
        (2, "records of other programs, whose types begin with x_: left out")
    ]
    assert b"x_note" not in content(here)
    with JobService(here) as service:
        assert job(service).total_cost_cents == 6
