"""What somebody would write by hand on ``sqlite3`` instead of using this package."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    status TEXT NOT NULL,
    total_rows INTEGER NOT NULL DEFAULT 0,
    processed_rows INTEGER NOT NULL DEFAULT 0,
    successful_rows INTEGER NOT NULL DEFAULT 0,
    failed_rows INTEGER NOT NULL DEFAULT 0,
    total_cost_cents INTEGER NOT NULL DEFAULT 0,
    updated_at TEXT
);
CREATE TABLE job_rows (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    row_number INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending',
    data TEXT NOT NULL,
    tracking_number TEXT,
    label_path TEXT,
    cost_cents INTEGER,
    processed_at TEXT,
    UNIQUE (job_id, row_number)
);
CREATE INDEX job_rows_by_status ON job_rows (job_id, status);  -- pending and failed rows
"""


class SqliteJobs:
    """Jobs and rows in two tables, WAL, one transaction a change."""

    def __init__(self, path: Path, synchronous: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").unlink()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.executescript(SCHEMA)

    def create(self, job_id: str, data: Iterable[str]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("INSERT INTO jobs (id, status) VALUES (?, 'running')", (job_id,))
        self.connection.executemany(
            "INSERT INTO job_rows (id, job_id, row_number, data) VALUES (?, ?, ?, ?)",
            ((f"{job_id}:{n}", job_id, n, text) for n, text in enumerate(data, 1)),
        )
        self.connection.execute("COMMIT")

    def complete_row(self, job_id: str, row_id: str, tracking_number: str, cost_cents: int) -> None:
        """The guarded update of the row and of the job's counts, in one transaction."""
        execute = self.connection.execute
        now = datetime.now(UTC).isoformat()
        execute("BEGIN IMMEDIATE")
        try:
            changed = execute(
                "UPDATE job_rows SET status = 'completed', tracking_number = ?, cost_cents = ?, "
                "processed_at = ? WHERE id = ? "
                "AND status IN ('pending', 'processing', 'needs_review')",
                (tracking_number, cost_cents, now, row_id),
            ).rowcount
            if changed != 1:
                raise LookupError(row_id)
            execute(
                "UPDATE jobs SET processed_rows = processed_rows + 1, "
                "successful_rows = successful_rows + 1, "
                "total_cost_cents = total_cost_cents + ?, updated_at = ? WHERE id = ?",
                (cost_cents, now, job_id),
            )
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")
