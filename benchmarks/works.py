"""The list of works: what is measured, against whom, and what it should cost.

Goals are for two cores. A ratio is ours / theirs of the medians in one run.
"""

from __future__ import annotations

from functools import partial

from benchmarks import floors, ours, processes
from benchmarks.child import STATUS_FILE
from benchmarks.large import LARGE
from benchmarks.peers import commands, sqlite
from benchmarks.table import (
    BYTES_A_ROW,
    MIB,
    MS,
    MS_A_COMMAND,
    US_A_COMMIT,
    US_A_RECORD,
    US_A_ROW,
    Goal,
    Measure,
    Side,
    Work,
    in_peer,
)

SINGLE = 20_000  # rows completed one at a time, unsynced
SYNCED = 500
THREADS = 32
PROCESSES = 8
IN_POOL = 4_000
IN_THREADS = 3_200
MANY = 1_000_000
FEWER = MANY // 10  # where an ORM takes part
RECORDS = 3_000_000
JOBS = 10_000
RUN_WORKERS = 8
BATCH = 100  # rows
COMMANDS = 1_500
WORKERS = 2
A_TENTH = ", a tenth of the rows"  # slow peers do fewer: the cost of one is the same

SYNC = "synced"
NO_SYNC = "unsynced"
CHECKPOINTS = "synced at checkpoints"  # every 1,000 pages, as SQLite comes


def _ours(measure: Measure, promise: str = "") -> Side:
    return Side("**rowjournal**", measure, promise)


def _orm(measure: Measure, promise: str, detail: str = "") -> Side:
    return Side(f"SQLAlchemy ORM{detail}", measure, promise, module="sqlalchemy")


def _floor(name: str, measure: Measure, promise: str = "") -> Side:
    return Side(name, measure, promise, floor=True)


WRITING = (
    Work(
        "complete",
        "complete_row, one at a time, unsynced",
        US_A_COMMIT,
        _ours(partial(ours.complete, rows=SINGLE, sync="none"), NO_SYNC),
        (
            Side(
                "sqlite3 WAL NORMAL",
                partial(sqlite.complete, rows=SINGLE, synchronous="NORMAL"),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 WAL NORMAL, no index of statuses",
                partial(sqlite.complete, rows=SINGLE, synchronous="NORMAL", status_index=False),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 WAL OFF",
                partial(sqlite.complete, rows=SINGLE, synchronous="OFF"),
                NO_SYNC,
            ),
            _orm(
                in_peer("orm", "complete", rows=SINGLE // 10, synchronous="NORMAL"),
                CHECKPOINTS,
                A_TENTH,
            ),
            _floor("os.write", partial(floors.append, rows=SINGLE, sync=False), NO_SYNC),
        ),
        Goal(0.33, ("sqlite3 WAL NORMAL",)),
    ),
    Work(
        "complete-batch",
        "complete_row, all in one commit",
        US_A_ROW,
        _ours(partial(ours.complete, rows=SINGLE, sync="none", batch=True), NO_SYNC),
        (
            Side(
                "sqlite3, one transaction",
                partial(sqlite.complete, rows=SINGLE, synchronous="NORMAL", batch=True),
                CHECKPOINTS,
            ),
            _orm(
                in_peer("orm", "complete", rows=SINGLE // 10, synchronous="NORMAL", batch=True),
                CHECKPOINTS,
                A_TENTH,
            ),
            _floor(
                "msgspec encode, crc32, one os.write",
                partial(floors.encode_and_write, rows=SINGLE),
                NO_SYNC,
            ),
        ),
        Goal(0.8, ("sqlite3, one transaction",)),
    ),
    Work(
        "complete-synced",
        "complete_row, one at a time, synced, one thread",
        US_A_COMMIT,
        _ours(partial(ours.complete, rows=SYNCED, sync="commit"), SYNC),
        (
            Side(
                "sqlite3 WAL FULL", partial(sqlite.complete, rows=SYNCED, synchronous="FULL"), SYNC
            ),
            _orm(in_peer("orm", "complete", rows=SYNCED, synchronous="FULL"), SYNC),
            Side("ZODB FileStorage", in_peer("zodb", "complete", rows=SYNCED), SYNC, module="ZODB"),
            Side(
                "DBOS step, SQLite, half the rows",
                in_peer("dbos_steps", "complete", rows=SYNCED // 2),
                SYNC,
                module="dbos",
            ),
            _floor("os.write, fdatasync", partial(floors.append, rows=SYNCED, sync=True), SYNC),
        ),
        Goal(1.0, ("sqlite3 WAL FULL",)),
    ),
    Work(
        "process-synced",
        "a row taken and completed: two synced commits",
        US_A_ROW,
        _ours(partial(ours.process, rows=SYNCED), SYNC),
        (
            Side("sqlite3 WAL FULL", partial(sqlite.process, rows=SYNCED), SYNC),
            _orm(in_peer("orm", "process", rows=SYNCED), SYNC),
            Side(
                "batchledger",
                in_peer("batch_ledger", "process", rows=SYNCED),
                SYNC,
                module="batchledger",
            ),
            Side(
                "persist-queue get, ack",
                in_peer("persist_queue", "process", rows=SYNCED),
                SYNC,
                module="persistqueue",
            ),
        ),
    ),
    Work(
        "run-handler",
        f"a run: all rows through {RUN_WORKERS} threads, a handler that does nothing, synced",
        US_A_ROW,
        _ours(partial(ours.run, rows=FEWER, workers=RUN_WORKERS), SYNC),
        (
            Side(
                "batchledger, a hundredth of the rows",
                in_peer("batch_ledger", "process", rows=FEWER // 100),
                SYNC,
                module="batchledger",
            ),
            Side(
                "DBOS steps, SQLite, a hundredth",
                in_peer("dbos_steps", "complete", rows=FEWER // 100),
                SYNC,
                module="dbos",
            ),
        ),
        Goal(0.1, ("batchledger, a hundredth of the rows", "DBOS steps, SQLite, a hundredth")),
    ),
    Work(
        "run-batches",
        f"a run: all rows, {BATCH} to a call, without the time of the handler, unsynced",
        US_A_ROW,
        _ours(partial(ours.run_batches, rows=FEWER, size=BATCH), NO_SYNC),
        goal=Goal(10),
    ),
    Work(
        "enqueue-synced",
        "rows added one at a time, each a synced commit",
        US_A_COMMIT,
        _ours(partial(ours.enqueue, rows=SYNCED), SYNC),
        (
            Side("sqlite3 WAL FULL", partial(sqlite.enqueue, rows=SYNCED), SYNC),
            _orm(in_peer("orm", "enqueue", rows=SYNCED), SYNC),
            Side(
                "persist-queue put",
                in_peer("persist_queue", "enqueue", rows=SYNCED),
                SYNC,
                module="persistqueue",
            ),
            Side("ZODB FileStorage", in_peer("zodb", "enqueue", rows=SYNCED), SYNC, module="ZODB"),
            Side(
                "DBOS enqueue, SQLite, half the rows",
                in_peer("dbos_steps", "enqueue", rows=SYNCED // 2),
                SYNC,
                module="dbos",
            ),
        ),
    ),
    Work(
        "complete-threads",
        f"complete_row of one job by {THREADS} threads, synced (0.2: five times the rate)",
        US_A_COMMIT,
        _ours(partial(ours.complete_in_threads, rows=IN_THREADS, threads=THREADS), SYNC),
        (
            Side(
                "sqlite3 FULL, a connection a thread",
                partial(sqlite.complete_in_threads, rows=IN_THREADS, threads=THREADS, shared=False),
                SYNC,
            ),
            Side(
                "sqlite3 FULL, one connection, a lock",
                partial(sqlite.complete_in_threads, rows=IN_THREADS, threads=THREADS, shared=True),
                SYNC,
            ),
            Side(
                "sqlite3 FULL, a thread that writes for all, grouped",
                partial(sqlite.complete_grouped, rows=IN_THREADS, threads=THREADS),
                SYNC,
            ),
            _floor(
                f"os.write of {THREADS} lines, fdatasync",
                partial(floors.append, rows=IN_THREADS // THREADS, sync=True, lines=THREADS),
                SYNC,
            ),
        ),
        Goal(0.2, ("sqlite3 FULL, a connection a thread", "sqlite3 FULL, one connection, a lock")),
    ),
    Work(
        "complete-processes",
        f"complete_row of one job by {PROCESSES} processes, synced",
        US_A_COMMIT,
        _ours(partial(processes.a_commit, side="ours", processes=PROCESSES), SYNC),
        (
            Side(
                "sqlite3 WAL FULL",
                partial(processes.a_commit, side="sqlite", processes=PROCESSES),
                SYNC,
            ),
        ),
        Goal(1.11, ("sqlite3 WAL FULL",)),
    ),
    Work(
        "complete-processes-p99",
        f"the same: the time that 99 of 100 commits of {PROCESSES} processes don't exceed",
        MS,
        _ours(partial(processes.slowest_percent, side="ours", processes=PROCESSES), SYNC),
        (
            Side(
                "sqlite3 WAL FULL",
                partial(processes.slowest_percent, side="sqlite", processes=PROCESSES),
                SYNC,
            ),
        ),
        Goal(5),
    ),
    Work(
        "run-pool",
        f"a run through a pool of {WORKERS} processes, a handler that does nothing, synced",
        US_A_ROW,
        _ours(partial(processes.run_pool, rows=IN_POOL, workers=WORKERS), SYNC),
        (
            Side(
                "submit and result of the pool alone",
                partial(processes.bare_pool, rows=IN_POOL, workers=WORKERS),
                "no record",
            ),
        ),
        Goal(3, ("submit and result of the pool alone",)),
    ),
    Work(
        "create-rows",
        "create_rows from a generator of dicts, one commit; ours makes checksums",
        US_A_ROW,
        _ours(partial(ours.create_rows, rows=MANY), NO_SYNC),
        (
            Side(
                "sqlite3 executemany, json.dumps",
                partial(sqlite.create_rows, rows=MANY, texts="json"),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 executemany, msgspec",
                partial(sqlite.create_rows, rows=MANY, texts="msgspec"),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 executemany, msgspec, checksums",
                partial(sqlite.create_rows, rows=MANY, texts="checked"),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 executemany, msgspec, no index of statuses",
                partial(sqlite.create_rows, rows=MANY, texts="msgspec", status_index=False),
                CHECKPOINTS,
            ),
            Side(
                "sqlite3 executemany, ready-made text",
                partial(sqlite.create_rows, rows=MANY, texts="ready"),
                CHECKPOINTS,
            ),
            _orm(
                in_peer("orm", "create_rows", rows=FEWER),
                CHECKPOINTS,
                A_TENTH,
            ),
            _floor("encode, SHA-256, os.write", partial(floors.create_rows, rows=MANY), NO_SYNC),
        ),
        Goal(0.35, ("sqlite3 executemany, json.dumps", "sqlite3 executemany, msgspec")),
    ),
)


def _rebuild(name: str, title: str, *, batch: bool) -> Work:
    return Work(
        name,
        f"open without a hint, a third of the records rows in one commit, {title}",
        US_A_RECORD,
        _ours(partial(ours.rebuild, records=RECORDS, batch=batch)),
        (
            _floor(
                "msgspec decode_lines, slim structs",
                partial(floors.decode_slim, records=RECORDS, batch=batch),
            ),
        ),
        Goal(0.6),
    )


READING = (
    _rebuild("rebuild-single", "the others in commits of their own", batch=False),
    _rebuild("rebuild-batch", "the others in one batch", batch=True),
    Work(
        "open",
        "open a job half done, and its summary",
        MS,
        _ours(partial(ours.open_and_summarise, rows=MANY)),
        (
            Side("sqlite3 open, GROUP BY status", partial(sqlite.open_and_group, rows=MANY)),
            Side("sqlite3 open, counts kept by hand", partial(sqlite.open_and_look, rows=MANY)),
        ),
        Goal(0.1, ("sqlite3 open, GROUP BY status",)),
    ),
    Work(
        "first-pending",
        "open a job half done, and its first 1,000 pending rows",
        MS,
        _ours(partial(ours.first_pending, rows=MANY, first=1000)),
        (
            Side(
                "sqlite3 open, by an index",
                partial(sqlite.first_pending, rows=MANY, first=1000),
            ),
        ),
        Goal(25),
    ),
    Work(
        "first-change",
        "the first change of a row of an open job, while its pending rows are in use",
        MS,
        _ours(partial(ours.first_change, rows=MANY)),
        goal=Goal(3),
    ),
    Work(
        "read-orm",
        "all rows as objects, beside an ORM",
        US_A_ROW,
        _ours(partial(ours.read_all, rows=FEWER)),
        (
            _orm(in_peer("orm", "read_all", rows=FEWER, streamed=False), "", ", all()"),
            _orm(in_peer("orm", "read_all", rows=FEWER, streamed=True), "", ", yield_per"),
        ),
        Goal(0.1, ("SQLAlchemy ORM, all()", "SQLAlchemy ORM, yield_per")),
    ),
    Work(
        "read",
        "all rows as JobRow",
        US_A_ROW,
        _ours(partial(ours.read_all, rows=MANY)),
        (
            Side(
                "sqlite3 fetchall, json.loads", partial(sqlite.read_all, rows=MANY, decoder="json")
            ),
            Side(
                "sqlite3 fetchall, msgspec", partial(sqlite.read_all, rows=MANY, decoder="msgspec")
            ),
            _floor("for x in fetchall()", partial(sqlite.read_all, rows=MANY, decoder=None)),
            _floor("msgspec decode of each line", partial(floors.read_lines, rows=MANY)),
        ),
        Goal(2, ("sqlite3 fetchall, json.loads", "sqlite3 fetchall, msgspec")),
    ),
    Work(
        "list-jobs",
        "the newest 50 of 10,000 jobs, in a new process",
        MS,
        _ours(partial(ours.list_jobs, jobs=JOBS)),
        (Side("sqlite3 ORDER BY, LIMIT 50", partial(sqlite.list_jobs, jobs=JOBS)),),
        Goal(500),
    ),
    Work(
        "list-command",
        "`journal list` of three jobs, the whole process",
        MS,
        _ours(ours.list_command),
        (
            _floor("python -c 'import click, msgspec'", floors.import_libraries),
            _floor("python -c pass", floors.start_and_stop),
        ),
        Goal(1.5, ("python -c 'import click, msgspec'",)),
        times=3,
    ),
    Work(
        "resume",
        f"a run goes on after {MANY:,} completed rows: until the first open one is handled",
        MS,
        _ours(partial(ours.resume, rows=MANY), SYNC),
        goal=Goal(1000),
    ),
    Work(
        "run-commands",
        f"`true` for each line, {WORKERS} at a time, the whole run",
        MS_A_COMMAND,
        _ours(partial(commands.ours, commands=COMMANDS, workers=WORKERS), SYNC),
        (
            Side(
                "parallel --joblog",
                partial(commands.parallel, commands=COMMANDS, workers=WORKERS),
                NO_SYNC,
                program="parallel",
            ),
            Side(
                "xargs -P",
                partial(commands.xargs, commands=COMMANDS, workers=WORKERS),
                "no record",
                program="xargs",
            ),
        ),
        Goal(0.6, ("parallel --joblog",)),
    ),
)


def _memory(name: str, rows: int, goal: float, *, full_only: bool = False) -> tuple[Work, ...]:
    return tuple(
        Work(
            f"{name}-{measured}",
            f"memory of an open job of {rows:,} rows, half done: {measured}",
            BYTES_A_ROW,
            _ours(partial(ours.memory_of_open_job, rows=rows, measured=measured)),
            goal=Goal(goal),
            full_only=full_only,
        )
        for measured in ("held", "peak")
    )


MEMORY = (
    *_memory("memory", MANY, 24),
    *_memory("memory-full", 10 * MANY, 1e9 / (10 * MANY), full_only=True),
    Work(
        "memory-run",
        f"growth of the process at its peak in a run of {MANY:,} rows",
        MIB,
        _ours(partial(ours.memory_of_run, rows=MANY)),
        (Side("a hundredth of the rows", partial(ours.memory_of_run, rows=MANY // 100)),),
    ),
    Work(
        "memory-create",
        "growth of the process at its peak in create_rows of a generator",
        MIB,
        _ours(partial(ours.memory_of_create_rows, rows=MANY)),
        (Side("sqlite3 executemany", partial(sqlite.memory_of_create_rows, rows=MANY)),),
    ),
)

WORKS = WRITING + READING + LARGE + (MEMORY if STATUS_FILE.exists() else ())
