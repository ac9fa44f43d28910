"""Calls with many rows in copies of a job: a merge brings them with their rows and steps."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from support.calls import JOB, Work, row
from support.copies import copied, is_well, relation_of
from support.effort import sample

from journal import (
    InvalidStateTransition,
    InvalidValueError,
    JobRow,
    JobService,
    RowStatus,
    StepInDoubtError,
)
from journal.format.records import A_RUN
from journal.store import bulk, calls
from journal.store.calls import Call
from journal.store.row_reader import find_rows
from journal.transfer import pull_job
from journal.transfer.merge import Merged
from journal.transfer.pack import Source


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
    assert ours.due == theirs.due
    since = [work.service.get_rows(JOB)[0].waiting_since for work in (here, there)]
    assert since[0] == since[1] is not None
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


POLICIES = ("resume", "review", "retry")


class Ledger:
    """A provider: which rows were submitted by which copy, and which copy knows of that."""

    def __init__(self) -> None:
        self.known: dict[Work, set[int]] = {}

    def submit(self, copy: Work, call: Call) -> None:
        """Let a turn do the step "submit", unless the journal says that it is done."""
        try:
            done = copy.step(call, "submit")
        except StepInDoubtError:
            return
        if done is None:
            again = set(call.open) & self.known[copy]
            assert not again, f"rows {again} are submitted again"
            self.known[copy] |= set(call.open)


MOVES = ["begin", "begin", "submit", "submit", "done", "done", "wait", "resume", "end", "crash"]


def move(random: Random, copy: Work, half: int, ledger: Ledger, turns: dict[int, Call]) -> None:
    """A move of a run, or a crash of it. Most runs begin with the rows of a half of their own."""
    service = copy.service
    match random.choice(MOVES):
        case "begin":
            free = [found.row_number for found in find_rows(service.store, JOB, RowStatus.PENDING)]
            free = [n for n in free if n % 2 == half or random.random() < 0.3]
            chosen = random.sample(free, min(len(free), random.randint(1, 3)))
            rows = copy.do(bulk.start_rows, iter(chosen), 3, A_RUN)
            if rows:
                attempts = [(each.row_number, each.attempts) for each in rows]
                call = copy.do(calls.begin_call, attempts)
                turns[call.id] = call
        case "crash":
            turns.clear()
            copy.crash(random.choice(POLICIES))
        case "resume":
            for call in copy.open():
                if call.id not in turns and not any(
                    get_row(service, n).status is RowStatus.PROCESSING for n in call.open
                ):
                    turns[call.id] = copy.resume(call)
        case what if turns:
            call = random.choice(list(turns.values()))
            if what == "submit":
                with suppress(InvalidStateTransition, InvalidValueError):
                    ledger.submit(copy, call)
            elif what == "done":
                if any(step.name == "submit" for step in service.get_steps(row(call.open[0]))):
                    copy.done(call, "submit", call.id)
            elif what == "wait":
                copy.wait(turns.pop(call.id))
            else:
                del turns[call.id]
                for number in call.open:
                    if get_row(service, number).status is RowStatus.PROCESSING:
                        if random.random() < 0.5:
                            service.complete_row(row(number))
                        else:
                            service.retry_row(row(number))
                copy.do(calls.end_call, call.id)


def finish(copy: Work, ledger: Ledger) -> None:
    """A last run, which submits all that isn't submitted."""
    copy.crash("retry")
    for call in copy.open():
        ledger.submit(copy, copy.resume(call))
    for found in find_rows(copy.service.store, JOB, RowStatus.PENDING):
        started = copy.do(bulk.start_rows, iter([found.row_number]), 1, A_RUN)
        if started:
            attempts = [(each.row_number, each.attempts) for each in started]
            ledger.submit(copy, copy.do(calls.begin_call, attempts))


def get_row(service: JobService, number: int) -> JobRow:
    found = service.get_row(row(number))
    assert found is not None
    return found


@pytest.mark.parametrize("seed", sample(range(400), 10))
def test_whatever_two_copies_do_no_row_of_a_call_is_submitted_again_by_one_that_knows_it(
    tmp_path: Path, seed: int
) -> None:
    random, ledger = Random(seed), Ledger()
    with JobService(tmp_path / "a", sync="none") as one:
        Work(one).make(40)
        with JobService(copied(one.root, "b"), sync="none") as two:
            copies = [Work(one), Work(two)]
            turns: list[dict[int, Call]] = [{}, {}]
            for copy in copies:
                ledger.known[copy] = set()
                copy.crash()
            for _ in range(100):
                side = random.randrange(2)
                here, there = copies[side], copies[1 - side]
                if random.random() < 0.05:
                    turns[side].clear()
                    here.service.close()
                    pull(here, there)
                    ledger.known[here] |= ledger.known[there]
                    here.crash(random.choice(POLICIES))
                else:
                    move(random, here, side, ledger, turns[side])
            for copy in copies:
                finish(copy, ledger)
                copy.service.close()
