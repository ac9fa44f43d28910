"""Each call to the system fails once in each scenario, in each possible way.

A failure has one of three results. The operation has happened. Or the operation hasn't happened,
and a named error says so. Or the error says that the result is unknown, and the operation has
happened as a whole or not at all. The service with the fault works correctly afterwards, and so
does a service that is opened later. Each run tests a sample of calls. This command tests all of
them: ``LONG=1 python -m pytest tests/crash/test_fault_matrix.py``.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from crash.faults import (
    KINDS,
    Change,
    FaultySystem,
    Kind,
    Mode,
    change_between,
    commits_in,
    locked_below,
    torn_tails_in,
)
from crash.scenarios import JOB, ended, nothing, some_rows, torn
from support.copies import staging_of
from support.effort import IS_LONG, sample
from support.platforms import needs_devices, needs_flock

import journal.index.hint
import journal.store.journal
from journal import (
    CommitOutcomeUnknownError,
    InvalidStateTransition,
    Job,
    JobBusyError,
    JobExistsError,
    JobNotFoundError,
    JobService,
    JobStatus,
    JournalError,
    RowNotFoundError,
    StorageError,
)
from journal.verify import verify_job

# The locks of jobs are looked at, and descriptors are counted in /dev/fd.
pytestmark = [needs_flock, needs_devices]

# Right answers once an earlier operation has been refused, and wrong ones before that.
CONSEQUENCES = (
    InvalidStateTransition,
    JobBusyError,
    JobExistsError,
    JobNotFoundError,
    RowNotFoundError,
)

Operation = Callable[[JobService], Any]
STEP = 1 if IS_LONG else 48  # of the calls that fail: all, or one of 48 in a sample


class Scenario(NamedTuple):
    """What is there before, and the calls that are made one after the other by one service.

    What an operation adds to the journals doesn't depend on the ones before it, if it is allowed.
    """

    name: str
    prepare: Callable[[Path], None]
    operations: list[Operation]
    hint_bytes: int = journal.index.hint.MIN_BYTES


def rows(first: int, length: int) -> Iterator[dict[str, Any]]:
    """Rows of a good hundred bytes: a few of them are more than is held back before a write."""
    return ({"row_number": n, "data": {"n": "x" * 20}} for n in range(first, first + length))


def batch(service: JobService) -> None:
    with service.batch(JOB):
        service.create_rows(JOB, rows(20, 9))  # first: the last open row ends the job
        for number in range(4, 10):
            service.complete_row(f"{JOB}:{number}", f"T-{number}", cost_cents=number)
        service.skip_row(f"{JOB}:20")


def batch_that_goes_on(service: JobService) -> None:
    """Only writes can fail in the part, and what they were to write is in the commit."""
    with service.batch(JOB):
        service.create_rows(JOB, rows(50, 2))
        with suppress(StorageError):
            service.create_rows(JOB, rows(60, 9))
        service.skip_row(f"{JOB}:50")


def paused(root: Path) -> None:
    ended(root)
    with JobService(root) as service:
        service.pause_job(JOB)


def batch_with_a_discarded_part(service: JobService) -> None:
    with service.batch(JOB):
        service.create_rows(JOB, rows(30, 2))
        with suppress(KeyError), service.batch(JOB):
            service.create_rows(JOB, rows(40, 9))
            raise KeyError
        service.skip_row(f"{JOB}:31")


def batch_that_goes_on_for_life(service: JobService) -> None:
    with service.batch(JOB):
        service.redo_row(f"{JOB}:1", new_key=True)
        service.retry_failed_rows(JOB)
        with suppress(KeyError), service.batch(JOB):
            service.update_row_data(f"{JOB}:4", {"pad": "y" * 400})
            service.redo_row(f"{JOB}:2")
            raise KeyError
        service.update_row_data(f"{JOB}:5", {"n": "z" * 20})


def discarded_batch(service: JobService) -> None:
    with suppress(KeyError), service.batch(JOB):
        service.skip_row(f"{JOB}:4")
        service.create_rows(JOB, rows(20, 9))
        raise KeyError


def list_jobs_and_errors(service: JobService) -> Any:
    errors: list[JournalError] = []
    jobs = service.list_jobs(on_error=errors.append)
    if errors:
        raise errors.pop()  # not kept in here, or it would keep itself alive
    return jobs


def read_by_another(service: JobService) -> Any:
    """What a service says that is opened for this alone, and closed again."""
    with JobService(service.root, lock_timeout_s=0) as other:
        return other.get_job_summary(JOB), other.get_pending_rows(JOB)[0]


def in_flight(root: Path) -> None:
    """A run has died with two rows in processing."""
    some_rows(root)
    with JobService(root) as service:
        service.start_row(f"{JOB}:4")
        service.start_row(f"{JOB}:5")
        service.fail_row(f"{JOB}:9", "E", "no such address")


def batch_of_steps(service: JobService) -> None:
    with service.batch(JOB):
        service.record_step(f"{JOB}:1", "label", "L-1" * 50)
        with suppress(KeyError), service.batch(JOB):
            service.redo_row(f"{JOB}:2")
            service.record_step(f"{JOB}:2", "label", "L-2" * 50)
            raise KeyError
        service.record_step(f"{JOB}:3", "label", "L-3")


SCENARIOS = [
    Scenario(
        "create job",
        nothing,
        [
            lambda service: service.create_job("Proven", job_id=JOB),
            lambda service: service.create_job("Other", job_id="other", row_data=rows(1, 9)),
            lambda service: service.skip_row("other:9"),
        ],
    ),
    Scenario(
        "streamed create_rows",
        some_rows,
        [
            lambda service: service.create_rows(JOB, rows(20, 9)),
            lambda service: service.skip_row(f"{JOB}:4"),
            lambda service: service.complete_row(f"{JOB}:22"),
        ],
    ),
    Scenario(
        "single commits",
        in_flight,
        [
            lambda service: service.retry_failed_rows(JOB),
            lambda service: service.complete_row(f"{JOB}:4", "T-4", cost_cents=4),
            lambda service: service.start_row(f"{JOB}:7"),
            lambda service: service.fail_row(f"{JOB}:7", "E", "no such address" * 20),
            lambda service: service.get_row(f"{JOB}:5"),
            lambda service: service.set_error(JOB, "E", "message"),
            lambda service: service.update_counts(JOB, total=20),
        ],
    ),
    Scenario(
        "batch",
        some_rows,
        [
            batch,
            batch_with_a_discarded_part,
            batch_that_goes_on,
            lambda service: service.retry_row(f"{JOB}:31"),
        ],
    ),
    Scenario(
        "discarded batch",
        some_rows,
        [discarded_batch, lambda service: service.skip_row(f"{JOB}:4")],
    ),
    Scenario(
        "delete",
        some_rows,
        [
            lambda service: service.update_status(JOB, "paused"),
            lambda service: service.delete_job(JOB),
            lambda service: service.create_job("Again", job_id=JOB),
            lambda service: service.delete_job("missing"),
        ],
    ),
    Scenario(
        "torn-tail recovery",
        torn,
        [
            lambda service: list(service.get_rows(JOB)),
            lambda service: service.skip_row(f"{JOB}:4"),
            lambda service: service.skip_row(f"{JOB}:5"),
        ],
    ),
    Scenario(
        "runs",
        in_flight,
        [
            lambda service: service.start_job(JOB),
            lambda service: service.run_holder(JOB) is None,  # its name may not be legible
            lambda service: service.start_row(f"{JOB}:6"),
            lambda service: service.update_status(JOB, "paused"),
            lambda service: service.update_status(JOB, "running"),
            lambda service: service.update_status(JOB, "failed"),
        ],
    ),
    Scenario(
        "recovery of a run",
        in_flight,
        [
            lambda service: service.recover_job(JOB, "fail"),
            lambda service: service.run_holder(JOB) is None,  # its name may not be legible
            lambda service: service.delete_job(JOB),
        ],
    ),
    Scenario(
        "reopening",
        ended,
        [
            lambda service: service.reopen_job(JOB, "the far side is up again"),
            lambda service: service.run_holder(JOB) is None,
            lambda service: service.update_row_data(f"{JOB}:5", {"n": 5, "pad": "y" * 400}),
            lambda service: service.update_row_data(f"{JOB}:8", {"n": 8}, new_key=True),
            lambda service: service.start_job(JOB, version="v2"),
            lambda service: service.complete_row(f"{JOB}:9"),
        ],
    ),
    Scenario("pausing", in_flight, [lambda service: service.pause_job(JOB)]),
    Scenario("resuming", paused, [lambda service: service.resume_job(JOB)]),
    Scenario("retrying a row", ended, [lambda service: service.retry_row(f"{JOB}:4")]),
    Scenario("retrying rows", ended, [lambda service: service.retry_failed_rows(JOB)]),
    Scenario(
        "redoing",
        ended,
        [lambda service: service.redo_row(f"{JOB}:1", "a wrong label" * 30, new_key=True)],
    ),
    Scenario("a batch of all of them", ended, [batch_that_goes_on_for_life]),
    Scenario(
        "steps",
        in_flight,
        [
            lambda service: service.begin_step(f"{JOB}:4", 1, "charge"),
            lambda service: service.end_step(f"{JOB}:4", 1, "charge", {"id": "ch" * 100}),
            lambda service: service.begin_step(f"{JOB}:4", 1, "mail"),
            lambda service: service.get_steps(f"{JOB}:4"),
            lambda service: service.record_step(f"{JOB}:5", "label", "L-5"),
            batch_of_steps,
            lambda service: service.redo_row(f"{JOB}:1"),
        ],
    ),
    Scenario(
        "reading",
        torn,
        [
            lambda service: list(service.get_rows(JOB)),
            lambda service: service.get_rows(JOB, "completed")[-1],
            lambda service: service.get_row(f"{JOB}:9"),
            lambda service: service.list_jobs("running"),
            list_jobs_and_errors,
            lambda service: service.run_holder(JOB),
            lambda service: service.get_job_summary(JOB),
            lambda service: verify_job(service.root / JOB),
            lambda service: service.artifacts_dir(JOB),
        ],
    ),
    Scenario(
        "hints",
        some_rows,
        [
            read_by_another,
            lambda service: service.fail_row(f"{JOB}:4", "E", "no such address" * 100),
            read_by_another,
        ],
        hint_bytes=1,
    ),
]


def rehearse(
    scenario: Scenario, root: Path, system: FaultySystem
) -> tuple[list[Change], Counter[str]]:
    """What each operation adds while nothing fails, and how often the operations call what."""
    changes: list[Change] = []
    before = commits_in(root)
    with JobService(root, lock_timeout_s=0) as service:
        for operation in scenario.operations:
            operation(service)
            after = commits_in(root)
            changes.append(change_between(before, after))
            before = after
        return changes, system.calls.copy()


def put_through(
    scenario: Scenario, root: Path, changes: list[Change], system: FaultySystem
) -> None:
    """Go through the scenario on a faulty system, heal it, and judge what is there."""
    # Kept, as programs do that collect their errors: nothing may hang on their being let go.
    errors: list[Exception] = []
    torn = torn_tails_in(root)
    system.ledger.doubt_all(root)
    with JobService(root, lock_timeout_s=0) as service:
        for number, operation in enumerate(scenario.operations):
            with naming(f"operation {number}"):
                expected = changes[number]
                perform(operation, service, expected, errors, system)
                if not system.refused & {"ftruncate", "fdatasync"}:
                    assert torn_tails_in(root) <= torn, "not taken back"
        system.heal()
        with naming("after it"):
            check_right(service)
            check_works(service, system)
            assert torn <= {file.read_bytes() for file in root.glob("*/journal.torn-*")}
        del operation
    with naming("when closed"):
        assert not locked_below(root)
    errors.clear()


@contextmanager
def naming(what: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        first_line = str(error).partition("\n")[0]
        raise AssertionError(f"{what}: {first_line}") from None


def perform(
    operation: Operation,
    service: JobService,
    expected: Change,
    errors: list[Exception],
    system: FaultySystem,
) -> None:
    """Let one operation happen and check that what it says of itself is true."""
    before = commits_in(service.root)
    unknown = False
    try:
        answer = operation(service)
    except CommitOutcomeUnknownError as error:
        errors.append(error)
        unknown = True
    except StorageError as error:
        errors.append(error)
        expected = {}
    except CONSEQUENCES as error:
        if not errors:
            raise AssertionError(f"nothing before explains it: {error!r}") from error
        errors.append(error)
        expected = {}
    except Exception as error:
        raise AssertionError(f"not a named error, or one that isn't so: {error!r}") from error
    else:
        if expected:
            system.ledger.check_kept(service.root, set(expected))
        elif answer is not None:  # it has read
            with system.suspended(), JobService(service.root) as fresh:
                assert answer == operation(fresh), "not what a fresh service says"
    change = change_between(before, commits_in(service.root))
    assert change == expected or (unknown and not change), (
        f"{'unknown' if unknown else errors[-1:] or 'acknowledged'}, "
        f"expected {list(expected)}, found {list(change)}"
    )


def answers(service: JobService) -> list[tuple[Job, Any]]:
    jobs = service.list_jobs(limit=None)
    return [
        (job, (service.get_job_summary(job.id), rows, list(pending), steps))
        for job in jobs
        for rows in [list(service.get_rows(job.id))]
        for steps in [[service.get_steps(row.id) for row in rows[:9]]]
        for pending in [service.get_pending_rows(job.id)]
    ]


def check_right(service: JobService) -> None:
    """The service says what is in the files, and holds no lock but of the jobs that it runs."""
    with JobService(service.root) as fresh:
        right = answers(fresh)
    assert answers(service) == right, "the service is wrong"
    assert {job.id for job, _ in right} == commits_in(service.root).keys()
    running = {job.id for job, _ in right if job.status is JobStatus.RUNNING}
    assert set(locked_below(service.root)) <= running, "a lock is left"


def check_works(service: JobService, system: FaultySystem) -> None:
    """The service makes a job and a commit to each one, and all is whole afterwards."""
    before = commits_in(service.root)
    service.create_job("After", job_id="after")
    for job_id in before:
        service.set_error(job_id, "E", "after")
    change = change_between(before, commits_in(service.root))
    assert change.keys() == {*before, "after"}
    system.ledger.check_kept(service.root, set(change))
    check_right(service)
    for job_id in change:
        assert not verify_job(service.root / job_id).findings
    assert staging_of(service.root) == []


def faults_of(
    kind: Kind, mode: Mode, first: int, able: int, run: Callable[[FaultySystem], None]
) -> tuple[int, list[str]]:
    """Fail call after call until none is left to fail; how many failed, and what was wrong.

    In a sample, one of 48 calls fails, beginning with the ``first`` (1 to 48). It ends after the
    ``able`` calls of a run in which nothing fails.
    """
    problems: list[str] = []
    faults = 0
    for nth in count(first, STEP) if IS_LONG else range(first, able + 1, STEP):
        system = FaultySystem(kind, mode, nth)
        try:
            run(system)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what was wrong)
            text = (
                str(error).partition("\n")[0] if isinstance(error, AssertionError) else repr(error)
            )
            problems.append(f"{kind.name}, {mode}, call {nth} ({system.failed}): {text}")
            gc.collect()  # what this run has left over is not the next one's
        if not system.failed:
            break
        faults += 1
    return faults, problems


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_whatever_call_fails_the_outcome_is_named_and_the_journal_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Scenario,
    count: Callable[[str, int], None],
) -> None:
    gc.collect()  # what other tests left open must not close while descriptors are counted
    template, root = tmp_path / "template", tmp_path / "store"
    scenario.prepare(template)
    monkeypatch.setattr(journal.store.journal, "SPILL_BYTES", 300)
    monkeypatch.setattr(journal.index.hint, "GROWTH_BYTES", scenario.hint_bytes)
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", scenario.hint_bytes)
    unraisable: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(repr(args.exc_value)))

    def fresh_root() -> Path:
        shutil.rmtree(root, ignore_errors=True)
        if template.exists():
            shutil.copytree(template, root)
        return root

    def run(system: FaultySystem) -> None:
        fresh_root()
        unraisable.clear()
        before = len(os.listdir("/dev/fd"))
        with monkeypatch.context() as patch:
            system.install(patch)
            put_through(scenario, root, changes, system)
        assert len(os.listdir("/dev/fd")) == before, "a descriptor is left"
        assert not unraisable, f"raised into nowhere: {unraisable}"

    for _ in range(2):  # the first one also reads what a process reads once, as of its devices
        healthy = FaultySystem()
        fresh_root()
        with monkeypatch.context() as patch:
            healthy.install(patch)
            changes, calls = rehearse(scenario, root, healthy)
    faults, problems = 0, []
    modes = [(kind, mode) for kind in KINDS for mode in kind.modes]
    (start,) = sample(range(STEP), 1)
    if not IS_LONG:  # half of the modes; other scenarios have others
        modes = modes[start % 2 :: 2]
    for number, (kind, mode) in enumerate(modes):
        able = sum(calls[name] for name in kind.calls)
        first = 1 + (start + number) % min(STEP, able or 1)
        more, wrong = faults_of(kind, mode, first, able, run)
        assert bool(more) == bool(able), f"{kind.name}, {mode}: {more} of {able} calls failed"
        faults += more
        problems += wrong
    count("faults", faults)
    assert not problems, f"{len(problems)} of {faults} faults:\n" + "\n".join(problems[:40])
    assert faults > calls.total() / STEP, "each call failed in each mode, and in more than one way"
