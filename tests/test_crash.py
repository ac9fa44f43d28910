"""A process that dies at any moment loses nothing that it was told is done."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers_crash import Child, journal_path, place_journal, read_all, split_commits

from journal import JobExistsError, JobRow, JobService, RowStatus

JOB = "crashing"
KILLS = 20  # a job; ten jobs

# Forking a warm process is far quicker than starting Python two hundred times.
SERVER = """
import traceback

def work(seed, sync):
    draw = random.Random(seed)
    service = JobService(root, sync=sync)
    waiting = [row.row_number for row in service.get_pending_rows(job_id)]
    highest = service.get_job_summary(job_id)["total_rows"]
    for turn in range(10**9):
        token = f"{seed}-{turn}"
        kind = draw.choices(["complete", "batch", "create", "stream"], [66, 20, 10, 4])[0]
        if len(waiting) < 10:
            kind = "create"
        if kind == "create" or kind == "stream":
            count, pad = (draw.randrange(1, 20), 10) if kind == "create" else (160, 8000)
            numbers = range(highest + 1, highest + 1 + count)
            tell("try", json.dumps(["create", list(numbers), token, pad]))
            data = ({"token": token, "pad": "x" * pad} for number in numbers)
            service.create_rows(job_id, ({"data": one} for one in data))
            waiting += numbers
            highest += count
        else:
            count = 1 if kind == "complete" else draw.randrange(2, 6)
            numbers, waiting = waiting[:count], waiting[count:]
            tell("try", json.dumps(["complete", numbers, token, 0]))
            if kind == "complete":
                service.complete_row(f"{job_id}:{numbers[0]}", token, cost_cents=7)
            else:
                with service.batch(job_id):
                    for number in numbers:
                        service.complete_row(f"{job_id}:{number}", token, cost_cents=7)
        tell("ack")

def cycle(seed, sync):
    service = JobService(root, sync=sync)
    for turn in range(10**9):
        name = f"job-{seed}-{turn}"
        tell("try", name, "there")
        service.create_job(name, job_id=name)
        tell("ack", name, "there")
        if turn % 3:
            tell("try", name, "gone")
            service.delete_job(name)
            tell("ack", name, "gone")

while True:
    order = json.loads(hear())
    pid = os.fork()
    if not pid:
        try:
            globals()[order.pop("do")](**order)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    tell("pid", pid)
    tell("dead", os.waitpid(pid, 0)[1])
"""

Rows = dict[int, tuple[Any, RowStatus, str | None]]


def killed_while(server: Child, draw: random.Random, **order: object) -> list[list[str]]:
    """Have a child do ``order``, kill it at a random moment; what it said, word by word."""
    server.tell(json.dumps(order))
    said: list[list[str]] = []
    acks_to_come = draw.randrange(12)
    pid = 0
    while not pid or acks_to_come > 0:
        words = server.hear().split(" ", 1)
        if words[0] == "pid":
            pid = int(words[1])
            continue
        assert words[0] != "dead", "the child failed by itself"
        acks_to_come -= words[0] == "ack"
        said.append(words)
    # The moment of the kill is what is random here: there is no event to wait for.
    time.sleep(draw.random() * 0.003)
    os.kill(pid, signal.SIGKILL)
    while (words := server.hear().split(" ", 1))[0] != "dead":
        said.append(words)
    assert int(words[1]) == signal.SIGKILL
    return said


def after(rows: Rows, attempt: str) -> Rows:
    """The rows as they are when an attempt has succeeded."""
    kind, numbers, token, pad = json.loads(attempt)
    new = dict(rows)
    for number in numbers:
        if kind == "create":
            new[number] = ({"token": token, "pad": "x" * pad}, RowStatus.PENDING, None)
        else:
            new[number] = (rows[number][0], RowStatus.COMPLETED, token)
    return new


def rows_in(service: JobService) -> Rows:
    rows = service.get_rows(JOB)
    return {row.row_number: (row.data, row.status, row.tracking_number) for row in rows}


@pytest.mark.parametrize("seed", range(10))
def test_a_process_killed_at_any_moment_has_lost_nothing_acknowledged_and_adds_nothing_else(
    tmp_path: Path, seed: int
) -> None:
    sync = "commit" if seed % 5 == 4 else "none"
    draw = random.Random(seed)
    rows: Rows = {}
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Crashing", job_id=JOB)
    with Child(SERVER, tmp_path, JOB) as server:
        for kill in range(KILLS):
            said = killed_while(server, draw, do="work", seed=seed * 1000 + kill, sync=sync)
            attempts = [words[1] for words in said if words[0] == "try"]
            acknowledged = sum(words[0] == "ack" for words in said)
            assert len(attempts) - acknowledged in (0, 1)
            for attempt in attempts[:acknowledged]:
                rows = after(rows, attempt)
            with JobService(tmp_path, sync="none") as service:
                found = rows_in(service)
                if found != rows:
                    assert len(attempts) > acknowledged, "rows differ, and nothing was under way"
                    rows = after(rows, attempts[-1])
                assert found == rows
                summary = service.get_job_summary(JOB)
                done = sum(status is RowStatus.COMPLETED for _, status, _ in rows.values())
                assert summary["total_rows"] == len(rows)
                assert summary["successful_rows"] == done
                assert summary["total_cost_cents"] == 7 * done
                (new,) = service.create_rows(JOB, [{"data": {"kill": kill}}])
            rows[new.row_number] = ({"kill": kill}, RowStatus.PENDING, None)
            with JobService(tmp_path) as service:
                assert rows_in(service) == rows


@pytest.mark.parametrize("seed", range(2))
def test_a_process_killed_while_it_makes_and_deletes_jobs_leaves_whole_jobs_or_none(
    tmp_path: Path, seed: int
) -> None:
    draw = random.Random(seed)
    expected: dict[str, str] = {}
    with Child(SERVER, tmp_path, JOB) as server:
        for kill in range(15):
            said = killed_while(server, draw, do="cycle", seed=kill, sync="none")
            open_attempt = None
            for kind, words in said:
                name, state = words.split()
                open_attempt = (name, state) if kind == "try" else None
                if kind == "ack":
                    expected[name] = state
            with JobService(tmp_path, sync="none") as service:
                found = {job.id for job in service.list_jobs(limit=10_000)}
                if open_attempt and (open_attempt[0] in found) == (open_attempt[1] == "there"):
                    expected[open_attempt[0]] = open_attempt[1]
                assert found == {name for name, state in expected.items() if state == "there"}
                own = f"own-{kill}"
                service.create_job(own, job_id=own)
                expected[own] = "there"
            assert sorted(os.listdir(tmp_path / ".staging")) == ["lock"]


# --- torn tails ------------------------------------------------------------------------------


def make_history(root: Path) -> None:
    """A job whose last three commits complete a row, complete three at once, and fail one."""
    with JobService(root, sync="none") as service:
        service.create_job("Torn", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": number}} for number in range(1, 8)])
        service.update_status(JOB, "running")
        service.complete_row(f"{JOB}:1", "T-1", "artifacts/1.pdf", 125)
        with service.batch(JOB):
            for number in (2, 3, 4):
                service.complete_row(f"{JOB}:{number}", f"T-{number}")
        service.fail_row(f"{JOB}:5", "refused", "J*: a message with \u2028 and \n in it")


def whole_states(content: bytes, root: Path) -> dict[int, list[JobRow]]:
    """For the end of each of the last commits, the rows as they were then."""
    commits = split_commits(content)
    states = {}
    for count in range(len(commits) - 3, len(commits) + 1):
        part = b"".join(commits[:count])
        place_journal(root / str(count), JOB, part)
        states[len(part)] = read_all(root / str(count), JOB)[1]
    return states


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"", id="alone"),
        pytest.param(b"\0" * 700, id="followed by NULs"),
        pytest.param(b"\0" * 200_000, id="followed by many NULs"),
        pytest.param(b"\xff\x07{]garbage\x80" * 9, id="followed by garbage"),
        pytest.param(b"{gar\n\n}\xff\n}\0\r\n{\n" * 9, id="followed by garbage with newlines"),
        pytest.param(b'{"type":"log"}\n' * 9, id="followed by lines without a seal"),
    ],
)
def test_a_cut_at_any_byte_opens_with_the_commits_before_it_and_goes_on(
    tmp_path: Path, tail: bytes
) -> None:
    root = tmp_path / "store"
    make_history(root)
    path = journal_path(root, JOB)
    content = path.read_bytes()
    states = whole_states(content, tmp_path / "states")
    # Many NULs cost time and can tell nothing new at each byte.
    step = 1 if len(tail) < 10_000 else 7
    for cut in range(min(states), len(content) + 1, step):
        torn = content[:cut] + tail
        path.write_bytes(torn)
        end = max(offset for offset in states if offset <= cut)
        with JobService(root, sync="none") as service:
            assert list(service.get_rows(JOB)) == states[end], cut
            assert path.read_bytes() == torn, cut
            new = service.skip_row(f"{JOB}:7", "after the crash")
        saved = list(path.parent.glob("journal.torn-*"))
        assert [one.read_bytes() for one in saved] == ([torn[end:]] if torn[end:] else []), cut
        assert path.read_bytes().startswith(content[:end]), cut
        assert read_all(root, JOB)[1] == [*states[end][:6], new], cut
        for one in saved:
            one.unlink()


def test_an_open_service_that_finds_a_torn_tail_goes_on_as_a_fresh_one_does(
    tmp_path: Path,
) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    with JobService(tmp_path, sync="none") as service:
        before = list(service.get_rows(JOB))
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(b'{"type":"row_status","row":6,"sta')
        assert list(service.get_rows(JOB)) == before
        new = service.skip_row(f"{JOB}:7")
        assert path.read_bytes().startswith(whole)
        assert read_all(tmp_path, JOB)[1] == [*before[:6], new]


def test_a_second_torn_tail_at_the_same_place_is_saved_beside_the_first(tmp_path: Path) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    content = path.read_bytes()
    for tail in (b"first", b"second"):
        path.write_bytes(content + tail)
        with JobService(tmp_path) as service:
            service.skip_row(f"{JOB}:7")
    saved = sorted(path.parent.glob("journal.torn-*"))
    assert [one.read_bytes() for one in saved] == [b"first", b"second"]


def test_what_is_saved_of_a_torn_tail_is_private(tmp_path: Path) -> None:
    make_history(tmp_path)
    path = journal_path(tmp_path, JOB)
    with path.open("ab") as file:
        file.write(b"torn")
    with JobService(tmp_path, sync="none") as service:
        service.skip_row(f"{JOB}:7")
    (saved,) = path.parent.glob("journal.torn-*")
    assert saved.stat().st_mode & 0o777 == 0o600


# --- deaths at a chosen moment ---------------------------------------------------------------


def test_a_streamed_create_rows_that_is_killed_midway_leaves_no_row(tmp_path: Path) -> None:
    script = """
    def rows():
        for number in range(600):
            yield {"data": {"pad": "x" * 8000}}
        tell("streaming")
        hear()
    JobService(root, sync="none").create_rows(job_id, rows())
    """
    with JobService(tmp_path, sync="none") as service:
        service.create_job("Streamed", job_id=JOB)
        service.create_rows(JOB, [{"data": {"n": 1}}])
        path = journal_path(tmp_path, JOB)
        before = path.read_bytes()
        with Child(script, tmp_path, JOB) as child:
            assert child.hear() == "streaming"
            assert path.stat().st_size > len(before) + 3_000_000
            assert len(service.get_rows(JOB)) == 1
            assert len(read_all(tmp_path, JOB)[1]) == 1
            child.kill()
        left = path.read_bytes()
        assert left.startswith(before)
        assert len(service.get_rows(JOB)) == 1
        assert len(read_all(tmp_path, JOB)[1]) == 1
        assert path.read_bytes() == left
        assert service.create_rows(JOB, [{"data": {"n": 2}}])[0].row_number == 2
    assert [row.data for row in read_all(tmp_path, JOB)[1]] == [{"n": 1}, {"n": 2}]
    (saved,) = path.parent.glob("journal.torn-*")
    assert saved.read_bytes() == left[len(before) :]


DIES_IN = """
import journal.files

name, _, count = sys.argv[3].partition(" ")
calls_to_come = int(count)

class DeadlyOs:
    def __getattr__(self, called):
        global calls_to_come
        if called == name:
            calls_to_come -= 1
            if not calls_to_come:
                os.kill(os.getpid(), signal.SIGKILL)
        return getattr(os, called)

service = JobService(root)
if sys.argv[4] == "delete":
    service.create_job("Doomed", job_id=job_id)
    service.create_rows(job_id, [{"data": {}}] * 3)
    (service.artifacts_dir(job_id) / "1.pdf").write_bytes(b"label")
tell("ready")
journal.files.os = DeadlyOs()
if sys.argv[4] == "delete":
    service.delete_job(job_id)
else:
    service.create_job("Doomed", job_id=job_id)
tell("survived")
"""


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("write 1", "create"),
        ("fdatasync 1", "create"),
        ("rename 1", "create"),
        ("unlink 1", "delete"),
        ("unlink 2", "delete"),
        ("rmdir 1", "delete"),
        ("rmdir 2", "delete"),
    ],
)
def test_what_a_death_in_create_or_delete_leaves_is_removed_by_the_next_create_job(
    tmp_path: Path, call: str, action: str
) -> None:
    with Child(DIES_IN, tmp_path, JOB, call, action) as child:
        assert child.hear() == "ready"
        with pytest.raises(AssertionError, match="the child ended"):
            child.hear()
    assert len(list((tmp_path / ".staging").glob(f"{JOB}.*"))) == 1
    with JobService(tmp_path) as service:
        assert service.get_job(JOB) is None
        assert service.list_jobs() == []
        service.create_job("Another", job_id="another")
        assert sorted(os.listdir(tmp_path / ".staging")) == ["lock"]
        assert [job.id for job in service.list_jobs()] == ["another"]
        service.create_job("Again", job_id=JOB)
        with pytest.raises(JobExistsError):
            service.create_job("Again", job_id=JOB)


def test_a_death_right_after_the_rename_of_create_job_leaves_the_whole_job(
    tmp_path: Path,
) -> None:
    with Child(DIES_IN, tmp_path, JOB, "fsync 2", "create") as child:
        assert child.hear() == "ready"
        with pytest.raises(AssertionError, match="the child ended"):
            child.hear()
    job, rows = read_all(tmp_path, JOB)
    assert job is not None
    assert job.name == "Doomed"
    assert rows == []
