"""What JobService does, one behaviour a test."""

import asyncio
import copy
import json
import os
import pickle
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
from support.attempts import give_back, try_again
from support.platforms import needs_links, needs_modes

import journal
import journal.errors
import journal.fs.system
import journal.service
import journal.store.journal
import journal.store.store
from journal import (
    VALID_TRANSITIONS,
    InvalidStateTransition,
    Job,
    JobBusyError,
    JobExistsError,
    JobLockedError,
    JobNotFoundError,
    JobRow,
    JobService,
    JobStatus,
    JournalDamagedError,
    JournalError,
    RowNotFoundError,
    RowStatus,
    ServiceClosedError,
)
from journal.cli.main import main
from journal.format.records import RowRecord
from journal.fs import locks
from journal.history.history import History, look

# How a job and a row get to each status from pending.
JOB_PATHS: dict[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.PENDING: (),
    JobStatus.RUNNING: (JobStatus.RUNNING,),
    JobStatus.PAUSED: (JobStatus.RUNNING, JobStatus.PAUSED),
    JobStatus.COMPLETED: (JobStatus.RUNNING, JobStatus.COMPLETED),
    JobStatus.FAILED: (JobStatus.RUNNING, JobStatus.FAILED),
    JobStatus.CANCELLED: (JobStatus.RUNNING, JobStatus.CANCELLED),
}
TERMINAL = [status for status in JobStatus if not VALID_TRANSITIONS[status]]


class Boom(Exception):
    """What a block under test raises."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


@pytest.fixture
def service(root: Path) -> Iterator[JobService]:
    with JobService(root, sync="none") as service:
        yield service


@pytest.fixture
def other(root: Path) -> Iterator[JobService]:
    """Another service on the same root, as another process would have it."""
    with JobService(root, sync="none", lock_timeout_s=0.0) as other:
        yield other


@pytest.fixture
def job(service: JobService) -> Job:
    """A pending job with rows 1 to 4."""
    job = service.create_job("Ship CA orders", job_id="ship")
    service.create_rows(job.id, ({"data": {"order": f"A-{n}"}} for n in range(1, 5)))
    return job


def move_job(service: JobService, job_id: str, status: JobStatus) -> None:
    for step in JOB_PATHS[status]:
        service.update_status(job_id, step)


@contextmanager
def discarded(service: JobService, job_id: str) -> Iterator[None]:
    """A batch whose block raises at its end."""
    with suppress(Boom), service.batch(job_id):
        yield
        raise Boom


def reopened(service: JobService) -> JobService:
    return JobService(service.root, sync="none")


def journal_bytes(service: JobService, job_id: str) -> bytes:
    return (service.root / job_id / "journal.jsonl").read_bytes()


def row_of(service: JobService, row_id: str) -> JobRow:
    row = service.get_row(row_id)
    assert row is not None
    return row


def job_of(service: JobService, job_id: str) -> Job:
    job = service.get_job(job_id)
    assert job is not None
    return job


# --- jobs


def test_a_new_job_is_pending_and_holds_what_it_was_made_with(service: JobService) -> None:
    job = service.create_job(
        "Ship CA orders", "ship --state CA", "All of May", "auto", metadata={"team": ["a", None]}
    )
    texts = (job.name, job.original_command, job.description, job.mode)
    assert texts == ("Ship CA orders", "ship --state CA", "All of May", "auto")
    assert job.metadata == {"team": ["a", None]}
    assert job.status is JobStatus.PENDING
    assert (job.started_at, job.completed_at, job.error_code) == (None,) * 3
    assert job.created_at.tzinfo is UTC
    assert job == service.get_job(job.id)
    plain = service.create_job("x")
    assert (plain.original_command, plain.description, plain.mode) == ("", None, "confirm")


def test_a_job_id_is_date_slug_and_random(service: JobService) -> None:
    first = service.create_job("Ship CA orders, größer!")
    second = service.create_job("Ship CA orders, größer!")
    date, _, rest = first.id.partition("-")
    assert len(date) == 8
    assert date.isdigit()
    assert rest.startswith("ship-ca-orders-gro")
    assert first.id != second.id


def test_a_name_without_a_letter_for_its_id_still_makes_a_job(service: JobService) -> None:
    assert "-job-" in service.create_job("注文").id


def test_a_service_stays_in_its_root_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with JobService("jobs") as service:
        job = service.create_job("x")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert service.get_job(job.id) == job
        service.set_error(job.id, "a", "b")


def test_delete_job_removes_all_of_it_once(service: JobService, job: Job) -> None:
    (service.artifacts_dir(job.id) / "1.pdf").write_bytes(b"label")
    assert service.delete_job(job.id) is True
    assert not (service.root / job.id).exists()
    assert service.get_job(job.id) is None
    assert service.list_jobs() == []
    assert service.delete_job(job.id) is False


def test_a_job_made_anew_under_a_deleted_id_is_another_job(
    service: JobService, other: JobService, job: Job
) -> None:
    assert len(other.get_rows(job.id)) == 4
    service.delete_job(job.id)
    new = service.create_job("Another", job_id=job.id)
    for each in (service, other):
        assert each.get_job(job.id) == new
        assert len(each.get_rows(job.id)) == 0


# --- listing


@pytest.fixture
def many(service: JobService) -> list[str]:
    """Six jobs, oldest first; every second one is running."""
    ids = [service.create_job(f"job number {n}", job_id=f"j{n}").id for n in (3, 1, 5, 2, 0, 4)]
    for job_id in ids[::2]:
        service.update_status(job_id, "running")
    return ids


def listed(service: JobService, *args: Any, **options: Any) -> list[str]:
    return [job.id for job in service.list_jobs(*args, **options)]


def test_list_jobs_takes_limit_and_offset_after_the_filter(
    service: JobService, many: list[str]
) -> None:
    newest = many[::-1]
    assert listed(service, limit=2) == newest[:2]
    assert listed(service, limit=2, offset=3) == newest[3:5]
    assert listed(service, offset=6) == []
    assert listed(service, limit=0) == []
    running = many[::2][::-1]
    assert listed(service, "running", limit=1, offset=1) == running[1:2]


def damage(service: JobService, job_id: str, place: int) -> None:
    """Flip a byte of the journal, so that sealed commits stand behind the damage."""
    path = service.root / job_id / "journal.jsonl"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("options", [{}, {"status": "running"}], ids=["all", "filtered"])
def test_list_jobs_raises_at_a_damaged_job(
    service: JobService, many: list[str], options: dict[str, Any]
) -> None:
    damage(service, many[2], 40)
    with reopened(service) as fresh, pytest.raises(JournalDamagedError):
        fresh.list_jobs(**options)


@pytest.mark.parametrize("place", [40, -60], ids=["header", "later"])
def test_list_jobs_goes_on_when_on_error_takes_the_error(
    service: JobService, many: list[str], place: int
) -> None:
    for text in ("first", "second"):  # the second, so that the flip is not in the last commit
        service.set_error(many[2], "E", text)
    last = len(journal_bytes(service, many[2]).splitlines(keepends=True)[-1])
    damage(service, many[2], place if place > 0 else place - last)
    errors: list[JournalError] = []
    with reopened(service) as fresh:
        ids = [job.id for job in fresh.list_jobs(on_error=errors.append)]
    assert ids == [job_id for job_id in many[::-1] if job_id != many[2]]
    assert [type(error) for error in errors] == [JournalDamagedError]
    assert many[2] in str(errors[0])


# --- rows


def test_a_checksum_defaults_to_that_of_canonical_json(service: JobService, job: Job) -> None:
    rows = service.create_rows(
        job.id, [{"data": {"b": 1, "a": [1, {"d": 1, "c": 2}]}}, {"row_checksum": "mine"}]
    )
    assert rows[0].row_checksum == (
        # printf '{"a":[1,{"c":2,"d":1}],"b":1}' | sha256sum
        "1eb2779624646b3af9fab946a5d0e9f98c5abfd1dc6b0f397e75303cb119d07e"
    )
    assert rows[1].row_checksum == "mine"


ROW_CALLS: dict[RowStatus, Callable[[JobService, str], JobRow]] = {
    RowStatus.PROCESSING: lambda service, row_id: service.start_row(row_id),
    RowStatus.COMPLETED: lambda service, row_id: service.complete_row(row_id),
    RowStatus.FAILED: lambda service, row_id: service.fail_row(row_id, "E", "m"),
    RowStatus.SKIPPED: lambda service, row_id: service.skip_row(row_id),
    RowStatus.PENDING: lambda service, row_id: service.retry_row(row_id),
}


@pytest.mark.parametrize("status", TERMINAL)
def test_a_run_starts_or_repeats_no_row_of_an_ended_job_and_may_give_back_one_in_flight(
    service: JobService, job: Job, status: JobStatus
) -> None:
    service.fail_row("ship:1", "E", "m")
    service.start_row("ship:3")
    move_job(service, job.id, status)
    before = journal_bytes(service, job.id)
    calls: list[Callable[[], object]] = [
        lambda: service.start_row("ship:2"),
        lambda: try_again(service, "ship:1", "E", "m"),
    ]
    for call in calls:
        with pytest.raises(InvalidStateTransition, match="reopen_job") as caught:
            call()
        assert caught.value.current_state == status.value
        assert caught.value.allowed_transitions == []
    assert journal_bytes(service, job.id) == before
    assert give_back(service, "ship:3").status is RowStatus.PENDING


def test_a_label_inside_the_job_is_kept_relative_to_it(service: JobService, job: Job) -> None:
    label = service.artifacts_dir(job.id) / "1.pdf"
    assert service.complete_row("ship:1", label_path=label).label_path == "artifacts/1.pdf"
    assert service.complete_row("ship:2", label_path=str(label)).label_path == "artifacts/1.pdf"


@pytest.mark.usefixtures("job")
def test_a_label_elsewhere_is_kept_as_it_was_given(service: JobService, tmp_path: Path) -> None:
    outside = str(tmp_path / "labels" / "1.pdf")
    neighbour = str(service.root / "ship-2" / "1.pdf")
    escaping = str(service.root / "ship" / ".." / "1.pdf")
    for number, path in enumerate((outside, neighbour, escaping, "labels/1.pdf"), 1):
        assert service.complete_row(f"ship:{number}", label_path=path).label_path == path


# --- what isn't there


@pytest.mark.usefixtures("job")
def test_getters_return_none_for_what_is_not_there(service: JobService) -> None:
    assert service.get_job("nobody") is None
    assert service.get_row("nobody:1") is None
    assert service.get_row("ship:5") is None
    assert service.get_row("ship:9999999999999999999") is None
    assert service.run_holder("nobody") is None


JOB_CALLS: dict[str, Callable[[JobService, str], object]] = {
    "update_status": lambda service, job_id: service.update_status(job_id, "running"),
    "update_status to paused": lambda service, job_id: service.update_status(job_id, "paused"),
    "update_counts": lambda service, job_id: service.update_counts(job_id, total=1),
    "set_error": lambda service, job_id: service.set_error(job_id, "a", "b"),
    "log": lambda service, job_id: service.log(job_id, "m"),
    "get_logs": lambda service, job_id: service.get_logs(job_id),
    "get_history": lambda service, job_id: service.get_history(job_id),
    "create_rows": lambda service, job_id: service.create_rows(job_id, [{}]),
    "get_rows": lambda service, job_id: service.get_rows(job_id),
    "get_pending_rows": lambda service, job_id: service.get_pending_rows(job_id),
    "get_failed_rows": lambda service, job_id: service.get_failed_rows(job_id),
    "retry_failed_rows": lambda service, job_id: service.retry_failed_rows(job_id),
    "reopen_job": lambda service, job_id: service.reopen_job(job_id),
    "redo_row": lambda service, job_id: service.redo_row(f"{job_id}:1"),
    "give_back_row": lambda service, job_id: give_back(service, f"{job_id}:1"),
    "update_row_data": lambda service, job_id: service.update_row_data(f"{job_id}:1", {}),
    "get_job_summary": lambda service, job_id: service.get_job_summary(job_id),
    "start_job": lambda service, job_id: service.start_job(job_id),
    "recover_job": lambda service, job_id: service.recover_job(job_id),
    "batch": lambda service, job_id: service.batch(job_id).__enter__(),
    "artifacts_dir": lambda service, job_id: service.artifacts_dir(job_id),
    **{
        f"row to {status}": lambda service, job_id, call=call: call(service, f"{job_id}:1")  # type: ignore[misc]
        for status, call in ROW_CALLS.items()
    },
}


def test_changes_of_an_unknown_job_raise_and_make_nothing(service: JobService) -> None:
    for has_root in (False, True):
        if has_root:
            service.create_job("x", job_id="x")
        for call in JOB_CALLS.values():
            with pytest.raises(JobNotFoundError) as caught:
                call(service, "nobody")
            assert caught.value.job_id == "nobody"
            assert isinstance(caught.value, LookupError)
            assert not (service.root / "nobody").exists()


@pytest.mark.usefixtures("job")
def test_changes_of_an_unknown_row_raise(service: JobService) -> None:
    for call in ROW_CALLS.values():
        for row_id in ("ship:5", "ship:9999999999999999999"):
            with pytest.raises(RowNotFoundError) as caught:
                call(service, row_id)
            assert caught.value.row_id == row_id
            assert isinstance(caught.value, LookupError)


# --- lazy sequences


def test_a_sequence_has_length_items_and_slices(service: JobService, job: Job) -> None:
    rows = service.get_rows(job.id)
    assert len(rows) == 4
    assert [rows[index].row_number for index in (0, 3, -1, -4)] == [1, 4, 4, 1]
    assert [row.row_number for row in rows[1:3]] == [2, 3]
    assert [row.row_number for row in rows[::-2]] == [4, 2]
    assert rows[10:] == []
    for index in (4, -5):
        with pytest.raises(IndexError):
            rows[index]


def test_a_half_read_iterator_goes_on_in_the_past(service: JobService, job: Job) -> None:
    seen = []
    for row in service.get_pending_rows(job.id):
        seen.append(row.row_number)
        service.complete_row(row.id)
    assert seen == [1, 2, 3, 4]
    assert len(service.get_pending_rows(job.id)) == 0


def test_a_sequence_outlives_job_and_service(service: JobService, job: Job) -> None:
    service.complete_row("ship:2", result="done")
    rows = service.get_rows(job.id)
    before = list(service.get_rows(job.id))
    service.delete_job(job.id)
    assert list(rows) == before
    service.close()
    assert rows[1].result == "done"
    assert list(rows) == before


def test_a_long_sequence_with_rows_of_every_size_reads_back(service: JobService) -> None:
    job = service.create_job("x")
    sizes = [(n * 7919) % 3000 for n in range(2000)]
    sizes[700] = 1_000_000
    service.create_rows(job.id, ({"data": {"text": "x" * size}} for size in sizes))
    for each in (service, reopened(service)):
        rows = each.get_rows(job.id)
        assert [len(row.data["text"]) for row in rows] == sizes
        assert [len(row.data["text"]) for row in reversed(rows)] == sizes[::-1]
        assert len(rows[700].data["text"]) == 1_000_000


def test_threads_may_read_one_sequence(service: JobService) -> None:
    job = service.create_job("x", job_id="x")
    service.create_rows(job.id, ({} for _ in range(2000)))
    with service.batch(job.id):
        for number in range(1, 2001, 3):
            service.complete_row(f"x:{number}")
    expected = [number for number in range(1, 2001) if number % 3 != 1]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet where they rarely do
    try:
        for _ in range(6):
            rows = service.get_pending_rows(job.id)
            barrier = threading.Barrier(8)

            def read(rows: Any = rows, barrier: threading.Barrier = barrier) -> list[int]:
                barrier.wait()
                return [row.row_number for row in rows]

            with ThreadPoolExecutor(8) as pool:
                futures = [pool.submit(read) for _ in range(8)]
                assert all(future.result() == expected for future in futures)
    finally:
        sys.setswitchinterval(interval_s)


# --- batches


def test_a_batch_is_one_commit(service: JobService, job: Job) -> None:
    seals = journal_bytes(service, job.id).count(b',"crc":"')
    with service.batch(job.id):
        service.update_status(job.id, "running")
        service.create_rows(job.id, [{}])
        for number in range(1, 6):
            service.start_row(f"ship:{number}")
            service.complete_row(f"ship:{number}", cost_cents=1)
        service.update_status(job.id, "completed")
    assert journal_bytes(service, job.id).count(b',"crc":"') == seals + 1
    for each in (service, reopened(service)):
        assert each.get_job_summary(job.id)["successful_rows"] == 5
        assert each.get_job_summary(job.id)["status"] == "completed"


def test_rows_refused_in_a_large_batch_keep_what_was_before(service: JobService, job: Job) -> None:
    def rows(count: int) -> Iterator[dict[str, Any]]:
        return ({"data": {"x": "x" * 1000}} for _ in range(count))

    def broken() -> Iterator[dict[str, Any]]:
        yield from rows(3000)
        raise Boom

    with service.batch(job.id):
        service.create_rows(job.id, rows(1500))
        service.complete_row("ship:1")
        with pytest.raises(Boom):
            service.create_rows(job.id, broken())
        service.complete_row("ship:2")
        service.create_rows(job.id, rows(1500))
    for each in (service, reopened(service)):
        assert len(each.get_rows(job.id)) == 3004
        assert each.get_job_summary(job.id)["successful_rows"] == 2
        assert len(row_of(each, "ship:3004").data["x"]) == 1000


def test_an_empty_batch_writes_nothing(service: JobService, job: Job) -> None:
    before = service.get_job(job.id), journal_bytes(service, job.id)
    with service.batch(job.id):
        pass
    assert (service.get_job(job.id), journal_bytes(service, job.id)) == before


def test_a_sequence_taken_in_a_discarded_batch_raises(service: JobService, job: Job) -> None:
    with discarded(service, job.id):
        made = service.create_rows(job.id, [{}])
        rows = service.get_rows(job.id)
    for sequence in (made, rows):
        with pytest.raises(ServiceClosedError, match="discarded"):
            sequence[0]
        with pytest.raises(ServiceClosedError, match="discarded"):
            list(sequence)


def test_another_writer_gives_up_on_an_open_batch_in_time(
    service: JobService, other: JobService, job: Job
) -> None:
    with service.batch(job.id):
        with pytest.raises(JobLockedError) as caught:
            other.complete_row("ship:1")
        assert (caught.value.job_id, caught.value.timeout_s) == (job.id, 0.0)
    assert other.complete_row("ship:1").status is RowStatus.COMPLETED


def test_jobs_are_neither_made_nor_deleted_while_another_process_is_at_it(
    service: JobService, other: JobService, job: Job
) -> None:
    lock = locks.DirectoryLock(service.root / ".staging")
    assert lock.try_lock()
    with pytest.raises(JobLockedError):
        other.create_job("another", job_id="another")
    with pytest.raises(JobLockedError):
        other.delete_job(job.id)
    assert [one.id for one in other.list_jobs()] == [job.id]
    lock.close()
    other.create_job("another", job_id="another")
    assert other.delete_job(job.id)


def test_a_batch_is_made_while_another_thread_imports_asyncio(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("x", job_id="x", row_data=[{}])
        monkeypatch.setitem(sys.modules, "asyncio", ModuleType("asyncio"))  # nothing is in it yet
        with service.batch("x"):
            service.complete_row("x:1")
        assert service.get_job_summary("x")["pending_count"] == 0


@pytest.mark.parametrize("sync", ["commit", "none"])
def test_a_change_asked_for_by_another_task_while_a_batch_is_open_is_refused_and_no_part_of_it(
    root: Path, sync: Literal["commit", "none"]
) -> None:
    service = JobService(root, sync=sync)
    service.create_job("Ship", job_id="ship", row_data=[{"data": {}}] * 9)
    changes: list[Callable[[], object]] = [
        lambda: service.start_row("ship:2"),
        lambda: service.create_rows("ship", [{"data": {}}]),
        lambda: service.batch("ship").__enter__(),
        lambda: service.update_status("ship", "running"),
    ]

    async def other(is_open: asyncio.Event) -> None:
        await is_open.wait()
        for change in changes:
            with pytest.raises(JobLockedError, match="another asyncio task") as refused:
                change()
            assert pickle.loads(pickle.dumps(refused.value)).by_task

    async def main() -> None:
        is_open = asyncio.Event()
        before = asyncio.create_task(other(is_open))  # whose context knows nothing of the batch
        with suppress(KeyError), service.batch("ship"):
            service.start_row("ship:1")
            inside = asyncio.create_task(other(is_open))
            is_open.set()
            await asyncio.gather(before, inside)
            service.start_row("ship:3")
            raise KeyError
        await asyncio.create_task(ships(service))

    async def ships(service: JobService) -> None:
        service.start_row("ship:2")

    asyncio.run(main())
    service.close()
    with JobService(root) as fresh:
        statuses = [str(row.status) for row in fresh.get_rows("ship")]
    assert statuses == ["pending", "processing", *["pending"] * 7]


def test_tasks_that_a_batch_itself_waits_for_are_part_of_it(service: JobService, job: Job) -> None:
    async def main() -> None:
        service.start_row("ship:2")

    with service.batch("ship"):
        service.start_row("ship:1")
        asyncio.run(main())
    assert [row.row_number for row in service.get_rows("ship", "processing")] == [1, 2]


def test_another_threads_change_waits_for_the_batch_and_is_no_part_of_it(
    service: JobService, job: Job
) -> None:
    started = threading.Event()

    def change() -> JobRow:
        started.set()
        return service.complete_row("ship:1")

    with ThreadPoolExecutor(1) as pool:
        with discarded(service, job.id):
            future = pool.submit(change)
            assert started.wait(10)
            service.complete_row("ship:2")
        assert future.result().status is RowStatus.COMPLETED
    assert [row.row_number for row in service.get_rows(job.id, "completed")] == [1]


# --- runs


def test_who_holds_a_job_that_another_has_ended_lets_go_when_it_looks(
    service: JobService, other: JobService, job: Job
) -> None:
    service.start_job(job.id)
    service.start_row(f"{job.id}:1")
    other.update_status(job.id, "paused")
    service.get_job(job.id)
    assert service.store.runs.holds(job.id)  # paused, it may be resumed
    other.update_status(job.id, "cancelled")
    service.get_job(job.id)
    assert service.store.runs.holds(job.id)  # a row is in flight
    other.complete_row(f"{job.id}:1")
    with pytest.raises(JobBusyError):
        other.delete_job(job.id)
    service.get_job(job.id)
    assert other.run_holder(job.id) is None
    assert main(["--root", str(other.root), "delete", "--yes", job.id]) == 0
    assert service.get_job(job.id) is None


@pytest.mark.parametrize(
    ("policy", "status"),
    [("review", RowStatus.NEEDS_REVIEW), ("retry", RowStatus.PENDING), ("fail", RowStatus.FAILED)],
)
def test_recover_job_settles_rows_in_flight_by_its_policy(
    service: JobService, root: Path, job: Job, policy: Any, status: RowStatus
) -> None:
    service.start_row("ship:1")
    service.start_row("ship:3")
    with JobService(root, sync="none") as dying:
        dying.update_status(job.id, "running")
    assert service.recover_job(job.id, policy) == 2
    assert [row.row_number for row in service.get_rows(job.id, status)] == (
        [1, 2, 3, 4] if policy == "retry" else [1, 3]
    )
    assert len(service.get_rows(job.id, "processing")) == 0
    assert job_of(service, job.id).status is JobStatus.PAUSED
    assert service.run_holder(job.id) is None
    row = row_of(service, "ship:1")
    assert row.attempts == 1
    assert row.error_code == "interrupted"
    assert service.recover_job(job.id, policy) == 0


# --- time


def test_a_clock_that_steps_back_is_held(
    service: JobService, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = service.complete_row("ship:1").updated_at
    monkeypatch.setattr(journal.store.journal, "now", lambda: latest - timedelta(days=1))
    assert service.complete_row("ship:2").updated_at == latest
    with reopened(service) as again:
        assert again.complete_row("ship:3").updated_at == latest
    assert service.update_status(job.id, "running").started_at == latest
    assert service.create_rows(job.id, [{}])[0].created_at == latest
    monkeypatch.setattr(journal.store.journal, "now", lambda: latest + timedelta(days=1))
    assert service.complete_row("ship:4").updated_at == latest + timedelta(days=1)


# --- files


@needs_modes
def test_files_and_directories_are_private(root: Path) -> None:
    umask = os.umask(0)
    try:
        with JobService(root) as service:
            job = service.create_job("x")
            service.start_job(job.id)
            service.artifacts_dir(job.id)
            service.create_job("y")
    finally:
        os.umask(umask)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*"))}
    assert len(modes) >= 7
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}


# --- threads


def test_of_threads_that_create_one_job_id_exactly_one_succeeds(service: JobService) -> None:
    barrier = threading.Barrier(8)

    def create(_: int) -> bool:
        barrier.wait()
        try:
            service.create_job("x", job_id="x")
        except JobExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 1


# --- open and closed


@pytest.mark.usefixtures("job")
def test_a_closed_service_refuses_all_work(service: JobService) -> None:
    def files() -> list[Path]:  # a lock file is no trace of the work that was refused
        return sorted(path for path in service.root.rglob("*") if path.name != "run.lock")

    before = files()
    service.close()
    calls: list[Callable[[JobService, str], object]] = [
        *JOB_CALLS.values(),
        lambda service, job_id: service.get_job(job_id),
        lambda service, job_id: service.get_row(f"{job_id}:1"),
        lambda service, _: service.list_jobs(),
        lambda service, _: service.create_job("x"),
        lambda service, job_id: service.delete_job(job_id),
    ]
    for call in calls:
        with pytest.raises(ServiceClosedError):
            call(service, "ship")
    assert files() == before


def test_an_infinite_lock_timeout_waits_for_as_long_as_it_takes(root: Path) -> None:
    with JobService(root, sync="none", lock_timeout_s=float("inf")) as service:
        job = service.create_job("x")
        assert service.set_error(job.id, "E", "m").error_code == "E"


# --- errors

EXAMPLES: dict[str, tuple[object, ...]] = {
    "CommitOutcomeUnknownError": ("a/journal.jsonl", "sync", 5, "Input/output error"),
    "CopiesDivergedError": ("x", 3, 210),
    "FormatVersionError": ("a/journal.jsonl", "format 9"),
    "InvalidStateTransition": (
        JobStatus.PAUSED,
        JobStatus.FAILED,
        VALID_TRANSITIONS[JobStatus.PAUSED],
        "job x",
        "do this",
    ),
    "InvalidValueError": ("row 3: data.price", float("nan"), "must be finite"),
    "JobBusyError": ("x", "host", 42, "2026-11-24T13:35:00.000000Z"),
    "JobExistsError": ("x",),
    "JobLockedError": ("x", 2.5),
    "JobMismatchError": (Path("a/x"), "y"),
    "JobNotFoundError": ("x",),
    "JobPausedError": ("x", "2026-11-24T13:35:00.000000Z", "ann"),
    "JobPrunedError": ("x", "2026-11-24T13:35:00.000000Z", "/a/x.tar.gz", True, "/b/x.tar.gz"),
    "JournalDamagedError": (Path("a/journal.jsonl"), 3, 210, "a record", "NULs"),
    "StepInDoubtError": ("job-1:7", "charge", 1),
    "StepRepeatedError": ("job-1:7", "charge", 1, 2),
    "MissingExtraError": ("a report", "jinja2", "report"),
    "JournalError": ("anything",),
    "BusyError": ("anything",),
    "InvalidInputError": ("anything",),
    "RefusedError": ("anything",),
    "SystemFailureError": ("anything",),
    "UnreadableError": ("anything",),
    "PackError": (Path("a/x.tar.gz"), "it is cut short"),
    "RowChangedError": ("x:1", '{"a":1}', '{"a":2}'),
    "RowNotFoundError": ("x:1",),
    "ServiceClosedError": ("closed",),
    "StorageError": ("a/journal.jsonl", "write", 28, "No space left on device"),
}
ERROR_CLASSES: dict[str, type[JournalError]] = {
    name: value
    for name, value in vars(journal.errors).items()
    if isinstance(value, type) and issubclass(value, JournalError)
}


def test_every_error_is_public_and_has_an_example_here() -> None:
    assert set(ERROR_CLASSES) == set(EXAMPLES)
    assert set(ERROR_CLASSES) <= set(journal.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_error_pickles_and_copies_with_attributes_and_message(name: str) -> None:
    error = ERROR_CLASSES[name](*EXAMPLES[name])
    assert isinstance(error, JournalError)
    again = [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(2, 6)]
    for each in (*again, copy.copy(error), copy.deepcopy(error)):
        assert type(each) is type(error)
        assert str(each) == str(error) != ""
        assert each.args == error.args
        assert vars(each) == vars(error)
    assert all(hasattr(error, name) for name in getattr(error, "__match_args__", ()))


@needs_links
def test_a_job_behind_a_link_is_not_deleted(service: JobService, tmp_path: Path) -> None:
    service.create_job("Linked", job_id="linked")
    real = tmp_path / "bigger-disk"
    (service.root / "linked").rename(real)
    (service.root / "linked").symlink_to(real)
    with pytest.raises(journal.errors.StorageError, match=f"is a link: delete {real}, or the link"):
        service.delete_job("linked")
    assert service.get_job("linked") is not None


# --- history


def test_history_is_every_record_in_order_and_goes_on_where_it_stopped(
    service: JobService, root: Path, job: Job
) -> None:
    with service.batch(job.id):
        service.start_row("ship:1")
        service.complete_row("ship:1", "1Z")
    entries = list(service.get_history(job.id))
    lines = (root / job.id / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert [entry.offset for entry in entries] == [
        sum(map(len, lines[:number])) for number in range(len(lines))
    ]
    assert [json.loads(line)["type"] for line in lines] == [
        type(entry.record).__struct_config__.tag for entry in entries
    ]
    assert entries[-1].ends
    assert list(service.get_history(job.id, entries[-1].after)) == []
    service.skip_row("ship:2", "no need")
    (entry,) = service.get_history(job.id, entries[-1].after)
    assert (entry.record.row, entry.record.reason) == (2, "no need")  # type: ignore[union-attr]


def test_a_look_at_a_live_job_is_of_one_moment(
    service: JobService, root: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobService(root, sync="none") as writer:

        def history_of(log: Any, **options: bool) -> Any:
            writer.create_rows(job.id, [{"data": {}}])
            history = History(log, **options)
            writer.create_rows(job.id, [{"data": {}}])
            return history

        monkeypatch.setattr("journal.history.history.History", history_of)
        found, history, (rows,) = look(service.store, job.id, None)
    made = sum(isinstance(entry.record, RowRecord) for entry in history.entries())
    assert found.total_rows == len(rows) == made == 5


def test_a_job_counts_rows_by_status_and_each_status_says_what_it_is(service: JobService) -> None:
    job = service.create_job("j", row_data=[{"data": {}}] * 3)
    service.complete_row(f"{job.id}:1")
    service.fail_row(f"{job.id}:2", "E", "no")
    found = service.get_job(job.id)
    assert found is not None
    assert {status.value: count for status, count in found.counts.items() if count} == {
        "completed": 1,
        "failed": 1,
        "pending": 1,
    }
    assert (found.done_rows, found.open_rows, found.pending_count) == (1, 1, 1)
    facts = ("is_open", "is_ended", "is_done", "needs_person")
    assert {s.value: [name for name in facts if getattr(s, name)] for s in RowStatus} == {
        "pending": ["is_open"],
        "processing": ["is_open"],
        "completed": ["is_ended", "is_done"],
        "failed": ["is_ended", "needs_person"],
        "skipped": ["is_ended", "is_done"],
        "needs_review": ["needs_person"],
    }
