"""Steps of rows in the service: what is recorded, what is in doubt, and what a policy makes of it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.attempts import give_back, start, try_again

import journal
import journal.index.hint
from journal import (
    InvalidStateTransition,
    InvalidValueError,
    JobService,
    RowStatus,
    RowStep,
    StepInDoubtError,
    StepRepeatedError,
)
from journal.store.steps import get_step_in_doubt

JOB = "steps"
ROW = f"{JOB}:1"


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[JobService]:
    with JobService(tmp_path) as service:
        service.create_job("Steps", job_id=JOB, row_data=[{"data": {"n": n}} for n in range(3)])
        service.start_job(JOB, "resume")
        start(service, ROW)
        yield service


def states(service: JobService, row_id: str = ROW) -> dict[str, str]:
    return {step.name: step.state for step in service.get_steps(row_id)}


def anew(service: JobService) -> JobService:
    """Another service, which reads the journal as a new process does."""
    return JobService(service.root)


@pytest.mark.parametrize("idempotent", [False, True])
def test_an_attempt_that_begins_a_step_again_which_it_has_done_is_refused_and_needs_a_review(
    service: JobService, *, idempotent: bool
) -> None:
    service.begin_step(ROW, 1, "mail")
    service.end_step(ROW, 1, "mail", "sent")
    with pytest.raises(InvalidValueError, match="name: is the name of a step that this attempt"):
        service.begin_step(ROW, 1, "mail", idempotent=idempotent)
    (step,) = service.get_steps(ROW)
    assert (step.state, step.result) == ("done", "sent")
    second = get_step_in_doubt(service.store, ROW)
    assert second is not None
    assert (second.name, second.state, second.error_code) == ("mail", "failed", "StepNameReused")
    assert after(service, "resume", ROW)[0][0] is RowStatus.NEEDS_REVIEW
    with JobService(service.root) as other:
        other.retry_row(ROW)
        other.start_row(ROW)
        assert get_step_in_doubt(other.store, ROW) is None
        assert other.begin_step(ROW, 2, "mail") == step


def test_a_step_that_failed_before_it_was_done_leaves_no_question(service: JobService) -> None:
    service.begin_step(ROW, 1, "mail")
    service.end_step(ROW, 1, "mail", error=("StepNameReused", "of the caller's own class"))
    service.begin_step(ROW, 1, "mail")
    service.end_step(ROW, 1, "mail", "sent")
    assert get_step_in_doubt(service.store, ROW) is None


def test_a_step_without_a_recorded_end_is_in_doubt_and_begins_only_if_it_may_repeat(
    service: JobService,
) -> None:
    service.begin_step(ROW, 1, "charge")
    with pytest.raises(StepInDoubtError, match="journal resolve steps --row 1 --step charge"):
        service.begin_step(ROW, 1, "charge")
    assert service.begin_step(ROW, 1, "charge", idempotent=True) is None
    assert states(service) == {"charge": "started"}


@pytest.mark.parametrize("settle", ["retry", "complete", "review", "again"])
def test_a_step_begins_only_in_the_attempt_in_progress(service: JobService, settle: str) -> None:
    if settle == "complete":
        service.complete_row(ROW)
    elif settle == "review":
        service.review_row(ROW, "X", "lost")
    else:
        service.retry_row(ROW)
        if settle == "again":
            service.start_row(ROW)
    with pytest.raises(InvalidStateTransition, match="attempt 1 has ended and can't begin"):
        service.begin_step(ROW, 1, "charge")
    assert states(service) == {}


def test_a_result_that_comes_late_is_recorded_and_an_error_that_comes_late_is_not(
    service: JobService,
) -> None:
    for name in ("charge", "mail"):
        service.begin_step(ROW, 1, name)
    service.review_row(ROW, "X", "lost")
    service.fail_step(ROW, "mail")
    service.retry_row(ROW)
    service.start_row(ROW)
    service.begin_step(ROW, 2, "mail")
    service.end_step(ROW, 1, "charge", "late")
    service.end_step(ROW, 1, "mail", error=("E", "late"))
    assert states(service) == {"charge": "done", "mail": "started"}


def test_no_step_begins_in_a_batch_which_would_record_it_too_late(service: JobService) -> None:
    with service.batch(JOB), pytest.raises(InvalidValueError, match="end it before a step begins"):
        service.begin_step(ROW, 1, "charge")
    assert states(service) == {}


def test_steps_in_a_batch_that_is_discarded_are_not_there(service: JobService) -> None:
    service.record_step(ROW, "kept", 0)
    with suppress(KeyError), service.batch(JOB):
        service.record_step(ROW, "charge", 1)
        service.record_step(f"{JOB}:2", "charge", 1)
        assert states(service) == {"kept": "done", "charge": "done"}
        raise KeyError
    assert states(service) == {"kept": "done"}
    assert states(service, f"{JOB}:2") == {}
    service.record_step(ROW, "after", 1)
    assert states(service) == {"kept": "done", "after": "done"}


@pytest.mark.parametrize("value", [1j, float("nan"), {1: 2, "1": 3}, "\ud800"])
def test_a_result_that_json_cant_hold_is_refused_and_the_step_stays_in_doubt(
    service: JobService, value: object
) -> None:
    service.begin_step(ROW, 1, "charge")
    with pytest.raises(InvalidValueError):
        service.end_step(ROW, 1, "charge", value)
    assert states(service) == {"charge": "started"}


def test_a_redo_forgets_the_steps_of_a_row_and_a_retry_keeps_them(service: JobService) -> None:
    service.record_step(ROW, "charge", 1)
    service.fail_row(ROW, "E", "e")
    service.retry_row(ROW)
    assert states(service) == {"charge": "done"}
    service.start_row(ROW)
    service.complete_row(ROW)
    with suppress(KeyError), service.batch(JOB):
        service.redo_row(ROW)
        assert states(service) == {}
        raise KeyError
    assert states(service) == {"charge": "done"}
    service.redo_row(ROW)
    assert states(service) == {}
    with anew(service) as other:
        assert states(other) == {}
        other.record_step(ROW, "charge", 2)
        assert other.get_steps(ROW)[0].result == 2


def test_a_retry_and_a_redo_from_a_step_drop_it_with_the_later_ones(service: JobService) -> None:
    for name in ("upload", "submit", "fetch"):
        service.begin_step(ROW, 1, name)
        service.end_step(ROW, 1, name, f"{name} 1")
    service.fail_row(ROW, "Expired", "e")
    with pytest.raises(InvalidValueError, match="its steps: 'upload', 'submit', 'fetch'"):
        service.retry_row(ROW, from_step="sumbit")
    assert service.retry_row(ROW, from_step="submit").status == "pending"
    assert states(service) == {"upload": "done"}
    service.start_row(ROW)
    service.end_step(ROW, 1, "fetch", "late")  # by a worker of the first attempt
    assert states(service) == {"upload": "done"}
    service.begin_step(ROW, 2, "submit")
    with pytest.raises(StepInDoubtError):
        service.retry_row(ROW, from_step="upload")
    service.end_step(ROW, 2, "submit", "submit 2")
    service.complete_row(ROW)
    assert service.redo_row(ROW, from_step="submit").earlier_attempts == 2
    with anew(service) as other:
        assert states(other) == {"upload": "done"}
        other.start_row(ROW)
        done = other.begin_step(ROW, 3, "upload")
        assert done is not None
        assert done.result == "upload 1"
        assert other.begin_step(ROW, 3, "submit") is None


# --- doubts that a person settles


def test_a_person_settles_a_doubt_by_the_result_or_as_not_done(service: JobService) -> None:
    for name in ("charge", "mail"):
        service.begin_step(ROW, 1, name)
    with pytest.raises(InvalidStateTransition, match="it is in flight"):
        service.fail_step(ROW, "charge")
    service.review_row(ROW, "X", "lost")
    service.record_step(ROW, "charge", "ch_1")
    service.fail_step(ROW, "mail", "not in the outbox")
    assert states(service) == {"charge": "done", "mail": "failed"}
    with pytest.raises(InvalidValueError, match="steps in doubt: none"):
        service.fail_step(ROW, "mail")


# --- policies


def die(service: JobService) -> None:
    """The run ends without a word: its lock is let go, and its rows stay in processing."""
    service.close()


def after(service: JobService, policy: str, *row_ids: str) -> list[tuple[RowStatus, str | None]]:
    """The rows once the next run has begun, with their messages."""
    die(service)
    with JobService(service.root) as other:
        other.start_job(JOB, policy)  # type: ignore[arg-type]
        rows = [other.get_row(row_id) for row_id in row_ids]
        return [(row.status, row.error_message) for row in rows if row is not None]


def test_resume_puts_back_rows_without_a_doubt_and_names_others_step(service: JobService) -> None:
    for number in (2, 3):
        start(service, f"{JOB}:{number}")
    service.begin_step(ROW, 1, "charge")
    service.end_step(ROW, 1, "charge", "ch_1")
    service.begin_step(f"{JOB}:2", 1, "charge")
    one, two, three = after(service, "resume", ROW, f"{JOB}:2", f"{JOB}:3")
    assert one[0] is three[0] is RowStatus.PENDING
    assert two[0] is RowStatus.NEEDS_REVIEW
    assert "step 'charge' of row steps:2 began in attempt 1" in str(two[1])
    with JobService(service.root) as other:
        other.start_row(ROW)
        done = other.begin_step(ROW, 2, "charge")
        assert isinstance(done, RowStep)
        assert done.result == "ch_1"


def test_a_plan_names_the_rows_that_resume_would_start(tmp_path: Path) -> None:
    rows = [{"n": n} for n in range(3)]
    with journal.open_job(tmp_path / JOB, rows=rows, on_interrupted="resume") as job:
        job.service.start_job(JOB, "resume")
        for n in (1, 2):
            start(job.service, f"{JOB}:{n}")
        job.service.begin_step(f"{JOB}:2", 1, "charge")
        assert str(job.plan()) == "retry: 1 (row 1), new: 1 (row 3), in flight: 1"


@pytest.mark.parametrize("earlier", ["review", "retry", "fail"])
def test_resume_does_not_believe_a_run_with_another_policy(tmp_path: Path, earlier: str) -> None:
    with JobService(tmp_path) as service:
        service.create_job("Steps", job_id=JOB, row_data=[{}, {}])
        service.start_job(JOB, "resume")
        service.update_status(JOB, "paused")
        service.start_job(JOB, earlier)  # type: ignore[arg-type]
        start(service, ROW)
        assert after(service, "resume", ROW)[0][0] is RowStatus.NEEDS_REVIEW


# --- from a hint


def test_steps_come_from_a_hint_as_from_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal.index.hint, "MIN_BYTES", 1)
    with JobService(tmp_path) as service:
        service.create_job("Steps", job_id=JOB, row_data=[{} for _ in range(5)])
        service.start_job(JOB, "resume")
        for n in (2, 4):
            service.start_row(f"{JOB}:{n}")
            service.begin_step(f"{JOB}:{n}", 1, "a")
            service.end_step(f"{JOB}:{n}", 1, "a", n)
            service.begin_step(f"{JOB}:{n}", 1, "b")
        expected = [service.get_steps(f"{JOB}:{n}") for n in range(1, 6)]
    header = (tmp_path / JOB / "index.hint").read_bytes().partition(b"\n")[0]
    assert b'"steps":6' in header
    assert b'"step_heads"' in header
    with JobService(tmp_path) as service:
        assert [service.get_steps(f"{JOB}:{n}") for n in range(1, 6)] == expected
        service.record_step(f"{JOB}:1", "c", 1)
        service.record_step(f"{JOB}:4", "b", 2)
        assert states(service, f"{JOB}:1") == {"c": "done"}
        assert states(service, f"{JOB}:4") == {"a": "done", "b": "done"}


# --- steps that were done twice


def test_a_step_that_two_attempts_have_done_is_named_and_both_results_are_recorded(
    service: JobService,
) -> None:
    service.begin_step(ROW, 1, "charge")
    service.review_row(ROW, "X", "lost")
    service.fail_step(ROW, "charge", "not at the bank")
    service.retry_row(ROW)
    service.start_row(ROW)
    service.begin_step(ROW, 2, "charge")
    service.end_step(ROW, 1, "charge", "ch_1")  # late: a person was wrong
    with pytest.raises(StepRepeatedError, match="by attempt 1 and again by attempt 2"):
        service.end_step(ROW, 2, "charge", "ch_2")
    assert service.get_steps(ROW)[0].result == "ch_1"
    (entry,) = service.get_logs(JOB, level="WARNING")
    assert entry.details == {"step": "charge", "attempt": 2, "result": "ch_2"}


def test_a_late_result_from_before_a_redo_is_kept_in_the_log_and_is_no_result_of_the_step(
    service: JobService,
) -> None:
    service.begin_step(ROW, 1, "charge")
    service.fail_row(ROW, "TimeoutError", "given up")
    service.redo_row(ROW)
    service.start_row(ROW)
    service.end_step(ROW, 1, "charge", "ch_1")
    assert states(service) == {}
    (entry,) = service.get_logs(JOB, level="WARNING")
    assert entry.details == {"step": "charge", "attempt": 1, "result": "ch_1"}


def test_a_late_result_of_an_attempt_that_was_given_back_is_the_result_of_its_step(
    service: JobService,
) -> None:
    service.begin_step(ROW, 1, "charge", idempotent=True)
    give_back(service, ROW)
    service.end_step(ROW, 1, "charge", "ch_1")
    service.start_row(ROW)
    done = service.begin_step(ROW, 2, "charge", idempotent=True)
    assert done is not None
    assert done.result == "ch_1"
    assert not list(service.get_logs(JOB, level="WARNING"))


def test_a_failure_is_recorded_unless_it_would_hide_a_doubt_of_an_earlier_attempt(
    service: JobService,
) -> None:
    for attempt in (1, 2):
        service.end_step(ROW, attempt, "put", error=("E", f"error {attempt}"))
        try_again(service, ROW, "E", "e")
        service.start_row(ROW)
    assert service.get_steps(ROW)[0].error_message == "error 2"
    service.begin_step(ROW, 3, "charge")
    try_again(service, ROW, "E", "e")
    service.start_row(ROW)
    service.end_step(ROW, 4, "charge", error=("E", "e"))
    assert states(service)["charge"] == "started"
