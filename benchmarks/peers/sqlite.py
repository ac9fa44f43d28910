"""What somebody would write by hand on ``sqlite3`` instead of using this package.

Write-ahead log, checkpoints as they come by default. ``synchronous=FULL`` syncs each commit.
``NORMAL`` syncs at checkpoints only: a power cut takes the last commits, and leaves no damage.
``OFF`` never syncs, like our ``sync="none"``. Unlike ours, ``complete_row`` doesn't return the row.
"""

from __future__ import annotations

import hashlib
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.ours import in_threads, thread_shares
from benchmarks.setting import (
    COST_CENTS,
    JOB,
    LOCK_TIMEOUT_S,
    TRACKING_NUMBER,
    Clock,
    Setting,
    in_child,
    row_dicts,
    row_ids,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    total_rows INTEGER NOT NULL DEFAULT 0,
    processed_rows INTEGER NOT NULL DEFAULT 0,
    successful_rows INTEGER NOT NULL DEFAULT 0,
    failed_rows INTEGER NOT NULL DEFAULT 0,
    total_cost_cents INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL,
    updated_at TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_creation ON jobs (created_at, id);
CREATE TABLE IF NOT EXISTS job_rows (
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id),
    row_number INTEGER NOT NULL,
    row_checksum TEXT,
    data TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT,
    status TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    tracking_number TEXT,
    label_path TEXT,
    cost_cents INTEGER,
    result TEXT,
    error_code TEXT,
    error_message TEXT,
    reason TEXT,
    processed_at TEXT,
    UNIQUE (job_id, row_number)
);
"""
STATUS_INDEX = (  # for pending and failed rows, in order
    "CREATE INDEX IF NOT EXISTS job_rows_by_status ON job_rows (job_id, status, row_number)"
)
COLUMNS = (
    "id, job_id, row_number, row_checksum, data, created_at, updated_at, status, attempts, "
    "tracking_number, label_path, cost_cents, result, error_code, error_message, reason, "
    "processed_at"
)


def _now() -> str:
    return datetime.now(UTC).isoformat()


class SqliteJobs:
    """Jobs and rows in two tables, one transaction a change."""

    def __init__(
        self, path: Path, synchronous: str, *, status_index: bool = True, one_thread: bool = True
    ) -> None:
        self.connection = sqlite3.connect(
            path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=one_thread
        )
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.executescript(SCHEMA)
        if status_index:
            self.connection.execute(STATUS_INDEX)

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def create_job(self, job_id: str) -> None:
        self.connection.execute(
            "INSERT INTO jobs (id, name, status, created_at) VALUES (?, ?, 'running', ?)",
            (job_id, f"Job {job_id}", _now()),
        )

    def add_rows(self, job_id: str, rows: Iterable[tuple[str, str | None]], first: int = 1) -> None:
        """``rows`` are JSON text and checksum."""
        now = _now()
        with self.transaction():
            added = self.connection.executemany(
                "INSERT INTO job_rows (id, job_id, row_number, data, row_checksum, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (f"{job_id}:{number}", job_id, number, text, checksum, now)
                    for number, (text, checksum) in enumerate(rows, first)
                ),
            ).rowcount
            self.connection.execute(
                "UPDATE jobs SET total_rows = total_rows + ?, updated_at = ? WHERE id = ?",
                (added, now, job_id),
            )

    def create(self, job_id: str, rows: Iterable[tuple[str, str | None]]) -> None:
        self.create_job(job_id)
        self.add_rows(job_id, rows)

    def complete_in_transaction(self, row_id: str) -> None:
        """The guarded update of the row and of the job's counts."""
        execute = self.connection.execute
        now = _now()
        changed = execute(
            "UPDATE job_rows SET status = 'completed', tracking_number = ?, cost_cents = ?, "
            "processed_at = ?, updated_at = ? WHERE id = ? "
            "AND status IN ('pending', 'processing', 'needs_review')",
            (TRACKING_NUMBER, COST_CENTS, now, now, row_id),
        ).rowcount
        if changed != 1:
            raise LookupError(row_id)
        execute(
            "UPDATE jobs SET processed_rows = processed_rows + 1, "
            "successful_rows = successful_rows + 1, "
            "total_cost_cents = total_cost_cents + ?, updated_at = ? WHERE id = ?",
            (COST_CENTS, now, JOB),
        )

    def complete_row(self, row_id: str) -> None:
        with self.transaction():
            self.complete_in_transaction(row_id)

    def start_row(self, row_id: str) -> None:
        with self.transaction():
            changed = self.connection.execute(
                "UPDATE job_rows SET status = 'processing', attempts = attempts + 1, "
                "updated_at = ? WHERE id = ? AND status IN ('pending', 'failed')",
                (_now(), row_id),
            ).rowcount
            if changed != 1:
                raise LookupError(row_id)


def json_texts(dicts: Iterable[dict[str, Any]]) -> Iterator[tuple[str, None]]:
    return ((json.dumps(data), None) for data in dicts)


def msgspec_texts(dicts: Iterable[dict[str, Any]]) -> Iterator[tuple[str, None]]:
    encode = msgspec.json.Encoder().encode
    return ((encode(data).decode(), None) for data in dicts)


def checked_texts(dicts: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """With the checksum that ours makes too: SHA-256 of the JSON with sorted keys."""
    encode = msgspec.json.Encoder(order="sorted").encode
    for data in dicts:
        text = encode(data)
        yield text.decode(), hashlib.sha256(text).hexdigest()


TEXTS: dict[str, Callable[[Iterable[dict[str, Any]]], Iterable[tuple[str, str | None]]]] = {
    "json": json_texts,
    "msgspec": msgspec_texts,
    "checked": checked_texts,
    "ready": lambda dicts: list(json_texts(dicts)),  # before the clock starts
}


# --- writing


def complete(
    setting: Setting, rows: int, synchronous: str, *, batch: bool = False, status_index: bool = True
) -> float:
    count = setting.count(rows)
    with (
        setting.fresh() as directory,
        closing(SqliteJobs(directory / "peer.db", synchronous, status_index=status_index)) as peer,
    ):
        peer.create(JOB, json_texts(row_dicts(count)))
        change = peer.complete_in_transaction if batch else peer.complete_row
        ids = row_ids(count)
        with Clock() as clock, peer.transaction() if batch else nullcontext():
            for row_id in ids:
                change(row_id)
    return clock.s / count


def process(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(SqliteJobs(directory / "peer.db", "FULL")) as peer:
        peer.create(JOB, json_texts(row_dicts(count)))
        ids = row_ids(count)
        with Clock() as clock:
            for row_id in ids:
                peer.start_row(row_id)
                peer.complete_row(row_id)
    return clock.s / count


def enqueue(setting: Setting, rows: int) -> float:
    count = setting.count(rows)
    with setting.fresh() as directory, closing(SqliteJobs(directory / "peer.db", "FULL")) as peer:
        peer.create_job(JOB)
        with Clock() as clock:
            for number, data in enumerate(row_dicts(count), 1):
                peer.add_rows(JOB, [(json.dumps(data), None)], number)
    return clock.s / count


def complete_in_threads(setting: Setting, rows: int, threads: int, *, shared: bool) -> float:
    """One connection for each thread, or one for all behind a lock."""
    shares = thread_shares(setting, rows, threads)
    count = sum(map(len, shares))
    with setting.fresh() as directory, ExitStack() as stack:

        def connect() -> SqliteJobs:
            peer = SqliteJobs(directory / "peer.db", "FULL", one_thread=False)
            return stack.enter_context(closing(peer))

        first = connect()
        first.create(JOB, json_texts(row_dicts(count)))
        lock = threading.Lock()
        peers = [first if shared else connect() for _ in shares]

        def work(peer: SqliteJobs, share: list[str]) -> None:
            for row_id in share:
                with lock if shared else nullcontext():
                    peer.complete_row(row_id)

        spent_s = in_threads([partial(work, *each) for each in zip(peers, shares, strict=True)])
        (done,) = first.connection.execute("SELECT successful_rows FROM jobs").fetchone()
        assert done == count
    return spent_s / count


def complete_grouped(setting: Setting, rows: int, threads: int) -> float:
    """A thread that writes for all others: what they ask for meanwhile is one transaction."""
    shares = thread_shares(setting, rows, threads)
    count = sum(map(len, shares))
    asked: queue.SimpleQueue[tuple[str, threading.Lock] | None] = queue.SimpleQueue()

    def write(peer: SqliteJobs) -> None:
        while (request := asked.get()) is not None:
            group = [request]
            with suppress(queue.Empty):
                while (request := asked.get_nowait()) is not None:
                    group.append(request)
            with peer.transaction():
                for row_id, _ in group:
                    peer.complete_in_transaction(row_id)
            for _, done in group:
                done.release()

    def work(share: list[str]) -> None:
        for row_id in share:
            done = threading.Lock()
            done.acquire()
            asked.put((row_id, done))
            done.acquire()

    with (
        setting.fresh() as directory,
        closing(SqliteJobs(directory / "peer.db", "FULL", one_thread=False)) as peer,
    ):
        peer.create(JOB, json_texts(row_dicts(count)))
        writer = threading.Thread(target=write, args=(peer,))
        writer.start()
        spent_s = in_threads([partial(work, share) for share in shares])
        asked.put(None)
        writer.join()
    return spent_s / count


def create_rows(setting: Setting, rows: int, texts: str, *, status_index: bool = True) -> float:
    count = setting.count(rows)
    with (
        setting.fresh() as directory,
        closing(SqliteJobs(directory / "peer.db", "NORMAL", status_index=status_index)) as peer,
    ):
        peer.create_job(JOB)
        prepared = TEXTS[texts](row_dicts(count))
        with Clock() as clock:
            peer.add_rows(JOB, prepared)
    return clock.s / count


def memory_of_create_rows(setting: Setting, rows: int) -> float:
    with setting.fresh() as directory:
        count = str(setting.count(rows))
        return in_child("benchmarks.child", "create-rows-sqlite", str(directory), count)


# --- reading


def half_done(setting: Setting, rows: int) -> Path:
    """The database that corresponds to :func:`benchmarks.ours.half_done`."""
    count = setting.count(rows)

    def build(directory: Path) -> None:
        with closing(SqliteJobs(directory / "peer.db", "NORMAL")) as peer:
            peer.create(JOB, checked_texts(row_dicts(count)))
            with peer.transaction():
                for row_id in row_ids(count // 2):
                    peer.complete_in_transaction(row_id)

    return setting.kept(f"sqlite-{count}", build) / "peer.db"


def open_and_group(setting: Setting, rows: int) -> float:
    path = half_done(setting, rows)
    with Clock() as clock:
        connection = sqlite3.connect(path)
        found = connection.execute(
            "SELECT status, count(*) FROM job_rows WHERE job_id = ? GROUP BY status", (JOB,)
        ).fetchall()
    connection.close()
    assert dict(found)["pending"] == setting.count(rows) - setting.count(rows) // 2
    return clock.s


def open_and_look(setting: Setting, rows: int) -> float:
    """The counts that the job's own row keeps, without a look at its rows."""
    path = half_done(setting, rows)
    with Clock() as clock:
        connection = sqlite3.connect(path)
        (done,) = connection.execute(
            "SELECT successful_rows FROM jobs WHERE id = ?", (JOB,)
        ).fetchone()
    connection.close()
    assert done == setting.count(rows) // 2
    return clock.s


def first_pending(setting: Setting, rows: int, first: int) -> float:
    path = half_done(setting, rows)
    with Clock() as clock:
        connection = sqlite3.connect(path)
        found = connection.execute(
            f"SELECT {COLUMNS} FROM job_rows WHERE job_id = ? AND status = 'pending' "
            "ORDER BY row_number LIMIT ?",
            (JOB, first),
        ).fetchall()
    connection.close()
    assert found[0][2] == setting.count(rows) // 2 + 1
    return clock.s


DECODERS: dict[str | None, Callable[[str], object]] = {
    "json": json.loads,
    "msgspec": msgspec.json.Decoder().decode,
}


def read_all(setting: Setting, rows: int, decoder: str | None) -> float:
    """The same columns in tuples, times as text; with no ``decoder`` the data stay text too."""
    decode = DECODERS.get(decoder)
    connection = sqlite3.connect(half_done(setting, rows))
    with closing(connection):
        query = f"SELECT {COLUMNS} FROM job_rows WHERE job_id = ? ORDER BY row_number"
        connection.execute("SELECT count(*) FROM job_rows").fetchall()
        with Clock() as clock:
            found = connection.execute(query, (JOB,)).fetchall()
            if decode is None:
                for row in found:
                    _ = row
            else:
                for row in found:
                    _ = decode(row[4])
    return clock.s / setting.count(rows)


def list_jobs(setting: Setting, jobs: int) -> float:
    count = setting.count(jobs, 60)

    def build(directory: Path) -> None:
        with closing(SqliteJobs(directory / "peer.db", "OFF")) as peer:
            for number in range(count):
                peer.create(f"ship-{number}", json_texts(row_dicts(3)))

    directory = setting.kept(f"sqlite-jobs-{count}", build)
    return in_child("benchmarks.child", "list-jobs-sqlite", str(directory))
