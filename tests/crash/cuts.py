"""A cut of a journal beside a durable hint is named. A state after a power cut is no such cut.

    python tests/crash/cuts.py                      both, as below; needs root for the power cuts
    python tests/crash/cuts.py --bytes 2000         cut at every byte of the last 2,000
    python tests/crash/cuts.py --states 40          40 power cuts on each file system

For a cut, only the journal is truncated. `verify` must name the cut, a run must be refused, and no
work may be done again. Without its last line end alone, a journal doesn't count as cut.

For a power cut, threads work on three jobs, one with a store that doesn't sync, one with a store
that syncs, and one with both in turn. They leave a hint after every few commits. The power goes at
a random moment. The remaining journals must not count as cut.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the command; pytest has it there already

from crash.fault_disk import FaultDisk, why_no_fault_disk
from crash.power import FILE_SYSTEMS, WAIT_S, has_given_up
from support.activation import check_share

import journal
import journal.index.hint
from journal import JobService, JournalDamagedError, JournalError
from journal.fs.handles import JournalFile
from journal.index.hint import find_cut
from journal.verify import verify_job

JOB = "cut"
STATES_A_DISK = 40


# --- cuts ------------------------------------------------------------------------------------


def ended_run(root: Path, done: list[int]) -> list[dict[str, int]]:
    """A run that has stopped before its last rows."""
    rows = [{"n": number} for number in range(60)]
    run(root, rows, done, max_rows=55)
    return rows


def closed_service(root: Path, done: list[int]) -> list[dict[str, int]]:
    """A service that was closed while the job is large enough for a hint, without a run."""
    rows = [{"n": number} for number in range(3000)]
    with JobService(root) as service:
        service.create_job("Cut", job_id=JOB)
        for first in range(0, len(rows), 100):
            service.create_rows(JOB, [{"data": row} for row in rows[first : first + 100]])
        service.update_status(JOB, "running")
        for number in range(1, 31):
            service.start_row(f"{JOB}:{number}")
            service.complete_row(f"{JOB}:{number}", "T")
            done.append(number)
    return rows


def run(root: Path, rows: list[dict[str, int]], done: list[int], max_rows: int | None) -> None:
    def work(row: journal.JobRow) -> str:
        done.append(row.row_number)
        return "T"

    with journal.open_job(root / JOB, rows) as job:
        job.run(work, workers=1, max_rows=max_rows, progress=False, handle_signals=False)


def cut_everywhere(
    make: Callable[[Path, list[int]], list[dict[str, int]]], most: int, step: int = 1
) -> tuple[int, list[str]]:
    """Cut the journal at each of the last ``most`` bytes. Return how often, and what went wrong."""
    wrong: list[str] = []
    done: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "jobs"
        rows = make(root, done)
        path, hint = root / JOB / "journal.jsonl", root / JOB / "index.hint"
        whole, proof, before = path.read_bytes(), hint.read_bytes(), len(done)
        places = range(2, most + 1, step)
        for gone in places:
            os.truncate(path, len(whole) - gone)
            finding = verify_job(root / JOB).findings[-1:]
            if not finding or finding[0].kind != "damage" or "missing" not in finding[0].message:
                wrong.append(f"{gone} bytes: verify says {finding}")
            try:
                run(root, rows, done, max_rows=1)
                wrong.append(f"{gone} bytes: a run was not refused")
            except JournalDamagedError:
                pass
            if len(done) != before:
                wrong.append(f"{gone} bytes: {done[before:]} were done again")
                del done[before:]
            if path.read_bytes() != whole[:-gone] or hint.read_bytes() != proof:
                wrong.append(f"{gone} bytes: something was changed")
            with path.open("r+b") as file:
                file.write(whole)
        os.truncate(path, len(whole) - 1)
        if [finding.kind for finding in verify_job(root / JOB).findings] != ["unended"]:
            wrong.append("the last line end counts as a cut")
    return len(places), wrong


# --- power cuts ------------------------------------------------------------------------------

Sync = Literal["commit", "none"]
JOBS: dict[str, tuple[Sync, ...]] = {
    "unsynced": ("none",),
    "synced": ("commit",),
    "in-turn": ("commit", "none", "none"),
}


@dataclass
class Tally:
    states: int = 0
    jobs: int = 0  # that were there
    proofs: int = 0  # hints that would have proved a cut
    ahead: int = 0  # hints of commits that the power cut has taken
    pending: int = 0  # writes that were not flushed
    alarms: list[str] = field(default_factory=list)


@contextmanager
def hints_of_small_jobs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.index.hint, "MIN_BYTES", 1)
        patch.setattr(journal.index.hint, "GROWTH_BYTES", 1)
        yield


def cut_power(kind: str, options: str, states: int, seed: int) -> Tally:
    """Cut the power ``states`` times while three jobs are worked on."""
    tally, draw = Tally(), Random(seed)
    with hints_of_small_jobs():
        while tally.states < states:
            _cut_power_of_one(kind, options, min(states, tally.states + STATES_A_DISK), draw, tally)
    return tally


def _cut_power_of_one(kind: str, options: str, until: int, draw: Random, tally: Tally) -> None:
    stop, has_proof = threading.Event(), threading.Event()
    with ExitStack() as stack:
        disk = stack.enter_context(FaultDisk(kind, options))
        root = disk.mount / "jobs"
        for job_id, syncs in JOBS.items():
            with JobService(root, sync=syncs[0]) as service:
                service.create_job("Cut", job_id=job_id)
            thread = threading.Thread(
                target=_work, args=(root, job_id, stop, has_proof, draw.random())
            )
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
        assert has_proof.wait(WAIT_S), "no durable hint would prove a cut"
        while tally.states < until and not has_given_up(root):
            disk.slow_down(draw.choice([0, 0.005, 0.02]))
            time.sleep(draw.random() * 0.2)  # the moment of the cut is what is random here
            with disk.cut(draw.randrange(1 << 30)) as cut:
                tally.pending += cut.pending
                for job_id in JOBS:
                    _look(cut.root / "jobs", job_id, f"{kind} {options}".strip(), tally)
            tally.states += 1


def _work(
    root: Path, job_id: str, stop: threading.Event, has_proof: threading.Event, seed: float
) -> None:
    draw, turn = Random(seed), 0
    while not stop.is_set():
        sync = JOBS[job_id][turn % len(JOBS[job_id])]
        turn += 1
        with suppress(JournalError), JobService(root, sync=sync) as service:
            service.start_job(job_id, "retry")
            for row in service.create_rows(job_id, [{"data": {}}] * draw.randrange(1, 9)):
                service.start_row(row.id)
                service.complete_row(row.id, "T" * draw.randrange(1, 900))
            service.update_status(job_id, "paused")
        if draw.random() < 0.5:  # the worst case: the hint is on the disk before the commits are
            with suppress(OSError, ValueError):
                _sync(root / job_id / "index.hint")
                _sync(root / job_id)
                if _header(root / job_id)["synced"] > 0:
                    has_proof.set()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _header(directory: Path) -> dict[str, Any]:
    header: dict[str, Any] = json.loads((directory / "index.hint").read_bytes().partition(b"\n")[0])
    return header


def _look(root: Path, job_id: str, where: str, tally: Tally) -> None:
    directory = root / job_id
    path = directory / "journal.jsonl"
    if not path.exists():  # the store that made it doesn't sync
        return
    tally.jobs += 1
    with suppress(OSError, ValueError):  # no hint, or a broken one
        header = _header(directory)
        tally.proofs += header["synced"] > 0
        tally.ahead += header["offset"] > path.stat().st_size
    missing = find_cut(directory, JournalFile(path))
    if missing is not None:
        tally.alarms.append(f"{where}: {job_id} is taken for cut before {missing}")
        return
    try:
        with JobService(root) as service:
            service.set_error(job_id, "E", "after the cut")
    except JournalError as error:
        if job_id == "synced" or "index.hint" in str(error):
            tally.alarms.append(f"{where}: {job_id}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, default=2000)
    parser.add_argument("--states", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong: list[str] = []
    for make in (ended_run, closed_service):
        began_s = time.monotonic()
        count, found = cut_everywhere(make, options.bytes)
        spent_s = time.monotonic() - began_s
        print(f"{make.__name__}: {count} cuts, {len(found)} WRONG; {spent_s:.0f} s", flush=True)
        wrong += found
    why = why_no_fault_disk()
    if why is not None:
        print(why)
    for kind, mount_options in FILE_SYSTEMS if why is None else []:
        tally = cut_power(kind, mount_options, options.states, options.seed)
        print(
            f"power cuts, {kind} {mount_options}: {tally.states} states, {tally.jobs} jobs, "
            f"{tally.pending} writes pending, {tally.proofs} hints with a proof, {tally.ahead} of "
            f"commits that were lost; {len(tally.alarms)} FALSE ALARMS",
            flush=True,
        )
        wrong += tally.alarms
        check_share(
            "writes that were not flushed when the power went", tally.pending, tally.states, 0
        )
        check_share("hints that would have proved a cut", tally.proofs, tally.jobs, 0.1)
    for line in wrong[:20]:
        print(f"    {line[:1000]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
