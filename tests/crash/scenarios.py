"""Scenarios of work on a journal while the disk is recorded, or while the system refuses calls.

A scenario is prepared on a healthy disk, and then acts. After each call that has returned, it calls
``acknowledge``. From then on, the changes of the call must survive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from journal import CommitOutcomeUnknownError, JobService, StorageError, open_job
from journal.repair import repair_job

JOB = "proven"

Acknowledge = Callable[[], None]


class Scenario(NamedTuple):
    """``prepare`` and ``act`` get the root of a store; ``act`` opens a service of its own.

    ``refused``: which calls fail meanwhile: see :class:`recorder.Recorder`.
    """

    name: str
    prepare: Callable[[Path], None]
    act: Callable[[Path, Acknowledge], None]
    refused: frozenset[str] = frozenset()


def nothing(root: Path) -> None:
    """An empty disk, even without the root."""


def some_rows(root: Path) -> None:
    """A job of nine rows, the first three of them done."""
    with JobService(root) as service:
        service.create_job("Proven", job_id=JOB, row_data=({"data": {"n": n}} for n in range(9)))
        service.start_job(JOB)
        for number in (1, 2, 3):
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)


def big_rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of 50 kB: twenty-one of them are more than is held back before a write."""
    return ({"data": {"pad": chr(97 + n % 26) * 50_000}} for n in range(count))


def create_job(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        service.create_job("Proven", job_id=JOB)
        acknowledge()
        service.create_job("Other", job_id="other", row_data=[{"data": {"n": 1}}])
        acknowledge()


def make_shards(root: Path, acknowledge: Acknowledge) -> None:
    """The first shard brings the directory of its set.

    The removal of the last shard removes the directory.
    """
    for index in (1, 0):
        make_shard(root, f"set/{index:03}-of-003")
        acknowledge()
    with JobService(root) as service:
        service.skip_row("set:1")
        acknowledge()
        for job_id in ("set/000-of-003", "set/001-of-003"):
            service.delete_job(job_id)
            acknowledge()
    make_shard(root, "set/002-of-003")
    acknowledge()


def make_shard(root: Path, job_id: str) -> None:
    set_id, _, name = job_id.partition("/")
    index, _, count = name.partition("-of-")
    rows = [{"n": n} for n in range(4)]
    open_job(root / set_id, rows, shard=(int(index), int(count)), argv=[]).close()


def streamed_rows(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        service.create_rows(JOB, big_rows(24))
        acknowledge()
        service.skip_row(f"{JOB}:4")
        acknowledge()


def single_commits(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        for number in (4, 5, 6):
            service.start_row(f"{JOB}:{number}")
            acknowledge()
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)
            acknowledge()
        service.fail_row(f"{JOB}:7", "E", "no such address" * 100)
        acknowledge()
        service.update_status(JOB, "paused")
        acknowledge()


def batches(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        with service.batch(JOB):
            for number in range(4, 9):
                service.complete_row(f"{JOB}:{number}", f"T-{number}" * 80, cost_cents=number)
        acknowledge()
        with service.batch(JOB):
            service.create_rows(JOB, [{"data": {"n": n, "pad": "x" * 700}} for n in range(10)])
            service.skip_row(f"{JOB}:10")
        acknowledge()
        service.skip_row(f"{JOB}:11")
        acknowledge()


def discarded_batch(root: Path, acknowledge: Acknowledge) -> None:
    """A batch that has been spilled to the file already is taken back, then work goes on."""
    with JobService(root) as service:
        try:
            with service.batch(JOB):
                service.create_rows(JOB, big_rows(30))
                raise KeyError
        except KeyError:
            acknowledge()
        service.skip_row(f"{JOB}:4")
        acknowledge()


def delete_job(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        service.update_status(JOB, "paused")
        acknowledge()
        service.delete_job(JOB)
        acknowledge()
        service.create_job("Again", job_id=JOB)
        acknowledge()


def torn(root: Path) -> None:
    """As ``some_rows``, and a writer died in the middle of a commit of several blocks."""
    some_rows(root)
    with (root / JOB / "journal.jsonl").open("ab") as file:
        for number in range(4, 10):
            file.write(b'{"type":"row_status","row":%d,"status":"failed","error' % number)
            file.write(b'_code":"E","error_message":"%s"}\n' % (b"x" * 1500))
        file.write(b'{"type":"row_status","row":4,"sta')


def torn_and_sealed(root: Path) -> None:
    """As ``torn``, by a power cut that kept the end of the commit and lost a block in the middle."""
    torn(root)
    with (root / JOB / "journal.jsonl").open("r+b") as file:
        end = file.seek(0, 2)
        file.write(b'tus":"skipped","at":"2026-11-24T13:35:00.000001Z","crc":"01234567"}\n')
        file.seek(end - 3000)
        file.write(bytes(512))


def torn_tail_recovery(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        service.skip_row(f"{JOB}:4")
        acknowledge()
        service.skip_row(f"{JOB}:5")
        acknowledge()


def taking_over(root: Path, acknowledge: Acknowledge) -> None:
    """The writer before died between its write and its sync: nobody knows if its commit is safe."""
    with JobService(root, sync="none") as dead:
        dead.fail_row(f"{JOB}:4", "E", "no such address" * 100)
    with JobService(root) as service:
        service.fail_row(f"{JOB}:5", "E", "no such address" * 100)
        acknowledge()


def small_stream(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        service.create_rows(JOB, ({"data": {"pad": "y" * 1500}} for _ in range(12)))
        acknowledge()
        service.skip_row(f"{JOB}:4")
        acknowledge()


def small_stream_taken_back(root: Path, acknowledge: Acknowledge) -> None:
    with JobService(root) as service:
        try:
            with service.batch(JOB):
                service.create_rows(JOB, ({"data": {"pad": "z" * 1500}} for _ in range(8)))
                raise KeyError
        except KeyError:
            acknowledge()
        with service.batch(JOB):
            for number in (4, 5, 6):
                service.fail_row(f"{JOB}:{number}", "E", "no such address" * 60)
        acknowledge()


def small_stream_taken_back_inside(root: Path, acknowledge: Acknowledge) -> None:
    """One call of a batch fails after a part of the batch was written.

    The batch goes on without this call.
    """

    def breaks_off() -> Iterator[dict[str, Any]]:
        for _ in range(8):
            yield {"data": {"pad": "z" * 1500}}
        raise KeyError

    with JobService(root) as service:
        with service.batch(JOB):
            service.skip_row(f"{JOB}:9")
            with suppress(KeyError):
                service.create_rows(JOB, breaks_off())
            for number in (4, 5, 6):
                service.fail_row(f"{JOB}:{number}", "E", "no such address" * 60)
        acknowledge()


def group_commit(root: Path, acknowledge: Acknowledge) -> None:
    """Twice, three threads ask for changes during a commit.

    Their changes become a single commit.
    """
    with JobService(root) as service:
        group = service.store.journal(JOB)._group
        for first in (4, 7):
            threads = [
                threading.Thread(
                    target=service.fail_row, args=(f"{JOB}:{number}", "E", "no such address" * 40)
                )
                for number in range(first, first + 3)
            ]
            with service.batch(JOB):
                service.set_error(JOB, "E", "message")
                for asked, thread in enumerate(threads, 1):
                    thread.start()
                    while len(group.open.requests) < asked:  # which tells nobody that it has grown
                        assert thread.is_alive()
                        time.sleep(0.000_1)
            for thread in threads:
                thread.join()
            acknowledge()


def hints(root: Path, acknowledge: Acknowledge) -> None:
    """Of writers that sync, of some that don't, and of a reader: each hint replaces another."""
    with JobService(root) as service:
        for number in (4, 5):
            service.fail_row(f"{JOB}:{number}", "E", "no such address" * 60)
            acknowledge()
    with JobService(root) as service:
        service.get_job(JOB)
        with JobService(root, sync="none") as dead:
            dead.fail_row(f"{JOB}:6", "E", "no such address" * 160)
        service.get_job(JOB)
        service.fail_row(f"{JOB}:7", "E", "no such address" * 100)
        acknowledge()
    with JobService(root) as reader:
        reader.get_job(JOB)
        with JobService(root) as service:
            service.fail_row(f"{JOB}:8", "E", "no such address" * 30)
            acknowledge()
        reader.get_job(JOB)  # too little to leave a hint at once
        with JobService(root, sync="none") as dead:
            dead.fail_row(f"{JOB}:9", "E", "no such address" * 80)
        reader.get_job(JOB)


def ended(root: Path) -> None:
    """As ``some_rows``, and the job has failed: with a row of no answer, and one in flight by then."""
    some_rows(root)
    with JobService(root) as service:
        for number in (4, 5, 6):
            service.fail_row(f"{JOB}:{number}", "E", "no such address")
        service.start_row(f"{JOB}:7")
        service.fail_row(f"{JOB}:7", "F", "no answer", unknown=True)
        service.update_status(JOB, "failed")


def passes(root: Path, acknowledge: Acknowledge) -> None:
    """A failed job is reopened, its rows retried, redone and given other data, and completed."""
    with JobService(root) as service:
        service.reopen_job(JOB, "the far side is up again")
        acknowledge()
        service.update_status(JOB, "cancelled")
        acknowledge()
        service.pause_job(JOB)
        acknowledge()
        service.resume_job(JOB)  # which reopens it, in the same commit
        acknowledge()
        service.retry_row(f"{JOB}:4")
        acknowledge()
        service.retry_failed_rows(JOB, "F")
        acknowledge()
        service.update_row_data(f"{JOB}:5", {"n": 5, "pad": "y" * 700})
        acknowledge()
        service.redo_row(f"{JOB}:1", "a wrong label" * 50, new_key=True)
        acknowledge()
        service.start_job(JOB, version="v2")
        acknowledge()
        for number in (1, 4, 7):
            service.start_row(f"{JOB}:{number}")
            acknowledge()
            service.complete_row(f"{JOB}:{number}", f"U-{number}", cost_cents=number)
            acknowledge()
        service.pause_job(JOB)  # the running job becomes paused, in the same commit
        acknowledge()
        service.resume_job(JOB)
        service.update_status(JOB, "running")
        service.update_status(JOB, "failed")
        acknowledge()
        service.redo_row(f"{JOB}:2")  # which reopens it, in the same commit
        acknowledge()
        service.update_status(JOB, "cancelled")
        acknowledge()


def steps(root: Path, acknowledge: Acknowledge) -> None:
    """Attempts with steps that are done, that fail, that a person records, and that a redo forgets."""
    with JobService(root) as service:
        for number in (4, 5):
            row = f"{JOB}:{number}"
            service.start_row(row)
            acknowledge()
            service.begin_step(row, 1, "charge")
            acknowledge()
            service.end_step(row, 1, "charge", {"id": "ch" * 300})
            acknowledge()
            service.begin_step(row, 1, "mail")
            acknowledge()
        service.end_step(f"{JOB}:4", 1, "mail", error=("E", "no such address" * 40))
        acknowledge()
        service.fail_row(f"{JOB}:4", "E", "no such address")
        acknowledge()
        with service.batch(JOB):
            service.redo_row(f"{JOB}:4")
            service.record_step(f"{JOB}:4", "label", "L-4" * 200)
            service.record_step(f"{JOB}:1", "label", "L-1")
        acknowledge()
        service.record_step(f"{JOB}:5", "mail", "sent")
        acknowledge()


def in_text_mode(root: Path) -> None:
    """As ``some_rows``, and copied in text mode."""
    some_rows(root)
    path = root / JOB / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def with_a_line_lost(root: Path) -> None:
    """As ``some_rows``, and the second outcome is gone."""
    some_rows(root)
    path = root / JOB / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b"T-2" not in line))


def repair(root: Path, acknowledge: Acknowledge) -> None:
    repair_job(root / JOB)
    acknowledge()
    with JobService(root) as service:
        service.fail_row(f"{JOB}:9", "E", "no such address")
        acknowledge()


def a_sync_fails(root: Path, acknowledge: Acknowledge) -> None:
    """Work goes on after an acknowledgement, by the same service and by a new service."""
    for numbers in ((4, 5, 6), (7, 8)):
        with JobService(root) as service:
            for number in numbers:
                with suppress(StorageError, CommitOutcomeUnknownError):
                    service.complete_row(f"{JOB}:{number}", "T" * 700)
                    acknowledge()


SCENARIOS = [
    Scenario("create job", nothing, create_job),
    Scenario("create and delete shards", nothing, make_shards),
    Scenario("a failed sync", some_rows, a_sync_fails, frozenset(["fdatasync 3"])),
    Scenario(
        "a failed sync, then another service",
        some_rows,
        a_sync_fails,
        frozenset(["fdatasync 4", "ftruncate 1"]),
    ),
    Scenario("streamed create_rows", some_rows, streamed_rows),
    Scenario("single commits", some_rows, single_commits),
    Scenario("batch", some_rows, batches),
    Scenario("discarded batch", some_rows, discarded_batch),
    Scenario("delete", some_rows, delete_job),
    Scenario("torn-tail recovery", torn, torn_tail_recovery),
    Scenario("recovery of a tail with a seal", torn_and_sealed, torn_tail_recovery),
    Scenario("taking over", some_rows, taking_over),
    Scenario("group commit", some_rows, group_commit),
    Scenario("passes", ended, passes),
    Scenario("steps", some_rows, steps),
]

# The journal is damaged, as it was, until it is repaired.
REPAIRS = [
    Scenario("repair without loss", in_text_mode, repair),
    Scenario("repair with loss", with_a_line_lost, repair),
]

# Where a few kilobytes are more than is held back before a write: of less, more states fit a minute.
SMALL_SPILLS = [
    Scenario("small stream", some_rows, small_stream),
    Scenario("small stream taken back", some_rows, small_stream_taken_back),
    Scenario("small stream taken back inside", some_rows, small_stream_taken_back_inside),
]

# Where the journal of a small job has a hint.
SMALL_HINTS = [Scenario("hints", some_rows, hints)]
