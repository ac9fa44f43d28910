"""SQLAlchemy ORM on SQLite, as a job service is usually written: models, a session, a commit a call.

Write-ahead log; ``synchronous`` as for the hand-written one. A commit is made for each call and,
as is the default, expires what the session holds, so that the next call reads it anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from benchmarks.setting import (
    COST_CENTS,
    JOB,
    TRACKING_NUMBER,
    Clock,
    Setting,
    row_dicts,
    row_ids,
)

ALLOWED = {
    "pending": ("processing", "completed", "failed", "skipped"),
    "processing": ("completed", "failed", "skipped", "pending", "needs_review"),
    "failed": ("processing", "pending", "skipped"),
    "needs_review": ("pending", "completed", "failed", "skipped"),
    "skipped": ("pending",),
    "completed": (),
}


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    total_rows: Mapped[int] = mapped_column(default=0)
    processed_rows: Mapped[int] = mapped_column(default=0)
    successful_rows: Mapped[int] = mapped_column(default=0)
    failed_rows: Mapped[int] = mapped_column(default=0)
    total_cost_cents: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=_now)
    updated_at: Mapped[datetime | None] = mapped_column(onupdate=_now)


class JobRow(Base):
    __tablename__ = "job_rows"
    __table_args__ = (Index("job_rows_by_status", "job_id", "status", "row_number"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    row_number: Mapped[int]
    row_checksum: Mapped[str | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(default=_now)
    updated_at: Mapped[datetime | None] = mapped_column(onupdate=_now)
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    tracking_number: Mapped[str | None]
    label_path: Mapped[str | None]
    cost_cents: Mapped[int | None]
    result: Mapped[str | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    reason: Mapped[str | None]
    processed_at: Mapped[datetime | None]
    job: Mapped[Job] = relationship()


class JobService:
    def __init__(self, path: Path, synchronous: str) -> None:
        self._engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", self._set_pragmas)
        self._synchronous = synchronous
        Base.metadata.create_all(self._engine)
        self.session = Session(self._engine)

    def _set_pragmas(self, connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")

    def close(self) -> None:
        self.session.close()
        self._engine.dispose()

    def create_job(self, job_id: str, name: str) -> Job:
        job = Job(id=job_id, name=name, status="running")
        self.session.add(job)
        self.session.commit()
        return job

    def create_rows(self, job_id: str, data: Iterable[dict[str, Any]]) -> int:
        job = self._job(job_id)
        rows = [
            JobRow(id=f"{job_id}:{number}", job_id=job_id, row_number=number, data=each)
            for number, each in enumerate(data, job.total_rows + 1)
        ]
        self.session.add_all(rows)
        job.total_rows += len(rows)
        self.session.commit()
        return len(rows)

    def start_row(self, row_id: str) -> JobRow:
        row = self._move(row_id, "processing")
        row.attempts += 1
        self.session.commit()
        return row

    def complete_row(
        self, row_id: str, tracking_number: str, cost_cents: int, *, commit: bool = True
    ) -> JobRow:
        row = self._move(row_id, "completed")
        row.tracking_number = tracking_number
        row.cost_cents = cost_cents
        row.processed_at = _now()
        job = self._job(row.job_id)
        job.processed_rows += 1
        job.successful_rows += 1
        job.total_cost_cents += cost_cents
        if commit:
            self.session.commit()
        return row

    def _job(self, job_id: str) -> Job:
        job: Job | None = self.session.get(Job, job_id)
        if job is None:
            raise LookupError(job_id)
        return job

    def _move(self, row_id: str, status: str) -> JobRow:
        row: JobRow | None = self.session.get(JobRow, row_id)
        if row is None:
            raise LookupError(row_id)
        if status not in ALLOWED[row.status]:
            raise ValueError(f"{row.status} -> {status}")
        row.status = status
        return row


def _with_rows(directory: Path, synchronous: str, rows: int) -> JobService:
    service = JobService(directory / "peer.db", synchronous)
    service.create_job(JOB, "Benchmark")
    service.create_rows(JOB, row_dicts(rows))
    service.session.expunge_all()
    return service


def complete(setting: Setting, rows: int, synchronous: str, *, batch: bool = False) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(_with_rows(directory, synchronous, count)) as peer:
        ids = row_ids(count)
        with Clock() as clock:
            for row_id in ids:
                peer.complete_row(row_id, TRACKING_NUMBER, COST_CENTS, commit=not batch)
            peer.session.commit()
    return clock.s / count


def process(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(_with_rows(directory, "FULL", count)) as peer:
        ids = row_ids(count)
        with Clock() as clock:
            for row_id in ids:
                peer.start_row(row_id)
                peer.complete_row(row_id, TRACKING_NUMBER, COST_CENTS)
    return clock.s / count


def enqueue(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(JobService(directory / "peer.db", "FULL")) as peer:
        peer.create_job(JOB, "Benchmark")
        with Clock() as clock:
            for data in row_dicts(count):
                peer.create_rows(JOB, (data,))
    return clock.s / count


def create_rows(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(JobService(directory / "peer.db", "NORMAL")) as peer:
        peer.create_job(JOB, "Benchmark")
        with Clock() as clock:
            peer.create_rows(JOB, row_dicts(count))
    return clock.s / count


def read_all(setting: Setting, rows: int, *, streamed: bool) -> float:
    """All rows as objects: in one list, or in portions as the documentation advises for many."""
    count = setting.count(rows)

    def build(directory: Path) -> None:
        with closing(_with_rows(directory, "NORMAL", count)) as peer:
            for row_id in row_ids(count // 2):
                peer.complete_row(row_id, TRACKING_NUMBER, COST_CENTS, commit=False)
            peer.session.commit()

    path = setting.kept(f"orm-{count}", build) / "peer.db"
    with closing(JobService(path, "NORMAL")) as peer:
        query = select(JobRow).where(JobRow.job_id == JOB).order_by(JobRow.row_number)
        with Clock() as clock:
            found = peer.session.scalars(
                query.execution_options(yield_per=1000) if streamed else query
            )
            for row in found if streamed else found.all():
                _ = row
    return clock.s / count
