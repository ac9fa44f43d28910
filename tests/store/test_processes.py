"""Several processes at one job, and a journal that others delete, move or replace."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from support.children import Child, journal_path, read_all
from support.paths import TESTS
from support.platforms import IS_WINDOWS, needs_fork

from journal import JobBusyError, JobService, RowStatus
from journal.fs import files

JOB = "shared"
OTHER_INODE = "replaced by a rename"
SAME_INODE = "overwritten in place"


def make_job(root: Path, rows: int) -> None:
    with JobService(root, sync="none") as service:
        service.create_job("Shared", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, rows + 1)])


# --- writers side by side --------------------------------------------------------------------

WORKER = """
part, rows, sync = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
service = JobService(root, sync=sync, lock_timeout_s=120)
tell("ready")
hear()
for number in range(1 + part, rows + 1, 4):
    row_id = f"{job_id}:{number}"
    service.start_row(row_id)
    if number % 10:
        service.complete_row(row_id, f"T-{number}", cost_cents=number)
    else:
        service.fail_row(row_id, "ten", "a multiple of ten")
tell("done")
hear()
tell(json.dumps(service.get_job_summary(job_id)))
"""

PAUSER = """
sys.path.append(sys.argv[4])
from support.pipes import ready

service = JobService(root, sync=sys.argv[3], lock_timeout_s=120)
tell("ready")
hear()
turns = 0
while turns < 10 or not ready([0], 0):
    service.update_status(job_id, "paused")
    service.update_status(job_id, "running")
    turns += 1
hear()
tell(turns)
hear()
tell(json.dumps(service.get_job_summary(job_id)))
"""


@pytest.mark.parametrize("sync", ["none", "commit"])
def test_four_processes_complete_rows_while_a_fifth_pauses_and_resumes_and_all_agree(
    tmp_path: Path, sync: str
) -> None:
    count = 600 if sync == "none" else 200
    make_job(tmp_path, count)
    with JobService(tmp_path) as service:
        service.update_status(JOB, "running")
    with (
        Child(WORKER, tmp_path, JOB, 0, count, sync) as first,
        Child(WORKER, tmp_path, JOB, 1, count, sync) as second,
        Child(WORKER, tmp_path, JOB, 2, count, sync) as third,
        Child(WORKER, tmp_path, JOB, 3, count, sync) as fourth,
        Child(PAUSER, tmp_path, JOB, sync, TESTS) as pauser,
    ):
        workers = [first, second, third, fourth]
        for child in (*workers, pauser):
            assert child.hear() == "ready"
        for child in (*workers, pauser):
            child.tell("go")
        for child in workers:
            assert child.hear() == "done"
        pauser.tell("enough")
        turns = int(pauser.hear())
        for child in (*workers, pauser):
            child.tell("report")
        summaries = [json.loads(child.hear()) for child in (*workers, pauser)]
        for child in (*workers, pauser):
            child.end()
    with JobService(tmp_path) as service:
        fresh = service.get_job_summary(JOB)
        rows = list(service.get_rows(JOB))
    assert summaries == [fresh] * 5
    for row in rows:
        failed = row.row_number % 10 == 0
        assert row.status == (RowStatus.FAILED if failed else RowStatus.COMPLETED)
        assert row.tracking_number == (None if failed else f"T-{row.row_number}")
        assert row.attempts == 1
    assert [row.row_number for row in rows] == list(range(1, count + 1))
    assert fresh["status"] == "running"
    assert fresh["failed_rows"] == count // 10
    assert fresh["successful_rows"] == count - count // 10
    assert fresh["total_cost_cents"] == sum(n for n in range(1, count + 1) if n % 10)
    lines = journal_path(tmp_path, JOB).read_bytes().splitlines()
    assert sum(b'"status":"paused"' in line for line in lines) == turns


def test_threads_and_processes_that_create_rows_at_once_share_no_row_number(tmp_path: Path) -> None:
    script = """
    import threading
    service = JobService(root, sync="none", lock_timeout_s=120)
    tell("ready")
    hear()
    def work():
        for turn in range(20):
            with service.batch(job_id):
                service.create_rows(job_id, [{"data": {}}, {"data": {}}])
                service.create_rows(job_id, [{"data": {}}])
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell("done")
    """
    make_job(tmp_path, 0)
    with Child(script, tmp_path, JOB) as first, Child(script, tmp_path, JOB) as second:
        for child in (first, second):
            assert child.hear() == "ready"
        for child in (first, second):
            child.tell("go")
        for child in (first, second):
            assert child.hear() == "done"
            child.end()
    rows = read_all(tmp_path, JOB)[1]
    assert [row.row_number for row in rows] == list(range(1, 361))


READER = """
rows, pairs = int(sys.argv[3]), sys.argv[4]
service = JobService(root, sync="none")
loops = 0
while True:
    if loops % 10 == 9:
        service = JobService(root, sync="none")
    summary = service.get_job_summary(job_id)
    done = {row.row_number: row.tracking_number for row in service.get_rows(job_id, "completed")}
    assert summary["total_rows"] == rows, summary
    assert summary["successful_rows"] % 2 == 0, summary
    assert summary["successful_rows"] <= len(done), (summary, len(done))
    for number, token in done.items():
        partner = number + 1 if number % 2 else number - 1
        assert done[partner] == token, (number, token)
    loops += 1
    if loops == 1:
        tell("reading")
    if summary["successful_rows"] == rows:
        break
tell("all seen")
"""

PAIR_WRITER = """
rows = int(sys.argv[3])
service = JobService(root, sync=sys.argv[4])

def too_much():
    yield from ({"data": {"pad": "x" * 50_000}} for _ in range(30))
    raise KeyError

hear()
for number in range(1, rows + 1, 2):
    with service.batch(job_id):
        service.complete_row(f"{job_id}:{number}", f"pair-{number}")
        service.complete_row(f"{job_id}:{number + 1}", f"pair-{number}")
    if number % 50 == 1:  # a commit that is written in part, then taken back
        try:
            service.create_rows(job_id, too_much())
        except KeyError:
            pass
tell("written")
"""


@pytest.mark.parametrize("sync", ["none", "commit"])
def test_a_reader_beside_a_writer_sees_whole_batches_and_never_an_error(
    tmp_path: Path, sync: str
) -> None:
    count = 200 if IS_WINDOWS else 800  # under wine, a lock takes long
    make_job(tmp_path, count)
    with (
        Child(READER, tmp_path, JOB, count, "") as first,
        Child(READER, tmp_path, JOB, count, "") as second,
        Child(PAIR_WRITER, tmp_path, JOB, count, sync) as writer,
    ):
        assert first.hear() == "reading"
        assert second.hear() == "reading"
        writer.tell("go")
        assert writer.hear() == "written"
        assert first.hear() == "all seen"
        assert second.hear() == "all seen"
        for child in (first, second, writer):
            child.end()
    assert not list(journal_path(tmp_path, JOB).parent.glob("journal.torn-*"))


# --- the run lock ----------------------------------------------------------------------------


# --- a journal that others delete, move or replace -------------------------------------------


def put_back(copy: Path, path: Path, how: str) -> None:
    if how == OTHER_INODE:
        files.rename(copy, path)  # replaces an open file on Windows, too
    else:
        shutil.copyfile(copy, path)


@pytest.mark.parametrize("how", [OTHER_INODE, SAME_INODE])
@pytest.mark.parametrize("first_use", ["read", "write"])
@pytest.mark.parametrize("token", [None, "T-3", "T-3, and longer than that", "T"])
def test_a_journal_replaced_by_a_copy_that_is_older_or_went_another_way_is_what_an_open_service_follows(
    tmp_path: Path, how: str, first_use: str, token: str | None
) -> None:
    make_job(tmp_path, 4)
    path = journal_path(tmp_path, JOB)
    other_root = tmp_path / "other machine"
    with JobService(tmp_path, sync="none") as service:
        service.complete_row(f"{JOB}:1", "T-1")
        shutil.copytree(tmp_path / JOB, other_root / JOB)
        service.complete_row(f"{JOB}:2", "T-2")
        with JobService(other_root, sync="none") as other:
            if token:
                other.complete_row(f"{JOB}:3", token)
        put_back(journal_path(other_root, JOB), path, how)
        if first_use == "read":
            pending = [row.row_number for row in service.get_pending_rows(JOB)]
            assert pending == ([2, 4] if token else [2, 3, 4])
        service.complete_row(f"{JOB}:4", "T-4")
        rows = list(service.get_rows(JOB))
    assert [row.tracking_number for row in rows] == ["T-1", None, token, "T-4"]
    assert read_all(tmp_path, JOB)[1] == rows


# --- lock timeouts ---------------------------------------------------------------------------

BATCHER = """
service = JobService(root, sync="none")
with service.batch(job_id):
    service.complete_row(f"{job_id}:1", "T-1")
    tell("in the batch")
    hear()
tell("ended")
hear()
"""


def test_a_change_waits_for_a_batch_of_another_process_that_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_job(tmp_path, 2)
    sleep, held = time.sleep, [True]

    def end_at_first_pause(seconds: float) -> None:
        if held and held.pop():
            batcher.tell("end")
        sleep(seconds)

    with (
        Child(BATCHER, tmp_path, JOB) as batcher,
        JobService(tmp_path, lock_timeout_s=60) as service,
    ):
        assert batcher.hear() == "in the batch"
        monkeypatch.setattr(time, "sleep", end_at_first_pause)
        service.complete_row(f"{JOB}:2", "T-2")
        assert not held
        assert [row.tracking_number for row in service.get_rows(JOB)] == ["T-1", "T-2"]


# --- fork ------------------------------------------------------------------------------------


@needs_fork
def test_parent_and_child_of_a_fork_both_go_on_with_the_open_service(tmp_path: Path) -> None:
    script = """
    service = JobService(root, sync="none")
    service.complete_row(f"{job_id}:1", "before")
    pid = os.fork()
    who, first = ("parent", 2) if pid else ("child", 3)
    for number in range(first, 201, 2):
        service.complete_row(f"{job_id}:{number}", who)
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    tell(service.get_job_summary(job_id)["successful_rows"])
    """
    make_job(tmp_path, 200)
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "200"
        child.end()
    tokens = [row.tracking_number for row in read_all(tmp_path, JOB)[1]]
    assert tokens == ["before", *(["parent", "child"] * 100)[:199]]


@needs_fork
def test_rows_taken_before_a_fork_can_be_read_in_the_child(tmp_path: Path) -> None:
    script = """
    service = JobService(root, sync="none")
    rows = service.get_rows(job_id)
    pid = os.fork()
    if not pid:
        tell([row.data["n"] for row in rows])
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    make_job(tmp_path, 3)
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "[1, 2, 3]"
        child.end()


CARRIED_THROUGH_A_FORK = {
    "a batch": """
    def change():
        global pid
        with service.batch(job_id):
            service.complete_row(f"{job_id}:1", "T")
            pid = os.fork()
            if pid:
                assert os.waitpid(pid, 0)[1] == 0
                service.complete_row(f"{job_id}:2", "T")
    """,
    "rows that are added": """
    def rows():
        global pid
        for number in range(60):
            if number == 5:
                pid = os.fork()
                if pid:
                    assert os.waitpid(pid, 0)[1] == 0
            yield {"data": {"pad": "x" * 100_000}}  # more than a commit keeps in memory
    def change():
        service.create_rows(job_id, rows())
    """,
}


@needs_fork
@pytest.mark.parametrize("what", CARRIED_THROUGH_A_FORK)
def test_a_change_carried_through_a_fork_is_the_parents_and_an_error_in_the_child(
    tmp_path: Path, what: str
) -> None:
    script = f"""
    service = JobService(root, sync="none")
    pid = -1
    {CARRIED_THROUGH_A_FORK[what]}
    try:
        change()
    except ServiceClosedError as error:
        assert pid == 0, "the parent's change was refused"
        tell(type(error).__name__)
        os._exit(0)
    if not pid:
        tell("the child's change ended without an error")
        os._exit(0)
    tell("parent done")
    """
    make_job(tmp_path, 2)
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "ServiceClosedError"
        assert child.hear() == "parent done"
        child.end()
    rows = read_all(tmp_path, JOB)[1]
    completed = [row.tracking_number == "T" for row in rows]
    assert completed == [what == "a batch"] * 2 + [False] * (60 if what != "a batch" else 0)


@needs_fork
def test_a_child_forked_while_another_thread_holds_a_batch_can_work(tmp_path: Path) -> None:
    script = """
    import threading, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the point
    service = JobService(root, sync="none")
    inside, end = threading.Event(), threading.Event()
    def hold():
        with service.batch(job_id):
            service.complete_row(f"{job_id}:1", "thread")
            inside.set()
            end.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    pid = os.fork()
    if not pid:
        hear()
        service.complete_row(f"{job_id}:2", "child")
        os._exit(0)
    end.set()
    thread.join()
    tell("thread done")
    assert os.waitpid(pid, 0)[1] == 0
    tell("child done")
    """
    make_job(tmp_path, 2)
    with Child(script, tmp_path, JOB) as child:
        assert child.hear() == "thread done"
        child.tell("go")
        assert child.hear() == "child done"
        child.end()
    assert [row.tracking_number for row in read_all(tmp_path, JOB)[1]] == ["thread", "child"]


@needs_fork
def test_a_forked_child_does_not_keep_the_run_lock_of_its_dead_parent(tmp_path: Path) -> None:
    script = """
    service = JobService(root, sync="none")
    service.start_job(job_id)
    service.start_row(f"{job_id}:1")
    if not os.fork():
        tell("child", os.getpid())
        hear()
        os._exit(0)
    while True:
        signal.pause()
    """
    make_job(tmp_path, 1)
    with Child(script, tmp_path, JOB) as parent, JobService(tmp_path) as service:
        pid = int(parent.hear().split()[1])
        with pytest.raises(JobBusyError):
            service.start_job(JOB)
        parent.kill()
        os.kill(pid, 0)  # the child lives on
        assert service.start_job(JOB).status == "running"
