"""A job for life: reopened, its rows retried, redone and given other data, one behaviour a test."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import give_back, try_again
from support.children import journal_path

import journal.index.hint
from journal import (
    InvalidStateTransition,
    InvalidValueError,
    Job,
    JobBusyError,
    JobRow,
    JobService,
    JobStatus,
    RowNotFoundError,
    RowStatus,
)
from journal.format.records import RunRecord
from journal.history.history import Entry
from journal.store.interrupted_rows import start_run
from journal.store.row_reader import find_rows

JOB = "ship"
ENDS = [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED]


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    """With a job of five rows: one of each status but processing and needs_review."""
    with JobService(tmp_path / "jobs", sync="none") as service:
        rows = [{"data": {"order": f"A-{number}"}} for number in range(1, 6)]
        service.create_job("Ship", job_id=JOB, row_data=rows)
        service.start_job(JOB)
        for number in (1, 2, 4):
            service.start_row(f"{JOB}:{number}")
        service.complete_row(f"{JOB}:1", "T-1", cost_cents=5)
        service.fail_row(f"{JOB}:2", "timeout", "no answer")
        service.skip_row(f"{JOB}:3", "a duplicate")
        service.fail_row(f"{JOB}:4", "interrupted", "nobody knows", unknown=True)
        yield service


def row(service: JobService, number: int) -> JobRow:
    found = service.get_row(f"{JOB}:{number}")
    assert found is not None
    return found


def found_pending(service: JobService, number: int) -> Any:
    """The row as it is found without its data."""
    found = find_rows(service.store, JOB, RowStatus.PENDING)
    return next(one for one in found if one.row_number == number)


def job(service: JobService) -> Job:
    found = service.get_job(JOB)
    assert found is not None
    return found


def end(service: JobService, status: JobStatus = JobStatus.FAILED) -> None:
    service.update_status(JOB, status)


def content(service: JobService) -> bytes:
    return journal_path(service.root, JOB).read_bytes()


def records(service: JobService, since: int = 0) -> list[Entry]:
    return list(service.get_history(JOB))[since:]


def commits_of(service: JobService, call: Callable[[], Any]) -> tuple[int, list[str]]:
    """How many commits the call makes, and the types of their records."""
    before = len(records(service))
    call()
    new = records(service, before)
    return sum(entry.ends for entry in new), [
        str(entry.record.__struct_config__.tag) for entry in new
    ]


# --- reopening


PUTS_BACK: dict[str, Callable[[JobService], object]] = {
    "retry_row": lambda service: service.retry_row(f"{JOB}:2"),
    "retry_failed_rows": lambda service: service.retry_failed_rows(JOB),
    "redo_row": lambda service: service.redo_row(f"{JOB}:1"),
}
REOPENS = PUTS_BACK | {"reopen_job": lambda service: service.reopen_job(JOB)}


@pytest.mark.parametrize("call", REOPENS.values(), ids=REOPENS)
def test_nothing_reopens_a_job_while_a_run_works_on_it(
    service: JobService, call: Callable[[JobService], object]
) -> None:
    """One whose last rows are in flight, though the job has ended."""
    service.update_status(JOB, "paused")
    start_run(service.store, JOB, keep=True)
    end(service)
    before = content(service)
    with JobService(service.root, sync="none") as other:
        for one in (service, other):
            with pytest.raises(JobBusyError):
                call(one)
        assert content(service) == before
        service.store.release_run(JOB)
        call(other)
        assert job(other).passes == 2
        other.start_job(JOB)  # it holds no lock that is in the way


# --- retrying


@pytest.mark.parametrize("status", [*ENDS, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.PENDING])
def test_failed_rows_are_retried_unless_cancelled(service: JobService, status: JobStatus) -> None:
    if status is JobStatus.PENDING:
        end(service)
        service.reopen_job(JOB)
    elif status is not JobStatus.RUNNING:
        service.update_status(JOB, status)
    passes, before = job(service).passes, content(service)
    if status is JobStatus.CANCELLED:
        for call in PUTS_BACK.values():
            with pytest.raises(InvalidStateTransition, match="back to pending; reopen it first"):
                call(service)
        assert content(service) == before
        return
    assert service.retry_failed_rows(JOB) == 1
    assert row(service, 2).status is RowStatus.PENDING
    if status in ENDS:
        assert (job(service).status, job(service).passes) == (JobStatus.PENDING, passes + 1)
    else:
        assert (job(service).status, job(service).passes) == (status, passes)


@pytest.mark.parametrize("call", PUTS_BACK.values(), ids=PUTS_BACK)
def test_an_ended_job_is_reopened_by_the_commit_that_puts_a_row_back(
    service: JobService, call: Callable[[JobService], object]
) -> None:
    end(service)
    assert commits_of(service, lambda: call(service)) == (1, ["job_reopened", "row_status"])
    assert job(service).status is JobStatus.PENDING


def test_a_retried_row_counts_its_attempts_anew_and_keeps_the_total(service: JobService) -> None:
    retried = service.retry_row(f"{JOB}:2")
    assert (retried.attempts, retried.earlier_attempts) == (1, 1)
    started = service.start_row(f"{JOB}:2")
    assert (started.attempts, started.earlier_attempts) == (2, 1)
    again = try_again(service, f"{JOB}:2", "timeout", "no answer")
    assert (again.attempts, again.earlier_attempts) == (2, 1), "the next attempt of the same"
    assert again == row(service, 2) == service.get_rows(JOB)[1]
    found = found_pending(service, 2)
    assert (found.attempts, found.is_fresh) == (1, False)


def test_a_row_whose_attempt_is_given_back_has_the_error_again_that_it_had_before(
    service: JobService,
) -> None:
    row_id = f"{JOB}:5"
    service.start_row(row_id)
    try_again(service, row_id, "timeout", "no answer", traceback="here")
    for reason in ("not now", "nor now"):
        service.start_row(row_id)
        with suppress(KeyError), service.batch(JOB):  # what is taken back changes nothing
            service.fail_row(row_id, "E", "m")
            service.retry_row(row_id)
            service.start_row(row_id)
            raise KeyError
        given_back = give_back(service, row_id, reason)
        assert given_back == row(service, 5) == service.get_rows(JOB)[4]
        error = given_back.error_code, given_back.error_message, given_back.traceback
        assert (given_back.reason, *error) == (reason, "timeout", "no answer", "here")
    found = found_pending(service, 5)
    assert (given_back.attempts, given_back.earlier_attempts, found.attempts) == (3, 2, 1)
    service.retry_row(f"{JOB}:2")
    service.start_row(f"{JOB}:2")
    assert give_back(service, f"{JOB}:2").error_code is None, "a person retried it"
    outcomes = [attempt.outcome for attempt in service.get_row_history(row_id).attempts]
    assert outcomes == ["repeated", "given_back", "given_back"]
    assert service.get_row_history(row_id).attempts[2].error_code is None, "not its own"


# --- redoing


def test_what_is_pending_or_in_flight_is_not_redone(service: JobService) -> None:
    service.start_row(f"{JOB}:5")
    with pytest.raises(
        InvalidStateTransition, match="can't be redone; only a row that has ended"
    ) as refused:
        service.redo_row(f"{JOB}:5")
    assert "pending" not in refused.value.allowed_transitions
    assert row(service, 5).status is RowStatus.PROCESSING
    give_back(service, f"{JOB}:5")
    with pytest.raises(InvalidStateTransition, match="is 'pending', so it can't be redone"):
        service.redo_row(f"{JOB}:5")


def test_a_row_in_review_is_settled_before_it_is_redone(service: JobService) -> None:
    service.start_row(f"{JOB}:5")
    service.review_row(f"{JOB}:5", "E", "m")
    with pytest.raises(InvalidStateTransition, match="find out whether it took effect"):
        service.redo_row(f"{JOB}:5")
    assert row(service, 5).status is RowStatus.NEEDS_REVIEW


def test_what_a_job_that_has_ended_refuses_is_said_in_plain_words(service: JobService) -> None:
    end(service, JobStatus.CANCELLED)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: service.create_rows(JOB, [{}]), f"job {JOB} is 'cancelled', so it takes no more"),
        (lambda: service.start_row(f"{JOB}:5"), "'cancelled', so row 5 can't be started"),
        (lambda: service.redo_row(f"{JOB}:1"), "'cancelled', so row 1 can't be set back"),
    ]
    for call, said in calls:
        with pytest.raises(InvalidStateTransition, match=said) as refused:
            call()
        states = (refused.value.current_state, refused.value.attempted_state)
        assert states == ("cancelled", "running")
        assert str(pickle.loads(pickle.dumps(refused.value))) == str(refused.value)
    service.reopen_job(JOB)
    with pytest.raises(InvalidStateTransition, match="is 'pending', so it can't be reopened"):
        service.reopen_job(JOB)


# --- other data


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_row_that_is_not_done_takes_other_data_and_keeps_all_else(
    service: JobService, number: int
) -> None:
    before = row(service, number)
    changed = service.update_row_data(f"{JOB}:{number}", {"order": "B-1", "n": [1, None]})
    assert changed == row(service, number) == service.get_rows(JOB)[number - 1]
    assert changed == msgspec.structs.replace(before, data={"order": "B-1", "n": [1, None]})


def test_the_data_of_a_row_that_is_done_or_in_flight_stays(service: JobService) -> None:
    service.start_row(f"{JOB}:5")
    before = content(service)
    for number, why in ((1, "redo_row"), (5, "in flight")):
        with pytest.raises(InvalidStateTransition, match=why):
            service.update_row_data(f"{JOB}:{number}", {})
    with pytest.raises(RowNotFoundError):
        service.update_row_data(f"{JOB}:9", {})
    wrong: list[Any] = [[], None, {"a": 1j}, {"a": "\ud800"}]
    for data in wrong:
        with pytest.raises(InvalidValueError):
            service.update_row_data(f"{JOB}:2", data)
    assert content(service) == before


# --- batches around all of that


def test_what_a_discarded_batch_did_to_passes_rows_and_data_is_undone(service: JobService) -> None:
    end(service)

    def everything() -> Any:
        view = service.get_rows(JOB)
        return (
            job(service),
            list(view),
            service.get_job_summary(JOB),
            find_rows(service.store, JOB, RowStatus.FAILED),
        )

    before, bytes_before = everything(), content(service)
    with suppress(KeyError), service.batch(JOB):
        service.redo_row(f"{JOB}:1", new_key=True)
        with suppress(ZeroDivisionError), service.batch(JOB):
            service.retry_row(f"{JOB}:2")
            service.update_row_data(f"{JOB}:2", {"order": "B-2"})
            service.start_row(f"{JOB}:2")
            raise ZeroDivisionError
        assert (row(service, 2), row(service, 1).earlier_attempts) == (before[1][1], 1)
        service.retry_failed_rows(JOB)
        service.update_row_data(f"{JOB}:3", {"order": "B-3"})
        service.start_row(f"{JOB}:2")
        service.retry_row(f"{JOB}:2")
        assert row(service, 2).earlier_attempts == 2
        assert job(service).passes == 2
        raise KeyError
    assert everything() == before
    assert content(service) == bytes_before
    with JobService(service.root, sync="none") as other:
        assert list(other.get_rows(JOB)) == before[1]


# --- ends


def test_a_reopened_job_ends_with_the_last_open_row_that_is_settled(service: JobService) -> None:
    service.skip_row(f"{JOB}:5")
    end(service)
    service.retry_row(f"{JOB}:2")
    service.skip_row(f"{JOB}:2")
    assert job(service).status is JobStatus.FAILED, "row 4 has failed"
    service.retry_failed_rows(JOB)
    service.skip_row(f"{JOB}:4")
    assert job(service).status is JobStatus.COMPLETED


@pytest.mark.parametrize("left", ["pending", "processing", "failed", "needs_review"])
def test_a_failed_job_stays_so_while_a_row_is_not_settled(service: JobService, left: str) -> None:
    if left != "pending":
        service.start_row(f"{JOB}:5")
    if left == "failed":
        service.fail_row(f"{JOB}:5", "E", "m")
    elif left == "needs_review":
        service.review_row(f"{JOB}:5", "E", "m")
    end(service)
    service.skip_row(f"{JOB}:2")
    service.skip_row(f"{JOB}:4")
    assert job(service).status is JobStatus.FAILED


@pytest.mark.parametrize("how", ["paused", "interrupted"])
def test_a_job_whose_run_has_ended_early_ends_with_the_last_open_row_that_is_settled(
    service: JobService, how: str
) -> None:
    if how == "paused":
        service.update_status(JOB, how)
    else:
        service.store.release_run(JOB)  # as the system does when the run dies
    service.skip_row(f"{JOB}:5")
    assert job(service).status is JobStatus.FAILED
    service.skip_row(f"{JOB}:2")
    service.skip_row(f"{JOB}:4")
    assert job(service).status is JobStatus.COMPLETED


@pytest.mark.parametrize("status", [JobStatus.CANCELLED, JobStatus.RUNNING])
def test_no_other_job_is_ended_by_its_rows(service: JobService, status: JobStatus) -> None:
    if status is not JobStatus.RUNNING:
        service.update_status(JOB, status)
    for number in (2, 4, 5):
        service.skip_row(f"{JOB}:{number}")
    assert job(service).status is status


def test_a_run_that_goes_on_leaves_a_job_failed_that_a_person_has_failed_meanwhile(
    service: JobService,
) -> None:
    for number in (2, 4):
        service.skip_row(f"{JOB}:{number}")
    service.start_row(f"{JOB}:5")
    end(service)
    service.complete_row(f"{JOB}:5")
    assert job(service).status is JobStatus.FAILED


# --- versions


@pytest.mark.parametrize("policy", ["review", "fail", "retry"])
def test_an_outcome_has_the_version_of_its_attempt_whoever_records_it(
    service: JobService, policy: Any
) -> None:
    service.update_status(JOB, "paused")
    start_run(service.store, JOB, version="prompt-3", keep=True)
    service.start_row(f"{JOB}:5")
    service.store.release_run(JOB)
    with JobService(service.root, sync="none") as other:
        other.start_job(JOB, policy, version="prompt-4")
    assert row(service, 5).version == "prompt-3"


def test_a_version_outlasts_a_hint_and_not_a_pass(
    service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 0)
    service.update_status(JOB, "paused")
    with JobService(service.root) as synced:  # not all systems trust a hint of unsynced commits
        synced.start_job(JOB, version="prompt-3")
        synced.start_row(f"{JOB}:5")
    hint = (service.root / JOB / "index.hint").read_bytes()
    assert b'"version":"prompt-3","has_versions":true' in hint
    with JobService(service.root, sync="none") as other:
        assert other.fail_row(f"{JOB}:5", "E", "m").version == "prompt-3"
        assert other.start_row(f"{JOB}:2").version == "prompt-3"
        end(other)
        other.reopen_job(JOB)
        assert other.start_row(f"{JOB}:4").version is None, "no run of this pass has begun"


def test_an_outcome_has_the_version_of_the_run_that_it_was_reached_in(service: JobService) -> None:
    service.update_status(JOB, "paused")
    service.start_job(JOB, version="prompt-3")
    service.start_row(f"{JOB}:5")
    assert service.complete_row(f"{JOB}:5").version == "prompt-3"
    service.start_row(f"{JOB}:2")
    assert service.fail_row(f"{JOB}:2", "E", "m").version == "prompt-3"
    assert service.skip_row(f"{JOB}:2").version is None, "settled by hand"
    assert service.redo_row(f"{JOB}:5").version is None
    runs = [each.record for each in records(service) if isinstance(each.record, RunRecord)]
    assert runs[-1].version == "prompt-3"
    service.update_status(JOB, "paused")
    service.start_job(JOB)
    service.start_row(f"{JOB}:5")
    assert service.complete_row(f"{JOB}:5").version is None


# --- the whole story


def test_a_row_goes_through_pickle_and_msgspec_with_all_that_it_is(service: JobService) -> None:
    service.redo_row(f"{JOB}:1", "again", new_key=True)
    one = row(service, 1)
    assert one.earlier_attempts == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert msgspec.json.decode(msgspec.json.encode(one), type=JobRow) == one
    assert pickle.loads(pickle.dumps(job(service))) == job(service)
