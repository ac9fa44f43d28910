"""Eight processes, or four of four threads, at one job, held against a model of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.children import Child, FaultyOs, journal_path, read_all

import journal.fs.system
from journal import JobRow, JobService, JournalDamagedError
from journal.format.seal import SEALED_END_BYTES
from journal.store.journal import SPILL_BYTES
from journal.verify import verify_job

JOB = "shared"
SHARED_ROWS = 40  # which all writers race for; every other row is its creator's alone


def make_job(root: Path) -> list[JobRow]:
    with JobService(root, sync="none") as service:
        service.create_job("Shared", job_id=JOB)
        return list(service.create_rows(JOB, [{"data": {"by": -1}}] * SHARED_ROWS))


def test_a_batch_that_was_seen_half_written_and_then_discarded_leaves_no_torn_tail_behind(
    tmp_path: Path,
) -> None:
    script = """
    service = JobService(root, sync="none")
    try:
        with service.batch(job_id):
            service.create_rows(job_id, [{"data": {"pad": "x" * 50_000}}] * 30)
            tell("half written")
            hear()
            raise KeyError
    except KeyError:
        tell("discarded")
    """
    make_job(tmp_path)
    with Child(script, tmp_path, JOB) as batcher, JobService(tmp_path) as service:
        assert batcher.hear() == "half written"
        assert len(service.get_rows(JOB)) == SHARED_ROWS
        batcher.tell("discard it")
        assert batcher.hear() == "discarded"
        service.complete_row(f"{JOB}:1", "T-1")
        assert not list((tmp_path / JOB).glob("journal.torn-*"))
        assert read_all(tmp_path, JOB)[1][0].tracking_number == "T-1"


def test_a_large_commit_that_another_writer_is_at_is_not_read_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(tmp_path, sync="none") as service, JobService(tmp_path, sync="none") as reader:
        service.create_job("x", job_id=JOB)
        reader.get_job(JOB)
        counting = FaultyOs()
        monkeypatch.setattr(journal.fs.system, "os", counting)

        def read_bytes() -> int:
            counting.calls.clear()
            job = reader.get_job(JOB)
            assert job is not None
            assert job.total_rows == 0
            return sum(arguments[1] for called, arguments in counting.calls if called == "pread")

        def rows() -> Iterator[dict[str, object]]:
            for number in range(12):
                yield {"data": {"pad": "x" * SPILL_BYTES}}
                read.append(read_bytes() if number > 2 else 0)

        read: list[int] = []
        service.create_rows(JOB, rows())
        assert max(read[4:]) < 2 * SPILL_BYTES  # the first look reads all that is there
        assert reader.get_job_summary(JOB)["total_rows"] == 12


@pytest.mark.parametrize("is_the_same", [False, True])
def test_a_commit_is_seen_in_the_place_of_a_torn_tail_though_a_larger_one_has_begun(
    tmp_path: Path, is_the_same: bool
) -> None:
    path = journal_path(tmp_path, JOB)
    unsealed = b'{"type":"log","message":"' + b"x" * 5000
    with JobService(tmp_path, sync="none") as service, JobService(tmp_path, sync="none") as reader:
        service.create_job("x", job_id=JOB)
        made = path.read_bytes()
        service.log(JOB, "seen")
        commit = path.read_bytes().removeprefix(made)
        path.write_bytes(made + (commit[:-50] if is_the_same else unsealed))
        assert list(reader.get_logs(JOB)) == []
        path.write_bytes(made + commit + unsealed + unsealed)
        assert [entry.message for entry in reader.get_logs(JOB)] == ["seen"]


def test_damage_is_named_at_the_end_of_a_commit_that_was_seen_half_written(tmp_path: Path) -> None:
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path, sync="none") as service, JobService(tmp_path, sync="none") as reader:
        service.create_job("x", job_id=JOB)
        made = path.read_bytes()
        with service.batch(JOB):
            service.log(JOB, "first")
            service.log(JOB, "last")
        whole = path.read_bytes()
        flips = (
            whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            for at in range(len(whole) - SEALED_END_BYTES, len(whole))
            for bit in range(8)
        )
        begun = whole[len(made) : -SEALED_END_BYTES]  # the next commit, after an LF that was lost
        for damaged in (*flips, whole[:-1] + begun, whole[:-SEALED_END_BYTES] + b"}\r\n"):
            for seen in (whole.index(b"first"), len(whole) - SEALED_END_BYTES, len(whole) - 3):
                path.write_bytes(whole[:seen])
                assert list(reader.get_logs(JOB)) == []
                path.write_bytes(damaged)
                with pytest.raises(JournalDamagedError):
                    list(reader.get_logs(JOB))
        damaged = whole[:-1].replace(b"last", b"lost") + begun[: begun.index(b"\n") + 1]
        path.write_bytes(damaged[:-9])  # nothing shows yet that a line ended with the seal
        assert list(reader.get_logs(JOB)) == []
        path.write_bytes(damaged)
        with pytest.raises(JournalDamagedError):
            list(reader.get_logs(JOB))


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_commit_is_seen_in_the_place_of_padding_which_a_writer_cuts_off(
    tmp_path: Path, is_begun: bool
) -> None:
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path, sync="none") as service, JobService(tmp_path, sync="none") as reader:
        service.create_job("x", job_id=JOB)
        made = path.read_bytes()
        with service.batch(JOB):
            service.log(JOB, "x" * 5000)
            service.log(JOB, "seen")
        commit = path.read_bytes().removeprefix(made)
        begun = commit[: commit.index(b"\n") + 1] if is_begun else b""
        path.write_bytes((made + begun).ljust(100_000))
        assert list(reader.get_logs(JOB)) == []
        path.write_bytes((made + commit).ljust(100_000))
        assert [entry.message for entry in reader.get_logs(JOB)][1:] == ["seen"]
        service.log(JOB, "written")
    assert path.read_bytes().startswith(made + commit + b'{"type":"log","message":"written"')
    assert [file.name for file in path.parent.glob("journal.torn*")] == []
    assert verify_job(path.parent).findings == []
