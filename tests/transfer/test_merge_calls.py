"""Calls with many rows in copies of a job: a merge brings them with their rows and steps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.calls import JOB, Work, row
from support.copies import copied, is_well, relation_of

from journal import JobService, RowStatus
from journal.transfer import pull_job
from journal.transfer.merge import Merged
from journal.transfer.source import Source


@pytest.fixture(name="there")
def fixture_there(tmp_path: Path) -> Iterator[Work]:
    with JobService(tmp_path / "there") as service:
        work = Work(service)
        work.make()
        yield work
        work.service.close()


@pytest.fixture(name="here")
def fixture_here(there: Work) -> Iterator[Work]:
    """A copy, in which row 6 is completed."""
    with JobService(copied(there.service.root, "here")) as service:
        work = Work(service)
        work.start_rows(6)
        service.complete_row(row(6))
        yield work


def pull(here: Work, there: Work) -> Merged | None:
    pulled = pull_job(here.service.root, Source(there.service.root / JOB), merge=True)
    is_well(here.service.root, JOB)
    return pulled.merged


def test_a_call_that_waits_there_waits_here_with_its_rows_and_steps(
    here: Work, there: Work
) -> None:
    call = there.begin(3, 1, 2)
    there.step(call, "submit")
    there.done(call, "submit", 7)
    there.wait(there.resume(there.wait(call)))
    found = pull(here, there)
    assert found is not None
    assert (found.applied, found.review) == ([1, 2, 3], [])
    assert here.journal.path.read_bytes().count(b'"row_step"') == 2
    (ours,), (theirs,) = here.open(), there.open()
    assert (ours.id, ours.rows, ours.open, ours.waits) == (call.id, (3, 1, 2), (3, 1, 2), True)
    assert (ours.due, ours.since) == (theirs.due, theirs.since)
    turn = here.resume(ours)
    assert here.step(turn, "submit").result == 7
    again = pull(here, there)
    assert again is None or not again.applied


def test_a_call_in_flight_there_is_reviewed_row_by_row_and_comes_back_as_one_call(
    here: Work, there: Work
) -> None:
    call = there.begin(2, 1)
    there.step(call, "submit")
    found = pull(here, there)
    assert found is not None
    assert found.review == [1, 2]
    reviews = list(here.service.get_rows(JOB, RowStatus.NEEDS_REVIEW))
    assert [each.error_code for each in reviews] == ["in_flight_elsewhere"] * 2
    assert "step 'submit' began there" in str(reviews[1].error_message)
    here.service.record_step(row(1), "submit", 5)
    for number in (1, 2):
        here.service.retry_row(row(number))
    (ours,) = here.open()
    assert (ours.id, ours.open) == (call.id, (2, 1))
    assert here.step(here.resume(ours), "submit").result == 5


def test_a_call_that_both_copies_continue_needs_a_review_once(here: Work, there: Work) -> None:
    call = here.wait(here.begin(1, 2))
    there.service.close()
    there.service = JobService(copied(here.service.root, "other"))
    for each in (here, there):
        each.wait(each.resume(call))
    found = pull(here, there)
    assert found is not None
    assert found.review == [1, 2]
    again = pull(here, there)
    assert again is None or not again.review


def test_a_poll_there_of_a_call_that_waits_here_is_taken(here: Work, there: Work) -> None:
    call = here.wait(here.begin(1, 2))
    there.service.close()
    there.service = JobService(copied(here.service.root, "other"))
    here.start_rows(5)
    later = there.wait(there.resume(call), 900)
    there.service.complete_row(row(2))
    assert relation_of(here.service.root / JOB, there.service.root / JOB) == "diverged"
    assert pull(here, there) is not None
    (ours,) = here.open()
    assert (ours.due, ours.open, ours.rows) == (later.due, (1,), (1, 2))


def test_a_row_of_a_call_that_was_settled_here_is_left_out_of_the_call(
    here: Work, there: Work
) -> None:
    call = there.begin(1, 2, 3)
    there.step(call, "submit")
    there.done(call, "submit", 7)
    there.wait(call)
    here.service.skip_row(row(2), "by hand")
    found = pull(here, there)
    assert found is not None
    assert (found.applied, found.review) == ([1, 3], [2])
    (ours,) = here.open()
    assert ours.rows == (1, 3)
    assert [step.result for step in here.service.get_steps(row(2))] == [7]
