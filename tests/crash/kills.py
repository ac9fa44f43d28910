"""Kills processes at random moments, and checks their work.

The full run is a separate command, which counts its kills. It exits with 1 if anything was lost, or
if too few kills hit a call before the call returned:

    python tests/crash/kills.py --kills 2000 --seed 1
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from support.activation import check_share
from support.children import Child, journal_path
from support.copies import staging_of

from journal import JobService, RowStatus
from journal.format.records import RowStatusRecord
from journal.fs.file_names import NEW_BACKUP_NAME
from journal.verify import verify_job

JOB = "crashing"
SYNC = ["none", "none", "commit"]

# Forking a warm process is far quicker than starting Python thousands of times. Without fork, the
# process works on the order itself, and is killed.
SERVER = """
import traceback
import journal.fs.system

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

class TellingOs:
    real = journal.fs.system.os

    def __getattr__(self, called):
        if called in ("open", "write", "fsync", "fdatasync", "ftruncate"):
            tell("step", called)
        return getattr(self.real, called)

def recover(seed, sync):
    journal.fs.system.os = TellingOs()
    work(seed, sync)

def cycle(seed, sync):
    service = JobService(root, sync=sync)
    for turn in range(10**9):
        name = f"job-{seed}-{turn}"
        tell("try", name, "there")
        service.create_job(name, job_id=name, row_data=[{"data": {"name": name}}])
        tell("ack", name, "there")
        if turn % 3:
            tell("try", name, "gone")
            service.delete_job(name)
            tell("ack", name, "gone")

def live(seed, sync):
    draw = random.Random(seed)
    service = JobService(root, sync=sync)
    journal_path = os.path.join(root, job_id, "journal.jsonl")
    far_side = os.open(os.path.join(root, "calls"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def act(call, *arguments, **options):
        tell("try", call.__name__)
        call(*arguments, **options)
        tell("ack", os.stat(journal_path).st_size)

    while True:
        job = service.get_job(job_id)
        done = service.get_rows(job_id, "completed")
        failed = service.get_failed_rows(job_id)
        waiting = service.get_pending_rows(job_id)
        kind = draw.randrange(5)
        if job.status == "cancelled" or (job.completed_at and kind == 0):
            act(service.reopen_job, job_id)
        elif job.completed_at and failed and kind == 1:
            act(service.retry_row, draw.choice(failed).id)
        elif job.completed_at and failed and kind == 2:
            act(service.retry_failed_rows, job_id)
        elif job.completed_at and done:
            act(service.redo_row, draw.choice(done).id, new_key=kind == 3)
        elif job.completed_at:
            act(service.reopen_job, job_id)
        elif not service.store.runs.holds(job_id):
            act(service.start_job, job_id)
        elif service.get_rows(job_id, "needs_review"):
            act(service.complete_row, service.get_rows(job_id, "needs_review")[0].id)
        elif not waiting or kind == 4:
            act(service.update_status, job_id, draw.choice(["failed", "completed", "cancelled"]))
        else:
            row = draw.choice(waiting)
            act(service.start_row, row.id)
            os.write(far_side, f"{row.row_number} ".encode())
            if draw.random() < 0.3:
                act(service.fail_row, row.id, "E", "m")
            else:
                act(service.complete_row, row.id)

while True:
    order = json.loads(hear())
    pid = os.fork() if hasattr(os, "fork") else 0
    if not pid:
        if not hasattr(os, "fork"):
            tell("pid", os.getpid())
        try:
            globals()[order.pop("do")](**order)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    tell("pid", pid)
    tell("dead", os.waitpid(pid, 0)[1])
"""

Rows = dict[int, tuple[Any, RowStatus, str | None]]


class Loss(AssertionError):
    """An acknowledged change isn't there, or a change is there that nobody made."""


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise Loss(what)


@dataclass
class Tally:
    """The hits of a number of kills."""

    kills: int = 0
    acknowledged: int = 0  # calls that had returned
    under_way: int = 0  # kills that hit a call before it returned
    kept: int = 0  # how many of these calls are there as a whole after all
    torn_tails: int = 0  # tails that were recovered
    copying: int = 0  # kills that hit a recovery between the start of its copy and its cut
    leftovers: int = 0  # half jobs that a kill left in the staging directory

    def check(self) -> None:
        """Kills at random moments show little unless enough of them hit a call.

        Of a few kills, none may hit one.
        """
        if self.kills >= 100:
            check_share("kills of a call that had not returned", self.under_way, self.kills, 0.2)

    def add(self, other: Tally) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Server:
    """A process that works on orders, each until it is killed."""

    def __init__(self, root: Path) -> None:
        self._start = partial(Child, SERVER, root, JOB)
        self._child = self._start()

    def tell(self, line: str) -> None:
        self._child.tell(line)

    def hear(self) -> str:
        return self._child.hear()

    if sys.platform == "win32":

        def kill(self, pid: int) -> list[str]:
            """Kill the process ``pid``; return what it said in the end."""
            del pid
            self._child.kill()
            said = self._child.rest()
            self._child.__exit__(None, None, None)
            self._child = self._start()
            return said
    else:

        def kill(self, pid: int) -> list[str]:
            """Kill the process ``pid``; return what it said in the end."""
            os.kill(pid, signal.SIGKILL)
            said = []
            while not (line := self.hear()).startswith("dead "):
                said.append(line)
            expect(line == f"dead {signal.SIGKILL:d}", f"the child failed by itself: {line}")
            return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._child.__exit__(None, None, None)


def killed_while(server: Server, draw: random.Random, **order: object) -> list[list[str]]:
    """Have a child do ``order``, kill it at a random moment after its first call has begun.

    Return what it said, word by word.
    """
    server.tell(json.dumps(order))
    said: list[list[str]] = []
    marks_to_come = draw.randrange(12)
    pid, has_begun = 0, False
    while not pid or not has_begun or marks_to_come > 0:
        words = server.hear().split(" ", 1)
        if words[0] == "pid":
            pid = int(words[1])
            continue
        expect(words[0] != "dead", "the child failed by itself")
        has_begun |= words[0] == "try"
        marks_to_come -= has_begun and words[0] in {"ack", "step"}
        said.append(words)
    # The moment of the kill is random, so there is no event to wait for.
    time.sleep(draw.choice([0, draw.random() * 0.003]))
    return said + [line.split(" ", 1) for line in server.kill(pid)]


# --- one job ---------------------------------------------------------------------------------


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


class KilledJob:
    """A job whose writers are killed, and the rows that must be in it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.path = journal_path(root, JOB)
        self.draw = random.Random(seed)
        self.rows: Rows = {}
        self.tally = Tally()
        with JobService(root, sync="none") as service:
            service.create_job("Crashing", job_id=JOB)

    def learn(self, said: list[list[str]]) -> None:
        """Compare the job with what a killed writer has said, and believe what is there."""
        attempts = [words[1] for words in said if words[0] == "try"]
        acknowledged = sum(words[0] == "ack" for words in said)
        expect(len(attempts) - acknowledged in {0, 1}, f"it said {said}")
        self.tally.kills += 1
        self.tally.acknowledged += acknowledged
        self.tally.under_way += len(attempts) - acknowledged
        for attempt in attempts[:acknowledged]:
            self.rows = after(self.rows, attempt)
        with JobService(self.root, sync="none") as service:
            found = rows_in(service)
            if found != self.rows:
                expect(len(attempts) > acknowledged, "rows differ, and nothing was under way")
                self.rows = after(self.rows, attempts[-1])
                self.tally.kept += 1
            expect(found == self.rows, "rows are neither as before the last call nor as after it")
            summary = service.get_job_summary(JOB)
        done = sum(status is RowStatus.COMPLETED for _, status, _ in self.rows.values())
        counts = (summary["total_rows"], summary["successful_rows"], summary["total_cost_cents"])
        expect(counts == (len(self.rows), done, 7 * done), f"the counts are {counts}")

    def commit(self, note: str) -> None:
        """The next writer goes on without help."""
        with JobService(self.root, sync="none") as service:
            (new,) = service.create_rows(JOB, [{"data": {"note": note}}])
        self.rows[new.row_number] = ({"note": note}, RowStatus.PENDING, None)
        with JobService(self.root) as service:
            expect(rows_in(service) == self.rows, "the commit of the next writer changed rows")

    def end(self) -> Tally:
        report = verify_job(self.path.parent)
        expect(report.findings == [], f"verify finds {report.findings}")
        return self.tally


def kill_at_work(root: Path, seed: int, kills: int) -> Tally:
    """Kill a writer of single commits, batches, rows and streams of rows, again and again."""
    job = KilledJob(root, seed)
    sync = job.draw.choice(SYNC)
    with Server(root) as server:
        for kill in range(kills):
            order = {"do": "work", "seed": seed * 1000 + kill, "sync": sync}
            job.learn(killed_while(server, job.draw, **order))
            job.commit(f"kill {kill}")
    job.tally.torn_tails += len(list(job.path.parent.glob("journal.torn-*")))
    return job.end()


# --- the recovery of a torn tail -------------------------------------------------------------


def torn_tail(draw: random.Random) -> bytes:
    """Some MB of a commit that was never sealed, unlike any other, cut anywhere."""
    line = (
        b'{"type":"row","row":%d,"checksum":"c","data":{"pad":"%b"},"at":"2026-11-24T13:35:00.1Z"}'
    )
    lines = (line % (n, draw.randbytes(4000).hex().encode()) for n in range(10_000, 10_450))
    return b"\n".join(lines)[: draw.randrange(1_000_000, 3_500_000)]


class TornJob(KilledJob):
    """The same with a torn tail.

    Each next writer has to save the tail before it cuts the tail off.
    """

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(root, seed)
        self.commit("before the first tail")
        self.tail, self.tail_at = b"", 0
        self.copies, self.copy_ns = 0, 0  # how many are whole; when the one at hand was written to

    def tear(self) -> None:
        """Give the journal a new tail, if the last tail is cut off."""
        if self.tail:
            return
        content = self.path.read_bytes()
        findings = verify_job(self.path.parent).findings
        # The killed writer may have left a tail of its own. This tail is then a part of the new
        # tail.
        self.tail_at = findings[0].offset if findings else len(content)
        self.tail = content[self.tail_at :] + torn_tail(self.draw)
        self.path.write_bytes(content[: self.tail_at] + self.tail)

    def check_copies(self) -> None:
        """A tail that is cut off has been saved as a whole.

        All other saved data is a part of this tail.
        """
        copies = list(self.path.parent.glob("journal.torn-*"))
        saved = [copy.read_bytes() for copy in copies]
        expect(all(map(self.tail.startswith, saved)), "what was saved was never in the journal")
        if self.path.read_bytes()[self.tail_at :] == self.tail:
            begun = self.path.with_name(NEW_BACKUP_NAME)
            copy_ns = begun.stat().st_mtime_ns if begun.exists() else self.copy_ns
            self.tally.copying += (len(saved), copy_ns) != (self.copies, self.copy_ns)
            self.copies, self.copy_ns = len(saved), copy_ns
            return
        expect(self.tail in saved, "the torn tail was cut off and not saved")
        self.tally.torn_tails += 1
        self.tail, self.copies = b"", 0
        for copy in copies:
            copy.unlink()


def kill_in_recovery(root: Path, seed: int, kills: int) -> Tally:
    """Kill writers that find a torn tail of some MB while they save it and cut it off."""
    job = TornJob(root, seed)
    sync = job.draw.choice(SYNC)
    with Server(root) as server:
        for kill in range(kills):
            job.tear()
            order = {"do": "recover", "seed": seed * 1000 + kill, "sync": sync}
            job.learn(killed_while(server, job.draw, **order))
            job.check_copies()
    job.tear()
    job.commit("after the last kill")
    job.check_copies()
    return job.end()


# --- a job for life --------------------------------------------------------------------------


def kill_in_passes(root: Path, seed: int, kills: int) -> Tally:
    """Kill a process that reopens a job, retries and redoes its rows, and calls a far side for each."""
    draw, tally, acknowledged = random.Random(seed), Tally(), b""
    path = journal_path(root, JOB)
    with JobService(root, sync="none") as service:
        service.create_job("Crashing", job_id=JOB, row_data=({"data": {"n": n}} for n in range(9)))
    with Server(root) as server:
        for kill in range(kills):
            order = {"do": "live", "seed": seed * 1000 + kill, "sync": draw.choice(SYNC)}
            said = killed_while(server, draw, **order)
            sizes = [int(words[1]) for words in said if words[0] == "ack"]
            tally.kills += 1
            tally.acknowledged += len(sizes)
            tally.under_way += sum(words[0] == "try" for words in said) - len(sizes)
            report, content = verify_job(path.parent), path.read_bytes()
            expect(not report.damaged, f"verify finds {report.findings}")
            end = min([len(content), *(finding.offset for finding in report.findings)])
            expect(end >= max(sizes, default=0), "a commit is gone")
            expect(content.startswith(acknowledged), "what was there has changed")
            acknowledged = content[:end]
            _check_calls(root)
    return tally


def _check_calls(root: Path) -> None:
    """The called service was called once for each row, and once more for each retry or redo."""
    calls, asked = Counter[int](), Counter[int]()
    if (root / "calls").exists():
        calls.update(map(int, (root / "calls").read_text().split()))
    with JobService(root, sync="none") as service:
        for entry in service.get_history(JOB):
            if isinstance(entry.record, RowStatusRecord) and entry.record.reset:
                asked[entry.record.row] += 1
        for row in service.get_rows(JOB):
            number = row.row_number
            expect(calls[number] <= 1 + asked[number], f"row {number} was done again unasked")
            expect(row.attempts - row.earlier_attempts <= 1, f"row {number} was started again")
            if row.status is RowStatus.COMPLETED:
                expect(row.attempts > row.earlier_attempts, f"row {number} was never started")


# --- many jobs -------------------------------------------------------------------------------


def kill_in_making(root: Path, seed: int, kills: int) -> Tally:
    """Kill a process that makes and deletes jobs. Each job is there as a whole, or not at all."""
    draw = random.Random(seed)
    sync = draw.choice(SYNC)
    tally = Tally()
    expected: dict[str, str] = {}
    with Server(root) as server:
        for kill in range(kills):
            said = killed_while(server, draw, do="cycle", seed=kill, sync=sync)
            under_way = None
            for kind, words in said:
                name, state = words.split()
                under_way = (name, state) if kind == "try" else None
                if kind == "ack":
                    expected[name] = state
                    tally.acknowledged += 1
            tally.kills += 1
            tally.under_way += under_way is not None
            tally.leftovers += len(list((root / ".staging").glob("*.*")))
            tally.kept += _check_jobs(root, expected, under_way)
            with JobService(root, sync="none") as service:
                own = f"own-{kill}"
                service.create_job(own, job_id=own, row_data=[{"data": {"name": own}}])
            expected[own] = "there"
            left = staging_of(root)
            expect(not left, f"the next create_job leaves {left}")
    return tally


def _check_jobs(root: Path, expected: dict[str, str], under_way: tuple[str, str] | None) -> bool:
    """Whether the interrupted call took effect. The answer is added to ``expected``."""
    with JobService(root, sync="none") as service:
        found = {job.id for job in service.list_jobs(limit=None)}
        kept = under_way is not None and (under_way[0] in found) == (under_way[1] == "there")
        if under_way is not None and kept:
            expected[under_way[0]] = under_way[1]
        there = {name for name, state in expected.items() if state == "there"}
        expect(found == there, f"found {found - there} too much, {there - found} too little")
        for name in found:
            data = [row.data for row in service.get_rows(name)]
            expect(data == [{"name": name}], f"job {name} holds {data}")
    return kept


# --- the full run ----------------------------------------------------------------------------

KILLS_A_ROUND = 20
ROUNDS: list[Callable[[Path, int, int], Tally]] = [
    *[kill_at_work] * 4,
    kill_in_making,
    kill_in_passes,
    *[kill_at_work] * 4,
    kill_in_recovery,
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills",
        type=int,
        default=2000,
        help=f"{KILLS_A_ROUND} of a kind, then of the next; {len(ROUNDS) * KILLS_A_ROUND} have all kinds",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    totals, losses, begin_s = {work: Tally() for work in ROUNDS}, 0, time.monotonic()
    for number in range(-(-options.kills // KILLS_A_ROUND)):
        work = ROUNDS[number % len(ROUNDS)]
        kills = min(KILLS_A_ROUND, options.kills - number * KILLS_A_ROUND)
        with tempfile.TemporaryDirectory() as directory:
            try:
                totals[work].add(work(Path(directory), options.seed * 10_000 + number, kills))
            except Exception as error:  # noqa: BLE001  (an error is a loss like any other)
                losses += 1
                sys.stdout.write(f"LOST in round {number}, {work.__name__}: {error!r}\n")
    total = Tally()
    for work, tally in totals.items():
        sys.stdout.write(f"{work.__name__}: {tally.under_way} of {tally.kills} kills hit a call\n")
        total.add(tally)
    sys.stdout.write(
        f"{total.kills} kills, {total.acknowledged} acknowledgements, {losses} losses, "
        f"{time.monotonic() - begin_s:.0f} s\n"
        f"{total.under_way} kills hit a call before it returned; {total.kept} of those calls "
        "took effect whole, the others not at all\n"
        f"{total.torn_tails} torn tails were recovered, {total.copying} kills hit a recovery "
        f"while it saved one; {total.leftovers} half jobs were removed\n"
    )
    for tally in totals.values():
        if tally.kills:
            tally.check()
    if (recovered := totals[kill_in_recovery]).kills:
        check_share("kills while a torn tail was saved", recovered.copying, recovered.kills, 0.05)
    return 1 if losses else 0


if __name__ == "__main__":
    sys.exit(main())
