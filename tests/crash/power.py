"""The power goes while processes work on a disk that is slow and fails; on real file systems.

The tests do a little of it. The full run is a command of its own, which needs root and what else
:func:`fault_disk.why_no_fault_disk` names. It prints what it did, and exits with 1 if anything was
lost::

    python tests/crash/power.py --states 300 --rounds 10 --seed 1

``--states`` counts what power cuts have left, over all file systems; ``--rounds`` is how often each
scenario of write errors runs, and ``--random`` how many rounds have errors at random times.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from random import Random
from typing import Self

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from crash.disk_errors import (
    COMMIT,
    ENDS,
    JOB,
    SCENARIOS,
    End,
    Scenario,
    Worker,
    at_random,
    make_job,
)
from crash.disk_work import ROWS_A_PROCESS, SHARED, data
from crash.fault_disk import KINDS, FaultDisk, why_no_fault_disk
from crash.ledger import Ledger, do, losses

from journal import JobService

FILE_SYSTEMS = [("ext4", ""), ("ext4", "data=writeback"), ("xfs", ""), ("btrfs", "")]
PROCESSES = 2
STATES_A_DISK = 50  # then its rows are done, and a new one is quicker to look at
WAIT_S = 60


@dataclass
class Tally:
    """What was done and seen."""

    states: int = 0
    pending: int = 0  # writes that were not flushed when the power went
    kept: int = 0  # of which there was something
    failures: int = 0  # writes and flushes that failed
    written_anew: int = 0  # how often a journal was found to be another file
    done: int = 0
    refused: int = 0
    unknown: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)

    def count(self, ledger: Ledger) -> None:
        self.done += ledger.counts["done"]
        self.refused += ledger.counts["refused"]
        self.unknown += ledger.counts["unknown"]

    def add(self, other: Tally) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class AtWork:
    """A process of :mod:`disk_work`, whose words go into the ledger."""

    def __init__(self, ledger: Ledger, *arguments: object) -> None:
        self._ledger = ledger
        self._told_back: queue.Queue[None] = queue.Queue()
        script = Path(__file__).with_name("disk_work.py")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                return  # it was killed as it told it
            what, states = json.loads(line)
            if what == "told back":
                self._told_back.put(None)
            else:
                self._ledger.note(what, states)

    def hear_all(self) -> None:
        """Return when all that it has told until now is in the ledger."""
        assert self._process.stdin is not None
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        self._told_back.get(timeout=WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def cut_power(kind: str, options: str, states: int, seed: int) -> Tally:
    """Cut the power ``states`` times at random moments of a lot of work, and look each time."""
    total, draw = Tally(), Random(seed)
    while total.states < states:
        total.add(_cut_power_of_one(kind, options, states - total.states, draw))
    return total


def _cut_power_of_one(kind: str, options: str, states: int, draw: Random) -> Tally:
    """As :func:`cut_power`, of one disk, until its file system has given up."""
    tally, ledger = Tally(), Ledger()
    with ExitStack() as stack:
        disk = stack.enter_context(FaultDisk(kind, options))
        root = disk.mount / "jobs"
        make_shared_job(root, ledger)
        workers = []
        for number in range(PROCESSES):
            outside = stack.enter_context(tempfile.TemporaryDirectory())
            own = (f"p{number}", 1 + number * ROWS_A_PROCESS, draw.randrange(1 << 30))
            workers.append(stack.enter_context(AtWork(ledger, root, outside, *own)))
        inode = 0
        while tally.states < min(states, STATES_A_DISK) and not is_read_only(root):
            disk.slow_down(draw.choice([0.005, 0.02, 0.05]))
            if draw.random() < 0.3:
                pattern = draw.choice([COMMIT, COMMIT, b'{"hint":'])
                disk.fail_writes(draw.randrange(1, 3), pattern)
            time.sleep(draw.random() * 0.1)  # the moment of the cut is what is random here
            known, inode = inode, (root / SHARED / "journal.jsonl").stat().st_ino
            tally.written_anew += known not in {0, inode}
            before = ledger.moment()
            with disk.cut(draw.randrange(1 << 30)) as cut:
                for worker in workers:
                    worker.hear_all()
                found = losses(cut.root / "jobs", ledger.possible(before, ledger.moment()))
            tally.lost += [f"{kind} {options}: {loss}" for loss in found]
            tally.states += 1
            tally.pending += cut.pending
            tally.kept += cut.kept
        tally.failures = disk.failures()
        tally.lost += ledger.crashes()
    tally.count(ledger)
    return tally


def cut_power_in_writing_anew(kind: str, options: str, seed: int) -> Tally:
    """What a writer without syncs has left can't be written; the power goes as it is written anew."""
    tally, ledger, draw = Tally(), Ledger(), Random(seed)
    with FaultDisk(kind, options) as disk:
        root = disk.mount / "jobs"
        make_job(root, ledger)
        path = root / JOB / "journal.jsonl"
        inode = path.stat().st_ino
        with JobService(root, sync="none") as fast, JobService(root) as service:
            Worker(fast, ledger, synced=False).work(range(1, draw.randrange(20, 60)))
            disk.fail_writes(1, COMMIT)
            disk.slow_down(0.1)
            worker = Worker(service, ledger)
            thread = threading.Thread(target=worker.work, args=(range(101, 104),))
            thread.start()
            while thread.is_alive():
                time.sleep(draw.random() * 0.02)  # the moment of the cut is what is random here
                before = ledger.moment()
                with disk.cut(draw.randrange(1 << 30)) as cut:
                    possible = ledger.possible(before, ledger.moment())
                    tally.lost += losses(cut.root / "jobs", possible)
                tally.states += 1
                tally.pending += cut.pending
                tally.kept += cut.kept
            thread.join()
            tally.written_anew = path.stat().st_ino != inode
        tally.failures = disk.failures()
    tally.count(ledger)
    return tally


def is_read_only(path: Path) -> bool:
    """Whether the file system has given up, as some do when they can't write what is their own."""
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return True


def make_shared_job(root: Path, ledger: Ledger) -> None:
    with JobService(root) as service:
        rows = data(PROCESSES * ROWS_A_PROCESS)
        assert do(
            ledger.note,
            {SHARED: "there"},
            lambda: service.create_job("Shared", job_id=SHARED, row_data=rows),
        )


def fail(scenario: Scenario, kind: str, end: End, seed: int) -> Tally:
    """Let a scenario of write errors run; then the power goes, or the disk is unmounted first."""
    tally, ledger, draw = Tally(), Ledger(), Random(seed)
    with FaultDisk(kind) as disk:
        scenario(disk, disk.mount / "jobs", ledger, draw)
        tally.failures = disk.failures()
        disk.heal()
        if end == "unmount":
            disk.unmount()
        with disk.cut() as cut:
            found = losses(cut.root / "jobs", ledger.possible())
    tally.states = 1
    tally.lost += [f"{scenario.__name__} on {kind}, {end}: {loss}" for loss in found]
    tally.count(ledger)
    return tally


# --- the full run ----------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--random", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if (why := why_no_fault_disk()) is not None:
        sys.exit(why)
    lost = 0
    for scenario in SCENARIOS:
        turns = [
            (kind, end, turn) for kind in KINDS for end in ENDS for turn in range(options.rounds)
        ]
        lost += _told(
            scenario.__name__,
            [partial(fail, scenario, kind, end, options.seed + turn) for kind, end, turn in turns],
        )
    lost += _told(
        "at random times",
        [
            partial(fail, at_random, KINDS[turn % 3], ENDS[turn // 3 % 2], options.seed + turn)
            for turn in range(options.random)
        ],
    )
    share = -(-options.states // len(FILE_SYSTEMS))
    for kind, mount_options in FILE_SYSTEMS:
        name = f"{kind} {mount_options}".strip()
        lost += _told(
            f"power cuts in writing anew, {name}",
            [
                partial(cut_power_in_writing_anew, kind, mount_options, options.seed + turn)
                for turn in range(options.rounds)
            ],
        )
        cuts = partial(cut_power, kind, mount_options, share, options.seed)
        lost += _told(f"power cuts, {name}", [cuts])
    return 1 if lost else 0


def _told(name: str, turns: Sequence[Callable[[], Tally]]) -> int:
    """How much was lost in these turns; says what they did."""
    total, begin_s = Tally(), time.monotonic()
    for turn in turns:
        try:
            total.add(turn())
        except Exception as error:  # noqa: BLE001  (an error is a loss like any other)
            total.lost.append(f"{name}: {type(error).__name__}: {error}")
    print(
        f"{name}: {len(turns)} rounds, {total.states} states, {total.pending / max(1, total.states):.1f} "
        f"writes pending ({total.kept} of {total.pending} kept), {total.failures} failures, "
        f"{total.written_anew} written anew; {total.done} acknowledged, {total.refused} refused, "
        f"{total.unknown} unknown; {len(total.lost)} LOST; {time.monotonic() - begin_s:.0f} s",
        flush=True,
    )
    for loss in total.lost[:10]:
        print(f"    {loss[:1000]}", flush=True)
    return len(total.lost)


if __name__ == "__main__":
    sys.exit(main())
