"""A commit that lacks nothing but its LF counts for all who read it; the next writer puts that back.

An editor may have taken the LF, of a commit that was acknowledged.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.children import journal_path, read_all
from support.copies import relation_of
from support.platforms import needs_boot_ids

from journal import JobLockedError, JobRow, JobService, RowStatus
from journal.fs.handles import JournalFile
from journal.fs.locks import wait_for_lock
from journal.index import hint
from journal.repair import repair_job
from journal.transfer import pull_job
from journal.transfer.copies import open_copy
from journal.verify import verify_job

JOB = "unended"


def only_the_job(service: JobService) -> object:
    return service.create_job("Unended", job_id=JOB)


def with_rows(service: JobService) -> object:
    return service.create_job("Unended", job_id=JOB, row_data=[{"data": {"n": 1}}] * 40)


def with_outcomes(service: JobService) -> object:
    with_rows(service)
    service.complete_row(f"{JOB}:1", "T-1", cost_cents=7)
    return service.complete_row(f"{JOB}:2", result="x" * 100_000)


@pytest.fixture(name="path", params=[only_the_job, with_rows, with_outcomes])
def fixture_path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A journal without its last LF; a whole copy is in the store ``whole``."""
    make: Callable[[JobService], object] = request.param
    with JobService(tmp_path / "store", sync="none") as service:
        make(service)
    path = journal_path(tmp_path / "store", JOB)
    shutil.copytree(tmp_path / "store", tmp_path / "whole")
    (path.parent / "index.hint").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def whole(path: Path) -> Path:
    return journal_path(path.parents[2] / "whole", JOB)


def rows_of(root: Path) -> list[JobRow]:
    return read_all(root, JOB)[1]


def test_a_reader_sees_it_and_leaves_the_file_alone(path: Path) -> None:
    content = path.read_bytes()
    with JobService(path.parents[1]) as service:
        for _ in range(2):
            assert service.get_job(JOB) == read_all(whole(path).parents[1], JOB)[0]
            assert list(service.get_rows(JOB)) == rows_of(whole(path).parents[1])
        assert [job.id for job in service.list_jobs()] == [JOB]
        assert len(list(service.get_history(JOB))) == whole(path).read_bytes().count(b"\n")
    assert path.read_bytes() == content


def test_a_reader_that_has_read_it_reads_on_and_not_all_of_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(path.parents[1]) as service:
        service.get_job(JOB)
        reads = []
        real = JournalFile.read_some

        def read_some(file: JournalFile, offset: int, length: int) -> bytes:
            reads.append(offset)
            return real(file, offset, length)

        monkeypatch.setattr(JournalFile, "read_some", read_some)
        service.get_job(JOB)
        size = path.stat().st_size
        assert min(reads) >= size - 18
        path.write_bytes(whole(path).read_bytes())
        service.get_job(JOB)
        assert min(reads) >= size - 18


@needs_boot_ids
def test_no_hint_is_left_of_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hint, "MIN_BYTES", 1)
    for root in (path.parents[1], whole(path).parents[1]):
        read_all(root, JOB)
    assert [one.name for one in path.parent.iterdir()] == ["journal.jsonl"]
    assert (whole(path).parent / "index.hint").exists()


def test_a_writer_puts_the_line_end_back_and_goes_on(path: Path) -> None:
    with JobService(path.parents[1]) as service:
        service.get_job(JOB)
        service.set_error(JOB, "E", "m")
        before = whole(path).read_bytes()
        assert path.read_bytes().startswith(before)
        assert path.read_bytes()[len(before) :].startswith(b'{"type":"job_error"')
        assert verify_job(path.parent).findings == []
        path.write_bytes(path.read_bytes()[:-1])  # under an open service
        service.set_error(JOB, "E2", "m")
    assert path.read_bytes().count(b"\n") == before.count(b"\n") + 2
    assert verify_job(path.parent).findings == []
    assert not list(path.parent.glob("journal.torn-*"))


def test_two_services_put_the_line_end_back_once(path: Path) -> None:
    with JobService(path.parents[1]) as one, JobService(path.parents[1]) as other:
        one.get_job(JOB)
        other.get_job(JOB)
        one.set_error(JOB, "E", "one")
        other.set_error(JOB, "E", "other")
        assert (one.get_job(JOB) or other.get_job(JOB)) == other.get_job(JOB)
    assert verify_job(path.parent).findings == []
    assert path.read_bytes().count(b"\n") == whole(path).read_bytes().count(b"\n") + 2


def test_verify_counts_it_and_repair_puts_the_line_end_back(path: Path) -> None:
    report, good = verify_job(path.parent), verify_job(whole(path).parent)
    assert (report.commits, report.records, report.rows) == (good.commits, good.records, good.rows)
    assert [finding.kind for finding in report.findings] == ["unended"]
    assert not report.damaged
    repair = repair_job(path.parent)
    assert repair.lossless
    assert [action.kind for action in repair.actions] == ["unended"]
    assert path.read_bytes() == whole(path).read_bytes()


def test_copies_with_and_without_the_line_end_are_the_same(path: Path) -> None:
    assert relation_of(path.parent, whole(path).parent) == "identical"
    with JobService(whole(path).parents[1]) as service:
        service.set_error(JOB, "E", "m")
    assert pull_job(path.parents[1], whole(path).parent).action == "forwarded"
    assert path.read_bytes() == whole(path).read_bytes()


def test_while_a_writer_is_at_work_it_does_not_count_yet(path: Path) -> None:
    """Who holds the lock may take back what it hasn't written to the end."""
    writer = JournalFile(path)
    assert wait_for_lock(writer, 0)
    (finding,) = verify_job(path.parent, lock_timeout_s=0).findings
    assert finding.kind == "unended"
    with pytest.raises(JobLockedError):
        open_copy(path.parent, lock_timeout_s=0)
    with JobService(path.parents[1], lock_timeout_s=0.01) as service:
        with pytest.raises(JobLockedError):
            service.get_job(JOB)
        writer.close()
        assert service.get_job(JOB) is not None


def test_a_commit_that_lacks_more_than_its_line_end_is_torn_or_damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    kind = "torn" if path.read_bytes().count(b"\n") > 40 else "damage"
    assert [finding.kind for finding in verify_job(path.parent).findings] == [kind]


def test_a_reader_of_a_torn_tail_sees_the_commit_of_its_length_that_takes_its_place(
    tmp_path: Path,
) -> None:
    with JobService(tmp_path, sync="none") as service:
        with_rows(service)
        path = journal_path(tmp_path, JOB)
        before = path.read_bytes()
        service.skip_row(f"{JOB}:1")
        content = path.read_bytes()
        path.write_bytes(before + b"x" * (len(content) - len(before) - 1))
    with JobService(tmp_path, sync="none") as service:
        assert rows_of(tmp_path)[0].status is RowStatus.PENDING
        assert service.get_rows(JOB)[0].status is RowStatus.PENDING
        path.write_bytes(content[:-1])
        assert service.get_rows(JOB)[0].status is RowStatus.SKIPPED
