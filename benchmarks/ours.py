"""Our side of each work, through the public API alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from benchmarks.setting import (
    COST_CENTS,
    JOB,
    JOURNAL,
    LOCK_TIMEOUT_S,
    TRACKING_NUMBER,
    Clock,
    Setting,
    in_child,
    row_dicts,
    row_ids,
    start_python,
)
from journal import AttemptedRow, JobRow, JobService, RowResult, open_job

SPARE = 1000  # rows that are open where nearly all are done

Sync = Literal["commit", "none"]


def open_service(root: Path, sync: Sync = "none") -> JobService:
    return JobService(root, sync=sync, lock_timeout_s=LOCK_TIMEOUT_S)


def create(service: JobService, rows: int) -> None:
    service.create_job("Benchmark", job_id=JOB)
    service.create_rows(JOB, ({"data": data} for data in row_dicts(rows)))


def complete_rows(service: JobService, ids: list[str]) -> None:
    for row_id in ids:
        service.complete_row(row_id, TRACKING_NUMBER, None, COST_CENTS)


# --- writing


def complete(setting: Setting, rows: int, sync: Sync, *, batch: bool = False) -> float:
    """A row completed in a commit of its own, or all in one batch. Seconds a row."""
    count = setting.count(rows)
    with setting.fresh() as root, open_service(root, sync) as service:
        create(service, count)
        ids = row_ids(count)
        block: AbstractContextManager[object] = service.batch(JOB) if batch else nullcontext()
        with Clock() as clock, block:
            complete_rows(service, ids)
    return clock.s / count


def process(setting: Setting, rows: int) -> float:
    """A row started and completed: two synced commits. Seconds a row."""
    count = setting.count(rows)
    with setting.fresh() as root, open_service(root, "commit") as service:
        create(service, count)
        ids = row_ids(count)
        with Clock() as clock:
            for row_id in ids:
                service.start_row(row_id)
                service.complete_row(row_id, TRACKING_NUMBER, None, COST_CENTS)
    return clock.s / count


def enqueue(setting: Setting, rows: int) -> float:
    """Rows added one at a time, each a synced commit. Seconds a row."""
    count = setting.count(rows)
    with setting.fresh() as root, open_service(root, "commit") as service:
        service.create_job("Benchmark", job_id=JOB)
        with Clock() as clock:
            for data in row_dicts(count):
                service.create_rows(JOB, ({"data": data},))
    return clock.s / count


def in_threads(works: Sequence[Callable[[], object]]) -> float:
    """Seconds until all have been done, each in a thread, once all threads are there."""
    barrier = threading.Barrier(len(works) + 1)
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    with Clock() as clock:
        barrier.wait()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return clock.s


def thread_shares(setting: Setting, rows: int, threads: int) -> list[list[str]]:
    ids = row_ids(setting.count(rows, threads))
    return [ids[first::threads] for first in range(threads)]


def complete_in_threads(setting: Setting, rows: int, threads: int) -> float:
    """Rows of one job completed by many threads, each a synced commit. Seconds a row."""
    shares = thread_shares(setting, rows, threads)
    count = sum(map(len, shares))
    with setting.fresh() as root, open_service(root, "commit") as service:
        create(service, count)
        spent_s = in_threads([partial(complete_rows, service, share) for share in shares])
        assert service.get_job_summary(JOB)["successful_rows"] == count
    return spent_s / count


def create_rows(setting: Setting, rows: int) -> float:
    """Rows from a generator of dicts, in one commit. Seconds a row."""
    count = setting.count(rows)
    with setting.fresh() as root, open_service(root) as service:
        service.create_job("Benchmark", job_id=JOB)
        with Clock() as clock:
            service.create_rows(JOB, ({"data": data} for data in row_dicts(count)))
    return clock.s / count


# --- reading


def half_done(setting: Setting, rows: int) -> Path:
    """A store with one job whose rows' first half is completed, as after an interruption."""
    count = setting.count(rows)

    def build(root: Path) -> None:
        with open_service(root) as service:
            create(service, count)
            with service.batch(JOB):
                complete_rows(service, row_ids(count // 2))

    return setting.kept(f"ours-{count}", build)


def open_and_summarise(setting: Setting, rows: int) -> float:
    """Seconds until the summary of a job that isn't open."""
    root = half_done(setting, rows)
    with Clock() as clock:
        service = open_service(root)
        summary = service.get_job_summary(JOB)
    service.close()
    assert summary["pending_count"] == summary["total_rows"] - summary["successful_rows"] > 0
    return clock.s


def first_pending(setting: Setting, rows: int, first: int) -> float:
    """Seconds until the first pending rows of a job that isn't open."""
    root = half_done(setting, rows)
    with Clock() as clock:
        service = open_service(root)
        found = service.get_pending_rows(JOB)[:first]
    service.close()
    assert found[0].row_number == setting.count(rows) // 2 + 1
    return clock.s


class Undone(Exception):
    """Ends a batch whose changes are not to be kept."""


def first_change(setting: Setting, rows: int) -> float:
    """Seconds for the first change of a row after the first pending rows were read."""
    root = half_done(setting, rows)
    with open_service(root) as service:
        pending = service.get_pending_rows(JOB)
        row_id = pending[0].id
        with suppress(Undone), service.batch(JOB):
            with Clock() as clock:
                service.start_row(row_id)
            raise Undone
    return clock.s


def read_all(setting: Setting, rows: int) -> float:
    """All rows of an open job as JobRow. Seconds a row."""
    with open_service(half_done(setting, rows)) as service:
        service.get_job_summary(JOB)
        with Clock() as clock:
            for row in service.get_rows(JOB):
                _ = row
    return clock.s / setting.count(rows)


def replayable(setting: Setting, records: int, *, batch: bool) -> Path:
    """A third of the records are rows in one commit; each is started and completed thereafter.

    Either in single commits or in one batch: the same records, in another order.
    """
    rows = setting.count(records // 3)

    def build(root: Path) -> None:
        with open_service(root) as service:
            create(service, rows)
            ids = row_ids(rows)
            with service.batch(JOB) if batch else nullcontext():
                for row_id in ids:
                    service.start_row(row_id)
                complete_rows(service, ids)

    return setting.kept(f"ours-{rows}-{'batch' if batch else 'single'}", build)


def rebuild(setting: Setting, records: int, *, batch: bool) -> float:
    """The index made anew from the journal, without a hint. Seconds a record."""
    root = replayable(setting, records, batch=batch)
    (root / JOB / "index.hint").unlink(missing_ok=True)
    with Clock() as clock:
        service = open_service(root)
        summary = service.get_job_summary(JOB)
    service.close()
    assert summary["successful_rows"] == summary["total_rows"]
    return clock.s / (3 * summary["total_rows"])


# --- runs


def ship(_row: JobRow) -> RowResult:
    """The handler of the runs: it does nothing, so that the run itself is measured."""
    return RowResult(tracking_number=TRACKING_NUMBER, cost_cents=COST_CENTS)


def run(setting: Setting, rows: int, workers: int) -> float:
    """All rows of a job through threads, synced: two records a row. Seconds a row."""
    count = setting.count(rows)
    with (
        setting.fresh() as root,
        open_job(root / JOB, row_dicts(count), key="order") as job,
        Clock() as clock,
    ):
        report = job.run(ship, workers=workers)
        assert report.completed == count
    return clock.s / count


def run_batches(setting: Setting, rows: int, size: int) -> float:
    """All rows of a job, so many to a call, unsynced. Seconds a row, without those of the handler."""
    count = setting.count(rows)
    handled_s = 0.0

    def ship_all(batch: list[AttemptedRow]) -> list[RowResult]:
        nonlocal handled_s
        begin_s = time.perf_counter()
        shipped = [ship(row.row) for row in batch]
        handled_s += time.perf_counter() - begin_s
        return shipped

    with (
        setting.fresh() as root,
        open_job(root / JOB, row_dicts(count), key="order", sync="none") as job,
        Clock() as clock,
    ):
        report = job.run(ship_all, batch=size)
        assert report.completed == count
    return (clock.s - handled_s) / count


def resume(setting: Setting, rows: int) -> float:
    """Seconds until the handler is called for the one open row of a job that isn't open."""
    count = setting.count(rows)

    def build(root: Path) -> None:
        with open_service(root) as service:
            create(service, count + SPARE)
            service.start_job(JOB)
            with service.batch(JOB):
                complete_rows(service, row_ids(count))

    root = setting.kept(f"ours-nearly-done-{count}", build)
    called: list[float] = []  # one row is completed in each round

    def stop(_row: JobRow) -> None:
        called.append(time.perf_counter())

    begin_s = time.perf_counter()
    with open_job(root / JOB) as job:
        job.run(stop, max_rows=1, tell=lambda _text: None)
    return called[0] - begin_s


# --- in processes of their own


def memory_of_run(setting: Setting, rows: int) -> float:
    """Bytes by which a process grows at its peak that runs a job which it has opened."""
    with setting.fresh() as root:
        return in_child("benchmarks.child", "run", str(root), str(setting.count(rows)))


def memory_of_open_job(setting: Setting, rows: int, measured: str) -> float:
    """Bytes a row by which a process that opens the job grows: ``held`` or ``peak``."""
    root = half_done(setting, rows)
    grown = in_child("benchmarks.child", f"open-{measured}", str(root))
    return grown / setting.count(rows)


def memory_of_create_rows(setting: Setting, rows: int) -> float:
    """Bytes by which a process that creates the rows grows at its peak."""
    with setting.fresh() as root:
        return in_child("benchmarks.child", "create-rows", str(root), str(setting.count(rows)))


def many_jobs(setting: Setting, jobs: int) -> Path:
    count = setting.count(jobs, 60)

    def build(root: Path) -> None:
        rows = [{"data": data} for data in row_dicts(3)]
        with open_service(root) as service:
            for number in range(count):
                service.create_job(f"Ship {number}", job_id=f"ship-{number}", row_data=rows)

    return setting.kept(f"ours-jobs-{count}", build)


def list_jobs(setting: Setting, jobs: int) -> float:
    """The newest 50 jobs, in a process that has only imported the package. Seconds."""
    return in_child("benchmarks.child", "list-jobs", str(many_jobs(setting, jobs)))


def list_command(setting: Setting) -> float:
    """``journal list`` on three jobs, the whole process, started as its console script is."""

    def build(root: Path) -> None:
        with open_service(root) as service:
            for number in range(3):
                service.create_job(f"Ship {number}", job_id=f"ship-{number}")

    root = setting.kept("ours-small", build)
    with Clock() as clock:
        start_python("-c", JOURNAL, "--root", str(root), "list")
    return clock.s
