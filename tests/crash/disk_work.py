"""A process that works on a store in all ways, and reports its work to a ledger outside.

    python disk_work.py STORE OUTSIDE NAME FIRST_ROW SEED GENERATION

Some threads of the process change rows of a job that other processes of this kind also change. The
other threads have their own jobs. ``OUTSIDE`` is a directory on another disk. The reports are lines
of JSON on standard output, in the form of :class:`ledger.Ledger`. The process echoes each line of
standard input. After the echo, the reader knows all earlier reports. A side effect of a run is only
a report.

If the process was killed, the same process with the next ``GENERATION`` continues its work.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash.ledger import PACKS, POLICIES, States, do, run

from journal import JobLockedError, JobService, StorageError
from journal.repair import repair_job
from journal.transfer import prune_jobs, pull_job, unpack_job

SHARED = "shared"
ROWS_A_THREAD = 400
ROWS_A_PROCESS = 5 * ROWS_A_THREAD
RUN_ROWS = 1000  # more for each generation

_telling = threading.Lock()


def tell(what: str, states: States) -> None:
    line = json.dumps([what, states]).encode() + b"\n"
    with _telling:
        while line:
            line = line[os.write(1, line) :]


def attempt(states: States, call: Callable[[], object], *, synced: bool = True) -> bool:
    """As :func:`ledger.do`; after a refusal the disk is left alone for a moment."""
    try:
        if do(tell, states, call, synced=synced):
            return True
    except JobLockedError:  # another one has waited too long for a slow disk
        tell("refused", states)
    time.sleep(0.03)
    return False


def data(number: int, pad: int = 20) -> Iterator[dict[str, Any]]:
    return ({"data": {"n": n, "pad": "x" * pad}} for n in range(number))


def state_of(number: int) -> str:
    return f"completed T-{number}"


class Work:
    """``first`` is the number of the first row of the shared job that is this process's own."""

    def __init__(
        self, root: Path, outside: Path, name: str, first: int, seed: int, generation: int
    ) -> None:
        self.root, self.outside, self.name, self.first = root, outside, name, first
        self.draw, self.generation = Random(seed), generation
        self.left = [job_id for job_id in os.listdir(root) if job_id.startswith(f"{name}-")]

    def start(self) -> None:
        group, alone = JobService(self.root), JobService(self.root)
        fast = JobService(self.root, sync="none")
        for work in (
            partial(self.single_rows, group, 0),
            partial(self.single_rows, group, 1),
            partial(self.single_rows, group, 2),
            partial(self.batches, alone, 3),
            partial(self.single_rows, fast, 4, synced=False),
            partial(self.jobs, alone),
            partial(self.large_jobs, alone),
            self.pulls,
            partial(self.repairs, alone),
            *(partial(self.runs, kind) for kind in POLICIES),
            # A prune looks at all jobs: only one process knows that they are its own.
            *([partial(self.prunes, alone)] if self.first == 1 else []),
            self.write_back,
        ):
            threading.Thread(target=_reported, args=(work,), daemon=True).start()

    def rows_of(self, service: JobService, thread: int) -> list[int]:
        first = self.first + thread * ROWS_A_THREAD
        try:
            numbers = {row.row_number for row in service.get_rows(SHARED, "pending")}
        except StorageError:  # the disk has failed before this thread began
            return []
        return sorted(numbers & set(range(first, first + ROWS_A_THREAD)))

    def ids(self, kind: str) -> Iterator[tuple[int, str]]:
        """Of jobs that there never were."""
        return ((n, f"{self.name}-{kind}-{n}") for n in count(1000 * self.generation))

    def single_rows(self, service: JobService, thread: int, *, synced: bool = True) -> None:
        for number in self.rows_of(service, thread):
            row_id = f"{SHARED}:{number}"
            start = partial(service.start_row, row_id)
            complete = partial(service.complete_row, row_id, f"T-{number}")
            if attempt({row_id: "processing"}, start, synced=synced):
                attempt({row_id: state_of(number)}, complete, synced=synced)
            if not synced:
                time.sleep(0.01)  # it would be done at once

    def batches(self, service: JobService, thread: int) -> None:
        numbers = self.rows_of(service, thread)
        while numbers:
            length = self.draw.randrange(1, 30)
            self.complete(service, SHARED, numbers[:length])
            numbers = numbers[length:]

    def complete(self, service: JobService, job_id: str, numbers: Sequence[int]) -> None:
        states = {f"{job_id}:{number}": state_of(number) for number in numbers}
        attempt(states, partial(complete, service, job_id, numbers))

    def make(self, service: JobService, job_id: str, rows: int) -> bool:
        create = partial(service.create_job, "Made", job_id=job_id, row_data=data(rows))
        return attempt({job_id: "there"}, create)

    def jobs(self, service: JobService) -> None:
        """Made, worked on and deleted, but for some, and for those that were left."""
        for job_id in self.left:
            if job_id.split("-")[1] in {"made", "large", "hurt"}:
                attempt({job_id: "gone"}, partial(service.delete_job, job_id))
        for number, job_id in self.ids("made"):
            if self.make(service, job_id, 20):
                self.complete(service, job_id, range(1, self.draw.randrange(2, 20)))
                if number % 8:
                    attempt({job_id: "gone"}, partial(service.delete_job, job_id))

    def large_jobs(self, service: JobService) -> None:
        """Streams of rows, which grow a job until it has had some hints."""
        for _, job_id in self.ids("large"):
            if not self.make(service, job_id, 0):
                continue
            highest = 0
            for _ in range(20):
                ids = [f"{job_id}:{row}" for row in range(highest + 1, highest + 61)]
                tell("is", dict.fromkeys(ids, "absent"))
                create = partial(service.create_rows, job_id, data(60, pad=2000))
                if not attempt(dict.fromkeys(ids, "pending"), create):
                    break
                highest += 60
            attempt({job_id: "gone"}, partial(service.delete_job, job_id))

    def pulls(self) -> None:
        """A job is worked on elsewhere, and taken over here again and again."""
        job_id, rows = f"{self.name}-moved", 400
        source = JobService(self.outside, sync="none")
        if source.get_job(job_id) is None:
            source.create_job("Moved", job_id=job_id, row_data=data(rows))
        done = [row.row_number for row in source.get_rows(job_id, "completed")]
        states = {f"{job_id}:{number}": state_of(number) for number in done}
        service = JobService(self.root)
        while len(states) < rows:
            first = len(states) + 1
            numbers = range(first, min(rows, first + self.draw.randrange(1, 8)) + 1)
            complete(source, job_id, numbers)
            states |= {f"{job_id}:{number}": state_of(number) for number in numbers}
            pull = partial(pull_job, self.root, self.outside / job_id)
            attempt({job_id: "there", **states}, pull)
            if self.draw.random() < 0.1:
                attempt({job_id: "gone"}, partial(service.delete_job, job_id))

    def repairs(self, service: JobService) -> None:
        """Of a journal that was copied in text mode, or has a flipped bit."""
        for number, job_id in self.ids("hurt"):
            if not self.make(service, job_id, 40):
                continue
            self.complete(service, job_id, range(1, 20))
            tell("ask", {job_id: "hurt"})
            path = self.root / job_id / "journal.jsonl"
            with suppress(OSError):
                content = bytearray(path.read_bytes())
                if number % 2:
                    content[self.draw.randrange(200, len(content) - 200)] ^= 1
                else:
                    content = content.replace(b"\n", b"\r\n")
                _write_durably(path, content)
            attempt({job_id: "there"}, partial(repair_job, path.parent))
            attempt({job_id: "gone"}, partial(service.delete_job, job_id))

    def runs(self, kind: str) -> None:
        """Of rows with side effects. A run that the disk has ended goes on; so does a killed one."""
        directory = self.root / f"{self.name}-{kind}"

        def effect(key: str) -> str:
            tell("effect", {key: "made", directory.name: kind})
            return key

        rows = RUN_ROWS * (1 + self.generation)
        tell("ask", {directory.name: kind})
        while not attempt({}, partial(run, directory, kind, effect, data(rows))):
            pass

    def prunes(self, service: JobService) -> None:
        """Jobs that have ended are packed and deleted; some are unpacked again."""
        for job_id in self.left:
            if "-old-" in job_id:
                tell("ask", {job_id: "packed"})
        for number, job_id in self.ids("old"):
            if not self.make(service, job_id, 20):
                continue
            self.complete(service, job_id, range(1, self.draw.randrange(2, 20)))
            tell("ask", {job_id: "packed"})  # from here on, also by a prune that was refused
            if not attempt({}, partial(service.update_status, job_id, "cancelled")):
                continue
            if attempt({job_id: "packed"}, partial(self.prune, job_id)) and number % 2:
                pack = self.root.parent / PACKS / f"{job_id}.tar.gz"
                attempt({job_id: "there"}, partial(unpack_job, self.root, pack))
                tell("ask", {job_id: "packed"})  # by the next prune

    def prune(self, job_id: str) -> None:
        later = datetime.now(UTC) + timedelta(days=1)
        packs = self.root.parent / PACKS
        for pruned in prune_jobs(self.root, later, statuses=["cancelled"], to=packs):
            if pruned.job_id == job_id and pruned.action == "left":
                raise pruned.error or AssertionError(pruned.reason)

    def write_back(self) -> None:
        """What is in the kernel's cache goes to the disk early, as it may, without a flush."""
        while True:
            with suppress(OSError):
                for job_id in os.listdir(self.root):
                    _start_writing(self.root / job_id / "journal.jsonl")
            time.sleep(self.draw.random() * 0.02)


def _start_writing(path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def complete(service: JobService, job_id: str, numbers: Sequence[int]) -> None:
    with service.batch(job_id):
        for number in numbers:
            service.complete_row(f"{job_id}:{number}", f"T-{number}")


def _write_durably(path: Path, content: bytes | bytearray) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(file.name, path)
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reported(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:  # noqa: BLE001  (whoever reads the ledger is told)
        tell("crashed", {traceback.format_exc(): ""})


def main() -> None:
    # A line about a pruned job, which was cut short, and was not acknowledged.
    warnings.filterwarnings("ignore", ".*unreadable line")
    root, outside, name, first, seed, generation = sys.argv[1:]
    Work(Path(root), Path(outside), name, int(first), int(seed), int(generation)).start()
    for line in sys.stdin:
        tell("told back", {line.strip(): ""})
    os._exit(0)  # whoever started it has ended, or wants it to


if __name__ == "__main__":
    main()
