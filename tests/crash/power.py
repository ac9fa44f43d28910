"""Cuts the power while processes work on a slow and failing disk with a real file system.

The tests do a small part of this work. The full run is a separate command, which needs root and the
programs that :func:`fault_disk.why_no_fault_disk` names. It prints a summary, and exits with 1 if
anything was lost::

    python tests/crash/power.py --states 300 --rounds 10 --seed 1

``--states``: the number of states after power cuts, over all file systems. ``--rounds``: how often
each scenario of write errors runs, and how often work goes on after a disk has lost writes.
``--random``: the number of rounds with errors at random times.

The same work runs in any directory, with a command that makes the file system lose unsynced
writes::

    python tests/crash/power.py --directory EMPTY --lose 'COMMAND' --rounds 10
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
from crash.fault_disk import KINDS, Cut, FaultDisk, why_no_fault_disk
from crash.ledger import PACKS, PENDING, Ledger, do, losses, seen

from journal import JobService

FILE_SYSTEMS = [("ext4", ""), ("ext4", "data=writeback"), ("xfs", ""), ("btrfs", "")]
PROCESSES = 2
STATES_A_DISK = 50  # then its rows are done, and a new one is quicker to look at
WAIT_S = 60


@dataclass
class Tally:
    """Counts of the work and its results."""

    states: int = 0
    generations: int = 0  # of processes that were killed as the disk lost
    pending: int = 0  # writes that were not flushed when the power went
    kept: int = 0  # of which there was something
    lost_all: int = 0  # states that lost all of these writes
    lost_some: int = 0  # states that lost some of these, or parts of some
    failures: int = 0  # writes and flushes that failed
    written_anew: int = 0  # how often a journal was found to be another file
    done: int = 0
    refused: int = 0
    unknown: int = 0
    effects: int = 0  # side effects of runs
    lost: list[str] = dataclasses.field(default_factory=list)

    def count(self, ledger: Ledger) -> None:
        self.done += ledger.counts["done"]
        self.refused += ledger.counts["refused"]
        self.unknown += ledger.counts["unknown"]
        self.effects += ledger.counts["effect"]

    def count_cut(self, cut: Cut) -> None:
        self.states += 1
        self.pending += cut.pending
        self.kept += cut.kept
        self.lost_all += cut.kept == 0 < cut.pending
        self.lost_some += cut.kept > 0 and (cut.kept < cut.pending or cut.torn > 0)

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
                return  # it was killed during its report
            what, states = json.loads(line)
            if what == "told back":
                self._told_back.put(None)
            else:
                self._ledger.note(what, states)

    def hear_all(self) -> None:
        """Return when all of its reports until now are in the ledger."""
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
    """Like :func:`cut_power`, but with one disk, until its file system has given up."""
    tally, ledger = Tally(), Ledger()
    with ExitStack() as stack:
        disk = stack.enter_context(FaultDisk(kind, options))
        root = disk.mount / "jobs"
        make_shared_job(root, ledger)
        outside = stack.enter_context(tempfile.TemporaryDirectory())
        workers = start(root, outside, ledger, draw, stack)
        wait_for_work(root, ledger, draw)
        inode = 0
        while tally.states < min(states, STATES_A_DISK) and not has_given_up(root):
            disk.slow_down(draw.choice([0.005, 0.02, 0.05]))
            if draw.random() < 0.3:
                pattern = draw.choice([COMMIT, COMMIT, b'{"hint":'])
                disk.fail_writes(draw.randrange(1, 3), pattern)
            time.sleep(draw.random() * 0.1)  # the moment of the cut is what is random here
            known, inode = inode, (root / SHARED / "journal.jsonl").stat().st_ino
            tally.written_anew += known not in {0, inode}
            before = ledger.moment()
            with disk.cut(a_loss(draw)) as cut:
                for worker in workers:
                    worker.hear_all()
                found = losses(cut.root / "jobs", ledger.possible(before, ledger.moment()))
            tally.lost += [f"{kind} {options}: {loss}" for loss in found]
            tally.count_cut(cut)
        tally.failures = disk.failures()
        tally.lost += ledger.problems()
    tally.count(ledger)
    return tally


def a_loss(draw: Random) -> int | None:
    """Of all that wasn't flushed, or of a part of it: see :meth:`FaultDisk.cut`."""
    return None if draw.random() < 0.3 else draw.randrange(1 << 30)


def start(
    root: Path, outside: str, ledger: Ledger, draw: Random, stack: ExitStack, generation: int = 0
) -> list[AtWork]:
    workers = []
    for number in range(PROCESSES):
        own = (f"p{number}", 1 + number * ROWS_A_PROCESS, draw.randrange(1 << 30), generation)
        directory = Path(outside, f"p{number}")
        workers.append(stack.enter_context(AtWork(ledger, root, directory, *own)))
    return workers


Lose = Callable[[Callable[[], None]], None]  # loses; meanwhile it calls what it gets, which kills


def generations(directory: Path, lose: Lose, rounds: int, draw: Random) -> Tally:
    """All processes are killed when the disk loses writes. Then other processes go on."""
    tally, ledger, root = Tally(), Ledger(), directory / "jobs"
    make_shared_job(root, ledger)
    with tempfile.TemporaryDirectory() as outside:
        for generation in range(rounds):
            with ExitStack() as stack:
                start(root, outside, ledger, draw, stack, generation)
                wait_for_work(root, ledger, draw)
                before = ledger.moment()
                lose(stack.close)
            possible = ledger.possible(before)
            tally.lost += losses(root, possible, go_on=generation == rounds - 1)
            tally.lost += ledger.problems()
            tally.generations += 1
            if tally.lost:
                break
            ledger.note("is", seen(root, possible))
    tally.count(ledger)
    return tally


def wait_for_work(root: Path, ledger: Ledger, draw: Random) -> None:
    """Until some changes were acknowledged, also of the shared job, and some side effects made."""
    counts, deadline_s = ledger.counts, time.monotonic() + WAIT_S
    done, effects = (
        counts["done"] + draw.randrange(20, 100),
        counts["effect"] + draw.randrange(1, 60),
    )

    def is_enough() -> bool:
        return (
            counts["done"] >= done
            and counts["effect"] >= effects
            and any(
                key.startswith(f"{SHARED}:") and PENDING not in may
                for key, may in ledger.possible().items()
            )
        )

    while not is_enough() and not has_given_up(root):
        if time.monotonic() > deadline_s:
            raise TimeoutError("no work is done")
        time.sleep(0.01)


def lose_power(kind: str, options: str, rounds: int, seed: int) -> Tally:
    """Let a disk lose, again and again.

    At times it fails before: at a few writes; or at all flushes, and then all that was cached is lost.
    """
    draw, cuts = Random(seed), Tally()
    with FaultDisk(kind, options) as disk:

        def lose(kill: Callable[[], None]) -> None:
            match draw.randrange(3):
                case 0:
                    disk.fail_flushes(1 << 30, drop=True)
                case 1:
                    disk.fail_writes(draw.randrange(1, 3), COMMIT)
            time.sleep(draw.random() * 0.1)  # the moment of the loss is what is random here
            with disk.lose(a_loss(draw)) as cut:
                cuts.count_cut(cut)
                kill()
            disk.slow_down(draw.choice([0, 0.005, 0.02]))

        tally = generations(disk.mount, lose, rounds, draw)
        tally.failures = disk.failures()
    tally.add(cuts)
    tally.lost = [f"{kind} {options}: {loss}" for loss in tally.lost]
    return tally


def lose_by(command: str, directory: Path, rounds: int, seed: int) -> Tally:
    """Like :func:`lose_power`, in any directory. A command makes its file system lose writes."""

    def lose(kill: Callable[[], None]) -> None:
        kill()  # else a later sync would succeed though its data is lost, which nobody survives
        subprocess.run(command, shell=True, check=True)

    return generations(directory, lose, rounds, Random(seed))


def cut_power_in_writing_anew(kind: str, options: str, seed: int) -> Tally:
    """The data of a writer without syncs can't be written.

    The power goes while it is written anew.
    """
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
                with disk.cut(a_loss(draw)) as cut:
                    possible = ledger.possible(before, ledger.moment())
                    tally.lost += losses(cut.root / "jobs", possible)
                tally.count_cut(cut)
            thread.join()
            tally.written_anew = path.stat().st_ino != inode
        tally.failures = disk.failures()
    tally.count(ledger)
    return tally


def has_given_up(root: Path) -> bool:
    """Whether the file system has, as some do when they can't write what is their own."""
    try:
        (root.parent / "probe").touch()
    except OSError:
        return True
    return False


def make_shared_job(root: Path, ledger: Ledger) -> None:
    (root.parent / PACKS).mkdir()
    os.sync()
    with JobService(root) as service:
        rows = data(PROCESSES * ROWS_A_PROCESS)
        assert do(
            ledger.note,
            {SHARED: "there"},
            lambda: service.create_job("Shared", job_id=SHARED, row_data=rows),
        )


def fail(scenario: Scenario, kind: str, end: End, seed: int) -> Tally:
    """Let a scenario of write errors run. Then the power goes, or the disk is unmounted first."""
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--states", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--random", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="an empty one, to work in; needs --lose")
    parser.add_argument("--lose", metavar="COMMAND", help="runs while no process is at work")
    options = parser.parse_args()
    if (options.directory is None) != (options.lose is None):
        parser.error("--directory and --lose need each other")
    if options.directory:
        turn = partial(lose_by, options.lose, options.directory, options.rounds, options.seed)
        return 1 if _told("losses by a command", [turn]) else 0
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
        losing = partial(lose_power, kind, mount_options, options.rounds, options.seed)
        lost += _told(f"generations, {name}", [losing])
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
    taken = total.lost_all + total.lost_some
    if not (taken if "power cuts" in name else total.failures + total.generations):
        total.lost.append(f"{name}: no cut took anything away, or nothing has failed")
    print(
        f"{name}: {len(turns)} rounds, {total.states} states, {total.pending / max(1, total.states):.1f} "
        f"writes pending ({total.kept} of {total.pending} kept; {total.lost_all} lost all, "
        f"{total.lost_some} a part), {total.generations} generations, {total.failures} failures, "
        f"{total.written_anew} written anew; {total.done} acknowledged, {total.refused} refused, "
        f"{total.unknown} unknown, {total.effects} side effects; {len(total.lost)} LOST; {time.monotonic() - begin_s:.0f} s",
        flush=True,
    )
    for loss in total.lost[:10]:
        print(
            f"    {loss[:500]} ... {loss[-1500:]}" if len(loss) > 2000 else f"    {loss}",
            flush=True,
        )
    return len(total.lost)


if __name__ == "__main__":
    sys.exit(main())
