"""A machine dies in the middle of a job, another takes over, and the first one comes back.

Two roots stand for the machines. What the handlers did is kept outside of both: a ledger of calls.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.children import Child, journal_path
from support.copies import JOB, packed, relation_of, source
from support.effort import sample
from support.platforms import needs_fork, skip_without

import journal
from journal import CopiesDivergedError, JobService
from journal.transfer import pull_job, unpack_job
from journal.transfer.copies import open_copy
from journal.transfer.source import Source
from journal.verify import verify_job

ROWS = 16
ROUNDS = 12
HARD_ROUNDS = 2

# Forking a warm process is far quicker than starting Python for each run.
SERVER = """
import traceback, journal

def run(root, machine, ledger):
    fd = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    called = []

    def handler(row):
        for before, tracking in called[:]:
            if job.service.get_row(before.id).status == "completed":
                called.remove((before, tracking))
                tell("ack", before.idempotency_key, tracking)
        key = row.idempotency_key
        os.write(fd, f"{key} {machine}\\n".encode())
        os.fsync(fd)
        tracking = f"{machine}-{row.row_number}-{os.urandom(4).hex()}"
        label = job.service.artifacts_dir(job.id) / f"{key}.pdf"
        label.write_text(tracking)  # as a program does that doesn't think of copies
        called.append((row, tracking))
        tell("called", key)
        return RowResult(tracking_number=tracking, label_path=f"artifacts/{label.name}")

    with journal.open_job(f"{root}/{job_id}") as job:
        job.run(handler, tell=lambda text: None)
    os._exit(0)

while True:
    order = json.loads(hear())
    pid = os.fork()
    if not pid:
        try:
            run(**order)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    tell("pid", pid)
    tell("dead", os.waitpid(pid, 0)[1])
"""


class Machines:
    """Two roots, the ledger of what was done on either, and what was acknowledged."""

    def __init__(self, base: Path, server: Child, seed: int) -> None:
        self.base, self.server, self.draw = base, server, random.Random(seed)
        self.a, self.b = base / "a", base / "b"
        self.ledger = base / "ledger"
        base.mkdir()
        self.ledger.touch()
        self.acknowledged: dict[str, str] = {}  # the key of the row of each tracking number
        self.redone: set[str] = set()  # keys of rows that a person had done again
        rows = ({"n": number} for number in range(ROWS))
        journal.open_job(self.a / JOB, rows, sync="none").close()

    def run(
        self, root: Path, calls: int | None, at: int = 0, act: Callable[[], object] | None = None
    ) -> None:
        """A run that is killed after some calls, or None; ``act`` comes after ``at`` of them."""
        order = {"root": str(root), "machine": root.name, "ledger": str(self.ledger)}
        self.server.tell(json.dumps(order))
        called, pid, killed = 0, 0, False
        while (words := self.server.hear().split())[0] != "dead":
            if words[0] == "pid":
                pid = int(words[1])
            elif words[0] == "ack":
                self.acknowledged[words[2]] = words[1]
            called += words[0] == "called"
            if act and called >= at:
                act()
                act = None
            if calls is not None and called >= calls and pid and not killed:
                # The moment of the kill is what is random here: there is no event to wait for.
                time.sleep(self.draw.choice([0, self.draw.random() * 0.003]))
                with contextlib.suppress(ProcessLookupError):  # it has come to its end
                    os.kill(pid, signal.SIGKILL)
                killed = True
        assert int(words[1]) in ((0, signal.SIGKILL) if killed else (0,))
        if act:
            act()

    def decide(self, root: Path) -> None:
        """A person has rows done again, gives one other data, and adds some; or doesn't."""
        if self.draw.random() < 0.4:
            return
        with JobService(root, sync="none") as service:
            service.recover_job(JOB)
            for row in self.draw.sample(list(service.get_rows(JOB)), 3):
                if row.status in ("completed", "needs_review"):
                    self.redone.add(row.idempotency_key)
                    (service.redo_row if row.status == "completed" else service.retry_row)(row.id)
                elif row.status == "pending":
                    service.update_row_data(row.id, {"n": f"{root.name}-{row.row_number}"})
            job = service.get_job(JOB)
            assert job is not None
            if job.status.is_ended:
                service.reopen_job(JOB)
            keys = self.draw.sample(["A-7", "A-8", None], 2)
            have = {row.idempotency_key for row in service.get_rows(JOB)}
            new = [{"idempotency_key": key} for key in keys if key not in have]
            service.create_rows(JOB, new)

    def copy(self) -> None:
        """From a to b, in one of the ways that there are."""
        way = self.draw.choice(["cp", "pack", "pull"])
        if way == "cp":
            self.b.mkdir()
            command = ["cp", "-r", str(self.a / JOB), str(self.b)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            # A hint that is being written may vanish: the page calls the warning harmless.
            assert all("index.hint.new" in line for line in done.stderr.splitlines()), done.stderr
        elif way == "pack":
            unpack_job(self.b, source(packed(self.a, self.base / "pack")))
        else:
            assert pull_job(self.b, Source(self.a / JOB)).action == "made"

    def keys(self, numbers: set[int]) -> set[str]:
        """Of rows by their numbers on a."""
        with JobService(self.a, sync="none") as service:
            rows = {row.row_number: row.idempotency_key for row in service.get_rows(JOB)}
        return {rows[number] for number in numbers}

    def reopen(self, root: Path) -> None:
        """If rows have come pending into a job that has ended."""
        with JobService(root, sync="none") as service:
            job = service.get_job(JOB)
            if job is not None and job.status.is_ended and job.pending_count:
                service.reopen_job(JOB)

    def relation(self) -> str:
        """What the bytes say, up to the last commit of each."""
        a, b = (
            journal_path(root, JOB).read_bytes()[: open_copy(root / JOB).end.offset]
            for root in (self.a, self.b)
        )
        if a == b:
            return "identical"
        if a.startswith(b):
            return "ahead"
        return "behind" if b.startswith(a) else "diverged"


@pytest.fixture(name="server", scope="module")
def fixture_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    skip_without(needs_fork)
    with Child(SERVER, tmp_path_factory.mktemp("server"), JOB) as server:
        yield server


@pytest.mark.parametrize("seed", sample(range(4), 1))
def test_whatever_dies_when_no_outcome_is_lost_no_completed_row_repeated_each_fork_found(
    tmp_path: Path, server: Child, seed: int, count: Callable[[str, int], None]
) -> None:
    relations: Counter[str] = Counter()
    acknowledged = 0
    # How things end depends on the machine's speed, too: more rounds until it has been hard enough.
    for number in itertools.count():
        if number >= ROUNDS and min(relations["behind"], relations["diverged"]) >= HARD_ROUNDS:
            break
        assert number < 10 * ROUNDS, relations
        machines = Machines(tmp_path / str(number), server, seed * 1000 + number)
        relations[disaster(machines)] += 1
        acknowledged += len(machines.acknowledged)
        shutil.rmtree(machines.base)
    assert acknowledged > 5 * ROUNDS
    for relation, found in relations.items():
        count(f"disasters after which the first machine was {relation}", found)


def disaster(machines: Machines) -> str:
    draw, a, b = machines.draw, machines.a, machines.b
    # Machine a works, is copied at some moment, works on or not, and dies.
    death = draw.randrange(ROWS)
    if draw.random() < 0.5:
        machines.run(a, death, draw.randrange(death + 1), machines.copy)
    else:
        machines.run(a, death)
        machines.copy()
    # Machine b goes on from what it has, perhaps to the end; a may come back before anybody looks.
    machines.decide(b)
    machines.run(b, draw.choice([0, draw.randrange(ROWS), None]))
    if draw.random() < 0.3:
        machines.decide(a)
        machines.run(a, draw.randrange(ROWS))
    # Whoever looks is told how things stand, and a is brought up to date.
    relation = machines.relation()
    assert relation_of(a / JOB, b / JOB) == relation
    both: set[str] = set()
    if relation == "diverged":
        before = journal_path(a, JOB).read_bytes()
        with pytest.raises(CopiesDivergedError):
            pull_job(a, Source(b / JOB))
        assert journal_path(a, JOB).read_bytes() == before
        merged = pull_job(a, Source(b / JOB), merge=True).merged
        if merged is not None:  # else all that b did is settled or known here
            both = machines.keys({*merged.review, *merged.renumbered})
    else:
        pulled = pull_job(a, Source(b / JOB))
        assert pulled.action == {"behind": "forwarded"}.get(relation, relation)
        assert machines.relation() in ("identical", "ahead")
    machines.reopen(a)
    machines.run(a, None)  # to the end
    check_the_ledger(machines, both)
    return relation


def check_the_ledger(machines: Machines, both: set[str]) -> None:
    """``both``: the keys of rows that a person was told of."""
    calls = Counter(line.split()[0] for line in machines.ledger.read_text().splitlines())
    twice = {key for key, times in calls.items() if times > 1}
    assert twice <= both | machines.redone
    assert verify_job(machines.a / JOB).findings == []
    text = journal_path(machines.a, JOB).read_text()
    with JobService(machines.a, sync="none") as service:
        rows = {row.idempotency_key: row for row in service.get_rows(JOB)}
        job = service.get_job(JOB)
    assert job is not None
    assert job.total_rows == len(rows)
    for tracking, key in machines.acknowledged.items():
        row = rows[key]
        if row.tracking_number != tracking:
            assert key in both | machines.redone
            assert tracking in text
            assert key in machines.redone or row.status == "needs_review"
        if key in machines.redone:
            continue  # whose label the program itself has written over
        label = machines.a / JOB / "artifacts" / f"{key}.pdf"
        labels = {path.read_text() for path in label.parent.glob(f"{label.name}*")}
        assert tracking in labels
        if key not in both:
            assert label.read_text() == tracking
    for key, row in rows.items():
        assert row.status in ("completed", "needs_review")
        if row.status == "completed":
            assert key in calls
        if not calls[key]:  # it was started, and its machine died before the call; or is in doubt
            assert row.status == "needs_review"
