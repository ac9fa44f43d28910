"""Calls with many rows in the store: rows that stay together over waits, crashes and retries."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import start
from support.calls import JOB, Work, row

from journal import (
    InvalidStateTransition,
    InvalidValueError,
    JobService,
    RowStatus,
    StepInDoubtError,
    open_job,
)
from journal.cli.main import main
from journal.format.records import A_RUN
from journal.fs.shell import quote
from journal.index.columns import WAITING
from journal.store import bulk, calls, steps

PENDING, PROCESSING = RowStatus.PENDING, RowStatus.PROCESSING


@pytest.fixture(name="work")
def fixture_work(tmp_path: Path) -> Iterator[Work]:
    with JobService(tmp_path) as service:
        work = Work(service)
        work.make()
        yield work
        work.service.close()


def test_in_a_shard_a_range_of_a_call_has_the_numbers_of_the_shard(tmp_path: Path) -> None:
    with open_job(tmp_path / "set", [{"n": n} for n in range(40)], shard=(1, 4)) as job:
        job.service.start_job(job.id, "resume")
        numbers = [found.row_number for found in job.service.get_rows(job.id)][2:8]
        assert numbers == [10, 14, 18, 22, 26, 30]
        journal = job.service.store.journal(job.id)
        with journal:
            bulk.start_rows(journal, iter(numbers), 6, A_RUN)
            call = calls.begin_call(journal, [(n, 1) for n in (*numbers[3:], *numbers[:3])])
        journal.change(calls.wait_call, call.id, 60)
        assert b'"rows":[[22,30],[10,18]]' in journal.path.read_bytes()
        with JobService(job.service.root) as other, other.store.reading(job.id) as read:
            assert calls.get_call(read, call.id).open == (22, 26, 30, 10, 14, 18)
            assert read.index.status_counts[WAITING] == 6


def test_a_poll_of_a_call_takes_two_short_records_and_costs_no_attempt(work: Work) -> None:
    call, path = work.begin(3, 1, 2), work.journal.path
    assert (call.rows, call.open, call.waits) == ((3, 1, 2), (3, 1, 2), False)
    work.wait(call)
    before = path.stat().st_size
    for _ in range(10):
        work.wait(work.resume(call))
    assert path.stat().st_size - before < 10 * 350
    waiting = work.get(call)
    assert (waiting.waits, waiting.open) == (True, (3, 1, 2))
    found = work.service.get_rows(JOB)[0]
    assert (found.status, found.attempts, found.reason) == (PENDING, 1, "submitted")
    assert found.waiting_since is not None
    assert found.due is not None
    assert found.due == waiting.due
    assert (found.due - found.waiting_since).total_seconds() >= 60
    job = work.job()
    assert (job.pending_count, job.waiting_count, job.processing_count) == (6, 3, 0)
    assert [found.row_number for found in work.service.get_rows(JOB, PENDING)] == [1, 2, 3, 4, 5, 6]


def test_a_step_of_a_call_is_one_record_and_a_step_of_each_of_its_rows(work: Work) -> None:
    call = work.begin(1, 2, 3)
    records = work.journal.path.read_bytes().count(b'"row_step"')
    assert work.step(call, "submit") is None
    assert work.done(call, "submit", {"batch": 7}) is None
    assert work.journal.path.read_bytes().count(b'"row_step"') == records + 2
    for number in (1, 2, 3):
        (step,) = work.service.get_steps(row(number))
        assert (step.name, step.state, step.result) == ("submit", "done", {"batch": 7})
    assert work.service.get_steps(row(4)) == ()
    work.wait(call)
    turn = work.resume(call)
    assert work.step(turn, "submit").result == {"batch": 7}
    with pytest.raises(InvalidStateTransition, match="turn of the call is over; stop this worker"):
        work.step(call, "fetch")  # a worker that a later turn has replaced


def test_the_same_turn_cannot_do_a_step_twice(work: Work) -> None:
    call = work.begin(1, 2)
    work.do_step(call, "submit", 1)
    with pytest.raises(InvalidValueError, match="name: is the name of a step that this attempt"):
        work.step(call, "submit")


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_row_cannot_do_alone_a_step_that_its_call_has_done(work: Work, attempt: int) -> None:
    for _ in range(1, attempt):
        work.service.start_row(row(2))
        work.service.fail_row(row(2), "E", "no")
        work.service.retry_row(row(2))
    work.start_rows(1, 2)
    call = work.do(calls.begin_call, [(1, 1), (2, attempt)])
    work.do_step(call, "submit", 1)
    with pytest.raises(InvalidValueError, match="name: is the name of a step that this attempt"):
        work.service.begin_step(row(2), attempt, "submit")
    second = steps.get_step_in_doubt(work.service.store, row(2))
    assert second is not None
    assert second.error_code == "StepNameReused"


def test_a_step_of_a_row_may_not_share_its_name_with_a_step_of_its_call(work: Work) -> None:
    call = work.begin(1, 2)
    work.service.begin_step(row(2), 1, "mail")
    with pytest.raises(InvalidValueError, match="1 row of this call, such as row 2, began alone"):
        work.step(call, "mail")
    work.do_step(call, "submit", 5)
    assert {step.name for step in work.service.get_steps(row(2))} == {"mail", "submit"}


@pytest.mark.parametrize("has_step", [False, True])
def test_a_retried_row_without_a_step_that_its_call_has_done_fails_and_the_others_go_on(
    work: Work, *, has_step: bool
) -> None:
    call = work.begin(1, 2, 3)
    if has_step:
        work.do_step(call, "up load", "f1")
    work.service.fail_row(row(2), "Refused", "no")
    work.wait(call)
    turn = work.resume(call)
    work.do_step(turn, "submit", "b1")
    work.wait(call)
    work.service.retry_row(row(2))
    turn = work.resume(call)
    assert turn.open == (1, 3)
    assert work.step(turn, "submit").result == "b1"
    left = work.service.get_rows(JOB)[1]
    assert (left.status, left.error_code, left.attempts) == (RowStatus.FAILED, "LeftBehind", 1)
    assert "the other rows of its call have done step 'submit' without it" in str(
        left.error_message
    )
    step = quote("up load")  # as the shell of this system wants it
    command = f"retry calls --row 2 --from-step {step}" if has_step else "redo calls --row 2"
    assert f"`journal {command}`" in str(left.error_message)
    words = [*shlex.split(command), *([] if has_step else ["--yes"])]
    assert main(["--root", str(work.service.root), *words]) == 0
    work.start_rows(2)


def test_a_retried_row_does_no_step_under_the_key_of_rows_that_are_completed(work: Work) -> None:
    call = work.begin(1, 2)
    work.service.fail_row(row(2), "Refused", "no")
    work.wait(call)
    turn = work.resume(call)
    work.do_step(turn, "submit", "b1")
    work.service.complete_row(row(1))
    work.service.retry_row(row(2))
    assert work.resume(call).open == ()
    left = work.service.get_rows(JOB)[1]
    assert left.error_code == "LeftBehind"


@pytest.mark.parametrize("policy", ["retry", "resume"])
def test_after_a_crash_a_call_waits_with_its_rows_in_their_order_and_is_due_at_once(
    work: Work, policy: str
) -> None:
    call = work.begin(3, 1, 2)
    work.do_step(call, "submit", 5)
    work.service.complete_row(row(1))
    work.crash(policy)
    (found,) = work.open()
    assert (found.id, found.rows, found.open) == (call.id, (3, 1, 2), (3, 2))
    assert (found.waits, found.due) == (True, None)
    assert found.has_lost_rows
    _, rows = work.do(calls.resume_call, call.id)
    assert [(each.row_number, each.attempts) for each in rows] == [(3, 1), (2, 1)]
    assert [each.status for each in rows] == [PROCESSING, PROCESSING]
    assert work.statuses()[:3] == ["completed", "processing", "processing"]


def test_a_call_that_waits_is_not_touched_by_a_crash(work: Work) -> None:
    call = work.wait(work.begin(1, 2))
    work.crash("review")
    assert work.open() == [call]


@pytest.mark.parametrize("not_done", [False, True])
def test_a_step_in_doubt_puts_each_row_in_review_and_is_settled_once_for_the_call(
    work: Work, *, not_done: bool
) -> None:
    call = work.begin(1, 2, 3)
    work.step(call, "submit")
    work.service.skip_row(row(3))
    work.crash()
    found = work.service.get_rows(JOB)[1]
    assert (found.status, found.error_code) == (RowStatus.NEEDS_REVIEW, "StepInDoubt")
    assert "'submit'" in (found.error_message or "")
    if not_done:
        work.service.fail_step(row(2), "submit", "not there")
    else:
        work.service.record_step(row(2), "submit", 9)
    for number in (1, 2):
        (step,) = work.service.get_steps(row(number))
        assert step.state == ("failed" if not_done else "done")
        work.service.retry_row(row(number))
    (again,) = work.open()
    assert (again.id, again.open) == (call.id, (1, 2))
    turn = work.resume(again)
    if not_done:
        assert work.step(turn, "submit") is None
    else:
        assert work.step(turn, "submit").result == 9
    assert work.service.get_rows(JOB)[0].attempts == 2


def test_a_step_in_doubt_is_not_begun_again_by_a_retry(work: Work) -> None:
    call = work.begin(1, 2)
    work.step(call, "submit")
    work.crash("retry")
    with pytest.raises(StepInDoubtError):
        work.step(work.resume(call), "submit")
    assert work.step(work.get(call), "submit", idempotent=True) is None


def test_a_retried_row_comes_back_with_its_call_and_only_a_run_resumes_it(work: Work) -> None:
    call = work.begin(1, 2, 3)
    work.service.fail_row(row(2), "E", "no")
    work.service.complete_row(row(1))
    work.service.complete_row(row(3))
    assert work.do(calls.end_call, call.id) is False
    assert work.open() == []
    work.service.retry_row(row(2))
    assert [each.open for each in work.open()] == [(2,)]
    assert work.do(bulk.start_rows, iter((2,)), 1, A_RUN) == []
    with pytest.raises(InvalidStateTransition, match="it is in a call with other rows"):
        work.service.start_row(row(2))
    work.resume(call)
    work.service.complete_row(row(2))
    assert work.do(calls.end_call, call.id) is True
    with pytest.raises(InvalidValueError, match="is not an open call"):
        work.get(call)


@pytest.mark.parametrize("how", ["redo", "data", "drop"])
def test_a_redo_new_data_and_dropped_steps_take_a_row_out_of_its_call(work: Work, how: str) -> None:
    call = work.begin(1, 2, 3)
    work.do_step(call, "upload", 1)
    work.do_step(call, "submit", 2)
    work.wait(call)
    for number in (1, 2):
        if how == "redo":
            work.service.complete_row(row(number))
            work.service.redo_row(row(number))
        elif how == "data":
            work.service.update_row_data(row(number), {"n": 7})
        else:
            work.do(steps.drop_steps, number, "submit")
            work.service.retry_row(row(number))
    assert [found.open for found in work.open()] == [(3,)]
    assert work.statuses()[:3] == ["pending"] * 3
    assert work.service.get_steps(row(1)) == ()  # the upload was that of other rows, too
    work.service.record_step(row(1), "own")
    work.start_rows(1, 2, 4)
    attempts = [(number, 2 if number < 4 else 1) for number in (1, 2, 4)]
    assert work.do(calls.begin_call, attempts).id != call.id


def test_what_a_turn_has_done_is_recorded_after_its_call_was_given_up(work: Work) -> None:
    call = work.begin(1, 2)
    work.step(call, "submit")
    work.crash()  # its worker may still be running
    work.done(call, "submit", 3)
    assert [step.result for step in work.service.get_steps(row(2))] == [3]
    assert work.done(call, "submit", 3) is None
    for number in (1, 2):
        work.service.complete_row(row(number))
        work.service.redo_row(row(number))
    work.done(call, "submit", 4)
    assert work.service.get_steps(row(1)) == ()
    assert "a redo has forgotten it" in list(work.service.get_logs(JOB))[-1].message
    work.start_rows(1, 2)
    other = work.do(calls.begin_call, [(1, 2), (2, 2)])
    work.step(other, "submit")
    work.done(call, "submit", 4)
    work.done(other, "submit", 5)
    assert [step.result for step in work.service.get_steps(row(1))] == [5]


def test_rows_that_are_settled_already_are_left_out_of_a_call_that_begins(work: Work) -> None:
    work.start_rows(1, 2)
    work.service.complete_row(row(1))
    call = work.do(calls.begin_call, [(1, 1), (2, 1)])
    assert call.rows == (2,)
    with pytest.raises(InvalidStateTransition, match="turn of the call is over; stop this worker"):
        work.do(calls.begin_call, [(1, 1)])
    with pytest.raises(InvalidStateTransition, match="it is in another call already"):
        work.do(calls.begin_call, [(2, 1)])


def test_an_index_from_a_hint_has_the_calls_too(work: Work) -> None:
    call = work.wait(work.begin(1, 2, 3))
    work.service.complete_row(row(2))
    work.journal.leave_witness()
    work.service.close()
    work.service = JobService(work.service.root)
    start(work.service, row(5))
    assert work.journal.log.hint_end > 0
    resumed = work.resume(call)
    assert resumed.open == (1, 3)
    assert work.statuses() == [
        *("processing", "completed", "processing", "pending", "processing", "pending")
    ]


def test_a_call_in_flight_is_not_resumed_and_ends_when_all_its_rows_are_done(work: Work) -> None:
    call = work.begin(1, 2)
    with pytest.raises(InvalidStateTransition, match="its call can't be resumed; stop this worker"):
        work.resume(call)
    work.service.complete_row(row(1))
    work.service.fail_row(row(2), "E", "m")
    assert work.do(calls.end_call, call.id) is False
    work.service.skip_row(row(2))
    assert work.do(calls.end_call, call.id) is False
    work.service.retry_row(row(2))
    work.service.complete_row(row(2))
    assert work.do(calls.end_call, call.id) is True
    assert work.do(calls.end_call, call.id) is True


def test_a_step_is_settled_only_for_the_rows_in_which_it_is_still_in_doubt(work: Work) -> None:
    call = work.begin(1, 2, 3)
    work.step(call, "submit")
    work.crash()
    work.service.complete_row(row(1))
    work.service.redo_row(row(1))
    work.service.record_step(row(2), "submit", 5)
    assert work.service.get_steps(row(1)) == ()
    assert [step.result for step in work.service.get_steps(row(3))] == [5]
