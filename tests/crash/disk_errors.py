"""Scenarios in which the disk fails and work goes on. A ledger has the acknowledged changes.

After the work, the power goes, or the disk is unmounted. Then :func:`ledger.losses` checks that the
acknowledged changes are there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal

from crash.fault_disk import FaultDisk
from crash.ledger import Ledger, do
from support.children import Child

from journal import JobService

JOB = "demo"
BLOCK_BYTES = 4096
LONGEST_COMMIT_BYTES = 130  # of those that the workers make one by one
COMMIT = b'"crc":"'  # each commit has it, and a hint has none


def rows(count: int, pad: int = 90) -> Iterator[dict[str, Any]]:
    return ({"data": {"n": number, "pad": "x" * pad}} for number in range(count))


def make_job(root: Path, ledger: Ledger, count: int = 700, pad: int = 90) -> None:
    with JobService(root) as service:
        assert do(
            ledger.note,
            {JOB: "there"},
            lambda: service.create_job("Demo", job_id=JOB, row_data=rows(count, pad)),
        )


class Worker:
    """Starts and completes rows of the job, one by one, in the service that it is given."""

    def __init__(self, service: JobService, ledger: Ledger, *, synced: bool = True) -> None:
        self._service, self._ledger, self._synced = service, ledger, synced

    def work(self, numbers: range) -> int:
        """The number of acknowledged changes."""
        return sum(self.one(number) for number in numbers)

    def one(self, number: int) -> int:
        return 1 + self.complete(number) if self.start(number) else 0

    def start(self, number: int) -> bool:
        row_id = f"{JOB}:{number}"
        return self.do({row_id: "processing"}, lambda: self._service.start_row(row_id))

    def complete(self, number: int) -> bool:
        row_id, token = f"{JOB}:{number}", f"T-{number}"
        done = {row_id: f"completed {token}"}
        return self.do(done, lambda: self._service.complete_row(row_id, token))

    def batch(self, numbers: range, token: str = "T") -> bool:
        def call() -> None:
            with self._service.batch(JOB):
                for number in numbers:
                    self._service.complete_row(f"{JOB}:{number}", f"{token}-{number}")

        done = {f"{JOB}:{number}": f"completed {token}-{number}" for number in numbers}
        return self.do(done, call)

    def do(self, states: dict[str, str], call: Callable[[], object]) -> bool:
        return do(self._ledger.note, states, call, synced=self._synced)


def journal_bytes(root: Path) -> int:
    return (root / JOB / "journal.jsonl").stat().st_size


def same_process(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """The first commit into a new block fails, again and again. The same service goes on."""
    make_job(root, ledger)
    with JobService(root) as service:
        worker = Worker(service, ledger)
        for first in (1, 101, 201):
            worker.work(range(first, first + draw.randrange(10, 30)))
            begin, armed = disk.failures(), False
            for number in range(first + 30, first + 100):
                for change in (worker.start, worker.complete):
                    room = BLOCK_BYTES - journal_bytes(root) % BLOCK_BYTES
                    if not armed and room < LONGEST_COMMIT_BYTES:
                        disk.fail_writes(1, COMMIT)
                        armed = True
                    change(number)
            assert disk.failures() == begin + 1
        assert worker.work(range(301, 401)) == 200


CHILD = """
service = JobService(root, sync=sys.argv[3])
tell("ready")
first, end = map(int, hear().split())
try:
    with service.batch(job_id):
        for number in range(first, end):
            service.start_row(f"{job_id}:{number}")
except (StorageError, CommitOutcomeUnknownError) as error:
    tell(type(error).__name__)
else:
    tell("done")
"""


def a_batch_of_another(root: Path, ledger: Ledger, disk: FaultDisk, *, kill: bool) -> None:
    """Of another process, whose sync fails; it ends by itself, or is killed within that sync."""
    states = {f"{JOB}:{number}": "processing" for number in range(1, 101)}
    with Child(CHILD, root, JOB, "commit") as child:
        assert child.hear() == "ready"
        ledger.note("ask", states)
        disk.fail_writes(1, b"processing")
        begin = disk.failures()
        if kill:
            disk.slow_down(0.3)
        child.tell("1 101")
        if not kill:
            told = {"StorageError": "refused", "CommitOutcomeUnknownError": "unknown"}
            ledger.note(told[child.hear()], states)
            return
        _wait_for(lambda: disk.failures() > begin)
        child.kill()
    disk.slow_down(0)


def restart(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """The process whose sync failed ends. A new process goes on."""
    make_job(root, ledger)
    a_batch_of_another(root, ledger, disk, kill=False)
    with JobService(root) as service:
        assert Worker(service, ledger).work(range(401, 451)) == 100


def killed_in_its_sync(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """The process whose sync fails is killed before it can react. Another process goes on."""
    make_job(root, ledger)
    a_batch_of_another(root, ledger, disk, kill=True)
    with JobService(root) as service:
        assert Worker(service, ledger).work(range(401, 451)) == 100


def unsynced_beside(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """The data of a writer without syncs can't be written when a writer with syncs comes."""
    make_job(root, ledger)
    with JobService(root, sync="none") as fast, JobService(root) as service:
        unsynced, synced = Worker(fast, ledger, synced=False), Worker(service, ledger)
        for first in (1, 101, 201):
            unsynced.work(range(first, first + draw.randrange(30, 60)))
            disk.fail_writes(draw.randrange(1, 3), COMMIT)
            synced.work(range(first + 60, first + 70))
            disk.fail_writes(0)
            assert synced.work(range(first + 70, first + 90)) == 40
    ledger.note("done", {JOB: "there"})  # the last sync covers all earlier changes


def batches(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """Batches go over several blocks, and one of these blocks can't be written."""
    make_job(root, ledger)
    with JobService(root) as service:
        worker = Worker(service, ledger)
        for first in range(1, 601, 100):
            begin = disk.failures()
            disk.fail_writes(1, b"T-%d" % (first + draw.randrange(60)))
            done = worker.batch(range(first, first + 60))
            assert done == (disk.failures() == begin)  # two writes may share the text
            disk.fail_writes(0)
            assert worker.batch(range(first + 60, first + 100))


def two_services(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """Two processes commit in turn. Each write error hits the next process."""
    make_job(root, ledger)
    with Child(TURNS, root, JOB, "commit") as child, JobService(root) as service:
        worker = Worker(service, ledger)
        for number in range(1, 61):
            if number % 10 == 5:
                disk.fail_writes(draw.randrange(1, 3), COMMIT)
            turns: list[Callable[[], object]] = [
                partial(worker.one, number),
                partial(_let_work, child, ledger, number + 100),
            ]
            draw.shuffle(turns)
            for turn in turns:
                turn()
        disk.fail_writes(0)
        assert worker.work(range(61, 81)) == 40
        assert [_let_work(child, ledger, number) for number in range(301, 321)] == [True] * 20


TURNS = """
service = JobService(root, sync=sys.argv[3])
while True:
    number = hear()
    try:
        service.complete_row(f"{job_id}:{number}", f"T-{number}")
    except (StorageError, CommitOutcomeUnknownError) as error:
        tell(type(error).__name__)
    else:
        tell("done")
"""


def _let_work(child: Child, ledger: Ledger, number: int) -> bool:
    states = {f"{JOB}:{number}": f"completed T-{number}"}
    ledger.note("ask", states)
    child.tell(str(number))
    told = child.hear()
    known = {"StorageError": "refused", "CommitOutcomeUnknownError": "unknown", "done": "done"}
    ledger.note(known[told], states)
    return told == "done"


def hint_writing(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """In a journal with a hint, the writes of the hint fail, and so do commits that leave a hint."""
    make_job(root, ledger, count=600, pad=1500)
    for first in (1, 201, 401):
        with JobService(root) as service:
            worker = Worker(service, ledger)
            disk.fail_writes(1, draw.choice([b'{"hint":', COMMIT]))
            numbers = range(first, first + 50)
            worker.batch(numbers, "T" * 9000)
            worker.work(range(first + 50, first + 60))
        disk.fail_writes(0)
        with JobService(root) as service:
            assert Worker(service, ledger).work(range(first + 60, first + 70)) == 20


def at_random(disk: FaultDisk, root: Path, ledger: Ledger, draw: Random) -> None:
    """Threads of two services, and of one without syncs.

    The failing calls and their times are random.
    """
    make_job(root, ledger)
    kind = draw.choice(["commits", "writes", "flushes", "flushes that lose what is cached"])
    stop = threading.Event()
    with JobService(root) as one, JobService(root) as two, JobService(root, sync="none") as fast:
        threads = [
            threading.Thread(
                target=_until,
                args=(stop, Worker(service, ledger, synced=service is not fast), 1 + 100 * number),
            )
            for number, service in enumerate([one, one, one, two, fast])
        ]
        for thread in threads:
            thread.start()
        for _ in range(1 if kind.startswith("flushes") else draw.randrange(2, 8)):
            disk.slow_down(draw.random() * 0.01)
            time.sleep(draw.random() * 0.15)  # the moment of the error is what is random here
            if kind.startswith("flushes"):
                disk.fail_flushes(1, drop=kind != "flushes")
            else:
                disk.fail_writes(draw.randrange(1, 4), COMMIT if kind == "commits" else b"")
        time.sleep(draw.random() * 0.05)
        stop.set()
        for thread in threads:
            thread.join()
        if not disk.failures():  # the threads had done their last commit before the first error
            Worker(two, ledger).one(600)
        if kind == "commits":  # the others may end a file system
            disk.heal()
            assert Worker(two, ledger).work(range(601, 611)) == 20


def _until(stop: threading.Event, worker: Worker, first: int) -> None:
    for number in range(first, first + 100):
        if stop.is_set():
            return
        if not worker.one(number):
            time.sleep(0.01)  # else a file system that has given up would be asked for all of them


def _wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.001)


Scenario = Callable[[FaultDisk, Path, Ledger, Random], None]
End = Literal["power cut", "unmount"]
ENDS: tuple[End, ...] = ("power cut", "unmount")

SCENARIOS: list[Scenario] = [
    same_process,
    restart,
    killed_in_its_sync,
    unsynced_beside,
    batches,
    two_services,
    hint_writing,
]
