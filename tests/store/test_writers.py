"""Eight processes, or four of four threads, at one job, held against a model of it."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.children import Child, FaultyOs, journal_path, read_all
from support.effort import IS_LONG

import journal.fs.system
from journal import JobRow, JobService, JournalDamagedError
from journal.format.seal import SEALED_END_BYTES
from journal.store.journal import SPILL_BYTES
from journal.verify import verify_job

JOB = "shared"
TURNS = 30 if IS_LONG else 8  # of each thread
SHARED_ROWS = 40  # which all writers race for; every other row is its creator's alone

# Each thread tells what it is about to do and what came of it: "SLOT try {...}", then "SLOT ack"
# or "SLOT no". The attempt names for each row the status and token that it will have.
WORKER = """
import hashlib, threading

service = JobService(root, sync="none", lock_timeout_s=120)

class Undo(Exception):
    pass

def end_at_once(failure):
    sys.excepthook(*failure[:3])
    os._exit(1)

threading.excepthook = end_at_once

def worker(slot, seed, turns):
    draw = random.Random(seed)
    mine = {r.row_number: r.status for r in service.get_rows(job_id) if r.data["by"] == slot}
    for turn in range(turns):
        token = f"{slot}/{seed}/{turn}"
        kind = draw.choice(["create", "single", "single", "batch", "discard", "race", "race"])
        if kind == "create" or len(mine) < 3:
            count = draw.choice([1, 3, 150])
            data = {"by": slot, "token": token, "pad": "x" * draw.choice([10, 9000])}
            tell(slot, "try", json.dumps({"create": token, "count": count}))
            rows = service.create_rows(job_id, [{"data": data}] * count)
            tell(slot, "ack", json.dumps([row.row_number for row in rows]))
            mine.update((row.row_number, row.status) for row in rows)
        elif kind == "race":
            number = draw.randrange(1, SHARED_ROWS + 1)
            tell(slot, "try", json.dumps({number: ["completed", token]}))
            try:
                service.complete_row(f"{job_id}:{number}", token, cost_cents=1)
            except InvalidStateTransition:
                tell(slot, "no")
            else:
                tell(slot, "ack")
        elif kind == "single":
            number = draw.choice(list(mine))
            change(draw, {number: mine[number]}, token, slot, mine)
        elif kind == "batch":
            numbers = draw.sample(list(mine), 3)
            change(draw, {number: mine[number] for number in numbers}, token, slot, mine)
        else:
            discard(draw.choice(list(mine)), slot)
    tell(slot, "done")

NEXT = {"pending": "processing", "processing": "completed failed skipped", "failed": "pending",
        "skipped": "pending", "completed": ""}

def change(draw, statuses, token, slot, mine):
    moves = {n: draw.choice(NEXT[status].split() or [""]) for n, status in statuses.items()}
    moves = {n: status for n, status in moves.items() if status}
    if not moves:
        return
    tell(slot, "try", json.dumps({n: [status, token] for n, status in moves.items()}))
    if len(moves) == 1:
        for n, status in moves.items():
            move(n, status, token)
    else:
        with service.batch(job_id):
            for n, status in moves.items():
                move(n, status, token)
    tell(slot, "ack")
    mine.update(moves)

def move(number, status, token):
    row_id = f"{job_id}:{number}"
    if status == "processing":
        service.start_row(row_id)
    elif status == "completed":
        service.complete_row(row_id, token, cost_cents=1)
    elif status == "failed":
        service.fail_row(row_id, token, "")
    elif status == "skipped":
        service.skip_row(row_id, token)
    else:
        service.retry_row(row_id)

def discard(number, slot):
    try:
        with service.batch(job_id):
            service.create_rows(job_id, [{"data": {"by": slot, "pad": "x" * 9000}}] * 150)
            service.set_error(job_id, "never", "never")
            raise Undo
    except Undo:
        pass

def view():
    rows = [(r.row_number, r.status, r.attempts, r.cost_cents) for r in service.get_rows(job_id)]
    digest = hashlib.sha256(repr(rows).encode()).hexdigest()
    return [json.dumps(service.get_job_summary(job_id)), digest]

SHARED_ROWS, first_slot, threads, seed, turns = map(int, sys.argv[3:])
workers = [
    threading.Thread(target=worker, args=(slot, seed, turns))
    for slot in range(first_slot, first_slot + threads)
]
tell("ready")
hear()
for one in workers:
    one.start()
for one in workers:
    one.join()
tell("finished")
hear()
tell(json.dumps(view()))
"""


class Writer(Child):
    def last_words(self) -> list[str]:
        """What it told before it was killed and nobody has heard yet."""
        while data := self._read():
            self._heard += data
        *lines, _ = self._heard.split(b"\n")
        return [line.decode() for line in lines]


class Attempt(NamedTuple):
    """What a writer said it would do, and what it said came of it: None if it was killed."""

    plan: dict[str, Any]
    answer: str | None
    numbers: list[int]


def attempts_of(said: list[str]) -> list[Attempt]:
    """All of one process, each thread's in its order."""
    plans: dict[str, dict[str, Any]] = {}
    attempts = []
    for line in said:
        slot, word, *rest = [*line.split(" ", 2), ""]
        if word == "try":
            plans[slot] = json.loads(rest[0])
        elif word in {"ack", "no"}:
            numbers = json.loads(rest[0] or "[]")
            attempts.append(Attempt(plans.pop(slot), word, numbers))
    return [*attempts, *(Attempt(plan, None, []) for plan in plans.values())]


def token_of(row: JobRow) -> str | None:
    return row.tracking_number or row.error_code or row.reason


class Model:
    """The rows as what was acknowledged has left them."""

    def __init__(self, rows: list[JobRow]) -> None:
        self.rows: dict[int, list[tuple[str, str | None]]] = {
            row.row_number: [("pending", None)] for row in rows
        }  # each row's statuses and tokens, one after another
        self.creators: dict[int, str] = {}
        self.maybe: list[dict[str, Any]] = []  # races that a killed writer was in

    def learn(self, attempts: list[Attempt], now: dict[int, JobRow]) -> None:
        """``now``: the rows after the writer's death, which tell the fate of its last attempts."""
        for plan, answer, numbers in attempts:
            if "create" in plan:
                self._create(plan, answer, numbers, now)
                continue
            moves = {int(n): (move[0], move[1]) for n, move in plan.items()}
            if answer is None and min(moves) <= SHARED_ROWS:
                self.maybe.append(plan)
            elif answer == "ack" or (answer is None and self._happened(moves, now)):
                for number, (status, token) in moves.items():
                    keeps_token = status in {"completed", "failed", "skipped"}
                    self.rows[number].append((status, token if keeps_token else None))

    def _create(
        self, plan: dict[str, Any], answer: str | None, numbers: list[int], now: dict[int, JobRow]
    ) -> None:
        if answer is None:
            numbers = [n for n, row in now.items() if row.data.get("token") == plan["create"]]
            assert len(numbers) in {0, plan["count"]}, "part of a create_rows is there"
        assert not set(numbers) & set(self.rows), "a row number was given twice"
        for number in numbers:
            self.rows[number] = [("pending", None)]
            self.creators[number] = plan["create"]

    def _happened(self, moves: dict[int, tuple[str, str]], now: dict[int, JobRow]) -> bool:
        """Whether the moves of a writer's own rows are there: all of them, or none."""
        there = {now[number].status == status for number, (status, _) in moves.items()}
        assert len(there) == 1, "part of a batch is there"
        return there == {True}

    def check(self, rows: list[JobRow]) -> None:
        assert [row.row_number for row in rows] == list(range(1, len(rows) + 1))
        assert set(self.rows) == {row.row_number for row in rows}
        perhaps = {(int(n), move[1]) for plan in self.maybe for n, move in plan.items()}
        for row in rows:
            history = self.rows[row.row_number]
            if row.row_number <= SHARED_ROWS:
                assert len(history) <= 2, f"row {row.row_number} was completed twice"
                if len(history) == 1 and (row.row_number, token_of(row)) in perhaps:
                    continue
            assert (row.status, token_of(row)) == history[-1]
            started = sum(status == "processing" for status, _ in history)
            assert row.attempts == started
            assert row.data.get("token") == self.creators.get(row.row_number)


def make_job(root: Path) -> list[JobRow]:
    with JobService(root, sync="none") as service:
        service.create_job("Shared", job_id=JOB)
        return list(service.create_rows(JOB, [{"data": {"by": -1}}] * SHARED_ROWS))


def rows_by_number(root: Path) -> dict[int, JobRow]:
    return {row.row_number: row for row in read_all(root, JOB)[1]}


@pytest.mark.parametrize(
    ("processes", "threads", "kills", "turns"),
    [
        pytest.param(8, 1, 2, 2 * TURNS, id="eight processes, some of which are killed"),
        pytest.param(4, 4, 0, TURNS, id="four processes of four threads"),
        pytest.param(4, 4, 1, TURNS, id="four processes of four threads, some of which are killed"),
    ],
)
def test_writers_side_by_side_lose_nothing_do_nothing_twice_and_agree_in_the_end(
    tmp_path: Path, processes: int, threads: int, kills: int, turns: int
) -> None:
    model, knowing = Model(make_job(tmp_path)), threading.Lock()
    together = threading.Barrier(processes, timeout=120)

    def started(process: int, life: int) -> Writer:
        writer = Writer(WORKER, tmp_path, JOB, SHARED_ROWS, process * threads, threads, life, turns)
        return stack.enter_context(writer)

    def drive(process: int) -> Writer:
        """Let one process work; kill it and start another in its place, ``kills`` times."""
        writer = started(process, 0)
        assert writer.hear() == "ready"
        together.wait()
        writer.tell("go")
        for life in range(1, kills * (process % 2) + 1):
            said: list[str] = []
            while sum(" ack" in line for line in said) < 3 * life:
                said.append(writer.hear())
            writer.kill()
            said += writer.last_words()
            with knowing:
                model.learn(attempts_of(said), rows_by_number(tmp_path))
            writer = started(process, life)
            assert writer.hear() == "ready"
            writer.tell("go")
        said = list(iter(writer.hear, "finished"))
        with knowing:
            model.learn(attempts_of(said), {})
        return writer

    with ExitStack() as stack, ThreadPoolExecutor(processes) as pool:
        writers = list(pool.map(drive, range(processes)))
        for writer in writers:
            writer.tell("look")
        views = [json.loads(writer.hear()) for writer in writers]
        for writer in writers:
            writer.end()
    assert views == [views[0]] * processes
    rows = read_all(tmp_path, JOB)[1]
    model.check(rows)
    with JobService(tmp_path) as service:
        summary = service.get_job_summary(JOB)
        job = service.get_job(JOB)
    assert json.loads(views[0][0]) == summary
    statuses = Counter(str(row.status) for row in rows)
    assert summary["total_rows"] == len(rows)
    assert summary["successful_rows"] == summary["total_cost_cents"] == statuses["completed"]
    assert summary["failed_rows"] == statuses["failed"]
    assert summary["processing_count"] == statuses["processing"]
    assert summary["pending_count"] == statuses["pending"]
    assert summary["skipped_count"] == statuses["skipped"]
    assert job is not None
    assert job.error_code is None, "a discarded batch was committed"
    assert verify_job(journal_path(tmp_path, JOB).parent).findings == []
    if not kills:  # then nobody left a torn tail: discarded batches are taken back
        assert not list((tmp_path / JOB).glob("journal.torn-*"))


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
