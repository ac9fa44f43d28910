"""The run lock between threads and services of one process: one run at a time, whatever ends when."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from support.children import FaultyOs, fails
from support.platforms import needs_directory_descriptors

import journal
import journal.fs.system
from journal import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    InvalidValueError,
    JobBusyError,
    JobLockedError,
    JobService,
    JournalError,
)
from journal.store.interrupted_rows import start_run
from journal.store.journal import Journal
from journal.store.run_lock import RunLock

ROUNDS = 8


@pytest.fixture
def service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path, sync="none") as service:
        service.create_job("j", job_id="j", row_data=[{"data": {"k": "1"}}])
        yield service


def in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Call it; what it returns or raises."""
    heard: list[object] = []

    def work() -> None:
        try:
            heard.append(call())
        except JournalError as error:
            heard.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, heard


def test_of_runs_that_start_at_once_one_gets_the_job(tmp_path: Path, service: JobService) -> None:
    with JobService(tmp_path, sync="none") as other:
        for number in range(ROUNDS):
            job_id = f"job-{number}"
            service.create_job("x", job_id=job_id)
            barrier = threading.Barrier(4)

            def start(who: JobService, job_id: str, barrier: threading.Barrier) -> object:
                barrier.wait()
                return start_run(who.store, job_id, keep=True)

            each = (service, other) * 2
            runs = [in_thread(partial(start, who, job_id, barrier)) for who in each]
            for thread, _ in runs:
                thread.join()
            outcomes = [heard[0] for _, heard in runs]
            assert [isinstance(one, JobBusyError) for one in outcomes].count(False) == 1, outcomes
            assert service.run_holder(job_id) is not None
            keeps = [who.store.runs.has(job_id) for who in (service, other)]
            assert keeps.count(True) == 1


@pytest.mark.parametrize("start", [JobService.start_job, JobService.recover_job])
def test_a_lock_that_waits_for_its_commit_is_let_go_of_by_no_other_change(
    service: JobService, start: Callable[[JobService, str], object]
) -> None:
    service.start_job("j")
    service.update_status("j", "paused")
    with service.batch("j"):
        thread, heard = in_thread(lambda: start(service, "j"))
        while service.run_holder("j") is None:
            pass
        service.update_status("j", "running")
        service.update_status("j", "paused")
    thread.join()
    assert not isinstance(heard[0], JournalError)
    assert service.store.runs.holds("j") == (start is JobService.start_job)


def test_a_status_set_by_hand_is_refused_as_such_if_the_job_has_ended(service: JobService) -> None:
    service.start_job("j")
    service.update_status("j", "paused")
    with service.batch("j"):
        thread, heard = in_thread(lambda: service.update_status("j", "running"))
        while service.run_holder("j") is None:
            pass
        service.update_status("j", "cancelled")
    thread.join()
    assert isinstance(heard[0], InvalidStateTransition)
    assert service.run_holder("j") is None


def test_a_run_whose_end_may_be_recorded_holds_its_job_no_more(
    tmp_path: Path, service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.start_job("j")
    faulty = FaultyOs()
    with monkeypatch.context() as patch:
        patch.setattr(journal.fs.system, "os", faulty)
        faulty.plan("write", fails(errno.EIO))
        faulty.plan("ftruncate", fails(errno.EIO))
        with pytest.raises(CommitOutcomeUnknownError):
            service.update_status("j", "paused")
    assert not service.store.runs.holds("j")
    with JobService(tmp_path, sync="none") as other:
        assert other.start_job("j").status == "running"


def test_a_start_without_its_commit_holds_no_run_lock(tmp_path: Path, service: JobService) -> None:
    with JobService(tmp_path, sync="none", lock_timeout_s=0) as other:
        with service.batch("j"), pytest.raises(JobLockedError):
            other.start_job("j")
        assert service.run_holder("j") is None
        assert service.start_job("j").status == "running"


def test_a_run_that_is_interrupted_after_its_start_was_written_holds_its_job(
    tmp_path: Path, service: JobService
) -> None:
    def interrupt(_: bool) -> None:
        raise KeyboardInterrupt

    def changes(journal: Journal) -> dict[str, int]:
        journal.at_end(interrupt)  # as a signal handler does after the commit
        return {}

    with pytest.raises(KeyboardInterrupt):
        start_run(service.store, "j", changes=changes)
    with JobService(tmp_path, sync="none") as other:
        assert other.get_job_summary("j")["status"] == "running"
        with pytest.raises(JobBusyError):
            other.start_job("j")


def test_a_run_whose_end_is_discarded_with_its_batch_holds_its_job(
    tmp_path: Path, service: JobService
) -> None:
    service.start_job("j")
    with suppress(ValueError), service.batch("j"):
        service.update_status("j", "cancelled")
        assert service.get_job_summary("j")["status"] == "cancelled"
        raise ValueError
    with JobService(tmp_path, sync="none") as other, pytest.raises(JobBusyError):
        other.start_job("j")


def test_no_run_that_keeps_its_job_begins_in_an_open_batch(service: JobService) -> None:
    with service.batch("j"), pytest.raises(InvalidValueError, match="is open"):
        start_run(service.store, "j", keep=True)
    assert service.run_holder("j") is None


@needs_directory_descriptors
def test_a_run_lock_is_free_once_released_though_a_child_has_its_file_open(
    tmp_path: Path, service: JobService
) -> None:
    lock = RunLock.take(tmp_path / "j", "j")
    childs = os.dup(lock._lock.fd)
    lock.release()
    assert service.run_holder("j") is None
    os.close(childs)


def test_a_run_signs_over_a_longer_name_than_its_own(tmp_path: Path, service: JobService) -> None:
    (tmp_path / "j" / "run.lock").write_bytes(b'{"host":"%b"}\n' % (b"x" * 500))
    service.start_job("j")
    holder = service.run_holder("j")
    assert holder is not None
    assert holder.pid == os.getpid()
    assert service.store.runs.holds("j")


def test_a_row_in_flight_in_another_service_s_run_is_not_made_pending(
    tmp_path: Path, service: JobService
) -> None:
    service.start_job("j")
    service.start_row("j:1")
    with JobService(tmp_path, sync="none") as other:
        with pytest.raises(JobBusyError):
            other.retry_row("j:1")
        assert other.get_row("j:1") == service.get_row("j:1")
        assert service.retry_row("j:1").status == "pending"
        service.start_row("j:1")
        service.close()
        assert other.retry_row("j:1").status == "pending"
